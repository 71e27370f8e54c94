# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics, hooks and the system log of real runs, and the hours in which rotations are allowed."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import UNREACHABLE, Fleet, Run, fingerprint

# Keeps what it is given, and shows what it was started with.
HOOK = """#!{python}
import json, os, sys
report = json.load(sys.stdin)
name = f"{{report['run']}}-{{'-'.join(report['events'])}}.json"
with open(os.path.join({folder!r}, name), "w") as file:
    json.dump({{"report": report, "arguments": sys.argv[1:], "environment": dict(os.environ)}}, file)
print("canary-of-a-hook " * 100)
"""
# In place of Python's own, since a log of the whole system is no place for a test.
SYSLOG = """
LOG_PID, LOG_AUTH, LOG_NOTICE, LOG_WARNING, LOG_INFO, LOG_USER = 1, 32, 5, 4, 6, 8
def openlog(*given): pass
def closelog(): pass
def syslog(priority, text):
    if "account=" in text:
        with open({file!r}, "a") as file:
            file.write(f"{{priority}} {{text}}\\n")
"""


def metrics(fleet: Fleet) -> dict[str, float]:
    """Return the metrics that a file has."""
    lines = (fleet.folder / "multicart.prom").read_text(encoding="utf-8").splitlines()
    told = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name.removeprefix("multicart_"): float(value) for name, _space, value in told}


def with_metrics(fleet: Fleet) -> None:
    fleet.variables["multicart_report_metrics"] = str(fleet.folder / "multicart.prom")


def hook(fleet: Fleet, *events: str) -> dict[str, Any]:
    """Return a hook that keeps what it is given, in a file named after the run and its events."""
    told = fleet.folder / "told"
    told.mkdir(exist_ok=True)
    program = fleet.folder / "hook"
    program.write_text(HOOK.format(python=sys.executable, folder=str(told)))
    program.chmod(0o755)
    return {"command": [str(program), "--quietly"], "events": list(events)}


def told(fleet: Fleet) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (fleet.folder / "told").iterdir()}


def consumers(found: dict[str, float]) -> dict[str, float]:
    """Return how many consumers are in each state in which there is one."""
    listed = [(name.split('"'), value) for name, value in found.items() if name.startswith("consumers{") and value]
    return {f"{parts[1]} {parts[3]}": value for parts, value in listed}


def warnings(run: Run) -> str:
    """Return what a run warned of, on one line."""
    return " ".join(run.output.partition("[WARNING]")[2].split())


# --- metrics and hooks ----------------------------------------------------------------------------


def test_metrics_and_hooks_follow_the_fleet_through_its_life(fleet: Fleet) -> None:
    """A rotation, a drift that an audit finds, a deployment that mends the most of it; another account's stay."""
    with_metrics(fleet)
    broken = {"command": ["false"], "events": ["failure"]}
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "change", "drift"), broken]
    fleet.add_many(2)
    (fleet.folder / "multicart.prom").write_text('multicart_consumers{account="theirs",state="missing"} 7.0\n')
    began, old = int(datetime.now(timezone.utc).timestamp()), fleet.live  # the account's dates are whole seconds
    run = fleet.rotate()
    assert run.green and "canary-of-a-hook" not in run.output, run
    rotated = metrics(fleet)
    assert consumers(rotated) == {"default up_to_date": 2, "theirs missing": 7}
    assert rotated['key_since_timestamp_seconds{account="default"}'] >= began
    assert rotated['last_success_timestamp_seconds{account="default",run="rotate"}'] >= began
    assert rotated['last_outage_seconds{account="default"}'] > 0
    assert (fleet.folder / "multicart.prom").stat().st_mode & 0o777 == 0o644
    given = told(fleet)["rotate-change"]
    report = given["report"]
    assert (report["outcome"], report["old_key"]["fingerprint"]) == ("rotated", fingerprint(old))
    assert report == json.loads(next((fleet.folder / "multicart-reports").glob("*.json")).read_text())
    assert given["arguments"] == ["--quietly"]
    assert not [name for name in given["environment"] if name.startswith(("MULTICART", "ANSIBLE"))]

    while datetime.now(timezone.utc).timestamp() < rotated['key_since_timestamp_seconds{account="default"}'] + 1:
        time.sleep(0.1)
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.audit()
    assert run.reason == "not_up_to_date", run
    drifted = metrics(fleet)
    assert consumers(drifted) == {"default out_of_date": 2, "theirs missing": 7}
    assert 'last_success_timestamp_seconds{account="default",run="audit"}' not in drifted
    since, outage = 'key_since_timestamp_seconds{account="default"}', 'last_outage_seconds{account="default"}'
    assert drifted[since] != rotated[since] and drifted[outage] == rotated[outage]
    assert [host["state"] for host in told(fleet)["audit-drift"]["report"]["hosts"]] == ["out_of_date"] * 2

    fleet.hosts["web2"].variables.update(UNREACHABLE)
    run = fleet.deploy()
    assert not run.green, run
    assert consumers(metrics(fleet)) == {"default unreachable": 1, "default up_to_date": 1, "theirs missing": 7}
    deployed = told(fleet)["deploy-change-failure"]["report"]
    states = [(host["name"], host["state"]) for host in deployed["hosts"]]
    assert states == [("web2", "unreachable"), ("web1", "up_to_date")]
    assert "A hook failed, entry 2 (false) of multicart_report_hooks: exit status 1." in warnings(run), run
    assert [path.name for path in fleet.folder.glob(".multicart.prom*")] == []


@pytest.mark.full
@pytest.mark.parametrize("strategy", ["linear", "free", "host_pinned"])
def test_a_deployment_is_told_once_whatever_the_strategy(fleet: Fleet, strategy: str) -> None:
    with_metrics(fleet)
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "change", "failure")]
    fleet.add_many(6)
    fleet.add("other", None, multicart_deploy_files=[{"path": "/x", "account": "other"}])
    fleet.add("late", None, multicart_deploy_files=[], multicart_deploy_account="other")
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.deploy(env={"ANSIBLE_STRATEGY": strategy})
    assert run.green, run
    assert [len(each["report"]["hosts"]) for each in told(fleet).values()] == [6]
    before = metrics(fleet)
    assert consumers(before) == {"default up_to_date": 6}
    assert fleet.deploy("--limit", "web1").green
    assert metrics(fleet) == before, "a part of the fleet tells nothing of the whole"
    assert fleet.deploy().green
    assert metrics(fleet) != before


def test_a_host_that_fails_without_leaving_anything_is_told_of_by_the_others(fleet: Fleet) -> None:
    with_metrics(fleet)
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "change", "failure")]
    fleet.add_many(2)
    fleet.hosts["web2"].variables["multicart_validate_certs"] = "perhaps"
    run = fleet.deploy()
    assert not run.green, run
    (report,) = [each["report"] for each in told(fleet).values()]
    assert (report["events"], report["reason"]) == (["change", "failure"], "not_up_to_date")
    states = [(host["name"], host["state"], host["why"]) for host in report["hosts"]]
    why = "it was skipped, or failed, before this task"
    assert states == [("web2", "unreadable", why), ("web1", "up_to_date", None)]
    assert consumers(metrics(fleet)) == {"default unreadable": 1, "default up_to_date": 1}


UNWRITABLE = {
    "no_directory": (lambda path: path.parent.rmdir(), "No such file or directory"),
    "of_somebody_else": (lambda path: path.write_text("node_load1 0.5\n"), "other things than metrics"),
    "no_text": (lambda path: path.write_bytes(b"\xff\x00" * 100), "other things than metrics"),
    "a_directory": (lambda path: path.mkdir(), "Is a directory"),
    "endless": (lambda path: path.symlink_to("/dev/full"), "other things than metrics"),
}


@pytest.mark.full
@pytest.mark.parametrize("case", UNWRITABLE)
def test_metrics_that_cannot_be_written_are_told_and_fail_nothing(fleet: Fleet, case: str) -> None:
    path = fleet.folder / "collector" / "multicart.prom"
    path.parent.mkdir()
    spoil, why = UNWRITABLE[case]
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    fleet.add("web1")
    run = fleet.rotate("-e", f"multicart_report_metrics={path}")
    assert run.green and fleet.stale == [], run
    assert f"The metrics were not written to {path}" in warnings(run) and why in warnings(run), run
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("playbook", ["rotate", pytest.param("audit", marks=pytest.mark.full)])
def test_without_prometheus_client_it_is_told_how_to_install_it(fleet: Fleet, playbook: str) -> None:
    fleet.add("web1")
    with_metrics(fleet)
    hidden = fleet.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'prometheus_client' else find(name, *more)\n"
    )
    before = fleet.snapshot()
    confirmed = ["-e", "multicart_rotate_confirm=true"]
    run = fleet.run(f"multicart.keys.{playbook}", *confirmed, env={"PYTHONPATH": str(hidden)})
    assert (run.green, run.reason) == (False, "prometheus_client_missing"), run
    assert "-m pip install prometheus_client" in run.message
    assert (fleet.rotations, fleet.snapshot(), fleet.requests()) == (0, before, [])


@pytest.mark.full
def test_a_hook_that_hangs_or_floods_is_told_and_fails_nothing(fleet: Fleet) -> None:
    """It is ended with all that it has started."""
    pids = fleet.folder / "pids"
    hang = f"sleep 1000 & echo $! > {pids}; exec sleep 1000"
    fleet.variables["multicart_report_hooks"] = [
        {"command": ["sh", "-c", hang], "events": ["change"]},
        {"command": ["sh", "-c", "exec <&-; head -c 50000000 /dev/zero"], "events": ["change"]},
        hook(fleet, "change"),
    ]
    fleet.add("web1")
    run = fleet.rotate()
    assert run.green and fleet.stale == [], run
    assert "entry 1 (sh) of multicart_report_hooks: it did not end within 30 s, and was killed." in warnings(run), run
    assert "entry 2" not in run.output
    assert set(told(fleet)) == {"rotate-change"}
    state = Path(f"/proc/{pids.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.full
@pytest.mark.parametrize("playbook", ["audit", "deploy"])
def test_a_hook_that_outlasts_the_time_limit_of_the_task_fails_nothing(fleet: Fleet, playbook: str) -> None:
    """A rotation disarms that limit by itself."""
    ended = fleet.folder / "ended"
    slow = ["sh", "-c", f"sleep 16; touch {ended}"]
    fleet.variables["multicart_report_hooks"] = [{"command": slow, "events": ["change", "drift"]}]
    fleet.add("web1")
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.run(f"multicart.keys.{playbook}", env={"ANSIBLE_TASK_TIMEOUT": "15"})
    assert run.reason == ("not_up_to_date" if playbook == "audit" else None), run
    assert ended.exists() and "A hook failed" not in run.output, run


@pytest.mark.full
def test_a_run_that_cannot_even_begin_is_told(fleet: Fleet) -> None:
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "failure")]
    fleet.add("web1")
    fleet.sandbox.expire(fleet.email)
    run = fleet.rotate()
    assert run.reason == "credentials_rejected", run
    assert told(fleet)["rotate-failure"]["report"]["reason"] == "credentials_rejected"


@pytest.mark.full
def test_check_mode_tells_nobody(fleet: Fleet) -> None:
    with_metrics(fleet)
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "change", "failure", "drift")]
    fleet.add("web1")
    for run in (fleet.rotate("--check"), fleet.deploy("--check"), fleet.audit("--check")):
        assert run.green, run
    assert told(fleet) == {} and not (fleet.folder / "multicart.prom").exists()


@pytest.mark.full
@pytest.mark.parametrize("pattern", [{"web": 1}, "{{ nowhere }}"])
def test_a_deployment_is_not_failed_by_who_the_consumers_would_be(fleet: Fleet, pattern: Any) -> None:
    """In a play of the user's own, only metrics and hooks ask for them."""
    fleet.variables["multicart_report_hooks"] = [hook(fleet, "change")]
    fleet.add("web1")
    fleet.sandbox.rotate_behind(fleet.email)
    role = "- ansible.builtin.include_role: {name: multicart.keys.multicart_deploy}"
    run = fleet.play(role, "-e", json.dumps({"multicart_hosts": pattern}))
    assert run.green and fleet.stale == [], run
    assert "No metrics and no hooks for this deployment" in warnings(run), run


# --- the log of the system ------------------------------------------------------------------------


@pytest.mark.full
def test_each_rotation_leaves_a_line_in_the_log_of_the_system(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add("sick", multicart_deploy_health_checks=["test -e {{ home }}/cured"])
    fleet.variables["multicart_report_syslog"] = True
    (fleet.folder / "instead").mkdir()
    log = fleet.folder / "log"
    (fleet.folder / "instead" / "syslog.py").write_text(SYSLOG.format(file=str(log)))
    instead = {"PYTHONPATH": str(fleet.folder / "instead")}
    old = fleet.live_fingerprint
    assert fleet.rotate(env=instead).reason == "not_up_to_date"
    assert log.read_text().splitlines() == [
        '4 account="default" outcome="rotated" reason="not_up_to_date" '
        f'old_key="{old}" new_key="{fleet.live_fingerprint}" consumers=2 unfinished=1'
    ]
    (fleet.hosts["sick"].folder / "cured").touch()
    assert fleet.deploy(env=instead).green
    assert fleet.audit(env=instead).green
    assert len(log.read_text().splitlines()) == 1
    assert fleet.rotate(env=instead).green
    assert '5 account="default" outcome="rotated" reason=null' in log.read_text()


# --- the hours in which rotations are allowed -----------------------------------------------------


def hours(begin: int, end: int) -> list[str]:
    """Return the option for a span that begins and ends so many hours from now."""
    now = datetime.now(timezone.utc)
    days = [f"{now + timedelta(hours=by):%a %H:%M}" for by in (begin, end)]
    return ["-e", json.dumps({"multicart_rotate_allowed_hours": f"{days[0]}-{days[1].split()[1]} UTC"})]


def test_outside_the_hours_a_new_rotation_is_refused_and_the_next_time_is_named(fleet: Fleet) -> None:
    fleet.add_many(2)
    before = fleet.snapshot()
    allowed = hours(2, 3)
    run = fleet.rotate(*allowed)
    assert (run.green, run.reason) == (False, "outside_hours"), run
    day, time = json.loads(allowed[1])["multicart_rotate_allowed_hours"].split("-")[0].split()
    waits = rf"multicart_rotate_allowed_hours allows no new rotation before {day} \d{{4}}-\d\d-\d\d {time} UTC"
    assert re.search(waits, run.message), run
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


@pytest.mark.full
def test_within_the_hours_it_rotates_and_the_doctor_knows_them(fleet: Fleet) -> None:
    fleet.add_many(2)
    run = fleet.run("multicart.keys.doctor", *hours(2, 3))
    assert run.green and "But multicart_rotate_allowed_hours allows no new rotation before" in run.output, run
    run = fleet.rotate(*hours(-1, 2))
    assert run.green and (fleet.rotations, fleet.stale) == (1, []), run


@pytest.mark.full
def test_outside_the_hours_a_schedule_is_green_and_a_pending_rotation_is_finished(fleet: Fleet) -> None:
    fleet.add_many(2)
    due = ["-e", "multicart_rotate_max_age=0s", "-e", "multicart_rotate_unknown_age=rotate"]
    run = fleet.rotate(*hours(2, 3), *due)
    assert (run.green, run.step, fleet.rotations) == (True, "outside_hours", 0), run
    old = fleet.live_fingerprint
    for host in fleet.hosts.values():
        host.edit_record(open=True, retire=old)
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.rotate(*hours(2, 3))
    assert (run.green, run.step, fleet.stale) == (True, "finish", []), run


BAD = {
    "unknown_time_zone": (
        {"multicart_rotate_allowed_hours": "22:00-06:00 Europe/Berlim"},
        "did you mean Europe/Berlin?",
    ),
    "no_program": (
        {"multicart_report_hooks": [{"command": ["no-such-program"], "events": ["change"]}]},
        "multicart_report_hooks names a program in entry 1",
    ),
    "yaml_on": (
        {"multicart_report_hooks": [{"command": ["true"], "on": ["change"]}]},
        "multicart_report_hooks needs command and events",
    ),
    "not_a_prom": ({"multicart_report_metrics": "metrics.txt"}, "multicart_report_metrics must end in .prom"),
    "syslog": ({"multicart_report_syslog": "perhaps"}, "multicart_report_syslog must be true or false"),
}


@pytest.mark.full
@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_before_anything_is_changed(fleet: Fleet, case: str) -> None:
    variables, words = BAD[case]
    fleet.add("web1")
    before = fleet.snapshot()
    run = fleet.rotate("-e", json.dumps(variables))
    assert (run.green, run.reason) == (False, "invalid_option"), run
    assert words in run.message, run
    assert (fleet.rotations, fleet.snapshot()) == (0, before)
