# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of one consumer, from the role's variables: every list merged, checked and narrowed to one account."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils.errors import MulticartError, Reason

FILES = "multicart_deploy_files"
ACCOUNT = "multicart_deploy_account"
STATE_DIR = "multicart_deploy_state_dir"
DEFAULT_ACCOUNT = "default"
DEFAULT_VARIABLE = "MULTICART_API_KEY"

_MODE = re.compile(r"[0-7]{3,5}|[ugoa]*([-+=][rwxXstugo]*)+(,[ugoa]*([-+=][rwxXstugo]*)+)*")
_FIELDS = ("path", "variable", "template", "account", "owner", "group", "mode", "unsafe_writes")


@dataclass(frozen=True)
class FileSpec:
    """One file that holds the key: as a variable of an environment file, or wherever the user's template puts it."""

    path: str
    variable: str | None
    template: str | None
    owner: str | None = None
    group: str | None = None
    mode: Any = None
    unsafe_writes: bool = False

    def arguments(self) -> dict[str, Any]:
        """Return it as the host's module wants it."""
        return {name: value for name, value in vars(self).items() if name != "template"}


@dataclass(frozen=True)
class HostFiles:
    """The files of one host.

    :ivar own: those of the account that this run is about.
    :ivar others: whether there are some of other accounts.
    """

    own: list[FileSpec]
    others: bool = False


def files_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> HostFiles:
    """Return the host's files, by the account that this run is about.

    :param variables: the host's variables.
    :param template: how a variable is templated.
    :raises MulticartError: ``invalid_option``; it names the variable, the entry and the remedy.
    """
    account = str(template(variables.get(ACCOUNT)) or DEFAULT_ACCOUNT)
    found: dict[tuple[str, str | None], FileSpec] = {}
    others = False
    for source in sorted(name for name in variables if name == FILES or str(name).startswith(FILES + "__")):
        entries = template(variables[source])
        if not isinstance(entries, (list, tuple)):
            raise _invalid(source, "must be a list of files")
        for number, entry in enumerate(entries, 1):
            owner, spec = _checked(f"{source}, entry {number}", entry)
            if owner != account:
                others = True
                continue
            if found.setdefault((spec.path, spec.variable), spec) != spec:
                raise _invalid(f"{source}, entry {number}", f"contradicts another entry for {spec.path}")
    _refuse_overlaps(list(found.values()))
    return HostFiles(list(found.values()), others)


def refuse_bad_steps(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> None:
    """Refuse services and commands that could not be run, before a rotation rather than after it.

    :raises MulticartError: ``invalid_option``; it names the variable, the entry and the remedy.
    """
    steps = (("services", _is_service), ("commands", _is_command), ("health", _is_command))
    for name, is_right in steps:
        source = f"multicart_deploy_{name}"
        entries = template(variables.get(source)) or []
        if not isinstance(entries, (list, tuple)):
            raise _invalid(source, "must be a list")
        for number, entry in enumerate(entries, 1):
            if not is_right(entry):
                what = (
                    "a name, or name and state (restarted or reloaded)" if is_right is _is_service else "a command line"
                )
                raise _invalid(f"{source}, entry {number}", f"must be {what}")


def _is_service(entry: Any) -> bool:
    if not isinstance(entry, Mapping):
        return _is_command(entry)
    known = set(entry) <= {"name", "state"} and entry.get("state", "restarted") in ("restarted", "reloaded")
    return known and _is_command(entry.get("name"))


def _is_command(entry: Any) -> bool:
    return isinstance(entry, str) and bool(entry.strip())


def _checked(place: str, entry: Any) -> tuple[str, FileSpec]:
    if not isinstance(entry, Mapping):
        raise _invalid(place, "must be a mapping with at least path")
    for problem in _problems(entry):
        raise _invalid(place, problem)
    has_template = bool(entry.get("template"))
    return str(entry.get("account") or DEFAULT_ACCOUNT), FileSpec(
        path=os.path.normpath(str(entry["path"])),
        variable=None if has_template else str(entry.get("variable") or DEFAULT_VARIABLE),
        template=str(entry["template"]) if has_template else None,
        owner=_text(entry.get("owner")),
        group=_text(entry.get("group")),
        mode=entry.get("mode"),
        unsafe_writes=bool(entry.get("unsafe_writes", False)),
    )


def _problems(entry: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted(str(name) for name in entry if name not in _FIELDS)
    if unknown:
        yield f"has the unknown field {unknown[0]!r}; known are {', '.join(_FIELDS)}"
    path = entry.get("path")
    if not isinstance(path, str) or not os.path.isabs(path) or path.endswith("/") or "\0" in path:
        yield "needs path: the absolute path of a file"
    if entry.get("template") and entry.get("variable"):
        yield "has both template and variable; a template is the whole file"
    variable = entry.get("variable")
    if variable and not (isinstance(variable, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable)):
        yield "needs variable: letters, digits and underscores, and no digit first"
    mode = entry.get("mode")
    if mode is not None and not isinstance(mode, str):
        yield "needs mode in quotes, such as '0640': YAML reads it as something else otherwise"
    elif mode and not _MODE.fullmatch(mode):
        yield "needs mode: an octal number such as '0640', or one such as 'u=rw,g=r,o='"
    if not isinstance(entry.get("unsafe_writes", False), bool):
        yield "needs unsafe_writes: true or false"


def _refuse_overlaps(specs: list[FileSpec]) -> None:
    whole = {spec.path for spec in specs if spec.template}
    first: dict[str, FileSpec] = {}
    for spec in specs:
        wanted = first.setdefault(spec.path, spec)
        if (wanted.owner, wanted.group, wanted.mode) != (spec.owner, spec.group, spec.mode):
            raise _invalid(FILES, f"contradicts itself in the owner, group or mode of {spec.path}")
        if not spec.template and spec.path in whole:
            raise _invalid(FILES, f"names {spec.path} both as a template and as an environment file")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _invalid(place: str, problem: str) -> MulticartError:
    return MulticartError(Reason.INVALID_OPTION, f"{place}: it {problem}.", "Nothing was changed on this host.")
