# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The account as the act uses it: how often the API is asked, and which of its answers count, against the sandbox."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api import operations, rotation
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun, try_credentials
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import MOST_FORMER, RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.unit.plugins.plugin_utils.rotation_model import key

if TYPE_CHECKING:
    from tests.unit.plugins.plugin_utils.conftest import Rehearsal

SECRET = b"an authkey of 32 bytes, no doubt"
OLD, OTHER = "0" * 16, "2" * 16


@pytest.fixture(name="cache")
def fixture_cache(tmp_path: Path) -> RunCache:
    return RunCache(str(tmp_path), SECRET)


@pytest.fixture(name="account")
def fixture_account(cache: RunCache, rehearsal: Rehearsal) -> AccountOfRun:
    return AccountOfRun(rehearsal.connection(), cache)


def asked(rehearsal: Rehearsal, account: AccountOfRun, newest: bool) -> int:
    """Return how many requests a read costs."""
    before = len(rehearsal.endpoints())
    assert account.read(newest).key == rehearsal.key
    return len(rehearsal.endpoints()) - before


# --- how often the API is asked -------------------------------------------------------------------


def test_the_newest_key_is_asked_for_each_time(account: AccountOfRun, rehearsal: Rehearsal) -> None:
    assert [asked(rehearsal, account, newest=True) for _read in range(2)] == [2, 2]


def test_one_read_serves_all_hosts_for_ten_seconds(
    account: AccountOfRun, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.monotonic()
    for passed, asks in ((0.0, 2), (0.0, 0), (operations.RECENTLY - 0.1, 0), (operations.RECENTLY + 0.1, 2)):
        monkeypatch.setattr(time, "monotonic", lambda now=moment + passed: now)
        assert asked(rehearsal, account, newest=False) == asks


def test_a_key_that_hosts_hold_is_confirmed_by_a_read_that_is_newer(
    account: AccountOfRun, rehearsal: Rehearsal
) -> None:
    live = account.read()
    before = len(rehearsal.endpoints())
    inspected_at = time.monotonic()
    assert account.confirm(live, frozenset({OLD}), inspected_at).key == rehearsal.key
    assert len(rehearsal.endpoints()) - before == 2
    # That read serves every other host that was inspected before it.
    assert account.confirm(live, frozenset({OTHER}), inspected_at).key == rehearsal.key
    assert len(rehearsal.endpoints()) - before == 2
    # And what it has shown to be a former key costs no more read in this run, whenever it is seen.
    assert account.confirm(live, frozenset({OLD, OTHER}), time.monotonic()) is live
    assert len(rehearsal.endpoints()) - before == 2
    assert account.confirm(live, frozenset({OLD, "3" * 16}), time.monotonic()).key == rehearsal.key
    assert len(rehearsal.endpoints()) - before == 4


def test_a_thousand_hosts_that_hold_a_former_key_cost_two_reads_and_one_in_ten_seconds(
    account: AccountOfRun, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each does what a deployment does on one host; they take a minute together."""
    clock, began = time.monotonic, time.monotonic()
    for number in range(1000):
        monkeypatch.setattr(time, "monotonic", lambda passed=number * 0.06: clock() + passed)
        live = account.read(newest=False)
        account.confirm(live, frozenset({OLD}), time.monotonic())
        assert account.read(newest=False).key == rehearsal.key
    minute = 60 + clock() - began
    # A read is the reading itself, and the proof that the API accepts the key that was read.
    assert len(rehearsal.endpoints()) <= 2 * (2 + minute / operations.RECENTLY)


def test_a_key_that_turns_out_to_be_live_is_never_kept_as_a_former_one(
    account: AccountOfRun, rehearsal: Rehearsal, cache: RunCache
) -> None:
    live = account.read()
    rehearsal.sandbox.rotate_behind(rehearsal.email)
    held = frozenset({rehearsal.key.fingerprint, OLD})
    assert account.confirm(live, held, time.monotonic()).key == rehearsal.key != live.key
    with cache.held_for(rehearsal.connection(session_token=rehearsal.token())) as ledger:
        assert ledger.former() == frozenset()  # of another token nothing is known
    with cache.held_for(account._connection) as ledger:
        assert ledger.former() == {OLD}


def test_former_keys_are_kept_up_to_a_bound(account: AccountOfRun, cache: RunCache) -> None:
    account.read()
    many = frozenset(f"{number:016x}" for number in range(MOST_FORMER + 5))
    with cache.held_for(account._connection) as ledger:
        ledger.keep_former(many)
        assert len(ledger.former()) == MOST_FORMER and ledger.former() < many


# --- a rotation -----------------------------------------------------------------------------------


def test_a_rotation_costs_six_requests_and_one_of_them_before_the_release(
    account: AccountOfRun, rehearsal: Rehearsal
) -> None:
    live = account.read()
    old = live.key
    result = account.rotate(live.key, frozenset())
    assert (result.outcome, result.live, result.previous) == (Outcome.ROTATED, rehearsal.key, old)
    assert len(rehearsal.endpoints()) == 4 and rehearsal.rotations() == 1
    assert not result.verified and result.old_key_rejected is None
    verified = account.verify(old.fingerprint)
    assert (verified.live, verified.verified, verified.old_key_rejected) == (rehearsal.key, True, True)
    assert len(rehearsal.endpoints()) == 6


def test_what_the_run_has_rotated_is_told_with_the_live_key(account: AccountOfRun, rehearsal: Rehearsal) -> None:
    before = account.read()
    assert (before.rotated_at, before.retired) == (None, None)
    result = account.rotate(before.key, frozenset())
    for newest in (False, True):
        live = account.read(newest)
        assert (live.key, live.rotated_at, live.retired) == (
            rehearsal.key,
            result.rotated_at,
            before.key.fingerprint,
        )


def test_a_second_call_of_the_run_rotates_no_second_time(account: AccountOfRun, rehearsal: Rehearsal) -> None:
    live = account.read()
    account.rotate(live.key, frozenset())
    again = account.rotate(live.key, frozenset())
    assert (again.outcome, again.live, rehearsal.rotations()) == (Outcome.ALREADY_ROTATED, rehearsal.key, 1)


def test_a_key_that_somebody_has_replaced_is_not_replaced_once_more(
    account: AccountOfRun, rehearsal: Rehearsal
) -> None:
    live = account.read()
    rehearsal.sandbox.rotate_behind(rehearsal.email)
    result = account.rotate(live.key, frozenset())
    assert (result.outcome, result.live, rehearsal.rotations()) == (Outcome.ALREADY_ROTATED, rehearsal.key, 0)


def test_a_login_of_another_account_gives_no_host_its_key(
    cache: RunCache, rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token ends with the rotation, and there is a login, left from another account."""
    monkeypatch.setattr(rotation, "REFUSED_FOR", 0.2)
    rehearsal.sandbox.add_account(email := f"other-{rehearsal.email}", password := "the password of another account")
    rehearsal.sandbox.settings(tokens_die_with_rotation=True)
    account = AccountOfRun(rehearsal.connection(session_token=rehearsal.token(), login=Login(email, password)), cache)
    live = account.read()
    result = account.rotate(live.key, frozenset())
    assert (result.outcome, result.live, rehearsal.rotations()) == (Outcome.ROTATED, None, 1)
    assert result.error and "two different accounts" in result.error.what
    with pytest.raises(MulticartError) as caught:
        account.read()
    assert caught.value.reason is Reason.ACCOUNT_MISMATCH


# --- what tells an account ------------------------------------------------------------------------


def test_the_account_and_its_dates_are_told(account: AccountOfRun) -> None:
    live = account.read()
    assert live.account is not None and len(live.account) == 16
    assert live.created_at is not None and live.updated_at is not None


def mark(cache: RunCache, url: str, account_id: str = "7", **fields: object) -> tuple[str | None, object]:
    """Return what tells an account, and its dates, as the run keeps them."""
    with cache.held_for(Connection(api_url=url, session_token=f"token of {account_id}")) as ledger:
        ledger.learn(Account(account_id, key(0), fields))
        return ledger.account(), ledger.dates()


def test_x6_accounts_of_the_same_number_at_two_hosts_are_two(tmp_path: Path) -> None:
    """X6: where nothing tells when they were made, the host's name and the number do, and neither way nor port."""
    urls = ["https://a.example/api/v1", "https://b.example/api/v1", "https://a.example:8443/v2", "http://a.example"]
    marks = [mark(RunCache(str(tmp_path), SECRET), url)[0] for url in urls]
    assert marks[0] == marks[2] == marks[3] != marks[1]
    assert mark(RunCache(str(tmp_path), SECRET), urls[0], "8")[0] != marks[0]
    assert all(each is not None and len(each) == 16 for each in marks)


MADE = "2025-01-15T09:00:00.123456Z"


@pytest.mark.parametrize("made", [MADE, "long ago"])
def test_x7_an_account_is_the_same_under_every_host_name_of_the_api(tmp_path: Path, made: str) -> None:
    urls = ["https://a.example/api/v1", "https://b.example/api/v1", "https://192.0.2.7:8443/v2"]
    marks = {mark(RunCache(str(tmp_path), SECRET), url, created_at=made)[0] for url in urls}
    assert len(marks) == 1
    assert marks != {mark(RunCache(str(tmp_path), SECRET), urls[0], "8", created_at=made)[0]}


@pytest.mark.parametrize("same", ["2025-01-15T19:00:00.123456+10:00", "2025-01-15T09:00:00.123456+00:00"])
def test_x7_the_time_zone_of_an_account_does_not_make_it_another(cache: RunCache, same: str) -> None:
    url = "https://a.example"
    assert mark(cache, url, created_at=MADE)[0] == mark(cache, url, created_at=same)[0]


@pytest.mark.parametrize("made", ["2025-01-15T09:00:00.123457Z", "2025-01-15T09:00:00.123456", "long ago", None])
def test_x7_accounts_of_the_same_number_that_were_made_at_other_moments_are_two(
    cache: RunCache, made: str | None
) -> None:
    url = "https://a.example"
    assert mark(cache, url, created_at=MADE)[0] != mark(cache, url, created_at=made)[0]


def test_of_an_account_that_was_not_read_nothing_is_known(cache: RunCache) -> None:
    with cache.held_for(Connection(session_token="token")) as ledger:
        assert (ledger.account(), ledger.dates(), ledger.former()) == (None, (None, None), frozenset())
        ledger.keep_former(frozenset({OLD}))
        assert ledger.former() == frozenset()


def test_only_dates_that_are_texts_are_kept(cache: RunCache) -> None:
    url = "https://a.example"
    assert mark(cache, url, created_at="2026-01-01", updated_at=7)[1] == ("2026-01-01", None)
    assert mark(cache, url, updated_at="2026-02-02")[1] == (None, "2026-02-02")


# --- every credential, tried ----------------------------------------------------------------------


def test_each_credential_is_tried_alone(cache: RunCache, rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection(session_token="dead-token", login=rehearsal.login, api_key=rehearsal.key)
    trials = try_credentials(connection, cache)
    assert [(trial.name, trial.key) for trial in trials] == [
        ("session_token", None),
        ("email and password", rehearsal.key),
        ("api_key", rehearsal.key),
    ]
    assert trials[0].error is not None and trials[0].error.reason is Reason.CREDENTIALS_REJECTED
    assert [trial.outlives_rotation for trial in trials] == [False, True, False]
    mark = AccountOfRun(connection, cache).read().account
    assert mark and [trial.mark for trial in trials] == [None, mark, mark]


def test_only_what_was_given_is_tried(cache: RunCache, rehearsal: Rehearsal) -> None:
    assert [trial.name for trial in try_credentials(rehearsal.connection(), cache)] == ["session_token"]
    assert try_credentials(Connection(), cache) == []


def test_what_the_api_repeats_of_any_credential_is_not_told(cache: RunCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may answer to one with another, which it was sent before."""
    live, token = key(0), "the-session-token"  # of which eight characters in a row are a leak
    said = iter([live.reveal().split(".")[1], None, token])

    def read(connection: Connection, _cache: RunCache) -> Account:
        account_id = next(said)
        if account_id is None:
            raise MulticartError(Reason.REFUSED, f"The API says: {token}.", f"Ask about {token}.")
        return Account(account_id, live)

    monkeypatch.setattr(operations, "read_account", read)
    connection = Connection(session_token=token, login=Login("us@example.com", "our password"), api_key=live)
    trials = try_credentials(connection, cache)
    withheld = "(withheld, as it repeated a secret)"
    assert [trial.account for trial in trials] == [withheld, None, withheld]
    error = trials[1].error
    assert error is not None and (error.reason, error.what, error.advice) == (Reason.REFUSED, withheld, withheld)


def test_without_any_credential_nothing_is_asked(cache: RunCache) -> None:
    with pytest.raises(MulticartError) as refused:
        AccountOfRun(Connection(), cache).read()
    assert refused.value.reason is Reason.NO_CREDENTIALS
