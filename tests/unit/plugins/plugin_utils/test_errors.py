# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The closed list of reasons: each has advice, is used and documented; and defects show type and place only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.plugin_utils._api import client
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import ADVICE, MulticartError, Reason, unexpected

ROOT = Path(__file__).resolve().parents[4]


def test_every_reason_has_advice_and_nothing_else_has() -> None:
    assert set(ADVICE) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_advice_is_whole_sentences_that_say_something(reason: Reason) -> None:
    advice = ADVICE[reason]
    assert advice == advice.strip()
    assert advice[0].isupper()
    assert len(advice) > 20
    assert advice.endswith((".", " requests", " prometheus_client"))


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_a_stable_lower_case_word(reason: Reason) -> None:
    assert reason.value == reason.name.lower()


def test_every_reason_can_happen() -> None:
    used: set[str] = set()
    for path in [
        *ROOT.glob("plugins/plugin_utils/*.py"),
        *ROOT.glob("plugins/action/*.py"),
        *ROOT.glob("plugins/lookup/*.py"),
    ]:
        if path.name == "errors.py":
            used.add(Reason.INTERNAL_ERROR.name)
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
                used.add(node.attr)
    assert used == {reason.name for reason in Reason}


def test_the_text_is_what_happened_and_what_to_do() -> None:
    error = MulticartError(Reason.REFUSED, "It was refused.")
    assert str(error) == f"It was refused. {ADVICE[Reason.REFUSED]}"
    assert str(MulticartError(Reason.REFUSED, "It was refused.", "Ask.")) == "It was refused. Ask."
    assert str(MulticartError(Reason.REFUSED, "It was refused.", "")) == "It was refused."


def test_missing_requests_names_the_command_for_this_interpreter() -> None:
    assert f"{sys.executable} -m pip install requests" in ADVICE[Reason.REQUESTS_MISSING]


def test_a_defect_shows_type_and_place_and_not_its_text() -> None:
    def deep() -> None:
        raise KeyError("canary")

    with pytest.raises(KeyError) as caught:
        deep()
    described = unexpected(caught.value)
    line = caught.tb.tb_next.tb_lineno if caught.tb.tb_next else 0
    assert described.reason is Reason.INTERNAL_ERROR
    assert "canary" not in str(described)
    assert f"Unexpected KeyError at deep:{line}." in str(described)


def test_a_defect_without_a_place_is_described_too() -> None:
    assert "Unexpected ValueError." in str(unexpected(ValueError("canary")))


def test_the_version_of_the_client_is_the_collections() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert galaxy["version"] == client.VERSION
