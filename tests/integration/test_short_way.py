# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which way the write takes to a host, and that the other one follows where the short one does not work."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from tests.integration.harness import Fleet, Host, note

# Notes whether it was given a module of Ansible's, as a file or through a pipe, or a program of ours.
_PYTHON = """#!/bin/sh
if [ $# -gt 0 ]; then
  echo file >> {folder}/ways
  exec {python} "$@"
fi
given=$(mktemp {folder}/given-XXXXXX)
cat > "$given"
if grep -q ANSIBALLZ "$given"; then
  echo module >> {folder}/ways
  {python} "$given"; code=$?
else
  echo short >> {folder}/ways
  {short}
fi
rm "$given"
exit $code
"""
_WORKS = '{python} "$given"; code=$?'


class Watched:
    """A host that notes which way each task takes."""

    def __init__(self, fleet: Fleet, short: str = _WORKS, **variables: object) -> None:
        self.host: Host = fleet.add("web1", multicart_deploy_commands=[note("restarted")], **variables)
        self._folder = fleet.folder / "watched"
        self._folder.mkdir()
        python = self._folder / "python"
        values = {"folder": self._folder, "python": sys.executable}
        python.write_text(_PYTHON.format(short=short.format(**values), **values))
        python.chmod(0o755)
        self.host.variables["ansible_python_interpreter"] = str(python)

    @property
    def ways(self) -> list[str]:
        return (self._folder / "ways").read_text().split()


def check(fleet: Fleet, restarts: int = 1) -> None:
    run = fleet.rotate()
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert fleet.hosts["web1"].log == ["restarted"] * restarts


def test_the_write_takes_the_short_way_once_a_rehearsal_has_shown_that_it_works(fleet: Fleet) -> None:
    watched = Watched(fleet)
    check(fleet)
    look, rehearsal, opening, write, close = "module", "short", "module", "short", "module"
    assert watched.ways == [look, rehearsal, opening, write, close]


@pytest.mark.parametrize("short", ["code=1", "echo '{{'; code=0", "echo hello; code=0", "echo '{{}}'; code=0"])
def test_where_it_does_not_work_ansible_goes_its_own_way(fleet: Fleet, short: str) -> None:
    watched = Watched(fleet, short)
    check(fleet)
    assert watched.ways == ["module", "short", "module", "module", "module", "module"]


def test_a_host_cannot_change_others_by_what_it_answers(fleet: Fleet) -> None:
    """Ansible does what the result of an action says: it would add hosts, or give them other variables."""
    evil = fleet.folder / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {fleet.folder}/was-here\nexit 1\n")
    evil.chmod(0o755)
    said = {"files": [], "changed": False, "ansible_facts": {"discovered_interpreter_python": str(evil)}}
    said["add_host"] = {"host_name": "web2", "host_vars": {"ansible_python_interpreter": str(evil)}}
    answer = fleet.folder / "answer"
    answer.write_text(json.dumps({**said, "_ansible_verbose_always": True}))
    Watched(fleet, f"cat {answer}; code=0")
    fleet.add("web2")
    run = fleet.rotate()
    assert not (fleet.folder / "was-here").exists(), run
    assert "web2" not in fleet.stale
    assert not any({"add_host", "ansible_facts"} & task.result.keys() for task in run.of("multicart_consumer")), run


def test_a_write_whose_answer_was_lost_is_finished_by_the_module(fleet: Fleet) -> None:
    """It may restart once more: whether the first one was seen through is not known."""
    watched = Watched(fleet, f"{_WORKS}; [ ! -e {{folder}}/once ] || code=1; touch {{folder}}/once")
    check(fleet, restarts=2)
    assert watched.ways == ["module", "short", "module", "short", "module", "module"]


def test_a_file_whose_mode_is_to_change_is_written_by_the_module(fleet: Fleet) -> None:
    watched = Watched(fleet, multicart_deploy_files=[{"path": "{{ home }}/app.env", "mode": "0640"}])
    watched.host.env.chmod(0o600)
    check(fleet)
    assert stat.S_IMODE(watched.host.env.stat().st_mode) == 0o640
    assert set(watched.ways) == {"module"}


def test_a_file_whose_mode_is_right_takes_the_short_way_and_keeps_it(fleet: Fleet) -> None:
    watched = Watched(fleet, multicart_deploy_files=[{"path": "{{ home }}/app.env", "mode": "u=rw,g=r,o="}])
    watched.host.env.chmod(0o640)
    check(fleet)
    assert stat.S_IMODE(watched.host.env.stat().st_mode) == 0o640
    assert watched.ways[-2:] == ["short", "module"]


def test_it_is_the_same_under_the_free_strategy(fleet: Fleet) -> None:
    watched = Watched(fleet)
    run = fleet.rotate("-e", "multicart_strategy=free")
    assert run.green, run
    assert watched.ways == ["module", "short", "module", "short", "module"]


@pytest.mark.parametrize("env", [{"ANSIBLE_PIPELINING": "0"}, {"ANSIBLE_KEEP_REMOTE_FILES": "1"}], ids=["off", "kept"])
def test_where_files_are_put_on_the_host_there_is_no_short_way(fleet: Fleet, env: dict[str, str]) -> None:
    watched = Watched(fleet)
    run = fleet.rotate(env=env, revealed=True)  # it is what was asked for
    assert run.green, run
    assert set(watched.ways) == {"file"}


def test_without_pipelining_there_is_no_short_way(fleet: Fleet) -> None:
    watched = Watched(fleet, ansible_pipelining=False)
    check(fleet)
    assert set(watched.ways) == {"file"}


def test_the_python_that_ansible_finds_by_itself_will_do(fleet: Fleet) -> None:
    fleet.add("web1", ansible_python_interpreter="auto_silent")
    run = fleet.rotate(env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})
    assert run.green, run
    assert [task["in_short"] for task in run.of("multicart_consumer") if "in_short" in task.result] == [True, True]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sudo") is None, reason="needs root, and sudo: apt-get install sudo"
)
def test_the_write_is_done_as_the_user_that_is_become(fleet: Fleet) -> None:
    host = fleet.add("web1", ansible_become=True, ansible_become_user="nobody", ansible_become_method="sudo")
    host.variables["ansible_python_interpreter"] = "/usr/bin/python3"
    host.variables["multicart_deploy_commands"] = ["sh -c 'id -un >> {{ home }}/log'"]
    for path in (host.folder, host.env):
        shutil.chown(path, "nobody", "nogroup")
    for folder in host.folder.parents:  # pytest's own are private
        folder.chmod(folder.stat().st_mode | 0o011)
    run = fleet.rotate()
    assert run.green, run
    assert [task["in_short"] for task in run.of("multicart_consumer") if "in_short" in task.result] == [True, True]
    assert (host.env.owner(), host.log, fleet.stale) == ("nobody", ["nobody"], [])
