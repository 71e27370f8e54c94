# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox for tests that need a real server: one for each module, an account of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.sandbox.handle import Sandbox

if TYPE_CHECKING:
    from tests.sandbox.shapes import Account, JournalEntry

_numbers = itertools.count(1)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass
class Rehearsal:
    """An account of the sandbox, the ways to reach it, and the requests to it."""

    sandbox: Sandbox
    email: str
    password: str
    first_seq: int

    @property
    def account(self) -> Account:
        return self.sandbox.account(self.email)

    @property
    def key(self) -> ApiKey:
        return ApiKey(self.account["api_key"])

    @property
    def login(self) -> Login:
        return Login(self.email, self.password)

    def token(self) -> str:
        return self.sandbox.token(self.email)

    def connection(self, **values: Any) -> Connection:
        """Return a connection with a fresh token, unless credentials are given."""
        if not {"session_token", "login", "api_key"} & set(values):
            values["session_token"] = self.token()
        return replace(Connection(self.sandbox.url, ca_path=self.sandbox.ca_path, timeout=5.0), **values)

    def will(self, on: str, fault: str, **more: Any) -> None:
        """Order a fault."""
        self.sandbox.faults([{"on": on, "fault": fault, **more}])

    def journal(self, endpoint: str | None = None) -> list[JournalEntry]:
        """Return the requests since the test began."""
        return [entry for entry in self.sandbox.journal(self.first_seq) if endpoint in (None, entry["endpoint"])]

    def endpoints(self) -> list[str]:
        return [entry["endpoint"] for entry in self.journal()]

    def rotations(self) -> int:
        return self.sandbox.rotations(self.email)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    pytest.importorskip("flask")
    with Sandbox.start(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture(scope="module")
def tls_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    pytest.importorskip("trustme")
    with Sandbox.start(tmp_path_factory.mktemp("sandbox") / "state", tls=True) as running:
        yield running


def _rehearsal(sandbox: Sandbox) -> Iterator[Rehearsal]:
    email = f"user{next(_numbers)}@example.com"
    password = f"pa\u00df {email}"
    sandbox.add_account(email, password)
    sandbox.clear()
    seen = [entry["seq"] for entry in sandbox.journal()]
    yield Rehearsal(sandbox, email, password, max(seen, default=0))
    sandbox.clear()
    sandbox.settings(dead_credential="envelope401", tokens_die_with_rotation=False, prefix_changes=False)


@pytest.fixture
def rehearsal(sandbox: Sandbox) -> Iterator[Rehearsal]:
    yield from _rehearsal(sandbox)


@pytest.fixture
def tls_rehearsal(tls_sandbox: Sandbox) -> Iterator[Rehearsal]:
    yield from _rehearsal(tls_sandbox)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine's own environment says of proxies and credentials."""
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "MULTICART_API_KEY", "MULTICART_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
