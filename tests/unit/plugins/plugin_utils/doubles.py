# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a client is given in its tests, in place of the run cache and of time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Tokens:
    """Keeps the token of a login, as the run cache does."""

    kept: str | None = None

    def token(self) -> str | None:
        return self.kept

    def keep_token(self, token: str) -> None:
        self.kept = token


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now
