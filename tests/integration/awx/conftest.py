# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An AWX for the fleet of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.awx.job import Awx
from tests.integration.harness import Fleet

_NEEDS_PYTHON = "awx-plugins-interfaces is missing; it takes Python 3.11"


@pytest.fixture
def new_awx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Fleet], Awx]]:
    pytest.importorskip("awx_plugins.interfaces", reason=_NEEDS_PYTHON)
    made: list[Awx] = []

    def make(fleet: Fleet) -> Awx:
        made.append(Awx(fleet, Path(tmp_path_factory.mktemp("awx"))))
        return made[-1]

    yield make
    for awx in made:
        awx.end()


@pytest.fixture
def awx(fleet: Fleet, new_awx: Callable[[Fleet], Awx]) -> Awx:
    """An AWX for three consumers that hold the live key."""
    fleet.add_many(3)
    return new_awx(fleet)
