# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller alone: a thousand hosts behind a program in place of ssh that answers after a tenth of a second."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.contenders import floor
from tests.bench.stage import Ran, Stage, fingerprint_of
from tests.sandbox.handle import Sandbox

_SSH = """#!/bin/sh
cat > /dev/null
sleep 0.1
cat '{answer}'
"""


def controller_alone(folder: Path, hosts: int, forks: int) -> dict[str, Any]:
    """Return how long the window and the floor last for so many hosts, and what the controller needs for each."""
    (folder / "service-alone").mkdir()
    with Sandbox.start(folder / "service-alone") as sandbox:
        stage = Stage(sandbox, folder / "fleet-alone", hosts, {})
        answer, ssh = folder / "answer.json", folder / "ssh"
        ssh.write_text(_SSH.format(answer=answer))
        ssh.chmod(0o755)
        stage.fleet.variables.update(
            ansible_connection="ssh", ansible_ssh_executable=str(ssh), ansible_python_interpreter=sys.executable
        )
        answer.write_text(json.dumps({"ping": "pong", "changed": False}))
        answered, floor_ran = floor(stage, forks)
        answer.write_text(json.dumps(_as_if_prepared(fingerprint_of(stage))))
        ran = stage.run(
            "ansible-playbook",
            *("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", "-f", str(forks)),
            ANSIBLE_PIPELINING="1",
        )
        accepted = next(entry["time"] for entry in stage.fleet.requests() if entry["committed"])
        written = [event["time"] for event in _of(ran, "Write the live key")]
        assert len(written) == hosts, ran.output[-3000:]
        return {
            "hosts": hosts,
            "forks": forks,
            "window": max(written) - accepted,
            "before_the_first_task": min(event["time"] for event in _of(ran, "Write the live key", "task")) - accepted,
            "floor": max(answered.values()),
            "cpu_per_host": ran.cpu / hosts,
            "peak_memory": ran.peak,
            "floor_cpu_per_host": floor_ran.cpu / hosts,
            "floor_peak_memory": floor_ran.peak,
        }


def _of(ran: Ran, task: str, event: str = "ok") -> list[dict[str, Any]]:
    return [each for each in ran.events if each["event"] == event and task in each["name"]]


def _as_if_prepared(live: str) -> dict[str, Any]:
    """Return the answer of a host that is ready for the rotation of this key, whatever it is asked."""
    record = {"open": True, "restart": False, "retire": live, "held": live, "since": None, "digest": None}
    file = {"path": "/etc/app/env", "variable": "MULTICART_API_KEY", "holds": [live], "unknown": False}
    return {"changed": True, "restart_due": True, "files": [{**file, "why_not": None, "record": record}]}


def small_costs(folder: Path) -> dict[str, float]:
    """Return what one call of the info module costs beside ``uri``, and a lookup after the first, in seconds."""
    (folder / "service-costs").mkdir()
    with Sandbox.start(folder / "service-costs") as sandbox:
        stage = Stage(sandbox, folder / "fleet-costs", 1, {"ansible_connection": "local"})
        stage.fleet.variables.update(api_url=sandbox.url, token=stage.fleet.env["MULTICART_SESSION_TOKEN"])
        ran = stage.run("ansible-playbook", str(Path(__file__).with_name("costs.yml")))
        assert ran.code == 0, ran.output
    starts = [(event["name"], event["time"]) for event in ran.events if event["event"] == "task"]
    ends = {event["name"]: event["time"] for event in ran.events if event["event"] == "ok"}
    took = {name: (ends[name] - began) / 20 for name, began in starts if name in ends}
    return {
        "multicart_key_info": took["info"],
        "uri": took["uri"],
        "first_lookup": (took["first lookup"] - took["no lookup, once"]) * 20,
        "further_lookup": took["lookups"] - took["no lookup"],
    }
