# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox and the fleet of the integration tests, and a fleet whose run can be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.victim import Layout, Victim
from tests.integration.conftest import fleet, new_account, sandbox
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

__all__ = ["fleet", "new_account", "sandbox"]


@pytest.fixture
def layout() -> Layout:
    """How the victim's files are kept; a test that is parametrized by it says so itself."""
    return Layout()


@pytest.fixture
def victim(sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account], layout: Layout) -> Iterator[Victim]:
    victim = Victim(sandbox, tmp_path, new_account(), layout)
    yield victim
    sandbox.clear()
    victim.forget()
