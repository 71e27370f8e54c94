# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes down all that a callback is given and can reach, as the most curious callback plugin would."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: dump
type: aggregate
short_description: Write down all that a callback can reach
description: Writes results, tasks, plays and variables into files in the folder that LEAKS_DUMP names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "dump"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._play: Any = None

    def _write(self, file: str, *what: Any) -> None:
        with open(os.path.join(os.environ["LEAKS_DUMP"], file), "a", encoding="utf-8") as out:
            out.write(" ".join(map(repr, what)) + "\n")

    def dump(self, *given: Any, **more: Any) -> None:
        """Note what came with an event."""
        for thing in [*given, *more.values()]:
            if hasattr(thing, "_task_fields"):  # a result
                task = thing._task
                self._write("results", thing._result)
                self._write("tasks", thing._task_fields, task.args, task.vars, task.environment, task.dump_attrs())
                self._write_variables(thing._host, task)
            elif hasattr(thing, "action"):  # a task that starts
                self._write("tasks", thing.name, thing.args, thing.vars, thing.environment, thing.dump_attrs())
            elif hasattr(thing, "get_variable_manager"):  # a play
                self._play = thing
                self._write("plays", thing.dump_attrs(), thing.get_vars())
            elif hasattr(thing, "processed"):  # the statistics
                self._write("results", thing.custom, thing.processed)
                for host in self._play.get_variable_manager()._inventory.get_hosts() if self._play else []:
                    self._write_variables(host, None)
            else:
                self._write("results", thing)

    def _write_variables(self, host: Any, task: Any) -> None:
        if self._play is None:
            return
        manager = self._play.get_variable_manager()
        found = manager.get_vars(play=self._play, host=host, task=task, include_hostvars=False)
        self._write("variables", found, manager._nonpersistent_fact_cache, manager._vars_cache, manager.extra_vars)


def _dumped(self: CallbackModule, *given: Any, **more: Any) -> None:
    self.dump(*given, **more)


# Every event there is in this version of ansible-core; the one for all of them is deprecated.
for _name in dir(CallbackBase):
    if _name.startswith("v2_") and _name != "v2_on_any":
        setattr(CallbackModule, _name, _dumped)
