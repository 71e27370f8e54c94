# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that meet: two controllers on one fleet, the slices of one job, and provisioning while another run rotates.

The one run is held at a request to the API until the other has ended, so that each meeting happens as it is described.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.faults.front import Ask, Front
from tests.faults.test_kill import REQUESTS
from tests.faults.victim import Victim
from tests.integration.harness import Fleet, Run
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

SECONDS = 300.0  # in which whole runs end on a very busy machine
PATIENT = {"MULTICART_TIMEOUT": "300"}

SLICES = 3

ROTATE = """
    - multicart.keys.multicart_key_rotate:
"""
DEPLOY = """
    - ansible.builtin.import_role:
        name: multicart.keys.multicart_deploy
"""
PROVISION = """
    - ansible.builtin.command: sh {folder}/meet
      changed_when: false
      run_once: true
    - multicart.keys.multicart_key_rotate: {{retire: "{retire}"}}
"""
MEET = """
: > {folder}/here-$PPID
while [ "$(ls {folder}/here-* | wc -l)" -lt {number} ]; do sleep 0.02; done
"""
"""Waits until so many have come here."""


@dataclass
class Held:
    """A run that is held at a request."""

    front: Front
    go: threading.Event
    ended: Future[Run]

    def finish(self) -> Run:
        self.go.set()
        return self.ended.result(SECONDS)


@contextlib.contextmanager
def held(fleet: Fleet, run: Callable[..., Run], number: int, carried_out: bool) -> Iterator[Held]:
    """Start a run and hold its request of that number, before the API hears of it or before the run hears back."""
    reached, go = threading.Event(), threading.Event()
    seen = 0

    def habit(_front: Front, request: bytes, ask: Ask) -> bytes:
        nonlocal seen
        seen += 1
        if seen != number + 1:
            return ask(request)
        answer = ask(request) if carried_out else b""
        reached.set()
        assert go.wait(SECONDS)
        return answer or ask(request)

    with Front(fleet.sandbox.port, habit) as front, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run, env={"MULTICART_API_URL": front.url, **PATIENT})
        try:
            while not reached.wait(0.1):
                assert not ended.done(), ended.result()
            yield Held(front, go, ended)
        finally:
            go.set()


def check_current(victim: Victim, run: Run) -> None:
    """Every consumer holds the live key, was restarted with it, and nothing is under way any more."""
    assert victim.stale == [], run
    for host in victim.hosts.values():
        assert not host.record["open"], (host.name, host.record, run)
        assert victim.live_fingerprint in host.record["readers"].values(), (host.name, host.record, run)
        if host.log:
            assert host.log[-1] == victim.live_fingerprint, f"{host.name} was not restarted with the live key"


def check_end(fleet: Fleet, run: Run) -> None:
    """A run that ends green leaves no revoked key behind, and one that does not says what to do."""
    if run.green:
        assert fleet.stale == [], run
    else:
        assert run.reason in ("not_up_to_date", "key_keeps_changing"), run
        assert any(word in run.message for word in ("multicart.keys.deploy", "run again")), run
        assert set(fleet.stale) <= {task.host for task in run.failures}, run


# --- two controllers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meeting:
    """Where rotate.yml meets a forced rotation, and what comes of it.

    :ivar request: which of its requests is held.
    :ivar carried_out: whether the API has done by then what the request says.
    :ivar deploys: whether the forced run brings its key to the fleet.
    """

    request: str
    carried_out: bool
    deploys: bool
    rotations: int


MEETINGS = {
    f"{name}-{'deployed' if deploys else 'not-deployed'}": Meeting(request, carried_out, deploys, rotations)
    for name, request, carried_out, rotations in (
        ("before-its-request", "rotate", False, 1),
        ("before-its-answer", "rotate", True, 2),
        ("with-a-key-that-dies-at-once", "read-back", True, 2),
        ("before-its-proof", "prove-new", False, 2),
    )
    for deploys in (True, False)
} | {
    # Not deployed, it would be none of this run's business any more: it has proven what it says.
    "after-its-proof-deployed": Meeting("prove-old", False, True, 2),
}
TELLING = ("with-a-key-that-dies-at-once-not-deployed",)


@pytest.mark.parametrize(
    "meeting",
    [
        pytest.param(meeting, id=name, marks=[] if name in TELLING else [pytest.mark.full])
        for name, meeting in MEETINGS.items()
    ],
)
def test_a_controller_that_names_the_key_meets_one_that_forces_a_rotation(victim: Victim, meeting: Meeting) -> None:
    number = REQUESTS.index(meeting.request)
    with held(victim, partial(victim.rotate, *victim.retiring), number, meeting.carried_out) as named:
        forced = victim.play(ROTATE + DEPLOY * meeting.deploys)
        assert forced.green, forced
        # Both hosts ask, and whichever of them has the answer first reports when it is scheduled next.
        outcomes = sorted(task["outcome"] for task in forced.of("multicart_key_rotate"))
        assert outcomes == ["already_rotated", "rotated"]
        assert victim.stale == ([] if meeting.deploys else ["web1", "web2"])
        run = named.finish()
    assert run.green, run
    assert victim.rotations == meeting.rotations, run
    check_current(victim, run)
    again = victim.rotate(*victim.retiring)
    assert (again.green, victim.rotations) == (True, meeting.rotations), again


# --- the slices of one job ------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, pytest.param(False, marks=pytest.mark.full)], ids=["at-once", "in-turn"])
def test_the_slices_of_one_job_rotate_once_for_all_hosts(
    sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account], at_once: bool
) -> None:
    """As AWX makes them: each a controller of its own, whose inventory holds nothing but its hosts."""
    account = new_account()
    slices = [Fleet(sandbox, _folder(tmp_path, f"slice{number}"), account) for number in range(SLICES)]
    for number, one in enumerate(slices):
        one.add(f"web{number}a")
        one.add(f"web{number}b")
    retire = slices[0].live_fingerprint
    (tmp_path / "meet").write_text(MEET.format(folder=tmp_path, number=SLICES if at_once else 1))

    def provision(one: Fleet) -> Run:
        return one.play(PROVISION.format(folder=tmp_path, retire=retire) + DEPLOY)

    with ThreadPoolExecutor(SLICES if at_once else 1) as pool:
        runs = list(pool.map(provision, slices))
    assert all(run.green for run in runs), "".join(map(str, runs))
    assert slices[0].rotations == 1
    told = [task for run in runs for task in run.of("multicart_key_rotate")]
    assert sorted(task["outcome"] for task in told) == ["already_rotated"] * (2 * SLICES - 1) + ["rotated"]
    assert {task["key_fingerprint"] for task in told} == {slices[0].live_fingerprint}
    assert [one.stale for one in slices] == [[]] * SLICES


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


# --- provisioning while another rotates -----------------------------------------------------------


READ, PROOF, CONFIRMED = 0, 1, 3
"""What deploy.yml asks of the API: it reads the key and verifies it, and again before it replaces another one."""


def check_never_put_back(victim: Victim) -> None:
    """No host was restarted with a key that was retired before."""
    for host in victim.hosts.values():
        assert set(host.log) == {victim.live_fingerprint}, host.name


@pytest.mark.parametrize("held_at", [READ, PROOF])
def test_a_slow_deploy_that_read_the_old_key_does_not_put_it_on_any_host(victim: Victim, held_at: int) -> None:
    with held(victim, victim.deploy, held_at, True) as slow:
        rotate = victim.rotate()
        assert rotate.green, rotate
        deploy = slow.finish()
    assert deploy.green, deploy
    assert victim.rotations == 1
    check_current(victim, deploy)
    check_never_put_back(victim)


@pytest.mark.full
def test_a_slow_deploy_that_has_read_the_old_key_twice_does_not_put_it_over_the_new_one(victim: Victim) -> None:
    """The hosts hold one that is older still, so that there is something to replace."""
    victim.sandbox.rotate_behind(victim.email)
    with held(victim, victim.deploy, CONFIRMED, True) as slow:
        rotate = victim.rotate("-e", "multicart_rotate_force=true")
        assert rotate.green, rotate
        deploy = slow.finish()
    assert deploy.green, deploy
    assert victim.rotations == 1
    check_current(victim, deploy)
    check_never_put_back(victim)


@pytest.mark.full
def test_a_consumer_that_is_slow_to_get_healthy_is_brought_the_new_key(victim: Victim) -> None:
    victim.control("hold-health").touch()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(victim.deploy)
        try:
            while not victim.control("reached").exists():
                assert not ended.done(), ended.result()
                time.sleep(0.03)
            victim.control("hold-health").unlink()
            rotate = victim.rotate()
        finally:
            victim.control("go").touch()
        deploy = ended.result(SECONDS)
    assert rotate.green, rotate
    assert deploy.green, deploy
    assert victim.rotations == 1
    check_current(victim, deploy)


@pytest.mark.full
@pytest.mark.parametrize("first", ["deploy", "rotate"])
def test_a_deploy_that_overwrites_the_new_key_before_it_was_proven(victim: Victim, first: str) -> None:
    """Both are held: the deploy with the old key in hand, the rotation with the new one on every host."""
    with (
        held(victim, victim.deploy, PROOF, True) as slow,
        held(victim, victim.rotate, REQUESTS.index("prove-new"), False) as rotating,
    ):
        if first == "deploy":
            deploy, rotate = slow.finish(), rotating.finish()
        else:
            rotate, deploy = rotating.finish(), slow.finish()
    for run in (deploy, rotate):
        check_end(victim, run)
    assert victim.rotations == 1
    check_current(victim, deploy)
