# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``make test`` holds, so that nothing rots unseen; and that every fault of the field has a test of its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
KINDS = {"s": 9, "t": 21, "x": 7, "o": 8, "a": 12}
FAULTS = [f"{kind}{number}" for kind, count in KINDS.items() for number in range(1, count + 1)]
"""The faults that were found when the first version was tried in other people's situations."""


def test_o8_the_documentation_is_part_of_the_gate_and_its_tools_are_locked() -> None:
    (made,) = re.findall(r"^test:.*\n\t\$\(MAKE\) (.*)\n", MAKEFILE, re.MULTILINE)
    assert {"lint", "sanity-newest", "docs"} <= set(made.split())
    wanted = re.findall(r"^([A-Za-z0-9_-]+)", (ROOT / "tests/requirements/docs.txt").read_text(encoding="utf-8"), re.M)
    locked = (ROOT / "tests/requirements/locked/main.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert wanted and all(f"\n{name.lower().replace('_', '-')}==" in locked for name in wanted)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_the_field_has_a_test_of_its_name(fault: str) -> None:
    named = re.compile(rf"def test_(\w+_)?{fault}_")
    assert any(named.search(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py"))
