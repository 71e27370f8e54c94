# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of real runs: what it says agrees with what happened, also where hosts failed or went away."""

from __future__ import annotations

import json
import shlex
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Fleet, Run, fingerprint, note

EVENTS = ["armed", "released", "written", "restarted", "healthy"]


def reports(fleet: Fleet) -> list[Path]:
    """Return all that is in the directory for reports, in the order of time."""
    return sorted((fleet.folder / "multicart-reports").glob("*")) + sorted(fleet.folder.glob("multicart-reports/.*"))


def report_of(fleet: Fleet, run: Run) -> dict[str, Any]:
    """Return the newest report, once it is certain that the run has named it and that there is a page beside it."""
    told = run.of("multicart_report")[-1]
    page, data = reports(fleet)[-2:]
    assert (told["html_path"], told["json_path"]) == (str(page), str(data)), run
    assert not told["changed"]
    assert told["msg"] == [f"Report: {page}"]
    found: dict[str, Any] = json.loads(data.read_text(encoding="utf-8"))
    html = page.read_text(encoding="utf-8")
    for host in found["hosts"]:
        assert f'<th scope="row">{host["name"]}<' in html
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@pytest.mark.full
def test_a_rotation_is_told_as_it_happened(fleet: Fleet) -> None:
    slow_steps = {"multicart_deploy_commands": ["sleep 0.5"], "multicart_deploy_health_checks": [note("healthy")]}
    fleet.add("slow", **fleet.over_ssh(), **slow_steps)
    fleet.add("plain")
    old = fleet.live
    run = fleet.rotate()
    assert run.green, run
    found = report_of(fleet, run)
    assert len(reports(fleet)) == 2
    assert (found["outcome"], found["reason"], found["finish"]) == ("rotated", None, None)
    assert (found["new_key_works"], found["old_key_rejected"]) == (True, True)
    assert found["old_key"]["fingerprint"] == fingerprint(old)
    assert found["new_key"] == {
        "masked": f"{fleet.live.split('.')[0]}.{'•' * 16}",
        "fingerprint": fingerprint(fleet.live),
    }
    assert found["consumers"] == {"total": 2, "unfinished": 0, "armed": 1, "stores": 0}
    hosts = {host["name"]: host for host in found["hosts"]}
    assert list(hosts["slow"]["times"]) == EVENTS and list(hosts["plain"]["times"]) == ["released", "written"]
    rotated_at = moment(found["rotated_at"])
    for host in hosts.values():
        assert host["state"] == "up_to_date"
        for event, at in host["times"].items():
            assert abs(moment(at) - rotated_at - timedelta(seconds=host["seconds"][event])) < timedelta(seconds=0.002)
    slow, plain = hosts["slow"]["seconds"], hosts["plain"]["seconds"]
    assert slow["armed"] < 0 < slow["released"] < slow["written"] < slow["restarted"] - 0.4 < slow["healthy"] - 0.4
    assert found["last_write_seconds"] == max(slow["written"], plain["written"])
    assert found["outage_seconds"] == slow["restarted"] == hosts["slow"]["outage_seconds"]


@pytest.mark.full
def test_a_run_that_changes_nothing_writes_nothing(fleet: Fleet) -> None:
    web = fleet.add("web1")
    checked = fleet.run("multicart.keys.rotate", "--check")
    assert checked.green and reports(fleet) == [], checked
    web.edit_record(held=fleet.live_fingerprint, since=datetime.now(timezone.utc).isoformat())
    scheduled = fleet.rotate("-e", "multicart_rotate_max_age=30d")
    assert scheduled.green and (fleet.rotations, reports(fleet)) == (0, []), scheduled


def test_what_failed_or_went_away_is_in_it_with_the_command_that_finishes_it(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add("sick", multicart_deploy_health_checks=["test -e {{ home }}/cured"])
    gone = fleet.folder / "hosts" / "down"
    fleet.add_unreachable("lost", once=gone)
    with fleet.once_rotated(lambda: fleet.break_off(gone)):
        run = fleet.rotate("-e", "harmless=canary-Zq8vTn3kWx", "-e", "multicart_account=default")
    assert (run.green, run.reason) == (False, "not_up_to_date"), run
    found = report_of(fleet, run)
    states = {host["name"]: (host["state"], host["why"]) for host in found["hosts"]}
    assert states["web1"] == ("up_to_date", None)
    lost = "it is unreachable (Connection closed); whether the key was written there is not known"
    assert states["lost"] == ("unreachable", lost)
    assert states["sick"][0] == "restart_due" and states["sick"][1]
    assert (found["outcome"], found["consumers"]["unfinished"], found["outage_seconds"]) == ("rotated", 2, None)
    web1 = found["hosts"][-1]
    assert (web1["name"], list(web1["times"])) == ("web1", ["released", "written"])
    assert 0 < web1["seconds"]["released"] < web1["seconds"]["written"] == web1["outage_seconds"]
    assert not any("Zq8vTn3k" in path.read_text(encoding="utf-8") for path in reports(fleet))

    gone.unlink()
    (fleet.hosts["sick"].folder / "cured").touch()
    command, remark = found["finish"].split(" (")
    assert remark == "with the same -i and -e options)"
    program, *arguments = shlex.split(command)
    assert program == "ansible-playbook"
    finished = fleet.run(*arguments)
    assert finished.green, finished
    assert {task.host for task in finished.of("multicart_host")} == {"lost", "sick"}
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_where_the_new_key_could_not_be_read_no_consumer_is_called_up_to_date(fleet: Fleet) -> None:
    fleet.add_many(2)
    fleet.sandbox.settings(fleet.email, tokens_die_with_rotation=True)
    run = fleet.rotate()
    assert (run.green, run.reason, run.outcome) == (False, "new_key_unreadable", "rotated"), run
    assert run.states == dict.fromkeys(fleet.hosts, "unknown")
    assert [task["state"] for task in run.own.values()] == ["unknown"] * 2
    assert run.whole is not None and run.whole["live"] is None
    found = report_of(fleet, run)
    assert (found["new_key"], found["consumers"]["unfinished"]) == (None, 2)
    assert [host["state"] for host in found["hosts"]] == ["unknown"] * 2


@pytest.mark.full
def test_a_rotation_that_was_refused_is_told_with_the_same_command(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.fault("rotate", "refused")
    old = fleet.live_fingerprint
    run = fleet.rotate("-e", '{"multicart_rotate_min_hosts": 1}')
    assert (run.green, run.reason) == (False, "refused"), run
    found = report_of(fleet, run)
    assert (found["outcome"], found["reason"], found["last_write_seconds"]) == ("unchanged", "refused", None)
    assert [(host["name"], host["state"]) for host in found["hosts"]] == [("web1", "up_to_date")]
    fleet.sandbox.clear()
    named = f"-e multicart_rotate_retire={old}"
    assert found["finish"] == f"the same command again, and {named}"
    again = fleet.rotate("-e", '{"multicart_rotate_min_hosts": 1}', *shlex.split(named))
    assert again.green and fleet.rotations == 1, again


@pytest.mark.full
def test_a_directory_that_cannot_be_written_is_told_and_fails_nothing(fleet: Fleet) -> None:
    fleet.add("web1")
    (fleet.folder / "taken").write_text("a file")
    run = fleet.rotate("-e", "multicart_report_dir=taken/reports")
    assert run.green, run
    told = run.of("multicart_report")[-1]
    assert "could not be written" in told["msg"][0] and str(fleet.folder / "taken") in told["msg"][0]
    assert "html_path" not in told.result
    assert "could not be written" in run.output


@pytest.mark.full
def test_a_directory_that_cannot_be_templated_fails_nothing(fleet: Fleet) -> None:
    fleet.add("web1")
    run = fleet.rotate("-e", '{"multicart_report_dir": "{{ no_such_variable }}"}')
    assert run.green and fleet.stale == [] and reports(fleet) == [], run
    assert "no_such_variable is undefined" in run.of("multicart_report")[-1]["msg"][0]
    assert "Nothing was changed" not in run.output, run  # the key was


@pytest.mark.full
def test_an_empty_directory_turns_it_off(fleet: Fleet) -> None:
    fleet.add("web1")
    run = fleet.rotate("-e", "multicart_report_dir=")
    assert run.green and reports(fleet) == [], run


@pytest.mark.full
def test_the_role_reports_in_a_play_of_the_users_own(fleet: Fleet) -> None:
    fleet.add_many(2)
    head = "roles: [multicart.keys.multicart_rotate]"
    run = fleet.play("[]", "-e", "multicart_rotate_confirm=true", "-e", "multicart_report_dir=kept/here", head=head)
    assert run.green, run
    page, data = sorted((fleet.folder / "kept/here").iterdir())
    found = json.loads(data.read_text(encoding="utf-8"))
    assert (found["outcome"], found["reason"], len(found["hosts"])) == ("rotated", None, 2)
    assert str(page) in run.output
