# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that says exactly the bytes it was given, for what no honest server says; and a proxy that breaks."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """Return a whole HTTP answer that ends the connection."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def _is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def reset(connection: socket.socket) -> None:
    """Close a connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class RawServer:
    """Listens on loopback; answers every request with the same bytes, again and again if ``endless`` is given."""

    def __init__(self, said: bytes = b"", endless: bytes = b"") -> None:
        self.said = said
        self.endless = endless
        self.heard: list[bytes] = []
        self.sent = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # close() alone would leave the thread in accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _peer = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(5)
            request = b""
            while not _is_whole(request):
                piece = connection.recv(65536)
                if not piece:
                    break
                request += piece
            self.heard.append(request)
            self.speak(connection, request)

    def speak(self, connection: socket.socket, request: bytes) -> None:
        """Answer a request."""
        connection.sendall(self.said)
        self.sent += len(self.said)
        while self.endless:
            connection.sendall(self.endless)
            self.sent += len(self.endless)


NAMED = "api.example"
"""A name of this machine that only `BreakingProxy` knows: no proxy is asked for a loopback address."""


class BreakingProxy(RawServer):
    """A proxy that opens tunnels. It asks ``breaks`` whenever something comes back, and resets the connection then.

    How many pieces a handshake or an answer comes in differs from run to run, so nothing here counts them.
    """

    def __init__(self, breaks: Callable[[], object]) -> None:
        self.breaks = breaks
        super().__init__()

    def speak(self, connection: socket.socket, request: bytes) -> None:
        host, dummy, port = request.split()[1].decode().rpartition(":")
        with socket.create_connection(("127.0.0.1" if host == NAMED else host, int(port))) as upstream:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            while True:
                for ready in select.select([connection, upstream], [], [], 5)[0]:
                    piece = ready.recv(65536)
                    if not piece:
                        return
                    if ready is connection:
                        upstream.sendall(piece)
                    elif self.breaks():
                        reset(connection)
                        return
                    else:
                        connection.sendall(piece)
