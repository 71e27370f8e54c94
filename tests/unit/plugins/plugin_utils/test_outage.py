# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is foretold of the outage, and when more forks are advised."""

from __future__ import annotations

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.outage import Outage, Pace, foretell


def paces(count: int, lanes: int, work: float, cpu: float = 0.0) -> list[Pace]:
    """What rehearsals take that begin as soon as one of the lanes is free."""
    begun = [work * (number // lanes) for number in range(count)]
    return [Pace(began, began + work, cpu) for began in begun]


@pytest.mark.parametrize(
    ("count", "forks", "seconds"), [(4, 1, 8.0), (4, 2, 4.0), (4, 50, 2.0), (1, 5, 2.0), (4, 4, 2.0), (0, 5, 0.0)]
)
def test_slow_hosts_take_turns_at_the_forks(count: int, forks: int, seconds: float) -> None:
    assert foretell(paces(count, forks, 2.0), forks, cores=8).seconds == pytest.approx(seconds)


def test_a_controller_that_computes_all_the_time_is_the_bound() -> None:
    assert foretell(paces(10, 10, 1.0, cpu=0.5), 10, cores=2).seconds == pytest.approx(2.5)


def test_a_controller_that_is_slow_to_hand_out_tasks_is_the_bound() -> None:
    one_after_another = [Pace(number * 0.5, number * 0.5 + 0.1, 0.0) for number in range(10)]
    assert foretell(one_after_another, 20, cores=2).seconds == pytest.approx(4.6)


def test_more_forks_are_advised_where_the_hosts_wait_for_one() -> None:
    assert foretell(paces(60, 5, 1.0, cpu=0.01), 5, cores=2).forks_worth == 60
    assert foretell(paces(60, 5, 1.0, cpu=0.1), 5, cores=2).forks_worth == 20


@pytest.mark.parametrize(("count", "forks", "cpu"), [(5, 5, 0.0), (4, 20, 0.0), (60, 20, 0.1), (60, 18, 0.1)])
def test_more_forks_are_not_advised_where_they_would_hardly_help(count: int, forks: int, cpu: float) -> None:
    assert foretell(paces(count, forks, 1.0, cpu=cpu), forks, cores=2).forks_worth is None


def test_it_is_said_in_one_sentence() -> None:
    said = Outage(60, 5, 12.04).sentence
    assert "last of 60 consumers" in said and "12.0 s" in said and "5 forks" in said and "--forks" not in said
    assert Outage(60, 5, 12.04, 20).sentence.endswith("It would be shorter with --forks 20.")
