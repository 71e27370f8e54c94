# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The run cache: what this run of Ansible knows about accounts, shared by all its forks and plays.

One private file in Ansible's per-run temporary directory, encrypted with a key that is never on disk: multiprocessing
hands its ``authkey`` to every fork of a run. After a SIGKILL what is left is noise. An empty file beside it is the
lock, so that the contents can be replaced at once.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Intent, account_mismatch
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection
from ansible_collections.multicart.keys.plugins.plugin_utils._times import parse_time

try:
    from cryptography import fernet
except ImportError:
    fernet = None  # type: ignore[assignment]  # checked before every use


MOST_FORMER = 1000
"""Former keys that are kept; each costs at most one more read if it is not."""


class RunCache:
    """The cache of one run.

    :param directory: a private directory that lives as long as the run.
    :param secret: bytes shared by all processes of the run and nobody else.
    """

    def __init__(self, directory: str, secret: bytes) -> None:
        self._path = os.path.join(directory, "multicart.keys.cache")
        self._lock_path = os.path.join(directory, "multicart.keys.lock")
        self._secret = secret

    @contextmanager
    def held_for(self, connection: Connection) -> Iterator[AccountLedger]:
        """Hold the cache alone, every other fork waiting, and open it at one connection's account.

        :raises MulticartError: ``run_cache_unusable``.
        """
        with _locked(self._lock_path):
            yield AccountLedger(EncryptedFile(self._path, self._secret), connection)


class AccountLedger:
    """The part of the cache that belongs to one connection; every change lasts before the method returns.

    The account behind a credential is known once it was read; two credentials of one account share what is known.
    """

    def __init__(self, file: EncryptedFile, connection: Connection) -> None:
        self._file = file
        self._contents: dict[str, Any] = file.load() or {"tokens": {}, "account_of": {}, "accounts": {}, "failures": {}}
        self._url = connection.api_url
        self._credential = _credential_id(connection)
        # The monotonic clock is the machine's, so it compares between the forks of a run.
        self._opened_at = time.monotonic()

    def token(self) -> str | None:
        """Return the session token of this run's login."""
        token = self._contents["tokens"].get(self._credential)
        return str(token) if token else None

    def keep_token(self, token: str) -> None:
        """Keep the session token of this run's login."""
        self._contents["tokens"][self._credential] = token
        self._save()

    def live(self, newer_than: float = 0.0) -> ApiKey | None:
        """Return the live key as it was last known, if it was asked for after a moment of ``time.monotonic()``."""
        known = self._known()
        return ApiKey(known["live"]) if known.get("live") and known["asked_at"] > newer_than else None

    def keep_live(self, key: ApiKey) -> None:
        """Keep the live key: the API accepts it, or has just made it; the account must have been read before."""
        known = self._known()
        if known:
            # An answer may be older than its arrival, but not than its question, which was asked under the lock.
            known.update(live=key.reveal(), asked_at=self._opened_at)
            self._save()

    def account(self) -> str | None:
        """Return what tells the account from any other, once it was read: a digest of its id and when it was made."""
        return self._known().get("mark")

    def dates(self) -> tuple[str | None, str | None]:
        """Return the account's ``created_at`` and ``updated_at`` as they were read last."""
        known = self._known()
        return known.get("created_at"), known.get("updated_at")

    def learn(self, account: Account) -> None:
        """Keep which account was just read; a key that was kept and is not the one read has to be verified again.

        :raises MulticartError: ``account_mismatch``: in this run, these credentials have read another one.
        """
        name = f"{self._url} {account.id}"
        # A token that has ended is replaced by a login, which may be that of another account.
        if self._contents["account_of"].get(self._credential, name) not in (name, self._credential):
            raise account_mismatch()
        known = self._know(name)
        known["mark"] = mark_of(account, self._url)
        known.update({date: account.text(date) for date in ("created_at", "updated_at")})
        if known["live"] != account.key.reveal():
            known["live"] = None
        self._save()

    def former(self) -> frozenset[str]:
        """Return the fingerprints of keys that hosts held, and that a later read has shown not to be the live one."""
        return frozenset(self._known().get("former", ()))

    def keep_former(self, keys: frozenset[str]) -> None:
        """Keep keys that are not the live one and never will be."""
        known = self._known()
        if known:
            known["former"] = sorted({*known.get("former", ()), *keys})[:MOST_FORMER]
            self._save()

    def failure(self, since: float) -> MulticartError | None:
        """Return why this connection could not read the account, if that came out after a moment."""
        failed = self._contents["failures"].get(self._credential)
        if failed is None or failed["moment"] < since:
            return None
        return MulticartError(Reason(failed["reason"]), failed["what"], failed["advice"])

    def keep_failure(self, error: MulticartError) -> None:
        """Keep why the account could not be read, for the forks that wait to ask the same."""
        told = {"reason": error.reason.value, "what": error.what, "advice": error.advice}
        self._contents["failures"][self._credential] = {**told, "moment": time.monotonic()}
        self._save()

    def intent(self) -> Intent | None:
        """Return the intent that this run has for the account."""
        kept = self._known().get("intent")
        return Intent(**{**kept, "retire": ApiKey(kept["retire"])}) if kept else None

    def record(self, intent: Intent) -> None:
        """Keep the intent of the account; one that was not read yet is known by its credential alone."""
        known = self._known() or self._know(self._credential)
        known["intent"] = {**vars(intent), "retire": intent.retire.reveal()}
        if (intent.sent or intent.revoked) and known["live"] == intent.retire.reveal():
            known["live"] = None
        self._save()

    def _known(self) -> dict[str, Any]:
        """Return what is known of the account of this credential; empty: nothing."""
        name = self._contents["account_of"].get(self._credential)
        known: dict[str, Any] = self._contents["accounts"].get(name, {})
        return known

    def _know(self, name: str) -> dict[str, Any]:
        """Return what is known of an account, from now on that of this credential."""
        accounts = self._contents["accounts"]
        unread = accounts.pop(self._credential, {"live": None, "intent": None})
        known: dict[str, Any] = accounts.setdefault(name, unread)
        known["intent"] = known["intent"] or unread["intent"]
        self._contents["account_of"][self._credential] = name
        return known

    def _save(self) -> None:
        self._file.save(self._contents)


class EncryptedFile:
    """JSON in a file, encrypted and authenticated, replaced at once."""

    def __init__(self, path: str, secret: bytes) -> None:
        if fernet is None:
            raise _unusable("needs the Python library cryptography, a dependency of ansible-core")
        key = hashlib.blake2b(secret, digest_size=32, person=b"multicart.keys").digest()
        self._path = path
        self._cipher = fernet.Fernet(base64.urlsafe_b64encode(key))

    def load(self) -> Any:
        try:
            with open(self._path, "rb", opener=_open_private) as file:
                return json.loads(self._cipher.decrypt(file.read()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(f"cannot be read ({error.strerror})") from None
        except fernet.InvalidToken:
            # Not of this run. Nothing is lost: the API is the source of truth.
            return None

    def save(self, contents: Any) -> None:
        noise = self._cipher.encrypt(json.dumps(contents).encode())
        draft = f"{self._path}.new"
        try:
            # On a full disk, or in a fork that is killed, what was known before stays known.
            with open(draft, "wb", opener=_open_private) as file:
                file.write(noise)
            os.replace(draft, self._path)
        except OSError as error:
            raise _unusable(f"cannot be written ({error.strerror})") from None


@contextmanager
def _locked(path: str) -> Iterator[None]:
    with ExitStack() as held:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # not every file system can
            raise _unusable(f"cannot be locked ({error.strerror})") from None
        yield


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _unusable(how: str) -> MulticartError:
    return MulticartError(Reason.RUN_CACHE_UNUSABLE, f"The run cache {how}.")


def mark_of(account: Account, url: str) -> str:
    """Return a digest that tells the account from any other, and is the same under every host name of the API.

    Two systems, such as one for tests, have accounts of the same id, but hardly made at the same moment.
    """
    created_at = account.text("created_at")
    moment = parse_time(created_at)  # to the microsecond
    made = moment.isoformat() if moment else urlsplit(url).hostname if created_at is None else created_at
    return hashlib.sha256(f"{made} {account.id}".encode()).hexdigest()[:16]


def _credential_id(connection: Connection) -> str:
    """A one-way name for the API and the credentials that read it."""
    login = connection.login
    parts = [connection.api_url, connection.session_token, login and login.email, login and login.password]
    if not connection.can_read_back and connection.api_key is not None:
        parts.append(connection.api_key.reveal())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
