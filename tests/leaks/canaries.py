# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of a test as canaries: every form in which a piece of one must be found nowhere."""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

PIECE = 8
"""Characters of a secret that are too many anywhere."""

_HEX_PIECE = 12
"""The same where the first eight are hexadecimal digits, which hashes and ids are full of: found by chance."""

_HEX = re.compile(f"[0-9a-fA-F]{{{PIECE}}}")

_HTML = "HTML-escaped"
"""Found by taking it back in the text: an entity is six characters for one, so that eight are soon found by chance."""


def forms(secret: str) -> Iterator[tuple[str, str]]:
    """Yield the forms of a secret, each with its name. What may be shown of it is the half before the first dot."""
    hidden = secret.partition(".")[2] or secret
    octets = hidden.encode()
    yield "plain", hidden
    yield "reversed", hidden[::-1]
    yield "in lower case", hidden.lower()
    yield "in upper case", hidden.upper()
    yield "hexadecimal", octets.hex()
    yield "hexadecimal", octets.hex().upper()
    yield "URL-encoded", quote(hidden, safe="")
    yield "URL-encoded", quote_plus(hidden)
    yield "JSON-escaped", json.dumps(hidden)[1:-1]
    yield "JSON-escaped", json.dumps(json.dumps(hidden))[3:-3]
    yield _HTML, html.escape(hidden)
    yield "shell-quoted", shlex.quote(hidden).strip("'")
    for shift in range(3):
        # Base64 has three alignments; the outer characters depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + octets).decode().rstrip("=")[4 if shift else 0 : -1]
        yield "base64", encoded
        yield "base64", encoded.replace("+", "-").replace("/", "_")


@functools.cache  # every run of a test searches for the same few secrets
def _pieces_of(secret: str) -> dict[str, str]:
    """Return the form of the secret by each piece that is searched for."""
    found: dict[str, str] = {}
    for form, text in forms(secret):
        for at in range(len(text) - PIECE + 1) if form != _HTML else ():
            size = _HEX_PIECE if _HEX.match(text, at) else PIECE
            if at + size <= len(text):
                found.setdefault(text[at : at + size], form)
    return found


class Canaries:
    """What to look for, and what it is.

    :param secrets: each secret by its name, such as "the new key".
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._pieces: dict[int, dict[str, str]] = {PIECE: {}, _HEX_PIECE: {}}
        for name, secret in secrets.items():
            for piece, form in _pieces_of(secret).items():
                self._pieces[len(piece)].setdefault(piece, f"{name}, {form}")

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Canaries:
        """Name secrets by the little of each that does not tell it; several may have that in common."""
        return cls({f"{secret[:3]}… ({number})": secret for number, secret in enumerate(secrets)})

    def lines_in(self, text: str) -> list[str]:
        """Return the lines of a text that have a piece of a secret in them, each with what was found."""
        if not self.found_in(text):
            return []
        return [f"{sorted(found)}: {line}" for line in text.splitlines() if (found := self.found_in(line))]

    def found_in(self, text: str | bytes) -> set[str]:
        """Return the names and forms of the secrets of which there is a piece in a text."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        # Most words of a log come again and again. No secret of a test has white space in it.
        words = set(text.split())
        words |= {html.unescape(word) for word in words if "&" in word}
        found = set()
        for size, pieces in self._pieces.items():
            for word in words:
                for at in range(len(word) - size + 1):
                    if word[at : at + size] in pieces:
                        found.add(pieces[word[at : at + size]])
        return found
