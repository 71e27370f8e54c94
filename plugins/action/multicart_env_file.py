# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of ``multicart_env_file``: how the key travels."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import FILE_COMMON_ARGUMENTS
from ansible.plugins.action import ActionBase
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import failure
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.internals import (
    prefer_pipelining,
    take_arguments,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, shown_name

_OPTIONS = {"path", "variable", "format", "value", "state", "create", "attr", *FILE_COMMON_ARGUMENTS}


class ActionModule(ActionBase):
    """Runs the module of the same name on the managed host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; its arguments are in no place where callbacks find them."""
        task_vars = task_vars or {}
        arguments = take_arguments(self)
        result: dict[str, Any] = super().run(tmp, task_vars)
        unknown = sorted(set(arguments) - _OPTIONS)
        if unknown:  # the module would refuse it as well, and show what it was given: a key, if value is misspelt
            error = MulticartError(Reason.INVALID_OPTION, f"There is no option {shown_name(unknown[0])}.")
            return {**result, **failure(error)}
        prefer_pipelining(self, task_vars)
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        return result
