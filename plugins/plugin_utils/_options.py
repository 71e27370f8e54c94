# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The options of the key plugins: the only list, and the one way from task, variables and environment to values."""

from __future__ import annotations

import difflib
import enum
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey, is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, clean, shown_name

DEFAULT_URL = "https://multicartapi.com/api/v1"

LONGEST_TIMEOUT = 3600
"""Seconds."""

PRINTABLE = re.compile(r"[\x21-\x7e]+")
"""ASCII without white space and control characters."""

PLAIN_NETLOC = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]*)?")
"""Host and port of a URL, without what parsers read differently, such as a backslash or text behind a bracket."""

_OWN_LOOKUP = re.compile(r"""\b(lookup|query|q)\s*\(\s*['"](multicart\.keys\.)?multicart_key['"]""")


class Source(enum.Enum):
    """Where a value came from."""

    TASK = "task"
    VARIABLE = "variable"
    ENVIRONMENT = "environment"
    DEFAULT = "default"


class Kind(enum.Enum):
    """How a raw value is read."""

    TEXT = "text"
    CREDENTIAL = "credential"
    BOOL = "bool"
    SECONDS = "seconds"
    PATH = "path"
    FINGERPRINT = "fingerprint"
    COUNT = "count"
    AGE = "age"
    LIST = "list"


@dataclass(frozen=True)
class Option:
    """One option of a task or lookup.

    ``shared`` options may also come from the variable ``multicart_NAME`` and the environment ``MULTICART_NAME``; those
    of a role come from its variable alone. One with ``choices`` is one of them, and required if it has no default.
    """

    name: str
    kind: Kind
    default: Any = None
    shared: bool = False
    role_variable: str | None = None
    choices: tuple[str, ...] = ()
    required: bool = False

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return f"variable {self.role_variable}" if self.role_variable else f"option {self.name}"

    @property
    def variable(self) -> str:
        return self.role_variable or f"multicart_{self.name}"

    @property
    def environment(self) -> str:
        return self.variable.upper()


CONNECTION: tuple[Option, ...] = (
    Option("api_url", Kind.TEXT, DEFAULT_URL, shared=True),
    Option("session_token", Kind.CREDENTIAL, shared=True),
    Option("email", Kind.TEXT, shared=True),
    Option("password", Kind.CREDENTIAL, shared=True),
    Option("api_key", Kind.CREDENTIAL, shared=True),
    Option("validate_certs", Kind.BOOL, True, shared=True),
    Option("ca_path", Kind.PATH, shared=True),
    Option("timeout", Kind.SECONDS, 10.0, shared=True),
)
_OF_CONNECTION = {option.name: option for option in CONNECTION}
REVEAL = Option("reveal", Kind.BOOL, False)
SETTLE_TIMEOUT = Option("settle_timeout", Kind.SECONDS, 30.0)
INFO: tuple[Option, ...] = (*CONNECTION, REVEAL)
ROTATE: tuple[Option, ...] = (
    *INFO,
    Option("retire", Kind.FINGERPRINT),
    SETTLE_TIMEOUT,
    Option("verify", Kind.BOOL, True),
)
REVOKE: tuple[Option, ...] = (*CONNECTION, Option("retire", Kind.FINGERPRINT, required=True), SETTLE_TIMEOUT)
LOOKUP: tuple[Option, ...] = (*CONNECTION, Option("cache", Kind.BOOL, True))
FLEET: tuple[Option, ...] = (
    *CONNECTION,
    Option("phase", Kind.TEXT, choices=("rotate",)),
    Option("confirm", Kind.BOOL, False, role_variable="multicart_rotate_confirm"),
    Option("min_hosts", Kind.COUNT, 1, role_variable="multicart_rotate_min_hosts"),
    Option("retire", Kind.FINGERPRINT, role_variable="multicart_rotate_retire"),
    Option("assume_rejected", Kind.FINGERPRINT, role_variable="multicart_rotate_assume_rejected"),
    Option("max_age", Kind.AGE, role_variable="multicart_rotate_max_age"),
    Option("unknown_age", Kind.TEXT, "keep", role_variable="multicart_rotate_unknown_age", choices=("keep", "rotate")),
    Option("force", Kind.BOOL, False, role_variable="multicart_rotate_force"),
    Option("uncovered", Kind.TEXT, "refuse", role_variable="multicart_rotate_uncovered", choices=("refuse", "warn")),
    Option("allowed_hours", Kind.TEXT, role_variable="multicart_rotate_allowed_hours"),
)
FLEET_INFO_PHASES = ("validate", "validate_deployment", "audit", "diagnose")
"""Those of the module that only reads; its other options are those of `FLEET`."""

HOST: tuple[Option, ...] = (
    *CONNECTION,
    Option("phase", Kind.TEXT, choices=("join", "deploy", "deploy_later", "result")),
)
REPORT: tuple[Option, ...] = (Option("dest", Kind.PATH, role_variable="multicart_report_dir"),)
MONITORING: tuple[Option, ...] = (
    Option("metrics", Kind.PATH, role_variable="multicart_report_metrics"),
    Option("hooks", Kind.LIST, [], role_variable="multicart_report_hooks"),
    Option("syslog", Kind.BOOL, False, role_variable="multicart_report_syslog"),
)
_OF_ROLES = {option.variable for option in (*FLEET, *REPORT, *MONITORING) if option.role_variable}


@dataclass(frozen=True)
class Login:
    """An account's email address and password."""

    email: str
    password: str

    def __repr__(self) -> str:
        return "<Login>"


@dataclass(frozen=True)
class Connection:
    """How to reach the API and with which credentials; every value is checked.

    :ivar api_url: base URL without a trailing slash.
    :ivar timeout: seconds one request may take, and within which a failing read is tried again.
    """

    api_url: str = DEFAULT_URL
    session_token: str | None = None
    login: Login | None = None
    api_key: ApiKey | None = None
    validate_certs: bool = True
    ca_path: str | None = None
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"<Connection {self.api_url}>"

    @property
    def can_read_back(self) -> bool:
        """Whether a key that is not known yet can be read: by session token or login."""
        return self.session_token is not None or self.login is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret that was given, for taking them out of the API's texts."""
        held = [self.session_token, self.login.password if self.login else None]
        held.append(self.api_key.reveal() if self.api_key else None)
        return tuple(secret for secret in held if secret)


@dataclass(frozen=True)
class Options:
    """The connection, and what else the task or lookup was given by name."""

    connection: Connection
    given: Mapping[str, Any]


def resolve(
    known: Iterable[Option],
    task: Mapping[str, Any],
    variables: Mapping[str, Any],
    template: Callable[[Any], Any],
    environ: Mapping[str, str],
) -> Options:
    """Find every option's value: task option, then variable, then environment, then default. Empty means unset.

    :param known: the options this plugin has.
    :param task: the task's or lookup's own options, templated already.
    :param variables: the host's variables; a shared option's one is templated here.
    :param template: how a variable is templated.
    :param environ: the controller's environment, taken literally.
    :raises MulticartError: ``invalid_option``, ``malformed_key``, ``insecure_url`` or ``url_not_bound``.
    """
    options = {option.name: option for option in known}
    _refuse_unknown(task, {name: option for name, option in options.items() if not option.role_variable})
    roles = {"_".join(option.variable.split("_")[:2]) + "_" for option in known if option.role_variable}
    wrong = misspelt(variables, tuple(roles), _OF_ROLES)
    if wrong is not None:
        raise MulticartError(
            Reason.INVALID_OPTION, f"{' '.join(wrong)}.", "Nothing was changed; correct it and run again."
        )
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for option in options.values():
        raw, sources[option.name] = _find(option, task, variables, template, environ)
        given = sources[option.name] is not Source.DEFAULT
        if option.required and not given:
            raise _invalid(option, sources[option.name], "is required")
        if option.choices and raw not in option.choices:
            raise _invalid(option, sources[option.name], f"must be one of {', '.join(option.choices)}")
        values[option.name] = _parse(option, raw, sources[option.name]) if given else raw
    # A plugin that does not talk to the API needs no connection, and cannot fail because of a wrong one.
    connection = _connection(values, sources) if "api_url" in options else Connection()
    shared = {option.name for option in CONNECTION}
    return Options(connection, {name: value for name, value in values.items() if name not in shared})


def values_of_run(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> dict[str, str]:
    """Return what a host says that a rotation is asked for, by variable, in a form in which it can be compared.

    A rotation is one for all hosts, and has the values of one of them.
    """
    found: dict[str, str] = {}
    for option in FLEET:
        if option.role_variable:
            try:
                raw, source = _find(option, {}, variables, template, {})
                found[option.role_variable] = repr(raw if source is Source.DEFAULT else _parse(option, raw, source))
            except MulticartError as error:  # refused where it is that of the run
                found[option.role_variable] = error.what
    return found


def misspelt(variables: Iterable[Any], roles: tuple[str, ...], known: Collection[str]) -> tuple[str, str] | None:
    """Return a variable that has the prefix of a role but is not one of its, and what to do; None: there is none.

    It would have no effect: a service, say, that is named there would not be restarted.

    :param roles: how the names of their variables begin.
    """
    unknown = sorted({str(name) for name in variables if str(name).startswith(roles)} - set(known))
    if not unknown:
        return None
    # Without the name of the role, by which any two would be alike, such as one that a task has registered.
    role = next(role for role in roles if unknown[0].startswith(role))
    names = sorted(name.removeprefix(role) for name in known if name.startswith(role))
    near = difflib.get_close_matches(unknown[0].removeprefix(role), names)
    remedy = f"write {role}{near[0]}" if near else "remove it"
    return clean(unknown[0])[:80], f"is not a variable of this collection: {remedy}, or give it another prefix"


def _refuse_unknown(task: Mapping[str, Any], options: Mapping[str, Option]) -> None:
    for name in task:
        if name not in options:
            near = difflib.get_close_matches(str(name), options)
            hint = f" Did you mean {near[0]}?" if near else f" Known options: {', '.join(sorted(options))}."
            raise MulticartError(Reason.INVALID_OPTION, f"Unknown option {shown_name(name)}.{hint}")


def _find(
    option: Option,
    task: Mapping[str, Any],
    variables: Mapping[str, Any],
    template: Callable[[Any], Any],
    environ: Mapping[str, str],
) -> tuple[Any, Source]:
    if not option.role_variable and task.get(option.name) is not None:
        raw = _plain(lambda: task[option.name], f"option {option.name}")
        if not _unset(raw):
            return raw, Source.TASK
    if option.shared or option.role_variable:
        if option.variable in variables:
            if option.shared and _is_own_lookup(variables[option.variable]):
                what = f"The variable {option.variable} is read by the lookup multicart_key, and cannot be set by it."
                remedy = "Nothing was changed; give the variable in which you keep the key another name."
                raise MulticartError(Reason.INVALID_OPTION, what, remedy)
            raw = templated(option.variable, variables[option.variable], template)
            if not _unset(raw):
                return raw, Source.VARIABLE
        if option.shared and environ.get(option.environment):
            return environ[option.environment], Source.ENVIRONMENT
    return option.default, Source.DEFAULT


def _is_own_lookup(source: Any) -> bool:
    """Tell whether a variable is to be set by the lookup that reads it: it would call itself again and again."""
    try:
        return isinstance(source, str) and bool(_OWN_LOOKUP.search(source))
    except Exception:  # pylint: disable=broad-except  # of a vault, whose turn comes later
        return False


def _plain(get: Callable[[], Any], label: str) -> Any:
    """Return a value as a plain one; a text from Ansible Vault may be decrypted only now."""
    try:
        raw = get()
        known = raw is None or isinstance(raw, (str, bool, int, float, dict, list, tuple, set))
        return raw if known else str(raw)
    except Exception as error:
        problem, remedy = not_templated(error)
        what = f"The {label} {problem}."
        raise MulticartError(Reason.INVALID_OPTION, what, f"Nothing was changed; {remedy}.") from None


def templated(name: str, raw: Any, template: Callable[[Any], Any]) -> Any:
    """Return the value of a variable.

    :raises MulticartError: ``invalid_option``; it names the variable.
    """
    return _plain(lambda: template(raw), f"variable {name}")


def not_templated(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a value that cannot be templated, and the remedy."""
    if _is_of_vault(error):
        return (
            "cannot be decrypted: the password of its Ansible Vault is missing or wrong",
            "give it with --vault-id, --vault-password-file or --ask-vault-pass",
        )
    name = undefined_in(error)
    if name is None:
        return f"cannot be templated ({type(error).__name__})", "correct the expression"
    return f"cannot be templated ({name} is undefined)", f"define {name}, or correct the expression"


def undefined_in(error: Exception) -> str | None:
    """Return the name of the variable that a template lacks.

    The rest of the error's text may quote the expression and its values, such as a name of an attribute.
    """
    found = re.search(r"'([A-Za-z_][A-Za-z0-9_]*)' is undefined", str(error))
    return found[1] if found else None


def _is_of_vault(error: BaseException | None) -> bool:
    while error is not None:
        if "vault" in type(error).__name__.lower() or "vault secrets" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def _unset(raw: Any) -> bool:
    return raw is None or (isinstance(raw, str) and raw == "")


def _place(option: Option, source: Source) -> str:
    """Return where an option was set, in brackets; empty: in the task, or where its label says."""
    return {
        Source.VARIABLE: "" if option.role_variable else f" (from the variable {option.variable})",
        Source.ENVIRONMENT: f" (from the environment variable {option.environment})",
    }.get(source, "")


def _invalid(option: Option, source: Source, must: str, reason: Reason = Reason.INVALID_OPTION) -> MulticartError:
    what = f"The {option.label}{_place(option, source)} {must}."
    return MulticartError(reason, what, "Nothing was changed; correct it and run again.")


def invalid(options: Iterable[Option], name: str, must: str) -> MulticartError:
    """Describe what is wrong with a variable of a role whose value is read further elsewhere."""
    (option,) = (option for option in options if option.name == name)
    return _invalid(option, Source.VARIABLE, must)


def _parse(option: Option, raw: Any, source: Source) -> Any:
    """Read a raw value strictly; the error names the option and where it came from, never the value."""

    def wrong(must: str) -> MulticartError:
        return _invalid(option, source, must)

    if option.kind is Kind.LIST:
        if not isinstance(raw, list):
            raise wrong("must be a list")
        return raw
    if isinstance(raw, (dict, list, tuple, set)):
        raise wrong("must be a single value, not a list or a mapping")
    if option.kind is Kind.BOOL:
        return _parse_bool(raw, wrong)
    if option.kind is Kind.SECONDS:
        return _parse_seconds(raw, wrong)
    text = str(raw)
    if option.kind is Kind.COUNT:
        if not re.fullmatch(r"[0-9]{1,6}", text) or isinstance(raw, bool):
            raise wrong("must be a whole number")
        return int(text)
    if not isinstance(raw, str):
        # YAML has read 0123 as octal, and jinja2_native 12e45678 as infinity: the text is lost.
        raise wrong("must be text: put it in quotes; in a template, end it with | string")
    if option.kind is Kind.AGE:
        return _parse_age(text, wrong)
    if option.kind is Kind.FINGERPRINT and not is_fingerprint(text):
        raise wrong("must be a fingerprint: 16 lower-case hexadecimal digits")
    if option.name == "session_token" and not PRINTABLE.fullmatch(text):
        raise wrong("must be printable ASCII without white space")
    return text


def _parse_bool(raw: Any, wrong: Callable[[str], MulticartError]) -> bool:
    word = str(raw).strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise wrong("must be true or false")


def _parse_age(text: str, wrong: Callable[[str], MulticartError]) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise wrong("must be an age: a whole number followed by s, m, h, d or w, such as 30d")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def _parse_seconds(raw: Any, wrong: Callable[[str], MulticartError]) -> float:
    try:
        seconds = float(raw)
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(raw, bool) or not 0 < seconds <= LONGEST_TIMEOUT:
        raise wrong(f"must be a number of seconds above 0 and up to {LONGEST_TIMEOUT}")
    return seconds


def _connection(values: Mapping[str, Any], sources: Mapping[str, Source]) -> Connection:
    login = None
    if values["email"] and values["password"]:
        login = Login(values["email"], values["password"])
    elif values["email"] or values["password"]:
        given, missing = ("email", "password") if values["email"] else ("password", "email")
        place = _place(_OF_CONNECTION[given], sources[given])
        lacking = _OF_CONNECTION[missing]
        name = {Source.VARIABLE: lacking.variable, Source.ENVIRONMENT: lacking.environment}.get(sources[given], missing)
        raise MulticartError(
            Reason.INVALID_OPTION,
            f"The option {missing} is missing: a login needs both, and only {given}{place} is set.",
            f"Set {name} too, or neither of them.",
        )
    if values["session_token"] and login and not sources["session_token"] is sources["email"] is sources["password"]:
        # A token and a login from different places may belong to different accounts; the token wins.
        login = None
    api_key = None
    if values["api_key"]:
        try:
            api_key = ApiKey(values["api_key"])
        except NotAKey as error:
            wrong = f"is wrong: {error}"
            raise _invalid(_OF_CONNECTION["api_key"], sources["api_key"], wrong, Reason.MALFORMED_KEY) from None
    connection = Connection(
        api_url=_checked_url(values["api_url"], _place(_OF_CONNECTION["api_url"], sources["api_url"])),
        session_token=values["session_token"],
        login=login,
        api_key=api_key,
        validate_certs=values["validate_certs"],
        ca_path=values["ca_path"],
        timeout=values["timeout"],
    )
    _refuse_unbound(connection, sources)
    return connection


def _checked_url(url: str, place: str) -> str:
    """Return the base URL without its trailing slash, or say what is wrong with it, and where it was set."""
    wrong = None
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        parts = None
    if parts is None or not host or parts.scheme not in ("http", "https") or not PRINTABLE.fullmatch(url):
        wrong = "must be an absolute http:// or https:// URL"
    elif parts.username is not None or parts.password is not None:
        wrong = "must not hold a user name or password"
    elif "?" in url or "#" in url:
        wrong = "must not hold a query or fragment"
    elif not PLAIN_NETLOC.fullmatch(parts.netloc):
        wrong = "must name a host in the usual form"
    if wrong or parts is None or not host:
        what = f"The option api_url{place} {wrong}."
        raise MulticartError(Reason.INVALID_OPTION, what, f"The default is {DEFAULT_URL}.")
    if parts.scheme == "http" and not is_loopback(host):
        raise MulticartError(Reason.INSECURE_URL, f"The option api_url{place} would send credentials unencrypted.")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address. A name with a dot at its end is asked of the DNS."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_unbound(connection: Connection, sources: Mapping[str, Source]) -> None:
    """A launch-time variable must not be able to send a credential of the environment elsewhere."""
    used = ["session_token", *(["email", "password"] if connection.login else []), "api_key"]
    from_environment = [name for name in used if sources[name] is Source.ENVIRONMENT]
    elsewhere = [
        name for name in ("api_url", "validate_certs", "ca_path") if sources[name] in (Source.TASK, Source.VARIABLE)
    ]
    if from_environment and elsewhere:
        raise MulticartError(
            Reason.URL_NOT_BOUND,
            f"The credential {from_environment[0]} comes from the environment, but {elsewhere[0]} does not.",
        )
