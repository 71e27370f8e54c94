# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file module on a host that is broken, full, or in the hands of somebody else, as root and as nobody.

Whatever the place: a clear reason or the correct file, never half a file, never a file elsewhere, nothing left behind.
"""

import contextlib
import importlib.util
import io
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible.module_utils import basic
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils._key_file import KeyFile
from ansible_collections.multicart.keys.plugins.modules import multicart_env_file

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

NOBODY = 65534
NAME = "MULTICART_API_KEY"
OLD, NEW = "173axcs.OLDcanary0old", "173axcs.NEWcanary0new"
TEXT = f"# first\nA=1\n{NAME}={OLD}\n# last\n"
WRITTEN = TEXT.replace(OLD, NEW)
REQUEST = {"state_dir": None, "services": [], "commands": [], "live": None, "account": None, "check_mode": False}


def inspected(path: Path, **wanted: Any) -> Optional[dict[str, str]]:
    """Return what the inspection of the roles finds wrong with a file, when nobody's process inspects it."""
    entry = {"path": str(path), "variable": NAME, "owner": None, "group": None, "mode": None, "unsafe_writes": False}
    problem = in_a_child(lambda: KeyFile({**entry, **wanted}, REQUEST).describe()["problem"], NOBODY)
    return None if problem is None else dict(problem)


def in_a_child(work: Callable[[], Any], user: int = 0, limit: Optional[int] = None) -> Any:
    """Return what the work returns in a process of that user, whose files may grow to the limit."""
    if user != os.geteuid() and importlib.util.find_spec("ansible.cli") is None:
        pytest.skip("ansible-test gives tests of modules a part of Ansible that no other user may read")
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            if user != os.geteuid():
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.write(sending, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as stream:
        answered = stream.read()
    os.waitpid(child, 0)
    return json.loads(answered)


def write(path: Path, user: int = 0, limit: Optional[int] = None, **options: Any) -> str:
    """Run the module and return its reason, or what became of the file."""

    def run() -> str:
        out = io.StringIO()
        arguments = {"path": str(path), "value": NEW, "_ansible_remote_tmp": "/tmp", **options}
        basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        basic._ANSIBLE_PROFILE = "legacy"
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            multicart_env_file.main()
        assert "canary" not in out.getvalue()
        result = json.loads(out.getvalue())
        if result.get("failed"):
            assert str(path)[:200] in result["msg"]
        return str(result.get("reason") or ("changed" if result["changed"] else "ok"))

    return str(in_a_child(run, user, limit))


@pytest.fixture(name="place")
def fixture_place() -> Iterator[Path]:
    """A folder that everybody may use; what is mounted below it is unmounted."""
    if os.geteuid():
        pytest.skip("only root can become somebody else, and make devices")
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        place = Path(os.path.realpath(name))
        place.chmod(0o777)
        (place / "file").write_text(TEXT)
        (place / "file").chmod(0o666)
        yield place
        subprocess.run(["chattr", "-R", "-i", "-a", str(place)], capture_output=True, check=False)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(place)):
                subprocess.run(["umount", line.split()[4]], check=True)


def run(*command: Any) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")


def snapshot(place: Path) -> dict[str, Any]:
    """Return everything below the folder, with content where there is any."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(path.relative_to(place))] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, content)
    return found


# --- places ---------------------------------------------------------------------------------------


def plain(place: Path) -> Path:
    return place / "file"


def missing(place: Path) -> Path:
    return place / "new"


def fifo(place: Path) -> Path:
    os.mkfifo(place / "fifo")
    return place / "fifo"


def link_to_fifo(place: Path) -> Path:
    (place / "link").symlink_to(fifo(place))
    return place / "link"


def unix_socket(place: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket"))
    return place / "socket"


def device(kind: int) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        try:
            os.mknod(place / "device", 0o666 | kind, os.makedev(1, 3 if kind == stat.S_IFCHR else 0))
        except OSError as error:
            pytest.skip(f"devices cannot be made here: {error}")
        return place / "device"

    return make


def directory(place: Path) -> Path:
    (place / "directory").mkdir()
    return place / "directory"


def dangling(place: Path) -> Path:
    (place / "link").symlink_to("nowhere/at/all")
    return place / "link"


def loop(place: Path) -> Path:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    return place / "a"


def hard_link(place: Path) -> Path:
    os.link(place / "file", place / "other")
    return place / "file"


def leftover_is_a_directory(place: Path) -> Path:
    (place / ".file.multicart-tmp").mkdir()
    return place / "file"


def private(place: Path) -> Path:
    (place / "file").chmod(0o600)
    return place / "file"


def closed_directory(place: Path) -> Path:
    place.chmod(0o755)
    return place / "file"


def sticky_directory(place: Path) -> Path:
    place.chmod(0o1777)
    return place / "file"


def _mounted(place: Path, options: str) -> Path:
    (place / "mounted").mkdir()
    run("mount", "-t", "tmpfs", "-o", f"mode=0777,{options}", "tmpfs", place / "mounted")
    (place / "mounted" / "file").write_text(TEXT)
    (place / "mounted" / "file").chmod(0o666)
    os.chown(place / "mounted" / "file", NOBODY, NOBODY)
    return place / "mounted" / "file"


def full(place: Path) -> Path:
    file = _mounted(place, "size=64k")
    with contextlib.suppress(OSError), open(file.parent / "filling", "wb", buffering=0) as filling:
        while filling.write(bytes(4096)):
            pass
    return file


def full_of_files(place: Path) -> Path:
    return _mounted(place, "nr_inodes=2")


def read_only(place: Path) -> Path:
    file = _mounted(place, "size=64k")
    run("mount", "-o", "remount,ro", file.parent)
    return file


def read_only_bind_mount(place: Path) -> Path:
    source = _mounted(place, "size=64k").parent
    (place / "bound").mkdir()
    run("mount", "--bind", source, place / "bound")
    run("mount", "-o", "remount,bind,ro", place / "bound")
    return place / "bound" / "file"


def mounted_file(place: Path) -> Path:
    (place / "source").write_text(TEXT)
    (place / "source").chmod(0o666)
    run("mount", "--bind", place / "source", place / "file")
    return place / "file"


def read_only_mounted_file(place: Path) -> Path:
    file = mounted_file(place)
    run("mount", "-o", "remount,bind,ro", file)
    return file


def immutable(place: Path) -> Path:
    run("chattr", "+i", place / "file")
    return place / "file"


def append_only_directory(place: Path) -> Path:
    run("chattr", "+a", place)
    return place / "file"


# What root is told, what nobody is, and what either is told with unsafe_writes.
PLACES: list[tuple[Callable[[Path], Path], str, str, str, str]] = [
    (plain, "changed", "owner_kept", "changed", "changed"),
    (missing, "changed", "changed", "changed", "changed"),
    (fifo, "not_regular", "not_regular", "not_regular", "not_regular"),
    (link_to_fifo, "not_regular", "not_regular", "not_regular", "not_regular"),
    (unix_socket, "not_regular", "not_regular", "not_regular", "not_regular"),
    (device(stat.S_IFCHR), "not_regular", "not_regular", "not_regular", "not_regular"),
    (device(stat.S_IFBLK), "not_regular", "not_regular", "not_regular", "not_regular"),
    (directory, "path_is_directory", "path_is_directory", "path_is_directory", "path_is_directory"),
    (dangling, "dangling_link", "dangling_link", "dangling_link", "dangling_link"),
    (loop, "dangling_link", "dangling_link", "dangling_link", "dangling_link"),
    (hard_link, "hard_linked", "hard_linked", "changed", "changed"),
    (leftover_is_a_directory, "name_taken", "name_taken", "name_taken", "name_taken"),
    (private, "changed", "unreadable", "changed", "unreadable"),
    (closed_directory, "changed", "not_writable", "changed", "changed"),
    (sticky_directory, "changed", "not_writable", "changed", "changed"),
    (full, "no_space", "no_space", "no_space", "no_space"),
    (full_of_files, "no_space", "no_space", "no_space", "no_space"),
    (read_only, *["read_only_file_system"] * 4),
    (read_only_bind_mount, *["read_only_file_system"] * 4),
    (mounted_file, "mount_point", "mount_point", "changed", "changed"),
    (read_only_mounted_file, "mount_point", "mount_point", "read_only_file_system", "read_only_file_system"),
    (immutable, "immutable", "immutable", "not_writable", "not_writable"),
    (append_only_directory, "immutable", "immutable", "changed", "changed"),
]


@pytest.mark.parametrize("unsafe_writes", [False, True], ids=["atomic", "in place"])
@pytest.mark.parametrize("user", [0, NOBODY], ids=["root", "nobody"])
@pytest.mark.parametrize("row", PLACES, ids=lambda row: getattr(row[0], "__name__", "device"))
def test_a_place_has_its_answer(place: Path, row: Any, user: int, unsafe_writes: bool) -> None:
    make, *expected = row
    path = make(place)
    before = snapshot(place)
    options = {"unsafe_writes": unsafe_writes}
    foretold = write(path, user, _ansible_check_mode=True, **options)
    assert snapshot(place) == before
    assert write(path, user, **options) == foretold == expected[2 * unsafe_writes + (user == NOBODY)]
    if foretold == "changed":
        assert path.read_text() == (WRITTEN if make is not missing else f"{NAME}={NEW}\n")
        assert {*snapshot(place)} - {*before} <= {"new"}
    else:
        assert snapshot(place) == before


@pytest.mark.parametrize("unsafe_writes", [False, True], ids=["atomic", "in place"])
@pytest.mark.parametrize("limit", [0, 1, 30, 4096])
def test_room_that_ends_half_way_changes_nothing(place: Path, limit: int, unsafe_writes: bool) -> None:
    """As a quota does that nothing in the file system shows: the write itself stops after so many bytes."""
    file = place / "file"
    file.write_text(TEXT + "#" * 5000)
    if unsafe_writes:
        os.link(file, place / "other")
    before = snapshot(place)
    assert write(file, limit=limit, unsafe_writes=unsafe_writes) == "no_space"
    assert snapshot(place) == before


@pytest.mark.parametrize("wanted", [{"owner": "0"}, {"group": "0"}, {"owner": "9" * 30}])
def test_an_owner_that_cannot_be_given_is_foretold(place: Path, wanted: dict[str, str]) -> None:
    """By check mode, and by the inspection of the role, before the old key is revoked."""
    os.chown(place / "file", NOBODY, NOBODY)
    before = snapshot(place)
    assert write(place / "file", NOBODY, _ansible_check_mode=True, **wanted) == "attributes_refused"
    assert write(place / "file", NOBODY, **wanted) == "attributes_refused"
    problem = inspected(place / "file", **wanted)
    assert problem is not None
    assert problem["reason"] == "attributes_refused"
    assert "cannot be given that owner" in problem["text"]
    assert snapshot(place) == before


def test_it_is_foretold_too_where_only_a_write_in_place_is_possible(place: Path) -> None:
    os.chown(place / "file", NOBODY, NOBODY)
    os.link(place / "file", place / "other")
    before = snapshot(place)
    for options in ({"_ansible_check_mode": True}, {}):
        assert write(place / "file", NOBODY, unsafe_writes=True, owner="0", **options) == "attributes_refused"
    assert snapshot(place) == before
    assert write(place / "file", NOBODY, unsafe_writes=True, owner=str(NOBODY), group=str(NOBODY)) == "changed"


def test_a_mode_that_cannot_be_given_in_place_is_foretold(place: Path) -> None:
    """Who may write into somebody else's file may not give it another mode."""
    (place / "file").chmod(0o666)
    os.link(place / "file", place / "other")
    problem = inspected(place / "file", mode="0600", unsafe_writes=True)
    assert problem is not None
    assert problem["reason"] == "attributes_refused"
    assert inspected(place / "file", mode="0666", unsafe_writes=True) is None
    os.chown(place / "file", NOBODY, NOBODY)
    assert inspected(place / "file", mode="0600", unsafe_writes=True) is None
    assert (place / "file").read_text() == TEXT


# --- somebody else is at work ---------------------------------------------------------------------


def swap_directory(place: Path) -> None:
    (place / "in").rename(place / "was")
    (place / "elsewhere").rename(place / "in")


def link_directory(place: Path) -> None:
    (place / "in").rename(place / "was")
    (place / "in").symlink_to("elsewhere")


def link_file(place: Path) -> None:
    (place / "in" / "file").unlink(missing_ok=True)
    (place / "in" / "file").symlink_to(place / "elsewhere" / "file")


def make_fifo(place: Path) -> None:
    (place / "in" / "file").unlink(missing_ok=True)
    os.mkfifo(place / "in" / "file")


def remove_directory(place: Path) -> None:
    (place / "in").rename(place / "was")


@pytest.mark.parametrize("swap", [swap_directory, link_directory, link_file, make_fifo, remove_directory])
@pytest.mark.parametrize("exists", [True, False], ids=["a file", "a new file"])
@pytest.mark.parametrize("unsafe_writes", [False, True], ids=["atomic", "in place"])
def test_what_is_swapped_between_look_and_write_is_left_alone(
    tmp_path: Path, swap: Callable[[Path], None], exists: bool, unsafe_writes: bool
) -> None:
    for folder in ("in", "elsewhere"):
        (tmp_path / folder).mkdir()
        if exists:
            (tmp_path / folder / "file").write_text(TEXT)
            if unsafe_writes:
                os.link(tmp_path / folder / "file", tmp_path / folder / "other")
    content = host_file.read(str(tmp_path / "in" / "file"))
    swap(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.replace(content, WRITTEN.encode(), unsafe_writes)
    assert caught.value.reason in ("changed_meanwhile", "io_error")
    assert snapshot(tmp_path) == before


def test_a_link_that_is_turned_meanwhile_does_not_lead_the_key_elsewhere(tmp_path: Path) -> None:
    for name in ("mine", "theirs"):
        (tmp_path / name).write_text(TEXT)
    link = tmp_path / "link"
    link.symlink_to("mine")
    content = host_file.read(str(link))
    link.unlink()
    link.symlink_to("theirs")
    host_file.replace(content, WRITTEN.encode())
    assert ((tmp_path / "mine").read_text(), (tmp_path / "theirs").read_text()) == (WRITTEN, TEXT)


def test_a_directory_that_is_swapped_all_the_time_never_leads_elsewhere(tmp_path: Path) -> None:
    """The user's folder and a link to somebody else's take turns under the writer's feet."""
    for folder in ("mine", "theirs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text(TEXT)
    theirs = f"# theirs\n{TEXT}"
    (tmp_path / "theirs" / "file").write_text(theirs)
    (tmp_path / "link").symlink_to("theirs")
    (tmp_path / "mine").rename(tmp_path / "in")
    over = threading.Event()

    def flip() -> None:
        while not over.is_set():
            (tmp_path / "in").rename(tmp_path / "away")
            (tmp_path / "link").rename(tmp_path / "in")
            (tmp_path / "in").rename(tmp_path / "link")
            (tmp_path / "away").rename(tmp_path / "in")

    flipping = threading.Thread(target=flip)
    flipping.start()
    reasons = set()
    try:
        for number in range(200):
            with contextlib.suppress(host_file.HostFileError):
                content = host_file.read(str(tmp_path / "in" / "file"))
                if content.data is None or content.data.startswith(b"# theirs"):
                    continue  # the link was followed, as anybody may ask for
                key = f"173axcs.n{number}".encode()
                host_file.replace(content, env_file.with_value(content.data, NAME, key))
                reasons.add("changed")
    finally:
        over.set()
        flipping.join()
    assert (tmp_path / "theirs" / "file").read_text() == theirs
    assert write_here(tmp_path / "in" / "file") == WRITTEN
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"in", "in/file", "link", "theirs", "theirs/file"}


def write_here(file: Path) -> str:
    content = host_file.read(str(file))
    assert content.data is not None
    host_file.replace(content, env_file.with_value(content.data, NAME, NEW.encode()))
    return file.read_text()


_WRITER = """
import os, sys
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
path, writers, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(writers):
    if os.fork():
        continue
    for turn in range(rounds):
        while True:
            try:
                content = host_file.read(path)
                key = "173axcs.w%dt%d" % (number, turn)
                data = env_file.with_value(content.data, "KEY_%d" % number, key.encode())
                host_file.replace(content, env_file.with_value(data, "SHARED", key.encode()))
                break
            except host_file.HostFileError as error:
                if error.reason not in ("changed_meanwhile", "busy"):
                    raise
    os._exit(0)
while True:
    try:
        if os.wait()[1]:
            sys.exit(1)
    except ChildProcessError:
        break
"""


@pytest.mark.parametrize("writers", [20])
def test_many_writers_at_once_lose_nothing_and_nobody_reads_half_a_file(tmp_path: Path, writers: int) -> None:
    file = tmp_path / "file"
    file.write_text(
        "# first\nSHARED=173axcs.none\n" + "".join(f"KEY_{i}=173axcs.none\n" for i in range(writers)) + "# last\n"
    )
    collections = next(
        path for path in sys.path if Path(path, "ansible_collections/multicart/keys/galaxy.yml").exists()
    )
    started = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(file), str(writers), "2"], env={"PYTHONPATH": collections}
    )
    reads = 0
    deadline = time.monotonic() + 120
    while started.poll() is None and time.monotonic() < deadline:
        text = file.read_text()
        assert text.startswith("# first\nSHARED=173axcs.") and text.endswith("\n# last\n")
        assert text.count("\n") == writers + 3
        reads += 1
    assert started.wait(1) == 0
    assert reads > 10
    values = dict(line.split("=") for line in file.read_text().splitlines() if "=" in line)
    shared = values.pop("SHARED")
    assert values == {f"KEY_{number}": f"173axcs.w{number}t1" for number in range(writers)}
    assert shared in values.values()
    assert os.listdir(tmp_path) == ["file"]
