# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to deploy a new key to a fleet, each with the same hosts and as many of them at a time."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.stage import HERE, Outage, Ran, Stage
from tests.integration.sshd import Sshd

BY_HAND = "by hand"
TUNED = "by hand, tuned"
OURS = "multicart.keys"
RAW = "ssh alone"
# Connections that stay open for the whole run; the same for the floor.
_KEEP = {"ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=300s"}

Way = Callable[[Stage, Sshd, int], Outage]


def by_hand(stage: Stage, _sshd: Sshd, forks: int) -> Outage:
    """Two calls of ``uri``, then a play that gathers facts and runs ``lineinfile``; Ansible as it comes."""
    return _by_hand(stage, forks, BY_HAND, facts=True)


def tuned(stage: Stage, _sshd: Sshd, forks: int) -> Outage:
    """The same without facts and with pipelining, as somebody writes who has been waiting for it before."""
    return _by_hand(stage, forks, TUNED, facts=False, ANSIBLE_PIPELINING="1")


def _by_hand(stage: Stage, forks: int, name: str, facts: bool, **env: str) -> Outage:
    variables = {
        "api_url": stage.sandbox.url,
        "old_key": stage.fleet.live,
        "token": stage.fleet.env["MULTICART_SESSION_TOKEN"],
        "facts": facts,
    }
    extra = stage.fleet.folder / "by-hand.json"
    extra.write_text(json.dumps(variables))
    playbook = (str(HERE / "by_hand.yml"), "-e", f"@{extra}", "-f", str(forks))
    return stage.rotation(name, lambda: stage.run("ansible-playbook", *playbook, **env))


def ours(stage: Stage, _sshd: Sshd, forks: int) -> Outage:
    """rotate.yml, with a restart on each host."""
    confirmed = ("-e", "multicart_rotate_confirm=true", "-f", str(forks))
    return stage.rotation(OURS, lambda: stage.run("ansible-playbook", "multicart.keys.rotate", *confirmed, **_KEEP))


def raw_ssh(stage: Stage, sshd: Sshd, forks: int) -> Outage:
    """No Ansible: two calls of the API, and ``ssh`` over open connections, that many at a time."""
    controls = Path(sshd.variables["ansible_control_path_dir"])
    controls.mkdir(exist_ok=True)
    control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={controls}/%n"]

    def each_host(command: Callable[[str], str], text: str = "") -> None:
        def ssh(name: str) -> None:
            arguments = ["ssh", *sshd.options, *control, name, command(name)]
            subprocess.run(arguments, input=text, text=True, check=True, stderr=subprocess.DEVNULL)

        with ThreadPoolExecutor(forks) as pool:
            list(pool.map(ssh, stage.fleet.hosts))

    def write() -> Ran:
        began, cpu = time.monotonic(), _cpu_of_children()
        line = f"MULTICART_API_KEY={stage.rotate_by_http()}\n"
        each_host(lambda name: "cat > {0}.new && mv {0}.new {0}".format(stage.fleet.hosts[name].env), line)
        return Ran(0, "", _cpu_of_children() - cpu, 0.0, time.monotonic() - began)

    each_host(lambda name: "true")
    return stage.rotation(RAW, write)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def floor(stage: Stage, forks: int, **env: str) -> tuple[dict[str, float], Ran]:
    """Return when each host had answered a ping over an open connection, in seconds after the play began."""
    settings = {**_KEEP, "ANSIBLE_PIPELINING": "1", **env}
    ran = stage.run("ansible-playbook", str(HERE / "ping.yml"), "-f", str(forks), **settings)
    assert ran.code == 0, ran.output
    began = next(event["time"] for event in ran.events if (event["event"], event["name"]) == ("play", "Ping"))
    answered = [event for event in ran.events if (event["event"], event["name"]) == ("ok", "Ping")]
    return {event["host"]: event["time"] - began for event in answered}, ran


def ways() -> dict[str, Way]:
    """Return all of them, by name."""
    return {BY_HAND: by_hand, TUNED: tuned, OURS: ours, RAW: raw_ssh}
