# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done for each host by a task of its own; the documentation is with the module of the same name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import ControllerAction, refuse_facts
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.consumers import (
    join,
    own_host,
    read_spec,
    shown,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import (
    RESULT,
    STORES,
    RunStore,
    this_run,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import end_rest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import account_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import State
from ansible_collections.multicart.keys.plugins.plugin_utils._options import HOST, Options


class ActionModule(ControllerAction):
    """The action of M(multicart.keys.multicart_host)."""

    known = HOST

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

    @property
    def _store(self) -> RunStore:
        own = internals.without_facts(self.variables)
        return RunStore(account_of(own, self.template_with(own)))

    def _join(self, _options: Options) -> dict[str, Any]:
        if self._task.delegate_to:  # the connection would be that to another host
            raise MulticartError(Reason.NOT_WHOLE, "This cannot be run with delegate_to.")
        join(self, self._store, self._name, self.variables)
        return {}

    def _deploy(self, options: Options) -> dict[str, Any]:
        refuse_facts(self.variables)
        spec = read_spec(self, self.variables)
        if not spec.files:
            # Nothing to do there, so that it need not even be reachable.
            return {"msg": "No files of this account.", "state": None}
        if bool(spec.wave) != (options.given["phase"] == "deploy_later"):
            return {"msg": "It has its turn in another task, after or before the stores.", "skipped": True}
        account = AccountOfRun(options.connection, this_run())
        own = own_host(self, self._name, spec, self.variables)
        try:
            served = all(self._store.all(STORES) or [False]) if own.has_readers_alone else None
            result = Act([own], account, check_mode=bool(self._task.check_mode)).deploy(served)
        finally:
            end_rest([own.session] if own.session is not None else [])
        host = result.hosts[0]
        if own.has_stores:
            self._store.put(STORES, self._name, host.up_to_date)
        if host.standing.state is State.UNREACHABLE:
            raise AnsibleConnectionFailure(host.message)
        return shown(result, host, result.error, self._task.diff)

    def _result(self, _options: Options) -> dict[str, Any]:
        result = self._store.take(RESULT, self._name)
        if result is None:
            raise MulticartError(Reason.NOT_RUN, "This run has done nothing for this host.")
        return {name: value for name, value in result.items() if name != "diff" or self._task.diff}
