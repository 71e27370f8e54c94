# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet: what the consumers hold, what is to be done, and whether it was done. No HTTP, no Ansible, no I/O.

A *consumer* is a host with files that hold the key. Each file has a secret-free *record* beside it: open from readiness
until the new key is written, its services are restarted and healthy and the key is proven to be the live one, closed
afterwards. Keys appear only as fingerprints.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import (
    CLOSED,
    CONFIRMED,
    HEALTH,
    WRITTEN,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.outage import Outage


@dataclass(frozen=True)
class Record:
    """The record of one file.

    :ivar open: something is under way or was broken off.
    :ivar retire: the key that was to be retired, or was the last to be.
    :ivar held: the key last written.
    :ivar since: since when that key is known, UTC, ISO 8601.
    :ivar restart: the file was changed and its readers have not been restarted since.
    :ivar begun: it was opened to rotate, and not just by a write that replaced a key.
    """

    open: bool
    retire: str | None = None
    held: str | None = None
    since: str | None = None
    restart: bool = False
    begun: bool = False

    def restart_due(self, live: str) -> bool:
        """Whether whoever reads the file, which holds the live key, may still run with another."""
        return self.open and (self.restart or self.retire != live)


@dataclass(frozen=True)
class File:
    """What one file holds.

    :ivar holds: fingerprints of the keys in it; empty: none.
    :ivar unknown: it may hold a key, but which cannot be told (a template's file that was changed by hand).
    :ivar why_not: why it cannot be written; None: it can.
    """

    path: str
    holds: tuple[str, ...] = ()
    unknown: bool = False
    why_not: str | None = None
    record: Record | None = None

    def waits_for_rotation(self, live: str) -> bool:
        """Whether it was made ready for a rotation of the live key."""
        return self.record is not None and self.record.open and self.record.begun and self.record.retire == live


class State(str, enum.Enum):
    """How a consumer stands against the live key."""

    CURRENT = "current"
    RESTART_DUE = "restart_due"
    STALE = "stale"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Consumer:
    """One host and its files.

    :ivar failure: why the host could not be looked at; None: it could.
    :ivar reached: whether there was a connection at all.
    :ivar lacking: what its services and commands need and it does not have.
    """

    name: str
    files: tuple[File, ...] = ()
    failure: str | None = None
    reached: bool = True
    lacking: tuple[str, ...] = ()

    @property
    def holds_key(self) -> bool:
        return any(file.holds or file.unknown for file in self.files)

    def state(self, live: str) -> State:
        """Return how the consumer stands against the live key."""
        if not self.reached:
            return State.UNREACHABLE
        if self.failure is not None or any(file.why_not and not file.holds for file in self.files):
            return State.UNREADABLE
        if any(file.unknown or set(file.holds) - {live} for file in self.files):
            return State.STALE
        if not self.files or any(not file.holds for file in self.files):
            return State.MISSING
        if any(file.record and file.record.restart_due(live) for file in self.files):
            return State.RESTART_DUE
        return State.CURRENT

    @property
    def problems(self) -> list[str]:
        """Why it is not ready to be written, all of it."""
        if self.failure is not None:
            return [self.failure]
        if not self.files:
            return ["it has no files of this account: set multicart_deploy_files"]
        return [*(file.why_not for file in self.files if file.why_not), *self.lacking]


def consumer_from(name: str, seen: Mapping[str, Any] | None) -> Consumer:
    """Read the registered result of a look at a consumer; None: there was none."""
    if not seen or ("files" not in seen and seen.get("skipped")):
        return Consumer(name, failure="it was not looked at in this run")
    if seen.get("unreachable"):
        return Consumer(name, failure="it is unreachable", reached=False)
    if seen.get("failed") and "files" not in seen:
        return Consumer(name, failure=str(seen.get("msg") or "its files could not be looked at"))
    return Consumer(
        name,
        tuple(_file_from(file) for file in seen["files"]),
        lacking=tuple(seen.get("lacking") or ()),
    )


def _file_from(seen: Mapping[str, Any]) -> File:
    record = seen.get("record")
    return File(
        path=str(seen["path"]),
        holds=tuple(seen["holds"]),
        unknown=bool(seen["unknown"]),
        why_not=seen["why_not"],
        record=record
        and Record(**{name: record[name] for name in ("open", "restart", "begun", "retire", "held", "since")}),
    )


class Step(str, enum.Enum):
    """What a run of rotate.yml does."""

    ROTATE = "rotate"
    DEPLOY = "deploy"  # the key to retire is dead, or not old enough: nothing to rotate
    CATCH_UP = "catch_up"  # the fleet is behind: bring it up to date, and do not rotate


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for.

    :ivar retire: fingerprint of the key to retire.
    :ivar force: rotate although the fleet is behind.
    :ivar max_age: rotate only a key that is older.
    :ivar budget: seconds the outage may be expected to last.
    """

    retire: str | None = None
    force: bool = False
    max_age: timedelta | None = None
    budget: float | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done and why; ``retire`` is the key to retire in case of ``ROTATE``, else None."""

    step: Step
    why: str
    retire: str | None = None


def make_plan(
    fleet: Sequence[Consumer], live: str, wanted: Wanted, outage: Outage, now: datetime | None = None
) -> Plan:
    """Decide what to do from what every consumer holds and records.

    :param live: fingerprint of the account's live key.
    :param outage: what a rotation would cost.
    :raises MulticartError: ``no_consumers``, ``not_ready``, ``retire_unknown`` or ``over_budget``.
    """
    _refuse_unready(fleet)
    plan = _choose(fleet, live, wanted, now or datetime.now(timezone.utc))
    if plan.step is Step.ROTATE and wanted.budget is not None and outage.seconds > wanted.budget:
        raise MulticartError(
            Reason.OVER_BUDGET, f"{outage.sentence} That is more than multicart_rotate_budget={wanted.budget:g}."
        )
    return plan


def _refuse_unready(fleet: Sequence[Consumer]) -> None:
    if not fleet:
        raise MulticartError(Reason.NO_CONSUMERS, "No consumer has a file of this account.")
    unready = {consumer.name: consumer.problems for consumer in fleet if consumer.problems}
    if unready:
        listed = "; ".join(f"{name}: {', '.join(problems).rstrip('.')}" for name, problems in unready.items())
        raise MulticartError(Reason.NOT_READY, f"{len(unready)} of {len(fleet)} consumers are not ready: {listed}.")


def _choose(fleet: Sequence[Consumer], live: str, wanted: Wanted, now: datetime) -> Plan:
    files = [file for consumer in fleet for file in consumer.files]
    records = [file.record for file in files if file.record]
    if wanted.retire is not None:
        if wanted.retire == live:
            return Plan(Step.ROTATE, "the key to retire is the live one", live)
        held = {key for file in files for key in file.holds}
        recorded = {key for record in records for key in (record.retire, record.held)}
        if wanted.retire in held | recorded:
            return Plan(Step.DEPLOY, "the key to retire is dead already")
        raise MulticartError(Reason.RETIRE_UNKNOWN, f"Nobody knows the key {wanted.retire}.")
    if any(file.waits_for_rotation(live) for file in files):
        return Plan(Step.ROTATE, "a rotation of this key was begun and not carried out", live)
    if any(record.open and record.retire for record in records):
        return Plan(Step.DEPLOY, "a rotation was carried out and its roll-out not finished")
    behind = [consumer.name for consumer in fleet if consumer.state(live) is State.STALE]
    if wanted.force:
        return Plan(Step.ROTATE, "it was forced", live)
    if behind:
        return Plan(Step.CATCH_UP, f"these hold another key than the live one: {', '.join(behind)}")
    if not any(consumer.holds_key for consumer in fleet):
        return Plan(Step.CATCH_UP, "no consumer holds a key")
    if wanted.max_age is not None:
        age = _age(records, live, now)
        if age is None or age <= wanted.max_age:
            return Plan(Step.DEPLOY, "the key is not known to be older than multicart_rotate_max_age")
    return Plan(Step.ROTATE, "every consumer that holds a key holds the live one", live)


def _age(records: Iterable[Record], live: str, now: datetime) -> timedelta | None:
    since = [moment for record in records if record.held == live and (moment := parse_time(record.since))]
    return now - min(since) if since else None


def parse_time(text: str | None) -> datetime | None:
    """Read a moment in ISO 8601; None: it is none, or has no time zone."""
    try:
        moment = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def refuse_unprepared(fleet: Sequence[Consumer], retire: str | None) -> None:
    """The interlock: rotate only when every consumer's record was opened for the very key that is to be retired.

    :raises MulticartError: ``not_prepared``.
    """
    if retire is None:
        raise MulticartError(Reason.NOT_PREPARED, "It was not decided in this run which key to retire.")
    unprepared = [
        consumer.name
        for consumer in fleet
        if consumer.problems or any(not _is_open_for(file.record, retire) for file in consumer.files)
    ]
    if unprepared or not fleet:
        raise MulticartError(Reason.NOT_PREPARED, f"Not made ready in this run: {', '.join(unprepared) or 'anybody'}.")


def _is_open_for(record: Record | None, retire: str) -> bool:
    return record is not None and record.open and record.retire == retire


def standing(consumer: Consumer, live: str) -> str:
    """Return how a consumer stands against the live key, and why where that says more."""
    state = consumer.state(live)
    tells_why = state is State.UNREADABLE or not consumer.files
    return f"{state.value}: {', '.join(consumer.problems)}" if tells_why else str(state.value)


def verdict(states: Mapping[str, str], caught_up: bool = False) -> MulticartError | None:
    """Return why the fleet is not as it should be at the end of a run; None: it is.

    :param states: how each consumer stands, by name.
    :param caught_up: whether the run found the fleet behind, and did that instead of a rotation.
    """
    if not states:
        return MulticartError(Reason.NO_CONSUMERS, "No consumer has a file of this account.")
    short = [f"{name} is {state}" for name, state in states.items() if state != State.CURRENT.value]
    if short:
        return MulticartError(
            Reason.NOT_CURRENT, f"{len(short)} of {len(states)} consumers are not current: {'; '.join(short)}."
        )
    return MulticartError(Reason.CAUGHT_UP, "The fleet was behind.") if caught_up else None


STEPS = {
    WRITTEN: "its files could not be written",
    HEALTH: "its health check failed",
    CONFIRMED: "it could not be learnt whether its key is still the live one",
    CLOSED: "its records could not be closed",
}
"""What the deploy role registers on a host, in order, and what it means when that failed."""


def stuck_at(registered: Mapping[str, Any]) -> str | None:
    """Return why a host's roll-out got stuck, from what its tasks registered; None: it did not."""
    for name, meaning in STEPS.items():
        result = registered.get(name) or {}
        if result.get("unreachable"):
            return "it is unreachable"
        if result.get("failed"):
            # Without a reason it is core's own text, which may quote anything.
            return str(result["msg"]).rstrip(".") if "reason" in result else meaning
    return None


def ended(consumer: Consumer, registered: Mapping[str, Any], live: str) -> str:
    """Return how a consumer stands at the end of a run, and where it got stuck."""
    stuck = stuck_at(registered)
    return f"{State.STALE.value}: {stuck}" if stuck else standing(consumer, live)
