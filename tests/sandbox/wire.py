# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP server: werkzeug's, with connections that are kept alive and can be ended badly on purpose."""

from __future__ import annotations

import io
import os
import socket
import ssl
import struct
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from werkzeug.serving import DechunkedInput, ThreadedWSGIServer, WSGIRequestHandler

from .answers import Ending

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ENDING = "sandbox.ending"
"""Key in the WSGI environment under which the application says how the connection ends."""

_BODY_LIMIT = 1_000_000

_Headers = list[tuple[str, str]]


class Handler(WSGIRequestHandler):
    """Serves request after request on one connection.

    Werkzeug's own ``run_wsgi`` closes the connection after every answer, and throws away whatever the client
    sends meanwhile, the next request included; so this one reads the whole request first and then answers.
    """

    protocol_version = "HTTP/1.1"
    # Header and body leave in two writes; Nagle's algorithm would let the second wait for an acknowledgement.
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request."""
        environ = self.make_environ()
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(environ["wsgi.input"])
        if body is None:
            self.send_error(413)
            self.close_connection = True
            return
        environ.update({"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            self._answer(environ)
        except ConnectionError:
            self.close_connection = True
        except Exception:
            self.close_connection = True
            traceback.print_exc(file=sys.stderr)

    def _body(self, stream: Any) -> bytes | None:
        """Return the request's body, or None when it is larger than any honest one."""
        if isinstance(stream, DechunkedInput):
            data: bytes = stream.read(_BODY_LIMIT + 1)
        else:
            length = min(int(self.headers.get("Content-Length") or 0), _BODY_LIMIT + 1)
            data = stream.read(length)
            if len(data) < length:
                # A client that died while it was sending has asked for nothing.
                raise ConnectionAbortedError("the request ends early")
        return None if len(data) > _BODY_LIMIT else data

    def _answer(self, environ: dict[str, Any]) -> None:
        started: list[tuple[str, _Headers]] = []

        def start_response(status: str, headers: _Headers, exc_info: Any = None) -> Callable[..., Any]:
            started.append((status, headers))
            return lambda data: None

        chunks = self.server.app(environ, start_response)
        ending = environ.get(ENDING, Ending.NORMAL)
        try:
            if ending is Ending.HANG_UP:
                self._hang_up()
            elif ending is Ending.RESET:
                self._reset()
            else:
                self._send(*started[-1], chunks, truncate=ending is Ending.TRUNCATE)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        if ending is Ending.TRUNCATE:
            self._hang_up()
        elif ending is not Ending.NORMAL:
            self.close_connection = True

    def _send(self, status: str, headers: _Headers, chunks: Any, truncate: bool) -> None:
        number, dummy, reason = status.partition(" ")
        self.send_response(int(number), reason)
        for name, value in headers:
            self.send_header(name, value)
        chunked = not any(name.lower() == "content-length" for name, dummy in headers)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command == "HEAD":
            return
        for chunk in chunks:
            if truncate:
                self.wfile.write(chunk[: len(chunk) // 2])
            elif chunked and chunk:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            else:
                self.wfile.write(chunk)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self) -> None:
        """Close the connection in an orderly way (FIN)."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        """Close the connection with RST: what is in flight is lost, and the client gets an error at once."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # close() alone would wait for the reader that the handler still holds, and shutdown() would send FIN.
        os.close(self.connection.detach())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write no access log: the journal is the log."""


class Server(ThreadedWSGIServer):
    """One thread for each connection."""

    def __init__(self, host: str, port: int, app: WSGIApplication, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port, app, Handler)
        if tls:
            self.ssl_context = tls
            # No handshake at accept(), in the one thread that accepts: a client that connects and says
            # nothing would stop everybody. It takes place at the first read, in the connection's own thread.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
