# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run cache and the operations over it: one run, many processes, one read and one rotation."""

from __future__ import annotations

import base64
import errno
import fcntl
import multiprocessing
import os
import resource
import signal
import stat
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api import run_cache
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import (
    live,
    read_account,
    revoke_key,
    rotate_key,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Intent, Outcome, Request, rotate
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import AccountLedger, RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.unit.plugins.plugin_utils.rotation_model import Fault, MemoryLedger, Model, key

if TYPE_CHECKING:
    from tests.unit.plugins.plugin_utils.conftest import Rehearsal

SECRET = b"an authkey of 32 bytes, no doubt"
CALLERS = 20
TOKEN = Connection(session_token="token-of-the-account")
LOGIN = Connection(login=Login("a@b.c", "password-of-the-account"))


@pytest.fixture
def cache(tmp_path: Path) -> RunCache:
    return RunCache(str(tmp_path), SECRET)


@pytest.fixture(autouse=True)
def _fork_quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        # Python 3.12 warns of forks while threads run; Ansible forks all the same.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


def in_forks(number: int, work: Callable[[], Any]) -> list[Any]:
    """Do the same in many forks at once, as Ansible does, and return what they return."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(number)
    results = context.SimpleQueue()

    def run() -> None:
        start.wait(30)
        try:
            results.put(work())
        except MulticartError as error:
            results.put(error.reason)

    processes = [context.Process(target=run) for dummy in range(number)]
    for process in processes:
        process.start()
    found = [results.get() for dummy in processes]
    for process in processes:
        process.join(30)
    return found


def know(ledger: AccountLedger, account: Account) -> None:
    """Keep an account that was read, and its key, which was accepted."""
    ledger.learn(account)
    ledger.keep_live(account.key)


def learnt(cache: RunCache, connection: Connection, account: Account) -> None:
    with cache.held_for(connection) as ledger:
        know(ledger, account)


# --- what is kept ---------------------------------------------------------------------------------


def test_nothing_is_known_at_first(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        assert (ledger.live(), ledger.intent(), ledger.token()) == (None, None, None)


def test_what_one_task_keeps_the_next_one_knows(cache: RunCache, tmp_path: Path) -> None:
    intent = Intent(key(0), sent=True, revoked=True, done=True, rotated_at="2026-06-20T03:00:00.000Z", verified=True)
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(1)))
        ledger.record(intent)
        ledger.keep_token("token-of-the-login")
    with RunCache(str(tmp_path), SECRET).held_for(TOKEN) as ledger:
        assert (ledger.live(), ledger.intent(), ledger.token()) == (key(1), intent, "token-of-the-login")


@pytest.mark.parametrize(
    "field", [field.name for field in fields(Intent) if field.name not in ("retire", "rotated_at")]
)
def test_every_flag_of_an_intent_is_kept(cache: RunCache, field: str) -> None:
    intent = Intent(key(0))
    setattr(intent, field, True)
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(intent)
        # Within one task, too.
        assert ledger.intent() == intent
    with cache.held_for(TOKEN) as ledger:
        assert ledger.intent() == intent


def test_at_the_very_moment_a_key_is_too_old_and_a_failure_is_not(
    cache: RunCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_cache.time, "monotonic", lambda: 5.0)
    learnt(cache, TOKEN, Account("7", key(0)))
    with cache.held_for(TOKEN) as ledger:
        ledger.keep_failure(MulticartError(Reason.UNREACHABLE, "No answer."))
        assert [ledger.live(newer_than) for newer_than in (4.9, 5.0)] == [key(0), None]
        assert [ledger.failure(since) is not None for since in (5.0, 5.1)] == [True, False]


def test_an_api_key_tells_accounts_apart_only_where_nothing_else_reads_them() -> None:
    alone, with_token = Connection(api_key=key(0)), replace(TOKEN, api_key=key(0))
    ids = [run_cache._credential_id(each) for each in (alone, replace(alone, api_key=key(1)), Connection(), TOKEN)]
    assert len(set(ids)) == 4
    assert run_cache._credential_id(with_token) == ids[3]


def test_a_key_that_was_only_read_does_not_count_as_live(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        ledger.learn(Account("7", key(0)))
        assert ledger.live() is None
        ledger.keep_live(key(0))
        ledger.learn(Account("7", key(0)))
        assert ledger.live() == key(0)


def test_a_kept_key_that_a_read_contradicts_has_to_be_proven_again(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.learn(Account("7", key(1)))
        assert ledger.live() is None


@pytest.mark.parametrize("ended", [{"sent": True}, {"revoked": True}])
def test_a_key_that_may_be_dead_is_live_no_more(cache: RunCache, ended: dict[str, bool]) -> None:
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(Intent(key(0)))
        assert ledger.live() == key(0)
        ledger.record(Intent(key(0), **ended))
        assert ledger.live() is None


def test_the_intent_of_one_credential_is_known_to_another_of_the_account(cache: RunCache) -> None:
    other = Connection(session_token="another-token-of-the-account")
    learnt(cache, other, Account("7", key(0)))
    with cache.held_for(TOKEN) as ledger:
        ledger.record(Intent(key(0), revoked=True))
        ledger.learn(Account("7", key(1)))
        assert ledger.intent() == Intent(key(0), revoked=True)
    with cache.held_for(other) as ledger:
        assert ledger.intent() == Intent(key(0), revoked=True)


def test_a_live_key_of_an_account_that_was_never_read_is_not_kept(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        ledger.keep_live(key(0))
        assert ledger.live() is None


def test_an_intent_from_before_the_account_was_read_is_not_lost(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        ledger.record(Intent(key(0), revoked=True))
        assert (ledger.intent(), ledger.live(), ledger.account()) == (Intent(key(0), revoked=True), None, None)
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(1)))
        assert (ledger.intent(), ledger.live()) == (Intent(key(0), revoked=True), key(1))


def test_a_new_read_replaces_the_key_and_keeps_the_intent(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(Intent(key(0), sent=True))
        know(ledger, Account("7", key(1)))
        assert (ledger.live(), ledger.intent()) == (key(1), Intent(key(0), sent=True))


def test_two_accounts_are_kept_apart(cache: RunCache) -> None:
    other = Connection(session_token="token-of-another-account")
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(Intent(key(0)))
    with cache.held_for(other) as ledger:
        assert (ledger.live(), ledger.intent()) == (None, None)
        know(ledger, Account("8", key(5)))
    with cache.held_for(TOKEN) as ledger:
        assert (ledger.live(), ledger.intent()) == (key(0), Intent(key(0)))


def test_two_services_with_the_same_account_id_are_kept_apart(cache: RunCache) -> None:
    elsewhere = replace(TOKEN, api_url="https://elsewhere.example")
    learnt(cache, TOKEN, Account("7", key(0)))
    learnt(cache, elsewhere, Account("7", key(5)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() == key(0)


def test_two_credentials_of_one_account_share_key_and_intent(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(Intent(key(0), sent=True))
    with cache.held_for(LOGIN) as ledger:
        assert ledger.intent() is None  # whose they are is known only after a read
        know(ledger, Account("7", key(1)))
        assert ledger.intent() == Intent(key(0), sent=True)
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() == key(1)


def test_the_token_of_a_login_is_not_given_to_another_credential(cache: RunCache) -> None:
    with cache.held_for(LOGIN) as ledger:
        ledger.keep_token("token-of-the-login")
    for other in (TOKEN, replace(LOGIN, login=Login("a@b.c", "wrong")), replace(LOGIN, api_url="https://x.example")):
        with cache.held_for(other) as ledger:
            assert ledger.token() is None


def test_x6_a_key_counts_from_its_question_and_not_from_the_arrival_of_the_answer(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        meanwhile = time.monotonic()
        know(ledger, Account("7", key(0)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live(meanwhile) is None
        assert ledger.live() == key(0)


def test_a_key_that_was_read_too_early_does_not_count(cache: RunCache) -> None:
    before = time.monotonic()
    learnt(cache, TOKEN, Account("7", key(0)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live(before) == key(0)
        assert ledger.live(time.monotonic()) is None
    after = time.monotonic()
    learnt(cache, TOKEN, Account("7", key(1)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live(after) == key(1)


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault.NONE, Fault.LOST_AFTER],
        [Fault.NONE, Fault.REFUSED],
        [Fault.NONE, Fault.LOST_AFTER, *[Fault.LOST_BEFORE] * 40],
        [Fault.NONE, Fault.NONE, *[Fault.STALE] * 40],
    ],
)
def test_the_rotation_finds_in_it_what_it_finds_in_the_memory_of_its_own_tests(
    cache: RunCache, faults: list[Fault]
) -> None:
    memory, files = Model().will(*faults), Model().will(*faults)
    ledger = MemoryLedger()
    for _call in range(3):
        expected = rotate(memory, ledger, Request(settle_timeout=3.0), memory.time.clock)
        with cache.held_for(TOKEN) as real:
            result = rotate(files, real, Request(settle_timeout=3.0), files.time.clock)
        assert str(result) == str(expected)
        assert files.calls == memory.calls


# --- the file -------------------------------------------------------------------------------------


def test_the_file_is_private_whatever_the_umask(cache: RunCache, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        learnt(cache, TOKEN, Account("7", key(0)))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"multicart.keys.cache": 0o600, "multicart.keys.lock": 0o600}


def test_no_secret_is_in_the_file_in_any_form(cache: RunCache, tmp_path: Path) -> None:
    with cache.held_for(LOGIN) as ledger:
        know(ledger, Account("7", key(1)))
        ledger.record(Intent(key(0)))
        ledger.keep_token("token-of-the-login")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    unpacked = written + base64.urlsafe_b64decode(written)
    for secret in (key(0).reveal(), key(1).reveal(), "token-of-the-login", "password-of-the-account", "a@b.c"):
        for form in (secret.encode(), secret[-8:].encode(), base64.b64encode(secret.encode())[:8], SECRET):
            assert form not in unpacked


def test_the_same_contents_are_written_differently_each_time(cache: RunCache, tmp_path: Path) -> None:
    written = set()
    for _time in range(3):
        with cache.held_for(TOKEN) as ledger:
            ledger.keep_token("token")
        written.add((tmp_path / "multicart.keys.cache").read_bytes())
    assert len(written) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _whole: b"",
        lambda _whole: b"garbage",
        lambda _whole: os.urandom(500),
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
    ],
)
def test_a_file_that_is_not_whole_counts_as_empty(cache: RunCache, tmp_path: Path, spoil: Any) -> None:
    learnt(cache, TOKEN, Account("7", key(0)))
    path = tmp_path / "multicart.keys.cache"
    path.write_bytes(spoil(path.read_bytes()))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() is None
    learnt(cache, TOKEN, Account("7", key(1)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() == key(1)


def test_a_file_of_another_run_counts_as_empty(cache: RunCache, tmp_path: Path) -> None:
    learnt(cache, TOKEN, Account("7", key(0)))
    with RunCache(str(tmp_path), b"another authkey").held_for(TOKEN) as ledger:
        assert ledger.live() is None


@pytest.mark.parametrize("name", ["multicart.keys.cache", "multicart.keys.cache.new", "multicart.keys.lock"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_refused_and_not_followed(
    cache: RunCache, tmp_path: Path, name: str, dangling: bool
) -> None:
    target = tmp_path / "target"
    if not dangling:
        target.write_text("precious")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(MulticartError) as caught:
        learnt(cache, TOKEN, Account("7", key(0)))
    assert caught.value.reason is Reason.RUN_CACHE_UNUSABLE
    assert target.exists() != dangling
    assert dangling or target.read_text() == "precious"


def test_a_directory_that_is_missing_is_named_as_the_cause(tmp_path: Path) -> None:
    result = rotate_key(TOKEN, RunCache(str(tmp_path / "missing"), SECRET), Request())
    assert result.error and result.error.reason is Reason.RUN_CACHE_UNUSABLE
    assert result.outcome is Outcome.UNCHANGED
    with pytest.raises(MulticartError, match="No such file or directory"):
        live(TOKEN, RunCache(str(tmp_path / "missing"), SECRET))


def test_a_file_system_without_locks_is_named_as_the_cause(cache: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    result = rotate_key(TOKEN, cache, Request())
    assert result.error and result.error.reason is Reason.RUN_CACHE_UNUSABLE
    assert (result.outcome, os.strerror(errno.ENOLCK) in str(result.error)) == (Outcome.UNCHANGED, True)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("multicart.keys.cache", "read"),
        ("multicart.keys.cache.new", "written"),
        ("multicart.keys.lock", "locked"),
    ],
)
def test_a_directory_in_its_place_is_refused(cache: RunCache, tmp_path: Path, name: str, how: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(MulticartError) as caught:
        learnt(cache, TOKEN, Account("7", key(0)))
    assert caught.value.reason is Reason.RUN_CACHE_UNUSABLE
    assert caught.value.what == f"The run cache cannot be {how} (Is a directory)."


def test_without_cryptography_it_is_unusable(cache: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cache, "fernet", None)
    with pytest.raises(MulticartError) as caught:
        learnt(cache, TOKEN, Account("7", key(0)))
    needs = "The run cache needs the Python library cryptography, a dependency of ansible-core."
    assert caught.value.what == needs


def test_on_a_full_disk_what_was_known_stays_known(cache: RunCache) -> None:
    with cache.held_for(TOKEN) as ledger:
        know(ledger, Account("7", key(0)))
        ledger.record(Intent(key(5), sent=True))
    child = os.fork()
    if child == 0:
        # What does not fit is not written; without a handler the signal would end the process.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        try:
            learnt(cache, TOKEN, Account("7", key(1)))
        except MulticartError as error:
            os._exit(0 if error.reason is Reason.RUN_CACHE_UNUSABLE else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with cache.held_for(TOKEN) as ledger:
        assert (ledger.live(), ledger.intent()) == (key(0), Intent(key(5), sent=True))


def test_a_fork_that_is_killed_while_it_saves_loses_nothing(cache: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt(cache, TOKEN, Account("7", key(0)))
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "replace", lambda *_args, **_kwargs: os.kill(os.getpid(), signal.SIGKILL))
        learnt(cache, TOKEN, Account("7", key(1)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() == key(0)
    learnt(cache, TOKEN, Account("7", key(2)))
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() == key(2)


# --- many processes -------------------------------------------------------------------------------


def test_a_fork_knows_and_tells_what_its_run_knows(tmp_path: Path) -> None:
    def this_run() -> RunCache:
        return RunCache(str(tmp_path), bytes(multiprocessing.current_process().authkey))

    learnt(this_run(), TOKEN, Account("7", key(0)))

    def work() -> bool:
        with this_run().held_for(TOKEN) as ledger:
            known = ledger.live()
            know(ledger, Account("7", key(1)))
            return known == key(0)

    assert in_forks(1, work) == [True]
    with this_run().held_for(TOKEN) as ledger:
        assert ledger.live() == key(1)


def test_it_is_held_by_one_process_at_a_time(cache: RunCache, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def work() -> None:
        for _time in range(5):
            with cache.held_for(TOKEN):
                count = int(counter.read_text())
                time.sleep(0.001)
                counter.write_text(str(count + 1))

    in_forks(CALLERS, work)
    assert counter.read_text() == str(CALLERS * 5)


def test_a_process_that_is_killed_or_fails_lets_go_of_it(cache: RunCache) -> None:
    with pytest.raises(ZeroDivisionError), cache.held_for(TOKEN):
        raise ZeroDivisionError
    child = os.fork()
    if child == 0:
        with cache.held_for(TOKEN):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with cache.held_for(TOKEN) as ledger:
        assert ledger.live() is None


def test_twenty_callers_cost_one_read_and_one_proof(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection(timeout=20.0)

    def read() -> str:
        return live(connection, cache).key.reveal()

    found = in_forks(CALLERS, read)
    assert found == [rehearsal.account["api_key"]] * CALLERS
    assert rehearsal.endpoints() == ["read", "read"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_read_of_a_dead_key_does_not_count(cache: RunCache, rehearsal: Rehearsal, times: int) -> None:
    rehearsal.sandbox.rotate_behind(rehearsal.email)
    rehearsal.will("read", "stale_read", times=times)
    assert live(rehearsal.connection(), cache).key == rehearsal.key


def test_twenty_callers_cost_one_login(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection(timeout=20.0, login=rehearsal.login)
    in_forks(CALLERS, lambda: read_account(connection, cache).id)
    assert Counter(rehearsal.endpoints()) == {"login": 1, "read": CALLERS}


def test_twenty_rotations_at_once_are_one(cache: RunCache, rehearsal: Rehearsal) -> None:
    old = rehearsal.key
    connection = rehearsal.connection(timeout=20.0)

    def work() -> tuple[str, str | None, bool]:
        result = rotate_key(connection, cache, Request())
        return (
            result.outcome.value,
            result.live.fingerprint if result.live else None,
            result.error is None and result.verified,
        )

    found = Counter(in_forks(CALLERS, work))
    new = rehearsal.key.fingerprint
    assert new != old.fingerprint
    assert found == {("rotated", new, True): 1, ("already_rotated", new, True): CALLERS - 1}
    assert rehearsal.rotations() == 1
    assert rehearsal.endpoints() == ["read", "rotate", "read", "read", "read"]


def test_twenty_runs_at_once_that_name_the_key_are_one_rotation(tmp_path: Path, rehearsal: Rehearsal) -> None:
    request = Request(retire=rehearsal.key.fingerprint)
    connection = rehearsal.connection(timeout=20.0)

    def work() -> tuple[str, str | None, bool]:
        directory = tmp_path / str(os.getpid())
        directory.mkdir()
        result = rotate_key(connection, RunCache(str(directory), SECRET), request)
        return (
            result.outcome.value,
            result.live.fingerprint if result.live else None,
            result.error is None and result.verified,
        )

    found = Counter(in_forks(CALLERS, work))
    new = rehearsal.key.fingerprint
    assert found == {("rotated", new, True): 1, ("already_rotated", new, True): CALLERS - 1}
    assert rehearsal.rotations() == 1


# --- the operations -------------------------------------------------------------------------------


def test_a_rotation_fills_the_cache_for_every_later_read(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection()
    assert rotate_key(connection, cache, Request()).live == rehearsal.key
    asked = len(rehearsal.journal())
    assert live(connection, cache).key == rehearsal.key
    assert len(rehearsal.journal()) == asked


def test_whoever_waited_for_a_read_that_failed_is_told_the_same_and_does_not_ask_again(
    cache: RunCache, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = rehearsal.connection()
    held_for = cache.held_for

    @contextmanager
    def after_another_fork_has_failed(asked_for: Connection) -> Iterator[run_cache.AccountLedger]:
        with held_for(asked_for) as ledger:
            ledger.keep_failure(MulticartError(Reason.UNREACHABLE, "No answer.", "Wait."))
        with held_for(asked_for) as ledger:
            yield ledger

    with monkeypatch.context() as while_waiting, pytest.raises(MulticartError, match=r"No answer\. Wait\.") as caught:
        while_waiting.setattr(cache, "held_for", after_another_fork_has_failed)
        live(connection, cache)
    assert caught.value.reason is Reason.UNREACHABLE
    assert rehearsal.endpoints() == []
    assert live(connection, cache).key == rehearsal.key  # whoever asks later, asks


def test_a_failed_read_is_kept_for_those_who_wait(cache: RunCache, rehearsal: Rehearsal) -> None:
    rehearsal.sandbox.faults([{"on": "read", "fault": "http_403"}])
    began, connection = time.monotonic(), rehearsal.connection()
    with pytest.raises(MulticartError):
        live(connection, cache)
    with cache.held_for(connection) as ledger:
        kept = ledger.failure(since=began)
        assert kept and kept.reason is Reason.CREDENTIALS_REJECTED
        assert ledger.failure(since=time.monotonic()) is None


def test_a_read_that_is_too_old_is_made_again(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection()
    live(connection, cache)
    rehearsal.sandbox.rotate_behind(rehearsal.email)
    assert live(connection, cache).key != rehearsal.key
    assert live(connection, cache, newer_than=time.monotonic()).key == rehearsal.key
    assert rehearsal.endpoints() == ["read", "read"] * 2


def test_an_answer_that_was_under_way_at_that_moment_is_too_old(cache: RunCache, rehearsal: Rehearsal) -> None:
    """As when one host confirms its key while another is still writing the key that was live before."""
    connection = rehearsal.connection(timeout=30.0)
    rehearsal.will("read", "slow", seconds=1.0)
    reader = threading.Thread(target=live, args=(connection, cache))
    reader.start()
    while not any(entry["accepted"] for entry in rehearsal.journal("read")):
        time.sleep(0.01)
    rehearsal.sandbox.rotate_behind(rehearsal.email)
    written = time.monotonic()
    reader.join()
    assert live(connection, cache, newer_than=written).key == rehearsal.key


def test_an_api_key_alone_is_refused_before_any_call(cache: RunCache, rehearsal: Rehearsal) -> None:
    result = rotate_key(rehearsal.connection(api_key=rehearsal.key), cache, Request())
    assert result.outcome is Outcome.UNCHANGED
    assert result.error and result.error.reason is Reason.READBACK_IMPOSSIBLE
    assert rehearsal.journal() == []


def test_no_credential_is_refused_before_any_call(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = Connection(rehearsal.sandbox.url)
    result = rotate_key(connection, cache, Request())
    assert result.error and result.error.reason is Reason.NO_CREDENTIALS
    for operation in (live, read_account):
        with pytest.raises(MulticartError) as caught:
            operation(connection, cache)
        assert caught.value.reason is Reason.NO_CREDENTIALS
    assert rehearsal.journal() == []


def test_in_an_emergency_an_api_key_alone_revokes_itself(cache: RunCache, rehearsal: Rehearsal) -> None:
    old = rehearsal.key
    connection = rehearsal.connection(api_key=old)
    result = revoke_key(connection, cache, Revocation(old.fingerprint))
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, None, None)
    assert result.old_key_rejected and rehearsal.key != old
    assert rehearsal.endpoints() == ["rotate", "read"]
    again = revoke_key(connection, cache, Revocation(old.fingerprint))
    assert (again.outcome, rehearsal.rotations()) == (Outcome.ALREADY_ROTATED, 1)


def test_another_run_learns_that_a_key_was_revoked_where_there_is_a_token_too(
    tmp_path: Path, rehearsal: Rehearsal
) -> None:
    old = rehearsal.key
    connection = replace(rehearsal.connection(), api_key=old)
    ends = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        result = revoke_key(connection, RunCache(str(tmp_path / run), SECRET), Revocation(old.fingerprint))
        ends.append((result.outcome, result.live, result.error))
    assert ends == [(Outcome.ROTATED, None, None), (Outcome.ALREADY_ROTATED, rehearsal.key, None)]
    assert rehearsal.rotations() == 1


@pytest.mark.parametrize("form", ["envelope401", "envelope400", "http401", "http403"])
@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("fault", [None, "answer_lost_before_commit", "answer_lost_after_commit", "stale_read"])
def test_whatever_nobody_documents_a_login_rotates_once_and_reads_back(
    cache: RunCache, rehearsal: Rehearsal, form: str, dies: bool, fault: str | None
) -> None:
    rehearsal.sandbox.settings(
        dead_credential=form, tokens_die_with_rotation=dies, prefix_changes=form.startswith("http")
    )
    if fault:
        rehearsal.will("read" if fault == "stale_read" else "rotate", fault, times=2 if fault == "stale_read" else 1)
    old = rehearsal.key
    result = rotate_key(rehearsal.connection(login=rehearsal.login), cache, Request(settle_timeout=5.0))
    assert result.error is None
    assert (result.outcome, result.previous, result.live) == (Outcome.ROTATED, old, rehearsal.key)
    assert result.verified
    assert rehearsal.rotations() == 1
