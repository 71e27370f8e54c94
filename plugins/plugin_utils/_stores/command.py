# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""Any other store: three of the user's own programs on the control node, one a verb; their output is not shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.programs import Program
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Field,
    Found,
    Store,
    StoreError,
    parsed,
)

FIELDS = {
    "label": Field(required=True),
    "inspect": Field(list, required=True, path=True),
    "write": Field(list, required=True, path=True),
    "note": Field(list, required=True, path=True),
}

LONGEST = 64 * 1024
"""Bytes that a program may print."""


def label(options: Mapping[str, Any]) -> str:
    return str(options["label"])


class CommandStore(Store):
    """A store behind three programs."""

    def inspect(self) -> Found:
        said = self._run("inspect")
        if not {"fingerprint", "record", "writable"} <= set(said):
            raise _malformed("inspect", "fingerprint, record and writable")
        fingerprint, version = said["fingerprint"], said.get("version")
        version = str(version) if isinstance(version, int) else version
        if fingerprint is not None and not is_fingerprint(fingerprint):
            raise _malformed("inspect", "a fingerprint, or null")
        if not isinstance(said["writable"], bool):
            raise _malformed("inspect", "writable as true or false")
        # What no environment can hold would fail at the write.
        if version is not None and not (isinstance(version, str) and version.isprintable() and len(version) <= 256):
            raise _malformed("inspect", "version as a text of at most 256 printable characters")
        if not said["writable"]:
            raise StoreError("store_not_writable", "it cannot be written, as its inspect says")
        return Found(fingerprint, said["record"], version)

    def write(self, key: ApiKey, found: Found) -> Found:
        self._run("write", key.reveal(), found.version)
        return found

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        self._run("note", json.dumps(record, sort_keys=True))
        return found

    def _run(self, verb: str, data: str = "", version: str | None = None) -> dict[str, Any]:
        environment = {} if version is None else {"MULTICART_STORE_VERSION": version}
        program = Program(f"its {verb}", self.options[verb], LONGEST, environment=environment)
        try:
            status, printed = program.run(data.encode())
        except OSError as error:
            raise StoreError("store_failed", f"its {verb} cannot be run ({error.strerror})") from None
        if status != 0:
            raise StoreError("store_failed", f"its {verb} failed (exit status {status})")
        said = parsed(printed)
        if not isinstance(said, dict):
            raise _malformed(verb, "a JSON object")
        return said


def _malformed(verb: str, wanted: str) -> StoreError:
    return StoreError("store_malformed", f"its {verb} does not print {wanted}")


opened = CommandStore
