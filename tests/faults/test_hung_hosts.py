# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host of three is sick, over a real sshd: it costs the others nothing, and never gets a late write.

Before the rotation it is a reason not to rotate; after it, it alone is red. ``web1`` is sick; ``web3`` is held where
the others have to wait for it, so that everything happens as described. Nothing is left of a run that has ended: no ssh
client, and no process on a host, once that host has come back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.victim import Layout, Started, Victim, left_of
from tests.integration.harness import Run
from tests.integration.sshd import SSHD
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server")

SICK, WELL, HOLDING = "web1", "web2", "web3"
INSPECTING = 12.0
WRITING = 6.0
"""Seconds, instead of the limits that an act has otherwise."""
ROLL_CALL = 5.0
LEAVING = 20.0
"""Seconds in which nothing is left of a run, on a very busy machine."""
SOON = 5.0
"""Seconds after the API's answer in which hosts that are well are served: before any limit of the sick one ends."""


@pytest.fixture
def layout() -> Layout:
    return Layout(armed=True)


@pytest.fixture
def victim(sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account], layout: Layout) -> Iterator[Victim]:
    victim = Victim(sandbox, tmp_path, new_account(), layout, size=3)
    here = Path(__file__).parent
    victim.env.update(
        ANSIBLE_CALLBACK_PLUGINS=f"{here.parent / 'integration' / 'callbacks'}:{here / 'callbacks'}",
        ANSIBLE_CALLBACKS_ENABLED="recorder,hurry",
        HURRY=json.dumps({"INSPECTING": INSPECTING, "WRITING": WRITING}),
    )
    yield victim
    sandbox.clear()
    send(victim, signal.SIGCONT)
    victim.end_programs()
    victim.forget()


# --- what happens to the sick host ----------------------------------------------------------------


def send(victim: Victim, number: signal.Signals) -> None:
    for pid in victim.programs(SICK):
        with contextlib.suppress(ProcessLookupError):  # such as what only sleeps for a moment
            os.kill(pid, number)


def wait_for(true: Callable[[], object], what: str, run: Started) -> None:
    deadline = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline, f"{what}: {run.output.read_text()}"
        time.sleep(0.02)


def once_armed(victim: Victim, run: Started, act: Callable[[], object]) -> None:
    """Do something while the hosts are armed, except for one that still opens its record."""
    wait_for(victim.control("reached", HOLDING).exists, "the last host does not arm", run)
    for name in (SICK, WELL):
        wait_for(lambda name=name: is_armed(victim, name), f"{name} does not arm", run)
    act()
    victim.control("go", HOLDING).touch()


def is_armed(victim: Victim, name: str) -> bool:
    """Tell whether a host has answered to ``inspect`` and ``prepare``, and waits for what comes next."""
    waits = victim.control("waits", name)
    return waits.exists() and len(waits.read_text().splitlines()) == 3


def hold_while_arming(victim: Victim) -> None:
    victim.control("stop", HOLDING).write_text(f"rename {victim.record_name} #1")


def rotating(victim: Victim, act: Callable[[], object]) -> Run:
    """Run a rotation and let something happen to the sick host between roll call and release."""
    with victim.once_rotated(act), victim.started() as run:
        return ended(victim, run)


def ended(victim: Victim, run: Started) -> Run:
    """Wait for the end of a run; nothing of it is left on this side."""
    done = run.ended()
    victim.search_output(done)
    check_nothing_left(run.left)
    return done


def check_nothing_left(left: Callable[[], list[int]]) -> None:
    deadline = time.monotonic() + LEAVING
    while found := left():
        assert time.monotonic() < deadline, f"these are left of the run: {found}"
        time.sleep(0.02)


# --- what must hold -------------------------------------------------------------------------------


def check_refused(victim: Victim, run: Run, why: str, before: dict[str, bytes]) -> None:
    """Nothing was rotated, because of the sick host alone."""
    assert (run.green, run.reason, victim.rotations) == (False, "not_ready", 0), run
    assert why in run.message, run
    assert f"1 of 3 consumers are not ready: {SICK}: " in run.message, run
    assert files_of(victim) == before


def check_others_served(victim: Victim, run: Run, why: str) -> None:
    """The others have the new key, and had it without waiting for the sick one, which alone is red."""
    assert (run.green, run.reason, victim.rotations) == (False, "not_up_to_date", 1), run
    assert set(victim.stale) <= {SICK}
    entries = iter(victim.peek())
    assert any(entry["committed"] for entry in entries)
    answered = next(entries)["time"]  # when the run reads the new key, having heard that there is one
    for name in (WELL, HOLDING):
        assert victim.hosts[name].env.stat().st_mtime < answered + SOON, f"{name} had to wait"
        assert victim.hosts[name].log == [victim.live_fingerprint], f"{name} was not restarted"
        assert not victim.records[name]["open"]
    assert [task.host for task in run.failures] == [SICK], run
    assert why in run.own[SICK]["msg"], run


def check_never_written_late(victim: Victim) -> None:
    """The sick host comes back, and does nothing of what it was asked for when it was away."""
    before = victim.hosts[SICK].env.read_bytes()
    send(victim, signal.SIGCONT)
    victim.check_left()
    assert victim.hosts[SICK].env.read_bytes() == before
    assert victim.hosts[SICK].log == []


def make_well(victim: Victim) -> None:
    victim.check_left()
    victim.release()
    for path in (victim.folder / "control").glob("*/go"):
        path.unlink()


def check_rotates(victim: Victim) -> None:
    """Nothing has come of the rotation: the next run does it."""
    make_well(victim)
    victim.check_finished(victim.rotate())


def check_finished_by_deploy(victim: Victim) -> None:
    """The verdict of the rotation was given; what was left to do is done without another one."""
    make_well(victim)
    run = victim.deploy()
    assert run.green, run
    assert (victim.rotations, victim.stale) == (1, [])
    for host in victim.hosts.values():
        assert not victim.records[host.name]["open"]
        assert host.log[-1] == victim.live_fingerprint, f"{host.name} was not restarted"


def files_of(victim: Victim) -> dict[str, bytes]:
    return {name: host.env.read_bytes() for name, host in victim.hosts.items()}


# --- before the rotation --------------------------------------------------------------------------


def test_a_host_whose_program_never_answers_keeps_a_rotation_from_beginning(victim: Victim) -> None:
    before = files_of(victim)
    victim.control("hold-start").touch()
    with victim.started() as started:
        run = ended(victim, started)
    check_refused(victim, run, f"{SICK}: it did not answer within {INSPECTING:g} s", before)
    victim.control("hold-start").unlink()
    victim.control("go").touch()  # it comes back, and finds that nobody waits any more
    check_rotates(victim)


def test_a_host_that_accepts_the_connection_and_never_answers_keeps_a_rotation_from_beginning(victim: Victim) -> None:
    before, well = files_of(victim), victim.hosts[SICK].variables
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        common = str(victim.variables["ansible_ssh_common_args"])
        elsewhere = common.replace(f"Port={victim.variables['ansible_port']}", f"Port={port}")
        sick = {"ansible_port": port, "ansible_ssh_common_args": elsewhere, "ansible_ssh_timeout": 2}
        victim.hosts[SICK].variables = {**well, **sick}
        with victim.started() as started:
            run = ended(victim, started)
    check_refused(victim, run, f"{SICK}: it is unreachable", before)
    victim.hosts[SICK].variables = well
    check_rotates(victim)


def test_a_host_that_floods_keeps_a_rotation_from_beginning(victim: Victim) -> None:
    before = files_of(victim)
    victim.control("hold-start").touch()
    victim.control("flood").touch()
    with victim.started() as started:
        run = ended(victim, started)
    check_refused(victim, run, f"{SICK}: it printed more than 4 MiB instead of an answer", before)
    check_rotates(victim)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stalls", "dies"])
def test_a_host_that_is_lost_while_armed_is_found_by_the_roll_call(victim: Victim, how: signal.Signals) -> None:
    before = files_of(victim)
    hold_while_arming(victim)
    with victim.started() as started:
        once_armed(victim, started, lambda: send(victim, how))
        run = ended(victim, started)
    stalls = f"it did not answer within {ROLL_CALL:g} s"
    check_refused(victim, run, stalls if how is signal.SIGSTOP else f"{SICK}: its Python gave no answer", before)
    assert "rotate" not in {entry["endpoint"] for entry in victim.peek()}, "it was found too late"
    check_never_written_late(victim)
    check_rotates(victim)


def test_audit_and_deploy_name_a_host_that_hangs_and_serve_the_others(victim: Victim) -> None:
    victim.sandbox.rotate_behind(victim.email)
    victim.control("hold-start").touch()
    late = f"it did not answer within {INSPECTING:g} s"
    audit = victim.audit()
    assert (audit.green, late in audit.own[SICK]["msg"]) == (False, True), audit
    assert audit.states == {SICK: "unreadable", WELL: "out of date", HOLDING: "out of date"}
    deploy = victim.deploy()
    assert [task.host for task in deploy.failures] == [SICK], deploy
    assert late in deploy.message
    assert victim.stale == [SICK]
    check_nothing_left(lambda: left_of(f"TMPDIR={victim.tmp}"))
    victim.control("go").touch()
    victim.check_left()


# --- after the rotation ---------------------------------------------------------------------------


def test_a_host_that_stalls_right_at_the_release_never_gets_a_late_write(victim: Victim) -> None:
    run = rotating(victim, lambda: send(victim, signal.SIGSTOP))
    check_others_served(victim, run, f"it did not answer within {WRITING:g} s; whether the key was written there is")
    assert victim.stale == [SICK]
    check_never_written_late(victim)
    check_finished_by_deploy(victim)


def test_a_host_that_dies_right_at_the_release_is_named(victim: Victim) -> None:
    run = rotating(victim, lambda: send(victim, signal.SIGKILL))
    check_others_served(victim, run, "its Python gave no answer")
    assert victim.stale == [SICK]
    check_finished_by_deploy(victim)


_BIG = "#" * 900_000


@pytest.mark.parametrize("layout", [Layout({"template": "app.env.j2"}, armed=True)], ids=[""])
def test_a_host_that_stops_reading_costs_the_others_nothing(victim: Victim) -> None:
    """More is sent to it than fits on the way, so that not even the request gets away."""
    (victim.folder / "big.j2").write_text(f"{_BIG}\n{{{{ multicart_key }}}}\n")
    files = victim.hosts[SICK].variables["multicart_deploy_files"]
    files += [{"path": f"{{{{ home }}}}/big{number}", "template": "big.j2"} for number in range(5)]
    run = rotating(victim, lambda: send(victim, signal.SIGSTOP))
    check_others_served(victim, run, f"it did not answer within {WRITING:g} s; whether the key was written there is")
    assert not list(victim.hosts[SICK].folder.glob("big*"))
    check_never_written_late(victim)
    assert not list(victim.hosts[SICK].folder.glob("big*"))


def test_a_host_that_floods_instead_of_an_answer_is_named(victim: Victim) -> None:
    def flood() -> None:
        victim.control("stop").write_text("write .app.env.multicart-tmp #1")
        victim.control("flood").touch()

    run = rotating(victim, flood)
    check_others_served(victim, run, "it printed more than 4 MiB instead of an answer; whether the key was written")
    check_finished_by_deploy(victim)


def test_a_host_that_answers_after_its_limit_only_is_named(victim: Victim) -> None:
    """It had begun to write in time, and goes on when the run has given it up."""
    run = rotating(victim, lambda: victim.control("stop").write_text("write .app.env.multicart-tmp #1"))
    check_others_served(victim, run, f"it did not answer within {WRITING:g} s; whether the key was written there is")
    victim.control("go").touch()
    victim.check_left()
    check_finished_by_deploy(victim)


def test_a_host_that_stalls_after_its_write_is_named(victim: Victim) -> None:
    """It has told that it has written, and has as much time as its commands may take."""
    for host in victim.hosts.values():
        host.variables["multicart_deploy_timeout"] = 1
    victim.control("hold-before-restart").touch()
    with victim.started() as started:
        wait_for(victim.control("reached").exists, "it does not restart", started)
        send(victim, signal.SIGSTOP)
        run = ended(victim, started)
    check_others_served(victim, run, "it did not answer within ")
    assert victim.stale == []
    send(victim, signal.SIGCONT)
    victim.control("go").touch()
    check_finished_by_deploy(victim)


@pytest.mark.parametrize("record", [pytest.param(4, marks=pytest.mark.full), 5], ids=["closes", "concludes"])
def test_a_host_that_stalls_while_its_record_is_written_is_named(victim: Victim, record: int) -> None:
    """It has the key and was restarted, and only says so too late."""
    run = rotating(victim, lambda: victim.control("stop").write_text(f"rename {victim.record_name} #{record}"))
    check_others_served(victim, run, f"it did not answer within {INSPECTING:g} s")
    assert victim.stale == []
    for name in (WELL, HOLDING):
        assert victim.records[name]["rotation"]["concluded"]
    victim.control("go").touch()
    check_finished_by_deploy(victim)


def test_a_host_that_gets_the_program_as_a_file_and_hangs_never_gets_a_late_write(victim: Victim) -> None:
    """Without pipelining it cannot be armed: at the release the key goes into a private file there."""
    there = victim.folder / "hosts" / SICK / "tmp"
    sick = {"ansible_pipelining": False, "ansible_remote_tmp": str(there), "multicart_deploy_timeout": 1}
    victim.hosts[SICK].variables.update(sick)
    run = rotating(victim, lambda: victim.control("hold-start").touch())
    check_others_served(victim, run, f"it did not answer within {WRITING + 3:g} s; whether the key was written there")
    assert [path for path in there.rglob("*") if path.is_file()] == []
    victim.control("hold-start").unlink()
    victim.control("go").touch()
    check_never_written_late(victim)
    check_finished_by_deploy(victim)
