# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The user's own programs on the control node, which get the report of a run. Their output is dropped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import RUN_EVENTS

LIMIT = 30
"""Seconds that a hook may take."""

_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""What a hook gets of the environment: the rest may be the credentials of anything."""


class NotAHook(ValueError):
    """An entry is no hook. Its text ends the sentence "The variable ...", and repeats nothing of what was given."""


class HookFailed(Exception):
    """A hook failed; why, in words of this collection."""


@dataclass(frozen=True)
class Hook:
    """A program, and the events on which it runs.

    :ivar name: what to call it.
    """

    name: str
    command: tuple[str, ...]
    events: frozenset[str]

    def run(self, report: bytes) -> None:
        """Hand it the report.

        :raises HookFailed: it did.
        """
        with _ended_with_this_process() as watch:
            try:
                process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or type(error).__name__
                raise HookFailed(f"it cannot be run ({why})") from None
            try:
                watch(process)
                process.communicate(report, timeout=LIMIT)
            except subprocess.TimeoutExpired:
                raise HookFailed(f"it did not end within {LIMIT} s, and was killed") from None
            finally:
                _kill_group(process)  # what it has started may go on without it
                process.wait()
        if process.returncode:
            raise HookFailed(f"exit status {process.returncode}")


@contextmanager
def _ended_with_this_process() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """End a program when this process is ended, as when a run is broken off: nobody would watch its time any more.

    A signal that comes while the program is being started waits until it is watched.
    """
    watched: list[subprocess.Popen[bytes]] = []
    came: list[int] = []

    def end(number: int, _frame: object) -> None:
        came.append(number)
        if watched:
            pass_on()

    def pass_on() -> None:
        for process in watched:
            _kill_group(process)
        number = came.pop()
        signal.signal(number, before[number])
        os.kill(os.getpid(), number)

    def watch(process: subprocess.Popen[bytes]) -> None:
        watched.append(process)
        if came:
            pass_on()

    # Ansible's workers have handlers of their own, which come next.
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    before: dict[int, Any] = {
        number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)
    }
    for number in before:
        signal.signal(number, end)
    try:
        yield watch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came.pop())


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def hooks_of(entries: Sequence[Any], secrets: Sequence[str]) -> list[Hook]:
    """Read the entries of ``multicart_report_hooks``.

    :param secrets: none of them may be in a command.
    :raises NotAHook: one is wrong.
    """
    return [_hook(f"entry {number}", entry, secrets) for number, entry in enumerate(entries, 1)]


def _hook(name: str, entry: Any, secrets: Sequence[str]) -> Hook:
    if not isinstance(entry, dict) or set(entry) != {"command", "events"}:
        raise NotAHook(f"needs command and events, and nothing else, in {name}")
    command, events = entry["command"], entry["events"]
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise NotAHook(f"needs a list of texts, the program and its arguments, as the command of {name}")
    if not isinstance(events, list) or not events or not all(event in RUN_EVENTS for event in events):
        raise NotAHook(f"needs a list of some of {', '.join(RUN_EVENTS)} as the events of {name}")
    if any(secret in word for secret in secrets for word in command):
        raise NotAHook(f"has a credential in the command of {name}, where every user of this machine can read it")
    if shutil.which(command[0]) is None:
        raise NotAHook(f"names a program in {name} that is missing on this machine, or cannot be run")
    # Plain texts: those of Ansible have more in them.
    return Hook(f"{name} ({os.path.basename(command[0])})", tuple(map(str, command)), frozenset(map(str, events)))
