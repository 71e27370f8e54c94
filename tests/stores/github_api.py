# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for GitHub's API of secrets and variables of Actions, by its public reference (version 2022-11-28).

A secret can be written and never read; its time has whole seconds. Of a secret of an organization the visibility has to
be said with each write; repositories that are not said then are no longer selected.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from tests.stores.backends import Backend
from tests.stores.http_api import Answer, HttpApi, Request

TOKEN = "github-token-canary"
_PATH = re.compile(
    r"(/repos/[^/]+/[^/]+/actions|/repos/[^/]+/[^/]+/environments/.+?|/orgs/[^/]+/actions)/(secrets|variables)"
    r"(?:/([^/]+))?(/repositories)?\Z"
)
_NAME = re.compile(r"(?!GITHUB_)[A-Z_][A-Z0-9_]*\Z")


class GitHubApi(HttpApi):
    """GitHub, with one repository, one of its environments, and one organization.

    :ivar places: where secrets and variables may be.
    :ivar secrets: by place and name; ``value`` is what nobody can read.
    :ivar variables: likewise.
    :ivar scopes: of the token; None: it is a fine-grained one.
    :ivar refused: tells what the token may not do.
    :ivar lag: how many reads of a secret still get its former time after a write.
    """

    def __init__(self) -> None:
        self.places = {"/repos/acme/shop/actions", "/repos/acme/shop/environments/prod/eu", "/orgs/acme/actions"}
        self.owners: dict[str, dict[str, Any]] = {"/repos/acme/shop": {"archived": False}, "/orgs/acme": {}}
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.variables: dict[tuple[str, str], dict[str, Any]] = {}
        self.scopes: str | None = None
        self.refused: Callable[[Request], bool] = lambda request: False
        self.lag = 0
        self.seconds_a_change = 1
        self._now = datetime(2026, 11, 26, 3, tzinfo=timezone.utc)
        self._lagging: dict[tuple[str, str], tuple[int, str]] = {}
        self.renew_key()
        super().__init__()

    # --- for tests --------------------------------------------------------------------------------

    def renew_key(self) -> None:
        """Let secrets be sealed for another key from now on."""
        self._key = PrivateKey.generate()
        self._key_id = str(int.from_bytes(bytes(self._key.public_key)[:6], "big"))

    def put_secret(self, place: str, name: str, value: str, **more: Any) -> None:
        """Create or change a secret as somebody else would."""
        with self._lock:
            known = self.secrets.get((place, name), {"created_at": self._time()})
            self.secrets[place, name] = {**known, "value": value, "updated_at": self._time(), **more}

    # --- HTTP -------------------------------------------------------------------------------------

    def failure(self, status: int, message: str) -> Answer:
        return Answer(status, {"message": f"{message} status-canary", "documentation_url": "https://docs.github.com"})

    def answer(self, request: Request) -> Answer:
        said = self._route(request)
        scopes = {} if self.scopes is None else {"X-OAuth-Scopes": self.scopes}
        return Answer(said.status, said.body, {**said.headers, **scopes})

    def _route(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.failure(401, "Bad credentials")
        if self.refused(request):
            return self.failure(403, "Resource not accessible by personal access token")
        if request.path in self.owners and request.method == "GET":
            return Answer(200, self.owners[request.path])
        found = _PATH.match(request.path)
        if found is None or found[1] not in self.places:
            return self.failure(404, "Not Found")
        place, kind, name, repositories = found.groups()
        if request.is_change and self.owners.get("/repos/acme/shop", {}).get("archived") and "/repos/" in place:
            return self.failure(403, "Repository was archived so is read-only.")
        if kind == "variables":
            return self._variable(request, place, name)
        if name == "public-key":
            public = base64.b64encode(bytes(self._key.public_key)).decode()
            return Answer(200, {"key_id": self._key_id, "key": public})
        return self._repositories(request, place, name) if repositories else self._secret(request, place, name)

    def _secret(self, request: Request, place: str, name: str) -> Answer:
        known = self.secrets.get((place, name))
        if request.method == "PUT":
            return self._put(request, place, name)
        if known is None:
            return self.failure(404, "Not Found")
        if request.method == "DELETE":
            del self.secrets[place, name]
            return Answer(204)
        shown = {key: known[key] for key in ("created_at", "updated_at", "visibility") if key in known}
        left, before = self._lagging.pop((place, name), (0, ""))
        if left:
            shown["updated_at"] = before
            self._lagging[place, name] = (left - 1, before)
        return Answer(200, {"name": name, **shown})

    def _put(self, request: Request, place: str, name: str) -> Answer:
        known, body = self.secrets.get((place, name)), request.body
        try:
            value = SealedBox(self._key).decrypt(base64.b64decode(body["encrypted_value"])).decode()
        except (CryptoError, ValueError, KeyError):
            return self.failure(422, "bad request")
        if body.get("key_id") != self._key_id or not _NAME.match(name):
            return self.failure(422, "bad request")
        more = {}
        if place.startswith("/orgs/"):
            if body.get("visibility") not in ("all", "private", "selected"):
                return self.failure(422, "visibility")
            more = {"visibility": body["visibility"], "ids": list(body.get("selected_repository_ids") or [])}
        if known is not None and self.lag:
            self._lagging[place, name] = (self.lag, known["updated_at"])
        self.put_secret(place, name, value, **more)
        return Answer(204 if known else 201, None if known else {})

    def _repositories(self, request: Request, place: str, name: str) -> Answer:
        ids = self.secrets[place, name]["ids"]
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        listed = [{"id": each, "name": f"r{each}"} for each in ids[(page - 1) * size : page * size]]
        return Answer(200, {"total_count": len(ids), "repositories": listed})

    def _variable(self, request: Request, place: str, name: str | None) -> Answer:
        body = request.body or {}
        if "value" in body and not (isinstance(body["value"], str) and len(body["value"].encode()) <= 48 * 1024):
            return self.failure(422, "value")
        if request.method == "POST" and name is None:
            if (place, body["name"]) in self.variables:
                return self.failure(409, "already exists")
            if place.startswith("/orgs/") and body.get("visibility") not in ("all", "private", "selected"):
                return self.failure(422, "visibility")
            self.variables[place, body["name"]] = body
            return Answer(201, {})
        known = self.variables.get((place, str(name)))
        if known is None:
            return self.failure(404, "Not Found")
        if request.method == "PATCH":
            known.update(body)
            return Answer(204)
        return Answer(200, {"name": name, "value": known["value"]})

    def _time(self) -> str:
        self._now += timedelta(seconds=self.seconds_a_change)
        return self._now.strftime("%Y-%m-%dT%H:%M:%SZ")


class GitHubSecret(Backend):
    """A secret of a repository, beside another one and a variable of others."""

    kind = "github_secret"
    readable = False
    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "scope": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
        "archived": {"store_not_writable"},
    }
    at_write: ClassVar = {"down", "unauthorised", "read_only"}
    secrets = (TOKEN,)
    _place = "/repos/acme/shop/actions"

    def __init__(self, _folder: Path) -> None:
        self.api = GitHubApi()
        self.api.put_secret(self._place, "OTHER", "ours")
        self.api.variables[self._place, "OTHER"] = {"name": "OTHER", "value": "ours"}

    @property
    def entry(self) -> dict[str, Any]:
        return {"repository": "acme/shop", "api_url": self.api.url, "token": TOKEN}

    def put(self, key: str | None) -> None:
        if key is None:
            self.api.secrets.pop((self._place, "MULTICART_API_KEY"), None)
        else:
            self.api.put_secret(self._place, "MULTICART_API_KEY", key)

    def value(self) -> str | None:
        value = self.api.secrets.get((self._place, "MULTICART_API_KEY"), {}).get("value")
        return None if value is None else str(value)

    def rest(self) -> Any:
        secrets = {name: secret for (_place, name), secret in self.api.secrets.items() if name != "MULTICART_API_KEY"}
        variables = {name: dict(one) for (_place, name), one in self.api.variables.items() if "MULTICART" not in name}
        return secrets, variables

    def change_rest(self) -> None:
        self.api.put_secret(self._place, "THEIRS", "theirs")

    def break_by(self, fault: str) -> None:
        if fault == "read_only":
            self.api.refused = lambda request: request.method in ("PUT", "DELETE")
        elif fault == "scope":
            self.api.scopes = "public_repo, read:org"
        elif fault == "missing":
            self.api.places.remove(self._place)
        elif fault == "archived":
            self.api.owners["/repos/acme/shop"]["archived"] = True
        else:
            self.api.break_by(fault)

    def mend(self) -> None:
        self.api.mend()
        self.api.refused = lambda _request: False
        self.api.scopes = None
        self.api.places.add(self._place)
        self.api.owners["/repos/acme/shop"]["archived"] = False

    def stop(self) -> None:
        self.api.stop()
