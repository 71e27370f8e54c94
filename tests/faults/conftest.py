# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox and the fleet of the integration tests; and tests that are too long for every run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.conftest import fleet, new_account, sandbox

__all__ = ["fleet", "new_account", "sandbox"]

_HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: too long for every run; MULTICART_FULL=1 runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("MULTICART_FULL", "") not in ("", "0"):
        return
    for item in items:
        if _HERE in item.path.parents and item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="long: make full"))
