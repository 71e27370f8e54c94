# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet whose runs are watched wherever a secret could come out: every sink is on in every run."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import ANSIBLE_BIN, Fleet, Run, Task, files_below
from tests.integration.sshd import Sshd
from tests.leaks.canaries import Canaries
from tests.leaks.processes import Processes
from tests.sandbox.shapes import Account

_HERE = Path(__file__).parent
_SECONDS = 300


@dataclass(frozen=True, eq=False)
class Style:
    """How a run is started, and what it shows of itself.

    :ivar runner: through ansible-runner, as AWX does.
    :ivar ssh: the hosts are reached over a real sshd, so that they are armed; otherwise they are served at the release.
    """

    name: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    runner: bool = False
    ssh: bool = False

    @property
    def over_ssh(self) -> Style:
        return replace(self, name=f"{self.name}-over-ssh", ssh=True)


_LOUD = {
    "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "1",
    "ANSIBLE_INJECT_INVOCATION": "1",
    "ANSIBLE_DISPLAY_TRACEBACK": "always",
    "ANSIBLE_SHOW_CUSTOM_STATS": "1",
}
PLAIN = Style("plain", ("--diff",), {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"})
LOUD = Style("loud", ("-vvvvv", "--diff"), {**_LOUD, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"})
DEBUG = Style("debug", ("-vvvvv", "--diff"), {**_LOUD, "ANSIBLE_DEBUG": "1"}, ssh=True)
RUNNER = Style("runner", ("-vvvvv", "--diff"), _LOUD, runner=True)
CHECK = Style("check", ("-vvvvv", "--diff", "--check"), {**_LOUD, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"})
MINIMAL = Style(
    "minimal", ("--diff",), {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal", "ANSIBLE_PIPELINING": "0"}
)
ONELINE = Style("oneline", (), {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline"})
RUNNER_CHECK = Style("runner-check", ("--diff", "--check"), runner=True)
ARMED = PLAIN.over_ssh
LOUD_AND_ARMED = LOUD.over_ssh


@dataclass(frozen=True, order=True)
class Leak:
    """A piece of a secret that came out."""

    sink: str
    what: str
    where: str


class Watched(Fleet):
    """Consumers of one account; :meth:`leaks` tells what came out of the runs so far.

    :ivar holders: files that may hold a key: what the user declared to be for it.
    :ivar scanned: a file that is made after each scan of the processes of a run.
    """

    def __init__(self, *given: Any, style: Style = PLAIN) -> None:
        super().__init__(*given)
        self.style = style
        self.holders: set[Path] = set()
        self.secrets: dict[str, str] = {}
        self._texts: list[tuple[str, str, str | bytes]] = []
        self._mounted: list[Path] = []
        self._sshd = contextlib.ExitStack()
        self._servers: list[int] = []
        if style.ssh:
            sshd = self._sshd.enter_context(Sshd())
            self.variables.update(sshd.variables)
            assert sshd._process is not None
            self._servers.append(sshd._process.pid)
        self._sinks = self.folder / "sinks"
        for name in ("dump", "junit", "facts"):
            (self._sinks / name).mkdir(parents=True)
        self.scanned = self._sinks / "scanned"
        self._before = _shared()
        # Short, as Ansible keeps a socket in it, whose path may have a hundred characters.
        self.tmp = Path(tempfile.mkdtemp(prefix="leaks-"))
        self._python()

    def _python(self) -> None:
        """Make the managed hosts' Python: no environment comes there from the controller, although they are local."""
        python = self.folder / "python"
        kept = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.tmp),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(_HERE / "spy"),
            "LEAKS_SPY": str(self._sinks / "spy"),
            "LEAKS_ON_HOST": "1",
        }
        words = ["env", "-i", *(f"{name}={value}" for name, value in kept.items()), sys.executable]
        python.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        python.chmod(0o755)
        self.variables["ansible_python_interpreter"] = str(python)

    def mount(self, folder: Path, options: str) -> None:
        """Make a folder a small file system of its own, for as long as the test goes on."""
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount file systems")
        self._mounted.append(folder)

    def close(self) -> None:
        """Take away what is not the test's own folder."""
        self._sshd.close()
        for folder in self._mounted:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(self.tmp, ignore_errors=True)  # where something may end just now

    # --- runs -------------------------------------------------------------------------------------

    def run(self, playbook: str, *arguments: str, env: Mapping[str, str] | None = None, revealed: bool = False) -> Run:
        """Run a playbook and gather what can be seen of it."""
        recorded = self.folder / f"recorded-{next(self._numbers)}.jsonl"
        recorded.touch()
        injected = {**self.env, **(env or {})}
        command = self._command(playbook, [*self.style.arguments, *arguments])
        environment = {**self._environment(recorded, {}), **self._watching()}
        del environment["ANSIBLE_PIPELINING"]  # as most users leave it, so that the short way is taken
        processes = Processes(self._servers, self.scanned)
        with processes.watched():
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**environment, **self.style.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        # What ansible-runner was told is on its command line, ours; what it tells ansible-playbook is seen below.
        for argv, environment in processes.seen:
            pairs = environment.decode("utf-8", "replace").split("\0")
            self._see_process("processes", argv.replace(b"\0", b" "), pairs, injected)
        self._see_spied(injected)
        self._texts += [("output", "stdout", done.stdout), ("output", "stderr", done.stderr)]
        self._see_runner(injected)
        assert "Callback dispatch" not in output and "Error in callback" not in output, output
        tasks = [Task(**json.loads(line)) for line in recorded.read_text().splitlines()]
        return Run(shlex.join(command), done.returncode, output, tasks)

    def _command(self, playbook: str, arguments: list[str]) -> list[str]:
        if not self.style.runner:
            return [str(ANSIBLE_BIN / "ansible-playbook"), "-i", str(self.inventory), playbook, *arguments]
        base = self.folder / "runner"
        (base / "project").mkdir(parents=True, exist_ok=True)
        told = ["--inventory", str(self.inventory), f"--cmdline={shlex.join(arguments)}", "-p", playbook]
        return [sys.executable, "-m", "ansible_runner", "run", str(base), *told]

    def _watching(self) -> dict[str, str]:
        return {
            "PATH": f"{ANSIBLE_BIN}:{os.environ['PATH']}",
            "TMPDIR": str(self.tmp),
            "PYTHONPATH": str(_HERE / "spy"),
            "LEAKS_SPY": str(self._sinks / "spy"),
            "LEAKS_DUMP": str(self._sinks / "dump"),
            "ANSIBLE_CALLBACK_PLUGINS": f"{_HERE.parent / 'integration/callbacks'}:{_HERE / 'callbacks'}",
            "ANSIBLE_CALLBACKS_ENABLED": "recorder,dump,spoil,ansible.builtin.junit,ansible.builtin.tree",
            "JUNIT_OUTPUT_DIR": str(self._sinks / "junit"),
            "ANSIBLE_LOG_PATH": str(self._sinks / "log"),
            "ANSIBLE_LOG_VERBOSITY": "5",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",  # the tree callback is
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self._sinks / "facts"),
            "ANSIBLE_KEEP_REMOTE_FILES": "0",
        }

    # --- what can be seen -------------------------------------------------------------------------

    def _see_process(self, source: str, argv: str | bytes, pairs: list[str], injected: Mapping[str, str]) -> None:
        """Gather arguments and environment; the one thing allowed is what the user put into the controller's own."""
        on_host = any(pair.startswith("LEAKS_ON_HOST=") for pair in pairs)
        allowed = set() if on_host else {f"{name}={value}" for name, value in injected.items()}
        self._texts.append(("arguments", source, argv))
        self._texts.append(("environment", source, "\n".join(set(pairs) - allowed)))

    def _see_spied(self, injected: Mapping[str, str]) -> None:
        spied = self._sinks / "spy"
        for line in spied.read_text().splitlines():
            note = json.loads(line)
            if "syslog" in note:
                self._texts.append(("syslog", "a module", note["syslog"]))
            else:
                pairs = [f"{name}={value}" for name, value in note["environment"].items()]
                pairs += ["LEAKS_ON_HOST=1"] if note["on_host"] else []
                self._see_process("spy", "\n".join(note["argv"]), pairs, injected)
        spied.unlink()

    def _see_runner(self, injected: Mapping[str, str]) -> None:
        """Gather the one file in which ansible-runner keeps the environment that it was given, without that."""
        for path in self.folder.glob("runner/artifacts/*/command"):
            started = json.loads(path.read_text())
            given = started["env"]
            started["env"] = {name: value for name, value in given.items() if injected.get(name) != value}
            self._texts.append(("artifacts", path.name, json.dumps(started)))
            path.unlink()

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield every file that is there after the runs, with the sink that it belongs to."""
        declared = self._declared()
        for path in files_below(self.folder):
            if path in declared or (path.parent == self.folder and path.name.startswith(("inventory", "play-"))):
                continue  # files for the key, and what the user wrote
            yield _sink_of(path.relative_to(self.folder)), path
        for path in _shared() - self._before:  # the fleet's own temporary folder is among them
            yield from (("files left", file) for file in files_below(path))

    def _declared(self) -> set[Path]:
        found = set(self.holders)
        for host in self.hosts.values():
            for entry in host.variables.get("multicart_deploy_files", []):
                found.add(Path(entry["path"].replace("{{ home }}", str(host.folder))))
        return found

    def canaries(self) -> Canaries:
        """Return what must be found nowhere: all that the API knows of, and what the test added."""
        account: Account = self.account
        former = {f"former key {number}": key for number, key in enumerate(account["former_keys"], 1)}
        tokens = dict.fromkeys([*account["tokens"], *account["expired_tokens"]])
        named = {f"token {number}": token for number, token in enumerate(tokens, 1)}
        own = {"the password": account["password"], "the live key": account["api_key"]}
        return Canaries({**own, **former, **named, **self.secrets})

    def leaks(self) -> list[Leak]:
        """Tell what came out of the runs since the last call."""
        canaries = self.canaries()
        found = set()
        for sink, where, text in set(self._texts):
            found |= {Leak(sink, what, where) for what in canaries.found_in(text)}
        self._texts.clear()
        for sink, path in self._files():
            try:
                text = path.read_bytes() + f"\n{path}".encode()
            except FileNotFoundError:  # another's, and gone again
                continue
            found |= {Leak(sink, what, str(path)) for what in canaries.found_in(text)}
        return sorted(found)


_PLACES = {
    "sinks/log": "log_path",
    "sinks/facts": "fact cache",
    "sinks/junit": "junit",
    "sinks/dump/results": "results given to callbacks",
    "sinks/dump/tasks": "tasks given to callbacks",
    "sinks/dump/plays": "plays given to callbacks",
    "sinks/dump/variables": "variables",
    "home/.ansible/tree": "tree",
    "runner": "artifacts",
    "hosts": "files on the hosts",
}


def _sink_of(path: Path) -> str:
    return next((sink for place, sink in _PLACES.items() if path.is_relative_to(place)), "files left")


def _shared() -> set[Path]:
    """Return what is in the folders that a run may use besides its own, whatever its environment says."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    folders = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), home, home / ".ansible", home / ".ansible" / "tmp")
    return {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
