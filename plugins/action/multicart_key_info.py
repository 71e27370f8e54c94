# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the account's key in the controller's process; the documentation is with the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import read_account
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import ControllerAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._options import INFO, Options


class ActionModule(ControllerAction):
    """The action of M(multicart.keys.multicart_key_info)."""

    known = INFO

    def act(self, options: Options) -> dict[str, Any]:
        account = read_account(options.connection, this_run())
        shown: dict[str, Any] = {**account.key.describe(), "account": dict(account.fields)}
        if options.given["reveal"]:
            # The displayed result is censored although the author forgot no_log; the registered one is whole.
            shown.update(api_key=account.key.reveal(), _ansible_no_log=True)
        return shown
