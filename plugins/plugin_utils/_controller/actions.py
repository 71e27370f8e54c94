# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The bases of all actions that run in the control node's process: options, errors, results."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import RunStore
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import account_of
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Option, Options, resolve, templated

_display = Display()

OUR_VARIABLES = "multicart_"
"""How the names of all variables of this collection begin."""

DEFAULT_HOSTS = "multicart_consumers"
"""The group of the consumers."""


def options_of(
    known: Iterable[Option], given: Mapping[str, Any], variables: Mapping[str, Any], templar: Any
) -> Options:
    """Resolve the options of a task or lookup against its variables and the control node's environment.

    No fact of a host is among the variables: it could name the URL to which credentials are sent.

    :raises MulticartError: for whatever is wrong with them.
    """
    refuse_facts(variables)
    own = internals.without_facts(variables)
    given = internals.without_omitted(dict(given), own)
    return resolve(known, given, own, internals.template_with(templar, own), os.environ)


def failure(error: MulticartError) -> dict[str, Any]:
    """Return the part of a failed result that says why."""
    return {"failed": True, "msg": str(error), "reason": error.reason.value}


def refuse_facts(variables: Mapping[str, Any]) -> None:
    """Refuse a host whose facts have names of this collection: what a host says sets no option, path or URL.

    :raises MulticartError: ``facts_refused``; it names the first of them.
    """
    names = sorted(name for name in internals.seen_facts(variables) if name.startswith(OUR_VARIABLES))
    if names:
        shown = names[0] if names[0].replace("_", "").isalnum() and names[0].isascii() else "a variable"
        raise MulticartError(Reason.FACTS_REFUSED, f"Its facts set {shown[:60]}.")


class ControllerAction(ActionBase):
    """Resolves the options, acts, and turns every error into a result that is safe to show."""

    known: ClassVar[tuple[Option, ...]]
    """The options of the task."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        arguments = internals.take_arguments(self)
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        self.variables: dict[str, Any] = task_vars or {}
        try:
            self.prepare()
            options = options_of(self.known, arguments, self.variables, self._templar)
            if options.given.get("reveal"):
                self._refuse_open_loop()
            return {**result, **self.act(options)}
        except MulticartError as error:
            return {**result, **self.failed(error)}
        except AnsibleError:
            raise  # an unreachable host, for example; its text is Ansible's own
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            return {**result, **self.failed(unexpected(error))}

    def prepare(self) -> None:
        """Choose the variables that the options are resolved against.

        :raises MulticartError: why the task is refused.
        """

    def warn(self, line: str) -> None:
        """Show a warning."""
        _display.warning(line)

    @property
    def play_hosts(self) -> list[str]:
        """The hosts of the play, those included that have failed."""
        return [str(host) for host in self.variables.get("ansible_play_hosts_all") or ()]

    @property
    def hosts_pattern(self) -> Any:
        """The pattern of the consumers, a text or a list: that of multicart_hosts, or the play's own."""
        pattern = self.value_of("multicart_hosts")
        if pattern is None:
            return internals.play_pattern(self)
        return pattern or DEFAULT_HOSTS  # a survey's empty field is unset

    @property
    def account(self) -> str:
        """The name of the account that this run is about."""
        own = internals.without_facts(self.variables)
        return account_of(own, self.template_with(own))

    @property
    def store(self) -> RunStore:
        """What this run keeps for its other tasks about this account."""
        return RunStore(self.account)

    def consumers(self) -> list[str]:
        """Return all consumers, whatever ``--limit`` says."""
        pattern = self.hosts_pattern
        names = internals.hosts_matching(self.variables, pattern)
        # The implicit localhost is in a play, but in no inventory.
        return names or [host for host in self.play_hosts if pattern in (host, [host])]

    def value_of(self, name: str, raw: Any = None) -> Any:
        """Return a variable of the task, templated, that no fact sets.

        :param raw: a value of the same variable that came from elsewhere.
        :raises MulticartError: ``invalid_option``.
        """
        own = internals.without_facts(self.variables)
        return templated(name, own.get(name) if raw is None else raw, self.template_with(own))

    def template_with(self, variables: Mapping[str, Any]) -> Callable[[Any], Any]:
        """Return what templates a value with these variables."""
        return internals.template_with(self._templar, variables)

    def _refuse_open_loop(self) -> None:
        """Before ansible-core 2.19, callbacks get the items of a loop as they are, although each is to be censored."""
        loops = self._task.loop is not None or self._task.loop_with
        if loops and not self._task.no_log and not internals.IS_CORE_2_19:
            raise MulticartError(
                Reason.INVALID_OPTION,
                "The option reveal in a loop needs no_log: true on the task with this ansible-core.",
                "Nothing was changed; add it and run again. ansible-core 2.19 and later no longer need it.",
            )

    @abstractmethod
    def act(self, options: Options) -> dict[str, Any]:
        """Do the work and return the task's result.

        :raises MulticartError: why it failed.
        """

    def failed(self, error: MulticartError) -> dict[str, Any]:
        """Return the result of a failure."""
        return failure(error)

    def say(self, line: str) -> None:
        """Show a line, at any verbosity and as it is: a result would be shown as data, and JSON must not have it."""
        _display.display(f"  {line}", stderr=internals.prints_data())


class FleetAction(ControllerAction):
    """Runs once for all hosts of the play, in one process; the strategies free and host_pinned refuse it themselves."""

    BYPASS_HOST_LOOP = True

    def prepare(self) -> None:
        """Take the variables of the first consumer whose facts do not meddle: another one decides nothing.

        A play on all hosts has others too, which may lack what is set for the group of the consumers.

        :raises MulticartError: ``facts_refused``: there is none.
        """
        first = str(self.variables.get("inventory_hostname"))
        hosts, consumers = [first, *self.play_hosts], dict.fromkeys(self.consumers())
        here = [host for host in hosts if host in consumers] or consumers
        for name in dict.fromkeys([*here, *hosts]):
            found = self.variables if name == first else internals.variables_of(self, self.variables, name)
            try:
                refuse_facts(found)
            except MulticartError:
                continue
            self.variables = found
            return
        refuse_facts(self.variables)
