# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""HashiCorp Vault and OpenBao: one field of a secret of the key/value engine, version 2; the record is metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    checked_url,
    failure_of,
    fingerprint_of,
    from_pieces,
    in_pieces,
    library,
    session_to,
    shown_path,
    unreachable,
)

T = TypeVar("T")

FIELDS = {
    "url": Field(required=True, env="VAULT_ADDR", place=True),
    "namespace": Field(env="VAULT_NAMESPACE"),
    "mount": Field(default="secret"),
    "path": Field(required=True),
    "field": Field(default="MULTICART_API_KEY"),
    "create": Field(bool, default=False),
    "auth": Field(default="token", choices=("token", "approle", "kubernetes")),
    "auth_mount": Field(),
    "token": Field(env="VAULT_TOKEN", secret=True),
    "role_id": Field(env="VAULT_ROLE_ID"),
    "secret_id": Field(env="VAULT_SECRET_ID", secret=True, free=True),
    "role": Field(),
    "jwt_path": Field(default="/var/run/secrets/kubernetes.io/serviceaccount/token"),
    "client_cert": Field(env="VAULT_CLIENT_CERT", path=True, secret=True, only_there=True),
    "client_key": Field(env="VAULT_CLIENT_KEY", path=True, secret=True, only_there=True),
    "validate_certs": Field(bool, default=True, place=True),
    "ca_path": Field(path=True, place=True),
}

_NEEDS = {"token": ("token",), "approle": ("role_id", "secret_id"), "kubernetes": ("role",)}

NAME = "multicart_keys_record_"
"""Of the custom metadata in which the record is, in pieces; a number follows."""

LONGEST_PIECE = 512
"""Bytes that one entry of custom metadata may have."""


def label(options: Mapping[str, Any]) -> str:
    place = f"{options['mount']}/{options['path']}".replace("//", "/")
    return f"{place} {options['field']} at {options['url']}"


def check(options: dict[str, Any]) -> None:
    options["url"] = checked_url("url", options["url"])
    for name in _NEEDS[options["auth"]]:
        if options[name] is None:
            raise InvalidEntry(f"needs {name} with auth: {options['auth']}")
    if bool(options["client_cert"]) != bool(options["client_key"]):
        raise InvalidEntry("needs client_cert and client_key, or neither")


class Secret(Store):
    """One field of a secret."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._hvac = library("hvac", "hvac")
        self._requests = library("requests", "requests")
        session = session_to(options["url"], options)
        if options["client_cert"]:
            session.cert = (options["client_cert"], options["client_key"])
        self._client = self._hvac.Client(
            url=options["url"],
            namespace=options["namespace"],
            session=session,
            verify=session.verify,
            cert=(),  # without, the library would take one of the environment
            timeout=ANSWERING,
            allow_redirects=False,
        )
        # Likewise.
        self._client.token = options["token"] if options["auth"] == "token" else None
        self._kv = self._client.secrets.kv.v2
        self._may_patch = False

    def inspect(self) -> Found:
        self._log_in()
        self._check_rights()
        return self._answer(self._read)

    def write(self, key: ApiKey, found: Found) -> Found:
        data, version = found.version
        changed = {**data, self.options["field"]: key.reveal()}
        try:
            answer = self._answer(
                lambda: self._kv.create_or_update_secret(self._path, changed, cas=version, mount_point=self._mount)
            )
        except _Refused as error:
            if "check-and-set" in error.said:
                raise Conflict from None
            raise
        return Found(key.fingerprint, found.record, (changed, answer["data"]["version"]))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        known = self._answer(self._metadata) or {}
        pieces = in_pieces(NAME, record, LONGEST_PIECE)
        gone = [name for name in known if name.startswith(NAME) and name not in pieces]
        url = f"/v1/{self._mount}/metadata/{self._path}"
        if self._may_patch:
            body = {"custom_metadata": {**pieces, **dict.fromkeys(gone)}}
            kind = {"Content-Type": "application/merge-patch+json"}
            self._answer(lambda: self._client.adapter.request("patch", url, json=body, headers=kind))
        else:
            kept = {name: value for name, value in known.items() if name not in gone}
            self._answer(lambda: self._client.adapter.post(url, json={"custom_metadata": {**kept, **pieces}}))
        return Found(found.fingerprint, record, found.version)

    @property
    def _mount(self) -> str:
        return str(self.options["mount"]).strip("/")

    @property
    def _path(self) -> str:
        return str(self.options["path"]).strip("/")

    def _log_in(self) -> None:
        options, auth = self.options, self._client.auth
        if options["auth"] == "approle":
            mount = options["auth_mount"] or "approle"
            self._answer(lambda: auth.approle.login(options["role_id"], options["secret_id"], mount_point=mount))
        elif options["auth"] == "kubernetes":
            try:
                token = Path(options["jwt_path"]).read_text(encoding="ascii").strip()
            except (OSError, ValueError):
                token = ""
            if not token:
                where = shown_path(options["jwt_path"])
                raise StoreError("store_refused", f"the token in jwt_path ({where}) is missing or cannot be read")
            mount = options["auth_mount"] or "kubernetes"
            self._answer(lambda: auth.kubernetes.login(options["role"], token, mount_point=mount))

    def _check_rights(self) -> None:
        paths = [f"{self._mount}/{part}/{self._path}" for part in ("data", "metadata")]
        url, body = "/v1/sys/capabilities-self", {"paths": paths}
        data, metadata = self._answer(
            lambda: [set(rights) for rights in map(self._client.adapter.post(url, json=body)["data"].get, paths)]
        )
        self._may_patch = bool(metadata & {"patch", "root"})
        wanted = {paths[0]: (data, {"read"}, {"update"}), paths[1]: (metadata, {"read"}, {"update", "patch"})}
        for path, (has, *each) in wanted.items():
            for one_of in each:
                if not has & (one_of | {"root"}):
                    raise StoreError("store_refused", f"its token may not {' or '.join(sorted(one_of))} {path}")

    def _read(self) -> Found:
        answer: dict[str, Any] | None
        try:
            answer = self._kv.read_secret_version(self._path, mount_point=self._mount, raise_on_deleted_version=False)
        except self._hvac.exceptions.InvalidPath:
            answer = None
        data = answer and answer["data"]["data"]
        if data is None and not self.options["create"]:
            what = "there is no such secret" if answer is None else "the newest version of the secret is deleted"
            raise StoreError("store_missing", f"{what}: create it, or set create: true in the entry")
        if data is not None and not isinstance(data, dict):
            raise StoreError("store_malformed", "what it answered is no secret")
        version = answer["data"]["metadata"]["version"] if answer is not None else 0
        custom = self._metadata() if answer is not None else {}
        held = fingerprint_of((data or {}).get(self.options["field"]))
        return Found(held, from_pieces(NAME, custom), (data or {}, version))

    def _metadata(self) -> dict[str, str]:
        try:
            answer = self._kv.read_secret_metadata(self._path, mount_point=self._mount)
        except self._hvac.exceptions.InvalidPath:
            return {}
        return dict(answer["data"].get("custom_metadata") or {})

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return an answer; what it says of an error is not repeated."""
        errors = self._hvac.exceptions
        try:
            return ask()
        except errors.InvalidRequest as error:
            raise _Refused(str(error)) from None
        except (errors.Forbidden, errors.Unauthorized):
            raise failure_of(403) from None
        except errors.VaultDown:
            raise StoreError(
                "store_unreachable", "it is sealed, or on standby: unseal it, or name the active one"
            ) from None
        except errors.InvalidPath:
            raise StoreError("store_missing", "there is no such path: check mount, path and auth_mount") from None
        except errors.VaultError as error:
            raise StoreError("store_failed", f"it failed ({type(error).__name__})") from None
        except self._requests.exceptions.JSONDecodeError:
            raise StoreError("store_malformed", "what it answered is no JSON: check url") from None
        except self._requests.exceptions.RequestException as error:
            raise unreachable(error) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StoreError("store_malformed", "what it answered has another form than that of Vault") from None


class _Refused(StoreError):
    def __init__(self, said: str) -> None:
        super().__init__("store_refused", "it refused the request")
        self.said = said


opened = Secret
