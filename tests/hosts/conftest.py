# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces for each process of pytest, and in them a fleet of real hosts for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.hosts.fleet import RealFleet
from tests.hosts.stage import NoStage, Stage
from tests.hosts.trees import SUITES, NoTree, missing, tree
from tests.integration.conftest import new_account, sandbox
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

__all__ = ["new_account", "real", "sandbox", "stage", "systemd"]


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            tree("bookworm")
            stage = stack.enter_context(Stage())
        except (NoTree, NoStage) as error:
            pytest.skip(str(error))
        yield stage


@pytest.fixture(
    params=[suite if suite == "bookworm" else pytest.param(suite, marks=pytest.mark.full) for suite in SUITES]
)
def systemd(stage: Stage, request: pytest.FixtureRequest) -> str:
    """The kinds of hosts with systemd, of one release after the other: 252, 257 and what comes next."""
    suite: str = request.param
    try:
        stage.tree(suite)
    except NoTree as error:
        pytest.skip(str(error))
    return suite


@pytest.fixture
def real(stage: Stage, sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account]) -> Iterator[RealFleet]:
    """An account, and no hosts yet."""
    fleet = RealFleet(sandbox, tmp_path, new_account(), stage)
    yield fleet
    fleet.close()
    sandbox.clear()
