# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile environment files by the hundred against the real readers; ``make fuzz`` for more."""

import os
import random
from functools import cache

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.tests.readers import fuzz
from ansible_collections.multicart.keys.tests.readers.cases import CHANGED, NAME, NEW, REFUSED
from ansible_collections.multicart.keys.tests.readers.many import MANY, one_by_one
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere

KNOWN = [before for before, _rest in (*CHANGED.values(), *REFUSED.values())]
# Every run looks at the same files, so that nobody's change fails for another's; `make full` looks at ever new ones.
SEED = int(os.environ.get("MULTICART_FUZZ_SEED", random.randrange(10**6) if os.environ.get("MULTICART_FULL") else 1))


@cache
def some_changes(count: int) -> list[fuzz.Change]:
    return [change for data in fuzz.draw(count, SEED) for change in fuzz.changes(data)]


@pytest.fixture(name="read")
def fixture_read(name: str) -> fuzz.ReadMany:
    try:
        one_by_one(name, [b""])
    except NotHere as why:
        pytest.skip(str(why))
    return MANY[name]


def told(found: list[tuple[str, bytes, bytes]]) -> str:
    return f"MULTICART_FUZZ_SEED={SEED}\n" + "\n".join(f"{what}: {was!r} became {now!r}" for what, was, now in found)


@pytest.mark.parametrize("name", MANY)
def test_many_files_are_read_as_one_by_one(name: str, read: fuzz.ReadMany) -> None:
    files = [*KNOWN[::6], b"A=;unknown", b"KEY=1\nexit\n", b"\xff=1\nB=2\n"]
    assert read(files) == one_by_one(name, files)


@pytest.mark.parametrize("name", MANY)
def test_known_files_are_read_right(name: str, read: fuzz.ReadMany) -> None:
    found = fuzz.broken(read, [change for data in KNOWN for change in fuzz.changes(data)])
    assert not found, told(found)


@pytest.mark.parametrize("name", [name for name in MANY if name != "docker"])
def test_hostile_files_are_read_right(name: str, read: fuzz.ReadMany) -> None:
    found = fuzz.broken(read, some_changes(300))
    assert not found, told(found)


def test_a_writer_that_breaks_a_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzz can fail: a naive writer is caught at once, and with a small file."""

    def naive(data: bytes, _name: str, value: bytes) -> bytes:
        return data if b"KEY=" + value in data else data.replace(b"KEY=p.old", b"KEY=" + value) + b"\nKEY=" + value

    monkeypatch.setattr(env_file, "with_value", naive)
    files = [b"A='\nKEY=p.old\n'\nKEY=p.old\n", b"export A='open", b"XKEY=p.old\nB=1\n"]
    found = fuzz.broken(MANY["python-dotenv"], [change for data in files for change in fuzz.changes(data)])
    assert {what for what, _before, _after in found} >= {"another variable reads differently"}
    assert all(len(before) < 20 for _what, before, _after in found)


@pytest.mark.full
@pytest.mark.parametrize("name", MANY)
def test_many_hostile_files_are_read_right(name: str, read: fuzz.ReadMany) -> None:
    found = fuzz.broken(read, some_changes(10_000)[: 300 if name == "docker" else None])
    assert not found, told(found)


def test_the_new_key_is_the_one_that_is_looked_for() -> None:
    assert {change.value for data in KNOWN for change in fuzz.changes(data)} == {NEW.decode(), None}
    assert NAME == "KEY"
