# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The ways to a host's program over a connection of Ansible's: held open, given its whole input, or copied there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import program
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Ended, Link, LinkError, Pipes


def link_to(action: ActionBase, settings: Mapping[str, Any], may_hold: bool = True) -> Link:
    """Return the best way to the host that an action is connected to.

    :param settings: of that connection, by `internals.settings_of`.
    :param may_hold: whether the program's input may be kept open.
    """
    copied = _Copied(action, settings)
    if not internals.can_send_input(action):
        return copied
    if may_hold and internals.is_ssh_of_core(action._connection):
        return _Held(action, settings, copied)
    return _Sent(action, settings, copied)


class _Way:
    """What all ways have in common."""

    holds = False

    def __init__(self, action: ActionBase, settings: Mapping[str, Any], with_terminal: Link | None = None) -> None:
        self._action = action
        self._settings = settings
        self.with_terminal = with_terminal

    def converse(self, talk: Callable[[Pipes], bytes]) -> Ended:
        raise NotImplementedError

    def _command(self, path: str | None = None) -> str:
        settings = self._settings
        return program.command(settings["python"], settings["fallbacks"], settings["environment"], path)

    def _ended(self, run: Callable[[], tuple[int, bytes, bytes]], complaints: Callable[[], bytes] = bytes) -> Ended:
        try:
            return Ended(*run())
        except AnsibleError as error:
            raise LinkError(*internals.explain(error, complaints())) from None


class _Held(_Way):
    """The program's input stays open: over exactly ``ansible.builtin.ssh``, with pipelining."""

    holds = True

    def converse(self, talk: Callable[[Pipes], bytes]) -> Ended:
        complaints: list[bytes] = []

        def lead(to_program: Any, process: Any) -> None:
            complaints.append(talk(Pipes(to_program, process.stdout, process.stderr, process)))

        internals.hold(self._action._connection, lead)
        return self._ended(
            lambda: internals.execute(self._action, self._command(), b"held"), lambda: b"".join(complaints)
        )

    def run(self, requests: bytes) -> Ended:
        raise NotImplementedError


class _Sent(_Way):
    """The program gets its whole input at once: over every other connection with pipelining."""

    def run(self, requests: bytes) -> Ended:
        return self._ended(lambda: internals.execute(self._action, self._command(), program.HEADER + requests))


class _Copied(_Way):
    """The program is copied to the host as a file: without pipelining, or where sudo insists on a terminal."""

    def run(self, requests: bytes) -> Ended:
        return self._ended(lambda: internals.execute_file(self._action, program.script(requests), self._command))
