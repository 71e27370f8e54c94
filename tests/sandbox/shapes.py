# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shapes of what goes over the control interface. Standard library only, for the handle."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Endpoint = Literal["login", "read", "rotate", "profile", "other"]
CredentialKind = Literal["none", "key", "token"]
DeadCredential = Literal["envelope401", "envelope400", "http401", "http403"]

API_PATH = "/api/v1"
CONTROL_PATH = "/_sandbox"
DEFAULT_ACCOUNT = ("demo@example.com", "rehearsal")


class Account(TypedDict):
    """Everything about one account, secrets included: tests look for them where they must not be."""

    id: int
    user: int
    email: str
    password: str
    name: str
    timezone: str
    api_key: str
    fingerprint: str
    former_keys: list[str]
    tokens: list[str]
    expired_tokens: list[str]
    rotations: int
    rotations_behind: int
    created_at: str
    updated_at: str


class JournalEntry(TypedDict):
    """One request to the API. No secret is in it."""

    seq: int
    time: float
    method: str
    path: str
    endpoint: Endpoint
    credential: CredentialKind
    fingerprint: str | None
    account: int | None
    http: int | None
    code: int | None
    status: Any
    accepted: bool
    committed: bool
    fault: str | None
    connection: int
    user_agent: str | None
    content_type: str | None
    sent_cookie: bool


class Settings(TypedDict):
    """What nobody documents about the real service, as it is answered at the moment."""

    dead_credential: DeadCredential
    tokens_die_with_rotation: bool
    prefix_changes: bool
