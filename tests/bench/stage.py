# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stage: the stand-in service, hosts behind a real sshd, and what is measured of a run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import requests

from tests.integration.harness import Fleet, fingerprint
from tests.integration.sshd import Sshd
from tests.sandbox.handle import Sandbox

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CONSUMERS = 3
"""How many hosts have a consumer that calls the API all the time; each costs time on this machine, too."""
PAUSE = 0.1
"""Seconds between two calls of a consumer."""
USER_AGENT = "bench-consumer"


@dataclass
class Ran:
    """A program that has ended: seconds of processor time of it and its children, and memory in MiB.

    :ivar peak: of its largest process.
    :ivar memory: of all its processes together at their peak, what they share counted once.
    """

    code: int
    output: str
    cpu: float
    peak: float
    seconds: float
    memory: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Outage:
    """One rotation: when each host had the new key, in seconds after the API accepted the rotation.

    :ivar restarted: when what reads its file had been restarted, where the way does that.
    :ivar refused: for how long the consumers themselves were refused, by host, in seconds.
    :ivar slowest_call: how long a consumer's call of the API took at most, in seconds.
    """

    by: str
    written: dict[str, float]
    requests: int
    ran: Ran
    restarted: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    slowest_call: float = 0.0

    @property
    def last(self) -> float:
        return max(self.written.values())

    @property
    def median(self) -> float:
        return statistics.median(self.written.values())

    @property
    def consumers_agree(self) -> bool:
        """Whether consumers were refused as long as their files lacked the new key, except for the time of calls."""
        apart = (refused - self.written[name] for name, refused in self.refused.items())
        return all(-2 * PAUSE - self.slowest_call < each < 3 * PAUSE + 2 * self.slowest_call for each in apart)


class Stage:
    """A fleet of hosts that hold the live key, each in a folder of its own on this machine."""

    def __init__(self, sandbox: Sandbox, folder: Path, hosts: int, variables: Mapping[str, Any]) -> None:
        folder.mkdir()
        self.sandbox = sandbox
        self.fleet = Fleet(sandbox, folder, sandbox.add_account(f"{folder.name}@example.com", "a password"))
        self.fleet.variables.update(variables)
        self.fleet.add_many(hosts, multicart_deploy_commands=["touch {{ home }}/restarted"])

    def run(self, *command: str, **env: str) -> Ran:
        """Run a program of Ansible's and measure it."""
        folder = self.fleet.folder
        clock = folder / f"clock-{time.monotonic_ns()}"
        clock.touch()
        environment = {
            "PATH": os.environ["PATH"],
            "ANSIBLE_COLLECTIONS_PATH": str(HERE.parents[1] / ".cache" / "collections"),
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder / "home"),
            "ANSIBLE_HOME": str(folder / "home" / ".ansible"),
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "clock",
            "BENCH_CLOCK": str(clock),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_TIMEOUT": "60",  # a busy machine is no reason to give up
            "NO_PROXY": "*",
            **self.fleet.env,
            **env,
        }
        command = (str(BIN / command[0]), "-i", str(self.fleet.inventory), *command[1:])
        began = time.monotonic()
        with (folder / "output").open("w+") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            memory = Memory(process.pid)
            _pid, status, usage = os.wait4(process.pid, 0)
            memory.stop()
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            return Ran(
                process.returncode,
                output.read(),
                usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss / 1024,
                time.monotonic() - began,
                memory.peak,
                [json.loads(line) for line in clock.read_text().splitlines()],
            )

    def rotation(self, by: str, act: Callable[[], Ran]) -> Outage:
        """Do what rotates the key and brings it to the hosts, while consumers use it, and measure the outage."""
        self.fleet.requests()
        names = list(self.fleet.hosts)
        consumers = [Consumer(self, name) for name in names[:: -(-len(names) // CONSUMERS)]]
        try:
            ran = act()
            assert ran.code == 0, ran.output
            for consumer in consumers:
                consumer.wait_for_the_new_key()
        finally:
            for consumer in consumers:
                consumer.stop()
        assert not self.fleet.stale, f"{by} left hosts behind: {self.fleet.stale}\n{ran.output}"
        sent = [entry for entry in self.fleet.requests() if entry["user_agent"] != USER_AGENT]
        (accepted,) = [entry["time"] for entry in sent if entry["committed"]]
        # Every way replaces the file once; the kernel notes when that was done.
        written = {name: host.env.stat().st_ctime - accepted for name, host in self.fleet.hosts.items()}
        marks = {name: host.folder / "restarted" for name, host in self.fleet.hosts.items()}
        restarted = {name: mark.stat().st_mtime - accepted for name, mark in marks.items() if mark.exists()}
        for mark in marks.values():
            mark.unlink(missing_ok=True)
        refused = {each.name: each.refused for each in consumers}
        slowest = max(each.slowest_call for each in consumers)
        return Outage(by, written, len(sent), ran, restarted, refused, slowest)

    def rotate_by_http(self) -> str:
        """Rotate and read back as two calls do; return the new key."""
        calls = (("users/api-key/update/", {"x-api-key": self.fleet.live}), ("users/account-details", self.token))
        for path, headers in calls:
            answer = requests.post(f"{self.sandbox.url}/{path}", json={}, headers=headers, timeout=10)
        return str(answer.json()["data"]["api_key"])

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.fleet.env['MULTICART_SESSION_TOKEN']}"}


class Memory:
    """How much memory a process and all that it has started take together, measured again and again."""

    def __init__(self, pid: int) -> None:
        self.peak = 0.0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self.peak = max(self.peak, sum(map(_pss, _family(self._pid))) / 1024)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield from _family(int(child))


def _pss(pid: int) -> int:
    """Return the KiB of a process, its share of what it has in common with others."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


class Consumer:
    """Uses the key in a host's file all the time, and notes for how long it was refused."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.slowest_call = 0.0
        self._answers: list[tuple[float, bool]] = []
        self._stage, self._old, self._over = stage, stage.fleet.live, threading.Event()
        self._let_in_anew = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        session = requests.Session()
        session.headers["User-Agent"] = USER_AGENT
        session.trust_env = False
        url, file = f"{self._stage.sandbox.url}/users/profile", self._stage.fleet.hosts[self.name].env
        while not self._over.wait(PAUSE):
            key, began = file.read_text().partition("=")[2].strip(), time.time()
            answer = session.post(url, json={}, headers={"x-api-key": key}, timeout=60)
            accepted, ended = answer.json().get("status") == 1, time.time()
            self._answers.append((ended, accepted))
            self.slowest_call = max(self.slowest_call, ended - began)
            if accepted and key != self._old:
                self._let_in_anew.set()

    def wait_for_the_new_key(self) -> None:
        """Return when it was accepted with another key, or never will be."""
        self._let_in_anew.wait(60)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    @property
    def refused(self) -> float:
        """Seconds from the first refused call to the next accepted one."""
        refused = [moment for moment, accepted in self._answers if not accepted]
        if not refused:
            return 0.0
        return min((moment for moment, ok in self._answers if ok and moment > refused[-1]), default=inf) - refused[0]


@contextmanager
def stage_of(hosts: int, folder: Path) -> Iterator[tuple[Stage, Sshd]]:
    """Yield a stage whose hosts are behind a real sshd."""
    (folder / f"service-{hosts}").mkdir(parents=True)
    with Sandbox.start(folder / f"service-{hosts}") as sandbox, Sshd() as sshd:
        yield Stage(sandbox, folder / f"fleet-{hosts}", hosts, sshd.variables), sshd


def fingerprint_of(stage: Stage) -> str:
    """Return the fingerprint of the live key."""
    return fingerprint(stage.fleet.live)
