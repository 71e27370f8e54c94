# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run did, told from what came of its act: the story, the numbers, and nothing that is secret."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import READERS
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Plan, Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import File, Process, Standing, State
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import joined, report_from
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_time
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.runs import (
    DONE,
    NEW,
    OLD,
    RED,
    ROTATE,
    ROTATED,
    START,
    host,
    told_of,
    unhealthy,
    unreachable,
)

ROOT = Path(__file__).resolve().parents[4]


def failed(reason: Reason, rotation: Result | None, live: Live | None) -> ActResult:
    return ActResult(ROTATE, live, rotation, MulticartError(reason, "It failed.", "Do this."))


OUT_OF_DATE = Standing(State.OUT_OF_DATE)
REFUSED = failed(Reason.REFUSED, Result(Outcome.UNCHANGED, OLD, OLD), Live(OLD))
UNREAD = failed(Reason.NEW_KEY_UNREADABLE, Result(Outcome.ROTATED, None, OLD, rotated_at=iso_time(START)), Live(OLD))
LOST = failed(Reason.UNREACHABLE, Result(Outcome.UNKNOWN, None, OLD), Live(OLD))
VALID = replace(ROTATED, verified=False, old_key_rejected=False)
STILL_VALID = failed(Reason.OLD_KEY_STILL_VALID, replace(VALID, error=RED), Live(NEW))
NOT_READY = failed(Reason.NOT_READY, None, Live(OLD))
NO_KEY = ActResult(None, None, None, MulticartError(Reason.UNREACHABLE, "No answer."))
WOULD = ActResult(ROTATE, Live(OLD), Result(Outcome.WOULD_ROTATE, None, OLD), check_mode=True)
RETIRED = ActResult(Plan(Step.RETIRED, "it is not the live one", OLD.fingerprint), Live(NEW))
FINISHED = ActResult(Plan(Step.FINISH, "it was not finished", OLD.fingerprint), Live(NEW))
CAUGHT_UP = ActResult(
    Plan(Step.CATCH_UP, "out of date: web"), Live(NEW), None, MulticartError(Reason.CAUGHT_UP, "Red.")
)
NOT_DUE = ActResult(Plan(Step.NOT_DUE, "the key is young"), Live(NEW))


# --- the story ------------------------------------------------------------------------------------


def test_a_run_in_which_all_went_well() -> None:
    report = told_of({"b": host(1.25, released=0.5, restarted=2.5, healthy=3.5), "a": host(0.5)})
    assert (report.outcome, report.reason, report.message, report.finish) == ("rotated", None, None, None)
    assert (report.last_write, report.outage, report.unfinished) == (1.25, 2.5, [])
    assert [line.name for line in report.lines] == ["a", "b"]
    events = {"armed": -5.0, "released": 0.5, "written": 1.25, "restarted": 2.5, "healthy": 3.5}
    assert report.lines[1].seconds == events
    assert list(report.lines[1].times) == list(events)
    assert [line.outage for line in report.lines] == [0.5, 2.5]
    assert (report.new_key_works, report.old_key_rejected, report.rotated_at) == (True, True, START)


def test_who_is_not_done_comes_first_and_keeps_the_outage_open() -> None:
    report = told_of({"a": host(1), "sick": unhealthy(2), "gone": unreachable()})
    assert [(line.name, line.state, line.why) for line in report.lines] == [
        ("sick", "restart_due", "the health check failed"),
        ("gone", "unreachable", "it is unreachable (No route to host)"),
        ("a", "up_to_date", None),
    ]
    assert (report.reason, report.last_write, report.outage) == ("not_up_to_date", 2.0, None)
    assert [line.outage for line in report.lines] == [None, None, 1.0]
    assert report.message == "2 of 3 consumers are not up to date."
    assert report.finish is not None and "multicart.keys.deploy --limit sick,gone" in report.finish


@pytest.mark.parametrize(
    ("run", "outcome", "reason", "live", "old"),
    [
        (DONE, "rotated", None, NEW, OLD),
        (replace(DONE, error=RED), "rotated", Reason.NOT_UP_TO_DATE, NEW, OLD),
        (REFUSED, "unchanged", Reason.REFUSED, OLD, None),
        (UNREAD, "rotated", Reason.NEW_KEY_UNREADABLE, None, OLD),
        (LOST, "unknown", Reason.UNREACHABLE, None, OLD),
        (STILL_VALID, "rotated", Reason.OLD_KEY_STILL_VALID, NEW, OLD),
        (replace(DONE, rotation=replace(ROTATED, outcome=Outcome.ALREADY_ROTATED)), "already_rotated", None, NEW, OLD),
        (NOT_READY, "not_needed", Reason.NOT_READY, OLD, None),
        (WOULD, "would_rotate", None, None, None),
        (RETIRED, "not_needed", None, NEW, OLD),
        (NO_KEY, "not_needed", Reason.UNREACHABLE, None, None),
        (FINISHED, "not_needed", None, NEW, OLD),
        (CAUGHT_UP, "not_needed", Reason.CAUGHT_UP, NEW, None),
        (NOT_DUE, "not_needed", None, NEW, None),
    ],
)
def test_how_a_run_ended_and_which_keys_it_was_about(
    run: ActResult, outcome: str, reason: Reason | None, live: object, old: object
) -> None:
    report = told_of({"web": host()}, run)
    assert (report.outcome, report.reason) == (outcome, reason and reason.value)
    found = [key and key.fingerprint for key in (report.new_key, report.old_key)]
    assert found == [getattr(key, "fingerprint", None) for key in (live, old)]


@pytest.mark.parametrize(
    "reader",
    [
        replace(unhealthy(1), files=(File(READERS.path, None),)),
        replace(unreachable(), wave=1),
    ],
)
def test_a_host_that_comes_after_the_stores_is_finished_together_with_them(reader: HostResult) -> None:
    """Alone it would be red with stores_behind, each time."""
    for hosts in ({"app": reader, "vault": host(1)}, {"app": reader, "gone": unreachable()}):
        assert told_of(hosts).finish == "ansible-playbook multicart.keys.deploy (with the same -i and -e options)"
    both = joined([told_of({"app": reader}), told_of({"web": host(1)})])
    assert both.finish == "ansible-playbook multicart.keys.deploy (with the same -i and -e options)"
    well = replace(reader, standing=Standing(State.UP_TO_DATE))
    assert "--limit gone" in (told_of({"app": well, "gone": unreachable()}).finish or "")


@pytest.mark.parametrize("run", [REFUSED, UNREAD, STILL_VALID, NOT_READY, CAUGHT_UP])
def test_a_run_that_failed_as_a_whole_is_run_again_and_names_the_key_to_retire(run: ActResult) -> None:
    report = told_of({"web": host()}, run)
    assert report.message == str(run.error)
    again = "the same command again"
    retire = f"{again}, and -e multicart_rotate_retire={OLD.fingerprint}"
    assert report.finish == (again if run is CAUGHT_UP else retire)


@pytest.mark.parametrize("run", [LOST, UNREAD])
def test_while_the_live_key_is_not_known_no_consumer_is_called_up_to_date(run: ActResult) -> None:
    report = told_of({"web": host(1), "db": host(standing=OUT_OF_DATE)}, run)
    assert [(line.state, line.why, line.done) for line in report.lines] == [("unknown", None, False)] * 2


@pytest.mark.parametrize(("run", "works"), [(DONE, True), (STILL_VALID, None), (FINISHED, None)])
def test_that_the_new_key_works_is_told_only_if_it_was_verified(run: ActResult, works: bool | None) -> None:
    assert told_of({"web": host(1)}, run).new_key_works is works


def test_a_run_that_only_finished_another_has_no_outage() -> None:
    report = told_of({"web": host(3)}, FINISHED)
    assert (report.last_write, report.outage, report.lines[0].seconds) == (None, None, {})
    assert list(report.lines[0].times) == ["armed", "written"]
    assert report.worth_keeping


@pytest.mark.parametrize(
    ("consumer", "run", "worth"),
    [
        (host(), NOT_DUE, False),
        (host(1), NOT_DUE, True),  # it brought a host up to date
        (unreachable(), NOT_DUE, True),
        (host(), FINISHED, False),
        (host(), NOT_READY, True),
        (host(), DONE, True),
        (host(), REFUSED, True),
    ],
)
def test_a_run_that_found_all_in_order_is_not_worth_a_report(consumer: HostResult, run: ActResult, worth: bool) -> None:
    assert told_of({"web": consumer}, run).worth_keeping is worth


def test_a_fleet_without_consumers_is_told_too() -> None:
    report = told_of({}, replace(NOT_DUE, error=MulticartError(Reason.NO_CONSUMERS, "None.")))
    assert (report.reason, report.last_write, report.outage, list(report.lines)) == ("no_consumers", None, None, [])


# --- the numbers ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1e5), st.booleans()), max_size=12))
def test_the_last_write_is_the_latest_and_the_outage_not_before(writes: list[tuple[float, bool]]) -> None:
    hosts = {f"web{number}": host(at) if well else unhealthy(at) for number, (at, well) in enumerate(writes)}
    report = told_of(hosts)
    assert len(report.lines) == len(hosts) and {line.name for line in report.lines} == set(hosts)
    assert [line.done for line in report.lines] == sorted(line.done for line in report.lines)
    done = [line.seconds["written"] for line in report.lines if line.done]
    assert done == sorted(done)
    if writes:
        assert report.last_write == pytest.approx(max(at for at, _well in writes), abs=0.002)
    if writes and all(well for _at, well in writes):
        assert report.outage == report.last_write
    else:
        assert report.outage is None


def test_a_consumer_that_needed_nothing_has_no_outage_and_ends_none() -> None:
    report = told_of({"a": host(2, restarted=3), "idle": host()})
    assert [(line.name, line.outage) for line in report.lines] == [("a", 3.0), ("idle", None)]
    assert report.outage == 3.0


def test_what_happened_before_the_rotation_is_no_part_of_the_outage() -> None:
    assert told_of({"a": host(released=1.0)}).outage is None
    assert told_of({"a": host(0.2, armed=-300)}).lines[0].outage == 0.2


# --- the JSON file --------------------------------------------------------------------------------

RUNS = st.sampled_from([DONE, REFUSED, UNREAD, LOST, STILL_VALID, NOT_READY, NO_KEY, FINISHED, CAUGHT_UP, NOT_DUE])
STANDINGS = st.builds(Standing, st.sampled_from(State), st.none() | st.text(min_size=1, max_size=8))
EVENTS = st.dictionaries(
    st.sampled_from(["inspected", "armed", "released", "restarted", "healthy"]), st.integers(-100, 100)
)
FILES = st.builds(File, st.text(max_size=8), st.none() | st.text(max_size=8), recorded=st.booleans())
PROCESSES = st.builds(
    Process, st.just(OLD.fingerprint), st.integers(1, 99), st.text(), st.text(), st.booleans(), st.booleans()
)
MORE = st.fixed_dictionaries(
    {
        "files": st.lists(FILES, max_size=2).map(tuple),
        "checked": st.none() | st.booleans(),
        "wave": st.integers(0, 1),
        "has_stores": st.booleans(),
        "processes": st.lists(PROCESSES, max_size=2).map(tuple),
        "hidden": st.booleans(),
    }
)
HOSTS = st.builds(
    lambda written, standing, events, more: replace(host(written, standing, **events), **more),
    st.none() | st.integers(0, 9),
    STANDINGS,
    EVENTS,
    MORE,
)


IS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "timestamp": lambda value: re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(value)) is not None,
    "object": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
}
"""The types in the role's README."""


def documented() -> dict[str, str]:
    """Return the type of each field of the file, by its path, as the role's README describes them."""
    readme = (ROOT / "roles/multicart_report/README.md").read_text(encoding="utf-8").split("## The JSON file")[1]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) \|", readme, re.MULTILINE)
    return {path: kind for paths, kind in rows for path in re.findall(r"`(.+?)`", paths)}


DOCUMENTED = documented()


def mistakes(value: Any, path: str = "") -> Iterator[str]:
    """Return where a report differs from its documentation."""
    if path and not path.endswith("[]"):
        kinds = DOCUMENTED.get(path, "not documented").removesuffix(", optional").split(" or ")
        if not any(kind in IS and IS[kind](value) for kind in kinds):
            yield f"{path}: {value!r}"
    if isinstance(value, list):
        for entry in value:
            yield from mistakes(entry, f"{path}[]")
    if isinstance(value, dict):
        inside = f"{path}." if path else ""
        names = {name for name in DOCUMENTED if name.startswith(inside) and not set(".[") & set(name[len(inside) :])}
        optional = {name for name in names if DOCUMENTED[name].endswith(", optional")}
        yield from (f"{name} is missing" for name in names - optional - {inside + name for name in value})
        for name, entry in value.items():
            yield from mistakes(entry, inside + name)


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(min_size=1, max_size=6), HOSTS, max_size=4), RUNS)
def test_it_goes_through_the_store_of_the_run_unchanged_is_as_documented_and_holds_no_key(
    hosts: dict[str, HostResult], run: ActResult
) -> None:
    report = told_of(hosts, run)
    text = json.dumps(report.to_json())
    assert report_from(json.loads(text)) == report
    assert list(mistakes(json.loads(text))) == []
    for key in (OLD, NEW):
        assert key.reveal() not in text and key.reveal().partition(".")[2] not in text


EVERYTHING = replace(
    host(0.5, released=0.25, restarted=2.0, healthy=3.0),
    files=(File("/srv/.env", "MULTICART_API_KEY"),),
    checked=True,
    processes=(Process(OLD.fingerprint, 4711, "bash", "a login", uncovered=False, blamed=False),),
    hidden=True,
)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("reason"),
        lambda told: told.update(more=1),
        lambda told: told.update(format="1"),
        lambda told: told.update(made_at="today"),
        lambda told: told["old_key"].pop("masked"),
        lambda told: told["hosts"][0]["files"][0].update(recorded=None),
        lambda told: told["hosts"][0]["times"].update(restarted=1.5),
        lambda told: told["waves"][0]["consumers"].update(armed=True),
    ],
)
def test_a_difference_from_its_documentation_would_be_found(change: Callable[[dict[str, Any]], object]) -> None:
    told = told_of({"web": EVERYTHING}).to_json()
    assert list(mistakes(told)) == []
    change(told)
    assert len(list(mistakes(told))) == 1


def test_the_file_is_as_it_is_documented() -> None:
    told = told_of({"web": EVERYTHING, "vault": replace(unreachable(), has_stores=True)}).to_json()
    assert told["format"] == 1
    assert told["made_at"] == "2026-06-20T03:01:00.000Z"
    assert told["versions"] == {"collection": "1.0.0", "core": "2.21.5"}
    assert told["decision"] == {"step": "rotate", "why": "every consumer holds the live key"}
    assert told["rotated_at"] == "2026-06-20T03:00:00.000Z"
    assert told["old_key"] == {"masked": OLD.masked, "fingerprint": OLD.fingerprint}
    assert told["new_key"] == {"masked": NEW.masked, "fingerprint": NEW.fingerprint}
    assert (told["last_release_seconds"], told["last_write_seconds"], told["outage_seconds"]) == (0.25, 0.5, None)
    assert told["consumers"] == {"total": 2, "unfinished": 1, "armed": 1, "stores": 1}
    assert told["hosts"][0]["kind"] == "store"
    assert told["hosts"][1] == {
        "name": "web",
        "state": "up_to_date",
        "why": None,
        "kind": "host",
        "wave": 0,
        "changed": True,
        "files": [{"path": "/srv/.env", "variable": "MULTICART_API_KEY", "recorded": False}],
        "health_checks_passed": True,
        "processes": [
            {"command": "bash", "pid": 4711, "where": "a login", "key": OLD.fingerprint, "tolerated": True},
        ],
        "processes_hidden": True,
        "times": {
            "armed": "2026-06-20T02:59:55.000Z",
            "released": "2026-06-20T03:00:00.250Z",
            "written": "2026-06-20T03:00:00.500Z",
            "restarted": "2026-06-20T03:00:02.000Z",
            "healthy": "2026-06-20T03:00:03.000Z",
        },
        "seconds": {"armed": -5.0, "released": 0.25, "written": 0.5, "restarted": 2.0, "healthy": 3.0},
        "outage_seconds": 2.0,
    }


def test_each_wave_has_its_own_numbers() -> None:
    app = replace(unhealthy(1.5), wave=1)
    vault = replace(host(0.5, released=0.1), has_stores=True)
    told = told_of({"app": app, "vault": vault, "web": host(0.25, released=0.125, restarted=1.0)}).to_json()
    assert [(wave["wave"], wave["consumers"]["total"], wave["consumers"]["unfinished"]) for wave in told["waves"]] == [
        (0, 2, 0),
        (1, 1, 1),
    ]
    assert [wave["last_release_seconds"] for wave in told["waves"]] == [0.125, None]
    assert [wave["last_write_seconds"] for wave in told["waves"]] == [0.5, 1.5]
    assert [wave["outage_seconds"] for wave in told["waves"]] == [1.0, None]
    assert told["outage_seconds"] is None


def test_a_key_that_was_retired_by_another_run_has_no_mask() -> None:
    assert told_of({}, FINISHED).to_json()["old_key"] == {"masked": None, "fingerprint": OLD.fingerprint}
