# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that hold a key in their environment: what is found, what is left out, and where each belongs."""

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _processes as processes
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.tests.waiting import eventually

# Of this run alone: the scan sees the whole machine, and so what other workers' tests have started.
KEY, OTHER = (ApiKey(f"173axcs.{secrets.token_hex(12)}") for _key in range(2))
Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes that are no children of this one, as a daemon is none of the shell that has started it."""
    started = []

    def begin(**environment: str) -> int:
        note = tmp_path / f"pid-{len(started)}"
        script = f"setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $! > {note}"
        subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"], **environment}, check=True)
        pid = int(note.read_text())
        started.append(pid)
        # Until setsid has become it; it is called that a moment before its environment is there.
        assert eventually(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n" and holds_something(pid))
        return pid

    yield begin
    for pid in started:
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not any(holds_something(pid) for pid in started))  # or the next test finds them


def holds_something(pid: int) -> bool:
    """Tell whether a process has an environment; one that has ended has none."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes() != b""
    except OSError:
        return False


def test_a_process_is_found_by_the_key_under_any_name(start: Start) -> None:
    pids = {start(MULTICART_API_KEY=KEY.reveal()), start(SOMETHING="x", A=KEY.reveal(), B=OTHER.reveal())}
    start(NAME=f"{KEY.reveal()} and more", URL="https://example.test/a.b")
    hits, _hidden = processes.scan([KEY.fingerprint])
    assert {hit["pid"] for hit in hits} == pids
    assert {(hit["key"], hit["command"]) for hit in hits} == {(KEY.fingerprint, "sleep")}
    assert KEY.reveal() not in repr(hits)


def test_nothing_is_looked_for_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.os, "listdir", lambda path: pytest.fail("it looked"))
    assert processes.scan([]) == ([], False)


def test_a_pattern_of_a_command_leaves_it_out(start: Start) -> None:
    start(MULTICART_API_KEY=KEY.reveal())
    assert processes.scan([KEY.fingerprint], ["sl*"])[0] == []
    assert len(processes.scan([KEY.fingerprint], ["other", "app*.service"])[0]) == 1


def test_what_has_started_the_scan_and_what_it_has_started_are_left_out() -> None:
    child = subprocess.Popen(["sleep", "60"], env={"MULTICART_API_KEY": KEY.reveal()})
    try:
        assert processes.scan([KEY.fingerprint])[0] == []
    finally:
        child.kill()
        child.wait()


# --- a host of one's own making -------------------------------------------------------------------


class Proc:
    """A directory like /proc: this process and its ancestors, and others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.add(1, "systemd", 0)
        (root / "self" / "ns").mkdir(parents=True)
        (root / "self" / "ns" / "pid").symlink_to("pid:[1]")

    def add(self, pid: int, name: str, parent: int, cgroup: str = "/", tty: int = 0, **more: str) -> None:
        folder = self.root / str(pid)
        folder.mkdir()
        key = more.get("key", KEY.reveal())
        (folder / "environ").write_bytes(f"HOME=/\0MULTICART_API_KEY={key}\0".encode())
        (folder / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} {tty} -1 0")
        (folder / "cgroup").write_text(f"12:pids:/x\n1:name=systemd:{cgroup}\n0::{cgroup}\n")
        (folder / "cmdline").write_bytes(more.get("cmdline", name).replace(" ", "\0").encode())
        (folder / "ns").mkdir()
        (folder / "ns" / "pid").symlink_to(more.get("namespace", "pid:[1]"))

    def hits(self, *ignored: str) -> dict[int, tuple[str, object]]:
        found, _hidden = processes.scan([KEY.fingerprint], ignored, root=str(self.root))
        return {hit["pid"]: (hit["place"], hit["unit"]) for hit in found}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proc:
    made = Proc(tmp_path)
    (tmp_path / "1" / "environ").write_bytes(b"")
    made.add(50, "sshd", 1, "/system.slice/ssh.service", key="none")
    made.add(60, "sshd", 50, "/user.slice/user-0.slice/session-7.scope")
    made.add(70, "python3", 60, "/user.slice/user-0.slice/session-7.scope")
    monkeypatch.setattr(processes.os, "getpid", lambda: 70)
    return made


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [
        ("/system.slice/app.service", ("service", "app.service")),
        ("/system.slice/system-app.slice/app@one.service", ("service", "app@one.service")),
        ("/system.slice/app.service/worker", ("service", "app.service")),
        ("/system.slice/_memory.service", ("service", "memory.service")),  # as systemd keeps it from being memory.*
        ("/system.slice/__own.service", ("service", "_own.service")),
        ("/system.slice/app-\\x2dx.service", ("service", "app-\\x2dx.service")),
        ("/user.slice/user-7.slice/user@7.service/app.slice/mine.service", ("user_service", "mine.service")),
        ("/user.slice/user-7.slice/session-3.scope", ("session", None)),
        ("/system.slice/cron.service", ("scheduled", None)),
        ("/system.slice/docker-0123.scope", ("container", None)),
        ("/machine.slice/libpod-0123.scope/container", ("container", None)),
        ("/kubepods.slice/pod1", ("container", None)),
        ("/", ("nowhere", None)),
    ],
)
def test_a_process_belongs_where_its_control_group_is(proc: Proc, cgroup: str, place: tuple[str, object]) -> None:
    proc.add(100, "app", 1, cgroup)
    assert proc.hits() == {100: place}


def test_a_process_belongs_where_its_ancestors_terminal_or_namespace_are(proc: Proc) -> None:
    proc.add(100, "app", 1, namespace="pid:[2]")
    proc.add(200, "cron", 1, key="none")
    proc.add(201, "job", 200)
    proc.add(300, "vim", 1, tty=34816)
    proc.add(400, "tmux: server", 1, "/system.slice/x.service", key="none")
    proc.add(401, "bash", 400)
    found = {pid: place for pid, (place, _unit) in proc.hits().items()}
    assert found == {100: "container", 201: "scheduled", 300: "session", 401: "session"}


def test_the_own_login_is_left_out_and_no_other_one(proc: Proc) -> None:
    proc.add(71, "sh", 70)
    proc.add(72, "background", 60)
    proc.add(80, "sshd", 50, "/user.slice/user-0.slice/session-8.scope")
    proc.add(81, "bash", 80, "/user.slice/user-0.slice/session-8.scope")
    assert set(proc.hits()) == {80, 81}


def test_all_of_the_own_run_of_ansible_is_left_out(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    proc.add(500, "bash", 60, tty=1)
    proc.add(510, "python3", 500, cmdline="/usr/bin/python3 /usr/bin/ansible-playbook site.yml")
    proc.add(511, "python3", 510)
    proc.add(512, "ssh", 510)
    proc.add(520, "vim", 500, tty=1)
    proc.add(530, "grep", 1, cmdline="grep x /etc/ansible/hosts")
    monkeypatch.setattr(processes.os, "getpid", lambda: 511)
    assert proc.hits() == {520: ("session", None), 530: ("nowhere", None), 70: ("session", None)}


def test_a_pattern_of_a_unit_leaves_it_out(proc: Proc) -> None:
    proc.add(100, "app", 1, "/system.slice/app.service")
    proc.add(101, "app", 1, "/system.slice/web.service")
    assert proc.hits("app.*") == {101: ("service", "web.service")}


def test_no_more_are_named_than_one_reads(proc: Proc) -> None:
    for pid in range(1000, 1000 + 2 * processes.MOST_HITS):
        proc.add(pid, "app", 1)
    assert len(proc.hits()) == processes.MOST_HITS


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming nobody needs root")
def test_who_may_not_read_the_others_says_so(start: Start) -> None:
    start(MULTICART_API_KEY=KEY.reveal())
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setuid(65534)
        os.write(write, repr(processes.scan([KEY.fingerprint])).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"([], True)"
