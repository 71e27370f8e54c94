# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A secret of GitHub Actions: of a repository, of one of its environments, or of an organization.

Nobody can read what such a secret holds. Its record is a variable beside it, together with when the secret was last
changed by this collection: of a secret that was changed since, it is not known what it holds.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    checked_url,
    library,
    parsed,
    text_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.rest import RestApi

FIELDS = {
    "repository": Field(),
    "organization": Field(),
    "environment": Field(),
    "name": Field(default="MULTICART_API_KEY"),
    "api_url": Field(default="https://api.github.com", env="GITHUB_API_URL", place=True),
    "ca_path": Field(path=True, place=True),
    "token": Field(required=True, env="GITHUB_TOKEN", secret=True),
}

SETTLING = (0.0, 0.5, 1.0)
"""Seconds to wait before each read of a secret that was just written, whose new time may come late."""

PAGE = 100
"""Repositories that are listed at a time."""

_NOBODY: dict[str, Any] = {"visibility": "selected", "selected_repository_ids": []}
"""Which repositories may use what an organization has only for this collection."""

_OWNER = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")
_REPOSITORY = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.\.?\Z)[A-Za-z0-9._-]{1,100}\Z")
_NAME = re.compile(r"(?!GITHUB_)[A-Z_][A-Z0-9_]{0,199}\Z")


def label(options: Mapping[str, Any]) -> str:
    where = f" of the environment {options['environment']}" if options["environment"] else ""
    return f"{options['repository'] or options['organization']} {options['name']}{where} at {options['api_url']}"


def check(options: dict[str, Any]) -> None:
    options["api_url"] = checked_url("api_url", options["api_url"])
    options["name"] = options["name"].upper()  # as GitHub has it
    if bool(options["repository"]) == bool(options["organization"]):
        raise InvalidEntry("needs repository or organization, one of them")
    if options["repository"] and not _REPOSITORY.match(options["repository"]):
        raise InvalidEntry("needs repository: OWNER/NAME")
    if options["organization"] and not _OWNER.match(options["organization"]):
        raise InvalidEntry("needs organization: its name")
    if options["environment"] and (options["organization"] or options["environment"] in (".", "..")):
        raise InvalidEntry("needs environment: the name of an environment of the repository")
    if not _NAME.match(options["name"]):
        raise InvalidEntry("needs name: letters, digits and underscores, no digit first, and not GITHUB_ first")


class ActionsSecret(Store):
    """One secret of GitHub Actions."""

    write_only = True

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._nacl = library("nacl.public", "PyNaCl")
        self._api = RestApi(
            "GitHub",
            options,
            {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
            refused="it needs to read and write secrets and variables (of an environment: environments, too)",
            missing="there is no such repository, environment or organization, or its token may not see it",
        )
        self._owner = (
            f"/orgs/{options['organization']}" if options["organization"] else f"/repos/{options['repository']}"
        )
        environment = options["environment"]
        self._base = (
            f"{self._owner}/environments/{quote(environment, safe='')}" if environment else f"{self._owner}/actions"
        )
        self._name: str = options["name"]
        self._record_name = f"MULTICART_RECORD_{self._name}"

    def inspect(self) -> Found:
        owner = self._api.ask("GET", self._owner)
        self._check_scopes()
        if owner.get("archived"):
            raise StoreError("store_not_writable", "its repository is archived, so that nothing of it can be changed")
        self._public_key()
        secret = self._secret()
        noted = self._api.ask("GET", self._variable_path, absent=True)
        return _found(secret, noted)

    def verify_right(self) -> None:
        """Create another secret, and delete it: nothing less tells whether secrets may be written."""
        probe = f"MULTICART_PROBE_{self._name}"
        self._put(probe, "probe", _NOBODY if self.options["organization"] else {})
        self._api.ask("DELETE", f"{self._base}/secrets/{probe}", absent=True)

    def write(self, key: ApiKey, found: Found) -> Found:
        before = self._secret()
        changed = before and before["updated_at"]
        if changed != found.version:
            raise Conflict
        self._put(self._name, key.reveal(), self._visibility(before))
        return Found(key.fingerprint, found.record, self._written_at(changed))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        kept = {"record": record, "secret_updated_at": found.version}
        variable = {"name": self._record_name, "value": text_of(kept)}
        if self._api.ask("PATCH", self._variable_path, variable, absent=True) is None:
            more = _NOBODY if self.options["organization"] else {}
            self._api.ask("POST", f"{self._base}/variables", {**variable, **more})
        return Found(found.fingerprint, record, found.version)

    # --- what it is made of -----------------------------------------------------------------------

    @property
    def _secret_path(self) -> str:
        return f"{self._base}/secrets/{self._name}"

    @property
    def _variable_path(self) -> str:
        return f"{self._base}/variables/{self._record_name}"

    def _check_scopes(self) -> None:
        """Refuse a classic token that lacks the scope; other tokens do not tell what they may."""
        needed = "admin:org" if self.options["organization"] else "repo"
        scopes = [each.strip() for each in self._api.headers.get("X-OAuth-Scopes", "").split(",") if each.strip()]
        if scopes and needed not in scopes:
            raise StoreError("store_refused", f"its token lacks the scope {needed}")

    def _public_key(self) -> tuple[str, Any]:
        """Return the number of the key that secrets are sealed for, and what seals them."""
        said = self._api.ask("GET", f"{self._base}/secrets/public-key")
        try:
            key = self._nacl.PublicKey(base64.b64decode(said["key"], validate=True))
            return said["key_id"], self._nacl.SealedBox(key)
        except Exception:  # pylint: disable=broad-except  # the library has errors of its own
            raise self._api.malformed() from None

    def _secret(self) -> Any:
        """Return what is known of the secret; None: there is none yet."""
        secret = self._api.ask("GET", self._secret_path, absent=True)
        if secret is None and self.options["organization"]:
            raise StoreError(
                "store_missing",
                f"there is no secret {self._name}: create it with the visibility that it needs "
                f"(gh secret set {self._name} --org ...)",
            )
        if secret is not None and not isinstance(secret.get("updated_at"), str):
            raise self._api.malformed()
        return secret

    def _visibility(self, secret: Any) -> dict[str, Any]:
        """Return what must be said again of a secret of an organization, lest it change: who may use it."""
        if not self.options["organization"]:
            return {}
        try:
            visibility: str = secret["visibility"]
            ids: list[int] = []
            while visibility == "selected":
                page = f"?per_page={PAGE}&page={len(ids) // PAGE + 1}"
                listed = self._api.ask("GET", f"{self._secret_path}/repositories{page}")["repositories"]
                ids += [each["id"] for each in listed]
                if len(listed) < PAGE:
                    return {"visibility": visibility, "selected_repository_ids": ids}
            return {"visibility": visibility}
        except (KeyError, TypeError):
            raise self._api.malformed() from None

    def _put(self, name: str, value: str, more: Mapping[str, Any]) -> None:
        number, box = self._public_key()
        sealed = base64.b64encode(box.encrypt(value.encode())).decode()
        self._api.ask("PUT", f"{self._base}/secrets/{name}", {"encrypted_value": sealed, "key_id": number, **more})

    def _written_at(self, before: str | None) -> str | None:
        """Return when it was changed, as GitHub has it after a write."""
        changed = before
        for seconds in SETTLING:
            time.sleep(seconds)
            secret = self._secret()
            changed = secret and secret["updated_at"]
            if changed != before:
                break
        return changed


def _found(secret: Any, noted: Any) -> Found:
    """Return what a secret holds, by what was noted of it."""
    changed = secret and secret["updated_at"]
    try:
        kept: Any = parsed(noted["value"])
        record, known = kept["record"], kept["secret_updated_at"]
        held = record["held"] if changed is not None and known == changed and is_fingerprint(record["held"]) else None
        return Found(held, {**record, "held": held}, changed)
    except (KeyError, TypeError):
        return Found(None, None, changed)


opened = ActionsSecret
