# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README of the tests names every file of tests, every plugin, role and playbook, and helpers that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TESTS = ROOT / "tests"
README = (TESTS / "README.md").read_text(encoding="utf-8")
LINKED = dict(re.findall(r"\[(\w+)\]\(([\w/]+/test_\w+\.py)\)", README))
HELPERS = README.split("\n## Helpers\n")[1]


def test_every_file_of_tests_is_named_and_there() -> None:
    there = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")}
    assert set(LINKED.values()) == there
    assert all(path.endswith(f"/test_{name}.py") for name, path in LINKED.items())


def test_every_plugin_role_and_playbook_has_a_row() -> None:
    first = " ".join(line.split("|")[1] for line in README.splitlines() if line.startswith("| `"))
    plugins = {path.stem for path in (ROOT / "plugins").rglob("*.py") if path.parent.name != "doc_fragments"}
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    playbooks = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
    assert plugins | roles | playbooks <= set(re.findall(r"`([\w.]+)`", first))


def test_the_helpers_exist() -> None:
    files = re.findall(r"`([\w/]+\.py)`", HELPERS)
    assert files and all((TESTS / name).exists() for name in files)
    code = "\n".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py"))
    classes = re.findall(r"`([A-Z]\w+)`", HELPERS)
    assert classes and all(re.search(rf"^class {name}\b", code, re.MULTILINE) for name in classes)
