# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation says what the code does: the same options, types, defaults, variables and environment."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.action.multicart_fleet_info import ActionModule as FleetInfo
from ansible_collections.multicart.keys.plugins.doc_fragments.connection import ModuleDocFragment
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, State
from ansible_collections.multicart.keys.plugins.plugin_utils._options import (
    FLEET,
    HOST,
    INFO,
    LOOKUP,
    REVOKE,
    ROTATE,
    Kind,
    Option,
)

PACKAGE = "ansible_collections.multicart.keys.plugins"
PLUGINS = {
    "modules.multicart_key_info": INFO,
    "modules.multicart_key_revoke": REVOKE,
    "modules.multicart_key_rotate": ROTATE,
    "lookup.multicart_key": LOOKUP,
}
TYPES = {
    Kind.TEXT: "str",
    Kind.CREDENTIAL: "str",
    Kind.FINGERPRINT: "str",
    Kind.PATH: "path",
    Kind.BOOL: "bool",
    Kind.SECONDS: "float",
}
FRAGMENT = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
SOURCES = yaml.safe_load(ModuleDocFragment.PLUGINS)["options"]


def documented(plugin: str) -> dict[str, Any]:
    """Return a plugin's documented options, those of the connection fragment included."""
    own = yaml.safe_load(importlib.import_module(f"{PACKAGE}.{plugin}").DOCUMENTATION)
    assert "multicart.keys.connection" in own["extends_documentation_fragment"]
    options = {**FRAGMENT, **own["options"]}
    options.pop("_terms", None)
    return options


@pytest.mark.parametrize("plugin", PLUGINS)
def test_exactly_the_options_of_the_code_are_documented(plugin: str) -> None:
    assert set(documented(plugin)) == {option.name for option in PLUGINS[plugin]}


@pytest.mark.parametrize(
    ("plugin", "option"), [(plugin, option) for plugin, options in PLUGINS.items() for option in options]
)
def test_types_and_defaults_are_those_of_the_code(plugin: str, option: Option) -> None:
    described = documented(plugin)[option.name]
    assert described["type"] == TYPES[option.kind]
    assert described.get("default") == option.default
    assert type(described.get("default")) is type(option.default)
    assert described.get("required", False) == option.required


@pytest.mark.parametrize("option", [option for option in ROTATE if option.shared], ids=lambda option: option.name)
def test_variable_and_environment_are_those_of_the_code(option: Option) -> None:
    assert SOURCES[option.name] == {"env": [{"name": option.environment}], "vars": [{"name": option.variable}]}
    text = " ".join(FRAGMENT[option.name]["description"])
    assert f"C({option.variable})" in text
    assert f"E({option.environment})" in text


@pytest.mark.parametrize(
    ("module", "options"),
    [("multicart_fleet", FLEET), ("multicart_fleet_info", FleetInfo.known), ("multicart_host", HOST)],
)
def test_the_documented_phases_are_those_of_the_code(module: str, options: tuple[Option, ...]) -> None:
    described = yaml.safe_load(importlib.import_module(f"{PACKAGE}.modules.{module}").DOCUMENTATION)["options"]
    (phase,) = (option for option in options if not option.shared and not option.role_variable)
    assert set(described) == {phase.name}
    assert described["phase"]["choices"] == list(phase.choices)
    assert described["phase"]["required"]


@pytest.mark.parametrize(
    ("module", "name", "values"),
    [
        ("multicart_fleet", "step", [each.value for each in Step]),
        ("multicart_host", "state", [*(each.value for each in State), UNKNOWN]),
    ],
)
def test_the_documented_values_of_a_result_are_those_of_the_code(module: str, name: str, values: list[str]) -> None:
    returns = yaml.safe_load(importlib.import_module(f"{PACKAGE}.modules.{module}").RETURN)
    described = re.findall(r"V\((\w+)\)", " ".join(returns[name]["description"]))
    assert sorted(described) == sorted(values)


def test_only_shared_options_have_other_sources() -> None:
    assert set(SOURCES) == set(FRAGMENT) == {option.name for option in ROTATE if option.shared}
    assert (
        "multicart.keys.connection.plugins"
        in yaml.safe_load(importlib.import_module(f"{PACKAGE}.lookup.multicart_key").DOCUMENTATION)[
            "extends_documentation_fragment"
        ]
    )


def test_every_environment_variable_of_a_secret_can_be_injected_by_awx() -> None:
    for option in ROTATE:
        if option.shared:
            assert option.environment.startswith("MULTICART_")
            assert not option.environment.startswith("ANSIBLE_")
