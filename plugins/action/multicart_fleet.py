# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done once for the whole fleet; the documentation is with the module of the same name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from ansible.release import __version__ as core_version
from ansible.utils.display import Display
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import VERSION
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun, try_credentials
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import FleetAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.consumers import shown_diff, take_members
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import (
    REPORT,
    RESULT,
    RunStore,
    this_run,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import (
    Worker,
    end_children,
    most_held,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act, ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.conversation import Member
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import account_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Refusals, Step, Wanted
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Problem
from ansible_collections.multicart.keys.plugins.plugin_utils._options import FLEET, Options
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Versions, report_of

_display = Display()


class ActionModule(FleetAction):
    """The action of M(multicart.keys.multicart_fleet)."""

    known = FLEET

    def act(self, options: Options) -> dict[str, Any]:
        self._options = options
        own = internals.without_facts(self.variables)
        self._account = account_of(own, self.template_with(own))
        self._store = RunStore(self._account)
        phases: dict[str, Callable[[], dict[str, Any]]] = {
            "validate": self._validate,
            "rotate": self._rotate,
            "audit": self._audit,
            "diagnose": self._diagnose,
        }
        # Shown at any verbosity, as a debug task is.
        return {"_ansible_verbose_always": True, **phases[options.given["phase"]]()}

    # --- phases -----------------------------------------------------------------------------------

    def _validate(self) -> dict[str, Any]:
        """Find out what only a play on all hosts can: whether the plays that follow have any host at all."""
        consumers = self.consumers()
        self._refuse_other_hosts()
        here = [name for name in consumers if name in self.play_hosts]
        if not consumers:
            raise MulticartError(Reason.NO_CONSUMERS, "There are no consumers.")
        if not here:
            raise MulticartError(Reason.LEFT_OUT, f"All {len(consumers)} consumers are left out of this run.")
        return {"msg": [f"{len(here)} of {len(consumers)} consumers take part."]}

    def _rotate(self) -> dict[str, Any]:
        self._refuse_parts()
        worker = Worker()
        worker.leave_group()
        left_out = sorted(set(self.consumers()) - set(self.play_hosts))
        members, skipped = self._members(self.play_hosts)
        members += [Member(name, failure=Problem("left_out", "it was left out of this run")) for name in left_out]
        check_mode = bool(self._task.check_mode)
        try:
            refusals = Refusals(left_out, skipped)
            result = Act(members, self._api, self._wanted, refusals, self._say, worker, check_mode).run()
        finally:
            end_children()
        if worker.overran:
            result.lines.append(
                "timed_out: it took longer than Ansible's time limit for tasks, and was finished all the same."
            )
        return self._kept(result)

    @property
    def _wanted(self) -> Wanted:
        given = self._options.given
        return Wanted(
            confirmed=given["confirm"],
            retire=given["retire"],
            force=given["force"],
            max_age=given["max_age"],
            rotate_unknown_age=given["unknown_age"] == "rotate",
            min_hosts=given["min_hosts"],
            assume_rejected=given["assume_rejected"],
        )

    def _audit(self) -> dict[str, Any]:
        self._refuse_parts()
        members, _skipped = self._members(self.play_hosts)
        try:
            result = Act(members, self._api, Wanted(), say=self._say).audit()
        finally:
            end_children()
        return self._kept(result)

    def _diagnose(self) -> dict[str, Any]:
        members, _skipped = self._members(self.consumers())
        trials = try_credentials(self._options.connection, this_run())
        try:
            fleet = Act(members, self._api, Wanted()).look()
        finally:
            end_children()
        found = diagnose(trials, fleet)
        return {
            "msg": [*found.lines, found.advice],
            "next": found.advice,
            "credentials": {trial.name: trial.key is not None for trial in trials},
            "live": found.live.fingerprint if found.live else None,
            "consumers": found.consumers,
        }

    # --- what they have in common -----------------------------------------------------------------

    @property
    def _api(self) -> AccountOfRun:
        return AccountOfRun(self._options.connection, this_run())

    def _say(self, line: str) -> None:
        _display.display(f"  {line}")

    def _members(self, names: list[str]) -> tuple[list[Member], list[str]]:
        """Return the hosts that take part, and the names of those among them that were skipped, or failed before."""
        members, skipped = take_members(self, self._store, names, self.variables, most_held())
        why = "it was skipped, or failed, before this task"
        return [*members, *(Member(name, failure=Problem("skipped", why)) for name in skipped)], skipped

    def _refuse_parts(self) -> None:
        """Refuse what would make this task less than one task for the whole play.

        :raises MulticartError: ``not_whole``.
        """
        task, variables = self._task, self.variables
        batch = [str(host) for host in variables.get("ansible_play_batch") or ()]
        gone = set(self.play_hosts) - {str(host) for host in variables.get("ansible_play_hosts") or ()}
        wrong = {
            "in batches (serial)": bool(set(self.play_hosts) - set(batch) - gone),
            "in a loop": task.loop is not None or bool(task.loop_with),
            "with until": bool(task.until),
            "with delegate_to": bool(task.delegate_to),
            "as a handler": type(task).__name__ == "Handler",
            "with --step": internals.is_stepping(),
            "with a strategy of Mitogen's": internals.uses_mitogen(self),
        }
        for how, is_so in wrong.items():
            if is_so:
                raise MulticartError(Reason.NOT_WHOLE, f"This cannot be run {how}.")

    def _refuse_other_hosts(self) -> None:
        own = internals.without_facts(self.variables)
        wanted = self.template_with(own)(own.get("multicart_hosts"))
        for host in self.play_hosts:
            # Play variables are not among these: what differs here comes from the inventory.
            raw = internals.inventory_variable(self.variables, host, "multicart_hosts")
            if raw in (None, "") or raw == wanted:
                continue
            if self.template_with(own)(raw) != wanted:
                raise MulticartError(
                    Reason.HOSTS_DIFFER, f"The inventory sets another multicart_hosts for {host} than this run uses."
                )

    def _kept(self, result: ActResult) -> dict[str, Any]:
        """Leave each host its own result, and return that of the whole; it never fails, so that each host shows its own."""
        error = result.error
        will_show = {str(host) for host in self.variables.get("ansible_play_batch") or ()}
        own_failures = [host for host in result.hosts if not host.up_to_date and host.name in will_show]
        by_hosts = error is not None and error.reason is Reason.NOT_UP_TO_DATE and own_failures
        for host in result.hosts:
            self._store.put(RESULT, host.name, self._shown(result, host, None if by_hosts else error))
        members = {host.name for host in result.hosts}
        for name in sorted(will_show - members):
            overall = {} if error is None or by_hosts else _failed(error)
            self._store.put(RESULT, name, {"msg": "No files of this account.", **overall})
        versions = Versions(VERSION, core_version)
        report = report_of(result, self._account, versions, datetime.now(timezone.utc))
        self._store.put(REPORT, "", report.to_json())
        lines = [*([str(error)] if error else []), *result.lines]
        return {
            "msg": lines,
            "reason": error.reason.value if error else None,
            "step": result.plan.step.value if result.plan else None,
            "outcome": result.rotation.outcome.value if result.rotation else None,
            "live": result.live.key.fingerprint if result.live else None,
            "retired": result.plan.retire if result.plan else None,
            "consumers": {host.name: host.standing.words for host in result.hosts},
        }

    def _shown(self, result: ActResult, host: HostResult, error: MulticartError | None) -> dict[str, Any]:
        rotated = result.check_mode and result.plan is not None and result.plan.step is Step.ROTATE
        shown: dict[str, Any] = {"changed": host.changed, "state": host.standing.state.value}
        if result.live is not None and host.changed:
            shown["diff"] = shown_diff(host.files, None if rotated else result.live.key)
        if not host.up_to_date and (host.reason or error is None):
            return {
                **shown,
                "failed": True,
                "msg": f"It is {host.standing.words}.",
                "reason": host.reason or "not_up_to_date",
            }
        if error is not None:
            return {**shown, **_failed(error)}
        return {**shown, "msg": f"It is {host.standing.words}."}


def _failed(error: MulticartError) -> dict[str, Any]:
    return {"failed": True, "msg": str(error), "reason": error.reason.value}
