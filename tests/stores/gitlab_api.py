# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for GitLab's API of CI/CD variables, by its public reference (version 4).

A change leaves all that it does not say as it is. The value of a hidden variable is never told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stores.http_api import Answer, HttpApi, Request

TOKEN = "gitlab-token-canary"
OWNERS = ("/projects/acme%2Fshop", "/groups/acme%2Fteam", "/admin/ci")
_FIELDS = ("value", "variable_type", "protected", "masked", "raw", "description", "environment_scope")


class GitLabApi(HttpApi):
    """GitLab, with one project, one group and its instance.

    :ivar owners: of variables.
    :ivar variables: by owner, name and scope.
    :ivar refused: tells what the token may not do.
    """

    def __init__(self) -> None:
        self.owners = {owner.replace("%2F", "/") for owner in OWNERS}
        self.variables: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.refused: Callable[[Request], bool] = lambda request: False
        super().__init__()

    def failure(self, status: int, message: str) -> Answer:
        return Answer(status, {"message": f"{status} {message} status-canary"})

    def create(self, owner: str, name: str, value: str, scope: str = "*", **more: Any) -> dict[str, Any]:
        """Create a variable as somebody else would."""
        made = {
            "variable_type": "env_var",
            "key": name,
            "value": value,
            "hidden": False,
            "protected": False,
            "masked": False,
            "raw": False,
            "description": None,
            **({} if owner == "/admin/ci" else {"environment_scope": scope}),
            **more,
        }
        self.variables[owner, name, scope] = made
        return made

    def answer(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.failure(401, "Unauthorized")
        if self.refused(request):
            return self.failure(403, "Forbidden")
        owner, found, rest = request.path.partition("/variables")
        if not found or owner not in self.owners:
            return self.failure(404, "Project Not Found")
        if request.method == "POST" and not rest:
            return self._created(owner, request.body)
        named = [
            variable
            for (where, name, scope), variable in self.variables.items()
            if (where, name) == (owner, rest[1:]) and scope == request.query.get("filter[environment_scope]", scope)
        ]
        if len(named) > 1:
            return self.failure(409, "There are multiple variables with provided parameters")
        if not named:
            return self.failure(404, "Variable Not Found")
        if request.method == "PUT":
            named[0].update({name: value for name, value in request.body.items() if name in _FIELDS})
        return Answer(200, {**named[0], "value": None if named[0]["hidden"] else named[0]["value"]})

    def _created(self, owner: str, body: dict[str, Any]) -> Answer:
        scope = body.get("environment_scope", "*")
        if (owner, body["key"], scope) in self.variables:
            return self.failure(400, "has already been taken")
        more = {name: body[name] for name in _FIELDS if name in body and name not in ("value", "environment_scope")}
        return Answer(201, self.create(owner, body["key"], body["value"], scope, **more))
