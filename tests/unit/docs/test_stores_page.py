# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages about stores: every type with its fields and its library, and examples that the collection accepts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import TYPES, ControlNode, fields_of

from tests.unit.docs import rst

PAGE = rst.read("stores")
CODE = rst.ROOT / "plugins/plugin_utils/_stores"
# What comes with Ansible or with the collection, or with another library of the same row.
THERE_ANYWAY = {"ansible-core", "azure-core", "PyYAML", "requests", "urllib3"}


TYPE_ROWS = rst.tables(PAGE)[0]


def page_of(kind: str) -> str:
    """Return the page of a type."""
    return rst.read(f"store_{kind}")


def examples(page: str) -> list[dict[str, Any]]:
    """Return the entries of all examples of a page."""
    return [entry for _line, kind, text in rst.codes(page) if kind == "yaml" for entry in entries(yaml.safe_load(text))]


def entries(data: Any) -> list[dict[str, Any]]:
    if not isinstance(data, dict):
        return []
    found = data.get("multicart_deploy_stores", [])
    return found + [entry for value in data.values() for entry in entries(value)]


def test_the_types_are_those_of_the_code_here_and_in_the_role() -> None:
    assert sorted(name for row in TYPE_ROWS for name in rst.names(row[0])) == sorted(TYPES)
    spec = yaml.safe_load((rst.ROOT / "roles/multicart_deploy/meta/argument_specs.yml").read_text(encoding="utf-8"))
    described = spec["argument_specs"]["main"]["options"]["multicart_deploy_stores"]["description"]
    (sentence,) = (each for each in described if each.startswith("Each entry has C(type)"))
    assert re.findall(r"V\((\w+)\)", sentence.partition(", the fields")[0]) == list(TYPES)


@pytest.mark.parametrize("kind", TYPES)
def test_the_libraries_are_those_that_the_code_asks_for(kind: str) -> None:
    code = (CODE / f"{kind}.py").read_text(encoding="utf-8")
    if "_stores.aws import" in code or "_stores import aws" in code:
        code += (CODE / "aws.py").read_text(encoding="utf-8")
    package = re.findall(r'^_PACKAGE = "([\w-]+)"', code, re.MULTILINE)
    asked = {*re.findall(r'\blibrary\("[\w.]+", "([\w-]+)"\)', code), *package} - THERE_ANYWAY
    (row,) = (row for row in TYPE_ROWS if rst.names(row[0]) == [kind])
    assert set(rst.names(row[1])) == asked
    assert all(f"``{library}``" in page_of(kind) for library in asked)


@pytest.mark.parametrize("kind", TYPES)
def test_the_fields_are_those_of_the_code(kind: str) -> None:
    known = {name for name, field in fields_of(kind).items() if not field.of_run}
    if kind == "command":  # its programs have a list of their own
        told = {"label", *re.findall(r"^``(\w+)``\n", page_of(kind), re.MULTILINE)}
    else:
        told = {name for row in rst.tables(page_of(kind))[0] for name in rst.names(row[0])}
    assert told == known


EXAMPLES = [entry for page in (PAGE, *map(page_of, TYPES)) for entry in examples(page)]


@pytest.mark.parametrize("entry", EXAMPLES, ids=lambda entry: entry["type"])
def test_the_examples_are_accepted(entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, field in fields_of(entry["type"]).items():
        if field.path and name in entry:
            value = entry[name] if isinstance(entry[name], str) else entry[name][0]
            place = tmp_path / value.removeprefix("~/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    spec = spec_of({"multicart_deploy_stores": [entry]}, rst.templated, ControlNode({}, [str(tmp_path)]))
    (store,) = spec.files
    assert store.path.startswith(f"{entry['type']} ")


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_a_page_with_an_example(kind: str) -> None:
    assert page_of(kind).partition("\n\n``type: ")[2].startswith(f"{kind}``: ")
    assert {entry["type"] for entry in examples(page_of(kind))} == {kind}
