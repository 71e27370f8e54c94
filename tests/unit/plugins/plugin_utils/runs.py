# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results as the tasks of a run register them, and the report of such a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import Rerun
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import consumer_from
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Registered, Report, Versions, report_of

START = datetime(2026, 6, 20, 3, tzinfo=timezone.utc)
OLD, NEW = "0" * 16, "1" * 16
MASKED = "173axcs." + "•" * 16
PLAN = {"step": "rotate", "retire": OLD, "live": OLD, "expected_outage": 2.0}
ROTATED = {
    "outcome": "rotated",
    "rotated_at": START.isoformat(),
    "previous_key_fingerprint": OLD,
    "previous_key_masked": MASKED,
    "key_fingerprint": NEW,
    "key_masked": MASKED,
}
PROVEN = {"verified": True, "old_key_rejected": True, "key_fingerprint": NEW, "key_masked": MASKED}
DONE = Registered(PLAN, ROTATED, PROVEN, {})


def at(seconds: float) -> str:
    """Return a moment relative to the rotation, as results show it."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def holding(key: str, **times: float) -> dict[str, Any]:
    """Return the result of a look at, or a write to, one file."""
    file = {"path": "/etc/app/env", "holds": [key], "unknown": False, "why_not": None, "record": None}
    return {"files": [file], "times": {event: at(seconds) for event, seconds in times.items()}}


def host(written: float | Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return what the tasks registered on a host.

    :param written: when it was written, in seconds after the rotation, or the result itself; None: it was not.
    :param more: further results, by the ends of their names.
    """
    registered: dict[str, Any] = {"__multicart_deploy_seen": holding(OLD, ready=-5)}
    if isinstance(written, Mapping):
        registered["__multicart_deploy_written"] = written
    elif written is not None:
        registered["__multicart_deploy_written"] = {**holding(NEW, written=written), "changed": True}
    return {**registered, **{f"__multicart_deploy_{name}": result for name, result in more.items()}}


UNREACHABLE = {"written": {"unreachable": True, "msg": "no route"}}
SICK = {"health": {"failed": True, "reason": "unhealthy", "msg": "It is not healthy."}}


def told_of(hosts: Mapping[str, Mapping[str, Any]], run: Registered = DONE, rerun: Rerun | None = None) -> Report:
    """Return the report of a run, from what was registered on each host."""
    looks = {
        name: [registered.get(f"__multicart_deploy_{look}") or {} for look in ("written", "seen")]
        for name, registered in hosts.items()
    }
    consumers = [
        (consumer_from(name, next((look for look in found if "files" in look), found[0])), hosts[name])
        for name, found in looks.items()
    ]
    report = report_of(run, consumers, "default", Versions("1.0.0", "2.21.5"), START + timedelta(minutes=1))
    return replace(report, rerun=rerun)
