# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a consumer was refused, from the lines it logged."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outage:
    """What one consumer noticed of a rotation."""

    seconds: float
    """From its first refused call to the first one accepted afterwards."""
    refused: int
    """Calls that were refused in that time."""


def outage_in(lines: Iterable[str]) -> Outage:
    """Return the outage in a log of calls; none at all is an outage of zero seconds."""
    calls = [json.loads(line) for line in lines]
    refused = [call["time"] for call in calls if call["answer"] != "accepted"]
    if not refused:
        return Outage(0.0, 0)
    ends = [call["time"] for call in calls if call["time"] > refused[-1]] or refused[-1:]
    return Outage(ends[0] - refused[0], len(refused))
