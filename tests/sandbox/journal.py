# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal of requests. Every function works inside a transaction of the store."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any, cast

from .shapes import JournalEntry


def begin(db: sqlite3.Connection, **columns: Any) -> int:
    """Note a request before anything is decided about it, and return its number.

    It is noted first so that a request is on record even when this process is killed while it answers.
    """
    columns["time"] = time.time()
    names = ", ".join(columns)
    marks = ", ".join("?" for dummy in columns)
    cursor = db.execute(f"INSERT INTO journal ({names}) VALUES ({marks})", tuple(columns.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def decided(db: sqlite3.Connection, seq: int, account: int | None, accepted: bool, committed: bool) -> None:
    """Note the decision, in the transaction that makes it true."""
    db.execute(
        "UPDATE journal SET account = coalesce(?, account), accepted = ?, committed = ? WHERE seq = ?",
        (account, accepted, committed, seq),
    )


def answered(db: sqlite3.Connection, seq: int, http: int | None, code: object, status: object) -> None:
    """Note the answer, before its first byte leaves."""
    number = code if isinstance(code, int) and not isinstance(code, bool) else None
    db.execute(
        "UPDATE journal SET http = ?, code = ?, status = ? WHERE seq = ?",
        (http, number, json.dumps(status), seq),
    )


def entries(db: sqlite3.Connection, after: int = 0) -> list[JournalEntry]:
    """Return the entries with a number above ``after``, oldest first."""
    rows = db.execute("SELECT * FROM journal WHERE seq > ? ORDER BY seq", (after,)).fetchall()
    return [_entry(row) for row in rows]


def _entry(row: sqlite3.Row) -> JournalEntry:
    entry = dict(row)
    entry["status"] = json.loads(entry["status"])
    for name in ("accepted", "committed", "sent_cookie"):
        entry[name] = bool(entry[name])
    return cast(JournalEntry, entry)


def clear(db: sqlite3.Connection) -> None:
    """Forget everything. Numbers go on rising, so that ``after`` stays meaningful."""
    db.execute("DELETE FROM journal")
