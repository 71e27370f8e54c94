# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owner, group, mode and the like of a file, as the user wants them, through the helpers of Ansible's own modules.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import grp
import pwd
import stat
from typing import Any, Callable, Dict, List, Optional, Tuple

from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError


class UnknownName(Exception):
    """This host knows no owner or group of that name."""

    reason = "invalid_option"


def ids_of(wanted: Dict[str, Any]) -> Tuple[int, int]:
    """Return the ids of the wanted owner and group on this host; -1: none is wanted.

    :raises UnknownName: it names the option.
    """

    def user_id(name: str) -> int:
        return pwd.getpwnam(name).pw_uid

    def group_id(name: str) -> int:
        return grp.getgrnam(name).gr_gid

    def id_of(option: str, look_up: Callable[[str], int]) -> int:
        name = wanted[option]
        if not name:
            return -1
        try:
            return int(name) if name.isdecimal() else look_up(name)
        except KeyError:
            raise UnknownName("{0} is not known on this host; create it first".format(option)) from None

    return id_of("owner", user_id), id_of("group", group_id)


def status_of(content: Any) -> Optional[List[int]]:
    """Return owner, group and mode of a file, as `host_file.read` gave it; ``None``: there is none."""
    status = content.status
    return None if status is None else [status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)]


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

    def differ(self) -> bool:
        """Tell whether the file lacks any of them; changes nothing."""
        check_mode, self._module.check_mode = self._module.check_mode, True
        try:
            return self.finish()
        finally:
            self._module.check_mode = check_mode

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


class Changed(Exception):
    """A file has other attributes than when it was looked at."""


class AsTheyAre:
    """Stands for attributes where nothing but the content of a file is to change, because they are right.

    :raises Changed: they are not what they were then, ``status`` of the entry.
    """

    def __init__(self, content: Any, wanted: Dict[str, Any]) -> None:
        if not wanted["status"] or wanted["status"] != status_of(content):
            raise Changed()

    def prepare(self, path: str) -> None:
        """Change nothing."""

    def finish(self) -> bool:
        """Change nothing."""
        return False
