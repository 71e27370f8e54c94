# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""etcd, version 3.4 or later: the value of one key; the record is another key beside it.

It is asked over its JSON gateway. Each change is a transaction on the revision that was inspected.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    checked_origin,
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
    "url": Field(required=True, env="ETCDCTL_ENDPOINTS", place=True),
    "key": Field(required=True),
    "create": Field(bool, default=False),
    "username": Field(),
    "password": Field(env="ETCDCTL_PASSWORD", secret=True, free=True),
    "client_cert": Field(path=True),
    "client_key": Field(path=True),
    "ca_path": Field(path=True, place=True),
}

_CODES: dict[int, tuple[str, str]] = {
    3: ("store_refused", "it does not accept the credentials: check username and password"),
    7: ("store_refused", "its user may not do this: it needs to read and write {key} and {record}"),
    8: ("store_not_writable", "it has no space left: check its alarms"),
    9: ("store_refused", "it knows no users: leave out username and password"),
    16: ("store_refused", "it does not accept the credentials any more: run again"),
}
"""What gRPC calls an error, and what it means."""

LAST_CODE = 16
"""The greatest one."""


def label(options: Mapping[str, Any]) -> str:
    return f"{options['key']} at {options['url']}"


def check(options: dict[str, Any]) -> None:
    options["url"] = checked_origin("url", options["url"])
    for one, other in (("username", "password"), ("client_cert", "client_key")):
        if bool(options[one]) != bool(options[other]):
            raise InvalidEntry(f"needs {one} and {other}, or neither")


class Value(Store):
    """The value of one key."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._errors = library("etcd3gw.exceptions", "etcd3gw")
        self._requests = library("requests", "requests")
        self._session = session_to(options["url"], options)
        if options["client_cert"]:
            self._session.cert = (options["client_cert"], options["client_key"])
        parts = urlsplit(options["url"])
        self._client = library("etcd3gw.client", "etcd3gw").Etcd3Client(
            parts.hostname, parts.port or 2379, parts.scheme, timeout=ANSWERING, api_path="/v3/", session=self._session
        )
        self._key = options["key"].encode()
        self._record = self._key + b".multicart"

    def inspect(self) -> Found:
        """Ask for both rights at once, by a change under a condition that is never met."""
        self._log_in()
        keys = (self._key, self._record)
        answer = self._transact(
            {"key": _encoded(self._key), "target": "VERSION", "result": "LESS", "version": 0},
            [_put(key, b"") for key in keys],
            [{"request_range": {"key": _encoded(key)}} for key in keys],
        )
        value, record = (_first(each["response_range"]) for each in answer["responses"])
        if value is None and not self.options["create"]:
            raise StoreError("store_missing", "there is no such key: create it, or set create: true in the entry")
        versions = tuple(int(each["mod_revision"]) if each else 0 for each in (value, record))
        held = fingerprint_of(_decoded(value))
        return Found(held, parsed(_decoded(record)), versions)

    def write(self, key: ApiKey, found: Found) -> Found:
        """Keep the lease, if it has one."""
        revision, of_record = found.version
        revision = self._change(self._key, key.reveal(), revision)
        return Found(key.fingerprint, found.record, (revision, of_record))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        revision, of_record = found.version
        of_record = self._change(self._record, text_of(record), of_record)
        return Found(found.fingerprint, record, (revision, of_record))

    def _change(self, key: bytes, text: str, revision: int) -> int:
        unchanged = {"key": _encoded(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}
        put = _put(key, text.encode(), **({"ignore_lease": True} if revision else {}))
        answer = self._transact(unchanged, [put], [])
        if not answer.get("succeeded"):
            raise Conflict
        return int(answer["header"]["revision"])

    def _log_in(self) -> None:
        self._session.headers.pop("Authorization", None)
        if self.options["username"]:
            body = {"name": self.options["username"], "password": self.options["password"]}
            url = self._client.get_url("/auth/authenticate")
            token = self._answer(lambda: self._client.post(url, json=body)["token"])
            self._session.headers["Authorization"] = token

    def _transact(self, compare: Any, success: list[Any], failure: list[Any]) -> Any:
        """Return the answer to a transaction, whose form is known."""
        transaction = {"compare": [compare], "success": success, "failure": failure}

        def transact() -> Any:
            answer = self._client.transaction(transaction)
            answers = answer.get("responses", [])
            if len(answers) != len(success if answer.get("succeeded") else failure):
                raise malformed()
            for each in answers:
                _decoded(_first(each.get("response_range", {})))
            return int(answer["header"]["revision"]) and answer

        return self._answer(transact)

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return an answer; what it says of an error is not repeated."""
        errors = self._errors
        try:
            return ask()
        except (errors.ConnectionFailedError, errors.ConnectionTimeoutError) as error:
            raise unreachable(error.__context__ or error) from None
        except errors.Etcd3Exception as error:
            said = parsed(error.detail_text)
            code = said.get("code") if isinstance(said, dict) else None
            if not isinstance(code, int) or isinstance(code, bool) or code not in range(LAST_CODE + 1):
                raise malformed() from None
            reason, text = _CODES.get(code, ("store_failed", "it refuses the request (gRPC status {code})"))
            names = {"key": self._key.decode(), "record": self._record.decode(), "code": code}
            raise StoreError(reason, text.format(**names)) from None
        except self._requests.exceptions.JSONDecodeError:
            raise malformed() from None
        except self._requests.exceptions.RequestException as error:
            raise unreachable(error) from None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise malformed() from None


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _put(key: bytes, value: bytes, **more: Any) -> dict[str, Any]:
    return {"request_put": {"key": _encoded(key), "value": _encoded(value), **more}}


def _first(answer: Mapping[str, Any]) -> Any:
    kvs = answer.get("kvs")
    return kvs[0] if kvs else None


def _decoded(found: Any) -> str | None:
    """Return a value as text; None: there is none, or it is no text."""
    try:
        return None if found is None else base64.b64decode(found.get("value", "")).decode()
    except UnicodeDecodeError:
        return None


opened = Value
