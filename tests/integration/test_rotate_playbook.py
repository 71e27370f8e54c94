# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rotate.yml, deploy.yml and audit.yml when nothing breaks: what they do, and what decides it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import RECENTLY

from tests.integration import harness
from tests.integration.harness import Fleet, fingerprint, note
from tests.sandbox.shapes import Account

# A callback plugin that prints JSON; what goes to the standard error, which the harness would mix with that, to a file.
_PRINTS_JSON = """
import json, os
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = "name: {name}\\ntype: stdout\\nshort_description: prints JSON\\ndescription: likewise"
os.dup2(os.open("{errors}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "stdout", "{name}"

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps(sorted(stats.processed)))
"""

# What a file may look like; only the value of the variable may change in it.
SHAPES = {
    "plain.env": "A=1\nMULTICART_API_KEY={key}\nB=2",
    "quoted.env": '# the shop\nexport MULTICART_API_KEY="{key}"  # from the dashboard\n',
    "crlf.env": "A=1\r\nMULTICART_API_KEY='{key}'\r\n",
    "twice.env": "MULTICART_API_KEY={key}\nMULTICART_API_KEY={key}\n",
}


def test_one_rotation_reaches_every_shape_of_file_and_every_consumer(fleet: Fleet) -> None:
    commands = {"multicart_deploy_commands": [note("restarted")], "multicart_deploy_health_checks": [note("healthy")]}
    (fleet.folder / "shop.json.j2").write_text('{"key": "{{ multicart_key }}", "host": "{{ inventory_hostname }}"}')
    files = [{"path": "{{ home }}/" + name} for name in SHAPES]
    web = fleet.add("web", None, multicart_deploy_files=files, **commands)
    web.variables["multicart_deploy_files__shop"] = [
        {"path": "{{ home }}/linked.env"},
        {"path": "{{ home }}/other.env", "variable": "SHOP_KEY", "mode": "0640"},
        {"path": "{{ home }}/shop.json", "template": "shop.json.j2", "mode": "0600"},
    ]
    shapes = {
        **SHAPES,
        "other.env": "SHOP_KEY={key}\nMULTICART_API_KEY=left.alone\n",
        "target.env": SHAPES["plain.env"],
    }
    for name, text in shapes.items():
        (web.folder / name).write_bytes(text.format(key=fleet.live).encode())
    (web.folder / "linked.env").symlink_to("target.env")
    worker = fleet.add("worker", None, **commands)  # a consumer that is new and holds no key yet
    old = fleet.live

    run = fleet.rotate("--diff")
    assert run.green, run
    assert (fleet.rotations, run.step, run.outcome) == (1, "rotate", "rotated")
    assert (run.whole["retired"], run.whole["live"]) == (fingerprint(old), fleet.live_fingerprint)
    assert f" {fingerprint(old)} was revoked; the API rejects it." in run.output
    assert {name: task["state"] for name, task in run.own.items()} == dict.fromkeys(fleet.hosts, "up_to_date")
    for name, text in shapes.items():
        assert (web.folder / name).read_bytes() == text.format(key=fleet.live).encode(), name
    assert (web.folder / "linked.env").is_symlink()
    assert (web.folder / "other.env").stat().st_mode & 0o777 == 0o640
    assert (web.folder / "shop.json").read_text() == f'{{"key": "{fleet.live}", "host": "web"}}'
    assert worker.env.read_text() == f"MULTICART_API_KEY={fleet.live}\n"
    assert worker.env.stat().st_mode & 0o777 == 0o600
    assert web.log == worker.log == ["restarted", "healthy"]
    rotation = {"retire": fingerprint(old), "concluded": True}
    told = {"open": False, "rotation": rotation, "held": fleet.live_fingerprint}
    assert told.items() <= worker.record.items()
    [retired] = worker.record["retired"]
    assert (retired["key"], retired["seen"], retired["accepted"]) == (fingerprint(old), "rejected", True)
    assert datetime.now(timezone.utc) - datetime.fromisoformat(worker.record["since"][:-1] + "+00:00") < timedelta(
        minutes=2
    )

    audit = fleet.audit()
    assert audit.green, audit
    before = fleet.snapshot()
    deploy = fleet.deploy()
    assert deploy.green and not any(deploy.changed.values()), deploy
    healthy = {path: now for path, now in fleet.snapshot().items() if not path.endswith("/log")}
    assert healthy == {path: then for path, then in before.items() if not path.endswith("/log")}
    assert web.log == ["restarted", "healthy", "healthy"]


def test_a_larger_fleet_makes_no_more_requests(fleet: Fleet) -> None:
    fleet.add("web0")
    assert fleet.rotate().green
    alone = [entry["endpoint"] for entry in fleet.requests()]
    fleet.add_many(3)
    run = fleet.rotate()  # and this is another intent
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (2, [])
    assert [entry["endpoint"] for entry in fleet.requests()] == alone
    assert len(alone) <= 6


def test_the_key_to_retire_makes_a_run_repeatable_even_if_the_answer_is_lost(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("rotate", "answer_lost_after_commit")
    leaked = ["-e", f"multicart_rotate_retire={fleet.live_fingerprint}"]
    first, second = fleet.rotate(*leaked), fleet.rotate(*leaked)
    assert first.green and second.green, f"{first}{second}"
    assert (first.step, first.outcome, second.step) == ("rotate", "rotated", "retired")
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_only_a_key_older_than_max_age_is_rotated(fleet: Fleet) -> None:
    web = fleet.add("web1")
    schedule = ["-e", "multicart_rotate_max_age=30d"]
    for age, rotations in ((1, 0), (31, 1)):
        since = datetime.now(timezone.utc) - timedelta(days=age)
        web.edit_record(held=fleet.live_fingerprint, since=since.isoformat())
        run = fleet.rotate(*schedule)
        assert run.green, run
        assert (fleet.rotations, fleet.stale) == (rotations, [])


def test_a_fleet_that_is_behind_is_caught_up_first_and_rotated_by_the_next_run(fleet: Fleet) -> None:
    fleet.add("behind", multicart_deploy_commands=[note("restarted")])
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("current")
    run = fleet.rotate()
    assert (run.green, run.reason, run.step) == (False, "caught_up", "catch_up"), run
    assert (fleet.rotations, fleet.stale, fleet.hosts["behind"].log) == (0, [], ["restarted"])
    again = fleet.rotate()
    assert again.green, again
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_force_rotates_a_fleet_that_is_behind(fleet: Fleet) -> None:
    fleet.add("behind")
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.rotate("-e", "multicart_rotate_force=true")
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_audit_tells_how_every_consumer_stands(fleet: Fleet) -> None:
    fleet.add("behind")
    fleet.sandbox.rotate_behind(fleet.email)
    fleet.add("current")
    fleet.add("new", None)
    fleet.add("started", "changeme")
    fleet.add("due").edit_record(retire="0" * 16, open=True, held=fleet.live_fingerprint)
    fleet.add("broken", None).env.mkdir()
    fleet.add_unreachable("gone")
    before = fleet.snapshot()
    run = fleet.audit()
    assert (run.green, run.reason) == (False, "not_up_to_date"), run
    assert run.states == {
        "behind": "out of date",
        "current": "up to date",
        "new": "missing",
        "started": "missing",
        "due": "restart due",
        "broken": "unreadable",
        "gone": "unreachable",
    }
    assert {name: task["state"].replace("_", " ") for name, task in run.own.items()} == run.states
    assert {task.host for task in run.failures} == set(fleet.hosts) - {"current"}
    assert fleet.snapshot() == before


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_what_a_program_reads_is_json_alone(fleet: Fleet, name: str) -> None:
    """As with the callbacks of ansible.posix."""
    fleet.add_many(2)
    (fleet.folder / f"{name}.py").write_text(_PRINTS_JSON.format(name=name, errors=fleet.folder / "errors"))
    env = {"ANSIBLE_STDOUT_CALLBACK": name}
    env["ANSIBLE_CALLBACK_PLUGINS"] = f"{Path(harness.__file__).with_name('callbacks')}:{fleet.folder}"
    for run in (fleet.rotate(env=env), fleet.audit(env=env)):
        assert (run.green, json.loads(run.output)) == (True, ["web1", "web2"]), run
    errors = (fleet.folder / "errors").read_text()
    assert "  Rotating " in errors and "  2 of 2 consumers are up to date" in errors


def test_deploy_equips_a_new_fleet_without_a_rotation(fleet: Fleet) -> None:
    fleet.add("web1", None)
    fleet.add("web2", "changeme")
    began = time.monotonic()
    run = fleet.deploy()
    seconds = time.monotonic() - began
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (0, [])
    # One read and its proof serve both hosts, as long as they are recent when these look whether the key is still live.
    asked = [entry["credential"] for entry in fleet.requests()]
    assert asked == ["token", "key"] * (len(asked) // 2)
    assert 1 <= len(asked) // 2 <= 1 + int(seconds / RECENTLY)


@pytest.mark.parametrize("account", ["default", "b"])
def test_the_files_of_another_account_are_left_alone(
    fleet: Fleet, new_account: Callable[[], Account], account: str
) -> None:
    other = new_account()
    host = fleet.add("web1")
    host.variables["multicart_deploy_files__b"] = [{"path": "{{ home }}/b.env", "account": "b"}]
    (host.folder / "b.env").write_text(f"MULTICART_API_KEY={other['api_key']}\n")
    mine, others = ("app.env", "b.env") if account == "default" else ("b.env", "app.env")
    email = fleet.email if account == "default" else other["email"]
    before = {path: then for path, then in fleet.snapshot().items() if others in path}
    run = fleet.rotate(
        "-e", f"multicart_account={account}", env={"MULTICART_SESSION_TOKEN": fleet.sandbox.token(email)}
    )
    assert run.green, run
    assert {path: now for path, now in fleet.snapshot().items() if others in path} == before
    assert fleet.sandbox.account(email)["api_key"] in (host.folder / mine).read_text()
    assert fleet.sandbox.rotations(email) == 1
    assert fleet.sandbox.rotations(fleet.email) + fleet.sandbox.rotations(other["email"]) == 1


@pytest.mark.parametrize("playbook", ["deploy", "audit", "rotate"])
def test_an_account_that_no_consumer_has_a_file_of_is_refused(fleet: Fleet, playbook: str) -> None:
    fleet.add("web1")
    before, told = fleet.snapshot(), fleet.folder / "told"
    hooks = {"multicart_report_hooks": [{"command": ["touch", str(told)], "events": ["failure"]}]}
    run = getattr(fleet, playbook)("-e", "multicart_account=shopp", "-e", json.dumps(hooks))
    assert (run.green, run.reason) == (False, "no_consumers"), run
    assert "multicart_account=LABEL" in run.output
    assert (fleet.rotations, fleet.snapshot()) == (0, before)
    assert told.exists() is (playbook != "deploy"), "a run that a schedule starts was refused untold"
