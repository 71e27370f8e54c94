# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small fleet on this machine, and real runs of ``ansible-playbook`` on it against the sandbox.

Every run is searched for secrets: in what it printed and in what it left behind, the consumers' own files excepted.
What the modules of the collection return is held against their documentation.
``MULTICART_TEST_ANSIBLE=/path/to/bin`` runs another ansible-core than the one that belongs to this interpreter.
``MULTICART_TEST_TARGET_PYTHON=/path/to/python`` runs the modules of the hosts on another Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.front import Ask, Front, is_rotation
from tests.integration.returned import COLLECTION, undocumented
from tests.leaks.canaries import Canaries
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account, JournalEntry
from tests.waiting import eventually

ANSIBLE_BIN = Path(os.environ.get("MULTICART_TEST_ANSIBLE") or Path(sys.executable).parent)
GROUP = "multicart_consumers"
VARIABLE = "MULTICART_API_KEY"
# The variables of a host that nobody can reach.
UNREACHABLE: dict[str, Any] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
# In place of ssh: runs the command on this machine, and breaks off once a file exists.
_SSH = """#!{python}
import os, signal, subprocess, sys, time

command = ["/bin/sh", "-c", sys.argv[-1]]
process = None if os.path.exists("{until}") else subprocess.Popen(command, start_new_session=True)
while process is not None and process.poll() is None and not os.path.exists("{until}"):
    time.sleep(0.02)
if process is None or process.poll() is None:
    if process is not None:
        os.killpg(process.pid, signal.SIGKILL)
    sys.stderr.write("Connection closed by remote host\\n")
    sys.exit(255)
sys.exit(process.returncode)
"""
# The record of a file of which nothing is known.
_NO_RECORD: dict[str, Any] = {
    "format": 1,
    "open": False,
    "readers": {},
    "retired": [],
    **dict.fromkeys(("account", "rotation", "held", "since", "digest", "updated_at")),
}
_SECONDS = 300  # in which a run ends on a very busy machine


def fingerprint(key: str) -> str:
    """Return the fingerprint of a key, worked out independently of the collection."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Task:
    """What one task reported of one host."""

    status: str
    host: str
    task: str
    action: str
    result: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.result[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.result.get(name, default)


@dataclass(frozen=True)
class Run:
    """A run of ansible-playbook that has ended."""

    command: str
    rc: int
    output: str
    tasks: list[Task]

    @property
    def green(self) -> bool:
        return self.rc == 0

    @property
    def failures(self) -> list[Task]:
        """The failures that nobody ignored."""
        return [task for task in self.tasks if task.status in ("failed", "unreachable")]

    @property
    def whole(self) -> Task | None:
        """What the last task for all hosts reported; it does not fail for what a host did, see :attr:`own`."""
        return next((task for task in reversed(self.of_fleet) if "reason" in task.result), None)

    @property
    def own(self) -> dict[str, Task]:
        """What the last task of each host reported of it alone."""
        return {task.host: task for task in self.of("multicart_host") if "state" in task.result}

    @property
    def reason(self) -> str | None:
        """Why the run failed as a whole, in one word; where nothing tells of the whole, why a host of it failed."""
        told = [*([self.whole] if self.whole else []), *reversed(self.failures)]
        return next((task.get("reason") for task in told if task.get("reason")), None)

    @property
    def message(self) -> str:
        """Why the run failed, in sentences: as a whole, and then each host."""
        whole = self.whole.get("msg") if self.whole and self.whole.get("reason") else []
        lines = whole if isinstance(whole, list) else [whole]
        return " ".join(map(str, [*lines, *(task.get("msg", "") for task in self.failures)]))

    @property
    def changed(self) -> dict[str, bool]:
        """Which hosts reported a change, the key itself left out."""
        found: dict[str, bool] = {}
        for task in self.tasks:
            is_key = task.action.endswith(".multicart_key_rotate")
            found[task.host] = found.get(task.host, False) or (bool(task.get("changed")) and not is_key)
        return found

    @property
    def step(self) -> str | None:
        """What the rotation decided to do."""
        return next((task["step"] for task in reversed(self.of("multicart_fleet")) if task.get("step")), None)

    @property
    def outcome(self) -> str | None:
        """What became of the key."""
        return next((task["outcome"] for task in reversed(self.of("multicart_fleet")) if task.get("outcome")), None)

    @property
    def armed(self) -> int | None:
        """How many hosts waited for the new key before the old one was revoked; None: none was to be armed."""
        told = re.search(r"^ *(\d+) of \d+ armed", self.output, re.MULTILINE)
        return int(told[1]) if told else None

    @property
    def consumers(self) -> dict[str, str]:
        """How each consumer stands, in words."""
        return next((task["consumers"] for task in reversed(self.of_fleet) if task.get("consumers")), {})

    @property
    def states(self) -> dict[str, str]:
        """How each consumer stands, without why."""
        return {name: words.partition(":")[0] for name, words in self.consumers.items()}

    @property
    def of_fleet(self) -> list[Task]:
        """What the tasks for all hosts reported, in order."""
        modules = ("multicart.keys.multicart_fleet", "multicart.keys.multicart_fleet_info")
        return [task for task in self.tasks if task.action in modules and task.status != "skipped"]

    def of(self, action: str) -> list[Task]:
        """Return what the tasks of one module reported, in order; skipped ones have nothing to report."""
        return [task for task in self.tasks if task.action.endswith(action) and task.status != "skipped"]

    def __str__(self) -> str:
        return f"$ {self.command}\n(exit {self.rc})\n{self.output}"


@dataclass
class Host:
    """One consumer: a directory of its own, and the variables of its inventory entry."""

    name: str
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def env(self) -> Path:
        """Its environment file."""
        return self.folder / "app.env"

    def record_path(self, file: str = "app.env", variable: str | None = VARIABLE) -> Path:
        entry = f"{file}.{variable}.multicart" if variable else f"{file}.multicart-template"
        return self.folder / f".{entry}.json"

    @property
    def record(self) -> dict[str, Any]:
        """The record of its environment file."""
        found: dict[str, Any] = json.loads(self.record_path().read_text())
        return found

    def edit_record(self, retire: str | None = None, concluded: bool = False, **fields: Any) -> None:
        """Make the record say something else, or make one, such as a run leaves there.

        :param retire: the key that a rotation retires.
        :param fields: of a record. The readers use the key that is held, unless it is open.
        """
        known = self.record if self.record_path().exists() else _NO_RECORD
        if retire is not None:
            fields["rotation"] = {"retire": retire, "concluded": concluded}
        kept = {**known, **fields}
        if "readers" not in fields and kept["held"] and not kept["open"]:
            kept["readers"] = {"any": kept["held"]}
        self.record_path().write_text(json.dumps(kept))

    @property
    def log(self) -> list[str]:
        """What its commands noted, see :func:`note`."""
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []


def note(word: str) -> str:
    """Return a command that leaves a word in the log of the host on which it runs."""
    return "sh -c 'echo " + word + " >> {{ home }}/log'"


class Fleet:
    """Consumers of one account.

    :param sandbox: the API; faults and journal are this test's alone while it runs.
    :param folder: an empty directory.
    :param account: the account that the consumers use.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, account: Account) -> None:
        self.sandbox = sandbox
        self.folder = folder
        (folder / "ansible.cfg").touch()
        (folder / "home").mkdir()
        self.email = account["email"]
        self.hosts: dict[str, Host] = {}
        self.variables: dict[str, Any] = {}
        self.groups: dict[str, list[str]] = {}
        self.env = {"MULTICART_API_URL": sandbox.url, "MULTICART_SESSION_TOKEN": sandbox.token(self.email)}
        self._seen = max((entry["seq"] for entry in sandbox.journal()), default=0)
        self._strangers = {one["email"] for one in sandbox.accounts()} - {self.email}
        self._numbers = itertools.count(1)

    # --- the consumers ----------------------------------------------------------------------------

    def add(self, name: str, content: str | None = "{key}", **variables: Any) -> Host:
        """Add a consumer whose environment file holds the live key, or whatever ``content`` says; None: no file."""
        host = Host(name, self.folder / "hosts" / name, variables)
        host.folder.mkdir(parents=True)
        if content is not None:
            text = content.format(key=self.live) if "=" in content else f"{VARIABLE}={content.format(key=self.live)}\n"
            host.env.write_text(text)
        host.variables.setdefault("multicart_deploy_files", [{"path": "{{ home }}/app.env"}])
        self.hosts[name] = host
        return host

    def add_many(self, count: int, **variables: Any) -> list[Host]:
        return [self.add(f"web{number}", **variables) for number in range(1, count + 1)]

    def add_unreachable(self, name: str = "gone", once: Path | None = None) -> Host:
        """Add a consumer that nobody can reach; or one over ssh, whose connections break once a file exists."""
        return self.add(name, **(self.over_ssh(until=once) if once else UNREACHABLE))

    def break_off(self, once: Path) -> None:
        """Let the connections of :meth:`add_unreachable` break, and wait until they have."""
        once.touch()
        assert eventually(lambda: not any(f"{self.folder}/ssh-" in command for command in commands())), "they last"

    def over_ssh(self, until: Path | None = None) -> dict[str, Any]:
        """Return the variables of a host that Ansible's ssh is used for, with a stand-in for the program ``ssh``.

        :param until: once this file exists, its connections break.
        """
        number = next(self._numbers)
        ssh = self.folder / f"ssh-{number}"
        ssh.write_text(_SSH.format(python=sys.executable, until=until or self.folder / f"never-{number}"))
        ssh.chmod(0o755)
        return {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}

    @property
    def inventory(self) -> Path:
        """The inventory, written afresh."""
        path = self.folder / "inventory.json"
        groups: dict[str, Any] = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in self.groups.items()}
        groups.setdefault(GROUP, {"hosts": dict.fromkeys(self.hosts)})
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": os.environ.get("MULTICART_TEST_TARGET_PYTHON", sys.executable),
            "home": str(self.folder / "hosts") + "/{{ inventory_hostname }}",
            "multicart_deploy_health_retries": 1,
            "multicart_deploy_health_delay": 0,
            **self.variables,
        }
        hosts = {name: host.variables for name, host in self.hosts.items()}
        draft = path.with_suffix(f".{next(self._numbers)}")  # as another run may read or write it at this moment
        draft.write_text(json.dumps({"all": {"vars": variables, "hosts": hosts, "children": groups}}))
        draft.replace(path)
        return path

    @property
    def stale(self) -> list[str]:
        """The hosts that do not hold the live key in every file, or still hold a former one somewhere."""
        return [name for name, host in self.hosts.items() if not self._is_current(host)]

    def _is_current(self, host: Host) -> bool:
        former = self.account["former_keys"]
        texts = [file.read_text() for file in files_below(host.folder) if not file.name.startswith(".")]
        holding = [text for text in texts if self.live in text]
        return bool(holding) and not any(key in text for key in former for text in texts)

    def snapshot(self) -> dict[str, tuple[int, int, str]]:
        """Return mode, time of modification and hash of all that is on the hosts."""
        found = {}
        for path in sorted((self.folder / "hosts").rglob("*")):
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (status.st_mode, 0 if path.is_dir() else status.st_mtime_ns, digest)
        return found

    # --- the service ------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        return self.sandbox.account(self.email)

    @property
    def live(self) -> str:
        return self.account["api_key"]

    @property
    def live_fingerprint(self) -> str:
        return fingerprint(self.live)

    @property
    def rotations(self) -> int:
        """How many rotations the API accepted from runs."""
        return self.sandbox.rotations(self.email)

    @property
    def known_secrets(self) -> set[str]:
        """Every secret of the accounts of this test; pieces of others, which none of its runs knows, come by chance."""
        ours = [one["email"] for one in self.sandbox.accounts() if one["email"] not in self._strangers]
        return self.sandbox.secrets(ours)

    def fault(self, on: str, fault: str, **fields: Any) -> None:
        """Order a fault."""
        self.sandbox.faults([{"on": on, "fault": fault, **fields}])

    def requests(self) -> list[JournalEntry]:
        """Return the requests to the API since the last call."""
        entries = self.sandbox.journal(self._seen)
        self._seen = max([self._seen, *(entry["seq"] for entry in entries)])
        return entries

    @contextlib.contextmanager
    def once_rotated(self, act: Callable[[], object]) -> Iterator[None]:
        """Do something as soon as the API has rotated, before the run hears of it."""
        before, failed = self.rotations, []

        def habit(front: Front, request: bytes, ask: Ask) -> bytes:
            answer = ask(request)
            if is_rotation(request) and self.rotations > before and not front.done:
                front.done = True
                try:
                    act()
                except BaseException as error:  # in another thread than the test's
                    failed.append(error)
                time.sleep(1)  # in which the run may notice what has happened to its hosts
            return answer

        with Front(self.sandbox.port, habit) as front:
            own, self.env = self.env, {**self.env, "MULTICART_API_URL": front.url, "MULTICART_TIMEOUT": str(_SECONDS)}
            try:
                yield
            finally:
                self.env = own
        if failed:
            raise failed[0]

    # --- runs -------------------------------------------------------------------------------------

    def rotate(self, *arguments: str, **how: Any) -> Run:
        """Run rotate.yml, confirmed."""
        return self.run("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", *arguments, **how)

    def deploy(self, *arguments: str, **how: Any) -> Run:
        return self.run("multicart.keys.deploy", *arguments, **how)

    def audit(self, *arguments: str, **how: Any) -> Run:
        return self.run("multicart.keys.audit", *arguments, **how)

    def play(self, tasks: str, *arguments: str, hosts: str = "all", head: str = "", **how: Any) -> Run:
        """Run a play of these tasks; ``head`` are further lines of the play."""
        lines = [f"- hosts: {hosts}", *_indented(head, 2), "  tasks:", *_indented(tasks, 4)]
        if "gather_facts" not in head:
            lines.insert(1, "  gather_facts: false")
        return self.playbook("\n".join(lines), *arguments, **how)

    def playbook(self, text: str, *arguments: str, **how: Any) -> Run:
        """Run a playbook that consists of this text."""
        path = self.folder / f"play-{next(self._numbers)}.yml"
        path.write_text(text + "\n")
        return self.run(str(path), *arguments, **how)

    def run(
        self,
        playbook: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        revealed: bool = False,
        typed: str | None = None,
        cwd: Path | None = None,
    ) -> Run:
        """Run a playbook and search what came of it for secrets, unless they are revealed on purpose.

        :param typed: what is typed in while it runs.
        :param cwd: where it is started, if not in the folder of the fleet.
        """
        number = next(self._numbers)
        recorded = self.folder / f"recorded-{number}.jsonl"
        recorded.touch()
        command = [str(ANSIBLE_BIN / "ansible-playbook"), "-i", str(self.inventory), playbook, *arguments]
        process = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self._environment(recorded, env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
            **({"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}),
        )
        tasks = [Task(**json.loads(line)) for line in recorded.read_text().splitlines()]
        run = Run(shlex.join(command), process.returncode, process.stdout, tasks)
        for task in tasks:
            if task.action.startswith(COLLECTION):
                wrong = undocumented(task.action.removeprefix(COLLECTION), task.result, task.status)
                assert not wrong, f"{task.action} returned {task.result}: {', '.join(wrong)}"
        if not revealed:
            self.search_output(run)
            self._search_files(run)
        return run

    def _environment(self, recorded: Path, more: Mapping[str, str]) -> dict[str, str]:
        kept = ("PATH", "LANG", "LC_ALL", "TZ", "ANSIBLE_COLLECTIONS_PATH")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder / "home"),
            "ANSIBLE_HOME": str(self.folder / "home" / ".ansible"),
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORKS": "5",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_TIMEOUT": "10",
            "ANSIBLE_DEPRECATION_WARNINGS": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
            "ANSIBLE_CALLBACKS_ENABLED": "recorder",
            "RECORDER_FILE": str(recorded),
            "NO_PROXY": "*",
            **self.env,
            **more,
        }

    def search_output(self, run: Run) -> None:
        """Fail if a run has printed a secret."""
        found = Canaries.of(self.known_secrets).lines_in(run.output)
        assert not found, f"a secret was printed: {found}"

    def _search_files(self, run: Run) -> None:
        canaries = Canaries.of(self.known_secrets)
        ours = self.folder / "hosts"
        for path in files_below(self.folder):
            if ours not in path.parents or path.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # of another run, which has ended meanwhile
                    found = canaries.found_in(path.read_bytes())
                    assert not found, f"{found} was left in {path} by {run.command}"


def files_below(path: Path) -> list[Path]:
    """Return the files in a folder, or the one file; unlike ``rglob`` it bears that others remove theirs meanwhile."""
    found = [Path(folder, name) for folder, _folders, names in os.walk(path) for name in names] or [path]
    return [file for file in found if file.is_file() and not file.is_symlink()]


def commands() -> list[str]:
    """Return the commands of all processes of this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return found


def _indented(text: str, by: int) -> list[str]:
    lines = text.strip("\n").splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [" " * by + line[margin:] for line in lines if line.strip()]
