# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shortens the limits of an act, so that a test of a host that hangs need not wait for a minute.

A callback, since these are made before Ansible forks the worker in which the act runs.
"""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import act, host

DOCUMENTATION = r"""
name: hurry
type: aggregate
short_description: Shorten the limits of an act
description: Sets INSPECTING and WRITING to the seconds that HURRY holds as JSON.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "hurry"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        for name, seconds in json.loads(os.environ["HURRY"]).items():
            for module in (act, host):
                if hasattr(module, name):
                    setattr(module, name, seconds)
            if name == "INSPECTING":
                host.Host.ask.__defaults__ = (seconds,)
