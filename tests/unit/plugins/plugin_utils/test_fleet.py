# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet: how a consumer stands, what is decided for all of them, and what must hold before the key is replaced."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.outage import Outage
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    STEPS,
    Consumer,
    File,
    Plan,
    Record,
    State,
    Step,
    Wanted,
    consumer_from,
    make_plan,
    refuse_unprepared,
    standing,
    stuck_at,
)
from hypothesis import given
from hypothesis import strategies as st

LIVE, DEAD, OTHER = "1" * 16, "0" * 16, "2" * 16
PATH = "/etc/app/env"
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)

CLOSED = Record(open=False, retire=DEAD, held=LIVE)
OPEN_FOR_LIVE = Record(open=True, retire=LIVE, held=LIVE, begun=True)
OPEN_FOR_DEAD = Record(open=True, retire=DEAD, held=LIVE)

CURRENT = File(PATH, (LIVE,))
STALE = File(PATH, (DEAD,))
MISSING = File(PATH)
UNKNOWN = File(PATH, unknown=True)
BEGUN = File(PATH, (LIVE,), record=OPEN_FOR_LIVE)
OVERWRITTEN = File(PATH, (DEAD,), record=Record(open=True, retire=LIVE, held=DEAD, restart=True))
READ_ONLY = File(PATH, (LIVE,), why_not="read-only")


def consumers(*files: File) -> list[Consumer]:
    """Return one consumer for each file."""
    return [Consumer(f"web{number}", (file,)) for number, file in enumerate(files, 1)]


OUTAGE = Outage(hosts=1, forks=2, seconds=4.0)


def decide(*files: File, **wanted: Any) -> Plan:
    return make_plan(consumers(*files), LIVE, Wanted(**wanted), OUTAGE, NOW)


def aged(since: str | None, held: str = LIVE) -> File:
    return File(PATH, (LIVE,), record=Record(open=False, held=held, since=since))


# --- how one consumer stands ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consumer", "state"),
    [
        (Consumer("web", (CURRENT,)), State.CURRENT),
        (Consumer("web", (CURRENT, File("/b", (LIVE, LIVE), record=CLOSED))), State.CURRENT),
        (Consumer("web", (File(PATH, (LIVE,), record=OPEN_FOR_LIVE),)), State.CURRENT),  # waits for a rotation
        (Consumer("web", (READ_ONLY,)), State.CURRENT),  # it cannot be written, but need not be
        (Consumer("web", (CURRENT, File("/b", (LIVE,), record=OPEN_FOR_DEAD))), State.RESTART_DUE),
        (Consumer("web", (File(PATH, (LIVE,), record=Record(True, None, LIVE)),)), State.RESTART_DUE),
        (Consumer("web", (File(PATH, (LIVE,), record=Record(True, LIVE, LIVE, restart=True)),)), State.RESTART_DUE),
        (Consumer("web", (CURRENT, STALE)), State.STALE),
        (Consumer("web", (File(PATH, (LIVE, DEAD)),)), State.STALE),  # one assignment of several
        (Consumer("web", (CURRENT, UNKNOWN)), State.STALE),
        (Consumer("web", (STALE, MISSING)), State.STALE),
        (Consumer("web", (CURRENT, MISSING)), State.MISSING),
        (Consumer("web", (MISSING, File("/b", (LIVE,), record=OPEN_FOR_DEAD))), State.MISSING),
        (Consumer("web"), State.MISSING),
        (Consumer("web", (STALE, File("/b", why_not="is a directory"))), State.UNREADABLE),
        (Consumer("web", failure="no sudo"), State.UNREADABLE),
        (Consumer("web", failure="it is unreachable", reached=False), State.UNREACHABLE),
    ],
)
def test_a_consumer_is_as_good_as_the_worst_of_its_files(consumer: Consumer, state: State) -> None:
    assert consumer.state(LIVE) is state


@pytest.mark.parametrize(
    ("files", "holds"), [((MISSING,), False), ((MISSING, STALE), True), ((UNKNOWN,), True), ((), False)]
)
def test_a_file_that_may_hold_a_key_counts_as_holding_one(files: tuple[File, ...], holds: bool) -> None:
    assert Consumer("web", files).holds_key is holds


def test_every_problem_of_a_consumer_is_told() -> None:
    files = (File("/a", why_not="first"), CURRENT, File("/b", (LIVE,), why_not="second"))
    assert Consumer("web", files).problems == ["first", "second"]
    assert Consumer("web", files, failure="broken").problems == ["broken"]
    assert Consumer("web", (STALE, MISSING)).problems == []
    assert "multicart_deploy_files" in Consumer("web").problems[0]


@pytest.mark.parametrize(
    ("consumer", "text"),
    [
        (Consumer("web", (CURRENT,)), "current"),
        (Consumer("web", (STALE,)), "stale"),
        (Consumer("web", (File("/b", why_not="is a directory"),)), "unreadable: is a directory"),
        (Consumer("web", failure="it is unreachable", reached=False), "unreachable: it is unreachable"),
    ],
)
def test_a_standing_tells_why_where_the_state_does_not(consumer: Consumer, text: str) -> None:
    assert standing(consumer, LIVE) == text


def test_the_standing_of_a_consumer_without_files_names_the_variable_to_set() -> None:
    assert standing(Consumer("web"), LIVE).startswith("missing: it has no files")


# --- what a host registered -----------------------------------------------------------------------


def test_what_a_look_registered_is_read_as_it_is() -> None:
    record = {
        "open": True,
        "begun": True,
        "restart": False,
        "retire": DEAD,
        "held": LIVE,
        "since": "2026-01-01T00:00:00Z",
        "digest": "d",
    }
    file = {"path": "/a", "variable": "KEY", "holds": [LIVE], "unknown": False, "why_not": None, "record": record}
    bare = {"path": "/b", "holds": [], "unknown": True, "why_not": "read-only", "record": None}
    seen = {"files": [file, bare], "lacking": ["it has no service app"]}
    assert consumer_from("web", seen) == Consumer(
        "web",
        (
            File("/a", (LIVE,), record=Record(True, DEAD, LIVE, "2026-01-01T00:00:00Z", begun=True)),
            File("/b", unknown=True, why_not="read-only"),
        ),
        lacking=("it has no service app",),
    )


@pytest.mark.parametrize("seen", [None, {}, {"changed": False, "skipped": True, "skip_reason": "when"}])
def test_a_host_that_was_not_looked_at_is_never_taken_for_ready(seen: dict[str, Any] | None) -> None:
    consumer = consumer_from("web", seen)
    assert consumer.problems == ["it was not looked at in this run"]
    assert consumer.reached


def test_an_unreachable_host_is_told_from_a_broken_one() -> None:
    gone = consumer_from("web", {"unreachable": True, "changed": False, "msg": "ssh: no route"})
    assert (gone.reached, gone.problems) == (False, ["it is unreachable"])
    broken = consumer_from("web", {"failed": True, "msg": "sudo: a password is required"})
    assert (broken.reached, broken.problems) == (True, ["sudo: a password is required"])
    assert consumer_from("web", {"failed": True}).problems == ["its files could not be looked at"]


def test_the_files_of_a_failed_look_are_not_lost() -> None:
    file = {"path": "/a", "holds": [DEAD], "unknown": False, "why_not": "full", "record": None}
    consumer = consumer_from("web", {"failed": True, "msg": "full", "files": [file]})
    assert consumer.failure is None
    assert consumer.state(LIVE) is State.STALE
    assert consumer.problems == ["full"]


# --- where a roll-out got stuck -------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_each_step_of_the_roll_out_that_failed_is_named(name: str) -> None:
    assert stuck_at({name: {"failed": True, "msg": "secret detail"}}) == STEPS[name]
    assert stuck_at({name: {"unreachable": True}}) == "it is unreachable"


def test_a_roll_out_that_went_through_is_stuck_nowhere() -> None:
    good = {"changed": True, "failed": False}
    assert stuck_at({}) is None
    assert stuck_at(dict.fromkeys(STEPS, good)) is None
    assert stuck_at({name: {"skipped": True} for name in STEPS}) is None


def test_the_first_step_that_failed_is_the_one_to_mend() -> None:
    failed = {"failed": True}
    assert (
        stuck_at({"__multicart_deploy_health": failed, "__multicart_deploy_written": failed})
        == (STEPS["__multicart_deploy_written"])
    )


def test_why_a_file_could_not_be_written_is_told_in_its_own_words() -> None:
    written = {"failed": True, "msg": "path /a is full.", "reason": "no_space"}
    assert stuck_at({"__multicart_deploy_written": written}) == "path /a is full"


def test_what_failed_in_our_own_words_is_told_in_them() -> None:
    confirmed = {"failed": True, "msg": "The service cannot be reached.", "reason": "unreachable"}
    assert stuck_at({"__multicart_deploy_confirmed": confirmed}) == "The service cannot be reached"


# --- what is decided: each row of "What it decides" -----------------------------------------------

ROTATE_LIVE = (Step.ROTATE, LIVE)
DEPLOY = (Step.DEPLOY, None)
CATCH_UP = (Step.CATCH_UP, None)


@pytest.mark.parametrize(
    ("row", "files", "wanted", "decision"),
    [
        ("retire the live key", [CURRENT], {"retire": LIVE}, ROTATE_LIVE),
        ("… although the fleet is behind", [CURRENT, STALE], {"retire": LIVE}, ROTATE_LIVE),
        ("… although it is young", [aged("2026-05-31T00:00:00Z")], {"retire": LIVE, "max_age": 30}, ROTATE_LIVE),
        ("… although another is under way", [File(PATH, (LIVE,), record=OPEN_FOR_DEAD)], {"retire": LIVE}, ROTATE_LIVE),
        ("retire a dead key in a file", [STALE, CURRENT], {"retire": DEAD}, DEPLOY),
        ("retire a dead key that a record retired", [File(PATH, (LIVE,), record=CLOSED)], {"retire": DEAD}, DEPLOY),
        ("… that one held", [File(PATH, record=Record(False, None, DEAD))], {"retire": DEAD}, DEPLOY),
        ("… even if it is forced", [STALE], {"retire": DEAD, "force": True}, DEPLOY),
        ("an unfinished rotation", [File(PATH, (LIVE,), record=OPEN_FOR_LIVE), CURRENT], {}, ROTATE_LIVE),
        ("… of a fleet that is behind", [File(PATH, (LIVE,), record=OPEN_FOR_LIVE), STALE], {}, ROTATE_LIVE),
        ("… of a young key", [File(PATH, (LIVE,), record=OPEN_FOR_LIVE)], {"max_age": 30}, ROTATE_LIVE),
        (
            "the live key was overwritten by a slower run",
            [OVERWRITTEN, CURRENT],
            {},
            DEPLOY,
        ),
        ("… and a rotation begun", [OVERWRITTEN, BEGUN], {}, ROTATE_LIVE),
        ("an unfinished roll-out", [File(PATH, (LIVE,), record=OPEN_FOR_DEAD), CURRENT], {}, DEPLOY),
        ("… to a consumer that was not written", [File(PATH, (DEAD,), record=OPEN_FOR_DEAD)], {}, DEPLOY),
        ("… even if it is forced", [File(PATH, (LIVE,), record=OPEN_FOR_DEAD)], {"force": True}, DEPLOY),
        ("a consumer is behind", [CURRENT, STALE], {}, CATCH_UP),
        ("… in one of two assignments", [File(PATH, (LIVE, DEAD))], {}, CATCH_UP),
        ("… or nobody knows", [CURRENT, UNKNOWN], {}, CATCH_UP),
        ("… but it is forced", [CURRENT, STALE], {"force": True}, ROTATE_LIVE),
        ("nobody holds a key", [MISSING, MISSING], {}, CATCH_UP),
        ("… but it is forced", [MISSING], {"force": True}, ROTATE_LIVE),
        ("all hold the live key", [CURRENT, File(PATH, (LIVE,), record=CLOSED)], {}, ROTATE_LIVE),
        ("all that hold one", [CURRENT, MISSING], {}, ROTATE_LIVE),
    ],
)
def test_it_decides_as_the_readme_says(
    row: str, files: list[File], wanted: dict[str, Any], decision: tuple[Step, str | None]
) -> None:
    if "max_age" in wanted:
        wanted = {**wanted, "max_age": timedelta(days=wanted["max_age"])}
    plan = decide(*files, **wanted)
    assert (plan.step, plan.retire) == decision, row
    assert plan.why


@pytest.mark.parametrize("wanted", [{}, {"force": True}, {"max_age": timedelta(0)}])
def test_a_key_to_retire_that_nobody_knows_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(MulticartError) as caught:
        decide(CURRENT, File(PATH, (DEAD,), record=CLOSED), retire=OTHER, **wanted)
    assert caught.value.reason is Reason.RETIRE_UNKNOWN
    assert OTHER in caught.value.what


def test_a_fleet_that_is_behind_is_told_by_name() -> None:
    assert "web2, web3" in decide(CURRENT, STALE, UNKNOWN).why


@pytest.mark.parametrize(
    ("files", "step"),
    [
        ([aged("2026-05-01T00:00:00Z")], Step.ROTATE),  # 31 days
        ([aged("2026-05-01T02:00:00.000+02:00")], Step.ROTATE),
        ([aged("2026-05-02T00:00:00Z")], Step.DEPLOY),  # 30 days are not more than 30 days
        ([aged("2026-05-01T23:59:59.999Z")], Step.ROTATE),
        ([aged("2026-05-30T00:00:00Z"), aged("2026-04-01T00:00:00Z")], Step.ROTATE),  # the oldest record counts
        ([aged("2026-04-01T00:00:00Z", held=DEAD), aged("2026-05-30T00:00:00Z")], Step.DEPLOY),  # of the live key
        ([aged("2027-01-01T00:00:00Z")], Step.DEPLOY),  # in the future
        ([CURRENT], Step.DEPLOY),  # no record at all
        ([aged(None)], Step.DEPLOY),
        ([aged("")], Step.DEPLOY),
        ([aged("last week")], Step.DEPLOY),
        ([aged("2026-01-01T00:00:00")], Step.DEPLOY),  # naive: nobody knows in which zone
        ([aged("2026-01-01T00:00:00"), aged("2026-05-01T00:00:00Z")], Step.ROTATE),
    ],
)
def test_only_a_key_that_is_known_to_be_old_enough_is_rotated(files: list[File], step: Step) -> None:
    assert decide(*files, max_age=timedelta(days=30)).step is step
    assert decide(*files).step is Step.ROTATE


# --- what is refused ------------------------------------------------------------------------------


def test_an_empty_fleet_is_refused() -> None:
    with pytest.raises(MulticartError) as caught:
        decide(retire=LIVE, force=True)
    assert caught.value.reason is Reason.NO_CONSUMERS


def test_every_problem_of_every_consumer_is_told_at_once() -> None:
    fleet = [
        Consumer("web1", (CURRENT,)),
        Consumer("web2", (File("/a", why_not="first"), File("/b", (LIVE,), why_not="second"))),
        Consumer("web3", failure="it is unreachable", reached=False),
        Consumer("web4"),
    ]
    with pytest.raises(MulticartError) as caught:
        make_plan(fleet, LIVE, Wanted(retire=LIVE, force=True), OUTAGE, NOW)
    assert caught.value.reason is Reason.NOT_READY
    assert "3 of 4" in caught.value.what
    assert "web2: first, second; web3: it is unreachable; web4: it has no files" in caught.value.what
    assert "web1" not in caught.value.what


def test_what_its_services_and_commands_lack_makes_a_consumer_unready_and_nothing_else() -> None:
    web = Consumer("web", (CURRENT,), lacking=("it has no service app",))
    assert web.state(LIVE) is State.CURRENT
    with pytest.raises(MulticartError, match="web: it has no service app"):
        make_plan([web], LIVE, Wanted(), OUTAGE, NOW)


def test_an_outage_over_the_budget_is_refused_and_one_within_it_is_not() -> None:
    with pytest.raises(MulticartError) as caught:
        make_plan([Consumer("web", (CURRENT,))], LIVE, Wanted(budget=3.9), OUTAGE, NOW)
    assert caught.value.reason is Reason.OVER_BUDGET
    assert "4.0 s after the old one has died, with 2 forks" in caught.value.what
    assert "multicart_rotate_budget=3.9" in caught.value.what
    assert decide(CURRENT, budget=4.0).step is Step.ROTATE


def test_the_budget_does_not_keep_a_fleet_from_being_brought_up_to_date() -> None:
    assert decide(STALE, budget=1.0).step is Step.CATCH_UP


# --- the interlock --------------------------------------------------------------------------------

PREPARED = File(PATH, (LIVE,), record=OPEN_FOR_LIVE)


def test_a_fleet_whose_every_record_is_open_for_the_key_passes() -> None:
    refuse_unprepared([Consumer("web1", (PREPARED, PREPARED)), Consumer("web2", (PREPARED,))], LIVE)
    refuse_unprepared([Consumer("web1", (File(PATH, (DEAD,), record=OPEN_FOR_LIVE),))], LIVE)  # forced while behind


@pytest.mark.parametrize(
    "unprepared",
    [
        Consumer("web2"),
        Consumer("web2", (PREPARED, CURRENT)),  # no record
        Consumer("web2", (PREPARED, File("/b", (LIVE,), record=Record(False, LIVE, LIVE)))),  # closed
        Consumer("web2", (File("/b", (LIVE,), record=OPEN_FOR_DEAD),)),  # opened for another key
        Consumer("web2", (File("/b", (LIVE,), record=Record(True, None, LIVE)),)),  # opened for no key
        Consumer("web2", (File("/b", (LIVE,), why_not="full", record=OPEN_FOR_LIVE),)),
        Consumer("web2", failure="it was not looked at in this run"),
        Consumer("web2", failure="it is unreachable", reached=False),
        Consumer("web2", (PREPARED,), failure="a later task failed"),
    ],
)
def test_one_consumer_that_is_not_prepared_stops_the_rotation(unprepared: Consumer) -> None:
    with pytest.raises(MulticartError) as caught:
        refuse_unprepared([Consumer("web1", (PREPARED,)), unprepared], LIVE)
    assert caught.value.reason is Reason.NOT_PREPARED
    assert caught.value.what == "Not made ready in this run: web2."


@pytest.mark.parametrize(("fleet", "retire"), [([], LIVE), ([Consumer("web", (PREPARED,))], None)])
def test_nobody_prepared_or_nothing_decided_stops_the_rotation(fleet: list[Consumer], retire: str | None) -> None:
    with pytest.raises(MulticartError) as caught:
        refuse_unprepared(fleet, retire)
    assert caught.value.reason is Reason.NOT_PREPARED


# --- whatever the fleet looks like ----------------------------------------------------------------

KEYS = st.sampled_from([LIVE, DEAD, OTHER])
SINCE = st.sampled_from([None, "", "2025-01-01T00:00:00Z", "2026-05-31T00:00:00Z", "2025-01-01T00:00:00", "soon"])
RECORDS = st.builds(Record, st.booleans(), st.none() | KEYS, st.none() | KEYS, SINCE)
FILES = st.builds(
    File,
    st.just(PATH),
    st.lists(KEYS, max_size=2).map(tuple),
    unknown=st.sampled_from([False, False, True]),
    why_not=st.sampled_from([None, None, None, None, "full"]),
    record=st.none() | RECORDS,
)
FLEETS = st.lists(
    st.builds(
        Consumer,
        st.sampled_from(["web1", "web2", "web3"]),
        st.lists(FILES, max_size=2).map(tuple),
        st.sampled_from([None, None, None, None, "broken"]),
    ),
    max_size=3,
    unique_by=lambda consumer: consumer.name,
)
WANTED = st.builds(
    Wanted, st.none() | KEYS, st.booleans(), st.none() | st.timedeltas(timedelta(0), timedelta(days=999)), st.none()
)


@given(FLEETS, WANTED)
def test_no_fleet_is_rotated_that_should_not_be(fleet: list[Consumer], wanted: Wanted) -> None:
    try:
        plan = make_plan(fleet, LIVE, wanted, 5, NOW)
    except MulticartError as error:
        assert error.reason in (Reason.NO_CONSUMERS, Reason.NOT_READY, Reason.RETIRE_UNKNOWN)
        return
    assert fleet and not any(consumer.problems for consumer in fleet)
    assert plan.retire == (LIVE if plan.step is Step.ROTATE else None)
    if plan.step is Step.ROTATE and not wanted.force and wanted.retire is None:
        begun = any(_is_begun(file) for consumer in fleet for file in consumer.files)
        assert begun or not any(consumer.state(LIVE) is State.STALE for consumer in fleet)


def _is_begun(file: File) -> bool:
    return file.record is not None and file.record.open and file.record.retire == LIVE
