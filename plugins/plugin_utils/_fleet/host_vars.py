# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""One consumer, from the role's variables: its files or stores, those of one account; its steps; its wave."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, clean, shown_name
from ansible_collections.multicart.keys.plugins.plugin_utils._options import misspelt, not_templated
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import protocol
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import NO_CONTROL_NODE, ControlNode

FILES = "multicart_deploy_files"
STORES = "multicart_deploy_stores"
WAVE = "multicart_deploy_wave"
WAVE_TIMEOUT = "multicart_deploy_wave_timeout"
ACCOUNT = "multicart_account"
OWN_ACCOUNT = "multicart_deploy_account"
STATE_DIR = "multicart_deploy_state_dir"
SERVICES = "multicart_deploy_services"
COMMANDS = "multicart_deploy_commands"
HEALTH_CHECKS = "multicart_deploy_health_checks"
TIMEOUT = "multicart_deploy_timeout"
HEALTH_RETRIES = "multicart_deploy_health_retries"
HEALTH_DELAY = "multicart_deploy_health_delay"
IGNORE_PROCESSES = "multicart_deploy_ignore_processes"
_PREFIX = "multicart_deploy_"
_VARIABLES = {
    *(FILES, STORES, WAVE, WAVE_TIMEOUT, OWN_ACCOUNT, STATE_DIR, SERVICES, COMMANDS, HEALTH_CHECKS),
    *(TIMEOUT, HEALTH_RETRIES, HEALTH_DELAY, IGNORE_PROCESSES),
}
DEFAULT_ACCOUNT = "default"

TRY = 30.0
"""Seconds that one more try of a failed health check counts for in the time limit of a host."""

DEFAULT_VARIABLE = "MULTICART_API_KEY"

_MODE = re.compile(r"[0-7]{3,5}|[ugoa]*([-+=][rwxXstugo]*)+(,[ugoa]*([-+=][rwxXstugo]*)+)*")
_SHELL_OPERATOR = re.compile(r"\|\|?|&&?|\S*;|[0-9]?>\S*|<")
_SEVERAL = re.compile(r"[*?\[]|\.(target|socket|timer|path|slice|scope|mount)$")
_QUOTED = re.compile(r"""\\.|'[^']*'|"(\\.|[^"\\])*["]""", re.DOTALL)
_FORMATS = ("env", "key")
_FIELDS = ("path", "variable", "template", "format", "account", "owner", "group", "mode", "unsafe_writes")


@dataclass(frozen=True)
class FileSpec:
    """One file that holds the key: as a variable of an environment file, alone, or where the user's template puts it.

    :ivar format: ``env``, or ``key``: the file is nothing but the key, and has no variable.
    """

    path: str
    variable: str | None
    template: str | None
    owner: str | None = None
    group: str | None = None
    mode: Any = None
    unsafe_writes: bool = False
    format: str = "env"

    def entry(self) -> dict[str, Any]:
        """Return it as a host session wants it; a template's content and its digest come on top."""
        return {name: value for name, value in vars(self).items() if name != "template"}


@dataclass(frozen=True)
class StoreSpec:
    """One store that holds the key; it stands where a file stands, under its label.

    :ivar path: its label.
    :ivar options: the fields of its type; there are secrets among them.
    """

    type: str
    path: str
    options: dict[str, Any] = field(repr=False)

    variable: ClassVar[None] = None
    template: ClassVar[None] = None

    def entry(self) -> dict[str, Any]:
        """Return it as a session of stores wants it."""
        return dict(vars(self))


def account_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> str:
    """Return the name of the account that a run is about, by the variables of a host."""
    return str(_value(ACCOUNT, variables, template) or DEFAULT_ACCOUNT)


def _value(name: str, variables: Mapping[str, Any], template: Callable[[Any], Any], default: Any = None) -> Any:
    """Return a variable of the host; the default, if it is unset or omitted.

    :raises MulticartError: ``invalid_option``; it names the variable, and the entry of a list.
    """
    raw = variables.get(name, default)
    try:
        value = template(raw)
        return default if value is None and raw is not None else value
    except Exception as error:
        place, cause = name, error
        for number, entry in enumerate(raw if isinstance(raw, (list, tuple)) else (), 1):
            try:
                template(entry)
            except Exception as of_entry:  # pylint: disable=broad-except
                place, cause = f"{name}, entry {number}", of_entry
                break
        problem, remedy = not_templated(cause)
        raise _invalid(place, f"{problem}; {remedy}") from None


def _own_account_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> str:
    """Return the name of the account of a host, and of each of its entries that names no other."""
    return str(_value(OWN_ACCOUNT, variables, template) or DEFAULT_ACCOUNT)


def may_have_stores(variables: Mapping[str, Any], template: Callable[[Any], Any], account: str) -> bool:
    """Tell whether a host that does not speak for itself may have a store of an account.

    Of an entry nothing but its account is templated: the rest may be lookups that are its own affair.
    """
    try:
        entries = _store_entries(variables, template)
        if not isinstance(entries, (list, tuple)):
            return bool(entries)
        own = _own_account_of(variables, template)
        return any(str(template(entry.get("account")) or own) == account for entry in entries)
    except Exception:  # pylint: disable=broad-except  # what cannot be read may be one
        return True


def _store_entries(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Any:
    """Return the list of stores, but not its entries, templated: it may be looked up by the name of the host."""
    entries = variables.get(STORES)
    return template(entries) if isinstance(entries, str) else entries


def is_of_others(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> bool:
    """Tell whether all that a host has is of other accounts; what cannot be read may be of this one."""
    try:
        account = account_of(variables, template)
        files, others = _files_of(variables, template)
        stores = _store_entries(variables, template)
        other = bool(others or stores) or _own_account_of(variables, template) != account
    except Exception:  # pylint: disable=broad-except
        return False
    return other and not files and not may_have_stores(variables, template, account)


def _files_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> tuple[list[FileSpec], list[FileSpec]]:
    """Return the host's files of the account that this run is about, and those of others."""
    account, own = account_of(variables, template), _own_account_of(variables, template)
    found: dict[tuple[str, str | None], FileSpec] = {}
    others: list[FileSpec] = []
    for source in sorted(name for name in variables if name == FILES or str(name).startswith(FILES + "__")):
        entries = _value(source, variables, template, [])
        if not isinstance(entries, (list, tuple)):
            raise _invalid(source, "must be a list of files, such as [{path: /etc/myapp/env}]")
        for number, entry in enumerate(entries, 1):
            spec = _checked(f"{source}, entry {number}", entry)
            if str(entry.get("account") or own) != account:
                others.append(spec)
                continue
            if found.setdefault((spec.path, spec.variable), spec) != spec:
                raise _invalid(f"{source}, entry {number}", f"contradicts another entry for {spec.path}")
    _refuse_overlaps(list(found.values()))
    return list(found.values()), others


@dataclass(frozen=True)
class Steps:
    """What makes a host's consumer use the key, and how it shows its health.

    :ivar services: each ``name`` and ``state``.
    :ivar commands: each the words of a command line.
    :ivar health: likewise.
    :ivar timeout: seconds that each of these may take.
    :ivar retries: how often a health command is tried again.
    :ivar delay: seconds between two tries.
    :ivar ignore_processes: patterns of units or commands whose processes are not inspected.
    """

    services: list[dict[str, str]]
    commands: list[list[str]]
    health: list[list[str]]
    timeout: float
    retries: int
    delay: float
    ignore_processes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HostSpec:
    """What one host is to hold and to do with it, of one account.

    :ivar files: or stores; those of a host that has services or commands alone are one `READERS`.
    :ivar others: whether it has files or stores of other accounts, or is itself of another one.
    :ivar foreign: path and variable of each file of another account.
    :ivar state_dir: directory of the records; None: each is beside its file.
    :ivar wave: it gets the key when all of the waves before it have it.
    :ivar wave_timeout: seconds that it waits for them at most.
    """

    files: list[FileSpec] | list[StoreSpec]
    steps: Steps
    others: bool = False
    foreign: list[list[str | None]] = field(default_factory=list)
    state_dir: str | None = None
    wave: int = 0
    wave_timeout: float = 10.0

    @property
    def has_stores(self) -> bool:
        return any(isinstance(spec, StoreSpec) for spec in self.files)

    @property
    def has_templates(self) -> bool:
        return any(spec.template for spec in self.files)

    @property
    def names(self) -> list[tuple[str, str | None]]:
        """Path and variable of each file."""
        return [(spec.path, spec.variable) for spec in self.files]

    @property
    def longest_deploy(self) -> float:
        """Seconds that restarts, health checks and the end of old processes may take, each in its own limit."""
        steps = self.steps
        restarts = len(steps.services) + len(steps.commands)
        restarts += sum(len(spec.options.get("restart") or ()) for spec in self.files if isinstance(spec, StoreSpec))
        checks = len(steps.health) * (steps.timeout + steps.retries * steps.delay) if steps.health else 0.0
        tries = len(steps.health) * steps.retries * min(steps.timeout, TRY)
        return restarts * steps.timeout + checks + tries + steps.retries * steps.delay

    def request(self) -> dict[str, Any]:
        """Return what every request of a host session holds of it."""
        return {
            "files": [spec.entry() for spec in self.files],
            "foreign": self.foreign,
            "state_dir": self.state_dir,
            "environment": [spec.variable for spec in self.files if spec.variable],
            **vars(self.steps),
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON; :meth:`from_json` reads it."""
        return {**vars(self), "files": [vars(spec) for spec in self.files], "steps": vars(self.steps)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> HostSpec:
        """Read what :meth:`to_json` returned."""
        files: Any = [StoreSpec(**spec) if "options" in spec else FileSpec(**spec) for spec in kept["files"]]
        return cls(**{**kept, "files": files, "steps": Steps(**kept["steps"])})


READERS = FileSpec("services and commands", None, None, format="none")
"""In place of a file where there is none: its record says with which key they were restarted last."""


def spec_of(
    variables: Mapping[str, Any], template: Callable[[Any], Any], control: ControlNode = NO_CONTROL_NODE
) -> HostSpec:
    """Return what a host is to hold and to do, refusing before a rotation what could not be done after it.

    :param variables: the host's variables.
    :param template: how a variable is templated.
    :param control: what stores take from the control node.
    :raises MulticartError: ``invalid_option``; it names the variable, the entry and the remedy.
    """
    _refuse_misspelt(variables)
    files: Any
    files, foreign = _files_of(variables, template)
    stores, others_stores = _stores_of(variables, template, control)
    steps = _steps_of(variables, template)
    state_dir = _value(STATE_DIR, variables, template) or None
    if state_dir is not None and not isinstance(state_dir, str):
        raise _invalid(STATE_DIR, "must be the path of a directory")
    if stores and files:
        raise _invalid(STORES, f"is set for a host that has {FILES} too; make the store a host of its own")
    for name in (SERVICES, COMMANDS, HEALTH_CHECKS):
        if stores and _value(name, variables, template):
            raise _invalid(name, "is set for a store, which restarts and checks nothing; set it to [] for this host")
    others, restarts = bool(foreign) or others_stores, bool(steps.services or steps.commands)
    if not files and not stores and (restarts or _value(OWN_ACCOUNT, variables, template)):
        others = others or _own_account_of(variables, template) != account_of(variables, template)
    readers = [READERS] if restarts and not (files or stores or others) else []
    wave = _value(WAVE, variables, template)
    if wave not in (None, "", 0, 1, "0", "1"):
        raise _invalid(WAVE, "must be 0 or 1")
    wait = _value(WAVE_TIMEOUT, variables, template, 10)
    if stores and int(wave or 0):
        raise _invalid(WAVE, "is 1 for a store, which comes before what reads it; set it to 0 for this host")
    return HostSpec(
        files or stores or readers,
        steps,
        others,
        [[spec.path, spec.variable] for spec in foreign],
        _text(state_dir),
        int(wave) if wave not in (None, "") else int(bool(readers)),
        _number(WAVE_TIMEOUT, 10 if wait == "" else wait, float),
    )


def _refuse_misspelt(variables: Mapping[str, Any]) -> None:
    wrong = misspelt((name for name in variables if not str(name).startswith(FILES + "__")), (_PREFIX,), _VARIABLES)
    if wrong is not None:
        raise _invalid(*wrong)


def _stores_of(
    variables: Mapping[str, Any], template: Callable[[Any], Any], control: ControlNode
) -> tuple[list[StoreSpec], bool]:
    """Return the host's stores of the account that this run is about, and whether it has some of others."""
    entries = _value(STORES, variables, template) or []
    if not isinstance(entries, (list, tuple)):
        raise _invalid(STORES, "must be a list of stores, each a mapping with at least type")
    account, own = account_of(variables, template), _own_account_of(variables, template)
    found, others = dict[str, StoreSpec](), False
    for number, entry in enumerate(entries, 1):
        place = f"{STORES}, entry {number}"
        if not isinstance(entry, Mapping):
            raise _invalid(place, "must be a mapping with at least type")
        if str(entry.get("account") or own) != account:
            others = True
            continue
        kind = str(entry.get("type"))
        fields = {
            name: _plain(f"{place}, {shown_name(name)}", entry[name])
            for name in entry
            if name not in ("type", "account")
        }
        try:
            options = protocol.resolve(kind, fields, control)
            spec = StoreSpec(kind, clean(protocol.label_of(kind, options)), options)
        except protocol.InvalidEntry as error:
            raise _invalid(place, str(error)) from None
        if found.setdefault(spec.path, spec) is not spec:
            raise _invalid(place, f"names {spec.path} once more")
    return list(found.values()), others


def _plain(place: str, value: Any) -> Any:
    """Return a value without what is particular to Ansible; a text of Ansible Vault may be decrypted only now."""
    if isinstance(value, (list, tuple)):
        return [_plain(place, each) for each in value]
    try:
        return value if value is None or isinstance(value, (str, bool, int, float, Mapping)) else str(value)
    except Exception as error:
        problem, remedy = not_templated(error)
        raise _invalid(place, f"{problem}; {remedy}") from None


def _steps_of(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Steps:
    def each(name: str, parse: Callable[[Any], Any], what: str) -> list[Any]:
        entries = _value(name, variables, template) or []
        if not isinstance(entries, (list, tuple)):
            raise _invalid(name, f"must be a list; each entry is {what}")
        parsed = [parse(entry) for entry in entries]
        if None in parsed:
            raise _invalid(f"{name}, entry {parsed.index(None) + 1}", f"must be {what}")
        if parse is _words:
            _refuse_shell(name, entries)
        if parse is _service:
            _refuse_several(name, parsed)
        return parsed

    def number(name: str, kind: type[int] | type[float], default: int, zero: bool = True) -> Any:
        value = _value(name, variables, template, default)
        return _number(name, default if value == "" else value, kind, zero)  # a survey's empty field is unset

    return Steps(
        services=each(SERVICES, _service, "a name, or name and state (restarted or reloaded)"),
        commands=each(COMMANDS, _words, "a command line"),
        health=each(HEALTH_CHECKS, _words, "a command line"),
        timeout=number(TIMEOUT, float, 300, zero=False),
        retries=number(HEALTH_RETRIES, int, 10),
        delay=number(HEALTH_DELAY, float, 1),
        ignore_processes=each(IGNORE_PROCESSES, _pattern, "a pattern of a unit or a command"),
    )


def _refuse_shell(name: str, entries: Iterable[str]) -> None:
    """Refuse what only a shell understands: the program would be given it as an argument, and fail after the write."""
    for number, entry in enumerate(entries, 1):
        if any(_SHELL_OPERATOR.fullmatch(word) for word in _QUOTED.sub("_", entry).split()):
            problem = "is not run through a shell, which |, && and > need: write sh -c 'COMMAND'"
            raise _invalid(f"{name}, entry {number}", f"{problem}, or quote what is meant for the program")


def _refuse_several(name: str, services: Iterable[Mapping[str, str]]) -> None:
    """Refuse what stands for several services: it is restarted as one, and its state is not that of each of them."""
    for number, service in enumerate(services, 1):
        if _SEVERAL.search(service["name"]):
            problem = "is a pattern, or no service but another unit of systemd, so that what it restarts is not known"
            raise _invalid(f"{name}, entry {number}", f"{problem}: name each service, or use {COMMANDS}")


def _number(name: str, raw: Any, kind: type[int] | type[float], zero: bool = True) -> Any:
    try:
        value = kind(raw)
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value < 1_000_000 or not (value or zero):
        raise _invalid(name, "must be a number, 0 or more" if zero else "must be a number above 0")
    return value


def _service(entry: Any) -> dict[str, str] | None:
    if not isinstance(entry, Mapping):
        entry = {"name": entry}
    name, state = entry.get("name"), entry.get("state", "restarted")
    right = set(entry) <= {"name", "state"} and state in ("restarted", "reloaded")
    # A name that begins with a dash would be an option of the service manager.
    return {"name": str(name), "state": str(state)} if right and _words(name) and not name.startswith("-") else None


def _pattern(entry: Any) -> str | None:
    return entry if isinstance(entry, str) and entry else None


def _words(entry: Any) -> list[str] | None:
    if not isinstance(entry, str):
        return None
    try:
        return shlex.split(entry) or None
    except ValueError:  # an open quote
        return None


def _checked(place: str, entry: Any) -> FileSpec:
    if not isinstance(entry, Mapping):
        raise _invalid(place, "must be a mapping with at least path")
    for problem in _problems(entry):
        raise _invalid(place, problem)
    has_template, form = bool(entry.get("template")), str(entry.get("format") or "env")
    return FileSpec(
        path=os.path.normpath(str(entry["path"])),
        variable=None if has_template or form == "key" else str(entry.get("variable") or DEFAULT_VARIABLE),
        template=str(entry["template"]) if has_template else None,
        owner=_text(entry.get("owner")),
        group=_text(entry.get("group")),
        mode=entry.get("mode"),
        unsafe_writes=bool(entry.get("unsafe_writes", False)),
        format=form,
    )


def _problems(entry: Mapping[str, Any]) -> Iterator[str]:
    unknown = sorted(str(name) for name in entry if name not in _FIELDS)
    if unknown:
        yield f"has the unknown field '{shown_name(unknown[0])}'; known are {', '.join(_FIELDS)}"
    path = entry.get("path")
    if not isinstance(path, str) or not os.path.isabs(path) or path.endswith("/") or "\0" in path:
        yield "needs path: the absolute path of a file"
    if entry.get("template") and entry.get("variable"):
        yield "has both template and variable; a template is the whole file"
    if (entry.get("format") or "env") not in _FORMATS:
        yield "needs format: env, or key for a file that is nothing but the key"
    if entry.get("format") and entry.get("template"):
        yield "has both template and format; a template has its own"
    if entry.get("format") == "key" and entry.get("variable"):
        yield "has a variable although its format is key: such a file is nothing but the key"
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
    whole = {spec.path: "a template" if spec.template else "format key" for spec in specs if not spec.variable}
    first: dict[str, FileSpec] = {}
    for spec in specs:
        wanted = first.setdefault(spec.path, spec)
        if (wanted.owner, wanted.group, wanted.mode) != (spec.owner, spec.group, spec.mode):
            raise _invalid(FILES, f"contradicts itself in the owner, group or mode of {spec.path}")
        if spec.variable and spec.path in whole:
            raise _invalid(FILES, f"names {spec.path} both as {whole[spec.path]} and as an environment file")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _invalid(place: str, problem: str) -> MulticartError:
    return MulticartError(Reason.INVALID_OPTION, f"{place}: it {problem}.", "Nothing was changed on this host.")
