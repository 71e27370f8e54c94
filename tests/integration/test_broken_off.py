# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that broke off or went wrong: they say so, and running again finishes them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.harness import Fleet, Run, fingerprint, note


def steps(run: Run) -> list[str]:
    """Return what rotate.yml decided."""
    return [task["step"] for task in run.of("multicart_fleet") if "step" in task.result]


def test_an_intent_whose_key_is_live_is_finished_by_rotating(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.hosts["web1"].edit_record(open=True, begun=True, retire=fleet.live_fingerprint)
    run = fleet.rotate()
    assert run.green, run
    assert (fleet.rotations, fleet.stale, steps(run)) == (1, [], ["rotate"])


def test_an_intent_whose_key_is_dead_is_finished_by_deploying(fleet: Fleet) -> None:
    old = fleet.live_fingerprint
    restart: dict[str, Any] = {"multicart_deploy_commands": [note("restarted")]}
    fleet.add("untouched", **restart).edit_record(open=True, retire=old, held=old)
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("written", **restart).edit_record(open=True, retire=old, held=fleet.live_fingerprint)
    fleet.add("done", **restart).edit_record(open=False, retire=old, held=fleet.live_fingerprint)
    run = fleet.rotate()
    assert run.green, run
    assert (fleet.rotations, fleet.stale, steps(run)) == (0, [], ["deploy"])
    assert {name: host.log for name, host in fleet.hosts.items()} == {
        "untouched": ["restarted"],
        "written": ["restarted"],
        "done": [],
    }
    assert not any(host.record["open"] for host in fleet.hosts.values())


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
        cut_off.touch()

    with fleet.once_rotated(break_hosts):
        run = fleet.rotate()
    assert (run.green, run.reason) == (False, "not_current"), run
    assert fleet.rotations == 1
    states = run.failures[-1]["consumers"]
    assert states.pop("fine") == "current"
    assert {name: state.partition(":")[0] for name, state in states.items()} == dict.fromkeys(states, "stale")
    assert sorted(fleet.stale) == ["gone", "linked"]
    assert all(name in run.message for name in ("linked", "gone", "failing", "ailing"))
    assert {name for name, host in fleet.hosts.items() if host.record["open"]} == set(states)
    assert {host.record["retire"] for host in fleet.hosts.values()} == {old}

    extra.unlink()
    cut_off.unlink()
    audit = fleet.audit()
    assert not audit.green
    assert audit.failures[-1]["consumers"] == {
        "fine": "current",
        "linked": "stale",
        "gone": "stale",
        "failing": "restart_due",
        "ailing": "restart_due",
    }
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
    assert (run.green, run.reason) == (False, "not_current"), run
    assert all(f"{name} is stale: the" in run.message for name in ("hanging", "silent"))
    assert run.message.count("stopped after 1 s") == 2
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert (fleet.hosts["fine"].log, fleet.hosts["fine"].record["open"]) == (["restarted"], False)
    for host in (hanging, silent):
        host.variables.update(multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[])
    deploy = fleet.deploy()
    assert deploy.green, deploy
    assert (hanging.log, silent.log, fleet.rotations) == (["restarted"], ["restarted"], 1)


def test_the_last_play_judges_though_no_host_can_be_reached_any_more(fleet: Fleet) -> None:
    cut_off = fleet.folder / "cut-off"
    fleet.add_unreachable("gone", once=cut_off)
    with fleet.once_rotated(cut_off.touch):
        run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "not_current", 1), run
    cut_off.unlink()
    again = fleet.rotate()
    assert again.green, again
    assert (fleet.rotations, fleet.stale, steps(again)) == (1, [], ["deploy"])


def test_deploy_reaches_the_others_though_the_first_host_is_gone(fleet: Fleet) -> None:
    fleet.add_unreachable("a")
    fleet.add("b", "changeme")
    run = fleet.deploy()
    assert (run.green, run.reason) == (False, "not_current"), run
    assert "a is stale: it is unreachable" in run.message
    assert "b" not in fleet.stale


def test_a_new_key_that_cannot_be_read_is_rolled_out_by_the_next_run(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.fault("rotate", "answer_lost_after_commit")
    fleet.fault("read", "http_401", after=2, times=-1, credential="token")
    run = fleet.rotate()
    assert not run.green, run
    assert run.reason in ("new_key_unreadable", "credentials_rejected"), run
    assert run.of("multicart_key_rotate")[0]["outcome"] in ("rotated", "unknown")
    assert (fleet.rotations, len(fleet.stale)) == (1, 2)
    fleet.sandbox.clear()
    again = fleet.rotate()
    assert again.green, again
    assert (fleet.rotations, fleet.stale, steps(again)) == (1, [], ["deploy"])


def test_a_refused_rotation_leaves_everything_as_it_was(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("rotate", "refused")
    run = fleet.rotate()
    assert (run.green, run.reason) == (False, "refused"), run
    assert run.of("multicart_key_rotate")[0]["outcome"] == "unchanged"
    assert (fleet.rotations, fleet.stale) == (0, [])


def rotate_behind(fleet: Fleet, only_once: bool) -> str:
    """Return a command that rotates as somebody in the dashboard would."""
    call = f'curl -sS -o /dev/null {fleet.sandbox.control}/rotate --json \'{{"email": "{fleet.email}"}}\''
    script = fleet.folder / "rotate-behind"
    script.write_text(f"{f'mkdir {fleet.folder}/once 2>/dev/null || exit 0' if only_once else ''}\n{call}\n")
    return f"sh {script}"


def test_a_slow_deploy_never_puts_back_a_key_that_somebody_else_retired(fleet: Fleet) -> None:
    fleet.add("web1", "changeme", multicart_deploy_commands=[rotate_behind(fleet, only_once=True)])
    fleet.add("web2", "changeme")
    run = fleet.deploy()
    assert run.green, run
    assert fleet.stale == []
    assert not any(host.record["open"] for host in fleet.hosts.values())


def test_a_deploy_overtaken_again_and_again_is_not_green(fleet: Fleet) -> None:
    fleet.add("web1", "changeme", multicart_deploy_commands=[rotate_behind(fleet, only_once=False)])
    run = fleet.deploy()
    assert (run.green, run.reason) == (False, "not_current"), run
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


def test_a_roll_out_overtaken_by_somebody_else_is_not_green_with_a_dead_key(fleet: Fleet) -> None:
    """The same where the run itself does not rotate."""
    old = fleet.live_fingerprint
    command = rotate_behind(fleet, only_once=True)
    fleet.add("web1", multicart_deploy_commands=[command]).edit_record(open=True, retire=old, held=old)
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.rotate()
    assert steps(run) == ["deploy"]
    assert (run.green, run.reason, fleet.stale) == (False, "not_current", ["web1"]), run
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
