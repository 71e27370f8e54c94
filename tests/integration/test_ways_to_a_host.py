# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way the program takes to a host: held open over ssh, sent with each request, or copied as a file."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Fleet, Host, Run, note
from tests.rows import spread

# In place of Python: notes how it was started, and for what. "$own" is what it does for the request to deploy.
_PYTHON = """#!/bin/sh
[ "$1" = -c ] || {{ echo copied >> {folder}/ways; exec {python} "$@"; }}
echo input >> {folder}/ways
{own}
exec {python} "$@"
"""
# What is sent at once can be looked into before it is run; what is held cannot.
_LOOK = """
given=$(mktemp {folder}/given-XXXXXX); trap 'rm "$given"' EXIT; cat > "$given"
if grep -aq '"phase": "{phase}"' "$given"; then {answer}; fi
{python} "$@" < "$given"; exit $?
"""

SENT = ["inspect", "prepare", "deploy", "close", "conclude"]
"""The requests of a rotation, each of which starts the program where it cannot be held open."""


class Watched:
    """A host that notes how its Python is started.

    :param phase: of the request that it answers otherwise, by ``answer``, a command of the shell.
    """

    def __init__(self, fleet: Fleet, phase: str | None = None, answer: str = "", **variables: Any) -> None:
        self.host: Host = fleet.add("web1", multicart_deploy_commands=[note("restarted")], **variables)
        self._folder = fleet.folder / "watched"
        self._folder.mkdir()
        python = self._folder / "python"
        values = {"folder": self._folder, "python": sys.executable}
        own = "" if phase is None else _LOOK.format(phase=phase, answer=answer, **values)
        python.write_text(_PYTHON.format(own=own, **values))
        python.chmod(0o755)
        self.host.variables["ansible_python_interpreter"] = str(python)

    @property
    def ways(self) -> list[str]:
        return (self._folder / "ways").read_text().split()


def check(fleet: Fleet, run: Run) -> None:
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert fleet.hosts["web1"].log == ["restarted"]


def test_over_ssh_the_program_is_started_once_and_held_open_until_the_end(fleet: Fleet) -> None:
    watched = Watched(fleet, **fleet.over_ssh())
    run = fleet.rotate()
    check(fleet, run)
    assert (run.armed, watched.ways) == (1, ["input"])


def test_where_the_program_cannot_be_held_it_is_sent_with_each_request(fleet: Fleet) -> None:
    watched = Watched(fleet)
    run = fleet.rotate()
    check(fleet, run)
    assert (run.armed, watched.ways) == (0, ["input"] * len(SENT))


@pytest.mark.parametrize("over", [Fleet.over_ssh, lambda _fleet: {}], ids=["ssh", "local"])
@pytest.mark.parametrize("how", ["environment", "variable"])
def test_without_pipelining_it_is_copied_and_nothing_of_it_stays_on_the_host(
    fleet: Fleet, over: Callable[[Fleet], dict[str, Any]], how: str
) -> None:
    env, variables = ({"ANSIBLE_PIPELINING": "0"}, {}) if how == "environment" else ({}, {"ansible_pipelining": False})
    # A stand-in for ssh has no transfer of files but that through the command's input.
    watched = Watched(fleet, ansible_ssh_transfer_method="piped", **over(fleet), **variables)
    run = fleet.rotate(env=env)
    check(fleet, run)
    assert (run.armed, watched.ways) == (0, ["copied"] * len(SENT))
    assert not list(fleet.folder.rglob("multicart.keys.py"))


def test_the_program_is_not_even_kept_on_the_host_where_ansible_is_to_keep_its_files_there(fleet: Fleet) -> None:
    """It has the key in it, where it is not the one that is sent without any request."""
    watched = Watched(fleet)
    check(fleet, fleet.rotate(env={"ANSIBLE_KEEP_REMOTE_FILES": "1"}))
    assert watched.ways == ["copied"] * len(SENT)
    assert not list(fleet.folder.rglob("multicart.keys.py"))


@pytest.mark.parametrize(
    ("phase", "answer"),
    spread(
        ["inspect", "prepare"],
        ["exit 1", "echo '{'; exit 0", "echo hello; exit 0", "echo '{}'; exit 0", "exit 0"],
    ),
)
def test_a_host_without_an_answer_is_not_ready_and_nothing_is_rotated(fleet: Fleet, phase: str, answer: str) -> None:
    Watched(fleet, phase, answer)
    fleet.add("web2")
    run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "not_ready", 0), run
    assert "web1: its Python gave no answer (exit status " in run.message
    assert "web2: " not in run.message
    assert fleet.stale == []


@pytest.mark.parametrize("phase", ["deploy", "close"])
def test_an_answer_that_was_lost_is_told_and_the_host_is_finished_by_a_further_run(fleet: Fleet, phase: str) -> None:
    """Whether it has restarted what uses the key is not known then, so that it does so once more."""
    watched = Watched(fleet, phase, f"[ -e {fleet.folder}/lost ] || exit 1")
    lost = fleet.folder / "lost"
    fleet.add("web2")
    run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "not_up_to_date", 1), run
    assert ([task.host for task in run.failures], run.states["web2"]) == (["web1"], "up to date")
    assert ("whether the key was written there is not known" in run.message) is (phase == "deploy")
    lost.touch()
    deploy = fleet.deploy()
    assert deploy.green, deploy
    assert (fleet.rotations, fleet.stale, watched.host.record["open"]) == (1, [], False)
    assert watched.host.log[-1] == "restarted"


@pytest.mark.parametrize("over", [Fleet.over_ssh, lambda _fleet: {}], ids=["ssh", "local"])
@pytest.mark.parametrize(("mode", "before"), [("0640", 0o600), ("u=rw,g=r,o=", 0o640)], ids=["changes", "kept"])
def test_a_file_gets_its_mode_on_the_same_way(
    fleet: Fleet, over: Callable[[Fleet], dict[str, Any]], mode: str, before: int
) -> None:
    files = [{"path": "{{ home }}/app.env", "mode": mode}]
    watched = Watched(fleet, multicart_deploy_files=files, **over(fleet))
    watched.host.env.chmod(before)
    check(fleet, fleet.rotate())
    assert stat.S_IMODE(watched.host.env.stat().st_mode) == 0o640
    assert set(watched.ways) == {"input"}


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_a_deployment_takes_the_same_way_whatever_the_strategy(fleet: Fleet, strategy: str) -> None:
    watched = Watched(fleet)
    fleet.sandbox.rotate_behind(fleet.email)
    run = fleet.deploy(env={"ANSIBLE_STRATEGY": strategy})
    assert run.green, run
    assert (watched.host.log, watched.ways) == (["restarted"], ["input"] * 3)  # inspect, deploy, close


@pytest.mark.parametrize("over", [Fleet.over_ssh, lambda _fleet: {}], ids=["ssh", "local"])
@pytest.mark.parametrize("python", ["auto", "auto_silent", "auto_legacy"])
def test_a_python_is_found_on_the_host_where_none_is_named(
    fleet: Fleet, over: Callable[[Fleet], dict[str, Any]], python: str
) -> None:
    fleet.add("web1", ansible_python_interpreter=python, **over(fleet))
    run = fleet.rotate(env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.parametrize("over", [Fleet.over_ssh, lambda _fleet: {}], ids=["ssh", "local"])
def test_a_host_without_the_python_that_is_named_is_not_ready(
    fleet: Fleet, over: Callable[[Fleet], dict[str, Any]]
) -> None:
    fleet.add("web1", ansible_python_interpreter="/no/such/python", **over(fleet))
    fleet.add("web2")
    run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "not_ready", 0), run
    assert "web1: it has no Python 3.6 or later: install it, or set ansible_python_interpreter" in run.message


@pytest.mark.parametrize("over", [Fleet.over_ssh, lambda _fleet: {}], ids=["ssh", "local"])
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sudo") is None, reason="needs root, and sudo: apt-get install sudo"
)
def test_all_is_done_as_the_user_that_is_become(open_fleet: Fleet, over: Callable[[Fleet], dict[str, Any]]) -> None:
    fleet = open_fleet
    become = {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_method": "sudo"}
    host = fleet.add("web1", **become, **over(fleet))
    host.variables["ansible_python_interpreter"] = "/usr/bin/python3"
    host.variables["multicart_deploy_commands"] = ["sh -c 'id -un >> {{ home }}/log'"]
    for path in (host.folder, host.env):
        shutil.chown(path, "nobody", "nogroup")
    run = fleet.rotate()
    assert run.green, run
    assert run.armed == len(over(fleet)) // 2
    assert (host.env.owner(), host.record_path().owner(), host.log) == ("nobody", "nobody", ["nobody"])
    assert fleet.stale == []
