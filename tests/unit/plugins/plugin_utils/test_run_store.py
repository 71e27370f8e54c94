# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tasks of a run leave for each other: private, of that run and account alone, and taken once."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from ansible import constants
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import run_store
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import HOST, REPORT, RESULT, RunStore
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason

ENTRY = {"settings": {"options": {"password": "canary"}}, "spec": None}


@pytest.fixture(autouse=True)
def _own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))


def test_an_entry_is_taken_once() -> None:
    store = RunStore("shop")
    assert store.take(HOST, "web1") is None
    store.put(HOST, "web1", ENTRY)
    assert store.get(HOST, "web1") == store.get(HOST, "web1") == ENTRY
    assert store.take(HOST, "web1") == ENTRY
    assert store.take(HOST, "web1") is store.get(HOST, "web1") is None


def test_a_new_entry_replaces_the_one_before() -> None:
    RunStore("shop").put(RESULT, "web1", 1)
    RunStore("shop").put(RESULT, "web1", [2])
    assert RunStore("shop").take(RESULT, "web1") == [2]


def test_accounts_kinds_and_hosts_are_kept_apart() -> None:
    places = [("a", HOST, "x"), ("b", HOST, "x"), ("a", RESULT, "x"), ("a", HOST, "y"), ("a", REPORT, "")]
    places += [("a", HOST, "../../x"), ("a/host", "", "x"), ('a", "host', "x", ""), ("a", HOST, "\ud800")]
    for number, (account, kind, name) in enumerate(places):
        RunStore(account).put(kind, name, number)
    assert [RunStore(account).take(kind, name) for account, kind, name in places] == list(range(len(places)))


def test_what_lies_on_the_disk_is_private_and_tells_nothing(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        RunStore("the-account").put(HOST, "the-host", ENTRY)
    finally:
        os.umask(before)
    (folder,) = tmp_path.iterdir()
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = file.read_bytes() + str(file).encode()
    assert not any(word in told for word in (b"canary", b"the-account", b"the-host", b"password"))


def test_an_entry_of_another_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    RunStore("shop").put(HOST, "web1", ENTRY)
    secret = bytes(multiprocessing.current_process().authkey)
    monkeypatch.setattr(run_store, "_secret", lambda: secret[::-1])
    assert RunStore("shop").take(HOST, "web1") is None


def test_a_fork_of_the_run_finds_what_another_has_left() -> None:
    RunStore("shop").put(HOST, "web1", ENTRY)
    child = os.fork()
    if not child:
        store = RunStore("shop")
        store.put(RESULT, "web1", store.take(HOST, "web1"))
        os._exit(0)
    os.waitpid(child, 0)
    assert RunStore("shop").take(RESULT, "web1") == ENTRY
    assert RunStore("shop").take(HOST, "web1") is None


def test_the_last_one_gets_what_all_have_left() -> None:
    store, names = RunStore("shop"), ["web1", "web2"]
    assert RunStore("other").put_last(RESULT, "web2", 0, names) is None
    assert store.put_last(RESULT, "web1", 1, names) is None
    assert store.put_last(RESULT, "web1", 2, names) is None
    assert store.put_last(RESULT, "gone", 3, names) is None
    assert sorted(store.put_last(RESULT, "web2", 4, names) or []) == [2, 3, 4]
    assert store.put_last(RESULT, "web2", 5, names) is None, "they were forgotten"
    assert sorted(store.put_last(RESULT, "web1", 6, []) or []) == [5, 6]
    assert store.put_last(RESULT, "web1", 7, names) is None
    assert store.put_last(RESULT, "web2", None, names) is None
    assert store.put_last(RESULT, "web2", None, ["web1"]) == [7], "one that leaves nothing may be the last"
    assert RunStore("other").get(RESULT, "web2") == 0


def test_of_many_that_are_last_at_once_one_gets_them() -> None:
    names = [f"web{number}" for number in range(8)]
    read, write = os.pipe()
    children = []
    for name in names:
        child = os.fork()
        if not child:
            left = RunStore("shop").put_last(RESULT, name, name, names)
            os.write(write, b"" if left is None else f"{len(left)} ".encode())
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 100) == b"8 "
    os.close(read)


def test_a_directory_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "missing"))
    with pytest.raises((MulticartError, FileNotFoundError)) as refused:
        RunStore("shop").put(HOST, "web1", ENTRY)
    if isinstance(refused.value, MulticartError):
        assert refused.value.reason is Reason.RUN_CACHE_UNUSABLE
