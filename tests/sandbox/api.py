# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API's side of the web application: a request meets a fault or not, is decided and answered."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, request

from . import accounts, journal
from .answers import Answer, Ending
from .credentials import Credential
from .faults import FAULTS, Call
from .rules import Rule, Rules
from .service import Request, decide, owner
from .store import Store
from .wire import ENDING

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def install(app: Flask, store: Store, rules: Rules) -> None:
    """Let the API answer every path that is not the control interface's."""

    @app.route("/", defaults={"_path": ""}, methods=_METHODS, provide_automatic_options=False)
    @app.route("/<path:_path>", methods=_METHODS, provide_automatic_options=False)
    def service(_path: str) -> Response:
        return _respond(_answer(store, rules, _read()))


def _read() -> Request:
    return Request(
        method=request.method,
        path=request.path,
        content_type=request.headers.get("Content-Type", ""),
        body=request.get_data(),
        credential=Credential.of(request.headers),
    )


def _scrub(text: str | None, asked: Request) -> str | None:
    """Take the request's own secrets out of what the journal keeps, should a client put them there."""
    for secret in (asked.credential.value, asked.fields.get("password")):
        if text and secret and isinstance(secret, str):
            text = text.replace(secret, "[secret]")
    return text


def _answer(store: Store, rules: Rules, asked: Request) -> Answer:
    with store.transaction() as db:
        account = owner(db, asked)
        email = None if account is None else accounts.email_of(db, account)
        rule = rules.claim(asked.endpoint, asked.credential.kind, email)
        seq = journal.begin(
            db,
            method=asked.method,
            path=_scrub(asked.path, asked),
            endpoint=asked.endpoint,
            credential=asked.credential.kind,
            fingerprint=asked.credential.fingerprint,
            account=account,
            fault=rule.fault if rule else None,
            connection=int(request.environ["REMOTE_PORT"]),
            user_agent=_scrub(request.headers.get("User-Agent"), asked),
            content_type=_scrub(asked.content_type, asked) or None,
            sent_cookie="Cookie" in request.headers,
        )
    answer = _meet(rule, store, asked, account, seq) if rule else decide(store, asked, seq)
    payload = answer.payload or {}
    with store.transaction() as db:
        journal.answered(db, seq, answer.sent_http, payload.get("code"), payload.get("status"))
    return answer


def _meet(rule: Rule, store: Store, asked: Request, account: int | None, seq: int) -> Answer:
    def previous_key(rotations: int) -> str | None:
        with store.transaction() as db:
            return None if account is None else accounts.previous_key(db, account, rotations)

    def expire_session() -> None:
        with store.transaction() as db:
            if asked.credential.kind == "token":
                accounts.expire_sessions(db, token=asked.credential.value)

    return FAULTS[rule.fault].act(
        Call(
            request=asked,
            seconds=rule.seconds or 0.0,
            to=rule.to or "",
            value=rule.value,
            decide=lambda: decide(store, asked, seq),
            previous_key=previous_key,
            expire_session=expire_session,
        )
    )


def _respond(answer: Answer) -> Response:
    if answer.ending is not Ending.NORMAL:
        request.environ[ENDING] = answer.ending
    body = answer.body
    if answer.drip is not None:
        response = Response(_dripping(body, answer.drip), answer.http, content_type=answer.content_type)
        response.headers["Content-Length"] = str(len(body))
    elif answer.chunked:
        response = Response(_in_chunks(body), answer.http, content_type=answer.content_type)
    else:
        response = Response(body, answer.http, content_type=answer.content_type)
    # A relative Location stays as it is written.
    response.autocorrect_location_header = False
    response.headers.extend(answer.headers)
    return response


def _dripping(body: bytes, seconds: float) -> Iterator[bytes]:
    for number in range(len(body)):
        yield body[number : number + 1]
        time.sleep(seconds)


def _in_chunks(body: bytes, size: int = 65536) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
