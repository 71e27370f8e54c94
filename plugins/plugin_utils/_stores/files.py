# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""An encrypted file with its record beside it, on the control node, or as a branch of a git remote has it.

With a ``remote`` nothing is changed in the work tree: each change is a commit on what the remote's branch holds, so
that a push is a compare-and-set.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._locks import hold
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.programs import Program
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
)

_files: Any = host_file

FIELDS = {
    "path": Field(required=True, path=True),
    "remote": Field(),
    "branch": Field(),
}

WORKING = 20
"""Seconds that a program such as git may take for one command."""

LONGEST = 4 * 1024 * 1024
"""Bytes that it may print: a file, decrypted and as JSON."""

LOCK = "multicart.keys.lock"
"""File in the repository, which this user alone can open."""

LOCKING = 60.0
"""Seconds for which other stores of the repository are waited for, of which each may hold the lock for some."""

PUSHES = 5
"""How often a push is tried again because others have pushed meanwhile."""

_GIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*\Z")


def label(options: Mapping[str, Any], name: str) -> str:
    """Return what a value in a file is called."""
    where = f" on {options['branch']} of {options['remote']}" if options["remote"] else ""
    return f"{options['path']} {name}{where}"


def check(options: Mapping[str, Any]) -> None:
    if bool(options["remote"]) != bool(options["branch"]):
        raise InvalidEntry("needs remote and branch, or neither of them")
    for name in ("remote", "branch"):
        if options[name] and not _GIT_NAME.match(options[name]):
            raise InvalidEntry(f"needs {name}: a name that git knows")


class ValueInFile(Store):
    """One value in an encrypted file.

    :param name: of the value.
    """

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        super().__init__(options)
        self._value_name = name
        part = name.replace("/", "_")  # of the name of the record's file
        self._place = Remote(options, part) if options["remote"] else Folder(options, part)

    def changed(self, content: bytes, key: ApiKey) -> bytes:
        """Return what the file is with another key."""
        raise NotImplementedError

    def write(self, key: ApiKey, found: Found) -> Found:
        content = self.changed(found.version, key)
        self._place.write(content, f"Replace {self._value_name}")
        return Found(key.fingerprint, found.record, content)

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        self._place.note(records.serialize(dict(record)), f"Note the state of {self._value_name}")
        return Found(found.fingerprint, record, found.version)


class Folder:
    """The file itself."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._path: str = options["path"]
        self._record_path = records.path_of(self._path, name, None)
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


class Remote:
    """The file as the branch of a git remote has it."""

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._folder, self._name = os.path.split(options["path"])
        self._remote, self._branch = options["remote"], options["branch"]
        self._record_name = os.path.basename(records.path_of(options["path"], name, None))
        self._tip = ""
        self._prefix = ""

    def read(self) -> tuple[bytes, bytes | None]:
        """Return the file, and its record, as the remote has them now."""
        self._prefix = self._git("rev-parse", "--show-prefix", otherwise="its directory is in no git repository")
        self._fetch()
        self._try_push()
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
        # Other stores of this repository are fetched at the same moment: nothing is shared, nor what it tracks updated.
        own = f"refs/multicart.keys/{secrets.token_hex(8)}"
        words = ["--quiet", "--no-tags", "--refmap=", self._remote, f"+{self._ref}:{own}"]
        self._git("fetch", *words, otherwise=unreachable)
        self._tip = self._git("rev-parse", own)
        self._run(["update-ref", "-d", own], fails=True)

    def _try_push(self) -> None:
        """Find out whether the remote takes a push from here; what is behind by now, it would not take either."""
        words = ["push", "--dry-run", "--quiet", self._remote]
        if self._run([*words, f"{self._tip}:{self._ref}"], fails=True)[0] == 0:
            return
        with self._alone():
            for _attempt in range(PUSHES):
                before = self._tip
                self._fetch()
                if self._run([*words, f"{self._tip}:{self._ref}"], fails=True)[0] == 0:
                    return
                if self._tip == before:
                    break
        raise StoreError("store_unreachable", f"{self._remote} does not take a push to {self._branch} from here")

    def _blob(self, name: str) -> bytes | None:
        path = f"{self._tip}:{self._prefix}{name}"
        if not self._git("ls-tree", "--name-only", self._tip, "--", name):
            return None
        return self._run(["cat-file", "blob", path])[1]

    def _push(self, name: str, content: bytes, message: str) -> None:
        blob = self._run(["hash-object", "-w", "--stdin"], content)[1].decode().strip()
        with self._alone():
            for _attempt in range(PUSHES):
                commit = self._commit(name, blob, message)
                if self._pushed(commit):
                    self._tip = commit
                    self._follow(commit)
                    return
        raise Conflict

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other store of this repository push from here meanwhile: of two, one would be refused.

        Without the lock it would be tried again: so no more than some time is waited for it, nor does it matter where
        there can be none.
        """
        folder = os.path.join(self._folder, self._git("rev-parse", "--git-common-dir"))
        try:
            # Nobody else may open it: of a lock, the right to read would be enough to hold it.
            lock = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            with suppress(TimeoutError):
                hold(lock, LOCKING)
            yield
        finally:
            os.close(lock)

    def _commit(self, name: str, blob: str, message: str) -> str:
        """Return a commit on what the remote has, in which a file is this blob."""
        entry = self._git("ls-tree", self._tip, "--", name)
        mode = entry.split(" ", 1)[0] if entry else "100644"
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": os.path.join(folder, "index")}
            self._git("read-tree", self._tip, environment=index)
            self._git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{self._prefix}{name}", environment=index)
            tree = self._git("write-tree", environment=index)
        return self._git("commit-tree", tree, "-p", self._tip, "-m", message, environment=self._identity())

    def _pushed(self, commit: str) -> bool:
        """Push a commit; False: somebody else has pushed meanwhile, but nothing of this store."""
        refused = f"{self._remote} refuses the push to {self._branch}: check its hooks"
        try:
            status, _printed = self._run(["push", "--quiet", self._remote, f"{commit}:{self._ref}"], fails=True)
            error = StoreError("store_refused", refused) if status != 0 else None
        except StoreError as hangs:
            error = hangs
        return error is None or self._settle(commit, error)

    def _settle(self, commit: str, error: StoreError) -> bool:
        """Find out whether a push whose answer was lost, that was refused, or that hung has arrived all the same."""
        before = self._tip
        self._fetch()
        if self._run(["merge-base", "--is-ancestor", commit, self._tip], fails=True)[0] == 0:
            return True
        if self._tip == before:
            raise error
        if self._own_entries(before) != self._own_entries(self._tip):
            raise Conflict
        return False

    def _own_entries(self, commit: str) -> str:
        return self._git("ls-tree", commit, "--", self._name, self._record_name)

    def _follow(self, commit: str) -> None:
        """Let the work tree have what was pushed, if it is on that branch and nothing is in the way."""
        if self._run(["symbolic-ref", "--quiet", "HEAD"], fails=True)[1].decode().strip() == self._ref:
            self._run(["merge", "--ff-only", "--quiet", commit], fails=True)

    def _identity(self) -> dict[str, str]:
        if self._run(["var", "GIT_COMMITTER_IDENT"], fails=True)[0] == 0:
            return {}
        return {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "multicart.keys"), ("EMAIL", "multicart.keys@localhost"))
        }

    def _git(self, *words: str, otherwise: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Return what git prints, in one line."""
        status, printed = self._run(list(words), fails=bool(otherwise), environment=environment)
        if status != 0:
            raise StoreError("store_unreachable", otherwise)
        return printed.decode("utf-8", "replace").rstrip("\n")

    def _run(
        self,
        words: Sequence[str],
        data: bytes = b"",
        fails: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Run git where the file is; return its exit status and what it prints, but not of errors.

        :param fails: it may.
        """
        more = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(environment or {})}
        status, printed = ran(f"git {words[0]}", ["git", "-C", self._folder, *words], data, more)
        if status != 0 and not fails:
            raise StoreError("store_failed", f"git {words[0]} failed (exit status {status})")
        return status, printed


def ran(
    called: str, words: Sequence[str], data: bytes, environment: Mapping[str, str], folder: str | None = None
) -> tuple[int, bytes]:
    """Run a program of the control node; see `Program`."""
    try:
        return Program(called, words, LONGEST, WORKING, environment, folder).run(data)
    except FileNotFoundError:
        raise StoreError("store_library_missing", f"{words[0]} is missing: install it where Ansible runs") from None
