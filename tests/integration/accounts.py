# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts of this machine for one test: users with a password, and what lets them become somebody else."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

MISSING = next((name for name in ("useradd", "chpasswd", "sudo") if shutil.which(name) is None), None)
REASON = "needs root" if os.geteuid() != 0 else f"{MISSING} is missing" if MISSING else None
"""Why there can be no accounts; None: there can."""

_DOAS = Path("/etc/doas.conf")
_LOCK = Path("/run/lock/multicart-tests")


@dataclass(frozen=True)
class User:
    """A user of this machine, who may log in with the key of :class:`Sshd`."""

    name: str
    password: str


class Accounts:
    """Makes users, and takes them away in the end. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def __enter__(self) -> Accounts:
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    def add(self, shell: str = "/bin/sh") -> User:
        user = User(f"mc{secrets.token_hex(4)}", secrets.token_hex(12))
        subprocess.run(["useradd", "--create-home", "--shell", shell, user.name], check=True)
        self._undo.callback(_remove, user.name)
        subprocess.run(["chpasswd"], input=f"{user.name}:{user.password}", text=True, check=True)
        return user

    def sudo(self, user: User, rule: str, defaults: str = "") -> None:
        """Let a user do something by sudo, as a line of sudoers says after the user's name."""
        path = Path("/etc/sudoers.d") / user.name
        lines = [f"Defaults:{user.name} {defaults}"] if defaults else []
        draft = path.with_name(f"{user.name}~")  # sudo reads no file with such a name
        draft.write_text("\n".join([*lines, f"{user.name} {rule}", ""]))
        draft.chmod(0o440)
        draft.rename(path)
        self._undo.callback(path.unlink)

    def doas(self, user: User, options: str = "") -> None:
        """Let a user do everything by doas."""
        line = f"permit {options} {user.name}\n"
        with _doas_alone() as before:
            _write_doas(before + line)
        self._undo.callback(_forget, line)


def _remove(name: str) -> None:
    for path in Path("/proc").glob("[0-9]*"):  # such as what keeps a session of systemd's
        try:
            if path.stat().st_uid == pwd.getpwnam(name).pw_uid:
                os.kill(int(path.name), 9)
        except (FileNotFoundError, ProcessLookupError):
            continue
    subprocess.run(["userdel", "--remove", "--force", name], check=True, stderr=subprocess.DEVNULL)


def _forget(line: str) -> None:
    with _doas_alone() as before:
        left = before.replace(line, "", 1)
        if left:
            _write_doas(left)
        else:
            _DOAS.unlink()


def _write_doas(text: str) -> None:
    draft = _DOAS.with_name("doas.conf~")
    draft.write_text(text)
    draft.chmod(0o600)
    draft.rename(_DOAS)


@contextmanager
def _doas_alone() -> Iterator[str]:
    """Hold the one file of doas alone, and return what is in it."""
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _DOAS.read_text() if _DOAS.exists() else ""
