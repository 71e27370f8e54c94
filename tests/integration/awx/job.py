# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs as AWX runs them: with its own injector and runner, in its layout, with its variables; without the container.

What AWX would keep of a job (its events, its shown environment, its facts) and what it leaves on the disk is searched
for secrets after every job.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from tests.integration.harness import ANSIBLE_BIN, Fleet, Run, Task, files_below
from tests.leaks.canaries import Canaries

ROLE = Path(__file__).resolve().parents[3] / "roles" / "multicart_awx" / "files"
_RUNNER = "import ansible_runner, json, sys; sys.exit(ansible_runner.run(**json.load(sys.stdin)).rc)"
_STATUS = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
    "runner_retry": "retried",
}
_INVENTORY = "#!/usr/bin/env python3\nprint({!r})\n"
_SECONDS = 300.0


class _Unsafe(yaml.SafeDumper):
    """Marks every string as one that is no template, keys too."""

    def represent_data(self, data: Any) -> Any:
        return self.represent_scalar("!unsafe", data) if isinstance(data, str) else super().represent_data(data)


@dataclass(frozen=True)
class Job(Run):
    """A job that has ended; ``output`` is what AWX shows of it.

    :ivar status: as the runner tells it.
    :ivar shown_env: the environment, as AWX shows it.
    """

    status: str
    shown_env: dict[str, str]


@dataclass
class Started:
    """A job under way."""

    awx: Awx
    process: subprocess.Popen[str]
    number: int
    folder: Path
    injected: dict[str, str]
    shown_env: dict[str, str]

    def wait(self) -> Job:
        """Wait for the end, and search what came of it for secrets."""
        self.process.communicate(timeout=_SECONDS)
        artifacts = self.folder / "artifacts" / str(self.number)
        events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
        events.sort(key=lambda event: event["counter"])
        job = Job(
            command=" ".join(json.loads((artifacts / "command").read_text())["command"]),
            rc=int((artifacts / "rc").read_text()),
            output="\n".join(event["stdout"] for event in events),
            tasks=[_task(event) for event in events if event["event"] in _STATUS],
            status=(artifacts / "status").read_text(),
            shown_env=self.shown_env,
        )
        self._search(job)
        return job

    def _search(self, job: Job) -> None:
        canaries = Canaries.of(self.awx.fleet.known_secrets)
        texts = {"the environment shown": json.dumps(self.shown_env), "the output": job.output}
        for path in files_below(self.folder):
            try:
                text = path.read_bytes().decode("utf-8", "replace")
            except FileNotFoundError:  # of a worker that a cancelled job has left
                continue
            if path.name == "command":  # holds the whole environment, as long as the job runs
                content = json.loads(text)
                content["env"] = {name: content["env"][name] for name in content["env"] if name not in self.injected}
                text = json.dumps(content)
            texts[str(path)] = text
        for place, text in texts.items():
            assert not (found := canaries.lines_in(text)), f"a secret is in {place}: {found}"
        self.awx.fleet._search_files(job)

    def cancel(self, container: bool = True) -> Job:
        """Cancel it, as AWX does: the runner kills Ansible, and with the container goes all that is left in it."""
        self.process.send_signal(signal.SIGTERM)
        job = self.wait()
        if container:
            self.kill_left()
        return job

    def kill_left(self) -> None:
        """Kill what the runner has left behind: Ansible's workers may be in sessions of their own."""
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def left(self) -> list[int]:
        """Return the processes of this job that are alive; its private folder is in the environment of each."""
        found = []
        mark = f"AWX_PRIVATE_DATA_DIR={self.folder}".encode()
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdecimal() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until the job has come to a point; it may not end before."""
        end = time.monotonic() + _SECONDS
        while not reached():
            assert self.process.poll() is None, self.wait()
            assert time.monotonic() < end
            time.sleep(0.02)


class Awx:
    """An AWX whose inventory holds the consumers of a fleet, with the wrapper project and one credential.

    :ivar ansible: the folder with the commands of the ansible-core that jobs run on.
    :ivar inputs: what is filled in into the credential; the rest of its fields stays empty.
    :ivar project: the folder of the project, whose playbooks are what can be launched.
    """

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.ansible = ANSIBLE_BIN
        self.project = folder / "project"
        shutil.copytree(ROLE / "project", self.project)
        account = fleet.account
        self.inputs: dict[str, Any] = {
            "api_url": fleet.sandbox.url,
            "email": fleet.email,
            "password": account["password"],
        }
        self.started: list[Started] = []
        self._numbers = itertools.count(41)

    def launch(self, playbook: str, extra_vars: Mapping[str, Any] | None = None, **how: Any) -> Job:
        """Run a job to its end."""
        return self.start(playbook, extra_vars, **how).wait()

    def sliced(
        self, playbook: str, count: int, extra_vars: Mapping[str, Any] | None = None, at_once: bool = True, **how: Any
    ) -> list[Job]:
        """Run a sliced job: each slice is a job of its own, if AWX has room for them at once."""
        how["workflow"] = next(self._numbers)
        numbers = range(1, min(count, len(self.fleet.hosts)) + 1)
        if not at_once:
            return [self.launch(playbook, extra_vars, slice_of=(number, count), **how) for number in numbers]
        started = [self.start(playbook, extra_vars, slice_of=(number, count), **how) for number in numbers]
        return [one.wait() for one in started]

    def start(
        self,
        playbook: str,
        extra_vars: Mapping[str, Any] | None = None,
        *,
        limit: str = "",
        tags: str = "",
        skip_tags: str = "",
        check: bool = False,
        diff: bool = False,
        verbosity: int = 0,
        fact_cache: bool = False,
        timeout: int = 0,
        slice_of: tuple[int, int] = (1, 1),
        workflow: int | None = None,
        launch_type: str = "manual",
        template_vars: Mapping[str, Any] | None = None,
    ) -> Started:
        """Start a job.

        :param extra_vars: what a survey or the one who launches it says: never a template of Jinja.
        :param template_vars: what the job template says.
        :param slice_of: number and count.
        :param workflow: the id of the workflow that the job belongs to, such as that of a sliced job.
        """
        number = next(self._numbers)
        folder = self.folder / f"awx_{number}_pdd"
        for name in ("env", "inventory", "cp", "home"):
            (folder / name).mkdir(mode=0o700, parents=True)
        shutil.copytree(self.project, folder / "project")
        self._write_inventory(folder / "inventory" / "hosts", *slice_of)
        variables = {**self._metavars(number, launch_type, workflow), **(extra_vars or {})}
        _write(folder / "env" / "extravars", _dump({**(template_vars or {}), **variables}, template_vars or {}))
        settings = {"job_timeout": timeout, "suppress_ansible_output": True, "suppress_output_file": True}
        _write(folder / "env" / "settings", json.dumps({**settings, "pexpect_timeout": 1}))
        arguments = ["-i", str(folder / "inventory")]
        arguments += ["--forks=5", *(["-l", limit] if limit else []), *(["--check"] if check else [])]
        arguments += [*(["--diff"] if diff else []), *([f"-{'v' * verbosity}"] if verbosity else [])]
        arguments += [*(["-t", tags] if tags else []), *(["--skip-tags", skip_tags] if skip_tags else [])]
        env = self._base_env(folder, number)
        injected, shown = self._inject(env, arguments, folder)
        _write(folder / "env" / "cmdline", " ".join(arguments))
        params = {
            "ident": number,
            "private_data_dir": str(folder),
            "playbook": playbook,
            "inventory": str(folder / "inventory"),
            "suppress_env_files": True,
            "envvars": {**env, **injected},
            "fact_cache_type": "jsonfile" if fact_cache else "",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _RUNNER],
            cwd=folder,
            env={"PATH": env["PATH"], "LC_ALL": "C.UTF-8", "HOME": env["HOME"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(params))
        process.stdin.close()
        process.stdin = None
        started = Started(self, process, number, folder, injected, {**env, **shown})
        self.started.append(started)
        return started

    def end(self) -> None:
        """Make sure that nothing of any job is left."""
        for started in self.started:
            if started.process.poll() is None:
                started.process.kill()
                started.process.communicate()
            started.kill_left()

    # --- what a job gets --------------------------------------------------------------------------

    def _inject(
        self, env: Mapping[str, str], arguments: list[str], folder: Path
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return what the credential adds to the environment, and how AWX shows that."""
        from awx_plugins.interfaces._temporary_private_inject_api import inject_credential  # noqa: PLC0415  # not on 3.10

        definition = yaml.safe_load((ROLE / "credential_type.yml").read_text(encoding="utf-8"))
        kind: Any = SimpleNamespace(managed=False, **{name: definition[name] for name in ("inputs", "injectors")})
        credential: Any = SimpleNamespace(get_input_keys=lambda: list(self.inputs), get_input=self.inputs.get)
        injected: dict[str, Any] = dict(env)
        shown: dict[str, Any] = {}
        before = list(arguments)
        inject_credential(kind, credential, injected, shown, arguments, str(folder))
        assert arguments == before, "what is an extra variable can be overridden by another"
        return {name: value for name, value in injected.items() if name not in env}, shown

    def _base_env(self, folder: Path, number: int) -> dict[str, str]:
        return {
            "PATH": f"{self.ansible}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder / "home"),
            "JOB_ID": str(number),
            "INVENTORY_ID": "1",
            "PROJECT_REVISION": "0" * 40,
            "MAX_EVENT_RES": "700000",
            "AWX_HOST": "https://awx.example.com",
            "AWX_PRIVATE_DATA_DIR": str(folder),
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
            "ANSIBLE_COLLECTIONS_PATH": os.environ["ANSIBLE_COLLECTIONS_PATH"],
            "NO_PROXY": "*",
        }

    def _metavars(self, number: int, launch_type: str, workflow: int | None) -> dict[str, Any]:
        """Return what AWX tells every job of itself."""
        told: dict[str, Any] = {
            "job_id": number,
            "job_launch_type": launch_type,
            "job_template_id": 7,
            "job_template_name": "MultiCartAPI rotate",
            "inventory_id": 1,
            "inventory_name": "Production",
            "project_revision": "0" * 40,
            "user_id": 1,
            "user_name": "admin",
            "user_email": "",
            "execution_node": "awx",
        }
        if workflow is not None:
            told |= {"workflow_job_id": workflow, "workflow_job_name": "MultiCartAPI rotation"}
        return {f"{prefix}_{name}": value for name, value in told.items() for prefix in ("awx", "tower")}

    def _write_inventory(self, path: Path, number: int, count: int) -> None:
        """Write the script that AWX makes of an inventory: a slice has every n-th host by name, and no others."""
        known = json.loads(self.fleet.inventory.read_text())["all"]
        hosts = sorted(known["hosts"])[number - 1 :: count]
        groups = {
            name: {"hosts": [host for host in group["hosts"] if host in hosts], "children": [], "vars": {}}
            for name, group in known["children"].items()
        }
        grouped = {host for group in groups.values() for host in group["hosts"]}
        tower = {host: {"remote_tower_enabled": "true", "remote_tower_id": at} for at, host in enumerate(hosts)}
        data = {
            **groups,
            "all": {"vars": known["vars"], "hosts": [host for host in hosts if host not in grouped]},
            "_meta": {"hostvars": {host: {**known["hosts"][host], **tower[host]} for host in hosts}},
        }
        _write(path, _INVENTORY.format(json.dumps(data)))
        path.chmod(0o700)


def confirmed(fleet: Fleet) -> dict[str, Any]:
    """Return the answers to the survey of a rotation that retires the live key."""
    return {"multicart_rotate_confirm": "yes", "multicart_rotate_retire": fleet.live_fingerprint}


def _task(event: Mapping[str, Any]) -> Task:
    data = event["event_data"]
    status = "ignored" if data.get("ignore_errors") else _STATUS[event["event"]]
    return Task(status, data["host"], data["task"], data["task_action"], data.get("res") or {})


def _dump(variables: Mapping[str, Any], trusted: Mapping[str, Any]) -> str:
    """Return the variables as YAML, in which only what the job template says may be a template of Jinja."""
    return "".join(
        yaml.dump({name: value}, Dumper=yaml.SafeDumper if trusted.get(name) == value else _Unsafe)
        for name, value in variables.items()
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
