# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that follows a script to the byte, with TLS or without; and a proxy that writes down all it carries."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import trustme

from tests.unit.plugins.plugin_utils.raw_server import NAMED, BreakingProxy, RawServer, reset

RESET = None
"""A step of a script: close the connection with RST."""

Step = bytes | float | None
"""Bytes to send, seconds to wait, or `RESET`."""

Script = Callable[[], Iterator[Step]]


class ScriptedServer(RawServer):
    """Answers every request by the script; ``context`` makes it speak TLS."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.context = context
        self.connections = 0
        self._over = threading.Event()
        super().__init__()
        if context is not None:
            self.url = self.url.replace("http:", "https:")

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        super().__exit__(*error)

    def _handle(self, connection: socket.socket) -> None:
        self.connections += 1
        connection.settimeout(5)
        if self.context is not None:
            try:
                connection = self.context.wrap_socket(connection, server_side=True)
            except OSError:
                connection.close()
                return
        super()._handle(connection)

    def speak(self, connection: socket.socket, request: bytes) -> None:
        """Follow the script."""
        for step in self.script():
            if self._over.is_set():
                return
            if step is RESET:
                reset(connection)
                return
            if isinstance(step, float):
                time.sleep(step)
            else:
                connection.sendall(step)
                self.sent += len(step)


class RecordingProxy(BreakingProxy):
    """A proxy that carries everything and writes down both directions."""

    def __init__(self) -> None:
        super().__init__(breaks=lambda: False)
        self.carried = b""

    def speak(self, connection: socket.socket, request: bytes) -> None:
        """Open the tunnel, and note what goes through it."""
        proxy, kept = self, connection

        class Noted:
            """A socket that notes what is sent and received through it."""

            def __getattr__(self, name: str) -> Any:
                return getattr(kept, name)

            def fileno(self) -> int:
                return kept.fileno()

            def recv(self, size: int) -> bytes:
                piece = kept.recv(size)
                proxy.carried += piece
                return piece

            def sendall(self, piece: bytes) -> None:
                proxy.carried += piece
                kept.sendall(piece)

        super().speak(Noted(), request)  # type: ignore[arg-type]  # it does what a socket does


class Authority:
    """Makes certificates of every bad kind; what it signs is trusted by who trusts ``path``."""

    def __init__(self, folder: Path) -> None:
        self._own = trustme.CA()
        self._folder = folder
        self.path = str(folder / "ca.pem")
        self._own.cert_pem.write_to_path(self.path)

    def context(self, kind: str) -> ssl.SSLContext:
        """Return the TLS context of a server with that kind of certificate."""
        now, day = datetime.now(timezone.utc), timedelta(days=1)
        when = {"expired": (now - 2 * day, now - day), "not yet valid": (now + day, now + 2 * day)}
        before, after = when.get(kind, (now - day, now + day))
        authority = trustme.CA() if kind in ("self-signed", "unknown authority") else self._own
        names = ["other.example", "127.0.0.2"] if kind == "wrong name" else ["127.0.0.1", "localhost", NAMED]
        chain = self._folder / "chain.pem"
        if kind == "self-signed":
            chain.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
        else:
            certificate = authority.issue_cert(*names, not_before=before, not_after=after)
            chain.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        if kind == "TLS 1.0":
            with contextlib.suppress(ssl.SSLError):
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
        return context
