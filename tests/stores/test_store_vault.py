# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to Vault and OpenBao: ways to log in, what is deleted, who may do what, and other servers."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import NO_CONTROL_NODE, ControlNode

from tests.stores.backends import OpenBao
from tests.stores.talk import NEW, OLD, Talk, fingerprint


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    made = OpenBao(tmp_path_factory.mktemp("bao"))
    yield made
    made.stop()


@pytest.fixture
def vault(server: OpenBao) -> OpenBao:
    server.mend()
    server.put(OLD)
    return server


def rotated(entry: dict[str, Any]) -> None:
    talk = Talk("vault_kv2", entry, NO_CONTROL_NODE)
    talk.rotate()
    talk.end()


def problem_of(entry: dict[str, Any]) -> dict[str, str]:
    talk = Talk("vault_kv2", entry, NO_CONTROL_NODE)
    problem = talk.inspect()["problem"]
    talk.end()
    assert problem is not None
    return dict(problem)


def test_an_approle_logs_in(vault: OpenBao) -> None:
    role_id, secret_id = vault.add_approle()
    entry = {name: value for name, value in vault.entry.items() if name != "token"}
    rotated({**entry, "auth": "approle", "role_id": role_id, "secret_id": secret_id})
    assert vault.value() == NEW
    wrong = problem_of({**entry, "auth": "approle", "role_id": role_id, "secret_id": "secret-canary"})
    assert wrong["reason"] == "store_refused" and "canary" not in wrong["text"]


def test_without_the_right_to_patch_other_metadata_is_kept(vault: OpenBao) -> None:
    before = vault.rest()
    rotated(vault.entry)
    assert vault.rest() == before


def test_with_the_right_to_patch_other_metadata_is_kept(vault: OpenBao) -> None:
    vault.allow("create", "read", "update", "patch")
    before = vault.rest()
    rotated(vault.entry)
    assert vault.rest() == before


def test_what_is_missing_or_deleted_is_created_on_request_only(vault: OpenBao) -> None:
    vault.break_by("deleted")
    assert problem_of(vault.entry)["reason"] == "store_missing"
    rotated({**vault.entry, "create": True})
    assert vault.value() == NEW
    elsewhere = {**vault.entry, "path": "another", "create": True}
    talk = Talk("vault_kv2", elsewhere, NO_CONTROL_NODE)
    assert talk.inspect()["holds"] == []
    assert talk.deploy()["problems"] == []
    assert talk.inspect(NEW)["holds"] == [fingerprint(NEW)]
    talk.end()


def test_a_secret_that_demands_compare_and_set_is_written(vault: OpenBao) -> None:
    vault.demand_compare_and_set()
    rotated(vault.entry)
    assert vault.value() == NEW


def test_another_field_is_left_alone(vault: OpenBao) -> None:
    talk = Talk("vault_kv2", {**vault.entry, "field": "second"}, NO_CONTROL_NODE)
    assert talk.inspect()["holds"] == []
    assert talk.deploy()["problems"] == []
    talk.end()
    assert vault.value() == OLD


class _Elsewhere(BaseHTTPRequestHandler):
    """Answers as the test says, and keeps what it hears."""

    def do_GET(self) -> None:
        server: Any = self.server
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.heard.append((self.path, dict(self.headers), sent))
        status, headers, body = server.said(self.path, sent) if callable(server.said) else server.said
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815  # http.server wants it

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def listeners() -> Iterator[list[Any]]:
    made: list[Any] = [ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) for _number in range(2)]
    for each in made:
        each.heard, each.said = [], (200, {}, b"{}")
        Thread(target=each.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    for each in made:
        each.shutdown()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_carries_the_token(listeners: list[Any], status: int) -> None:
    first, second = listeners
    first.said = (status, {"Location": f"http://127.0.0.1:{second.server_port}/v1/x"}, b"")
    entry = {"url": f"http://127.0.0.1:{first.server_port}", "path": "shop", "token": "token-canary"}
    problem = problem_of(entry)
    assert problem["reason"] in ("store_malformed", "store_failed", "store_unreachable"), problem
    assert first.heard and second.heard == []


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>token-canary</html>", "store_malformed"),
        (200, b"[]", "store_malformed"),
        (200, b'{"data": {"secret/data/shop": ["read"], "secret/metadata/shop": ["read"]}}', "store_refused"),
        (200, json.dumps({"data": None}).encode(), "store_malformed"),
        (403, b'{"errors": ["token-canary"]}', "store_refused"),
        (429, b"{}", "store_failed"),
        (500, b"token-canary", "store_failed"),
        (503, b'{"errors": ["Vault is sealed"]}', "store_unreachable"),
    ],
)
def test_what_another_server_answers_is_told_by_kind_alone(
    listeners: list[Any], status: int, body: bytes, reason: str
) -> None:
    first, _second = listeners
    first.said = (status, {}, body)
    entry = {"url": f"http://127.0.0.1:{first.server_port}", "path": "shop", "token": "token-canary"}
    problem = problem_of(entry)
    assert problem["reason"] == reason, problem
    assert "canary" not in problem["text"]


def test_netrc_is_not_read(listeners: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login us password netrc-canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    entry = {"url": f"http://127.0.0.1:{listeners[0].server_port}", "path": "shop", "token": "token-canary"}
    problem_of(entry)
    assert all("Authorization" not in headers for _path, headers, _sent in listeners[0].heard)


# --- ways to log in, by what is sent ----------------------------------------------------------------


class Sealed:
    """A secret of version 2, behind a login."""

    def __init__(self) -> None:
        self.data = {"MULTICART_API_KEY": OLD, "other": "kept"}
        self.custom: dict[str, str] = {}
        self.version = 1

    def __call__(self, path: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        body = json.loads(sent or b"{}")
        if path.endswith("/login"):
            answer: Any = {"auth": {"client_token": "client-canary"}}
        elif path.endswith("/capabilities-self"):
            answer = {"data": {each: ["read", "update", "patch"] for each in body["paths"]}}
        elif "/metadata/" in path:
            self.custom.update(body.get("custom_metadata") or {})
            answer = {"data": {"custom_metadata": self.custom}}
        elif body:
            self.data, self.version = body["data"], self.version + 1
            answer = {"data": {"version": self.version}}
        else:
            answer = {"data": {"data": self.data, "metadata": {"version": self.version}}}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


LOGINS: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "kubernetes": ({"auth": "kubernetes", "role": "shop"}, "kubernetes", {"role": "shop", "jwt": "jwt-canary"}),
    "kubernetes_mounted": (
        {"auth": "kubernetes", "role": "shop", "auth_mount": "k8s/prod", "namespace": "team/a"},
        "k8s/prod",
        {"role": "shop", "jwt": "jwt-canary"},
    ),
    "approle": (
        {"auth": "approle", "role_id": "role", "secret_id": "secret-canary", "namespace": "team"},
        "approle",
        {"role_id": "role", "secret_id": "secret-canary"},
    ),
    "approle_mounted": (
        {"auth": "approle", "role_id": "role", "secret_id": "secret-canary", "auth_mount": "machines"},
        "machines",
        {"role_id": "role", "secret_id": "secret-canary"},
    ),
}


@pytest.fixture
def jwt(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("jwt-canary\n")
    return path


def of(listener: Any, entry: dict[str, Any], jwt: Path) -> dict[str, Any]:
    more = {"jwt_path": str(jwt)} if entry.get("auth") == "kubernetes" else {}
    return {"url": f"http://127.0.0.1:{listener.server_port}", "path": "shop", **entry, **more}


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_is_sent_to_its_mount_and_its_token_with_all_else(listeners: list[Any], jwt: Path, login: str) -> None:
    entry, mount, body = LOGINS[login]
    sealed = listeners[0].said = Sealed()
    talk = Talk("vault_kv2", of(listeners[0], entry, jwt), NO_CONTROL_NODE)
    said = [talk.inspect(), talk.prepare(), talk.deploy(retires=OLD), talk.close(), talk.conclude()]
    talk.end()
    assert sealed.data == {"MULTICART_API_KEY": NEW, "other": "kept"} and sealed.custom
    logins = [(path, json.loads(sent)) for path, _headers, sent in listeners[0].heard if path.startswith("/v1/auth/")]
    assert logins and all(each == (f"/v1/auth/{mount}/login", body) for each in logins)
    for path, headers, _sent in listeners[0].heard:
        assert headers.get("X-Vault-Namespace") == entry.get("namespace"), path
        if not path.startswith("/v1/auth/"):
            assert headers["X-Vault-Token"] == "client-canary", path
    assert listeners[0].heard[0][0].startswith("/v1/auth/") and "X-Vault-Token" not in listeners[0].heard[0][1]
    assert "canary" not in json.dumps([said, sealed.custom]).replace(OLD, "").replace(NEW, "")


@pytest.mark.parametrize(
    ("entry", "control", "namespace"),
    [
        ({"namespace": "team/a"}, NO_CONTROL_NODE, "team/a"),
        ({}, ControlNode({"VAULT_NAMESPACE": "team/b"}), "team/b"),
        ({"namespace": "team/a"}, ControlNode({"VAULT_NAMESPACE": "team/b"}), "team/a"),
        ({}, NO_CONTROL_NODE, None),
    ],
)
def test_the_namespace_is_named_in_every_request(
    listeners: list[Any], jwt: Path, entry: dict[str, Any], control: ControlNode, namespace: str | None
) -> None:
    listeners[0].said = Sealed()
    talk = Talk("vault_kv2", of(listeners[0], {**entry, "token": "token-canary"}, jwt), control)
    talk.rotate()
    talk.end()
    heard = listeners[0].heard
    assert heard and all(headers.get("X-Vault-Namespace") == namespace for _path, headers, _sent in heard)
    assert all(headers["X-Vault-Token"] == "token-canary" for _path, headers, _sent in heard)


def test_the_token_of_kubernetes_is_read_at_each_run(listeners: list[Any], jwt: Path) -> None:
    """Kubernetes replaces it again and again."""
    listeners[0].said = Sealed()
    entry = of(listeners[0], LOGINS["kubernetes"][0], jwt)
    for token in ("jwt-canary", "jwt-canary-of-later"):
        jwt.write_text(token)
        listeners[0].heard.clear()
        talk = Talk("vault_kv2", entry, NO_CONTROL_NODE)
        assert talk.inspect()["problem"] is None
        talk.end()
        assert json.loads(listeners[0].heard[0][2])["jwt"] == token


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfejwt-canary", "directory"])
def test_a_token_of_kubernetes_that_cannot_be_read_is_refused_by_its_path(
    listeners: list[Any], jwt: Path, content: bytes | str | None
) -> None:
    listeners[0].said = Sealed()
    jwt.unlink()
    if content == "directory":
        jwt.mkdir()
    elif isinstance(content, bytes):
        jwt.write_bytes(content)
    problem = problem_of(of(listeners[0], LOGINS["kubernetes"][0], jwt))
    assert problem["reason"] == "store_refused" and str(jwt) in problem["text"]
    assert "canary" not in problem["text"] and listeners[0].heard == []


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_that_is_refused_is_told_without_what_was_sent(listeners: list[Any], jwt: Path, login: str) -> None:
    entry = of(listeners[0], LOGINS[login][0], jwt)
    for status, reason in ((400, "store_refused"), (403, "store_refused"), (404, "store_missing")):
        listeners[0].said = (status, {}, b'{"errors": ["jwt-canary secret-canary"]}')
        problem = problem_of(entry)
        assert problem["reason"] == reason and "canary" not in problem["text"], problem
    assert {path for path, _headers, _sent in listeners[0].heard} == {f"/v1/auth/{LOGINS[login][1]}/login"}


# --- certificates -----------------------------------------------------------------------------------


@pytest.fixture
def behind_tls(listeners: list[Any], tmp_path: Path) -> Iterator[Any]:
    """Start a server that asks for certificates, and keeps the name in those that it is shown."""
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = theirs.issue_cert("operator.example.com")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("127.0.0.1").configure_cert(context)
    theirs.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    shown: list[Any] = []

    class Handler(_Elsewhere):
        def do_GET(self) -> None:
            shown.append(self.connection.getpeercert())  # type: ignore[attr-defined]
            super().do_GET()

        do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815  # http.server wants it

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.heard, server.said, server.shown = [], Sealed(), shown
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()


def test_a_certificate_of_the_environment_is_shown_to_nobody(
    behind_tls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library takes it by itself, for any server."""
    pem = str(tmp_path / "client.pem")
    monkeypatch.setenv("VAULT_CLIENT_CERT", pem)
    monkeypatch.setenv("VAULT_CLIENT_KEY", pem)
    entry = {"url": f"https://127.0.0.1:{behind_tls.server_port}", "path": "shop", "token": "x"}
    trusted = {**entry, "ca_path": str(tmp_path / "ca.pem")}
    rotated(trusted)
    assert behind_tls.shown and not any(behind_tls.shown)
    behind_tls.shown.clear()
    behind_tls.said = Sealed()
    rotated({**trusted, "client_cert": pem, "client_key": pem})
    assert behind_tls.shown and all("operator.example.com" in repr(each) for each in behind_tls.shown)


def test_the_certificate_of_the_server_is_checked_unless_the_entry_says_otherwise(behind_tls: Any) -> None:
    entry = {"url": f"https://127.0.0.1:{behind_tls.server_port}", "path": "shop", "token": "x"}
    assert problem_of(entry)["reason"] == "store_unreachable"
    rotated({**entry, "validate_certs": False})
