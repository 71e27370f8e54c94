# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to Vault and OpenBao: ways to log in, what is deleted, who may do what, and other servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import NO_CONTROL_NODE

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
        self.server.heard.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        status, headers, body = self.server.said  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # http.server wants it

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def listeners() -> Iterator[list[Any]]:
    made: list[Any] = [ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) for _number in range(2)]
    for each in made:
        each.heard, each.said = [], (200, {}, b"{}")
        Thread(target=each.serve_forever, daemon=True).start()
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
    assert all("Authorization" not in headers for _path, headers in listeners[0].heard)
