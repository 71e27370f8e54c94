# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A CI/CD variable of GitLab: of a project, of a group, or of the instance; the record is a variable beside it.

A change says the value alone, so that GitLab keeps all else of the variable. Nobody can read the value of a hidden one:
what its record says counts then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    checked_url,
    fingerprint_of,
    parsed,
    text_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.rest import RestApi

FIELDS = {
    "project": Field(),
    "group": Field(),
    "instance": Field(bool, default=False),
    "name": Field(default="MULTICART_API_KEY"),
    "environment_scope": Field(default="*"),
    "api_url": Field(default="https://gitlab.com/api/v4", env="CI_API_V4_URL", place=True),
    "ca_path": Field(path=True, place=True),
    "token": Field(required=True, env="GITLAB_TOKEN", secret=True),
}

_NAME = re.compile(r"[A-Za-z0-9_]{1,200}\Z")


def label(options: Mapping[str, Any]) -> str:
    owner = options["project"] or options["group"] or "instance"
    scope = "" if options["environment_scope"] == "*" else f" for {options['environment_scope']}"
    return f"{owner} {options['name']}{scope} at {options['api_url']}"


def check(options: dict[str, Any]) -> None:
    options["api_url"] = checked_url("api_url", options["api_url"])
    if sum(bool(options[name]) for name in ("project", "group", "instance")) != 1:
        raise InvalidEntry("needs project, group or instance: true, one of them")
    if not _NAME.match(options["name"]):
        raise InvalidEntry("needs name: letters, digits and underscores")
    if options["instance"] and options["environment_scope"] != "*":
        raise InvalidEntry("needs no environment_scope with instance: true")


class CiVariable(Store):
    """One CI/CD variable."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._name: str = options["name"]
        self._api = RestApi(
            "GitLab",
            options,
            {},
            refused="it needs the scope api, and its user the role Maintainer (Owner of a group, administrator of the "
            "instance)",
            missing=f"there is no variable {self._name} with that environment_scope: create it with the settings "
            f"that it needs (masked, protected); or its token may not see what it belongs to",
        )
        kind = "projects" if options["project"] else "groups"
        owner = quote(options["project"] or options["group"] or "", safe="")
        self._base = f"/{kind}/{owner}/variables" if owner else "/admin/ci/variables"
        self._scope = {} if options["instance"] else {"environment_scope": options["environment_scope"]}

    def inspect(self) -> Found:
        variable = self._read()
        self.write_only = variable["hidden"]
        noted = self._api.ask("GET", self._path(self._record_name), absent=True) or {}
        return Found(fingerprint_of(variable["value"]), parsed(noted.get("value")), variable["value"])

    def verify_right(self) -> None:
        """Change its type to what it is, which asks for the right to change it."""
        self._api.ask("PUT", self._path(self._name), {"variable_type": self._read()["variable_type"]})

    def write(self, key: ApiKey, found: Found) -> Found:
        """Compare first, as GitLab has no compare-and-set."""
        if self._read()["value"] != found.version:
            raise Conflict
        self._api.ask("PUT", self._path(self._name), {"value": key.reveal()})
        return Found(key.fingerprint, found.record, None if self.write_only else key.reveal())

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        value = {"value": text_of(record)}
        if self._api.ask("PUT", self._path(self._record_name), value, absent=True) is None:
            self._api.ask("POST", self._base, {"key": self._record_name, **value, "raw": True, **self._scope})
        return Found(found.fingerprint, record, found.version)

    @property
    def _record_name(self) -> str:
        return f"MULTICART_RECORD_{self._name}"

    def _path(self, name: str) -> str:
        scopes = [f"?filter[environment_scope]={quote(scope, safe='')}" for scope in self._scope.values()]
        return f"{self._base}/{name}{''.join(scopes)}"

    def _read(self) -> dict[str, Any]:
        """Return the variable; the value of a hidden one is None."""
        variable = self._api.ask("GET", self._path(self._name))
        value, hidden = variable.get("value"), variable.get("hidden", False)  # unknown before GitLab 17.4
        if not (isinstance(value, str) or (hidden and value is None)) or not isinstance(hidden, bool):
            raise self._api.malformed()
        return {"value": value, "hidden": hidden, "variable_type": variable.get("variable_type", "env_var")}


opened = CiVariable
