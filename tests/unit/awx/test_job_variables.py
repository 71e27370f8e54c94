# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables that surveys, templates and workflow nodes give to a job are ones that the playbooks know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
VARS: dict[str, Any] = yaml.safe_load((ROLES / "multicart_awx" / "vars" / "main.yml").read_text(encoding="utf-8"))


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return dict(specs["argument_specs"]["main"]["options"])


def test_a_job_gets_only_variables_that_the_playbooks_know() -> None:
    given = {VARS[f"__multicart_awx_{name}"]["variable"] for name in ("retire", "confirm")}
    for kind, field in (("templates", "extra_vars"), ("nodes", "answers")):
        for one in VARS[f"__multicart_awx_{kind}"]:
            given |= set(one.get(field, {}))
    given |= set(re.findall("'(multicart_[a-z_]+)'", VARS["__multicart_awx_extra_vars"])) - {"multicart_consumers"}
    assert given == {
        "multicart_hosts",
        "multicart_rotate_confirm",
        "multicart_rotate_max_age",
        "multicart_rotate_retire",
    }
    assert given - set(options("multicart_rotate")) == {"multicart_hosts"}  # which the playbooks read themselves
    assert given - {"multicart_hosts"} == set(VARS["__multicart_awx_own"])


def test_an_empty_age_is_the_default_one() -> None:
    default = options("multicart_awx")["multicart_awx_max_age"]["default"]
    assert f"default('{default}', true)" in VARS["__multicart_awx_age"]
    (due,) = (one for one in VARS["__multicart_awx_templates"] if one["name"] == "rotate when due")
    assert due["extra_vars"]["multicart_rotate_max_age"] == "{{ __multicart_awx_age }}"


def test_the_kinds_of_access_are_those_that_can_be_given() -> None:
    known = options("multicart_awx")["multicart_awx_access"]["options"]
    assert set(VARS["__multicart_awx_access"]) == set(known)
    assert all(set(one["options"]) == {"teams", "users"} for one in known.values())
