# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker on the managed host: the user of the application, who owns the directory of the file.

They may do anything in that directory, at any moment: put links, pipes, devices, huge and sparse files and other names
of their own files there, in place of the file, its record or its replacement; swap them while root works there; hold
locks; write records that say what they like; start processes that hold what they like.

What must not happen: a file outside that directory is changed, or given another owner, mode or label, or something of
it is shown; the key reaches another place or another user; the program of the session waits for ever, or fills the
memory; a record is believed of another host (see test_plan.py and test_plan_kills.py).

Others of these attacks: test_host_file.py (X6), test_key_file.py (X3), and test_hostile_hosts.py of the modules, where
places are broken and swapped under the writer's feet.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _file_attributes as file_attributes
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _phases as phases
from ansible_collections.multicart.keys.plugins.module_utils import _processes as processes
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.tests.waiting import PATIENCE as SECONDS

OLD, NEW = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary")
USER = 65534
SECRET = "root:$6$shadow-canary:1:\n"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


class Victim:
    """The user's directory, a file of root's beside it, and requests about the user's file."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.env = self.home / "env"
        self.env.write_text(f"A=1\nKEY={OLD.reveal()}\n")
        self.record = self.home / ".env.KEY.multicart.json"
        self.secret = folder / "shadow"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(self.home, USER, USER)
            os.chown(self.env, USER, USER)

    def ask(self, phase: str, **wanted: Any) -> dict[str, Any]:
        entry = dict.fromkeys(("owner", "group", "mode", "digest", "content"))
        entry = {**entry, "path": str(self.env), "variable": "KEY", "unsafe_writes": False, **wanted}
        request = dict(phases.FIELDS, phase=phase, tag="t", wait=5.0, files=[entry], live=NEW.fingerprint)
        if phase == "prepare":
            request["retire"] = OLD.fingerprint
        if phase == "deploy":
            request.update(key=NEW.reveal(), since="2026-01-01T00:00:00.000Z")
        began = time.monotonic()
        answer = phases.answer_to(request, lambda event: None)
        assert time.monotonic() - began < SECONDS  # whatever stands there
        self.is_unharmed()
        told = json.dumps(answer)
        assert "canary" not in told and "internal_error" not in told, told
        assert len(told) < 10_000
        return answer

    def is_unharmed(self) -> None:
        status = self.secret.stat()
        assert (self.secret.read_text(), status.st_mode & 0o7777) == (SECRET, 0o600)
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())

    def reasons(self) -> set[Any]:
        """Go through all phases; return why, in one word each."""
        found = set()
        for phase in ("inspect", "prepare", "deploy", "close", "conclude"):
            answer = self.ask(phase)
            problems = [*answer.get("problems", ()), *(file["problem"] for file in answer["files"])]
            found |= {problem["reason"] for problem in problems if problem}
        return found


@pytest.fixture(name="victim")
def fixture_victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


# --- in place of the file, or of its record -------------------------------------------------------


def pipe(path: Path, victim: Victim) -> None:
    os.mkfifo(path)


def listening(path: Path, victim: Victim) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the whole path may be too long for one
        server.bind(path.name)
        os.chdir("/")


def folder(path: Path, victim: Victim) -> None:
    path.mkdir()


def link(path: Path, victim: Victim) -> None:
    path.symlink_to(victim.secret)


def link_to_nothing(path: Path, victim: Victim) -> None:
    path.symlink_to(victim.secret.parent / "made-by-root")


def link_to_itself(path: Path, victim: Victim) -> None:
    path.symlink_to(path.name)


def link_to_environment(path: Path, victim: Victim) -> None:
    path.symlink_to("/proc/self/environ")


def link_to_endless(path: Path, victim: Victim) -> None:
    path.symlink_to("/dev/zero")


def link_to_terminal(path: Path, victim: Victim) -> None:
    path.symlink_to("/dev/tty")


def another_name(path: Path, victim: Victim) -> None:
    os.link(victim.secret, path)


def sparse(path: Path, victim: Victim) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def large(path: Path, victim: Victim) -> None:
    path.write_bytes(b"A=1\n" * (1 << 19))


PLANTED = [
    pipe,
    listening,
    folder,
    link,
    link_to_nothing,
    link_to_itself,
    link_to_environment,
    link_to_endless,
    link_to_terminal,
    another_name,
    sparse,
    large,
]
REFUSED = {"not_regular", "path_is_directory", "dangling_link", "too_large", "hard_linked", "io_error"}


@pytest.mark.parametrize("plant", PLANTED)
def test_a_record_that_is_something_else_is_refused(victim: Victim, plant: Callable[[Path, Victim], None]) -> None:
    plant(victim.record, victim)
    before = victim.env.read_text()
    reasons = victim.reasons()
    assert reasons and reasons <= REFUSED
    assert victim.env.read_text() == before
    assert not (victim.secret.parent / "made-by-root").exists()


@pytest.mark.parametrize("plant", [each for each in PLANTED if each not in (link, link_to_environment)])
def test_a_file_that_is_something_else_is_refused(victim: Victim, plant: Callable[[Path, Victim], None]) -> None:
    victim.env.unlink()
    plant(victim.env, victim)
    reasons = victim.reasons()
    assert reasons and reasons <= {*REFUSED, "other_form"}
    assert not (victim.secret.parent / "made-by-root").exists()


def test_a_file_that_is_a_link_is_the_one_it_leads_to_and_nothing_of_that_is_told(victim: Victim) -> None:
    """As for every Ansible module: to whom root writes is the operator's choice; see the docs of C(path)."""
    victim.env.unlink()
    victim.env.symlink_to(victim.secret)
    assert "shadow-canary" not in json.dumps(victim.ask("inspect"))


CONTENTS = {
    "nothing": b"",
    "zeros": bytes(1000),
    "deep": b"[" * 500_000,
    "deep objects": b'{"a":' * 100_000,
    "a long number": b'{"format": ' + b"1" * 4000 + b"}",
    "a number of no form": b'{"format": 1e999, "open": NaN}',
    "surrogates": b'{"format": 1, "held": "\\ud800"}',
    "not UTF-8": b'{"format": 1, "held": "\xff"}',
    "escapes": json.dumps({"format": 1, "held": "\x1b[31m\x07", "running": {"any": ["\x1b]0;x\x07"]}}).encode(),
    "many readers": json.dumps({"format": 1, "readers": {f"{n:016x}": "0" * 16 for n in range(9000)}}).encode(),
    "many retired": json.dumps({"format": 1, "retired": [{}] * 9000}).encode(),
    "a format that is true": b'{"format": true, "open": true}',
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_record_that_is_none_counts_as_none_and_keeps_nobody_from_the_key(victim: Victim, content: str) -> None:
    victim.record.write_bytes(CONTENTS[content])
    if content == "deep":
        victim.record.write_bytes(b"[" * 500_000)
    assert victim.ask("inspect")["files"][0]["record"] in (None, *[None])
    assert victim.reasons() == set()
    assert NEW.reveal() in victim.env.read_text()


def test_a_record_is_replaced_and_not_written_into(victim: Victim) -> None:
    """Who holds it open, or has mapped it, sees no later record through that."""
    victim.record.write_text("{}")
    with victim.record.open() as opened:
        victim.ask("prepare")
        assert opened.read() == "{}" and os.fstat(opened.fileno()).st_nlink == 0


# --- while root works there -----------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("plant", [link, another_name, pipe, folder])
def test_what_is_swapped_for_the_file_gets_neither_its_owner_nor_its_mode(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path, Victim], None]
) -> None:
    """Between the read and the moment when the wanted owner and mode are given to a file that holds the key."""
    victim.ask("deploy")
    original = file_attributes.Ownership.finish

    def swapped(ownership: file_attributes.Ownership) -> bool:
        victim.env.unlink()
        plant(victim.env, victim)
        return original(ownership)

    monkeypatch.setattr(file_attributes.Ownership, "finish", swapped)
    answer = victim.ask("deploy", owner=str(USER), mode="0644")
    assert answer["problems"]


@as_root
@pytest.mark.parametrize("plant", [link, another_name, pipe, folder])
def test_what_is_swapped_for_the_replacement_gets_neither_its_owner_nor_its_mode(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path, Victim], None]
) -> None:
    original = file_attributes.Ownership.prepare
    draft = victim.home / ".env.multicart-tmp"

    def swapped(ownership: file_attributes.Ownership, path: str) -> None:
        assert draft.exists()
        draft.unlink()
        plant(draft, victim)
        original(ownership, path)

    monkeypatch.setattr(file_attributes.Ownership, "prepare", swapped)
    answer = victim.ask("deploy", owner=str(USER), mode="0644")
    assert answer["problems"]
    assert victim.env.read_text() == f"A=1\nKEY={OLD.reveal()}\n"


def test_a_lock_that_is_never_let_go_is_waited_for_in_bounded_time(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_file, "LOCK_SECONDS", 0.5)
    locked = os.open(victim.home, os.O_RDONLY)
    fcntl.flock(locked, fcntl.LOCK_EX)
    try:
        answer = victim.ask("deploy")
    finally:
        os.close(locked)
    assert [problem["reason"] for problem in answer["problems"]] == ["busy"]
    assert victim.reasons() == set()


@as_root
def test_a_replacement_belongs_to_nobody_else_for_a_moment(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the directory gives every new file an ACL, or the run has a careless umask."""
    seen = []
    original = os.rename

    def rename(source: Any, target: Any) -> None:
        status = os.stat(source)
        seen.append((status.st_mode & 0o077, status.st_uid))
        original(source, target)

    victim.env.chmod(0o600)
    monkeypatch.setattr(os, "rename", rename)
    before = os.umask(0)
    try:
        assert victim.reasons() == set()
    finally:
        os.umask(before)
    assert {mode for mode, _user in seen} == {0} and len(seen) >= 3


# --- processes ------------------------------------------------------------------------------------


def proc(root: Path, pid: int, environ: bytes, name: str = "app") -> None:
    place = root / str(pid)
    place.mkdir()
    (place / "environ").write_bytes(environ)
    (place / "stat").write_text(f"{pid} ({name}) S 1 1 1 0 -1 0")
    (place / "cgroup").write_text("0::/system.slice/x.service\n")


@pytest.mark.parametrize("name", ["a) S 0 (b", "\x1b[31m", "((", "a b", "", ")" * 15])
def test_a_process_may_be_called_anything(tmp_path: Path, name: str) -> None:
    proc(tmp_path, 7, b"K=" + OLD.reveal().encode(), name)
    hits, _hidden = processes.scan([OLD.fingerprint], root=str(tmp_path))
    assert [(hit["pid"], hit["unit"]) for hit in hits] == [(7, "x.service")]


@pytest.mark.parametrize("environ", [bytes(3_000_000), b"=" * 1_000_000, b"a.b=" * 200_000, b"\xff.\xfe\0" * 100_000])
def test_an_environment_may_hold_anything(tmp_path: Path, environ: bytes) -> None:
    proc(tmp_path, 7, environ)
    began = time.monotonic()
    assert processes.scan([OLD.fingerprint], root=str(tmp_path))[0] == []
    assert time.monotonic() - began < SECONDS


def test_a_crowd_of_processes_fills_no_answer(tmp_path: Path) -> None:
    for pid in range(2, 400):
        proc(tmp_path, pid, b"K=" + OLD.reveal().encode())
    found: Optional[list[Any]] = processes.scan([OLD.fingerprint], root=str(tmp_path))[0]
    assert found is not None and len(found) == processes.MOST_HITS
