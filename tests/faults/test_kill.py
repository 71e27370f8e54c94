# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rotate.yml killed at any point: a plain re-run finishes the intent, and the API has rotated once.

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
from tests.rows import every_other
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

HELD = 30.0  # seconds for which a request is held; the client gives up after ten
REQUESTS = ("plan", "prove-live", "rotate", "read-back", "prove-new", "prove-old")
"""What a run asks of the API, in order; the last two while the consumers are restarted."""
_ENDPOINTS = {"rotate": "rotate"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SHARDS = 4


@dataclass(frozen=True)
class Point:
    """Where to kill, and how.

    :ivar dies: the host ``web1`` dies with the run; otherwise what runs there has to leave by itself.
    :ivar closed: every record is closed by then.
    """

    prepare: Callable[[Victim], None]
    reached: Callable[[Victim], bool]
    signal: signal.Signals = signal.SIGKILL
    dies: bool = False
    closed: bool = False


def at_request(name: str, fault: str, by: signal.Signals = signal.SIGKILL, seconds: float = HELD) -> Point:
    """Kill while the API holds a request: ``timeout_before`` does not carry it out, ``slow`` has done so."""
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


def at_step(step: str, by: signal.Signals = signal.SIGKILL, closed: bool = False) -> Point:
    """Kill while the consumer is about to do a step with its files, or has half done a write."""

    def prepare(victim: Victim) -> None:
        victim.control("stop").write_text(step.format(record=victim.record_name))

    return Point(prepare, _reached, by, dies=True, closed=closed)


def during(what: str, by: signal.Signals = signal.SIGKILL) -> Point:
    """Kill while the consumer inspects its file, or runs a command."""
    return Point(lambda victim: victim.control(f"hold-{what}").touch(), _reached, by, dies=True)


def _reached(victim: Victim) -> bool:
    return victim.control("reached").exists()


TELLING = {
    "rotation-not-carried-out": at_request("rotate", "timeout_before"),
    "rotation-carried-out": at_request("rotate", "slow"),
    "rotation-carried-out-after-the-kill": at_request("rotate", "late_commit", seconds=2.0),
    "read-back-interrupted": at_request("read-back", "slow", signal.SIGINT),
    "record-not-opened": at_step("rename {record} #1"),
    "file-half-written": at_step("write .app.env.multicart-tmp #1"),
    "file-not-renamed": at_step("rename app.env #1"),
    "file-renamed": at_step("rename {record} #2"),
    "before-restart": during("before-restart"),
    "health-terminated": during("health", signal.SIGTERM),
    "proof-interrupted": at_request("prove-old", "slow", signal.SIGINT),
    "processes-not-recorded": at_step("rename {record} #3"),
    "record-not-closed": at_step("rename {record} #4"),
}
PHASES = {
    "inspecting": lambda by: during("inspect", by),
    "preparing": lambda by: at_step("rename {record} #1", by),  # the other host is armed
    "armed": lambda by: at_request("rotate", "timeout_before", by),
    "not-read-back": lambda by: at_request("rotate", "slow", by),
    "released": lambda by: at_step("write .app.env.multicart-tmp #1", by),
    "collecting": lambda by: during("before-restart", by),
    "verifying": lambda by: at_request("prove-new", "slow", by),
    "closing": lambda by: at_step("rename {record} #4", by),
    "concluding": lambda by: at_step("rename {record} #5", by, closed=True),
}
"""One point in each phase of the act."""
FULL = {
    **{
        f"{name}-{'carried-out' if fault == 'slow' else 'not-carried-out'}-{by.name}": at_request(name, fault, by)
        for name in REQUESTS
        for fault in ("timeout_before", "slow")
        for by in SIGNALS
    },
    **{
        f"{command}-{by.name}": during(command, by)
        for command in ("before-restart", "after-restart", "health")
        for by in SIGNALS
    },
    **{
        f"{step.split()[0]}-{by.name}": at_step(step, by)
        for step in ("rename app.env #1", "write .app.env.multicart-tmp #1")
        for by in (signal.SIGTERM, signal.SIGINT)
    },
}

_ARMED = Layout(armed=True)
_WITH_MODE = Layout({"mode": "0600"}, mode=0o640, armed=True)
"""More than the key changes."""
_TEMPLATE = Layout({"template": "app.env.j2"}, armed=True)
_IN_STATE_DIR = Layout(state_dir=True, armed=True)
_IN_PLACE = Layout({"unsafe_writes": True}, linked=True, armed=True)
_TEMPLATE_IN_PLACE = Layout({**_TEMPLATE.file, **_IN_PLACE.file}, linked=True, armed=True)
LAID_OUT = {
    "with-mode-half-written": (_WITH_MODE, at_step("write .app.env.multicart-tmp #1")),
    "with-mode-not-renamed": (_WITH_MODE, at_step("rename app.env #1", signal.SIGTERM)),
    "template-half-written": (_TEMPLATE, at_step("write .app.env.multicart-tmp #1")),
    "template-renamed": (_TEMPLATE, at_step("rename {record} #2")),
    "template-carried-out": (_TEMPLATE, at_request("rotate", "slow")),
    "state-dir-record-not-opened": (_IN_STATE_DIR, at_step("rename {record} #1")),
    "state-dir-renamed": (_IN_STATE_DIR, at_step("rename {record} #2")),
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
    if point.dies:
        victim.end_programs("web1")
    victim.check_left()
    victim.release()
    victim.check_killed(run)
    finished = plainly_finished(victim)
    assert to_the_end or finished == point.closed, "the records were closed too early, or too late"
    victim.check_finished(victim.rotate(*(victim.retiring if finished else ())))
    return True


def plainly_finished(victim: Victim) -> bool:
    """Tell whether nothing but the last word is missing, so that a plain re-run is another intent: name the key."""
    return victim.rotations == 1 and not any(record["open"] for record in victim.records.values())


def _not_in_every_run(by: signal.Signals) -> list[pytest.MarkDecorator]:
    """Return the mark of what is too much for every run; ``test_signals.py`` sends the other signals."""
    return [] if by is signal.SIGKILL else [pytest.mark.full]


@pytest.mark.parametrize(
    ("layout", "point"),
    [
        *(pytest.param(Layout(), point, id=name, marks=pytest.mark.full) for name, point in TELLING.items()),
        *(pytest.param(_ARMED, point, id=f"armed-{name}") for name, point in TELLING.items()),
        *(
            pytest.param(_ARMED, point(by), id=f"while-{phase}-{by.name}", marks=_not_in_every_run(by))
            for phase, point in PHASES.items()
            for by in SIGNALS
        ),
        *(pytest.param(Layout(), point, id=name, marks=pytest.mark.full) for name, point in FULL.items()),
        *(pytest.param(_ARMED, point, id=f"armed-{name}", marks=pytest.mark.full) for name, point in FULL.items()),
        *(pytest.param(*LAID_OUT[row.id], id=row.id, marks=row.marks) for row in every_other(LAID_OUT)),
    ],
)
def test_running_again_finishes_what_was_killed(victim: Victim, point: Point) -> None:
    assert kill_and_run_again(victim, point), "the run ended before it came to this point"


@pytest.mark.parametrize("layout", [Layout(), _ARMED], ids=["served", "armed"])
def test_a_program_that_outlives_its_controller_does_no_harm_to_the_next_run(victim: Victim) -> None:
    """Killing Ansible does not kill what it has started on the host."""
    point = at_step("rename app.env #1")
    point.prepare(victim)
    with victim.started() as run:
        assert victim.wait_until(lambda: point.reached(victim), run), run.output.read_text()
        on_host = f"MULTICART_STEPS={victim.control('')}".rstrip("/").encode()
        run.kill(signal.SIGKILL, spare=lambda pid: on_host in _environment(pid))
        assert victim.programs("web1"), "it has not outlived it"
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
@pytest.mark.parametrize("layout", [Layout(), _ARMED], ids=["served", "armed"])
def test_running_again_finishes_what_was_killed_at_any_step(
    layout: Layout, shard: int, sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account]
) -> None:
    """All steps that a run does on a consumer, one after another, until the run ends by itself."""
    for number in itertools.count(shard + 1, SHARDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        victim = Victim(sandbox, folder, new_account(), layout)
        try:
            if not kill_and_run_again(victim, at_step(str(number)), to_the_end=True):
                assert number > 20, "so few steps cannot be all"
                return
        finally:
            victim.forget()
