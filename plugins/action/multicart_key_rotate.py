# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotate the account's key in the controller's process; the documentation is with the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import rotate_key
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Request, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import ControllerAction, failure
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import ROTATE, Options


class ActionModule(ControllerAction):
    """The action of M(multicart.keys.multicart_key_rotate)."""

    known = ROTATE

    def act(self, options: Options) -> dict[str, Any]:
        wanted = dict(options.given)
        reveal = wanted.pop("reveal")
        request = Request(check_mode=bool(self._task.check_mode), **wanted)
        return _shown(rotate_key(options.connection, this_run(), request), reveal)

    def failed(self, error: MulticartError) -> dict[str, Any]:
        # Only a defect can stop a rotation that has begun; every other failure comes as a result.
        outcome = Outcome.UNKNOWN if error.reason is Reason.INTERNAL_ERROR else Outcome.UNCHANGED
        return {**super().failed(error), "outcome": outcome.value}


def _shown(rotation: Result, reveal: bool) -> dict[str, Any]:
    """Return the task's result: masked, unless the key was asked for."""
    shown: dict[str, Any] = {
        "changed": rotation.changed,
        "outcome": rotation.outcome.value,
        "recovered": rotation.recovered,
        "verified": rotation.verified,
        "old_key_rejected": rotation.old_key_rejected,
        "rotated_at": rotation.rotated_at,
    }
    if rotation.previous is not None:
        shown.update(rotation.previous.describe("previous_"))
    if rotation.live is not None:
        shown.update(rotation.live.describe())
        if reveal:
            shown.update(api_key=rotation.live.reveal(), _ansible_no_log=True)
    if rotation.changed and rotation.previous is not None:
        shown["diff"] = _diff(rotation)
    if rotation.error is not None:
        shown.update(failure(rotation.error))
    return shown


def _diff(rotation: Result) -> dict[str, str]:
    def line(key: Any) -> str:
        return f"{key.masked} {key.fingerprint}\n" if key is not None else "(a new key, chosen by the API)\n"

    header = "the account's API key"
    return {
        "before": line(rotation.previous),
        "after": line(rotation.live),
        "before_header": header,
        "after_header": header,
    }
