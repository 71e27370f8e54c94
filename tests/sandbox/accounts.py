# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts, their one key and their sessions. Every function works inside a transaction of the store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from . import settings
from .credentials import Credential, fingerprint, new_key, new_token
from .shapes import Account

_USER_OFFSET = 35
"""The API numbers users and accounts apart (42 and 7 in its guide); a mix-up must show."""


class UnknownAccountError(LookupError):
    """No account has that email address."""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def make(db: sqlite3.Connection, email: str, password: str, **fields: str) -> int:
    """Make an account and return its id; one that exists keeps its key and gets the password.

    ``fields`` may hold ``name``, ``timezone``, ``api_key`` and ``created_at``.
    """
    unknown = set(fields) - {"name", "timezone", "api_key", "created_at"}
    if unknown:
        raise ValueError(f"unknown fields for an account: {', '.join(sorted(unknown))}")
    row = db.execute("SELECT id FROM accounts WHERE email = ?", (email,)).fetchone()
    if row:
        db.execute("UPDATE accounts SET password = ? WHERE id = ?", (password, row["id"]))
        return int(row["id"])
    created_at = fields.get("created_at") or _now()
    cursor = db.execute(
        "INSERT INTO accounts (email, password, name, timezone, api_key, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            email,
            password,
            fields.get("name", email.partition("@")[0].title()),
            fields.get("timezone", "Australia/Brisbane"),
            fields.get("api_key") or new_key(),
            created_at,
            created_at,
        ),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def id_of(db: sqlite3.Connection, email: str) -> int:
    """Return the id of an account.

    :raises UnknownAccountError: when there is none.
    """
    row = db.execute("SELECT id FROM accounts WHERE email = ?", (email,)).fetchone()
    if not row:
        raise UnknownAccountError(f"no account {email!r}")
    return int(row["id"])


def email_of(db: sqlite3.Connection, account: int) -> str:
    """Return the address of an account."""
    return str(db.execute("SELECT email FROM accounts WHERE id = ?", (account,)).fetchone()["email"])


def count(db: sqlite3.Connection) -> int:
    """Return the number of accounts."""
    return int(db.execute("SELECT count(*) FROM accounts").fetchone()[0])


def everything(db: sqlite3.Connection) -> list[Account]:
    """Return all accounts, oldest first."""
    return [_everything(db, row) for row in db.execute("SELECT * FROM accounts ORDER BY id").fetchall()]


def _everything(db: sqlite3.Connection, row: sqlite3.Row) -> Account:
    mine = (row["id"],)
    former = db.execute("SELECT api_key FROM former_keys WHERE account = ? ORDER BY seq", mine).fetchall()
    sessions = db.execute("SELECT token, expired FROM sessions WHERE account = ? ORDER BY seq", mine).fetchall()
    return {
        "id": row["id"],
        "user": row["id"] + _USER_OFFSET,
        "email": row["email"],
        "password": row["password"],
        "name": row["name"],
        "timezone": row["timezone"],
        "api_key": row["api_key"],
        "fingerprint": fingerprint(row["api_key"]),
        "former_keys": [key["api_key"] for key in former],
        "tokens": [session["token"] for session in sessions if not session["expired"]],
        "expired_tokens": [session["token"] for session in sessions if session["expired"]],
        "rotations": row["rotations"],
        "rotations_behind": row["rotations_behind"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def owner(db: sqlite3.Connection, credential: Credential) -> int | None:
    """Return the account a credential belongs or once belonged to; says nothing about whether it is alive."""
    if credential.kind == "token":
        query = "SELECT account FROM sessions WHERE token = ?"
    elif credential.kind == "key":
        query = "SELECT id FROM accounts WHERE api_key = ?1 UNION SELECT account FROM former_keys WHERE api_key = ?1"
    else:
        return None
    row = db.execute(query, (credential.value,)).fetchone()
    return int(row[0]) if row else None


def authenticate(db: sqlite3.Connection, credential: Credential) -> int | None:
    """Return the account whose live key or unexpired session this is, or None."""
    if credential.kind == "token":
        query = "SELECT account FROM sessions WHERE token = ? AND NOT expired"
    elif credential.kind == "key":
        query = "SELECT id FROM accounts WHERE api_key = ?"
    else:
        return None
    row = db.execute(query, (credential.value,)).fetchone()
    return int(row[0]) if row else None


def log_in(db: sqlite3.Connection, email: object, password: object) -> int | None:
    """Return the account that email and password open, or None."""
    if not isinstance(email, str) or not isinstance(password, str):
        return None
    row = db.execute("SELECT id FROM accounts WHERE email = ? AND password = ?", (email, password)).fetchone()
    return int(row["id"]) if row else None


def open_session(db: sqlite3.Connection, account: int) -> str:
    """Make a session and return its token."""
    token = new_token()
    db.execute("INSERT INTO sessions (account, token) VALUES (?, ?)", (account, token))
    return token


def expire_sessions(db: sqlite3.Connection, account: int | None = None, token: str | None = None) -> int:
    """End all sessions, those of one account, or a single one; return how many ended."""
    cursor = db.execute(
        "UPDATE sessions SET expired = 1 WHERE NOT expired AND coalesce(account = ?, 1) AND coalesce(token = ?, 1)",
        (account, token),
    )
    return cursor.rowcount


def rotate(db: sqlite3.Connection, account: int, behind: bool = False) -> None:
    """End the key and make a new one. ``behind``: by somebody in the dashboard, which is counted apart."""
    current = settings.effective(db, account)
    old: str = db.execute("SELECT api_key FROM accounts WHERE id = ?", (account,)).fetchone()["api_key"]
    new = new_key(None if current["prefix_changes"] else old.partition(".")[0])
    counter = "rotations_behind" if behind else "rotations"
    db.execute("INSERT INTO former_keys (account, api_key) VALUES (?, ?)", (account, old))
    db.execute(
        f"UPDATE accounts SET api_key = ?, updated_at = ?, {counter} = {counter} + 1 WHERE id = ?",
        (new, _now(), account),
    )
    if current["tokens_die_with_rotation"]:
        expire_sessions(db, account)


def previous_key(db: sqlite3.Connection, account: int, rotations: int) -> str | None:
    """Return the key that was live before the last so many rotations, or None if there were fewer."""
    query = "SELECT api_key FROM former_keys WHERE account = ? ORDER BY seq DESC LIMIT 1 OFFSET ?"
    row = db.execute(query, (account, rotations - 1)).fetchone()
    return str(row["api_key"]) if row else None


def details(db: sqlite3.Connection, account: int) -> dict[str, Any]:
    """Return what account-details answers with."""
    row = db.execute("SELECT * FROM accounts WHERE id = ?", (account,)).fetchone()
    return {
        "id": row["id"],
        "user": row["id"] + _USER_OFFSET,
        "api_key": row["api_key"],
        "system_emails": False,
        "update_emails": False,
        "notification_emails": False,
        "timezone": row["timezone"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def profile(db: sqlite3.Connection, account: int) -> Mapping[str, Any]:
    """Return what profile answers with, and login as ``user``."""
    row = db.execute("SELECT id, name, email FROM accounts WHERE id = ?", (account,)).fetchone()
    return {"id": row["id"] + _USER_OFFSET, "name": row["name"], "email": row["email"]}
