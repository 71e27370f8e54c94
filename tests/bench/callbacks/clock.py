# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes when plays and tasks start and when each host answers."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: clock
type: aggregate
short_description: Note the time of every result
description: Write what starts and who answers, with the time, as lines of JSON to the file that CLOCK_FILE names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clock"
    CALLBACK_NEEDS_ENABLED = True

    def _note(self, event: str, name: str) -> None:
        with open(os.environ["CLOCK_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), "event": event, "name": name}) + "\n")

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._note("play", str(play.get_name()))

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._note("task", str(task.get_name()))

    def v2_runner_on_ok(self, result: Any) -> None:
        # ansible-core 2.19 gave it a public name and deprecated the old one.
        host = result.host if hasattr(result, "host") else result._host
        self._note("ok", str(host.get_name()))
