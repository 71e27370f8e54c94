# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stage: the stand-in service, hosts behind a real sshd, and what is measured of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.integration.harness import Fleet, fingerprint
from tests.integration.sshd import Sshd
from tests.sandbox.handle import Sandbox

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CONSUMERS = 3
"""How many hosts have a consumer that calls the service all the time; each costs time on this machine, too."""
PAUSE = 0.1
"""Seconds between two calls of a consumer."""


@dataclass
class Ran:
    """A program that has ended: seconds of processor time of it and its children, and its peak memory in MiB."""

    code: int
    output: str
    cpu: float
    peak: float
    seconds: float
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Outage:
    """One rotation: when each host had the new key, in seconds after the service accepted the rotation.

    :ivar refused: for how long the consumers themselves were refused, by host, in seconds.
    """

    by: str
    written: dict[str, float]
    requests: int
    ran: Ran
    refused: dict[str, float] = field(default_factory=dict)

    @property
    def last(self) -> float:
        return max(self.written.values())

    @property
    def median(self) -> float:
        return sorted(self.written.values())[len(self.written) // 2]


class Stage:
    """A fleet of hosts that hold the live key, each in a folder of its own on this machine."""

    def __init__(self, sandbox: Sandbox, folder: Path, hosts: int, variables: Mapping[str, Any]) -> None:
        folder.mkdir()
        self.sandbox = sandbox
        self.fleet = Fleet(sandbox, folder, sandbox.add_account(f"{folder.name}@example.com", "a password"))
        self.fleet.variables.update(variables)
        self.fleet.add_many(hosts)

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
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            return Ran(
                process.returncode,
                output.read(),
                usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss / 1024,
                time.monotonic() - began,
                [json.loads(line) for line in clock.read_text().splitlines()],
            )

    @contextmanager
    def rotation(self, by: str) -> Iterator[list[Outage]]:
        """Measure a rotation that is carried out inside; append what ran to the list, and find the outage there."""
        self.fleet.requests()
        found: list[Any] = []
        consumers = [Consumer(self, name) for name in list(self.fleet.hosts)[:CONSUMERS]]
        try:
            yield found
            assert found[0].code == 0, found[0].output
            accepted = next(entry["time"] for entry in self.fleet.requests() if entry["committed"])
            time.sleep(3 * PAUSE)
        finally:
            for consumer in consumers:
                consumer.stop()
        assert not self.fleet.stale, f"{by} left hosts behind: {self.fleet.stale}\n{found[0].output}"
        # Every way replaces or rewrites the file once, at which moment it says of itself.
        written = {name: host.env.stat().st_mtime - accepted for name, host in self.fleet.hosts.items()}
        requests_sent = len([entry for entry in self.sandbox.journal() if self._is_of_run(entry, accepted)])
        found[0] = Outage(by, written, requests_sent, found[0], {each.name: each.refused for each in consumers})

    def _is_of_run(self, entry: Mapping[str, Any], accepted: float) -> bool:
        return abs(entry["time"] - accepted) < 300 and "bench-consumer" not in (entry["user_agent"] or "")

    def rotate_by_http(self) -> str:
        """Rotate and read back as two calls do; return the new key."""
        calls = (("users/api-key/update/", {"x-api-key": self.fleet.live}), ("users/account-details", self.token))
        for path, headers in calls:
            answer = requests.post(f"{self.sandbox.url}/{path}", json={}, headers=headers, timeout=10)
        return str(answer.json()["data"]["api_key"])

    @property
    def token(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.fleet.env['MULTICART_SESSION_TOKEN']}"}


class Consumer:
    """Uses the key in a host's file all the time, and notes for how long it was refused."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.answers: list[tuple[float, bool]] = []
        self._stage, self._over = stage, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        session = requests.Session()
        session.headers["User-Agent"] = "bench-consumer"
        session.trust_env = False
        host = self._stage.fleet.hosts[self.name]
        while not self._over.wait(PAUSE):
            key = host.env.read_text().partition("=")[2].strip()
            url = f"{self._stage.sandbox.url}/users/profile"
            answer = session.post(url, json={}, headers={"x-api-key": key}, timeout=10)
            self.answers.append((time.time(), answer.json().get("status") == 1))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    @property
    def refused(self) -> float:
        """Seconds from the last accepted call before the first refused one to the next accepted one."""
        bad = [moment for moment, accepted in self.answers if not accepted]
        if not bad:
            return 0.0
        before = max((moment for moment, accepted in self.answers if accepted and moment < bad[0]), default=bad[0])
        after = min((moment for moment, accepted in self.answers if accepted and moment > bad[-1]), default=bad[-1])
        return after - before


@contextmanager
def stage_of(hosts: int, folder: Path) -> Iterator[tuple[Stage, Sshd]]:
    """Yield a stage whose hosts are behind a real sshd."""
    (folder / f"service-{hosts}").mkdir(parents=True)
    with Sandbox.start(folder / f"service-{hosts}") as sandbox, Sshd() as sshd:
        yield Stage(sandbox, folder / f"fleet-{hosts}", hosts, sshd.variables), sshd


def fingerprint_of(stage: Stage) -> str:
    """Return the fingerprint of the live key."""
    return fingerprint(stage.fleet.live)
