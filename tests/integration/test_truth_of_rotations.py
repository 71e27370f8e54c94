# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that must not be green although nothing failed: keys that live on, records that lie, reads that lag behind."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.harness import Fleet, fingerprint

# Every key is accepted, so that none is ever rejected.
ANY_KEY: dict[str, Any] = {"on": "read", "credential": "key", "fault": "claimed", "times": -1}


def retire(key: str) -> tuple[str, str]:
    return "-e", f"multicart_rotate_retire={fingerprint(key)}"


# --- T12: the old key stays valid -------------------------------------------------------------------


@pytest.mark.full  # the rejection is waited for
def test_t12_a_key_that_stays_valid_is_red_until_its_rejection_is_seen(fleet: Fleet) -> None:
    """T12: the first run is red, and so is the second one, which does as the first one advises."""
    hosts = fleet.add_many(2)
    old = fleet.live
    fleet.sandbox.faults([ANY_KEY])
    run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations, fleet.stale) == (False, "old_key_still_valid", 1, []), run
    assert [host.record["retired"][-1]["seen"] for host in hosts] == ["still_valid"] * 2
    for _again in (1, 2):
        run = fleet.rotate(*retire(old))
        assert (run.green, run.reason, fleet.rotations) == (False, "old_key_still_valid", 1), run
    fleet.sandbox.clear()
    run = fleet.rotate(*retire(old), "-e", f"multicart_rotate_assume_rejected={fingerprint(old)}")
    assert run.green and fleet.rotations == 1, run


SEEN = {
    # what the records of two hosts say of the retired key: whether a run that retires it is green, and why not
    "rejected": (["rejected", "rejected"], None),
    "accepted in both": (["unseen", "unseen"], None),
    "still valid in one": (["unseen", "still_valid"], "old_key_still_valid"),
    "rejected in one, still valid in the other": (["rejected", "still_valid"], "old_key_still_valid"),
    "noted by one": (["unseen", None], "rejection_unseen"),
}


@pytest.mark.parametrize(
    "case",
    [
        case if case in ("accepted in both", "noted by one") else pytest.param(case, marks=pytest.mark.full)
        for case in SEEN
    ],
)
def test_t12_a_run_that_can_no_longer_try_the_key_is_green_only_by_what_two_have_seen(fleet: Fleet, case: str) -> None:
    """T12: no run has the key any more; what is known of it is in the records."""
    seen, reason = SEEN[case]
    old = fingerprint(fleet.live)
    fleet.sandbox.rotate_behind(fleet.email)
    for name, what in zip(("web1", "web2"), seen, strict=True):
        retired = [{"key": old, "seen": what, "at": None, "accepted": True}] if what else []
        fleet.add(name).edit_record(held=fleet.live_fingerprint, retired=retired)
    run = fleet.rotate("-e", f"multicart_rotate_retire={old}")
    assert (run.green, run.reason, fleet.rotations) == (reason is None, reason, 0), run
    if case == "accepted in both":
        assert "that the API rejects it was not seen" in run.output, run


# --- T14, T15: records that lie, and keys of unknown age ---------------------------------------------

LIES: dict[str, dict[str, Any]] = {
    "an open rotation of a key that never was": {"open": True, "retire": "0" * 16},
    "an open rotation of the live key": {"open": True, "retire": "LIVE"},
    "since 1970": {"since": "1970-01-01T00:00:00Z"},
    "since 2099": {"since": "2099-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    "by_age", [False, pytest.param(True, marks=pytest.mark.full)], ids=["asked to rotate", "by age"]
)
def test_t14_one_hosts_record_does_not_steer_the_fleet(fleet: Fleet, lie: str, by_age: bool) -> None:
    """T14: asked to rotate, a run rotates and is green, or is red; by age, it does not rotate for that host's word."""
    since = "2026-01-01T00:00:00Z"
    for host in fleet.add_many(3):
        host.edit_record(held=fleet.live_fingerprint, since=since)
    fields = {name: fleet.live_fingerprint if value == "LIVE" else value for name, value in LIES[lie].items()}
    fleet.hosts["web2"].edit_record(**fields)
    run = fleet.rotate(*(("-e", "multicart_rotate_max_age=3650d") if by_age else ()))
    assert run.green, run
    assert (run.step, fleet.rotations) == (("not_due", 0) if by_age else ("rotate", 1)), run
    assert fleet.stale == []


def test_t15_a_key_of_unknown_age_is_rotated_only_on_request_and_told(fleet: Fleet) -> None:
    """T15: every host was replaced, and none knows since when the key is live."""
    fleet.add_many(2)
    run = fleet.rotate("-e", "multicart_rotate_max_age=30d")
    assert (run.green, run.step, fleet.rotations) == (True, "not_due", 0), run
    assert "the age of the key is not known; multicart_rotate_unknown_age" in run.output, run
    # What that run has noted is an age, if a young one.
    for host in fleet.hosts.values():
        host.record_path().unlink()
    run = fleet.rotate("-e", "multicart_rotate_max_age=30d", "-e", "multicart_rotate_unknown_age=rotate")
    assert (run.green, run.step, fleet.rotations, fleet.stale) == (True, "rotate", 1, []), run


# --- T17: a replica that lags behind -------------------------------------------------------------------


# Notes the fingerprint of the key that a program would start with.
STARTED = "sh -c 'cut -d= -f2 {{ home }}/app.env | tr -d \\\\n | sha256sum | cut -c1-16 >> {{ home }}/log'"


@pytest.mark.parametrize("recorded", [True, False], ids=["known as former", "known to nobody"])
@pytest.mark.parametrize("lags", [pytest.param(1, marks=pytest.mark.full), 3])
def test_t17_a_read_that_is_two_rotations_behind_is_never_deployed_for_good(
    fleet: Fleet, lags: int, recorded: bool
) -> None:
    """T17: the rotation is accepted, and what is read back is neither the new key nor the one just retired.

    If a record knows it as retired, it is not even written; otherwise the verification beside the deployment shows it.
    """
    hosts = fleet.add_many(2, multicart_deploy_commands=[STARTED])
    if recorded:
        assert fleet.rotate().green
    else:
        fleet.sandbox.rotate_behind(fleet.email)
        for host in hosts:
            host.env.write_text(f"MULTICART_API_KEY={fleet.live}\n")
    begun, rotations = len(hosts[0].log), fleet.rotations
    former = fleet.account["former_keys"][-1]
    # The read before the rotation is true.
    fleet.fault("read", "stale_read", credential="token", value=2, after=1, times=lags)
    run = fleet.rotate()
    assert (fleet.rotations, fleet.stale) == (rotations + 1, []), run
    for host in hosts:
        started = host.log[begun:]
        assert started[-1] == fleet.live_fingerprint
        assert not recorded or started == [fleet.live_fingerprint]
        assert fingerprint(former) not in started[-1:]
    assert run.green, run
