# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environment files as systemd itself reads them, in its releases: the function is in the hosts' own library."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from ansible_collections.multicart.keys.tests.readers import fuzz
from ansible_collections.multicart.keys.tests.readers.cases import CHANGED, NAME, NEW, REFUSED

from tests.hosts.stage import Stage, run

KNOWN = [before for before, _rest in (*CHANGED.values(), *REFUSED.values())]
_READ = """
import ctypes, glob, json, sys, tempfile
(path,) = glob.glob("/usr/lib/*/systemd/libsystemd-shared-*.so")
library, fopen, fclose = ctypes.CDLL(path), ctypes.CDLL(None).fopen, ctypes.CDLL(None).fclose
library.log_set_max_level(0)
fopen.restype, fclose.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
texts = ctypes.POINTER(ctypes.c_char_p)
library.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(texts)]

def read(data):
    found, seen, position = texts(), {}, 0
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        stream = fopen(file.name.encode(), b"r")
        failed = library.load_env_file(stream, file.name.encode(), ctypes.byref(found))
        fclose(stream)
    while not failed and found and found[position]:
        name, _equals, value = found[position].decode("utf-8", "backslashreplace").partition("=")
        if name.isidentifier() and name.isascii():
            seen[name] = value
        position += 1
    return seen

print(json.dumps([read(bytes.fromhex(data)) for data in json.load(sys.stdin)]))
"""


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=pytest.mark.full)], ids=["known-and-some", "known-and-many"]
)
def test_systemd_of_each_release_reads_what_is_written(stage: Stage, systemd: str, count: int) -> None:
    folder = str(stage.tree(systemd))

    def read(files: Sequence[bytes]) -> list[dict[str, str]]:
        asked = json.dumps([data.hex() for data in files])
        found: list[dict[str, str]] = json.loads(
            run(stage.command("chroot", folder, "python3", "-c", _READ), None, asked)
        )
        return found

    assert read([b"A=1\nKEY='x y'\n"]) == [{"A": "1", NAME: "x y"}]
    files = [*KNOWN, *fuzz.draw(count, 1)]
    found = fuzz.broken(read, [change for data in files for change in fuzz.changes(data)])
    assert not found, found
    assert read([b"KEY=" + NEW + b"\n"]) == [{NAME: NEW.decode()}]
