# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the actions have in common that run in the controller's process, without a connection, for whatever host."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.arguments import take_arguments
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.edge import IS_CORE_2_19, failure, options_of
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Option, Options


class ControllerAction(ActionBase):
    """Resolves the options, acts, and turns every error into a result that is safe to show."""

    known: ClassVar[tuple[Option, ...]]
    """The options of the task."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        arguments = take_arguments(self)
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        self.variables: dict[str, Any] = task_vars or {}
        try:
            options = options_of(self.known, arguments, self.variables, self._templar)
            if options.given.get("reveal"):
                self._refuse_open_loop()
            return {**result, **self.act(options)}
        except MulticartError as error:
            return {**result, **self.failed(error)}
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            return {**result, **self.failed(unexpected(error))}

    def _refuse_open_loop(self) -> None:
        """Before ansible-core 2.19, callbacks get the items of a loop as they are, although each is to be censored."""
        loops = self._task.loop is not None or self._task.loop_with
        if loops and not self._task.no_log and not IS_CORE_2_19:
            raise MulticartError(
                Reason.INVALID_OPTION,
                "The option reveal in a loop needs no_log: true on the task with this ansible-core.",
                "Nothing was changed; add it and run again. ansible-core 2.19 and later need it no more.",
            )

    @abstractmethod
    def act(self, options: Options) -> dict[str, Any]:
        """Do the work and return the task's result.

        :raises MulticartError: why it failed.
        """

    def failed(self, error: MulticartError) -> dict[str, Any]:
        """Return the result of a failure."""
        return failure(error)
