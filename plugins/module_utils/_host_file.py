# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The one place where files on the managed host are read, inspected and replaced. It is about bytes only.

`read` a file, `check` whether it could be replaced, `replace` it. `check` does what `replace` does, short of the
last step: it writes the new bytes into a file without a name (it vanishes with its descriptor) in the same directory
and gives it the owner and mode it would need. What `check` accepts, `replace` can do, unless the host changes in
between: that is how check mode and readiness tell the truth.

A file is replaced by renaming a new one over it, so that nobody ever reads half of it and a run that is killed leaves
the old one whole. The new one has a fixed name, which holds the secret if a run is killed: the next run removes it.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import errno
import fcntl
import os
import re
import stat
import struct
import time
from collections import namedtuple
from contextlib import contextmanager, suppress

MAX_BYTES = 1024 * 1024
"""What is larger is no configuration file, and is not read into memory."""

LOCK_SECONDS = 10
"""How long to wait for another run that is writing in the same directory."""

REASONS = {
    "not_absolute": "path {path} is not absolute; give the whole path, starting with /",
    "path_is_directory": "path {path} is a directory; give the path of the file in it",
    "no_such_directory": "the directory of path {path} does not exist; create it first, or correct path",
    "no_such_file": "path {path} does not exist and create is false; create the file, or set create to true",
    "dangling_link": "path {path} is a symbolic link that leads nowhere; create what it points to, or remove the link",
    "not_regular": "path {path} is not a regular file; give the path of one",
    "too_large": "path {path} is larger than 1 MiB, which is too large for a file of settings; correct path",
    "unreadable": "path {path} cannot be read; become a user who may read it",
    "not_writable": "path {path} cannot be replaced in its directory; become a user who may, or set unsafe_writes "
    "to write into the file itself",
    "owner_kept": "path {path} belongs to another user or group, and its replacement could not be given back to them; "
    "become root or its owner, or set unsafe_writes to write into the file itself",
    "attributes_refused": "path {path} cannot be given that owner, group or mode; correct them, or become root",
    "attributes_kept": "path {path} has extended attributes that its replacement cannot be given; become root, or "
    "set unsafe_writes to write into the file itself",
    "read_only_file_system": "path {path} is on a read-only file system; mount it writable, or correct path",
    "immutable": "path {path} or its directory is immutable or append-only (chattr); clear that flag first",
    "mount_point": "path {path} is mounted by itself (as into a container), so that it cannot be replaced; change the "
    "file that is mounted, or set unsafe_writes to write into it in place",
    "hard_linked": "path {path} has other names (hard links), which would keep the old content; remove them, or set "
    "unsafe_writes to write into the file that they share",
    "name_taken": "a directory stands where the replacement of path {path} is to be prepared ({temporary}); remove it",
    "name_too_long": "the name of path {path} leaves no room for that of its replacement; choose a shorter one, or set "
    "unsafe_writes to write into the file itself",
    "no_space": "the file system of path {path} is full, or a quota is reached; free some space",
    "changed_meanwhile": "path {path} was changed by somebody else at this moment and was left alone; run this again",
    "busy": "another run is writing beside path {path}; run this again when it is done",
    "io_error": "path {path} cannot be used ({detail}); repair that first",
}
"""Every way in which a file can be refused, and what to do about it."""

_IN_PLACE_HELPS = (
    *("not_writable", "owner_kept", "attributes_kept", "immutable", "mount_point", "hard_linked"),
    "name_too_long",
)
_ERRORS = {
    errno.EACCES: "not_writable",
    errno.EPERM: "not_writable",
    errno.EROFS: "read_only_file_system",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EBUSY: "mount_point",
    errno.ENAMETOOLONG: "name_too_long",
}

KEPT = (-1, -1)
"""Ids of an owner and a group that stay as they are."""

Content = namedtuple("Content", "path target data status around is_public")
"""A file as it was read: the path asked for, the real file, its bytes and ``os.stat`` (both ``None`` if missing),
which directory it was in, and whether it holds no secret: then it belongs to who wrote it last, and all may read it."""


class HostFileError(Exception):
    """A file cannot be used; `reason` is out of `REASONS`. The message never holds content."""

    def __init__(self, reason, path, detail=""):
        message = REASONS[reason].format(path=path, detail=detail, temporary=_temporary(path))
        super().__init__(message)
        self.reason = reason
        self.path = path


def read(path, is_public=False):
    """Return the `Content` of the file that the path, or the symbolic link there, leads to.

    :param is_public: it holds no secret, see `Content`.
    :raises HostFileError: if there is something else, or nothing and no directory for it.
    """
    if not path.startswith("/") or "\0" in path:
        raise HostFileError("not_absolute", path)
    if path.endswith("/"):
        raise HostFileError("path_is_directory", path)
    with _translated(path, {errno.EACCES: "unreadable", errno.EPERM: "unreadable", errno.ELOOP: "dangling_link"}):
        target = os.path.realpath(path)
        around = _directory(os.path.dirname(target))
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            if os.path.islink(path):
                raise HostFileError("dangling_link", path) from None
            if around is None:
                raise HostFileError("no_such_directory", path) from None
            return Content(path, target, None, None, around, is_public)
        if stat.S_ISDIR(status.st_mode):
            raise HostFileError("path_is_directory", path)
        if not stat.S_ISREG(status.st_mode):
            raise HostFileError("not_regular", path)  # opening a device may do something
        data, status = _slurp(target)
        if not stat.S_ISREG(status.st_mode):
            raise HostFileError("not_regular", path)  # put there just now
    if len(data) > MAX_BYTES:
        raise HostFileError("too_large", path)
    return Content(path, target, data, status, around, is_public)


def check(content, data, unsafe_writes=False, ids=KEPT):
    """Tell whether the file would have to be written in place, and raise what `replace` would.

    :param ids: of the owner and group that it is to be given by `prepare`.
    :raises HostFileError: if the file cannot be made to hold the data.
    """
    try:
        with _translated(content.path):
            _check_beside(content, data, ids)
        return False
    except HostFileError as error:
        if not unsafe_writes or content.status is None or error.reason not in _IN_PLACE_HELPS:
            raise
    with _translated(content.path):
        _check_in_place(content, data)
        _refuse_ids(content, ids)
    return True


def replace(content, data, unsafe_writes=False, prepare=None, ids=KEPT):
    """Make the file hold the data, and keep its owner, group, mode, ACL, SELinux label and other attributes.

    A new file gets mode 0600, a public one is opened to all as soon as it is in its place. `prepare` is called with the
    path of the new file before anybody can see it there.

    :raises HostFileError: and the file is as it was, except with ``changed_meanwhile`` if its directory was moved away.
    """
    with _translated(content.path), _pinned(content) as pinned, _locked(pinned) as directory:
        _remove_leftover(pinned)
        if check(pinned, data, unsafe_writes, ids):
            if prepare:
                prepare(pinned.target)
            _write_in_place(pinned, data)
        else:
            _write_beside(pinned, data, prepare)
        if directory is not None:
            os.fsync(directory)
        _refuse_another_directory(content)


def remove(content):
    """Remove the file, if it is still as it was read."""
    with _translated(content.path), _pinned(content) as pinned, _locked(pinned):
        _refuse_changed(pinned)
        os.unlink(pinned.target)


def sweep(content):
    """Remove the replacement that a killed run left beside the file: it holds a secret."""
    if os.path.lexists(_temporary(content.target)):
        with _translated(content.path), _pinned(content) as pinned, _locked(pinned):
            _remove_leftover(pinned)


# Beside the file, and renamed over it


def _temporary(target):
    """Return the one name that the replacement of this file has while it is prepared."""
    return os.path.join(os.path.dirname(target), ".{0}.multicart-tmp".format(os.path.basename(target)))


def _check_beside(content, data, ids):
    path, target, directory = content.path, content.target, os.path.dirname(content.target)
    temporary = _temporary(target)
    if os.path.isdir(temporary) and not os.path.islink(temporary):
        raise HostFileError("name_taken", path)
    if len(os.fsencode(os.path.basename(temporary))) > 255:
        raise HostFileError("name_too_long", path)
    if _is_mount_point(target):
        raise HostFileError("mount_point", path)
    if content.status is not None and content.status.st_nlink > 1:
        raise HostFileError("hard_linked", path)
    if _is_flagged(directory) or (content.status is not None and _is_flagged(target)):
        raise HostFileError("immutable", path)
    around = os.stat(directory)
    may_rename = content.status is None or os.geteuid() in (0, around.st_uid, content.status.st_uid)
    if around.st_mode & stat.S_ISVTX and not may_rename:
        raise HostFileError("not_writable", path)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in _ERRORS:
            raise
        _check_by_asking(content, data)  # a kernel or file system without files that have no name
        _refuse_ids(content, ids)
        return
    try:
        _fill(descriptor, data)
        _keep_attributes(content, descriptor)
        _give(content, descriptor, ids)
    finally:
        os.close(descriptor)


def _give(content, descriptor, ids):
    if ids != KEPT:
        try:
            os.fchown(descriptor, *ids)
        except (OSError, OverflowError):
            raise HostFileError("attributes_refused", content.path) from None


def _refuse_ids(content, ids):
    """Raise if somebody who is not root asks for an owner or group that only root can give."""
    user, group = KEPT if content.status is None else (content.status.st_uid, content.status.st_gid)
    users, groups = KEPT + (user, os.geteuid()), KEPT + (group, os.getegid()) + tuple(os.getgroups())
    if os.geteuid() and not (ids[0] in users and ids[1] in groups):
        raise HostFileError("attributes_refused", content.path)


def _check_by_asking(content, data):
    directory = os.path.dirname(content.target)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise HostFileError("not_writable", content.path)
    space = os.statvfs(directory)
    free = (space.f_bavail if os.geteuid() else space.f_bfree) * space.f_frsize
    if free < len(data) or (space.f_files and not space.f_favail):
        raise HostFileError("no_space", content.path)
    status = content.status
    if status is not None and not content.is_public and os.geteuid() not in (0, status.st_uid):
        raise HostFileError("owner_kept", content.path)


def _write_beside(content, data, prepare):
    temporary = _temporary(content.target)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            _fill(descriptor, data)
            _keep_attributes(content, descriptor)
            if prepare:
                prepare(temporary)
            os.fsync(descriptor)
            _refuse_changed(content)
            os.rename(temporary, content.target)
            if content.is_public:  # not before: what a kill leaves is private
                os.fchmod(descriptor, 0o644)
        finally:
            os.close(descriptor)
    except BaseException:  # a module that exits raises SystemExit
        os.unlink(temporary)
        raise


def _remove_leftover(content):
    try:
        os.unlink(_temporary(content.target))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
            if os.path.isdir(_temporary(content.target)):
                raise HostFileError("name_taken", content.path) from None
            raise


def _keep_attributes(content, descriptor):
    """Give the new file what the old one has, or make it private if there is none."""
    status = content.status
    if status is None or content.is_public:
        os.fchmod(descriptor, 0o600)
        return
    mine = os.fstat(descriptor)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        except OSError:
            raise HostFileError("owner_kept", content.path) from None
    _keep_extended_attributes(content, descriptor)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _keep_extended_attributes(content, descriptor):
    """Copy ACL, label and user attributes; remove an ACL that only the directory's default gave."""
    try:
        wanted, present = os.listxattr(content.target), os.listxattr(descriptor)
    except (AttributeError, OSError):
        return  # neither the system nor the file system knows any
    for name in wanted:
        try:
            value = os.getxattr(content.target, name)
            if name not in present or os.getxattr(descriptor, name) != value:
                os.setxattr(descriptor, name, value)
        except OSError:
            if not name.startswith(("security.", "trusted.")):  # where these cannot be set, the kernel sets them
                raise HostFileError("attributes_kept", content.path) from None
    for name in present:
        if name.startswith("system.posix_acl") and name not in wanted:
            os.removexattr(descriptor, name)


# In place, when there is no other way and the user says so


def _check_in_place(content, data):
    os.close(_open_in_place(content))
    space = os.statvfs(content.target)
    if len(data) - len(content.data) > (space.f_bavail if os.geteuid() else space.f_bfree) * space.f_frsize:
        raise HostFileError("no_space", content.path)


def _open_in_place(content):
    # A pipe that was put there meanwhile would wait for a reader.
    return os.open(content.target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _write_in_place(content, data):
    """Write into the file itself. While its length is another than wanted, it ends in empty lines, never in rubbish.

    So a run that is killed leaves the old or the new bytes and empty lines; or, within the one call that puts the new
    bytes in the place of the old ones, some of each.
    """
    descriptor = _open_in_place(content)
    try:
        _refuse_changed(content)
        padded = data.ljust(len(content.data), b"\n")
        try:
            os.lseek(descriptor, 0, os.SEEK_END)
            _fill(descriptor, b"\n" * (len(padded) - len(content.data)))  # a full disk shows before a byte is changed
            os.lseek(descriptor, 0, os.SEEK_SET)
            _fill(descriptor, padded)
        except OSError:
            os.lseek(descriptor, 0, os.SEEK_SET)
            with suppress(OSError):
                _fill(descriptor, content.data)
            os.ftruncate(descriptor, len(content.data))
            raise
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What both need


@contextmanager
def _pinned(content):
    """Yield the content with a ``target`` that leads into the directory that it was in, wherever that is moved.

    A user who may rename that directory could otherwise put another one in its place between two steps. Only this
    process can use that path, and not a program that it starts. Where ``/proc`` is missing the target stays as it is.
    """
    descriptor = None
    try:
        with suppress(AttributeError, OSError):
            descriptor = os.open(os.path.dirname(content.target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            way = "/proc/self/fd/{0}".format(descriptor)
            if os.path.isdir(way):
                content = content._replace(target=os.path.join(way, os.path.basename(content.target)))
        yield content
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _refuse_another_directory(content):
    """Raise if the directory is no longer the one that was inspected: nobody chose that other place."""
    if _directory(os.path.dirname(content.target)) != content.around:
        raise HostFileError("changed_meanwhile", content.path)


def _directory(path):
    """Return what tells this directory from any other, or ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _slurp(target):
    """Return at most one byte more than is allowed, and the status of the file they came from."""
    descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES + 1), os.fstat(descriptor)


def _fill(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _refuse_changed(content):
    """Raise if the file is no longer the one that was read: then the new bytes were made from the wrong ones."""
    try:
        data, status = _slurp(content.target)
        same = content.status is not None and (status.st_dev, status.st_ino, data) == (
            content.status.st_dev,
            content.status.st_ino,
            content.data,
        )
    except OSError as error:
        same = error.errno == errno.ENOENT and content.status is None
    if not same:
        raise HostFileError("changed_meanwhile", content.path)


def _is_mount_point(target):
    """Tell whether this very file is mounted, which only the list of mounts shows when it is from the same device."""
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            points = [line.split(b" ")[4] for line in mounts]
    except (OSError, IndexError):
        return False
    real = os.fsencode(os.path.realpath(target))
    return real in [re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), point) for point in points]


def _is_flagged(path):
    """Tell whether ``chattr`` made the file or directory immutable or append-only."""
    get_flags, either = 0x80086601 if struct.calcsize("l") == 8 else 0x80046601, 0x10 | 0x20
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(struct.unpack("i", fcntl.ioctl(descriptor, get_flags, bytes(8))[:4])[0] & either)
    except OSError:
        return False  # a file system without such flags
    finally:
        os.close(descriptor)


@contextmanager
def _locked(content):
    """Hold the directory's lock, so that two runs do not use the one temporary name at once; yield its descriptor."""
    try:
        descriptor = os.open(os.path.dirname(content.target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it may be writable without being readable; the comparison before the rename still guards
        _refuse_another_directory(content)
        yield None
        return
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    break  # a file system without locks
                if time.monotonic() > deadline:
                    raise HostFileError("busy", content.path) from None
                time.sleep(0.05)
        _refuse_another_directory(content)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path, reasons=None):
    """Turn an error of the operating system into the reason that it stands for."""
    try:
        yield
    except OSError as error:
        reason = (reasons or {}).get(error.errno) or _ERRORS.get(error.errno, "io_error")
        raise HostFileError(reason, path, os.strerror(error.errno) if error.errno else "unknown error") from None
