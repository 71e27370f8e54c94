# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results as the tasks of a run register them, and the report of such a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils.fleet import consumer_from
from ansible_collections.multicart.keys.plugins.plugin_utils.report import (
    Registered,
    Report,
    in_order,
    line_of,
    verdict,
)
from ansible_collections.multicart.keys.plugins.plugin_utils.rerun import Rerun

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


def report_of(
    hosts: Mapping[str, Mapping[str, Any]],
    run: Registered = DONE,
    rerun: Rerun | None = None,
    made_at: datetime = START + timedelta(minutes=1),
) -> Report:
    """Return the report of a run, put together as the action does."""
    lines = []
    for name, registered in hosts.items():
        looks: Sequence[Mapping[str, Any]] = [
            registered.get(f"__multicart_deploy_{look}") or {} for look in ("written", "seen")
        ]
        consumer = consumer_from(name, next((look for look in looks if "files" in look), looks[0]))
        lines.append(line_of(consumer, registered, run))
    lines = in_order(lines)
    return Report(
        outcome=run.outcome,
        reason=verdict(run, lines)[0],
        message=verdict(run, lines)[1],
        account="default",
        old_key=run.old_key,
        new_key=run.new_key,
        new_key_works=run.proof.get("verified"),
        old_key_rejected=run.proof.get("old_key_rejected"),
        rotated_at=run.rotated_at,
        expected=run.plan.get("expected_outage"),
        lines=lines,
        rerun=rerun,
        made_at=made_at,
        collection="1.0.0",
        core="2.21.5",
    )
