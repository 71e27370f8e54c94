# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs on managed hosts gives the same bytes, and the same refusals, on every Python that may run it there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.multicart.keys.tests.readers import fuzz
from ansible_collections.multicart.keys.tests.readers.cases import CHANGED, REFUSED

COLLECTIONS = next(path for path in sys.path if Path(path, "ansible_collections/multicart/keys/galaxy.yml").exists())
VERSIONS = ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]
_WORK = """
import json, os, sys, tempfile
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import mode_of


def outcome(work, *arguments):
    try:
        return repr(work(*arguments))
    except (env_file.EnvFileError, host_file.HostFileError, NotAKey) as error:
        return "{0} {1} {2}".format(type(error).__name__, getattr(error, "reason", ""), error)


def on_disk(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.write(data)
        content = host_file.read(path)
        host_file.replace(content, env_file.with_value(content.data, "KEY", b"173axcs.new"))
        with open(path, "rb") as file:
            return file.read(), os.listdir(folder)


def key_of(data):
    key = ApiKey(data.decode("latin-1"))
    held = key.fingerprint
    kept = record.wrote(record.adopted(record.opened(None, held), held), held, held, "2026-01-01T00:00:00Z", held)
    kept = record.restarted(record.rewritten(kept, held), record.readers_of([{"name": "app"}], [["x"]]), held)
    kept = record.concluded(record.closed(record.retired(kept, held, record.REJECTED, "2026-01-01T00:00:00Z", True)))
    there = record.parse(record.serialize(kept)) == kept, record.restart_due(kept, held, held), record.serialize(kept)
    return key, str(key), sorted(key.describe().items()), there, mode_of(data.decode("latin-1"), 0o640)


for line in sys.stdin:
    data = bytes.fromhex(line.strip())
    print(json.dumps([
        outcome(env_file.with_value, data, "KEY", b"173axcs.new"),
        outcome(env_file.without, data, "KEY"),
        outcome(env_file.assignments, data, "KEY"),
        outcome(other_form.refuse, data, "KEY", [other_form.known_key(ApiKey("p.old"))]),
        outcome(other_form.with_key, data, "KEY", ApiKey("p.new"), [other_form.known_key(ApiKey("p.old"))]),
        outcome(other_form.former, data, "KEY", [other_form.known_key(ApiKey("q.old"))]),
        outcome(other_form.key_alone, data),
        outcome(on_disk, data),
        outcome(key_of, data),
    ]))
"""


def results(python: str, files: list[bytes]) -> list[list[str]]:
    done = subprocess.run(
        [python, "-W", "error", "-c", _WORK],
        input="".join(f"{data.hex()}\n" for data in files),
        env={"PYTHONPATH": COLLECTIONS, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(version: str, count: int) -> None:
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    files = [before for before, _rest in (*CHANGED.values(), *REFUSED.values())]
    files += [b"173axcs.xYz", b"a.b\n", *fuzz.draw(count, 1)]
    expected = results(sys.executable, files)
    assert len(expected) == len(files)
    for data, here, there in zip(files, expected, results(python, files), strict=True):
        assert here == there, data


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_bytes_come_out(version: str) -> None:
    check(version, 100)


@pytest.mark.full
@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_bytes_come_out_of_many_files(version: str) -> None:
    check(version, 3000)
