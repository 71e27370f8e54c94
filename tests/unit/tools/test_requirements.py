# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-test installs by itself has the versions of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


def lines(path: Path) -> set[str]:
    return {line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(("#", "-r"))}


@pytest.mark.parametrize("folder", ["unit", "integration"])
def test_the_versions_are_those_of_make(folder: str) -> None:
    paths = [*TESTS.glob("requirements/*.txt"), TESTS / "sandbox" / "requirements.txt"]
    known = set().union(*map(lines, paths))
    assert lines(TESTS / folder / "requirements.txt") <= known
