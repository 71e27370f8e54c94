# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not break an act off, who waits for whom, and what must not outlive it: each in a process of its own."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import worker as worker_module
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import (
    FILES_A_HOST,
    Worker,
    end_rest,
    most_held,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Ended, LinkError

from tests.unit.plugins.plugin_utils.local_hosts import LocalHost, LocalLink, strange
from tests.waiting import PATIENCE, eventually, is_gone

ACCOUNT, NEW = "a" * 16, "1" * 16


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ANSIBLE_HOME", str(tmp_path / "home"))


def fork(work: Callable[[], Any]) -> int:
    """Do something in a process of its own, whose exit status is what comes of it; return its process id."""
    child = os.fork()
    if not child:
        try:
            os._exit(int(work() or 0))
        except BaseException:
            os._exit(99)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(name="mark")
def fixture_mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


# --- signals and time limits ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_that_ends_a_run_ends_what_is_critical(mark: Path, number: signal.Signals) -> None:
    def work() -> int:
        signal.signal(number, signal.SIG_DFL)
        with Worker().critical():
            mark.touch()
            eventually(mark.with_name("killed").exists)
            time.sleep(0.1)
        mark.write_text("over")
        time.sleep(30)
        return 0

    child = fork(work)
    assert eventually(mark.exists)
    os.kill(child, number)
    mark.with_name("killed").touch()
    assert eventually(lambda: mark.read_text() == "over")
    os.kill(child, number)
    assert status_of(child) == -number


def test_handlers_are_as_they_were_afterwards() -> None:
    def handler(*_arguments: Any) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with Worker().critical():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is handler
        with pytest.raises(ZeroDivisionError), Worker().critical():
            raise ZeroDivisionError
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("limit", "overran"), [(0, False), (1, True), (60, False)])
def test_a_time_limit_of_ansible_does_not_strike_and_is_noted(limit: int, overran: bool) -> None:
    """S6: it is an alarm that raises in the middle of the release."""

    def work() -> int:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        worker = Worker()
        signal.alarm(limit)
        with worker.critical():
            time.sleep(1.3)
        return int(worker.overran) + 2 * bool(signal.alarm(0))

    assert status_of(fork(work)) == int(overran)


def test_a_run_that_has_ended_is_noticed(mark: Path) -> None:
    def work() -> int:
        def orphan() -> int:
            worker = Worker()
            mark.write_text("here" if not worker.is_orphaned() else "orphaned")
            eventually(worker.is_orphaned)
            mark.write_text("orphaned" if worker.is_orphaned() else "not noticed")
            return 0

        fork(orphan)
        eventually(mark.exists)
        return 0

    assert status_of(fork(work)) == 0
    assert eventually(lambda: mark.read_text() == "orphaned")


def test_a_worker_leaves_the_process_group_of_its_run(mark: Path) -> None:
    def work() -> int:
        Worker().leave_group()
        Worker().leave_group()
        return os.getpgid(0) != os.getpid()

    assert status_of(fork(work)) == 0

    def leader() -> int:
        os.setsid()
        Worker().leave_group()  # as on ansible-core 2.21, where each worker leads a session
        return os.getpgid(0) != os.getpid()

    assert status_of(fork(leader)) == 0


# --- one act at a time ----------------------------------------------------------------------------


def hold(mark: Path, account: str = ACCOUNT, rotates_to: str | None = None) -> int:
    """Let another process be alone with an account until it has to end by the removal of its mark."""

    def work() -> int:
        with Worker().alone(account) as turn:
            mark.touch()
            while mark.exists():
                time.sleep(0.01)
            if rotates_to is not None:
                turn.tell(rotates_to)
        return 0

    child = fork(work)
    assert eventually(mark.exists)
    return child


def wait_behind(mark: Path) -> int:
    """Let another process wait for its turn; its exit status: 2 if it waited, and 1 more if it learnt of a key."""
    waits = mark.with_name("waits")
    waits.unlink(missing_ok=True)
    sleep = time.sleep

    def noting(seconds: float) -> None:
        waits.touch()
        sleep(seconds)

    def work() -> int:
        time.sleep = noting  # of this process alone
        with Worker().alone(ACCOUNT) as turn:
            return 2 * turn.waited + (turn.rotated_to == NEW)

    child = fork(work)
    assert eventually(waits.exists)
    return child


def test_who_comes_second_waits_and_is_told_what_became_of_the_key(mark: Path) -> None:
    for rotates_to in (None, NEW):
        child = hold(mark, rotates_to=rotates_to)
        waiting = wait_behind(mark)
        assert os.waitpid(waiting, os.WNOHANG) == (0, 0)
        mark.unlink()
        assert status_of(child) == 0
        assert status_of(waiting) == (3 if rotates_to else 2)


def test_what_an_earlier_act_has_left_is_told_to_nobody_who_has_not_waited(mark: Path) -> None:
    child = hold(mark, rotates_to=NEW)
    mark.unlink()
    assert status_of(child) == 0
    with Worker().alone(ACCOUNT) as turn:
        assert (turn.waited, turn.rotated_to) == (False, None)
    child = hold(mark)
    waiting = wait_behind(mark)
    mark.unlink()
    assert (status_of(child), status_of(waiting)) == (0, 2), "it waited for one that has not rotated"


def test_accounts_do_not_wait_for_each_other_and_a_killed_act_for_nobody(mark: Path) -> None:
    child = hold(mark)
    with Worker().alone("b" * 16) as turn:
        assert not turn.waited
    os.kill(child, signal.SIGKILL)
    status_of(child)
    with Worker().alone(ACCOUNT) as turn:
        assert not turn.waited


def test_who_has_waited_for_too_long_is_refused(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "WAITING", 0.3)
    child = hold(mark)
    began = time.monotonic()
    with pytest.raises(MulticartError) as refused, Worker().alone(ACCOUNT):
        pytest.fail("it is not alone")
    assert refused.value.reason is Reason.BUSY and time.monotonic() - began < PATIENCE
    mark.unlink()
    status_of(child)


def test_the_lock_is_private_and_follows_no_link(tmp_path: Path) -> None:
    with Worker().alone(ACCOUNT):
        pass
    (folder,) = (tmp_path / "home").iterdir()
    (lock,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(lock.stat().st_mode)) == (0o700, 0o600)
    lock.unlink()
    lock.symlink_to(tmp_path / "precious")
    with pytest.raises(MulticartError) as refused, Worker().alone(ACCOUNT):
        pytest.fail("it followed the link")
    assert refused.value.reason is Reason.RUN_CACHE_UNUSABLE
    assert not (tmp_path / "precious").exists()


def test_a_home_that_cannot_be_written_is_told_with_the_way_out(tmp_path: Path) -> None:
    """As in an execution environment with a read-only home, where only the temporary directory was moved."""
    (tmp_path / "home").touch()
    with pytest.raises(MulticartError) as refused, Worker().alone(ACCOUNT):
        pytest.fail("there is no lock")
    assert refused.value.reason is Reason.RUN_CACHE_UNUSABLE
    assert str(tmp_path / "home") in refused.value.what and "ANSIBLE_HOME" in refused.value.advice


@pytest.mark.parametrize("left", [b"", b"garbage", b"\xff\xff 1", b"1 2 3", NEW.encode() + b" soon"])
def test_what_is_no_note_in_the_lock_is_ignored(tmp_path: Path, mark: Path, left: bytes) -> None:
    with Worker().alone(ACCOUNT):
        pass
    lock = next((tmp_path / "home" / "multicart.keys").iterdir())
    child = hold(mark)
    waiting = wait_behind(mark)
    lock.write_bytes(left)
    mark.unlink()
    assert (status_of(child), status_of(waiting)) == (0, 2)


# --- descriptors and processes --------------------------------------------------------------------


@pytest.fixture(name="limits")
def fixture_limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_hosts_are_armed_as_there_may_be_open_files(limits: tuple[int, int]) -> None:
    def work() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
        assert most_held() == (1024 - 100) // FILES_A_HOST
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (1024, 1024)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        assert most_held() == 1
        return 0

    assert status_of(fork(work)) == 0
    assert most_held() * FILES_A_HOST <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= max(65536, limits[0])


def test_what_was_started_and_goes_on_is_ended(tmp_path: Path) -> None:
    def work() -> int:
        subprocess.Popen(["sleep", "60"])
        deaf = subprocess.Popen(["sh", "-c", f"trap '' TERM INT HUP; touch {tmp_path}/deaf; while :; do sleep 1; done"])
        eventually((tmp_path / "deaf").exists)
        (tmp_path / "pid").write_text(str(deaf.pid))
        end_rest([])
        return not eventually(lambda: is_gone(deaf.pid))

    assert status_of(fork(work)) == 0
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_session_may_clean_up_after_its_process_was_ended_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "REMOVING", 2.0)

    class CleansUp(LocalLink):
        """A link that removes what it has copied when its program has ended, by another process that may hang."""

        def run(self, requests: bytes) -> Ended:
            ended = super().run(requests)
            (tmp_path / "removed").touch()
            subprocess.run(["sleep", "60"], check=False)
            return ended

    def work() -> int:
        web = LocalHost("web", tmp_path / "web", CleansUp(strange("time.sleep(60)"), holds=False))
        session = web.session()
        session.ask("inspect", 60.0)
        eventually(lambda: web.link.processes)
        session.give_up(LinkError("timed_out", "it hangs"))
        began = time.monotonic()
        end_rest([session])
        took = time.monotonic() - began
        done = session.join(PATIENCE) and web.link.processes[0].poll() is not None
        return not (done and took < PATIENCE and (tmp_path / "removed").exists())

    assert status_of(fork(work)) == 0
