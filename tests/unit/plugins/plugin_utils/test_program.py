# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is sent to a host: a program that is whole, starts on every Python it may meet, and holds no secret."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins import module_utils
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import program
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import answer_from

OLD, NEW = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary")
FOLDER = Path(module_utils.__path__[0])
PYTHONS = ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]
SINCE = "2026-01-01T00:00:00.000Z"


def python_of(version: str) -> str:
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    return python


def requests(folder: Path, *phases: str, **more: Any) -> bytes:
    """Return the requests of a whole rotation of one file, or those of some phases."""
    file = dict.fromkeys(("owner", "group", "mode", "digest", "content"))
    common = {"files": [{**file, "path": f"{folder}/env", "variable": "KEY", "unsafe_writes": False}], "wait": 20.0}
    of_phase: dict[str, dict[str, Any]] = {
        "prepare": {"retire": OLD.fingerprint, "live": OLD.fingerprint},
        "deploy": {"key": NEW.reveal(), "since": SINCE},
        "conclude": {
            "seen": {"key": OLD.fingerprint, "seen": "rejected", "at": SINCE, "accepted": True, "updated_at": None}
        },
    }
    lines = [
        {"phase": phase, "tag": phase, "live": NEW.fingerprint, **common, **of_phase.get(phase, {}), **more}
        for phase in phases or ("inspect", "prepare", "ping", "deploy", "close", "conclude")
    ]
    return b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines)


def start(command: str, data: bytes, cwd: Path | None = None, **env: str) -> dict[str, Any]:
    """Start a program and return its answers, by their tags; it says nothing else, and no secret."""
    environment = {"PATH": os.environ["PATH"], **env}
    done = subprocess.run(
        command, shell=True, input=data, capture_output=True, cwd=cwd, env=environment, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"canary" not in done.stdout
    lines = [line.split(" ", 1) for line in done.stdout.decode("ascii").splitlines()]
    return {tag: json.loads(text) for tag, text in lines if "event" not in text}


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    (tmp_path / "env").write_text(f"A=1\nexport KEY='{OLD.reveal()}' # ours\n")
    return tmp_path


def assert_rotated(folder: Path, answers: dict[str, Any]) -> None:
    """Hold what was answered and done against a whole rotation."""
    assert list(answers) == ["inspect", "prepare", "ping", "deploy", "close", "conclude"]
    named = [(f"{folder}/env", "KEY")]
    for phase, answer in answers.items():
        read = answer_from(answer, {}, [] if phase == "ping" else named)
        assert not read.problems and not read.lacking
    assert (folder / "env").read_text() == f"A=1\nexport KEY='{NEW.reveal()}' # ours\n"
    (held,) = answer_from(answers["conclude"], {}, named).files
    assert held.holds == (NEW.fingerprint,) and not held.restart_due
    assert held.record is not None and held.record.concluded and not held.record.open


# --- on every Python ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", PYTHONS)
def test_a_whole_session_on_every_python(version: str, folder: Path) -> None:
    command = program.command(f"{python_of(version)} -W error", [])
    commands = [["sh", "-c", f"echo $KEY $MULTICART_PASSWORD restarted >> {folder}/log"]]
    data = requests(folder, commands=commands, health=[["test", "-e", f"{folder}/log"]], environment=["KEY"])
    answers = start(command, program.HEADER + data, KEY="of before", MULTICART_PASSWORD="secret")
    assert_rotated(folder, answers)
    assert (folder / "log").read_text() == "restarted\n"
    assert sorted(path.name for path in folder.iterdir()) == [".env.KEY.multicart.json", "env", "log"]


@pytest.mark.parametrize("version", PYTHONS)
def test_a_session_in_a_script_that_was_copied_to_the_host(version: str, folder: Path) -> None:
    path = folder / "a place" / "multicart.keys.py"
    path.parent.mkdir()
    path.write_bytes(program.script(requests(folder)))
    assert_rotated(folder, start(program.command(python_of(version), [], path=str(path)), b""))


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_no_code_is_taken_from_where_python_happens_to_start(version: str, folder: Path) -> None:
    place = folder / "somebody's"
    place.mkdir()
    for name in ("base64", "json", "types", "zlib", "fcntl", "ansible_collections", "subprocess", "typing", "grp"):
        (place / f"{name}.py").write_text("raise SystemExit('taken from here')\n")
    python = python_of(version)
    assert_rotated(folder, start(program.command(python, []), program.HEADER + requests(folder), cwd=place))
    script = folder / "script.py"
    (folder / "env").write_text(f"A=1\nexport KEY='{OLD.reveal()}' # ours\n")
    script.write_bytes(program.script(requests(folder)))
    assert_rotated(folder, start(program.command(python, [], path=str(script)), b"", cwd=place))


# --- how Python is found --------------------------------------------------------------------------


def fake(folder: Path, name: str, body: str = "") -> Path:
    """Make a program that tells its name and environment."""
    path = folder / name
    path.write_text(f'#!/bin/sh\n{body}\necho "{name} $MARK"\n')
    path.chmod(0o755)
    return path


def shell(command: str, path: Path) -> tuple[int, str]:
    env = {"PATH": f"{path}:/bin", "MARK": "unset"}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, env=env, check=False)
    return done.returncode, done.stdout


def test_the_first_python_that_the_host_has_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "FALLBACKS", ("/absent/python3", "python-one"))
    command = program.command(None, ["python-two", "python-one", "a b"], "MARK='it is'")
    assert shell(command, tmp_path) == (program.NO_PYTHON, "")
    fake(tmp_path, "a b")
    assert shell(command, tmp_path) == (0, "a b it is\n")
    fake(tmp_path, "python-two")
    assert shell(command, tmp_path) == (0, "python-two it is\n")
    fake(tmp_path, "python-one", "exit 3")
    assert shell(command, tmp_path) == (3, "")  # one that is broken is not made up for by another


def test_the_pythons_of_distributions_are_tried_before_those_of_ansible() -> None:
    command = program.command(None, ["python3.12"])
    names = shlex.split(command.split(" in ", 1)[1].split(";", 1)[0])
    assert names == ["/usr/bin/python3", "/usr/libexec/platform-python", "python3", "python3.12"]


def test_a_python_that_is_named_is_taken_as_words(tmp_path: Path) -> None:
    fake(tmp_path, "py")
    command = program.command(f"nice {tmp_path}/py -I", ["python3"], "MARK=1")
    assert shell(command, tmp_path) == (0, "py 1\n")
    assert shell(program.command("absent-python", ["py"]), tmp_path)[0] == program.NO_PYTHON


def test_a_path_with_blanks_stays_one_word(tmp_path: Path) -> None:
    python = fake(tmp_path, "py", 'echo "$1"')
    assert shell(program.command(str(python), [], path="/tmp/a 'b' $c"), tmp_path)[1].startswith("/tmp/a 'b' $c\n")


# --- what is in it --------------------------------------------------------------------------------


def test_nothing_that_it_needs_is_left_out_or_comes_too_late() -> None:
    """Every part needs only the standard library and the parts before it."""
    parts = list(program.PARTS)
    for number, part in enumerate(parts):
        text = (FOLDER / f"{part}.py").read_text(encoding="utf-8")
        assert "\nimport ansible" not in text
        assert "\nfrom ansible." not in text
        needed = re.findall(r"^from ansible_collections\.\S+\.module_utils\.(\w+) import", text, re.M)
        whole = re.findall(r"^from ansible_collections\.\S+\.module_utils import (.+)$", text, re.M)
        needed += [name.split(" as ")[0].strip() for names in whole for name in names.split(",")]
        assert set(needed) <= set(parts[:number]), part


@pytest.mark.parametrize("part", program.PARTS)
def test_every_part_keeps_the_syntax_of_python_3_6(part: str) -> None:
    source = FOLDER / f"{part}.py"
    check = "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"
    subprocess.run([python_of("3.6"), "-W", "error", "-c", check, str(source)], check=True)


def test_it_fits_a_few_packets_and_every_host_gets_the_same() -> None:
    length, rest = program.HEADER.split(b"\n", 1)
    assert int(length) == len(rest) < 40_000


@pytest.mark.parametrize("name", program.PARTS)
def test_a_host_gets_every_line_in_its_place_and_no_docstring(name: str) -> None:
    """An unexpected error names its line."""
    whole, sent = (FOLDER / f"{name}.py").read_text(), program._source_of(name)

    def statements(source: str) -> list[str]:
        found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt) and not is_docstring(node)]
        return [f"{node.lineno} {ast.unparse(node).partition(chr(10))[0]}" for node in found]

    assert statements(sent) == statements(whole)
    assert not [node for node in ast.walk(ast.parse(sent)) if is_docstring(node) and ast.unparse(node) != "''"]


def is_docstring(node: ast.AST) -> bool:
    """Tell whether it is a string that stands for itself."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_the_command_that_starts_it_is_short() -> None:
    assert len(program.command(None, [f"python3.{minor}" for minor in range(8, 20)])) < 2_000


def test_a_copied_script_holds_its_requests_and_nothing_of_them_in_clear(folder: Path) -> None:
    script = program.script(requests(folder, "deploy"))
    compile(script, "script", "exec")
    assert b"canary" not in script


def test_a_program_that_gets_no_requests_leaves_at_once(folder: Path) -> None:
    before = (folder / "env").read_bytes()
    assert start(program.command(sys.executable, []), program.HEADER) == {}
    assert (folder / "env").read_bytes() == before
