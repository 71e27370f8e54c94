# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps module files that carry a secret off the managed host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase


def prefer_pipelining(action: ActionBase, task_vars: Mapping[str, Any]) -> None:
    """Switch pipelining on for this task, unless the user has set it, to whatever value.

    Without it, core writes a module and its arguments into a file on the managed host. With it, they go through the
    connection into Python's standard input. Where it cannot work (become method ``su``, a connection plugin without
    it, ``ANSIBLE_KEEP_REMOTE_FILES``) core goes on writing files, in a private directory that it removes.
    """
    connection = action._connection
    variables = None if hasattr(connection, "_origins") else _set_by_the_user(action, task_vars)
    try:
        _value, origin = connection.get_option_and_origin("pipelining", hostvars=variables)
    except KeyError:  # a plugin without an option of that name goes by the play's context
        _value, origin = constants.config.get_config_value_and_origin("ANSIBLE_PIPELINING")
        if origin == "default" and "ansible_pipelining" not in (variables or task_vars):
            action._play_context.pipelining = True
            connection._play_context.pipelining = True
        return
    if origin == "default":
        connection.set_option("pipelining", True)


def _set_by_the_user(action: ActionBase, task_vars: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the variables as they were before core 2.16 to 2.18 put its own ``ansible_pipelining`` among them.

    Those cores forget where an option came from, so that it has to be worked out again.
    """
    task = action._task
    hostvars = task_vars["hostvars"]
    host = hostvars._find_host(task.delegate_to or task_vars["inventory_hostname"])
    variables: Mapping[str, Any] = hostvars._variable_manager.get_vars(
        play=task.get_play(), host=host, task=task, include_hostvars=False
    )
    return variables
