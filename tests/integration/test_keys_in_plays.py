# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading and rotating in plays that a user writes: one read, one rotation, whatever Ansible does with a task."""

from __future__ import annotations

import re

import pytest

from tests.integration.harness import Fleet, Run, fingerprint

ROTATE_AND_WRITE = """
    - multicart.keys.multicart_key_rotate:
    - multicart.keys.multicart_env_file:
        path: "{{ home }}/app.env"
        value: "{{ lookup('multicart.keys.multicart_key') }}"
"""


def outcomes(run: Run) -> list[str]:
    return [task["outcome"] for task in run.of("multicart_key_rotate")]


def test_an_api_key_alone_is_refused_before_any_request_leaves(fleet: Fleet) -> None:
    fleet.add("web1")
    del fleet.env["MULTICART_SESSION_TOKEN"]
    run = fleet.play("- multicart.keys.multicart_key_rotate:", env={"MULTICART_API_KEY": fleet.live})
    assert (run.green, run.reason, outcomes(run)) == (False, "readback_impossible", ["unchanged"]), run
    assert fleet.requests() == []


def test_one_rotation_makes_five_requests_and_one_login(fleet: Fleet) -> None:
    fleet.add("web1")
    del fleet.env["MULTICART_SESSION_TOKEN"]
    login = {"MULTICART_EMAIL": fleet.email, "MULTICART_PASSWORD": fleet.account["password"]}
    run = fleet.play("- multicart.keys.multicart_key_rotate:", "--diff", env=login)
    assert run.green, run
    [task] = run.of("multicart_key_rotate")
    assert (task["outcome"], task["verified"], task["old_key_rejected"]) == ("rotated", True, True)
    assert task["key_fingerprint"] == fleet.live_fingerprint
    told = [(entry["endpoint"], entry["credential"]) for entry in fleet.requests()]
    assert told[:4] == [("login", "none"), ("read", "token"), ("rotate", "key"), ("read", "token")]
    assert sorted(told[4:]) == [("read", "key"), ("read", "key")]


def test_fifty_hosts_and_three_tasks_make_one_read_and_none_after_a_rotation(fleet: Fleet) -> None:
    for number in range(50):
        fleet.add(f"web{number}", None)
    look = "lookup('multicart.keys.multicart_key', 'key_fingerprint')"
    tasks = [f'- ansible.builtin.set_fact: {{seen{number}: "{{{{ {look} }}}}"}}' for number in (1, 2, 3, 4)]
    tasks.insert(3, "- multicart.keys.multicart_key_rotate: {verify: false}\n  run_once: true")
    old = fleet.live_fingerprint
    run = fleet.play("\n".join(tasks), "-f", "10")
    assert run.green, run
    facts = [task["ansible_facts"] for task in run.of("set_fact")]
    assert facts.count({"seen4": fleet.live_fingerprint}) == 50
    assert all(facts.count({f"seen{number}": old}) == 50 for number in (1, 2, 3))
    # One read and its proof for all lookups; the rotation reads before and after.
    told = [(entry["endpoint"], entry["credential"]) for entry in fleet.requests()]
    assert told == [("read", "token"), ("read", "key"), ("read", "token"), ("rotate", "key"), ("read", "token")]


@pytest.mark.parametrize("head", ["serial: 1", "strategy: free", ""], ids=["serial", "free", "forgotten_run_once"])
def test_every_host_gets_the_key_of_one_rotation(fleet: Fleet, head: str) -> None:
    fleet.add_many(3)
    run = fleet.play(ROTATE_AND_WRITE, head=head)
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert sorted(outcomes(run)) == ["already_rotated", "already_rotated", "rotated"]


def test_a_loop_and_a_task_aimed_at_an_unreachable_host_rotate_once(fleet: Fleet) -> None:
    fleet.add_unreachable()
    run = fleet.play("- multicart.keys.multicart_key_rotate:\n  loop: [1, 2, 3]")
    assert run.green, run
    assert fleet.rotations == 1
    results = run.of("multicart_key_rotate")[-1]["results"]
    assert [result["outcome"] for result in results] == ["rotated", "already_rotated", "already_rotated"]
    assert {result["key_fingerprint"] for result in results} == {fleet.live_fingerprint}


@pytest.mark.parametrize("when", ["before", "after"])
def test_until_with_lost_answers_rotates_once(fleet: Fleet, when: str) -> None:
    fleet.add("web1")
    fleet.fault("rotate", f"answer_lost_{when}_commit", times=2)
    fleet.fault("read", "http_503", after=1, times=20)
    tasks = ROTATE_AND_WRITE.replace(
        "rotate:\n",
        "rotate: {timeout: 1, settle_timeout: 1}\n      register: key\n"
        "      until: key is success\n      retries: 20\n      delay: 0\n",
        1,
    )
    run = fleet.play(tasks)
    assert run.green, run
    assert "retried" in {task.status for task in run.of("multicart_key_rotate")}, run
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_a_revealed_key_is_registered_whole_and_displayed_nowhere(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("read", "http_403", after=2)
    tasks = """
    - multicart.keys.multicart_key_info: {reveal: true}
      register: one
    - multicart.keys.multicart_key_info: {reveal: true}
      register: several
      loop: [1, 2]
      no_log: "{{ ansible_version.full is version('2.19', '<') }}"
      until: several is success
      retries: 2
      delay: 0
    - multicart.keys.multicart_key_rotate: {reveal: true}
      register: new
      loop: [1]
      no_log: "{{ ansible_version.full is version('2.19', '<') }}"
    - ansible.builtin.assert:
        that:
          - (item.api_key | hash('sha256'))[:16] == item.key_fingerprint
      loop: "{{ [one] + several.results + new.results }}"
      no_log: true
    - ansible.builtin.set_fact:
        told: "{{ [one, new.results[0]] | map(attribute='key_fingerprint') | list }}"
    """
    old = fleet.live_fingerprint
    run = fleet.play(tasks, "-vvv", "--diff", revealed=True)
    assert run.green, run
    fleet.search_output(run)
    for task in run.tasks:
        if task.action.startswith("multicart.keys.") and task.status == "ok":
            assert "censored" in task.result, run
    assert run.of("set_fact")[0]["ansible_facts"]["told"] == [old, fleet.live_fingerprint]
    assert "retried" in {task.status for task in run.tasks}


def test_a_loop_that_callbacks_would_see_through_may_not_reveal(fleet: Fleet) -> None:
    fleet.add("web1")
    run = fleet.play("- multicart.keys.multicart_key_info: {reveal: true}\n  loop: [1]", "-vvv", revealed=True)
    fleet.search_output(run)
    assert run.green is (re.search(r"\[core 2\.1[678]\.", run.output) is None), run
    if not run.green:
        assert "no_log: true" in run.output, run


def test_without_reveal_only_masks_are_told(fleet: Fleet) -> None:
    fleet.add("web1")
    run = fleet.play("- multicart.keys.multicart_key_info:")
    [info] = run.of("multicart_key_info")
    prefix = fleet.live.partition(".")[0]
    assert (info["key_prefix"], info["key_masked"]) == (prefix, prefix + "." + "\u2022" * 16)
    assert info["key_fingerprint"] == fingerprint(fleet.live)
    assert info["account"]["timezone"] == fleet.account["timezone"]
    assert "api_key" not in info.result and "api_key" not in info["account"]


def test_an_api_key_alone_revokes_itself_and_no_later_run_calls_it_done(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add("web2")
    del fleet.env["MULTICART_SESSION_TOKEN"]
    old = fleet.live
    task = f'- multicart.keys.multicart_key_revoke: {{retire: "{fingerprint(old)}", timeout: 3}}'
    run = fleet.play(task, "--diff", env={"MULTICART_API_KEY": old})
    told = run.of("multicart_key_revoke")
    assert run.green and sorted(each["outcome"] for each in told) == ["already_rotated", "rotated"], run
    assert fleet.live != old and fleet.rotations == 1
    again = fleet.play(task, env={"MULTICART_API_KEY": old})
    assert {(each["outcome"], each["reason"]) for each in again.of("multicart_key_revoke")} == {
        ("unknown", "credentials_rejected")
    }, again
    assert not again.green and fleet.rotations == 1
