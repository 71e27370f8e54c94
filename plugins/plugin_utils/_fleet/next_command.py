# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command that finishes what a run left, as far as it can be told without a secret. No Ansible, no I/O.

Options that cannot hold a secret are given again with their values; of others only the names are told.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEPLOY = "multicart.keys.deploy"
ROTATE = "multicart.keys.rotate"

MANY = 20
"""From so many hosts on, the command names none: finishing a host that is done changes nothing."""

# Name among Ansible's parsed options, and how it is written. What these hold are names, paths and numbers.
_TOLD = {
    "remote_user": "--user",
    "private_key_file": "--private-key",
    "connection": "--connection",
    "forks": "--forks",
    "timeout": "--timeout",
    "module_path": "--module-path",
    "become": "--become",
    "become_method": "--become-method",
    "become_user": "--become-user",
    "become_password_file": "--become-password-file",
    "connection_password_file": "--connection-password-file",
    "vault_ids": "--vault-id",
    "vault_password_files": "--vault-password-file",
    "ask_pass": "--ask-pass",
    "become_ask_pass": "--ask-become-pass",
    "ask_vault_pass": "--ask-vault-password",
}
# They may hold a command with a password in it.
_NAMED = {
    "ssh_common_args": "--ssh-common-args",
    "ssh_extra_args": "--ssh-extra-args",
    "scp_extra_args": "--scp-extra-args",
    "sftp_extra_args": "--sftp-extra-args",
}
OPTIONS = (*_TOLD, *_NAMED, "args", "inventory", "subset")
"""Ansible's parsed options that this module looks at."""

_PLAIN_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_LINE = re.compile(r"[\x20-\x7e]{1,1000}\Z")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_DEPLOYED = {"multicart_hosts": _LINE, "multicart_strategy": _WORD, "multicart_deploy_account": _WORD}
_ROTATED = ("confirm", "expect_hosts", "retire", "max_age", "force", "budget")
REPEATABLE = {**_DEPLOYED, **{f"multicart_rotate_{name}": _WORD for name in _ROTATED}}
"""The variables whose values may be told, each only in the shape that it is meant to have."""


@dataclass(frozen=True)
class Invocation:
    """How Ansible was started.

    :ivar options: its parsed command line, by name.
    :ivar defaults: the values of those that were not given there.
    :ivar variables: the values of the variables that this module may repeat, as far as they are set.
    :ivar extra: the names of all extra variables; files are named as ``@FILE``.
    """

    options: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    extra: Sequence[str] = ()


@dataclass(frozen=True)
class Rerun:
    """A command, and by name what the run was given besides and has to be given again."""

    command: str
    give_again: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """The command, and what to add to it."""
        return f"{self.command} (and again: {', '.join(self.give_again)})" if self.give_again else self.command


def deploy(how: Invocation, hosts: Sequence[str]) -> Rerun:
    """Return the command that brings the live key to these hosts, without a rotation."""
    limit = ["--limit", ",".join(hosts)] if 0 < len(hosts) < MANY and all(map(_PLAIN_HOST.match, hosts)) else []
    return _rerun(how, [DEPLOY], limit, _DEPLOYED)


def rotate(how: Invocation) -> Rerun:
    """Return the command that rotates the live key of these consumers."""
    guards = {name: REPEATABLE[name] for name in ("multicart_rotate_expect_hosts", "multicart_rotate_budget")}
    return _rerun(how, [ROTATE], ["-e", "multicart_rotate_confirm=true"], {**_DEPLOYED, **guards})


def again(how: Invocation) -> Rerun:
    """Return the command of the run itself: what it began is on record, and it cannot rotate twice."""
    limit = ["--limit", str(how.options["subset"])] if how.options.get("subset") else []
    return _rerun(how, [str(name) for name in how.options.get("args") or ()], limit, REPEATABLE)


def _rerun(how: Invocation, playbooks: list[str], more: list[str], told: Mapping[str, re.Pattern[str]]) -> Rerun:
    given = {name: value for name, value in how.options.items() if value and value != how.defaults.get(name)}
    inventory = _written("-i", given.get("inventory", ()))
    words = ["ansible-playbook", *inventory, *playbooks]
    for name, option in _TOLD.items():
        words += _written(option, given.get(name, ()))
    words += more
    left = []
    for name in how.extra:
        value = how.variables.get(name, "")
        if name.startswith("@"):
            words += ["-e", name]
        elif name in told and told[name].match(value):
            words += ["-e", f"{name}={value}"]
        elif not name.startswith(("multicart_rotate_", "multicart_report_")):
            left.append(f"-e {name}=…")
    return Rerun(shlex.join(words), [*left, *(option for name, option in _NAMED.items() if name in given)])


def _written(option: str, value: Any) -> list[str]:
    if value is True:
        return [option]
    values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [word for each in values for word in (option, str(each))]


def names_of(extra_vars: Iterable[str], parse: Any) -> list[str]:
    """Return the names of the extra variables of a command line, and its files as ``@FILE``.

    :param parse: reads the text of one ``-e`` option into a mapping.
    """
    names: list[str] = []
    for text in extra_vars:
        if text.startswith("@"):
            names.append(text)
            continue
        try:
            names += [str(name) for name in parse(text)]
        except Exception:  # pylint: disable=broad-except  # its text is the user's own, and may be a secret
            names.append("(not readable)")
    return list(dict.fromkeys(name if re.fullmatch(r"@.*|\w{1,80}", name) else "(not shown)" for name in names))
