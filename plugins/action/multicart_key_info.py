# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the account's key in the controller's process; the documentation is with the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.multicart.keys.plugins.plugin_utils.edge import failure, options_of, this_run
from ansible_collections.multicart.keys.plugins.plugin_utils.errors import MulticartError, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils.operations import read_account
from ansible_collections.multicart.keys.plugins.plugin_utils.options import INFO


class ActionModule(ActionBase):
    """The action of M(multicart.keys.multicart_key_info)."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        try:
            options = options_of(INFO, self._task.args, task_vars or {}, self._templar)
            account = read_account(options.connection, this_run())
            result.update(account.key.describe(), account=dict(account.fields))
            if options.given["reveal"]:
                # The displayed result is censored although the author forgot no_log; the registered one is whole.
                result.update(api_key=account.key.reveal(), _ansible_no_log=True)
        except MulticartError as error:
            result.update(failure(error))
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            result.update(failure(unexpected(error)))
        return result
