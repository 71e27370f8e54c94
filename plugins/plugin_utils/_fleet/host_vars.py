# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One consumer, from the role's variables: its files, every list merged and narrowed to one account; and its steps."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason

FILES = "multicart_deploy_files"
ACCOUNT = "multicart_deploy_account"
STATE_DIR = "multicart_deploy_state_dir"
SERVICES = "multicart_deploy_services"
COMMANDS = "multicart_deploy_commands"
HEALTH = "multicart_deploy_health"
TIMEOUT = "multicart_deploy_timeout"
HEALTH_RETRIES = "multicart_deploy_health_retries"
HEALTH_DELAY = "multicart_deploy_health_delay"
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


@dataclass(frozen=True)
class Steps:
    """What makes a host's consumer use the key, and how it shows its health.

    :ivar services: each ``name`` and ``state``.
    :ivar commands: each the words of a command line.
    :ivar health: likewise.
    :ivar timeout: seconds that each of these may take.
    :ivar retries: how often a health command is tried again.
    :ivar delay: seconds between two tries.
    """

    services: list[dict[str, str]]
    commands: list[list[str]]
    health: list[list[str]]
    timeout: float
    retries: int
    delay: float


def steps_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Steps:
    """Return the host's services and commands, refusing before a rotation what could not be run after it.

    :raises MulticartError: ``invalid_option``; it names the variable, the entry and the remedy.
    """

    def each(name: str, parse: Callable[[Any], Any], what: str) -> list[Any]:
        entries = template(variables.get(name)) or []
        if not isinstance(entries, (list, tuple)):
            raise _invalid(name, "must be a list")
        parsed = [parse(entry) for entry in entries]
        if None in parsed:
            raise _invalid(f"{name}, entry {parsed.index(None) + 1}", f"must be {what}")
        return parsed

    def number(name: str, kind: type[int] | type[float], default: int, zero: bool = True) -> Any:
        raw = template(variables.get(name, default))
        try:
            value = kind(raw)
        except (TypeError, ValueError):
            value = -1
        if not 0 <= value < 1_000_000 or not (value or zero):
            raise _invalid(name, "must be a number, 0 or more" if zero else "must be a number above 0")
        return value

    return Steps(
        services=each(SERVICES, _service, "a name, or name and state (restarted or reloaded)"),
        commands=each(COMMANDS, _words, "a command line"),
        health=each(HEALTH, _words, "a command line"),
        timeout=number(TIMEOUT, float, 300, zero=False),
        retries=number(HEALTH_RETRIES, int, 10),
        delay=number(HEALTH_DELAY, float, 1),
    )


def _service(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, Mapping):
        entry = {"name": entry}
    name, state = entry.get("name"), entry.get("state", "restarted")
    right = set(entry) <= {"name", "state"} and state in ("restarted", "reloaded")
    # A name that begins with a dash would be an option of the service manager.
    return {"name": str(name), "state": str(state)} if right and _words(name) and not name.startswith("-") else None


def _words(entry: Any) -> list[str] | None:
    if not isinstance(entry, str):
        return None
    try:
        return shlex.split(entry) or None
    except ValueError:  # an open quote
        return None


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
