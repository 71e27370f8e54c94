# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of the roles: specified, documented and given their defaults in the same way, and no others used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import host_vars
from ansible_collections.multicart.keys.plugins.plugin_utils._options import _OF_ROLES, FLEET, Kind, Option

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
FILES = "multicart_deploy_files"
OF_ALL_ROLES = host_vars.ACCOUNT
TYPES = {Kind.BOOL: "bool", Kind.COUNT: "int", Kind.FINGERPRINT: "str", Kind.AGE: "str", Kind.TEXT: "str"}


def load(role: str, path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text(encoding="utf-8"))


def options_of(role: str) -> dict[str, dict[str, Any]]:
    """Return the variables of all entry points; one that several have is the first one's."""
    entries = load(role, "meta/argument_specs.yml")["argument_specs"].values()
    return {name: spec for entry in reversed(entries) for name, spec in entry["options"].items()}


def readme_table(role: str) -> dict[str, str]:
    """Return the default of each variable as the role's README has it."""
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    table = text.split("| variable | default |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(multicart_\w+)` \|([^|]*)\|", table, re.MULTILINE)
    return {name: default.strip() for name, default in rows}


SPECS = {role: options_of(role) for role in ROLES}
EVERY = [(role, option) for role in ROLES for option in SPECS[role]]
WITH_DEFAULT = [(role, option) for role, option in EVERY if "default" in SPECS[role][option]]


def test_the_roles_of_the_collection_are_specified() -> None:
    assert {"multicart_deploy", "multicart_rotate"} <= set(ROLES)
    assert sorted(path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml")) == ROLES


@pytest.mark.parametrize(("role", "option"), EVERY)
def test_a_variable_is_named_after_its_role_and_described(role: str, option: str) -> None:
    assert option.startswith(role + "_") or option == OF_ALL_ROLES
    assert SPECS[role][option]["description"]
    assert SPECS[role][option]["type"]


@pytest.mark.parametrize(("role", "option"), WITH_DEFAULT)
def test_a_specified_default_is_the_one_that_is_set(role: str, option: str) -> None:
    defaults = load(role, "defaults/main.yml")
    assert option in defaults
    assert defaults[option] == SPECS[role][option]["default"]
    assert type(defaults[option]) is type(SPECS[role][option]["default"])


@pytest.mark.parametrize("role", ROLES)
def test_no_default_is_set_that_is_not_specified(role: str) -> None:
    assert set(load(role, "defaults/main.yml")) <= {option for option, spec in SPECS[role].items() if "default" in spec}


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_exactly_the_specified_variables(role: str) -> None:
    listed = [option for option in readme_table(role) if option != FILES + "__NAME"]
    assert sorted(listed) == sorted(SPECS[role])


@pytest.mark.parametrize(("role", "option"), EVERY)
def test_the_readme_tells_the_default(role: str, option: str) -> None:
    default = SPECS[role][option].get("default")
    shown = default if isinstance(default, str) else json.dumps(default)
    assert readme_table(role)[option] == ("" if default is None else f"`{shown}`")


def test_the_fields_of_a_file_are_those_of_the_code_and_of_the_readme() -> None:
    fields = SPECS["multicart_deploy"][FILES]["options"]
    assert set(fields) == set(host_vars._FIELDS)
    assert "default" not in fields["account"]  # it is that of the host
    assert f"V({host_vars.DEFAULT_ACCOUNT})" in str(SPECS["multicart_deploy"][host_vars.OWN_ACCOUNT]["description"])
    readme = (ROOT / "roles/multicart_deploy/README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if line.startswith(f"| `{FILES}` |"))
    assert set(re.findall(r"`(\w+)`", line)) - {FILES} == {*fields, host_vars.DEFAULT_VARIABLE}


@pytest.mark.parametrize("option", [each for each in FLEET if each.role_variable], ids=lambda option: option.name)
def test_what_the_code_checks_for_the_role_is_specified_so(option: Option) -> None:
    spec = SPECS["multicart_rotate"][option.variable]
    assert spec["type"] == TYPES[option.kind]
    if option.default is not None:
        assert spec["default"] == option.default
    assert tuple(spec.get("choices", ())) == option.choices


def test_every_variable_of_the_rotate_role_is_checked_by_the_code() -> None:
    checked = {option.variable for option in FLEET if option.role_variable}
    assert checked == set(SPECS["multicart_rotate"]) - {OF_ALL_ROLES}


def test_no_variable_that_is_specified_counts_as_misspelt() -> None:
    for roles, known in (
        (["multicart_deploy"], host_vars._VARIABLES),
        (["multicart_rotate", "multicart_report"], _OF_ROLES),
    ):
        assert known == {option for role in roles for option in SPECS[role]} - {OF_ALL_ROLES}


def test_the_account_is_the_same_for_every_role_that_has_one() -> None:
    specs = [SPECS[role][OF_ALL_ROLES] for role in ROLES if OF_ALL_ROLES in SPECS[role]]
    assert len(specs) == 3
    # A default of a role's own would not have the role's name.
    assert {(spec["type"], spec.get("default")) for spec in specs} == {("str", None)}
    assert all(f"V({host_vars.DEFAULT_ACCOUNT})" in " ".join(spec["description"]) for spec in specs)


# --- what is used ---------------------------------------------------------------------------------

SOURCES = [
    path
    for folder in ("roles", "playbooks", "plugins")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".yml", ".md", ".py", ".j2")
]


def used_in(path: Path) -> Iterator[str]:
    """Return the role variables that a file speaks of; ``multicart_deploy_files__NAME`` is one of the lists."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(rf"(?<!\w)(?:multicart_(?:deploy|rotate|report|awx)_\w+|{OF_ALL_ROLES}(?!\w))", text):
        yield re.sub(rf"^{FILES}__\w*$", FILES, name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_specified_variables_are_used(path: Path) -> None:
    specified = {option for options in SPECS.values() for option in options}
    assert set(used_in(path)) <= specified


@pytest.mark.parametrize(("role", "option"), EVERY)
def test_every_specified_variable_is_used(role: str, option: str) -> None:
    code = [path for path in SOURCES if path.suffix == ".py" or path.parent.name in ("tasks", "vars")]
    assert option in {name for path in code for name in used_in(path)}


BOOLS = [option for option, spec in SPECS["multicart_awx"].items() if spec["type"] == "bool"]


@pytest.mark.parametrize("option", BOOLS)
def test_the_text_false_does_not_count_as_true(option: str) -> None:
    """It is one when it is given as ``-e NAME=false``. What only the code reads is not affected."""
    paths = [
        path for folder in ("tasks", "vars", "templates") for path in (ROOT / "roles/multicart_awx" / folder).iterdir()
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    following = re.findall(rf"(?<!\w){option}(?!\w)( \| bool| is defined| \| default\(omit\) \| string|=true)?", text)
    assert following and all(following)


ROLE = re.compile(r"_role:\n +name: multicart\.keys\.(\w+)\n(?: +tasks_from: (\w+)\.yml\n)?")


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix != ".py"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_entry_point_that_is_used_is_specified(path: Path) -> None:
    for role, entry in ROLE.findall(path.read_text(encoding="utf-8")):
        assert (entry or "main") in load(role, "meta/argument_specs.yml")["argument_specs"]


@pytest.mark.parametrize("role", [role for role in ROLES if role != "multicart_awx"])
def test_nothing_crosses_the_tasks_of_a_role_in_registered_variables_or_facts(role: str) -> None:
    for path in (ROOT / "roles" / role / "tasks").glob("*.yml"):
        assert not re.findall(r"register:|set_fact|hostvars", path.read_text(encoding="utf-8"))
