# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What a run did, told from what came of its act. No HTTP, no Ansible, no I/O, and no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import again, deploy
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import State, parse_time

FORMAT = 1
"""Of the JSON file; a larger number breaks what reads it."""

EVENTS = ("armed", "released", "written", "restarted", "healthy")
"""What happens at a consumer, in order: the last three on the host."""

NOT_NEEDED = "not_needed"
"""The outcome of a run that had nothing to rotate."""

UNKNOWN = "unknown"
"""The state of a consumer while it is not known which key is live."""


@dataclass(frozen=True)
class Key:
    """A key as it may be shown."""

    masked: str | None
    fingerprint: str


@dataclass(frozen=True)
class Line:
    """One consumer.

    :ivar state: one of :class:`state.State`, or ``unknown``.
    :ivar why: what is wrong with it; None: nothing, or nothing that is known.
    :ivar times: when each event happened.
    :ivar seconds: the same, relative to the rotation; empty without one.
    :ivar changed: whether this run wrote or restarted anything there.
    :ivar wave: in which wave it got the key.
    """

    name: str
    state: str
    why: str | None
    times: Mapping[str, datetime]
    seconds: Mapping[str, float]
    changed: bool
    wave: int = 0

    @property
    def done(self) -> bool:
        return self.state == State.UP_TO_DATE.value

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until its last restart has ended; None: it was not written, or is not done."""
        steps = [self.seconds[event] for event in ("written", "restarted") if event in self.seconds]
        return max(steps) if steps and self.done else None


@dataclass(frozen=True)
class Versions:
    """Who made the report."""

    collection: str
    core: str


@dataclass(frozen=True)
class Report:
    """What a run did.

    :ivar outcome: one of :class:`rotation.Outcome`, or ``not_needed``.
    :ivar reason: why the run failed; None: it did not.
    :ivar message: the same in words.
    :ivar account: the name of the account in the inventory.
    :ivar lines: the consumers: those that are not done first, then in the order in which they were written.
    :ivar finish: how to finish what is not done.
    :ivar begun: it was decided what to do, and that was begun.
    """

    outcome: str
    reason: str | None
    message: str | None
    account: str
    old_key: Key | None
    new_key: Key | None
    new_key_works: bool | None
    old_key_rejected: bool | None
    rotated_at: datetime | None
    lines: Sequence[Line]
    versions: Versions
    made_at: datetime
    finish: str | None = None
    begun: bool = True

    @property
    def unfinished(self) -> list[Line]:
        return [line for line in self.lines if not line.done]

    @property
    def last_write(self) -> float | None:
        """Seconds from the rotation to the last write; None: no rotation in this run, or nothing was written."""
        return max((line.seconds["written"] for line in self.lines if "written" in line.seconds), default=None)

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until the last restart of all has ended; None: there was none, or it goes on."""
        outages = [line.outage for line in self.lines if line.outage is not None]
        return max(outages) if outages and not self.unfinished else None

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything to tell: a run that was refused, or found all in order, has changed nothing."""
        changed = any(line.changed for line in self.lines)
        return self.begun and (self.outcome != NOT_NEEDED or self.reason is not None or changed)

    def to_json(self) -> dict[str, Any]:
        """Return it as the role's README describes it: moments in UTC, durations in seconds."""
        return {
            "format": FORMAT,
            "made_at": iso_time(self.made_at),
            "versions": {"multicart.keys": self.versions.collection, "ansible-core": self.versions.core},
            "outcome": self.outcome,
            "reason": self.reason,
            "message": self.message,
            "account": self.account,
            "old_key": self.old_key and vars(self.old_key),
            "new_key": self.new_key and vars(self.new_key),
            "new_key_works": self.new_key_works,
            "old_key_rejected": self.old_key_rejected,
            "rotated_at": self.rotated_at and iso_time(self.rotated_at),
            "last_write_seconds": self.last_write,
            "outage_seconds": self.outage,
            "consumers": {"total": len(self.lines), "unfinished": len(self.unfinished)},
            "finish": self.finish,
            "hosts": [
                {
                    "name": line.name,
                    "state": line.state,
                    "why": line.why,
                    "wave": line.wave,
                    "changed": line.changed,
                    "times": {event: iso_time(line.times[event]) for event in EVENTS if event in line.times},
                    "seconds": dict(line.seconds),
                    "outage_seconds": line.outage,
                }
                for line in self.lines
            ],
        }


def report_from(kept: Mapping[str, Any]) -> Report:
    """Read what :meth:`Report.to_json` returned."""

    def times(host: Mapping[str, Any]) -> dict[str, datetime]:
        found = {event: parse_time(text) for event, text in host["times"].items()}
        return {event: moment for event, moment in found.items() if moment is not None}

    return Report(
        outcome=kept["outcome"],
        reason=kept["reason"],
        message=kept["message"],
        account=kept["account"],
        old_key=Key(**kept["old_key"]) if kept["old_key"] else None,
        new_key=Key(**kept["new_key"]) if kept["new_key"] else None,
        new_key_works=kept["new_key_works"],
        old_key_rejected=kept["old_key_rejected"],
        rotated_at=parse_time(kept["rotated_at"]),
        lines=[
            Line(host["name"], host["state"], host["why"], times(host), host["seconds"], host["changed"], host["wave"])
            for host in kept["hosts"]
        ],
        versions=Versions(kept["versions"]["multicart.keys"], kept["versions"]["ansible-core"]),
        made_at=parse_time(kept["made_at"]) or datetime.now(timezone.utc),
        finish=kept["finish"],
    )


def report_of(result: ActResult, account: str, versions: Versions, made_at: datetime) -> Report:
    """Tell what came of an act."""
    rotation = result.rotation
    outcome = rotation.outcome.value if rotation is not None else NOT_NEEDED
    rotated_at = parse_time(rotation.rotated_at) if rotation is not None else None
    new = _new_key(result)
    known = new is not None or outcome != Outcome.UNKNOWN.value
    lines = in_order([line_of(host, rotated_at, known) for host in result.hosts])
    unfinished = [line.name for line in lines if not line.done]
    retired = result.plan.retire if result.plan is not None else None
    finish = None
    if result.error is not None:
        finish = deploy(unfinished) if result.error.reason is Reason.NOT_UP_TO_DATE else again(retired)
    return Report(
        outcome=outcome,
        reason=result.error.reason.value if result.error else None,
        message=_message(result, lines),
        account=account,
        old_key=_shown(rotation.previous) if rotation is not None else Key(None, retired) if retired else None,
        new_key=new,
        new_key_works=rotation.verified if rotation is not None and rotation.error is None else None,
        old_key_rejected=rotation.old_key_rejected if rotation is not None else None,
        rotated_at=rotated_at,
        lines=lines,
        versions=versions,
        made_at=made_at,
        finish=finish,
        begun=result.plan is not None,
    )


def _message(result: ActResult, lines: Sequence[Line]) -> str | None:
    if result.error is None:
        return None
    if result.error.reason is Reason.NOT_UP_TO_DATE:  # the consumers, each with its state, stand below
        return f"{sum(not line.done for line in lines)} of {len(lines)} consumers are not up to date."
    return str(result.error)


def _new_key(result: ActResult) -> Key | None:
    """Return the key that is live at the end, where that is known."""
    rotation = result.rotation
    if rotation is not None and rotation.live is None and rotation.outcome is not Outcome.UNCHANGED:
        return None
    return _shown(result.live.key) if result.live is not None else None


def _shown(key: ApiKey | None) -> Key | None:
    return None if key is None else Key(key.masked, key.fingerprint)


def line_of(host: HostResult, rotated_at: datetime | None, known: bool) -> Line:
    """Tell how a consumer fared.

    :param known: whether it is known which key is live.
    """
    times = {event: host.moments[event] for event in EVENTS if event in host.moments}
    seconds = {event: round((at - rotated_at).total_seconds(), 3) for event, at in times.items()} if rotated_at else {}
    state = host.standing.state.value if known else UNKNOWN
    why = host.standing.why if known else None
    return Line(host.name, state, why, times, seconds, host.changed, host.wave)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Sort the consumers: those that are not done first, then in the order in which they were written."""
    never = datetime.max.replace(tzinfo=timezone.utc)
    return sorted(lines, key=lambda line: (line.done, line.times.get("written", never), line.name))
