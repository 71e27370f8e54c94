# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `make mutants` makes of mutmut's output, and that it mutates files that there are with tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import mutants
from tests.tools.mutants import MUTATED, PROMISED, ROOT, Survivor

SHOWN = """\
# ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan.xǁPlanǁwhy_of__mutmut_11: survived
--- plan.py
+++ plan.py
@@ -1,4 +1,4 @@
 def why_of(
     self,
-    pending = of(fleet, live)
+    pending = of(fleet, None)
 )
"""


def test_what_mutmut_shows_of_a_survivor_is_read() -> None:
    assert mutants.survivor(SHOWN) == Survivor("Plan.why_of", "pending = of(fleet, live)", "pending = of(fleet, None)")
    plain = SHOWN.replace("xǁPlanǁwhy_of", "x__days").replace("+    pending = of(fleet, None)\n", "")
    assert mutants.survivor(plain) == Survivor("_days", "pending = of(fleet, live)", "")


@pytest.mark.parametrize(
    ("how", "survives"),
    [("killed", False), ("timeout", False), ("survived", True), ("no tests", True), ("not checked", True)],
)
def test_what_no_test_has_noticed_survives(how: str, survives: bool) -> None:
    assert mutants.is_survivor(how) is survives


@pytest.mark.parametrize("name", MUTATED)
def test_what_is_mutated_and_its_tests_are_there(name: str) -> None:
    mutated = MUTATED[name]
    assert (ROOT / "plugins" / mutated.source).is_file()
    assert all((ROOT / "tests" / "unit" / "plugins" / test).is_file() for test in mutated.tests)
    assert set(PROMISED) <= set(MUTATED)


def test_what_may_survive_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(mutants.explained()) <= set(MUTATED)
    said = tmp_path / "survivors.yml"
    monkeypatch.setattr(mutants, "EXPLAINED", said)
    said.write_text("plan:\n- {in: f, before: a, after: b, why: nobody can tell}\n")
    assert mutants.explained() == {"plan": [Survivor("f", "a", "b")]}
    said.write_text("plan:\n- {in: f, before: a, after: b, why: ' '}\n")
    with pytest.raises(ValueError, match="explains nothing"):
        mutants.explained()
