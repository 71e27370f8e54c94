# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""One variable in a file that ``ansible-vault`` has encrypted, whole or that variable alone; committed if it is in git.

The passwords are those of the run itself. The record is a file beside it. With a ``remote`` nothing is changed in the
work tree: each change is a commit on what the remote's branch holds, so that a push is a compare-and-set.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    clean_environment,
    fingerprint_of,
    library,
)

_files: Any = host_file

FIELDS = {
    "path": Field(required=True, path=True),
    "variable": Field(default="multicart_api_key"),
    "remote": Field(),
    "branch": Field(),
    "passwords": Field(list, of_run="vault_passwords"),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_GIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*\Z")
_HEADER = b"$ANSIBLE_VAULT;"

PUSHING = 20
"""Seconds that a command of git may take."""


def label(options: Mapping[str, Any]) -> str:
    """Return what it is called."""
    where = f" on {options['branch']} of {options['remote']}" if options["remote"] else ""
    return f"{options['path']} {options['variable']}{where}"


def check(options: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    if not _NAME.match(options["variable"]):
        raise InvalidEntry("needs variable: letters, digits and underscores, and no digit first")
    if bool(options["remote"]) != bool(options["branch"]):
        raise InvalidEntry("needs remote and branch, or neither of them")
    for name in ("remote", "branch"):
        if options[name] and not _GIT_NAME.match(options[name]):
            raise InvalidEntry(f"needs {name}: a name that git knows")


def opened(options: Mapping[str, Any]) -> Store:
    """Return the store of an entry's options."""
    return VaultedVariable(options, _Remote(options) if options["remote"] else _Folder(options))


class VaultedVariable(Store):
    """One variable in an encrypted file.

    :param place: where the file and its record are.
    """

    def __init__(self, options: Mapping[str, Any], place: _Folder | _Remote) -> None:
        super().__init__(options)
        self._place = place
        self._vault = library("ansible.parsing.vault", "ansible-core")

    def inspect(self) -> Found:
        """See the protocol."""
        content, kept = self._place.read()
        if not self.options["passwords"]:
            raise StoreError("store_refused", "there is no vault password: run Ansible with --vault-id or the like")
        value = self._variable(content).value
        try:
            record = json.loads(kept) if kept else None
        except ValueError:
            record = None
        # What cannot be put in its place is found now.
        self._changed(content, ApiKey("a.b"))
        return Found(fingerprint_of(value), record, content)

    def write(self, key: ApiKey, found: Found) -> Found:
        """See the protocol."""
        content = self._changed(found.version, key)
        self._place.write(content, f"Replace {self.options['variable']}")
        return Found(key.fingerprint, found.record, content)

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        """See the protocol."""
        self._place.note(records.serialize(dict(record)), f"Note the state of {self.options['variable']}")
        return Found(found.fingerprint, record, found.version)

    # --- the file's content -------------------------------------------------------------------------

    def _variable(self, content: bytes) -> _Variable:
        if content.startswith(_HEADER):
            text, _secret = self._decrypted(content)
            return _plain_variable(text, self.options["variable"])
        found = _inline_variable(content, self.options["variable"])
        if found.vaulted is not None:
            found.value = self._decrypted(found.vaulted)[0].decode("utf-8", "replace")
        elif found.value is not None:
            raise StoreError("store_malformed", "the variable is there, but not encrypted: encrypt it, or the file")
        return found

    def _changed(self, content: bytes, key: ApiKey) -> bytes:
        found = self._variable(content)
        if content.startswith(_HEADER):
            text, password = self._decrypted(content)
            line = f"{self.options['variable']}: {key.reveal()}\n".encode()
            return self._encrypted(found.replaced(text, line), password, _id_of(content))
        given = found.vaulted
        password = self._decrypted(given)[1] if given is not None else self._passwords[0]
        vaulted = self._encrypted(key.reveal().encode(), password, None if given is None else _id_of(given))
        lines = b"".join(b"          " + line + b"\n" for line in vaulted.splitlines())
        return found.replaced(content, f"{self.options['variable']}: !vault |\n".encode() + lines)

    @property
    def _passwords(self) -> list[tuple[str, Any]]:
        return [
            (name, self._vault.VaultSecret(text.encode("utf-8", "surrogateescape")))
            for name, text in self.options["passwords"]
        ]

    def _decrypted(self, vaulted: bytes) -> tuple[bytes, tuple[str, Any]]:
        """Return the text, and the password that it is encrypted with."""
        for password in self._passwords:
            with suppress(Exception):  # of a wrong password, or of what is none of Ansible's
                return bytes(self._vault.VaultLib([password]).decrypt(vaulted)), password
        raise StoreError("store_refused", "none of the vault passwords of this run decrypts it")

    def _encrypted(self, text: bytes, password: tuple[str, Any], name: str | None) -> bytes:
        vault = self._vault.VaultLib([password])
        return bytes(vault.encrypt(text, secret=password[1], vault_id=name))


class _Variable:
    """Where a variable is in a text.

    :ivar value: None: it is not there, or encrypted.
    :ivar vaulted: what it is encrypted as, where it is alone.
    """

    def __init__(self, span: tuple[int, int] | None, value: str | None = None, vaulted: bytes | None = None) -> None:
        self._span = span
        self.value = value
        self.vaulted = vaulted

    def replaced(self, text: bytes, lines: bytes) -> bytes:
        """Return the text with these lines in the variable's place, or at its end."""
        if self._span is None:
            return text + (b"" if text.endswith(b"\n") or not text else b"\n") + lines
        start, end = self._span
        return text[:start] + lines + text[end:]


def _plain_variable(text: bytes, name: str) -> _Variable:
    """Find a variable with a text on one line.

    :raises StoreError: it has another form.
    """
    yaml = library("yaml", "PyYAML")
    found = list(re.finditer(rb"^%s[ \t]*:(.*)(?:\n|\Z)" % re.escape(name.encode()), text, re.M))
    try:
        known = yaml.load(text, _loader(yaml)) if text.strip() else {}
    except yaml.YAMLError:
        known = None
    if not isinstance(known, dict):
        raise StoreError("store_malformed", "it holds no YAML mapping")
    if name not in known and not found:
        return _Variable(None)
    value = known.get(name)
    if len(found) != 1 or not isinstance(value, str):
        raise StoreError("store_malformed", f"{name} is no plain text on a line of its own")
    try:
        alone = yaml.load(found[0][0], _loader(yaml))
    except yaml.YAMLError:
        alone = None
    if alone != {name: value}:
        raise StoreError("store_malformed", f"{name} is no plain text on a line of its own")
    return _Variable(found[0].span(), value)


def _inline_variable(content: bytes, name: str) -> _Variable:
    """Find a variable that is encrypted by itself."""
    pattern = rb"^%s[ \t]*:[ \t]*!vault[ \t]*\|[-+0-9]*[ \t]*\n((?:[ \t]+[^\n]*(?:\n|\Z))+)" % re.escape(name.encode())
    found = list(re.finditer(pattern, content, re.M))
    if not found:
        return _plain_variable(content, name)
    if len(found) > 1:
        raise StoreError("store_malformed", f"{name} is there more than once")
    vaulted = b"\n".join(line.strip() for line in found[0][1].splitlines()) + b"\n"
    return _Variable(found[0].span(), vaulted=vaulted)


def _loader(yaml: Any) -> Any:
    """Return a loader that takes ``!vault`` and other tags as they are."""
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda self, _suffix, node: self.construct_scalar(node))
    return loader


def _id_of(vaulted: bytes) -> str | None:
    """Return the vault id in the header of what is encrypted; None: it has none."""
    parts = vaulted.split(b"\n", 1)[0].strip().split(b";")
    return parts[3].decode("utf-8", "replace") if len(parts) > 3 else None


# --- where it is ----------------------------------------------------------------------------------


def _record_of(path: str, variable: str) -> str:
    return records.path_of(path, variable, None)


class _Folder:
    """The file itself."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._path: str = options["path"]
        self._record_path = _record_of(self._path, options["variable"])
        self._content: Any = None
        self._kept: Any = None

    def read(self) -> tuple[bytes, bytes | None]:
        """Return the file, and its record."""
        with _told():
            self._content = _files.read(self._path)
            self._kept = _files.read(self._record_path)
            if self._content.data is None:
                raise StoreError("store_missing", "there is no such file")
            _files.check(self._content, self._content.data)
            _files.check(self._kept, self._kept.data or b"{}")
            return self._content.data, self._kept.data

    def write(self, content: bytes, _message: str) -> None:
        """Replace the file, if it is as it was read."""
        with _told():
            _files.replace(self._content, content)
            self._content = _files.read(self._path)

    def note(self, content: bytes, _message: str) -> None:
        """Replace its record."""
        with _told():
            _files.replace(self._kept, content)
            self._kept = _files.read(self._record_path)


@contextmanager
def _told() -> Iterator[None]:
    """Say of errors of files what the protocol knows."""
    try:
        yield
    except host_file.HostFileError as error:
        if error.reason == "changed_meanwhile":
            raise Conflict from None
        raise StoreError("store_not_writable", str(error)) from None


class _Remote:
    """The file as the branch of a git remote has it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._folder, name = os.path.split(options["path"])
        self._remote, self._branch = options["remote"], options["branch"]
        self._name, self._record_name = name, os.path.basename(_record_of(options["path"], options["variable"]))
        self._tip = ""
        self._prefix = ""

    def read(self) -> tuple[bytes, bytes | None]:
        """Return the file, and its record, as the remote has them now."""
        self._prefix = self._git("rev-parse", "--show-prefix", otherwise="its directory is in no git repository")
        self._fetch()
        refused = f"{self._remote} does not take a push to {self._branch} from here"
        self._git("push", "--dry-run", "--quiet", self._remote, f"{self._tip}:{self._ref}", otherwise=refused)
        content, kept = self._blob(self._name), self._blob(self._record_name)
        if content is None:
            raise StoreError("store_missing", f"there is no such file on {self._branch} of {self._remote}")
        return content, kept

    def write(self, content: bytes, message: str) -> None:
        """Push a commit with another content of the file.

        :raises Conflict: somebody else has pushed meanwhile.
        """
        self._push(self._name, content, message)

    def note(self, content: bytes, message: str) -> None:
        """Push a commit with another content of its record, likewise."""
        self._push(self._record_name, content, message)

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self._branch}"

    def _fetch(self) -> None:
        unreachable = f"{self._remote} cannot be reached, or has no branch {self._branch}"
        own = f"refs/multicart.keys/{self._branch}"
        self._git("fetch", "--quiet", "--no-tags", self._remote, f"+{self._ref}:{own}", otherwise=unreachable)
        self._tip = self._git("rev-parse", own)

    def _blob(self, name: str) -> bytes | None:
        path = f"{self._tip}:{self._prefix}{name}"
        if not self._git("ls-tree", "--name-only", self._tip, "--", name):
            return None
        return self._run(["cat-file", "blob", path]).stdout

    def _push(self, name: str, content: bytes, message: str) -> None:
        blob = self._run(["hash-object", "-w", "--stdin"], content).stdout.decode().strip()
        entry = self._git("ls-tree", self._tip, "--", name)
        mode = entry.split(" ", 1)[0] if entry else "100644"
        index = {"GIT_INDEX_FILE": os.path.join(self._git("rev-parse", "--absolute-git-dir"), "multicart.keys.index")}
        self._git("read-tree", self._tip, environment=index)
        self._git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{self._prefix}{name}", environment=index)
        tree = self._git("write-tree", environment=index)
        with suppress(OSError):
            os.unlink(index["GIT_INDEX_FILE"])
        commit = self._git("commit-tree", tree, "-p", self._tip, "-m", message, environment=self._identity())
        done = self._run(["push", "--quiet", self._remote, f"{commit}:{self._ref}"], fails=True)
        if done.returncode != 0:
            self._settle(commit)
        self._tip = commit
        self._follow(commit)

    def _settle(self, commit: str) -> None:
        """Find out whether a push whose answer was lost, or that was refused, has arrived all the same."""
        before = self._tip
        self._fetch()
        if self._run(["merge-base", "--is-ancestor", commit, self._tip], fails=True).returncode == 0:
            return
        if self._tip != before:
            raise Conflict
        raise StoreError("store_refused", f"{self._remote} refuses the push to {self._branch}: look at its hooks")

    def _follow(self, commit: str) -> None:
        """Let the work tree have what was pushed, if it is on that branch and nothing is in the way."""
        if self._run(["symbolic-ref", "--quiet", "HEAD"], fails=True).stdout.decode().strip() == self._ref:
            self._run(["merge", "--ff-only", "--quiet", commit], fails=True)

    def _identity(self) -> dict[str, str]:
        known = self._run(["var", "GIT_COMMITTER_IDENT"], fails=True).returncode == 0
        return (
            {}
            if known
            else {
                f"GIT_{role}_{what}": value
                for role in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "multicart.keys"), ("EMAIL", "multicart.keys@localhost"))
            }
        )

    def _git(self, *words: str, otherwise: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Return what git prints, in one line."""
        done = self._run(list(words), fails=bool(otherwise), environment=environment)
        if done.returncode != 0:
            raise StoreError("store_unreachable", otherwise)
        return done.stdout.decode("utf-8", "replace").rstrip("\n")

    def _run(
        self,
        words: Sequence[str],
        data: bytes = b"",
        fails: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git where the file is; what it prints of errors is not repeated.

        :param fails: it may.
        """
        try:
            done = subprocess.run(
                ["git", "-C", self._folder, *words],
                input=data,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**clean_environment(), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})},
                timeout=PUSHING,
                check=False,
            )
        except FileNotFoundError:
            raise StoreError("store_library_missing", "git is missing: install it where Ansible runs") from None
        except subprocess.TimeoutExpired:
            raise StoreError("timed_out", f"git {words[0]} did not end within {PUSHING} s") from None
        if done.returncode != 0 and not fails:
            raise StoreError("store_failed", f"git {words[0]} failed (exit status {done.returncode})")
        return done
