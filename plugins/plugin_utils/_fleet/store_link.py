# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The way to the stores of a consumer: a child process, armed like a host's program, in which their libraries run.

So a library that hangs, prints or crashes is one consumer's matter, and what it keeps ends with the process. Its
credentials and the key come by its standard input.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.program import CLEAN_PATH
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Ended, Link, LinkError, Pipes
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import clean_environment

# Ansible's own finder of collections is not there; another ansible_collections, of PyPI's, may be.
_PROGRAM = f"""
{CLEAN_PATH}import types
name, path = "", sys.argv[1]
for part in "ansible_collections multicart keys".split():
    name, path = (name + "." + part).lstrip("."), path + "/" + part
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import serve
serve.main()
"""

_FOLDER = Path(__file__).parents[6]
"""Where ``ansible_collections/multicart/keys`` is."""


class StoreLink:
    """The stores of one consumer; the process is another one for each session.

    :param scratch: where a store that loads Ansible has a directory of Ansible's, which it leaves behind, as its
        process is killed.
    """

    holds = True
    with_terminal: Link | None = None

    def __init__(self, scratch: str | None = None) -> None:
        self._environment = {} if scratch is None else {"ANSIBLE_LOCAL_TEMP": scratch}

    def converse(self, talk: Callable[[Pipes], bytes]) -> Ended:
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(_FOLDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean_environment(), **self._environment},
            start_new_session=True,
        ) as process:
            if process.stdin is None or process.stdout is None or process.stderr is None:
                raise LinkError("store_failed", "its process could not be started")
            try:
                talk(Pipes(process.stdin, process.stdout, process.stderr, process, header=b""))
            finally:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                with suppress(ProcessLookupError):  # and what it has started
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode not in (0, -9):
            raise LinkError("store_failed", f"its process ended (exit status {process.returncode})")
        return Ended(process.returncode)

    def run(self, requests: bytes) -> Ended:
        raise NotImplementedError
