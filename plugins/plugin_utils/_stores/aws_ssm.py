# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A parameter of AWS Systems Manager; the record is tags. There is no compare-and-set: its version tells of a race."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import aws
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    fingerprint_of,
)

FIELDS = {"name": Field(required=True), **aws.FIELDS}

KEPT = ("Type", "KeyId", "Description", "AllowedPattern", "Tier", "DataType")
"""What is said again with each value: what is not said could become the account's default."""

_NAME = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")


def label(options: Mapping[str, Any]) -> str:
    return aws.label(options, options["name"])


def check(options: dict[str, Any]) -> None:
    aws.check(options)
    if not _NAME.match(options["name"]):
        raise InvalidEntry("needs name: that of a parameter, no ARN and no version")


class Parameter(Store):
    """One parameter."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._aws = aws.Aws("ssm", options, "there is no such parameter: create it, as a SecureString")
        self._name: str = options["name"]
        self._resource = {"ResourceType": "Parameter", "ResourceId": self._name}
        self._tags = aws.RecordTags("multicart.keys/record/")

    def inspect(self) -> Found:
        parameter = self._parameter()
        if parameter["Type"] == "StringList":
            raise StoreError("store_malformed", "it is a list: create it again, as a SecureString")
        tags = self._aws.ask("list_tags_for_resource", **self._resource).get("TagList") or ()
        return Found(fingerprint_of(parameter["Value"]), self._tags.read(tags), parameter["Version"])

    def verify_right(self) -> None:
        """Ask for it to be created: that is refused for another reason where it may not be written at all."""
        parameter = self._parameter()
        try:
            self._aws.ask(
                "put_parameter",
                Name=self._name,
                Value=parameter["Value"],
                Type=parameter["Type"],
                Overwrite=False,
            )
        except aws.Refusal as error:
            if error.code != "ParameterAlreadyExists":
                raise
        self._details(parameter["Version"])

    def write(self, key: ApiKey, found: Found) -> Found:
        kept = self._details(found.version)
        said = self._aws.ask("put_parameter", Name=self._name, Value=key.reveal(), Overwrite=True, **kept)
        if said.get("Version") != found.version + 1:
            raise Conflict  # what came between is overwritten: read it again
        return Found(key.fingerprint, found.record, said["Version"])

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        tags, gone = self._tags.written(record)
        self._aws.ask("add_tags_to_resource", Tags=tags, **self._resource)
        if gone:
            self._aws.ask("remove_tags_from_resource", TagKeys=gone, **self._resource)
        return Found(found.fingerprint, record, found.version)

    def _parameter(self) -> Any:
        said = self._aws.ask("get_parameter", Name=self._name, WithDecryption=True)
        parameter = said.get("Parameter")
        if not isinstance(parameter, dict) or not {"Type", "Value", "Version"} <= set(parameter):
            raise aws.malformed()
        return parameter

    def _details(self, version: int) -> dict[str, str]:
        """Return what is to be kept of the newest version.

        :raises Conflict: that is another one.
        """
        found: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while page or not found:
            said = self._aws.ask("get_parameter_history", Name=self._name, **page)
            found += said.get("Parameters") or [{}]
            page = {"NextToken": said["NextToken"]} if said.get("NextToken") else {}
        newest = max(found, key=lambda each: int(each.get("Version", 0)))
        if newest.get("Version") != version:
            raise Conflict
        return {name: newest[name] for name in KEPT if newest.get(name)}


opened = Parameter
