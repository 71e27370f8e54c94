# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A port for a server that a test starts, or on which there is to be none."""

from __future__ import annotations

import socket


class OwnPort:
    """A port of loopback that nobody else on this machine gets by chance, until it is let go.

    Connections to it are refused. A program that gets its number may listen there, if it sets SO_REUSEADDR as servers
    do, and again after it has ended. A port that is merely looked up and given back may be another's by then.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.number: int = self._held.getsockname()[1]

    def __enter__(self) -> OwnPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        self._held.close()
