# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One sandbox for each module, and an account and a client of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.handle import Sandbox

pytest.importorskip("flask")
pytest.importorskip("trustme")
requests = pytest.importorskip("requests")

if TYPE_CHECKING:
    from requests import Response

    from tests.sandbox.shapes import Account, JournalEntry

_numbers = itertools.count(1)


@dataclass
class Client:
    """Calls the API for one account, over one connection if the server keeps it."""

    sandbox: Sandbox
    email: str
    first_seq: int
    session: Any = field(default_factory=requests.Session)

    @property
    def account(self) -> Account:
        """The account as the sandbox knows it now."""
        return self.sandbox.account(self.email)

    def post(self, path: str, headers: dict[str, str] | None = None, body: Any = None, **more: Any) -> Response:
        """Send one request as it is given."""
        self.session.trust_env = False
        more = {"timeout": 30, "allow_redirects": False, "json": {} if body is None else body, **more}
        answer: Response = self.session.post(self.sandbox.url + path, headers=headers, **more)
        return answer

    def as_key(self, key: str | None = None) -> dict[str, str]:
        """Return the header of a key, the live one unless another is given."""
        return {"x-api-key": key or self.account["api_key"]}

    def as_token(self) -> dict[str, str]:
        """Return the header of a fresh session."""
        return {"Authorization": f"Token {self.sandbox.token(self.email)}"}

    def login(self, password: str = "sesame", **more: Any) -> Response:
        """Log in."""
        return self.post("/users/login", body={"email": self.email, "password": password}, **more)

    def read(self, headers: dict[str, str], **more: Any) -> Response:
        """Read the account."""
        return self.post("/users/account-details", headers, **more)

    def rotate(self, headers: dict[str, str], **more: Any) -> Response:
        """Rotate the key."""
        return self.post("/users/api-key/update/", headers, **more)

    def journal(self) -> list[JournalEntry]:
        """Return what the journal says since this test began."""
        return self.sandbox.journal(self.first_seq)

    def fault(self, on: str, fault: str, **more: Any) -> None:
        """Order a fault for this account."""
        self.sandbox.faults([{"on": on, "fault": fault, "account": self.email, **more}])


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox without TLS."""
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    """A client with an account that no other test touches."""
    email = f"user{next(_numbers)}@example.com"
    sandbox.add_account(email, "sesame")
    seen = sandbox.journal()
    caller = Client(sandbox, email, seen[-1]["seq"] if seen else 0)
    yield caller
    caller.session.close()
    sandbox.clear()
