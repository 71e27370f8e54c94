# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One file of a consumer, with its record: look at it, open the record, write, close the record.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

from typing import Any, Callable, Dict, List, Optional

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import MAX_LENGTH, ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import UnknownName, ids_of, status_of

LONGEST_KEY = ApiKey("a." + "a" * (MAX_LENGTH - 2))
"""Stands in for the key that nobody knows yet, to find out whether it could be written."""


class KeyFile:
    """A file that holds the account's key: as a variable of an environment file, or in the user's own template.

    :param entry: ``path``; ``variable``, or ``digest`` and ``content`` of a template; ``unsafe_writes``.
    :param state_dir: where records are kept instead of beside the files.
    :param live: fingerprint of the live key, where it is known.
    :param check_mode: change nothing, and tell what would be.
    :param account: the account whose key is to be held, where it is known.
    """

    def __init__(
        self,
        entry: Dict[str, Any],
        state_dir: Optional[str],
        live: Optional[str],
        check_mode: bool,
        account: Optional[str] = None,
    ) -> None:
        self.path = entry["path"]
        self.variable = entry["variable"]
        self.held = []  # type: List[str]
        self.holds = []  # type: List[str]
        self.unknown = False
        self.record = None  # type: Optional[record.Record]
        self.problem = None  # type: Optional[Exception]
        self.changed = False
        self.only_key = False  # the file is there, with owner, group and mode as wanted; known after looking at them
        self._entry = entry
        self._live = live
        self._check_mode = check_mode
        self._content = None  # type: Any
        self._account = account
        self._record_path = record.path_of(self.path, self.variable, state_dir)
        try:
            self._look()
        except (host_file.HostFileError, env_file.EnvFileError, UnknownName, record.OtherAccount) as error:
            self.problem = error

    def _look(self) -> None:
        self._kept = host_file.read(self._record_path)
        self.record = record.parse(self._kept.data) if self._kept.data else None
        self._content = host_file.read(self.path)
        self.held = self.holds = self._keys()
        self._refuse_other_account()
        self._ids = ids_of(self._entry)
        host_file.check(self._kept, record.serialize(record.opened(self.record, LONGEST_KEY.fingerprint, True)))
        # Also finds out, before the old key dies, what only the change of a line would show.
        trial = self._content.data or b"" if self.variable is None else self._with(LONGEST_KEY)
        host_file.check(self._content, trial, self._entry["unsafe_writes"], self._ids)

    def _refuse_other_account(self) -> None:
        """Refuse to put the key of one account in the place of another's, whose consumer it would lock out."""
        known = self.record["account"] if self.record else None
        if self._account and known and known != self._account:
            raise record.OtherAccount(
                "it holds the key of another account; use the credentials of that account, or, if this change is "
                "meant, remove the record {0} first".format(self._record_path)
            )

    def _keys(self) -> List[str]:
        if self._content.data is None:
            return []
        if self.variable is None:
            return self._key_of_template(self._content.data)
        keys = [env_file.key_in(assignment) for assignment in env_file.assignments(self._content.data, self.variable)]
        return [key.fingerprint for key in keys if key]  # "changeme" counts as missing

    def _key_of_template(self, data: bytes) -> List[str]:
        digest = record.digest_of(data)
        if self._live and self._entry["digest"] == digest:
            return [self._live]
        if self.record and self.record["held"] and self.record["digest"] == digest:
            return [self.record["held"]]
        self.unknown = True
        return []

    def open(self, retire: Optional[str]) -> None:
        """Note that the key is about to be retired."""
        self._keep(record.opened(self.record, retire, self.restart_due, begun=True))

    def write(self, key: ApiKey, since: str, attributes_for: Callable[[Any, Dict[str, Any]], Any]) -> None:
        """Make the file hold the key. Before its bytes change, the record is opened: a restart is due from then on."""
        self._raise_problem()
        attributes = attributes_for(self._content, self._entry)
        old, new = self._content.data, self._new_content(key)
        if old != new:
            begun = bool(self.record and self.record["open"] and self.record["begun"])
            self._keep(record.opened(self.record, self._to_retire(key), True, begun))
            if self._check_mode:
                host_file.check(self._content, new, self._entry["unsafe_writes"], self._ids)
            else:
                host_file.replace(self._content, new, self._entry["unsafe_writes"], attributes.prepare, self._ids)
            self.changed = True
        elif not self._check_mode:
            host_file.sweep(self._content)
        if old is not None or not self._check_mode:
            self.changed = attributes.finish() or self.changed
        self.holds, self.unknown = [key.fingerprint], False
        if old != new or self.record is None or self.record["held"] != key.fingerprint:
            self._keep(
                record.wrote(self.record or record.NONE, key.fingerprint, record.digest_of(new), since, self._account)
            )

    def _to_retire(self, key: ApiKey) -> Optional[str]:
        """Return the key that this one replaces, or the one that the record is open for."""
        replaced = next((held for held in self.holds if held != key.fingerprint), None)
        known = self.record["retire"] if self.record and self.record["open"] else None
        # Open for this very key, and another in the file: a slower run has put back what this one replaces again.
        return replaced if known is None or (known == key.fingerprint and replaced) else known

    def _new_content(self, key: ApiKey) -> bytes:
        if self.variable is None:
            return self._entry["content"].encode("utf-8")
        return self._with(key)

    def _with(self, key: ApiKey) -> bytes:
        return env_file.with_value(self._content.data or b"", self.variable, key.reveal().encode("ascii"))

    def look_at_attributes(self, attributes_for: Callable[[Any, Dict[str, Any]], Any]) -> None:
        """Find out whether a write would change nothing but the key, and whether the file can be as it is wanted."""
        if self.problem is None and self._content.status is not None:
            try:
                self.only_key = not attributes_for(self._content, self._entry).differ()
            except host_file.HostFileError as error:
                self.problem = error

    def predict_replaced(self) -> None:
        """Note what a write would do once the key is another one, which nobody can know yet."""
        self._raise_problem()
        self.changed = True

    def close(self) -> None:
        """Note that nothing is under way, unless a rotation of the very key that the file holds is, or it is dead."""
        self._raise_problem()
        if self.record and self.restart_due and self._live in (None, *self.holds):
            waits = self.record["begun"] and self.record["retire"] in self.holds
            self._keep(dict(self.record, restart=False) if waits else record.closed(self.record))

    @property
    def restart_due(self) -> bool:
        """Whether whoever reads the file may still run with another key than the one in it."""
        return bool(self.holds) and record.restart_due(self.record, self.holds[0])

    def describe(self) -> Dict[str, Any]:
        """Return what the file holds, without secrets."""
        return {
            "path": self.path,
            "variable": self.variable,
            "held": self.held,
            "holds": self.holds,
            "unknown": self.unknown,
            "status": status_of(self._content) if self._content else None,
            "why_not": None if self.problem is None else self.explain(self.problem),
            "record": self.record,
        }

    def explain(self, error: Exception) -> str:
        """Return what is wrong, with the path; no content."""
        return str(error) if isinstance(error, host_file.HostFileError) else "path {0}: {1}".format(self.path, error)

    def _keep(self, kept: record.Record) -> None:
        self._raise_problem()
        if kept == self.record:
            return
        if not self._check_mode:
            host_file.replace(self._kept, record.serialize(kept))
            self._kept = host_file.read(self._record_path)
        self.record = kept
        self.changed = True

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem
