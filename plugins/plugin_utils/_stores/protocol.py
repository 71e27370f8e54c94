# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What a store can do: a place other than a file that holds the key. Three verbs: inspect, write, note. No Ansible.

Each type is a small file: ``FIELDS`` of an entry; ``label``, which returns what to call it; ``check``, which refuses
fields that do not go together; and ``opened``, which makes its `Store`. The library that a type needs is imported when
its store is opened, in the store's own process, and not before.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import session_for, system_trust
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, shown_name
from ansible_collections.multicart.keys.plugins.plugin_utils._options import PLAIN_NETLOC, PRINTABLE, is_loopback

TYPES = (
    "ansible_vault",
    "aws_secretsmanager",
    "aws_ssm",
    "awx_credential",
    "azure_keyvault",
    "command",
    "consul_kv",
    "etcd",
    "gcp_secret_manager",
    "github_secret",
    "gitlab_variable",
    "kubernetes_secret",
    "sops",
    "vault_kv2",
)
"""The types of stores; each is the file of that name."""

ANSWERING = 10
"""Seconds in which each request must be answered."""

LONGEST = 4 * 1024 * 1024
"""Bytes of an answer; what holds a key has at most one MiB, in most stores."""


class StoreError(Exception):
    """A store cannot do what it is asked for.

    :param reason: stable; see the table of reasons in the documentation.
    :param text: what is wrong and what helps, without a full stop, in words of this collection: what a store or its
        library says may hold anything.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Conflict(Exception):
    """Somebody else has changed the store since it was inspected; nothing was written."""


@dataclass(frozen=True)
class Found:
    """What a store held when it was inspected.

    :ivar fingerprint: of the key in it; None: it holds none, or does not let anybody read it.
    :ivar record: what `Store.note` has left there, any JSON; None: nothing.
    :ivar version: what `Store.write` needs in order to change only what was inspected, as the type likes it.
    """

    fingerprint: str | None = None
    record: Any = None
    version: Any = None


class Store:
    """One place for the key. Every method raises `StoreError`, and returns when the store has answered.

    :cvar write_only: nobody can read what it holds, so that its record alone tells.
    """

    write_only = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def inspect(self) -> Found:
        """Return what it holds, and find out that it can be written, changing nothing.

        :raises StoreError: also if it cannot be written.
        """
        raise NotImplementedError

    def verify_right(self) -> None:
        """Find out that it can be written where only a change can tell; what is changed for it, is undone."""

    def write(self, key: ApiKey, found: Found) -> Found:
        """Put the key there, and leave everything else in it as it is.

        :raises Conflict: it is not as it was found.
        """
        raise NotImplementedError

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        """Leave the record there; return what it holds then, with what the next call needs."""
        raise NotImplementedError

    def restart(self) -> bool:
        """Restart what reads it, and wait for that; False: it has nothing to restart."""
        return False


@dataclass(frozen=True)
class Field:
    """One field of an entry in ``multicart_deploy_stores``.

    :ivar env: the environment variable of the control node that it comes from if the entry lacks it.
    :ivar secret: it is a credential, and goes only where its own origin says.
    :ivar free: it may have blanks and letters of any kind, as it goes into the body of a request, or into what signs
        one; no header could carry those.
    :ivar place: it says where credentials go.
    :ivar only_there: its environment variable is left aside where the entry itself says where credentials go.
    :ivar not_with: values of ``auth`` with which its library sends a credential of the environment there; no entry
        gives it then.
    :ivar path: it is a path of the control node; of a command, its program.
    :ivar of_run: the name of what the run of Ansible has; no entry gives it.
    """

    kind: type[Any] = str
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    env: str | None = None
    secret: bool = False
    free: bool = False
    place: bool = False
    only_there: bool = False
    not_with: tuple[str, ...] = ()
    path: bool = False
    of_run: str | None = None


@dataclass(frozen=True)
class ControlNode:
    """What the entries of stores may take from the control node.

    :ivar environment: its environment variables.
    :ivar folders: in which relative paths are looked for, in order.
    :ivar vault_passwords: those of this run of Ansible, each with its name.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    folders: Sequence[str] = ()
    vault_passwords: Sequence[Sequence[str]] = field(default=(), repr=False)


NO_CONTROL_NODE = ControlNode()
"""Nothing is taken from it."""


class InvalidEntry(ValueError):
    """An entry says what cannot be; the text names the field, and repeats no value of a secret one."""


def fields_of(kind: str) -> dict[str, Field]:
    """Return the fields of a type."""
    found: dict[str, Field] = _module(kind).FIELDS
    return found


def resolve(kind: str, entry: Mapping[str, Any], control: ControlNode) -> dict[str, Any]:
    """Return the value of every field: the entry's own, that of the environment, or the default; empty is unset.

    :raises InvalidEntry: also if a credential of the environment would go to a place that the environment did not name.
    """
    fields = fields_of(kind)
    given = {name: value for name, value in entry.items() if value not in (None, "")}
    known_names = [name for name, known in fields.items() if not known.of_run]
    unknown = sorted(str(name) for name in given if name not in known_names)
    if unknown:
        raise InvalidEntry(f"has the unknown field '{shown_name(unknown[0])}'; {kind} knows {', '.join(known_names)}")
    places = [name for name, known in fields.items() if known.place and name in given]
    found, from_environment = {}, set()
    for name, known in fields.items():
        if known.of_run:
            found[name] = getattr(control, known.of_run)
            continue
        found[name] = given.get(name, known.default)
        asked = name not in given and not (known.only_there and places)
        if asked and known.env and control.environment.get(known.env):
            found[name] = control.environment[known.env]
            from_environment.add(name)
        if found[name] is None:
            if known.required:
                raise InvalidEntry(f"needs {name}" + (f" (or {known.env} in the environment)" if known.env else ""))
            continue
        found[name] = _checked(name, known, found[name])
        if known.path:
            found[name] = _located(name, found[name], control.folders)
    taken = sorted(name for name in from_environment if fields[name].secret)
    if places and taken:
        raise InvalidEntry(
            f"has {places[0]} while {taken[0]} comes from the environment; a credential of the environment goes only "
            f"where the environment says: give both there, or both in the entry"
        )
    for name in given:
        if found.get("auth") in fields[name].not_with:
            instead = ", and add the CA to the certificates of the control node's system" if name == "ca_path" else ""
            raise InvalidEntry(
                f"has {name} with auth: {found['auth']}, whose credential comes from the environment and goes only "
                f"where the environment says: leave out {name}{instead}"
            )
    check = getattr(_module(kind), "check", None)
    if check is not None:
        check(found)
    return found


def label_of(kind: str, options: Mapping[str, Any]) -> str:
    """Return what an entry is called wherever it is shown; no secret."""
    return f"{kind} {_module(kind).label(options)}"


def open_store(kind: str, options: Mapping[str, Any]) -> Store:
    """Return the store of an entry.

    :raises StoreError: ``store_library_missing``.
    """
    made: Store = _module(kind).opened(options)
    return made


def library(name: str, package: str) -> Any:
    """Import what a type needs.

    :raises StoreError: ``store_library_missing``.
    """
    try:
        return import_module(name)
    except ImportError:
        raise StoreError(
            "store_library_missing",
            f"the Python library {package} is missing; install it where Ansible runs: {sys.executable} -m pip install "
            f"{package}",
        ) from None


def fingerprint_of(value: Any) -> str | None:
    """Return the fingerprint of a value if it is shaped like a key; None: it counts as missing, like ``changeme``."""
    try:
        return ApiKey(value).fingerprint if isinstance(value, str) else None
    except NotAKey:
        return None


def checked_url(name: str, url: str) -> str:
    """Return a URL without its trailing slash.

    :raises InvalidEntry: it is none, holds a password, or would send credentials unencrypted.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not PRINTABLE.fullmatch(url):
        raise InvalidEntry(f"needs {name}: an https:// URL")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidEntry(f"needs {name}: a URL without user, password, query or fragment")
    if not PLAIN_NETLOC.fullmatch(parts.netloc):
        raise InvalidEntry(f"needs {name}: a URL with a host name, or an address without a zone")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidEntry(f"needs {name}: an https:// URL; http:// is accepted for a loopback address only")
    return url.rstrip("/")


def checked_origin(name: str, url: str) -> str:
    """Return a URL that names a server alone; see `checked_url`."""
    url = checked_url(name, url)
    if urlsplit(url).path:
        raise InvalidEntry(f"needs {name}: a URL without a path")
    return url


def _checked(name: str, field: Field, value: Any) -> Any:
    if field.kind is list:
        right = isinstance(value, (list, tuple)) and all(isinstance(each, str) and each for each in value)
        if not right or (field.path and not value):
            raise InvalidEntry(f"needs {name}: a list of texts")
        return [str(each) for each in value]
    if not isinstance(value, field.kind) or (field.kind is not bool and isinstance(value, bool)):
        raise InvalidEntry(f"needs {name}: {_KINDS[field.kind]}")
    if field.choices and value not in field.choices:
        raise InvalidEntry(f"needs {name}: {' or '.join(field.choices)}")
    if field.kind is str and any(ord(letter) < 32 for letter in value):
        raise InvalidEntry(f"needs {name}: one line of text")
    if field.secret and not (field.path or field.free or PRINTABLE.fullmatch(value)):
        raise InvalidEntry(f"needs {name}: printable ASCII without white space")
    # Texts of Ansible carry tags, which no library and no JSON wants.
    return field.kind(value)


def _located(name: str, value: Any, folders: Sequence[str]) -> Any:
    """Return a path of the control node as an absolute one; a command's program without a slash is found by PATH."""
    if isinstance(value, list):
        return [_located(name, value[0], folders) if "/" in value[0] else value[0], *value[1:]]
    path = os.path.expanduser(value)
    found = [place for folder in (*folders, "") if os.path.exists(place := os.path.join(folder, path))]
    if not found:
        raise InvalidEntry(
            f"needs {name}: {shown_path(value)} does not exist; it is looked for beside the playbook and the inventory"
        )
    return os.path.abspath(found[0])


_PATH = re.compile(r"(/|\.{1,2}/|~/).*|[\w.~-]+(/[\w.~-]+)*\.(ya?ml|json|env|ini|pem|crt|cer|key|txt)")


def shown_path(value: str) -> str:
    """Return a path if it looks like one: a credential that stands in the place of its file does not."""
    return value if _PATH.fullmatch(value) else "that file"


_KINDS: dict[type[Any], str] = {str: "a text", bool: "true or false", int: "a number"}


def _module(kind: str) -> Any:
    if kind not in TYPES:
        raise InvalidEntry(f"needs type: one of {', '.join(TYPES)}")
    return import_module(f"{__name__.rpartition('.')[0]}.{kind}")


def clean_environment() -> dict[str, str]:
    """Return the environment for what a store starts: without the credentials of this collection."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MULTICART_")}


# --- records --------------------------------------------------------------------------------------


def text_of(record: Any) -> str:
    """Return a record as it is kept where there is place for a text."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"))


def parsed(text: Any) -> Any:
    """Return what such a text says; None: it is none."""
    try:
        return json.loads(text) if isinstance(text, (str, bytes)) else None
    except (ValueError, RecursionError):
        return None


def in_pieces(name: str, record: Any, longest: int) -> dict[str, str]:
    """Return a record for a place of many short texts: their names, which begin with ``name``, and the pieces."""
    text = text_of(record)
    starts = enumerate(range(0, len(text), longest))
    return {f"{name}{number}": text[start : start + longest] for number, start in starts}


def from_pieces(name: str, texts: Mapping[str, str]) -> Any:
    """Return the record of such a place; None: there is none."""
    numbers = sorted(int(each[len(name) :]) for each in texts if each.startswith(name) and each[len(name) :].isdigit())
    return parsed("".join(texts[f"{name}{number}"] for number in numbers))


# --- HTTP -----------------------------------------------------------------------------------------


def session_to(url: str, options: Mapping[str, Any]) -> Any:
    """Return a session of requests that follows no redirect, and trusts what an entry says.

    :raises StoreError: also if a proxy of the environment cannot be used.
    """
    library("requests", "requests")
    trust = (options.get("ca_path") or system_trust()) if options.get("validate_certs", True) else False
    try:
        session = session_for(url, trust)
    except MulticartError as error:
        raise StoreError(error.reason.value, error.what.rstrip(".")) from None
    session.hooks["response"] = [_read_bounded]
    return session


def _read_bounded(response: Any, **_how: Any) -> None:
    """Read an answer up to a limit: a library would read all of it, and unpack what is small until it is large."""
    content, encoding = bytearray(), response.headers.get("Content-Encoding", "identity")
    with response:
        if encoding != "identity":
            raise StoreError("store_malformed", "it answers in an encoding that nobody asked for: check its URL")
        for chunk in response.iter_content(64 * 1024):
            content += chunk
            if len(content) > LONGEST:
                raise StoreError("store_malformed", f"it answers more than {LONGEST >> 20} MiB: check its URL")
    response._content = bytes(content)  # pylint: disable=protected-access  # which it would read itself


def unreachable(error: BaseException) -> StoreError:
    """Return what is wrong where no answer came; of the error, only its type is shown."""
    causes = [type(each).__name__ for each in (error, error.__cause__, error.__context__)]
    if any("SSL" in each for each in causes):
        return StoreError("store_unreachable", "its certificate is not valid for it: set ca_path")
    return StoreError("store_unreachable", f"it cannot be reached ({type(error).__name__})")


def malformed() -> StoreError:
    """Return what is wrong with an answer of another form than that of the API."""
    return StoreError("store_malformed", "what it answered has another form than expected: check its URL")


def failure_of(status: int | None, needs: str = "") -> StoreError | Conflict:
    """Return what the status of an answer means.

    :param needs: the rights that the credentials need.
    """
    if status in (401, 403):
        text = "it does not accept the credentials, or they may not do this"
        return StoreError("store_refused", f"{text}: they need {needs}" if needs else text)
    if status == 404:
        return StoreError("store_missing", "what the entry names is not there, or the credentials may not see it")
    if status in (409, 412):
        return Conflict()
    if status == 429:
        return StoreError("store_failed", "it limits the rate of requests: run again later")
    if status in (502, 503, 504):
        return StoreError("store_unreachable", f"it gives no answer now (HTTP {status}): run again later")
    if status is not None and 300 <= status < 400:
        return StoreError("store_failed", "it answers with a redirect, which is not followed: check its URL")
    return StoreError("store_failed", f"it refuses the request (HTTP {status})")
