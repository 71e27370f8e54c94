# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rotate.yml: never a rotation without readiness, never green without the effect."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.integration.harness import GROUP, Fleet


def hard_linked(fleet: Fleet) -> None:
    os.link(fleet.hosts["web2"].env, fleet.folder / "hosts" / "another-name")


def with_localhost(fleet: Fleet) -> None:
    fleet.groups[GROUP] = list(fleet.hosts)
    fleet.add("localhost")


REFUSED: dict[str, tuple[Callable[[Fleet], object] | None, list[str], str, str]] = {
    "misspelled_group": (None, ["-e", "multicart_hosts=multicart_comsumers"], "no_consumers", "multicart_comsumers"),
    "empty_group": (lambda fleet: fleet.groups.update({GROUP: []}), [], "no_consumers", GROUP),
    "hosts_without_files": (
        lambda fleet: fleet.hosts["web2"].variables.pop("multicart_deploy_files"),
        [],
        "not_ready",
        "web2: it has no files",
    ),
    "limit_to_a_part": (None, ["--limit", "web1"], "left_out", "web2"),
    "limit_to_localhost": (with_localhost, ["--limit", "localhost"], "left_out", "web1, web2"),
    "inventory_sets_multicart_hosts": (
        lambda fleet: fleet.hosts["web2"].variables.update(multicart_hosts="web1"),
        [],
        "hosts_differ",
        "web2",
    ),
    "variable_of_the_run_for_one_consumer": (
        lambda fleet: fleet.hosts["web2"].variables.update(multicart_rotate_max_age="30d"),
        [],
        "hosts_differ",
        "multicart_rotate_max_age (web1 and web2)",
    ),
    "not_confirmed": (None, ["-e", "multicart_rotate_confirm=false"], "not_confirmed", "confirm"),
    "too_few_hosts": (None, ["-e", "multicart_rotate_min_hosts=3"], "too_few_hosts", "3"),
    "unreachable_host": (lambda fleet: fleet.add_unreachable("gone"), [], "not_ready", "gone: it is unreachable"),
    "unwritable_file": (hard_linked, [], "not_ready", "web2: "),
    "absent_service_and_command": (
        lambda fleet: fleet.hosts["web2"].variables.update(
            multicart_deploy_services=["no-such-service"], multicart_deploy_health_checks=["no-such-command --all"]
        ),
        [],
        "not_ready",
        "no-such-command",
    ),
    "retire_of_a_bad_shape": (
        None,
        ["-e", "multicart_rotate_retire=oops"],
        "invalid_option",
        "multicart_rotate_retire",
    ),
    "max_age_of_a_bad_shape": (
        None,
        ["-e", "multicart_rotate_max_age=old"],
        "invalid_option",
        "multicart_rotate_max_age",
    ),
    "retire_nobody_knows": (
        None,
        ["-e", "multicart_rotate_retire=0123456789abcdef"],
        "retire_unknown",
        "0123456789abcdef",
    ),
    "dead_token": (lambda fleet: fleet.sandbox.expire(fleet.email), [], "credentials_rejected", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_changed(fleet: Fleet, case: str) -> None:
    prepare, arguments, reason, named = REFUSED[case]
    fleet.add_many(2)
    if prepare:
        prepare(fleet)
    before = fleet.snapshot()
    run = fleet.rotate(*arguments)
    assert (run.green, run.reason) == (False, reason), run
    assert named in run.message, run
    assert fleet.rotations == 0
    assert fleet.snapshot() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--start-at-task", "multicart.keys.multicart_rotate : Rotate the key"],
        ["--start-at-task", "Rotate the key"],
        ["--start-at-task", "Check the result of each host"],
        ["--limit", "nobody"],
        ["--limit", "localhost"],
    ],
    ids=" ".join,
)
def test_a_run_that_ansible_would_cut_short_is_refused(fleet: Fleet, arguments: list[str]) -> None:
    fleet.add_many(2)
    before = fleet.snapshot()
    run = fleet.rotate(*arguments)
    assert not run.green, run
    assert fleet.rotations == 0
    assert fleet.snapshot() == before


@pytest.mark.parametrize(
    "arguments",
    [["--start-at-task", "No such task"], ["--skip-tags", "always"], ["--skip-tags", "tagged"]],
    ids=" ".join,
)
def test_where_ansible_runs_no_task_at_all_nothing_is_done(fleet: Fleet, arguments: list[str]) -> None:
    """Whether that is red is Ansible's alone to decide, as there is nothing of ours that runs."""
    fleet.add_many(2)
    before = fleet.snapshot()
    run = fleet.rotate(*arguments)
    assert run.tasks == [], run
    assert fleet.requests() == []
    assert fleet.snapshot() == before


def test_a_limit_that_leaves_no_consumer_out_and_tags_are_no_obstacle(fleet: Fleet) -> None:
    fleet.add_many(2)
    run = fleet.rotate("--limit", GROUP, "--tags", "x")
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_confirmation_is_asked_for(fleet: Fleet) -> None:
    fleet.add("web1")
    before = fleet.snapshot()
    run = fleet.run("multicart.keys.rotate")
    assert (run.green, run.reason) == (False, "not_confirmed"), run
    # It is a new rotation alone that has to be confirmed, and what is needed shows only once the key was read.
    assert {entry["endpoint"] for entry in fleet.requests()} == {"read"}
    assert fleet.snapshot() == before


@pytest.mark.parametrize("playbook", ["deploy", "audit"])
def test_the_other_playbooks_are_not_green_without_a_consumer_either(fleet: Fleet, playbook: str) -> None:
    fleet.add_many(2)
    run = fleet.run(f"multicart.keys.{playbook}", "-e", "multicart_hosts=multicart_comsumers")
    assert (run.green, run.reason) == (False, "no_consumers"), run


def test_a_dead_host_can_be_left_out_on_purpose(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add_unreachable("gone")
    run = fleet.rotate("-e", f"multicart_hosts={GROUP}:!gone")
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, ["gone"])


def test_deploy_brings_a_limited_part_up_to_date(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.deploy("--limit", "web1")
    assert run.green, run
    assert fleet.stale == ["web2"]
