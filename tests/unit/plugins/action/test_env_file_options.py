# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action refuses what its module does not know, so that it must know the same."""

from __future__ import annotations

import yaml
from ansible.module_utils.basic import FILE_COMMON_ARGUMENTS
from ansible_collections.multicart.keys.plugins.action import multicart_env_file as action
from ansible_collections.multicart.keys.plugins.modules import multicart_env_file as module


def test_the_action_knows_every_option_of_its_module_and_no_other() -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert {*documented, *FILE_COMMON_ARGUMENTS, "attr"} == action._OPTIONS
