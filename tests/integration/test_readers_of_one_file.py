# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several programs that read one file: each gets its restart, once."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.harness import Fleet, note

PYTHON = os.environ.get("MULTICART_TEST_TARGET_PYTHON", sys.executable)
WHERE = "MACHINE"
"""The variable in which commands find the directory of their machine."""
_INTERPRETER = """#!/bin/sh
export {where}={folder}
exec unshare --mount sh -c 'mount --bind {folder}/machine-id /etc/machine-id && exec {python} "$@"' sh "$@"
"""


def machine(folder: Path) -> Path:
    """Return an interpreter that sees another machine than this one, and has its directory in ``$MACHINE``."""
    folder.mkdir()
    (folder / "machine-id").write_text(secrets.token_hex(16) + "\n")
    python = folder / "python"
    python.write_text(_INTERPRETER.format(where=WHERE, folder=folder, python=PYTHON))
    python.chmod(0o755)
    if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("no process can be given another /etc/machine-id here")
    return python


def test_t16_two_roles_that_share_a_file_restart_their_own_programs_once_each(fleet: Fleet) -> None:
    host = fleet.add("web1", content="# no key yet\nA=1\n")
    role = "- ansible.builtin.include_role: {{name: multicart.keys.multicart_deploy}}\n  vars: {{{vars}}}\n"

    def commands(word: str) -> str:
        return role.format(vars=f"multicart_deploy_commands: [{json.dumps(note(word))}]")

    both = commands("first") + commands("second")
    assert fleet.play(both).green
    assert sorted(host.log) == ["first", "second"]
    assert fleet.play(both).green
    assert sorted(host.log) == ["first", "second"]
    # A new reader runs with whatever it was started with: nobody knows.
    assert fleet.play(both + commands("third")).green
    assert sorted(host.log) == ["first", "second", "third"]
    fleet.sandbox.rotate_behind(fleet.email)
    for _run in (1, 2):
        assert fleet.play(both + commands("third")).green
        assert sorted(host.log) == sorted(["first", "second", "third"] * 2)


def test_t16_two_hosts_that_share_a_file_restart_their_own_programs_once_each(fleet: Fleet) -> None:
    """All with the same variables, as those of a group are; a machine that has two names is one."""
    shared = fleet.folder / "hosts" / "shared"
    shared.mkdir(parents=True)
    (shared / "app.env").write_text("A=1\n")
    restarts = [f"sh -c 'echo restarted >> ${WHERE}/log'"]
    same = {"multicart_deploy_files": [{"path": str(shared / "app.env")}], "multicart_deploy_commands": restarts}
    machines = {name: machine(fleet.folder / name) for name in ("one", "other")}
    for name, where in (("web1", "one"), ("alias", "one"), ("web2", "other")):
        fleet.add(name, content=None, **same, ansible_python_interpreter=str(machines[where]))

    def restarted() -> dict[str, int]:
        logs = {name: fleet.folder / name / "log" for name in machines}
        return {name: len(log.read_text().split()) if log.exists() else 0 for name, log in logs.items()}

    role = "- ansible.builtin.include_role: {name: multicart.keys.multicart_deploy}"
    for _run in (1, 2):
        run = fleet.play(role, head="serial: 1")
        assert run.green, run
        assert restarted() == {"one": 1, "other": 1}, run
    fleet.sandbox.rotate_behind(fleet.email)
    for _run in (1, 2):
        run = fleet.play(role, head="serial: 1")
        assert run.green, run
        assert restarted() == {"one": 2, "other": 2}, run
