# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rotation: every branch by example, and what must hold under any script of faults."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import GRACE, MOST_PUT_OFF
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation, revoke
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import (
    SETTLE_TIMEOUT,
    Clock,
    Intent,
    Outcome,
    Request,
    Result,
    another_was_replaced,
    read_live,
    rotate,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import ARMED
from ansible_collections.multicart.keys.plugins.plugin_utils._options import LONGEST_TIMEOUT
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.rotation_model import Fault, MemoryLedger, Model, Step, key
from tests.unit.plugins.plugin_utils.rotation_scripts import STEP, calls, lies_twice, meets


def run(model: Model, ledger: MemoryLedger | None = None, **request: Any) -> Result:
    return rotate(model, ledger or MemoryLedger(), Request(**request), model.time.clock)


def reason(result: Result) -> Reason | None:
    return result.error.reason if result.error else None


# --- nothing fails --------------------------------------------------------------------------------


def test_it_takes_five_calls_when_nothing_fails() -> None:
    model = Model()
    result = run(model)
    assert model.calls == ["read", "rotate", "read", "accepts", "accepts"]
    assert (result.outcome, result.error) == (Outcome.ROTATED, None)
    assert (result.previous, result.live) == (key(0), key(1))
    assert result.changed and result.verified and result.old_key_rejected
    assert result.rotated_at and result.rotated_at.endswith("Z")


def test_without_verify_it_takes_three_calls_and_claims_no_proof() -> None:
    model = Model()
    result = run(model, verify=False)
    assert model.calls == ["read", "rotate", "read"]
    assert (result.outcome, result.live) == (Outcome.ROTATED, key(1))
    assert not result.verified and result.old_key_rejected is None


def test_check_mode_reads_and_sends_nothing() -> None:
    model = Model()
    result = run(model, check_mode=True)
    assert model.calls == ["read"]
    assert (result.outcome, result.changed, result.previous, result.live) == (
        Outcome.WOULD_ROTATE,
        True,
        key(0),
        None,
    )


def test_check_mode_meets_the_same_error_as_the_real_run() -> None:
    real, check = Model().will(Fault.LOST_BEFORE), Model().will(Fault.LOST_BEFORE)
    assert reason(run(real)) is reason(run(check, check_mode=True)) is Reason.UNREACHABLE


# --- which key ------------------------------------------------------------------------------------


def test_retire_of_the_live_key_rotates() -> None:
    model = Model()
    assert run(model, retire=key(0).fingerprint).outcome is Outcome.ROTATED
    assert model.commits == [key(0)]


@pytest.mark.parametrize("check_mode", [False, True])
def test_retire_of_another_key_changes_nothing_and_gives_the_live_key(check_mode: bool) -> None:
    model = Model()
    model.rotate_behind()
    result = run(model, retire=key(0).fingerprint, check_mode=check_mode)
    assert (result.outcome, result.changed, result.live) == (Outcome.ALREADY_ROTATED, False, key(1))
    assert not model.commits and result.verified and result.error is None


def test_a_stale_first_read_is_not_taken_for_a_replaced_key() -> None:
    model = Model(keys=[key(0), key(1)]).will(Fault.STALE)
    result = run(model, retire=key(1).fingerprint)
    assert model.live != key(1) or result.outcome not in (Outcome.ROTATED, Outcome.ALREADY_ROTATED)
    assert len(model.commits) <= 1


def test_a_key_that_the_caller_has_just_proven_is_not_read_again() -> None:
    model = Model()
    result = run(model, live=key(0), retire=key(0).fingerprint)
    assert model.calls == ["rotate", "read", "accepts", "accepts"]
    assert (result.outcome, result.live, result.previous) == (Outcome.ROTATED, key(1), key(0))


def test_a_key_that_was_proven_and_is_replaced_by_now_ends_as_already_rotated() -> None:
    model = Model(keys=[key(0), key(1)])
    result = run(model, live=key(0), retire=key(0).fingerprint)
    assert (result.outcome, result.live, model.commits) == (Outcome.ALREADY_ROTATED, key(1), [])


def test_two_accounts_behind_one_set_of_credentials_are_refused() -> None:
    model = Model().will(
        Fault.NONE, Fault.LOST_BEFORE, Fault.OTHER_ACCOUNT, Fault.LOST_BEFORE, for_ever=Fault.OTHER_ACCOUNT
    )
    result = run(model)
    assert result.outcome is Outcome.UNKNOWN
    assert result.error and result.error.reason is Reason.ACCOUNT_MISMATCH
    assert result.error.what == f"The credentials read two different accounts. {NOT_LEARNT}"
    assert result.live is None


def test_a_key_that_is_not_to_be_retired_is_tried_once_and_kept() -> None:
    model, ledger = Model(), MemoryLedger()
    model.rotate_behind()
    result = run(model, ledger, retire=key(0).fingerprint)
    assert (result.outcome, result.live, result.verified) == (Outcome.ALREADY_ROTATED, key(1), True)
    assert model.calls == ["read", "accepts"]
    assert ledger.key == key(1)
    # Nor is one that has replaced the key of an intent.
    model, ledger = Model(), MemoryLedger(kept=Intent(key(0)))
    model.rotate_behind()
    result = run(model, ledger)
    assert (result.outcome, result.live, result.previous) == (Outcome.ALREADY_ROTATED, key(1), key(0))
    assert model.calls == ["read", "accepts", "accepts"]  # the live key, and the one that was retired


def test_a_stale_read_is_not_taken_for_what_has_replaced_the_key_of_an_intent() -> None:
    model, ledger = Model(keys=[key(99), key(0)]).will(Fault.STALE), MemoryLedger(kept=Intent(key(0), sent=True))
    result = run(model, ledger)
    assert (result.outcome, result.live, result.previous) == (Outcome.ROTATED, key(2), key(0))
    assert model.commits == [key(0)] and key(99) not in model.proven


def test_reads_that_are_stale_for_ever_are_given_up_before_anything_is_sent() -> None:
    model = Model(keys=[key(99), key(0)]).will(for_ever=Fault.STALE)
    result = run(model, retire=key(0).fingerprint)
    assert (result.outcome, result.live, result.previous) == (Outcome.UNCHANGED, None, None)
    assert result.error and (result.error.reason, result.error.what) == (Reason.NEW_KEY_REJECTED, REJECTED)
    assert SETTLE_TIMEOUT - 3 < model.time.now - 1000 < SETTLE_TIMEOUT + 3
    assert "rotate" not in model.calls


REJECTED = "The API rejects the key that it has on record."
NOT_LEARNT = "Whether the key was replaced could not be learnt."


def test_an_intent_that_was_not_carried_out_and_another_key_to_retire_are_told_apart() -> None:
    model, ledger = Model(), MemoryLedger(kept=Intent(key(0)))
    model.rotate_behind()
    result = run(model, ledger, retire=key(1).fingerprint)
    assert (result.outcome, reason(result)) == (Outcome.UNCHANGED, Reason.INVALID_OPTION)
    assert "rotate" not in model.calls


# --- cut short ------------------------------------------------------------------------------------


def test_a_run_that_cannot_read_any_more_says_what_an_earlier_call_has_left() -> None:
    """That it was sent, and nobody knows what became of it."""
    model, ledger = Model().will(Fault.TOKEN_REJECTED), MemoryLedger(kept=Intent(key(0), sent=True))
    result = run(model, ledger)
    assert (result.outcome, result.live, result.previous) == (Outcome.UNKNOWN, None, key(0))
    assert result.error is not None and result.error.reason is Reason.CREDENTIALS_REJECTED
    assert result.error.what == (
        "Reading failed: the session token is refused. Whether the key was replaced could not be learnt."
    )
    assert result.error.advice == (
        f"Run again with retire={key(0).fingerprint}, which cannot rotate twice. multicart_key_info shows the "
        "fingerprint of the live key."
    )


def test_a_run_that_cannot_read_the_new_key_any_more_says_that_the_old_one_is_revoked() -> None:
    intent = Intent(key(0), revoked=True, rotated_at="2026-01-01T00:00:00.000Z")
    model, ledger = Model().will(Fault.TOKEN_REJECTED), MemoryLedger(kept=intent)
    result = run(model, ledger)
    assert (result.outcome, result.live, result.previous) == (Outcome.ALREADY_ROTATED, None, key(0))
    assert (result.old_key_rejected, result.rotated_at) == (True, "2026-01-01T00:00:00.000Z")
    assert result.error is not None and result.error.reason is Reason.NEW_KEY_UNREADABLE
    assert result.error.what == (
        "The key was replaced; the new one cannot be read. Reading failed: the session token is refused."
    )


# --- before anything is sent ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.LOST_BEFORE, Reason.UNREACHABLE),
        (Fault.SERVER_ERROR, Reason.NOT_AN_ENVELOPE),
        (Fault.TOKEN_REJECTED, Reason.CREDENTIALS_REJECTED),
        (Fault.REFUSED, Reason.REFUSED),
        (Fault.MALFORMED, Reason.MALFORMED_KEY),
    ],
)
def test_a_failing_first_read_leaves_the_key_unchanged(fault: Fault, expected: Reason) -> None:
    model = Model().will(fault)
    result = run(model)
    assert (result.outcome, reason(result), result.changed) == (Outcome.UNCHANGED, expected, False)
    assert model.calls == ["read"]


def test_the_intent_is_kept_before_the_request_leaves() -> None:
    ledger = MemoryLedger()

    class Watching(Model):
        def rotate(self, key: Any) -> Any:
            assert ledger.kept == Intent(key, sent=True)
            return super().rotate(key)

    assert run(Watching(), ledger).outcome is Outcome.ROTATED


def test_nothing_is_sent_when_the_intent_cannot_be_kept() -> None:
    model, ledger = Model(), MemoryLedger(full_after=1)
    result = run(model, ledger)
    assert (result.outcome, reason(result)) == (Outcome.UNCHANGED, Reason.RUN_CACHE_UNUSABLE)
    assert model.calls == ["read"]


@pytest.mark.parametrize("saves", range(2, 8))
@pytest.mark.parametrize("fault", [Fault.NONE, Fault.LOST_BEFORE, Fault.LOST_AFTER])
def test_a_disk_that_fills_up_after_sending_is_never_reported_as_unchanged(saves: int, fault: Fault) -> None:
    model = Model().will(Fault.NONE, fault)
    result = run(model, MemoryLedger(full_after=saves))
    assert model.commits == [key(0)] or result.outcome is not Outcome.ROTATED
    if "rotate" in model.calls:
        assert result.outcome is not Outcome.UNCHANGED


@pytest.mark.parametrize("fault", [Fault.NONE, Fault.LOST_AFTER])
def test_a_disk_that_fills_up_after_sending_keeps_no_host_from_the_new_key(fault: Fault) -> None:
    model = Model().will(fault)
    result = run(model, MemoryLedger(full_after=1), live=key(0), retire=key(0).fingerprint, verify=False)
    assert (result.outcome, result.live, reason(result)) == (Outcome.ROTATED, key(1), Reason.RUN_CACHE_UNUSABLE)


# --- the answer is lost ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Fault.SERVER_ERROR_AFTER])
def test_an_answer_lost_after_the_change_is_made_good_by_reading(fault: Fault) -> None:
    model = Model().will(Fault.NONE, fault)
    result = run(model)
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, key(1), None)
    # The new key is tried when it is read, as the API has not said that it accepts the rotation; and not once more.
    assert model.calls == ["read", "rotate", "read", "accepts", "accepts"]
    assert result.verified


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.SERVER_ERROR])
def test_an_answer_lost_before_the_change_is_made_good_by_sending_once_more(fault: Fault) -> None:
    model = Model().will(Fault.NONE, fault)
    result = run(model)
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, key(1), None)
    assert model.calls.count("rotate") == 2
    assert model.commits == [key(0)]


def test_a_request_that_never_left_is_sent_once_more() -> None:
    model = Model().will(Fault.NONE, Fault.NOT_SENT)
    result = run(model)
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, key(1), None)
    assert model.commits == [key(0)]


def test_requests_that_never_left_leave_the_key_unchanged() -> None:
    model = Model().will(Fault.NONE, Fault.NOT_SENT, Fault.NONE, Fault.NOT_SENT)
    result = run(model)
    assert (result.outcome, reason(result)) == (Outcome.UNCHANGED, Reason.UNREACHABLE)
    assert (result.live, result.previous) == (key(0), key(0))
    assert model.calls == ["read", "rotate", "read", "rotate"]
    assert not model.commits


def test_two_lost_answers_with_the_old_key_alive_end_unknown_and_name_the_intent() -> None:
    model = Model().will(Fault.NONE, Fault.LOST_BEFORE, Fault.NONE, Fault.LOST_BEFORE)
    result = run(model)
    assert (result.outcome, result.live, result.previous) == (Outcome.UNKNOWN, None, key(0))
    assert result.error and f"retire={key(0).fingerprint}" in str(result.error)
    assert result.error.what == f"Rotating failed: {Fault.LOST_BEFORE.value}. {NOT_LEARNT}"


def test_a_lost_answer_and_a_read_that_is_stale_for_ever_are_told_as_what_they_are() -> None:
    """Somebody has replaced the old key, most likely this run: the API rejects it, and reads go on to show it."""
    model = Model().will(Fault.NONE, Fault.LOST_AFTER, for_ever=Fault.STALE)
    began = model.time.now
    result = run(model)
    assert (result.outcome, result.live, result.old_key_rejected) == (Outcome.ROTATED, None, True)
    assert result.error and result.error.reason is Reason.NEW_KEY_UNREADABLE
    assert result.error.what == "The key was replaced; the new one cannot be read."
    assert model.time.now - began < SETTLE_TIMEOUT + 3


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Step(outsider=True)])
def test_an_old_key_that_the_api_rejects_once_and_accepts_again_is_never_the_new_one(fault: Fault | Step) -> None:
    class Flapping(Model):
        def accepts(self, key: Any) -> bool:
            return super().accepts(key) or self.calls.count("accepts") > 1

    model = Flapping().will(Fault.NONE, fault, for_ever=Fault.STALE)
    assert run(model, verify=False).live is None


def test_a_request_that_is_sent_twice_is_told_with_the_time_of_the_first() -> None:
    model = Model().will(Fault.NONE, Fault.LOST_BEFORE)
    clock = replace(model.time.clock, utc=lambda: f"after {model.calls.count('rotate')} requests")
    result = rotate(model, MemoryLedger(), Request(), clock)
    assert (result.rotated_at, model.calls.count("rotate")) == ("after 0 requests", 2)


def test_what_cannot_be_kept_after_an_accepted_rotation_is_told_and_the_rotation_all_the_same() -> None:
    class Full(MemoryLedger):
        def record(self, intent: Intent) -> None:
            if intent.revoked:
                raise MulticartError(Reason.RUN_CACHE_UNUSABLE, "The disk is full.")
            super().record(intent)

    result = run(Model(), Full())
    assert (result.outcome, result.live, reason(result)) == (Outcome.ROTATED, key(1), Reason.RUN_CACHE_UNUSABLE)
    # What is worse is told before that.
    result = run(Model().will(Fault.NONE, Fault.NONE, for_ever=Fault.STALE), Full())
    assert (result.outcome, result.live, reason(result)) == (Outcome.ROTATED, None, Reason.NEW_KEY_UNREADABLE)


@pytest.mark.parametrize(("told", "kept"), [("2026-06-20T03:00:00Z", "2026-06-20T03:00:00Z"), (7, None), (None, None)])
def test_the_result_tells_when_the_account_was_updated_if_the_api_does(told: Any, kept: str | None) -> None:
    class Telling(Model):
        def read(self) -> Account:
            account = super().read()
            return Account(account.id, account.key, {"updated_at": told if self.commits else "before"})

    assert run(Telling()).updated_at == kept


def test_after_a_rotation_the_run_knows_what_came_of_its_intent() -> None:
    ledger = MemoryLedger()
    result = run(Model(), ledger)
    expected = Intent(
        key(0), False, accepted=True, revoked=True, done=True, rotated_at=result.rotated_at, verified=True
    )
    assert ledger.kept == expected


def test_a_lost_answer_and_stale_reads_are_settled_by_sending_once_more() -> None:
    model = Model().will(Fault.NONE, Fault.LOST_AFTER, Fault.STALE, Fault.NONE, Fault.STALE, Fault.STALE)
    result = run(model)
    assert (result.outcome, result.live) == (Outcome.ROTATED, key(1))
    assert model.calls.count("rotate") == 2 and model.commits == [key(0)]


def test_a_request_that_is_carried_out_late_is_not_carried_out_twice() -> None:
    model = Model().will(Fault.NONE, Fault.LATE)
    result = run(model)
    assert (result.outcome, result.live) == (Outcome.ROTATED, key(1))
    assert model.commits == [key(0)]


# --- the answer came ------------------------------------------------------------------------------


def test_a_definite_refusal_leaves_the_key_unchanged() -> None:
    model = Model().will(Fault.NONE, Fault.REFUSED)
    result = run(model)
    assert (result.outcome, reason(result)) == (Outcome.UNCHANGED, Reason.REFUSED)
    assert (result.live, result.previous, result.changed) == (key(0), key(0), False)
    assert model.calls == ["read", "rotate", "read", "accepts"]


def test_a_refusal_of_which_nobody_knows_whether_it_was_for_the_key_names_what_was_asked_last() -> None:
    model = Model().will(Fault.NONE, Fault.REFUSED, Fault.NONE, for_ever=Fault.LOST_BEFORE)
    result = run(model)
    assert (result.outcome, reason(result)) == (Outcome.UNKNOWN, Reason.UNREACHABLE)
    assert result.error and result.error.what == f"Asking failed: {Fault.LOST_BEFORE.value}. {NOT_LEARNT}"


def test_a_read_that_fails_is_the_cause_also_if_the_key_cannot_be_tried_after_it() -> None:
    model = Model().will(Fault.NONE, Fault.REFUSED, Fault.MALFORMED, for_ever=Fault.LOST_BEFORE)
    assert reason(run(model)) is Reason.MALFORMED_KEY


def test_stale_reads_for_a_while_are_waited_for() -> None:
    model = Model().will(Fault.NONE, Fault.NONE, *[Fault.STALE] * 5)
    result = run(model)
    assert (result.outcome, result.live) == (Outcome.ROTATED, key(1))


@pytest.mark.parametrize("settle_timeout", [0.5, 30.0, 600.0])
def test_stale_reads_for_ever_end_after_the_settle_timeout_with_the_old_key_dead(settle_timeout: float) -> None:
    model = Model().will(Fault.NONE, Fault.NONE, for_ever=Fault.STALE)
    start = model.time.now
    result = run(model, settle_timeout=settle_timeout)
    assert (result.outcome, result.changed, reason(result)) == (Outcome.ROTATED, True, Reason.NEW_KEY_UNREADABLE)
    assert result.old_key_rejected and result.live is None and result.rotated_at
    assert settle_timeout - 2 <= model.time.now - start <= settle_timeout + 15


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.SERVER_ERROR, Fault.MALFORMED, Fault.REFUSED])
def test_failing_reads_after_an_accepted_rotation_report_it_and_the_cause(fault: Fault) -> None:
    model = Model().will(Fault.NONE, Fault.NONE, *[fault] * 3)
    result = run(model)
    assert (result.outcome, result.error, result.live) == (Outcome.ROTATED, None, key(1))


def test_a_token_that_dies_with_the_rotation_is_reported_soon() -> None:
    model = Model().will(Fault.NONE, Fault.NONE, for_ever=Fault.TOKEN_REJECTED)
    start = model.time.now
    result = run(model)
    assert (result.outcome, reason(result)) == (Outcome.ROTATED, Reason.NEW_KEY_UNREADABLE)
    assert result.old_key_rejected
    assert model.time.now - start < 5


@pytest.mark.parametrize("asked", [Fault.NONE, Fault.LOST_AFTER])
@pytest.mark.parametrize("lagging", [0, 6])
@pytest.mark.parametrize("times", [1, 3])
def test_a_token_that_is_refused_for_a_moment_after_the_rotation_locks_nobody_out(
    asked: Fault, lagging: int, times: int
) -> None:
    """Nor one that is refused again, when reads have lagged behind for longer than a refusal is borne."""
    refused = [Fault.TOKEN_REJECTED] * times
    model = Model().will(Fault.NONE, asked, *refused, *[Fault.STALE] * lagging, *refused * bool(lagging))
    result = run(model)
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, key(1), None)


def test_a_claimed_rotation_without_a_change_is_no_rotation() -> None:
    model = Model().will(Fault.NONE, Fault.CLAIMED)
    result = run(model)
    assert (result.outcome, reason(result), result.changed) == (Outcome.UNKNOWN, Reason.KEY_DID_NOT_CHANGE, False)
    assert result.error and result.error.what == f"{STILL_WORKS} {NOT_LEARNT}"
    assert not model.commits


STILL_WORKS = "The API accepted the rotation, but the old key still works."


def test_a_claimed_rotation_with_unreadable_account_and_live_old_key_is_unknown() -> None:
    model = Model().will(Fault.NONE, Fault.CLAIMED, Fault.TOKEN_REJECTED)
    result = run(model)
    assert result.outcome is Outcome.UNKNOWN


SLOW = [Fault.NONE, Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.NOT_SENT, Fault.STALE, Fault.TOKEN_REJECTED]


@pytest.mark.parametrize("for_ever", SLOW)
@pytest.mark.parametrize("faults", [*itertools.product(SLOW, repeat=2)])
def test_armed_hosts_outlast_the_slowest_rotation(faults: tuple[Fault, ...], for_ever: Fault) -> None:
    """Every answer comes at the last moment, and all the patience with limits of the rate is used up besides."""
    timeout = LONGEST_TIMEOUT + GRACE

    class Slow(Model):
        def _call(self, name: str) -> Fault:
            self.time.now += timeout if name == "rotate" else 2 * timeout  # what changes nothing is asked again
            return super()._call(name)

    model = Slow().will(*faults, for_ever=for_ever)
    began = model.time.now
    run(model, live=key(0), retire=key(0).fingerprint, verify=False)
    assert model.time.now - began + MOST_PUT_OFF < ARMED


# --- somebody else --------------------------------------------------------------------------------


def test_somebody_faster_ends_as_already_rotated_with_the_live_key() -> None:
    model = Model().will(Fault.NONE, Step(outsider=True))
    result = run(model)
    assert (result.outcome, result.changed, result.error) == (Outcome.ALREADY_ROTATED, False, None)
    assert (result.live, result.previous, result.rotated_at) == (key(1), key(0), None)
    assert not model.commits and result.verified


def test_somebody_faster_and_stale_reads_end_as_already_rotated() -> None:
    model = Model().will(Fault.NONE, Step(outsider=True), Fault.STALE, Fault.NONE, Fault.STALE)
    result = run(model)
    assert (result.outcome, result.live) == (Outcome.ALREADY_ROTATED, key(1))


def test_somebody_faster_while_the_request_never_left() -> None:
    model = Model().will(Fault.NONE, Fault.NOT_SENT, Step(outsider=True))
    result = run(model)
    assert (result.outcome, result.live, result.changed) == (Outcome.ALREADY_ROTATED, key(1), False)


def test_somebody_who_rotates_before_each_proof_is_not_followed_for_ever() -> None:
    model = Model().will(Fault.NONE, Fault.NONE, Fault.NONE, *[Step(outsider=True), Fault.NONE] * 99)
    result = run(model, settle_timeout=1.0)
    assert (result.outcome, reason(result)) == (Outcome.ROTATED, Reason.NEW_KEY_REJECTED)
    assert model.calls == ["read", "rotate", "read", *["accepts", "read"] * 3, "accepts"]


def test_t17_a_proof_that_fails_for_a_read_that_lagged_behind_is_repeated_until_it_does_not() -> None:
    """T17: a key that nobody knows as a former one was read back; what is live now is reported."""
    model = Model(keys=[key(98), key(99), key(0)])
    lagging = iter([False, True, True, True, False])

    def read() -> Account:
        account = Model.read(model)
        return Account("7", key(98)) if next(lagging, False) else account

    model.read = read  # type: ignore[method-assign]
    result = run(model)
    assert (result.outcome, result.error, result.live, result.verified) == (Outcome.ROTATED, None, model.live, True)
    assert key(98) not in model.proven


def test_somebody_who_rotates_before_the_proof_makes_the_newest_key_the_result() -> None:
    model = Model().will(Fault.NONE, Fault.NONE, Fault.NONE, Step(outsider=True))
    result = run(model)
    assert (result.outcome, result.live, result.verified) == (Outcome.ROTATED, key(2), True)


# --- the proofs -----------------------------------------------------------------------------------


class Lenient(Model):
    """A service that lets the wrong keys in or the right one not."""

    lets_old_in = 0
    refuses_new = False

    def accepts(self, key: Any) -> bool:
        if key != self.live and self.lets_old_in:
            self.calls.append("accepts")
            self.lets_old_in -= 1
            return True
        return super().accepts(key) and not self.refuses_new


def test_an_old_key_that_lives_on_for_a_while_is_waited_for() -> None:
    model = Lenient()
    model.lets_old_in = 3
    result = run(model)
    assert (result.outcome, result.error, result.old_key_rejected) == (Outcome.ROTATED, None, True)


def test_an_old_key_that_lives_on_is_a_failure() -> None:
    model = Lenient()
    model.lets_old_in = 10**6
    result = run(model)
    assert (result.outcome, reason(result)) == (Outcome.ROTATED, Reason.OLD_KEY_STILL_VALID)
    assert result.error and result.error.what == "The key was replaced, but the old one still works."
    assert result.old_key_rejected is False and not result.verified


def test_a_new_key_that_is_not_let_in_is_a_failure() -> None:
    model = Lenient()
    model.refuses_new = True
    result = run(model)
    assert (result.outcome, reason(result), result.verified) == (Outcome.ROTATED, Reason.NEW_KEY_REJECTED, False)


def test_a_proof_that_could_not_be_made_is_a_failure_after_the_change() -> None:
    model = Model().will(Fault.NONE, Fault.NONE, Fault.NONE, Fault.LOST_BEFORE)
    result = run(model)
    assert (result.outcome, reason(result), result.changed) == (Outcome.ROTATED, Reason.UNREACHABLE, True)


class Lagging(Model):
    """A service whose next reads come from a replica that is two rotations behind."""

    lags = 0

    def read(self) -> Account:
        if self.calls.count("rotate") and self.lags:
            self.calls.append("read")
            self.lags -= 1
            return Account("7", self.keys[0])
        return super().read()


@pytest.mark.parametrize("lags", [1, 3])
def test_t17_a_former_key_that_a_replica_gives_back_is_never_taken_for_the_new_one(lags: int) -> None:
    """T17: the API has accepted the rotation, and the first read that follows is two rotations old."""
    model = Lagging(keys=[key(0), key(1)])
    model.lags = lags
    result = run(model, former=frozenset({key(0).fingerprint}), verify=False)
    assert (result.outcome, result.live, result.previous) == (Outcome.ROTATED, key(2), key(1))


def test_a_former_key_that_is_read_for_ever_is_told_as_unreadable() -> None:
    model = Lagging(keys=[key(0), key(1)])
    model.lags = 10**6
    result = run(model, former=frozenset({key(0).fingerprint}), verify=False)
    assert (result.outcome, result.live, reason(result)) == (Outcome.ROTATED, None, Reason.NEW_KEY_UNREADABLE)


def test_x6_what_was_proven_of_another_key_proves_nothing() -> None:
    """X6: what the run knows of one key that it has retired is not taken for another's."""
    model, ledger = Model(), MemoryLedger()
    assert run(model, ledger).verified
    model.calls.clear()
    result = run(model, ledger, retire=key(7).fingerprint)
    assert (result.outcome, result.previous, result.verified) == (Outcome.ALREADY_ROTATED, None, True)
    assert result.old_key_rejected is None
    assert "accepts" in model.calls


def test_what_was_proven_without_the_old_key_does_not_count_for_it() -> None:
    model, ledger = Model(), MemoryLedger()
    run(model, ledger, verify=False)
    assert run(model, ledger, retire=key(7).fingerprint).verified
    model.calls.clear()
    result = run(model, ledger)
    assert (model.calls, result.old_key_rejected) == (["accepts", "accepts"], True)


# --- once per run ---------------------------------------------------------------------------------


def test_a_second_call_of_the_run_makes_no_call_at_all() -> None:
    model, ledger = Model(), MemoryLedger()
    first = run(model, ledger)
    model.calls.clear()
    second = run(model, ledger)
    assert model.calls == []
    assert (second.outcome, second.changed, second.live) == (Outcome.ALREADY_ROTATED, False, key(1))
    assert (second.previous, second.rotated_at) == (key(0), first.rotated_at)
    assert second.verified and second.old_key_rejected


def test_a_second_call_of_the_run_makes_up_for_proofs_that_the_first_did_not_ask_for() -> None:
    model, ledger = Model(), MemoryLedger()
    run(model, ledger, verify=False)
    model.calls.clear()
    assert run(model, ledger).verified
    assert model.calls == ["accepts", "accepts"]
    model.calls.clear()
    assert run(model, ledger).verified
    assert model.calls == []


def test_a_run_that_has_replaced_a_key_says_so_when_the_next_one_is_named_and_does_not_call_it_rotated() -> None:
    model, ledger = Model(), MemoryLedger()
    run(model, ledger)
    result = run(model, ledger, retire=key(1).fingerprint)
    assert result.error and result.error.reason is Reason.INVALID_OPTION
    assert "retire" in result.error.what and "a run of its own" in result.error.advice
    assert result.outcome is Outcome.UNCHANGED
    for other in (key(0), key(7)):
        assert run(model, ledger, retire=other.fingerprint).outcome is Outcome.ALREADY_ROTATED
    assert model.commits == [key(0)]


def test_a_refused_intent_is_taken_up_again_by_the_next_call() -> None:
    model, ledger = Model().will(Fault.NONE, Fault.REFUSED), MemoryLedger()
    assert run(model, ledger).outcome is Outcome.UNCHANGED
    result = run(model, ledger)
    assert (result.outcome, result.live, result.error) == (Outcome.ROTATED, key(1), None)
    assert model.commits == [key(0)]


def test_an_unknown_intent_is_settled_by_the_next_call() -> None:
    model, ledger = Model().will(Fault.NONE, Fault.LOST_AFTER, for_ever=Fault.LOST_BEFORE), MemoryLedger()
    assert run(model, ledger).outcome is Outcome.UNKNOWN
    model.will()
    result = run(model, ledger)
    assert (result.outcome, result.live) == (Outcome.ROTATED, key(1))
    assert model.commits == [key(0)]


def test_a_next_call_that_cannot_read_does_not_call_an_unknown_intent_unchanged() -> None:
    model, ledger = Model().will(Fault.NONE, Fault.LOST_AFTER, for_ever=Fault.LOST_BEFORE), MemoryLedger()
    run(model, ledger)
    result = run(model, ledger)
    assert (result.outcome, reason(result)) == (Outcome.UNKNOWN, Reason.UNREACHABLE)
    assert result.error and f"retire={key(0).fingerprint}" in str(result.error)


def test_a_next_call_that_cannot_send_does_not_call_an_unknown_intent_unchanged() -> None:
    model, ledger = Model().will(Fault.NONE, Fault.LOST_AFTER, for_ever=Fault.LOST_BEFORE), MemoryLedger()
    run(model, ledger)
    model.will(Fault.STALE, Fault.NOT_SENT, Fault.STALE, Fault.NOT_SENT, for_ever=Fault.LOST_BEFORE)
    assert run(model, ledger).outcome is not Outcome.UNCHANGED


def test_a_next_call_that_cannot_read_does_not_call_a_dead_key_unchanged() -> None:
    model, ledger = Model().will(Fault.NONE, Fault.NONE, for_ever=Fault.STALE), MemoryLedger()
    assert run(model, ledger).outcome is Outcome.ROTATED
    model.will(for_ever=Fault.LOST_BEFORE)
    result = run(model, ledger)
    assert (result.outcome, reason(result)) == (Outcome.ALREADY_ROTATED, Reason.NEW_KEY_UNREADABLE)
    assert result.old_key_rejected and result.rotated_at
    model.will()
    result = run(model, ledger)
    assert (result.outcome, result.live, result.error) == (Outcome.ALREADY_ROTATED, key(1), None)
    assert model.commits == [key(0)]


def test_check_mode_leaves_no_intent_for_the_run() -> None:
    model, ledger = Model(), MemoryLedger()
    run(model, ledger, check_mode=True)
    assert ledger.kept is None
    assert run(model, ledger).outcome is Outcome.ROTATED


def test_another_run_with_the_fingerprint_takes_up_the_intent_of_a_dead_one() -> None:
    model = Model().will(Fault.NONE, Fault.LOST_AFTER, for_ever=Fault.LOST_BEFORE)
    run(model)
    model.will()
    result = run(model, retire=key(0).fingerprint)
    assert (result.outcome, result.live, result.error) == (Outcome.ALREADY_ROTATED, key(1), None)
    assert model.commits == [key(0)]


# --- a service that lets nothing in ---------------------------------------------------------------


@pytest.mark.parametrize("why", [Reason.CREDENTIALS_REJECTED, Reason.REFUSED])
@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.NOT_SENT, Fault.REFUSED])
def test_a_service_that_lets_nothing_in_says_nothing_about_the_key(why: Reason, fault: Fault) -> None:
    class Closing(Model):
        def rotate(self, key: Any) -> Any:
            answer = super().rotate(key)
            self.locked_out = MulticartError(why, "The account is suspended.")
            return answer

    model = Closing().will(Fault.NONE, fault)
    result = run(model)
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None


# --- whatever happens -----------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls(), st.booleans())
def test_whatever_fails_the_result_is_true_and_the_key_is_replaced_at_most_once(
    scripted: list[tuple[list[Step], Fault, dict[str, Any]]], rotated_lately: bool
) -> None:
    model, ledger = Model(keys=[key(99), key(0)] if rotated_lately else [key(0)]), MemoryLedger()
    assume(not lies_twice(model, scripted))
    retire = model.live
    by_this_run = 0
    for script, after, options in scripted:
        same_run = options["same_run"]
        meets(model, script, after, options)
        outsiders, commits = model.outsiders, len(model.commits)
        result = rotate(
            model,
            ledger if same_run else MemoryLedger(),
            Request(
                retire.fingerprint,
                live=retire if options["proven"] and model.live == retire else None,
                settle_timeout=options["settle_timeout"],
                verify=options["verify"],
            ),
            model.time.clock,
        )
        model.finish()
        commits = len(model.commits) - commits
        by_this_run += commits if same_run else 0
        assert model.commits in ([], [retire])
        assert result.error is not None or result.outcome in (Outcome.ROTATED, Outcome.ALREADY_ROTATED)
        assert result.previous in (None, retire)
        if result.outcome in (Outcome.ROTATED, Outcome.ALREADY_ROTATED):
            assert model.live != retire
        if result.outcome is Outcome.ROTATED:
            assert model.commits or model.outsiders
        if commits:
            assert result.outcome in (Outcome.ROTATED, Outcome.UNKNOWN)
        if result.outcome is Outcome.UNCHANGED:
            assert not (by_this_run if same_run else commits)
            assert model.outsiders or model.commits or model.live == retire
        if result.error is None:
            assert result.live is not None
            assert result.live != retire
            if options["verify"]:
                assert result.verified and result.live in model.proven
                assert result.old_key_rejected or result.previous is None
                if model.outsiders == outsiders and not same_run:
                    assert result.live == model.live
    # Faults end: running it again is all that is ever needed.
    model.for_ever = Step()
    result = run(model, ledger, retire=retire.fingerprint)
    assert result.error is None
    assert result.verified
    assert model.commits in ([], [retire])
    assert model.live != retire


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_whatever_fails_a_run_that_names_no_key_retires_one(
    scripted: list[tuple[list[Step], Fault, dict[str, Any]]], read_back: list[bool]
) -> None:
    model, ledger = Model(), MemoryLedger()
    assume(not lies_twice(model, scripted))
    for (script, after, options), reads in zip(scripted, read_back, strict=False):
        meets(model, script, after, options)
        settle = options["settle_timeout"]
        if reads:
            result = rotate(model, ledger, Request(settle_timeout=settle, verify=options["verify"]), model.time.clock)
        else:
            result = revoke(model, ledger, Revocation(key(0).fingerprint, None, settle), model.time.clock)
        model.finish()
        assert len(model.commits) <= 1
        if result.outcome is Outcome.ROTATED:
            assert model.commits or model.outsiders
        if result.error is None:
            assert result.previous is None or model.live != result.previous
        if ledger.live() is not None:
            assert ledger.live() in model.proven or model.commits or model.outsiders


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=12), st.sampled_from([Fault.NONE, Fault.STALE, Fault.LOST_BEFORE]))
def test_whatever_fails_only_a_key_that_is_let_in_is_read_as_live(script: list[Step], after: Fault) -> None:
    model = Model(keys=[key(99), key(0)])
    model.will(*script, for_ever=after)
    try:
        account = read_live(model, model.time.clock)
    except MulticartError:
        assert script or after is not Fault.NONE
    else:
        assert account.key == model.proven[-1]


def test_a_read_that_lags_for_ever_is_given_up() -> None:
    model = Model(keys=[key(0), key(1)]).will(for_ever=Fault.STALE)
    started = model.time.now
    with pytest.raises(MulticartError) as raised:
        read_live(model, model.time.clock)
    assert raised.value.reason is Reason.NEW_KEY_REJECTED
    assert model.time.now - started > SETTLE_TIMEOUT - 3


def test_a_cache_that_is_full_before_the_request_keeps_it_from_being_sent() -> None:
    model = Model()
    result = run(model, MemoryLedger(full_after=0))
    assert (result.outcome, reason(result), model.calls) == (Outcome.UNCHANGED, Reason.RUN_CACHE_UNUSABLE, ["read"])


def test_after_the_request_a_key_of_another_account_is_no_new_key_whatever_else_the_cache_can_do() -> None:
    class Strict(MemoryLedger):
        def learn(self, account: Account) -> None:
            if self.kept is not None and self.kept.sent:
                raise MulticartError(Reason.ACCOUNT_MISMATCH, "Another account.")
            super().learn(account)

    model = Model()
    result = run(model, Strict())
    assert (result.live, reason(result), model.commits) == (None, Reason.NEW_KEY_UNREADABLE, [key(0)])


# --- moments --------------------------------------------------------------------------------------


def test_the_time_that_results_tell_is_in_utc() -> None:
    assert Clock().utc()[-1] == "Z"


@pytest.mark.parametrize("seconds", [0.05, 0.1, 3.1, 30.0])
def test_pauses_grow_to_two_seconds_and_end_in_time(seconds: float) -> None:
    slept: list[float] = []

    def sleep(pause: float) -> None:
        slept.append(pause)

    clock = Clock(lambda: 7.0 + sum(slept), sleep)
    assert all(clock.pauses(seconds))
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 99]
    fits = next(number for number in range(99) if sum(expected[: number + 1]) > seconds + 1e-9)
    assert slept == pytest.approx(expected[:fits])


def test_a_second_key_to_retire_is_refused_in_a_sentence() -> None:
    error = another_was_replaced()
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == "The option retire names the live key, but this run has replaced another key already."
    assert error.advice == "Retire it in a run of its own."
