# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The rotation: the order of things and every decision, over an API and a ledger. No HTTP, no Ansible, no I/O.

An *intent* is to retire one key. The request to rotate is authenticated by that very key, so the API itself
refuses whatever comes second: the same request may be sent again after a lost answer, and a lost race ends with the
live key in hand.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account, Api, RotationAnswer, Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_now

SETTLE_TIMEOUT = 30.0
"""Seconds in which reads become as new as what was done before; nobody documents how long that takes."""

REFUSED_FOR = 3.0
"""Seconds for which credentials that are refused are tried again: without them nobody gets the new key."""


class Outcome(str, enum.Enum):
    """How a rotation ended."""

    ROTATED = "rotated"
    ALREADY_ROTATED = "already_rotated"
    WOULD_ROTATE = "would_rotate"
    UNCHANGED = "unchanged"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Request:
    """What the caller wants.

    :ivar retire: the key to retire, by fingerprint; None: whichever is live.
    :ivar live: the live key, as the caller has just read and verified it; None: it has to be read.
    :ivar former: fingerprints of keys that were retired before: a read that returns one of them lags behind.
    :ivar settle_timeout: seconds in which a new key must become readable, and the old one be rejected.
    :ivar verify: verify that the new key works and the old one does not.
    :ivar check_mode: read and decide, but do not rotate.
    """

    retire: str | None = None
    live: ApiKey | None = None
    former: frozenset[str] = frozenset()
    settle_timeout: float = SETTLE_TIMEOUT
    verify: bool = True
    check_mode: bool = False


@dataclass
class Result:
    """How it ended, and everything worth telling; holds keys, so it is shown only through its fields' masks.

    :ivar live: the live key, where it is known.
    :ivar previous: the key that was to be retired, where it is known.
    :ivar verified: the live key was seen to be accepted, and the previous one, if known, to be rejected.
    :ivar old_key_rejected: the API rejected the previous key; None where that was not tried.
    :ivar rotated_at: when this run sent the request that replaced the key, UTC, ISO 8601: the old key died right after.
    :ivar updated_at: of the account, as it was read last.
    :ivar error: why it failed; None: it did not.
    """

    outcome: Outcome
    live: ApiKey | None = None
    previous: ApiKey | None = None
    verified: bool = False
    old_key_rejected: bool | None = None
    rotated_at: str | None = None
    updated_at: str | None = None
    error: MulticartError | None = None

    @property
    def changed(self) -> bool:
        """Whether this call replaced the key, or would."""
        return self.outcome in (Outcome.ROTATED, Outcome.WOULD_ROTATE)


@dataclass
class Intent:
    """The intent of one account in this run.

    :ivar retire: the key to retire.
    :ivar sent: a request left and was not definitely refused.
    :ivar accepted: the API has accepted one.
    :ivar revoked: the API rejects the key.
    :ivar done: the key that replaced it is known.
    :ivar rotated_at: when this run sent the request that replaced it, UTC, ISO 8601.
    :ivar verified: the verification succeeded.
    """

    retire: ApiKey
    sent: bool = False
    accepted: bool = False
    revoked: bool = False
    done: bool = False
    rotated_at: str | None = None
    verified: bool = False


class Ledger(Protocol):
    """What this run knows of the account; it outlives the call but not the run."""

    def live(self) -> ApiKey | None:
        """Return the live key as it was last known to be accepted."""

    def keep_live(self, key: ApiKey) -> None:
        """Keep the live key: the API accepts it, or has just made it."""

    def learn(self, account: Account) -> None:
        """Keep which account was just read; its key may be an old one, or newer than the one that was kept.

        :raises MulticartError: ``account_mismatch``: in this run, these credentials have read another one.
        """

    def intent(self) -> Intent | None:
        """Return the intent of this run."""

    def record(self, intent: Intent) -> None:
        """Keep the intent; it must last before this returns."""


@dataclass(frozen=True)
class Clock:
    """Time, replaceable in tests."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    utc: Callable[[], str] = iso_now

    def pauses(self, seconds: float) -> Iterator[bool]:
        """Sleep longer and longer at each step, until so many seconds have passed."""
        pause, deadline = 0.1, self.monotonic() + seconds
        while self.monotonic() + pause <= deadline:
            self.sleep(pause)
            yield True
            pause = min(pause * 2, 2.0)


def read_live(api: Api, clock: Clock | None = None) -> Account:
    """Read the account until the API accepts the key: a read may be older than the live key.

    A revoked key that is taken for live would be written over the live one.

    :raises MulticartError: ``new_key_rejected``, or why the account could not be read or the key not be tried.
    """
    clock = clock or Clock()
    pauses = clock.pauses(SETTLE_TIMEOUT)
    while True:
        account = api.read()
        if api.accepts(account.key):
            return account
        if not next(pauses, None):
            raise key_rejected()


def rotate(api: Api, ledger: Ledger, request: Request, clock: Clock | None = None) -> Result:
    """Replace the key once for one intent, or say truthfully what is the case instead. Never raises for a failure."""
    return _Rotation(api, ledger, request, clock or Clock()).run()


@dataclass
class _Rotation:
    _api: Api
    _ledger: Ledger
    _request: Request
    _clock: Clock
    _account_id: str | None = None
    _read_error: MulticartError | None = None
    _intent: Intent | None = None
    _accepted: bool = False
    _sent_at: str | None = None
    _accepted_key: ApiKey | None = None
    _updated_at: str | None = None

    def run(self) -> Result:
        try:
            result = self._before_anything_is_sent()
            if isinstance(result, Intent):
                result = self._carry_out(result)
        except MulticartError as error:
            return self._cut_short(error)
        return self._verified(result) if self._request.verify and result.error is None else result

    def _cut_short(self, error: MulticartError) -> Result:
        """Nothing more can be learnt now; say what this or an earlier call has left of the intent."""
        intent = self._intent
        if intent is None or not (intent.sent or intent.revoked):
            return Result(Outcome.UNCHANGED, error=error)
        if not intent.revoked:
            return Result(Outcome.UNKNOWN, None, intent.retire, error=_unknown(intent, error))
        self._read_error = error
        return Result(
            Outcome.ALREADY_ROTATED,
            None,
            intent.retire,
            old_key_rejected=True,
            rotated_at=intent.rotated_at,
            error=self._unreadable(),
        )

    def _before_anything_is_sent(self) -> Result | Intent:
        """Return the intent that is to be carried out, or the result where there is nothing to send."""
        intent, known = self._intent_of_run(), self._ledger.live()
        if intent is not None and intent.done and known is not None:
            self._refuse_another(intent, known)
            if self._request.retire not in (None, intent.retire.fingerprint):
                return Result(Outcome.ALREADY_ROTATED, known)
            return Result(Outcome.ALREADY_ROTATED, known, intent.retire, rotated_at=intent.rotated_at)
        live = self._request.live or self._read()
        # Another credential of the same account may have recorded the intent; the account is known only now.
        intent = self._intent_of_run()
        if not self._is_to_be_retired(live, intent):
            live = self._confirmed(live, intent)
        if intent is not None and intent.retire != live:
            self._refuse_another(intent, live)
            return self._replaced(intent, live, ours=intent.sent)
        if intent is None and self._request.retire not in (None, live.fingerprint):
            return Result(Outcome.ALREADY_ROTATED, live)
        if self._request.check_mode:
            return Result(Outcome.WOULD_ROTATE, previous=live)
        return intent or Intent(live)

    def _intent_of_run(self) -> Intent | None:
        self._intent = self._ledger.intent()
        return self._intent

    def _refuse_another(self, intent: Intent, live: ApiKey) -> None:
        if live.fingerprint == self._request.retire != intent.retire.fingerprint:
            self._intent = None  # which is not the one that was asked for
            raise another_was_replaced()

    def _is_to_be_retired(self, key: ApiKey, intent: Intent | None) -> bool:
        return intent.retire == key if intent else self._request.retire in (None, key.fingerprint)

    def _confirmed(self, key: ApiKey, intent: Intent | None) -> ApiKey:
        """Read until the key is the one to retire, or the API accepts it: a read may be older than that one."""
        pauses = self._pauses()
        while not self._is_to_be_retired(key, intent) and not self._api.accepts(key):
            if not next(pauses, None):
                raise key_rejected()
            key = self._read()
        if not self._is_to_be_retired(key, intent):
            self._accepted_key = key
            self._ledger.keep_live(key)
        return key

    def _carry_out(self, intent: Intent) -> Result:
        """Ask for the rotation, and find out what became of the key."""
        self._intent = intent
        sent_before = intent.sent
        answers, new = self._ask(intent)
        verdicts = {answer.verdict for answer in answers}
        ours = sent_before or not verdicts.isdisjoint({Verdict.ACCEPTED, Verdict.UNCLEAR})
        revoked: bool | None = True if new is not None else None
        if new is None and verdicts != {Verdict.NOT_SENT}:
            new, revoked = self._fate(intent, ours)
        if revoked:
            return self._replaced(intent, new, ours)
        intent.sent = ours
        never_left = not sent_before and verdicts == {Verdict.NOT_SENT}
        error = answers[-1].error
        if never_left or (revoked is False and not ours):
            return self._remembered(intent, Result(Outcome.UNCHANGED, intent.retire, intent.retire, error=error))
        cause = (
            self._read_error
            or error
            or MulticartError(Reason.KEY_DID_NOT_CHANGE, "The API accepted the rotation, but the old key still works.")
        )
        error = _unknown(intent, cause)
        return self._remembered(intent, Result(Outcome.UNKNOWN, None, intent.retire, error=error))

    def _ask(self, intent: Intent) -> tuple[list[RotationAnswer], ApiKey | None]:
        """Send the request, once more if its answer was lost; return the answers, and the new key if one was seen."""
        answer = self._send(intent)
        if answer.verdict not in (Verdict.UNCLEAR, Verdict.NOT_SENT):
            return [answer], None
        new = self._look(intent.retire)
        return ([answer], new) if new is not None else ([answer, self._send(intent)], None)

    def _fate(self, intent: Intent, ours: bool) -> tuple[ApiKey | None, bool | None]:
        """Return the key that replaced the old one, if it can be read, and whether the old one is revoked, if known."""
        old = intent.retire
        new = self._settled(old) if ours else self._look(old)
        if new is not None:
            return new, True
        alive = self._alive(old)
        if alive is None:
            return None, None
        if alive or intent.accepted:
            return None, not alive
        new = self._look(old) if ours else self._settled(old)
        if new is None and self._read_error is not None:
            # The API may accept nothing at all, so that this says nothing of the old key.
            return None, None
        return new, True

    def _send(self, intent: Intent) -> RotationAnswer:
        self._ledger.record(replace(intent, sent=True))
        intent.sent = True
        self._sent_at = self._sent_at or self._clock.utc()
        answer = self._api.rotate(intent.retire)
        if answer.verdict is Verdict.ACCEPTED:
            self._accepted = intent.accepted = True
        return answer

    def _replaced(self, intent: Intent, new: ApiKey | None, ours: bool) -> Result:
        """The key to retire is not the account's any more; say by whom it was replaced and with what."""
        intent.revoked, intent.done = True, new is not None
        intent.sent = False
        if new is not None:
            self._keep_live(new)
        if ours:
            intent.rotated_at = self._sent_at or self._clock.utc()
        outcome = Outcome.ROTATED if ours else Outcome.ALREADY_ROTATED
        result = Result(outcome, new, intent.retire, rotated_at=intent.rotated_at, updated_at=self._updated_at)
        if new is None:
            result.old_key_rejected = True
            result.error = self._unreadable()
        return self._remembered(intent, result)

    def _unreadable(self) -> MulticartError:
        cause = f" {self._read_error.what}" if self._read_error else ""
        return MulticartError(Reason.NEW_KEY_UNREADABLE, f"The key was replaced; the new one cannot be read.{cause}")

    def _keep_live(self, key: ApiKey) -> None:
        with suppress(MulticartError):  # it is only read again then
            self._ledger.keep_live(key)

    def _remembered(self, intent: Intent, result: Result) -> Result:
        """Keep the intent; a result that is true stays so, should that fail."""
        try:
            self._ledger.record(intent)
        except MulticartError as error:
            result.error = result.error or error
        return result

    def _read(self) -> ApiKey:
        account = self._api.read()
        if self._account_id not in (None, account.id):
            raise account_mismatch()
        try:
            self._ledger.learn(account)
        except MulticartError as error:
            # Once the request was sent, the key is worth more than what this run can keep of it.
            if error.reason is not Reason.RUN_CACHE_UNUSABLE or self._intent is None or not self._intent.sent:
                raise
        self._account_id = account.id
        self._updated_at = account.text("updated_at")
        return account.key

    def _look(self, old: ApiKey) -> ApiKey | None:
        """Read once; return the account's key if it is another than the old one.

        Unless the API has accepted the rotation, it must accept that key, too: a read may be older than the old one.
        """
        try:
            key = self._read()
        except MulticartError as error:
            self._read_error = error
            return None
        self._read_error = None
        # A key that was retired before is what a lagging replica returns, whatever the API has accepted meanwhile.
        trusted = self._accepted and key.fingerprint not in self._request.former
        if key == old or not (trusted or self._alive(key)):
            return None
        self._accepted_key = None if trusted else key
        return key

    def _settled(self, old: ApiKey) -> ApiKey | None:
        """Read until the account's key is another than the old one, or ``settle_timeout`` has passed."""
        pauses, patience = self._pauses(), min(REFUSED_FOR, self._request.settle_timeout)
        refused = self._clock.pauses(patience)
        while True:
            new, is_locked_out = self._look(old), self._is_locked_out()
            # A refusal may be a passing fault, more than once; a token that has died with the old key is reported soon.
            if new is not None or not next(refused if is_locked_out else pauses, None):
                return new
            if not is_locked_out:
                refused = self._clock.pauses(patience)

    def _is_locked_out(self) -> bool:
        lasting = (Reason.CREDENTIALS_REJECTED, Reason.ACCOUNT_MISMATCH)
        return self._read_error is not None and self._read_error.reason in lasting

    def _pauses(self) -> Iterator[bool]:
        return self._clock.pauses(self._request.settle_timeout)

    def _alive(self, key: ApiKey) -> bool | None:
        try:
            return self._api.accepts(key)
        except MulticartError as error:
            self._read_error = self._read_error or error
            return None

    def _verified(self, result: Result) -> Result:
        """Verify that the live key is accepted and the previous one rejected."""
        if result.outcome is Outcome.WOULD_ROTATE:
            return result
        intent = self._ledger.intent()
        if intent is not None and intent.verified and intent.retire == result.previous:
            result.verified = result.old_key_rejected = True
            return result
        try:
            self._verify_live(result)
            self._verify_rejected(result)
        except MulticartError as error:
            result.error = error
            return result
        result.verified = True
        if intent is not None and intent.retire == result.previous:
            return self._remembered(replace(intent, verified=True), result)
        return result

    def _verify_live(self, result: Result) -> None:
        if result.live is None or result.live == self._accepted_key:
            return
        pauses = self._pauses()
        while not self._api.accepts(result.live):
            # Somebody may have replaced it meanwhile, or it is an older one, of a read that lagged behind.
            if not next(pauses, None):
                raise key_rejected()
            result.live = self._read()
        self._keep_live(result.live)

    def _verify_rejected(self, result: Result) -> None:
        if result.previous is None or result.old_key_rejected:
            return
        pauses = self._pauses()
        while self._api.accepts(result.previous):
            result.old_key_rejected = False
            if not next(pauses, None):
                raise MulticartError(Reason.OLD_KEY_STILL_VALID, "The key was replaced, but the old one still works.")
        result.old_key_rejected = True


def key_rejected() -> MulticartError:
    """Describe that the account that was read has a key which the API rejects."""
    return MulticartError(Reason.NEW_KEY_REJECTED, "The API rejects the key that it has on record.")


def account_mismatch() -> MulticartError:
    """Describe that a token and a login, or the key, are not of one account: each would get the other's key."""
    return MulticartError(Reason.ACCOUNT_MISMATCH, "The credentials read two different accounts.")


def another_was_replaced() -> MulticartError:
    """Describe that a run which has replaced a key is to replace the next one."""
    return MulticartError(
        Reason.INVALID_OPTION,
        "The option retire names the live key, but this run has replaced another key already.",
        "Retire it in a run of its own.",
    )


def _unknown(intent: Intent, cause: MulticartError) -> MulticartError:
    """Describe that nobody knows what became of the key."""
    return MulticartError(
        cause.reason,
        f"{cause.what} Whether the key was replaced could not be learnt.",
        f"Run again with retire={intent.retire.fingerprint}, which cannot rotate twice. multicart_key_info shows the "
        "fingerprint of the live key.",
    )
