# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The matrix: whatever is run, and whatever fails, no secret comes out where it should not be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.leaks.conftest import MakeWatched
from tests.leaks.scenario import Scenario
from tests.leaks.scenarios_fleet import FLEET
from tests.leaks.scenarios_tasks import TASKS
from tests.leaks.watched import CHECK, LOUD, MINIMAL, ONELINE, PLAIN, RUNNER, RUNNER_CHECK, Style

SCENARIOS = {**TASKS, **FLEET}


def _cells() -> Iterator[object]:
    """Every scenario loud, through ansible-runner, at verbosity 0 and in check mode; quiet styles take turns.

    In the shorter form only the most telling scenarios, each in the next style.
    """
    quiet, check = itertools.cycle((PLAIN, MINIMAL, ONELINE)), itertools.cycle((CHECK, RUNNER_CHECK))
    turn = itertools.cycle(range(4))
    for name, scenario in SCENARIOS.items():
        styles = (RUNNER, LOUD, next(quiet), next(check))
        quick = styles[next(turn)] if scenario.quick else None
        for style in styles:
            marks = [] if style is quick else [pytest.mark.full]
            yield pytest.param(scenario, style, id=f"{name}-{style.name}", marks=marks)


@pytest.mark.parametrize(("style", "in_short"), [(LOUD, True), (RUNNER, True), (MINIMAL, False)])
def test_both_ways_of_writing_are_searched(style: Style, in_short: bool, watched: MakeWatched) -> None:
    fleet = watched(style)
    fleet.add("web1")
    run = fleet.rotate()
    assert run.green, run
    assert [way for task in run.of("multicart_consumer") if (way := task.get("in_short")) is not None] == [in_short] * 2


@pytest.mark.parametrize(("scenario", "style"), list(_cells()))
def test_nothing_comes_out(scenario: Scenario, style: Style, watched: MakeWatched) -> None:
    fleet = watched(style)
    run = scenario.run(fleet)
    if "--check" not in style.arguments:  # a prediction may be spared the failure
        assert (run.green, run.reason or "") == (scenario.reason is None, scenario.reason or ""), run
    assert [leak for leak in fleet.leaks() if leak.sink not in scenario.shown] == [], run
