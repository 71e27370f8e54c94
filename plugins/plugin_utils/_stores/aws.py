# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""What the services of AWS have in common: credentials, by boto3's own chain or from the entry; errors; tags."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    Conflict,
    Field,
    InvalidEntry,
    StoreError,
    checked_url,
    library,
    parsed,
)

FIELDS = {
    "region": Field(),
    "profile": Field(),
    "access_key_id": Field(),
    "secret_access_key": Field(secret=True, free=True),
    "session_token": Field(secret=True),
    "endpoint_url": Field(place=True),
}

LONGEST_TAG = 256
"""Characters that the value of a tag may have."""

LONGEST_RECORD = 64 * 1024
"""Bytes of a record."""

_REFUSED = (
    "AccessDenied",
    "AccessDeniedException",
    "DecryptionFailure",
    "EncryptionFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidKeyId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
_MISSING = ("ResourceNotFoundException", "ParameterNotFound", "InvalidResourceId")
_LIMITED = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded")


def label(options: Mapping[str, Any], name: str) -> str:
    """Return what something of an account is called."""
    region, endpoint = options["region"], options["endpoint_url"]
    return name + (f" in {region}" if region else "") + (f" at {endpoint}" if endpoint else "")


def check(options: dict[str, Any]) -> None:
    own = options["access_key_id"]
    if bool(own) != bool(options["secret_access_key"]) or (options["session_token"] and not own):
        raise InvalidEntry("needs access_key_id and secret_access_key, both or neither")
    if own and options["profile"]:
        raise InvalidEntry("needs profile, or access_key_id and secret_access_key, but not both")
    if options["endpoint_url"]:
        options["endpoint_url"] = checked_url("endpoint_url", options["endpoint_url"])
        if not own:
            raise InvalidEntry(
                "has endpoint_url without access_key_id and secret_access_key; credentials of the environment go only "
                "where the environment says: set AWS_ENDPOINT_URL there"
            )


class Refusal(StoreError):
    """AWS refuses a request.

    :ivar code: its word for why.
    """

    def __init__(self, reason: str, text: str, code: str) -> None:
        super().__init__(reason, text)
        self.code = code


class Aws:
    """A service of AWS."""

    def __init__(self, service: str, options: Mapping[str, Any], missing: str) -> None:
        self._missing = missing
        boto3, config = library("boto3", "boto3"), library("botocore.config", "boto3")
        self._errors, self._parsers = library("botocore.exceptions", "boto3"), library("botocore.parsers", "boto3")
        try:
            session = boto3.session.Session(
                aws_access_key_id=options["access_key_id"],
                aws_secret_access_key=options["secret_access_key"],
                aws_session_token=options["session_token"],
                region_name=options["region"],
                profile_name=options["profile"],
            )
            self._client = session.client(
                service,
                endpoint_url=options["endpoint_url"],
                config=config.Config(
                    connect_timeout=ANSWERING,
                    read_timeout=ANSWERING,
                    retries={"mode": "standard", "total_max_attempts": 2},
                ),
            )
        except (self._errors.BotoCoreError, ValueError) as error:
            raise StoreError(
                "store_failed",
                f"boto3 cannot be set up ({type(error).__name__}): check region and profile, or AWS_REGION, "
                f"AWS_PROFILE and ~/.aws/config",
            ) from None

    def ask(self, method: str, **parameters: Any) -> Any:
        """Return an answer; what it says of an error is not repeated.

        :raises Refusal: AWS says no.
        """
        errors = self._errors
        try:
            return getattr(self._client, method)(**parameters)
        except errors.ClientError as error:
            code, status = error.response["Error"].get("Code"), error.response["ResponseMetadata"]["HTTPStatusCode"]
            raise self._refusal(str(code), status) from None
        except (errors.NoCredentialsError, errors.PartialCredentialsError, errors.CredentialRetrievalError):
            raise StoreError("store_refused", "boto3 finds no credentials: give an entry's own, or a profile") from None
        except errors.SSLError:
            raise StoreError("store_unreachable", "its certificate is not valid for it: set AWS_CA_BUNDLE") from None
        except (errors.ConnectionError, errors.HTTPClientError) as error:
            raise StoreError("store_unreachable", f"it cannot be reached ({type(error).__name__})") from None
        except (self._parsers.ResponseParserError, ValueError):
            raise malformed() from None
        except errors.BotoCoreError as error:
            raise StoreError("store_failed", f"it failed ({type(error).__name__})") from None

    def _refusal(self, code: str, status: int) -> StoreError | Conflict:
        if code == "TooManyUpdates":
            return Conflict()
        if code in _MISSING:
            return Refusal("store_missing", self._missing, code)
        if code in _REFUSED or status in (401, 403):
            return Refusal(
                "store_refused", "its credentials are not accepted, or may not do this: check their policy", code
            )
        if code in _LIMITED:
            return Refusal("store_failed", "AWS limits the rate of requests: run again later", code)
        if status >= 500:
            return Refusal("store_unreachable", f"AWS gives no answer now (HTTP {status}): run again later", code)
        return Refusal("store_failed", f"AWS refuses the request (HTTP {status})", code)


def malformed() -> StoreError:
    """Return what is wrong with an answer of another form."""
    return StoreError("store_malformed", "what it answers has another form than that of AWS: check endpoint_url")


class RecordTags:
    """A record in tags: its pieces are numbered, and the first one says how many there are.

    :param prefix: of their names.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: set[str] = set()

    def read(self, tags: Iterable[Mapping[str, str]]) -> Any:
        """Return the record among these tags; None: there is none, or not all of it."""
        pieces = {tag["Key"]: tag["Value"] for tag in tags if tag["Key"].startswith(self._prefix)}
        self._known = set(pieces)
        try:
            count, first = pieces[f"{self._prefix}0"].split(":", 1)
            text = first + "".join(pieces[f"{self._prefix}{number}"] for number in range(1, int(count)))
            return parsed(zlib.decompressobj().decompress(base64.b64decode(text, validate=True), LONGEST_RECORD))
        except (KeyError, ValueError, zlib.error):
            return None

    def written(self, record: Mapping[str, Any]) -> tuple[list[dict[str, str]], list[str]]:
        """Return the tags of a record, and the names of those that it no longer has."""
        text = base64.b64encode(zlib.compress(json.dumps(record, sort_keys=True).encode())).decode()
        size = LONGEST_TAG - len("99:")
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        pieces[0] = f"{len(pieces)}:{pieces[0]}"
        tags = [{"Key": f"{self._prefix}{number}", "Value": piece} for number, piece in enumerate(pieces)]
        names = {tag["Key"] for tag in tags}
        gone, self._known = sorted(self._known - names), names
        return tags, gone
