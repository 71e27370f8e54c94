# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""Google Cloud Secret Manager: a secret, whose newest version is the key; the record is an annotation of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
    "project": Field(required=True, env="GOOGLE_CLOUD_PROJECT"),
    "name": Field(required=True),
    "location": Field(),
    "credentials_path": Field(env="GOOGLE_APPLICATION_CREDENTIALS", path=True, secret=True),
    "access_token": Field(env="GOOGLE_OAUTH_ACCESS_TOKEN", secret=True),
    "endpoint": Field(place=True),
    "ca_path": Field(path=True, place=True),
}

NAME = "multicart_keys_record"
"""Of the annotation."""

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

RIGHTS = {f"secretmanager.{right}" for right in ("secrets.get", "secrets.update", "versions.access", "versions.add")}

_LOCATION = re.compile(r"[a-z0-9-]+")
_PACKAGE = "google-cloud-secret-manager"


def label(options: Mapping[str, Any]) -> str:
    where = f" in {options['location']}" if options["location"] else ""
    return f"{options['project']}/{options['name']}{where} at {options['endpoint']}"


def check(options: dict[str, Any]) -> None:
    if options["location"] and not _LOCATION.fullmatch(options["location"]):
        raise InvalidEntry("needs location: lower-case letters, digits and dashes")
    for name in ("project", "name"):
        if options[name] and "/" in options[name]:
            raise InvalidEntry(f"needs {name}: a name without a slash")
    if options["endpoint"] and not (options["credentials_path"] or options["access_token"]):
        raise InvalidEntry("needs credentials_path or access_token with endpoint")
    where = f".{options['location']}.rep" if options["location"] else ""
    options["endpoint"] = checked_origin(
        "endpoint", options["endpoint"] or f"https://secretmanager{where}.googleapis.com"
    )


class Secret(Store):
    """One secret."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        manager = library("google.cloud.secretmanager_v1", _PACKAGE)
        transports = library("google.cloud.secretmanager_v1.services.secret_manager_service.transports", _PACKAGE)
        self._api_errors = library("google.api_core.exceptions", _PACKAGE)
        self._auth_errors = library("google.auth.exceptions", _PACKAGE)
        self._not_that_form = library("google.protobuf.json_format", _PACKAGE).Error
        self._requests = library("requests", "requests")
        self._http = library("google.auth.transport.requests", _PACKAGE)
        self._session = session_to(options["endpoint"], options)
        credentials = self._answer(self._credentials)
        transport = transports.SecretManagerServiceRestTransport(host=options["endpoint"], credentials=credentials)
        _harden(transport._session, self._session, self._http)  # pylint: disable=protected-access
        self._client = manager.SecretManagerServiceClient(transport=transport)
        where = f"/locations/{options['location']}" if options["location"] else ""
        self._path = f"projects/{options['project']}{where}/secrets/{options['name']}"

    def inspect(self) -> Found:
        secret = self._ask("get_secret", {"name": self._path})
        if not secret.name or not secret.etag:  # the library takes any JSON
            raise malformed()
        asked = {"resource": self._path, "permissions": sorted(RIGHTS)}
        lacking = RIGHTS - set(self._ask("test_iam_permissions", asked).permissions)
        if lacking:
            raise StoreError("store_refused", f"its credentials lack {' and '.join(sorted(lacking))}")
        annotations = dict(secret.annotations)
        version, value = self._newest()
        held = fingerprint_of(value)
        return Found(held, parsed(annotations.get(NAME)), (version, secret.etag, annotations))

    def write(self, key: ApiKey, found: Found) -> Found:
        """Add a version; those before it are kept."""
        known, etag, annotations = found.version
        if self._newest()[0] != known:
            raise Conflict
        body = {"parent": self._path, "payload": {"data": key.reveal().encode()}}
        version = self._ask("add_secret_version", body).name
        return Found(key.fingerprint, found.record, (version, etag, annotations))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        version, etag, annotations = found.version
        annotations = {**annotations, NAME: text_of(record)}
        secret = {"name": self._path, "etag": etag, "annotations": annotations}
        etag = self._ask("update_secret", {"secret": secret, "update_mask": {"paths": ["annotations"]}}).etag
        return Found(found.fingerprint, record, (version, etag, annotations))

    def _credentials(self) -> Any:
        """Return what gives tokens: what the entry says, or what this machine has."""
        options, auth = self.options, library("google.auth", _PACKAGE)
        if options["access_token"]:
            return library("google.oauth2.credentials", _PACKAGE).Credentials(options["access_token"])
        if options["credentials_path"]:
            return auth.load_credentials_from_file(options["credentials_path"], scopes=SCOPES)[0]
        return auth.default(scopes=SCOPES, request=self._http.Request(self._session))[0]

    def _newest(self) -> tuple[str | None, str | None]:
        """Return the name and the content of the newest version; None: there is none, or it is disabled."""
        try:
            version = self._ask("access_secret_version", {"name": f"{self._path}/versions/latest"})
            return version.name, version.payload.data.decode()
        except UnicodeDecodeError:
            return version.name, None
        except (_Absent, Conflict):
            return None, None

    def _ask(self, verb: str, body: Mapping[str, Any]) -> Any:
        call = getattr(self._client, verb)
        return self._answer(lambda: call(request=body, retry=None, timeout=ANSWERING))

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return an answer; what it says of an error is not repeated."""
        try:
            return ask()
        except self._api_errors.GoogleAPICallError as error:
            said = parsed(getattr(error.response, "content", None))
            details = said.get("error") if isinstance(said, dict) else None
            if isinstance(details, dict) and details.get("status") == "FAILED_PRECONDITION":
                raise Conflict from None  # another etag, or a version that is disabled
            if error.code == 404:
                raise _Absent from None
            raise failure_of(error.code and int(error.code)) from None
        except self._auth_errors.DefaultCredentialsError:
            raise StoreError(
                "store_refused", "there are no credentials: set credentials_path or access_token"
            ) from None
        except self._auth_errors.TransportError as error:
            raise unreachable(error) from None
        except self._auth_errors.GoogleAuthError:
            raise failure_of(401) from None
        except self._requests.exceptions.JSONDecodeError:
            raise malformed() from None
        except self._requests.exceptions.RequestException as error:
            raise unreachable(error) from None
        except (KeyError, TypeError, ValueError, AttributeError, self._not_that_form):
            raise malformed() from None


def _harden(authorized: Any, session: Any, http: Any) -> None:
    """Let the library's session do what ours does: it would follow redirects, read .netrc, and read without end."""
    authorized.trust_env, authorized.get_redirect_target = False, session.get_redirect_target
    authorized.verify, authorized.proxies, authorized.hooks = session.verify, session.proxies, session.hooks
    authorized.headers["Accept-Encoding"] = session.headers["Accept-Encoding"]
    authorized._auth_request = http.Request(session)  # pylint: disable=protected-access


class _Absent(StoreError):
    def __init__(self) -> None:
        super().__init__("store_missing", "there is no such secret: create it")


opened = Secret
