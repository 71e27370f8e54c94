# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hears what attackers let be sent to them."""

from __future__ import annotations

import socket
import threading


class Listener:
    """Somebody else's machine, to which nothing may be sent: notes what it hears, and answers nothing.

    :ivar heard: what each connection has sent.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._server.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def _listen(self) -> None:
        while True:
            try:
                connection, _peer = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                self.heard.append(connection.recv(65536))

    def close(self) -> None:
        # Closing alone does not wake the thread that waits.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
