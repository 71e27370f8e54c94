# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write down what the run did; the documentation is with the module of the same name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.release import __version__ as core_version
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import VERSION
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.command_line import invocation
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.fleet_action import FleetAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import (
    CLOSED,
    OPENED,
    PLAN,
    PROOF,
    READ,
    ROTATION,
    SEEN,
    WRITTEN,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import next_command as rerun
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import DEFAULT_ACCOUNT
from ansible_collections.multicart.keys.plugins.plugin_utils._options import REPORT, Options
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Registered, Report, Versions, report_of
from ansible_collections.multicart.keys.plugins.plugin_utils._report.page import page


class ActionModule(FleetAction):
    """The action of M(multicart.keys.multicart_report)."""

    known = REPORT

    def act(self, options: Options) -> dict[str, Any]:
        if not options.given["dest"]:
            return {"msg": ["No report is wanted."]}
        if self._task.check_mode:
            return {"msg": ["Check mode writes no report."]}
        report = self._report()
        if not report.worth_keeping:
            return {"msg": ["Nothing happened that is worth a report."]}
        folder = Path(os.path.abspath(os.path.expanduser(options.given["dest"])))
        name = f"rotation-{report.made_at:%Y%m%dT%H%M%S}.{report.made_at.microsecond // 1000:03}Z"
        texts = {
            "json": json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n",
            "html": page(report),
        }
        paths = {folder / f"{name}.{suffix}": text for suffix, text in texts.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_all(paths)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            return self._without(f"The report could not be written into {folder}: {why}.")
        json_path, html_path = map(str, paths)
        return {
            "_ansible_verbose_always": True,
            "msg": [f"Report: {html_path}"],
            "json_path": json_path,
            "html_path": html_path,
        }

    def failed(self, error: MulticartError) -> dict[str, Any]:
        # A run that did its work does not fail for want of a report.
        return self._without(f"There is no report: {error}")

    def _without(self, why: str) -> dict[str, Any]:
        return {"_ansible_verbose_always": True, "msg": [why]}

    def _report(self) -> Report:
        here = self.variables["inventory_hostname"]
        run = Registered(*(self._registered(here, name) for name in (PLAN, ROTATION, PROOF, READ)))
        consumers = self._fleet(CLOSED, WRITTEN, OPENED, SEEN)
        report = report_of(
            run,
            [(consumer, self._hostvars(consumer.name)) for consumer in consumers],
            str(self._templar.template(self.variables.get("multicart_deploy_account")) or DEFAULT_ACCOUNT),
            Versions(VERSION, core_version),
            datetime.now(timezone.utc),
        )
        return replace(report, rerun=self._rerun(run, report)) if report.reason else report

    def _rerun(self, run: Registered, report: Report) -> rerun.Rerun:
        how = invocation(self.variables, self._templar, self._loader)
        # Without the variable, the consumers are the hosts of a play that this collection does not know.
        if run.failure or not report.unfinished or self._pattern() is None:
            return rerun.again(how)
        return rerun.deploy(how, [line.name for line in report.unfinished])


def _write_all(texts: Mapping[Path, str]) -> None:
    """Write all files or none; each appears at once and whole, or not at all."""
    drafts = {path.with_name(f".{path.name}.{os.getpid()}"): path for path in texts}
    written: list[Path] = []
    try:
        for draft, path in drafts.items():
            with draft.open("x", encoding="utf-8") as file:
                written.append(draft)
                file.write(texts[path])
        for draft, path in drafts.items():
            draft.replace(path)
            written[written.index(draft)] = path
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
