# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on a git remote: where a push and what git says of it differ, the remote itself tells if it has arrived."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import files
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    StoreError,
    open_store,
    resolve,
)

from tests.stores.backends import VaultedFileInGit, git
from tests.stores.talk import NEW, OLD, Talk, fingerprint


@pytest.fixture
def vaulted(tmp_path: Path) -> VaultedFileInGit:
    made = VaultedFileInGit(tmp_path)
    made.put(OLD)
    return made


@pytest.fixture
def wrap_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a program of this name before git: a piece of a shell script, in which ``$git`` is git."""
    folder = tmp_path / "bin"
    folder.mkdir()
    real = shutil.which("git")

    def wrap(script: str) -> None:
        draft = folder / "draft"
        # "$1" is -C, and "$2" the directory.
        draft.write_text(f'#!/bin/sh\ngit={real}\ncase "$3 $4" in\n{script}\nesac\nexec "$git" "$@"\n')
        draft.chmod(0o755)
        draft.rename(folder / "git")

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return wrap


def subjects(vaulted: VaultedFileInGit) -> list[str]:
    """Return what the commits on the remote are called, the newest first."""
    return git("log", "--format=%s", "main", cwd=vaulted._remote).decode().splitlines()


def talk_to(vaulted: VaultedFileInGit) -> Talk:
    return Talk(vaulted.kind, vaulted.entry, vaulted.control)


REPLACE = "Replace multicart_api_key"
LOST = '"push --quiet") "$git" "$@"; exit 1;;'
"""A push that arrives, and of which git says that it has failed."""


def test_a_push_of_which_the_answer_was_lost_counts_as_done(
    vaulted: VaultedFileInGit, wrap_git: Callable[[str], None]
) -> None:
    wrap_git(LOST)
    talk = talk_to(vaulted)
    found = talk.rotate()
    talk.end()
    assert found["holds"] == [fingerprint(NEW)] and vaulted.value() == NEW
    before = subjects(vaulted)
    assert before.count(REPLACE) == 1
    again = talk_to(vaulted)
    holds = again.inspect(NEW)["holds"]
    said = again.deploy(inspected=holds)
    again.end()
    assert (said["problems"], said["changed"]) == ([], False)
    assert subjects(vaulted) == before


def test_a_push_counts_as_done_also_if_somebody_else_has_pushed_on_top_of_it(
    vaulted: VaultedFileInGit, wrap_git: Callable[[str], None], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git("clone", "--quiet", vaulted._remote, other)
    theirs = f'cd {other} && "$git" pull --quiet && echo x >> theirs && "$git" add theirs'
    theirs += ' && "$git" -c user.name=x -c user.email=x@x commit --quiet -m theirs && "$git" push --quiet'
    wrap_git(f'"push --quiet") "$git" "$@"; ({theirs}) >/dev/null 2>&1; exit 1;;')
    talk = talk_to(vaulted)
    assert talk.rotate()["holds"] == [fingerprint(NEW)]
    talk.end()
    found = subjects(vaulted)
    assert found.count(REPLACE) == 1 and found.index("theirs") < found.index(REPLACE)


@pytest.mark.parametrize(
    "script",
    ['"push --quiet") exit 1;;', '"push --quiet") kill -9 $$;;', '"push --quiet") "$git" "$@" --dry-run; exit 128;;'],
)
def test_a_push_that_does_not_arrive_is_told_and_running_again_finishes(
    vaulted: VaultedFileInGit, wrap_git: Callable[[str], None], script: str
) -> None:
    talk = talk_to(vaulted)
    talk.inspect()
    assert talk.prepare() == []
    before = subjects(vaulted)
    wrap_git(script)
    (problem,) = talk.deploy(retires=OLD)["problems"]
    talk.end()
    assert problem["reason"] == "store_refused" and "refuses the push to main" in problem["text"]
    assert (subjects(vaulted), vaulted.value()) == (before, OLD)
    wrap_git("")
    talk = talk_to(vaulted)
    holds = talk.inspect(NEW)["holds"]
    assert talk.deploy(retires=OLD, inspected=holds)["problems"] == []
    talk.end()
    assert vaulted.value() == NEW and subjects(vaulted).count(REPLACE) == 1


def test_a_remote_that_cannot_be_looked_at_after_the_push_is_told_and_running_again_finishes(
    vaulted: VaultedFileInGit, wrap_git: Callable[[str], None], tmp_path: Path
) -> None:
    talk = talk_to(vaulted)
    talk.inspect()
    assert talk.prepare() == []
    gone = tmp_path / "is-gone"
    wrap_git(f'"push --quiet") "$git" "$@"; touch {gone}; exit 1;;\nfetch*) [ ! -e {gone} ] || exit 128;;')
    (problem,) = talk.deploy(retires=OLD)["problems"]
    talk.end()
    assert problem["reason"] == "store_unreachable"
    assert vaulted.value() == NEW  # it has arrived all the same
    wrap_git("")
    talk = talk_to(vaulted)
    holds = talk.inspect(NEW)["holds"]
    assert holds == [fingerprint(NEW)]
    assert talk.deploy(retires=OLD, inspected=holds)["problems"] == []
    talk.end()
    assert subjects(vaulted).count(REPLACE) == 1


def test_several_stores_of_one_repository_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Such as prod.yml and staging.yml: all stores are written at the same moment, each by a process of its own."""
    remote, ours = tmp_path / "remote.git", tmp_path / "ours"
    git("init", "--quiet", "--bare", "--initial-branch=main", remote)
    git("clone", "--quiet", remote, ours)
    names = [f"{name}.yml" for name in ("prod", "staging", "test", "dev", "lab", "shop")]
    for name in names:
        (ours / name).write_text("old")
    git("add", ".", cwd=ours)
    git("commit", "--quiet", "-m", "ours", cwd=ours)
    git("push", "--quiet", "origin", "HEAD:main", cwd=ours)
    together = Barrier(len(names))

    def change(name: str) -> tuple[bytes, bytes | None]:
        place = files.Remote({"path": str(ours / name), "remote": "origin", "branch": "main"}, "key")
        assert place.read() == (b"old", None)
        together.wait(60)
        place.write(f"new {name}".encode(), "write")
        place.note(f"record {name}".encode(), "note")
        return place.read()

    with ThreadPoolExecutor(len(names)) as pool:
        found = list(pool.map(change, names))
    assert found == [(f"new {name}".encode(), f"record {name}".encode()) for name in names]
    assert git("log", "--format=%s", "main", cwd=remote).decode().split().count("write") == len(names)
    assert git("rev-parse", "HEAD", cwd=ours) == git("rev-parse", "main", cwd=remote), "the work tree follows"
    assert git("status", "--porcelain", cwd=ours) == b""
    assert b"multicart" not in git("for-each-ref", cwd=ours)


def test_what_somebody_else_has_changed_in_the_file_itself_is_a_conflict(
    vaulted: VaultedFileInGit,
) -> None:
    store = open_store(vaulted.kind, resolve(vaulted.kind, vaulted.entry, vaulted.control))
    found = store.inspect()
    vaulted.change_rest()
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), found)
    assert vaulted.value() == OLD


def test_that_somebody_pushes_while_the_right_to_do_so_is_verified_is_no_refusal(
    vaulted: VaultedFileInGit, wrap_git: Callable[[str], None], tmp_path: Path
) -> None:
    once = tmp_path / "once"
    theirs = f'cd {vaulted._theirs} && "$git" commit --quiet --allow-empty -m theirs && "$git" push --quiet origin main'
    theirs = f"[ -e {once} ] || (touch {once}; export GIT_AUTHOR_NAME=x GIT_COMMITTER_NAME=x EMAIL=x@x; {theirs})"
    wrap_git(f'"push --dry-run") {theirs} >/dev/null 2>&1;;')
    store = open_store(vaulted.kind, resolve(vaulted.kind, vaulted.entry, vaulted.control))
    assert store.write(ApiKey(NEW), store.inspect()).fingerprint == fingerprint(NEW)
    assert subjects(vaulted)[:2] == [REPLACE, "theirs"]


@pytest.mark.parametrize("arrives", [True, False])
def test_a_push_that_hangs_is_settled_likewise(
    vaulted: VaultedFileInGit, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    ran = files.ran

    def hangs(called: str, words: list[str], *more: Any) -> Any:
        pushes = called == "git push" and "--dry-run" not in words
        done = ran(called, words, *more) if arrives or not pushes else None
        if pushes:
            raise StoreError("timed_out", f"{called} did not end within 20 s")
        return done

    monkeypatch.setattr(files, "ran", hangs)
    store = open_store(vaulted.kind, resolve(vaulted.kind, vaulted.entry, vaulted.control))
    found = store.inspect()
    if arrives:
        assert store.write(ApiKey(NEW), found).fingerprint == fingerprint(NEW)
    else:
        with pytest.raises(StoreError, match="did not end within") as caught:
            store.write(ApiKey(NEW), found)
        assert caught.value.reason == "timed_out"
    assert vaulted.value() == (NEW if arrives else OLD)
    assert subjects(vaulted).count(REPLACE) == arrives


def test_nobody_who_may_only_read_the_repository_keeps_it_from_being_written(vaulted: VaultedFileInGit) -> None:
    """A lock on a directory can be held by all who can open it."""
    store = open_store(vaulted.kind, resolve(vaulted.kind, vaulted.entry, vaulted.control))
    folder = vaulted._ours / ".git"
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    began = time.monotonic()
    found = store.write(ApiKey(NEW), store.inspect())
    os.close(held)
    assert time.monotonic() - began < files.LOCKING
    assert found.fingerprint == fingerprint(vaulted.value() or "")
    assert stat.S_IMODE((folder / files.LOCK).stat().st_mode) == 0o600
    assert b"lock" not in git("status", "--porcelain", cwd=vaulted._ours)


@pytest.mark.parametrize("lock", ["held", "link", "directory"])
def test_a_lock_that_cannot_be_had_is_done_without(
    vaulted: VaultedFileInGit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lock: str
) -> None:
    monkeypatch.setattr(files, "LOCKING", 0.2)
    path = vaulted._ours / ".git" / files.LOCK
    if lock == "held":
        held = path.open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
    elif lock == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    store = open_store(vaulted.kind, resolve(vaulted.kind, vaulted.entry, vaulted.control))
    store.write(ApiKey(NEW), store.inspect())
    assert vaulted.value() == NEW and not (tmp_path / "elsewhere").exists()
