# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles in a play of the user's own."""

from __future__ import annotations

import pytest

from tests.integration.harness import Fleet, Run, note

ROTATE = "roles: [multicart.keys.multicart_rotate]"
BOTH = "roles: [multicart.keys.multicart_rotate, multicart.keys.multicart_deploy]"
CONFIRMED = ("-e", "multicart_rotate_confirm=true")


def play(fleet: Fleet, head: str, *arguments: str) -> Run:
    return fleet.play("[]", *arguments, head=head)


def test_provisioning_brings_the_live_key_and_then_changes_nothing(fleet: Fleet) -> None:
    host = fleet.add("web1", None, multicart_deploy_commands=[note("restarted")])
    assert play(fleet, "roles: [multicart.keys.multicart_deploy]").green
    assert (fleet.stale, host.log, fleet.rotations) == ([], ["restarted"], 0)
    again = play(fleet, "roles: [multicart.keys.multicart_deploy]")
    assert again.green, again
    assert (host.log, again.changed) == (["restarted"], {"web1": False}), again


def test_a_host_that_cannot_be_written_fails_provisioning_with_the_reason(fleet: Fleet) -> None:
    fleet.add("web1", None, multicart_deploy_files=[{"path": str(fleet.folder)}])
    run = play(fleet, "roles: [multicart.keys.multicart_deploy]")
    assert (run.green, run.reason) == (False, "path_is_directory"), run


@pytest.mark.parametrize("roles", [ROTATE, BOTH], ids=["rotate", "both"])
def test_one_role_rotates_once_and_deploys_and_the_other_finds_nothing_left_to_do(fleet: Fleet, roles: str) -> None:
    hosts = fleet.add_many(2, multicart_deploy_commands=[note("restarted")])
    run = play(fleet, roles, *CONFIRMED)
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, []), run
    assert [host.log for host in hosts] == [["restarted"]] * 2
    assert {task.host: task["changed"] for task in run.of("multicart_host")[-2:]} == dict.fromkeys(
        fleet.hosts, roles == ROTATE
    )


def test_a_loop_over_the_role_rotates_once(fleet: Fleet) -> None:
    fleet.add_many(2)
    run = fleet.play("- include_role: {name: multicart.keys.multicart_rotate}\n  loop: [1, 2]", *CONFIRMED)
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, []), run


def test_a_limit_that_leaves_hosts_of_the_play_out_is_refused_before_anything_is_changed(fleet: Fleet) -> None:
    fleet.add_many(2)
    run = play(fleet, BOTH, *CONFIRMED, "--limit", "web1")
    assert (run.green, run.reason) == (False, "left_out"), run
    assert fleet.rotations == 0
    assert play(fleet, BOTH, *CONFIRMED, "--limit", "web1,web2").green


def test_batches_are_refused_before_anything_is_changed(fleet: Fleet) -> None:
    fleet.add_many(2)
    run = play(fleet, "serial: 1\n" + BOTH, *CONFIRMED)
    assert (run.green, run.reason, fleet.rotations) == (False, "not_whole", 0), run


def test_a_rotation_that_failed_fails_the_play(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("rotate", "refused")
    run = play(fleet, BOTH, *CONFIRMED)
    assert (run.green, run.reason, fleet.rotations) == (False, "refused", 0), run
