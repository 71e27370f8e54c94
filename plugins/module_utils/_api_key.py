# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The API key as a value: its shape, its public prefix, its mask and its fingerprint.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import hashlib
import re
from typing import Any, Dict

MASK = "\u2022" * 16
"""What stands in place of the secret half, as in the dashboard."""

FINGERPRINT_LENGTH = 16
"""Hexadecimal digits of SHA-256 that tell keys apart: 64 bits, one-way, still readable."""

MAX_LENGTH = 512
"""Characters. The API documents no limit; a longer value is no key but an accident or an attack."""

# First character alphanumeric: a leading '~' would be expanded by a shell that reads the file.
_SHAPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_~+/=-]*\.[A-Za-z0-9._~+/=-]+\Z")
_FINGERPRINT = re.compile(r"[0-9a-f]{%d}\Z" % FINGERPRINT_LENGTH)


class NotAKey(ValueError):
    """The text is not shaped like ``PREFIX.SECRET``. The message never repeats the text."""


class ApiKey:
    """One API key, ``PREFIX.SECRET``; printing or formatting it shows only the mask.

    :raises NotAKey: when the text is anything else than a key, surrounding white space included.
    """

    __slots__ = ("_value",)

    def __init__(self, text: Any) -> None:
        value = str(text)
        if len(value) > MAX_LENGTH or not _SHAPE.match(value):
            raise NotAKey(
                "it is not shaped like an API key: PREFIX.SECRET, letters, digits and . _ ~ + / = - only, "
                "at most %d characters" % MAX_LENGTH
            )
        self._value = value

    def reveal(self) -> str:
        """Return the whole key. The only way to get it, so that every use can be found by name."""
        return self._value

    @property
    def prefix(self) -> str:
        """The public half, before the first dot."""
        return self._value.partition(".")[0]

    @property
    def masked(self) -> str:
        """The key as the dashboard shows it: the prefix, a dot and sixteen bullets."""
        return "{0}.{1}".format(self.prefix, MASK)

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of SHA-256: ``printf %s KEY | sha256sum | cut -c1-16``."""
        return hashlib.sha256(self._value.encode("ascii")).hexdigest()[:FINGERPRINT_LENGTH]

    def describe(self, before: str = "") -> Dict[str, str]:
        """Return ``{before}key_prefix``, ``…_masked`` and ``…_fingerprint``, all safe to show."""
        return {
            before + "key_prefix": self.prefix,
            before + "key_masked": self.masked,
            before + "key_fingerprint": self.fingerprint,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "<ApiKey {0}>".format(self.fingerprint)

    def __str__(self) -> str:
        return self.masked


def is_fingerprint(text: object) -> bool:
    """Tell whether the text has the shape of a fingerprint: 16 lower-case hexadecimal digits."""
    return isinstance(text, str) and _FINGERPRINT.match(text) is not None
