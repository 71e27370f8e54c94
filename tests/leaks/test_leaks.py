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
from tests.leaks.watched import CHECK, DEBUG, LOUD, LOUD_AND_ARMED, MINIMAL, ONELINE, PLAIN, RUNNER, RUNNER_CHECK, Style

SCENARIOS = {**TASKS, **FLEET}


def _cells() -> Iterator[object]:
    """Every scenario loud, through ansible-runner, at verbosity 0 and in check mode; quiet styles take turns.

    Those of the fleet are loud over ssh, and served over a local connection otherwise. In the shorter form only the
    most telling scenarios, each in the next style.
    """
    quiet, check = itertools.cycle((PLAIN, MINIMAL, ONELINE)), itertools.cycle((CHECK, RUNNER_CHECK))
    turn = itertools.cycle(range(5))
    for name, scenario in SCENARIOS.items():
        styles = (RUNNER, LOUD_AND_ARMED if name in FLEET else LOUD, next(quiet), next(check), DEBUG)
        quick = styles[next(turn)] if scenario.quick else None
        for style in styles:
            marks = [] if style is quick else [pytest.mark.full]
            yield pytest.param(scenario, style, id=f"{name}-{style.name}", marks=marks)


@pytest.mark.parametrize(("style", "armed"), [(LOUD_AND_ARMED, 1), (RUNNER, 0), (MINIMAL, 0)])
def test_every_way_to_a_host_is_searched(style: Style, armed: int, watched: MakeWatched) -> None:
    """Held open, given the key with the program's input, and given a file with the key."""
    fleet = watched(style)
    fleet.add("web1")
    run = fleet.rotate()
    assert run.green, run
    assert run.armed == armed, run
    assert fleet.leaks() == []


@pytest.mark.parametrize("kind", ["ValueError", "AnsibleError", "RecursionError"])
def test_nothing_comes_out_of_a_conversation_that_breaks(kind: str, watched: MakeWatched) -> None:
    """Where Ansible's own plugin has called the collection, and quotes what is raised there."""
    fleet = watched(DEBUG)
    fleet.add("web1")
    fleet.env["LEAKS_SPOIL"] = f"exchange {kind}"
    run = fleet.rotate()
    assert (run.green, run.reason, run.armed) == (False, "not_up_to_date", 1), run
    assert fleet.leaks() == []


@pytest.mark.parametrize(("scenario", "style"), list(_cells()))
def test_nothing_comes_out(scenario: Scenario, style: Style, watched: MakeWatched) -> None:
    fleet = watched(style)
    run = scenario.run(fleet)
    if "--check" not in style.arguments:  # a prediction may be spared the failure
        assert (run.green, run.reason or "") == (scenario.reason is None, scenario.reason or ""), run
    assert [leak for leak in fleet.leaks() if leak.sink not in scenario.shown] == [], run
