# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A secret of AWS Secrets Manager: the whole of it, or one field of its JSON; the record is tags.

A version is put under a stage of its own first. Then the stage AWSCURRENT moves to it, from the version that was
inspected and from no other: that is the compare-and-set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import aws
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    Store,
    StoreError,
    fingerprint_of,
    parsed,
)

FIELDS = {"secret_id": Field(required=True), "field": Field(), **aws.FIELDS}

check = aws.check

CURRENT = "AWSCURRENT"

STAGE = "MULTICART_KEYS"
"""Of a version that this collection has put."""


def label(options: Mapping[str, Any]) -> str:
    field = f" {options['field']}" if options["field"] else ""
    return aws.label(options, f"{options['secret_id']}{field}")


class Secret(Store):
    """One secret."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._aws = aws.Aws(
            "secretsmanager", options, "there is no such secret, or it has no current version: create it"
        )
        part = records.digest_of(options["field"].encode()) if options["field"] else "whole"
        self._tags = aws.RecordTags(f"multicart.keys/record/{part}/")

    def inspect(self) -> Found:
        described = self._describe()
        text, version = self._current()
        value: Any = _field_in(text, self.options["field"])[0] if self.options["field"] else text
        return Found(fingerprint_of(value), self._tags.read(described.get("Tags") or ()), (text, version))

    def verify_right(self) -> None:
        """Put what is there, as the same version, which changes nothing; and give a version, or take from it, a stage
        that is nobody else's.
        """
        text, version = self._current()
        self._ask("put_secret_value", ClientRequestToken=version, SecretString=text, VersionStages=[STAGE])
        stages = self._describe().get("VersionIdsToStages") or {}
        holder = next((each for each, names in stages.items() if STAGE in names), None)
        there = {"RemoveFromVersionId": holder} if holder else {"MoveToVersionId": version}
        self._ask("update_secret_version_stage", VersionStage=STAGE, **there)

    def write(self, key: ApiKey, found: Found) -> Found:
        text, version = found.version
        field = self.options["field"]
        changed = _with_field(text, field, key.reveal()) if field else key.reveal()
        new = str(uuid4())
        self._ask("put_secret_value", ClientRequestToken=new, SecretString=changed, VersionStages=[STAGE])
        try:
            move = {"MoveToVersionId": new, "RemoveFromVersionId": version}
            self._ask("update_secret_version_stage", VersionStage=CURRENT, **move)
        except aws.Refusal as error:
            if error.code in ("InvalidParameterException", "InvalidRequestException"):
                raise Conflict from None
            raise
        return Found(key.fingerprint, found.record, (changed, new))

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        tags, gone = self._tags.written(record)
        self._ask("tag_resource", Tags=tags)
        if gone:
            self._ask("untag_resource", TagKeys=gone)
        return Found(found.fingerprint, record, found.version)

    def _ask(self, method: str, **parameters: Any) -> Any:
        return self._aws.ask(method, SecretId=self.options["secret_id"], **parameters)

    def _describe(self) -> Any:
        """Return what is known of the secret.

        :raises StoreError: also if it cannot be changed, or would not stay so.
        """
        said = self._ask("describe_secret")
        if said.get("DeletedDate"):
            raise StoreError("store_missing", "it is to be deleted: restore it (aws secretsmanager restore-secret)")
        if said.get("OwningService"):
            raise StoreError("store_not_writable", "another service of AWS manages it, and would set it back")
        if said.get("RotationEnabled"):
            raise StoreError(
                "store_not_writable",
                "Secrets Manager rotates it by itself: end that (aws secretsmanager cancel-rotate-secret)",
            )
        return said

    def _current(self) -> tuple[str, str]:
        """Return the text of the current version, and its id."""
        said = self._ask("get_secret_value", VersionStage=CURRENT)
        if "SecretBinary" in said:
            raise StoreError("store_malformed", "it is binary: give it a text")
        try:
            return said["SecretString"], said["VersionId"]
        except KeyError:
            raise aws.malformed() from None


def _field_in(text: str, field: str) -> tuple[Any, int, int]:
    """Return the value of a field in a JSON object, and where it begins and ends in the text.

    Where there is no such field, one may begin and end before the brace that closes the object.

    :raises StoreError: it is no JSON object, or has that field twice.
    """
    if not isinstance(parsed(text), dict):
        raise StoreError("store_malformed", "it is not a JSON object: leave out field, or give it one")
    decoder, found = json.JSONDecoder(), []
    place = _after_space(text, _after_space(text, 0) + 1)
    while text[place] != "}":
        name, ends = decoder.raw_decode(text, place)
        begins = _after_space(text, _after_space(text, ends) + 1)
        value, ends = decoder.raw_decode(text, begins)
        if name == field:
            found.append((value, begins, ends))
        place = _after_space(text, ends)
        if text[place] == ",":
            place = _after_space(text, place + 1)
    if len(found) > 1:
        raise StoreError("store_malformed", f"it has the field {field} more than once: leave one")
    return found[0] if found else (None, place, place)


def _with_field(text: str, field: str, value: str) -> str:
    """Return a JSON object with another value of a field; all else stays as it is written, such as 1.10 and 1E400."""
    _before, begins, ends = _field_in(text, field)
    new = json.dumps(value)
    if begins == ends:
        others = not text[:begins].rstrip().endswith("{")
        new = f"{', ' * others}{json.dumps(field)}: {new}"
    return text[:begins] + new + text[ends:]


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


opened = Secret
