# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The act over hosts that are real processes, with a double of the API: what is decided, done, and told of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import NONE
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import act as act_module
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import host as host_module
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act, ActResult, Guard, HostResult, Turn
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.allowed_hours import parse
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec, Steps, StoreSpec
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Refusals, Step, Wanted
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Inspection,
    Problem,
    Process,
    Standing,
    State,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_now, parse_time

from tests.unit.plugins.plugin_utils.local_hosts import (
    IN_PROCESS,
    NEW,
    NEWER,
    OLD,
    LocalHost,
    LocalLink,
    end_all,
    needs_processes,
    session_threads,
    stop,
    strange,
)
from tests.waiting import PATIENCE, eventually, is_gone

ACCOUNT = "a" * 16
CONFIRMED = Wanted(confirmed=True)
KEYS = [OLD, NEW, NEWER, ApiKey("acme.LASTcanary")]
SEEN = "no process that could be read holds a retired key"


def seen_by_this_machine(line: str) -> str:
    """Return the line without what it says of processes that cannot be read: whether there are some, depends."""
    return re.sub(r" \(on \d+ hosts?, some could not be read\)|; some of its processes could not be read", "", line)


class Api:
    """The account as the act uses it: its keys, and what happens at each call."""

    def __init__(self, live: ApiKey = OLD) -> None:
        self.key = live
        self.calls: list[str] = []
        self.at: dict[str, Callable[[], object]] = {}
        self.former: frozenset[str] | None = None
        self.rotation: Callable[[Result], Result] = lambda result: result
        self.verification: Callable[[Result], Result] = lambda result: result
        self.stale: ApiKey | None = None
        self.more: dict[str, Any] = {}
        self.updated_at = "2026-01-01T00:00:00Z"

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.at.get(name, lambda: None)()

    def replace_key(self) -> None:
        self.key = KEYS[KEYS.index(self.key) + 1]

    def _live(self, key: ApiKey | None = None) -> Live:
        return Live(**{"key": key or self.key, "account": ACCOUNT, "updated_at": self.updated_at, **self.more})

    def read(self, newest: bool) -> Live:
        assert newest in (True, False)
        self._call("read" if newest else "read a few seconds ago")
        key, self.stale = (None if newest else self.stale), None
        return self._live(key)

    def confirm(self, live: Live, held: frozenset[str], inspected_at: float) -> Live:
        assert held and live.key.fingerprint not in held and inspected_at <= time.monotonic()
        self._call("confirm")
        return self._live()

    def need_readback(self) -> None:
        self.at.get("need_readback", lambda: None)()

    def rotate(self, key: ApiKey, former: frozenset[str]) -> Result:
        self.former = former
        self._call("rotate")
        before, rotated_at = self.key, iso_now()
        assert key == before
        self.replace_key()
        self.updated_at = iso_now()
        rotated = Result(Outcome.ROTATED, self.key, before, rotated_at=rotated_at, updated_at=self.updated_at)
        result = self.rotation(rotated)
        if result.live is None or result.live == before:
            self.key = before
        return result

    def verify(self, retired: str) -> Result:
        assert retired in {key.fingerprint for key in KEYS} - {self.key.fingerprint}
        self._call("verify")
        return self.verification(Result(Outcome.ALREADY_ROTATED, self.key, OLD, verified=True, old_key_rejected=True))


class Fleet:
    """Some hosts, and the acts over them; every act is a run of its own."""

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(exist_ok=True)
        self.gate = threading.Semaphore(4)
        self.hosts = [LocalHost(f"web{n}", folder / f"web{n}", gate=self.gate) for n in range(1, count + 1)]
        self.api = Api()
        self.lines: list[str] = []
        self.check_mode = False
        self.guard: Guard | None = None
        self.more: list[Host] = []
        self.started: list[LocalLink] = []

    def act(self) -> Act:
        for host in self.hosts:
            if host.link.processes and host.link.__class__ is LocalLink:
                host.link = LocalLink(holds=host.link.holds)  # another run has another connection
            self.started.append(host.link)
        hosts = [*(host.host() for host in self.hosts), *self.more]
        self.lines = []
        return Act(hosts, self.api, self.lines.append, self.guard, self.check_mode)

    def rotate(self, wanted: Wanted = CONFIRMED, refusals: Refusals | None = None) -> ActResult:
        return self._checked(self.act().rotate(wanted, refusals))

    def deploy(self) -> ActResult:
        return self._checked(self.act().deploy())

    def audit(self) -> ActResult:
        return self._checked(self.act().audit())

    def _checked(self, result: ActResult) -> ActResult:
        assert [host.name for host in result.hosts] == sorted(host.name for host in result.hosts)
        told = [
            str(result.error),
            *result.lines,
            *self.lines,
            *(f"{host.message}{host.files}" for host in result.hosts),
        ]
        assert "canary" not in "".join(told)
        if result.error is None and not self.check_mode:
            live = self.api.key.reveal()
            assert [host.holds for host in self.hosts] == [live] * len(self.hosts), "green, though a host is behind"
        return result

    @property
    def holds(self) -> list[str]:
        names = {key.reveal(): name for key, name in zip(KEYS, ("old", "new", "newer", "last"), strict=True)}
        return [names[host.holds] for host in self.hosts]

    @property
    def records(self) -> list[tuple[bool, Any] | None]:
        return [host.record and (host.record["open"], host.record["rotation"]) for host in self.hosts]  # type: ignore[misc]

    @property
    def running(self) -> list[subprocess.Popen[bytes]]:
        """What acts have started and has not ended."""
        return [process for link in self.started for process in link.processes if process.poll() is None]

    def snapshot(self) -> list[dict[str, bytes]]:
        return [host.snapshot() for host in self.hosts]


@pytest.fixture(name="fleet")
def fixture_fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path / "fleet", 3)
    yield fleet
    end_all(fleet.hosts)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = len(session_threads())
    yield
    assert eventually(lambda: len(session_threads()) <= before), session_threads()


def reason(result: ActResult) -> Reason | None:
    return result.error.reason if result.error else None


def states(result: ActResult) -> list[str]:
    return [host.standing.state.value for host in result.hosts]


def concluded(retire: ApiKey, yes: bool = True) -> dict[str, Any]:
    return {"retire": retire.fingerprint, "concluded": yes}


UP_TO_DATE = ["up_to_date"] * 3


# --- a rotation -----------------------------------------------------------------------------------


def test_a_rotation_brings_the_new_key_to_all_and_concludes(fleet: Fleet) -> None:
    for host in fleet.hosts[:2]:
        host.variables = {"commands": [host.logs("restart")], "health_checks": [host.logs("check")]}
    result = fleet.rotate()
    assert (reason(result), states(result), fleet.holds) == (None, UP_TO_DATE, ["new"] * 3)
    assert fleet.api.calls == ["read", "rotate", "verify"]
    assert fleet.records == [(False, concluded(OLD))] * 3
    for host in fleet.hosts:
        assert host.record is not None
        (retired,) = host.record["retired"]
        assert (retired["key"], retired["seen"], retired["accepted"]) == (OLD.fingerprint, "rejected", True)
        assert host.record["updated_at"] == ["2026-01-01T00:00:00.000Z", fleet.api.updated_at]
        assert (host.record["account"], host.record["since"]) == (
            ACCOUNT,
            result.rotation and result.rotation.rotated_at,
        )
    assert [host.log for host in fleet.hosts] == [["restart", "check"], ["restart", "check"], []]
    assert IN_PROCESS or [len(host.link.processes) for host in fleet.hosts] == [1, 1, 1]
    assert result.plan is not None and (result.plan.step, result.plan.retire) == (Step.ROTATE, OLD.fingerprint)
    assert result.rotation is not None and result.rotation.verified and result.rotation.old_key_rejected
    assert result.live is not None and result.live.key == NEW
    assert [host.changed for host in result.hosts] == [True] * 3
    assert [host.checked for host in result.hosts] == [True, True, None]
    rotated, checked = result.lines
    assert rotated.endswith(f"{OLD.masked} {OLD.fingerprint} was revoked; the API rejects it.")
    assert seen_by_this_machine(checked) == (
        f"3 of 3 consumers hold the live key {NEW.masked} {NEW.fingerprint}; "
        f"2 passed their health checks, 1 has none; {SEEN}."
    )


def test_a_defect_after_the_rotation_leaves_each_host_its_own_state(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_api: Api, _retired: str) -> Result:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(Act, "_verify", fails)
    result = fleet.rotate()
    assert (reason(result), states(result)) == (Reason.INTERNAL_ERROR, ["restart_due"] * 3)  # nothing was closed
    assert fleet.holds == ["new"] * 3


def test_before_the_key_is_replaced_every_host_is_armed_and_none_has_a_key(fleet: Fleet) -> None:
    def look() -> None:
        assert fleet.holds == ["old"] * 3
        assert fleet.records == [(True, concluded(OLD, False))] * 3
        started = [host.link.processes for host in fleet.hosts]
        assert IN_PROCESS or all(len(each) == 1 and each[0].poll() is None for each in started)
        assert not any(host.link.inputs for host in fleet.hosts)

    fleet.api.at["rotate"] = look
    result = fleet.rotate()
    assert reason(result) is None and result.rotation is not None
    for host in result.hosts:
        events = ["armed", "released", "written"]
        moments = [host.moments[event] for event in events]
        assert moments == sorted(moments)
        assert host.moments["armed"] < host.moments["released"] < host.moments["armed"] + timedelta(seconds=30)
    said = "\n".join(fleet.lines)
    assert "Inspected 3 consumers" in said and "3 of 3 armed" in said and "3 of 3 have the new key" in said


def test_hosts_that_cannot_be_armed_are_served_at_the_release(fleet: Fleet) -> None:
    fleet.hosts[1].link.holds = False
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert any("2 of 3 armed" in line and "the others are served at the release" in line for line in fleet.lines)
    assert "armed" not in result.hosts[1].moments and "released" in result.hosts[1].moments
    keys = [b"NEWcanary" in each for each in fleet.hosts[1].link.inputs]
    assert IN_PROCESS or keys == [False, False, True, False, False]  # inspect, prepare, deploy, close, conclude


def test_in_a_rotation_the_new_key_is_written_whatever_a_file_holds_by_then(fleet: Fleet) -> None:
    fleet.api.at["rotate"] = lambda: fleet.hosts[1].put(NEWER)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)


def test_a_host_that_could_not_be_inspected_is_given_no_key(fleet: Fleet, tmp_path: Path) -> None:
    code = f"""
for request in requests():
    open({str(tmp_path / "asked")!r}, "a").write(request["phase"] + " ")
    say(request, problems=[{{"reason": "internal_error", "text": "no"}}])
"""
    fleet.hosts[0].link = LocalLink(strange(code))
    fleet.api.key = NEW
    result = fleet.act().deploy()
    assert (reason(result), result.hosts[0].reason) == (Reason.NOT_UP_TO_DATE, "internal_error")
    assert (tmp_path / "asked").read_text() == "inspect "
    assert [host.holds for host in fleet.hosts[1:]] == [NEW.reveal()] * 2


def test_the_key_goes_first_to_those_that_wait_for_it_then_where_there_is_more_to_do(fleet: Fleet) -> None:
    fleet.hosts[0].link.holds = False
    fleet.hosts[1].variables = {"wave": 1}
    hosts = [host.host() for host in fleet.hosts]
    rendered = LocalHost("a-template", fleet.hosts[0].folder.parent / "a-template", gate=fleet.gate).host()
    rendered.templates = Rendered(lambda key: [None])
    result = Act([*hosts, rendered], fleet.api).rotate(CONFIRMED)
    assert reason(result) is None
    released = sorted(result.hosts, key=lambda host: host.moments["released"])
    assert [host.name for host in released] == ["web3", "web1", "a-template", "web2"]
    assert {host.name: host.wave for host in result.hosts} == {"a-template": 0, "web1": 0, "web2": 1, "web3": 0}
    assert released[2].moments["written"] < released[3].moments["released"]
    for host in result.hosts:
        assert host.moments["written"] - host.moments["released"] < timedelta(seconds=30)


def test_no_host_waits_for_another_one_of_its_wave(fleet: Fleet) -> None:
    """The first has written once the others have; with them behind it, none ever would."""
    others = [str(host.env) for host in fleet.hosts[1:]]
    code = f"""
for request in requests():
    before = request["phase"] in ("inspect", "prepare")
    while request["phase"] == "deploy" and not all({NEW.reveal()!r} in open(path).read() for path in {others!r}):
        time.sleep(0.01)
    holds = {OLD.fingerprint!r} if before else {NEW.fingerprint!r}
    say(request, files=[] if request["phase"] == "ping" else [{{"holds": [holds]}}])
"""
    fleet.hosts[0].link = LocalLink(strange(code))
    result = fleet.act().rotate(CONFIRMED)
    assert reason(result) is None and fleet.holds[1:] == ["new"] * 2
    released = [host.moments["released"] for host in result.hosts]
    assert max(released) - min(released) < timedelta(seconds=5), "there was a wait as if for another wave"


def test_a_second_rotation_goes_on_from_the_first(fleet: Fleet) -> None:
    fleet.rotate()
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["newer"] * 3)
    assert fleet.api.former == frozenset({OLD.fingerprint})
    assert fleet.records == [(False, concluded(NEW))] * 3
    kept = [[entry["key"] for entry in host.record["retired"]] for host in fleet.hosts if host.record]
    assert kept == [[OLD.fingerprint, NEW.fingerprint]] * 3


def test_a_run_that_has_rotated_already_only_deploys(fleet: Fleet) -> None:
    fleet.rotate()
    fleet.api.more["retired"] = OLD.fingerprint
    result = fleet.rotate()
    assert result.plan is not None and result.plan.step is Step.DONE
    assert (reason(result), fleet.holds, fleet.api.calls.count("rotate")) == (None, ["new"] * 3, 1)
    assert result.lines[0] == "Not rotated: this run has rotated the key already."
    assert result.plan.retire == OLD.fingerprint
    assert reason(fleet.rotate(Wanted(True, retire=OLD.fingerprint))) is None
    assert reason(fleet.rotate(Wanted(True, retire=NEW.fingerprint))) is Reason.INVALID_OPTION


@pytest.mark.parametrize("odd", ["2026-06-20 03:00:00", "yesterday", "2026-06-20", None])
def test_a_date_of_the_account_in_another_form_spoils_no_record(fleet: Fleet, odd: Any) -> None:
    fleet.api.updated_at = odd
    assert reason(fleet.rotate()) is None
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert [host.record and host.record["updated_at"] for host in fleet.hosts] == [[None, fleet.api.updated_at]] * 3


# --- check mode -----------------------------------------------------------------------------------


def test_check_mode_foretells_a_rotation_and_changes_nothing(fleet: Fleet) -> None:
    fleet.check_mode = True
    for host in fleet.hosts:
        host.variables = {"commands": [host.logs("restart")], "health_checks": [host.logs("check")]}
    before = fleet.snapshot()
    result = fleet.rotate()
    assert (fleet.snapshot(), fleet.api.calls) == (before, ["read"])
    assert (reason(result), states(result)) == (None, UP_TO_DATE)
    assert [host.changed for host in result.hosts] == [True] * 3
    assert result.rotation is not None
    assert (result.rotation.outcome, result.rotation.previous) == (Outcome.WOULD_ROTATE, OLD)
    assert result.lines == [
        f"Would retire {OLD.masked} {OLD.fingerprint} and deploy the new key to 3 consumers. Nothing was changed."
    ]


def test_check_mode_foretells_that_consumers_are_brought_up_to_date(fleet: Fleet) -> None:
    fleet.check_mode = True
    fleet.api.key = NEW
    fleet.hosts[0].put(NEW)
    before = fleet.snapshot()
    result = fleet.rotate()
    assert (fleet.snapshot(), fleet.api.calls) == (before, ["read", "confirm"])
    assert result.error is not None and result.error.reason is Reason.CAUGHT_UP
    assert result.error.what == "Would not rotate: not up to date: web2, web3."
    assert result.error.advice == "Nothing was changed. First: multicart.keys.deploy."
    assert [host.changed for host in result.hosts][1:] == [True, True]


@pytest.mark.parametrize("act", ["rotate", "deploy"])
def test_check_mode_meets_what_the_real_run_would(fleet: Fleet, act: str) -> None:
    fleet.check_mode = True
    fleet.hosts[1].env.unlink()
    fleet.hosts[1].env.mkdir()
    result = fleet.rotate() if act == "rotate" else fleet.deploy()
    assert reason(result) is (Reason.NOT_READY if act == "rotate" else Reason.NOT_UP_TO_DATE)
    assert states(result)[1] == "unreadable" and result.hosts[1].reason == "path_is_directory"


# --- refused before anything is changed -----------------------------------------------------------


def test_a_consumer_that_is_not_ready_stops_a_new_rotation_by_name(fleet: Fleet) -> None:
    fleet.hosts[1].env.write_text("KEY=$(cat /key)\n")
    fleet.hosts[2].variables = {"commands": ["absent-command"]}
    before = fleet.snapshot()
    result = fleet.rotate()
    assert reason(result) is Reason.NOT_READY and result.error is not None
    assert "2 of 3 consumers are not ready: web2: " in result.error.what
    assert "web3: it has no command absent-command" in result.error.what
    assert (fleet.snapshot(), fleet.api.calls) == (before, ["read"])
    assert states(result) == ["up_to_date", "unreadable", "up_to_date"]


@pytest.mark.parametrize(
    ("wanted", "refusals", "expected"),
    [
        (Wanted(), None, Reason.NOT_CONFIRMED),
        (Wanted(True, min_hosts=4), None, Reason.TOO_FEW_HOSTS),
        (CONFIRMED, Refusals(left_out=["db"]), Reason.LEFT_OUT),
        (CONFIRMED, Refusals(skipped=["db"]), Reason.NOT_PREPARED),
        (Wanted(True, retire="f" * 16), None, Reason.RETIRE_UNKNOWN),
    ],
)
def test_what_is_refused_changes_nothing(
    fleet: Fleet, wanted: Wanted, refusals: Refusals | None, expected: Reason
) -> None:
    before = fleet.snapshot()
    result = fleet.rotate(wanted, refusals)
    assert reason(result) is expected
    assert (fleet.snapshot(), fleet.api.calls) == (before, ["read"])


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_api_key_alone_is_refused_before_a_record_is_opened_and_in_check_mode(
    fleet: Fleet, check_mode: bool
) -> None:
    def refuse() -> None:
        raise MulticartError(Reason.READBACK_IMPOSSIBLE, "There is only an API key.")

    fleet.api.at["need_readback"] = refuse
    before, fleet.check_mode = fleet.snapshot(), check_mode
    assert reason(fleet.rotate()) is Reason.READBACK_IMPOSSIBLE
    assert (fleet.snapshot(), fleet.api.calls) == (before, ["read"])


def test_without_consumers_nothing_is_done(fleet: Fleet) -> None:
    fleet.hosts = []
    assert reason(fleet.rotate()) is Reason.NO_CONSUMERS
    assert reason(fleet.deploy()) is Reason.NO_CONSUMERS
    assert reason(fleet.audit()) is Reason.NO_CONSUMERS


def test_an_api_that_cannot_be_read_leaves_every_host_alone(fleet: Fleet) -> None:
    def refuse() -> None:
        raise MulticartError(Reason.UNREACHABLE, "No connection.")

    fleet.api.at.update({"read": refuse, "read a few seconds ago": refuse})
    for result in (fleet.rotate(), fleet.deploy(), fleet.audit()):
        assert reason(result) is Reason.UNREACHABLE
        assert all(host.link.processes == [] for host in fleet.hosts)


def when(fleet: Fleet, word: str, act: Callable[[], object]) -> None:
    """Do something when an act shows a line with this word for the first time."""

    done: list[str] = []

    class Lines(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if word in line and not done:
                done.append(line)
                act()

    made = fleet.act

    def watched() -> Act:
        built = made()
        fleet.lines = Lines()
        built._say = fleet.lines.append
        return built

    fleet.act = watched  # type: ignore[method-assign]


@needs_processes
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_roll_call_finds_a_host_that_died_or_hangs_while_armed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(act_module, "ROLL_CALL", 2.0)
    when(fleet, "armed in", lambda: os.kill(fleet.hosts[1].link.processes[0].pid, how))
    began = time.monotonic()
    result = fleet.rotate()
    assert time.monotonic() - began < PATIENCE
    assert reason(result) is Reason.NOT_READY and result.error is not None
    assert "1 of 3 consumers are not ready: web2: " in result.error.what
    assert (fleet.holds, fleet.api.calls) == (["old"] * 3, ["read"])
    assert result.hosts[1].reason == ("no_answer" if how is signal.SIGKILL else "timed_out")
    assert reason(fleet.rotate()) is None  # nothing stands in the way of the next run


def test_a_host_that_can_be_inspected_and_not_prepared_stops_the_rotation(fleet: Fleet) -> None:
    web = fleet.hosts[1]
    when(fleet, "Rotating", (web.folder / ".env.KEY.multicart.json").mkdir)
    result = fleet.rotate()
    assert reason(result) is Reason.NOT_READY and result.error is not None and "web2" in result.error.what
    assert (fleet.holds, fleet.api.calls) == (["old"] * 3, ["read"])
    (web.folder / ".env.KEY.multicart.json").rmdir()
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)


# --- the API at the rotation ----------------------------------------------------------------------

REFUSED = MulticartError(Reason.REFUSED, "The API refused.")


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (Result(Outcome.UNCHANGED, OLD, OLD, error=REFUSED), Reason.REFUSED),
        (Result(Outcome.UNKNOWN, None, OLD, error=REFUSED), Reason.REFUSED),
        (Result(Outcome.UNKNOWN, None, OLD), Reason.KEY_DID_NOT_CHANGE),
        (Result(Outcome.UNCHANGED, OLD, OLD), Reason.KEY_DID_NOT_CHANGE),
    ],
)
def test_without_a_new_key_no_host_is_given_one(fleet: Fleet, rotation: Result, expected: Reason) -> None:
    fleet.api.rotation = lambda _result: rotation
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (expected, ["old"] * 3)
    assert result.error is not None and result.error.what in ("The API refused.", "The key was not replaced.")
    named = f"-e multicart_rotate_retire={OLD.fingerprint}: it cannot rotate twice. multicart.keys.doctor shows "
    assert (named in result.error.advice) is (rotation.outcome is Outcome.UNKNOWN)
    assert result.rotation is rotation
    assert fleet.api.calls == ["read", "rotate"]
    fleet.api.rotation = lambda rotated: rotated
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)


def test_a_rotation_that_somebody_else_was_faster_with_is_deployed_all_the_same(fleet: Fleet) -> None:
    fleet.api.rotation = lambda result: replace(result, outcome=Outcome.ALREADY_ROTATED, rotated_at=None)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert result.lines[0] == "The key had been rotated before this run asked for it."


def test_t12_an_old_key_that_stays_valid_is_red_until_its_rejection_is_seen(fleet: Fleet) -> None:
    """T12: the run after it does not call it rejected either."""
    error = MulticartError(Reason.OLD_KEY_STILL_VALID, "The old key still works.")
    fleet.api.verification = lambda result: replace(result, verified=False, old_key_rejected=False, error=error)
    result = fleet.rotate()
    assert (reason(result), states(result), fleet.holds) == (Reason.OLD_KEY_STILL_VALID, UP_TO_DATE, ["new"] * 3)
    assert result.rotation is not None and result.rotation.error is error
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert [host.record["retired"][0]["seen"] for host in fleet.hosts if host.record] == ["still_valid"] * 3
    again = Wanted(confirmed=True, retire=OLD.fingerprint)
    for _run in (1, 2):
        assert reason(fleet.rotate(again)) is Reason.OLD_KEY_STILL_VALID
    assumed = replace(again, assume_rejected=OLD.fingerprint)
    fleet.check_mode = True
    assert (reason(fleet.rotate(again)), reason(fleet.rotate(assumed))) == (Reason.OLD_KEY_STILL_VALID, None)
    fleet.check_mode = False
    result = fleet.rotate(assumed)
    assert (reason(result), result.lines[0]) == (None, f"The key {OLD.fingerprint} is retired; the API rejected it.")
    assert reason(fleet.rotate(again)) is None  # it is noted
    assert fleet.api.calls.count("rotate") == 1


def test_a_rejection_that_nobody_tried_to_see_is_told_as_that(fleet: Fleet) -> None:
    fleet.api.verification = lambda result: replace(result, old_key_rejected=None)
    assert reason(fleet.rotate()) is None
    assert [host.record["retired"][0]["seen"] for host in fleet.hosts if host.record] == ["unseen"] * 3
    result = fleet.rotate(Wanted(confirmed=True, retire=OLD.fingerprint))
    told = f"The key {OLD.fingerprint} is retired; that the API rejects it was not seen."
    assert (reason(result), result.lines[0]) == (None, told)


def test_what_went_wrong_at_the_rotation_is_told_also_if_the_verification_fails(fleet: Fleet) -> None:
    full = MulticartError(Reason.RUN_CACHE_UNUSABLE, "The disk is full.")
    lost = MulticartError(Reason.UNREACHABLE, "No connection.")
    fleet.api.rotation = lambda result: replace(result, error=full)
    fleet.api.verification = lambda result: replace(result, live=None, verified=False, error=lost)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.UNREACHABLE, ["new"] * 3)
    assert result.rotation is not None and result.rotation.error is full
    assert retired(fleet) == [(OLD.fingerprint, False)] * 3


def retired(fleet: Fleet) -> list[tuple[str, bool]]:
    """Return the key that each record tells to be retired, and whether the API had accepted that."""
    entries = [entry for host in fleet.hosts for entry in (host.record or {})["retired"]]
    return [(entry["key"], entry["accepted"]) for entry in entries]


def test_the_moment_of_the_rotation_in_the_records_is_the_apis(fleet: Fleet) -> None:
    fleet.api.rotation = lambda result: replace(result, rotated_at="2026-06-20T03:00:00.000Z")
    fleet.rotate()
    assert [host.record and host.record["since"] for host in fleet.hosts] == ["2026-06-20T03:00:00.000Z"] * 3


def test_what_could_not_be_verified_stays_pending_for_the_next_run(fleet: Fleet) -> None:
    error = MulticartError(Reason.UNREACHABLE, "No connection.")
    fleet.api.verification = lambda result: replace(result, live=None, verified=False, error=error)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.UNREACHABLE, ["new"] * 3)
    assert fleet.records == [(True, concluded(OLD, False))] * 3
    assert retired(fleet) == [(OLD.fingerprint, True)] * 3
    result = fleet.rotate()
    assert result.plan is not None and (result.plan.step, result.plan.retire) == (Step.FINISH, OLD.fingerprint)
    assert (reason(result), fleet.api.calls.count("rotate")) == (None, 1)
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert result.lines[0] == (
        f"The rotation of an earlier run was finished: {OLD.fingerprint} was retired; that the API rejects it was not "
        "seen by this run."
    )


def test_a_verification_that_breaks_is_told_and_keeps_no_host_from_the_key(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)

    def broken(_result: Result) -> Result:
        raise ZeroDivisionError("canary")

    fleet.api.verification = broken
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.INTERNAL_ERROR, ["new"] * 3)


def test_a_key_that_is_replaced_again_while_it_is_deployed_is_followed(fleet: Fleet) -> None:
    fleet.api.at["verify"] = fleet.api.replace_key
    result = fleet.rotate()
    assert (reason(result), fleet.holds, states(result)) == (None, ["newer"] * 3, UP_TO_DATE)
    assert "The key was replaced again meanwhile." in fleet.lines


def test_health_checks_passed_with_a_key_before_the_last_one_do_not_count(fleet: Fleet, tmp_path: Path) -> None:
    fleet.hosts[0].variables = {"health_checks": [f"mkdir {tmp_path}/first"], "health_retries": 0}
    fleet.api.at["verify"] = fleet.api.replace_key
    result = fleet.rotate()
    assert (result.hosts[0].reason, result.hosts[0].checked) == ("unhealthy", False)


@pytest.mark.parametrize(
    ("seconds", "checked"),
    [
        ({"written": 1, "restarted": 2, "healthy": 3}, True),
        ({"written": 1, "healthy": 3}, True),
        ({"written": 1, "restarted": 2}, False),
        ({"written": 1, "healthy": 3, "restarted": 4}, False),  # for a process with the old key
    ],
)
def test_what_was_restarted_has_to_pass_its_health_checks_after_that(
    fleet: Fleet, seconds: dict[str, int], checked: bool
) -> None:
    fleet.hosts[0].variables = {"health_checks": ["true"]}
    host = fleet.hosts[0].host()
    host.moments = {event: datetime(2026, 6, 20, 3, 0, at, tzinfo=timezone.utc) for event, at in seconds.items()}
    assert host.is_checked is checked


# --- a host after the rotation --------------------------------------------------------------------


@pytest.fixture(name="_brief")
def fixture_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon on a host that does not write."""
    for module in (host_module, act_module):
        monkeypatch.setattr(module, "WRITING", 5.0)


@needs_processes
def test_a_host_that_dies_at_the_release_costs_the_others_nothing(fleet: Fleet) -> None:
    fleet.api.at["rotate"] = lambda: os.kill(fleet.hosts[1].link.processes[0].pid, signal.SIGKILL)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["new", "old", "new"])
    web = result.hosts[1]
    assert (web.reason, web.up_to_date) == ("no_answer", False)
    assert "whether the key was written there is not known" in web.message
    assert [host.up_to_date for host in result.hosts] == [True, False, True]
    # Its verdict was given, though its record is open; the next run brings it up to date and rotates no more.
    assert fleet.records == [(False, concluded(OLD)), (True, concluded(OLD, False)), (False, concluded(OLD))]
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.CAUGHT_UP, ["new"] * 3)
    assert fleet.api.calls.count("rotate") == 1


@needs_processes
@pytest.mark.usefixtures("_brief")
def test_a_host_that_hangs_at_the_release_costs_the_others_nothing_and_gets_no_late_write(
    fleet: Fleet, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    web = fleet.hosts[1]
    web.link = LocalLink(pid_file=pid_file)
    hung: list[int] = []
    fleet.api.at["rotate"] = lambda: hung.append(stop(pid_file))
    began = time.monotonic()
    result = fleet.rotate()
    assert time.monotonic() - began < PATIENCE
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["new", "old", "new"])
    assert result.hosts[1].reason == "timed_out" and "not known" in result.hosts[1].message
    for host in (result.hosts[0], result.hosts[2]):
        assert (host.moments["written"] - host.moments["released"]).total_seconds() < 4.5
    before = web.snapshot()
    os.kill(hung[0], signal.SIGCONT)
    assert eventually(lambda: is_gone(hung[0]))
    assert web.snapshot() == before


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ({"commands": ["sh -c 'exit 3'"]}, "restart_failed"),
        ({"health_checks": ["sh -c 'exit 3'"], "health_retries": 0}, "unhealthy"),
    ],
)
def test_a_step_that_fails_on_one_host_is_its_own_failure_and_is_made_up_for(
    fleet: Fleet, steps: dict[str, Any], why: str
) -> None:
    fleet.hosts[1].variables = steps
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["new"] * 3)
    assert states(result) == ["up_to_date", "restart_due", "up_to_date"]
    assert (result.hosts[1].reason, result.hosts[1].changed) == (why, True)
    assert fleet.records[1] == (True, concluded(OLD))
    fleet.hosts[1].variables = {"commands": [fleet.hosts[1].logs("restart")]}
    result = fleet.rotate()
    assert (reason(result), fleet.hosts[1].log) == (Reason.CAUGHT_UP, ["restart"])


def test_a_defect_at_one_host_keeps_no_other_from_the_key(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Host.ask

    def ask(host: Host, phase: str, *arguments: Any, **fields: Any) -> Any:
        if (host.name, phase) == ("web1", "deploy"):
            raise ZeroDivisionError("canary")
        return asked(host, phase, *arguments, **fields)

    monkeypatch.setattr(Host, "ask", ask)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["old", "new", "new"])
    assert (result.hosts[0].reason, states(result)[1:]) == ("internal_error", ["up_to_date"] * 2)


MALFORMED = ["{'files': 5}", "[{}]", "{}", "{'files': [{'holds': [[]]}]}", "None"]
PHASES = ["inspect", "prepare", "ping", "deploy", "close", "conclude"]


@needs_processes
@pytest.mark.parametrize(
    ("phase", "answer"),
    [(phase, answer) for phase in PHASES for answer in MALFORMED if (phase, answer) != ("ping", "{}")],
)
def test_t18_a_malformed_answer_is_red_for_its_host_alone(fleet: Fleet, phase: str, answer: str) -> None:
    """T18: the others are inspected, served and told as if nothing were."""
    good = "{'files': [{'holds': [%r], 'record': None}], 'problems': []}"
    held = f"{good!r} % (({OLD.fingerprint!r} if request['phase'] in ('inspect', 'prepare') else {NEW.fingerprint!r}),)"
    code = f"""
import ast
for request in requests():
    said = ast.literal_eval({held}) if request["phase"] != "ping" else {{}}
    raw(request["tag"] + " " + json.dumps({answer} if request["phase"] == {phase!r} else said) + "\\n")
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    act = fleet.act()
    result = act.rotate(CONFIRMED)
    before = phase in ("inspect", "prepare", "ping")
    assert (result.hosts[1].reason, result.hosts[1].up_to_date) == ("malformed_answer", False)
    assert result.hosts[1].standing.why is not None and "its answer is malformed" in result.hosts[1].standing.why
    others = [fleet.holds[0], fleet.holds[2]]
    assert others == (["old"] * 2 if before else ["new"] * 2)
    assert reason(result) is (Reason.NOT_READY if before else Reason.NOT_UP_TO_DATE)
    assert [result.hosts[0].up_to_date, result.hosts[2].up_to_date] == [True, True]


def test_a_text_of_a_host_that_repeats_the_key_is_not_shown(fleet: Fleet) -> None:
    code = """
for request in requests():
    file = {"holds": [request["live"]] if "live" in request else []}
    problems = [{"reason": "unhealthy", "text": "it said " + request["key"]}] if request.get("key") else []
    say(request, files=[] if request["phase"] == "ping" else [file], problems=problems)
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    result = fleet.act().rotate(CONFIRMED)
    assert result.hosts[1].reason == "unhealthy"
    assert "canary" not in "".join([str(result), *fleet.lines])


# --- finishing what was begun ---------------------------------------------------------------------


def break_off(fleet: Fleet) -> None:
    """Rotate, and let the run die between the acceptance and the release."""

    class Died(BaseException):
        pass

    def die(_result: Result) -> Result:
        raise Died

    fleet.api.rotation = die
    with pytest.raises(Died):
        fleet.rotate()
    fleet.api.rotation = lambda result: result
    assert (fleet.api.key, fleet.holds) == (NEW, ["old"] * len(fleet.hosts))
    assert fleet.records == [(True, concluded(OLD, False))] * len(fleet.hosts)


@pytest.mark.parametrize(
    ("wanted", "refusals"),
    [
        (CONFIRMED, None),
        (Wanted(), None),  # nothing of a new rotation's conditions is asked of it
        (Wanted(min_hosts=9, force=True), Refusals(["db"], ["cache"])),
    ],
)
def test_a_run_that_died_in_the_outage_is_finished_by_the_next(
    fleet: Fleet, wanted: Wanted, refusals: Refusals | None
) -> None:
    break_off(fleet)
    last_read: list[list[tuple[str, bool]]] = []
    fleet.api.at["read"] = lambda: last_read.append(retired(fleet))
    result = fleet.rotate(wanted, refusals)
    assert last_read == [[], [(OLD.fingerprint, True)] * 3], "the key was not written together with what it replaces"
    assert result.plan is not None and (result.plan.step, result.plan.retire) == (Step.FINISH, OLD.fingerprint)
    assert (reason(result), fleet.holds, states(result)) == (None, ["new"] * 3, UP_TO_DATE)
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert [host.record["retired"][0]["accepted"] for host in fleet.hosts if host.record] == [True] * 3
    assert OLD.fingerprint in result.lines[0] and "not seen by this run" in result.lines[0]
    assert fleet.api.calls.count("rotate") == 1


def test_the_record_of_another_account_is_left_alone_when_a_rotation_is_finished(fleet: Fleet) -> None:
    break_off(fleet)
    path = fleet.hosts[2].folder / ".env.KEY.multicart.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "account": "b" * 16}))
    result = fleet.rotate()
    assert result.plan is not None and result.plan.step is Step.FINISH
    assert (reason(result), result.hosts[2].reason) == (Reason.NOT_UP_TO_DATE, "other_account")
    assert fleet.records == [(False, concluded(OLD))] * 2 + [(True, concluded(OLD, False))]


def test_after_a_crash_with_one_host_down_all_others_are_served(fleet: Fleet) -> None:
    break_off(fleet)
    down = LocalLink()
    down.error = LinkError("unreachable", "it is unreachable", reached=False)
    fleet.hosts[1].link = down
    result = fleet.rotate()
    assert result.plan is not None and result.plan.step is Step.FINISH
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["new", "old", "new"])
    assert states(result) == ["up_to_date", "unreachable", "up_to_date"]
    fleet.hosts[1].link = LocalLink()
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.CAUGHT_UP, ["new"] * 3)
    assert fleet.api.calls.count("rotate") == 1


@pytest.mark.parametrize("sent", [False, True])
def test_a_rotation_that_was_refused_is_not_taken_for_one_that_replaced_the_key(fleet: Fleet, sent: bool) -> None:
    """Somebody replaces the key in the dashboard afterwards: no run has rotated it, and none may be green for that."""

    def refused(_result: Result) -> Result:
        return Result(Outcome.UNCHANGED, OLD, OLD, error=MulticartError(Reason.REFUSED, "No."))

    blocker = fleet.hosts[1].folder / ".env.KEY.multicart.json"
    if sent:
        fleet.api.rotation = refused
    else:
        when(fleet, "Rotating", blocker.mkdir)
    assert reason(fleet.rotate()) is (Reason.REFUSED if sent else Reason.NOT_READY)
    fleet.api.rotation = lambda result: result
    if not sent:
        blocker.rmdir()
    fleet.api.replace_key()
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.CAUGHT_UP, ["new"] * 3)
    assert (reason(fleet.rotate()), fleet.holds) == (None, ["newer"] * 3)


def test_the_record_of_another_account_is_left_alone_when_a_rotation_was_refused(fleet: Fleet) -> None:
    path = fleet.hosts[2].folder / ".env.KEY.multicart.json"

    def refused(_result: Result) -> Result:
        path.write_text(json.dumps({**json.loads(path.read_text()), "account": "b" * 16}))
        return Result(Outcome.UNCHANGED, OLD, OLD, error=MulticartError(Reason.REFUSED, "No."))

    fleet.api.rotation = refused
    assert reason(fleet.rotate()) is Reason.REFUSED
    assert fleet.records == [(True, concluded(OLD))] * 2 + [(True, concluded(OLD, False))]


class Killed(BaseException):
    """Nobody catches it, as with SIGKILL."""


EVENTS = ["read", "Inspected", "Rotating", "armed in", "rotate", "accepted", "have the new key", "verify", "verified"]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("all_die", [True, False])
def test_a_run_that_is_killed_at_any_point_is_finished_by_the_same_command(
    fleet: Fleet, event: str, all_die: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    for host in fleet.hosts:
        host.variables = {"commands": [host.logs("restart")]}

    def die(_result: Any = None) -> Any:
        if all_die:  # with the control node, all connections are gone
            end_all(fleet.hosts)
        raise Killed

    when(fleet, event, die)
    if event in ("read", "rotate", "verify"):
        fleet.api.at[event] = die
    elif event == "accepted":
        fleet.api.rotation = die
    elif event == "verified":
        fleet.api.verification = die
    with suppress(Killed):
        fleet.rotate()
    assert eventually(lambda: not fleet.running)
    fleet.api.at.clear()
    fleet.api.rotation = fleet.api.verification = lambda result: result
    rotated = fleet.api.key != OLD
    assert rotated == (event in EVENTS[EVENTS.index("accepted") :])
    result = fleet.rotate()
    assert (reason(result), fleet.holds, states(result)) == (None, ["new"] * 3, UP_TO_DATE)
    assert result.plan is not None and result.plan.step is (Step.FINISH if rotated else Step.ROTATE)
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert fleet.api.key == NEW, "no key was retired that nobody asked for"
    for host in fleet.hosts:
        assert host.log[0] == "restart" and len(host.log) <= 2
        assert host.record is not None and host.record["retired"][0]["key"] == OLD.fingerprint


def test_a_fleet_of_one_that_nobody_confirms_is_finished_and_red_once(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "one", 1)
    break_off(fleet)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (Reason.CAUGHT_UP, ["new"])
    assert fleet.api.calls.count("rotate") == 1
    result = fleet.rotate(Wanted(True, retire=OLD.fingerprint))
    assert (reason(result), fleet.api.calls.count("rotate")) == (None, 1)
    assert "was not seen" in result.lines[0]
    assert (reason(fleet.rotate()), fleet.holds) == (None, ["newer"])


@pytest.mark.parametrize("retire", [None, OLD.fingerprint])
@pytest.mark.parametrize(("how", "served"), [("left_out", 1), ("left_out", 2), ("unreachable", 1)])
def test_a_run_with_a_part_of_the_hosts_leaves_the_rotation_to_be_finished_by_one_with_all(
    fleet: Fleet, how: str, retire: str | None, served: int
) -> None:
    break_off(fleet)
    hosts, fleet.hosts = fleet.hosts, fleet.hosts[:served]
    fleet.more = [Host(host.name, failure=Problem(how, "it takes no part")) for host in hosts[served:]]
    left_out = [host.name for host in fleet.more if how == "left_out"]
    result = fleet.rotate(Wanted(True, retire=retire), Refusals(left_out))
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["new"] * served)
    fleet.hosts, fleet.more = hosts, []
    result = fleet.rotate()
    assert result.plan is not None and result.plan.step is Step.FINISH
    assert (reason(result), fleet.holds, fleet.api.calls.count("rotate")) == (None, ["new"] * 3, 1)
    assert fleet.records == [(False, concluded(OLD))] * 3
    assert reason(fleet.rotate(Wanted(True, retire=OLD.fingerprint))) is None


def test_a_deployment_that_completes_it_leaves_the_rotation_to_be_told(fleet: Fleet) -> None:
    break_off(fleet)
    result = fleet.deploy()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert fleet.records == [(False, concluded(OLD, False))] * 3


def test_a_consumer_that_is_behind_is_caught_up_and_the_run_is_red(fleet: Fleet) -> None:
    fleet.rotate()
    fleet.hosts[1].put(OLD)
    fleet.hosts[2].put(None)
    result = fleet.rotate()
    assert (reason(result), fleet.holds, fleet.api.calls.count("rotate")) == (Reason.CAUGHT_UP, ["new"] * 3, 1)
    assert [host.changed for host in result.hosts] == [False, True, True]
    assert result.error is not None and "web2" in result.error.what
    assert reason(fleet.rotate()) is None and fleet.holds == ["newer"] * 3


def test_a_consumer_that_cannot_be_served_keeps_no_other_from_the_key(fleet: Fleet) -> None:
    fleet.api.key = NEW
    fleet.hosts[0].env.write_text("KEY=$(cat /key)\n")
    fleet.more = [
        Host("gone", failure=Problem("left_out", "it was left out of this run")),
        Host("odd", failure=Problem("invalid_option", "its variables are wrong")),
    ]
    result = fleet.rotate(Wanted(True, force=False))
    assert fleet.hosts[1].holds == fleet.hosts[2].holds == NEW.reveal()
    assert reason(result) is Reason.NOT_UP_TO_DATE and result.error is not None
    assert all(name in result.error.what for name in ("gone", "odd", "web1"))
    assert states(result) == ["unreadable", "unreadable", "unreadable", "up_to_date", "up_to_date"]


def test_a_young_key_is_kept_and_the_run_is_green(fleet: Fleet) -> None:
    fleet.rotate()
    before = fleet.snapshot()
    result = fleet.rotate(Wanted(True, max_age=timedelta(days=30)))
    assert result.plan is not None and result.plan.step is Step.NOT_DUE
    assert (reason(result), fleet.snapshot(), fleet.api.calls.count("rotate")) == (None, before, 1)
    assert result.lines[0].startswith("Not rotated: the key is 0 minutes old")
    assert [host.changed for host in result.hosts] == [False] * 3


def test_a_key_that_is_due_waits_for_the_hours_in_which_rotations_are_allowed(fleet: Fleet) -> None:
    now = datetime.now(timezone.utc) + timedelta(hours=2)
    hours = parse(f"{now:%a %H:00}-{now + timedelta(hours=1):%H:00} UTC")
    fleet.deploy()
    before = fleet.snapshot()
    due = Wanted(True, max_age=timedelta(0), rotate_unknown_age=True, allowed_hours=hours)
    result = fleet.rotate(due)
    assert result.plan is not None and result.plan.step is Step.OUTSIDE_HOURS
    assert (reason(result), fleet.api.calls.count("rotate")) == (None, 0)
    assert result.lines[0].startswith("Not rotated: multicart_rotate_allowed_hours allows no new rotation before")
    assert reason(fleet.rotate(Wanted(True, allowed_hours=hours))) is Reason.OUTSIDE_HOURS
    assert fleet.snapshot() == before


def test_a_date_of_the_key_that_cannot_be_true_is_told_and_does_not_count(fleet: Fleet) -> None:
    fleet.deploy()
    path = fleet.hosts[1].folder / ".env.KEY.multicart.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "since": "2126-01-01T00:00:00.000Z"}))
    told = "web2: since when it holds the live key cannot be true, and does not count."
    result = fleet.rotate(Wanted(True, max_age=timedelta(days=1)))
    assert result.plan is not None and (result.plan.step, told in fleet.lines) == (Step.NOT_DUE, True)
    fleet.api.more["created_at"] = "2100-01-01T00:00:00Z"
    fleet.rotate(Wanted(True, max_age=timedelta(days=1)))
    assert sum(line.endswith("cannot be true, and does not count.") for line in fleet.lines) == 3
    fleet.rotate()
    assert told not in fleet.lines, "nobody asked for it"


@pytest.mark.parametrize("far", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_date_that_utc_has_no_year_for_is_none_whoever_sends_it(fleet: Fleet, far: str) -> None:
    fleet.deploy()
    for host in fleet.hosts:
        path = host.folder / ".env.KEY.multicart.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "since": far, "updated_at": [far, far]}))
    assert (reason(fleet.audit()), reason(fleet.deploy())) == (None, None)
    fleet.api.updated_at = fleet.api.more["created_at"] = far
    result = fleet.rotate()
    assert (reason(result), fleet.holds, fleet.audit().error) == (None, ["new"] * 3, None)


def test_the_key_is_at_least_as_old_as_the_last_change_of_the_account(fleet: Fleet) -> None:
    fleet.rotate()
    month = Wanted(True, max_age=timedelta(days=30))
    assert (reason(fleet.rotate(month)), fleet.holds) == (None, ["new"] * 3)
    fleet.api.updated_at = "2026-01-01T00:00:00Z"
    assert (reason(fleet.rotate(month)), fleet.holds) == (None, ["newer"] * 3)


def test_since_when_the_key_is_live_is_in_the_result(fleet: Fleet) -> None:
    assert fleet.audit().since is None
    rotated = fleet.rotate()
    assert rotated.rotation is not None
    assert rotated.since == parse_time(rotated.rotation.rotated_at)
    audit = fleet.audit()
    assert audit.since == rotated.since
    assert [seen_by_this_machine(line) for line in audit.lines] == [
        f"3 of 3 consumers are up to date; {SEEN}.",
        f"Live key: {NEW.masked} {NEW.fingerprint}",
    ]


# --- a deployment (S7) ----------------------------------------------------------------------------


def test_a_deployment_brings_the_live_key_and_asks_for_no_rotation(fleet: Fleet) -> None:
    fleet.api.key = NEW
    for host in fleet.hosts:
        host.variables = {"commands": [host.logs("restart")]}
    result = fleet.deploy()
    assert (reason(result), fleet.holds, states(result)) == (None, ["new"] * 3, UP_TO_DATE)
    assert [host.log for host in fleet.hosts] == [["restart"]] * 3
    assert fleet.records == [(False, None)] * 3
    assert {"rotate", "verify"} & set(fleet.api.calls) == set()


def test_a_deployment_of_what_is_there_changes_nothing_and_hands_out_no_key(fleet: Fleet) -> None:
    fleet.hosts[2].link.holds = False
    fleet.deploy()
    before, sent = fleet.snapshot(), len(fleet.hosts[2].link.inputs)
    result = fleet.deploy()
    assert (reason(result), fleet.snapshot()) == (None, before)
    assert [host.changed for host in result.hosts] == [False] * 3
    assert not any("released" in host.moments for host in result.hosts)
    assert not any(b"canary" in each for each in fleet.hosts[2].link.inputs[sent:])


def test_a_file_that_cannot_be_written_makes_no_restart_for_the_others_at_each_run(fleet: Fleet) -> None:
    web = fleet.hosts[1]
    bad = web.folder / "bad"
    bad.mkdir()
    files = [{"path": str(path), "variable": "KEY"} for path in (web.env, bad)]
    web.variables = {"files": files, "commands": [web.logs("restart")]}
    fleet.api.key = NEW
    for _run in range(3):
        result = fleet.deploy()
        assert (reason(result), result.hosts[1].reason) == (Reason.NOT_UP_TO_DATE, "path_is_directory")
    assert (web.log, web.holds) == (["restart"], NEW.reveal())


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_reads_a_first_key_may_be_installed_after_it(fleet: Fleet, check_mode: bool) -> None:
    """The role for the app comes later in the same play; nothing can have an old key."""
    fleet.hosts[1].put(None)
    fleet.hosts[1].variables = {"health_checks": ["absent-check"], "health_retries": 0, "commands": []}
    fleet.check_mode = True
    result = fleet.deploy()
    assert (reason(result), result.hosts[1].notes) == (None, ("it has no command absent-check.",))
    fleet.check_mode = check_mode
    fleet.hosts[1].variables = {}
    assert reason(fleet.deploy()) is None
    fleet.check_mode = False
    fleet.deploy()
    fleet.hosts[1].variables = {"commands": ["absent-command"]}
    assert reason(fleet.deploy()) is not None


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_deployment_is_red_for_what_could_not_be_rotated(fleet: Fleet, check_mode: bool) -> None:
    """Nothing of it was needed this time."""
    fleet.hosts[1].variables = {"health_checks": ["absent-check"], "health_retries": 0}
    fleet.check_mode = check_mode
    for result in (fleet.deploy(), fleet.rotate(Wanted(True, max_age=timedelta(days=30)))):
        assert result.hosts[1].reason in ("not_ready", "unhealthy")
        assert reason(result) in (Reason.NOT_READY, Reason.NOT_UP_TO_DATE)
    fleet.hosts[1].variables = {"commands": ["absent-command"]}
    for result in (fleet.deploy(), fleet.rotate(Wanted(True, max_age=timedelta(days=30)))):
        assert [host.reason for host in result.hosts] == [None, "not_ready", None]
        assert reason(result) is Reason.NOT_READY


def test_a_file_that_holds_another_key_again_after_the_write_is_seen_at_the_end(fleet: Fleet) -> None:
    fleet.api.key = NEW
    reads = iter([False, True, False, False])
    fleet.api.at["read a few seconds ago"] = lambda: fleet.hosts[1].put(NEWER) if next(reads) else None
    result = fleet.deploy()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)


def test_what_was_only_checked_was_not_changed(fleet: Fleet) -> None:
    fleet.hosts[1].variables = {"health_checks": ["true"]}
    fleet.deploy()
    result = fleet.deploy()
    assert [(host.changed, host.checked) for host in result.hosts] == [(False, None), (False, True), (False, None)]


def test_the_health_of_what_is_up_to_date_is_checked_all_the_same(fleet: Fleet) -> None:
    fleet.deploy()
    fleet.hosts[1].variables = {"health_checks": ["sh -c 'exit 3'"], "health_retries": 0}
    result = fleet.deploy()
    assert (reason(result), result.hosts[1].reason) == (Reason.NOT_UP_TO_DATE, "unhealthy")


def test_an_older_key_never_replaces_a_newer_one(fleet: Fleet) -> None:
    """S7: this run read the key before somebody rotated; another host of it was given the new one meanwhile."""
    fleet.api.key = NEW
    fleet.api.stale = OLD
    fleet.hosts[1].put(NEW)
    seen: list[str] = []
    for name in ("read", "confirm", "read a few seconds ago"):
        fleet.api.at[name] = lambda: seen.append(fleet.hosts[1].holds)
    result = fleet.deploy()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert set(seen) == {NEW.reveal()}
    assert "confirm" in fleet.api.calls


def test_a_file_that_another_run_writes_meanwhile_is_inspected_anew(fleet: Fleet) -> None:
    fleet.api.key = NEW

    def meddle() -> None:
        if fleet.hosts[1].holds == OLD.reveal():
            fleet.hosts[1].put(NEWER)
            fleet.api.key = NEWER

    fleet.api.at["confirm"] = meddle
    result = fleet.deploy()
    assert (reason(result), fleet.holds) == (None, ["newer"] * 3)


def test_a_key_that_is_replaced_after_the_write_is_followed(fleet: Fleet) -> None:
    fleet.api.key = NEW
    reads = iter([False, True, False, False, False])

    def replaced() -> None:
        if next(reads):
            fleet.api.key = NEWER

    fleet.api.at["read a few seconds ago"] = replaced
    result = fleet.deploy()
    assert (reason(result), fleet.holds) == (None, ["newer"] * 3)


def test_what_is_wrong_with_a_host_is_told_also_if_the_others_are_asked_again(fleet: Fleet) -> None:
    fleet.hosts[1].link.error = LinkError("unreachable", "it is unreachable", reached=False)
    fleet.api.key = NEW
    reads = iter([False, True, False, False, False])
    fleet.api.at["read a few seconds ago"] = lambda: fleet.api.replace_key() if next(reads) else None
    result = fleet.deploy()
    assert (reason(result), result.hosts[1].reason) == (Reason.NOT_UP_TO_DATE, "unreachable")
    assert states(result) == ["up_to_date", "unreachable", "up_to_date"]


def test_a_key_that_is_replaced_again_and_again_is_given_up(fleet: Fleet) -> None:
    turns = iter(range(99))

    def flip() -> None:
        fleet.api.key = KEYS[next(turns) % 2]

    fleet.api.at["read a few seconds ago"] = flip
    result = fleet.deploy()
    assert reason(result) is Reason.KEY_KEEPS_CHANGING
    assert fleet.api.calls.count("read a few seconds ago") == 2 * act_module.ATTEMPTS


@pytest.mark.parametrize("rotate", [False, True])
def test_a_file_that_is_changed_again_and_again_is_its_hosts_failure(fleet: Fleet, rotate: bool) -> None:
    fleet.api.key = NEW
    others = iter([OLD, NEWER] * 20)
    fleet.api.at["confirm"] = lambda: fleet.hosts[1].put(next(others))
    fleet.hosts[1].put(NEWER)
    result = fleet.rotate() if rotate else fleet.deploy()
    assert reason(result) is Reason.NOT_UP_TO_DATE
    assert result.hosts[1].reason == "changed_meanwhile"
    assert fleet.api.calls.count("confirm") == act_module.ATTEMPTS
    assert [fleet.holds[0], fleet.holds[2]] == ["new"] * 2


def test_check_mode_foretells_that_a_mode_changes(fleet: Fleet) -> None:
    fleet.deploy()
    for host in fleet.hosts:
        host.env.chmod(0o644)
    fleet.hosts[1].variables = {"files": [{"path": str(fleet.hosts[1].env), "variable": "KEY", "mode": "0600"}]}
    fleet.check_mode = True
    assert [host.changed for host in fleet.deploy().hosts] == [False, True, False]


def test_check_mode_foretells_a_deployment(fleet: Fleet) -> None:
    fleet.api.key = NEW
    fleet.hosts[0].put(NEW)
    fleet.hosts[1].variables = {"commands": [fleet.hosts[1].logs("restart")]}
    fleet.check_mode = True
    before = fleet.snapshot()
    result = fleet.deploy()
    assert (reason(result), fleet.snapshot()) == (None, before)
    assert [host.changed for host in result.hosts] == [True, True, True]  # the first one's record is made
    fleet.check_mode = False
    assert [host.changed for host in fleet.deploy().hosts] == [True, True, True]
    fleet.check_mode = True
    assert [host.changed for host in fleet.deploy().hosts] == [False] * 3


# --- audit and inspection -------------------------------------------------------------------------


def test_an_audit_changes_nothing_and_is_red_for_what_is_behind(fleet: Fleet) -> None:
    fleet.api.key = NEW
    fleet.hosts[0].put(NEW)
    before = fleet.snapshot()
    for check_mode in (False, True):
        fleet.check_mode = check_mode
        result = fleet.audit()
        assert (reason(result), states(result)) == (
            Reason.NOT_UP_TO_DATE,
            ["up_to_date", "out_of_date", "out_of_date"],
        )
        assert [host.changed for host in result.hosts] == [False] * 3
    assert (fleet.snapshot(), set(fleet.api.calls)) == (before, {"read"})
    assert result.lines == [f"Live key: {NEW.masked} {NEW.fingerprint}"]
    assert not any(b"canary" in each for host in fleet.hosts for each in host.link.inputs)


def test_an_audit_is_red_for_what_could_not_be_rotated(fleet: Fleet) -> None:
    fleet.hosts[1].variables = {"commands": ["absent-command"]}
    result = fleet.audit()
    assert result.error is not None and result.error.reason is Reason.NOT_READY
    assert result.error.what == "1 of 3 consumers are not ready: web2: it has no command absent-command."
    assert (states(result), result.hosts[1].reason) == (UP_TO_DATE, "not_ready")
    assert result.lines == [f"Live key: {OLD.masked} {OLD.fingerprint}"]


def test_an_audit_of_a_fleet_in_order_is_green(fleet: Fleet) -> None:
    result = fleet.audit()
    assert (reason(result), states(result)) == (None, UP_TO_DATE)


def test_an_audit_whose_run_has_ended_tells_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act_module, "ROLL_CALL", 0.5)
    fleet.hosts[1].link = LocalLink(strange("for request in requests(): time.sleep(0.5)"))
    guard = fleet.guard = Watch(fleet.api)
    guard.orphaned = True
    result = fleet.audit()
    assert (reason(result), result.lines) == (Reason.BROKEN_OFF, [])


def test_an_inspection_needs_no_live_key(fleet: Fleet) -> None:
    fleet.hosts[1].put(NEW)
    before = fleet.snapshot()
    consumers = fleet.act().inspect()
    assert [consumer.files[0].holds for consumer in consumers] == [(key.fingerprint,) for key in (OLD, NEW, OLD)]
    assert (fleet.snapshot(), fleet.api.calls) == (before, [])


def test_a_defect_in_an_inspection_is_not_told_as_hosts_that_cannot_be_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_act: Act, _phase: str, *_rest: Any, **_fields: Any) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(Act, "_ask_all", fails)
    with pytest.raises(MulticartError, match="ZeroDivisionError") as caught:
        fleet.act().inspect()
    assert caught.value.reason is Reason.INTERNAL_ERROR and "canary" not in str(caught.value)


# --- templates ------------------------------------------------------------------------------------


@dataclass
class Rendered:
    """Templates with which nothing is wrong, and how often that was checked."""

    render: Callable[[ApiKey], list[str | None]]
    checks: int = 0

    def check(self, key: ApiKey) -> None:
        self.checks += 1


def templated(fleet: Fleet, render: Callable[[ApiKey], list[str | None]]) -> Act:
    """Make the last host's file a template."""
    hosts = [host.host() for host in fleet.hosts]
    spec = hosts[-1].spec
    assert spec is not None
    hosts[-1].spec = replace(spec, files=[replace(spec.files[0], variable=None, template="app.j2")])
    hosts[-1].templates = Rendered(render)
    return Act(hosts, fleet.api, fleet.lines.append)


def test_a_template_is_rendered_with_the_new_key_at_the_release(fleet: Fleet) -> None:
    rendered: list[ApiKey] = []

    def render(key: ApiKey) -> list[str | None]:
        rendered.append(key)
        return [f"A=1\nKEY={key.reveal()}\n"]

    result = templated(fleet, render).rotate(CONFIRMED)
    assert (reason(result), fleet.holds, states(result)) == (None, ["new"] * 3, UP_TO_DATE)
    assert rendered == [OLD, NEW]


def test_a_template_is_inspected_with_what_it_would_be(fleet: Fleet) -> None:
    rendered: list[ApiKey] = []

    def render(key: ApiKey) -> list[str | None]:
        rendered.append(key)
        return [f"KEY={key.reveal()}\n"]

    templated(fleet, render).inspect(Live(key=NEW))
    assert rendered == [NEW]
    fleet.api.key = NEW
    assert reason(templated(fleet, render).deploy()) is None
    assert rendered == [NEW] * 3


def test_a_template_is_checked_again_when_it_makes_something_new_and_deployed_if_that_is_asked_for(
    fleet: Fleet,
) -> None:
    text = ["A=1"]

    def render(key: ApiKey) -> list[str | None]:
        return [f"{text[0]}\nKEY={key.reveal()}\n"]

    def checks(act: Act) -> int:
        templates = act._hosts[-1].templates
        assert isinstance(templates, Rendered)
        return templates.checks

    file, counted = fleet.hosts[-1].env, []
    for run in ("deploy", "audit", "deploy", "audit", "rotate", "deploy"):
        act = templated(fleet, render)
        result = act.rotate(Wanted(max_age=timedelta(days=1))) if run == "rotate" else getattr(act, run)()
        assert reason(result) is None
        counted.append((checks(act), file.read_text().split("\n")[0]))
        if len(counted) == 3:
            text[0] = "A=2"
    assert counted == [(1, "A=1"), (0, "A=1"), (0, "A=1"), (1, "A=1"), (1, "A=1"), (1, "A=2")]


def test_a_template_of_a_run_that_died_in_the_outage_is_finished(fleet: Fleet) -> None:
    def die(_result: Result) -> Result:
        raise Killed

    def render(key: ApiKey) -> list[str | None]:
        return [f"A=1\nKEY={key.reveal()}\n"]

    fleet.api.rotation = die
    with pytest.raises(Killed):
        templated(fleet, render).rotate(CONFIRMED)
    result = templated(fleet, render).rotate(CONFIRMED)
    assert result.plan is not None and (result.plan.step, states(result)) == (Step.FINISH, UP_TO_DATE)


def test_a_template_that_fails_at_the_release_keeps_no_other_from_the_key(fleet: Fleet) -> None:
    def render(key: ApiKey) -> list[str | None]:
        raise MulticartError(Reason.INVALID_OPTION, "The template app.j2 cannot be rendered.")

    hosts = [host.host() for host in fleet.hosts]
    for host in hosts[:2]:
        host.templates = Rendered(lambda key: [None])
    when(fleet, "armed in", lambda: setattr(hosts[0], "templates", Rendered(render)))
    say = fleet.act()._say
    result = Act(hosts, fleet.api, say).rotate(CONFIRMED)
    assert (reason(result), fleet.holds) == (Reason.NOT_UP_TO_DATE, ["old", "new", "new"])
    assert result.hosts[0].reason == "invalid_option"


def test_a_template_that_cannot_be_rendered_makes_its_host_not_ready(fleet: Fleet) -> None:
    def render(key: ApiKey) -> list[str | None]:
        raise MulticartError(Reason.INVALID_OPTION, "The template app.j2 cannot be rendered (x is undefined).", "")

    for wanted, expected in ((CONFIRMED, Reason.NOT_UP_TO_DATE), (Wanted(True, force=True), Reason.NOT_READY)):
        result = templated(fleet, render).rotate(wanted)
        assert reason(result) is expected and result.error is not None
        assert "The template app.j2 cannot be rendered (x is undefined)" in result.error.what
        assert fleet.lines[1] == "web3: The template app.j2 cannot be rendered (x is undefined)."
        fleet.lines.clear()
        assert (fleet.holds, result.hosts[2].reason) == (["old"] * 3, "invalid_option")


# --- what is said of it ---------------------------------------------------------------------------


def said(fleet: Fleet) -> list[str]:
    """Return what was said while an act worked, without how long that took."""
    return [re.sub(r"\b[0-9.]+ s\b", "N s", line) for line in fleet.lines]


def test_a_rotation_is_told_as_it_goes_on(fleet: Fleet) -> None:
    result = fleet.rotate()
    shown = f"{OLD.masked} {OLD.fingerprint}"
    assert said(fleet) == [
        "Inspected 3 consumers in N s.",
        f"Rotating {shown}: every consumer that holds a key holds the live one.",
        "3 of 3 armed in N s.",
        "Released: 3 of 3 have the new key, the last after N s; outage of the fleet N s.",
    ]
    armed_in = re.search(r"armed in ([0-9.]+) s", "".join(fleet.lines))
    assert armed_in is not None and float(armed_in[1]) < 60
    assert result.rotation is not None
    assert result.lines[0] == f"Rotated at {result.rotation.rotated_at}: {shown} was revoked; the API rejects it."
    fleet.hosts[1].link.holds = False
    fleet.rotate()
    assert "2 of 3 armed in N s; the others are served at the release." in said(fleet)


@pytest.mark.parametrize(
    ("count", "lacking", "told"),
    [(1, 0, "Inspected 1 consumer in N s."), (2, 2, "Inspected 2 consumers in N s; 2 are not ready.")],
)
def test_an_inspection_is_told_in_a_sentence(tmp_path: Path, count: int, lacking: int, told: str) -> None:
    fleet = Fleet(tmp_path / "some", count)
    for host in fleet.hosts[:lacking]:
        host.variables = {"commands": ["absent-command"]}
    fleet.audit()
    assert said(fleet)[0] == told
    (seconds,) = re.findall(r"in ([0-9.]+) s", fleet.lines[0])
    assert float(seconds) < 60


def test_an_outage_that_goes_on_is_told(fleet: Fleet) -> None:
    fleet.hosts[1].variables = {"commands": ["false"]}
    fleet.rotate()
    assert "Released: 3 of 3 have the new key, the last after N s; the outage goes on for 1." in said(fleet)


def test_a_deployment_by_rotate_is_told_as_it_goes_on(fleet: Fleet) -> None:
    fleet.rotate()
    fleet.hosts[1].put(OLD)
    fleet.hosts[2].env.unlink()
    fleet.hosts[2].env.mkdir()
    result = fleet.rotate()
    problem = f"path {fleet.hosts[2].env} is a directory; give the path of the file in it"
    assert said(fleet) == [
        "Inspected 3 consumers in N s; 1 is not ready.",
        f"web3: {problem}.",
        "Not rotating: not up to date: web2.",
    ]
    assert result.error is not None and result.error.reason is Reason.NOT_UP_TO_DATE
    fleet.hosts[2].env.rmdir()
    fleet.hosts[2].put(None)
    result = fleet.rotate()
    assert reason(result) is None  # who holds no key is no obstacle
    fleet.hosts[1].put(OLD)
    result = fleet.rotate()
    assert result.error is not None and result.error.what == "Nothing was rotated: not up to date: web2."
    assert "Nothing was changed" not in result.error.advice


def test_what_check_mode_would_not_do_is_told(fleet: Fleet) -> None:
    fleet.rotate()
    fleet.check_mode = True
    result = fleet.rotate(Wanted(True, max_age=timedelta(days=30)))
    assert result.lines[0] == (
        "Would not rotate: the key is 0 minutes old, not more than multicart_rotate_max_age. Nothing was changed."
    )


@pytest.mark.parametrize(("commands", "named"), [([], [7, 8, 9, 10, 11]), (["true"], [7, 8])])
def test_processes_that_keep_a_key_and_services_that_were_left_are_told(
    fleet: Fleet, commands: list[str], named: list[int]
) -> None:
    """Where nothing is configured that restarts anything, a container, or a process of none, is named, too."""
    fleet.hosts[1].variables = {"commands": commands}
    code = f"""
app = dict(key={OLD.fingerprint!r}, pid=7, command="app", where="no service", uncovered=True, blamed=True)
shell = dict(app, pid=8, command="sh", where="a login", uncovered=False, blamed=False)
quiet = dict(app, pid=9, uncovered=False)
boxed = dict(quiet, pid=10, where="a container")
fresh = dict(quiet, pid=11, key={NEW.fingerprint!r})
for request in requests():
    file = {{"holds": [request["live"]] if request["phase"] != "ping" else []}}
    say(request, files=[] if request["phase"] == "ping" else [file], left=["app.service", "job"],
        processes=[app, shell, quiet, boxed, fresh], hidden=True)
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    result = fleet.act().rotate(Wanted(True, warn_uncovered=True))
    lines = said(fleet)
    told = {7: "app (process 7, no service)", 8: "sh (process 8, a login)", 9: "app (process 9, no service)"}
    told.update({10: "app (process 10, a container)", 11: "app (process 11, no service)"})
    keys = {pid: (NEW if pid == 11 else OLD).fingerprint for pid in told}
    assert {line for line in lines if " holds the key" in line} == {
        f"web2: {told[pid]} holds the key {keys[pid]}." for pid in named
    }
    assert "web2: stopped on purpose, and left alone: app.service, job." in lines
    seen = rf"{SEEN}, except 1 login or passing job \(on [1-3] hosts?, some could not be read\)\.\Z"
    assert re.search(seen, result.lines[-1])
    assert [(process.pid, process.key) for process in result.hosts[1].processes] == [
        (pid, OLD.fingerprint) for pid in (7, 8, 9, 10)
    ]
    assert result.hosts[1].hidden and result.hosts[0].processes == ()
    assert result.hosts[1].message == "It is up to date; some of its processes could not be read."
    failed = replace(result.hosts[1], reason="not_ready")
    assert failed.message == "It is up to date.", "what has failed is not about processes"
    assert result.hosts[1].notes == (
        *(f"{told[pid]} holds the key {keys[pid]}." for pid in named),
        "stopped on purpose, and left alone: app.service, job.",
    )


def flipping(fleet: Fleet) -> Callable[[], None]:
    turns = iter(range(999))
    return lambda: setattr(fleet.api, "key", KEYS[next(turns) % 2])


def test_a_key_that_keeps_changing_is_told_in_a_sentence(fleet: Fleet) -> None:
    what = "The key was replaced again and again while it was deployed."
    fleet.api.at["read a few seconds ago"] = flipping(fleet)
    result = fleet.deploy()
    assert result.error is not None and result.error.what == what
    fleet.api.at["read"] = flipping(fleet)
    for host in fleet.hosts:
        host.put(NEWER)
    result = fleet.rotate()
    assert result.error is not None and (result.error.reason, result.error.what) == (Reason.KEY_KEEPS_CHANGING, what)


def test_why_a_retired_key_is_not_green_is_told_in_a_sentence(fleet: Fleet) -> None:
    key = OLD.fingerprint
    fleet.rotate()
    for host, seen in zip(fleet.hosts, ("still_valid", "rejected", "rejected"), strict=True):
        assert host.record is not None
        path = host.folder / ".env.KEY.multicart.json"
        retired = [{"key": key, "seen": seen, "at": None, "accepted": True}]
        path.write_text(json.dumps({**host.record, "retired": retired if seen == "still_valid" else []}))
    result = fleet.rotate(Wanted(True, retire=key))
    assert result.error is not None and result.error.reason is Reason.OLD_KEY_STILL_VALID
    assert result.error.what == f"The API still accepted the retired key {key}."
    for host in fleet.hosts:
        path = host.folder / ".env.KEY.multicart.json"
        assert host.record is not None
        path.write_text(json.dumps({**host.record, "retired": []}))
    result = fleet.rotate(Wanted(True, retire=key))
    assert result.error is not None and result.error.reason is Reason.REJECTION_UNSEEN
    assert result.error.what == f"Nobody has seen that the API rejects {key}."
    assert [host.record["retired"][0]["accepted"] for host in fleet.hosts if host.record] == [False] * 3
    # Not even a second time, by what the first one has noted.
    assert reason(fleet.rotate(Wanted(True, retire=key))) is Reason.REJECTION_UNSEEN


# --- what keeps it from being broken off ----------------------------------------------------------


class Watch(Guard):
    """Notes in which order things happen."""

    def __init__(self, api: Api, turn: Turn | None = None) -> None:
        self.turn = turn or Turn()
        self.events = api.calls
        self.orphaned = False

    def is_orphaned(self) -> bool:
        return self.orphaned

    @contextmanager
    def critical(self) -> Iterator[None]:
        self.events.append("critical")
        yield
        self.events.append("over")

    @contextmanager
    def alone(self, account: str | None) -> Iterator[Turn]:
        self.events.append(f"alone {account}")
        yield self.turn
        self.events.append("let go")


def test_from_the_roll_call_to_the_first_write_it_cannot_be_broken_off(fleet: Fleet) -> None:
    told: list[str] = []
    guard = fleet.guard = Watch(fleet.api, Turn(tell=told.append))
    original = guard.critical

    @contextmanager
    def critical() -> Iterator[None]:
        with original():
            yield
            assert fleet.holds == ["new"] * 3

    guard.critical = critical  # type: ignore[method-assign]
    assert reason(fleet.rotate()) is None
    assert [call for call in fleet.api.calls if call != "verify"] == [
        *("read", f"alone {ACCOUNT}", "critical", "rotate", "over", "let go")
    ]
    assert told == [NEW.fingerprint]


def test_neither_check_mode_nor_a_deployment_waits_for_others(fleet: Fleet) -> None:
    fleet.guard = Watch(fleet.api)
    fleet.deploy()
    fleet.check_mode = True
    fleet.rotate()
    assert not {call for call in fleet.api.calls if call.startswith("alone")}


@pytest.mark.parametrize("word", ["Inspected", "armed in"])
def test_a_run_that_has_ended_rotates_nothing(fleet: Fleet, word: str) -> None:
    guard = fleet.guard = Watch(fleet.api)
    when(fleet, word, lambda: setattr(guard, "orphaned", True))
    result = fleet.rotate()
    assert result.error is not None and result.error.reason is Reason.BROKEN_OFF
    assert result.error.what == "The run that this rotation belongs to has ended."
    assert fleet.holds == ["old"] * 3 and "rotate" not in fleet.api.calls


@pytest.mark.parametrize("phase", ["inspect", "prepare", "ping"])
def test_a_run_that_has_ended_waits_for_no_host_before_the_rotation(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    monkeypatch.setattr(act_module, "ROLL_CALL", 0.5)
    code = f"""
for request in requests():
    if request["phase"] == {phase!r}:
        time.sleep(60)
    say(request, files=[] if request["phase"] == "ping" else [{{"holds": [{OLD.fingerprint!r}]}}])
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    guard = fleet.guard = Watch(fleet.api)
    when(
        fleet, {"prepare": "Rotating", "ping": "armed in"}.get(phase, "never"), lambda: setattr(guard, "orphaned", True)
    )
    guard.orphaned = phase == "inspect"
    began = time.monotonic()
    result = fleet.act().rotate(CONFIRMED)
    assert (reason(result), fleet.holds) == (Reason.BROKEN_OFF, ["old"] * 3)
    assert time.monotonic() - began < PATIENCE, "it waited for the host's own limit"


def test_once_the_api_has_accepted_no_host_is_waited_for_in_vain(fleet: Fleet) -> None:
    code = f"""
for request in requests():
    before = request["phase"] in ("inspect", "prepare")
    time.sleep(0 if before or request["phase"] == "ping" else 0.3)
    holds = {OLD.fingerprint!r} if before else {NEW.fingerprint!r}
    say(request, files=[] if request["phase"] == "ping" else [{{"holds": [holds]}}])
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    guard = fleet.guard = Watch(fleet.api)
    fleet.api.at["rotate"] = lambda: setattr(guard, "orphaned", True)
    assert reason(fleet.act().rotate(CONFIRMED)) is None


def test_once_the_api_has_accepted_a_run_that_has_ended_goes_on_to_its_end(fleet: Fleet) -> None:
    guard = fleet.guard = Watch(fleet.api)
    fleet.api.at["rotate"] = lambda: setattr(guard, "orphaned", True)
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert fleet.records == [(False, concluded(OLD))] * 3


@pytest.mark.parametrize("began_late", [False, True])
def test_a_run_that_waited_for_one_which_has_rotated_rotates_no_second_time(fleet: Fleet, began_late: bool) -> None:
    fleet.rotate()
    fleet.guard = Watch(fleet.api, Turn(waited=True, rotated_to=NEW.fingerprint))
    if not began_late:  # it had read the key before the other one rotated
        reads = iter([OLD, NEW, NEW])
        fleet.api.at["read"] = lambda: setattr(fleet.api, "key", next(reads))
    result = fleet.rotate()
    assert result.plan is not None and result.plan.step is Step.DONE
    assert (reason(result), fleet.holds, fleet.api.calls.count("rotate")) == (None, ["new"] * 3, 1)
    assert result.lines[0] == "Not rotated: another run, which this one waited for, has rotated the key."


def test_a_run_that_waited_for_one_which_has_not_rotated_rotates(fleet: Fleet) -> None:
    fleet.guard = Watch(fleet.api, Turn(waited=True))
    result = fleet.rotate()
    assert (reason(result), fleet.holds) == (None, ["new"] * 3)
    assert fleet.api.calls.count("read") == 2  # what it knew before it waited may be old


def test_who_cannot_be_alone_does_nothing(fleet: Fleet) -> None:
    class Busy(Guard):
        def alone(self, account: str | None) -> Any:
            raise MulticartError(Reason.BUSY, "Another run is rotating.")

    fleet.guard = Busy()
    before = fleet.snapshot()
    assert reason(fleet.rotate()) is Reason.BUSY
    assert fleet.snapshot() == before and all(not host.link.processes for host in fleet.hosts)


def test_what_cannot_be_noted_at_the_end_is_its_hosts_failure(fleet: Fleet) -> None:
    code = f"""
for request in requests():
    problems = [{{"reason": "record_unwritable", "text": "no"}}] if request["phase"] == "conclude" else []
    holds = {OLD.fingerprint!r} if request["phase"] in ("inspect", "prepare") else {NEW.fingerprint!r}
    say(request, files=[] if request["phase"] == "ping" else [{{"holds": [holds]}}], problems=problems)
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    result = fleet.act().rotate(CONFIRMED)
    assert [host.reason for host in result.hosts] == [None, "record_unwritable", None]


def test_what_failed_first_at_a_host_stays_its_reason(fleet: Fleet) -> None:
    code = f"""
for request in requests():
    reasons = {{"deploy": "restart_failed", "conclude": "record_unwritable"}}
    problems = [{{"reason": reasons[each], "text": "no"}} for each in reasons if each == request["phase"]]
    holds = {OLD.fingerprint!r} if request["phase"] in ("inspect", "prepare") else {NEW.fingerprint!r}
    say(request, files=[] if request["phase"] == "ping" else [{{"holds": [holds]}}], problems=problems)
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    result = fleet.act().rotate(CONFIRMED)
    assert [host.reason for host in result.hosts] == [None, "restart_failed", None]


def test_an_act_that_ends_without_a_plan_is_a_defect(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Act, "_rotate_or_deploy", lambda self, *dummy: self._read())
    with pytest.raises(MulticartError, match=r"^The act ended without a plan\.") as raised:
        fleet.act().rotate(CONFIRMED)
    assert raised.value.reason is Reason.INTERNAL_ERROR


@pytest.mark.parametrize(
    ("events", "holds", "behind"),
    [(["written"], OLD, False), (["write_failed"], OLD, True), ([], OLD, True), ([], NEW, False)],
)
def test_whether_a_store_has_the_key_before_its_readers_are_restarted(
    fleet: Fleet, events: list[str], holds: ApiKey, behind: bool
) -> None:
    """By what it told of its write, or because it had the key already."""
    fleet.api.key = NEW
    record = {**NONE, "account": ACCOUNT, "held": holds.fingerprint}
    code = f"""
for request in requests():
    for event in {events!r} if request["phase"] == "deploy" else []:
        say(request, event=event)
    holds = {holds.fingerprint!r} if request["phase"] == "inspect" else {NEW.fingerprint!r}
    say(request, files=[{{"holds": [holds], "record": {record!r}}}])
"""
    spec = HostSpec([StoreSpec("command", "vault", {})], Steps([], [], [], 1.0, 0, 0.0))
    fleet.more = [Host("store", spec, Session("store", LocalLink(strange(code)), fleet.gate))]
    fleet.hosts[1].variables = {"files": [], "commands": [fleet.hosts[1].logs("restart")]}
    result = fleet.act().deploy()
    assert result.hosts[0].has_stores and not result.hosts[1].has_stores
    assert result.hosts[2].reason == ("stores_behind" if behind else None)
    # Of one that was left out nobody knows.
    fleet.more = [Host("store", failure=Problem("left_out", "it was left out of this run"))]
    assert fleet.act().deploy().hosts[2].reason == ("stores_behind" if behind else None)


@pytest.mark.parametrize("served", [True, False])
def test_what_reads_from_a_store_that_has_no_key_yet_is_restarted_and_not_green(fleet: Fleet, served: bool) -> None:
    fleet.hosts[1].variables = {"files": [], "commands": [fleet.hosts[1].logs("restart")]}
    result = fleet.act().deploy(stores_served=served)
    assert (result.hosts[1].reason, fleet.hosts[1].log) == (None if served else "stores_behind", ["restart"])


def test_without_a_store_what_has_no_file_is_restarted_with_the_rotation_and_green(fleet: Fleet) -> None:
    fleet.hosts[1].variables = {"files": [], "commands": [fleet.hosts[1].logs("restart")]}
    fleet.hosts[1].variables["state_dir"] = str(fleet.hosts[1].folder)
    result = fleet.act().rotate(CONFIRMED)
    assert (reason(result), states(result), fleet.hosts[1].log) == (None, UP_TO_DATE, ["restart"])


# --- what is asked, and told ----------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """What hosts are asked: name, phase, and the seconds that they have."""
    noted: list[tuple[str, str, float]] = []
    ask = Host.ask

    def note(host: Host, phase: str, live: Live | None, limit: float = host_module.INSPECTING, **fields: Any) -> Reply:
        noted.append((host.name, phase, limit))
        return ask(host, phase, live, limit, **fields)

    monkeypatch.setattr(Host, "ask", note)
    return noted


def test_a_host_has_the_time_that_its_own_steps_may_take(fleet: Fleet, asked: list[tuple[str, str, float]]) -> None:
    fleet.hosts[1].variables = {"commands": ["true"], "timeout": 400}
    fleet.rotate()
    limits = {name: limit for name, phase, limit in asked if phase == "deploy"}
    assert limits == {"web1": 40.0, "web2": 440.0, "web3": 40.0}  # with ten more tries


def test_a_host_at_which_there_is_nothing_to_do_is_only_inspected(
    fleet: Fleet, asked: list[tuple[str, str, float]]
) -> None:
    fleet.deploy()
    asked.clear()
    assert reason(fleet.deploy()) is None
    assert [phase for _name, phase, _limit in asked] == ["inspect"] * 3


def test_check_mode_finds_the_key_of_another_account(fleet: Fleet) -> None:
    path = fleet.hosts[1].folder / ".env.KEY.multicart.json"
    fields = {"account": "f" * 16, "held": OLD.fingerprint, "readers": {"any": OLD.fingerprint}}
    path.write_text(json.dumps({**NONE, **fields}))
    fleet.check_mode = True
    result = fleet.rotate()
    assert (reason(result), result.hosts[1].reason) == (Reason.NOT_READY, "other_account")


def test_what_there_is_to_tell_of_a_file_is_told_of_its_host(fleet: Fleet) -> None:
    fleet.hosts[1].env.write_text(f"OTHER={NEW.reveal()}\nKEY={OLD.reveal()}\n")
    result = fleet.audit()
    (note,) = result.hosts[1].notes
    assert note.endswith(f"line 1: what looks like a former key ({NEW.fingerprint}) stands here, and is not changed.")
    assert fleet.lines.count(f"web2: {note}") == 1 and not result.hosts[0].notes


def test_a_sentence_ends_with_one_full_stop_and_keeps_its_last_letter(fleet: Fleet) -> None:
    text = "there is no ENV.X."
    fleet.more = [Host("gone", failure=Problem("unreachable", text), reached=False)]
    fleet.act().audit()
    assert f"gone: {text}" in fleet.lines
    host, act = fleet.more[0], Act(fleet.more, fleet.api)
    for _time in range(2):
        act._note(host, text, "... and no ENV")
    assert host.notes == [text, "... and no ENV."]


def test_of_what_a_host_lacks_nothing_but_that_becomes_a_note(fleet: Fleet) -> None:
    problem = Problem("not_ready", "it has no service app")
    host = Host("new", inspection=Inspection(lacking=(problem,), hidden=True))
    Act([host], fleet.api)._forgive_lacking(host)
    assert (host.inspection, host.notes) == (Inspection(hidden=True), ["it has no service app."])


def test_without_a_live_key_no_process_is_told_to_hold_another(fleet: Fleet) -> None:
    process = Process(OLD.fingerprint, 7, "app", "a service", uncovered=False, blamed=True)
    act = Act([Host("web", inspection=Inspection(processes=(process,)))], fleet.api)
    act.inspect()
    assert [host.processes for host in act._result.hosts] == [()]


# --- the end --------------------------------------------------------------------------------------


class Leaving(Session):
    """A session of which all that matters is whether it ends."""

    def __init__(self, ends: bool) -> None:
        super().__init__("web", LocalLink(), threading.Semaphore())
        self.ends = ends
        self.waited: float | None = None
        self.given_up: LinkError | None = None

    def end(self) -> None:
        assert self.waited is None

    def join(self, seconds: float) -> bool:
        self.waited = seconds
        return self.ends

    def give_up(self, error: LinkError) -> None:
        self.given_up = error


def test_a_session_that_does_not_end_in_time_is_given_up(fleet: Fleet) -> None:
    sessions = [Leaving(True), Leaving(False)]
    Act([Host(f"web{n}", session=each) for n, each in enumerate(sessions)], fleet.api)._end_sessions()
    assert all(each.waited is not None and 0 < each.waited <= host_module.ROLL_CALL for each in sessions)
    gone, stays = sessions
    assert gone.given_up is None and stays.given_up is not None
    assert stays.given_up.problem == Problem("timed_out", "it did not end in time")


def test_the_first_event_of_all_is_waited_for_no_longer_than_is_said() -> None:
    waited: list[float] = []
    asked: Any = [(None, SimpleNamespace(wait_for_first=waited.append)) for _host in range(2)]
    act_module._wait_for_first(asked, 30.0)
    assert len(waited) == 2 and all(0 < seconds <= 30.0 for seconds in waited)


@needs_processes
def test_a_program_that_does_not_leave_is_ended_with_the_act(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act_module, "ROLL_CALL", 1.0)
    code = f"""
for request in requests():
    say(request, files=[{{"holds": [{OLD.fingerprint!r}]}}])
while True: time.sleep(60)
"""
    fleet.hosts[1].link = LocalLink(strange(code))
    began = time.monotonic()
    assert reason(fleet.audit()) is None
    assert time.monotonic() - began < PATIENCE
    assert eventually(lambda: fleet.hosts[1].link.processes[0].poll() is not None)


@needs_processes
def test_no_process_and_no_descriptor_is_left(fleet: Fleet) -> None:
    fleet.rotate()
    before = len(os.listdir("/proc/self/fd"))
    for _run in range(2):
        fleet.deploy()
    assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert eventually(lambda: not fleet.running)


@pytest.mark.parametrize("count", [1, 2])
def test_what_was_checked_reads_well(tmp_path: Path, count: int) -> None:
    fleet = Fleet(tmp_path / "fleet", count)
    fleet.hosts[0].variables = {"health_checks": ["true"]}
    result = fleet.rotate()
    told = {1: f"1 passed its health checks; {SEEN}.", 2: f"1 passed its health checks, 1 has none; {SEEN}."}[count]
    shown = f"{NEW.masked} {NEW.fingerprint}"
    assert seen_by_this_machine(result.lines[-1]) == f"{count} of {count} consumers hold the live key {shown}; {told}"
    assert seen_by_this_machine(result.hosts[0].message) == "It is up to date; its health checks passed."
    assert all(host.standing.state is State.UP_TO_DATE for host in result.hosts)


def test_health_checks_that_were_not_run_are_not_told_as_none(fleet: Fleet) -> None:
    fleet.deploy()
    fleet.check_mode = True
    fleet.hosts[0].variables = {"health_checks": ["true"]}
    line = fleet.rotate(Wanted(max_age=timedelta(days=30))).lines[-1]
    assert "; 1 did not run its health checks, 2 have none; " in line
    fleet.hosts[0].variables = {}
    assert "; 3 have no health checks; " in fleet.rotate(Wanted(max_age=timedelta(days=30))).lines[-1]


def ended(*checked: bool | None, hidden: int = 0, logins: int = 0) -> list[HostResult]:
    """Return how hosts ended: up to date, with health checks that passed, were not run, or are not there.

    :param logins: how many on each host have a retired key.
    """
    standing = Standing(State.UP_TO_DATE)
    found = tuple(Process(OLD.fingerprint, n, "sh", "a login", uncovered=False, blamed=False) for n in range(logins))
    return [
        HostResult(f"web{n}", standing, checked=each, processes=found, hidden=n < hidden)
        for n, each in enumerate(checked)
    ]


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        (ended(True), f"1 of 1 consumers hold the live key {{}}; 1 passed its health checks; {SEEN}."),
        (
            ended(True, True, None, None),
            f"4 of 4 consumers hold the live key {{}}; 2 passed their health checks, 2 have none; {SEEN}.",
        ),
        (
            ended(True, False, None),
            "3 of 3 consumers hold the live key {}; 1 passed its health checks, 1 did not run its health checks, "
            f"1 has none; {SEEN}.",
        ),
        (
            ended(False, False),
            f"2 of 2 consumers hold the live key {{}}; 2 did not run their health checks; {SEEN}.",
        ),
        (
            ended(None, hidden=1),
            f"1 of 1 consumers hold the live key {{}}; 1 has no health checks; {SEEN} (on 1 host, some could not be "
            "read).",
        ),
        (
            ended(None, None, hidden=2),
            f"2 of 2 consumers hold the live key {{}}; 2 have no health checks; {SEEN} (on 2 hosts, some could not be "
            "read).",
        ),
        (
            ended(None, logins=1),
            f"1 of 1 consumers hold the live key {{}}; 1 has no health checks; {SEEN}, except 1 login or passing job.",
        ),
        (
            ended(None, None, hidden=1, logins=2),
            f"2 of 2 consumers hold the live key {{}}; 2 have no health checks; {SEEN}, except 4 logins or passing "
            "jobs (on 1 host, some could not be read).",
        ),
    ],
)
def test_what_was_checked_is_told_in_a_sentence(hosts: list[HostResult], told: str) -> None:
    assert act_module._checked(hosts, NEW) == told.format(f"{NEW.masked} {NEW.fingerprint}")


@pytest.mark.parametrize(("rejected", "told"), [(True, "; the API rejects it"), (False, ""), (None, "")])
def test_a_rejection_is_told_of_a_rotation_if_it_was_seen(rejected: bool | None, told: str) -> None:
    rotation = Result(Outcome.ROTATED, NEW, OLD, old_key_rejected=rejected, rotated_at="2026-01-01T00:00:00.000Z")
    expected = f"Rotated at 2026-01-01T00:00:00.000Z: {OLD.masked} {OLD.fingerprint} was revoked{told}."
    assert act_module._rotated(rotation) == expected


def test_records_say_when_something_was_seen_of_a_key_and_not_when_nothing_was() -> None:
    assert act_module._seen("f" * 16, "unseen") == {
        "key": "f" * 16,
        "seen": "unseen",
        "at": None,
        "accepted": True,
        "updated_at": None,
    }
    at = act_module._seen("f" * 16, "rejected")["at"]
    assert at is not None and parse_time(at) is not None


def test_the_outage_is_told_to_the_millisecond_rounded_as_in_the_report(fleet: Fleet) -> None:
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    lines: list[str] = []
    hosts = [host.host() for host in fleet.hosts]
    act = Act(hosts, fleet.api, lines.append)
    for host in hosts:
        host.moments["written"] = began + timedelta(seconds=1.2346)
    hosts[1].moments["restarted"] = began + timedelta(seconds=3.5)
    act._say_outage(Result(Outcome.ROTATED, rotated_at="2026-01-01T00:00:00.000Z"))
    assert lines == ["Released: 3 of 3 have the new key, the last after 1.24 s; outage of the fleet 3.50 s."]


def test_what_a_thread_does_is_returned_or_raised_and_no_text_of_an_exception_is_shown() -> None:
    done, go_on, before = Result(Outcome.ROTATED), threading.Event(), set(threading.enumerate())

    def wait() -> Result:
        go_on.wait(60)
        return done

    future = act_module._in_thread(wait)
    threads = set(threading.enumerate()) - before
    assert threads and all(thread.daemon for thread in threads), "it would keep a run from ending"
    go_on.set()
    assert future.result() is done

    def broken(error: type[BaseException]) -> Result:
        raise error("canary")

    for error in (ZeroDivisionError, SystemExit):
        with pytest.raises(MulticartError) as raised:
            act_module._in_thread(partial(broken, error)).result()
        assert raised.value.reason is Reason.INTERNAL_ERROR and error.__name__ in raised.value.what
        assert "canary" not in str(raised.value)
