# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against a real server in its own process, and against bytes that no honest server says."""

from __future__ import annotations

import http.client
import json
import platform
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api import client as client_module
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import (
    ACCOUNT_PATH,
    LOGIN_PATH,
    MAX_ANSWER,
    MOST_PUT_OFF,
    RATE_LIMIT_PATIENCE,
    ROTATE_PATH,
    VERSION,
    Client,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login
from urllib3.connection import HTTPConnection

from tests.ports import OwnPort
from tests.sandbox.faults import FAULTS
from tests.unit.plugins.plugin_utils.doubles import Time, Tokens
from tests.unit.plugins.plugin_utils.raw_server import NAMED, BreakingProxy, RawServer, answer
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.unit.plugins.plugin_utils.conftest import Rehearsal

KEY = ApiKey("173axcs.aaaaBBBBccccDDDD")
DEAD_FORMS = ["envelope401", "envelope400", "http401", "http403"]


def open_client(connection: Connection, tokens: Tokens | None = None, time: Time | None = None) -> Client:
    watch = time or Time()
    return Client(connection, tokens or Tokens(), watch.sleep, watch.clock)


def by_name(connection: Connection) -> Connection:
    """Return the connection to the same server under a name that is not a loopback address."""
    return replace(connection, api_url=connection.api_url.replace("127.0.0.1", NAMED))


def failing(ask: Callable[[], object]) -> MulticartError:
    with pytest.raises(MulticartError) as caught:
        ask()
    return caught.value


# --- what is asked --------------------------------------------------------------------------------


def test_reading_asks_once_at_the_exact_path_and_says_who_asks(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection()) as client:
        account = client.read()
    (entry,) = rehearsal.journal()
    assert (entry["method"], entry["path"]) == ("POST", "/api/v1/users/account-details")
    assert entry["content_type"] == "application/json"
    assert entry["user_agent"] and entry["user_agent"].startswith(f"multicart.keys/{VERSION} ")
    assert entry["credential"] == "token"
    assert account.key == rehearsal.key
    assert account.id == str(rehearsal.account["id"])


def test_rotating_asks_once_at_the_exact_path_with_the_key_to_retire(rehearsal: Rehearsal) -> None:
    old = rehearsal.key
    with open_client(rehearsal.connection()) as client:
        assert client.rotate(old).verdict is Verdict.ACCEPTED
        assert client.rotate(old).verdict is Verdict.REJECTED
    entries = rehearsal.journal()
    assert [entry["path"] for entry in entries] == ["/api/v1/users/api-key/update/"] * 2
    assert {(entry["credential"], entry["fingerprint"]) for entry in entries} == {("key", old.fingerprint)}
    assert rehearsal.rotations() == 1


def test_logging_in_asks_at_the_exact_path_without_a_credential(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection(login=rehearsal.login)) as client:
        client.read()
    login, read = rehearsal.journal()
    assert (login["path"], login["credential"]) == ("/api/v1/users/login", "none")
    assert read["credential"] == "token"


def test_the_head_of_a_request_holds_only_what_is_needed() -> None:
    with (
        RawServer(answer(status="500 Oh no")) as server,
        open_client(Connection(server.url, api_key=KEY)) as client,
    ):
        failing(client.read)
        head, dummy, body = server.heard[0].partition(b"\r\n\r\n")
    said = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
    assert said == {
        "Host": urlsplit(server.url).netloc,
        "User-Agent": f"multicart.keys/{VERSION} (Ansible collection; Python {platform.python_version()})",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Content-Length": "2",
        "x-api-key": KEY.reveal(),
    }
    assert body == b"{}"


def test_a_request_follows_nothing_takes_only_so_long_and_keeps_no_run_from_ending(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    real = requests.Session.post

    def watched(session: Any, url: str, **options: Any) -> Any:
        asked.append({**options, "daemon": threading.current_thread().daemon})
        return real(session, url, **options)

    monkeypatch.setattr(requests.Session, "post", watched)
    with open_client(rehearsal.connection(session_token="our-token", timeout=7.0)) as client:
        failing(client.read)
    assert asked == [
        {
            "data": b"{}",
            "headers": {"Content-Type": "application/json", "Authorization": "Token our-token"},
            "timeout": 7.0,
            "allow_redirects": False,
            "stream": True,
            "daemon": True,
        }
    ]


def test_one_connection_serves_all_calls_of_one_operation(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection(login=rehearsal.login)) as client:
        old = client.read().key
        assert client.rotate(old).verdict is Verdict.ACCEPTED
        new = client.read().key
        assert client.accepts(new)
        assert not client.accepts(old)
    entries = rehearsal.journal()
    assert [entry["endpoint"] for entry in entries] == ["login", "read", "rotate", "read", "read", "read"]
    assert len({entry["connection"] for entry in entries}) == 1


def test_cookies_are_not_kept(rehearsal: Rehearsal) -> None:
    rehearsal.will("any", "cookie", times=-1)
    with open_client(rehearsal.connection()) as client:
        client.read()
        client.read()
    assert [entry["sent_cookie"] for entry in rehearsal.journal()] == [False, False]


# --- credentials ----------------------------------------------------------------------------------


def test_a_key_alone_can_read(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection(api_key=rehearsal.key)) as client:
        assert client.read().key == rehearsal.key
    assert [entry["credential"] for entry in rehearsal.journal()] == ["key"]


def test_a_token_goes_before_a_login_and_a_key(rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection(session_token=rehearsal.token(), login=rehearsal.login, api_key=rehearsal.key)
    with open_client(connection) as client:
        client.read()
    assert [entry["credential"] for entry in rehearsal.journal()] == ["token"]


def test_without_a_credential_nothing_is_asked(rehearsal: Rehearsal) -> None:
    with open_client(Connection(rehearsal.sandbox.url)) as client:
        assert failing(client.read).reason is Reason.NO_CREDENTIALS
    assert rehearsal.journal() == []


def test_one_login_serves_a_whole_run(rehearsal: Rehearsal) -> None:
    tokens = Tokens()
    for _operation in range(3):
        with open_client(rehearsal.connection(login=rehearsal.login), tokens) as client:
            client.read()
            client.read()
    assert rehearsal.endpoints() == ["login"] + ["read"] * 6


@pytest.mark.parametrize("form", DEAD_FORMS)
def test_a_dead_token_is_replaced_by_a_login_once_in_a_run(rehearsal: Rehearsal, form: str) -> None:
    rehearsal.sandbox.settings(dead_credential=form)
    token = rehearsal.token()
    rehearsal.sandbox.expire(rehearsal.email)
    connection, tokens = rehearsal.connection(session_token=token, login=rehearsal.login), Tokens()
    for _operation in range(3):
        with open_client(connection, tokens) as client:
            assert client.read().key == rehearsal.key
    assert rehearsal.endpoints().count("login") == 1


@pytest.mark.parametrize("form", DEAD_FORMS)
def test_a_login_whose_token_dies_with_the_rotation_is_made_again(rehearsal: Rehearsal, form: str) -> None:
    rehearsal.sandbox.settings(tokens_die_with_rotation=True, dead_credential=form)
    with open_client(rehearsal.connection(login=rehearsal.login)) as client:
        old = client.read().key
        assert client.rotate(old).verdict is Verdict.ACCEPTED
        assert client.read().key == rehearsal.key != old
    assert rehearsal.endpoints().count("login") == 2


def test_a_token_that_dies_once_more_is_replaced_once_more(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection(login=rehearsal.login)) as client:
        for _time in range(3):
            assert client.read().key == rehearsal.key
            rehearsal.sandbox.expire(rehearsal.email)


@pytest.mark.parametrize("form", DEAD_FORMS)
def test_fresh_tokens_that_are_refused_are_not_asked_for_again_and_again(rehearsal: Rehearsal, form: str) -> None:
    rehearsal.sandbox.settings(dead_credential=form)
    rehearsal.will("read", "token_dies", times=-1)
    with open_client(rehearsal.connection(login=rehearsal.login)) as client:
        for _time in range(5):
            assert failing(client.read).reason in (Reason.CREDENTIALS_REJECTED, Reason.REFUSED)
    assert rehearsal.endpoints().count("login") <= 2


@pytest.mark.parametrize("form", DEAD_FORMS)
def test_a_dead_token_alone_is_rejected_after_one_request(rehearsal: Rehearsal, form: str) -> None:
    rehearsal.sandbox.settings(dead_credential=form)
    with open_client(rehearsal.connection(session_token="dead")) as client:
        error = failing(client.read)
    expected = Reason.REFUSED if form == "envelope400" else Reason.CREDENTIALS_REJECTED
    assert error.reason is expected
    assert "the API rejected the session token" in error.what or form == "envelope400"
    assert rehearsal.endpoints() == ["read"]


def test_a_wrong_password_is_rejected_after_one_request(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection(login=Login(rehearsal.email, "wrong"))) as client:
        error = failing(client.read)
    assert error.reason is Reason.CREDENTIALS_REJECTED
    assert 'the API rejected the email and password. Its message: "Invalid email or password!"' in error.what
    assert rehearsal.endpoints() == ["login"]


@pytest.mark.parametrize("form", DEAD_FORMS)
def test_a_dead_key_is_not_let_in_however_that_is_said(rehearsal: Rehearsal, form: str) -> None:
    rehearsal.sandbox.settings(dead_credential=form)
    with open_client(rehearsal.connection()) as client:
        assert client.accepts(rehearsal.key)
        assert not client.accepts(KEY)
        answer = client.rotate(KEY)
    assert answer.verdict in (Verdict.REJECTED, Verdict.REFUSED)
    assert "the API rejected the API key" in str(answer.error) or form == "envelope400"
    assert rehearsal.rotations() == 0


@pytest.mark.parametrize("token", [None, "", 7, ["x"], "a b", "a\r\nX-Evil: 1", "x" * 5000])
def test_a_login_without_a_usable_token_is_none(token: Any) -> None:
    body = json.dumps({"code": 200, "status": 1, "data": {"token": token}}).encode()
    with RawServer(answer(body)) as server, open_client(Connection(server.url, login=Login("a@b.c", "p"))) as client:
        error = failing(client.read)
    assert error.reason is Reason.NOT_AN_ENVELOPE
    assert len(server.heard) == 1


# --- the envelope ---------------------------------------------------------------------------------

SPOILT = ["status_missing", "status_string", "status_true", "status_null"]
PAGES = ["http_500", "http_502", "http_503", "html"]


@pytest.mark.parametrize("fault", [*SPOILT, *PAGES, "wrong_data_type"])
def test_reading_something_else_than_an_envelope_is_tried_again_in_bounded_time(
    rehearsal: Rehearsal, fault: str
) -> None:
    rehearsal.will("read", fault, times=-1)
    watch = Time()
    with open_client(rehearsal.connection(timeout=5.0), time=watch) as client:
        assert failing(client.read).reason is Reason.NOT_AN_ENVELOPE
    assert 3 <= len(rehearsal.journal()) <= 10
    assert 2.0 <= watch.now <= 5.0


@pytest.mark.parametrize("fault", [*SPOILT, *PAGES, "answer_lost_before_commit", "reset_before", "truncated"])
def test_a_read_that_fails_for_a_while_succeeds(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("read", fault, times=2)
    with open_client(rehearsal.connection()) as client:
        assert client.read().key == rehearsal.key
    assert len(rehearsal.journal()) == 3


def test_status_zero_is_a_refusal_whatever_else_the_answer_says(rehearsal: Rehearsal) -> None:
    rehearsal.will("any", "status_zero", times=-1)
    with open_client(rehearsal.connection()) as client:
        error = failing(client.read)
    assert error.reason is Reason.REFUSED
    assert len(rehearsal.journal()) == 1
    assert rehearsal.journal()[0]["http"] == 200


@pytest.mark.parametrize("code", [400, 402, 404, 409])
def test_a_definite_refusal_is_reported_with_its_message_and_not_tried_again(rehearsal: Rehearsal, code: int) -> None:
    rehearsal.will("read", "refused", value=code, times=-1)
    with open_client(rehearsal.connection()) as client:
        error = failing(client.read)
    assert error.reason is Reason.REFUSED
    assert f"code {code}" in str(error) and "The request was refused!" in str(error)
    assert len(rehearsal.journal()) == 1


@pytest.mark.parametrize("code", [500, 503])
def test_an_inner_failure_of_the_service_is_no_definite_answer(rehearsal: Rehearsal, code: int) -> None:
    rehearsal.will("any", "refused", value=code, times=-1)
    with open_client(rehearsal.connection()) as client:
        assert failing(client.read).reason is Reason.NOT_AN_ENVELOPE
        assert client.rotate(rehearsal.key).verdict is Verdict.UNCLEAR


@pytest.mark.parametrize("code", [400, 401, 403, 404])
def test_x7_an_envelope_that_refuses_the_credential_is_a_rejection(rehearsal: Rehearsal, code: int) -> None:
    rehearsal.will("read", "refused", value=code, times=-1)
    with open_client(rehearsal.connection()) as client:
        assert client.accepts(rehearsal.key) is False
    assert len(rehearsal.journal()) == 1


@pytest.mark.parametrize("code", [200, 402, 409, 410, 422, 451, 500, 503])
def test_x7_any_other_answer_does_not_say_that_a_key_is_rejected(rehearsal: Rehearsal, code: int) -> None:
    rehearsal.will("read", "refused", value=code, times=-1)
    with open_client(rehearsal.connection()) as client:
        failing(lambda: client.accepts(KEY))
        failing(lambda: client.accepts(rehearsal.key))
    assert len(rehearsal.journal()) > 4


@pytest.mark.parametrize("code", [409, 500])
def test_x7_an_answer_that_does_not_say_it_is_asked_for_again(rehearsal: Rehearsal, code: int) -> None:
    rehearsal.will("read", "refused", value=code, times=2)
    with open_client(rehearsal.connection()) as client:
        assert client.accepts(KEY) is False
        rehearsal.will("read", "refused", value=code, times=2)
        assert client.accepts(rehearsal.key) is True


# --- too many requests ----------------------------------------------------------------------------

LIMITED = [("rate_limited", 7), ("refused", 429)]
"""HTTP 429, which may say how long to wait, and an envelope."""


@pytest.mark.parametrize(("fault", "value"), LIMITED)
def test_a_rate_limit_is_waited_for(rehearsal: Rehearsal, fault: str, value: int) -> None:
    time = Time()
    with open_client(rehearsal.connection(login=rehearsal.login), time=time) as client:
        for on in ("login", "read", "rotate"):
            rehearsal.will(on, fault, value=value, times=2)
        key = client.read().key
        assert key == rehearsal.key
        assert client.rotate(key).verdict is Verdict.ACCEPTED
        assert 6 * (7 if value == 7 else 1) <= time.now < 6 * 8
        rehearsal.will("read", fault, value=value, times=2)
        assert client.accepts(key) is False
        rehearsal.will("read", fault, value=value, times=2)
        assert client.accepts(rehearsal.key) is True
    assert rehearsal.rotations() == 1


@pytest.mark.parametrize(("fault", "value"), [*LIMITED, ("rate_limited", 0), ("rate_limited", "soon")])
def test_a_rate_limit_is_waited_for_in_bounded_time(rehearsal: Rehearsal, fault: str, value: Any) -> None:
    rehearsal.will("any", fault, value=value, times=-1)
    for ask in ("read", "accepts", "rotate"):
        time = Time()
        with open_client(rehearsal.connection(), time=time) as client:
            if ask == "rotate":
                answer = client.rotate(rehearsal.key)
                assert answer.verdict is Verdict.REFUSED
                error = answer.error
            else:
                error = failing(client.read if ask == "read" else lambda: client.accepts(rehearsal.key))
        assert error is not None and error.reason is Reason.RATE_LIMITED
        assert RATE_LIMIT_PATIENCE - 8 <= time.now < RATE_LIMIT_PATIENCE
    assert rehearsal.rotations() == 0
    assert len(rehearsal.journal()) <= 3 * 70


@pytest.mark.parametrize("value", [RATE_LIMIT_PATIENCE, RATE_LIMIT_PATIENCE + 1, 10**9, "9" * 400])
def test_a_rate_limit_that_is_too_long_is_told_at_once(rehearsal: Rehearsal, value: Any) -> None:
    rehearsal.will("any", "rate_limited", value=str(value).removesuffix(".0"), times=-1)
    time = Time()
    with open_client(rehearsal.connection(), time=time) as client:
        assert failing(client.read).reason is Reason.RATE_LIMITED
    assert time.now == 0 or value == "9" * 400


@pytest.mark.parametrize("seconds", [20, 50])
def test_rate_limits_of_many_requests_are_waited_for_in_bounded_time(rehearsal: Rehearsal, seconds: int) -> None:
    """One operation makes many requests while others wait for it, and each of them may be put off."""
    time, asked = Time(), int(MOST_PUT_OFF) // seconds
    with open_client(rehearsal.connection(), time=time) as client:
        for _request in range(asked):
            rehearsal.will("read", "rate_limited", value=seconds, times=1)
            assert client.accepts(rehearsal.key)
        rehearsal.will("read", "rate_limited", value=seconds, times=1)
        assert failing(lambda: client.accepts(rehearsal.key)).reason is Reason.RATE_LIMITED
    assert time.now == asked * seconds


def test_a_rate_limit_until_a_moment_is_waited_for(rehearsal: Rehearsal) -> None:
    moment = datetime.now(timezone.utc) + timedelta(seconds=30)
    rehearsal.will("read", "rate_limited", value=format_datetime(moment, usegmt=True), times=1)
    time = Time()
    with open_client(rehearsal.connection(), time=time) as client:
        assert client.read().key == rehearsal.key
    assert 25 < time.now <= 30


def test_a_rate_limit_until_a_moment_of_no_zone_is_one_that_does_not_say_how_long(rehearsal: Rehearsal) -> None:
    rehearsal.will("read", "rate_limited", value="Wed, 21 Oct 2099 07:28:00 -0000", times=1)
    time = Time()
    with open_client(rehearsal.connection(), time=time) as client:
        assert client.read().key == rehearsal.key
    assert time.now == 1.0


def test_a_rate_limit_in_an_envelope_may_say_how_long_too() -> None:
    said, time = answer(b'{"code": 429, "status": 0, "data": ""}', "200 OK", "Retry-After: 7"), Time()
    with RawServer(said) as server, open_client(Connection(server.url, api_key=KEY), time=time) as client:
        assert failing(client.read).reason is Reason.RATE_LIMITED
    assert time.now == RATE_LIMIT_PATIENCE // 7 * 7


class SleptTime(Time):
    """Also remembers for how long each time."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


def test_further_tries_come_later_and_later_within_the_timeout(rehearsal: Rehearsal) -> None:
    for timeout, pauses in ((0.2, []), (0.3, [0.2]), (9.0, [0.2, 0.4, 0.8, 1.6, 2.0, 2.0])):
        rehearsal.will("read", "http_500", times=len(pauses) + 1)
        watch = SleptTime()
        with open_client(rehearsal.connection(timeout=timeout), time=watch) as client:
            assert failing(client.read).reason is Reason.NOT_AN_ENVELOPE
        assert watch.slept == pauses


def test_the_first_further_try_comes_soon(rehearsal: Rehearsal) -> None:
    rehearsal.will("read", "http_500", times=1)
    time = Time()
    with open_client(rehearsal.connection(), time=time) as client:
        client.read()
    assert time.now == 0.2


@pytest.mark.parametrize("fault", ["http_401", "http_403"])
def test_a_refusal_of_the_framework_is_definite(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("any", fault, times=-1)
    with open_client(rehearsal.connection()) as client:
        assert failing(client.read).reason is Reason.CREDENTIALS_REJECTED
        assert client.rotate(rehearsal.key).verdict is Verdict.REJECTED
        assert not client.accepts(rehearsal.key)
    assert len(rehearsal.journal()) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"code": 200, "status": 1}',
        b'{"code": 200, "status": 1.0, "data": {}}',
        b'{"code": 200, "status": 2, "data": {}}',
        b'{"code": 200, "status": -1, "data": {}}',
        b'{"code": "400", "status": 0, "data": "No."}',
        b'{"status": 0, "data": "No."}',
        b'{"code": true, "status": 0, "data": "No."}',
        b'{"code": 200, "status": 1, "data": {}}trailing',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"code": 200, "status": ' + b"1" * 5000 + b', "data": {}}',
        b'{"code": 200, "status": 1, "data": {"id": true, "api_key": "a.b"}}',
        b'{"code": 200, "status": 1, "data": {"id": null, "api_key": "a.b"}}',
        b'{"code": 200, "status": 1, "data": {"id": "../x", "api_key": "a.b"}}',
        b'{"code": 200, "status": 1, "data": {"id": 1.5, "api_key": "a.b"}}',
    ],
)
def test_no_odd_body_is_taken_for_an_account(body: bytes) -> None:
    with RawServer(answer(body)) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        assert failing(client.read).reason is Reason.NOT_AN_ENVELOPE


@pytest.mark.parametrize("fault", ["key_missing", "key_empty", "key_malformed", "key_newline"])
def test_what_is_no_key_is_refused_and_not_repeated(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("read", fault, times=-1)
    with open_client(rehearsal.connection()) as client:
        error = failing(client.read)
    assert error.reason is Reason.MALFORMED_KEY
    assert "pwned" not in str(error) and "LD_PRELOAD" not in str(error) and "\n" not in str(error)


def test_the_fields_of_an_account_hold_no_credential(rehearsal: Rehearsal) -> None:
    with open_client(rehearsal.connection()) as client:
        fields = client.read().fields
    assert fields["id"] == rehearsal.account["id"]
    assert fields["timezone"] == "Australia/Brisbane"
    assert "api_key" not in fields


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(rehearsal: Rehearsal, status: int) -> None:
    with RawServer(answer(b"{}")) as elsewhere:
        rehearsal.will("any", "redirect", value=status, to=elsewhere.url + "/users/login", times=-1)
        with open_client(rehearsal.connection(login=rehearsal.login, session_token=rehearsal.token())) as client:
            error = failing(client.read)
            verdict = client.rotate(rehearsal.key).verdict
        with open_client(rehearsal.connection(login=rehearsal.login)) as client:
            assert failing(client.read).reason is Reason.REDIRECT_REFUSED
        assert elsewhere.heard == []
    assert error.reason is Reason.REDIRECT_REFUSED
    assert str(status) in str(error) and elsewhere.url not in str(error)
    assert verdict is Verdict.UNCLEAR
    assert rehearsal.endpoints() == ["read", "rotate", "login"]


@pytest.mark.parametrize("to", ["http://[", "//", "\x00", "javascript:alert(1)", "http://a:b@c:99999/", ""])
def test_a_redirect_to_nowhere_is_a_redirect_too(rehearsal: Rehearsal, to: str) -> None:
    with (
        RawServer(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()) as server,
        open_client(Connection(server.url, api_key=KEY)) as client,
    ):
        assert failing(client.read).reason is Reason.REDIRECT_REFUSED


@pytest.mark.parametrize("status", ["302 Found", "500 Oh no", "401 No", "404 Gone"])
def test_the_body_of_an_answer_that_is_none_is_not_swallowed(status: str) -> None:
    said = f"HTTP/1.1 {status}\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    block = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    with RawServer(said, endless=block) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        answered = client.rotate(KEY)
    # One that swallowed it would have been given up.
    assert answered.error and answered.error.reason is not Reason.UNREACHABLE
    assert server.sent < 64 * 2**20


# --- rotations are never repeated by the client ---------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "rotations"),
    [
        ("answer_lost_before_commit", 0),
        ("answer_lost_after_commit", 1),
        ("reset_before", 0),
        ("reset_after", 1),
        ("http_500", 0),
        ("http_502_after_commit", 1),
        ("html", 0),
        ("html_after_commit", 1),
        ("status_missing", 1),
        ("status_string", 1),
        ("status_true", 1),
        ("status_null", 1),
        ("truncated", 1),
        ("oversized", 1),
        ("oversized_chunked", 1),
        ("gzip_bomb", 1),
    ],
)
def test_a_rotation_without_a_usable_answer_is_unclear_and_sent_once(
    rehearsal: Rehearsal, fault: str, rotations: int
) -> None:
    rehearsal.will("rotate", fault, times=-1)
    key = rehearsal.key
    with open_client(rehearsal.connection()) as client:
        answered = client.rotate(key)
    assert answered.verdict is Verdict.UNCLEAR
    assert answered.error is not None
    assert rehearsal.endpoints() == ["rotate"]
    assert rehearsal.rotations() == rotations


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "slow", "late_commit", "drip"])
def test_a_rotation_whose_answer_takes_too_long_is_unclear_and_sent_once(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("rotate", fault, seconds=0.1 if fault == "drip" else 60.0)
    key = rehearsal.key
    start = time.monotonic()
    with open_client(rehearsal.connection(timeout=0.4)) as client:
        assert client.rotate(key).verdict is Verdict.UNCLEAR
        assert time.monotonic() - start < PATIENCE
        assert eventually(lambda: rehearsal.journal("rotate"))
        # The connection that the answer may still come over is not used for the next question.
        client._connection = rehearsal.connection()
        assert client.read().id == str(rehearsal.account["id"])
    first, second = rehearsal.journal()
    assert first["connection"] != second["connection"]


def test_a_claimed_rotation_is_accepted_as_the_service_says(rehearsal: Rehearsal) -> None:
    rehearsal.will("rotate", "claimed")
    with open_client(rehearsal.connection()) as client:
        assert client.rotate(rehearsal.key).verdict is Verdict.ACCEPTED


def test_a_rotation_under_a_connection_that_was_closed_meanwhile_is_made_at_most_once(rehearsal: Rehearsal) -> None:
    rehearsal.will("read", "closes_after_answer")
    with open_client(rehearsal.connection()) as client:
        old = client.read().key
        time.sleep(0.1)
        assert client.rotate(old).verdict in (Verdict.ACCEPTED, Verdict.UNCLEAR)
    assert rehearsal.rotations() <= 1
    assert rehearsal.endpoints().count("rotate") <= 1


def test_a_refused_connection_is_known_not_to_have_carried_the_request(rehearsal: Rehearsal) -> None:
    watch = Time()
    with (
        OwnPort() as port,
        open_client(Connection(f"http://127.0.0.1:{port.number}", api_key=KEY, timeout=2.0), time=watch) as client,
    ):
        answered = client.rotate(KEY)
        assert answered.verdict is Verdict.NOT_SENT
        assert answered.error and "refused" in answered.error.what
        assert failing(client.read).reason is Reason.UNREACHABLE
    assert watch.now <= 2.0


def test_an_unknown_host_is_known_not_to_have_got_the_request() -> None:
    with open_client(Connection("https://no-such-host.invalid", api_key=KEY, timeout=8.0)) as client:
        answered = client.rotate(KEY)
    assert answered.error and answered.error.reason is Reason.UNREACHABLE
    # Where names are resolved by a slow or lying resolver it may be unclear, but never a refusal.
    assert answered.verdict in (Verdict.NOT_SENT, Verdict.UNCLEAR)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["slow", "drip", "timeout_before"])
def test_an_exchange_is_bounded_as_a_whole(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("read", fault, seconds=0.2 if fault == "drip" else 60.0, times=-1)
    start = time.monotonic()
    with Client(rehearsal.connection(timeout=0.5), Tokens()) as client:
        error = failing(client.read)
    assert error.reason is Reason.UNREACHABLE
    assert time.monotonic() - start < PATIENCE


def test_after_an_exchange_that_took_too_long_the_next_one_is_as_safe(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is given up, and another made to the same API, which is trusted no more than the first."""
    made: list[tuple[str, str | bool]] = []
    real = client_module.session_for

    def watched(url: str, trust: str | bool) -> requests.Session:
        made.append((url, trust))
        return real(url, trust)

    monkeypatch.setattr(client_module, "session_for", watched)
    connection = tls_rehearsal.connection(timeout=0.3)
    tls_rehearsal.will("read", "drip", seconds=0.2, times=1)
    with Client(connection, Tokens()) as client:
        error = failing(client.read)
        assert client.read().key == tls_rehearsal.key
    assert error.what == f"{READ}: no complete answer within 0.3 s."
    assert made == [(connection.api_url, connection.ca_path)] * 2


@pytest.mark.parametrize("fault", ["oversized", "oversized_chunked"])
def test_an_answer_that_is_too_large_is_refused_and_not_asked_for_again(rehearsal: Rehearsal, fault: str) -> None:
    rehearsal.will("read", fault, times=-1)
    with open_client(rehearsal.connection()) as client:
        assert failing(client.read).reason is Reason.ANSWER_TOO_LARGE
    assert len(rehearsal.journal()) == 1


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("surplus", [0, 1])
def test_the_largest_answer_is_exactly_the_limit(chunked: bool, surplus: int) -> None:
    envelope = b'{"code": 200, "status": 1, "data": {"id": 7, "api_key": "a.b", "x": "'
    body = envelope + b"x" * (MAX_ANSWER + surplus - len(envelope) - 3) + b'"}}'
    said = answer(body)
    if chunked:
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
    with RawServer(said) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        if surplus:
            assert failing(client.read).reason is Reason.ANSWER_TOO_LARGE
        else:
            assert client.read().key == ApiKey("a.b")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
def test_an_encoded_answer_is_refused(encoding: str) -> None:
    body = b'{"code": 200, "status": 1, "data": {"id": 7, "api_key": "a.b"}}'
    with (
        RawServer(answer(body, "200 OK", f"Content-Encoding: {encoding}")) as server,
        open_client(Connection(server.url, api_key=KEY)) as client,
    ):
        assert failing(client.read).reason is Reason.NOT_AN_ENVELOPE


def test_a_truncated_answer_is_no_answer(rehearsal: Rehearsal) -> None:
    rehearsal.will("read", "truncated", times=-1)
    with open_client(rehearsal.connection()) as client:
        assert failing(client.read).reason is Reason.UNREACHABLE


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
    ],
)
def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    with RawServer(said) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        assert failing(client.read).reason in (Reason.UNREACHABLE, Reason.NOT_AN_ENVELOPE)
        assert client.rotate(KEY).verdict is Verdict.UNCLEAR


# --- the machine's own environment ----------------------------------------------------------------


def test_netrc_adds_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login evil password canary\ndefault login evil password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(answer(status="500 Oh no")) as server:
        for credential in ({"api_key": KEY}, {"session_token": "token"}, {"login": Login("a@b.c", "p")}):
            with open_client(replace(Connection(server.url), **credential)) as client:
                failing(client.read)
    assert not any(b"Basic" in request for request in server.heard)
    # Each credential is tried equally often.
    assert sum(b"uthorization: Token token\r\n" in request for request in server.heard) == len(server.heard) / 3 > 0


def test_a_proxy_is_not_used_for_loopback_http(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answer(b"{}")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with open_client(rehearsal.connection()) as client:
            assert client.read().key == rehearsal.key
        assert proxy.heard == []


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_a_proxy_is_used_for_https_and_sees_no_credential(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    connection = tls_rehearsal.connection()
    with RawServer(answer(status="403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        url = scheme + by_name(connection).api_url.removeprefix("https")
        with open_client(replace(connection, api_url=url)) as client:
            error = failing(client.read)
            client.rotate(tls_rehearsal.key)
        heard = b"".join(proxy.heard)
    assert error.reason is Reason.UNREACHABLE
    assert heard.startswith(f"CONNECT {NAMED}:{tls_rehearsal.sandbox.port} ".encode())
    assert not any(secret.encode() in heard for secret in tls_rehearsal.sandbox.secrets())
    assert tls_rehearsal.journal() == []


def test_no_proxy_is_honoured(tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(answer(status="403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", NAMED)
        find = socket.getaddrinfo

        def found(host: str, *rest: Any, **more: Any) -> Any:
            return find("127.0.0.1" if host == NAMED else host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", found)
        with open_client(by_name(tls_rehearsal.connection())) as client:
            assert client.read().key == tls_rehearsal.key
        assert proxy.heard == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.9.9.9", "[::1]"])
@pytest.mark.parametrize("no_proxy", ["", "example.com"])
def test_x5_a_loopback_address_goes_through_no_proxy_over_tls_either(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str
) -> None:
    is_there = host in ("127.0.0.1", "localhost")
    # Of another name it may take long to learn that nobody has it.
    connection = tls_rehearsal.connection(**({} if is_there else {"timeout": 0.3}))
    with RawServer(answer(status="403 Forbidden")) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        url = connection.api_url.replace("127.0.0.1", host)
        with open_client(replace(connection, api_url=url)) as client:
            if is_there:
                assert client.read().key == tls_rehearsal.key
            else:  # nobody listens there, or under that name
                client.rotate(KEY)
        assert proxy.heard == []


SET_AS_PROXY = "What the environment sets as proxy (HTTPS_PROXY or ALL_PROXY)"


@pytest.mark.parametrize(
    "proxy",
    [
        "http://",
        "http://:3128",
        "http://proxy:port-canary",
        "http://proxy:99999",
        "http://proxy:0",
        "http://[::1",
        "http://pro xy:3128",
        "ftp://proxy:3128",
        "://canary",
        "canary:canary@",
    ],
)
def test_o5_a_malformed_proxy_is_named_as_that(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = failing(lambda: open_client(by_name(tls_rehearsal.connection())).read())
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == f"{SET_AS_PROXY} is not the URL of a proxy."
    assert error.advice == "Nothing was changed; correct it, or name the API's host in NO_PROXY."


@pytest.mark.parametrize("place", ["Proxy-1.example:1080", "[fe80::1%25Eth0]:3128"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks4a", "socks5", "socks5h"])
def test_o5_every_kind_of_proxy_is_taken(monkeypatch: pytest.MonkeyPatch, scheme: str, place: str) -> None:
    """The zone of an address keeps its case."""
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{place}")
    monkeypatch.setattr(client_module, "find_spec", lambda name: name if name == "socks" else None)
    session = client_module.session_for("https://api.example", True)
    assert session.proxies == {"https": f"{scheme}://{place}"}


@pytest.mark.parametrize(
    "proxy", ["proxy:3128", "http://user:p%40ss@proxy:3128/", "https://10.0.0.1", "http://[::1]:3128"]
)
def test_o5_a_proxy_in_any_usual_form_is_used(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    asked: list[Any] = []

    def nobody_knows(host: Any, *_rest: Any, **_more: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HTTPS_PROXY", proxy)
    connection = by_name(tls_rehearsal.connection())
    with monkeypatch.context() as offline, open_client(connection) as client:
        offline.setattr(socket, "getaddrinfo", nobody_knows)
        error = failing(client.read)
    assert error.reason is Reason.UNREACHABLE and "the proxy gave no connection" in error.what
    assert set(asked) == {urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname}


def test_o5_a_socks_proxy_without_its_library_is_named_as_that(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://user:canary@127.0.0.1:1")
    monkeypatch.setattr(client_module, "find_spec", lambda name: None)
    error = failing(lambda: open_client(by_name(tls_rehearsal.connection())).read())
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == f"{SET_AS_PROXY} names a SOCKS proxy, for which the Python library PySocks is missing."


def test_a_proxy_that_is_not_there_has_carried_nothing(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OwnPort() as port, monkeypatch.context() as proxied:
        proxied.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port.number}")
        client = open_client(by_name(tls_rehearsal.connection()))
        assert client.rotate(tls_rehearsal.key).verdict is Verdict.NOT_SENT


def test_a_proxy_that_breaks_off_the_answer_may_have_carried_the_request(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BreakingProxy(breaks=tls_rehearsal.rotations) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with open_client(by_name(tls_rehearsal.connection())) as client:
            assert client.rotate(tls_rehearsal.key).verdict is Verdict.UNCLEAR
    assert tls_rehearsal.rotations() == 1


# --- TLS ------------------------------------------------------------------------------------------


def test_a_private_authority_is_trusted_by_ca_path(tls_rehearsal: Rehearsal) -> None:
    with open_client(tls_rehearsal.connection()) as client:
        assert client.read().key == tls_rehearsal.key


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_unknown_authority_is_not_trusted(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tls_rehearsal.sandbox.ca_path))
    watch = Time()
    with open_client(tls_rehearsal.connection(ca_path=None), time=watch) as client:
        assert failing(client.read).reason is Reason.CERTIFICATE_INVALID
        answered = client.rotate(tls_rehearsal.key)
    assert (answered.verdict, watch.now) == (Verdict.NOT_SENT, 0.0)
    assert tls_rehearsal.journal() == []


def test_a_bundle_of_the_environment_does_not_replace_ca_path(
    tls_rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with open_client(tls_rehearsal.connection()) as client:
        assert client.read().key == tls_rehearsal.key


def test_certificates_are_not_checked_if_that_is_asked_for(tls_rehearsal: Rehearsal) -> None:
    with (
        warnings.catch_warnings(),
        open_client(tls_rehearsal.connection(ca_path=None, validate_certs=False)) as client,
    ):
        warnings.simplefilter("ignore")
        assert client.read().key == tls_rehearsal.key


def test_a_certificate_for_another_name_is_invalid(tls_rehearsal: Rehearsal) -> None:
    connection = tls_rehearsal.connection()
    url = connection.api_url.replace("127.0.0.1", "127.0.0.2")
    with open_client(replace(connection, api_url=url, timeout=2.0)) as client:
        assert failing(client.read).reason in (Reason.CERTIFICATE_INVALID, Reason.UNREACHABLE)


def test_ca_path_must_exist(tls_rehearsal: Rehearsal, tmp_path: Path) -> None:
    error = failing(lambda: open_client(tls_rehearsal.connection(ca_path=str(tmp_path / "missing.pem"))))
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == "The option ca_path names no existing file or directory."
    assert error.advice == "Give the path on the control node of a file with PEM certificates; nothing was changed."


def test_ca_path_without_certificates_is_an_error_that_says_something(tls_rehearsal: Rehearsal, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    with open_client(tls_rehearsal.connection(ca_path=str(garbage), timeout=0.3)) as client:
        assert failing(client.read).reason in (Reason.UNREACHABLE, Reason.CERTIFICATE_INVALID, Reason.INVALID_OPTION)
    assert tls_rehearsal.journal() == []


def test_https_to_a_server_without_tls_is_unreachable(rehearsal: Rehearsal) -> None:
    connection = rehearsal.connection(timeout=0.3)
    with open_client(replace(connection, api_url=connection.api_url.replace("http:", "https:"))) as client:
        assert failing(client.read).reason is Reason.UNREACHABLE


# --- what an error says ---------------------------------------------------------------------------

READ, ROTATE, LOG_IN = (f"POST {path}" for path in (ACCOUNT_PATH, ROTATE_PATH, LOGIN_PATH))


def _never_connected(reason: Exception) -> urllib3.exceptions.MaxRetryError:
    return urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool(NAMED), "/", reason)


def _no_connection(cause: OSError) -> urllib3.exceptions.MaxRetryError:
    failed = urllib3.exceptions.NewConnectionError(HTTPConnection(NAMED), "no")
    failed.__cause__ = cause
    return _never_connected(failed)


def _tunnel_failed() -> urllib3.exceptions.MaxRetryError:
    return _never_connected(urllib3.exceptions.ProxyError("no", OSError("Tunnel connection failed: 403 Forbidden")))


def _broken_off() -> urllib3.exceptions.ProtocolError:
    return urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer"))


def _unknown_name() -> urllib3.exceptions.MaxRetryError:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _never_connected(urllib3.exceptions.NameResolutionError(NAMED, HTTPConnection(NAMED), error))


def _while_handling_another() -> requests.exceptions.ConnectionError:
    error = requests.exceptions.ConnectionError(_unknown_name())
    error.__context__ = ValueError("of something else")
    return error


def _too_late() -> urllib3.exceptions.MaxRetryError:
    return _never_connected(urllib3.exceptions.ConnectTimeoutError(HTTPConnection(NAMED), "timed out"))


def _not_valid() -> urllib3.exceptions.MaxRetryError:
    return _never_connected(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "self-signed certificate")))


NOT_SENT, UNCLEAR = Verdict.NOT_SENT, Verdict.UNCLEAR
BROKEN = [
    (requests.exceptions.SSLError(_not_valid()), "the API's certificate is not valid here", NOT_SENT),
    (requests.exceptions.SSLError(ssl.SSLError(1, "bad record mac")), "the connection broke", UNCLEAR),
    (requests.exceptions.ProxyError(_tunnel_failed()), "the proxy gave no connection", NOT_SENT),
    (
        requests.exceptions.ProxyError(_no_connection(OSError(113, "no route"))),
        "the proxy gave no connection",
        NOT_SENT,
    ),
    (requests.exceptions.ProxyError(_broken_off()), "the proxy broke the connection", UNCLEAR),
    (requests.exceptions.ConnectTimeout(_too_late()), "no connection in time", NOT_SENT),
    (
        requests.exceptions.ConnectionError(_no_connection(ConnectionRefusedError(111, "refused"))),
        "the connection was refused",
        NOT_SENT,
    ),
    (requests.exceptions.ConnectionError(_no_connection(OSError(113, "no route"))), "the connection broke", NOT_SENT),
    (requests.exceptions.ConnectionError(_unknown_name()), "the host name is unknown", NOT_SENT),
    (_while_handling_another(), "the host name is unknown", NOT_SENT),
    (requests.exceptions.ConnectionError(_too_late()), "the connection broke", NOT_SENT),
    (requests.exceptions.ConnectionError(_broken_off()), "the connection broke", UNCLEAR),
    (
        requests.exceptions.ConnectionError(ConnectionRefusedError(111, "refused")),
        "the connection was refused",
        NOT_SENT,
    ),
    (requests.exceptions.ReadTimeout("timed out"), "the exchange broke (ReadTimeout)", UNCLEAR),
    (urllib3.exceptions.IncompleteRead(1, 2), "the exchange broke (IncompleteRead)", UNCLEAR),
    (http.client.BadStatusLine("x"), "the exchange broke (BadStatusLine)", UNCLEAR),
    (UnicodeError("x"), "the exchange broke (UnicodeError)", UNCLEAR),
    (LookupError("x"), "unexpected LookupError", UNCLEAR),
    (SystemExit("x"), "unexpected SystemExit", UNCLEAR),
]
"""What requests raises, as it does; what is said of it; and whether the request may have left."""


class _Broken(requests.adapters.BaseAdapter):
    """A transport that fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def send(self, *_given: Any, **_more: Any) -> Any:
        raise self.error

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(("error", "what", "verdict"), BROKEN)
def test_what_went_wrong_below_http_is_named_and_whether_the_request_left(
    error: BaseException, what: str, verdict: Verdict
) -> None:
    with open_client(Connection(api_key=KEY)) as client:
        client._session.mount("https://", _Broken(error))
        answered = client.rotate(KEY)
    reason = Reason.UNREACHABLE
    if "certificate" in what:
        reason = Reason.CERTIFICATE_INVALID
    elif "unexpected" in what:
        reason = Reason.INTERNAL_ERROR
    assert answered.error
    assert (answered.verdict, answered.error.reason, answered.error.what) == (verdict, reason, f"{ROTATE}: {what}.")


_NO_KEY = (
    "it is not shaped like an API key: PREFIX.SECRET, letters, digits and . _ ~ + / = - only, at most 512 characters"
)
ANSWERS: list[tuple[Callable[[Client], object], bytes, str]] = [
    (Client.read, answer(b"<html>"), f"{READ} was not answered with JSON."),
    (Client.read, answer(b"{}"), f"{READ} was answered with JSON that is not the API's (code, data, status)."),
    (
        Client.read,
        answer(b'{"code": 503, "status": 0, "data": ""}'),
        f"{READ}: the API reported a failure of its own.",
    ),
    (Client.read, answer(b'{"code": 429, "status": 0, "data": ""}'), f"{READ}: the API limits the rate of requests."),
    (Client.read, answer(b'{"code": 401, "status": 0, "data": ""}'), f"{READ}: the API rejected the API key."),
    (
        Client.read,
        answer(b'{"code": 401, "status": 0, "data": "Go."}'),
        f'{READ}: the API rejected the API key. Its message: "Go."',
    ),
    (Client.read, answer(b'{"code": 409, "status": 0, "data": []}'), f"{READ}: the API refused (code 409)."),
    (
        Client.read,
        answer(b'{"code": 409, "status": 0, "data": "x %s"}' % KEY.reveal().encode()),
        f"{READ}: the API refused (code 409). Its message repeats a credential.",
    ),
    (Client.read, answer(b"", "404 No"), f"{READ} was answered with HTTP 404 instead of the API's JSON."),
    (Client.read, answer(b"", "403 No"), f"{READ}: the API rejected the API key (HTTP 403)."),
    (Client.read, answer(b"", "400 No"), f"{READ} was answered with HTTP 400 instead of the API's JSON."),
    (Client.read, answer(b"", "429 No"), f"{READ}: the API limits the rate of requests."),
    (Client.read, answer(b"", "300 Go"), f"{READ} was answered with a redirect (HTTP 300)."),
    (Client.read, answer(b"", "302 Go"), f"{READ} was answered with a redirect (HTTP 302)."),
    (
        Client.read,
        answer(b"{}", "200 OK", "Content-Encoding: br"),
        f"{READ} was answered in an encoding nobody asked for.",
    ),
    (Client.read, answer(b"x" * (MAX_ANSWER + 1)), f"{READ} was answered with more than {MAX_ANSWER} bytes."),
    (
        Client.read,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{}",
        f"{READ}: the answer ended too early.",
    ),
    (
        Client.read,
        answer(b'{"code": 200, "status": 1, "data": {"id": ""}}'),
        "The answer to account-details is not an account.",
    ),
    (
        Client.read,
        answer(b'{"code": 200, "status": 1, "data": {"id": 7}}'),
        f"The API's answer holds no usable key: {_NO_KEY}.",
    ),
    (
        Client.read,
        answer(b'{"code": 200, "status": 1, "data": {"id": 7, "api_key": 1.5}}'),
        f"The API's answer holds no usable key: {_NO_KEY}.",
    ),
    (
        lambda client: client.accepts(KEY),
        answer(b'{"code": 409, "status": 0, "data": "No."}'),
        f'{READ}: the API refused (code 409). Its message: "No."',
    ),
]


@pytest.mark.parametrize(("ask", "said", "what"), ANSWERS)
def test_what_is_wrong_with_an_answer_is_said(ask: Callable[[Client], object], said: bytes, what: str) -> None:
    with RawServer(said) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        assert failing(lambda: ask(client)).what == what


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (b'{"code": 200, "status": 1, "data": {}}', "The answer to the login holds no usable session token."),
        (
            b'{"code": 400, "status": 0, "data": "No."}',
            f'{LOG_IN}: the API rejected the email and password. Its message: "No."',
        ),
    ],
)
def test_what_is_wrong_with_the_answer_to_a_login_is_said(said: bytes, what: str) -> None:
    with RawServer(answer(said)) as server, open_client(Connection(server.url, login=Login("a@b.c", "p"))) as client:
        assert failing(client.read).what == what


def test_without_its_library_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "requests", None)
    error = failing(lambda: open_client(Connection(api_key=KEY)))
    assert (error.reason, error.what) == (Reason.REQUESTS_MISSING, "The Python library requests is missing.")


def test_without_a_credential_that_is_said() -> None:
    with open_client(Connection()) as client:
        assert failing(client.read).what == "There is no credential to read the account with."


@pytest.mark.parametrize("account_id", ["A-9z", "az-AZ-09", 0, "x" * 64])
def test_an_account_has_its_id_as_text(account_id: str | int) -> None:
    said = json.dumps({"code": 200, "status": 1, "data": {"id": account_id, "api_key": KEY.reveal()}}).encode()
    with RawServer(answer(said)) as server, open_client(Connection(server.url, api_key=KEY)) as client:
        assert client.read().id == str(account_id)


@pytest.mark.parametrize("found", [("/file", "/folder"), ("/file", None), (None, "/folder"), (None, None)])
def test_the_store_of_the_system_is_its_file_or_its_directory_or_none(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str | None, str | None]
) -> None:
    paths = ssl.DefaultVerifyPaths(*found, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert client_module.system_trust() == (found[0] or found[1] or True)


# --- no error holds a secret ----------------------------------------------------------------------


def _pieces(secret: str) -> set[str]:
    return {secret[start : start + 8] for start in range(max(1, len(secret) - 7))}


def _assert_clean(error: MulticartError | None, rehearsal: Rehearsal) -> None:
    if error is None:
        return
    seen = f"{error} {error!r} {error.args} {error.__cause__!r}"
    for secret in rehearsal.sandbox.secrets():
        assert not any(piece in seen for piece in _pieces(secret)), error.reason


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_no_error_holds_a_secret_whatever_fails(rehearsal: Rehearsal, fault: str) -> None:
    seconds = {"seconds": 0.02 if fault == "drip" else 0.4} if "seconds" in FAULTS[fault].defaults else {}
    rehearsal.will("any", fault, times=-1, **seconds)
    key = rehearsal.key
    for credential in ({}, {"login": rehearsal.login}, {"api_key": key}):
        with open_client(rehearsal.connection(timeout=0.2, **credential)) as client:
            try:
                client.read()
            except MulticartError as error:
                _assert_clean(error, rehearsal)
            _assert_clean(client.rotate(key).error, rehearsal)


def test_a_message_that_repeats_a_credential_is_withheld_and_that_is_said(rehearsal: Rehearsal) -> None:
    rehearsal.will("any", "echo_secret", times=-1)
    for credential in ({}, {"login": rehearsal.login}, {"api_key": rehearsal.key}):
        with open_client(rehearsal.connection(**credential)) as client:
            error = failing(client.read)
        assert "repeats a credential" in str(error)
        _assert_clean(error, rehearsal)


def test_a_message_that_repeats_a_key_that_was_only_proven_is_withheld() -> None:
    said = json.dumps({"code": 400, "status": 0, "data": f"Earlier you sent {KEY.reveal()}"}).encode()
    with RawServer(answer(said)) as server, open_client(Connection(server.url, session_token="token")) as client:
        assert not client.accepts(KEY)
        assert "aaaaBBBB" not in str(failing(client.read))


# --- the library is missing -----------------------------------------------------------------------


def test_without_requests_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "requests", None)
    error = failing(lambda: open_client(Connection(api_key=KEY)))
    assert error.reason is Reason.REQUESTS_MISSING
    assert "-m pip install requests" in str(error)
