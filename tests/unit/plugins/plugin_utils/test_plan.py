# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of the rotation decides: each rule by example, and all small fleets against the rules in other words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.allowed_hours import parse
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    AccountState,
    Plan,
    Refusals,
    Retirement,
    Step,
    Wanted,
    age_of_key,
    impossible_dates,
    make_plan,
    pending_rotation,
    refuse_unready,
    retirement,
    verdict,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Consumer,
    File,
    Inspection,
    Problem,
    Process,
    Record,
    Retired,
    Standing,
    State,
)

LIVE, OLD, OLDER, UNKNOWN = "1" * 16, "0" * 16, "2" * 16, "f" * 16
PATH = "/etc/app/env"
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
ACCOUNT = AccountState(LIVE)
FULL = Problem("no_space", "the file system is full.")


def consumer(name: str, *files: File, failure: Problem | None = None, lacking: Sequence[Problem] = ()) -> Consumer:
    return Consumer(name, Inspection(files, tuple(lacking)) if files else None, failure)


def fleet_of(*files: File) -> list[Consumer]:
    """Return one consumer for each file."""
    return [consumer(f"web{number}", file) for number, file in enumerate(files, 1)]


def holding(key: str | None, record: Record | None = None, **more: Any) -> File:
    return File(PATH, holds=(key,) if key else (), record=record, **more)


def rotation(retire: str | None, is_open: bool = True, concluded: bool = False, **more: Any) -> Record:
    """Return the record of a consumer that a rotation has been at."""
    return Record(open=is_open, retire=retire, concluded=concluded, **more)


def decide(*files: File, account: AccountState = ACCOUNT, refusals: Refusals | None = None, **wanted: Any) -> Plan:
    wanted = {"confirmed": True, **wanted}
    return make_plan(fleet_of(*files), account, Wanted(**wanted), NOW, refusals or Refusals())


GOOD, STALE, MISSING = holding(LIVE), holding(OLD), holding(None)
KNOWN_STALE = holding(OLD, Record(held=LIVE))
UNREADABLE = File(PATH, problem=FULL)
DUE = holding(LIVE, Record(open=True), restart_due=True)
PENDING = holding(LIVE, rotation(OLD))
DONE = holding(LIVE, rotation(OLD, is_open=False))
CONCLUDED = holding(LIVE, rotation(OLD, is_open=False, concluded=True))

ROTATE = (Step.ROTATE, LIVE)
FINISH = (Step.FINISH, OLD)
CATCH_UP = (Step.CATCH_UP, None)


# --- the order of decisions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "files", "wanted", "decision"),
    [
        ("retire the live key", [GOOD], {"retire": LIVE}, ROTATE),
        ("… although the fleet is behind", [GOOD, STALE, DUE], {"retire": LIVE}, ROTATE),
        ("… although it is young", [GOOD], {"retire": LIVE, "max_age": 999 * DAY}, ROTATE),
        ("… although another rotation is pending", [PENDING, PENDING], {"retire": LIVE}, ROTATE),
        ("retire a former key that is in a file", [KNOWN_STALE, GOOD], {"retire": OLD}, (Step.RETIRED, OLD)),
        ("… that a rotation was to retire", [CONCLUDED], {"retire": OLD}, (Step.RETIRED, OLD)),
        ("… that a file was given", [holding(None, Record(held=OLD))], {"retire": OLD}, (Step.RETIRED, OLD)),
        (
            "… that was retired once",
            [
                holding(
                    LIVE, Record(retired=(Retired(OLDER, "unseen", None, False), Retired(OLD, "unseen", None, True)))
                )
            ],
            {"retire": OLDER},
            (Step.RETIRED, OLDER),
        ),
        ("… even if it is forced", [KNOWN_STALE], {"retire": OLD, "force": True}, (Step.RETIRED, OLD)),
        ("… although its rotation is pending", [PENDING, PENDING], {"retire": OLD}, (Step.RETIRED, OLD)),
        ("a pending rotation", [PENDING, PENDING], {}, FINISH),
        ("… that one consumer has closed", [DONE, PENDING], {}, FINISH),
        ("… of a fleet that is behind", [PENDING, holding(OLD, rotation(OLD))], {}, FINISH),
        ("… even if it is forced", [PENDING, PENDING], {"force": True}, FINISH),
        ("… of a young key", [PENDING, PENDING], {"max_age": 999 * DAY}, FINISH),
        ("… with a consumer that cannot be inspected", [PENDING, PENDING, UNREADABLE], {}, FINISH),
        ("forced", [GOOD, STALE, DUE], {"force": True}, ROTATE),
        ("… though nobody holds a key", [MISSING], {"force": True}, ROTATE),
        ("… though the key is young", [GOOD], {"force": True, "max_age": 999 * DAY}, ROTATE),
        ("a consumer is out of date", [GOOD, STALE], {}, CATCH_UP),
        ("… in one of two assignments", [File(PATH, holds=(LIVE, OLD))], {}, CATCH_UP),
        ("… or that cannot be told", [GOOD, File(PATH, unknown=True)], {}, CATCH_UP),
        ("… or its restart is due", [GOOD, DUE], {}, CATCH_UP),
        ("… and the key is old", [STALE], {"max_age": timedelta(0), "rotate_unknown_age": True}, CATCH_UP),
        ("an unfinished rotation that nobody confirms", [PENDING], {}, (Step.CATCH_UP, OLD)),
        ("… of a consumer that is behind", [holding(OLD, rotation(OLD))], {}, (Step.CATCH_UP, OLD)),
        ("… but it is forced", [PENDING], {"force": True}, ROTATE),
        ("… that was concluded", [holding(LIVE, rotation(OLD, concluded=True))], {}, ROTATE),
        ("… that was closed", [DONE], {}, ROTATE),
        ("… that never retired the key", [holding(LIVE, rotation(LIVE))], {}, ROTATE),
        ("… nor did one that two name", [holding(LIVE, rotation(LIVE))] * 2, {}, ROTATE),
        ("… of a deployment", [holding(LIVE, Record(open=True))], {}, ROTATE),
        ("… in a fleet of two", [PENDING, GOOD], {}, ROTATE),
        ("nobody holds a key", [MISSING, MISSING], {}, CATCH_UP),
        ("all hold the live key", [GOOD, CONCLUDED], {}, ROTATE),
        ("all that hold one", [GOOD, MISSING], {}, ROTATE),
    ],
)
def test_the_first_that_applies_decides(
    row: str, files: list[File], wanted: dict[str, Any], decision: tuple[Step, str | None]
) -> None:
    plan = decide(*files, **wanted)
    assert (plan.step, plan.retire) == decision, row
    assert plan.why


@pytest.mark.parametrize("wanted", [{}, {"force": True}, {"max_age": timedelta(0)}, {"assume_rejected": UNKNOWN}])
def test_a_key_to_retire_that_is_known_nowhere_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(MulticartError) as caught:
        decide(GOOD, CONCLUDED, PENDING, retire=UNKNOWN, **wanted)
    assert caught.value.reason is Reason.RETIRE_UNKNOWN
    assert UNKNOWN in caught.value.what


FOREIGN = Problem("other_account", "it holds the key of another account")


@pytest.mark.parametrize("wanted", [{}, {"force": True}, {"assume_rejected": OLD}])
@pytest.mark.parametrize(
    "files",
    [
        [STALE],
        [STALE, STALE, GOOD],
        [STALE, holding(LIVE, Record(held=LIVE))],
        [STALE, holding(LIVE, rotation(OLDER, is_open=False))],
        [STALE, holding(OLD, Record(held=OLD), problem=FOREIGN)],
        [holding(OLD, rotation(OLD), problem=FOREIGN)],
        [holding(LIVE, rotation(OLD), problem=FOREIGN)],
    ],
)
def test_t13_a_key_of_which_no_record_says_that_it_was_of_this_account_is_not_retired(
    files: list[File], wanted: dict[str, Any]
) -> None:
    with pytest.raises(MulticartError) as caught:
        decide(*files, retire=OLD, **wanted)
    assert caught.value.reason is Reason.OTHER_ACCOUNT
    assert OLD in caught.value.what


def test_a_fleet_without_consumers_is_refused_whatever_is_wanted() -> None:
    for wanted in (Wanted(), Wanted(retire=LIVE), Wanted(force=True, confirmed=True)):
        with pytest.raises(MulticartError) as caught:
            make_plan([], ACCOUNT, wanted, NOW)
        assert caught.value.reason is Reason.NO_CONSUMERS


def test_who_is_behind_is_told_by_name() -> None:
    assert decide(GOOD, STALE, MISSING, DUE).why == "not up to date: web2, web4"
    assert OLD in decide(PENDING, PENDING).why


def test_a_process_that_still_holds_a_retired_key_lets_no_further_rotation_begin() -> None:
    """A re-run of what has failed for it would lock out everybody once more, and fail for it again."""
    kept = holding(LIVE, Record(held=LIVE, retired=(Retired(OLD, "rejected", None, True),)))
    holder = Process(OLD, 7, "shop", "no service", uncovered=False, blamed=True)
    fleet = [consumer("web1", GOOD), Consumer("web2", Inspection((kept,), processes=(holder,)))]
    for wanted in (Wanted(confirmed=True), Wanted(confirmed=True, max_age=timedelta(0), rotate_unknown_age=True)):
        plan = make_plan(fleet, ACCOUNT, wanted, NOW)
        assert (plan.step, plan.why) == (Step.CATCH_UP, "not up to date: web2")
    for wanted in (Wanted(confirmed=True, force=True), Wanted(confirmed=True, retire=LIVE)):
        assert make_plan(fleet, ACCOUNT, wanted, NOW).step is Step.ROTATE


@pytest.mark.parametrize(
    ("files", "wanted", "finishes"),
    [
        ([PENDING, PENDING], {}, True),
        ([PENDING, PENDING], {"retire": OLD}, True),
        ([PENDING], {}, True),
        ([PENDING], {"retire": OLD}, True),
        ([holding(OLD, rotation(OLD))], {}, True),
        ([PENDING, GOOD], {"retire": OLD}, False),  # one record of two is nobody's word but its own
        ([DONE, DONE], {"retire": OLD}, False),
        ([CONCLUDED, CONCLUDED], {"retire": OLD}, False),
        ([KNOWN_STALE, GOOD], {"retire": OLD}, False),
        ([GOOD, STALE], {}, False),
        ([GOOD], {}, False),
    ],
)
def test_a_run_finishes_a_rotation_only_if_records_show_one(
    files: list[File], wanted: dict[str, Any], finishes: bool
) -> None:
    """Otherwise it must not note that the replacement of the key was accepted."""
    assert decide(*files, **wanted).finishes is finishes


def test_a_record_that_names_the_live_key_hides_no_rotation_that_is_finished() -> None:
    both = [holding(LIVE, rotation(LIVE)), File("/b", holds=(LIVE,), record=rotation(OLDER))]
    for count in (1, 2):
        fleet = [consumer(f"web{number}", *both) for number in range(count)]
        assert make_plan(fleet, ACCOUNT, Wanted(retire=OLDER), NOW).finishes is True


WHY: list[tuple[list[File], dict[str, Any], str]] = [
    ([GOOD], {"retire": LIVE}, "the key to retire is the live one"),
    ([KNOWN_STALE], {"retire": OLD}, "the key to retire is not the live one"),
    ([PENDING, PENDING], {}, f"the rotation that retired {OLD} was not finished"),
    ([GOOD], {"force": True}, "it was forced"),
    ([GOOD, STALE, DUE], {}, "not up to date: web2, web3"),
    ([PENDING], {}, "a rotation was not finished, and there is no second consumer that confirms it"),
    ([MISSING], {}, "no consumer is known to hold a key"),
    (
        [GOOD],
        {"max_age": DAY},
        "the age of the key is not known; multicart_rotate_unknown_age says what to do then",
    ),
    (
        [holding(LIVE, Record(held=LIVE, since=NOW - 9 * DAY))],
        {"max_age": 10 * DAY},
        "the key is 9 days old, not more than multicart_rotate_max_age",
    ),
    ([GOOD], {}, "every consumer that holds a key holds the live one"),
]
NO_CONSUMERS = "No consumer has a file of this account."


@pytest.mark.parametrize(("files", "wanted", "why"), WHY)
def test_why_it_is_decided_is_told_in_a_sentence(files: list[File], wanted: dict[str, Any], why: str) -> None:
    assert decide(*files, **wanted).why == why


@pytest.mark.parametrize(
    ("files", "wanted", "what"),
    [
        ([], {}, NO_CONSUMERS),
        (
            [GOOD],
            {"refusals": Refusals(left_out=["db1", "db2"])},
            "These consumers are left out of this run: db1, db2.",
        ),
        (
            [GOOD],
            {"refusals": Refusals(skipped=["db1", "db2"])},
            "These hosts were skipped, or failed, before the rotation: db1, db2.",
        ),
        (
            [GOOD],
            {"refusals": Refusals(differing={"their_b": ("db1", "db2"), "their_a": ("db1", "db3")})},
            "These variables are for the whole run, but are not the same for all consumers: "
            "their_a (db1 and db3), their_b (db1 and db2).",
        ),
        ([GOOD], {"min_hosts": 2}, "This run has 1 consumer, but multicart_rotate_min_hosts=2."),
        ([GOOD], {"confirmed": False}, "1 consumer is ready."),
        ([GOOD, GOOD], {"confirmed": False}, "2 consumers are ready."),
        ([GOOD], {"retire": OLD}, f"Unknown key {OLD}: it is neither live nor recorded on any host."),
        (
            [STALE],
            {"retire": OLD},
            f"The key {OLD} is not the live one, and no record shows that it ever was a key of this account.",
        ),
    ],
)
def test_why_it_is_refused_is_told_in_a_sentence(files: list[File], wanted: dict[str, Any], what: str) -> None:
    with pytest.raises(MulticartError) as caught:
        decide(*files, **wanted)
    assert caught.value.what == what


def test_the_way_on_is_told_where_consumers_differ() -> None:
    with pytest.raises(MulticartError) as caught:
        decide(GOOD, refusals=Refusals(differing={"their_a": ("db1", "db2")}))
    assert caught.value.advice == "Nothing was changed. Set them with -e, or for the group of all consumers."


@pytest.mark.parametrize("warn", [False, True])
def test_a_process_that_nothing_restarts_keeps_a_new_rotation_from_starting(warn: bool) -> None:
    """Unless the operator says otherwise; one that holds another key, or that something restarts, never does."""

    def using(name: str, *processes: Process) -> Consumer:
        return Consumer(name, Inspection((GOOD,), (), processes))

    app = Process(LIVE, 7, "app", "no service", True, True)
    covered, former = replace(app, uncovered=False), replace(app, key=OLD)
    wanted = Wanted(confirmed=True, warn_uncovered=warn)
    harmless = [using("web1", covered, former), consumer("web2", GOOD)]
    assert make_plan(harmless, ACCOUNT, wanted, NOW).step is Step.ROTATE
    fleet = [*harmless, using("web3", covered, app, replace(app, pid=8, where="unit x.service")), using("web4", app)]
    if warn:
        assert make_plan(fleet, ACCOUNT, wanted, NOW).step is Step.ROTATE
        return
    with pytest.raises(MulticartError) as caught:
        make_plan(fleet, ACCOUNT, wanted, NOW)
    assert caught.value.reason is Reason.UNCOVERED_PROCESS
    assert caught.value.what == (
        "These hold the key, and nothing restarts them: web3: app (process 7, no service); "
        "web3: app (process 8, unit x.service); web4: app (process 7, no service)."
    )


# --- the hours in which rotations are allowed -----------------------------------------------------

CLOSED, OPEN = parse("Mon 22:00-23:00 UTC"), parse("Mon 00:00-01:00 UTC")
"""NOW is a Monday at midnight."""
WAITS = "multicart_rotate_allowed_hours allows no new rotation before Mon 2026-06-01 22:00 UTC (2026-06-01T22:00Z)"
DUE_BY_AGE = {"max_age": timedelta(0), "rotate_unknown_age": True}


@pytest.mark.parametrize(
    "wanted", [{}, {"retire": LIVE}, {"force": True}, {"force": True, **DUE_BY_AGE}, {"retire": LIVE, **DUE_BY_AGE}]
)
def test_outside_the_hours_a_new_rotation_is_refused_however_it_was_asked_for(wanted: dict[str, Any]) -> None:
    with pytest.raises(MulticartError) as caught:
        decide(GOOD, GOOD, allowed_hours=CLOSED, confirmed=False, **wanted)
    assert (caught.value.reason, caught.value.what) == (Reason.OUTSIDE_HOURS, f"{WAITS}.")
    assert decide(GOOD, GOOD, allowed_hours=OPEN, **wanted).step is Step.ROTATE


def test_outside_the_hours_a_key_that_is_due_by_its_age_waits() -> None:
    plan = decide(GOOD, GOOD, allowed_hours=CLOSED, **DUE_BY_AGE)
    assert (plan.step, plan.why, plan.retire) == (Step.OUTSIDE_HOURS, WAITS, None)
    assert decide(GOOD, allowed_hours=CLOSED, max_age=DAY).step is Step.NOT_DUE
    assert decide(GOOD, GOOD, allowed_hours=OPEN, **DUE_BY_AGE).step is Step.ROTATE


@pytest.mark.parametrize(
    ("files", "wanted", "step"),
    [
        ([PENDING, PENDING], {}, Step.FINISH),
        ([GOOD, STALE], {}, Step.CATCH_UP),
        ([KNOWN_STALE, GOOD], {"retire": OLD}, Step.RETIRED),
    ],
)
def test_what_was_begun_is_finished_at_any_hour(files: list[File], wanted: dict[str, Any], step: Step) -> None:
    assert decide(*files, allowed_hours=CLOSED, **wanted).step is step


def test_all_else_that_speaks_against_a_rotation_is_told_first() -> None:
    for wanted, reason in (({"min_hosts": 9}, Reason.TOO_FEW_HOSTS), ({"min_hosts": 1}, Reason.NOT_READY)):
        with pytest.raises(MulticartError) as caught:
            decide(GOOD, UNREADABLE, allowed_hours=CLOSED, force=True, **wanted)
        assert caught.value.reason is reason


# --- all small fleets, against the rules in other words -------------------------------------------

RECORDS = {
    "none": None,
    "deploy": Record(open=True),
    "open": rotation(OLD),
    "closed": rotation(OLD, is_open=False),
    "open, concluded": rotation(OLD, concluded=True),
    "closed, concluded": rotation(OLD, is_open=False, concluded=True),
    "open for another": rotation(OLDER),
    "closed for another": rotation(OLDER, is_open=False),
    "open for the live key": rotation(LIVE),
}


def is_pending(records: Sequence[Record | None], key: str) -> bool:
    """Tell whether the rotation that retired a key is pending, as the documentation says it, one record a consumer."""
    having = [record for record in records if record is not None and record.retire is not None]
    named_by = [record for record in having if record.retire == key]
    return (
        key != LIVE
        and any(record.open for record in named_by)
        and len(named_by) >= 2
        and len(named_by) > len(having) - len(named_by)
        and not any(record.concluded for record in named_by)
    )


def fleets(count: int, of: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return all fleets of so many consumers; of four, those that differ in more than their order."""
    if count < 4:
        return list(itertools.product(of, repeat=count))
    return list(itertools.combinations_with_replacement(of, count))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_rotation_is_pending_exactly_when_two_consumers_and_the_majority_say_so(count: int) -> None:
    seen = set()
    for records in fleets(count, RECORDS.values()):
        found = pending_rotation(fleet_of(*(holding(LIVE, record) for record in records)), LIVE)
        expected = [key for key in (OLD, OLDER) if is_pending(records, key)]
        assert [found] == (expected or [None]), records
        seen.add(found)
    assert seen == ({None} if count == 1 else {None, OLD, OLDER})


def test_consumers_count_and_not_their_files() -> None:
    files = [holding(LIVE, rotation(OLD)), File("/b", holds=(LIVE,), record=rotation(OLD))]
    one = consumer("web1", *files)
    assert pending_rotation([one, consumer("web2", GOOD)], LIVE) is None
    assert pending_rotation([one, consumer("web2", DONE)], LIVE) == OLD
    # The majority is one of consumers, too.
    others = [consumer(f"db{number}", holding(LIVE, rotation(OLDER))) for number in (1, 2)]
    assert pending_rotation([one, consumer("web2", DONE), *others], LIVE) is None
    concluded = File("/c", holds=(LIVE,), record=rotation(OLD, is_open=False, concluded=True))
    assert pending_rotation([consumer("web1", *files, concluded), consumer("web2", DONE)], LIVE) is None


def test_a_consumer_whose_files_name_different_keys_counts_for_both() -> None:
    torn = consumer("web1", PENDING, File("/b", holds=(LIVE,), record=rotation(OLDER)))
    assert pending_rotation([torn, consumer("web2", PENDING)], LIVE) == OLD
    assert pending_rotation([torn, consumer("web2", holding(LIVE, rotation(OLDER)))], LIVE) == OLDER


HOLDS = {
    "up to date": {"key": LIVE},
    "out of date": {"key": OLD},
    "missing": {"key": None},
    "restart due": {"key": LIVE, "restart_due": True},
    "not ready": {"key": LIVE, "problem": FULL},
}
SOME_RECORDS = [RECORDS[name] for name in ("none", "open", "closed", "closed, concluded")]
KINDS = [(how, record) for how in HOLDS for record in SOME_RECORDS]


def step_by_the_rules(kinds: Sequence[tuple[str, Record | None]], wanted: Wanted) -> Step | Reason:
    """Return what the documentation says: the first that applies."""
    records = [record for _how, record in kinds]
    states = {how for how, _record in kinds}
    new: Step | Reason = Reason.NOT_READY if "not ready" in states else Step.ROTATE
    if wanted.retire == LIVE:
        return new
    if wanted.retire is not None:
        known = any(record is not None and (record.retire == OLD or how == "out of date") for (how, record) in kinds)
        if wanted.retire != OLD or not (known or "out of date" in states):
            return Reason.RETIRE_UNKNOWN
        return Step.RETIRED if known else Reason.OTHER_ACCOUNT
    if is_pending(records, OLD):
        return Step.FINISH
    if wanted.force:
        return new
    if states & {"out of date", "restart due"}:
        return Step.CATCH_UP
    if len(kinds) == 1 and records[0] is not None and records[0].open and not records[0].concluded:
        return Step.CATCH_UP
    return Step.CATCH_UP if states == {"missing"} else new


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "wanted",
    [{}, {"force": True}, {"retire": LIVE}, {"retire": OLD}, {"retire": UNKNOWN, "force": True}],
    ids=lambda wanted: ",".join(wanted) or "nothing",
)
def test_every_small_fleet_is_decided_by_the_rules(count: int, wanted: dict[str, Any]) -> None:
    asked = Wanted(confirmed=True, **wanted)
    for kinds in fleets(count, KINDS):
        fleet = fleet_of(*(holding(HOLDS[how]["key"], record, **_more(how)) for how, record in kinds))
        try:
            decided: Step | Reason = make_plan(fleet, ACCOUNT, asked, NOW).step
        except MulticartError as error:
            decided = error.reason
        assert decided == step_by_the_rules(kinds, asked), kinds


def _more(how: str) -> dict[str, Any]:
    return {name: value for name, value in HOLDS[how].items() if name != "key"}


# --- one consumer that lies, of three -------------------------------------------------------------


def lies() -> list[File]:
    """Return what a consumer may claim: anything."""
    moments = [None, NOW - 999 * DAY, NOW - DAY, NOW + DAY, datetime(1970, 1, 1, tzinfo=timezone.utc)]
    retired = [(), (Retired(OLD, "rejected", None, True),), (Retired(OLD, "still_valid", NOW, False),)]
    records = [
        Record(is_open, retire, concluded, LIVE, since, seen, moved_account=True)
        for is_open, retire, concluded, since, seen in itertools.product(
            (True, False), (None, LIVE, OLD, OLDER), (True, False), moments, retired
        )
    ]
    return [holding(key, record, restart_due=due) for key in (LIVE, OLD, None) for record in records for due in (0, 1)]


LIES = lies()
HONEST = [
    [GOOD, GOOD],
    [STALE, GOOD],
    [DUE, CONCLUDED],
    [MISSING, MISSING],
    [PENDING, GOOD],
    [PENDING, DONE],
    [CONCLUDED, CONCLUDED],
    [holding(LIVE, rotation(OLD, False, True, since=NOW - 40 * DAY, held=LIVE)) for _number in (1, 2)],
    [holding(LIVE, Record(held=LIVE, since=NOW - days * DAY)) for days in (5, 7)],
]


@pytest.mark.parametrize("honest", HONEST)
def test_t14_one_lying_consumer_of_three_makes_no_rotation_pending(honest: list[File]) -> None:
    """T14: a record beside one file says that the rotation of some key is under way."""
    named = {file.record.retire for file in honest if file.record is not None}
    for lie in LIES:
        pending = pending_rotation(fleet_of(*honest, lie), LIVE)
        assert pending is None or pending in named


@pytest.mark.parametrize("honest", HONEST)
def test_one_lying_consumer_of_three_makes_the_key_no_older_than_two_confirm(honest: list[File]) -> None:
    ages = [age for age in (age_of_key(fleet_of(file), ACCOUNT, NOW) for file in honest) if age is not None]
    account = AccountState(LIVE, NOW - 100 * DAY, NOW - 90 * DAY)
    for lie in LIES:
        age = age_of_key(fleet_of(*honest, lie), ACCOUNT, NOW)
        if len(ages) == 2:
            assert age is not None and min(ages) <= age <= max(ages)
        # Nor does it make the account's last change count.
        age = age_of_key(fleet_of(*honest, lie), account, NOW)
        assert age is None or age < 90 * DAY


@pytest.mark.parametrize("honest", HONEST)
@pytest.mark.parametrize("max_age", [None, timedelta(0), 30 * DAY])
def test_one_lying_consumer_of_three_hides_nobody_who_is_behind(honest: list[File], max_age: timedelta | None) -> None:
    behind = [file in (STALE, DUE) for file in honest]
    for lie in LIES:
        plan = decide(*honest, lie, max_age=max_age)
        if any(behind):
            assert plan.step in (Step.CATCH_UP, Step.FINISH)
            assert plan.step is Step.FINISH or "web1" in plan.why


def test_one_lying_consumer_of_three_hides_nobody_who_is_not_ready() -> None:
    for lie in LIES:
        with pytest.raises(MulticartError) as caught:
            decide(GOOD, holding(LIVE, problem=FULL), lie, force=True)
        assert caught.value.reason is Reason.NOT_READY
        assert "web2: the file system is full" in caught.value.what


@pytest.mark.parametrize("seen", ["still_valid", "unseen"])
def test_t12_one_lying_consumer_of_three_makes_no_key_rejected(seen: str) -> None:
    """T12: two have noted that the API still accepts the key, or nothing at all."""
    told = rotation(OLD, False, True, retired=(Retired(OLD, seen, NOW, False),))
    for lie in LIES:
        found = retirement(fleet_of(holding(LIVE, told), holding(LIVE, told), lie), OLD)
        assert found in (Retirement.STILL_VALID, Retirement.UNKNOWN)
        assert seen != "still_valid" or found is Retirement.STILL_VALID


# --- the age of the key ---------------------------------------------------------------------------


def aged(*days: float | None, held: str = LIVE) -> list[Consumer]:
    """Return consumers that hold the live key since so many days."""
    since = [None if number is None else NOW - number * DAY for number in days]
    return fleet_of(*(holding(LIVE, Record(held=held, since=moment)) for moment in since))


@pytest.mark.parametrize(
    ("days", "age"),
    [
        ([], None),
        ([None, None], None),
        ([40], 40),
        ([40, 10], 40),  # of two the oldest
        ([10, 40], 40),
        ([40, 10, None], 40),
        ([40, 20, 10], 20),  # of more the second-oldest
        ([10, 20, 40], 20),
        ([40, 40, 1], 40),
        ([9, 8, 7, 6], 8),
        ([-1], None),  # in the future
        ([-1, 10], 10),
        ([-1, 10, 5], 10),  # of two that are possible the oldest
        ([0], 0),
        ([101], None),  # before there was the account
        ([100], 100),
        ([101, 50, 20], 50),
    ],
)
def test_the_age_is_the_greatest_that_two_consumers_confirm(days: list[float | None], age: float | None) -> None:
    account = AccountState(LIVE, created_at=NOW - 100 * DAY)
    found = age_of_key(aged(*days), account, NOW)
    assert found == (None if age is None else age * DAY)


def test_dates_that_cannot_be_true_are_named_by_their_consumers() -> None:
    account = AccountState(LIVE, created_at=NOW - 100 * DAY)
    fleet = aged(-1, 0, 100, 101, None)
    assert impossible_dates(fleet, account, NOW) == [fleet[0].name, fleet[3].name]
    assert impossible_dates(aged(-1, 101, held=OLD), account, NOW) == []


def test_records_of_another_key_say_nothing_of_the_age() -> None:
    assert age_of_key(aged(40, 50, held=OLD), ACCOUNT, NOW) is None


def test_of_several_files_of_a_consumer_the_oldest_counts() -> None:
    files = [holding(LIVE, Record(held=LIVE, since=NOW - days * DAY)) for days in (3, 9, 6)]
    files.append(holding(LIVE, Record(held=LIVE)))
    assert age_of_key([consumer("web1", *files)], ACCOUNT, NOW) == 9 * DAY


@pytest.mark.parametrize(
    ("moving", "count", "counts"),
    [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True), (1, 3, False), (2, 3, True)],
)
def test_the_accounts_last_change_counts_once_two_have_recorded_that_a_rotation_moves_it(
    moving: int, count: int, counts: bool
) -> None:
    fleet = fleet_of(*(holding(LIVE, Record(moved_account=number < moving)) for number in range(count)))
    account = AccountState(LIVE, NOW - 100 * DAY, NOW - 12 * DAY)
    assert age_of_key(fleet, account, NOW) == (12 * DAY if counts else None)


def test_the_greater_of_both_ages_counts_and_no_change_in_the_future() -> None:
    fleet = fleet_of(*(holding(LIVE, Record(held=LIVE, since=NOW - 5 * DAY, moved_account=True)) for _n in (1, 2)))
    for updated_at, age in ((NOW - 12 * DAY, 12), (NOW - 2 * DAY, 5), (NOW + DAY, 5), (None, 5), (NOW - 5 * DAY, 5)):
        assert age_of_key(fleet, AccountState(LIVE, None, updated_at), NOW) == age * DAY
    assert (
        age_of_key(fleet_of(holding(LIVE, Record(moved_account=True))), AccountState(LIVE, None, NOW), NOW) == 0 * DAY
    )


@pytest.mark.parametrize(
    ("days", "max_age", "step"),
    [
        (31, 30 * DAY, Step.ROTATE),
        (30, 30 * DAY, Step.NOT_DUE),  # not older than that
        (30 + 1e-6, 30 * DAY, Step.ROTATE),
        (1, timedelta(0), Step.ROTATE),
        (0, timedelta(0), Step.NOT_DUE),
        (31, None, Step.ROTATE),
        (0, None, Step.ROTATE),
    ],
)
def test_only_a_key_older_than_the_maximum_is_rotated(days: float, max_age: timedelta | None, step: Step) -> None:
    fleet = aged(days, days)
    plan = make_plan(fleet, ACCOUNT, Wanted(confirmed=True, max_age=max_age), NOW)
    assert plan.step is step
    assert plan.retire == (LIVE if step is Step.ROTATE else None)
    # That it is known is not asked of a key whose age is.
    assert make_plan(fleet, ACCOUNT, Wanted(True, max_age=max_age, rotate_unknown_age=True), NOW).step is step


def test_t15_a_key_of_unknown_age_is_rotated_only_on_request_and_that_is_told() -> None:
    """T15: hosts that replaced others have no record of when the key was made."""
    plan = decide(GOOD, GOOD, max_age=DAY)
    assert plan.step is Step.NOT_DUE
    assert "not known" in plan.why and "multicart_rotate_unknown_age" in plan.why
    assert decide(GOOD, GOOD, max_age=DAY, rotate_unknown_age=True).step is Step.ROTATE


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (29, "29 days"),
        (2, "2 days"),
        (36.06 / 24, "36.1 hours"),
        (0.05, "1.2 hours"),
        (1 / 24, "1.0 hours"),
        (40 / 24 / 60, "40 minutes"),
    ],
)
def test_how_old_the_key_is_is_told(days: float, told: str) -> None:
    plan = make_plan(aged(days), ACCOUNT, Wanted(max_age=30 * DAY), NOW)
    assert f"{told} old" in plan.why and "multicart_rotate_max_age" in plan.why


def test_the_dates_of_the_account_reach_the_decision() -> None:
    account = AccountState(LIVE, NOW - 10 * DAY, None)
    assert decide(*(host.files[0] for host in aged(40, 40)), account=account, max_age=DAY).step is Step.NOT_DUE
    moved = [holding(LIVE, Record(moved_account=True))] * 2
    account = AccountState(LIVE, NOW - 10 * DAY, NOW - 9 * DAY)
    assert decide(*moved, account=account, max_age=DAY).step is Step.ROTATE


# --- what is refused, and only for a new rotation -------------------------------------------------

REFUSED: dict[Reason, dict[str, Any]] = {
    Reason.LEFT_OUT: {"refusals": Refusals(left_out=["db1", "db2"])},
    Reason.NOT_PREPARED: {"refusals": Refusals(skipped=["db1", "db2"])},
    Reason.HOSTS_DIFFER: {"refusals": Refusals(differing={"max_age of db1, db2": ("db1", "db2")})},
    Reason.TOO_FEW_HOSTS: {"min_hosts": 4},
    Reason.NOT_CONFIRMED: {"confirmed": False},
}
NEW_ROTATIONS: list[tuple[list[File], dict[str, Any]]] = [
    ([GOOD, GOOD, GOOD], {}),
    ([STALE, GOOD, GOOD], {"force": True}),
    ([PENDING, PENDING, GOOD], {"retire": LIVE}),
    ([GOOD, GOOD, MISSING], {"max_age": timedelta(0), "rotate_unknown_age": True}),
]
OTHER_STEPS: list[tuple[list[File], dict[str, Any], Step]] = [
    ([PENDING, PENDING, GOOD], {}, Step.FINISH),
    ([PENDING, DONE, UNREADABLE], {"force": True}, Step.FINISH),
    ([STALE, GOOD, UNREADABLE], {}, Step.CATCH_UP),
    ([MISSING, MISSING, UNREADABLE], {}, Step.CATCH_UP),
    ([CONCLUDED, GOOD, UNREADABLE], {"retire": OLD}, Step.RETIRED),
    ([GOOD, GOOD, UNREADABLE], {"max_age": DAY}, Step.NOT_DUE),
]


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize(("files", "wanted"), NEW_ROTATIONS)
def test_a_new_rotation_is_refused_by_name(reason: Reason, files: list[File], wanted: dict[str, Any]) -> None:
    assert decide(*files, **wanted).step is Step.ROTATE
    with pytest.raises(MulticartError) as caught:
        decide(*files, **{**wanted, **REFUSED[reason]})
    assert caught.value.reason is reason
    if "refusals" in REFUSED[reason]:
        assert "db1, db2" in caught.value.what


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize(("files", "wanted", "step"), OTHER_STEPS)
def test_nothing_but_a_new_rotation_is_refused(
    reason: Reason, files: list[File], wanted: dict[str, Any], step: Step
) -> None:
    assert decide(*files, **{**wanted, **REFUSED[reason]}).step is step


def test_without_a_word_of_the_operator_nothing_is_rotated() -> None:
    with pytest.raises(MulticartError) as caught:
        make_plan(fleet_of(GOOD, GOOD), ACCOUNT, Wanted(), NOW)
    assert caught.value.reason is Reason.NOT_CONFIRMED


def test_as_many_hosts_as_are_wanted_are_enough() -> None:
    assert decide(GOOD, GOOD, GOOD, min_hosts=3).step is Step.ROTATE
    with pytest.raises(MulticartError) as caught:
        decide(GOOD, GOOD, GOOD, min_hosts=4)
    assert "3 consumers" in caught.value.what and "multicart_rotate_min_hosts=4" in caught.value.what


def test_every_problem_of_every_consumer_is_told_at_once() -> None:
    lacking = [Problem("not_ready", "it has no service app")]
    fleet = [
        consumer("web1", GOOD),
        consumer("web2", File("/a", holds=(LIVE,), problem=FULL), File("/b", problem=Problem("unreadable", "locked"))),
        Consumer("web3", failure=Problem("unreachable", "it is unreachable"), reached=False),
        consumer("web4", GOOD, lacking=lacking),
        consumer("web5", GOOD, failure=Problem("timed_out", "it hangs at X.")),
    ]
    for refuse in _ways_to_refuse(fleet):
        with pytest.raises(MulticartError) as caught:
            refuse()
        assert caught.value.reason is Reason.NOT_READY
        assert caught.value.what == (
            "4 of 5 consumers are not ready: web2: the file system is full, locked; web3: it is unreachable; "
            "web4: it has no service app; web5: it hangs at X."
        )


def _ways_to_refuse(fleet: list[Consumer]) -> list[Callable[[], object]]:
    wanted = Wanted(confirmed=True, force=True)
    return [lambda: refuse_unready(fleet), lambda: make_plan(fleet, ACCOUNT, wanted, NOW)]


def test_a_fleet_that_is_ready_is_not_refused() -> None:
    refuse_unready(fleet_of(GOOD, STALE, MISSING, DUE, PENDING))
    refuse_unready([])


# --- the end of a run -----------------------------------------------------------------------------

SEEN = {
    "rejected": Retired(OLD, "rejected", NOW, False),
    "valid": Retired(OLD, "still_valid", NOW, True),
    "accepted": Retired(OLD, "unseen", None, True),
    "nothing": Retired(OLD, "unseen", None, False),
    "another": Retired(OLDER, "rejected", NOW, True),
}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (["rejected"], Retirement.REJECTED),
        (["accepted"], Retirement.NOT_SEEN),
        (["valid"], Retirement.STILL_VALID),
        (["nothing"], Retirement.UNKNOWN),
        (["another"], Retirement.UNKNOWN),
        ([None], Retirement.UNKNOWN),
        (["rejected", "rejected"], Retirement.REJECTED),
        (["rejected", "rejected", "valid"], Retirement.REJECTED),
        (["rejected", "valid", "nothing"], Retirement.STILL_VALID),
        (["rejected", "nothing"], Retirement.UNKNOWN),
        (["rejected", "accepted"], Retirement.UNKNOWN),
        (["accepted", "accepted", None], Retirement.NOT_SEEN),
        (["accepted", "accepted", "valid"], Retirement.STILL_VALID),
        (["accepted", "nothing"], Retirement.UNKNOWN),
        ([None, None], Retirement.UNKNOWN),
    ],
)
def test_what_two_records_tell_of_a_retired_key_is_believed(told: list[str | None], found: Retirement) -> None:
    records = [Record(retired=(SEEN[name],) if name else ()) for name in told]
    fleet = fleet_of(*(holding(LIVE, record) for record in records))
    assert retirement(fleet, OLD) is found
    assert retirement(fleet, OLD, assume_rejected=OLDER) is found
    assert retirement(fleet, OLD, assume_rejected=OLD) is Retirement.REJECTED


def test_two_files_of_one_consumer_are_one_that_tells() -> None:
    twice = consumer("web1", *(holding(LIVE, Record(retired=(SEEN[name],))) for name in ("rejected", "accepted") * 2))
    assert retirement([twice, consumer("web2", GOOD)], OLD) is Retirement.UNKNOWN


def test_a_run_is_green_only_if_every_consumer_is_up_to_date() -> None:
    good = Standing(State.UP_TO_DATE)
    assert verdict({"web1": good, "web2": good}) is None
    for state in State:
        error = verdict({"web1": good, "web2": Standing(state, "because")})
        if state is State.UP_TO_DATE:
            assert error is None
            continue
        assert error is not None and error.reason is Reason.NOT_UP_TO_DATE
        assert error.what == f"1 of 2 consumers are not up to date: web2: {state.words}: because."
    error = verdict({"a": Standing(State.MISSING), "b": Standing(State.RESTART_DUE)})
    assert error is not None and "a: missing; b: restart due" in error.what


def test_a_run_without_consumers_is_not_green() -> None:
    error = verdict({})
    assert error is not None and (error.reason, error.what) == (Reason.NO_CONSUMERS, NO_CONSUMERS)
