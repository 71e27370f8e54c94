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
from types import SimpleNamespace
from typing import Any, List, Optional, Tuple, Union

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
            assert error.path == str(path)
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


def test_reads_what_a_path_leads_to(file: Path) -> None:
    content, missing = host_file.read(str(file)), host_file.read(f"{file}2", is_public=True)
    assert (content.data, content.is_public) == (b"old\n", False)
    assert (missing.data, missing.status, missing.is_public) == (None, None, True)
    assert host_file.read(str(file), is_public=True).is_public


def test_reads_what_is_just_not_too_large_and_no_more_than_a_byte_of_the_rest(file: Path) -> None:
    file.write_bytes(bytes(host_file.MAX_BYTES))
    assert len(host_file.read(str(file)).data) == host_file.MAX_BYTES
    file.write_bytes(bytes(host_file.MAX_BYTES + 5))
    assert len(host_file._slurp(str(file))[0]) == host_file.MAX_BYTES + 1


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


def test_a_public_file_is_for_all_and_belongs_to_who_wrote_it(file: Path) -> None:
    file.chmod(0o600)
    if not os.geteuid():
        os.chown(file, NOBODY, NOBODY)
    before = []

    def prepare(path: str) -> None:
        before.append(os.stat(path).st_mode & 0o777)

    for path in (file, file.with_name("new")):
        host_file.replace(host_file.read(str(path), is_public=True), b"new\n", prepare=prepare)
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o644, os.geteuid())
    assert before == [0o600, 0o600]


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


def test_prepares_the_file_itself_before_it_is_written_in_place(file: Path) -> None:
    os.link(file, file.with_name("other"))
    seen = []

    def prepare(path: str) -> None:
        seen.append((Path(path).name, Path(path).read_bytes()))

    host_file.replace(host_file.read(str(file)), b"new\n", True, prepare=prepare)
    assert seen == [("file", b"old\n")]
    assert file.read_bytes() == b"new\n"


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
    if how == "gone" and unsafe_writes:
        assert str(caught.value) == f"path {file} cannot be used (No such file or directory); repair that first"
    else:
        assert caught.value.reason == "changed_meanwhile"
    assert not (file.parent / LEFTOVER).exists()


def test_removes_a_file_that_is_still_as_it_was_read_and_no_other(file: Path) -> None:
    content = host_file.read(str(file))
    file.write_bytes(b"changed\n")
    with pytest.raises(host_file.HostFileError) as refused:
        host_file.remove(content)
    assert (refused.value.reason, refused.value.path, file.read_bytes()) == (
        "changed_meanwhile",
        str(file),
        b"changed\n",
    )
    host_file.remove(host_file.read(str(file)))
    assert os.listdir(file.parent) == []


def test_removes_nothing_in_a_directory_that_took_the_place_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"old\n")
    content = host_file.read(str(folder / "file"))
    folder.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", folder)
    with pytest.raises(host_file.HostFileError):
        host_file.remove(content)
    assert (folder / "file").exists() and (tmp_path / "moved" / "file").exists()


def test_leaves_a_file_alone_whose_directory_was_moved_away(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    content = host_file.read(str(place / "file"))
    place.rename(tmp_path / "moved")
    place.mkdir()
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.replace(content, b"new\n")
    assert (caught.value.reason, caught.value.path) == ("changed_meanwhile", str(place / "file"))
    assert os.listdir(place) == os.listdir(tmp_path / "moved") == []


def test_refuses_what_took_the_place_of_a_file_that_was_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def swapping(path: str, *arguments: Any) -> int:
        file.unlink()
        os.mkfifo(file)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.read(str(file))
    assert (caught.value.reason, caught.value.path) == ("not_regular", str(file))


def test_waits_for_another_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_file, "LOCK_SECONDS", 0)
    directory = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.replace(host_file.read(str(file)), b"new\n")
    assert caught.value.reason == "busy"
    os.close(directory)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_names_the_file_that_cannot_be_read(file: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """EPERM is what some security modules of the kernel answer."""

    def refusing(*_arguments: Any) -> int:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.read(str(file))
    assert (caught.value.reason, caught.value.path) == ("unreadable", str(file))


def test_refuses_other_things_than_files(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "large").write_bytes(bytes(host_file.MAX_BYTES + 1))
    (tmp_path / ".taken.multicart-tmp").mkdir()
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "": "path_is_directory",
        "folder": "path_is_directory",
        "fifo": "not_regular",
        "socket": "not_regular",
        "dangling": "dangling_link",
        "loop": "dangling_link",
        "large": "too_large",
        "no/file": "no_such_directory",
        "file/file": "no_such_directory",
        "file/": "path_is_directory",
        "taken": "name_taken",
        "n" * 240: None,
        "n" * 241: "name_too_long",
        "n" * 300: "name_too_long",
    }.items():
        assert reason_of(f"{tmp_path}/{name}") == reason, name
    assert reason_of("/dev/null") == "not_regular"
    assert reason_of("file") == "not_absolute"
    assert reason_of("/a\0b") == "not_absolute"
    assert file.read_bytes() == b"old\n"


def test_names_the_directory_that_stands_in_the_way_which_no_consent_removes(file: Path) -> None:
    (file.parent / LEFTOVER).mkdir()
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.check(host_file.read(str(file)), b"new\n", True)
    assert caught.value.reason == "name_taken"
    assert f"({file.parent / LEFTOVER}); remove it" in str(caught.value)


def test_hard_links_need_consent(file: Path) -> None:
    os.link(file, file.parent / "other")
    assert reason_of(file) == "hard_linked"
    for action in (host_file.check, host_file.replace):
        with pytest.raises(host_file.HostFileError, match="other names"):
            action(host_file.read(str(file)), b"new\n")
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
    assert {len(left) for left in found} <= {len(old), len(data)}
    assert (found[0], found[-1]) == (old, data)


@pytest.mark.parametrize("ever_again", [True, False])
@pytest.mark.parametrize("data", [b"A=new\nB=2\n", b"A=longer than before\nB=2\n"], ids=["as long", "longer"])
def test_a_write_in_place_that_fails_gives_the_old_content_back(
    file: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, ever_again: bool
) -> None:
    """A disk that is full after three bytes, and where nothing is ever written again unless that was there before."""
    old = b"A=old\nB=2\n"
    file.write_bytes(old)
    os.link(file, file.with_name("other"))
    calls, real = itertools.count(), os.write

    def filling(descriptor: int, view: memoryview) -> int:
        number = next(calls)
        if number == 1 or (number > 1 and not ever_again):
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, view if number else view[:3])

    content = host_file.read(str(file))
    if len(data) == len(old):
        # Half of the new bytes stay where not even the old ones can be written.
        old = old if ever_again else data[:3] + old[3:]
    with monkeypatch.context() as patch, pytest.raises(host_file.HostFileError) as caught:
        patch.setattr(host_file, "check", lambda *_arguments: True)
        patch.setattr(os, "write", filling)
        host_file.replace(content, data, True)
    assert (caught.value.reason, file.read_bytes()) == ("no_space", old)


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
def test_a_file_that_is_mounted_by_itself_needs_consent(tmp_path: Path, mounted: Path, data: bytes) -> None:
    # /proc/self/mountinfo escapes some kinds of white space.
    source, file = mounted / "a\rsource", tmp_path / "of an\told\\kind"
    source.write_bytes(b"old\n")
    file.touch()
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


@pytest.fixture(name="only_named")
def fixture_only_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without files that have no name, which `check` tries first; it then asks instead."""
    real = os.open

    def refusing(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("asking", [False, True])
def test_without_privilege(request: pytest.FixtureRequest, asking: bool) -> None:
    if asking:
        request.getfixturevalue("only_named")
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to others
        file = Path(place, "file")
        file.write_bytes(b"old\n")
        check_without_privilege(file)


def check_without_privilege(file: Path) -> None:
    assert reason_of(file, b"old\n") is None  # in this process, where mutmut sees what is called
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


@pytest.mark.usefixtures("only_named")
def test_without_files_that_have_no_name(file: Path, mounted: Path) -> None:
    assert reason_of(file) is None
    assert reason_of(mounted / "new", b"12345") is None
    (mounted / "filling").write_bytes(bytes(60 * 1024))
    assert reason_of(mounted / "another", b"12345") == "no_space"


def test_on_a_system_that_does_not_know_files_without_a_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    assert reason_of(file) is None


@pytest.mark.usefixtures("only_named")
@pytest.mark.parametrize("user", [0, NOBODY])
def test_counts_on_the_space_that_this_user_may_fill(file: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    for_root, for_others = (1, 0) if user == 0 else (0, 1)
    room = SimpleNamespace(f_frsize=4, f_bfree=for_root, f_bavail=for_others, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "statvfs", lambda _path: room)
    new, shared = file.with_name("new"), file.with_name("shared")
    shared.write_bytes(b"old\n")
    os.link(shared, file.with_name("other"))
    assert not host_file.check(host_file.read(str(new)), bytes(4))
    assert host_file.check(host_file.read(str(shared)), bytes(8), True)  # four of them are there already
    for path, data in ((new, bytes(5)), (shared, bytes(9))):
        with pytest.raises(host_file.HostFileError) as caught:
            host_file.check(host_file.read(str(path)), data, True)
        assert (caught.value.reason, caught.value.path) == ("no_space", str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("asking", [False, True])
def test_root_may_replace_a_file_of_another_in_a_directory_of_a_third(
    request: pytest.FixtureRequest, file: Path, asking: bool
) -> None:
    if asking:
        request.getfixturevalue("only_named")
    file.parent.chmod(0o1777)
    os.chown(file.parent, NOBODY, NOBODY)
    os.chown(file, 1, 1)
    assert reason_of(file) is None
    assert file.stat().st_uid == 1


def test_tries_the_owner_and_group_that_the_file_is_to_be_given(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(os, "fchown", lambda _descriptor, *ids: given.append(ids))
    content = host_file.read(str(file))
    assert not host_file.check(content, b"new\n")
    assert not host_file.check(content, b"new\n", ids=(5, 6))
    assert given == [(5, 6)]
    monkeypatch.undo()
    with pytest.raises(host_file.HostFileError) as caught:
        host_file.check(content, b"new\n", ids=(2**40, -1))
    assert (caught.value.reason, caught.value.path) == ("attributes_refused", str(file))


MAY_GIVE = {
    "existing": [(-1, -1), (3000, 3001), (1000, 1001), (-1, 2000), (1000, -1)],
    "new": [(-1, -1), (1000, 1001), (-1, 2000), (1000, 2000)],
}
MAY_NOT_GIVE = {
    "existing": [(0, -1), (-1, 0), (3001, -1), (-1, 3000), (2000, -1), (1001, -1), (-1, 1000)],
    "new": [(0, -1), (-1, 0), (3000, -1), (-1, 3001), (1, -1), (-1, 1), (-2, -1), (-1, -2)],
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.usefixtures("only_named")
@pytest.mark.parametrize(
    ("which", "ids", "may"),
    [
        (which, ids, may)
        for may, listed in ((True, MAY_GIVE), (False, MAY_NOT_GIVE))
        for which in listed
        for ids in listed[which]
    ],
)
def test_who_is_not_root_may_give_a_file_to_whom_it_belongs_and_to_groups_of_their_own(
    file: Path, monkeypatch: pytest.MonkeyPatch, which: str, ids: Tuple[int, int], may: bool
) -> None:
    file = file if which == "existing" else file.with_name("new")
    if which == "existing":
        os.chown(file, 3000, 3001)
        os.link(file, file.with_name("other"))  # so that it is written in place
    content = host_file.read(str(file))
    assert host_file.check(content, b"new\n", True, ids) == (which == "existing")  # root may do anything
    for name, mine in {"geteuid": 1000, "getegid": 1001, "getgroups": [1001, 2000]}.items():
        monkeypatch.setattr(os, name, lambda mine=mine: mine)
    if may:
        assert host_file.check(content, b"new\n", True, ids) == (which == "existing")
        return
    for action in (host_file.check, lambda *given: host_file.replace(*given[:3], ids=given[3])):
        with pytest.raises(host_file.HostFileError) as caught:
            action(content, b"new\n", True, ids)
        assert (caught.value.reason, caught.value.path) == ("attributes_refused", str(file))
    assert host_file.read(str(file)).data == content.data


def test_consent_to_write_in_place_makes_no_new_file_where_none_may_be(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_file, "_is_flagged", lambda path: os.path.realpath(path) == str(file.parent))
    assert reason_of(file.with_name("new"), unsafe_writes=True) == "immutable"


@pytest.mark.parametrize("action", [host_file.sweep, host_file.remove])
def test_names_the_file_that_cannot_be_removed_or_whose_leftover_cannot(
    file: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[..., None]
) -> None:
    file.with_name(LEFTOVER).touch()
    content = host_file.read(str(file))

    def unlink(_path: str) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(host_file.HostFileError) as caught:
        action(content)
    assert (caught.value.reason, caught.value.path) == ("not_writable", str(file))


def test_without_a_list_of_mounts_no_file_is_taken_for_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_arguments: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "no")

    monkeypatch.setattr("builtins.open", missing)
    assert host_file.check(host_file.read(str(file)), b"new\n") is False


@pytest.mark.parametrize("flags", [0x10, 0x20, 0x30, ~0x30, None])
@pytest.mark.parametrize(("size", "request_code"), [(8, 0x80086601), (4, 0x80046601)])
def test_reads_the_flags_of_a_file_and_takes_none_where_there_are_none(
    file: Path, monkeypatch: pytest.MonkeyPatch, flags: Optional[int], size: int, request_code: int
) -> None:
    """0x10 and 0x20 are FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h; `None`: the file system has no flags."""
    real = struct.calcsize

    def ioctl(_descriptor: int, code: int, _room: bytes) -> bytes:
        assert code == request_code
        if flags is None:
            raise OSError(errno.ENOTTY, "no")
        return struct.pack("i", flags) + bytes(4)

    monkeypatch.setattr(struct, "calcsize", lambda kind: size if kind == "l" else real(kind))
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert reason_of(file) == ("immutable" if flags and flags & 0x30 else None)


@pytest.mark.parametrize("name", ["user.purpose", "security.label", "trusted.purpose", "system.posix_acl_access"])
def test_extended_attributes_that_cannot_be_given(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What the kernel sets by itself may be missing; nothing else may."""

    def setxattr(*_arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "listxattr", lambda place: [] if isinstance(place, int) else [name])
    monkeypatch.setattr(os, "getxattr", lambda _place, _name: b"value")
    monkeypatch.setattr(os, "setxattr", setxattr)
    kernel = name.startswith(("security", "trusted"))
    assert reason_of(file) == (None if kernel else "attributes_kept")


def test_attributes_that_the_system_gives_to_a_new_file_are_left_to_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    monkeypatch.setattr(os, "listxattr", lambda place: ["security.selinux"] if isinstance(place, int) else [])
    monkeypatch.setattr(os, "removexattr", lambda _place, name: removed.append(name))
    host_file.replace(host_file.read(str(file)), b"new\n")
    assert (file.read_bytes(), removed) == (b"new\n", [])


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


@pytest.mark.parametrize("in_place", [False, True])
def test_x6_opening_waits_for_nothing_makes_nothing_that_others_may_read_and_is_kept_from_programs(
    file: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    real = os.open
    made = []

    def watched(path: Any, flags: int, *mode: Any) -> int:
        assert flags & os.O_CLOEXEC
        if flags & os.O_TMPFILE == os.O_TMPFILE or flags & os.O_CREAT:
            made.append(mode)
        else:  # a pipe in its place would wait for somebody who writes
            assert flags & (os.O_NONBLOCK | os.O_DIRECTORY)
        return real(path, flags, *mode)

    if in_place:
        os.link(file, file.with_name("another name"))
    monkeypatch.setattr(os, "open", watched)
    host_file.replace(host_file.read(str(file)), b"new\n", in_place)
    assert made == ([] if in_place else [(0o600,), (0o600,)])


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


EVERYBODY = [(1, 6, -1), (2, 6, NOBODY), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
"""Entries of an ACL: tag, permissions, and the user or group that it names."""


def acl_of(entries: List[Tuple[int, int, int]]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


@pytest.mark.parametrize("own", [None, 1])
def test_x6_an_acl_that_only_the_directory_gives_is_not_kept(file: Path, own: Optional[int]) -> None:
    mine = acl_of([(tag, given, own if tag == 2 else named) for tag, given, named in EVERYBODY]) if own else None
    try:
        if mine:
            os.setxattr(file, "system.posix_acl_access", mine)
        os.setxattr(file.parent, "system.posix_acl_default", acl_of(EVERYBODY))
    except OSError:
        pytest.skip("this file system knows no ACL")
    host_file.replace(host_file.read(str(file)), b"new\n", False)
    assert file.read_bytes() == b"new\n"
    if mine:
        assert os.getxattr(file, "system.posix_acl_access") == mine
    else:
        assert "system.posix_acl_access" not in os.listxattr(file)
