# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes what a run reports as lines of JSON, so that tests need not read what is meant for people."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: recorder
type: aggregate
short_description: Write every result as a line of JSON
description:
  - Write every result as a line of JSON to the file that RECORDER_FILE names.
  - With RECORDER_ARGUMENTS also the arguments of every task that is not no_log, into a file beside it; so does
    ansible-runner with ANSIBLE_DISPLAY_ARGS_TO_STDOUT.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorder"
    CALLBACK_NEEDS_ENABLED = True

    def _record(self, status: str, given: Any) -> None:
        # ansible-core 2.19 gave these public names and deprecated the old ones.
        host = given.host if hasattr(given, "host") else given._host
        task = given.task if hasattr(given, "task") else given._task
        result = given.result if hasattr(given, "result") else given._result
        line = {
            "status": status,
            "host": str(host.get_name()),
            "task": str(task.get_name()),
            "action": str(task.action),
            "result": result,
        }
        with open(os.environ["RECORDER_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
        if os.environ.get("RECORDER_ARGUMENTS") and not task.no_log:
            with open(f"{os.environ['RECORDER_FILE']}.arguments", "a", encoding="utf-8") as file:
                file.write(json.dumps(task.args, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._record("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._record("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._record("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._record("skipped", result)

    def v2_runner_retry(self, result: Any) -> None:
        self._record("retried", result)
