# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What the tasks of one run leave for each other: never in facts or registered variables, which a host could set.

Beside the run cache, encrypted as that is: one file for each entry, since a thousand hosts leave one each.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from ansible import constants
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import EncryptedFile, RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._locks import hold

HOST, RESULT, REPORT, STORES, DEPLOYED = "host", "result", "report", "stores", "deployed"
"""Kinds of entries: what a host is to hold and how it is reached; how it ended; what the whole run did; whether its
stores were brought up to date, if it has any; the report of the deployment to one host."""

LOCKED = 10.0
"""Seconds to wait for others that leave an entry."""


def this_run() -> RunCache:
    """Return the cache of this run of Ansible."""
    return RunCache(constants.DEFAULT_LOCAL_TMP, _secret())


class RunStore:
    """The entries of one account in this run of Ansible.

    :param account: its name in the inventory.
    """

    def __init__(self, account: str) -> None:
        self._account = account
        self._folder = os.path.join(constants.DEFAULT_LOCAL_TMP, "multicart.keys")

    def put(self, kind: str, name: str, entry: Any) -> None:
        """Leave an entry, any JSON.

        :raises MulticartError: ``run_cache_unusable``.
        """
        self._make_folder()
        self._file(kind, name).save(entry)

    def get(self, kind: str, name: str) -> Any:
        """Return an entry; None: there is none."""
        return self._file(kind, name).load()

    def put_last(self, kind: str, name: str, entry: Any, names: Collection[str]) -> list[Any] | None:
        """Leave an entry, if any. If these names have one each by then, return all that there are, and forget them.

        Of several processes, one gets them.

        :raises TimeoutError: others are at it for too long.
        """
        self._make_folder()
        lock = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            hold(lock, LOCKED)
            if entry is not None:
                self.put(kind, name, entry)
            paths = self._paths(kind)
            if not {self._path(kind, each) for each in names} <= set(paths):
                return None
            entries = [EncryptedFile(path, _secret()).load() for path in paths]
            for path in paths:
                os.unlink(path)
            return entries
        finally:
            os.close(lock)

    def take(self, kind: str, name: str) -> Any:
        """Return an entry and forget it, so that a later play of this run does not take it for its own."""
        entry = self.get(kind, name)
        with suppress(FileNotFoundError):
            os.unlink(self._path(kind, name))
        return entry

    def _make_folder(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)

    def _paths(self, kind: str) -> list[str]:
        names = [name for name in os.listdir(self._folder) if name.startswith(self._prefix(kind))]
        return [os.path.join(self._folder, name) for name in sorted(names)]

    def _file(self, kind: str, name: str) -> EncryptedFile:
        return EncryptedFile(self._path(kind, name), _secret())

    def _path(self, kind: str, name: str) -> str:
        return os.path.join(self._folder, self._prefix(kind) + hashlib.sha256(json.dumps(name).encode()).hexdigest())

    def _prefix(self, kind: str) -> str:
        return hashlib.sha256(json.dumps([self._account, kind]).encode()).hexdigest()[:32]


def _secret() -> bytes:
    return bytes(multiprocessing.current_process().authkey)
