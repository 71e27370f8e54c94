# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One row of the matrix: what is run, what goes wrong, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.harness import Run
from tests.leaks.watched import Watched

Act = Callable[[Watched], Run]
Fault = Mapping[str, Any]

FOR_EVER = -1


@dataclass(frozen=True)
class Scenario:
    """What is run.

    :ivar reason: why it fails, None if it does not; the empty word: for a reason that is Ansible's own.
    :ivar faults: what the API does; ``{token}``, ``{key}`` and ``{password}`` in them are the account's.
    :ivar has: the credentials: token, login, both, or key.
    :ivar shown: where the user asked for the key to be: sinks that may hold it.
    :ivar quick: whether it belongs to the shorter form.
    """

    act: Act
    reason: str | None = None
    faults: tuple[Fault, ...] = ()
    has: str = "token"
    settings: Mapping[str, Any] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()
    quick: bool = False

    def run(self, fleet: Watched) -> Run:
        """Carry it out."""
        account = fleet.account
        token = fleet.env["MULTICART_SESSION_TOKEN"]
        if self.has in ("login", "both"):
            fleet.env.update(MULTICART_EMAIL=fleet.email, MULTICART_PASSWORD=account["password"])
        if self.has == "key":
            fleet.env["MULTICART_API_KEY"] = account["api_key"]
        if self.has in ("login", "key"):
            del fleet.env["MULTICART_SESSION_TOKEN"]
        if self.settings:
            fleet.sandbox.settings(fleet.email, **self.settings)
        known = {"{token}": token, "{key}": account["api_key"], "{password}": account["password"]}
        fleet.sandbox.faults([{"account": fleet.email, **_filled(fault, known)} for fault in self.faults])
        return self.act(fleet)


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(one, known) for name, one in value.items()}
    if isinstance(value, str):
        for name, secret in known.items():
            value = value.replace(name, secret)
    return value
