# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke the account's key in the controller's process; the documentation is with the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import revoke_key
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.key_change import KeyChange, shown
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._options import REVOKE, Options


class ActionModule(KeyChange):
    """The action of M(multicart.keys.multicart_key_revoke)."""

    known = REVOKE

    def change(self, options: Options) -> dict[str, Any]:
        request = Revocation(check_mode=bool(self._task.check_mode), **options.given)
        return shown(revoke_key(options.connection, this_run(), request))
