# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What processes showed of themselves while a run went on: arguments and environments, from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_EVERY = 0.002  # seconds


class Processes:
    """Every process that came up on this machine meanwhile, whoever started it.

    :ivar seen: arguments and environment, each as the kernel shows it.
    """

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, bytes]] = set()
        self._before = set(_pids())
        self._over = threading.Event()

    def _look(self) -> None:
        for pid in _pids():
            if pid in self._before:
                continue
            # Gone, or not ours to read.
            with contextlib.suppress(OSError):
                folder = Path("/proc", pid)
                self.seen.add(((folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()))

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            time.sleep(_EVERY)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again while the block runs."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]
