# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook under Mitogen's strategies, over a real sshd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.harness import Fleet, Run, fingerprint, note
from tests.integration.mitogen import strategy_plugins
from tests.integration.sshd import SSHD, Sshd

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server"),
    pytest.mark.skipif(strategy_plugins() is None, reason="mitogen is missing: pip install mitogen"),
]


@pytest.fixture
def remote(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet behind sshd, all plays of which Mitogen carries out."""
    with Sshd() as sshd:
        fleet.variables.update(sshd.variables)
        fleet.env["ANSIBLE_STRATEGY_PLUGINS"] = str(strategy_plugins())
        fleet.env["ANSIBLE_TIMEOUT"] = "60"  # Mitogen counts it from when it begins with all hosts at once
        yield fleet


STRATEGIES = ["mitogen_linear", "mitogen_free", "mitogen_host_pinned"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_playbook_works_where_mitogen_is_the_default(remote: Fleet, strategy: str) -> None:
    """The plays for all hosts at once name Ansible's own strategy; those of each host alone run with Mitogen."""
    hosts = remote.add_many(
        3, multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[note("healthy")]
    )
    (remote.folder / "shop.json.j2").write_text('{"key": "{{ multicart_key }}"}')
    hosts[0].variables["multicart_deploy_files__shop"] = [{"path": "{{ home }}/shop.json", "template": "shop.json.j2"}]
    old = remote.live

    def run(playbook: str, *arguments: str) -> Run:
        return remote.run(f"multicart.keys.{playbook}", *arguments, env={"ANSIBLE_STRATEGY": strategy})

    deploy = run("deploy", "-vvvvv")  # the template's file is new
    assert deploy.green, deploy
    assert "SSH: EXEC" not in deploy.output
    confirmed = ("-e", "multicart_rotate_confirm=true", "-vvvvv", "--diff")
    check = run("rotate", "--check", *confirmed)
    assert check.green, check
    assert remote.rotations == 0
    rotate = run("rotate", *confirmed)
    assert rotate.green, rotate
    assert (rotate.armed, remote.rotations, remote.stale) == (3, 1, [])
    assert [host.log[-2:] for host in hosts] == [["restarted", "healthy"]] * 3
    assert {host.record["rotation"]["retire"] for host in hosts} == {fingerprint(old)}
    for playbook in ("deploy", "audit", "doctor"):
        again = run(playbook)
        assert again.green, again
        assert again.consumers in ({}, dict.fromkeys(remote.hosts, "up to date")), again
    assert (remote.rotations, remote.stale) == (1, [])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rotation_in_a_play_of_mitogens_is_refused_and_a_deployment_works(remote: Fleet, strategy: str) -> None:
    remote.add_many(2, multicart_deploy_commands=[note("restarted")])
    before = remote.snapshot()
    head = f"strategy: {strategy}\nroles: [multicart.keys.multicart_ROLE]"
    rotate = remote.play("[]", "-e", "multicart_rotate_confirm=true", head=head.replace("ROLE", "rotate"))
    assert not rotate.green, rotate
    if strategy == "mitogen_linear":  # the others cannot run a task once for all hosts, which Ansible itself says
        assert rotate.reason == "not_whole" and "with a strategy of Mitogen's" in rotate.message, rotate
    assert (remote.rotations, remote.snapshot()) == (0, before)
    remote.sandbox.rotate_behind(remote.email)
    deploy = remote.play("[]", "--diff", "-vvvvv", head=head.replace("ROLE", "deploy"))
    assert deploy.green, deploy
    assert (remote.stale, [host.log for host in remote.hosts.values()]) == ([], [["restarted"]] * 2)


def test_a_host_without_python_is_named_by_a_deployment(remote: Fleet) -> None:
    remote.add("web1", "changeme", ansible_python_interpreter="python_that_is_not_there")
    run = remote.play("[]", head="strategy: mitogen_linear\nroles: [multicart.keys.multicart_deploy]")
    assert not run.green, run
    assert "It is unreachable: command not found" in run.message


def test_a_host_that_cannot_be_reached_stops_a_rotation_and_is_found_by_audit_and_doctor(remote: Fleet) -> None:
    remote.add_many(2)
    remote.hosts["web2"].variables.update(ansible_ssh_common_args="-F none -o HostName=127.0.0.1 -o Port=1")
    env = {"ANSIBLE_STRATEGY": "mitogen_linear"}
    rotate = remote.rotate(env=env)
    assert (rotate.green, rotate.reason, remote.rotations) == (False, "not_ready", 0), rotate
    assert "web2: it is unreachable" in rotate.message
    deploy = remote.deploy(env=env)
    assert [(task.host, task.status) for task in deploy.failures] == [("web2", "unreachable")], deploy
    audit = remote.audit(env=env)
    assert (audit.green, audit.reason) == (False, "not_up_to_date"), audit
    doctor = remote.run("multicart.keys.doctor", env=env)
    assert doctor.states == {"web1": "up to date", "web2": "unreachable"}, doctor
