# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotations over hosts with an init system of their own: what counts is which key their processes have."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.hosts.fleet import KEY_FILE, ROOT_BY, RealFleet
from tests.integration.harness import Run, fingerprint

READ_ONLY = "mount --bind /etc /etc && mount -o remount,ro,bind /etc"


def assert_all_use_the_live_key(fleet: RealFleet) -> None:
    """Files and processes, and nothing else has a key."""
    live = fleet.live_fingerprint
    assert fleet.stale == []
    assert {name: host.app()["fingerprint"] for name, host in fleet.real.items()} == dict.fromkeys(fleet.real, live)
    for host in fleet.real.values():
        assert [(holder.command, holder.fingerprint) for holder in host.holders] == [("python3", live)]


def test_the_flow_of_the_readme_works_for_an_unprivileged_user(real: RealFleet, systemd: str) -> None:
    """Over ssh, with sudo, su and doas, with a password and without; in a short run with two of them."""
    ways = ROOT_BY if os.environ.get("MULTICART_FULL", "") not in ("", "0") else ("sudo-password", "su")
    for by in ways:
        real.boot(f"by-{by}", systemd, by, files={KEY_FILE: "MODE=live\nMULTICART_API_KEY=changeme\n"})
    first = real.deploy()
    assert first.green and set(first.changed.values()) == {True}, first
    assert_all_use_the_live_key(real)
    again = real.deploy()
    assert again.green and set(again.changed.values()) == {False}, again

    check = real.rotate("--check", "--diff")
    assert check.green and (check.step, real.rotations) == ("rotate", 0), check
    assert_all_use_the_live_key(real)

    old = real.live_fingerprint
    run = real.rotate("--diff", "-vvv")
    assert run.green and real.rotations == 1, run
    assert run.armed == len({*ways} - {"su", "doas-password"}), run  # these take no pipelining
    assert set(run.states.values()) == {"up to date"}
    assert_all_use_the_live_key(real)
    for by in ways:
        record = real.consumer(f"by-{by}").record
        assert (record["open"], record["held"]) == (False, real.live_fingerprint)
        assert record["rotation"] == {"retire": old, "concluded": True}
        assert real.real[f"by-{by}"].run(f"stat -c '%U:%G %a' {KEY_FILE}") == "root:app 640\n"

    assert real.audit().green
    doctor = real.run("multicart.keys.doctor")
    assert doctor.green, doctor


def test_hosts_with_three_init_systems_are_rotated_together(real: RealFleet, systemd: str) -> None:
    kinds = {"bookworm", "openrc", "runit", systemd}
    for kind in kinds:
        real.boot(kind, kind)
    run = real.rotate()
    assert run.green and run.armed == len(kinds), run
    assert_all_use_the_live_key(real)
    audit = real.audit()
    assert audit.green, audit


@pytest.mark.parametrize("silently", [False, pytest.param(True, marks=pytest.mark.full)])
def test_a_host_that_crashes_with_the_new_key_is_finished_once_it_has_rebooted(real: RealFleet, silently: bool) -> None:
    """With the key in its file, while its service is being restarted.

    If nothing more is heard of it, the rest of its time is waited for.
    """
    for name in ("web1", "web2", "web3"):
        real.boot(name, multicart_deploy_timeout=2 if silently else 60)
    web2 = real.real["web2"]
    web2.write("/etc/systemd/system/app.service.d/slow.conf", "[Service]\nExecStartPre=/bin/sleep 60\n")
    real.wait()
    with once_written(real, "web2", lambda: web2.crash(silently)):
        run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_up_to_date", 1), run
    assert [task.host for task in run.failures] == ["web2"], run
    assert {name: run.states[name] for name in ("web1", "web3")} == {"web1": "up to date", "web3": "up to date"}
    if silently:
        assert "whether the key was written there is not known" in run.consumers["web2"], run
    else:
        assert run.states["web2"] == "unreachable", run

    web2.run("rm /etc/systemd/system/app.service.d/slow.conf")
    web2.reboot()
    assert web2.app()["fingerprint"] == real.live_fingerprint  # it read the file when it started
    assert real.consumer("web2").record["open"]
    again = real.rotate("-e", f"multicart_rotate_retire={retired(run)}")
    assert again.green and real.rotations == 1, again
    assert_all_use_the_live_key(real)
    assert not real.consumer("web2").record["open"]


@pytest.mark.full
def test_a_host_that_crashes_before_it_has_the_new_key_is_finished_once_it_has_rebooted(real: RealFleet) -> None:
    for name in ("web1", "web2", "web3"):
        real.boot(name)
    web2 = real.real["web2"]
    real.wait()
    with real.once_rotated(web2.crash):
        run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_up_to_date", 1), run
    assert ([task.host for task in run.failures], run.states["web2"]) == (["web2"], "unreachable")
    web2.reboot()
    assert real.stale == ["web2"] and web2.app()["fingerprint"] == retired(run)
    again = real.rotate("-e", f"multicart_rotate_retire={retired(run)}")
    assert again.green and real.rotations == 1, again
    assert_all_use_the_live_key(real)


@pytest.mark.full
def test_a_host_whose_etc_is_read_only_is_named_and_nothing_is_rotated(real: RealFleet) -> None:
    for name in ("web1", "web2"):
        real.boot(name)
    real.real["web2"].run(READ_ONLY)
    run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_ready", 0), run
    assert [task.host for task in run.failures if task.get("reason") == "read_only_file_system"] == ["web2"], run
    assert "web2" in run.message and "read-only" in run.message
    assert_all_use_the_live_key(real)


def test_a_host_whose_etc_turns_read_only_meanwhile_is_finished_once_it_is_not(real: RealFleet) -> None:
    for name in ("web1", "web2", "web3"):
        real.boot(name)
    web2 = real.real["web2"]
    real.wait()
    with real.once_rotated(lambda: web2.run(READ_ONLY)):
        run = real.rotate()
    assert (run.green, run.reason, real.rotations, real.stale) == (False, "not_up_to_date", 1, ["web2"]), run
    assert [task.host for task in run.failures] == ["web2"], run
    assert "read-only" in run.consumers["web2"]
    assert {name: run.states[name] for name in ("web1", "web3")} == {"web1": "up to date", "web3": "up to date"}
    assert web2.app()["fingerprint"] == retired(run)
    web2.run("umount /etc")
    again = real.rotate("-e", f"multicart_rotate_retire={retired(run)}")
    assert again.green and real.rotations == 1, again
    assert_all_use_the_live_key(real)


def retired(run: Run) -> str:
    assert run.whole is not None
    found: str = run.whole["retired"]
    return found


@contextmanager
def once_written(fleet: RealFleet, name: str, act: Callable[[], object]) -> Iterator[None]:
    """Do something as soon as a host has another key in its file."""
    path = fleet.stage.inside(f"{fleet.real[name].root}{KEY_FILE}")
    before, over = fingerprint(path.read_text()), threading.Event()

    def watch() -> None:
        while not over.is_set() and fingerprint(path.read_text()) == before:
            time.sleep(0.01)
        if not over.is_set():
            act()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
