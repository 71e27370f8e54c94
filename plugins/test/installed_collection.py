# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: installed_collection
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Whether a collection is installed"
version_added: 1.0.0
description:
  - True if Ansible finds a collection of this name on the control node.
  - For tasks that need a collection that is not a dependency, so that they can say how to install it.
options:
  _input:
    description: The name of a collection.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Make sure that awx.awx is there
  ansible.builtin.assert:
    that: "'awx.awx' is multicart.keys.installed_collection"
    fail_msg: Run ansible-galaxy collection install awx.awx.
"""

RETURN = r"""
_value:
  description: Whether it is installed.
  type: bool
"""

import importlib.util
from collections.abc import Callable


def installed_collection(name: str) -> bool:
    """Tell whether Ansible finds the collection."""
    try:
        # Ansible's own finder answers for everything below ansible_collections.
        return importlib.util.find_spec(f"ansible_collections.{name}") is not None
    except ModuleNotFoundError:  # not even its namespace
        return False


class TestModule:
    """The tests of this file."""

    def tests(self) -> dict[str, Callable[[str], bool]]:
        """Return the tests by name."""
        return {"installed_collection": installed_collection}
