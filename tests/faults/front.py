# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands between client and service and breaks what no server can break: connections, and single requests."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from tests.ports import OwnPort

Ask = Callable[[bytes], bytes]
Habit = Callable[["Front", bytes, Ask], "bytes | None"]
"""What becomes of one request: the bytes of the answer; None: the connection is reset. ``Ask`` passes it on."""

_HOST = "127.0.0.1"
_SECONDS = 30.0


class Front:
    """A proxy of the sandbox that takes one request a connection and treats each as its habit says."""

    def __init__(self, upstream: int, habit: Habit) -> None:
        self._upstream = upstream
        self._habit = habit
        self.done = False  # what a habit does once
        self._own = OwnPort()
        self.port = self._own.number
        self._listener = _listener(self.port)
        self._over = threading.Event()
        self._fillers: list[socket.socket] = []
        self._accept_from(self._listener)

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}/api/v1"

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.refuse()
        for filler in self._fillers:
            filler.close()
        self._own.let_go()

    def refuse(self, seconds: float | None = None) -> None:
        """Refuse every connection from now on, or for some seconds."""
        with contextlib.suppress(OSError):
            # close() alone would leave the thread in accept().
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if seconds is not None:
            threading.Timer(seconds, self._return).start()

    def stall(self) -> None:
        """Let every connection attempt from now on hang: the queue is full, and nobody takes from it."""
        self._over.set()
        self._listener.listen(0)
        self._fillers = _fill(self.port)

    def _return(self) -> None:
        if not self._over.is_set():
            self._listener = _listener(self.port)
            self._accept_from(self._listener)

    def _accept_from(self, listener: socket.socket) -> None:
        def accept() -> None:
            while not self._over.is_set():
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                self._serve(connection)

        threading.Thread(target=accept, daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_SECONDS)
            request = _receive(connection)
            if request is None:
                return
            answer = self._habit(self, _closing(request), self._ask)
            if answer is None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with contextlib.suppress(OSError):
                    connection.sendall(_closing(answer))

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection((_HOST, self._upstream), _SECONDS) as service:
            service.sendall(request)
            service.shutdown(socket.SHUT_WR)
            parts = iter(lambda: service.recv(65536), b"")
            return b"".join(parts)


def is_rotation(request: bytes) -> bool:
    return request.startswith(b"POST /api/v1/users/api-key/update/ ")


@contextlib.contextmanager
def nobody_answers() -> Iterator[int]:
    """Yield a port on which every connection attempt hangs."""
    with _listener(0, 0) as listener, contextlib.ExitStack() as fillers:
        port: int = listener.getsockname()[1]
        for filler in _fill(port):
            fillers.enter_context(filler)
        yield port


@contextlib.contextmanager
def nobody_there() -> Iterator[int]:
    """Yield a port on which every connection attempt is refused, and which nobody else gets meanwhile."""
    with OwnPort() as own:
        yield own.number


class Elsewhere:
    """Another host that hopes to be called."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.2", 0))
        self.url = f"http://127.0.0.2:{self._listener.getsockname()[1]}/api/v1/users/account-details"

    def close(self) -> None:
        self._listener.close()

    @property
    def was_called(self) -> bool:
        """Whether somebody has connected, which the kernel does without being asked."""
        self._listener.setblocking(False)
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True


def _listener(port: int, backlog: int = 16) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((_HOST, port))
    listener.listen(backlog)
    return listener


def _fill(port: int) -> list[socket.socket]:
    """Connect until the queue is full: until a connection no longer comes about."""
    fillers = []
    for _number in range(64):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((_HOST, port))
        fillers.append(filler)
        time.sleep(0.02)
        try:
            filler.getpeername()
        except OSError:
            return fillers
    raise RuntimeError("the queue of a listening socket does not fill up here")


def _receive(connection: socket.socket) -> bytes | None:
    """Return one whole request; None: there was none."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\nContent-Length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return received
        try:
            more = connection.recv(65536)
        except OSError:
            return None
        if not more:
            return None
        received += more


def _closing(message: bytes) -> bytes:
    """Return the request or answer with the word that its connection is closed afterwards."""
    without = re.sub(rb"(?i)\r\nConnection: [^\r]*", b"", message, count=1)
    return without.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
