# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On the search path of every Python of a watched run: notes what the process was started with, starts, and logs.

Standard library only. Each note is a line of JSON in the file ``LEAKS_SPY``; ``LEAKS_ON_HOST`` marks what runs on a
managed host. Sampling /proc misses what ends within a millisecond; this misses what is no Python.
"""

import json
import os
import sys
from typing import Any

_FILE = os.environ.get("LEAKS_SPY", "")


def _plain(value: Any) -> Any:
    if isinstance(value, dict) or hasattr(value, "items"):
        return {_plain(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return os.fsdecode(value) if isinstance(value, (bytes, os.PathLike)) else str(value)


def _note(**what: Any) -> None:
    line = json.dumps({"on_host": "LEAKS_ON_HOST" in os.environ, **what}) + "\n"
    descriptor = os.open(_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _started(argv: Any, environment: Any) -> None:
    _note(argv=_plain(argv), environment=_plain(os.environ if environment is None else environment))


def _hook(event: str, given: Any) -> None:
    if event == "subprocess.Popen":
        _started([given[0], *([given[1]] if isinstance(given[1], (str, bytes)) else given[1])], given[3])
    elif event in ("os.exec", "os.posix_spawn"):
        _started(given[1], given[2])
    elif event == "os.spawn":
        _started(given[2], given[3])
    elif event == "os.system":
        _started([given[0]], None)
    elif event == "syslog.syslog":
        _note(syslog=str(given[1]))


if _FILE:
    _started(getattr(sys, "orig_argv", sys.argv if hasattr(sys, "argv") else []), None)
    sys.addaudithook(_hook)
