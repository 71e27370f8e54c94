# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program of the short way, run as a host runs it, by every Python that a host may have."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins import module_utils
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import direct_exec as express

OLD, NEW = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary")
FOLDER = Path(module_utils.__path__[0])


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Return the options of a write of the new key, as the action gives them."""
    status = (folder / "env").stat()
    numbers = [status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)]
    file = {"path": f"{folder}/env", "variable": "KEY", "unsafe_writes": False, "status": numbers}
    known = {"value": NEW.reveal(), "fingerprint": NEW.fingerprint, "since": "2026-01-01T00:00:00.000Z"}
    return {"phase": "write", "files": [file], **known, **more}


def start(python: str, given: dict[str, Any], cwd: Path | None = None, **env: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run([python], input=express.program(given), capture_output=True, cwd=cwd, env=env, check=False)
    assert b"canary" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def run(python: str, given: dict[str, Any], cwd: Path | None = None, **env: str) -> dict[str, Any]:
    code, printed, errors = start(python, given, cwd, **env)
    assert (code, errors) == (0, b"")
    (line,) = printed.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def python_of(version: str) -> str:
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    return python


@pytest.mark.parametrize("version", ["3.6", "3.9", "3.12", "3.13"])
def test_the_write_is_done_on_every_python(version: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"A=1\nexport KEY='{OLD.reveal()}' # ours\n")
    commands = [["sh", "-c", f"echo restarted $KEY $MULTICART_PASSWORD >> {tmp_path}/log"]]
    given = options(tmp_path, commands=commands, environment=["KEY"])
    result = run(python_of(version), given, KEY="of before", MULTICART_PASSWORD="secret")
    assert (tmp_path / "env").read_text() == f"A=1\nexport KEY='{NEW.reveal()}' # ours\n"
    assert (tmp_path / "log").read_text() == "restarted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".env.KEY.multicart.json", "env", "log"]
    (file,) = result["files"]
    assert (result["changed"], result["restart_due"], file["holds"]) == (True, True, [NEW.fingerprint])
    assert set(result["ago"]) == {"written", "restarted"}
    again = run(python_of(version), given)
    assert (again["changed"], again["restart_due"]) == (True, True), "the record says that the restart is due"


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_no_code_is_taken_from_where_python_happens_to_start(version: str, tmp_path: Path) -> None:
    place = tmp_path / "somebody's"
    place.mkdir()
    for name in ("base64", "json", "types", "zlib", "fcntl", "ansible_collections", "subprocess", "typing"):
        (place / f"{name}.py").write_text("raise SystemExit('taken from here')\n")
    (tmp_path / "env").write_text(f"KEY={OLD.reveal()}\n")
    assert run(python_of(version), options(tmp_path), cwd=place)["changed"]


@pytest.mark.parametrize("change", ["mode", "removed"])
def test_a_file_that_was_changed_since_the_look_is_left_to_the_module(change: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"KEY={OLD.reveal()}\n")
    given = options(tmp_path)
    (tmp_path / "env").chmod(0o666) if change == "mode" else (tmp_path / "env").unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, printed, _errors = start(sys.executable, given)
    assert (code, printed) == (1, b"")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_is_wrong_is_told_as_the_module_does(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("KEY=$(cat /key)\n")
    result = run(sys.executable, options(tmp_path))
    assert (result["failed"], result["reason"]) == (True, "ambiguous")
    assert (tmp_path / "env").read_text() == "KEY=$(cat /key)\n"


def test_paths_are_those_that_the_module_would_use(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(f"KEY={OLD.reveal()}\n")
    (tmp_path / "state").mkdir()
    given = options(tmp_path, state_dir="~/state")
    given["files"][0]["path"] = "$HOME/env"
    result = run(sys.executable, given, HOME=str(tmp_path))
    assert result["files"][0]["path"] == f"{tmp_path}/env"
    assert len(list((tmp_path / "state").iterdir())) == 1


def test_nothing_that_it_needs_is_left_out_or_comes_too_late() -> None:
    parts = list(express._PARTS)
    for number, part in enumerate(parts):
        text = (FOLDER / f"{part}.py").read_text(encoding="utf-8")
        assert "\nimport ansible" not in text
        assert "\nfrom ansible." not in text
        needed = re.findall(r"^from ansible_collections\.\S+\.module_utils\.(\w+) import", text, re.M)
        whole = re.findall(r"^from ansible_collections\.\S+\.module_utils import (.+)$", text, re.M)
        needed += [name.strip() for names in whole for name in names.split(",")]
        assert set(needed) <= set(parts[:number]), part


@pytest.mark.parametrize(
    ("variables", "python"),
    [
        ({"ansible_python_interpreter": "/opt/python"}, "/opt/python"),
        ({"ansible_python_interpreter": "auto", "ansible_facts": {"discovered_interpreter_python": "/b"}}, "/b"),
        ({"ansible_python_interpreter": "auto_silent", "ansible_facts": {}}, None),
        ({"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3"}}, "/usr/bin/python3"),
        ({}, None),
    ],
)
def test_the_python_is_the_one_that_ansible_uses(variables: dict[str, Any], python: str | None) -> None:
    assert express.interpreter(variables, lambda raw: raw) == python


def test_a_python_that_is_set_for_all_hosts_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_PYTHON_INTERPRETER", "/opt/python")
    assert express.interpreter({}, lambda raw: raw) == "/opt/python"
