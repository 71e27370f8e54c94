# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the real readers about many files at once, one process for all of them; ``real_readers`` asks about one.

``MANY`` maps a reader's name to a function from the files to what the reader sees in each.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from functools import partial

from ansible_collections.multicart.keys.tests.readers.real_readers import (
    Variables,
    docker_many,
    dotenv,
    folder_of,
    program,
    run,
    shell_variables,
    systemd_many,
)

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


def _shell(name: str, files: Sequence[bytes]) -> list[Variables]:
    mark = secrets.token_hex(16)
    with folder_of(*files) as folder:
        out = run(program(name), "-c", _SHELL, name, folder, str(len(files)), mark)
    *parts, rest = out.split(mark.encode() + b"\0")
    assert (len(parts), rest) == (len(files), b""), f"{name} did not get through: {len(parts)} of {len(files)}"
    return [shell_variables(part) for part in parts]


def _node(files: Sequence[bytes]) -> list[Variables]:
    with folder_of(*files) as folder:
        found: list[Variables] = json.loads(run(program("node"), "-e", _NODE, folder, str(len(files))))
    return found


def _each(read: Callable[[bytes], Variables], files: Sequence[bytes]) -> list[Variables]:
    return [read(data) for data in files]


MANY: dict[str, Callable[[Sequence[bytes]], list[Variables]]] = {
    "bash": partial(_shell, "bash"),
    "dash": partial(_shell, "dash"),
    "systemd": systemd_many,
    "docker": docker_many,
    "python-dotenv": partial(_each, dotenv),
    "node": _node,
}
