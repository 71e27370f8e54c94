# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The failure guide, the table of states and the closed lists in the code say the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils import _services as services
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import State

from tests.unit.docs import rst

# What takes a reason as its first argument.
TAKE_REASONS = {"HostFileError", "LinkError", "Problem", "StepFailed", "StoreError", "_failed"}


def names() -> list[str]:
    """All reasons and outcomes of the guide."""
    return [name for row in rst.rows(rst.read("failures")) for name in rst.names(row[0])]


def text_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def given(source: Path) -> Iterator[str | None]:
    """The reasons that a file gives as plain texts."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield text_of(node.args[0]) if node.args and called in TAKE_REASONS else None
            yield from (text_of(keyword.value) for keyword in node.keywords if keyword.arg == "reason")
        elif isinstance(node, ast.Dict):
            yield from (
                text_of(value) for key, value in zip(node.keys, node.values, strict=True) if text_of(key) == "reason"
            )
        elif isinstance(node, ast.FunctionDef) and node.name == "explain":  # why a connection failed
            returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
            yield from (text_of(each.elts[0]) for each in returned if isinstance(each, ast.Tuple))


GIVEN = {reason for source in (rst.ROOT / "plugins").rglob("*.py") for reason in given(source) if reason}


def test_the_guide_has_every_reason_and_outcome_once() -> None:
    on_hosts = {
        *host_file.REASONS,
        *services.REASONS,
        *(error.reason for error in (env_file.NotText, env_file.BadName, env_file.Ambiguous, record.OtherAccount)),
        record.RejectedBefore.reason,
        other_form.OtherForm.reason,
    }
    known = {*(reason.value for reason in Reason), *(outcome.value for outcome in Outcome), *on_hosts, *GIVEN}
    assert sorted(names()) == sorted(known | {"attributes_refused"})


def test_the_reasons_of_every_place_are_found_in_the_code() -> None:
    assert {"internal_error", "malformed_key", "changed_meanwhile", "timed_out", "skipped", "become_failed"} <= GIVEN


def test_the_states_are_those_of_the_code() -> None:
    rows = rst.rows(rst.sections(rst.read("rotation"))["The state of a consumer"])
    assert [name for row in rows for name in rst.names(row[0])] == [state.value for state in State]
