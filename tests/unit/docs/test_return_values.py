# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module documents what it returns; the harness holds the results of all runs against that, by this."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.returned import MODULES, TYPES, documented, undocumented

NAMES = sorted(path.stem for path in MODULES.glob("*.py"))
RIGHT = {"changed": False, "msg": ["Report: /x"], "json_path": "/x.json", "html_path": None}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_described(name: str) -> None:
    for value in documented(name).values():
        assert value["description"] and value["returned"]
        assert value["type"] in TYPES


def test_a_result_as_it_is_documented_is_accepted() -> None:
    assert undocumented("multicart_report", RIGHT) == []
    assert undocumented("multicart_key_info", {"msg": "No.", "reason": "unreachable"}, "failed") == []
    assert undocumented("multicart_host", {"msg": "No."}, "unreachable") == []


@pytest.mark.parametrize(
    ("name", "result", "status", "said"),
    [
        ("multicart_report", {**RIGHT, "paths": []}, "ok", "paths is not documented"),
        ("multicart_report", {**RIGHT, "json_path": ["/x"]}, "ok", "json_path is no str"),
        ("multicart_report", {"changed": False}, "ok", "msg is missing"),
        ("multicart_report", {**RIGHT, "mode": "0644"}, "ok", "mode is not documented"),
        ("multicart_key_info", {"msg": "No."}, "failed", "reason is missing"),
    ],
)
def test_anything_else_is_found(name: str, result: dict[str, Any], status: str, said: str) -> None:
    assert undocumented(name, result, status) == [said]
