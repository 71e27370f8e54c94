# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The jobs of the job templates, their relaunches, and jobs that AWX kills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.awx.job import Awx, Job, confirmed
from tests.integration.harness import Fleet

HELD = 60.0  # seconds for which the service holds a request; the client gives up after ten


def check_rotated_once(fleet: Fleet, job: Job) -> None:
    assert (job.status, job.green) == ("successful", True), job
    assert (fleet.rotations, fleet.stale) == (1, []), job


def results(job: Job) -> dict[str, Any]:
    """Return what the event of each host says of it: what AWX's summary of the hosts is made of."""
    found = [task for task in job.of("multicart_host") if task.task.endswith("Check the result of each host")]
    return {task.host: (task.status, task["changed"], task["state"]) for task in found}


def test_a_rotation_and_its_relaunch(fleet: Fleet, awx: Awx) -> None:
    """With all that could make a job tell more than it should."""
    answers = confirmed(fleet)
    job = awx.launch("rotate.yml", answers, verbosity=4, diff=True, fact_cache=True)
    check_rotated_once(fleet, job)
    assert results(job) == dict.fromkeys(fleet.hosts, ("ok", True, "up_to_date")), job
    assert job.shown_env["MULTICART_PASSWORD"] == "**********"
    assert job.shown_env["MULTICART_EMAIL"] == fleet.email
    assert job.shown_env["MULTICART_SESSION_TOKEN"] == ""
    again = awx.launch("rotate.yml", answers, launch_type="relaunch")
    check_rotated_once(fleet, again)
    assert not any(again.changed.values()), again


def test_an_audit_is_red_until_a_deployment_has_run(fleet: Fleet, awx: Awx) -> None:
    fleet.sandbox.rotate_behind(fleet.email)
    audit = awx.launch("audit.yml")
    assert (audit.status, audit.reason) == ("failed", "not_up_to_date"), audit
    deployment = awx.launch("deploy.yml", diff=True)
    assert deployment.green, deployment
    assert (fleet.rotations, fleet.stale) == (0, [])
    assert awx.launch("audit.yml", launch_type="scheduled").green


def test_a_check_changes_nothing(fleet: Fleet, awx: Awx) -> None:
    before = fleet.snapshot()
    job = awx.launch("rotate.yml", confirmed(fleet), check=True)
    assert job.green, job
    assert (job.step, job.outcome) == ("rotate", "would_rotate")
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


@pytest.mark.full
@pytest.mark.parametrize("verbosity", range(6))
def test_a_failed_job_tells_no_secret_at_any_verbosity(fleet: Fleet, awx: Awx, verbosity: int) -> None:
    """The second host cannot be written although it was ready, so that the job fails after the rotation."""
    fleet.hosts["web2"].variables["multicart_deploy_health_checks"] = ["false"]
    job = awx.launch("rotate.yml", confirmed(fleet), verbosity=verbosity, diff=True, fact_cache=True)
    assert (job.green, job.reason, fleet.rotations) == (False, "not_up_to_date", 1), job
    assert "web2" in job.message
    ended = {host: status for host, (status, *_rest) in results(job).items()}
    assert ended == {"web1": "ok", "web2": "failed", "web3": "ok"}, job


@pytest.mark.full
@pytest.mark.parametrize("how", [{}, {"fact_cache": True}], ids=["plain", "fact-cache"])
@pytest.mark.parametrize("playbook", ["audit.yml", "deploy.yml", "doctor.yml", "rotate.yml"])
def test_every_playbook_of_the_project_runs(fleet: Fleet, awx: Awx, playbook: str, how: dict[str, Any]) -> None:
    """With a session token this time, and with an API key that is revoked afterwards."""
    awx.inputs = {
        "api_url": fleet.sandbox.url,
        "session_token": fleet.sandbox.token(fleet.email),
        "api_key": fleet.live,
    }
    job = awx.launch(playbook, {"multicart_rotate_confirm": True}, **how)
    assert job.green, job
    assert (fleet.rotations, fleet.stale) == (int(playbook == "rotate.yml"), [])


# --- killed ---------------------------------------------------------------------------------------


def not_carried_out(fleet: Fleet) -> Callable[[], bool]:
    fleet.fault("rotate", "timeout_before", seconds=HELD)
    return lambda: any(entry["endpoint"] == "rotate" for entry in fleet.requests())


def carried_out(fleet: Fleet) -> Callable[[], bool]:
    fleet.fault("rotate", "slow", seconds=HELD)
    return lambda: fleet.rotations == 1


def deploying(fleet: Fleet) -> Callable[[], bool]:
    held = hold(fleet)
    return (held / "web2.held").exists


def hold(fleet: Fleet) -> Path:
    """Make every consumer wait, with its file written, until there is a file ``go``."""
    folder = fleet.folder / "hosts"
    wait = f"touch {folder}/{{{{ inventory_hostname }}}}.held; until test -e {folder}/go; do sleep 0.1; done"
    fleet.variables["multicart_deploy_commands"] = [f"sh -c '{wait}'"]
    return folder


@pytest.mark.parametrize(
    "point",
    [carried_out, *(pytest.param(point, marks=pytest.mark.full) for point in (not_carried_out, deploying))],
)
@pytest.mark.parametrize("named", [True, pytest.param(False, marks=pytest.mark.full)], ids=["named", "when-due"])
def test_a_cancelled_job_is_finished_by_a_relaunch(
    fleet: Fleet, awx: Awx, point: Callable[[Fleet], Callable[[], bool]], named: bool
) -> None:
    answers = confirmed(fleet) if named else {"multicart_rotate_confirm": True}
    reached = point(fleet)
    started = awx.start("rotate.yml", answers)
    started.wait_until(reached)
    job = started.cancel()
    assert (job.status, job.green) == ("canceled", False)
    fleet.sandbox.clear()
    (fleet.folder / "hosts" / "go").touch()
    check_rotated_once(fleet, awx.launch("rotate.yml", answers, launch_type="relaunch"))
    assert not any(host.record["open"] for host in fleet.hosts.values())


@pytest.mark.full
def test_what_outlives_a_killed_job_does_no_harm_to_its_relaunch(fleet: Fleet, awx: Awx) -> None:
    """Without a container, killing Ansible does not kill its workers, nor ever what it has started on hosts."""
    answers = confirmed(fleet)
    reached = not_carried_out(fleet)
    started = awx.start("rotate.yml", answers)
    started.wait_until(reached)
    started.cancel(container=False)
    check_rotated_once(fleet, awx.launch("rotate.yml", answers, launch_type="relaunch"))


@pytest.mark.full
def test_a_job_that_timed_out_is_finished_by_a_relaunch(fleet: Fleet, awx: Awx) -> None:
    """Wherever it was by then: on a slow machine it may not have come to the consumers, which hold it for ever."""
    held = hold(fleet)
    answers = confirmed(fleet)
    started = awx.start("rotate.yml", answers, timeout=15)
    job = started.wait()
    assert (job.status, job.green) == ("timeout", False), job
    (held / "go").touch()
    check_rotated_once(fleet, awx.launch("rotate.yml", answers, launch_type="relaunch"))


# --- the search for secrets -----------------------------------------------------------------------

LEAKS = {
    "output": "ansible.builtin.debug: {msg: \"{{ lookup('multicart.keys.multicart_key') }}\"}",
    "events": "ansible.builtin.set_fact: {leak: \"{{ lookup('multicart.keys.multicart_key') }}\"}",
    "statistics": "ansible.builtin.set_stats: {data: {leak: \"{{ lookup('multicart.keys.multicart_key') }}\"}}\n"
    "      no_log: true",
    "facts": "ansible.builtin.set_fact: {leak: \"{{ lookup('multicart.keys.multicart_key') }}\", cacheable: true}\n"
    "      no_log: true",
    "environment": "ansible.builtin.debug: {msg: \"{{ lookup('env', 'MULTICART_PASSWORD') | b64encode }}\"}",
}


@pytest.mark.parametrize(
    "leak",
    [*(pytest.param(LEAKS[name], id=name, marks=[pytest.mark.full] if name != "facts" else []) for name in LEAKS)],
)
def test_the_search_finds_what_leaks(fleet: Fleet, awx: Awx, leak: str) -> None:
    play = "- hosts: web1\n  gather_facts: false\n  tasks:\n    - name: Leak\n      "
    (awx.project / "leak.yml").write_text(play + leak + "\n")
    with pytest.raises(AssertionError, match="a secret is in"):
        awx.launch("leak.yml", fact_cache=True)
