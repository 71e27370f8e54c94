# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done once for the whole fleet; the documentation is with the module of the same name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible.release import __version__ as core_version
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import VERSION
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun, Live, try_credentials
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import FleetAction, failure
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.consumers import shown, take_hosts
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import REPORT, RESULT, this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import Worker, disarm, end_rest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act, ActResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.allowed_hours import AllowedHours, NotHours, parse
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import is_of_others
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Refusals, Step, Wanted, outside_hours
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, Problem
from ansible_collections.multicart.keys.plugins.plugin_utils._options import FLEET, MONITORING, Options, invalid
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report, Versions, report_of
from ansible_collections.multicart.keys.plugins.plugin_utils._report.monitoring import Monitoring
from ansible_collections.multicart.keys.plugins.plugin_utils._times import utc_now


class ActionModule(FleetAction):
    """The action of M(multicart.keys.multicart_fleet), and of the module beside it that only reads."""

    known = (*FLEET, *MONITORING)

    def act(self, options: Options) -> dict[str, Any]:
        self._options = options
        self._phase: str = options.given["phase"]
        # Finds what is wrong with its variables before anything is changed; a diagnosis does not need it.
        self._monitoring = None if self._phase == "diagnose" else Monitoring(options, self.warn)
        phases: dict[str, Callable[[], dict[str, Any]]] = {
            "validate": self._validate,
            "validate_deployment": self._validate_deployment,
            "rotate": self._rotate,
            "audit": self._audit,
            "diagnose": self._diagnose,
        }
        try:
            result = phases[self._phase]()
        except MulticartError as error:
            if self._phase in ("rotate", "audit"):
                self._tell(self._report(ActResult(error=error)))
            raise
        for line in result["msg"]:
            self.say(line)
        return result

    # --- phases -----------------------------------------------------------------------------------

    def _validate(self) -> dict[str, Any]:
        """Find out what only a play on all hosts can: whether the plays that follow have any host at all."""
        consumers = self.consumers()
        self._refuse_other_hosts()
        here = self._taking_part()
        if not consumers:
            raise MulticartError(Reason.NO_CONSUMERS, f"No host matches {self.hosts_pattern}.")
        if not here:
            raise MulticartError(Reason.LEFT_OUT, f"All consumers are left out of this run: {', '.join(consumers)}.")
        return {"msg": [f"{len(here)} of {len(consumers)} consumers take part."]}

    def _validate_deployment(self) -> dict[str, Any]:
        """Find out besides what no host alone can: whether any of them has a file of this account."""
        result = self._validate()
        if all(map(self._is_of_others, self._taking_part())):
            raise MulticartError(Reason.NO_CONSUMERS, "No consumer that takes part has a file of this account.")
        return result

    def _taking_part(self) -> list[str]:
        return [name for name in self.consumers() if name in self.play_hosts]

    def _is_of_others(self, name: str) -> bool:
        own = internals.without_facts(internals.variables_of(self, self.variables, name))
        return is_of_others(own, self.template_with(own))

    def _rotate(self) -> dict[str, Any]:
        self._refuse_parts()
        worker = Worker()
        worker.leave_group()
        left_out = sorted(set(self.consumers()) - set(self.play_hosts))
        wanted = self._wanted
        taken = take_hosts(self, self.play_hosts, whole=not left_out)
        away = [Host(name, failure=Problem("left_out", "it was left out of this run")) for name in left_out]
        with self._act([*taken.hosts, *away], worker) as act:
            result = act.rotate(wanted, Refusals(left_out, taken.skipped, taken.differing))
        if worker.overran:
            result.lines.append(
                "timed_out: it took longer than Ansible's limit for tasks, and was finished all the same."
            )
        return self._kept(result)

    @property
    def _wanted(self) -> Wanted:
        given = self._options.given
        return Wanted(
            confirmed=given["confirm"] or bool(self._task.check_mode),
            retire=given["retire"],
            force=given["force"],
            max_age=given["max_age"],
            rotate_unknown_age=given["unknown_age"] == "rotate",
            warn_uncovered=given["uncovered"] == "warn",
            min_hosts=given["min_hosts"],
            assume_rejected=given["assume_rejected"],
            allowed_hours=self._allowed_hours,
        )

    @property
    def _allowed_hours(self) -> AllowedHours | None:
        given = self._options.given["allowed_hours"]
        try:
            return parse(given) if given is not None else None
        except NotHours as error:
            raise invalid(FLEET, "allowed_hours", str(error)) from None

    def _audit(self) -> dict[str, Any]:
        self._refuse_parts()
        taken = take_hosts(self, self.play_hosts, self._whole)
        with self._act(taken.hosts) as act:
            kept = self._kept(act.audit())
            return {name: kept[name] for name in ("msg", "reason", "live", "consumers")}

    def _diagnose(self) -> dict[str, Any]:
        taken = take_hosts(self, self.consumers(), whole=True)
        trials = try_credentials(self._options.connection, this_run())
        with self._act(taken.hosts) as act:
            fleet = act.inspect(next((Live(trial.key, trial.mark) for trial in trials if trial.key), None))
        waits = outside_hours(self._allowed_hours, utc_now())
        given = self._options.given
        wanted = Wanted(True, min_hosts=given["min_hosts"], warn_uncovered=given["uncovered"] == "warn")
        found = diagnose(trials, fleet, waits, wanted, Refusals(differing=taken.differing))
        return {
            "msg": [*found.lines, found.advice],
            "next": found.advice,
            "credentials": {trial.name: trial.key is not None for trial in trials},
            "live": found.live.fingerprint if found.live else None,
            "consumers": found.consumers,
        }

    # --- what they have in common -----------------------------------------------------------------

    @contextmanager
    def _act(self, hosts: list[Host], guard: Worker | None = None) -> Iterator[Act]:
        api = AccountOfRun(self._options.connection, this_run())
        try:
            yield Act(hosts, api, self.say, guard, bool(self._task.check_mode))
        finally:
            end_rest(host.session for host in hosts if host.session is not None)

    @property
    def _whole(self) -> bool:
        """Whether all consumers are in the play."""
        return set(self.consumers()) <= set(self.play_hosts)

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
        wanted = self.value_of("multicart_hosts")
        for host in self.play_hosts:
            # Play variables are not among these: what differs here comes from the inventory.
            raw = internals.inventory_variable(self.variables, host, "multicart_hosts")
            if raw in (None, "") or raw == wanted:
                continue
            if self.value_of("multicart_hosts", raw) != wanted:
                raise MulticartError(
                    Reason.HOSTS_DIFFER, f"The inventory sets another multicart_hosts for {host} than this run uses."
                )

    def _report(self, result: ActResult) -> Report:
        # Of a rotation, also those that were left out are in the report.
        whole = self._phase == "rotate" or self._whole
        versions, made_at = Versions(VERSION, core_version), utc_now()
        return replace(report_of(result, self.account, versions, made_at), run=self._phase, whole=whole)

    def _tell(self, report: Report) -> None:
        if self._monitoring is not None and not self._task.check_mode:
            disarm()
            self._monitoring.tell(report)

    def _kept(self, result: ActResult) -> dict[str, Any]:
        """Leave each host its own result, and return that of the whole, which never fails: each host shows its own."""
        error = result.error
        will_show = {str(host) for host in self.variables.get("ansible_play_batch") or ()}
        own_failures = [
            host for host in result.hosts if (not host.up_to_date or host.reason) and host.name in will_show
        ]
        # Where a rotation was refused, all hosts were, for the sake of one.
        refused = self._phase == "rotate" and (result.plan is None or result.plan.step is Step.ROTATE)
        of_hosts = (Reason.NOT_UP_TO_DATE, *([] if refused else [Reason.NOT_READY]))
        by_hosts = error is not None and error.reason in of_hosts and own_failures
        for host in result.hosts:
            self.store.put(RESULT, host.name, shown(result, host, None if by_hosts else error))
        members = {host.name for host in result.hosts}
        for name in sorted(will_show - members):
            overall = {} if error is None or by_hosts else failure(error)
            self.store.put(RESULT, name, {"msg": "No files of this account.", **overall})
        report = self._report(result)
        # Also in place of the report of an act before it in this run.
        self.store.put(REPORT, "", report.to_json() if report.worth_keeping else None)
        self._tell(report)
        lines = [*([str(error)] if error else []), *result.lines]
        return {
            "msg": lines,
            "reason": error.reason.value if error else None,
            "step": result.plan.step.value if result.plan else None,
            "outcome": result.rotation.outcome.value if result.rotation else None,
            "live": report.new_key.fingerprint if report.new_key else None,
            "retired": report.old_key.fingerprint if report.old_key else None,
            "consumers": {host.name: UNKNOWN if result.is_live_lost else host.standing.words for host in result.hosts},
        }
