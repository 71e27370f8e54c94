# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of parametrised tests of which not all are for every run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mostly(*values: Any, but: Callable[..., bool]) -> list[Any]:
    """Return all combinations as rows; those for which ``but`` is false are too many for every run."""
    marks = (pytest.mark.full,)
    made = [tuple(row) for row in itertools.product(*values)]
    return [pytest.param(*row, id="-".join(map(str, row)), marks=() if but(*row) else marks) for row in made]


def spread(*values: Any) -> list[Any]:
    """Return all combinations as rows, of which every run has so few that each value is among them."""
    listed = [list(each) for each in values]
    fewest = min(map(len, listed))
    return mostly(*listed, but=lambda *row: sum(map(list.index, listed, row)) % fewest == 0)


def every_other(values: Iterable[Any]) -> list[Any]:
    """Return all values as rows, of which every run has every other one."""
    marks = ([], [pytest.mark.full])
    return [pytest.param(value, id=str(value), marks=marks[number % 2]) for number, value in enumerate(values)]
