# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The credential type: AWX would save it, and what a job gets of it is what the collection reads."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.plugin_utils._options import CONNECTION, Kind

from tests.awx.rules import Refused, check_credential_type

ROLE = Path(__file__).resolve().parents[3] / "roles" / "multicart_awx"
TYPE: dict[str, Any] = yaml.safe_load((ROLE / "files" / "credential_type.yml").read_text(encoding="utf-8"))
FIELDS: dict[str, dict[str, Any]] = {field["id"]: field for field in TYPE["inputs"]["fields"]}
ENV: dict[str, str] = TYPE["injectors"]["env"]
KNOWN = {option.name: option for option in CONNECTION}


# --- saving it ------------------------------------------------------------------------------------


def test_awx_would_save_it() -> None:
    assert set(TYPE) == {"name", "description", "kind", "inputs", "injectors"}
    check_credential_type(TYPE["kind"], TYPE["inputs"], TYPE["injectors"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kind",), "ssh"),
        (("inputs", "dependencies"), {}),
        (("inputs", "fields", 0, "ask_at_runtime"), True),
        (("inputs", "fields", 0, "type"), "boolean"),  # which cannot be secret
        (("inputs", "fields", 0, "id"), "tower"),
        (("inputs", "fields", 0, "id"), "email"),
        (("inputs", "fields", 0, "help"), "no such key"),
        (("injectors", "env", "ANSIBLE_FORKS"), "1"),
        (("injectors", "env", "JOB_ID"), "1"),
        (("injectors", "env", "MULTICART_EMAIL"), "{{ mail }}"),
        (("injectors", "env", "MULTICART_EMAIL"), "{{ email"),
        (("injectors", "env", "MULTICART_EMAIL"), "\N{ENVELOPE}"),
    ],
)
def test_awx_would_not_save_it_otherwise(path: tuple[Any, ...], value: object) -> None:
    changed = copy.deepcopy(TYPE)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(Refused):
        check_credential_type(changed["kind"], changed["inputs"], changed["injectors"])


# --- what it says ---------------------------------------------------------------------------------


def test_every_field_is_an_option_of_the_collection_under_its_environment_variable() -> None:
    assert {KNOWN[name].environment: f"{{{{ {name} }}}}" for name in FIELDS} == ENV


def test_every_credential_can_be_given_and_is_secret() -> None:
    secret = {name for name, option in KNOWN.items() if option.kind is Kind.CREDENTIAL}
    assert {name for name, field in FIELDS.items() if field.get("secret")} == secret


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_may_stay_empty_and_is_explained(name: str) -> None:
    assert FIELDS[name]["help_text"]
    assert TYPE["inputs"]["required"] == []
    assert "format" not in FIELDS[name]  # AWX would refuse to save the empty one
    assert "default" not in FIELDS[name]  # AWX only shows it in the form


def test_a_job_gets_nothing_but_environment_variables() -> None:
    assert set(TYPE["injectors"]) == {"env"}


# --- using it -------------------------------------------------------------------------------------


def inject(folder: Path, **inputs: str) -> SimpleNamespace:
    """Return what a job gets, as AWX's own code hands it over."""
    injector = pytest.importorskip(
        "awx_plugins.interfaces._temporary_private_inject_api",
        reason="awx-plugins-interfaces is missing, which takes Python 3.11: pip install -r tests/requirements/awx.txt",
    )
    from awx_plugins.interfaces._temporary_private_api import ManagedCredentialType  # noqa: PLC0415  # it may be missing
    from awx_plugins.interfaces._temporary_private_credential_api import Credential  # noqa: PLC0415  # it may be missing

    (folder / "env").mkdir()
    kind = ManagedCredentialType(
        namespace="", name=TYPE["name"], kind=TYPE["kind"], inputs=TYPE["inputs"], injectors=TYPE["injectors"]
    )
    job = SimpleNamespace(env={}, shown={}, arguments=[], files=folder / "env")
    injector.inject_credential(kind, Credential(inputs), job.env, job.shown, job.arguments, str(folder))
    return job


def test_a_job_gets_every_field_as_it_is(tmp_path: Path) -> None:
    given = {name: f"{name} {{{{ 7 * 7 }}}} $HOME 'é'" for name in FIELDS}
    assert inject(tmp_path, **given).env == {KNOWN[name].environment: value for name, value in given.items()}


def test_an_empty_field_is_an_empty_variable(tmp_path: Path) -> None:
    env = inject(tmp_path, email="ops@example.com", password="hunter2-hunter2").env
    assert env == {
        **dict.fromkeys(ENV, ""),
        "MULTICART_EMAIL": "ops@example.com",
        "MULTICART_PASSWORD": "hunter2-hunter2",
    }


def test_awx_shows_no_secret_and_writes_none(tmp_path: Path) -> None:
    job = inject(tmp_path, **{name: f"value-of-{name}" for name in FIELDS})
    shown = {name for name, field in FIELDS.items() if f"value-of-{name}" in job.shown.values()}
    assert shown == {name for name, field in FIELDS.items() if not field.get("secret")}
    assert job.arguments == [] and list(job.files.iterdir()) == []
