# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The next safe command, without anything that may hold a secret: the options of the run have to be given again."""

from __future__ import annotations

import re
from collections.abc import Sequence

MANY = 20
"""From so many hosts on, a command names none: finishing a host that is done changes nothing."""

_PLAIN_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_AGAIN = "with the same -i and -e options"


def deploy(hosts: Sequence[str] = ()) -> str:
    """Return the command that deploys the live key to these hosts, or to all, without a rotation."""
    named = 0 < len(hosts) < MANY and all(_PLAIN_HOST.match(host) for host in hosts)
    limit = f" --limit {','.join(hosts)}" if named else ""
    return f"ansible-playbook multicart.keys.deploy{limit} ({_AGAIN})"


def rotate(retire: str | None = None) -> str:
    """Return the command that rotates the key; by naming the key to retire, it rotates no other."""
    named = f" -e multicart_rotate_retire={retire}" if retire else ""
    return f"ansible-playbook multicart.keys.rotate -e multicart_rotate_confirm=true{named} ({_AGAIN})"


def again(retire: str | None) -> str:
    """Return how a run is repeated; by naming the key to retire, it cannot rotate twice."""
    named = f", and -e multicart_rotate_retire={retire}" if retire else ""
    return f"the same command again{named}"
