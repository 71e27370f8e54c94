# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API as its documentation has it, and the settings for what that leaves open."""

from __future__ import annotations

import json
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Client

REFUSED = {"code": 401, "data": "Invalid API key!", "status": 0}


def test_login_gives_a_token_that_reads(client: Client) -> None:
    answer = client.login().json()
    assert (answer["code"], answer["status"]) == (200, 1)
    account = client.account
    assert answer["data"]["user"] == {"id": account["user"], "name": account["name"], "email": client.email}
    read = client.read({"Authorization": f"Token {answer['data']['token']}"}).json()
    assert read["data"]["api_key"] == account["api_key"]


@pytest.mark.parametrize("body", [{"password": "wrong"}, {"email": "nobody@example.com"}, {"password": None}])
def test_a_failed_login_is_http_200_with_one_message(client: Client, body: dict[str, object]) -> None:
    answer = client.post("/users/login", body={"email": client.email, "password": "sesame", **body})
    assert answer.status_code == 200
    assert answer.json() == {"code": 400, "data": "Invalid email or password!", "status": 0}


@pytest.mark.parametrize("scheme", ["as_key", "as_token"])
def test_either_credential_reads_and_rotates(client: Client, scheme: str) -> None:
    account = client.account
    headers = getattr(client, scheme)()
    details = client.read(headers).json()["data"]
    assert details == {
        "id": account["id"],
        "user": account["user"],
        "api_key": account["api_key"],
        "system_emails": False,
        "update_emails": False,
        "notification_emails": False,
        "timezone": "Australia/Brisbane",
        "created_at": account["created_at"],
        "updated_at": account["updated_at"],
    }
    assert client.post("/users/profile", headers).json()["data"]["email"] == client.email
    answer = client.rotate(headers).json()
    assert answer == {"code": 200, "data": "API Key Updated successfully!", "status": 1}
    assert client.account["api_key"] != account["api_key"]


def test_a_key_has_a_public_prefix_that_stays_and_a_secret_that_does_not(client: Client) -> None:
    old = client.account["api_key"]
    assert re.fullmatch(r"[a-z0-9]{7}\.[A-Za-z0-9]{40}", old)
    client.rotate(client.as_key())
    new = client.account["api_key"]
    assert new.split(".")[0] == old.split(".")[0]
    assert new.split(".")[1] != old.split(".")[1]
    assert client.account["former_keys"] == [old]


def test_a_rotation_kills_the_old_key_at_once(client: Client) -> None:
    old, token = client.as_key(), client.as_token()
    client.rotate(old)
    assert client.read(old).json() == REFUSED
    assert client.rotate(old).json() == REFUSED
    assert client.read(client.as_key()).json()["status"] == 1
    assert client.read(token).json()["status"] == 1
    assert client.account["rotations"] == 1


def test_a_rotation_needs_no_body(client: Client) -> None:
    url = client.sandbox.url + "/users/api-key/update/"
    assert client.session.post(url, headers=client.as_key()).json()["status"] == 1


@pytest.mark.parametrize(
    ("form", "http", "code"),
    [("envelope401", 200, 401), ("envelope400", 200, 400), ("http401", 401, None), ("http403", 403, None)],
)
def test_how_a_dead_credential_is_refused(client: Client, form: str, http: int, code: int | None) -> None:
    client.sandbox.settings(account=client.email, dead_credential=form)
    old, token = client.as_key(), client.as_token()
    client.rotate(old)
    client.sandbox.expire(client.email)
    for headers, message in ((old, "Invalid API key!"), (token, "Invalid session token!")):
        answer = client.read(headers)
        assert answer.status_code == http
        body = answer.json()
        assert body == ({"code": code, "data": message, "status": 0} if code else {"detail": message})


def test_no_credential_and_an_unknown_one(client: Client) -> None:
    assert client.read({}).json()["status"] == 0
    assert client.read({"Authorization": "Bearer x"}).json()["status"] == 0
    assert client.read({"x-api-key": "no.such"}).json() == REFUSED
    assert [(entry["credential"], entry["accepted"]) for entry in client.journal()] == [
        ("none", False),
        ("none", False),
        ("key", False),
    ]


def test_tokens_can_die_with_the_rotation_and_the_prefix_can_change(client: Client) -> None:
    client.sandbox.settings(account=client.email, tokens_die_with_rotation=True, prefix_changes=True)
    old, token = client.account["api_key"], client.as_token()
    client.rotate(token)
    assert client.read(token).json()["data"] == "Invalid session token!"
    assert client.account["api_key"].split(".")[0] != old.split(".")[0]


def test_settings_of_one_account_leave_the_others_alone(client: Client) -> None:
    assert client.sandbox.settings(account=client.email, prefix_changes=True)["prefix_changes"] is True
    assert client.sandbox.settings()["prefix_changes"] is False


def test_a_rotation_behind_the_back_is_counted_apart(client: Client) -> None:
    old = client.as_key()
    client.sandbox.rotate_behind(client.email)
    assert client.read(old).json() == REFUSED
    assert (client.account["rotations"], client.account["rotations_behind"]) == (0, 1)
    assert client.sandbox.rotations(client.email) == 0


@pytest.mark.parametrize(
    "path", ["/users/login/", "/users/account-details/", "/users/profile/", "/users/nothing", "//users/login"]
)
def test_a_wrong_path_is_a_page(client: Client, path: str) -> None:
    answer = client.post(path, client.as_key())
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_missing_slash_is_a_redirect_and_changes_nothing(client: Client) -> None:
    answer = client.post("/users/api-key/update", client.as_key())
    assert answer.status_code == 301
    assert answer.headers["Location"] == "/api/v1/users/api-key/update/"
    assert client.account["rotations"] == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_another_method_is_refused_outside_the_envelope(client: Client, method: str) -> None:
    url = client.sandbox.url + "/users/api-key/update/"
    answer = client.session.request(method, url, headers=client.as_key(), timeout=10)
    assert (answer.status_code, answer.json()) == (405, {"detail": f'Method "{method}" not allowed.'})
    assert client.account["rotations"] == 0


@pytest.mark.parametrize(("kind", "body", "http"), [("text/plain", "{}", 415), ("application/json", "{", 400)])
def test_a_body_that_is_not_json_is_refused(client: Client, kind: str, body: str, http: int) -> None:
    headers = {**client.as_key(), "Content-Type": kind}
    assert client.rotate(headers, json=None, data=body).status_code == http
    assert client.account["rotations"] == 0


def test_of_twenty_racing_rotations_with_one_key_one_is_accepted(client: Client) -> None:
    headers = client.as_key()
    barrier = threading.Barrier(20)
    statuses: list[int] = []

    def race() -> None:
        other = type(client)(client.sandbox, client.email, 0)
        barrier.wait()
        statuses.append(other.rotate(headers).json()["status"])

    threads = [threading.Thread(target=race) for dummy in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [0] * 19 + [1]
    assert client.account["rotations"] == 1
    assert sum(entry["committed"] for entry in client.journal()) == 1


def test_a_connection_is_kept_and_the_journal_tells(client: Client) -> None:
    headers = client.as_key()
    for dummy in range(3):
        client.read(headers)
    client.rotate(headers)
    assert len({entry["connection"] for entry in client.journal()}) == 1
    client.session.close()
    client.read(headers)
    assert len({entry["connection"] for entry in client.journal()}) == 2


def test_a_request_that_ends_early_is_not_carried_out(client: Client) -> None:
    with socket.create_connection(("127.0.0.1", client.sandbox.port)) as raw:
        key = client.account["api_key"]
        head = f"POST /api/v1/users/api-key/update/ HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n"
        raw.sendall(f"{head}Content-Length: 2\r\n\r\n{{".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(100) == b""
    assert client.account["rotations"] == 0


def test_the_journal_says_what_happened(client: Client) -> None:
    account = client.account
    client.login()
    client.rotate(client.as_key())
    client.read(client.as_key(account["api_key"]))
    entries = client.journal()
    told = [
        (entry["endpoint"], entry["credential"], entry["accepted"], entry["committed"], entry["code"])
        for entry in entries
    ]
    assert told == [
        ("login", "none", True, False, 200),
        ("rotate", "key", True, True, 200),
        ("read", "key", False, False, 401),
    ]
    assert entries[1]["fingerprint"] == entries[2]["fingerprint"] == account["fingerprint"]
    assert {entry["account"] for entry in entries} == {account["id"]}
    assert {entry["http"] for entry in entries} == {200}
    assert [entry["status"] for entry in entries] == [1, 1, 0]
    assert entries[0]["content_type"] == "application/json"
    assert str(entries[0]["user_agent"]).startswith("python-requests/")


def test_the_journal_holds_no_secret(client: Client) -> None:
    key, token = client.as_key(), client.as_token()
    client.login()
    client.login("wrong password")
    client.rotate(key)
    client.read(key)
    client.read(token)
    client.read({**token, "User-Agent": f"leaky {token['Authorization'][6:]}"})
    client.post(f"/users/{key['x-api-key']}", {**key, "Content-Type": key["x-api-key"]})
    client.fault("read", "echo_secret")
    client.read(token)
    text = json.dumps(client.journal())
    assert len(client.journal()) == 8
    account = client.account
    secrets = {account["password"], account["api_key"], *account["former_keys"], *account["tokens"]}
    assert len(secrets) == 5
    assert secrets <= client.sandbox.secrets()
    assert not [secret for secret in secrets | {"wrong password"} if secret in text]


def test_the_journal_can_be_read_from_a_number_on_and_forgotten(client: Client) -> None:
    client.login()
    last = client.journal()[-1]["seq"]
    client.sandbox.forget_journal()
    assert client.sandbox.journal() == []
    client.login()
    assert [entry["seq"] for entry in client.sandbox.journal(after=last)] == [last + 1]
