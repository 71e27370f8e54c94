# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the outage will be, foretold from how long it took to rehearse the write with every consumer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How long the rehearsal took with one consumer, by the controller's monotonic clock, in seconds.

    :ivar began: when the worker turned to it.
    :ivar ended: when the answer was there.
    :ivar cpu: what the controller computed for it meanwhile.
    """

    began: float
    ended: float
    cpu: float


@dataclass(frozen=True)
class Outage:
    """What is to be expected between the death of the old key and the last consumer's new one.

    :ivar hosts: how many consumers.
    :ivar forks: how many are written at a time.
    :ivar seconds: how long it will be.
    :ivar forks_worth: how many forks would make it clearly shorter; None: more of them would not.
    """

    hosts: int
    forks: int
    seconds: float
    forks_worth: int | None = None

    @property
    def sentence(self) -> str:
        """Return it in words."""
        said = f"The last of {self.hosts} consumers is expected to hold the new key {self.seconds:.1f} s after the old "
        said += f"one has died, with {self.forks} forks; restarts come on top."
        return said + (f" It would be shorter with --forks {self.forks_worth}." if self.forks_worth else "")


def foretell(paces: Sequence[Pace], forks: int, cores: int) -> Outage:
    """Return what to expect of a write, with as many forks as the rehearsal had.

    It is bound by whichever is slowest: the hosts, each fork serving one after another; the controller's cores; or
    what the rehearsal took all together, because of the controller's one thread that hands out tasks.

    :param forks: how many hosts Ansible serves at a time.
    :param cores: how many processes the controller runs at a time.
    """
    if not paces:
        return Outage(0, forks, 0.0)
    lanes = max(1, min(forks, len(paces)))
    work = [pace.ended - pace.began for pace in paces]
    overall = max(pace.ended for pace in paces) - min(pace.began for pace in paces)
    computing = sum(pace.cpu for pace in paces) / max(1, cores)
    seconds = max(sum(work) / lanes, computing, overall)
    floor = max(computing, *work)
    worth = min(len(paces), math.ceil(round(sum(work) / floor, 6))) if floor > 0 else lanes
    # Less than a quarter is not worth a change.
    return Outage(len(paces), forks, seconds, worth if sum(work) / lanes > 1.25 * floor and worth > lanes else None)
