# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the actions have in common that look at all consumers of a run, by what the roles registered on them."""

from __future__ import annotations

from typing import Any

from ansible.plugins.loader import lookup_loader
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import ControllerAction
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import SEEN, WRITTEN
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import plan as fleet

DEFAULT_HOSTS = "multicart_consumers"


class FleetAction(ControllerAction):
    """Finds the consumers of this run and reads what their tasks registered; unreachable ones are among them."""

    _need_all = False
    """Whether consumers that are left out of the play count."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._looked_up: dict[str, dict[str, Any]] = {}
        return super().run(tmp, task_vars)

    def _fleet(self, *looks: str) -> list[fleet.Consumer]:
        """Return the consumers of this run's account, each from the first of the looks that registered its files."""
        names = [name for name in self._consumers() if not self._is_of_other_account(name)]
        seen = {name: [self._registered(name, look) for look in looks] for name in names}
        return [
            fleet.consumer_from(name, next((look for look in results if "files" in look), results[0]))
            for name, results in seen.items()
        ]

    def _is_of_other_account(self, name: str) -> bool:
        return any(self._registered(name, look).get("other_account") for look in (SEEN, WRITTEN))

    def _registered(self, host: str, name: str) -> dict[str, Any]:
        return self._hostvars(host).get(name) or {}

    def _hostvars(self, host: str) -> dict[str, Any]:
        # Raw, because templating the result of a skipped task warns of what ansible-core itself has put there. Kept,
        # because with a thousand hosts each look costs.
        if host not in self._looked_up:
            self._looked_up[host] = self.variables["hostvars"].raw_get(host)
        return self._looked_up[host]

    def _consumers(self) -> list[str]:
        here = set(self.variables["ansible_play_hosts_all"])
        return [name for name in self._matching() if self._need_all or name in here]

    def _matching(self) -> list[str]:
        pattern = self._pattern()
        if pattern is None:  # by the play's own pattern, as its list of hosts is what --limit has left of them
            pattern = ":".join(str(host) for host in self._task.get_play().hosts)
        lookup = lookup_loader.get("ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar)
        return [str(name) for name in lookup.run([pattern], variables=self.variables)]

    def _pattern(self) -> str | None:
        """Return the host pattern of the consumers; None: the hosts of the play. A survey's empty field is unset."""
        pattern = self._templar.template(self.variables.get("multicart_hosts"))
        return None if pattern is None else str(pattern) or DEFAULT_HOSTS
