# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the actions have in common that run in the controller's process, without a connection, for whatever host."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from ansible_collections.multicart.keys.plugins.plugin_utils.edge import failure, options_of
from ansible_collections.multicart.keys.plugins.plugin_utils.errors import MulticartError, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils.options import Option, Options


class ControllerAction(ActionBase):
    """Resolves the options, acts, and turns every error into a result that is safe to show."""

    known: ClassVar[tuple[Option, ...]]
    """The options of the task."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        self.variables: dict[str, Any] = task_vars or {}
        try:
            return {**result, **self.act(options_of(self.known, self._task.args, self.variables, self._templar))}
        except MulticartError as error:
            return {**result, **self.failed(error)}
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            return {**result, **self.failed(unexpected(error))}

    @abstractmethod
    def act(self, options: Options) -> dict[str, Any]:
        """Do the work and return the task's result.

        :raises MulticartError: why it failed.
        """

    def failed(self, error: MulticartError) -> dict[str, Any]:
        """Return the result of a failure."""
        return failure(error)
