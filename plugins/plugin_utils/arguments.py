# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the arguments of a task from whoever is told of it afterwards."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

WITHHELD = "(withheld)"


def take_arguments(action: ActionBase) -> dict[str, Any]:
    """Return the task's arguments, and leave none of their values in the task.

    Callback plugins are given a task as it was carried out, templated arguments and all, and ansible-runner writes
    them into the events of a job; ``no_log`` options of a module make no difference to that.
    """
    if not hasattr(action, "_taken_arguments"):  # the same action carries a task out again for ``until``
        action._taken_arguments = dict(action._task.args)
        action._task.args = dict.fromkeys(action._taken_arguments, WITHHELD)
    taken: dict[str, Any] = action._taken_arguments
    return taken
