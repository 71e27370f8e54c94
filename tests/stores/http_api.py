# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stand-ins for the APIs of stores have in common: HTTP in a thread of the test's own process, and faults."""

from __future__ import annotations

import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, RLock, Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """A request; a ``body`` that is no JSON is a text, and ``content`` as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""

    @property
    def is_change(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Answer:
    """What is answered; a ``body`` of bytes is sent as it is, anything else as JSON."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpApi(ABC):
    """A running stand-in; `stop` ends it.

    :ivar fault: what is wrong with it: ``down`` (no answer, and the connection is closed), ``hang`` (no answer),
        ``unavailable``, ``unauthorised``, ``limited``, ``malformed``, ``html``, ``redirect``, ``echo`` (an error that
        repeats all that was sent); None: nothing.
    :ivar fault_at: tells which requests it befalls.
    :ivar meanwhile: called once, when the next change is about to be made.
    :ivar requests: all that it was asked for.
    :ivar elsewhere: what came where its redirects lead to.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.fault: str | None = None
        self.fault_at: Callable[[Request], bool] = lambda request: True
        self.meanwhile: Callable[[], None] | None = None
        self.requests: list[Request] = []
        self.elsewhere: list[Request] = []
        self.mended = Event()
        self._lock = RLock()
        self._other = _serve(self._went_elsewhere)
        self._server = _serve(self._answer, context)
        self._scheme = "http" if context is None else "https"

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def changes(self) -> list[Request]:
        """The requests that were meant to change something."""
        return [request for request in self.requests if self.is_change(request)]

    def break_by(self, fault: str, at: Callable[[Request], bool] = lambda request: True) -> None:
        self.mended.clear()
        self.fault, self.fault_at = fault, at

    def mend(self) -> None:
        self.fault = None
        self.mended.set()

    def stop(self) -> None:
        self.mended.set()
        for server in (self._server, self._other):
            server.shutdown()
            server.server_close()

    def is_change(self, request: Request) -> bool:
        return request.is_change

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Do what the request says."""

    @abstractmethod
    def failure(self, status: int, message: str) -> Answer:
        """Return an error in the form that this API gives it."""

    def _answer(self, request: Request) -> Answer | None:
        self.requests.append(request)
        if self.fault is not None and self.fault_at(request):
            return self._fail(self.fault, request)
        if self.is_change(request) and self.meanwhile is not None:
            act, self.meanwhile = self.meanwhile, None
            act()
        with self._lock:
            return self.answer(request)

    def _fail(self, fault: str, request: Request) -> Answer | None:
        if fault == "hang":
            self.mended.wait(60)
        if fault in ("hang", "down"):
            return None
        if fault == "redirect":
            return Answer(307, None, {"Location": f"http://127.0.0.1:{self._other.server_port}{request.path}"})
        if fault == "malformed":
            return Answer(200, ["not", "what", "was", "asked", "for"])
        if fault == "html":
            return Answer(200, b"<html><body>Sign in to the network</body></html>")
        if fault == "echo":
            return self.failure(500, f"broken: {dict(request.headers)} {request.body}")
        if fault == "limited":
            return Answer(429, None, {"Retry-After": "60"})
        return self.failure({"unavailable": 503, "unauthorised": 401, "forbidden": 403}[fault], "no")

    def _went_elsewhere(self, request: Request) -> Answer:
        self.elsewhere.append(request)
        return Answer(200, {})


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def _serve(answer: Callable[[Request], Answer | None], context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            body = _parsed(content) if length else None
            path = "/".join(unquote(part) for part in parts.path.split("/"))
            headers = {name.title(): value for name, value in self.headers.items()}
            said = answer(Request(self.command, path, dict(parse_qsl(parts.query)), headers, body, content))
            self.close_connection = said is None
            if said is None:
                return
            content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            content = b"" if said.body is None else content
            # An answer may have a time of its own.
            (self.send_response_only if "Date" in said.headers else self.send_response)(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # http.server wants these names

        def log_message(self, *_words: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_what: Any) -> None:
            """Say nothing of clients that went away."""

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
