# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What AWX checks when something is saved; as its sources of October 2024 have it, in words of our own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FIELD_TYPES: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "label": str,
    "type": str,
    "format": str,
    "choices": list,
    "help_text": str,
    "multiline": bool,
    "secret": bool,
    "ask_at_runtime": bool,
    "default": (str, bool),
}
_STRINGS_ONLY = ("choices", "multiline", "format", "secret")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# What AWX itself or the system uses.
_RESERVED = frozenset(
    (
        "AD_HOC_COMMAND_ID",
        "AWX_HOST",
        "CACHE",
        "CALLBACK_CONNECTION",
        "CALLBACK_QUEUE",
        "INVENTORY_HOSTVARS",
        "INVENTORY_ID",
        "INVENTORY_SOURCE_ID",
        "INVENTORY_UPDATE_ID",
        "JOB_CALLBACK_DEBUG",
        "JOB_ID",
        "MAX_EVENT_RES",
        "PATH",
        "PROJECT_REVISION",
        "PYTHONPATH",
        "REST_API_TOKEN",
        "REST_API_URL",
        "SUPERVISOR_CONFIG_PATH",
        "VIRTUAL_ENV",
    )
)
_QUESTION_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "textarea": (str,),
    "password": (str,),
    "multiplechoice": (str,),
    "multiselect": (str, list),
    "integer": (int,),
    "float": (int, float),
}


class Refused(Exception):
    """AWX would answer with HTTP 400."""


def check_credential_type(kind: str, inputs: Mapping[str, Any], injectors: Mapping[str, Any]) -> None:
    """Refuse a custom credential type that AWX would not save. Only environment injectors are known here."""
    if kind not in ("cloud", "net"):
        raise Refused(f"kind: a custom type is cloud or net, not {kind}")
    _only("inputs", inputs, {"fields", "required"})
    names: list[str] = []
    for field in inputs.get("fields", []):
        _check_field(field)
        names.append(field["id"])
    if len(set(names)) != len(names):
        raise Refused("inputs: two fields have the same id")
    if not all(isinstance(name, str) for name in inputs.get("required", [])):
        raise Refused("inputs: required is no list of names")
    _only("injectors", injectors, {"env"})
    for name, template in injectors.get("env", {}).items():
        if not _NAME.fullmatch(name) or name in _RESERVED or name.startswith("ANSIBLE_"):
            raise Refused(f"injectors: {name} may not be set")
        if not isinstance(template, str) or not template.isascii():
            raise Refused(f"injectors: the template of {name} is no ASCII text")
        _check_template(name, template, names)


def _check_field(field: Mapping[str, Any]) -> None:
    _only("inputs", field, set(_FIELD_TYPES))
    for key, value in field.items():
        if not isinstance(value, _FIELD_TYPES[key]):
            raise Refused(f"inputs: {key} has the wrong type")
    if not {"id", "label"} <= set(field) or not _NAME.fullmatch(field["id"]) or field["id"] == "tower":
        raise Refused("inputs: every field has a label, and an id that is a variable name")
    kind = field.get("type", "string")
    if kind not in ("string", "boolean") or field.get("format", "url") not in ("url", "ssh_private_key"):
        raise Refused(f"inputs: type or format of {field['id']} is unknown")
    if field.get("ask_at_runtime"):
        raise Refused("inputs: a custom type cannot ask at run time")
    if kind == "boolean" and any(key in field for key in _STRINGS_ONLY):
        raise Refused(f"inputs: {field['id']} is no string")


def _check_template(name: str, template: str, fields: list[str]) -> None:
    try:
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        environment.from_string(template).render(dict.fromkeys(fields, "EXAMPLE"))
    except TemplateError as error:
        raise Refused(f"injectors: the template of {name} does not render: {error}") from error


def check_survey(survey: Mapping[str, Any]) -> None:
    """Refuse a survey that AWX would not save."""
    parts: dict[str, type] = {"name": str, "description": str, "spec": list}
    for key, kind in parts.items():
        if not isinstance(survey.get(key), kind):
            raise Refused(f"survey: {key} is missing or has the wrong type")
    variables = set()
    for question in survey["spec"]:
        for key in ("type", "question_name", "variable", "required"):
            if not isinstance(question.get(key), bool if key == "required" else str):
                raise Refused(f"survey: {key} of a question is missing or has the wrong type")
        if question["variable"] in variables or question["type"] not in _QUESTION_TYPES:
            raise Refused(f"survey: {question['variable']} comes twice, or its type is unknown")
        variables.add(question["variable"])
        default = question.get("default", "")
        if default != "" and not isinstance(default, _QUESTION_TYPES[question["type"]]):
            raise Refused(f"survey: the default of {question['variable']} has the wrong type")
        for limit in ("min", "max"):
            if not isinstance(question.get(limit), (int, type(None))):
                raise Refused(f"survey: {limit} of {question['variable']} is no whole number")
        if question["type"] in ("multiplechoice", "multiselect") and (
            "choices" not in question or default not in question["choices"]
        ):
            raise Refused(f"survey: {question['variable']} has no choices, or its default is none of them")
    if not variables:
        raise Refused("survey: no questions")


def refused_answers(survey: Mapping[str, Any], answers: Mapping[str, Any], *, complete: bool) -> Iterator[str]:
    """Yield what is wrong with the answers to a survey; ``complete``: the required ones must all be there."""
    questions = {question["variable"]: question for question in survey.get("spec", [])}
    for variable in answers:
        if variable not in questions:
            yield f"{variable} is not asked for"
    for variable, question in questions.items():
        answer = answers.get(variable)
        if variable not in answers:
            if complete and question["required"]:
                yield f"{variable} is missing"
        elif not isinstance(answer, _QUESTION_TYPES[question["type"]]):
            yield f"{variable} has the wrong type"
        elif question["type"] == "multiplechoice" and answer not in question["choices"]:
            yield f"{variable} is none of the choices"
        elif isinstance(answer, str) and not (
            (question.get("min") or 0) <= len(answer) <= (question.get("max") or len(answer))
        ):
            yield f"{variable} is too short or too long"


def check_zone(rule: str, zones: Collection[str]) -> None:
    """Refuse a time zone that AWX does not know."""
    for zone in re.findall(r"TZID=([^:;]+)", rule):
        if zone not in zones:
            raise Refused(f"rrule: rrule parsing failed validation: unknown time zone {zone}")


def check_rrule(rule: str) -> None:
    """Refuse a rule for a schedule that AWX would not save."""
    starts = re.findall(r"DTSTART(?:;[^:\s]+)?:\d{8}T\d{6}Z?", rule)
    if len(starts) != 1 or re.fullmatch(r"DTSTART:\d{8}T\d{6}", starts[0]):
        raise Refused("rrule: exactly one DTSTART, with a time zone or in UTC")
    rules = re.findall(r"RRULE:\S*", rule)
    if not rules or re.search("EXDATE|RDATE", rule):
        raise Refused("rrule: RRULE, and neither EXDATE nor RDATE")
    for one in rules:
        if "INTERVAL" not in one or "FREQ" not in one or "SECONDLY" in one or ("COUNT" in one and "UNTIL" in one):
            raise Refused(f"rrule: FREQ and INTERVAL, not SECONDLY, not both COUNT and UNTIL: {one}")


def playbooks_of(folder: Path) -> list[str]:
    """Return the files of a project that AWX offers as playbooks."""
    found = []
    for path in sorted(folder.rglob("*.y*ml")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or {"roles", "tasks", "group_vars", "host_vars"} & set(inside.parts[:-1]):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if any(re.match(r"\s*-?\s*(hosts|(ansible\.builtin\.)?(include|import_playbook)):", line) for line in lines):
            found.append(str(inside))
    return found


def _only(what: str, given: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(given) - known:
        raise Refused(f"{what}: unknown: {', '.join(sorted(unknown))}")
