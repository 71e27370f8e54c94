# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sliced jobs: each slice is a job of its own, with its own part of the inventory, and knows nothing of the others."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import RECENTLY

from tests.integration.awx.job import Awx, Job, confirmed
from tests.integration.awx.test_awx_jobs import hold
from tests.integration.harness import Fleet

SLICES = 3
ORDERS = [pytest.param(True, id="at-once"), pytest.param(False, id="one-after-another", marks=pytest.mark.full)]
PROVISION = """
- name: Provision
  hosts: multicart_consumers
  gather_facts: false
  tasks:
    - name: Replace the key that is to be retired
      multicart.keys.multicart_key_rotate:
        retire: "{{ retire }}"

    - name: Bring the live key to this host
      ansible.builtin.import_role:
        name: multicart.keys.multicart_deploy
"""


def check(fleet: Fleet, jobs: list[Job], rotations: int) -> None:
    """All are green, and rightly so."""
    for job in jobs:
        assert job.green, job
    assert (fleet.rotations, fleet.stale) == (rotations, [])


@pytest.mark.parametrize("at_once", ORDERS)
def test_slices_of_a_deployment_bring_every_consumer_up_to_date(fleet: Fleet, awx: Awx, at_once: bool) -> None:
    fleet.sandbox.rotate_behind(fleet.email)
    jobs = awx.sliced("deploy.yml", SLICES, at_once=at_once)
    check(fleet, jobs, 0)
    assert sorted(host for job in jobs for host in {task.host for task in job.of("multicart_host")}) == list(
        fleet.hosts
    )


def test_slices_of_a_deployment_follow_a_rotation_that_happens_meanwhile(fleet: Fleet, awx: Awx) -> None:
    """Every slice has written a key that is revoked by the time it goes on."""
    fleet.sandbox.rotate_behind(fleet.email)
    held = hold(fleet)
    started = [awx.start("deploy.yml", slice_of=(number, SLICES)) for number in range(1, SLICES + 1)]
    for one, host in zip(started, fleet.hosts, strict=True):
        one.wait_until((held / f"{host}.held").exists)
    fleet.sandbox.rotate_behind(fleet.email)
    time.sleep(RECENTLY + 0.5)  # one read serves a run for so long
    (held / "go").touch()
    check(fleet, [one.wait() for one in started], 0)


@pytest.mark.full
def test_slices_of_a_deployment_while_another_job_rotates(fleet: Fleet, awx: Awx) -> None:
    held = hold(fleet)
    rotation = awx.start("rotate.yml", confirmed(fleet))
    for host in fleet.hosts:
        rotation.wait_until((held / f"{host}.held").exists)
    slices = [awx.start("deploy.yml", slice_of=(number, SLICES)) for number in range(1, SLICES + 1)]
    while any(one.process.poll() is None and not (one.folder / "artifacts").exists() for one in slices):
        time.sleep(0.1)
    (held / "go").touch()
    check(fleet, [one.wait() for one in (rotation, *slices)], 1)


@pytest.mark.parametrize("at_once", ORDERS)
def test_slices_of_a_provisioning_playbook_that_rotates(fleet: Fleet, awx: Awx, at_once: bool) -> None:
    """The task names the key to retire, so that the API itself refuses what the other slices ask for."""
    (awx.project / "provision.yml").write_text(PROVISION)
    jobs = awx.sliced("provision.yml", SLICES, {"retire": fleet.live_fingerprint}, at_once=at_once)
    check(fleet, jobs, 1)
    outcomes = sorted(task["outcome"] for job in jobs for task in job.of("multicart_key_rotate"))
    assert outcomes == ["already_rotated", "already_rotated", "rotated"]
    check(fleet, awx.sliced("provision.yml", SLICES, {"retire": confirmed(fleet)["multicart_rotate_retire"]}), 2)


# --- a rotation is not to be sliced; what happens if it is ----------------------------------------


@pytest.mark.parametrize("at_once", ORDERS)
def test_slices_of_a_rotation_are_refused_when_the_number_of_consumers_is_known(
    fleet: Fleet, awx: Awx, at_once: bool
) -> None:
    before = fleet.snapshot()
    template = {"multicart_rotate_min_hosts": len(fleet.hosts)}
    jobs = awx.sliced("rotate.yml", SLICES, confirmed(fleet), at_once=at_once, template_vars=template)
    assert [(job.green, job.reason) for job in jobs] == [(False, "too_few_hosts")] * SLICES
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


@pytest.mark.full
def test_slices_of_a_rotation_that_name_the_key_are_one_rotation(fleet: Fleet, awx: Awx) -> None:
    """All of them begin while that key is live."""
    answers = confirmed(fleet)
    check(fleet, awx.sliced("rotate.yml", SLICES, answers), 1)
    check(fleet, awx.sliced("rotate.yml", SLICES, answers, launch_type="relaunch"), 1)


@pytest.mark.full
@pytest.mark.parametrize(("recorded", "reason"), [(False, "other_account"), (True, "rejection_unseen")])
def test_slices_of_a_rotation_one_after_another_rotate_once_and_are_red(
    fleet: Fleet, awx: Awx, recorded: bool, reason: str
) -> None:
    """T13: of what a later slice finds, no record says whose it was; where one does, nobody has seen its rejection."""
    if recorded:
        check(fleet, awx.sliced("deploy.yml", SLICES), 0)
    jobs = awx.sliced("rotate.yml", SLICES, confirmed(fleet), at_once=False)
    assert [(job.green, job.reason) for job in jobs] == [(True, None), (False, reason), (False, reason)]
    assert (fleet.rotations, len(fleet.stale)) == (1, 0 if recorded else SLICES - 1)
    check(fleet, awx.sliced("deploy.yml", SLICES), 1)


@pytest.mark.full
def test_slices_of_a_rotation_that_name_no_key_rotate_once_and_are_red(fleet: Fleet, awx: Awx) -> None:
    """Relaunching one of the red ones would rotate for its consumers alone: this is what min_hosts is for."""
    jobs = awx.sliced("rotate.yml", SLICES, {"multicart_rotate_confirm": "yes"}, at_once=False)
    assert [(job.green, job.reason) for job in jobs] == [(True, None), (False, "caught_up"), (False, "caught_up")]
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.full
@pytest.mark.parametrize("playbook", ["rotate.yml", "deploy.yml", "audit.yml"])
def test_a_slice_without_any_consumer_is_not_green(fleet: Fleet, awx: Awx, playbook: str) -> None:
    """An inventory of other hosts than consumers is cut by the host, not by the group."""
    fleet.groups = {"multicart_consumers": ["web1", "web2", "web3"]}
    fleet.add("aaa", None)
    how: dict[str, Any] = {"slice_of": (1, 4)}
    job = awx.launch(playbook, confirmed(fleet), **how)
    assert (job.green, job.reason) == (False, "no_consumers"), job
    assert fleet.rotations == 0
