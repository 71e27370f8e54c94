# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are directories of this machine: the true program of a session serves them, in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _phases as phases
from ansible_collections.multicart.keys.plugins.module_utils import _processes as processes
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import program
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec, spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import (
    Ended,
    Link,
    LinkError,
    Pipes,
    Reply,
    Session,
)

from tests.waiting import eventually

OLD, NEW, NEWER = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary"), ApiKey("acme.NEWERcanary")

TRUE_PROGRAM = program.command(sys.executable, [])

# Stands for the ssh client: the host's program goes on, or hangs, without it.
_RELAY = """
import os, subprocess, sys, threading

pipe, none = subprocess.PIPE, subprocess.DEVNULL
child = subprocess.Popen(["sh", "-c", "exec " + sys.argv[2]], stdin=pipe, stdout=pipe, stderr=none)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(child.pid))
os.rename(sys.argv[1] + ".new", sys.argv[1])

def pump(source, sink):
    while True:
        data = os.read(source, 65536)
        if not data:
            break
        while data:
            data = data[os.write(sink, data):]
    os.close(sink)

threading.Thread(target=pump, args=(0, child.stdin.fileno()), daemon=True).start()
pump(child.stdout.fileno(), 1)
sys.exit(child.wait())
"""

# A program of a host that has its own mind; ``requests`` yields what is asked of it.
_STRANGE = """
import json, os, sys, time
source, sink = sys.stdin.buffer, sys.stdout.buffer

def requests():
    source.read(int(source.readline()))
    for line in iter(source.readline, b""):
        yield json.loads(line)

def say(request, at=1.0, **said):
    raw(request["tag"] + " " + json.dumps(dict(said, at=at)) + "\\n")

def raw(text):
    sink.write(text if isinstance(text, bytes) else text.encode())
    sink.flush()

"""


def strange(code: str) -> str:
    """Return the command of a host's program that does as the code says."""
    return shlex.join([sys.executable, "-c", _STRANGE + code])


IN_PROCESS = bool(os.environ.get("MULTICART_TEST_IN_PROCESS"))
"""Whether the program of a host is a function of this process, for `make mutants`, which runs the tests a lot."""

if IN_PROCESS:  # what takes most of the time, and is about neither the act nor the plan
    os.fsync = lambda dummy: None
    processes.scan = lambda *dummy, **more: ([], False)  # type: ignore[assignment]

needs_processes = pytest.mark.skipif(IN_PROCESS, reason="it is about the processes of the hosts")


class DirectSession(Session):
    """A session whose requests are answered at once, by the same code, in this process."""

    def ask(self, phase: str, limit: float, first: float | None = None, **fields: Any) -> Reply:
        request = {**phases.FIELDS, "phase": phase, "tag": "t", "wait": 1.0, **json.loads(json.dumps(fields))}
        reply = Reply(self, request, limit, limit if first is None else first)
        reply.began = time.monotonic()
        error = getattr(self._link, "error", None)
        if error is not None:
            self.give_up(error)
            reply.resolve(error=error)
            return reply

        def tell(event: str) -> None:
            reply.moments[event] = time.monotonic()
            reply.note(event)

        reply.resolve(json.loads(json.dumps(phases.answer_to(request, tell))))
        return reply


class LocalLink:
    """A link to a program of this machine, as the one over ssh is.

    :param holds: whether it holds a conversation.
    :param pid_file: where the relay that stands for the ssh client writes the process id of the host's program; None:
        there is no relay.
    """

    def __init__(
        self,
        command: str = TRUE_PROGRAM,
        holds: bool = True,
        pid_file: Path | None = None,
        with_terminal: Link | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.holds = holds
        self.with_terminal = with_terminal
        self.processes: list[subprocess.Popen[bytes]] = []
        self.inputs: list[bytes] = []
        self.error: LinkError | None = None
        self.is_plain = command == TRUE_PROGRAM and pid_file is None
        self._command = f"exec {command}"
        if pid_file is not None:
            self._command = f"exec {shlex.join([sys.executable, '-c', _RELAY, str(pid_file), command])}"
        self._env = {**os.environ, **(env or {})}

    def _start(self) -> subprocess.Popen[bytes]:
        if self.error is not None:
            raise self.error
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            ["/bin/sh", "-c", self._command], stdin=pipe, stdout=pipe, stderr=pipe, env=self._env
        )
        self.processes.append(process)
        return process

    def converse(self, talk: Callable[[Pipes], None]) -> Ended:
        process = self._start()
        assert process.stdin and process.stdout and process.stderr
        talk(Pipes(process.stdin, process.stdout, process.stderr, process))
        with suppress(OSError):
            process.stdin.close()
        process.stdin = None
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), True)
        output, complaints = process.communicate()
        return Ended(process.returncode, output, complaints)

    def run(self, requests: bytes) -> Ended:
        self.inputs.append(requests)
        process = self._start()
        output, complaints = process.communicate(program.HEADER + requests)
        return Ended(process.returncode, output, complaints)


def session_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("multicart ")]


@dataclass
class LocalHost:
    """A directory with an environment file, and the link to it.

    :ivar variables: of the role, without ``multicart_deploy_``.
    """

    name: str
    folder: Path
    link: LocalLink = field(default_factory=LocalLink)
    variables: dict[str, Any] = field(default_factory=dict)
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(1))

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.put(OLD)

    @property
    def env(self) -> Path:
        return self.folder / "env"

    def put(self, key: ApiKey | None) -> None:
        self.env.write_text(f"A=1\nKEY={key.reveal() if key else ''}\n")

    @property
    def holds(self) -> str:
        return self.env.read_text().partition("KEY=")[2].rstrip("\n")

    @property
    def record(self) -> dict[str, Any] | None:
        path = self.folder / ".env.KEY.multicart.json"
        return record.parse(path.read_bytes()) if path.exists() else None

    def snapshot(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def logs(self, word: str) -> str:
        """Return a command line that leaves a trace of itself."""
        return f"sh -c 'echo {word} >> {self.folder}/log'"

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def spec(self) -> HostSpec:
        files = [{"path": str(self.env), "variable": "KEY"}]
        variables = {"files": files, **self.variables}
        return spec_of({f"multicart_deploy_{name}": value for name, value in variables.items()}, lambda raw: raw)

    def session(self) -> Session:
        kind = DirectSession if IN_PROCESS and self.link.is_plain else Session
        return kind(self.name, self.link, self.gate)

    def host(self) -> Host:
        return Host(self.name, self.spec, self.session())


def stop(pid_file: Path) -> int:
    """Let the program of a host hang; return its process id."""
    assert eventually(pid_file.exists)
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGSTOP)
    return pid


def end_all(hosts: Sequence[LocalHost]) -> None:
    """End what a test has left."""
    for host in hosts:
        for process in host.link.processes:
            process.kill()
