# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the API decides about a request. Faults are not known here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import accounts, journal, settings
from .answers import Answer, detail, failure, page, redirect, success
from .credentials import Credential
from .shapes import API_PATH, Endpoint
from .store import Store

PATHS: dict[str, Endpoint] = {
    "/users/login": "login",
    "/users/account-details": "read",
    "/users/api-key/update/": "rotate",
    "/users/profile": "profile",
}
"""The slash at the end is part of the path, and differs from one to the next."""


@dataclass(frozen=True)
class Request:
    """What the API reads of one request."""

    method: str
    path: str
    content_type: str
    body: bytes
    credential: Credential

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint, or ``other`` for a path that is none."""
        if not self.path.startswith(API_PATH):
            return "other"
        return PATHS.get(self.path[len(API_PATH) :], "other")

    @property
    def fields(self) -> Mapping[str, Any]:
        """The JSON object in the body, or an empty one when there is none."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def owner(db: sqlite3.Connection, request: Request) -> int | None:
    """Return the account a request is about, revoked credentials included; None: nobody knows."""
    if request.endpoint != "login":
        return accounts.owner(db, request.credential)
    try:
        return accounts.id_of(db, str(request.fields.get("email")))
    except accounts.UnknownAccountError:
        return None


def decide(store: Store, request: Request, seq: int) -> Answer:
    """Decide, carry out, and note the decision under ``seq``, all in one transaction."""
    refusal = _framework(request)
    if refusal:
        return refusal
    with store.transaction() as db:
        if request.endpoint == "login":
            return _log_in(db, request, seq)
        account = accounts.authenticate(db, request.credential)
        if account is None:
            return _dead(settings.effective(db, owner(db, request))["dead_credential"], request.credential)
        committed = request.endpoint == "rotate"
        if committed:
            accounts.rotate(db, account)
        journal.decided(db, seq, account, accepted=True, committed=committed)
        if request.endpoint == "rotate":
            return success("API Key Updated successfully!")
        if request.endpoint == "read":
            return success(accounts.details(db, account))
        return success(accounts.profile(db, account))


def _framework(request: Request) -> Answer | None:
    """Return what the framework answers before the application sees the request, or None."""
    if request.endpoint == "other":
        with_slash = request.path + "/"
        # APPEND_SLASH: a redirect only where it leads somewhere; a slash too many is never taken away.
        if with_slash.startswith(API_PATH) and with_slash[len(API_PATH) :] in PATHS:
            return redirect(301, with_slash)
        return page(404, "Not Found")
    if request.method != "POST":
        return detail(405, f'Method "{request.method}" not allowed.', Allow="POST")
    if not request.body:
        return None
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        return detail(415, f'Unsupported media type "{request.content_type}" in request.')
    try:
        found = json.loads(request.body)
    except ValueError as error:
        # The error says where, never what: the body of a login holds a password.
        return detail(400, f"JSON parse error at position {getattr(error, 'pos', 0)}")
    if not isinstance(found, dict):
        return detail(400, "Invalid data. Expected a dictionary.")
    return None


def _log_in(db: sqlite3.Connection, request: Request, seq: int) -> Answer:
    account = accounts.log_in(db, request.fields.get("email"), request.fields.get("password"))
    if account is None:
        return failure(400, "Invalid email or password!")
    journal.decided(db, seq, account, accepted=True, committed=False)
    return success({"token": accounts.open_session(db, account), "user": accounts.profile(db, account)})


def _dead(form: str, credential: Credential) -> Answer:
    """Return the refusal of a credential, in the form that the settings ask for."""
    message = {
        "key": "Invalid API key!",
        "token": "Invalid session token!",
        "none": "Authentication credentials were not provided!",
    }[credential.kind]
    if form == "http401":
        return detail(401, message, WWW_Authenticate="Token")
    if form == "http403":
        return detail(403, message)
    return failure(400 if form == "envelope400" else 401, message)
