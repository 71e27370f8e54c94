# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Ansible, or a host, could skip, narrow, spoof or delay a part of a rotation.

The first test of each id is the smallest case in which it did, and what must be instead; those after it are of the same
kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.harness import Fleet, Host, Run, fingerprint, note
from tests.rows import every_other, spread
from tests.sandbox.shapes import Account

CONFIRMED = ("-e", "multicart_rotate_confirm=true")
ROTATE = "roles: [multicart.keys.multicart_rotate]"


def play(fleet: Fleet, head: str, *arguments: str, **how: Any) -> Run:
    return fleet.play("[]", *CONFIRMED, *arguments, head=head, **how)


def hold(fleet: Fleet, run: Run) -> None:
    """Hold a run that was to rotate to what must be true of it, however Ansible has cut it up."""
    assert fleet.rotations <= 1, run
    assert run.reason != "internal_error", run
    if run.green:
        assert (fleet.rotations, fleet.stale) == (1, []), run
    for name in fleet.stale:
        assert name in run.message, f"{name} holds a revoked key, and nobody says so: {run}"


def refused(fleet: Fleet, run: Run, *reasons: str | None) -> None:
    """Hold a run to a refusal for one of these reasons, before anything was rotated or changed."""
    hold(fleet, run)
    assert not run.green, run
    assert (fleet.rotations, fleet.stale) == (0, []), run
    assert not reasons or run.reason in reasons, run


def cannot_be_written(host: Host) -> None:
    os.link(host.env, host.folder.parent / f"another-name-of-{host.name}")


# --- S1: one account's state, taken for another's ---------------------------------------------------


class TwoAccounts:
    """``web1`` has files of the accounts shop and erp; ``db1`` and ``db2`` have files of erp only.

    ``db2`` holds an old key of erp, and cannot be written.
    """

    def __init__(self, fleet: Fleet, erp: Account) -> None:
        self.fleet = fleet
        self.erp_email = erp["email"]
        old = erp["api_key"]
        fleet.sandbox.rotate_behind(self.erp_email)
        fleet.add("web1", multicart_deploy_files=[{"path": "{{ home }}/app.env", "account": "shop"}])
        for name in ("web1", "db1", "db2"):
            host = fleet.hosts.get(name) or fleet.add(name, None, multicart_deploy_files=[])
            key = old if name == "db2" else self.erp_key
            (host.folder / "erp.env").write_text(f"MULTICART_API_KEY={key}\n")
            host.variables["multicart_deploy_files__erp"] = [{"path": "{{ home }}/erp.env", "account": "erp"}]
        os.link(fleet.hosts["db2"].folder / "erp.env", fleet.folder / "hosts" / "another-name")
        tokens = {"shop": fleet.env.pop("MULTICART_SESSION_TOKEN"), "erp": fleet.sandbox.token(self.erp_email)}
        (fleet.folder / "hosts" / "tokens").write_text(json.dumps(tokens))
        read = f"lookup('ansible.builtin.file', '{fleet.folder}/hosts/tokens')"
        fleet.variables["multicart_session_token"] = f"{{{{ ({read} | from_json)[multicart_account] }}}}"

    @property
    def erp_key(self) -> str:
        return self.fleet.sandbox.account(self.erp_email)["api_key"]

    @property
    def rotations(self) -> tuple[int, int]:
        return self.fleet.rotations, self.fleet.sandbox.rotations(self.erp_email)

    def run(self, *plays: tuple[str, str]) -> Run:
        """Run playbooks, each for one account."""
        text = "\n".join(
            f"- import_playbook: multicart.keys.{name}\n  vars: {{multicart_account: {account}}}"
            for name, account in plays
        )
        return self.fleet.playbook(text, *CONFIRMED)


@pytest.fixture
def two(fleet: Fleet, new_account: Callable[[], Account]) -> TwoAccounts:
    return TwoAccounts(fleet, new_account())


@pytest.mark.parametrize("second", ["deploy", "audit", "rotate"])
def test_s1_a_second_playbook_for_another_account_sees_the_hosts_of_that_account(two: TwoAccounts, second: str) -> None:
    run = two.run(("rotate", "shop"), (second, "erp"))
    assert not run.green, run
    assert "db2" in {task.host for task in run.failures} and "db2" in run.message, run
    assert two.rotations == (1, 0)
    assert two.fleet.live in two.fleet.hosts["web1"].env.read_text()


def test_s1_the_other_way_round_and_both_again(two: TwoAccounts) -> None:
    run = two.run(("audit", "erp"), ("rotate", "shop"))
    assert not run.green and two.rotations == (0, 0), run
    run = two.run(("deploy", "shop"), ("rotate", "shop"), ("rotate", "erp"), ("audit", "shop"))
    assert not run.green and two.rotations == (1, 0), run
    assert "db2" in run.message


def test_s1_roles_of_two_accounts_in_one_play(two: TwoAccounts) -> None:
    roles = [f"{{role: multicart.keys.multicart_rotate, multicart_account: {name}}}" for name in ("shop", "erp")]
    run = play(two.fleet, f"roles: [{', '.join(roles)}]")
    assert not run.green and two.rotations == (1, 0), run
    assert "db2" in run.message


def test_s1_a_second_rotation_in_one_run_is_not_told_what_the_first_one_did(two: TwoAccounts) -> None:
    """The hosts of the first play have results of their own; those of the second have none, and say so."""
    text = """
    - hosts: web1
      gather_facts: false
      vars: {multicart_account: shop}
      roles: [multicart.keys.multicart_rotate]
    - hosts: all
      gather_facts: false
      vars: {multicart_account: shop}
      tasks:
        - multicart.keys.multicart_host: {phase: result}
    """
    run = two.fleet.playbook(_outdented(text), *CONFIRMED)
    assert not run.green and two.rotations == (1, 0), run
    assert {task.host: task["reason"] for task in run.failures} == dict.fromkeys(two.fleet.hosts, "not_run"), run


def _outdented(text: str) -> str:
    lines = text.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines)


# --- S2: patterns -----------------------------------------------------------------------------------

PATTERNS = {
    "list_with_commas": '["web", "db,cache"]',
    "list": "[web, db, cache]",
    "text_with_commas": '"web,db,cache"',
    "text_with_colons": '"web:db:cache"',
    "exclusion": '"all:!nobody"',
    "intersection": '"all:&consumers"',
    "range": '"all[0:2]"',
    "regular_expression": '"~(web|db|cache)[0-9]"',
    "wildcard": '"*1"',
    "variable": '"{{ the_hosts }}"',
}


@pytest.mark.parametrize("pattern", every_other(PATTERNS))
def test_s2_whatever_the_pattern_of_a_play_its_hosts_are_the_consumers(fleet: Fleet, pattern: str) -> None:
    for name in ("web", "db", "cache"):
        fleet.add(f"{name}1")
        fleet.groups[name] = [f"{name}1"]
    fleet.groups["consumers"] = list(fleet.hosts)
    cannot_be_written(fleet.hosts["web1"])
    given = ("-e", '{"the_hosts": ["web", "db,cache"]}')
    run = fleet.play("[]", *CONFIRMED, *given, hosts=PATTERNS[pattern], head=ROTATE)
    refused(fleet, run, "not_ready")
    assert "web1" in run.message and "1 of 3 consumers are not ready" in run.message
    (fleet.folder / "hosts" / "another-name-of-web1").unlink()
    run = fleet.play("[]", *CONFIRMED, *given, hosts=PATTERNS[pattern], head=ROTATE)
    hold(fleet, run)
    assert run.green, run


# --- S3, S4: conditions, tags, run_once -------------------------------------------------------------


@pytest.mark.parametrize(("ill", "retire"), spread([["web1"], ["web3"], ["web1", "web2"]], [True, False]))
def test_s3_a_host_in_maintenance_keeps_no_decision_from_being_made(fleet: Fleet, ill: list[str], retire: bool) -> None:
    fleet.add_many(3)
    for name in ill:
        fleet.hosts[name].variables["maintenance"] = True
    named = ["-e", f"multicart_rotate_retire={fleet.live_fingerprint}"] if retire else []
    role = "{role: multicart.keys.multicart_rotate, when: not (maintenance | default(false))}"
    refused(fleet, play(fleet, f"roles: [{role}]", *named), "not_prepared", "not_run")


CONDITIONS = {
    "when_of_a_block": "- block: [{import_role: ROLE}]\n  when: inventory_hostname != 'web1'",
    "when_of_an_include": "- include_role: ROLE\n  when: inventory_hostname != 'web1'",
    "when_of_an_include_for_the_last": "- include_role: ROLE\n  when: inventory_hostname != 'web3'",
    "another_task_failed": "- fail:\n  when: inventory_hostname == 'web1'\n- import_role: ROLE",
    "another_task_failed_for_the_last": "- fail:\n  when: inventory_hostname == 'web3'\n- import_role: ROLE",
    "end_host": "- meta: end_host\n  when: inventory_hostname == 'web1'\n- import_role: ROLE",
    "end_host_for_the_last": "- meta: end_host\n  when: inventory_hostname == 'web3'\n- import_role: ROLE",
    "run_once": "- import_role: ROLE\n  run_once: true",
    "run_once_of_an_include": "- include_role:\n    name: multicart.keys.multicart_rotate\n    apply: {run_once: true}",
    "loop_over_an_include": "- include_role: ROLE\n  loop: [1, 2]\n  when: inventory_hostname != 'web1'",
    "until": "- multicart.keys.multicart_host: {phase: join}\n"
    "- multicart.keys.multicart_fleet: {phase: rotate}\n  until: true\n  retries: 2\n"
    "- multicart.keys.multicart_host: {phase: result}",
    "loop": "- multicart.keys.multicart_host: {phase: join}\n"
    "- multicart.keys.multicart_fleet: {phase: rotate}\n  loop: [1, 2]\n"
    "- multicart.keys.multicart_host: {phase: result}",
    "delegate_to": "- multicart.keys.multicart_host: {phase: join}\n"
    "- multicart.keys.multicart_fleet: {phase: rotate}\n  delegate_to: web2\n"
    "- multicart.keys.multicart_host: {phase: result}",
    "without_the_first_task": "- multicart.keys.multicart_fleet: {phase: rotate}\n"
    "- multicart.keys.multicart_host: {phase: result}",
    "without_the_act": "- multicart.keys.multicart_host: {phase: join}\n"
    "- multicart.keys.multicart_host: {phase: result}",
    "first_task_delegated": "- multicart.keys.multicart_host: {phase: join}\n  delegate_to: web2\n"
    "- multicart.keys.multicart_fleet: {phase: rotate}\n- multicart.keys.multicart_host: {phase: result}",
}


@pytest.mark.parametrize("case", every_other(CONDITIONS))
def test_s3_what_ansible_leaves_out_is_missed(fleet: Fleet, case: str) -> None:
    fleet.add_many(3)
    run = fleet.play(CONDITIONS[case].replace("ROLE", "{name: multicart.keys.multicart_rotate}"), *CONFIRMED)
    hold(fleet, run)
    assert not run.green, run
    assert (fleet.rotations, fleet.stale) == (0, []), run


HARMLESS = {
    "throttle": "- import_role: ROLE\n  throttle: 1",
    "order": "- import_role: ROLE",
    "twice": "- import_role: ROLE\n- import_role: ROLE",
    "include": "- include_role: ROLE",
    "loop_over_an_include": "- include_role: ROLE\n  loop: [1, 2]",
    "block": "- block:\n    - import_role: ROLE",
    "no_log": "- import_role: ROLE\n  no_log: true",
    "changed_when": "- import_role: ROLE\n  changed_when: false",
    "become_nobody": "- import_role: ROLE\n  become: false",
    "handlers": "- import_role: ROLE\n- meta: flush_handlers",
}
HEADS = {"order": "order: shuffle\nforce_handlers: true"}


@pytest.mark.parametrize("case", every_other(HARMLESS))
def test_s3_what_only_looks_as_if_it_left_something_out_rotates_once(fleet: Fleet, case: str) -> None:
    fleet.add_many(3)
    tasks = HARMLESS[case].replace("ROLE", "{name: multicart.keys.multicart_rotate}")
    run = fleet.play(tasks, *CONFIRMED, head=HEADS.get(case, ""))
    hold(fleet, run)
    assert run.green, run


@pytest.mark.parametrize(
    ("how", "arguments"),
    spread(
        ["tags: [deploy]", "run_once: true", "when: inventory_hostname == 'web1'", "when: false"],
        ["", "--tags rotate", "--skip-tags deploy"],
    ),
)
def test_s4_nothing_depends_on_the_role_that_deploys(fleet: Fleet, how: str, arguments: str) -> None:
    fleet.add_many(3)
    deploy = f"{{role: multicart.keys.multicart_deploy, {how}}}"
    roles = f"roles: [{{role: multicart.keys.multicart_rotate, tags: [rotate]}}, {deploy}]"
    run = play(fleet, roles, *arguments.split())
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.parametrize("arguments", [["--tags", "other"], ["--skip-tags", "rotate"]], ids=" ".join)
def test_s4_where_tags_leave_out_all_of_the_role_nothing_happens(fleet: Fleet, arguments: list[str]) -> None:
    fleet.add_many(3)
    before = fleet.snapshot()
    play(fleet, "roles: [{role: multicart.keys.multicart_rotate, tags: [rotate]}]", *arguments)
    assert (fleet.requests(), fleet.snapshot()) == ([], before)


FAILING = {
    "any_errors_fatal": "any_errors_fatal: true",
    "max_fail_percentage": "max_fail_percentage: 0",
    "ignore_errors": "ignore_errors: true",
    "ignore_unreachable": "ignore_unreachable: true",
}


@pytest.mark.parametrize("how", FAILING)
def test_s4_what_a_failing_host_does_to_a_play_keeps_no_other_host_from_its_key(fleet: Fleet, how: str) -> None:
    fleet.add_many(3)
    fleet.hosts["web1"].variables["multicart_deploy_commands"] = ["false"]
    run = play(fleet, f"{FAILING[how]}\n{ROTATE}")
    assert (fleet.rotations, fleet.stale) == (1, []), run
    assert run.states == {"web1": "restart due", "web2": "up to date", "web3": "up to date"}
    assert run.own["web1"].status == ("ignored" if how == "ignore_errors" else "failed")
    # Whoever ignores every error is told so by the recap alone: "ignored=1".
    assert run.green is (how == "ignore_errors"), run


@pytest.mark.parametrize("where", ["rescue", "always"])
def test_s4_a_block_around_the_role_changes_nothing_of_what_it_does(fleet: Fleet, where: str) -> None:
    fleet.add_many(3)
    fleet.hosts["web2"].variables["multicart_deploy_commands"] = ["false"]
    tasks = f"""
    - block:
        - import_role: {{name: multicart.keys.multicart_rotate}}
      {where}:
        - debug: {{msg: "here"}}
    """
    run = fleet.play(tasks, *CONFIRMED)
    assert (fleet.rotations, fleet.stale) == (1, []), run
    assert run.states["web2"] == "restart due" and run.reason == "not_up_to_date"
    assert run.green is (where == "rescue"), run  # which is what it is there for


@pytest.mark.parametrize("batch", every_other(["1", "2", "50%", "[1, 100%]"]))
def test_s4_batches_are_refused(fleet: Fleet, batch: str) -> None:
    fleet.add_many(3)
    refused(fleet, play(fleet, f"serial: {batch}\n{ROTATE}"), "not_whole")


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_s4_strategies_without_tasks_for_all_hosts_are_refused(fleet: Fleet, strategy: str) -> None:
    fleet.add_many(3)
    refused(fleet, play(fleet, f"strategy: {strategy}\n{ROTATE}"))


@pytest.mark.parametrize(
    "task",
    every_other(
        [
            "Rotate the key",
            "multicart.keys.multicart_rotate : Rotate the key",
            "multicart.keys.multicart_rotate : Check the result of each host",
            "Write the report",
        ]
    ),
)
def test_s4_a_start_in_the_middle_is_refused(fleet: Fleet, task: str) -> None:
    fleet.add_many(3)
    refused(fleet, play(fleet, ROTATE, "--start-at-task", task))


def test_s4_a_deployment_that_starts_in_the_middle_is_not_green(fleet: Fleet) -> None:
    fleet.add("web1", content="173axcs.oldoldoldold")
    run = fleet.deploy("--start-at-task", "Deploy the live key where it is read from a store")
    assert not run.green and run.reason == "not_run" and fleet.stale == ["web1"], run


# --- S5: --step -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    ["y\n" * 20, "c\n", "n\n" * 20, *("y\n" * at + "n\n" + "y\n" * 20 for at in range(2, 6)), "y\ny\ny\nn\ny\nn\n"],
    ids=["yes", "continue", "no", "no-to-2", "no-to-3", "no-to-4", "no-to-5", "no-to-some"],
)
def test_s5_tasks_that_a_user_may_skip_rotate_nothing(fleet: Fleet, typed: str) -> None:
    fleet.add_many(2)
    before = fleet.snapshot()
    run = fleet.rotate("--step", typed=typed)
    assert (fleet.rotations, fleet.stale) == (0, []), run
    assert fleet.snapshot() == before
    assert not run.green or "n" in typed, run


# --- S6: Ansible's time limit -----------------------------------------------------------------------

LIMIT = 8
"""Seconds in which a busy machine has come to the request to rotate, or has served a host that takes no time."""


@pytest.mark.parametrize("how", ["environment", "play"])
def test_s6_a_time_limit_that_ends_while_the_api_answers_costs_no_host_its_key(fleet: Fleet, how: str) -> None:
    fleet.add("local", multicart_deploy_commands=[note("restarted")])
    fleet.add("remote", multicart_deploy_commands=[note("restarted")], **fleet.over_ssh())
    fleet.fault("rotate", "slow", seconds=LIMIT + 2)
    if how == "environment":
        run = fleet.rotate(env={"ANSIBLE_TASK_TIMEOUT": str(LIMIT)})
    else:
        run = play(fleet, f"timeout: {LIMIT}\n{ROTATE}")
    assert (fleet.rotations, fleet.stale, run.armed) == (1, [], 1), run
    assert "timed_out: " in run.output and "defect" not in run.output, run
    assert run.green, run
    assert all(host.log == ["restarted"] for host in fleet.hosts.values())


def test_s6_a_time_limit_that_ends_before_the_request_rotates_nothing(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.fault("read", "slow", seconds=6)
    run = fleet.rotate(env={"ANSIBLE_TASK_TIMEOUT": "3"})
    assert (run.green, fleet.rotations, fleet.stale) == (False, 0, []), run
    assert "defect" not in run.output and "internal_error" not in run.output


def test_s6_a_time_limit_that_ends_while_services_restart_is_told_truly(fleet: Fleet) -> None:
    fleet.add("slow", multicart_deploy_commands=[f"sleep {LIMIT + 4}"])
    fleet.add("web2", multicart_deploy_commands=[note("restarted")])
    run = fleet.rotate(env={"ANSIBLE_TASK_TIMEOUT": str(LIMIT)})
    assert (fleet.rotations, fleet.stale) == (1, []), run
    assert "defect" not in run.output and "internal_error" not in run.output, run
    again = fleet.deploy()
    assert again.green, again
    assert not any(host.record["open"] for host in fleet.hosts.values())


def test_s6_a_deployment_has_a_time_limit_too(fleet: Fleet) -> None:
    fleet.add("slow", "changeme", multicart_deploy_commands=[f"sleep {LIMIT + 4}"])
    fleet.add("web2", "changeme")
    run = fleet.deploy(env={"ANSIBLE_TASK_TIMEOUT": str(LIMIT)})
    assert not run.green and [task.host for task in run.failures] == ["slow"], run
    assert "defect" not in run.output and "internal_error" not in run.output, run
    fleet.hosts["slow"].variables["multicart_deploy_commands"] = [note("restarted")]
    assert fleet.deploy().green
    assert (fleet.stale, fleet.hosts["slow"].log) == ([], ["restarted"])


# --- S7: never an older key over a newer one --------------------------------------------------------


def overtake(fleet: Fleet, give: str | None) -> str:
    """Return a command that rotates behind this run's back, and gives the new key to another host."""
    told = f'curl -sS {fleet.sandbox.control}/rotate --json \'{{"email": "{fleet.email}"}}\''
    key = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"api_key\"])'"
    script = fleet.folder / "hosts" / "overtake"
    lines = [f"mkdir {fleet.folder}/hosts/once 2>/dev/null || exit 0", f"key=$({told} | {key})"]
    if give is not None:
        lines.append(f"echo MULTICART_API_KEY=$key > {fleet.hosts[give].env}")
    script.write_text("\n".join([*lines, ""]))
    return f"sh {script}"


@pytest.mark.parametrize(("head", "given"), spread(["serial: 1", "", "strategy: free", "throttle: 1"], [True, False]))
def test_s7_a_host_ends_on_the_live_key_or_keeps_what_it_had(fleet: Fleet, head: str, given: bool) -> None:
    fleet.add("a", "changeme")
    fleet.add("b", "{key}", multicart_deploy_health_checks=[note("healthy")])
    fleet.hosts["a"].variables["multicart_deploy_health_checks"] = [overtake(fleet, "b" if given else None)]
    had = fleet.hosts["b"].env.read_text()
    run = play(fleet, f"{head}\nroles: [multicart.keys.multicart_deploy]")
    has = fleet.hosts["b"].env.read_text()
    if given:
        assert "b" not in fleet.stale, f"an older key over a newer one: {run}"
    else:
        assert has in (had, f"MULTICART_API_KEY={fleet.live}\n"), run
    # Whoever was overtaken is found, and mended, by the next run.
    again = fleet.deploy()
    assert again.green and fleet.stale == [], again


# --- S8: hosts as a list ----------------------------------------------------------------------------

HOSTS: dict[str, Any] = {
    "list": ["a", "b"],
    "text": "a,b",
    "colons": "a:b",
    "list_with_an_exclusion": ["multicart_consumers", "!c"],
    "text_with_an_exclusion": "multicart_consumers:!c",
    "list_of_one_text": ["a,b"],
}


@pytest.mark.parametrize(("playbook", "case"), spread(["rotate", "deploy", "audit", "doctor"], HOSTS))
def test_s8_hosts_may_be_a_list_or_a_text(fleet: Fleet, playbook: str, case: str) -> None:
    for name in ("a", "b", "c"):
        fleet.add(name)
    run = fleet.run(f"multicart.keys.{playbook}", *CONFIRMED, "-e", json.dumps({"multicart_hosts": HOSTS[case]}))
    assert run.green, run
    assert run.consumers in ({}, dict.fromkeys("ab", "up to date")), run
    assert fleet.stale == (["c"] if playbook == "rotate" else [])


@pytest.mark.parametrize("said", [["a"], "a", ["multicart_consumers", "!b"]], ids=str)
def test_s8_a_list_in_the_inventory_is_refused_unless_an_extra_variable_overrides_it(fleet: Fleet, said: Any) -> None:
    for name in ("a", "b"):
        fleet.add(name)
    fleet.variables["multicart_hosts"] = said
    refused(fleet, fleet.rotate(), "hosts_differ")
    run = fleet.rotate("-e", '{"multicart_hosts": ["a", "b"]}')
    hold(fleet, run)
    assert run.green, run


# --- S9: phases that there are not ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "options"),
    spread(
        ["multicart_host", "multicart_fleet", "multicart_fleet_info"],
        ["{}", "{phase: nope}", "{phase: ''}", "{phase: [join]}", "{phse: join}"],
    ),
)
def test_s9_a_wrong_or_missing_phase_is_refused_with_those_that_there_are(
    fleet: Fleet, module: str, options: str
) -> None:
    fleet.add_many(2)
    run = fleet.play(f"- multicart.keys.{module}: {options}", *CONFIRMED)
    refused(fleet, run, "invalid_option")
    assert "phase" in run.message
    assert fleet.requests() == []


@pytest.mark.parametrize("phase", ["deploy", "result", "join", "audit"])
def test_s9_a_phase_of_the_other_module_is_refused_too(fleet: Fleet, phase: str) -> None:
    fleet.add_many(2)
    refused(fleet, fleet.play(f"- multicart.keys.multicart_fleet: {{phase: {phase}}}"), "invalid_option")


def test_two_runs_of_which_one_waits_for_the_other_rotate_once(fleet: Fleet) -> None:
    """Another way to do a thing twice: the same play, at the same time, from another terminal."""
    fleet.add_many(2)
    fleet.fault("rotate", "slow", seconds=1)
    retire = ("-e", f"multicart_rotate_retire={fingerprint(fleet.live)}")
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _number: play(fleet, ROTATE, *retire), range(3)))
    assert fleet.rotations == 1 and fleet.stale == [], str(runs)
    assert all(run.green for run in runs), str(runs)
