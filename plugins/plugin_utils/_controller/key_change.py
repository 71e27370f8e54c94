# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The results of the modules that replace the account's key."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import ControllerAction, failure
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import disarm
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Options


class KeyChange(ControllerAction):
    """An action that replaces the account's key."""

    def act(self, options: Options) -> dict[str, Any]:
        # It would break off a rotation that the API has accepted, and nobody would learn which key was to be retired.
        disarm()
        return self.change(options)

    @abstractmethod
    def change(self, options: Options) -> dict[str, Any]:
        """Replace the key and return the task's result."""

    def failed(self, error: MulticartError) -> dict[str, Any]:
        # Only a defect can stop a rotation that has begun; every other failure comes as a result.
        outcome = Outcome.UNKNOWN if error.reason is Reason.INTERNAL_ERROR else Outcome.UNCHANGED
        return {**super().failed(error), "outcome": outcome.value}


def shown(rotation: Result, reveal: bool = False) -> dict[str, Any]:
    """Return the task's result: masked, unless the key was asked for."""
    told: dict[str, Any] = {
        "changed": rotation.changed,
        "outcome": rotation.outcome.value,
        "verified": rotation.verified,
        "old_key_rejected": rotation.old_key_rejected,
        "rotated_at": rotation.rotated_at,
    }
    if rotation.previous is not None:
        told.update(rotation.previous.describe("previous_"))
    if rotation.live is not None:
        told.update(rotation.live.describe())
        if reveal:
            told.update(api_key=rotation.live.reveal(), _ansible_no_log=True)
    if rotation.changed and rotation.previous is not None:
        told["diff"] = _diff(rotation.previous, rotation.live)
    if rotation.error is not None:
        told.update(failure(rotation.error))
    return told


def _diff(before: ApiKey, after: ApiKey | None) -> dict[str, str]:
    def line(key: ApiKey | None) -> str:
        return f"{key.masked} {key.fingerprint}\n" if key is not None else "(a new key, chosen by the API)\n"

    header = "the account's API key"
    return {"before": line(before), "after": line(after), "before_header": header, "after_header": header}
