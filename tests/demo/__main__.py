# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.demo --collection TARBALL``; ``make demo`` does that."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .screen import Screen
from .stage import open_stage
from .story import Story


def main() -> int:
    """Run the demo and return 0 if everything that it claims is true."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="watch a key being rotated")
    parser.add_argument("--collection", type=Path, required=True, help="the collection's tarball")
    parser.add_argument("--stay", action="store_true", help="in the end leave everything running, until Ctrl-C")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    screen = Screen()
    try:
        return _show(screen, options.collection.resolve(), options.stay)
    except RuntimeError as error:
        screen.say("", f"The demo failed: {error}")
        return 1
    except BrokenPipeError:  # make demo | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _show(screen: Screen, collection: Path, stay: bool) -> int:
    started = time.monotonic()
    with open_stage() as stage:
        holds = Story(stage, screen).tell(collection)
        report = stage.keep_report()
        screen.say("", f"That took {time.monotonic() - started:.0f} s.")
        if stay:
            commands = f"cd {shlex.quote(str(stage.folder))} && . ./env.sh"
            screen.say("", f"Your turn, in another terminal: {commands}", "Ctrl-C here ends it.")
            with contextlib.suppress(SystemExit):
                signal.pause()
    screen.say("The API and the programs have been stopped, and their files removed.", "")
    if report:
        screen.say(f"The report of the rotation, a page for your browser: {report}", "")
    if not holds:
        screen.say("The demo FAILED: something that it claims is false, see above.")
        return 1
    screen.say("Next: README.md, for the same with your own fleet and the real API.")
    screen.say("Or try it yourself on this stage: make demo ARGS=--stay")
    return 0


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    print("\nEnding: the programs are being stopped, and their files removed.", file=sys.stderr, flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
