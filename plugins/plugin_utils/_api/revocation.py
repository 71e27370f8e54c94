# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Revoking a key without reading the one that replaces it, for an emergency. No HTTP, no Ansible, no I/O.

An API key alone can ask nothing else of the API, so that a rejection of it says nothing: a client that is blocked is
rejected with a live key, too. Only an accepted request does, or that the API accepts another key of the account. The
key itself needs no read before it, so that a token that has expired keeps nobody from revoking; where one is possible,
it settles what a rejection leaves open.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Api, RotationAnswer, Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import (
    SETTLE_TIMEOUT,
    Clock,
    Intent,
    Ledger,
    Outcome,
    Result,
    another_was_replaced,
    key_rejected,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason


@dataclass(frozen=True)
class Revocation:
    """What the caller wants.

    :ivar retire: the key to revoke, by fingerprint.
    :ivar api_key: that key itself; None: it has to be read.
    :ivar settle_timeout: seconds in which the key must be rejected.
    :ivar check_mode: read and decide, but revoke nothing.
    :ivar can_read: there is a credential besides the key to read with.
    """

    retire: str
    api_key: ApiKey | None = None
    settle_timeout: float = SETTLE_TIMEOUT
    check_mode: bool = False
    can_read: bool = False


def revoke(api: Api, ledger: Ledger, request: Revocation, clock: Clock | None = None) -> Result:
    """Revoke one key, or say truthfully what is the case instead. Never raises for a failure."""
    return _Revocation(api, ledger, request, clock or Clock()).run()


@dataclass
class _Revocation:
    _api: Api
    _ledger: Ledger
    _request: Revocation
    _clock: Clock
    _intent: Intent | None = None

    def run(self) -> Result:
        try:
            return self._revoke()
        except MulticartError as error:
            intent = self._intent
            if intent is None or not (intent.sent or intent.revoked):
                return Result(Outcome.UNCHANGED, error=error)
            if intent.revoked:
                return Result(Outcome.ALREADY_ROTATED, None, intent.retire, rotated_at=intent.rotated_at, error=error)
            return self._kept(intent, self._unknown(intent, error))

    def _revoke(self) -> Result:
        self._intent = self._intent_of_run()
        if self._intent is not None and self._intent.revoked:
            return self._verified(self._intent, Outcome.ALREADY_ROTATED)
        key = self._request.api_key or self._read()
        if self._request.api_key is not None and key.fingerprint != self._request.retire:
            raise MulticartError(Reason.INVALID_OPTION, "The option api_key is not the key that retire names.")
        self._intent = intent = self._intent_of_run()  # the account is known only now
        if key.fingerprint != self._request.retire:
            return self._replaced(intent, key)
        other = self._ledger.intent()
        if intent is None and other is not None and (other.sent or other.revoked):
            raise another_was_replaced()
        if self._request.check_mode:
            return Result(Outcome.WOULD_ROTATE, previous=key)
        self._intent = intent = intent or Intent(key)
        return self._carry_out(intent)

    def _intent_of_run(self) -> Intent | None:
        intent = self._ledger.intent()
        return intent if intent is not None and intent.retire.fingerprint == self._request.retire else None

    def _read(self) -> ApiKey:
        """Read until the key is the one to revoke, or the API accepts it: a read may be older than that one."""
        pauses = self._clock.pauses(self._request.settle_timeout)
        while True:
            account = self._api.read()
            self._ledger.learn(account)
            if account.key.fingerprint == self._request.retire:
                return account.key
            if self._api.accepts(account.key):
                self._ledger.keep_live(account.key)
                return account.key
            if not next(pauses, None):
                raise key_rejected()

    def _replaced(self, intent: Intent | None, live: ApiKey) -> Result:
        """Another key is live."""
        if intent is None:
            return Result(Outcome.ALREADY_ROTATED, live)
        return self._verified(intent, Outcome.ROTATED if intent.sent else Outcome.ALREADY_ROTATED, live)

    def _carry_out(self, intent: Intent) -> Result:
        sent_before = intent.sent
        answers = [self._send(intent)]
        if answers[0].verdict in (Verdict.UNCLEAR, Verdict.NOT_SENT):
            answers.append(self._send(intent))
        verdicts = {answer.verdict for answer in answers}
        refused = "The API has not accepted the request."
        error = answers[-1].error or MulticartError(Reason.KEY_DID_NOT_CHANGE, refused)
        if intent.accepted:
            return self._verified(intent, Outcome.ROTATED)
        ours = sent_before or Verdict.UNCLEAR in verdicts
        unchanged = not ours and (verdicts == {Verdict.NOT_SENT} or self._api.accepts(intent.retire))
        intent.sent = ours
        if unchanged:
            return self._kept(intent, Result(Outcome.UNCHANGED, intent.retire, intent.retire, error=error))
        live = self._read_again() if self._request.can_read else None
        if live is not None and live.fingerprint != intent.retire.fingerprint:
            return self._replaced(intent, live)
        return self._kept(intent, self._unknown(intent, error))

    def _read_again(self) -> ApiKey | None:
        with suppress(MulticartError):  # why the request failed is what counts
            return self._read()
        return None

    def _send(self, intent: Intent) -> RotationAnswer:
        self._ledger.record(replace(intent, sent=True))
        intent.sent = True
        sent_at = self._clock.utc()
        answer = self._api.rotate(intent.retire)
        intent.accepted = intent.accepted or answer.verdict is Verdict.ACCEPTED
        if answer.verdict in (Verdict.ACCEPTED, Verdict.UNCLEAR):
            intent.rotated_at = intent.rotated_at or sent_at
        return answer

    def _verified(self, intent: Intent, outcome: Outcome, live: ApiKey | None = None) -> Result:
        """The key was replaced; verify that the API rejects it."""
        pauses = self._clock.pauses(self._request.settle_timeout)
        while self._api.accepts(intent.retire):
            if next(pauses, None):
                continue
            if live is None and not intent.revoked:
                what = "The API accepted the request, but the key still works."
                return self._kept(intent, self._unknown(intent, MulticartError(Reason.KEY_DID_NOT_CHANGE, what)))
            error = MulticartError(Reason.OLD_KEY_STILL_VALID, "The key was replaced, but it still works.")
            return Result(outcome, live, intent.retire, old_key_rejected=False, error=error)
        intent.sent, intent.revoked = False, True
        result = Result(outcome, live, intent.retire, True, True, intent.rotated_at)
        return self._kept(intent, result)

    def _kept(self, intent: Intent, result: Result) -> Result:
        with suppress(MulticartError):  # what is not kept is only learnt again
            self._ledger.record(intent)
        return result

    def _unknown(self, intent: Intent, cause: MulticartError) -> Result:
        error = MulticartError(
            cause.reason,
            f"{cause.what} Whether the key is revoked could not be learnt.",
            "Run again. If the API rejects this key each time, it is revoked already, or nothing is accepted from "
            "here: the dashboard shows which key is live.",
        )
        return Result(Outcome.UNKNOWN, None, intent.retire, error=error)
