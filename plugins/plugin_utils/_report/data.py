# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run did, told from what its tasks registered. No HTTP, no Ansible, no I/O, and no secret.

What the tasks registered is read, never trusted: only masks, fingerprints, moments and texts that the judge shows too
go on. Anything may be missing, because a host failed, was unreachable, or a run ended early.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import MASK, is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import HEALTH, SEEN, WRITTEN
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import ADVICE, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import Rerun
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    Consumer,
    State,
    Step,
    ended,
    parse_time,
    verdict,
)

FORMAT = 1
"""Of the JSON file; a larger number breaks who reads it."""

EVENTS = ("ready", "written", "restarted", "healthy")
"""What happens at a consumer, in order."""

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

    :ivar state: one of :class:`fleet.State`, or ``unknown``.
    :ivar why: what is wrong with it; None: nothing, or nothing that is known.
    :ivar times: when each event happened, as far as it did.
    :ivar seconds: the same, relative to the rotation; empty without one.
    :ivar changed: whether this run wrote or restarted anything there.
    """

    name: str
    state: str
    why: str | None
    times: Mapping[str, datetime]
    seconds: Mapping[str, float]
    changed: bool

    @property
    def done(self) -> bool:
        return self.state == State.CURRENT.value

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until its last step; None: it was not written, or is not done."""
        steps = [self.seconds[event] for event in EVENTS[1:] if event in self.seconds]
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
    :ivar expected: seconds that readiness foretold for the window.
    :ivar rerun: the command that finishes what is not done.
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
    expected: float | None
    lines: Sequence[Line]
    versions: Versions
    made_at: datetime
    rerun: Rerun | None = None

    @property
    def unfinished(self) -> list[Line]:
        return [line for line in self.lines if not line.done]

    @property
    def window(self) -> float | None:
        """Seconds from the rotation to the last write; None: no rotation in this run, or nothing was written."""
        return max((line.seconds["written"] for line in self.lines if "written" in line.seconds), default=None)

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until the last consumer was done; None: there was none, or it goes on."""
        outages = [line.outage for line in self.lines if line.outage is not None]
        return max(outages) if outages and not self.unfinished else None

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything to tell: a run that found all in order and changed nothing has no story."""
        changed = any(line.changed for line in self.lines)
        return self.outcome != NOT_NEEDED or self.reason is not None or changed

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
            "expected_seconds": self.expected,
            "window_seconds": self.window,
            "outage_seconds": self.outage,
            "consumers": {"total": len(self.lines), "unfinished": len(self.unfinished)},
            "finish": self.rerun and {"command": self.rerun.command, "give_again": list(self.rerun.give_again)},
            "hosts": [
                {
                    "name": line.name,
                    "state": line.state,
                    "why": line.why,
                    "times": {event: iso_time(line.times[event]) for event in EVENTS if event in line.times},
                    "seconds": dict(line.seconds),
                    "outage_seconds": line.outage,
                }
                for line in self.lines
            ],
        }


@dataclass(frozen=True)
class Registered:
    """What the tasks of a run registered about the rotation, each as it is in the variables; empty: it did not run."""

    plan: Mapping[str, Any]
    rotation: Mapping[str, Any]
    proof: Mapping[str, Any]
    read: Mapping[str, Any]

    @property
    def outcome(self) -> str:
        """What became of the key in this run."""
        if self.plan.get("step") != Step.ROTATE.value:
            return NOT_NEEDED
        said = self.rotation.get("outcome")
        # Without one it was skipped, or broken off before anything was sent.
        return said if said in [outcome.value for outcome in Outcome] else Outcome.UNCHANGED.value

    @property
    def rotated_at(self) -> datetime | None:
        return parse_time(str(self.rotation.get("rotated_at") or ""))

    @property
    def old_key(self) -> Key | None:
        return _key(self.rotation, "previous_key_") or _key({"fingerprint": self.plan.get("retire")}, "")

    @property
    def new_key(self) -> Key | None:
        """The key that is live at the end, where that is known."""
        for result in (self.proof, self.read, self.rotation):
            if (key := _key(result, "key_")) is not None:
                return key
        replaced = self.outcome in (Outcome.ROTATED.value, Outcome.ALREADY_ROTATED.value, Outcome.UNKNOWN.value)
        return None if replaced else _key({"fingerprint": self.plan.get("live")}, "")

    @property
    def expected(self) -> float | None:
        """Seconds that the window was expected to last."""
        seconds = self.plan.get("expected_outage")
        return float(seconds) if self.outcome != NOT_NEEDED and isinstance(seconds, (int, float)) else None

    @property
    def failure(self) -> tuple[str, str] | None:
        """Reason and message of the step of the rotation that failed; None: none did."""
        for result in (self.rotation, self.proof, self.read):
            if result.get("failed"):
                if result.get("reason") in [reason.value for reason in Reason]:
                    return str(result["reason"]), str(result.get("msg") or "")
                # Without a reason it is core's own text, which may quote anything.
                return Reason.INTERNAL_ERROR.value, ADVICE[Reason.INTERNAL_ERROR]
        return None


def _key(result: Mapping[str, Any], prefix: str) -> Key | None:
    """Read a key that may be shown; what is neither mask nor fingerprint goes no further."""
    fingerprint, masked = result.get(f"{prefix}fingerprint"), result.get(f"{prefix}masked")
    if not is_fingerprint(fingerprint):
        return None
    shown = isinstance(masked, str) and masked.endswith(f".{MASK}") and masked.count(".") == 1
    return Key(str(masked) if shown else None, str(fingerprint))


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def line_of(consumer: Consumer, registered: Mapping[str, Any], run: Registered) -> Line:
    """Tell how a consumer fared, from what its tasks registered."""
    state, why = _state(consumer, registered, run)
    times = _times(registered)
    rotated_at = run.rotated_at
    seconds = {event: round((at - rotated_at).total_seconds(), 3) for event, at in times.items()} if rotated_at else {}
    changed = bool((registered.get(WRITTEN) or {}).get("changed"))
    return Line(consumer.name, state, why, times, seconds, changed)


def _state(consumer: Consumer, registered: Mapping[str, Any], run: Registered) -> tuple[str, str | None]:
    if run.outcome == Outcome.UNKNOWN.value and run.new_key is None:
        return UNKNOWN, None
    live = run.new_key.fingerprint if run.new_key else ""  # nobody holds a key that could not be read
    state, _colon, why = ended(consumer, registered, live).partition(": ")
    return state, why or None


REGISTERED_TIMES = {
    SEEN: ("ready",),
    WRITTEN: ("written", "restarted"),
    HEALTH: ("healthy",),
}
"""Which result on a host has the time of which event."""


def _times(registered: Mapping[str, Any]) -> dict[str, datetime]:
    found = {}
    for name, events in REGISTERED_TIMES.items():
        times = (registered.get(name) or {}).get("times") or {}
        for event in events:
            if (at := parse_time(str(times.get(event) or ""))) is not None:
                found[event] = at
    return found


def why_not_done(run: Registered, lines: Sequence[Line]) -> tuple[str | None, str | None]:
    """Return why the run failed, as it ends, and the same in words; None, None: it did not."""
    if run.failure:
        return run.failure
    wrong = verdict({line.name: line.state for line in lines}, run.plan.get("step") == Step.CATCH_UP.value)
    if wrong is None:
        return None, None
    # The consumers, each with its state, stand below.
    told = f"{len([line for line in lines if not line.done])} of {len(lines)} consumers are not current."
    return wrong.reason.value, told if wrong.reason is Reason.NOT_CURRENT else str(wrong)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Sort the consumers: those that are not done first, then in the order in which they were written."""
    never = datetime.max.replace(tzinfo=timezone.utc)
    return sorted(lines, key=lambda line: (line.done, line.times.get("written", never), line.name))


def report_of(
    run: Registered,
    hosts: Iterable[tuple[Consumer, Mapping[str, Any]]],
    account: str,
    versions: Versions,
    made_at: datetime,
) -> Report:
    """Tell what a run did.

    :param hosts: each consumer as it was last looked at, and all that the tasks registered on it.
    """
    lines = in_order([line_of(consumer, registered, run) for consumer, registered in hosts])
    reason, message = why_not_done(run, lines)
    return Report(
        outcome=run.outcome,
        reason=reason,
        message=message,
        account=account,
        old_key=run.old_key,
        new_key=run.new_key,
        new_key_works=_flag(run.proof.get("verified")),
        old_key_rejected=_flag(run.proof.get("old_key_rejected")),
        rotated_at=run.rotated_at,
        expected=run.expected,
        lines=lines,
        versions=versions,
        made_at=made_at,
    )
