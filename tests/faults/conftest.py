# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox and the fleet of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import fleet, new_account, sandbox

__all__ = ["fleet", "new_account", "sandbox"]
