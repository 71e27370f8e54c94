# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""One value in a file that sops has encrypted; committed if it is in git. The record is a file beside it.

The program works on a copy, which is encrypted too, so that the file itself is replaced at once or not at all. What
decrypts the file, sops finds as always: by its own environment variables and files.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import files
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Field,
    Found,
    InvalidEntry,
    StoreError,
    fingerprint_of,
    parsed,
)

FIELDS = {
    **files.FIELDS,
    "key": Field(list, default=("multicart_api_key",)),
    "age_key_file": Field(path=True),
}

PROBE = ApiKey("multicart-probe.is-this-encrypted")
"""Put into a copy, which is thrown away."""

_FAILURES = {
    1: ("store_malformed", "sops cannot read it: check whether sops has encrypted it"),
    51: ("store_malformed", "its MAC is wrong: somebody has changed it without sops"),
    52: ("store_malformed", "it has no MAC: encrypt it again"),
    111: ("store_malformed", "sops has not encrypted it"),
    128: ("store_refused", "sops has no key that decrypts it: check age_key_file, or what else sops takes it from"),
}


def label(options: Mapping[str, Any]) -> str:
    return files.label(options, ".".join(options["key"]))


def check(options: dict[str, Any]) -> None:
    if not options["key"] or any('"' in each or "]" in each for each in options["key"]):
        raise InvalidEntry('needs key: a list of names, one below the other, without " and ]')
    files.check(options)


class EncryptedValue(files.ValueInFile):
    """One value in an encrypted file."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options, ".".join(options["key"]))

    def inspect(self) -> Found:
        content, kept = self._place.read()
        tree: Any = parsed(self._sops(content, "decrypt", "--output-type", "json")[0])
        for each in self.options["key"]:
            if not isinstance(tree, dict):
                raise StoreError("store_malformed", f"there is no mapping that {each} could be in")
            tree = tree.get(each)
        if not isinstance(tree, (str, type(None))):
            raise StoreError("store_malformed", "the value is no text")
        # What cannot be put in its place, or would be readable there, is found now.
        if PROBE.reveal().encode() in self.changed(content, PROBE):
            raise StoreError(
                "store_malformed", "sops leaves this value unencrypted: check the rules that the file was made by"
            )
        return Found(fingerprint_of(tree), parsed(kept), content)

    def changed(self, content: bytes, key: ApiKey) -> bytes:
        """Return what the file is with another key."""
        index = "".join(f'["{each}"]' for each in self.options["key"])
        return self._sops(content, "set", "--value-stdin", index=index, data=json.dumps(key.reveal()))[1]

    def _sops(self, content: bytes, verb: str, *words: str, index: str = "", data: str = "") -> tuple[bytes, bytes]:
        """Run sops on a copy; return what it prints, and the copy. What it prints of errors is not repeated."""
        folder, name = os.path.split(self.options["path"])
        own = self.options["age_key_file"]
        environment = {"SOPS_AGE_KEY_FILE": own} if own else {}
        with tempfile.TemporaryDirectory() as scratch:
            copy = os.path.join(scratch, name)
            with open(copy, "wb") as file:
                file.write(content)
            # It looks for its own settings where the file is.
            command = ["sops", verb, *words, copy, *filter(None, [index])]
            status, printed = files.ran(f"sops {verb}", command, data.encode(), environment, folder)
            if status != 0:
                known = _FAILURES.get(status) if verb == "decrypt" else None
                failed = f"sops {verb} failed (exit status {status}); it must be 3.11, or newer"
                raise StoreError(*(known or ("store_failed", failed)))
            with open(copy, "rb") as file:
                return printed, file.read()


opened = EncryptedValue
