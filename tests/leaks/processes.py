# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What processes showed of themselves while a run went on: arguments and environments, from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_EVERY = 0.003  # seconds


class Processes:
    """Every process that came up meanwhile, except the children of those that were there before: they are not ours.

    :param servers: processes that were there before, and whose children are ours all the same.
    :param scanned: a file that is made after each scan of all of them, unless it is there.
    :ivar seen: arguments and environment, each as the kernel shows it.
    """

    def __init__(self, servers: Iterable[int], scanned: Path) -> None:
        self.seen: set[tuple[bytes, bytes]] = set()
        self._ours = set(map(str, servers))
        self._strangers = set(_pids()) - {"1"} - self._ours  # 1 adopts orphans
        self._me = str(os.getpid())
        self._scanned = scanned
        self._over = threading.Event()

    def _look(self) -> None:
        for pid in _pids():
            if pid in self._strangers:
                continue
            # Gone, or not ours to read.
            with contextlib.suppress(OSError):
                folder = Path("/proc", pid)
                if pid not in self._ours:
                    parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                    known = self._strangers if parent in self._strangers and parent != self._me else self._ours
                    known.add(pid)
                    if known is self._strangers:
                        continue
                self.seen.add(((folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()))

    def _watch(self) -> None:
        while not self._over.is_set():
            self._look()
            self._scanned.touch()
            time.sleep(_EVERY)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Scan again and again while the block runs."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]
