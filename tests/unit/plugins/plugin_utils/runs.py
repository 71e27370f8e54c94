# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of an act, and the report of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Plan, Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Standing, State
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report, Versions, report_of
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_time

START = datetime(2026, 6, 20, 3, tzinfo=timezone.utc)
OLD, NEW = ApiKey("173axcs.oldoldoldold"), ApiKey("173axcs.newnewnewnew")
ROTATED = Result(
    Outcome.ROTATED, NEW, OLD, verified=True, old_key_rejected=True, rotated_at=iso_time(START), updated_at=None
)
ROTATE = Plan(Step.ROTATE, "every consumer holds the live key", OLD.fingerprint)
DONE = ActResult(plan=ROTATE, live=Live(NEW), rotation=ROTATED)
"""A rotation in which all went well, so far as the account goes."""
UP_TO_DATE = Standing(State.UP_TO_DATE)
RED = MulticartError(Reason.NOT_UP_TO_DATE, "Consumers are not up to date: web.")


def host(written: float | None = None, standing: Standing = UP_TO_DATE, **events: float) -> HostResult:
    """Return how a consumer ended that was armed five seconds before the rotation.

    :param written: when it was written, in seconds after the rotation; None: it was not.
    :param events: when else something happened.
    """
    seconds = {"inspected": -9.0, "armed": -5.0, **({} if written is None else {"written": written}), **events}
    moments = {event: START + timedelta(seconds=at) for event, at in seconds.items()}
    return HostResult("", standing, written is not None, moments=moments)


def unreachable() -> HostResult:
    return HostResult("", Standing(State.UNREACHABLE, "it is unreachable (No route to host)"), reason="unreachable")


def unhealthy(written: float) -> HostResult:
    return host(written, Standing(State.RESTART_DUE, "the health check failed"))


def came_of(hosts: Mapping[str, HostResult], run: ActResult = DONE) -> ActResult:
    """Return what came of an act over these hosts, with the verdict on them."""
    results: Sequence[HostResult] = [replace(result, name=name) for name, result in hosts.items()]
    error = run.error or (None if all(result.up_to_date for result in results) else RED)
    return replace(run, hosts=list(results), error=error)


def told_of(hosts: Mapping[str, HostResult], run: ActResult = DONE, **fields: Any) -> Report:
    """Return the report of an act over these hosts."""
    result = came_of(hosts, run)
    report = report_of(result, "default", Versions("1.0.0", "2.21.5"), START + timedelta(minutes=1))
    return replace(report, **fields)
