# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""One variable in a file that ``ansible-vault`` has encrypted, whole or that variable alone; committed if it is in git.

The passwords are those of the run itself. The record is a file beside it. With a ``remote`` nothing is changed in the
work tree: each change is a commit on what the remote's branch holds, so that a push is a compare-and-set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import files
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Field,
    Found,
    InvalidEntry,
    StoreError,
    fingerprint_of,
    library,
    parsed,
)

FIELDS = {
    **files.FIELDS,
    "variable": Field(default="multicart_api_key"),
    "passwords": Field(list, of_run="vault_passwords"),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER = b"$ANSIBLE_VAULT;"


def label(options: Mapping[str, Any]) -> str:
    return files.label(options, options["variable"])


def check(options: dict[str, Any]) -> None:
    if not _NAME.match(options["variable"]):
        raise InvalidEntry("needs variable: letters, digits and underscores, and no digit first")
    files.check(options)


class VaultedVariable(files.ValueInFile):
    """One variable in an encrypted file."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options, options["variable"])
        self._vault = library("ansible.parsing.vault", "ansible-core")

    def inspect(self) -> Found:
        content, kept = self._place.read()
        if not self.options["passwords"]:
            raise StoreError("store_refused", "there is no vault password: run Ansible with --vault-id or the like")
        value = self._variable(content).value
        # What cannot be put in its place is found now.
        self.changed(content, ApiKey("a.b"))
        return Found(fingerprint_of(value), parsed(kept), content)

    # --- the file's content -------------------------------------------------------------------------

    def _variable(self, content: bytes) -> _Variable:
        if content.startswith(_HEADER):
            text, _secret = self._decrypted(content)
            return _plain_variable(text, self.options["variable"])
        found = _inline_variable(content, self.options["variable"])
        if found.vaulted is not None:
            found.value = self._decrypted(found.vaulted)[0].decode("utf-8", "replace")
        elif found.value is not None:
            raise StoreError("store_malformed", "the variable is there, but not encrypted: encrypt it, or the file")
        return found

    def changed(self, content: bytes, key: ApiKey) -> bytes:
        """Return what the file is with another key."""
        found = self._variable(content)
        if content.startswith(_HEADER):
            text, password = self._decrypted(content)
            line = f"{self.options['variable']}: {key.reveal()}\n".encode()
            return self._encrypted(found.replaced(text, line), password, _id_of(content))
        given = found.vaulted
        password = self._decrypted(given)[1] if given is not None else self._passwords[0]
        vaulted = self._encrypted(key.reveal().encode(), password, None if given is None else _id_of(given))
        lines = b"".join(b"          " + line + b"\n" for line in vaulted.splitlines())
        return found.replaced(content, f"{self.options['variable']}: !vault |\n".encode() + lines)

    @property
    def _passwords(self) -> list[tuple[str, Any]]:
        return [
            (name, self._vault.VaultSecret(text.encode("utf-8", "surrogateescape")))
            for name, text in self.options["passwords"]
        ]

    def _decrypted(self, vaulted: bytes) -> tuple[bytes, tuple[str, Any]]:
        """Return the text, and the password that it is encrypted with."""
        for password in self._passwords:
            with suppress(Exception):  # of a wrong password, or of what is none of Ansible's
                return bytes(self._vault.VaultLib([password]).decrypt(vaulted)), password
        raise StoreError("store_refused", "none of the vault passwords of this run decrypts it")

    def _encrypted(self, text: bytes, password: tuple[str, Any], name: str | None) -> bytes:
        vault = self._vault.VaultLib([password])
        return bytes(vault.encrypt(text, secret=password[1], vault_id=name))


class _Variable:
    """Where a variable is in a text.

    :ivar value: None: it is not there, or encrypted.
    :ivar vaulted: what it is encrypted as, where it is alone.
    """

    def __init__(self, span: tuple[int, int] | None, value: str | None = None, vaulted: bytes | None = None) -> None:
        self._span = span
        self.value = value
        self.vaulted = vaulted

    def replaced(self, text: bytes, lines: bytes) -> bytes:
        """Return the text with these lines in the variable's place, or at its end."""
        if self._span is None:
            return text + (b"" if text.endswith(b"\n") or not text else b"\n") + lines
        start, end = self._span
        return text[:start] + lines + text[end:]


def _plain_variable(text: bytes, name: str) -> _Variable:
    """Find a variable with a text on one line.

    :raises StoreError: it has another form.
    """
    yaml = library("yaml", "PyYAML")
    found = list(re.finditer(rb"^%s[ \t]*:(.*)(?:\n|\Z)" % re.escape(name.encode()), text, re.M))
    try:
        known = yaml.load(text, _loader(yaml)) if text.strip() else {}
    except yaml.YAMLError:
        known = None
    if not isinstance(known, dict):
        raise StoreError("store_malformed", "it holds no YAML mapping")
    if name not in known and not found:
        return _Variable(None)
    value, alone = known.get(name), None
    if len(found) == 1 and isinstance(value, str):
        with suppress(yaml.YAMLError):
            alone = yaml.load(found[0][0], _loader(yaml))
    if alone != {name: value}:
        raise StoreError("store_malformed", f"{name} is not plain text on a line of its own")
    return _Variable(found[0].span(), value)


def _inline_variable(content: bytes, name: str) -> _Variable:
    """Find a variable that is encrypted by itself."""
    pattern = rb"^%s[ \t]*:[ \t]*!vault[ \t]*\|[-+0-9]*[ \t]*\n((?:[ \t]+[^\n]*(?:\n|\Z))+)" % re.escape(name.encode())
    found = list(re.finditer(pattern, content, re.M))
    if not found:
        return _plain_variable(content, name)
    if len(found) > 1:
        raise StoreError("store_malformed", f"{name} is there more than once")
    vaulted = b"\n".join(line.strip() for line in found[0][1].splitlines()) + b"\n"
    return _Variable(found[0].span(), vaulted=vaulted)


def _loader(yaml: Any) -> Any:
    """Return a loader that takes ``!vault`` and other tags as they are."""
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda self, _suffix, node: self.construct_scalar(node))
    return loader


def _id_of(vaulted: bytes) -> str | None:
    """Return the vault id in the header of what is encrypted; None: it has none."""
    parts = vaulted.split(b"\n", 1)[0].strip().split(b";")
    return parts[3].decode("utf-8", "replace") if len(parts) > 3 else None


opened = VaultedVariable
