# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which request meets which fault."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .faults import FAULTS
from .shapes import CredentialKind, Endpoint

_ENDPOINTS = ("login", "read", "rotate", "profile", "any")
FOR_EVER = -1


def _is_number(value: Any, *types: type) -> bool:
    """Say whether it is a number; true and false are none, although Python counts with them."""
    return isinstance(value, types) and not isinstance(value, bool)


@dataclass
class Rule:
    """One line of the list: a fault, and the requests that meet it."""

    on: str
    fault: str
    times: int = 1
    after: int = 0
    credential: str | None = None
    account: str | None = None
    seconds: float | None = None
    to: str | None = None
    value: Any = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Rule:
        """Check one rule as it was sent, and fill in the defaults of its fault.

        :raises ValueError: saying what is wrong with it.
        """
        unknown = set(given) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown fields in a fault: {', '.join(sorted(unknown))}")
        if given.get("fault") not in FAULTS:
            raise ValueError(f"unknown fault {given.get('fault')!r}; there are: {', '.join(sorted(FAULTS))}")
        if given.get("on") not in _ENDPOINTS:
            raise ValueError(f"'on' must be one of {', '.join(_ENDPOINTS)}")
        if given.get("credential") not in (None, "key", "token"):
            raise ValueError("'credential' must be key or token")
        for name, least in (("times", FOR_EVER), ("after", 0)):
            number = given.get(name, 0)
            if not _is_number(number, int) or number < least:
                raise ValueError(f"{name!r} must be a whole number of at least {least}")
        seconds = given.get("seconds")
        if seconds is not None and (not _is_number(seconds, int, float) or seconds < 0):
            raise ValueError("'seconds' must be a number of at least 0")
        defaults = FAULTS[given["fault"]].defaults
        unused = {name for name in ("seconds", "to", "value") if name in given} - set(defaults)
        if unused:
            raise ValueError(f"{given['fault']} does not look at {', '.join(sorted(unused))}")
        return cls(**{**defaults, **given})

    def matches(self, endpoint: Endpoint, kind: CredentialKind, email: str | None) -> bool:
        """Say whether a request is one that this rule is about."""
        return self.on in ("any", endpoint) and self.credential in (None, kind) and self.account in (None, email)


class Rules:
    """The list of faults. It lives in memory: a restarted server is a healthy one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, given: list[Mapping[str, Any]]) -> None:
        """Append rules; all of them or, when one is wrong, none."""
        rules = [Rule.read(one) for one in given]
        with self._lock:
            self._rules += rules

    def clear(self) -> None:
        """Forget all rules. A request that is being held stays held."""
        with self._lock:
            self._rules.clear()

    def remaining(self) -> list[dict[str, Any]]:
        """Return the rules that still have something to do, with what is left of their counters."""
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def claim(self, endpoint: Endpoint, kind: CredentialKind, email: str | None) -> Rule | None:
        """Return the rule that this request meets, if any, and count it down.

        The first one in the list that is due wins. A rule that is not due yet counts every matching request,
        also one that meets another rule, so that ``after`` numbers requests and not their luck.
        """
        with self._lock:
            met: Rule | None = None
            for rule in self._rules:
                if not rule.matches(endpoint, kind, email):
                    continue
                if rule.after:
                    rule.after -= 1
                elif met is None and rule.times:
                    met = rule
                    rule.times -= rule.times != FOR_EVER
            self._rules = [rule for rule in self._rules if rule.times]
            return met
