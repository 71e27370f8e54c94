# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What a run of the rotation has to do, decided from what the consumers hold and record. No HTTP, no Ansible, no I/O.

Anyone who may write beside the file can write a record, so that no single consumer's record decides anything for the
others: what counts is what two consumers say independently of each other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._record import REJECTED, STILL_VALID
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.allowed_hours import AllowedHours
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Consumer, Record, Standing, State

CONFIRMING = 2
"""So many consumers must say the same of a key before it is believed; in a fleet of one, that one."""


class Step(str, enum.Enum):
    """What a run does."""

    ROTATE = "rotate"
    FINISH = "finish"  # an earlier run's rotation is pending
    RETIRED = "retired"  # the key to retire is not the live one: only the consumers have to follow
    CATCH_UP = "catch_up"  # consumers are behind: bring them up to date, and do not rotate
    DONE = "done"  # this run has rotated already
    NOT_DUE = "not_due"  # the key is not older than the maximum age
    OUTSIDE_HOURS = "outside_hours"  # it is older, but rotations are not allowed now


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for.

    :ivar confirmed: the outage is accepted.
    :ivar retire: fingerprint of the key to retire.
    :ivar force: rotate although the fleet is behind.
    :ivar max_age: rotate only a key that is older.
    :ivar rotate_unknown_age: rotate also where its age is not known.
    :ivar min_hosts: so many consumers must take part.
    :ivar assume_rejected: fingerprint of a retired key that the operator has tried: the API rejects it.
    :ivar warn_uncovered: rotate although a process holds the key that nothing restarts.
    :ivar allowed_hours: start a rotation only in these hours.
    """

    confirmed: bool = False
    retire: str | None = None
    force: bool = False
    max_age: timedelta | None = None
    rotate_unknown_age: bool = False
    min_hosts: int = 1
    assume_rejected: str | None = None
    warn_uncovered: bool = False
    allowed_hours: AllowedHours | None = None


@dataclass(frozen=True)
class AccountState:
    """The account, as the API tells of it.

    :ivar live: fingerprint of its live key.
    :ivar created_at: None: the API does not tell; likewise ``updated_at``.
    """

    live: str
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done and why.

    :ivar retire: the key that is retired: by this run, by the pending rotation, or long ago; None: none.
    :ivar finishes: that was by a rotation of an earlier run, which is finished now.
    """

    step: Step
    why: str
    retire: str | None = None
    finishes: bool = False


@dataclass(frozen=True)
class Refusals:
    """What speaks against a new rotation before any consumer is inspected.

    :ivar left_out: the consumers that take no part in this run.
    :ivar skipped: those that were skipped, or failed, before the rotation.
    :ivar differing: variables of the whole run that are not the same for all, each with two consumers that differ.
    """

    left_out: Sequence[str] = ()
    skipped: Sequence[str] = ()
    differing: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def make_plan(
    fleet: Sequence[Consumer],
    account: AccountState,
    wanted: Wanted,
    now: datetime,
    refusals: Refusals = Refusals(),
) -> Plan:
    """Decide what to do; the first that applies decides.

    :param fleet: the consumers, inspected where that was possible.
    :raises MulticartError: ``no_consumers``, ``retire_unknown``, ``other_account``; or why a new rotation is refused.
    """
    if not fleet:
        raise MulticartError(Reason.NO_CONSUMERS, "No consumer has a file of this account.")
    plan = _choose(fleet, account, wanted, now)
    if plan.step is Step.ROTATE:
        _refuse_new_rotation(fleet, account.live, wanted, refusals, now)
    return plan


def _choose(fleet: Sequence[Consumer], account: AccountState, wanted: Wanted, now: datetime) -> Plan:
    live = account.live
    if wanted.retire is not None:
        return _retire(fleet, live, wanted.retire)
    pending = pending_rotation(fleet, live)
    if pending is not None:
        return Plan(Step.FINISH, f"the rotation that retired {pending} was not finished", pending, True)
    if wanted.force:
        return Plan(Step.ROTATE, "it was forced", live)
    behind = [consumer.name for consumer in fleet if _is_behind(consumer, live)]
    alone = _unconfirmed_rotation(fleet, live)
    if behind:
        return Plan(Step.CATCH_UP, f"not up to date: {', '.join(behind)}", alone, alone is not None)
    if alone is not None:
        return Plan(
            Step.CATCH_UP, "a rotation was not finished, and there is no second consumer that confirms it", alone, True
        )
    if not any(consumer.holds_key for consumer in fleet):
        return Plan(Step.CATCH_UP, "no consumer is known to hold a key")
    if wanted.max_age is not None:
        age = age_of_key(fleet, account, now)
        if age is None and not wanted.rotate_unknown_age:
            return Plan(
                Step.NOT_DUE, "the age of the key is not known; multicart_rotate_unknown_age says what to do then"
            )
        if age is not None and age <= wanted.max_age:
            return Plan(Step.NOT_DUE, f"the key is {_days(age)} old, not more than multicart_rotate_max_age")
        if (waits := outside_hours(wanted.allowed_hours, now)) is not None:
            return Plan(Step.OUTSIDE_HOURS, waits)
    return Plan(Step.ROTATE, "every consumer that holds a key holds the live one", live)


def _retire(fleet: Sequence[Consumer], live: str, retire: str) -> Plan:
    if retire == live:
        return Plan(Step.ROTATE, "the key to retire is the live one", live)
    files = [file for consumer in fleet for file in consumer.files]
    # What was of this account: the file has a record of it.
    if any(retire in (*file.holds, *_recorded(file.own_record)) for file in files if file.own_record):
        finishes = retire in (pending_rotation(fleet, live), _unconfirmed_rotation(fleet, live))
        return Plan(Step.RETIRED, "the key to retire is not the live one", retire, finishes)
    if any(retire in (*file.holds, *_recorded(file.record)) for file in files):
        raise MulticartError(
            Reason.OTHER_ACCOUNT,
            f"The key {retire} is not the live one, and no record shows that it ever was a key of this account.",
        )
    raise MulticartError(Reason.RETIRE_UNKNOWN, f"Unknown key {retire}: it is neither live nor recorded on any host.")


def _recorded(record: Record | None) -> set[str]:
    if record is None:
        return set()
    return {key for key in (record.retire, record.held) if key} | {entry.key for entry in record.retired}


def _is_behind(consumer: Consumer, live: str) -> bool:
    # A process that holds a retired key, too: another rotation does not end it, and locks out all the others again.
    return consumer.standing(live).state in (State.OUT_OF_DATE, State.RESTART_DUE, State.PROCESS_OUT_OF_DATE)


def pending_rotation(fleet: Sequence[Consumer], live: str) -> str | None:
    """Return the key that an unfinished rotation has retired; None: none is pending.

    At least two consumers, and more than half of all that a rotation has been at, must name it, one of them in a record
    that is still open, and none in one that says that its verdict was given.
    """
    found = {
        key
        for key in {record.retire for consumer in fleet for record in consumer.records if record.open}
        if key is not None and _is_pending(fleet, live, key)
    }
    return min(found, default=None)


def _is_pending(fleet: Sequence[Consumer], live: str, key: str) -> bool:
    if key == live:
        return False
    with_rotation = [consumer for consumer in fleet if any(record.retire for record in consumer.records)]
    naming = [consumer for consumer in with_rotation if _rotations_of(consumer, key)]
    if any(record.concluded for consumer in naming for record in _rotations_of(consumer, key)):
        return False
    return len(naming) >= CONFIRMING and 2 * len(naming) > len(with_rotation)


def _rotations_of(consumer: Consumer, key: str) -> list[Record]:
    return [record for record in consumer.records if record.retire == key]


def _unconfirmed_rotation(fleet: Sequence[Consumer], live: str) -> str | None:
    """Return the key that an unfinished rotation has retired in a fleet of one, where nobody can confirm it."""
    if len(fleet) != 1:
        return None
    return next(
        (
            record.retire
            for record in fleet[0].records
            if record.open and record.retire not in (None, live) and not record.concluded
        ),
        None,
    )


def age_of_key(fleet: Sequence[Consumer], account: AccountState, now: datetime) -> timedelta | None:
    """Return how old the live key is; None: it is not known.

    It is the greatest age that two consumers confirm. The account's ``updated_at`` counts too, once two consumers have
    recorded that a rotation moves it: the key cannot be younger than the account's last change.
    """
    since = confirmed(at for _name, at in _live_since(fleet, account.live) if _is_possible(at, now, account))
    ages = [now - since] if since is not None else []
    moving = [consumer for consumer in fleet if any(record.moved_account for record in consumer.records)]
    if account.updated_at is not None and account.updated_at <= now and len(moving) >= min(CONFIRMING, len(fleet)):
        ages.append(now - account.updated_at)
    return max(ages, default=None)


def confirmed(moments: Iterable[datetime]) -> datetime | None:
    """Return the earliest moment that two consumers confirm; of two or fewer, the earliest."""
    listed = sorted(moments)
    return listed[1 if len(listed) > CONFIRMING else 0] if listed else None


def _live_since(fleet: Sequence[Consumer], live: str) -> Iterator[tuple[str, datetime]]:
    """Return since when each consumer holds the live key, by its records, where they tell."""
    for consumer in fleet:
        since = [record.since for record in consumer.records if record.held == live and record.since]
        if since:
            yield consumer.name, min(since)


def impossible_dates(fleet: Sequence[Consumer], account: AccountState, now: datetime) -> list[str]:
    """Return the consumers that record the live key since a moment in the future, or before there was an account."""
    return [name for name, at in _live_since(fleet, account.live) if not _is_possible(at, now, account)]


def _is_possible(moment: datetime, now: datetime, account: AccountState) -> bool:
    return moment <= now and (account.created_at is None or moment >= account.created_at)


def _days(age: timedelta) -> str:
    days = age.total_seconds() / 86400
    if days >= 2:
        return f"{days:.0f} days"
    hours = age.total_seconds() / 3600
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"


def outside_hours(allowed: AllowedHours | None, now: datetime) -> str | None:
    """Say that rotations are not allowed now, and when they are again; None: they are."""
    if allowed is None or allowed.are_now(now):
        return None
    return f"multicart_rotate_allowed_hours allows no new rotation before {allowed.shown(allowed.next(now))}"


def _refuse_new_rotation(
    fleet: Sequence[Consumer], live: str, wanted: Wanted, refusals: Refusals, now: datetime
) -> None:
    """Refuse a rotation that would lock a consumer out; finishing one that was begun is never refused."""
    if refusals.left_out:
        raise MulticartError(
            Reason.LEFT_OUT, f"These consumers are left out of this run: {', '.join(refusals.left_out)}."
        )
    if refusals.skipped:
        raise MulticartError(
            Reason.NOT_PREPARED,
            f"These hosts were skipped, or failed, before the rotation: {', '.join(refusals.skipped)}.",
        )
    if refusals.differing:
        found = [f"{name} ({' and '.join(hosts)})" for name, hosts in sorted(refusals.differing.items())]
        raise MulticartError(
            Reason.HOSTS_DIFFER,
            f"These variables are for the whole run, but are not the same for all consumers: {', '.join(found)}.",
            "Nothing was changed. Set them with -e, or for the group of all consumers.",
        )
    if len(fleet) < wanted.min_hosts:
        raise MulticartError(
            Reason.TOO_FEW_HOSTS,
            f"This run has {counted(fleet)}, but multicart_rotate_min_hosts={wanted.min_hosts}.",
        )
    refuse_unready(fleet)
    if not wanted.warn_uncovered:
        _refuse_uncovered(fleet, live)
    if (waits := outside_hours(wanted.allowed_hours, now)) is not None:
        raise MulticartError(Reason.OUTSIDE_HOURS, f"{waits}.")
    if not wanted.confirmed:
        raise MulticartError(Reason.NOT_CONFIRMED, f"{counted(fleet)} {'is' if len(fleet) == 1 else 'are'} ready.")


def counted(consumers: Sequence[Any]) -> str:
    """Return how many consumers these are, in words."""
    return f"{len(consumers)} consumer{'' if len(consumers) == 1 else 's'}"


def _refuse_uncovered(fleet: Sequence[Consumer], live: str) -> None:
    """Refuse a rotation while a process uses the key that would keep it: nothing that is configured restarts it."""
    found = [
        f"{consumer.name}: {process.words}"
        for consumer in fleet
        for process in consumer.processes
        if process.uncovered and process.key == live
    ]
    if found:
        raise MulticartError(
            Reason.UNCOVERED_PROCESS, f"These hold the key, and nothing restarts them: {'; '.join(found)}."
        )


def refuse_unready(fleet: Sequence[Consumer]) -> None:
    """Refuse a rotation while a consumer is not ready for it.

    :raises MulticartError: ``not_ready``; it names every consumer and all that is wrong with it.
    """
    error = unready(fleet)
    if error is not None:
        raise error


def unready(fleet: Sequence[Consumer]) -> MulticartError | None:
    """Return why the fleet is not ready for a rotation; None: every consumer is."""
    bad = [f"{consumer.name}: {consumer.what_is_wrong}" for consumer in fleet if consumer.problems]
    if not bad:
        return None
    return MulticartError(Reason.NOT_READY, f"{len(bad)} of {len(fleet)} consumers are not ready: {'; '.join(bad)}.")


# --- the end of a run -----------------------------------------------------------------------------


class Retirement(enum.Enum):
    """What is known of a key that was retired."""

    REJECTED = "rejected"
    STILL_VALID = "still_valid"
    NOT_SEEN = "not_seen"  # nobody could try it, but its replacement was accepted
    UNKNOWN = "unknown"


def retirement(fleet: Sequence[Consumer], key: str, assume_rejected: str | None = None) -> Retirement:
    """Return what the records of the fleet tell of a retired key, that no run can try any more."""
    if key == assume_rejected:
        return Retirement.REJECTED
    known = [
        [entry for record in consumer.records for entry in record.retired if entry.key == key] for consumer in fleet
    ]
    needed = min(CONFIRMING, len(fleet))
    if sum(any(entry.seen == REJECTED for entry in entries) for entries in known) >= needed:
        return Retirement.REJECTED
    if any(entry.seen == STILL_VALID for entries in known for entry in entries):
        return Retirement.STILL_VALID
    confirmed = sum(any(entry.accepted for entry in entries) for entries in known) >= needed
    return Retirement.NOT_SEEN if confirmed else Retirement.UNKNOWN


def verdict(standings: dict[str, Standing]) -> MulticartError | None:
    """Return why the fleet is not as it should be at the end of a run; None: every consumer is up to date."""
    if not standings:
        return MulticartError(Reason.NO_CONSUMERS, "No consumer has a file of this account.")
    behind = [f"{name}: {stands.words}" for name, stands in standings.items() if stands.state is not State.UP_TO_DATE]
    if not behind:
        return None
    return MulticartError(
        Reason.NOT_UP_TO_DATE, f"{len(behind)} of {len(standings)} consumers are not up to date: {'; '.join(behind)}."
    )
