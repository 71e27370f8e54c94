# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owner, group, mode and the like of a file, as the user wants them, through the helpers of Ansible's own modules.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import grp
import pwd
from typing import Any, Dict


class UnknownName(Exception):
    """This host knows no owner or group of that name."""

    reason = "invalid_option"


def require_names(wanted: Dict[str, Any]) -> None:
    """Refuse an owner or group that this host does not know before anything is written, and in check mode, too.

    :raises UnknownName: it names the option.
    """
    for option, look_up in (("owner", pwd.getpwnam), ("group", grp.getgrnam)):
        name = wanted[option]
        if name and not name.isdigit():
            try:
                look_up(name)
            except KeyError:
                raise UnknownName("{0} is not known on this host; create it first".format(option)) from None


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
        return bool(self._module.set_fs_attributes_if_different(wanted, False, self.diff, expand=False))
