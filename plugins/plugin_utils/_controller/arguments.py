# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the arguments of a task from whoever is told of it afterwards."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

WITHHELD = "(withheld)"

# No attribute that Ansible knows of, so that it stays in this process.
_TAKEN = "_multicart_arguments"


def take_arguments(action: ActionBase) -> dict[str, Any]:
    """Return the task's arguments, and leave none of their values in the task.

    Callback plugins are given a task as it was carried out, templated arguments and all, and ansible-runner writes
    them into the events of a job; ``no_log`` options of a module make no difference to that.
    """
    task = action._task
    if not hasattr(task, _TAKEN):  # for ``until``, each attempt is another action, but the task stays the same
        setattr(task, _TAKEN, dict(task.args))
        task.args = dict.fromkeys(task.args, WITHHELD)
    taken: dict[str, Any] = getattr(task, _TAKEN)
    return taken
