# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read once of the whole fleet; the documentation is with the module of the same name."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.multicart.keys.plugins.action import multicart_fleet
from ansible_collections.multicart.keys.plugins.plugin_utils._options import FLEET_INFO_PHASES


class ActionModule(multicart_fleet.ActionModule):
    """The action of M(multicart.keys.multicart_fleet_info)."""

    known = tuple(
        replace(option, choices=FLEET_INFO_PHASES) if option.name == "phase" else option
        for option in multicart_fleet.ActionModule.known
    )
