# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""One file that holds a key, with its record: inspect it, open the record, write the key, close the record.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import os
from contextlib import suppress
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import MAX_LENGTH, ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import Ownership, UnknownName, ids_of

LONGEST_KEY = ApiKey("a." + "a" * (MAX_LENGTH - 2))
"""Stands in for the key that nobody knows yet, to find out whether it could be written."""

Unusable = (host_file.HostFileError, env_file.EnvFileError, UnknownName, record.OtherAccount, record.RejectedBefore)
"""Why a file cannot be used: errors with a ``reason``."""


def readers_of(request: Dict[str, Any]) -> str:
    """Return the name of those who read the files of a request: others, of this machine or not, may share the files."""
    return record.readers_of(request["services"], request["commands"], record.this_machine(), os.geteuid())


def read_record(path: str) -> Tuple[Any, Optional[record.Record]]:
    """Return the content of a record's file, and the record in it; None: there is none.

    :raises HostFileError: as :func:`_host_file.read`; or it is a link, through which it would be written where somebody
        else wants it.
    """
    kept = host_file.read(path, is_public=True)
    folder, name = os.path.split(path)
    if kept.target != os.path.join(os.path.realpath(folder), name):
        raise host_file.HostFileError("not_regular", path)
    return kept, record.parse(kept.data) if kept.data else None


class KeyFile:
    """A file that holds the account's key: as a variable of an environment file, alone, or in the user's own template.

    :param entry: ``path``; ``variable`` and ``beside``, all variables of this file that are to hold the key; or
        ``format``, ``key`` for a file that is nothing but the key; or ``digest`` and ``content`` of a template;
        ``owner``, ``group``, ``mode``, ``unsafe_writes``; ``inspected``, the keys that it must still hold when it is
        written, where that matters.
    :param request: ``state_dir``, where records are kept instead of beside the files; ``services`` and ``commands``,
        which read the file; ``live``, fingerprint of the live key, ``live_shape``, its prefix and its length, and
        ``account``, whose key is to be held, where they are known; ``check_mode``: change nothing, and tell what would
        be.
    """

    def __init__(self, entry: Dict[str, Any], request: Dict[str, Any]) -> None:
        self.path = entry["path"]
        self.variable = entry["variable"]
        self.held = []  # type: List[str]
        self.holds = []  # type: List[str]
        self.unknown = False
        self.record = None  # type: Optional[record.Record]
        self.problem = None  # type: Optional[Exception]
        self.notes = []  # type: List[str]
        self.changed = False
        self.outdated = False
        self.inspected = entry.get("inspected")  # type: Optional[List[str]]
        self._entry = entry
        self._is_template = self.variable is None and entry.get("format") != "key"
        self._beside = entry.get("beside") or ()
        self._readers = readers_of(request)
        self._services = [each["name"] for each in request["services"]]
        self._has_commands = bool(request["commands"])
        self._live = request["live"]
        shape = request.get("live_shape")
        self._known = [other_form.KnownKey(*(shape + [self._live]))] if shape else []
        self._check_mode = request["check_mode"]
        self._content = None  # type: Any
        self._account = request["account"]
        self._running = request.get("running", list)
        self._stores_behind = request.get("stores_behind", False)
        self._state_dir = request["state_dir"]  # type: Optional[str]
        self._former = []  # type: List[Any]
        self.record_path = self._path_of_record()
        try:
            self._inspect()
        except Unusable as error:
            self.problem = error

    def _path_of_record(self) -> str:
        return record.path_of(self.path, self.variable, self._state_dir)

    def _former_paths(self) -> List[str]:
        return record.former_paths(self.path, self.variable, self._state_dir)

    def _inspect(self) -> None:
        try:
            self._kept, self.record = self._read_record()
        except host_file.HostFileError:
            host_file.read(self.path)  # what is wrong with both is reported with the path that somebody wrote
            raise
        self._content = host_file.read(self.path)
        self.held = self.holds = self._keys()
        self._refuse_other_account()
        # Also finds out, before the old key is revoked, what only the change of a line would show.
        self._trial = self._content.data or b"" if self._is_template else self._with(LONGEST_KEY)
        self.notes = other_form.former(self._content.data or b"", self.variable, self._known, self._beside)
        self._ids = ids_of(self._entry)
        self._check()

    def _read_record(self) -> Tuple[Any, Optional[record.Record]]:
        """Return the record's file and the record; where there is none, that which it had at a former place.

        Who set a directory for records believes what is beside the file only of root, or of this user.
        """
        kept, found = read_record(self.record_path)
        former = []  # type: List[Tuple[Any, record.Record]]
        for path in self._former_paths() if kept.status is None else ():
            with suppress(host_file.HostFileError):
                there, known = read_record(path)
                if known is not None and (self._is_beside(path) or there.status.st_uid in (0, os.geteuid())):
                    former.append((there, known))
        former = [each for each in former if not record.is_of_other(each[1], self._account)] or former
        self._former = [there for there, _known in former]
        # Of several variables that a template replaces, one may be unfinished.
        return kept, max((known for _there, known in former), key=lambda each: each["open"], default=found)

    def _is_beside(self, path: str) -> bool:
        """Tell whether a record is in the directory in which that of this file is kept."""
        return os.path.dirname(path) == os.path.dirname(self.record_path)

    def _check(self) -> None:
        """Find out whether the file and its record can be replaced."""
        if host_file.check(self._content, self._trial, self._entry["unsafe_writes"], self._ids):
            Ownership(self._content, self._entry).refuse_in_place()
        self._check_record()

    def _check_record(self) -> None:
        host_file.check(
            self._kept, record.serialize(record.opened(self.record, LONGEST_KEY.fingerprint, account=self._account))
        )

    def _refuse_other_account(self) -> None:
        """Refuse to put the key of one account in the place of another's, whose consumer it would lock out."""
        if record.is_of_other(self.record, self._account):
            raise record.OtherAccount(
                "it holds the key of another account; use the credentials of that account, or, if this change is "
                "meant, remove {0} first".format(self._place_of_record)
            )

    def _refuse_rejected(self, key: ApiKey) -> None:
        record.refuse_rejected(self.record, key.fingerprint, self._place_of_record)

    @property
    def _place_of_record(self) -> str:
        return "the record {0}".format(self._former[0].path if self._former else self.record_path)

    def _keys(self) -> List[str]:
        if self._content.data is None:
            return []
        if self._is_template:
            return self._key_of_template(self._content.data)
        found = other_form.held(self._content.data, self.variable)
        return [key.fingerprint for _line, key in found if key]  # "changeme" counts as missing

    def _key_of_template(self, data: bytes) -> List[str]:
        digest = record.digest_of(data)
        if self._live and self._entry["digest"] == digest:
            return [self._live]
        if self.record and self.record["held"] and self.record["digest"] == digest:
            return [self.record["held"]]
        self.unknown = True
        return []

    def open(self, retire: str) -> None:
        """Note that a rotation is about to retire the key."""
        self._raise_problem()
        known = record.known_of(self.record, self.holds)
        if len(set(self.holds)) == 1 and self._has_started_with_it():
            known = record.restarted(known, self._readers, self.holds[0])
        self._keep(record.opened(known, retire, self._running, self._account, self._readers))
        self._check()  # once more: the record may have taken the last of the space

    def write(self, key: ApiKey, since: str, retires: Optional[Dict[str, Any]] = None) -> None:
        """Make the file hold the key.

        :param since: since when the key is known, UTC, ISO 8601.
        :param retires: what is known of the key that a rotation retired: ``key``, ``accepted``.
        """
        self._raise_problem()
        self._refuse_rejected(key)
        ownership = Ownership(self._content, self._entry)
        old = self._content.data
        new = self._entry["content"].encode("utf-8") if self._is_template else self._with(key)
        if old != new:
            # First, so that a run which is killed after the write still knows of the restart that is due.
            self._keep(record.rewritten(self.record or record.NONE, self._readers, self._running))
            if self._check_mode:
                host_file.check(self._content, new, self._entry["unsafe_writes"], self._ids)
            else:
                host_file.replace(self._content, new, self._entry["unsafe_writes"], ownership.prepare, self._ids)
            self.changed = True
        elif self._check_mode:
            self.changed = ownership.differ()
        else:
            host_file.sweep(self._content)
            self.changed = ownership.finish()
        self.holds, self.unknown = [key.fingerprint], False
        digest, known, found = record.digest_of(new), self.record, old == new
        if self.variable is not None and known is not None and known["held"] == key.fingerprint and found:
            digest = known["digest"]  # other lines are not this collection's
        self._note(key.fingerprint, digest, since, found, retires)

    def _note(self, held: str, digest: str, since: str, found: bool, retires: Optional[Dict[str, Any]]) -> None:
        known = record.known_of(self.record, [held] if found else [])
        kept = record.replaced(known, self.held, held, retires)
        self._keep(record.wrote(kept, held, digest, since, self._account))

    def _with(self, key: ApiKey) -> bytes:
        return other_form.with_key(self._content.data or b"", self.variable, key, self._known, self._beside)

    def refuse_changed(self, inspected: List[str]) -> None:
        """Raise if the file holds other keys than when it was inspected: another run may have written a newer one."""
        self._raise_problem()
        if self.holds != inspected:
            raise host_file.HostFileError("changed_meanwhile", self.path)

    def find_changes(self) -> None:
        """Find out what is to be changed besides the key: owner, group and mode, or what else a template has by now."""
        if self.problem is None and self._content.status is not None:
            self.changed = Ownership(self._content, self._entry).differ()
            as_rendered = (None, record.digest_of(self._content.data))
            self.outdated = self._is_template and self._entry["digest"] not in as_rendered

    def close(self) -> None:
        """Note that nothing is under way, and that the readers use the live key, if the file holds that."""
        self._raise_problem()
        if self.record and self._live in self.holds:
            held = self.holds[0] if self.restart_due else None
            self._keep(record.closed(self.record, self._readers, held, self._services))

    def conclude(self, seen: Optional[Dict[str, Any]]) -> None:
        """Note that the verdict of the rotation was given, and what was seen of the key that it retired."""
        if self.record is None or isinstance(self.problem, record.OtherAccount):
            self._raise_problem()
            return
        # Also beside a file that cannot be written itself.
        self._keep(record.concluded(self.record, seen))

    @property
    def restart_due(self) -> bool:
        """Whether the readers may still run with another key than the one in the file."""
        due = bool(self.holds) and record.restart_due(self.record, self.holds[0], self._readers)
        return due and not self._has_started_with_it()

    def _has_started_with_it(self) -> bool:
        """Tell whether all that runs here was started after the file got its content.

        So it is on a machine that is new to it: made of an image that the file is in, or under another name by now.
        Where anybody is about to get a key, or the file was changed for these readers, no clock tells anything.
        """
        known = self.record
        if known is None or not record.only_a_start_is_due(known, self.holds[0], self._readers, self._has_commands):
            return False
        started, status = record.started_at(), self._kept_in.status
        return started is not None and status is not None and status.st_ctime < started

    @property
    def _kept_in(self) -> Any:
        return self._content

    def describe(self) -> Dict[str, Any]:
        """Return what the file holds, without secrets."""
        error = self.problem  # type: Any
        return {
            "path": self.path,
            "variable": self.variable,
            "held": self.held,
            "holds": self.holds,
            "unknown": self.unknown,
            "restart_due": self.restart_due,
            "changed": self.changed,
            "outdated": self.outdated,
            "problem": None if error is None else {"reason": error.reason, "text": self.explain(error)},
            "notes": ["path {0}: {1}".format(self.path, note) for note in self.notes],
            "record": self.record,
        }

    def explain(self, error: Exception) -> str:
        """Return what is wrong, with the path; no content."""
        return str(error) if isinstance(error, host_file.HostFileError) else "path {0}: {1}".format(self.path, error)

    def _keep(self, kept: record.Record) -> None:
        if kept == self.record:
            return
        if not self._check_mode:
            host_file.replace(self._kept, record.serialize(kept))
            for there in self._former:
                # What is beside the file may also be of hosts that share it, without this directory for records.
                with suppress(host_file.HostFileError):
                    if self._is_beside(there.path):
                        host_file.remove(there)
            self._former = []
            self._kept, _written = read_record(self.record_path)
        self.changed = self.changed or self.record is None
        self.record = kept

    def _raise_problem(self) -> None:
        if self.problem is not None:
            raise self.problem


class ReadersAlone(KeyFile):
    """Services and commands that read the key from a store when they start; in place of a file there is a record."""

    def _path_of_record(self) -> str:
        return os.path.join(self._state_dir or os.path.expanduser("~"), ".multicart.readers.json")

    def _former_paths(self) -> List[str]:
        return []  # the one at home may be that of another consumer of this user

    def _inspect(self) -> None:
        self._kept, self.record = self._read_record()
        self.held = self.holds = [self.record["held"]] if self.record and self.record["held"] else []
        self._refuse_other_account()
        self._check()

    def _check(self) -> None:
        self._check_record()

    def write(self, key: ApiKey, since: str, retires: Optional[Dict[str, Any]] = None) -> None:
        """Note the key that they are restarted with."""
        self._raise_problem()
        self._refuse_rejected(key)
        found = self.holds == [key.fingerprint]
        if not found:
            self._keep(record.rewritten(self.record or record.NONE, self._readers, self._running))
            self.changed = True
        self.holds = [key.fingerprint]
        if not self._stores_behind:
            self._note(key.fingerprint, record.digest_of(b""), since, found, retires)

    @property
    def _kept_in(self) -> Any:
        return self._kept

    def find_changes(self) -> None:
        """There is no file."""
