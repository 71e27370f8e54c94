# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making, reading and fingerprinting credentials."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Protocol

from .shapes import CredentialKind

_ALNUM = string.ascii_letters + string.digits
_PREFIX_ALPHABET = string.ascii_lowercase + string.digits
_TOKEN_HEADER = re.compile(r"Token\s+(\S+)\s*", re.IGNORECASE)


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for dummy in range(length))


def new_key(prefix: str | None = None) -> str:
    """Return ``PREFIX.SECRET``: 7 characters that may be shown, a dot, 40 that may not."""
    return f"{prefix or _random(_PREFIX_ALPHABET, 7)}.{_random(_ALNUM, 40)}"


def new_token() -> str:
    """Return a session token, 40 hexadecimal digits."""
    return secrets.token_hex(20)


def fingerprint(secret: str) -> str:
    """Return the first 16 hexadecimal digits of SHA-256, as everywhere in the collection."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Headers(Protocol):
    """What is needed of a request's headers; their names are looked up regardless of case."""

    def get(self, name: str, default: str, /) -> str:
        """Return the value of a header, or the default."""


@dataclass(frozen=True)
class Credential:
    """What a request authenticates itself with."""

    kind: CredentialKind
    value: str = field(default="", repr=False)

    @classmethod
    def of(cls, headers: Headers) -> Credential:
        """Read the headers. The token counts when both are sent; another scheme counts as none."""
        token = _TOKEN_HEADER.fullmatch(headers.get("Authorization", ""))
        if token:
            return cls("token", token[1])
        key = headers.get("x-api-key", "")
        return cls("key", key) if key else cls("none")

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint, or None when nothing was sent."""
        return None if self.kind == "none" else fingerprint(self.value)
