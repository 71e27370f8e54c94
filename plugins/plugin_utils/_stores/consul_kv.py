# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""Consul: the value of one key of its key/value store; the record is another key beside it.

Each change is a check-and-set on the index that was inspected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    Conflict,
    Field,
    Found,
    Store,
    StoreError,
    checked_origin,
    failure_of,
    fingerprint_of,
    library,
    malformed,
    parsed,
    session_to,
    text_of,
    unreachable,
)

T = TypeVar("T")

FIELDS = {
    "url": Field(required=True, env="CONSUL_HTTP_ADDR", place=True),
    "key": Field(required=True),
    "create": Field(bool, default=False),
    "token": Field(env="CONSUL_HTTP_TOKEN", secret=True),
    "datacenter": Field(),
    "ca_path": Field(path=True, place=True),
}


def label(options: Mapping[str, Any]) -> str:
    where = f" in {options['datacenter']}" if options["datacenter"] else ""
    return f"{options['key']}{where} at {options['url']}"


def check(options: dict[str, Any]) -> None:
    options["url"] = checked_origin("url", options["url"])
    options["key"] = options["key"].lstrip("/")


class Value(Store):
    """The value of one key."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._errors = library("consul.exceptions", "py-consul")
        self._requests = library("requests", "requests")
        session, parts = session_to(options["url"], options), urlsplit(options["url"])
        client = library("consul.std", "py-consul").Consul(
            parts.hostname,
            parts.port or 8500,
            scheme=parts.scheme,
            dc=options["datacenter"],
            verify=session.verify,
            consistency="consistent",
            connections_timeout=ANSWERING,
        )
        client.http.session = session
        client.token = options["token"]  # the library prefers one of the environment
        self._kv = client.kv
        self._key: str = options["key"]
        self._record = f"{self._key}.multicart"

    def inspect(self) -> Found:
        value, record = self._read(self._key), self._read(self._record)
        if not value["ModifyIndex"] and not self.options["create"]:
            raise StoreError("store_missing", "there is no such key: create it, or set create: true in the entry")
        return Found(fingerprint_of(_text(value)), parsed(_text(record)), (value, record))

    def verify_right(self) -> None:
        """Put what it holds there again, which Consul does not count as a change."""
        value = self._read(self._key)
        if value["ModifyIndex"]:
            self._change(self._key, value["Value"], value)
        else:
            made = self._change(self._key, b"", value)
            self._answer(lambda: self._kv.delete(self._key, cas=made["ModifyIndex"]))

    def write(self, key: ApiKey, found: Found) -> Found:
        """Keep its flags."""
        value, record = found.version
        value = self._change(self._key, key.reveal().encode(), value)
        return Found(key.fingerprint, found.record, (value, record))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        value, known = found.version
        known = self._change(self._record, text_of(record).encode(), known)
        return Found(found.fingerprint, record, (value, known))

    def _read(self, key: str) -> dict[str, Any]:
        """Return what is known of a key; its ``ModifyIndex`` is 0 if there is none."""

        def read() -> dict[str, Any]:
            _index, found = self._kv.get(key)
            if found is None:
                return {"Value": None, "Flags": 0, "ModifyIndex": 0}
            if found["Value"] is not None and not isinstance(found["Value"], bytes):
                raise malformed()
            return {"Value": found["Value"], "Flags": int(found["Flags"]), "ModifyIndex": int(found["ModifyIndex"])}

        return self._answer(read)

    def _change(self, key: str, content: bytes | None, known: Mapping[str, Any]) -> dict[str, Any]:
        flags, index = known["Flags"], known["ModifyIndex"]
        done = self._answer(lambda: self._kv.put(key, content or b"", cas=index, flags=flags))
        if done is False:
            raise Conflict
        if done is not True:
            raise malformed()
        changed = self._read(key)
        if changed["Value"] != (content or None):
            raise Conflict  # somebody else was right behind
        return changed

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return an answer; what it says of an error is not repeated."""
        errors, needs = self._errors, f"the policy write for {self._key} and {self._record}"
        try:
            return ask()
        except (errors.ACLPermissionDenied, errors.ACLDisabled):
            raise failure_of(403, needs) from None
        except errors.ConsulException as error:
            status = str(error)[:3]
            raise (failure_of(int(status)) if status.isdigit() else malformed()) from None
        except self._requests.exceptions.RequestException as error:
            raise unreachable(error) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise malformed() from None


def _text(found: Mapping[str, Any]) -> str | None:
    """Return a value as text; None: there is none, or it is no text."""
    try:
        return str(found["Value"].decode()) if found["Value"] else None
    except UnicodeDecodeError:
        return None


opened = Value
