# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The key in one store, with its record: what a file and its record are on a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import withhold
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Found,
    Store,
    StoreError,
    fields_of,
    open_store,
)

ATTEMPTS = 20
"""How often a write is tried again because somebody else changed the store at the same moment.

Stores of one place, such as the variables of one file, change it all at once, and each time one of them is done.
"""


class StoredKey:
    """The key in one store. Every phase of a session is a method, and raises `StoreError`.

    :param entry: ``type``, ``path`` (its label) and ``options``.
    """

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.held: list[str] = []
        self.holds: list[str] = []
        self.record: records.Record | None = None
        self.problem: dict[str, str] | None = None
        self.changed = False
        self.restarted = False
        self._entry = entry
        self._store: Store | None = None
        self._found = Found()
        self._request: Mapping[str, Any] = {}
        # What reads a store of another kind is a consumer of its own.
        self._readers = records.readers_of(list(entry["options"].get("restart") or ()), [])

    def begin(self, request: Mapping[str, Any], inspected: list[str] | None) -> None:
        """Turn to a request: its fields, and the keys that must still be there."""
        self._request, self._inspected = request, inspected
        self.changed = self.restarted = False

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = open_store(self._entry["type"], self._entry["options"])
        return self._store

    def inspect(self) -> None:
        """Find out what it holds, and whether it can be written."""
        self.holds = []
        self._take(self.store.inspect())
        self.held = self.holds
        self._refuse_other_account()

    def prepare(self) -> None:
        """Open the record for a rotation; that it can be written is verified now at the latest."""
        self._refuse_other_account()
        self.store.verify_right()
        known = records.known_of(self.record, self.holds)
        self._keep(records.opened(known, self._request["retire"], account=self._account))

    def write(self) -> None:
        """Make it hold the key."""
        if self._inspected is not None and self.holds != self._inspected:
            raise StoreError("changed_meanwhile", "it was changed meanwhile")
        self._refuse_other_account()
        key = ApiKey(self._request["key"])
        if self.holds == [key.fingerprint]:
            return
        try:
            records.refuse_rejected(self.record, key.fingerprint, "its record")
        except records.RejectedBefore as error:
            raise StoreError(error.reason, str(error)) from None
        if self._request["check_mode"]:
            self.changed = self.problem is None
            return
        if self._inspected is not None:  # there is time: this is no rotation
            self._refuse_changed(self.store.inspect())
        if self.record is None or not self.record["open"]:
            self._keep(records.rewritten(self.record or records.NONE, self._readers))
        self.changed = True  # or perhaps, if the answer is lost
        self._change(lambda found: self.store.write(key, found), whatever_it_holds=self._inspected is None)
        self.holds = [key.fingerprint]

    def _change(self, change: Callable[[Found], Found], whatever_it_holds: bool = False) -> None:
        """Change the store; once more if somebody else did so meanwhile, but has left the key alone."""
        for _attempt in range(ATTEMPTS):
            try:
                self._found = change(self._found)
            except Conflict:
                found = self.store.inspect()
                if not whatever_it_holds:
                    self._refuse_changed(found)
                self._found = found
            else:
                return
        raise StoreError("store_conflict", "somebody else changes it again and again: run again later")

    def _refuse_changed(self, found: Found) -> None:
        if found.fingerprint != self._found.fingerprint:
            raise StoreError("changed_meanwhile", "it was changed meanwhile")

    def finish(self) -> None:
        """Read back what was written, note it, and restart what reads it."""
        key = ApiKey(self._request["key"])
        wrote = self.changed and not self._request["check_mode"]
        if wrote and not self.store.write_only:
            self._take(self.store.inspect())
            if self.holds != [key.fingerprint]:
                raise StoreError("store_not_kept", "it does not hold the key that was written: find who else writes it")
        known = records.known_of(self.record, [] if wrote else [key.fingerprint])
        kept = records.replaced(known, self.held, key.fingerprint, self._request["retires"])
        self._keep(records.wrote(kept, key.fingerprint, None, self._request["since"], self._account))
        if self.restart_due and not self._request["check_mode"]:
            self.restarted = self.store.restart()

    def close(self) -> None:
        """Note that nothing is under way, if it holds the live key."""
        if self.record and self._request["live"] in self.holds:
            self._keep(records.closed(self.record, self._readers, self.holds[0] if self.restart_due else None))

    def conclude(self) -> None:
        """Note that the verdict of the rotation was given, and what was seen of the key that it retired."""
        if self.record is None:
            return
        self._refuse_other_account()
        self._keep(records.concluded(self.record, self._request["seen"]))

    @property
    def restart_due(self) -> bool:
        """Whether what reads it may still run with another key."""
        return bool(self.holds) and records.restart_due(self.record, self.holds[0], self._readers)

    def describe(self) -> dict[str, Any]:
        """Return how it is, in the form of a file of a host; no secret."""
        return {
            "held": self.held,
            "holds": self.holds,
            "recorded": self._store is not None and self._store.write_only,
            "restart_due": self.restart_due,
            "changed": self.changed,
            "problem": self.problem,
            "record": self.record,
        }

    def explain(self, error: Exception) -> str:
        """Return what is wrong, and where; what repeats a credential of the entry is withheld."""
        options = self._entry["options"]
        secret = [name for name, known in fields_of(self._entry["type"]).items() if known.secret and not known.path]
        said = withhold(str(error), [options[name] for name in secret if options.get(name)])
        return f"{self._entry['path']}: {said}"

    @property
    def _account(self) -> Any:
        return self._request["account"]

    def _take(self, found: Found) -> None:
        self._found = found
        self.record = records.checked(found.record)
        fingerprint = found.fingerprint
        if self.store.write_only and self.record is not None:
            fingerprint = self.record["held"]
        self.holds = [fingerprint] if fingerprint else []

    def _refuse_other_account(self) -> None:
        """Refuse to put the key of one account in the place of another's, whose consumer it would lock out."""
        if records.is_of_other(self.record, self._account):
            raise StoreError(
                records.OtherAccount.reason,
                "it holds the key of another account; use the credentials of that account, or, if this change is "
                "meant, remove its record first",
            )

    def _keep(self, record: records.Record) -> None:
        if record == self.record:
            return
        if not self._request["check_mode"]:
            self._change(lambda found: self.store.note(record, found))
        self.changed = self.changed or self.record is None
        self.record = record
