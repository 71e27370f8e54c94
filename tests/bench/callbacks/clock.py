# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes down when each play began, and when each task began and had the answer of each host."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: clock
type: aggregate
short_description: Write down when things happen
description: For the bench.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """One JSON line for each event: what, which host, which task, when."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "clock"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ["BENCH_CLOCK"]

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._note("play", "", play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._note("task", "", task.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note_result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note_result("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note_result("unreachable", result)

    def _note_result(self, event: str, result: Any) -> None:
        # ansible-core 2.19 gave these public names and deprecated the old ones.
        host, task = (result.host, result.task) if hasattr(result, "host") else (result._host, result._task)
        self._note(event, host.get_name(), task.get_name())

    def _note(self, event: str, host: str, name: str) -> None:
        with open(self._path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps({"event": event, "host": host, "name": name, "time": time.time()}) + "\n")
