# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Programs of the control node: what they print is read up to a limit, and until they end, whatever they leave."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import IO

from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import StoreError, clean_environment

LAST_WORDS = 2.0
"""Seconds in which what an ended program has printed is read, where what it has left running could print more."""


@dataclass(frozen=True)
class Program:
    """A program with its arguments.

    :ivar called: the program and what it is to do.
    :ivar longest: bytes that it may print; it is ended where it prints more.
    :ivar seconds: in which it must end; None: the limit of the request counts.
    :ivar environment: besides that of the control node.
    :ivar folder: where it runs; None: where Ansible does.
    """

    called: str
    words: Sequence[str]
    longest: int
    seconds: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: str | None = None

    def run(self, data: bytes) -> tuple[int, bytes]:
        """Run it; return its exit status and what it prints. What it prints of errors is dropped.

        :raises StoreError: ``store_malformed`` or ``timed_out``.
        :raises OSError: it cannot be started.
        """
        printed = bytearray()
        process = subprocess.Popen(  # pylint: disable=consider-using-with  # that would wait for its output to end
            self.words,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env={**clean_environment(), **self.environment},
        )

        def feed(pipe: IO[bytes]) -> None:
            with suppress(OSError), pipe:  # it may end without reading
                rest = memoryview(data)
                while rest:
                    rest = rest[pipe.write(rest) :]

        def read(pipe: IO[bytes]) -> None:
            with pipe:
                while len(printed) <= self.longest and (piece := pipe.read(64 * 1024)):
                    printed.extend(piece)
            if len(printed) > self.longest:
                process.kill()

        threads = [
            Thread(target=act, args=(pipe,), daemon=True)
            for act, pipe in ((feed, process.stdin), (read, process.stdout))
        ]
        for each in threads:
            each.start()
        try:
            status = process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StoreError("timed_out", f"{self.called} did not end within {self.seconds} s") from None
        threads[1].join(LAST_WORDS)
        if len(printed) > self.longest:
            raise StoreError("store_malformed", f"{self.called} prints more than {self.longest >> 10} KiB")
        return status, bytes(printed)
