# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A credential of AWX or the automation controller: one secret input field of it.

Nobody can read what such a field holds. The record is the end of the credential's description, together with the time
at which it was noted: of a credential that was changed at another time, it is not known what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    checked_origin,
    malformed,
    parsed,
    text_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.rest import RestApi
from ansible_collections.multicart.keys.plugins.plugin_utils._times import parse_time, utc_now

FIELDS = {
    "url": Field(required=True, env="CONTROLLER_HOST", place=True),
    "api_path": Field(default="/api/v2"),
    "token": Field(required=True, env="CONTROLLER_OAUTH_TOKEN", secret=True),
    "name": Field(required=True),
    "organization": Field(),
    "credential_type": Field(),
    "field": Field(default="api_key"),
    "ca_path": Field(path=True, place=True),
}

AT_ONCE = 15.0
"""Seconds between the time that a record tells, and that at which the record's own change was made."""

_RECORD = re.compile(r"\n?\[multicart\.keys (\{.*\})\]\Z", re.DOTALL)
_API_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+\Z")


def label(options: Mapping[str, Any]) -> str:
    where = f" of {options['organization']}" if options["organization"] else ""
    return f"{options['name']} {options['field']}{where} at {options['url']}"


def check(options: dict[str, Any]) -> None:
    options["url"] = checked_origin("url", options["url"])
    options["api_path"] = options["api_path"].rstrip("/")
    if not _API_PATH.match(options["api_path"]):
        raise InvalidEntry("needs api_path: a path like /api/v2")


class Credential(Store):
    """One input field of a credential."""

    write_only = True

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._api = RestApi(
            "AWX",
            {**options, "api_url": options["url"] + options["api_path"]},
            {},
            refused="its user needs to administer this credential",
            missing="there is no such credential any more, or its token may not see it",
        )
        self._field: str = options["field"]
        self._path: str | None = None
        self._now = utc_now()

    def inspect(self) -> Found:
        credential = self._find()
        try:
            self._check(credential)
        except (KeyError, TypeError, AttributeError):
            raise malformed() from None
        return _found(credential)

    def write(self, key: ApiKey, found: Found) -> Found:
        """Send all inputs, as AWX replaces them all; it keeps a secret that comes back as its placeholder."""
        known = self._unchanged(found)
        changed = self._ask("PATCH", self._path, {"inputs": {**known["inputs"], self._field: key.reveal()}})
        return Found(key.fingerprint, found.record, _credential(changed)["modified"])

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        known = self._unchanged(found)
        text = text_of({"noted_at": self._now.timestamp(), "record": record})
        kept = _RECORD.sub("", known["description"])
        description = f"{kept}\n[multicart.keys {text}]".lstrip("\n")
        changed = self._ask("PATCH", self._path, {"description": description})
        return Found(found.fingerprint, record, _credential(changed)["modified"])

    def _find(self) -> Mapping[str, Any]:
        if self._path is not None:
            return _credential(self._ask("GET", self._path))
        names = {"name": "name", "organization": "organization__name", "credential_type": "credential_type__name"}
        wanted = {names[each]: self.options[each] for each in names if self.options[each]}
        results = self._list(f"/credentials/?{urlencode(wanted)}")
        if len(results) != 1:
            raise StoreError(
                "store_missing",
                f"there are {len(results)} such credentials that its token may see: correct the entry, or add "
                f"organization and credential_type",
            )
        credential = _credential(results[0])
        self._path = f"/credentials/{credential['id']}/"
        return credential

    def _check(self, credential: Mapping[str, Any]) -> None:
        """Refuse what cannot be written, or would be no use to write."""
        if credential.get("managed"):
            raise StoreError("store_not_writable", "AWX manages this credential itself")
        if not credential["summary_fields"]["user_capabilities"]["edit"]:
            raise StoreError("store_refused", "its token may not change this credential: it needs to administer it")
        for source in self._list(f"{self._path}input_sources/?{urlencode({'input_field_name': self._field})}"):
            if source["input_field_name"] == self._field:
                raise StoreError(
                    "store_not_writable",
                    f"its field {self._field} is linked to an external source: give the key to that, as a store of its "
                    f"own",
                )
        kind = self._ask("GET", f"/credential_types/{int(credential['credential_type'])}/")
        fields = {field["id"]: field for field in kind["inputs"]["fields"]}
        if self._field not in fields:
            raise StoreError("store_missing", f"its type has no field {self._field}")
        if not fields[self._field].get("secret"):
            raise StoreError("store_not_writable", f"everybody can read its field {self._field}, which is not secret")

    def _unchanged(self, found: Found) -> Mapping[str, Any]:
        """Return the credential, which must be as it was found."""
        known = self._find()
        if known["modified"] != found.version:
            raise Conflict
        return known

    def _list(self, path: str) -> list[Any]:
        results = self._ask("GET", path).get("results")
        if not isinstance(results, list):
            raise malformed()
        return results

    def _ask(self, method: str, path: str | None, body: Any = None) -> Any:
        """Return an answer; what it says of an error is not repeated."""
        said = self._api.ask(method, path or "", body)
        try:
            self._now = parsedate_to_datetime(self._api.headers["Date"])
        except (KeyError, TypeError, ValueError):
            raise malformed() from None
        return said


def _credential(said: Any) -> Mapping[str, Any]:
    """Return a credential, whose form is known."""
    kinds = {"id": int, "modified": str, "description": str, "inputs": dict}
    if not isinstance(said, dict) or not all(isinstance(said.get(name), kind) for name, kind in kinds.items()):
        raise malformed()
    return said


def _found(credential: Mapping[str, Any]) -> Found:
    """Return what a credential holds, by what was noted in it."""
    modified = credential["modified"]
    noted = _RECORD.search(credential["description"])
    kept: Any = parsed(noted[1]) if noted else None
    try:
        changed, record = parse_time(modified), kept["record"]
        at_once = changed is not None and abs(changed.timestamp() - kept["noted_at"]) <= AT_ONCE
        held = record["held"] if at_once and is_fingerprint(record["held"]) else None
        return Found(held, {**record, "held": held}, modified)
    except (KeyError, TypeError, ValueError):
        return Found(None, None, modified)


opened = Credential
