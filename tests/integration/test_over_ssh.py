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


def test_a_host_costs_one_exchange_a_phase_and_no_file_with_the_key_is_put_on_it(remote: Fleet) -> None:
    remote.add_many(3, multicart_deploy_commands=[note("restarted")], multicart_deploy_health_checks=[note("healthy")])
    run = remote.rotate("-vvvvv", "--diff")
    assert run.green, run
    assert (remote.rotations, remote.stale) == (1, [])
    assert all(host.log == ["restarted", "healthy"] for host in remote.hosts.values())
    assert not re.search(r"PUT|sftp|scp ", run.output)
    after = run.output.split("TASK [multicart.keys.multicart_rotate : Replace the key]")[1]
    before_close, close = after.split(" : Close the records")
    # To write and restart, to prove its health, and to close its records.
    assert exchanges(before_close) == {"web1": 2, "web2": 2, "web3": 2}
    assert exchanges(close) == {"web1": 1, "web2": 1, "web3": 1}


def exchanges(output: str) -> Counter[str]:
    """Return how often ssh was started for each host."""
    return Counter(re.findall(r"<(\w+)\.loopback> SSH: EXEC ", output))


def test_a_host_that_is_lost_in_the_window_is_named_and_finished_by_a_re_run(remote: Fleet) -> None:
    remote.add_many(2)
    lost = remote.folder / "lost"
    port = f"{{{{ 1 if lookup('ansible.builtin.fileglob', '{lost}') else {remote.variables['ansible_port']} }}}}"
    common = remote.variables["ansible_ssh_common_args"]
    remote.hosts["web2"].variables.update(
        ansible_port=port, ansible_ssh_common_args=re.sub(r"-o Port=\d+", "-o Port={{ ansible_port }}", common)
    )
    with remote.once_rotated(lost.touch):
        run = remote.rotate()
    assert (run.green, run.reason) == (False, "not_current"), run
    assert "web2 is stale: it is unreachable" in run.message
    assert remote.stale == ["web2"]
    lost.unlink()
    assert remote.rotate().green
    assert (remote.rotations, remote.stale) == (1, [])
