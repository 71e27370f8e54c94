# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The stores' side of a session: a process of the control node that answers the requests which a host answers, too.

All stores of a consumer are asked at the same time, each in a thread; one that hangs fails alone when the time of the
request is over, and has no further part in the session.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ansible_collections.multicart.keys.plugins.module_utils import _phases
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import Conflict, StoreError
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.stored_key import StoredKey

MARGIN = 0.5
"""Seconds before the limit of a request at which a store that has not answered is given up."""

MEMORY = 1024 * 1024 * 1024
"""Bytes that the process may take: the largest library needs 50 MiB."""

MEMORY_PER_STORE = 32 * 1024 * 1024
"""Bytes besides for each store: the whole stacks of its threads count."""

STACK = 8 * 1024 * 1024
"""Bytes of a thread's stack, whatever limit the user has set for it: by that, one store could take all memory."""


class _Asked:
    """One store, asked for something in a thread of its own.

    :ivar hangs: it has not answered in time, and is asked nothing more.
    :ivar served: the key was written, and what reads it restarted.
    """

    def __init__(self, stored: StoredKey) -> None:
        self.stored = stored
        self.hangs = False
        self.served = True
        self._thread: threading.Thread | None = None
        self._error: StoreError | None = None

    def begin(self, act: Callable[[StoredKey], None]) -> None:
        if not self.hangs:
            self._error = None
            self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
            self._thread.start()

    def end(self, deadline: float) -> dict[str, str] | None:
        """Return what is wrong; None: it has done what it was asked for."""
        if self._thread is not None and not self.hangs:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            self.hangs = self._thread.is_alive()
        error = StoreError("timed_out", "it did not answer in time") if self.hangs else self._error
        return None if error is None else {"reason": error.reason, "text": self.stored.explain(error)}

    def _run(self, act: Callable[[StoredKey], None]) -> None:
        try:
            act(self.stored)
        except StoreError as error:
            self._error = error
        except Conflict:
            self._error = StoreError("store_conflict", "somebody else changes it at this moment: run again later")
        except MemoryError:
            self._error = StoreError(
                "store_malformed", f"what it answers takes more than {MEMORY >> 30} GiB of memory: check the entry"
            )
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            self._error = StoreError("internal_error", f"unexpected {type(error).__name__}")


class Stores:
    """All stores of one consumer, from the first request to the last."""

    def __init__(self) -> None:
        self._asked: list[_Asked] = []

    def answer(self, request: _phases.Request, tell: _phases.Tell) -> _phases.Answer:
        """Do what a request asks for; see :mod:`_phases`."""
        began = time.monotonic()
        deadline = began + request["limit"] - MARGIN
        if not self._asked:
            _limit_memory(MEMORY + MEMORY_PER_STORE * len(request["files"]))
            self._asked = [_Asked(StoredKey(entry)) for entry in request["files"]]
        for each, entry in zip(self._asked, request["files"], strict=True):
            if not each.hangs:
                each.stored.begin(request, entry["inspected"])
        phase = request["phase"]
        if phase == "inspect":
            return {**self._inspect(deadline), "lacking": [], "processes": []}
        if phase == "deploy":
            return self._deploy(tell, began + request["first"] - MARGIN, deadline, request["check_mode"])
        if phase == "close":
            served = [each for each in self._asked if each.served]
            return self._answer(self._ask(StoredKey.close, served, deadline))
        if phase == "ping":
            return {}
        act = StoredKey.prepare if phase == "prepare" else StoredKey.conclude
        return self._answer(self._ask(act, self._asked, deadline))

    def _inspect(self, deadline: float) -> _phases.Answer:
        failed = self._ask(StoredKey.inspect, self._asked, deadline)
        for each in self._asked:
            each.stored.problem = failed.get(each.stored)  # each tells its own
        return {"files": [each.stored.describe() for each in self._asked]}

    def _deploy(self, tell: _phases.Tell, written_by: float, deadline: float, check_mode: bool) -> _phases.Answer:
        failed = self._ask(StoredKey.write, self._asked, written_by)
        for problem in [failed[each.stored] for each in self._asked if each.hangs]:
            problem["text"] += "; whether the key was written there is not known"
        if not check_mode:
            # One that fails, or hangs, takes from the others no time in which they may restart what reads them.
            tell("write_failed" if failed else "written")
            written = [each for each in self._asked if each.stored not in failed]
            failed.update(self._ask(StoredKey.finish, written, deadline))
            if any(each.stored.restarted for each in self._asked):
                tell("restarted")
            for each in self._asked:
                each.served = each.stored not in failed
        # Those that were served are closed, whatever has failed at the others.
        return {**self._answer(failed), "steps_done": not check_mode}

    def _ask(
        self, act: Callable[[StoredKey], None], asked: Sequence[_Asked], deadline: float
    ) -> dict[StoredKey, dict[str, str]]:
        """Ask stores for something, all at once; return what is wrong with which."""
        for each in asked:
            each.begin(act)
        problems = {each.stored: each.end(deadline) for each in asked}
        return {stored: problem for stored, problem in problems.items() if problem is not None}

    def _answer(self, failed: Mapping[StoredKey, dict[str, str]]) -> _phases.Answer:
        return {
            "files": [each.stored.describe() for each in self._asked],
            "changed": any(each.stored.changed for each in self._asked),
            "problems": list(failed.values()),
        }


def _limit_memory(size: int) -> None:
    """Let this process, and each that it starts, take no more memory: the libraries read whatever is answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > size:
        with suppress(OSError, ValueError):  # not every system has such a limit
            resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def main() -> None:
    """Answer requests on the standard input and output, and leave without waiting for what hangs."""
    threading.stack_size(STACK)
    logging.disable()  # of the libraries, which may log what they send
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):  # whatever a library prints is no answer
        os.dup2(nothing, descriptor)
    with os.fdopen(os.dup(0), "rb") as requests:
        os.dup2(nothing, 0)
        _phases.serve(requests, answers, Stores().answer)
    os.killpg(0, signal.SIGKILL)  # also what hangs in a thread, and what that has started
