# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done for each host by a task of its own; the documentation is with the module of the same name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.release import __version__ as core_version
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import VERSION
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import (
    DEFAULT_HOSTS,
    ControllerAction,
    refuse_facts,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.consumers import (
    SKIPPED,
    join,
    own_host,
    read_spec,
    shown,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import (
    DEPLOYED,
    RESULT,
    STORES,
    this_run,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import disarm, end_rest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act, ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import may_have_stores
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Standing, State
from ansible_collections.multicart.keys.plugins.plugin_utils._options import HOST, MONITORING, Options
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import (
    Report,
    Versions,
    joined,
    report_from,
    report_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._report.monitoring import Monitoring
from ansible_collections.multicart.keys.plugins.plugin_utils._times import utc_now


class ActionModule(ControllerAction):
    """The action of M(multicart.keys.multicart_host)."""

    known = (*HOST, *MONITORING)

    def act(self, options: Options) -> dict[str, Any]:
        phases: dict[str, Callable[[Options], dict[str, Any]]] = {
            "join": self._join,
            "deploy": self._deploy,
            "deploy_later": self._deploy,
            "result": self._result,
        }
        return phases[options.given["phase"]](options)

    @property
    def _name(self) -> str:
        return str(self.variables["inventory_hostname"])

    def _join(self, _options: Options) -> dict[str, Any]:
        if self._task.delegate_to:  # the connection would be that to another host
            raise MulticartError(Reason.NOT_WHOLE, "This cannot be run with delegate_to.")
        join(self, self._name)
        return {}

    def _deploy(self, options: Options) -> dict[str, Any]:
        monitoring = Monitoring(options, self.warn)
        self._came_of: ActResult | None = None
        try:
            return self._deploy_live(options)
        except MulticartError as error:
            self._came_of = _failed(self._name, error.what, error)
            raise
        finally:
            if monitoring.tells_of_deployments and not self._task.check_mode:
                try:
                    self._tell(monitoring)
                except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
                    self.warn(f"No metrics and no hooks for this deployment: {type(error).__name__}.")

    def _tell(self, monitoring: Monitoring) -> None:
        """Write metrics and run hooks for the whole deployment, after its last host.

        In the second task, hosts that are done come here, too: where one failed without leaving anything, such as at
        Ansible's time limit, the first task could not tell which host was the last.
        """
        own = self._report(self._came_of) if self._came_of is not None else None
        entry = {"host": self._name, "report": own.to_json()} if own is not None else None
        going_on = [str(host) for host in self.variables.get("ansible_play_hosts") or ()]
        entries = self.store.put_last(DEPLOYED, self._name, entry, going_on) or []
        # Not what an earlier play of this run has left.
        mine = {each["host"]: report_from(each["report"]) for each in entries if each["host"] in self.play_hosts}
        gone = [self._report(_failed(host, SKIPPED)) for host in self.play_hosts if host not in mine]
        report = joined([*mine.values(), *gone]) if mine else None
        if report is not None and report.lines:
            # In a play of the user's own there may be more consumers than its hosts: only multicart_hosts names all.
            disarm()
            whole = "multicart_hosts" in self.variables and set(self.consumers()) <= set(self.play_hosts)
            monitoring.tell(replace(report, whole=whole))

    def _report(self, result: ActResult) -> Report:
        versions, made_at = Versions(VERSION, core_version), utc_now()
        return replace(report_of(result, self.account, versions, made_at), run="deploy")

    def _deploy_live(self, options: Options) -> dict[str, Any]:
        refuse_facts(self.variables)
        spec = read_spec(self)
        if options.given["phase"] == "deploy" and not spec.has_stores:
            self.store.put(STORES, self._name, [])
        if not spec.files and not spec.others:
            raise MulticartError(Reason.NO_FILES, "It has no files of this account.")
        if not spec.files:
            self._came_of = ActResult() if options.given["phase"] == "deploy" else None
            # Nothing to do there, so that it need not even be reachable.
            return {"msg": "No files of this account.", "state": None}
        later = options.given["phase"] == "deploy_later"
        if bool(spec.wave) != later:
            if later and self.store.get(STORES, self._name) is None:
                raise MulticartError(Reason.NOT_RUN, "The task before this one has done nothing for this host.")
            return {"msg": "It is deployed by another task, before or after the stores.", "skipped": True}
        account = AccountOfRun(options.connection, this_run())
        own = own_host(self, self._name, spec)
        try:
            served = self._stores_served() if own.has_readers_alone else None
            result = Act([own], account, check_mode=bool(self._task.check_mode)).deploy(served)
            self._came_of = result
        finally:
            end_rest([own.session] if own.session is not None else [])
        host = result.hosts[0]
        if own.has_stores:
            self.store.put(STORES, self._name, [host.up_to_date])
        for note in host.notes:
            self.say(f"{host.name}: {note}")
        if host.standing.state is State.UNREACHABLE:
            raise AnsibleConnectionFailure(host.message)
        return shown(result, host, result.error, self._task.diff)

    def _stores_served(self) -> bool:
        """Tell whether every store has the key, also of consumers that are no part of this play."""
        names = {*self.consumers(), *self.play_hosts}
        if "multicart_hosts" not in self.variables:  # a play of the user's own may be about a part of them
            names |= set(self.variables["groups"].get(DEFAULT_HOSTS) or ())
        has_any = False
        for name in sorted(names):
            served = self._served(name)
            if not all(served):
                return False
            has_any = has_any or bool(served)
        return has_any

    def _served(self, name: str) -> list[bool]:
        """Return whether the stores of a consumer have the key; empty: it has none."""
        left: list[bool] | None = self.store.get(STORES, name)
        if left is not None:
            return left
        own = internals.without_facts(internals.variables_of(self, self.variables, name))
        if may_have_stores(own, self.template_with(own), self.account):
            return [False]
        self.store.put(STORES, name, [])  # so that no other host has to find it out
        return []

    def _result(self, _options: Options) -> dict[str, Any]:
        result = self.store.take(RESULT, self._name)
        if result is None:
            raise MulticartError(Reason.NOT_RUN, "This run has done nothing for this host.")
        return {name: value for name, value in result.items() if name != "diff" or self._task.diff}


def _failed(host: str, why: str, error: MulticartError | None = None) -> ActResult:
    """Return what came of the deployment to a host that could not even be inspected."""
    standing = Standing(State.UNREADABLE, why.rstrip("."))
    return ActResult(error=error or verdict({host: standing}), hosts=[HostResult(host, standing)])
