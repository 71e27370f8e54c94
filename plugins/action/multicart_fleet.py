# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide about the whole fleet; the documentation is with the module of the same name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import live_key, try_credentials
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.command_line import invocation
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.edge import failure, this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.fleet_action import FleetAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import (
    CLOSED,
    OPENED,
    PLAN,
    PROOF,
    READ,
    REHEARSED,
    REPORT,
    ROTATION,
    SEEN,
    WRITTEN,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import plan as fleet
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.outage import Pace, foretell
from ansible_collections.multicart.keys.plugins.plugin_utils._options import FLEET, Options


class ActionModule(FleetAction):
    """The action of M(multicart.keys.multicart_fleet)."""

    known = FLEET

    def act(self, options: Options) -> dict[str, Any]:
        self._options, self._connection_options = options.given, options.connection
        self._need_all = options.given["need_all"]
        phases = {
            "check": self._check,
            "plan": self._plan,
            "interlock": self._interlock,
            "judge": self._judge_and_name_report,
            "audit": self._audit,
            "diagnose": self._diagnose,
        }
        # Shown at any verbosity, as a debug task is.
        return {"_ansible_verbose_always": True, **phases[options.given["phase"]]()}

    def _check(self) -> dict[str, Any]:
        consumers = self._matching()
        pattern = self._pattern()
        hostvars = self.variables["hostvars"]
        for host in hostvars:
            # Play variables are not among hostvars: what differs here comes from the inventory.
            if "multicart_hosts" in hostvars.raw_get(host) and hostvars[host]["multicart_hosts"] not in ("", pattern):
                raise MulticartError(
                    Reason.HOSTS_DIFFER, f"The inventory sets another multicart_hosts for {host} than this run uses."
                )
        if not consumers:
            raise MulticartError(Reason.NO_CONSUMERS, f"No host matches {pattern}.")
        here = set(self.variables["ansible_play_hosts_all"])
        left_out = [host for host in consumers if host not in here]
        if left_out and (self._need_all or len(left_out) == len(consumers)):
            raise MulticartError(Reason.LEFT_OUT, f"--limit leaves out: {', '.join(left_out)}.")
        if len(consumers) < self._options["expect_hosts"]:
            raise MulticartError(
                Reason.TOO_FEW_HOSTS,
                f"{len(consumers)} consumers are fewer than the expected {self._options['expect_hosts']:g}.",
            )
        if self._options["confirm"] is False and not self._task.check_mode:
            raise MulticartError(Reason.NOT_CONFIRMED, "The rotation is not confirmed.")
        return {"msg": [f"Consumers: {len(consumers) - len(left_out)}"]}

    def _plan(self) -> dict[str, Any]:
        seen = self._fleet(SEEN)
        wanted = fleet.Wanted(
            self._options["retire"], self._options["force"], self._options["max_age"], self._options["budget"]
        )
        live = live_key(self._connection_options, this_run())
        rehearsed = [self._registered(consumer.name, REHEARSED).get("pace") for consumer in seen]
        outage = foretell(
            [Pace(**pace) for pace in rehearsed if pace],
            int(self.variables.get("ansible_forks") or 1),
            os.cpu_count() or 1,
        )
        plan = fleet.make_plan(seen, live.fingerprint, wanted, outage)
        says = {
            fleet.Step.ROTATE: f"Will retire {live.masked} {plan.retire}: {plan.why}.",
            fleet.Step.DEPLOY: f"Nothing to rotate: {plan.why}. Bringing every consumer to the live key.",
            fleet.Step.CATCH_UP: f"Will not rotate: {plan.why}. Bringing every consumer to the live key first.",
        }[plan.step]
        lines = [f"{len(seen)} consumers are ready.", says]
        if plan.step is fleet.Step.ROTATE:
            lines.append(outage.sentence)
        return {
            "msg": lines,
            "step": plan.step.value,
            "retire": plan.retire,
            "live": live.fingerprint,
            "expected_outage": round(outage.seconds, 1),
        }

    def _interlock(self) -> dict[str, Any]:
        retire = self._options["retire"]
        fleet.refuse_unprepared(self._fleet(OPENED), retire)
        return {"msg": ["Every consumer is prepared."], "retire": retire}

    def _judge_and_name_report(self) -> dict[str, Any]:
        try:
            judged = self._judge()
        except MulticartError as error:
            judged = failure(error)
        report = self._registered(self.variables["inventory_hostname"], REPORT).get("html_path")
        if report:
            said = judged["msg"]
            judged["msg"] = f"{said} Report: {report}" if isinstance(said, str) else [*said, f"Report: {report}"]
        return judged

    def _judge(self) -> dict[str, Any]:
        here = self.variables["inventory_hostname"]
        plan, rotation, proof, read = (self._registered(here, name) for name in (PLAN, ROTATION, PROOF, READ))
        if rotation.get("outcome") == "would_rotate":
            return self._prediction(rotation)
        for step in (rotation, proof, read):
            if step.get("failed"):
                raise MulticartError(
                    Reason(step.get("reason") or Reason.INTERNAL_ERROR), str(step.get("msg", "")), self._how_to_finish()
                )
        key = live_key(self._connection_options, this_run())
        live = key.fingerprint
        states = self._states(live)
        told = {"live": live, "consumers": states}
        wrong = fleet.verdict(states, caught_up=plan.get("step") == fleet.Step.CATCH_UP.value)
        if wrong:
            return {**failure(wrong), **told}
        return {**told, "msg": self._success(states, key, rotation, proof)}

    def _success(
        self, states: Mapping[str, str], live: ApiKey, rotation: Mapping[str, Any], proof: Mapping[str, Any]
    ) -> list[str]:
        shown = f"{live.masked} {live.fingerprint}"
        lines = [f"{len(states)} of {len(states)} consumers hold the live key {shown} and are healthy."]
        if rotation.get("outcome") == "rotated":
            old = f"{rotation.get('previous_key_masked')} {rotation.get('previous_key_fingerprint')}"
            dead = " and is dead" if proof.get("old_key_rejected") else ""
            lines.insert(0, f"Rotated at {rotation.get('rotated_at')}: {old} was retired{dead}.")
        elif rotation.get("outcome") == "already_rotated":
            lines.insert(0, "The key had been rotated before.")
        return lines

    def _prediction(self, rotation: Mapping[str, Any]) -> dict[str, Any]:
        consumers = dict.fromkeys((consumer.name for consumer in self._fleet(WRITTEN)), "would change")
        old = f"{rotation.get('previous_key_masked')} {rotation.get('previous_key_fingerprint')}"
        lines = [f"Would retire {old} and bring the new key to {len(consumers)} consumers. Nothing was changed."]
        return {"msg": lines, "consumers": consumers}

    def _audit(self) -> dict[str, Any]:
        live = live_key(self._connection_options, this_run())
        seen = self._fleet(SEEN)
        states = {consumer.name: fleet.standing(consumer, live.fingerprint) for consumer in seen}
        told = {"live": live.fingerprint, "consumers": states}
        wrong = fleet.verdict(states)
        if wrong:
            return {**failure(wrong), **told}
        lines = [f"Live key: {live.masked} {live.fingerprint}"]
        return {**told, "msg": [*lines, *(f"{name}: {state}" for name, state in states.items())]}

    def _diagnose(self) -> dict[str, Any]:
        trials = try_credentials(self._connection_options, this_run())
        found = diagnose(trials, self._fleet(SEEN), invocation(self.variables, self._templar, self._loader))
        return {
            "msg": [*found.lines, found.advice],
            "next": found.advice,
            "credentials": {trial.name: trial.key is not None for trial in trials},
            "live": found.live.fingerprint if found.live else None,
            "consumers": found.consumers,
        }

    def _states(self, live: str) -> dict[str, str]:
        """Return how each consumer stands after this run, and where it got stuck."""
        states = {}
        predicts = self._task.check_mode
        for consumer in self._fleet(WRITTEN if predicts else CLOSED, WRITTEN):
            registered = self._hostvars(consumer.name)
            if predicts and consumer.files and not fleet.stuck_at(registered):
                states[consumer.name] = fleet.State.CURRENT.value
            else:
                states[consumer.name] = fleet.ended(consumer, registered, live)
        return states

    def _how_to_finish(self) -> str:
        retire = self._registered(self.variables["inventory_hostname"], PLAN).get("retire")
        named = f" with -e multicart_rotate_retire={retire}" if retire else ""
        return f"Run the same command again{named}: it cannot rotate twice."
