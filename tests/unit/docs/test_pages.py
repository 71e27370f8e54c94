# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of the site: every example is one that the roles and modules accept, and every promise has its tests.

Ansible itself holds the examples against the specifications; tests/integration/test_examples.py runs some of them, too.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._options import CONNECTION

from tests.unit.docs import rst

NAMESPACE = "multicart.keys."
OURS = re.compile(r"multicart_(?:deploy|rotate|report|awx)_|multicart_account$")
PLAYBOOKS = sorted(path.stem for path in (rst.ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (rst.ROOT / "roles").iterdir())
COMMAND = re.compile(r"^ansible-playbook .*?multicart\.keys\.(\w+)(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """One piece of code on a page."""

    place: str
    language: str
    text: str


EXAMPLES = [
    Example(f"{page.name}:{line}", language, text)
    for page in rst.PAGES
    for line, language, text in rst.codes(page.read_text(encoding="utf-8"))
]
YAML = [example for example in EXAMPLES if example.language == "yaml"]
SHELL = [example for example in EXAMPLES if example.language == "shell"]


def options() -> dict[str, Any]:
    """Return the variables of all roles, as they are specified."""
    found: dict[str, Any] = {}
    for role in ROLES:
        text = (rst.ROOT / "roles" / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
        for entry in yaml.safe_load(text)["argument_specs"].values():
            found |= entry["options"]
    return found


def documented(module: str) -> dict[str, Any]:
    """Return the options of a module, as it documents them; those of a fragment by name only."""
    text = (rst.ROOT / "plugins/modules" / f"{module}.py").read_text(encoding="utf-8")
    documentation = yaml.safe_load(text.split('DOCUMENTATION = r"""')[1].split('"""')[0])
    fragments = documentation.get("extends_documentation_fragment", [])
    shared = {option.name: {"type": "raw"} for option in CONNECTION} if f"{NAMESPACE}connection" in fragments else {}
    files = dict.fromkeys(("owner", "group", "mode", "unsafe_writes"), {"type": "raw"})
    return {**shared, **(files if "files" in fragments else {}), **documentation["options"]}


OPTIONS = options()


def as_spec(known: dict[str, Any]) -> dict[str, Any]:
    """Return an argument specification; what is required of a whole is not required of an example."""
    kept = ("type", "elements", "choices", "options", "required")
    return {
        name: {key: as_spec(value) if key == "options" else value for key, value in option.items() if key in kept}
        for name, option in known.items()
    }


def complaints(values: dict[str, Any], known: dict[str, Any]) -> list[str]:
    spec = {name: {**option, "required": False} for name, option in as_spec(known).items()}
    return list(ArgumentSpecValidator(spec).validate(values).error_messages)


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    """Give every mapping in an example, from wherever in it."""
    if isinstance(data, dict):
        yield data
        data = list(data.values())
    if isinstance(data, list):
        for each in data:
            yield from mappings(each)


def test_every_language_is_held_against_something() -> None:
    """Templates: test_files_page.py; what else is on the page about stores: tests/stores."""
    assert {example.language for example in EXAMPLES if "store" not in example.place} == {"yaml", "shell", "jinja"}
    assert len(YAML) > 20 and len(SHELL) > 10
    blocks = sum(page.read_text(encoding="utf-8").count(".. code-block::") for page in rst.PAGES)
    assert blocks == len(EXAMPLES)


@pytest.mark.parametrize("example", YAML, ids=lambda example: example.place)
def test_an_example_is_accepted(example: Example) -> None:
    data = yaml.safe_load(example.text)
    assert data
    for mapping in mappings(data):
        ours = {
            re.sub(r"^(multicart_deploy_files)__\w+$", r"\1", name): value
            for name, value in mapping.items()
            if OURS.match(str(name))
        }
        assert not complaints(ours, OPTIONS), ours
        if any(name.startswith("multicart_deploy_") for name in ours) and "store" not in example.place:
            spec_of({name: value for name, value in mapping.items() if OURS.match(str(name))}, rst.templated)
        for name, value in mapping.items():
            if str(name).startswith(NAMESPACE):
                assert not complaints(value or {}, documented(name.removeprefix(NAMESPACE))), name
        role = mapping.get("role")
        assert role is None or role.removeprefix(NAMESPACE) in ROLES


@pytest.mark.parametrize("example", SHELL, ids=lambda example: example.place)
def test_a_command_names_a_playbook_and_variables_that_there_are(example: Example) -> None:
    for playbook, rest in COMMAND.findall(example.text.replace("\\\n", " ")):
        assert playbook in PLAYBOOKS
        assert not set(re.findall(r"-e '?(multicart_\w+)=", rest)) - {*OPTIONS, "multicart_hosts"}


def test_a_wrong_example_would_be_noticed() -> None:
    for wrong in ("multicart_deploy_flies: []", "multicart_rotate_min_hosts: some", "multicart_deploy_files: [{}]"):
        with pytest.raises(AssertionError):
            test_an_example_is_accepted(Example("here", "yaml", wrong))
    with pytest.raises(AssertionError):
        test_an_example_is_accepted(Example("here", "yaml", "- multicart.keys.multicart_env_file: {file: x}"))


def test_the_page_about_playbooks_has_every_playbook_and_every_variable() -> None:
    page = rst.read("playbooks")
    rows = rst.rows(page)[: len(PLAYBOOKS)]
    assert sorted(name for row in rows for name in rst.names(row[0])) == [NAMESPACE + name for name in PLAYBOOKS]
    tables = set(re.findall(r"^\.\. make docs puts the variables of (\w+) here$", page, re.MULTILINE))
    awx = set(re.findall(r"^\.\. make docs puts the variables of (\w+) here$", rst.read("awx"), re.MULTILINE))
    assert sorted(tables | awx) == ROLES


def test_the_page_about_credentials_has_every_option_of_the_connection() -> None:
    rows = [[name for cell in row[:3] for name in rst.names(cell)] for row in rst.rows(rst.read("credentials"))]
    assert sorted(rows) == sorted([option.name, option.variable, option.environment] for option in CONNECTION)


def test_the_tables_of_variables_are_made_of_the_specifications(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("antsibull_docs_parser", reason="antsibull-docs makes the site: make docs installs it")
    monkeypatch.syspath_prepend(str(rst.ROOT / "docs"))
    monkeypatch.delitem(sys.modules, "variables", raising=False)
    fill = importlib.import_module("variables").fill
    made = "".join(fill(rst.read(name)) for name in ("playbooks", "awx"))
    assert "make docs puts" not in made
    shown = set(re.findall(r"^   \* - :ansopt:`[\w.#]+:\w+:([\w\[\].]+)`$", made, re.MULTILINE))
    begin = {name: f"{name}[]" if option["type"] == "list" else name for name, option in OPTIONS.items()}
    fields = {f"{begin[name]}.{field}" for name, option in OPTIONS.items() for field in option.get("options", {})}
    assert shown >= {*OPTIONS, *fields} and not {re.split(r"\[\]|\.", name)[0] for name in shown} - set(OPTIONS)


PROMISES = rst.rows(rst.read("promises"))


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0][:40])
def test_the_tests_of_a_promise_exist(row: list[str]) -> None:
    paths = [rst.ROOT / name for name in rst.names(row[1])]
    assert paths and not [path for path in paths if not path.exists()]
    assert all(path.is_dir() or "def test_" in Path(path).read_text(encoding="utf-8") for path in paths)
