# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How files are replaced on a host, and why not."""

import errno
import fcntl
import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional, Union

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file

LEFTOVER = ".file.multicart-tmp"
NOBODY = 65534


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"old\n")
    return path


@pytest.fixture(name="mounted")
def fixture_mounted(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "mounted"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this user may not mount file systems")
    yield place
    subprocess.run(["umount", place], check=True)


def reason_of(path: Union[Path, str], data: bytes = b"new\n", unsafe_writes: bool = False) -> Optional[str]:
    """Return why the file cannot be written; `check` and `replace` must agree, and a refusal must change nothing."""

    def attempt(action: Callable[..., object]) -> Optional[str]:
        try:
            action(host_file.read(str(path)), data, unsafe_writes)
        except host_file.HostFileError as error:
            assert str(path) in str(error)
            assert error.reason in host_file.REASONS
            return error.reason
        return None

    foretold = attempt(host_file.check)
    assert attempt(host_file.replace) == foretold
    return foretold


def as_nobody(function: Callable[..., object], *arguments: object) -> object:
    """Return what the function returns in a process without any privilege."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(sending, repr(function(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(sending)
    os.waitpid(child, 0)
    with os.fdopen(receiving) as stream:
        text = stream.read()
    return None if text == "None" else text.strip("'")


def test_replaces_and_keeps_what_it_was(file: Path) -> None:
    file.chmod(0o640)
    if not os.geteuid():
        os.chown(file, NOBODY, NOBODY)
    before = file.stat()
    host_file.replace(host_file.read(str(file)), b"new\n")
    after = file.stat()
    assert file.read_bytes() == b"new\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert os.listdir(file.parent) == ["file"]


def test_keeps_extended_attributes(file: Path) -> None:
    try:
        os.setxattr(file, "user.purpose", b"test")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    host_file.replace(host_file.read(str(file)), b"new\n")
    assert os.getxattr(file, "user.purpose") == b"test"


def test_creates_a_private_file(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    host_file.replace(host_file.read(str(tmp_path / "file")), b"new\n")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "file").read_bytes() == b"new\n"


def test_follows_a_link_and_keeps_it(file: Path) -> None:
    link = file.parent / "link"
    link.symlink_to("file")
    host_file.replace(host_file.read(str(link)), b"new\n")
    assert link.is_symlink()
    assert file.read_bytes() == b"new\n"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_removes_the_leftover_of_a_killed_run(file: Path, kind: str) -> None:
    leftover = file.parent / LEFTOVER
    victim = file.parent / "victim"
    victim.write_bytes(b"keep")
    leftover.symlink_to(victim) if kind == "link" else leftover.write_bytes(b"secret")
    host_file.sweep(host_file.read(str(file)))
    assert not os.path.lexists(leftover)
    leftover.symlink_to(victim) if kind == "link" else leftover.write_bytes(b"secret")
    host_file.replace(host_file.read(str(file)), b"new\n")
    assert not os.path.lexists(leftover)
    assert victim.read_bytes() == b"keep"


def test_prepares_before_anybody_sees_it(file: Path) -> None:
    seen = []

    def prepare(path: str) -> None:
        seen.append((Path(path).name, Path(path).read_bytes(), file.read_bytes()))

    host_file.replace(host_file.read(str(file)), b"new\n", prepare=prepare)
    assert seen == [(LEFTOVER, b"new\n", b"old\n")]


def test_leaves_nothing_behind_when_it_cannot_prepare(file: Path) -> None:
    def exits(_path: str) -> None:
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        host_file.replace(host_file.read(str(file)), b"new\n", prepare=exits)
    assert os.listdir(file.parent) == ["file"]
    assert file.read_bytes() == b"old\n"


@pytest.mark.parametrize("unsafe_writes", [False, True])
@pytest.mark.parametrize("how", ["content", "file", "gone", "appeared"])
def test_leaves_alone_what_somebody_else_changed(file: Path, how: str, unsafe_writes: bool) -> None:
    if how == "appeared":
        file.unlink()
    elif unsafe_writes:
        os.link(file, file.parent / "other")
    content = host_file.read(str(file))
    if how == "file":
        file.rename(file.parent / "moved")
    elif how == "gone":
        file.unlink()
    if how != "gone":
        file.write_bytes(b"old\n" if how == "file" else b"theirs\n")
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.replace(content, b"new\n", unsafe_writes)
    assert caught.value.reason == ("io_error" if how == "gone" and unsafe_writes else "changed_meanwhile")
    assert not (file.parent / LEFTOVER).exists()


def test_waits_for_another_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_file, "LOCK_SECONDS", 0)
    directory = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.replace(host_file.read(str(file)), b"new\n")
    assert caught.value.reason == "busy"
    os.close(directory)


def test_refuses_other_things_than_files(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_bytes(bytes(host_file.MAX_BYTES + 1))
    (tmp_path / ".taken.multicart-tmp").mkdir()
    for name, reason in {
        "": "path_is_directory",
        "fifo": "not_regular",
        "socket": "not_regular",
        "dangling": "dangling_link",
        "loop": "dangling_link",
        "large": "too_large",
        "no/file": "no_such_directory",
        "file/file": "no_such_directory",
        "file/": "path_is_directory",
        "taken": "name_taken",
        "n" * 250: "name_too_long",
        "n" * 300: "name_too_long",
    }.items():
        assert reason_of(f"{tmp_path}/{name}") == reason, name
    assert reason_of("/dev/null") == "not_regular"
    assert reason_of("file") == "not_absolute"
    assert reason_of("/a\0b") == "not_absolute"
    assert file.read_bytes() == b"old\n"


def test_hard_links_need_consent(file: Path) -> None:
    os.link(file, file.parent / "other")
    assert reason_of(file) == "hard_linked"
    assert reason_of(file, unsafe_writes=True) is None
    assert (file.parent / "other").read_bytes() == b"new\n"


class Killed(BaseException):
    """Nothing in the code under test catches it, as nothing can catch SIGKILL."""


@pytest.mark.parametrize(
    "data", [b"A=9\n", b"A=new\nB=2\n", b"A=longer than before\nB=2\n"], ids=["shorter", "as long", "longer"]
)
def test_a_write_in_place_that_is_killed_leaves_whole_lines(
    file: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Killed before the first call that changes the file, before the second, and so on to the end."""
    old = b"A=old\nB=2\n"
    os.link(file, file.parent / "other")
    found = []
    for number in itertools.count():
        file.write_bytes(old)
        with monkeypatch.context() as patch, suppress(Killed):
            _kill_before_call(number, patch)
            host_file.replace(host_file.read(str(file)), data, True)
            break
        found.append(file.read_bytes())
        host_file.replace(host_file.read(str(file)), data, True)
        assert file.read_bytes() == data
    assert {left.rstrip(b"\n") for left in found} == {old.rstrip(b"\n"), data.rstrip(b"\n")}
    assert (found[0], found[-1]) == (old, data)


def _kill_before_call(number: int, patch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def killing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(calls) == number:
                raise Killed
            return real(*arguments)

        return call

    for name in ("write", "ftruncate", "fsync"):
        patch.setattr(os, name, killing(getattr(os, name)))


@pytest.mark.parametrize("data", [b"", b"n", b"longer than before\n"])
def test_a_file_that_is_mounted_by_itself_needs_consent(file: Path, mounted: Path, data: bytes) -> None:
    source = mounted / "a source"
    source.write_bytes(b"old\n")
    subprocess.run(["mount", "--bind", source, file], check=True)
    try:
        assert reason_of(file, data) == "mount_point"
        assert source.read_bytes() == b"old\n"
        assert reason_of(file, data, unsafe_writes=True) is None
        assert source.read_bytes() == file.read_bytes() == data
    finally:
        subprocess.run(["umount", file], check=True)


def test_full_file_system(mounted: Path) -> None:
    file = mounted / "file"
    file.write_bytes(b"old\n")
    (mounted / "filling").write_bytes(bytes(60 * 1024))
    with pytest.raises(OSError, match="No space"), open(mounted / "rest", "wb", buffering=0) as rest:
        while rest.write(bytes(1)):
            rest.seek(0, os.SEEK_END)
            rest.write(bytes(4095))
    assert reason_of(file) == "no_space"
    assert reason_of(mounted / "new") == "no_space"
    assert file.read_bytes() == b"old\n"
    os.link(file, mounted / "other")
    assert reason_of(file, bytes(9000), unsafe_writes=True) == "no_space"
    assert file.read_bytes() == b"old\n"


@pytest.mark.parametrize("unsafe_writes", [False, True])
def test_read_only_file_system(mounted: Path, unsafe_writes: bool) -> None:
    (mounted / "file").write_bytes(b"old\n")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    assert reason_of(mounted / "file", unsafe_writes=unsafe_writes) == "read_only_file_system"
    assert reason_of(mounted / "new") == "read_only_file_system"


@pytest.mark.parametrize("flag", ["i", "a"])
@pytest.mark.parametrize("which", ["file", "directory"])
def test_flags(file: Path, flag: str, which: str) -> None:
    flagged = file if which == "file" else file.parent
    if not shutil.which("chattr") or subprocess.run(["chattr", f"+{flag}", flagged], check=False).returncode:
        pytest.skip("no flags on this file system, or no privilege to set them")
    try:
        assert reason_of(file) == "immutable"
        expected = None if which == "directory" else "not_writable"
        assert reason_of(file, unsafe_writes=True) == expected
    finally:
        subprocess.run(["chattr", f"-{flag}", flagged], check=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_without_privilege() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to others
        file = Path(place, "file")
        file.write_bytes(b"old\n")
        check_without_privilege(file)


def check_without_privilege(file: Path) -> None:
    file.parent.chmod(0o755)
    assert as_nobody(reason_of, file) == "not_writable"
    assert as_nobody(reason_of, file.parent / "new") == "not_writable"
    file.chmod(0o600)
    assert as_nobody(reason_of, file) == "unreadable"
    file.chmod(0o666)
    assert as_nobody(reason_of, file, b"new\n", True) is None
    assert file.read_bytes() == b"new\n"
    file.parent.chmod(0o777)
    assert as_nobody(reason_of, file) == "owner_kept"
    file.parent.chmod(0o1777)
    assert as_nobody(reason_of, file) == "not_writable"
    assert as_nobody(reason_of, file.parent / "new") is None


def test_without_files_that_have_no_name(file: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems cannot do what `check` tries first; it then asks instead, and is nearly as truthful."""
    real = os.open

    def refusing(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    assert reason_of(file) is None
    (mounted / "filling").write_bytes(bytes(64 * 1024))
    assert reason_of(mounted / "new", b"12345") == "no_space"


PYTHONS = ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]
WRITE = """
import sys
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
content = host_file.read(sys.argv[1])
wanted = env_file.with_value(content.data, "KEY", b"173axcs.new")
assert not host_file.check(content, wanted)
host_file.replace(content, wanted)
assert env_file.key_in(env_file.assignments(host_file.read(sys.argv[1]).data, "KEY")[0]).prefix == "173axcs"
try:
    env_file.with_value(b"A='\\\\\\nKEY=x\\n", "KEY", b"a.b")
except env_file.Ambiguous:
    print("done")
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_on_the_pythons_of_managed_hosts(version: str, file: Path) -> None:
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = str(installed[-1]) if installed else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    collections = next(
        path for path in sys.path if Path(path, "ansible_collections/multicart/keys/galaxy.yml").exists()
    )
    file.write_bytes(b"export KEY='p.old' # ours\n")
    done = subprocess.run(
        [python, "-W", "error", "-c", WRITE, str(file)],
        env={"PYTHONPATH": collections, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")
    assert file.read_bytes() == b"export KEY='173axcs.new' # ours\n"


# --- X6: what no other test would miss ------------------------------------------------------------


@pytest.mark.parametrize("in_place", [False, True])
def test_x6_no_file_is_opened_through_a_link_and_none_that_was_there_is_taken_for_the_new_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    opened = []
    real = os.open

    def watched(path: Any, flags: int, *mode: Any, **more: Any) -> int:
        opened.append((os.path.basename(os.fspath(path)), flags))
        return real(path, flags, *mode, **more)

    if in_place:
        os.link(file, file.with_name("another name"))
    monkeypatch.setattr(os, "open", watched)
    content = host_file.read(str(file))
    assert [bool(each & os.O_NOFOLLOW) for found, each in opened if found == "file"] == [True]
    opened.clear()
    host_file.replace(content, b"new\n", in_place)
    # What is opened to be read is only looked at: compared, or asked for its flags.
    opened[:] = [(found, each) for found, each in opened if each & (os.O_WRONLY | os.O_RDWR)]
    flags = {name: [each for found, each in opened if found == name] for name in ("file", LEFTOVER)}
    assert file.read_bytes() == b"new\n"
    assert bool(flags["file"]) == in_place != bool(flags[LEFTOVER])
    assert all(each & os.O_NOFOLLOW for found in flags.values() for each in found)
    assert all(each & os.O_EXCL for each in flags[LEFTOVER])


@pytest.mark.parametrize("kind", ["link", "hard link", "file"])
def test_x6_what_is_planted_in_place_of_the_new_file_is_not_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs\n")
    content = host_file.read(str(file))
    real = host_file.check

    def planted(*arguments: Any) -> Any:
        place = file.with_name(LEFTOVER)
        if kind == "link":
            place.symlink_to(victim)
        elif kind == "hard link":
            os.link(victim, place)
        else:
            place.write_bytes(b"")
            place.chmod(0o666)
        return real(*arguments)

    monkeypatch.setattr(host_file, "check", planted)
    with pytest.raises(host_file.HostFileError):
        host_file.replace(content, b"new\n", False)
    assert (victim.read_bytes(), file.read_bytes()) == (b"theirs\n", b"old\n")


def test_x6_the_new_file_is_on_the_disk_before_it_takes_the_place_and_the_place_before_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        happened.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def renamed(source: Any, target: Any) -> None:
        happened.append(("rename", os.stat(source).st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    host_file.replace(host_file.read(str(file)), b"new\n", False)
    inode, folder = file.stat().st_ino, file.parent.stat().st_ino
    assert happened == [("fsync", inode), ("rename", inode), ("fsync", folder)]


def test_x6_an_acl_that_only_the_directory_gives_is_not_kept(file: Path) -> None:
    everybody = [(1, 6, -1), (2, 6, NOBODY), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in everybody)
    try:
        os.setxattr(file.parent, "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("this file system knows no ACL")
    host_file.replace(host_file.read(str(file)), b"new\n", False)
    assert file.read_bytes() == b"new\n"
    assert "system.posix_acl_access" not in os.listxattr(file)
