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


@pytest.mark.parametrize("strategy", ["mitogen_linear", "mitogen_free", "mitogen_host_pinned"])
def test_a_rotation_and_a_fleet_that_is_brought_up_to_date(remote: Fleet, strategy: str) -> None:
    hosts = remote.add_many(3, multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[note("healthy")])
    (remote.folder / "shop.json.j2").write_text('{"key": "{{ multicart_key }}"}')
    hosts[0].variables["multicart_deploy_files__shop"] = [{"path": "{{ home }}/shop.json", "template": "shop.json.j2"}]
    old = remote.live

    def run(playbook: str, *arguments: str) -> Run:
        return remote.run(f"multicart.keys.{playbook}", *arguments, env={"ANSIBLE_STRATEGY": strategy})

    deploy = run("deploy")  # the template's file is new
    assert deploy.green, deploy
    confirmed = ("-e", "multicart_rotate_confirm=true", "-vvvvv", "--diff")
    check = run("rotate", "--check", *confirmed)
    assert check.green, check
    assert remote.rotations == 0
    rotate = run("rotate", *confirmed)
    assert rotate.green, rotate
    assert (remote.rotations, remote.stale) == (1, [])
    assert [host.log[-2:] for host in hosts] == [["restarted", "healthy"]] * 3
    assert all(host.record.items() >= {"open": False, "retire": fingerprint(old)}.items() for host in hosts)
    for playbook in ("deploy", "audit", "doctor"):
        again = run(playbook)
        assert again.green, again
    assert (remote.rotations, remote.stale) == (1, [])


def test_a_host_that_cannot_be_reached_stops_a_rotation_and_is_found_by_audit_and_doctor(remote: Fleet) -> None:
    remote.add_many(2)
    remote.hosts["web2"].variables.update(ansible_ssh_common_args="-F none -o HostName=127.0.0.1 -o Port=1")
    env = {"ANSIBLE_STRATEGY": "mitogen_linear"}
    rotate = remote.rotate(env=env)
    assert (rotate.green, rotate.reason, remote.rotations) == (False, "not_ready", 0), rotate
    assert "web2: it is unreachable" in rotate.message
    audit = remote.audit(env=env)
    assert (audit.green, audit.reason) == (False, "not_current"), audit
    doctor = remote.run("multicart.keys.doctor", env=env)
    assert "web2" in doctor.output, doctor
