# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doctor: what works, how things stand and what to do, without changing anything."""

from __future__ import annotations

from tests.integration.harness import GROUP, Fleet, Run, Task, fingerprint

DEAD_KEY = "173axcs.a-key-that-nobody-has-any-more"


def examine(fleet: Fleet, *arguments: str, **env: str) -> Task:
    """Run doctor.yml, hold it to changing nothing, and return what it found."""
    before = fleet.snapshot(), fleet.live
    started = max((entry["seq"] for entry in fleet.sandbox.journal()), default=0)
    run: Run = fleet.run("multicart.keys.doctor", *arguments, env=env)
    assert run.green, run
    assert (fleet.snapshot(), fleet.live) == before, run
    assert {entry["endpoint"] for entry in fleet.sandbox.journal(started)} <= {"read", "login"}
    return run.of("multicart_fleet_info")[-1]


def test_a_healthy_fleet_may_rotate(fleet: Fleet) -> None:
    fleet.add("web1")
    found = examine(fleet)
    assert found["credentials"] == {"session_token": True}
    assert found["live"] == fleet.live_fingerprint
    assert found["consumers"] == {"web1": "up to date"}
    rotate = "ansible-playbook multicart.keys.rotate -e multicart_rotate_confirm=true (with the same -i and -e options)"
    assert found["next"].endswith(rotate)


def test_a_host_that_is_no_consumer_decides_nothing(fleet: Fleet) -> None:
    """It is the first of the play, and lacks what the consumers have."""
    fleet.add("bastion", None, multicart_deploy_files=[])
    fleet.groups[GROUP] = ["web1"]
    token = "{{ lookup('ansible.builtin.env', 'SHOP_TOKEN') }}"
    given = {"api_url": fleet.sandbox.url, "session_token": token, "account": "shop"}
    file = {"path": "{{ home }}/app.env", "account": "shop"}
    fleet.add("web1", multicart_deploy_files=[file], **{f"multicart_{name}": value for name, value in given.items()})
    fleet.env["SHOP_TOKEN"] = fleet.env.pop("MULTICART_SESSION_TOKEN")
    found = examine(fleet)
    assert found["credentials"] == {"session_token": True}, found
    assert found["consumers"] == {"web1": "up to date"}


def test_hosts_that_are_behind_or_gone_are_named_with_the_command_that_mends_them(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add("web2", DEAD_KEY)
    assert "multicart.keys.deploy" in examine(fleet)["next"]
    fleet.add_unreachable("web3")
    found = examine(fleet)
    assert found["consumers"]["web2"].startswith("out of date: the key ")
    assert found["consumers"]["web3"].startswith("unreachable")
    assert found["next"].startswith("Fix the consumers")


def test_a_rotation_that_was_not_finished_is_to_be_finished(fleet: Fleet) -> None:
    old = fleet.live_fingerprint
    for host in fleet.add_many(2):
        host.edit_record(retire=old, open=True, held=old, readers={"any": old})
    fleet.sandbox.rotate_behind(fleet.email)
    found = examine(fleet)
    assert f"The rotation that retired {old} was not finished; to finish it: " in found["next"]
    assert f"multicart.keys.rotate -e multicart_rotate_confirm=true -e multicart_rotate_retire={old}" in found["next"]


def test_with_a_dead_key_and_a_wrong_password_it_points_to_the_dashboard(fleet: Fleet) -> None:
    fleet.add("web1")
    wrong = {"MULTICART_EMAIL": "nobody@example.com", "MULTICART_PASSWORD": "not-the-password"}
    found = examine(fleet, MULTICART_SESSION_TOKEN="", MULTICART_API_KEY=DEAD_KEY, **wrong)
    assert found["credentials"] == {"email and password": False, "api_key": False}
    assert found["consumers"] == {"web1": f"holds {fleet.live_fingerprint}"}
    assert "dashboard" in found["next"]


def test_a_key_alone_works_but_cannot_rotate(fleet: Fleet) -> None:
    fleet.add("web1")
    found = examine(fleet, MULTICART_SESSION_TOKEN="", MULTICART_API_KEY=fleet.live)
    assert found["credentials"] == {"api_key": True}
    assert "cannot rotate" in found["next"]


def test_it_needs_no_fleet_and_no_credential(fleet: Fleet) -> None:
    found = examine(fleet, MULTICART_SESSION_TOKEN="")
    assert found["credentials"] == {}
    assert found["consumers"] == {}
    assert "MULTICART_SESSION_TOKEN" in found["next"]
    assert fingerprint(fleet.live) not in str(found.result)


def test_a_service_that_does_not_answer_is_not_asked_for_every_host(fleet: Fleet) -> None:
    fleet.add_many(6)
    fleet.fault("read", "http_401", times=-1)
    fleet.requests()
    found = examine(fleet, ANSIBLE_FORKS="2")
    assert found["credentials"] == {"session_token": False}
    assert found["consumers"] == dict.fromkeys(fleet.hosts, f"holds {fleet.live_fingerprint}")
    assert len(fleet.requests()) == 1, "to try the token"
