# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sees on the hosts' side when a file holds another key."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_SECONDS_BETWEEN_LOOKS = 0.005


class Watch:
    """Watches files for the time of a ``with`` statement.

    The time of a new key is the kernel's: when that file came to its name. So it does not matter how soon it is seen.

    :ivar found: when each host's file had another key than the old one, as seconds since the epoch.
    """

    def __init__(self, files: Mapping[str, Path], old: str) -> None:
        self.found: dict[str, float] = {}
        self._waiting = dict(files)
        self._seen: dict[str, tuple[int, int]] = {}
        self._old = old.encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        for name, path in list(self._waiting.items()):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if self._seen.get(name) == (status.st_ino, status.st_ctime_ns):
                    continue
                with path.open("rb") as file:
                    status, content = os.fstat(file.fileno()), file.read()
                self._seen[name] = (status.st_ino, status.st_ctime_ns)
                if b"=" in content and self._old not in content:
                    self.found[name] = status.st_ctime
                    del self._waiting[name]
