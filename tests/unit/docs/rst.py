# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads as much of reStructuredText as the pages of the site use: sections, code blocks and tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "docsite" / "rst"
PAGES = sorted(FOLDER.glob("*.rst"))


def read(name: str) -> str:
    """Return the text of a page."""
    return (FOLDER / f"{name}.rst").read_text(encoding="utf-8")


def headings(text: str) -> list[str]:
    """Return the title of a page, and those of its sections."""
    return re.findall(r"^(\S.*)\n(?:=+|-+)$", text, re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Return the text of each section by its title."""
    parts = re.split(r"^(\S.*)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def codes(text: str) -> Iterator[tuple[int, str, str]]:
    """Give the line, the language and the text of each code block."""
    for found in re.finditer(r"^( *)\.\. code-block:: (\w+)\n\n((?:\1   .*\n|\n)+)", text, re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        yield line, found[2], textwrap.dedent(found[3]).strip("\n") + "\n"


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each row of each table, heads left out."""
    found = re.findall(r"^\.\. list-table::\n((?:   .*\n|\n)+)", text, re.MULTILINE)
    return [[re.split(r"\n     - ?", row) for row in table.split("\n   * - ")[2:]] for table in found]


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of all tables together."""
    return [row for table in tables(text) for row in table]


def names(cell: str) -> list[str]:
    """Return what is literal in a cell."""
    return re.findall(r"``([^`]+)``", cell)


def templated(value: Any) -> Any:
    """Return a value of an example with a word in place of each expression, whose value nobody knows here."""
    if isinstance(value, dict):
        return {name: templated(each) for name, each in value.items()}
    if isinstance(value, list):
        return [templated(each) for each in value]
    return re.sub(r"\{\{.*?\}\}", "value", value) if isinstance(value, str) else value
