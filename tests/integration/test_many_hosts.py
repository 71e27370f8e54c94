# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many hosts provisioned in one run, each by a process of its own: how many requests they make together."""

from __future__ import annotations

import time

import pytest

from tests.integration import harness
from tests.integration.harness import Fleet

RECENTLY = 10.0
"""Seconds for which one read serves all."""


def most_reads(seconds: float) -> int:
    """Return how many reads a run may make: two, and one in ten seconds.

    Each is the read itself, with the token, and the verification that the API accepts what was read, with that key.
    """
    return 2 + int(seconds / RECENTLY) + 1


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.full)])
@pytest.mark.parametrize("holding", ["no key", "a former key"])
def test_many_hosts_provisioned_at_once_share_their_reads(
    fleet: Fleet, count: int, holding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "_SECONDS", 3600)
    former = fleet.live
    fleet.sandbox.rotate_behind(fleet.email)
    for number in range(count):
        fleet.add(f"web{number}", "changeme" if holding == "no key" else former)
    began = time.monotonic()
    run = fleet.play("- import_role: {name: multicart.keys.multicart_deploy}", env={"ANSIBLE_FORKS": "10"})
    seconds = time.monotonic() - began
    assert run.green and fleet.stale == [], run
    asked = [entry["credential"] for entry in fleet.requests()]
    assert asked.count("token") <= most_reads(seconds), (count, seconds, len(asked))
    assert asked.count("key") <= asked.count("token")
    assert len(asked) == asked.count("token") + asked.count("key")
