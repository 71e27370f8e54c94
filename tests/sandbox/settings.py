# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nobody documents about the API, as switches: for the whole server or for one account."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, cast, get_args

from .shapes import DeadCredential, Settings

_SERVER = 0
"""Stands for the whole server in the account column; real accounts start at 1."""

_CHOICES: dict[str, tuple[object, ...]] = {
    "dead_credential": get_args(DeadCredential),
    "tokens_die_with_rotation": (False, True),
    "prefix_changes": (False, True),
}


def change(db: sqlite3.Connection, values: Mapping[str, Any], account: int | None = None) -> None:
    """Set some settings, for one account or for every account that has none of its own.

    :raises ValueError: for an unknown name or value.
    """
    for name, value in values.items():
        if name not in _CHOICES:
            raise ValueError(f"unknown setting {name!r}; there are: {', '.join(_CHOICES)}")
        # 0 == False: the type is compared too.
        if not any(value == choice and type(value) is type(choice) for choice in _CHOICES[name]):
            raise ValueError(f"{name} must be one of {json.dumps(_CHOICES[name])}")
        db.execute(
            "INSERT OR REPLACE INTO settings (account, name, value) VALUES (?, ?, ?)",
            (_SERVER if account is None else account, name, json.dumps(value)),
        )


def effective(db: sqlite3.Connection, account: int | None = None) -> Settings:
    """Return what holds for an account, or for credentials that belong to none."""
    found: dict[str, Any] = {name: choices[0] for name, choices in _CHOICES.items()}
    query = "SELECT name, value FROM settings WHERE account IN (?, ?) ORDER BY account"
    for row in db.execute(query, (_SERVER, _SERVER if account is None else account)):
        found[row["name"]] = json.loads(row["value"])
    return cast(Settings, found)
