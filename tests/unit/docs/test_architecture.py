# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The architecture page names every module of the code in its room; imports go only downwards, in table and picture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _phases as phases
from ansible_collections.multicart.keys.plugins.module_utils import _record as record

from tests.unit.docs import rst

PLUGINS = rst.ROOT / "plugins"
PAGE = rst.read("architecture")
PICTURE = ElementTree.parse(rst.FOLDER / "architecture.svg")
SOURCES = [path for path in sorted(PLUGINS.rglob("*.py")) if path.parent.name != "doc_fragments"]
PACKAGE = "ansible_collections.multicart.keys.plugins."
KNOW_ANSIBLE = {"edges", "_controller"}


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    return rst.rows(rst.sections(PAGE)[heading])


def room_of(path: Path) -> str:
    """Return the room that a file is in."""
    kind, *rest = path.relative_to(PLUGINS).parts
    if kind == "plugin_utils":
        return rest[0] if len(rest) > 1 else "base"
    return kind if kind == "module_utils" else "edges"


def levels() -> dict[tuple[str, str], int]:
    """Return the row of the table that each module stands in."""
    rows = enumerate(table("The modules of the code"))
    return {(cells[0], name): number for number, cells in rows for name in re.findall(r"``(\w+)``", cells[1])}


def imported(path: Path) -> Iterator[str]:
    """Return the full names of all modules that a file imports, from whatever place in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def own_imports(path: Path) -> set[Path]:
    """Return the collection's own files that a file imports; a whole package, for its path alone, is none."""
    names = [name.removeprefix(PACKAGE).split(".") for name in imported(path) if name.startswith(PACKAGE)]
    places = [PLUGINS.joinpath(*parts) for parts in names]
    return {
        next(each.with_suffix(".py") for each in (place, place.parent) if each.with_suffix(".py").exists())
        for place in places
        if not place.is_dir()
    }


def rooms() -> dict[str, tuple[float, float]]:
    """Return where each room begins and ends in the picture, from the top."""
    boxes = {str(each.get("id")): each for each in PICTURE.iter() if each.get("class") == "room"}
    numbers = {room: [float(str(box.get(name))) for name in ("y", "height")] for room, box in boxes.items()}
    return {room: (top, top + height) for room, (top, height) in numbers.items()}


def test_every_module_is_named_in_its_room() -> None:
    assert set(levels()) == {(room_of(path), path.stem) for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_imports_go_downwards(path: Path) -> None:
    level = levels()
    own = level[room_of(path), path.stem]
    assert not {each.stem for each in own_imports(path) if level[room_of(each), each.stem] <= own}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_imports_go_downwards_in_the_picture(path: Path) -> None:
    drawn = rooms()
    elsewhere = {room_of(each) for each in own_imports(path)} - {room_of(path)}
    assert not [room for room in elsewhere if drawn[room][0] < drawn[room_of(path)][1]]


def test_the_picture_has_every_room_once() -> None:
    drawn = [str(each.get("id")) for each in PICTURE.iter() if each.get("class") == "room"]
    assert sorted(drawn) == sorted({room for room, _module in levels()})
    assert set(drawn) == {room_of(path) for path in SOURCES}


def test_only_the_edges_and_the_controller_know_ansible_and_only_the_client_knows_http() -> None:
    for path in SOURCES:
        names = {name.split(".")[0] for name in imported(path)}
        assert "ansible" not in names or room_of(path) in KNOW_ANSIBLE, path
        assert names.isdisjoint({"requests", "http", "socket", "urllib3"}) or path.stem == "client", path


def test_the_requests_of_a_session_are_told_and_drawn_in_order() -> None:
    known = list(phases._PHASES)
    drawn = [each for each in PICTURE.iter() if each.get("class") == "name request"]
    assert [each.text for each in sorted(drawn, key=lambda each: float(str(each.get("x"))))] == known
    told = PAGE.split("answers each with a line:")[1].split(". Each request")[0]
    assert re.findall(r"``(\w+)``", told) == known


def test_the_table_of_the_record_has_its_fields() -> None:
    cells = [row[0] for row in table("The record")]
    assert [name for cell in cells for name in re.findall(r"``(\w+)``", cell)] == list(record.NONE)
    assert f"The last {record.RETIRED_KEPT} keys" in PAGE
    assert all(f"``{seen}``" in PAGE for seen in (record.REJECTED, record.STILL_VALID, record.UNSEEN))


CHANGES = {cells[0]: cells for cells in table("Where to change what")}


def test_a_change_of_every_kind_has_its_row() -> None:
    kinds = ("reason of a failure", "type of store", "reader of environment files", "state of a consumer")
    assert {f"a new {kind}" for kind in kinds} <= set(CHANGES)


@pytest.mark.parametrize("change", CHANGES)
def test_where_a_change_is_to_be_made_exists(change: str) -> None:
    """Paths exist, and what is named before a path is in that file."""
    _what, where, tests = CHANGES[change]
    paths = [name for name in rst.names(where + tests) if "/" in name]
    assert paths and not [path for path in paths if not (rst.ROOT / path).exists()]
    code = " ".join((rst.ROOT / path).read_text(encoding="utf-8") for path in paths if path.endswith(".py"))
    named = [name for name in rst.names(where) if re.fullmatch(r"_?[A-Z]\w+|_[a-z]+", name) and name != "README"]
    assert not [name for name in named if not re.search(rf"\b{name}\b", code)]
