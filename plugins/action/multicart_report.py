# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the report of the run; the documentation is with the module of the same name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import FleetAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import REPORT
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError
from ansible_collections.multicart.keys.plugins.plugin_utils._options import REPORT as REPORT_OPTIONS
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Options
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report, report_from
from ansible_collections.multicart.keys.plugins.plugin_utils._report.monitoring import write_all
from ansible_collections.multicart.keys.plugins.plugin_utils._report.page import page


class ActionModule(FleetAction):
    """The action of M(multicart.keys.multicart_report)."""

    known = REPORT_OPTIONS

    def act(self, options: Options) -> dict[str, Any]:
        if not options.given["dest"]:
            return {"msg": ["No report is wanted."]}
        if self._task.check_mode:
            return {"msg": ["Check mode writes no report."]}
        kept = self.store.get(REPORT, "")
        if kept is None:
            return {"msg": ["Nothing happened that is worth a report."]}
        return self._written(report_from(kept), Path(os.path.abspath(os.path.expanduser(options.given["dest"]))))

    def _written(self, report: Report, folder: Path) -> dict[str, Any]:
        name = f"rotation-{report.made_at:%Y%m%dT%H%M%S}.{report.made_at.microsecond // 1000:03}Z"
        json_path, html_path = (folder / f"{name}.{suffix}" for suffix in ("json", "html"))
        text = json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
        html = page(report)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_all({json_path: text.encode(), html_path: html.encode()})
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            return self._told(f"The report could not be written into {folder}: {why}.")
        return {**self._told(f"Report: {html_path}"), "json_path": str(json_path), "html_path": str(html_path)}

    def failed(self, error: MulticartError) -> dict[str, Any]:
        # A report failure must not fail the run, nor tell of this task what would be read as of the run.
        return self._told(f"There is no report: {error.what}")

    def _told(self, line: str) -> dict[str, Any]:
        self.say(line)
        return {"msg": [line]}
