# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""multicart_env_file and multicart_env_file_info through ansible-playbook."""

from __future__ import annotations

import pytest

from tests.integration.harness import Fleet, fingerprint

WRITE = """
- multicart.keys.multicart_env_file:
    path: "{{ home }}/app.env"
    value: "{{ lookup('multicart.keys.multicart_key') }}"
"""


@pytest.mark.parametrize("pipelining", ["", "0"], ids=["pipelining_unset", "pipelining_off"])
def test_written_once_with_masks_in_the_diff(fleet: Fleet, pipelining: str) -> None:
    web = fleet.add("web1", "OTHER=neighbour.secret\nMULTICART_API_KEY='{key}' # note\n")
    old = fleet.live
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.play(WRITE * 2, "--diff", "-vvv", env={"ANSIBLE_PIPELINING": pipelining})
    assert run.green, run
    first, second = run.tasks
    assert web.env.read_text() == f"OTHER=neighbour.secret\nMULTICART_API_KEY='{fleet.live}' # note\n"
    assert (first["changed"], second["changed"]) == (True, False)
    assert (first["previous_key_fingerprint"], first["key_fingerprint"]) == (fingerprint(old), fleet.live_fingerprint)
    assert "neighbour" not in run.output
    assert fingerprint(old) in run.output and "\u2022" * 16 in run.output


def test_absent_and_create(fleet: Fleet) -> None:
    web = fleet.add("web1", "A=1\nMULTICART_API_KEY={key}\nB=2\n")
    fleet.add("web2", None)
    tasks = """
    - multicart.keys.multicart_env_file: {path: "{{ home }}/app.env", state: absent}
    - multicart.keys.multicart_env_file: {path: "{{ home }}/app.env", state: absent}
    - multicart.keys.multicart_env_file: {path: "{{ home }}/new.env", value: "abcdefg.hijklmno", create: false}
    """
    run = fleet.play(tasks, "--diff")
    assert [
        (task.host, task.get("changed")) for task in run.of("env_file") if task.status == "ok" and task["changed"]
    ] == [("web1", True)]
    assert {task.host: task["reason"] for task in run.failures} == dict.fromkeys(("web1", "web2"), "no_such_file")
    assert web.env.read_text() == "A=1\nB=2\n"
    assert sorted(path.name for path in web.folder.iterdir()) == ["app.env"]


def test_a_key_in_the_place_of_an_option_is_not_shown(fleet: Fleet) -> None:
    fleet.add("web1")
    run = fleet.play("- multicart.keys.multicart_env_file: {path: '{{ home }}/app.env', 'KEY=acme.canary': ~}")
    (task,) = run.failures  # Ansible itself shows the lines of the playbook
    assert (task["reason"], task["msg"].split(". ")[0]) == ("invalid_option", "There is no option (not shown)")


def test_info_tells_fingerprints_and_whether_the_place_can_be_written(fleet: Fleet) -> None:
    web = fleet.add("web1", "MULTICART_API_KEY={key}\nSHOP_KEY=changeme\n")
    tasks = """
    - multicart.keys.multicart_env_file_info: {path: "{{ home }}/app.env"}
    - multicart.keys.multicart_env_file_info: {path: "{{ home }}/app.env", variable: SHOP_KEY}
    - multicart.keys.multicart_env_file_info: {path: "{{ home }}/gone/app.env"}
    """
    before = fleet.snapshot()
    run = fleet.play(tasks, "-vvv")
    assert run.green, run
    present, started, gone = run.of("env_file_info")
    assert fleet.live_fingerprint in str(present.result) and fleet.live.partition(".")[0] in str(present.result)
    assert "changeme" not in str(started.result)
    assert (present["writable"], gone["writable"]) == (True, False), run
    assert web.env.exists() and fleet.snapshot() == before
