# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each fault does what it says, at the moment it says."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.sandbox.faults import FAULTS
from tests.sandbox.handle import SandboxError
from tests.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

TRUE_ANSWER = {"code": 200, "data": "API Key Updated successfully!", "status": 1}
LOST = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)


def committed_of(client: Client) -> list[bool]:
    """Return of each request that has come in whether it was carried out."""
    return [entry["committed"] for entry in client.journal()]


@pytest.mark.parametrize(
    ("fault", "error", "committed"),
    [
        ("answer_lost_before_commit", "RemoteDisconnected", False),
        ("answer_lost_after_commit", "RemoteDisconnected", True),
        ("reset_before", "ConnectionResetError", False),
        ("reset_after", "ConnectionResetError", True),
    ],
)
def test_no_answer(client: Client, fault: str, error: str, committed: bool) -> None:
    client.fault("rotate", fault)
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        client.rotate(client.as_key())
    assert error in repr(caught.value)
    assert client.account["rotations"] == committed
    entry = client.journal()[-1]
    assert (entry["http"], entry["committed"], entry["accepted"]) == (None, committed, committed)
    assert entry["fault"] == fault


@pytest.mark.parametrize(("fault", "committed"), [("timeout_before", False), ("timeout_after", True)])
def test_silence(client: Client, fault: str, committed: bool) -> None:
    client.fault("rotate", fault, seconds=60)
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.rotate(client.as_key(), timeout=0.3)
    assert eventually(lambda: committed_of(client) == [committed])
    assert client.account["rotations"] == committed
    client.fault("rotate", fault, seconds=0.2)
    with pytest.raises(requests.exceptions.ConnectionError):
        client.rotate(client.as_key())


def test_slow_is_carried_out_at_once(client: Client) -> None:
    client.fault("rotate", "slow", seconds=60)
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.rotate(client.as_key(), timeout=0.3)
    assert eventually(lambda: client.account["rotations"] == 1)
    client.fault("rotate", "slow", seconds=0.5)
    start = time.monotonic()
    assert client.rotate(client.as_key()).json() == TRUE_ANSWER
    assert time.monotonic() - start >= 0.5


def test_a_late_commit_happens_behind_the_back_of_the_client(client: Client) -> None:
    client.fault("rotate", "late_commit", seconds=60)
    client.fault("rotate", "late_commit", seconds=0.5)
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.rotate(client.as_key(), timeout=0.2)
    assert eventually(lambda: committed_of(client) == [False])
    assert client.account["rotations"] == 0
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.rotate(client.as_key(), timeout=0.2)
    assert eventually(lambda: client.account["rotations"] == 1)


def test_a_dripping_body_arrives_whole_and_late(client: Client) -> None:
    client.fault("rotate", "drip", seconds=0.01)
    start = time.monotonic()
    answer = client.rotate(client.as_key())
    assert answer.json() == TRUE_ANSWER
    assert time.monotonic() - start >= 0.01 * len(answer.content)


@pytest.mark.parametrize("number", [500, 502, 503])
@pytest.mark.parametrize("committed", [False, True])
def test_server_errors(client: Client, number: int, committed: bool) -> None:
    client.fault("rotate", f"http_{number}" + ("_after_commit" if committed else ""))
    answer = client.rotate(client.as_key())
    assert answer.status_code == number
    assert answer.headers["Content-Type"].startswith("text/html")
    assert client.account["rotations"] == committed


@pytest.mark.parametrize(("fault", "committed"), [("html", False), ("html_after_commit", True)])
def test_a_page_instead_of_an_envelope(client: Client, fault: str, committed: bool) -> None:
    client.fault("rotate", fault)
    answer = client.rotate(client.as_key())
    assert (answer.status_code, answer.text[:15]) == (200, "<!doctype html>")
    assert client.account["rotations"] == committed


@pytest.mark.parametrize("number", [401, 403])
def test_refusals_of_the_framework(client: Client, number: int) -> None:
    client.fault("rotate", f"http_{number}")
    answer = client.rotate(client.as_key())
    assert (answer.status_code, list(answer.json())) == (number, ["detail"])
    assert client.account["rotations"] == 0


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_redirects(client: Client, number: int) -> None:
    client.fault("rotate", "redirect", value=number, to="http://127.0.0.1:9/elsewhere")
    answer = client.rotate(client.as_key())
    assert (answer.status_code, answer.headers["Location"]) == (number, "http://127.0.0.1:9/elsewhere")
    assert client.account["rotations"] == 0


def test_a_refusal_and_a_claim_change_nothing(client: Client) -> None:
    client.fault("rotate", "refused")
    client.fault("rotate", "refused", value=402)
    client.fault("rotate", "claimed")
    headers = client.as_key()
    answers = [client.rotate(headers).json() for dummy in range(3)]
    assert [(answer["code"], answer["status"]) for answer in answers] == [(409, 0), (402, 0), (200, 1)]
    assert answers[2] == TRUE_ANSWER
    assert client.account["rotations"] == 0


def test_login_refused(client: Client) -> None:
    client.fault("login", "login_refused")
    assert client.login().json() == {"code": 400, "data": "Invalid email or password!", "status": 0}
    assert client.login().json()["status"] == 1


def test_a_secret_can_be_echoed(client: Client) -> None:
    client.fault("any", "echo_secret", times=2)
    headers = client.as_key()
    assert headers["x-api-key"] in client.rotate(headers).json()["data"]
    assert "sesame" in client.login().json()["data"]
    assert client.account["rotations"] == 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("status_missing", {"code": 200, "data": TRUE_ANSWER["data"]}),
        ("status_zero", {**TRUE_ANSWER, "status": 0}),
        ("status_string", {**TRUE_ANSWER, "status": "1"}),
        ("status_true", {**TRUE_ANSWER, "status": True}),
        ("status_null", {**TRUE_ANSWER, "status": None}),
        ("wrong_data_type", {**TRUE_ANSWER, "data": ["unexpected"]}),
    ],
)
def test_a_spoilt_envelope(client: Client, fault: str, expected: dict[str, Any]) -> None:
    client.fault("rotate", fault)
    answer = client.rotate(client.as_key()).json()
    assert answer == expected
    assert type(answer.get("status")) is type(expected.get("status"))
    assert client.account["rotations"] == 1


def test_a_stale_read_shows_the_previous_key(client: Client) -> None:
    headers = client.as_token()
    old = client.account["api_key"]
    client.fault("read", "stale_read", times=3)
    assert client.read(headers).json()["data"]["api_key"] == old
    client.rotate(headers)
    shown = [client.read(headers).json()["data"]["api_key"] for dummy in range(3)]
    assert shown == [old, old, client.account["api_key"]]


def test_a_stale_read_may_lag_behind_two_rotations(client: Client) -> None:
    headers = client.as_token()
    oldest = client.account["api_key"]
    for expected in (1, 2):
        client.rotate(headers)
        client.fault("read", "stale_read", value=2)
        shown = client.read(headers).json()["data"]["api_key"]
        assert shown == (oldest if expected == 2 else client.account["api_key"])


@pytest.mark.parametrize(
    ("fault", "more", "expected"),
    [
        ("key_missing", {}, None),
        ("key_empty", {}, ""),
        ("key_malformed", {}, "$(touch /tmp/pwned)"),
        ("key_malformed", {"value": 7}, 7),
        ("key_newline", {}, "{key}\nLD_PRELOAD=/tmp/evil.so"),
    ],
)
def test_a_wrong_key(client: Client, fault: str, more: dict[str, Any], expected: object) -> None:
    client.fault("read", fault, **more)
    data = client.read(client.as_key()).json()["data"]
    if isinstance(expected, str):
        expected = expected.replace("{key}", client.account["api_key"])
    assert data.get("api_key") == expected
    assert data["id"] == client.account["id"]


def test_a_fault_of_the_key_leaves_another_answer_as_it_is(client: Client) -> None:
    client.fault("any", "key_missing", times=2)
    assert client.read({"x-api-key": "no.such"}).json()["code"] == 401
    assert client.rotate(client.as_key()).json() == TRUE_ANSWER


def test_a_truncated_body(client: Client) -> None:
    client.fault("rotate", "truncated")
    with pytest.raises(LOST) as caught:
        client.rotate(client.as_key())
    assert "IncompleteRead" in repr(caught.value)
    assert client.account["rotations"] == 1


@pytest.mark.parametrize("fault", ["oversized", "oversized_chunked", "gzip_bomb"])
def test_an_enormous_body_is_a_valid_envelope(client: Client, fault: str) -> None:
    client.fault("rotate", fault, value=2)
    answer = client.rotate(client.as_key())
    assert len(answer.content) > 2 * 1024 * 1024
    assert {name: answer.json()[name] for name in TRUE_ANSWER} == TRUE_ANSWER
    assert ("Content-Length" in answer.headers) == (fault != "oversized_chunked")
    assert (answer.headers.get("Content-Encoding") == "gzip") == (fault == "gzip_bomb")
    if fault == "gzip_bomb":
        assert int(answer.headers["Content-Length"]) < 10_000


def test_a_token_that_dies(client: Client) -> None:
    headers = client.as_token()
    client.fault("rotate", "token_dies")
    assert client.rotate(headers).json()["data"] == "Invalid session token!"
    assert client.account["rotations"] == 0
    assert client.read(client.as_token()).json()["status"] == 1


def test_a_cookie_is_set_and_its_return_is_noted(client: Client) -> None:
    client.fault("read", "cookie")
    client.read(client.as_key())
    client.read(client.as_key())
    assert [entry["sent_cookie"] for entry in client.journal()] == [False, True]


def test_a_connection_closed_after_the_answer(client: Client) -> None:
    client.fault("read", "closes_after_answer")
    headers = {**client.as_key(), "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", client.sandbox.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/api/v1/users/account-details", "{}", headers)
        answer = connection.getresponse()
        assert json.load(answer)["status"] == 1
        assert answer.getheader("Connection") is None and connection.sock
        assert connection.sock.recv(1) == b""
    client.read(client.as_key())
    assert len({entry["connection"] for entry in client.journal()}) == 2


def test_after_and_times_number_the_requests(client: Client) -> None:
    client.fault("read", "http_500", after=1)
    client.fault("read", "http_502", after=1, times=2)
    headers = client.as_key()
    assert [client.read(headers).status_code for dummy in range(5)] == [200, 500, 502, 502, 200]
    assert client.sandbox.remaining_faults() == []


def test_for_ever_and_clear(client: Client) -> None:
    client.fault("any", "http_503", times=-1)
    headers = client.as_key()
    assert [client.read(headers).status_code for dummy in range(4)] == [503] * 4
    assert client.sandbox.remaining_faults()[0]["times"] == -1
    client.sandbox.clear()
    assert client.read(headers).status_code == 200


def test_a_fault_can_be_for_one_credential_or_account(client: Client) -> None:
    client.fault("read", "http_500", credential="token", times=-1)
    assert client.read(client.as_key()).status_code == 200
    assert client.read(client.as_token()).status_code == 500
    client.sandbox.clear()
    client.sandbox.faults([{"on": "any", "fault": "http_500", "account": "demo@example.com", "times": -1}])
    assert client.login().status_code == 200
    other = client.sandbox.account("demo@example.com")
    assert client.read(client.as_key(other["api_key"])).status_code == 500


@pytest.mark.parametrize(
    "rule",
    [
        {"on": "rotate", "fault": "no_such"},
        {"on": "nowhere", "fault": "html"},
        {"on": "rotate"},
        {"on": "rotate", "fault": "html", "tims": 2},
        {"on": "rotate", "fault": "html", "times": -2},
        {"on": "rotate", "fault": "html", "after": True},
        {"on": "rotate", "fault": "html", "credential": "cookie"},
        {"on": "rotate", "fault": "html", "seconds": 3},
        {"on": "rotate", "fault": "slow", "seconds": "long"},
    ],
)
def test_a_mistyped_fault_is_refused_as_a_whole(client: Client, rule: dict[str, Any]) -> None:
    with pytest.raises(SandboxError, match="error"):
        client.sandbox.faults([{"on": "any", "fault": "html"}, rule])
    assert client.sandbox.remaining_faults() == []


def test_too_many_requests(client: Client) -> None:
    client.fault("rotate", "rate_limited", value=7)
    answer = client.rotate(client.as_key())
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert client.account["rotations"] == 0


def test_every_fault_is_tried_here() -> None:
    with open(__file__, encoding="utf-8") as source:
        text = source.read()
    assembled = {"http_500", "http_502", "http_503", "http_401", "http_403"}
    assembled |= {f"{name}_after_commit" for name in ("http_500", "http_502", "http_503")}
    assert not [name for name in FAULTS if f'"{name}"' not in text and name not in assembled]
