# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo prints, and the memory of all of it, in which no secret may be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence


class Screen:
    """Prints, and remembers what was printed."""

    def __init__(self) -> None:
        self.is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._printed: list[str] = []

    def say(self, *lines: str) -> None:
        """Print lines as they are; without any, an empty one."""
        for line in lines or ("",):
            self._printed.append(line)
            print(line, flush=True)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.say()
        self.say(f"\033[1m== {text}\033[0m" if self.is_coloured else f"== {text}")
        self.say()

    def command(self, line: str) -> None:
        """Show a command that is about to run."""
        self.say(f"  $ {line}")

    def output(self, line: str) -> None:
        """Show a line that a command printed."""
        self.say(f"  | {line}".rstrip())

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print aligned columns."""
        lines = [head, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        for line in lines:
            self.say("  " + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def shows_any_of(self, secrets: Iterable[str]) -> bool:
        """Tell whether one of them was printed."""
        everything = "\n".join(self._printed)
        return any(secret in everything for secret in secrets)
