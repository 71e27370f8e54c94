# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rotate.yml killed at any point: a plain re-run finishes the intent, and the service has rotated once.

Nothing here sleeps for luck: the sandbox holds a request, or the consumer a step, until the run was killed right there.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.victim import Layout, Victim
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

HELD = 30.0  # seconds for which a request is held; the client gives up after ten
REQUESTS = ("plan", "prove-live", "read", "rotate", "read-back", "prove-new", "prove-old")
"""What a run asks of the service, in order; the last two come when every consumer is healthy."""
_ENDPOINTS = {"rotate": "rotate"}
SHARDS = 4


@dataclass(frozen=True)
class Point:
    """Where to kill, how, and whether the service has rotated by then."""

    prepare: Callable[[Victim], None]
    reached: Callable[[Victim], bool]
    signal: signal.Signals = signal.SIGKILL


def at_request(name: str, fault: str, by: signal.Signals = signal.SIGKILL, seconds: float = HELD) -> Point:
    """Kill while the service holds a request: ``timeout_before`` does not carry it out, ``slow`` has done so."""
    number = REQUESTS.index(name)

    def prepare(victim: Victim) -> None:
        victim.fault("any", fault, after=number, seconds=seconds)

    def reached(victim: Victim) -> bool:
        entries = victim.peek()
        if len(entries) <= number:
            return False
        assert entries[number]["endpoint"] == _ENDPOINTS.get(name, "read"), "this is another request"
        return name != "rotate" or fault != "slow" or entries[number]["committed"]

    return Point(prepare, reached, by)


def at_step(step: str, by: signal.Signals = signal.SIGKILL) -> Point:
    """Kill while the consumer is about to do a step with its files, or has half done a write."""
    return Point(lambda victim: _write(victim.control("stop"), step.format(record=victim.record_name)), _reached, by)


def during(command: str, by: signal.Signals = signal.SIGKILL) -> Point:
    return Point(lambda victim: victim.control(f"hold-{command}").touch(), _reached, by)


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _reached(victim: Victim) -> bool:
    return victim.control("reached").exists()


TELLING = {
    "rotation-not-carried-out": at_request("rotate", "timeout_before"),
    "rotation-carried-out": at_request("rotate", "slow"),
    "rotation-carried-out-after-the-kill": at_request("rotate", "late_commit", seconds=2.0),
    "read-back-interrupted": at_request("read-back", "slow", signal.SIGINT),
    "marker-not-made": at_step("rename {record} #1"),
    "file-half-written": at_step("write .app.env.multicart-tmp #1"),
    "file-not-renamed": at_step("rename app.env #1"),
    "file-renamed": at_step("rename {record} #3"),
    "before-restart": during("before-restart"),
    "health-terminated": during("health", signal.SIGTERM),
    "proof-interrupted": at_request("prove-old", "slow", signal.SIGINT),
    "record-not-closed": at_step("rename {record} #4"),
}
FULL = {
    **{
        f"{name}-{'carried-out' if fault == 'slow' else 'not-carried-out'}-{by.name}": at_request(name, fault, by)
        for name in REQUESTS
        for fault in ("timeout_before", "slow")
        for by in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    },
    **{
        f"{command}-{by.name}": during(command, by)
        for command in ("before-restart", "after-restart", "health")
        for by in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    },
    **{
        f"{step.split()[0]}-{by.name}": at_step(step, by)
        for step in ("rename app.env #1", "write .app.env.multicart-tmp #1")
        for by in (signal.SIGTERM, signal.SIGINT)
    },
}

_BY_MODULE = Layout({"mode": "0600"}, mode=0o640)
"""More than the key changes, so that Ansible's own way is taken instead of the short one."""
_TEMPLATE = Layout({"template": "app.env.j2"})
_IN_STATE_DIR = Layout(state_dir=True)
_IN_PLACE = Layout({"unsafe_writes": True}, linked=True)
_TEMPLATE_IN_PLACE = Layout({**_TEMPLATE.file, **_IN_PLACE.file}, linked=True)
LAID_OUT = {
    "by-module-half-written": (_BY_MODULE, at_step("write .app.env.multicart-tmp #1")),
    "by-module-not-renamed": (_BY_MODULE, at_step("rename app.env #1", signal.SIGTERM)),
    "template-half-written": (_TEMPLATE, at_step("write .app.env.multicart-tmp #1")),
    "template-renamed": (_TEMPLATE, at_step("rename {record} #3")),
    "template-carried-out": (_TEMPLATE, at_request("rotate", "slow")),
    "state-dir-marker-not-made": (_IN_STATE_DIR, at_step("rename {record} #1")),
    "state-dir-renamed": (_IN_STATE_DIR, at_step("rename {record} #3")),
    "state-dir-not-closed": (_IN_STATE_DIR, at_step("rename {record} #4")),
    "in-place-half-written": (_IN_PLACE, at_step("write app.env #1")),
    "in-place-written": (_IN_PLACE, at_step("fsync app.env #1", signal.SIGTERM)),
    "template-in-place-half-written": (_TEMPLATE_IN_PLACE, at_step("write app.env #1")),
}


def kill_and_run_again(victim: Victim, point: Point, to_the_end: bool = False) -> bool:
    """Kill a run at a point and finish it by a plain re-run; False: the point was never reached.

    :param to_the_end: the point may come after the last record was closed.
    """
    point.prepare(victim)
    with victim.started() as run:
        if not victim.wait_until(lambda: point.reached(victim), run):
            assert run.process.returncode == 0, run.output.read_text()
            return False
        run.kill(point.signal)
        assert run.process.returncode != 0
    victim.release()
    victim.check_killed(run)
    assert to_the_end or not plainly_finished(victim), "the records were closed too early"
    victim.check_finished(victim.rotate(*(victim.retiring if plainly_finished(victim) else ())))
    return True


def plainly_finished(victim: Victim) -> bool:
    """Tell whether nothing but the last word is missing, so that a plain re-run is another intent: name the key."""
    return victim.rotations == 1 and not any(record["open"] for record in victim.records.values())


@pytest.mark.parametrize(
    ("layout", "point"),
    [
        *(pytest.param(Layout(), point, id=name) for name, point in TELLING.items()),
        *(pytest.param(Layout(), point, id=name, marks=pytest.mark.full) for name, point in FULL.items()),
        *(pytest.param(layout, point, id=name) for name, (layout, point) in LAID_OUT.items()),
    ],
)
def test_running_again_finishes_what_was_killed(victim: Victim, point: Point) -> None:
    assert kill_and_run_again(victim, point), "the run ended before it came to this point"


def test_a_module_that_outlives_its_controller_does_no_harm_to_the_next_run(victim: Victim) -> None:
    """As over ssh, where killing Ansible does not kill what it has started on the host."""
    point = at_step("rename app.env #1")
    point.prepare(victim)
    with victim.started() as run:
        assert victim.wait_until(lambda: point.reached(victim), run), run.output.read_text()
        on_host = f"MULTICART_STEPS={victim.control('')}".rstrip("/").encode()
        run.kill(signal.SIGKILL, spare=lambda pid: on_host in _environment(pid))
        victim.release()
        victim.control("go").touch()
        victim.check_finished(victim.rotate())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.mark.full
@pytest.mark.parametrize("shard", range(SHARDS))
def test_running_again_finishes_what_was_killed_at_any_step(
    shard: int, sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account]
) -> None:
    """All steps that a run does on a consumer, one after another, until the run ends by itself."""
    for number in itertools.count(shard + 1, SHARDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        victim = Victim(sandbox, folder, new_account())
        try:
            if not kill_and_run_again(victim, at_step(str(number)), to_the_end=True):
                assert number > 20, "so few steps cannot be all"
                return
        finally:
            victim.forget()
