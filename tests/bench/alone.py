# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control node alone: a thousand hosts behind a program in place of ssh, which answers without a host."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.contenders import floor
from tests.bench.stage import HERE, Ran, Stage
from tests.integration.harness import Fleet
from tests.sandbox.handle import Sandbox

SECONDS = 0.1
"""How long a host takes to answer a module."""

_FILE = {
    **dict.fromkeys(("held", "holds"), ["LIVE"]),
    **dict.fromkeys(("unknown", "restart_due"), False),
    "path": "",
    "variable": None,
    "changed": True,
    "problem": None,
    "record": {"format": 1, "open": False, "held": "LIVE"},
}
_ANSWER = {"files": [_FILE], "changed": True, "restarted": False, "problems": []}
SESSION: dict[str, dict[str, Any]] = {
    "inspect": {"files": [{**_FILE, "changed": False, "record": None}], "lacking": []},
    "ping": {},
    **dict.fromkeys(("prepare", "deploy", "close", "conclude"), _ANSWER),
}
"""What each host answers to each request of a session; LIVE stands for the fingerprint of the live key."""


def control_node_alone(folder: Path, hosts: int, forks: int) -> dict[str, Any]:
    """Return how long the outage and the floor last for so many hosts, and what the control node needs for each."""
    with _stage(folder, hosts) as (stage, stub):
        environment = {"STUB": str(stub), "STUB_SECONDS": str(SECONDS)}
        _forget(stub)
        answered, least = floor(stage, forks, **environment)
        _forget(stub)
        confirmed = ("-e", "multicart_rotate_confirm=true", "-f", str(forks))
        ran = stage.run("ansible-playbook", "multicart.keys.rotate", *confirmed, **environment)
        assert ran.code == 0, ran.output[-3000:]
        entries = stage.fleet.requests()
        (accepted,) = [entry["time"] for entry in entries if entry["committed"]]
        written = _writes_after(accepted, stub, stage.fleet)
        return {
            "hosts": hosts,
            "forks": forks,
            "last": max(written.values()),
            "first": min(written.values()),
            "timeline": sorted(written.values()),
            "floor": max(answered.values()),
            "floor_timeline": sorted(answered.values()),
            "requests": len(entries),
            "cpu_per_host": ran.cpu / hosts,
            "peak": ran.peak,
            "memory_per_host": (ran.memory - least.memory) / hosts,
            "floor_cpu_per_host": least.cpu / hosts,
            "floor_peak": least.peak,
            "run": ran.seconds,
        }


@contextmanager
def _stage(folder: Path, hosts: int) -> Iterator[tuple[Stage, Path]]:
    (folder / "service-alone").mkdir()
    with Sandbox.start(folder / "service-alone") as sandbox:
        stage = Stage(sandbox, folder / "fleet-alone", hosts, {})
        home = stage.fleet.hosts["web1"].folder
        stage.fleet.variables.update(
            ansible_connection="ssh",
            ansible_ssh_executable=str(HERE / "ssh.sh"),
            ansible_python_interpreter=sys.executable,
            home=str(home),  # of all: what one of them answers is true of each
        )
        session = folder / "stub" / "session"
        session.mkdir(parents=True)
        for phase, answer in SESSION.items():
            (session / phase).write_text(json.dumps({**answer, "at": 0}) + "\n")
        yield stage, folder / "stub"


def _forget(stub: Path) -> None:
    """Let all hosts be new to the stub."""
    (stub / "hosts").mkdir(exist_ok=True)
    for path in [*(stub / "hosts").iterdir(), stub / "answer"]:
        path.unlink(missing_ok=True)
    if (stub / "answer.lock").exists():
        (stub / "answer.lock").rmdir()


def _writes_after(moment: float, stub: Path, fleet: Fleet) -> dict[str, float]:
    """Return when each host had the new key, in seconds after a moment."""
    found = {path.name: path.stat().st_mtime - moment for path in (stub / "hosts").iterdir()}
    assert found.keys() == fleet.hosts.keys()
    assert min(found.values()) > 0, "a host was given the key before the API had accepted the rotation"
    return found


def small_costs(folder: Path) -> dict[str, float]:
    """Return what one call of the info module costs beside ``uri``, and a lookup after the first, in seconds."""
    (folder / "service-costs").mkdir()
    with Sandbox.start(folder / "service-costs") as sandbox:
        stage = Stage(sandbox, folder / "fleet-costs", 1, {"ansible_connection": "local"})
        stage.fleet.variables.update(api_url=sandbox.url, token=stage.fleet.env["MULTICART_SESSION_TOKEN"])
        ran = stage.run("ansible-playbook", str(HERE / "costs.yml"))
        assert ran.code == 0, ran.output
    took = _seconds_of_tasks(ran)
    return {
        "multicart_key_info": took["Info"] / 20,
        "uri": took["Uri"] / 20,
        "first_lookup": took["First lookup"] - took["No lookup, once"],
        "further_lookup": (took["Lookups"] - took["No lookup"]) / 20,
    }


def _seconds_of_tasks(ran: Ran) -> dict[str, float]:
    began = {event["name"]: event["time"] for event in ran.events if event["event"] == "task"}
    return {event["name"]: event["time"] - began[event["name"]] for event in ran.events if event["event"] == "ok"}
