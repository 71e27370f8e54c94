# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An answer as data: what is sent, and how the connection ends."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any


class Ending(enum.Enum):
    """What becomes of the connection."""

    NORMAL = "answer, keep the connection"
    CLOSE_AFTER = "answer, then close the connection without having announced it"
    HANG_UP = "no answer, close"
    RESET = "no answer, reset (RST)"
    TRUNCATE = "half of the body that Content-Length promised, then close"


@dataclass
class Answer:
    """One answer. An envelope has a ``payload``; anything else has ``raw`` bytes."""

    http: int = 200
    payload: dict[str, Any] | None = None
    raw: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    ending: Ending = Ending.NORMAL
    chunked: bool = False
    drip: float | None = None
    """Seconds between two bytes of the body; None: all at once."""

    @property
    def body(self) -> bytes:
        """The bytes to send."""
        return self.raw if self.payload is None else json.dumps(self.payload).encode()

    @property
    def sent_http(self) -> int | None:
        """The HTTP status that the client gets to see, or None."""
        return None if self.ending in (Ending.HANG_UP, Ending.RESET) else self.http


def success(data: Any) -> Answer:
    """Return an envelope that says success."""
    return Answer(payload={"code": 200, "data": data, "status": 1})


def failure(code: int, message: str) -> Answer:
    """Return an envelope that says failure, over HTTP 200 as the API does."""
    return Answer(payload={"code": code, "data": message, "status": 0})


def detail(http: int, message: str, **headers: str) -> Answer:
    """Return an answer of the framework, outside the envelope."""
    raw = json.dumps({"detail": message}).encode()
    return Answer(http, raw=raw, headers={name.replace("_", "-"): value for name, value in headers.items()})


def page(http: int, title: str) -> Answer:
    """Return an HTML page, as the framework or a proxy in front of it answers."""
    text = f"<!doctype html>\n<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
    return Answer(http, raw=text.encode(), content_type="text/html; charset=utf-8")


def redirect(http: int, to: str) -> Answer:
    """Return a redirect."""
    answer = page(http, "Moved")
    answer.headers["Location"] = to
    return answer


def hang_up() -> Answer:
    """Return the answer that never comes: the connection is closed."""
    return Answer(raw=b"", ending=Ending.HANG_UP)


def reset() -> Answer:
    """Return the answer that never comes: the connection is reset."""
    return Answer(raw=b"", ending=Ending.RESET)
