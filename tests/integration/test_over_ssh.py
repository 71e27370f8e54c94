# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rotation over a real sshd: what crosses the network, how often, and what is shown of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.harness import Fleet, note
from tests.integration.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server")


@pytest.fixture
def remote(fleet: Fleet) -> Iterator[Fleet]:
    """A fleet behind sshd; every host is this machine, in a folder of its own."""
    with Sshd() as sshd:
        fleet.variables.update(sshd.variables)
        yield fleet


def test_a_host_costs_one_exchange_and_no_file_with_the_key_is_put_on_it(remote: Fleet) -> None:
    remote.add_many(3, multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[note("healthy")])
    run = remote.rotate("-vvvvv", "--diff")
    assert run.green, run
    assert (run.armed, remote.rotations, remote.stale) == (3, 1, [])
    assert all(host.log == ["restarted", "healthy"] for host in remote.hosts.values())
    assert not re.search(r"PUT|sftp|scp ", run.output)
    # From the inspection to the end of the run each host's program is the same one, started once.
    assert exchanges(run.output) == {"web1": 1, "web2": 1, "web3": 1}
    deploy = remote.deploy("-vvv")
    assert deploy.green and exchanges(deploy.output) == {"web1": 1, "web2": 1, "web3": 1}, deploy


def exchanges(output: str) -> Counter[str]:
    """Return how often ssh was started for each host."""
    return Counter(re.findall(r"<(\w+)\.loopback> SSH: EXEC ", output))


def test_a_host_that_is_lost_in_the_outage_is_named_and_finished_by_a_re_run(remote: Fleet) -> None:
    """Its connection, and the program that waits there, die after the API has accepted the rotation."""
    remote.add_many(3)
    old = remote.live_fingerprint
    with Sshd() as other:
        remote.hosts["web2"].variables.update(other.variables)
        with remote.once_rotated(other.kill):
            run = remote.rotate()
    assert (run.green, run.reason, run.armed) == (False, "not_up_to_date", 3), run
    assert "web2: unreachable: whether the key was written there is not known" in run.message
    assert ([task.host for task in run.failures], remote.stale) == (["web2"], ["web2"])
    for name in other.variables:
        del remote.hosts["web2"].variables[name]
    # The verdict on that rotation was given, so that this run is about another one: all is served, and it is red.
    again = remote.rotate()
    assert (again.green, again.reason) == (False, "caught_up"), again
    assert (remote.rotations, remote.stale) == (1, [])
    named = remote.rotate("-e", f"multicart_rotate_retire={old}")
    assert named.green, named
    assert (remote.rotations, remote.stale) == (1, [])
