# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong input: a clear error that names the option and the remedy, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.harness import Fleet, fingerprint
from tests.sandbox.shapes import Account

IN_TASKS = {
    # what a task says: the reason, and what the message names
    "multicart_key_info: {api_url: 'ftp://x'}": ("invalid_option", ["api_url", "https://"]),
    "multicart_key_info: {api_url: 'multicartapi.com/api/v1'}": ("invalid_option", ["api_url", "absolute"]),
    "multicart_key_info: {api_url: 'http://10.0.0.1/api/v1'}": ("insecure_url", ["api_url", "https://"]),
    "multicart_key_info: {email: a@example.com}": ("invalid_option", ["password", "email"]),
    "multicart_key_info: {password: a}": ("invalid_option", ["password", "email"]),
    "multicart_key_info: {timeout: soon}": ("invalid_option", ["timeout", "seconds"]),
    "multicart_key_info: {validate_certs: nonsense}": ("invalid_option", ["validate_certs", "true or false"]),
    "multicart_key_info: {api_key: no key}": ("malformed_key", ["api_key"]),
    "multicart_key_info: {sesion_token: x}": ("invalid_option", ["sesion_token", "session_token"]),
    "multicart_key_rotate: {retire: live}": ("invalid_option", ["retire", "16"]),
    "multicart_env_file: {path: '{{ home }}', value: 'abc.def'}": ("path_is_directory", ["hosts/web1", "directory"]),
    "multicart_env_file: {path: relative, value: 'abc.def'}": (None, ["relative", "absolute"]),
    "multicart_env_file: {path: '{{ home }}/app.env', value: 'abc.def', variable: 'A=B'}": (
        "invalid_option",
        ["variable"],
    ),
    "multicart_env_file: {path: '{{ home }}/app.env', value: changeme}": ("malformed_key", ["value"]),
    "multicart_env_file: {path: '{{ home }}/app.env'}": (None, ["value"]),
    "multicart_env_file: {path: '{{ home }}/app.env', value: 'abc.def', owner: nobody-knows}": (
        "invalid_option",
        ["owner"],
    ),
    "multicart_env_file_info: {path: '{{ home }}', variable: 'A B'}": ("invalid_option", ["variable"]),
}


def test_in_tasks(fleet: Fleet) -> None:
    fleet.add("web1")
    before = fleet.snapshot()
    unset = {"MULTICART_SESSION_TOKEN": "", "MULTICART_API_URL": ""}
    lines = [f"- multicart.keys.{task}\n  ignore_errors: true" for task in IN_TASKS]
    run = fleet.play("\n".join(lines), env=unset)
    assert [task.status for task in run.tasks] == ["ignored"] * len(IN_TASKS), run
    for task, (said, (reason, named)) in zip(run.tasks, IN_TASKS.items(), strict=True):
        assert reason in (None, task.get("reason")), f"{said}: {task}"
        assert all(word in task["msg"] for word in named), f"{said}: {task}"
    assert fleet.requests() == []
    assert fleet.snapshot() == before


def test_in_the_lookup(fleet: Fleet) -> None:
    fleet.add("web1")
    wrong = {
        "'secret'": ["invalid_option", "key_fingerprint"],
        "cahce=false": ["invalid_option", "cache"],
        "api_url='http://example.com'": ["insecure_url", "api_url"],
    }
    look = "- ansible.builtin.debug:\n    msg: \"{{{{ lookup('multicart.keys.multicart_key', {}) }}}}\""
    task = look + "\n  ignore_errors: true"
    run = fleet.play("\n".join(task.format(arguments) for arguments in wrong), env={"MULTICART_SESSION_TOKEN": ""})
    assert [task.status for task in run.tasks] == ["ignored"] * len(wrong), run
    for told, words in zip(run.tasks, wrong.values(), strict=True):
        assert all(word in told["msg"] for word in words), told
    assert fleet.requests() == []


def test_in_the_fleet_every_mistake_of_every_host_is_told_at_once(fleet: Fleet) -> None:
    fleet.add("web1")
    (fleet.folder / "undefined.j2").write_text("{{ multicart_key }}{{ no_such_variable }}")
    path = "{{ home }}/app.env"
    wrong = {
        "directory": ({"path": "{{ home }}"}, ["directory"]),
        "no_directory": ({"path": "{{ home }}/gone/app.env"}, ["gone"]),
        "relative": ({"path": "app.env"}, ["multicart_deploy_files, entry 1", "absolute"]),
        "equals": ({"path": path, "variable": "A=B"}, ["multicart_deploy_files, entry 1", "variable"]),
        "octal": ({"path": path, "mode": 640}, ["multicart_deploy_files, entry 1", "mode in quotes"]),
        "misspelt": ({"path": path}, ["multicart_deploy_service", "write multicart_deploy_services"]),
        "slip": ({"pth": path}, ["multicart_deploy_files, entry 1", "pth"]),
        "both": ({"path": path, "variable": "A", "template": "a.j2"}, ["template", "variable"]),
        "no_template": ({"path": path, "template": "nowhere.j2"}, ["nowhere.j2", "beside the playbook"]),
        "undefined": ({"path": path, "template": "undefined.j2"}, ["undefined.j2", "no_such_variable"]),
    }
    for name, (file, _words) in wrong.items():
        fleet.add(name, None if "template" in file else "{key}", multicart_deploy_files=[file])
    fleet.hosts["misspelt"].variables["multicart_deploy_service"] = ["app"]
    before = fleet.snapshot()
    run = fleet.rotate("-f", "10")
    assert (run.green, run.reason) == (False, "not_ready"), run
    for name, (_file, words) in wrong.items():
        refused, *_advice = (str(line) for line in run.whole["msg"])
        [told] = [part for part in refused.split("; ") if part.startswith(f"{name}: ") or f" {name}: " in part]
        assert all(word in told for word in words), f"{name}: {told}"
        assert all(word in run.own[name]["msg"] for word in words), run.own[name]
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


def test_a_deployment_in_which_a_host_has_nothing_to_hold_is_red(fleet: Fleet) -> None:
    """That of the host is under a name which is misspelt, or too many levels down."""
    fleet.add("web1", "{key}", multicart_deploy_files=[])
    fleet.add("web2", None)
    run = fleet.deploy()
    assert [(task.host, task["reason"]) for task in run.failures] == [("web1", "no_files")], run
    assert "Set multicart_deploy_files for it" in run.message and run.own["web2"]["state"] == "up_to_date"
    assert fleet.live in fleet.hosts["web2"].env.read_text()


def test_without_requests_it_is_told_how_to_install_it(fleet: Fleet) -> None:
    fleet.add("web1")
    hidden = fleet.folder / "hidden"
    hidden.mkdir()
    (hidden / "requests.py").write_text("raise ImportError('hidden')\n")
    run = fleet.rotate(env={"PYTHONPATH": str(hidden)})
    assert (run.green, run.reason) == (False, "requests_missing"), run
    assert "-m pip install requests" in run.message
    assert fleet.rotations == 0


@pytest.mark.parametrize("recorded", [False, True])
def test_t13_retiring_with_the_credentials_of_another_account_changes_nothing(
    fleet: Fleet, new_account: Callable[[], Account], recorded: bool
) -> None:
    """The leaked key is of one account, the credentials are of another; the files never had a record, or one has."""
    fleet.add_many(2)
    leaked = fleet.live
    if recorded:
        assert fleet.deploy("-e", "multicart_hosts=web1").green
    before = fleet.snapshot()
    other = new_account()
    theirs = {"MULTICART_SESSION_TOKEN": fleet.sandbox.token(other["email"])}
    run = fleet.rotate("-e", f"multicart_rotate_retire={fingerprint(leaked)}", env=theirs)
    assert (run.green, run.reason) == (False, "other_account"), run
    assert fleet.snapshot() == before and fleet.live == leaked
    assert (fleet.rotations, fleet.sandbox.rotations(other["email"])) == (0, 0)
    run = fleet.rotate("-e", f"multicart_rotate_retire={fingerprint(leaked)}")
    assert run.green and fleet.rotations == 1 and fleet.live != leaked, run


def test_the_credentials_of_another_account_lock_nobody_out(fleet: Fleet, new_account: Callable[[], Account]) -> None:
    """Once a file was given a key, only a key of the same account takes its place, in whatever state that file is."""
    fleet.add_many(2)
    assert fleet.deploy().green
    before = fleet.snapshot()
    other = new_account()
    theirs = {"MULTICART_SESSION_TOKEN": fleet.sandbox.token(other["email"])}
    for run in (fleet.deploy(env=theirs), fleet.rotate(env=theirs), fleet.rotate("--check", env=theirs)):
        assert not run.green, run
        assert "it holds the key of another account" in run.message
        assert fleet.hosts["web1"].record_path().name in run.message
    found = fleet.run("multicart.keys.doctor", env=theirs).of("multicart_fleet_info")[-1]["consumers"]
    assert all("it holds the key of another account" in how for how in found.values()), found
    assert fleet.snapshot() == before
    assert (fleet.rotations, fleet.sandbox.rotations(other["email"])) == (0, 0)
    for host in fleet.hosts.values():
        host.record_path().unlink()
    assert fleet.deploy(env=theirs).green
    assert all(other["api_key"] in host.env.read_text() for host in fleet.hosts.values())
