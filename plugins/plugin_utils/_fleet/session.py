# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""A host session, seen from the control node: requests to one host's program, each answered within its own limit.

A session has a thread of its own, which talks to the host over a *link*. Over one that holds a conversation the program
is started once and serves all requests, so that it waits for the key before there is one: it is *armed*. Over any other
link each request starts the program again. No Ansible, no HTTP.
"""

from __future__ import annotations

import json
import math
import os
import queue
import secrets
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO, Any, Protocol

from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.program import HEADER, NO_PYTHON
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import Problem

LONGEST_OUTPUT = 4 * 1024 * 1024
"""Bytes that a host may print for one request; one that prints more is given up."""

GRACE = 1.0
"""Seconds after the limit of a request in which its own session may end it."""

LEAVING = 5.0
"""Seconds in which a host's program ends after its input has ended."""

ARMED = 86400.0
"""Seconds for which a host's program waits for the next request before it leaves by itself: longer than any act.

The slowest rotation that `timeout` allows takes less, and so do all restarts and health checks of the slowest other
host. It is the end of the connection that ends a program whose control node is gone.
"""


class LinkError(Exception):
    """A host's program could not be started, or ended before its time.

    :ivar reached: whether there was a connection at all.
    :ivar needs_terminal: whether it may work with a terminal instead of an input of our own.
    """

    def __init__(self, reason: str, text: str, reached: bool = True, needs_terminal: bool = False) -> None:
        super().__init__(text)
        self.problem = Problem(reason, text)
        self.reached = reached
        self.needs_terminal = needs_terminal


@dataclass(frozen=True)
class Ended:
    """How a host's program ended: its exit status, what it printed, and its complaints."""

    status: int
    output: bytes = b""
    complaints: bytes = b""


@dataclass(frozen=True)
class Pipes:
    """This side's ends of a running program, and the local process that leads to it.

    :ivar header: what it reads before the first request.
    """

    to_program: IO[bytes]
    from_program: IO[bytes]
    complaints: IO[bytes]
    process: subprocess.Popen[bytes]
    header: bytes = HEADER


class Link(Protocol):
    """The way to one host. Its methods block, and raise `LinkError`.

    :ivar holds: whether it holds a conversation.
    :ivar with_terminal: another way, for a host that insists on a terminal; None: there is none.
    """

    holds: bool
    with_terminal: Link | None

    def converse(self, talk: Callable[[Pipes], bytes]) -> Ended:
        """Start the program, call ``talk`` with its open pipes, and wait for its end.

        :param talk: returns the complaints that it has read, which nobody else can read any more.
        """

    def run(self, requests: bytes) -> Ended:
        """Start the program with these requests as its whole input, and wait for its end."""


class Reply:
    """What comes of one request.

    :ivar said: the host's answer, any JSON.
    :ivar error: why there is none.
    :ivar began: when its session turned to it, by ``time.monotonic()`` of this machine; None: not yet.
    :ivar moments: when each event happened on the way to the answer, likewise.
    :ivar written: the host has told that it has written all.
    """

    def __init__(self, session: Session, request: Mapping[str, Any], limit: float, first: float) -> None:
        self.request = request
        self.limit = limit
        self.first = first
        self.began: float | None = None
        self._session = session
        self.said: Any = None
        self.error: LinkError | None = None
        self.moments: dict[str, float] = {}
        self.written = False
        self._heard = threading.Event()
        self._done = threading.Event()

    @property
    def answered(self) -> bool:
        return self._done.is_set() and self.error is None

    def resolve(self, said: Any = None, error: LinkError | None = None) -> None:
        """Give the answer, or why there is none; only the first counts."""
        if not self._done.is_set():
            self.said, self.error = said, error
            self._done.set()
            self._heard.set()

    def end_if_late(self) -> None:
        """End its session if the answer should have been here by now."""
        if self.began is not None and not self._done.is_set() and time.monotonic() > self.began + self.limit + GRACE:
            self._session.give_up(_late(self.limit))

    def note(self, event: str) -> None:
        """Note that an event is here, so that the answer may take its whole time."""
        self.written = self.written or event == "written"
        self._heard.set()

    def wait(self, seconds: float) -> bool:
        """Wait for what comes of it; False: nothing yet."""
        return self._done.wait(max(0.0, seconds))

    def wait_for_first(self, seconds: float) -> bool:
        """Wait for the first event, or what else comes of it; False: nothing yet."""
        return self._heard.wait(max(0.0, seconds))


class Session:
    """One host's session. No method but ``join`` waits: what comes of a request is in its `Reply`.

    :param gate: bounds how many hosts are connected to at a time.
    """

    def __init__(self, name: str, link: Link, gate: threading.Semaphore) -> None:
        self.name = name
        self._link = link
        self._gate = gate
        self._inbox: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._pending: list[Reply] = []
        self._let_next = _Once(lambda: None)
        self._clock: tuple[float, float] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints = b""
        self._over: LinkError | None = None
        self._thread: threading.Thread | None = None

    @property
    def holds(self) -> bool:
        """Whether the program waits for the key, so that nothing has to be started when there is one."""
        return self._link.holds

    @property
    def over(self) -> LinkError | None:
        """Why the session has come to an end before its time; None: it has not."""
        return self._over

    def ask(self, phase: str, limit: float, first: float | None = None, **fields: Any) -> Reply:
        """Send a request.

        :param limit: seconds in which its answer must be here.
        :param first: seconds in which at least its first event must be here.
        :param fields: what it holds besides, see :mod:`_phases`.
        """
        first = limit if first is None else first
        request = {"phase": phase, "tag": secrets.token_hex(8), "wait": ARMED, "limit": limit, "first": first, **fields}
        reply = Reply(self, request, limit, first)
        self._pending.append(reply)
        if self._over is not None:
            reply.resolve(error=self._over)
            return reply
        self._inbox.put(reply)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"multicart {self.name}", daemon=True)
            self._thread.start()
        return reply

    def end(self) -> None:
        """End the program's input: it leaves without a further change."""
        self._inbox.put(None)

    def give_up(self, error: LinkError) -> None:
        """End the session at once; no request of it gets an answer any more."""
        self._over = self._over or error
        for reply in self._pending:
            reply.resolve(error=self._over)
        self._inbox.put(None)
        self._let_next()
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()

    def join(self, seconds: float) -> bool:
        """Wait for the session's thread; False: it still goes on."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
        return self._thread is None or not self._thread.is_alive()

    # --- in the session's own thread ---------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._serve_over(self._link)
        except LinkError as error:
            self.give_up(error)
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            self.give_up(LinkError("internal_error", f"unexpected {type(error).__name__} in its session"))

    def _serve_over(self, link: Link) -> None:
        try:
            if link.holds:
                self._serve_at_once(link)
            else:
                self._serve_one_by_one(link)
        except LinkError as error:
            if not error.needs_terminal or link.with_terminal is None or self._clock is not None:
                raise
            self._link = link.with_terminal
            for reply in [reply for reply in self._pending if not reply.answered]:
                self._inbox.put(reply)
            self._serve_over(self._link)

    def _serve_one_by_one(self, link: Link) -> None:
        while (reply := self._inbox.get()) is not None:
            self._take_turn(reply)
            try:
                if self._over is not None:  # what was reported as failed must not be done later
                    return
                reader = self._reader(reply)
                ended = link.run(_line(reader.request))
                reader.feed(ended.output)
            finally:
                self._let_next()
            if not reader.done:
                raise _failure_of(ended)
            self._answer(reply, reader)

    def _take_turn(self, reply: Reply) -> None:
        """Wait until few enough hosts are being connected to."""
        self._gate.acquire()
        self._let_next = _Once(self._gate.release)
        reply.began = time.monotonic()

    def _serve_at_once(self, link: Link) -> None:
        """Start the program once; the gate is passed when it has answered for the first time, or has failed."""
        first = self._inbox.get()
        if first is None:
            return
        self._take_turn(first)
        try:
            if self._over is not None:
                return
            ended = link.converse(lambda pipes: self._talk(pipes, first))
        finally:
            self._let_next()
        if self._over is None and any(not reply.answered for reply in self._pending):
            raise _failure_of(replace(ended, complaints=ended.complaints + self._complaints))

    def _talk(self, pipes: Pipes, reply: Reply | None) -> bytes:
        self._process = pipes.process
        for pipe in (pipes.to_program, pipes.from_program, pipes.complaints):
            os.set_blocking(pipe.fileno(), False)
        header = pipes.header
        while self._over is None and reply is not None:
            reader = self._reader(reply)
            ended_by = _exchange(pipes, header + _line(reader.request), reader)
            self._complaints, header = reader.complaints, b""
            self._let_next()
            if ended_by == "host":
                break
            if ended_by is not None:
                self.give_up(_late(reader.limit) if ended_by == "limit" else _flooding())
                break
            self._answer(reply, reader)
            reply = self._inbox.get()
        _leave(pipes)
        return self._complaints

    def _reader(self, reply: Reply) -> _Reader:
        reply.began = reply.began or time.monotonic()
        request = dict(reply.request)
        if self._clock is not None:
            there, here = self._clock
            # A host that has begun by then tells so in time; one that begins later is no longer waited for.
            request["expires"] = there + (time.monotonic() - here) + reply.first
        return _Reader(request, reply)

    def _answer(self, reply: Reply, reader: _Reader) -> None:
        self._clock = self._clock or reader.clock
        reply.moments = reader.moments
        reply.resolve(reader.said)


def wait_for(replies: Sequence[Reply], watch: Callable[[], None] = lambda: None) -> None:
    """Wait for all replies, for each until its own limit has passed; that counts from its session's turn.

    :param watch: called again and again meanwhile; what it raises ends the wait.
    """
    for reply in replies:
        while not reply.wait(0.1):
            watch()
            for each in replies:
                each.end_if_late()


def _late(seconds: float) -> LinkError:
    return LinkError("timed_out", f"it did not answer within {seconds:g} s")


def _flooding() -> LinkError:
    return LinkError("malformed_answer", f"it printed more than {LONGEST_OUTPUT >> 20} MiB instead of an answer")


def _line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request).encode("ascii") + b"\n"


class _Once:
    """Calls a function once, however often it is called itself."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


class _Reader:
    """Finds the events and the answer to one request in what a host prints."""

    def __init__(self, request: Mapping[str, Any], reply: Reply) -> None:
        self.request = request
        self.began = reply.began or time.monotonic()
        self.said: Any = None
        self.done = False
        self.clock: tuple[float, float] | None = None
        self.moments: dict[str, float] = {}
        self.printed = 0
        self.complaints = b""
        self._reply = reply
        self._tag = str(request["tag"]).encode("ascii") + b" "
        self._events: list[tuple[str, float, float]] = []
        self._rest = b""

    @property
    def limit(self) -> float:
        """Seconds after the beginning in which something more must come."""
        return self._reply.limit if self._events else self._reply.first

    def feed(self, output: bytes) -> None:
        """Take more of what the host printed; what is not an answer to this request is ignored."""
        self.printed += len(output)
        *lines, self._rest = (self._rest + output).split(b"\n")
        for line in lines:
            if line.startswith(self._tag) and not self.done:
                self._take(line[len(self._tag) :], time.monotonic())

    def note(self, complaints: bytes) -> None:
        """Take more of what the host complained about, on its way and in its program."""
        self.printed += len(complaints)
        self.complaints = (self.complaints + complaints)[-4096:]

    def _take(self, text: bytes, now: float) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        at = said.pop("at", None) if isinstance(said, dict) else None
        there = at if isinstance(at, float) and math.isfinite(at) else now
        event = said.get("event") if isinstance(said, dict) else None
        if isinstance(event, str):
            self._events.append((event, there, now))
            self._reply.note(event)
            return
        self.said, self.done, self.clock = said, True, (there, now)
        # How long ago something was is the host's to say, but not when: its clock may be wrong.
        self.moments = {
            event: min(max(self.began, now - (there - then)), arrived) for event, then, arrived in self._events
        }


def _exchange(pipes: Pipes, data: bytes, reader: _Reader) -> str | None:
    """Send a request and read until its answer; return what ended that too early: ``host``, ``limit``, ``flood``."""
    to_program, from_program, complaints = (
        pipe.fileno() for pipe in (pipes.to_program, pipes.from_program, pipes.complaints)
    )
    poll, waiting = select.poll(), memoryview(data)
    for descriptor in (from_program, complaints):
        poll.register(descriptor, select.POLLIN)
    poll.register(to_program, select.POLLOUT)
    while not reader.done:
        left = reader.began + reader.limit - time.monotonic()
        if left <= 0:
            return "limit"
        if reader.printed > LONGEST_OUTPUT:
            return "flood"
        for descriptor, _event in poll.poll(left * 1000):
            if descriptor == to_program:
                waiting = waiting[_written(to_program, waiting) :]
                if not waiting:
                    poll.unregister(to_program)
            elif (output := _read(descriptor)) is None:
                continue
            elif descriptor == complaints:
                reader.note(output)
                if not output:
                    poll.unregister(complaints)
            else:
                reader.feed(output)
                if not output and not reader.done:
                    return "host"
    return None


def _written(descriptor: int, data: memoryview) -> int:
    """Write as much as goes at once, and return how much; all, if nobody reads it any more."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:  # what was printed before the end may still say why
        return len(data)


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _leave(pipes: Pipes) -> None:
    """End the program's input, and see to it that the program ends."""
    with suppress(OSError):
        pipes.to_program.close()
    deadline = time.monotonic() + LEAVING
    poll = select.poll()
    poll.register(pipes.from_program.fileno(), select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000) and _read(pipes.from_program.fileno()) == b"":
            return
    with suppress(OSError):
        pipes.process.kill()


_NOT_BECOME = {
    (b"a password is required", b"Authentication required", b"Password:"): (
        "becoming another user needs a password there: set ansible_become_password"
    ),
    (b"incorrect password", b"Authentication failed"): "incorrect become password",
    (b"not in the sudoers file", b"not allowed to", b"doas: Operation not permitted"): (
        "the user that it is connected to as may not become another one there"
    ),
}


def _failure_of(ended: Ended) -> LinkError:
    """Say why a host's program ended without an answer; what it printed is not quoted."""
    if ended.status == NO_PYTHON:
        return LinkError(
            "python_missing", "it has no Python 3.6 or later: install it, or set ansible_python_interpreter"
        )
    said = ended.complaints + ended.output
    if b"tty" in said:
        return LinkError(
            "terminal_needed",
            "its sudo insists on a terminal (requiretty): set ansible_pipelining to false for this host, or remove "
            "requiretty from sudoers",
            needs_terminal=True,
        )
    for words, why in _NOT_BECOME.items():
        if any(word in said for word in words):
            # Without a terminal, doas does not even ask for the password.
            return LinkError("become_failed", why, needs_terminal=b"doas" in said)
    return LinkError("no_answer", f"its Python gave no answer (exit status {ended.status}); ansible -m ping shows why")
