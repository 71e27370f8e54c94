# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that broke off or went wrong: they say so, and running again finishes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.harness import Fleet, fingerprint, note


def test_a_rotation_that_was_prepared_and_did_not_happen_does_not_keep_a_run_from_rotating(fleet: Fleet) -> None:
    fleet.add_many(2)
    for host in fleet.hosts.values():
        host.edit_record(retire=fleet.live_fingerprint, open=True, readers={"any": fleet.live_fingerprint})
    run = fleet.rotate()
    assert run.green, run
    assert (fleet.rotations, fleet.stale, run.step) == (1, [], "rotate")


def test_a_rotation_whose_key_was_revoked_is_finished_by_deploying(fleet: Fleet) -> None:
    old = fleet.live_fingerprint
    restart: dict[str, Any] = {"multicart_deploy_commands": [note("restarted")]}
    fleet.add("untouched", **restart).edit_record(retire=old, open=True, held=old, readers={"any": old})
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("written", **restart).edit_record(retire=old, open=True, held=fleet.live_fingerprint)
    fleet.add("done", **restart).edit_record(retire=old, held=fleet.live_fingerprint)
    run = fleet.rotate()
    assert run.green, run
    assert (fleet.rotations, fleet.stale, run.step) == (0, [], "finish")
    assert f"The rotation of an earlier run was finished: {old} was retired" in run.output
    assert {name: host.log for name, host in fleet.hosts.items()} == {
        "untouched": ["restarted"],
        "written": ["restarted"],
        "done": [],
    }
    assert not any(host.record["open"] for host in fleet.hosts.values())
    assert all(host.record["rotation"] == {"retire": old, "concluded": True} for host in fleet.hosts.values())


def test_hosts_that_fail_in_the_outage_are_named_and_finished_by_deploy(fleet: Fleet) -> None:
    fleet.add("fine")
    linked = fleet.add("linked")
    cut_off = fleet.folder / "cut-off"
    fleet.add_unreachable("gone", once=cut_off)
    failing = fleet.add("failing", multicart_deploy_commands=[note("restarted"), "test -e {{ home }}/allowed"])
    ailing = fleet.add("ailing", multicart_deploy_health_checks=["test -e {{ home }}/allowed"])
    extra = fleet.folder / "hosts" / "another-name"
    old = fleet.live_fingerprint

    def break_hosts() -> None:
        os.link(linked.env, extra)
        fleet.break_off(cut_off)

    with fleet.once_rotated(break_hosts):
        run = fleet.rotate()
    assert (run.green, run.reason) == (False, "not_up_to_date"), run
    assert fleet.rotations == 1
    behind = {"linked": "out of date", "gone": "unreachable", "failing": "restart due", "ailing": "restart due"}
    assert run.states == {"fine": "up to date", **behind}
    assert {task.host for task in run.failures} == set(behind)
    assert sorted(fleet.stale) == ["gone", "linked"]
    assert all(name in run.message for name in behind)
    assert {name for name, host in fleet.hosts.items() if host.record["open"]} == set(behind)
    assert {host.record["rotation"]["retire"] for host in fleet.hosts.values()} == {old}
    # The verdict was given, so that whoever rotates next has a new rotation in mind.
    assert [name for name, host in fleet.hosts.items() if not host.record["rotation"]["concluded"]] == ["gone"]

    extra.unlink()
    cut_off.unlink()
    audit = fleet.audit()
    assert not audit.green
    assert audit.states == {"fine": "up to date", **behind, "gone": "out of date"}
    for host in (failing, ailing):
        (host.folder / "allowed").touch()
    deploy = fleet.deploy()
    assert deploy.green, deploy
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert failing.log == ["restarted", "restarted"]
    assert not any(host.record["open"] for host in fleet.hosts.values())


def test_what_hangs_on_one_host_is_stopped_and_holds_up_nobody(fleet: Fleet) -> None:
    fleet.add("fine", multicart_deploy_commands=[note("restarted")])
    hanging = fleet.add("hanging", multicart_deploy_commands=["sleep 600"], multicart_deploy_timeout=1)
    deaf = "sh -c 'trap : TERM; while :; do sleep 1; done'"
    silent = fleet.add("silent", multicart_deploy_health_checks=[deaf], multicart_deploy_timeout=1)
    run = fleet.rotate()
    assert (run.green, run.reason) == (False, "not_up_to_date"), run
    for name in ("hanging", "silent"):
        assert f"{name}: restart due: the" in run.message
        assert run.own[name].status == "failed" and "stopped after 1 s" in run.own[name]["msg"]
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert (fleet.hosts["fine"].log, fleet.hosts["fine"].record["open"]) == (["restarted"], False)
    for host in (hanging, silent):
        host.variables.update(multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[])
        del host.variables["multicart_deploy_timeout"]
    deploy = fleet.deploy()
    assert deploy.green, deploy
    assert (hanging.log, silent.log, fleet.rotations) == (["restarted"], ["restarted"], 1)


def test_it_is_judged_though_no_host_can_be_reached_any_more(fleet: Fleet) -> None:
    cut_off = fleet.folder / "cut-off"
    for name in ("gone", "lost"):
        fleet.add_unreachable(name, once=cut_off)
    with fleet.once_rotated(lambda: fleet.break_off(cut_off)):
        run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "not_up_to_date", 1), run
    assert run.states == dict.fromkeys(fleet.hosts, "unreachable") and len(run.failures) == 2
    cut_off.unlink()
    again = fleet.rotate()
    assert again.green, again
    assert (fleet.rotations, fleet.stale, again.step) == (1, [], "finish")


def test_in_a_fleet_of_one_nobody_confirms_a_rotation_so_it_is_finished_and_red_once(fleet: Fleet) -> None:
    cut_off = fleet.folder / "cut-off"
    fleet.add_unreachable("gone", once=cut_off)
    old = fleet.live_fingerprint
    with fleet.once_rotated(lambda: fleet.break_off(cut_off)):
        assert not fleet.rotate().green
    cut_off.unlink()
    again = fleet.rotate()
    assert (again.green, again.reason, fleet.rotations, fleet.stale) == (False, "caught_up", 1, []), again
    named = fleet.rotate("-e", f"multicart_rotate_retire={old}")
    assert (named.green, named.step, fleet.rotations) == (True, "retired", 1), named


def test_deploy_reaches_the_others_though_the_first_host_is_gone(fleet: Fleet) -> None:
    fleet.add_unreachable("a")
    fleet.add("b", "changeme")
    run = fleet.deploy()
    assert not run.green, run
    assert [task.host for task in run.failures] == ["a"] and "It is unreachable: Connection refused" in run.message
    assert "b" not in fleet.stale


def test_a_new_key_that_cannot_be_read_is_rolled_out_by_the_next_run(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.fault("rotate", "answer_lost_after_commit")
    fleet.fault("read", "http_401", after=1, times=-1, credential="token")
    run = fleet.rotate()
    assert not run.green, run
    assert run.reason in ("new_key_unreadable", "credentials_rejected"), run
    assert run.outcome in ("rotated", "unknown")
    assert (fleet.rotations, len(fleet.stale)) == (1, 2)
    fleet.sandbox.clear()
    again = fleet.rotate()
    assert again.green, again
    assert (fleet.rotations, fleet.stale, again.step) == (1, [], "finish")


def test_a_refused_rotation_leaves_everything_as_it_was(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("rotate", "refused")
    run = fleet.rotate()
    assert (run.green, run.reason) == (False, "refused"), run
    assert run.outcome == "unchanged"
    assert (fleet.rotations, fleet.stale) == (0, [])


def rotate_behind(fleet: Fleet, only_once: bool, seconds: float = 0.0) -> str:
    """Return a command that rotates as somebody in the dashboard would, and then takes its time."""
    call = f'curl -sS -o /dev/null {fleet.sandbox.control}/rotate --json \'{{"email": "{fleet.email}"}}\''
    script = fleet.folder / "rotate-behind"
    first = f"mkdir {fleet.folder}/once 2>/dev/null || exit 0" if only_once else ""
    script.write_text(f"{first}\n{call}\nsleep {seconds}\n")
    return f"sh {script}"


SHARED = 10.5  # seconds after which a deployment of one host no longer relies on what was read for another


def test_a_slow_deploy_never_puts_back_a_key_that_somebody_else_retired(fleet: Fleet) -> None:
    fleet.add("web1", "changeme", multicart_deploy_commands=[rotate_behind(fleet, True, SHARED)])
    fleet.add("web2", "changeme", multicart_deploy_commands=[f"sleep {SHARED}"])
    run = fleet.deploy()
    assert run.green, run
    assert fleet.stale == []
    assert not any(host.record["open"] for host in fleet.hosts.values())


@pytest.mark.full
def test_a_deploy_overtaken_again_and_again_is_not_green(fleet: Fleet) -> None:
    fleet.add("web1", "changeme", multicart_deploy_commands=[rotate_behind(fleet, False, SHARED)])
    run = fleet.deploy()
    assert (run.green, run.reason) == (False, "key_keeps_changing"), run
    assert fleet.stale == ["web1"]


def test_a_rotation_overtaken_by_somebody_else_is_not_green_with_a_dead_key(fleet: Fleet) -> None:
    fleet.add("web1", multicart_deploy_commands=[rotate_behind(fleet, only_once=True)])
    fleet.add("web2")
    retired = fingerprint(fleet.live)
    run = fleet.rotate()
    assert not run.green or fleet.stale == [], run
    again = fleet.rotate("-e", f"multicart_rotate_retire={retired}")
    assert again.green, again
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.parametrize("only_once", [True, False], ids=["once", "again-and-again"])
def test_a_deployment_by_rotate_overtaken_by_somebody_else_is_not_green_with_a_dead_key(
    fleet: Fleet, only_once: bool
) -> None:
    """The same where the run itself does not rotate."""
    old = fleet.live_fingerprint
    for host in fleet.add_many(2):
        host.edit_record(retire=old, open=True, held=old, readers={"any": old})
    fleet.hosts["web1"].variables["multicart_deploy_commands"] = [rotate_behind(fleet, only_once)]
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.rotate()
    assert (run.step, fleet.rotations) == ("finish", 0), run
    if only_once:  # it starts over with the newer key
        assert (run.green, fleet.stale) == (True, []), run
    else:
        assert (run.green, run.reason) == (False, "key_keeps_changing"), run
    fleet.hosts["web1"].variables["multicart_deploy_commands"] = []
    again = fleet.deploy()
    assert again.green, again
    assert (fleet.rotations, fleet.stale) == (0, [])


def test_two_runs_at_once_rotate_once(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.fault("rotate", "slow", seconds=1)
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _number: fleet.rotate(), range(2)))
    assert fleet.rotations == 1, f"{runs[0]}{runs[1]}"
    assert fleet.stale == [], f"{runs[0]}{runs[1]}"
    assert all(run.green for run in runs), f"{runs[0]}{runs[1]}"
