# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the bench happens: N hosts, the service with one account, and what a run did to them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.bench.watch import Watch
from tests.integration.harness import ANSIBLE_BIN, VARIABLE, Fleet
from tests.integration.sshd import Sshd
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import JournalEntry

HERE = Path(__file__).parent
COLLECTIONS = HERE.parents[1] / ".cache" / "collections"


class Network(Protocol):
    """What is between the controller and the hosts."""

    @property
    def variables(self) -> dict[str, Any]: ...

    def hang_up(self) -> None: ...


@dataclass(frozen=True)
class Measured:
    """What one run did.

    :ivar seconds: for each host, from the accepted rotation to its new key.
    :ivar took: the whole run.
    :ivar cpu: seconds of processor of the controller and all it started but connections that stay open.
    :ivar peak: megabytes of its largest process.
    :ivar requests: calls of the service, consumers' left out.
    :ivar rotations: how many the service accepted.
    """

    seconds: dict[str, float]
    took: float
    cpu: float
    peak: float
    requests: int = 0
    rotations: int = 0

    @property
    def window(self) -> float:
        """The outage of the last host."""
        return max(self.seconds.values(), default=0.0)


@dataclass(frozen=True)
class Ran:
    """A process that has ended, and the lines of the callback clock."""

    took: float
    cpu: float
    peak: float
    clock: list[dict[str, Any]] = field(default_factory=list)

    def answers(self, play: str) -> dict[str, float]:
        """Return how long after the start of a play each host answered in it for the first time."""
        found: dict[str, float] = {}
        started: float | None = None
        for line in self.clock:
            if line["event"] == "play":
                started = line["time"] if line["name"] == play else None
            elif line["event"] == "ok" and started is not None:
                found.setdefault(line["name"], line["time"] - started)
        return found


class Stage:
    """Hosts that all hold the live key, before each run anew. Use :func:`open_stage`."""

    def __init__(self, folder: Path, sandbox: Sandbox, network: Network, forks: int, output: Path) -> None:
        self.fleet = Fleet(sandbox, folder, sandbox.account())
        self.fleet.variables.update(
            ansible_python_interpreter=shutil.which("python3", path="/usr/bin") or sys.executable,
            ansible_remote_tmp="{{ home }}/.ansible/tmp",
            **network.variables,
        )
        self.network = network
        self.forks = forks
        self.label = "run"
        self._output = output

    def reset(self, label: str) -> None:
        """Bring every host to where a run starts: the live key, no record, no open connection."""
        self.label = f"{label}-{len(self.fleet.hosts)}".replace(", ", "-").replace(" ", "-")
        self.network.hang_up()
        live = self.fleet.live
        for host in self.fleet.hosts.values():
            for record in host.folder.glob(".*.json"):
                record.unlink()
            host.env.write_text(f"PORT=8080\n{VARIABLE}={live}\nLOG_LEVEL=info\n")
            host.env.chmod(0o600)
        self.fleet.requests()

    def measure(self, act: Callable[[], Ran], seconds: Callable[[float], dict[str, float]] | None = None) -> Measured:
        """Do what rotates, and return what it did; ``seconds`` tells when hosts had the key, instead of their files."""
        old, before = self.fleet.live, self.fleet.rotations
        files = {} if seconds else {name: host.env for name, host in self.fleet.hosts.items()}
        with Watch(files, old) as watch:
            ran = act()
        calls = [call for call in self.fleet.requests() if call["endpoint"] != "profile"]
        accepted = accepted_at(calls)
        found = seconds(accepted) if seconds else {name: at - accepted for name, at in watch.found.items()}
        missing = self.fleet.hosts.keys() - found.keys()
        if missing:
            raise RuntimeError(f"{len(missing)} hosts never had the new key, such as {min(missing)}")
        return Measured(found, ran.took, ran.cpu, ran.peak, len(calls), self.fleet.rotations - before)

    def playbook(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """Run a playbook, and keep what it printed in the output directory."""
        command = [str(ANSIBLE_BIN / "ansible-playbook"), "-i", str(self.fleet.inventory), name, *arguments]
        clock = self.fleet.folder / "clock.jsonl"
        clock.write_text("")
        log = self._output / f"{self.label}.log"
        with log.open("w") as file:
            ran = run(command, cwd=self.fleet.folder, env=self._environment(clock, env or {}), output=file)
        return Ran(ran.took, ran.cpu, ran.peak, [json.loads(line) for line in clock.read_text().splitlines()])

    def _environment(self, clock: Path, more: Mapping[str, str]) -> dict[str, str]:
        home = self.fleet.folder / "home"
        kept = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        return {
            **kept,
            "LC_ALL": "C.UTF-8",
            "HOME": str(home),
            "NO_PROXY": "*",
            "ANSIBLE_HOME": str(home / ".ansible"),
            "ANSIBLE_CONFIG": str(self.fleet.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "clock",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_FORKS": str(self.forks),
            "ANSIBLE_NOCOLOR": "1",
            "CLOCK_FILE": str(clock),
            **self.fleet.env,
            **more,
        }


def accepted_at(calls: Sequence[JournalEntry]) -> float:
    """Return when the service took the one rotation."""
    times = [call["time"] for call in calls if call["endpoint"] == "rotate" and call["accepted"]]
    if len(times) != 1:
        raise RuntimeError(f"{len(times)} rotations instead of one")
    return times[0]


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str], output: Any) -> Ran:
    """Run a command to its end.

    :raises RuntimeError: when it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"it failed (exit {process.returncode}); see {output.name}: {' '.join(command)}")
    return Ran(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextlib.contextmanager
def open_stage(hosts: int, forks: int, output: Path) -> Iterator[Stage]:
    """Start a service and hosts behind sshd in a new directory; in the end nothing is left of them."""
    with _service() as (folder, sandbox), Sshd() as sshd:
        stage = Stage(folder, sandbox, sshd, forks, output)
        stage.fleet.add_many(hosts)
        yield stage


@contextlib.contextmanager
def _service() -> Iterator[tuple[Path, Sandbox]]:
    top = Path(tempfile.mkdtemp(prefix="multicart-bench-"))
    try:
        (top / "fleet").mkdir()
        with Sandbox.start(top / "service", accounts=[("bench@example.com", secrets.token_urlsafe(12))]) as sandbox:
            yield top / "fleet", sandbox
    finally:
        shutil.rmtree(top, ignore_errors=True)


