# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report's data: what is told of a run and its consumers, and what never is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Registered
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.runs import (
    DONE,
    MASKED,
    NEW,
    OLD,
    PLAN,
    PROVEN,
    ROTATED,
    SICK,
    UNREACHABLE,
    holding,
    host,
    told_of,
)

ROOT = Path(__file__).resolve().parents[4]
REFUSED = {"failed": True, "outcome": "unchanged", "reason": "refused", "msg": "No."}
UNREAD = {
    "failed": True,
    "outcome": "rotated",
    "rotated_at": ROTATED["rotated_at"],
    "previous_key_fingerprint": OLD,
    "reason": "new_key_unreadable",
    "msg": "Not read.",
}
LOST = {"failed": True, "outcome": "unknown", "reason": "unreachable", "msg": "No answer."}


def test_a_run_in_which_all_went_well() -> None:
    times = holding(NEW, written=1.25, restarted=2.5)
    report = told_of(
        {"b": host(written=times, health={"times": {"healthy": "2026-06-20T03:00:03.500Z"}}), "a": host(0.5)}
    )
    assert (report.outcome, report.reason, report.window, report.outage) == ("rotated", None, 1.25, 3.5)
    assert [line.name for line in report.lines] == ["a", "b"]
    assert report.lines[1].seconds == {"ready": -5.0, "written": 1.25, "restarted": 2.5, "healthy": 3.5}
    assert [line.outage for line in report.lines] == [0.5, 3.5]


def test_who_is_not_done_comes_first_and_keeps_the_outage_open() -> None:
    report = told_of({"a": host(1), "sick": host(2, **SICK), "gone": host(**UNREACHABLE)})
    assert [(line.name, line.state, line.why) for line in report.lines] == [
        ("sick", "stale", "It is not healthy"),
        ("gone", "stale", "it is unreachable"),
        ("a", "current", None),
    ]
    assert (report.reason, report.window, report.outage) == ("not_current", 2.0, None)
    assert [line.outage for line in report.lines] == [None, None, 1.0]


@pytest.mark.parametrize(
    ("run", "told", "state"),
    [
        (DONE, ("rotated", None, NEW), "stale"),
        (Registered(PLAN, REFUSED, {}, {}), ("unchanged", "refused", OLD), "current"),
        (Registered(PLAN, {}, {}, {}), ("unchanged", None, OLD), "current"),
        (Registered(PLAN, UNREAD, {}, {}), ("rotated", "new_key_unreadable", None), "stale"),
        (Registered(PLAN, LOST, {}, {}), ("unknown", "unreachable", None), "unknown"),
        (
            Registered(PLAN, ROTATED, {"failed": True, "reason": "old_key_still_valid", "msg": "!"}, {}),
            ("rotated", "old_key_still_valid", NEW),
            "stale",
        ),
        (Registered({"step": "deploy"}, {}, {}, {"key_fingerprint": OLD}), ("not_needed", None, OLD), "current"),
        (
            Registered({"step": "catch_up"}, {}, {}, {"key_fingerprint": OLD}),
            ("not_needed", "caught_up", OLD),
            "current",
        ),
    ],
)
def test_what_a_consumer_that_was_only_looked_at_means(
    run: Registered, told: tuple[str, str | None, str | None], state: str
) -> None:
    report = told_of({"web": host()}, run)
    live = report.new_key.fingerprint if report.new_key else None
    reason = "not_current" if told[1] is None and state != "current" else told[1]
    assert (report.outcome, report.reason, live) == (told[0], reason, told[2])
    assert report.lines[0].state == state


def test_a_run_that_only_finished_another_has_no_window() -> None:
    run = Registered({"step": "deploy"}, {}, {}, PROVEN)
    report = told_of({"web": host(3)}, run)
    assert (report.window, report.outage, report.lines[0].seconds) == (None, None, {})
    assert list(report.lines[0].times) == ["ready", "written"]
    assert report.worth_keeping


def test_a_run_that_found_all_in_order_is_not_worth_a_report() -> None:
    run = Registered({"step": "deploy"}, {}, {}, PROVEN)
    assert not told_of({"web": host(written=holding(NEW, written=1))}, run).worth_keeping
    assert told_of({"web": host(**UNREACHABLE)}, run).worth_keeping


def test_a_fleet_without_consumers_is_told_too() -> None:
    assert told_of({}).reason == "no_consumers"


# --- what is never told ---------------------------------------------------------------------------

CANARY = "Zq8vTn3kWx"
TEXT = st.sampled_from([CANARY, f"173axcs.{CANARY}", f"{CANARY}.{'•' * 16}.{'•' * 16}", 7, None, ["x"], {"a": 1}, True])


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from([*ROTATED, *PROVEN, "api_key", "diff", "stdout", "exception"]),
        TEXT,
    )
)
def test_nothing_goes_on_that_is_neither_mask_nor_fingerprint_nor_moment(wrong: dict[str, Any]) -> None:
    run = Registered({**PLAN, "why": CANARY}, {**ROTATED, **wrong}, wrong, {**wrong, "msg": CANARY})
    written = {**holding(NEW), "times": {"written": CANARY}, "stdout": CANARY}
    registered = host(written, health={"msg": CANARY})
    report = told_of({"web": registered}, run)
    assert CANARY not in json.dumps(report.to_json())


def test_a_failure_without_a_reason_does_not_speak() -> None:
    run = Registered(PLAN, {"failed": True, "msg": CANARY, "exception": CANARY}, {}, {})
    report = told_of({"web": host(written={"failed": True, "msg": CANARY})}, run)
    assert report.reason == "internal_error"
    assert CANARY not in json.dumps(report.to_json())


JUNK = [None, True, 0, -1.5, "", "now", "2026-06-20", "2026-06-20T03:00:00", "9999-99-99T00:00:00Z", [], {"written": 1}]
TIMES = st.none() | st.dictionaries(
    st.sampled_from(["ready", "written", "restarted", "healthy"]), st.sampled_from(JUNK)
)


@settings(deadline=None, max_examples=30)
@given(seen=TIMES, written=TIMES, healthy=TIMES)
def test_times_of_any_shape_break_nothing(seen: Any, written: Any, healthy: Any) -> None:
    registered = {
        "__multicart_deploy_seen": {**holding(OLD), "times": seen},
        "__multicart_deploy_written": {**holding(NEW), "times": written},
        "__multicart_deploy_health": {"skipped": True, "times": healthy},
    }
    report = told_of({"web": registered, "other": {}})
    assert json.loads(json.dumps(report.to_json()))["consumers"]["total"] == 2


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1e5), st.booleans()), max_size=12))
def test_the_window_ends_with_the_last_write_and_the_outage_not_before(writes: list[tuple[float, bool]]) -> None:
    hosts = {f"web{number}": host(at, **({} if well else SICK)) for number, (at, well) in enumerate(writes)}
    report = told_of(hosts)
    assert len(report.lines) == len(hosts) and {line.name for line in report.lines} == set(hosts)
    assert [line.done for line in report.lines] == sorted(line.done for line in report.lines)
    done = [line.seconds["written"] for line in report.lines if line.done]
    assert done == sorted(done)
    if writes:
        assert report.window == pytest.approx(max(at for at, _well in writes), abs=0.002)
    if writes and all(well for _at, well in writes):
        assert report.outage == report.window
    else:
        assert report.outage is None


# --- the documentation ----------------------------------------------------------------------------


def test_the_readme_describes_exactly_the_fields_of_the_file() -> None:
    found = told_of({"web": host(1)}).to_json()
    readme = (ROOT / "roles/multicart_report/README.md").read_text(encoding="utf-8").split("## The JSON file")[1]
    cells = re.findall(r"^\| (`.*?`) \|", readme, re.MULTILINE)
    described = {name for cell in cells for name in re.findall(r"`([a-z_\[\].]+)`", cell)} - {"field"}
    assert described == {*found, *(f"hosts[].{name}" for name in found["hosts"][0])}


def test_a_mask_is_told_with_its_key() -> None:
    key = told_of({}).to_json()["old_key"]
    assert key == {"masked": MASKED, "fingerprint": OLD}
