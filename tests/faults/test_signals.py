# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals that reach a rotation whose hosts are armed: before the request nothing is changed, after it all get the key.

Over a real sshd, on the oldest and the newest core that is here, since each core handles signals in its own way. Each
signal goes to the run's process group (Ctrl-C, a closed terminal), to the main process (``kill``, AWX) or to the worker
that drives the fleet (the kernel, when memory runs out).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.test_kill import plainly_finished
from tests.faults.victim import Layout, Started, Victim
from tests.integration import harness
from tests.integration.sshd import SSHD
from tests.rows import mostly, spread
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server")

SIZE = 3
LEAVING = 20.0
"""Seconds in which nothing is left of a run that has been ended, on a very busy machine."""
HELD = 4.0
"""Seconds for which the API holds its answer to the request to rotate."""
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


def _cores() -> dict[str, Path]:
    """Return the cores to run on: the one that was asked for, or the oldest and the newest that are here."""
    if os.environ.get("MULTICART_TEST_ANSIBLE"):
        return {"asked-for": harness.ANSIBLE_BIN}
    both = {name: Path(f"/opt/{name}/bin") for name in ("core-2.16", "core-2.21")}
    return {name: folder for name, folder in both.items() if folder.is_dir()} or {"own": Path(sys.executable).parent}


CORES = _cores()


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = CORES[request.param]
    for module in ("tests.integration.harness", "tests.faults.victim"):
        monkeypatch.setattr(f"{module}.ANSIBLE_BIN", folder)
    return folder


@pytest.fixture
def victim(core: Path, sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account]) -> Iterator[Victim]:
    victim = Victim(sandbox, tmp_path, new_account(), Layout(armed=True), SIZE)
    yield victim
    sandbox.clear()
    victim.forget()


TARGETS: dict[str, Callable[[Started, signal.Signals], None]] = {
    "group": lambda run, number: os.killpg(run.process.pid, number),
    "main": lambda run, number: os.kill(run.process.pid, number),
    "worker": lambda run, number: os.kill(run.worker, number),
}


class End(NamedTuple):
    """Which process of a run gets which signal."""

    target: str
    number: signal.Signals

    def __str__(self) -> str:
        return f"{self.target}-{self.number.name}"

    def __call__(self, run: Started) -> None:
        TARGETS[self.target](run, self.number)


def ended_by(*ends: End) -> pytest.MarkDecorator:
    """Take all ways to end a run, on all cores; every run of the tests does so with every other one."""
    numbers = {name: number for listed in (CORES, ends) for number, name in enumerate(listed)}
    rows = mostly(CORES, ends, but=lambda core, end: (numbers[core] + numbers[end]) % 2 == 0)
    return pytest.mark.parametrize(("core", "end"), rows, indirect=["core"])


def wait_for(true: Callable[[], object], what: str, run: Started, seconds: float = LEAVING) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: {run.output.read_text()}"
        time.sleep(0.03)


def files_of(victim: Victim) -> dict[str, bytes]:
    return {name: host.env.read_bytes() for name, host in victim.hosts.items()}


def check_gone(victim: Victim, run: Started) -> None:
    """Nothing is left of the run, on this side and on that; nobody has ended it."""
    wait_for(lambda: not run.left(), "something is left of the run", run)
    run.process.wait(LEAVING)
    victim.check_left()


def check_concluded(victim: Victim) -> None:
    """The act has gone on to its end: it has verified what it did and said so beside every file."""
    assert victim.rotations == 1
    for record in victim.records.values():
        assert (record["open"], record["rotation"]["concluded"]) == (False, True), record
        assert [entry["seen"] for entry in record["retired"]] == ["rejected"], record


def check_unchanged(victim: Victim, before: dict[str, bytes]) -> None:
    assert victim.rotations == 0
    assert files_of(victim) == before


def check_run_again(victim: Victim) -> None:
    """A plain re-run does what is left to do, and the API has rotated once in all."""
    victim.release()
    victim.control("go").unlink(missing_ok=True)
    finished = plainly_finished(victim)
    victim.check_finished(victim.rotate(*(victim.retiring if finished else ())))


# --- before the request ---------------------------------------------------------------------------


def hold_before_the_request(victim: Victim, run: Started) -> None:
    """Wait until all hosts are armed but ``web1``, which is held while it opens its record."""
    assert victim.wait_until(victim.control("reached").exists, run), run.output.read_text()
    wait_for(lambda: len(victim.records) == SIZE - 1, "the others are not armed", run)
    wait_for(lambda: len(run.ssh_clients) == SIZE, "not all are connected", run)


@pytest.mark.parametrize(("number", "target"), spread([KILL, INT, TERM], TARGETS))
def test_while_armed_and_before_the_request_nothing_is_changed(
    victim: Victim, target: str, number: signal.Signals
) -> None:
    before = files_of(victim)
    victim.control("stop").write_text(f"rename {victim.record_name} #1")
    with victim.started() as run:
        hold_before_the_request(victim, run)
        TARGETS[target](run, number)
        # What it was sent before, it may carry out.
        wait_for(lambda: not victim.programs("web2", "web3"), "hosts stay armed", run)
        victim.control("go").touch()
        check_gone(victim, run)
        assert run.process.returncode != 0
    check_unchanged(victim, before)
    check_run_again(victim)


def test_an_interrupt_that_the_run_ignores_ends_it_as_a_whole_or_not_at_all(victim: Victim) -> None:
    """As a script in a shell's background does; how the cores take that differs."""
    before = files_of(victim)
    victim.control("stop").write_text(f"rename {victim.record_name} #1")
    with victim.started("sh", "-c", 'trap "" INT; exec "$0" "$@"') as run:
        hold_before_the_request(victim, run)
        os.killpg(run.process.pid, INT)
        time.sleep(1.0)  # for what does not ignore it to end
        victim.control("go").touch()
        check_gone(victim, run)
        if run.process.returncode == 0:
            victim.release()
            assert victim.rotations == 1
            assert victim.stale == []
            return
    check_unchanged(victim, before)
    check_run_again(victim)


# --- between the request and the end of the release -----------------------------------------------


def hold_at_the_request(victim: Victim, run: Started) -> None:
    """Wait until the API has rotated; it holds its answer for a while yet."""
    wait_for(lambda: victim.rotations == 1, "nothing was rotated", run, 60.0)


@ended_by(
    *(End(target, number) for number in (INT, TERM) for target in TARGETS),
    *(End(target, KILL) for target in ("group", "main")),
    End("group", signal.SIGHUP),
)
def test_after_the_request_all_hosts_get_the_key(victim: Victim, end: End) -> None:
    victim.fault("rotate", "slow", seconds=HELD)
    with victim.started() as run:
        hold_at_the_request(victim, run)
        assert len(victim.stale) == SIZE, "too late"
        end(run)
        wait_for(lambda: victim.stale == [], "not all hosts have the key", run)
        check_gone(victim, run)
        # A worker that is told to end says nothing of it, and the run is as if nothing had happened.
        assert (run.process.returncode == 0) == (end.target == "worker")
    check_concluded(victim)
    check_run_again(victim)


@ended_by(*(End(target, number) for target in ("group", "main") for number in (INT, TERM, KILL)))
def test_at_the_release_all_hosts_get_the_key(victim: Victim, end: End) -> None:
    """One of them has half written its file."""
    victim.control("stop").write_text("write .app.env.multicart-tmp #1")
    with victim.started() as run:
        assert victim.wait_until(victim.control("reached").exists, run), run.output.read_text()
        end(run)
        time.sleep(1.0)  # for what does not ignore it to end
        assert "web1" in victim.stale, "too late"
        victim.control("go").touch()
        wait_for(lambda: victim.stale == [], "not all hosts have the key", run)
        check_gone(victim, run)
    check_concluded(victim)
    check_run_again(victim)


def test_a_worker_that_is_killed_after_the_request_leaves_the_rest_to_the_next_run(victim: Victim) -> None:
    before = files_of(victim)
    victim.fault("rotate", "slow", seconds=HELD)
    with victim.started() as run:
        hold_at_the_request(victim, run)
        TARGETS["worker"](run, KILL)
        check_gone(victim, run)
        assert run.process.returncode != 0
    assert files_of(victim) == before
    assert victim.rotations == 1
    check_run_again(victim)


# --- after the release ----------------------------------------------------------------------------


@ended_by(*(End(target, number) for number in (INT, TERM) for target in TARGETS), End("worker", KILL))
def test_while_hosts_are_restarted_what_was_begun_there_is_finished(victim: Victim, end: End) -> None:
    victim.control("hold-before-restart").touch()
    with victim.started() as run:
        assert victim.wait_until(victim.control("reached").exists, run), run.output.read_text()
        wait_for(lambda: victim.stale == [], "not all hosts have the key", run)
        end(run)
        time.sleep(1.0)
        victim.control("go").touch()
        check_gone(victim, run)
    assert [host.log for host in victim.hosts.values()] == [[victim.live_fingerprint]] * SIZE
    check_run_again(victim)


@pytest.mark.parametrize(("core", "others"), spread(CORES, [1, 2]), indirect=["core"])
def test_runs_beside_an_orphan_wait_for_it_and_rotate_no_second_time(victim: Victim, others: int) -> None:
    """The main process is killed while a consumer is slow to restart; its worker goes on."""
    victim.control("hold-before-restart").touch()
    with victim.started() as run, ThreadPoolExecutor(others) as pool:
        assert victim.wait_until(victim.control("reached").exists, run), run.output.read_text()
        wait_for(lambda: victim.stale == [], "not all hosts have the key", run)
        worker, asked = run.worker, len(victim.peek())
        os.kill(run.process.pid, KILL)
        run.process.wait()
        ended = [pool.submit(victim.rotate) for _number in range(others)]
        try:
            # Each reads the key, and proves it, before it waits.
            wait_for(lambda: len(victim.peek()) >= asked + 2 * others, "the others do not begin", run, 60.0)
            time.sleep(2.0)
            assert worker in run.family(), "the orphan has ended"
            assert not any(one.done() for one in ended), "one has not waited"
        finally:
            victim.control("go").touch()
        again = [one.result() for one in ended]
        check_gone(victim, run)
    assert victim.rotations == 1, again
    assert [one.green for one in again] == [True] * others, again
    victim.check_finished(again[0])
