# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The operations of the key plugins: each holds the run cache and one connection to the API while it works."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account, Trial
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import Client
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation, revoke
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import (
    SETTLE_TIMEOUT,
    Outcome,
    Request,
    Result,
    read_live,
    rotate,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import AccountLedger, RunCache, mark_of
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import withhold
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection


def read_account(connection: Connection, cache: RunCache) -> Account:
    """Read the account again; the key is the one on record, which a lagging read may tell too late.

    :raises MulticartError: why it could not be read.
    """
    _need_credential(connection)
    with cache.held_for(connection) as ledger, Client(connection, ledger) as client:
        account = client.read()
        ledger.learn(account)
        return account


@dataclass(frozen=True)
class Live:
    """The account's live key, and what this run knows of it.

    :ivar account: tells the account from any other.
    :ivar rotated_at: when this run replaced the key before it, UTC, ISO 8601; None: it did not.
    :ivar retired: fingerprint of the key that it replaced in this run; None: it did not.
    :ivar created_at: of the account; None: the API does not tell.
    :ivar updated_at: likewise; it moves with any change of the account.
    """

    key: ApiKey
    account: str | None = None
    rotated_at: str | None = None
    retired: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


def live(connection: Connection, cache: RunCache, newer_than: float = 0.0) -> Live:
    """Return the account's live key, which the API accepts, read at most once in a run; and what is known of it.

    :param newer_than: a read that was sent before this moment of ``time.monotonic()`` does not count.
    :raises MulticartError: why it could not be read.
    """
    _need_credential(connection)
    asked = time.monotonic()
    with cache.held_for(connection) as ledger:
        key = ledger.live(newer_than) or _read_once(connection, ledger, asked)
        intent = ledger.intent()
        rotated_at, retired = None, None
        if intent is not None and intent.done:
            rotated_at, retired = intent.rotated_at, intent.retire.fingerprint
        return Live(key, ledger.account(), rotated_at, retired, *ledger.dates())


def _read_once(connection: Connection, ledger: AccountLedger, asked: float) -> ApiKey:
    # A thousand forks that wait for one answer must not ask an API that is down one after another.
    failure = ledger.failure(since=asked) or _lagging(ledger, asked)
    if failure is not None:
        raise failure
    with Client(connection, ledger) as client:
        try:
            account = read_live(client)
        except MulticartError as error:
            ledger.keep_failure(error)
            raise
        ledger.learn(account)
        ledger.keep_live(account.key)
        return account.key


def _lagging(ledger: AccountLedger, asked: float) -> MulticartError | None:
    """Return the failure of a host that has just waited for a read that does not lag: not every host waits as long."""
    failure = ledger.failure(since=asked - SETTLE_TIMEOUT)
    return failure if failure is not None and failure.reason is Reason.NEW_KEY_REJECTED else None


def rotate_key(connection: Connection, cache: RunCache, request: Request) -> Result:
    """Replace the account's key once for one intent. A failure is in the result, never raised."""
    try:
        _need_readback(connection)
        with cache.held_for(connection) as ledger, Client(connection, ledger) as client:
            return rotate(client, ledger, request)
    except MulticartError as error:
        return Result(Outcome.UNCHANGED, error=error)


def revoke_key(connection: Connection, cache: RunCache, request: Revocation) -> Result:
    """Revoke a key without reading the one that replaces it. A failure is in the result, never raised."""
    try:
        _need_credential(connection)
        own = connection.api_key
        request = replace(request, can_read=connection.can_read_back)
        if own is not None and (own.fingerprint == request.retire or not connection.can_read_back):
            request = replace(request, api_key=own)
        with cache.held_for(connection) as ledger, Client(connection, ledger) as client:
            return revoke(client, ledger, request)
    except MulticartError as error:
        return Result(Outcome.UNCHANGED, error=error)


RECENTLY = 10.0
"""Seconds for which one read of the live key serves all hosts of a run."""


class AccountOfRun:
    """The account of this run, as the act and a deployment use it."""

    def __init__(self, connection: Connection, cache: RunCache) -> None:
        self._connection = connection
        self._cache = cache

    def read(self, newest: bool = True) -> Live:
        """Return the live key, which the API accepts.

        :param newest: ask now; otherwise a read that was asked at most `RECENTLY` ago is enough.
        :raises MulticartError: why it could not be read.
        """
        now = time.monotonic()
        return self._live(now if newest else now - RECENTLY)

    def _live(self, newer_than: float) -> Live:
        return live(self._connection, self._cache, newer_than)

    def confirm(self, live: Live, held: frozenset[str], inspected_at: float) -> Live:
        """Return the live key by a read that is newer than any of the keys which a host held at a moment.

        Keys that such a read has shown to be another account's or former ones need no further read in this run: they
        never become live again.

        :param held: fingerprints.
        :param inspected_at: by ``time.monotonic()``.
        :raises MulticartError: why it could not be read.
        """
        with self._cache.held_for(self._connection) as ledger:
            if held <= ledger.former():
                return live
        newest = self._live(inspected_at)
        with self._cache.held_for(self._connection) as ledger:
            ledger.keep_former(held - {newest.key.fingerprint})
        return newest

    def need_readback(self) -> None:
        """Refuse to rotate with an API key alone.

        :raises MulticartError: ``readback_impossible``.
        """
        _need_readback(self._connection)

    def rotate(self, key: ApiKey, former: frozenset[str]) -> Result:
        """Retire the live key, which was just read, and read the one that replaces it; it is verified later."""
        request = Request(retire=key.fingerprint, live=key, former=former, verify=False)
        return rotate_key(self._connection, self._cache, request)

    def verify(self, retired: str) -> Result:
        """Verify that the live key is accepted and the retired one rejected."""
        return rotate_key(self._connection, self._cache, Request(retire=retired))


def try_credentials(connection: Connection, cache: RunCache) -> list[Trial]:
    """Read the account with each credential alone, and tell what came of it."""
    bare = replace(connection, session_token=None, login=None, api_key=None)
    alone = {
        "session_token": connection.session_token and replace(bare, session_token=connection.session_token),
        "email and password": connection.login and replace(bare, login=connection.login),
        "api_key": connection.api_key and replace(bare, api_key=connection.api_key),
    }
    trials = [_tried(name, only, cache) for name, only in alone.items() if only]
    # What the API says to one credential may repeat another that it was sent before.
    secrets = [*connection.secrets, *(trial.key.reveal() for trial in trials if trial.key)]
    return [_withheld(trial, secrets) for trial in trials]


def _tried(name: str, connection: Connection, cache: RunCache) -> Trial:
    try:
        account = read_account(connection, cache)
        return Trial(name, account.id, account.key, mark=mark_of(account, connection.api_url))
    except MulticartError as error:
        return Trial(name, error=error)


def _withheld(trial: Trial, secrets: Iterable[str]) -> Trial:
    error = trial.error
    if error is not None:
        error = MulticartError(error.reason, *withhold([error.what, error.advice], secrets))
    return replace(trial, account=withhold(trial.account, secrets), error=error)


def _need_readback(connection: Connection) -> None:
    _need_credential(connection)
    if not connection.can_read_back:
        raise MulticartError(Reason.READBACK_IMPOSSIBLE, "There is only an API key to rotate with.")


def _need_credential(connection: Connection) -> None:
    if not connection.can_read_back and connection.api_key is None:
        raise MulticartError(Reason.NO_CREDENTIALS, "There is no credential at all.")
