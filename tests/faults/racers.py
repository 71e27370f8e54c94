# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that rotate the same account at once, and the API's own books of what each of them asked."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier, Event
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import Client
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Result

from tests.sandbox.shapes import JournalEntry

# As Ansible makes its workers.
_FORK = multiprocessing.get_context("fork")
_SECONDS = 240.0  # for a very busy machine


@dataclass(frozen=True)
class Told:
    """What one caller learnt, by fingerprints."""

    outcome: str
    reason: str | None
    says: str
    live: str | None
    previous: str | None
    proven: bool

    @classmethod
    def of(cls, result: Result) -> Told:
        error = result.error
        return cls(
            result.outcome.value,
            error and error.reason.value,
            str(error or ""),
            result.live and result.live.fingerprint,
            result.previous and result.previous.fingerprint,
            result.verified,
        )


def gate(number: int) -> Barrier:
    """Return a gate that opens when so many processes stand before it."""
    return _FORK.Barrier(number, timeout=_SECONDS)


def flag() -> Event:
    return _FORK.Event()


def race(number: int, work: Callable[[int], Result]) -> list[Told | None]:
    """Do the work in so many processes at once and return what each learnt; None: it was killed."""
    start = gate(number)

    def run(racer: int, sink: Pipe) -> None:
        start.wait()
        sink.send(Told.of(work(racer)))

    with warnings.catch_warnings():
        # Python 3.12 warns of forks while threads run; Ansible forks all the same.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        racers = [_start(run, racer) for racer in range(number)]
    return [_told(source, process) for source, process in racers]


def _start(run: Callable[[int, Pipe], None], racer: int) -> tuple[Pipe, Any]:
    source, sink = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=run, args=(racer, sink))
    process.start()
    sink.close()
    return source, process


def _told(source: Pipe, process: Any) -> Told | None:
    try:
        assert source.poll(_SECONDS), "a racer hangs"
        told: Told = source.recv()
        return told
    except EOFError:
        process.join(_SECONDS)
        assert process.exitcode == -signal.SIGKILL, "a racer failed, see its traceback"
        return None
    finally:
        source.close()
        process.kill()
        process.join(_SECONDS)


def once(method: str, before: Callable[[], object] | None = None, after: Callable[[], object] | None = None) -> None:
    """Let this process do something before or after the first of its calls of that kind to the API."""
    call = getattr(Client, method)
    due = [True]

    @functools.wraps(call)
    def watched(*arguments: Any) -> Any:
        first, due[:] = bool(due), []
        if first and before:
            before()
        answer = call(*arguments)
        if first and after:
            after()
        return answer

    setattr(Client, method, watched)


def die() -> None:
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def by_caller(journal: Iterable[JournalEntry], callers: dict[str, int]) -> dict[int, list[JournalEntry]]:
    """Sort requests by caller: each has a session token of its own, and reads with it first on every connection.

    :param callers: callers by the fingerprint of their token.
    """
    found: dict[int, list[JournalEntry]] = defaultdict(list)
    on: dict[int, int] = {}
    for entry in journal:
        if entry["credential"] == "token":
            on[entry["connection"]] = callers[entry["fingerprint"] or ""]
        found[on[entry["connection"]]].append(entry)
    return found
