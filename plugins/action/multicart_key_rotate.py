# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotate the account's key in the controller's process; the documentation is with the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import rotate_key
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Request
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.key_change import KeyChange, shown
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._options import ROTATE, Options


class ActionModule(KeyChange):
    """The action of M(multicart.keys.multicart_key_rotate)."""

    known = ROTATE

    def change(self, options: Options) -> dict[str, Any]:
        wanted = dict(options.given)
        reveal = wanted.pop("reveal")
        request = Request(check_mode=bool(self._task.check_mode), **wanted)
        return shown(rotate_key(options.connection, this_run(), request), reveal)
