# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README lists what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from tests.sandbox import control
from tests.sandbox.faults import FAULTS
from tests.sandbox.rules import Rule
from tests.sandbox.shapes import JournalEntry, Settings

README = Path(control.__file__).with_name("README.md").read_text(encoding="utf-8")


def _rows(heading: str, header: str) -> dict[str, str]:
    """Return the rows of one table by the first name in them."""
    section = README.split(f"{heading}\n", 1)[1]
    table = section.split(header, 1)[1].split("\n\n", 1)[0]
    return {match[1]: match[0] for match in re.finditer(r"^\| `(\w+)`.*$", table, re.MULTILINE)}


def test_the_faults() -> None:
    rows = _rows("### Faults", "| fault | when |")
    assert list(rows) == list(FAULTS)
    for name, row in rows.items():
        parameters = row.split("|")[4]
        named = {word for word in ("seconds", "to", "value") if f"`{word}`" in parameters}
        assert named == set(FAULTS[name].defaults), name


def test_when_a_fault_strikes() -> None:
    for name, row in _rows("### Faults", "| fault | when |").items():
        source = inspect.getsource(FAULTS[name].act)
        carried_out = any(call in source for call in ("call.decide()", "_with_status(", "oversized(call)"))
        assert row.split("|")[2].strip() == ("after" if carried_out else "before"), name


def test_the_fields_of_a_fault() -> None:
    section = README.split("### Faults\n", 1)[1].split("| fault | when |", 1)[0]
    assert not [name for name in Rule.__dataclass_fields__ if f"`{name}`" not in section]


def test_the_settings() -> None:
    assert set(_rows("### Settings", "| setting |")) == set(Settings.__annotations__)


def test_the_journal() -> None:
    section = README.split("### The journal\n", 1)[1].split("###", 1)[0]
    assert not [name for name in JournalEntry.__annotations__ if f"`{name}`" not in section]


def test_the_control_paths() -> None:
    source = inspect.getsource(control)
    routes = {
        f"{method.upper()} {path}" for method, path in re.findall(r'@control\.(get|post|delete)\("(/\w+)"\)', source)
    }
    section = README.split("## The control interface\n", 1)[1].split("### Settings", 1)[0]
    assert routes == set(re.findall(r"^\| `([A-Z]+ /\w+)`", section, re.MULTILINE))
