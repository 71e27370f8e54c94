# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The architecture page names every module of the code, and imports go only downwards in its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "docsite" / "rst" / "architecture.rst").read_text(encoding="utf-8")
SOURCES = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if path.parent.name != "doc_fragments"]


def levels() -> dict[str, int]:
    """Return the row of the table that each module stands in."""
    rows = PAGE.split(".. list-table::")[1].split("\n   * - ")[2:]
    return {name: number for number, row in enumerate(rows) for name in re.findall(r"``(\w+)``", row.split("- ")[0])}


def imports(path: Path) -> set[str]:
    """Return the collection's own modules that a file imports."""
    text = path.read_text(encoding="utf-8")
    found = set(re.findall(r"^from ansible_collections\.multicart\.keys\.plugins\.\w+\.(\w+) import", text, re.M))
    whole = re.findall(r"^from ansible_collections\.multicart\.keys\.plugins\.\w+ import (.+)$", text, re.M)
    return found | {name.strip() for names in whole for name in names.split(",")}


def test_every_module_is_named() -> None:
    assert set(levels()) == {path.stem for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_imports_go_downwards(path: Path) -> None:
    level = levels()
    assert not {name for name in imports(path) if level[name] <= level[path.stem]}
