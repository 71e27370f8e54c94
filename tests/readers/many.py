# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the real readers about many files at once, one process for all of them; ``real_readers`` asks about one.

``MANY`` maps a reader's name to a function from the files to what the reader sees in each.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ansible_collections.multicart.keys.tests.readers.real_readers import (
    Variables,
    docker_many,
    dotenv,
    program,
    shell_variables,
    systemd,
)

_NOBODY = 65534

# With a trap bash does not run the last command of a file in its own stead, as it does in a subshell otherwise.
_SHELL = """
count=0
while [ "$count" -lt "$2" ]; do
    ( trap : EXIT; PATH=; set -a; . "$1/$count" >/dev/null 2>&1; exec /usr/bin/env -0 )
    printf '%s\\0' "$3"
    count=$((count + 1))
done
"""

_NODE = """
const read = (file) => {
    Object.keys(process.env).forEach((name) => delete process.env[name]);
    try { process.loadEnvFile(file) } catch { return {} }
    return { ...process.env };
};
const [folder, count] = process.argv.slice(1);
process.stdout.write(JSON.stringify(Array.from({ length: count }, (_, index) => read(`${folder}/${index}`))));
"""


@contextmanager
def _folder(files: Sequence[bytes]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="env-") as folder:
        os.chmod(folder, 0o755)
        for index, data in enumerate(files):
            Path(folder, str(index)).write_bytes(data)
        yield folder


def _harmless() -> None:
    """Whatever a generated script says, it can hurt nobody: no privilege, no large files, not for long."""
    if not os.geteuid():
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def _run(*command: str) -> bytes:
    return subprocess.run(
        command,
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=_harmless,
        timeout=300,
        check=False,
    ).stdout


def _shell(name: str, files: Sequence[bytes]) -> list[Variables]:
    mark = secrets.token_hex(16)
    with _folder(files) as folder:
        out = _run(program(name), "-c", _SHELL, name, folder, str(len(files)), mark)
    *parts, rest = out.split(mark.encode() + b"\0")
    assert (len(parts), rest) == (len(files), b""), f"{name} did not get through: {len(parts)} of {len(files)}"
    return [shell_variables(part) for part in parts]


def _node(files: Sequence[bytes]) -> list[Variables]:
    with _folder(files) as folder:
        found: list[Variables] = json.loads(_run(program("node"), "-e", _NODE, folder, str(len(files))))
    return found


def _each(read: Callable[[bytes], Variables], files: Sequence[bytes]) -> list[Variables]:
    return [read(data) for data in files]


MANY: dict[str, Callable[[Sequence[bytes]], list[Variables]]] = {
    "bash": partial(_shell, "bash"),
    "dash": partial(_shell, "dash"),
    "systemd": partial(_each, systemd),
    "docker": docker_many,
    "python-dotenv": partial(_each, dotenv),
    "node": _node,
}
