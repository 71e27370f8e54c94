# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Owner, group, mode and the like of a file, as the user wants them.

A module gives them through Ansible's own helpers (`Attributes`); a host session, where there are none, by itself
(`Ownership`).

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from typing import Any, Callable, Dict, Optional, Tuple

from ansible_collections.multicart.keys.plugins.module_utils._host_file import KEPT, HostFileError


class UnknownName(Exception):
    """This host knows no owner or group of that name."""

    reason = "invalid_option"


def ids_of(wanted: Dict[str, Any]) -> Tuple[int, int]:
    """Return the ids of the wanted owner and group on this host; -1: none is wanted.

    :raises UnknownName: it names the option.
    """

    def id_of(option: str, look_up: Callable[[str], int]) -> int:
        name = wanted[option]
        if not name:
            return -1
        try:
            return int(name) if name.isdecimal() else look_up(name)
        except KeyError:
            raise UnknownName("{0} is not known on this host; create it first".format(option)) from None

    user = id_of("owner", lambda name: pwd.getpwnam(name).pw_uid)
    return user, id_of("group", lambda name: grp.getgrnam(name).gr_gid)


class Attributes:
    """The wanted attributes of one file.

    :param module: the running `AnsibleModule`.
    :param content: the file as `host_file.read` gave it.
    :param wanted: ``owner``, ``group``, ``mode`` and what else a module's common file arguments are.
    """

    def __init__(self, module: Any, content: Any, wanted: Dict[str, Any]) -> None:
        self._module = module
        self._content = content
        self._wanted = module.load_file_common_arguments(wanted, path=content.target)
        self.diff = {}  # type: Dict[str, Any]

    def prepare(self, path: str) -> None:
        """Give them to a file that nobody reads yet. Flags (``chattr``) come last: they may forbid the renaming."""
        if self._content.status is None:
            label = self._module.selinux_default_context(self._content.target)
            self._module.set_context_if_different(path, label, False)
        self._apply(dict(self._wanted, path=path, attributes=None))

    def finish(self) -> bool:
        """Give them to the file itself, and tell whether that changes anything."""
        return self._apply(dict(self._wanted, path=self._content.target))

    def _apply(self, wanted: Dict[str, Any]) -> bool:
        fail_json, self._module.fail_json = self._module.fail_json, self._refuse
        try:
            return bool(self._module.set_fs_attributes_if_different(wanted, False, self.diff, expand=False))
        finally:
            self._module.fail_json = fail_json

    def _refuse(self, *_: Any, **_more: Any) -> None:
        # Core's own helpers end the whole module, with a text that names the path they were given.
        raise HostFileError("attributes_refused", self._content.path)


class Ownership:
    """Owner, group and mode alone, where there is no `AnsibleModule`: what a file of a role's variables may want.

    It stands in for `Attributes`.
    """

    def __init__(self, content: Any, wanted: Dict[str, Any]) -> None:
        self._content = content
        self._ids = ids_of(wanted)
        self._mode = wanted["mode"]

    def prepare(self, path: str) -> None:
        """Give them to a file that nobody reads yet."""
        if self._content.status is None:
            _label_new_file(path, self._content.target)
        self._apply(path)

    def differ(self) -> bool:
        """Tell whether the file lacks any of them; changes nothing."""
        status = self._content.status
        return status is not None and self._missing(status) != (KEPT, None)

    def refuse_in_place(self) -> None:
        """Raise if the file, which cannot be replaced, is to get another mode from somebody who does not own it."""
        status = self._content.status
        if self._missing(status)[1] is not None and os.geteuid() not in (0, status.st_uid):
            raise HostFileError("attributes_refused", self._content.path)

    def finish(self) -> bool:
        """Give them to the file itself, as it was read, and tell whether that changes anything."""
        return self._apply(self._content.target)

    def _missing(self, status: Any) -> Tuple[Tuple[int, int], Optional[int]]:
        """Return the ids and the mode that differ from what is wanted."""
        user, group = self._ids
        ids = (-1 if user in (-1, status.st_uid) else user, -1 if group in (-1, status.st_gid) else group)
        mode = mode_of(self._mode, stat.S_IMODE(status.st_mode))
        return ids, None if mode in (None, stat.S_IMODE(status.st_mode)) else mode

    def _apply(self, path: str) -> bool:
        # The owner of the directory can put a link to somebody else's file in its place.
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise HostFileError("changed_meanwhile", self._content.path) from None
        try:
            self._refuse_another(os.fstat(descriptor))
            ids, mode = self._missing(os.fstat(descriptor))
            if ids != KEPT:
                os.chown(descriptor, *ids)
                mode = self._missing(os.fstat(descriptor))[1]  # the kernel takes set-id bits away
            if mode is not None:
                os.chmod(descriptor, mode)
        except (OSError, OverflowError):
            raise HostFileError("attributes_refused", self._content.path) from None
        finally:
            os.close(descriptor)
        return ids != KEPT or mode is not None

    def _refuse_another(self, status: Any) -> None:
        """Raise if it is neither the file that was read nor a new one, which has no other name."""
        known = self._content.status
        is_known = known is not None and (known.st_dev, known.st_ino) == (status.st_dev, status.st_ino)
        if not stat.S_ISREG(status.st_mode) or not (is_known or status.st_nlink == 1):
            raise HostFileError("changed_meanwhile", self._content.path)


_WHOSE = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}


def mode_of(wanted: Optional[str], current: int) -> Optional[int]:
    """Return the mode that ``chmod`` would give a file of this mode; None: none is wanted.

    :param wanted: an octal number, or symbols such as ``u=rw,g=r,o=``; checked on the control node.
    """
    if not wanted:
        return None
    if wanted.isdigit():
        return int(wanted, 8)
    for clause in wanted.split(","):
        who = re.match("[ugoa]*", clause).group()  # type: ignore[union-attr]
        whose = 0
        for name in who:
            whose |= _WHOSE[name]
        for operator, letters in re.findall(r"([-+=])([rwxXstugo]*)", clause):
            # Without a name it means all, but gives nobody what the umask withholds.
            bits = _bits_of(letters, current) & (whose or ~_umask())
            if operator == "=":
                current = current & ~(whose or 0o7777) | bits
            else:
                current = current | bits if operator == "+" else current & ~bits
    return current


def _bits_of(letters: str, current: int) -> int:
    bits = 0
    for letter in letters:
        if letter in _SHIFT:
            bits |= (current >> _SHIFT[letter] & 7) * 0o111
        elif letter == "X":
            bits |= 0o111 if current & 0o111 else 0
        else:
            bits |= _BITS[letter]
    return bits


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _label_new_file(path: str, target: str) -> None:
    """Give a new file the SELinux label that the policy has for its place, where there is a policy."""
    program = shutil.which("matchpathcon") if os.path.isdir("/sys/fs/selinux") else None
    if program:
        with suppress(OSError, subprocess.SubprocessError):
            asked = [program, "-n", os.path.realpath(target)]
            # There is no AnsibleModule in a host session.
            label = subprocess.check_output(  # pylint: disable=ansible-bad-function
                asked, stderr=subprocess.DEVNULL, timeout=10
            )
            os.setxattr(path, "security.selinux", label.strip() + b"\0", follow_symlinks=False)
