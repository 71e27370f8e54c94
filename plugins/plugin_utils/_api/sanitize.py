# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Text from the API is hostile until it was cleaned here."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MAX_TEXT = 200
"""Characters of the API's text that are ever shown."""

_PIECE = 8
"""Characters of a secret that count as a leak of it."""

_DEEPEST = 20
"""Levels of a host's answer; some Pythons read more than they can walk through."""

_SUSPECT_NAME = re.compile(r"key|secret|token|passw|credential", re.IGNORECASE)


def clean_text(text: str, secrets: Iterable[str]) -> str | None:
    """Return the text printable and short, or None if it repeats a secret or a piece of one in any usual form."""
    flat = re.sub(r"[^\x20-\x7e]+", " ", text).strip()
    said = (text.lower(), flat.lower(), _tight(text).lower())
    if any(piece in form for form in said for secret in secrets for piece in _pieces(secret)):
        return None
    return flat[:MAX_TEXT]


def withhold(said: Any, secrets: Iterable[str]) -> Any:
    """Return any JSON without the texts that repeat a secret, or a piece of one in any usual form.

    What is nested more deeply than anything that is asked for is left out.
    """
    pieces = frozenset(piece for secret in secrets for piece in _pieces(secret))

    def repeats(text: str) -> bool:
        tight = _tight(text).lower()
        return any(tight[start : start + _PIECE] in pieces for start in range(len(tight) - _PIECE + 1))

    def kept(value: Any, depth: int = 0) -> Any:
        if depth > _DEEPEST:
            return None
        if isinstance(value, dict):
            return {name: kept(each, depth + 1) for name, each in value.items()}
        if isinstance(value, list):
            return [kept(each, depth + 1) for each in value]
        return "(withheld, as it repeated a secret)" if isinstance(value, str) and repeats(value) else value

    return kept(said)


def clean_fields(fields: Any, secrets: Iterable[str]) -> dict[str, Any]:
    """Return the scalar fields of an account, texts cleaned; what looks like a credential is left out."""
    held = tuple(secrets)
    cleaned: dict[str, Any] = {}
    for name, value in fields.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or _SUSPECT_NAME.search(name):
            continue
        if clean_text(name, held) is None:
            continue
        if isinstance(value, str):
            cleaned[name] = clean_text(value, held)
        elif value is None or isinstance(value, bool):
            cleaned[name] = value
        elif isinstance(value, (int, float)):
            cleaned[name] = None if clean_text(str(value), held) is None else value
    return cleaned


def _tight(text: str) -> str:
    """Return the text without blanks and what cannot be seen, either of which may split a secret."""
    return re.sub(r"[^\x21-\x7e]+", "", text)


@functools.lru_cache(maxsize=64)
def _pieces(secret: str) -> frozenset[str]:
    """Return what must not be in a text, in lower case: hexadecimal digits, for one, are written in either."""
    # The environment may hold bytes that are not UTF-8, which come as surrogates.
    octets = secret.encode("utf-8", "surrogatepass")
    forms = {secret, quote(octets, safe=""), json.dumps(secret)[1:-1], secret[::-1], octets.hex()}
    for shift in range(3):
        # Base64 has three alignments; the outer characters depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + octets).decode().rstrip("=")[4 if shift else 0 : -1]
        forms |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    forms |= {tight for tight in map(_tight, forms) if len(tight) >= _PIECE}
    return frozenset(
        form[start : start + _PIECE].lower()
        for form in forms
        if form
        for start in range(max(1, len(form) - _PIECE + 1))
    )
