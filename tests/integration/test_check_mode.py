# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check mode changes nothing, sends no rotation, and predicts what the real run then does."""

from __future__ import annotations

import os

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey

from tests.integration.harness import Fleet, Run, note


def differences(run: Run) -> list[tuple[str, str]]:
    """Return what --diff shows of every file that gets another key."""
    shown = [diff for task in run.of("multicart_host") for diff in task.get("diff", [])]
    return sorted((diff["before"], diff["after"]) for diff in shown)


def test_rotate(fleet: Fleet) -> None:
    fleet.add("web1", multicart_deploy_commands=[note("restarted")])
    fleet.add("new", None)
    before = fleet.snapshot()
    old = f"MULTICART_API_KEY=(fingerprint {fleet.live_fingerprint})\n"
    check = fleet.run("multicart.keys.rotate", "--check", "--diff")  # which needs no confirmation
    assert check.green, check
    assert (check.step, check.outcome) == ("rotate", "would_rotate")
    assert (fleet.rotations, fleet.snapshot()) == (0, before)
    assert differences(check) == [(there, "MULTICART_API_KEY=(the new key)\n") for there in ("", old)]
    real = fleet.rotate("--diff")
    assert real.green, real
    new = f"MULTICART_API_KEY={ApiKey(fleet.live).masked} (fingerprint {fleet.live_fingerprint})\n"
    assert differences(real) == [("", new), (old, new)]
    assert check.changed == real.changed == {"web1": True, "new": True}
    assert fleet.stale == []


def test_rotate_of_a_fleet_that_is_behind(fleet: Fleet) -> None:
    fleet.add("behind")
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("current")
    before = fleet.snapshot()
    check = fleet.rotate("--check")
    assert (fleet.rotations, fleet.snapshot()) == (0, before)
    real = fleet.rotate()
    assert (check.green, check.reason) == (real.green, real.reason) == (False, "caught_up"), f"{check}{real}"
    assert check.changed == real.changed


def test_rotate_of_a_fleet_that_is_not_ready(fleet: Fleet) -> None:
    fleet.add("web1")
    os.link(fleet.hosts["web1"].env, fleet.folder / "hosts" / "another-name")
    check, real = fleet.rotate("--check"), fleet.rotate()
    assert (check.green, check.reason, check.message) == (False, "not_ready", real.message), f"{check}{real}"


def test_deploy_and_audit(fleet: Fleet) -> None:
    (fleet.folder / "key.j2").write_text("{{ multicart_key }}")
    restart = {"multicart_deploy_commands": [note("restarted")]}
    old = fleet.live_fingerprint
    fleet.add("behind").variables.update(restart)
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("current").variables.update(restart)
    due = fleet.add("due", multicart_deploy_health_checks=["true"])
    due.edit_record(retire=old, open=True, held=fleet.live_fingerprint)
    fleet.add("new", None, multicart_deploy_files=[{"path": "{{ home }}/key", "template": "key.j2"}])
    before = fleet.snapshot()
    check = fleet.deploy("--check", "--diff")
    assert check.green, check
    assert fleet.snapshot() == before
    audit = fleet.audit("--check")
    assert (audit.reason, audit.states["behind"]) == ("not_up_to_date", "out of date"), audit
    real = fleet.deploy()
    assert real.green, real
    assert check.changed == real.changed, f"{check}{real}"
    assert {name for name, changed in real.changed.items() if changed} >= {"behind", "due", "new"}
    assert (fleet.rotations, fleet.stale) == (0, [])


def test_the_modules(fleet: Fleet) -> None:
    web = fleet.add("web1", "A=1\n")
    tasks = """
    - multicart.keys.multicart_key_rotate:
    - multicart.keys.multicart_key_info:
    - multicart.keys.multicart_env_file:
        path: "{{ home }}/app.env"
        value: "{{ lookup('multicart.keys.multicart_key') }}"
    - multicart.keys.multicart_env_file:
        path: "{{ home }}/new.env"
        value: "{{ lookup('multicart.keys.multicart_key') }}"
        mode: "0640"
    - multicart.keys.multicart_env_file:
        path: "{{ home }}/app.env"
        variable: A
        state: absent
    - multicart.keys.multicart_env_file:
        path: "{{ home }}/gone/new.env"
        value: "{{ lookup('multicart.keys.multicart_key') }}"
    """
    before = fleet.snapshot()
    check = fleet.play(tasks, "--check", "--diff")
    assert (fleet.rotations, fleet.snapshot()) == (0, before)
    real = fleet.play(tasks, "--diff")
    assert (check.reason, check.message) == (real.reason, real.message) and check.reason == "no_such_directory"
    assert [task["changed"] for task in check.tasks] == [task["changed"] for task in real.tasks]
    assert [task["changed"] for task in real.tasks] == [True, False, True, True, True, False]
    assert fleet.rotations == 1
    assert web.env.read_text() == f"MULTICART_API_KEY={fleet.live}\n"
