# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""Azure Key Vault: a secret; the record is tags of it, in pieces."""

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
    InvalidEntry,
    Store,
    StoreError,
    checked_origin,
    failure_of,
    fingerprint_of,
    from_pieces,
    in_pieces,
    library,
    malformed,
    session_to,
    unreachable,
)

T = TypeVar("T")

FIELDS = {
    "vault_url": Field(required=True, env="AZURE_KEYVAULT_URL", place=True),
    "name": Field(required=True),
    "auth": Field(default="client_secret", choices=("client_secret", "managed_identity", "workload_identity", "cli")),
    "tenant_id": Field(env="AZURE_TENANT_ID"),
    "client_id": Field(env="AZURE_CLIENT_ID"),
    "client_secret": Field(env="AZURE_CLIENT_SECRET", secret=True, free=True),
    "authority": Field(env="AZURE_AUTHORITY_HOST", place=True, not_with=("workload_identity",)),
    "ca_path": Field(path=True, place=True, not_with=("workload_identity",)),
}

NAME = "multicart_keys_record_"
"""Of the tags in which the record is, in pieces; a number follows."""

LONGEST_PIECE = 256
"""Letters that a tag's value may have."""

MOST_TAGS = 15
"""Tags that a secret may have."""


def label(options: Mapping[str, Any]) -> str:
    return f"{options['name']} at {options['vault_url']}"


def check(options: dict[str, Any]) -> None:
    options["vault_url"] = checked_origin("vault_url", options["vault_url"])
    if urlsplit(options["vault_url"]).scheme != "https":
        raise InvalidEntry("needs vault_url: an https:// URL")
    if options["authority"]:
        authority = options["authority"] if "://" in options["authority"] else f"https://{options['authority']}"
        options["authority"] = checked_origin("authority", authority)
    for name in ("tenant_id", "client_id", "client_secret"):
        if options["auth"] == "client_secret" and not options[name]:
            raise InvalidEntry(f"needs {name} with auth: client_secret")


class Secret(Store):
    """One secret."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._errors = library("azure.core.exceptions", "azure-core")
        session = session_to(options["vault_url"], options)
        transport = library("azure.core.pipeline.transport", "azure-core").RequestsTransport(
            session=session,
            session_owner=False,
            use_env_settings=False,
            connection_verify=session.verify,
            connection_timeout=ANSWERING,
            read_timeout=ANSWERING,
        )
        how = {"transport": transport, "retry_total": 0, "permit_redirects": False}
        secrets = library("azure.keyvault.secrets", "azure-keyvault-secrets")
        self._client = secrets.SecretClient(options["vault_url"], self._credential(how), **how)
        self._name: str = options["name"]

    def inspect(self) -> Found:
        secret = self._answer(lambda: self._client.get_secret(self._name))
        if secret.properties.managed:
            raise StoreError("store_not_writable", "it belongs to a certificate, so that nobody can change it")
        record = from_pieces(NAME, secret.properties.tags or {})
        return Found(fingerprint_of(secret.value), record, secret.properties.version)

    def verify_right(self) -> None:
        """Set its tags to what they are, which needs the same right as a write."""
        known = self._answer(lambda: self._client.get_secret(self._name).properties)
        self._set_tags(known, known.tags or {})

    def write(self, key: ApiKey, found: Found) -> Found:
        """Keep all that belongs to the version before."""
        known = self._unchanged(found)
        kept = {each: getattr(known, each) for each in ("enabled", "not_before", "expires_on", "content_type", "tags")}
        version = self._answer(lambda: self._client.set_secret(self._name, key.reveal(), **kept).properties.version)
        return Found(key.fingerprint, found.record, version)

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        known = self._unchanged(found)
        tags = {name: value for name, value in (known.tags or {}).items() if not name.startswith(NAME)}
        tags.update(in_pieces(NAME, record, LONGEST_PIECE))
        if len(tags) > MOST_TAGS:
            raise StoreError("store_not_writable", f"it has no place for its record: it would have {len(tags)} tags")
        self._set_tags(known, tags)
        return Found(found.fingerprint, record, found.version)

    def _credential(self, how: Mapping[str, Any]) -> Any:
        """Return what gives tokens."""
        identity, options = library("azure.identity", "azure-identity"), self.options
        if options["authority"]:
            how = {**how, "authority": options["authority"], "disable_instance_discovery": True}
        if options["auth"] == "client_secret":
            return identity.ClientSecretCredential(
                options["tenant_id"], options["client_id"], options["client_secret"], **how
            )
        if options["auth"] == "managed_identity":
            return identity.ManagedIdentityCredential(client_id=options["client_id"])
        if options["auth"] == "cli":
            return identity.AzureCliCredential(tenant_id=options["tenant_id"] or "", process_timeout=ANSWERING)
        given = {name: options[name] for name in ("tenant_id", "client_id") if options[name]}
        try:
            return identity.WorkloadIdentityCredential(**given, **how)
        except ValueError:
            raise StoreError("store_refused", "this machine has no workload identity") from None

    def _unchanged(self, found: Found) -> Any:
        """Return the properties of the present version, which must be the one that was found."""
        known = self._answer(lambda: self._client.get_secret(self._name).properties)
        if known.version != found.version:
            raise Conflict
        return known

    def _set_tags(self, known: Any, tags: Mapping[str, str]) -> None:
        self._answer(lambda: self._client.update_secret_properties(self._name, known.version, tags=dict(tags)))

    def _answer(self, ask: Callable[[], T]) -> T:
        """Return an answer; what it says of an error is not repeated."""
        errors = self._errors
        try:
            return ask()
        except errors.DecodeError:
            raise malformed() from None
        except errors.HttpResponseError as error:  # without a status: no token was given
            needs = "the rights to get and set secrets, and the secret must be enabled"
            raise failure_of(error.status_code or 401, needs) from None
        except (errors.ServiceRequestError, errors.ServiceResponseError) as error:
            raise unreachable(error.inner_exception or error) from None
        except errors.AzureError as error:
            raise StoreError("store_failed", f"it failed ({type(error).__name__})") from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise malformed() from None


opened = Secret
