# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The worker process in which the act runs: what must not break it off, and what must not outlive it."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible import constants
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Guard, Turn
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Session
from ansible_collections.multicart.keys.plugins.plugin_utils._locks import hold

WAITING = 60.0
"""Seconds to wait for another run of the same account on this control node."""

REMOVING = 5.0
"""Seconds in which what was copied to a host that was given up must be removed there."""

FILES_A_HOST = 8
"""Descriptors that an armed host needs: three pipes, the plugin's own selector, and what ssh opens for a moment."""


class Worker(Guard):
    """Keeps the act of this process from being broken off.

    Signals reach the whole process group of a run, ssh clients included, and would end an act that the API has accepted
    already; Ansible's own time limit for tasks is an alarm.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()
        self.overran = False

    def leave_group(self) -> None:
        """Leave the run's process group, so that its signals do not end the ssh clients. A session's leader stays."""
        with suppress(PermissionError):
            os.setpgid(0, 0)

    def is_orphaned(self) -> bool:
        """Tell whether the run that this process belongs to has ended."""
        return os.getppid() != self._parent

    @contextmanager
    def critical(self) -> Iterator[None]:
        """Ignore the signals that end a run, and disarm Ansible's time limit; it is noted if it would have struck."""
        left = signal.alarm(0)
        began = time.monotonic()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self.overran = bool(left) and time.monotonic() - began > left

    @contextmanager
    def alone(self, account: str | None) -> Iterator[Turn]:
        """Hold the lock of an account on this control node: one act at a time.

        A run that was killed may have left its worker, which goes on; running again beside it waits for it, and must
        not rotate once more: an act that has rotated leaves the new key's fingerprint, and when it ended, in the file.

        :param account: tells the account from any other, no secret.
        :raises MulticartError: ``busy``.
        """
        folder = Path(os.path.expanduser(str(constants.ANSIBLE_HOME))) / "multicart.keys"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / f"{account}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            what = f"The lock in {folder} cannot be opened ({error.strerror})."
            remedy = "Set ANSIBLE_HOME to a directory that this user may write."
            raise MulticartError(Reason.RUN_CACHE_UNUSABLE, what, remedy) from None
        began, rotated_to = time.time(), list[str]()
        try:
            waited = _wait_for(lock)
            yield Turn(waited, _left(lock, began) if waited else None, rotated_to.append)
        finally:
            for key in rotated_to:
                with suppress(OSError):
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{key} {time.time()}".encode(), 0)
            os.close(lock)


def disarm() -> None:
    """Disarm Ansible's time limit for the task: what follows must not change what came of it."""
    signal.alarm(0)


def most_held() -> int:
    """Return how many hosts this process can hold a conversation with at a time; raises its limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, 65536)), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, (soft - 100) // FILES_A_HOST)


def _wait_for(lock: int) -> bool:
    """Take the lock of an account; return whether another process had it before."""
    try:
        return hold(lock, WAITING)
    except TimeoutError:
        raise MulticartError(
            Reason.BUSY, "Another run is rotating the key of this account on this control node."
        ) from None


def _left(lock: int, since: float) -> str | None:
    """Return the key that an act left in the lock file when it ended, if that was not before a moment."""
    with suppress(OSError, ValueError):
        key, ended = os.pread(lock, 100, 0).decode("ascii").split()
        return key if float(ended) >= since else None
    return None


def end_rest(sessions: Iterable[Session]) -> None:
    """End what goes on of sessions that were given up, such as the ssh client of a host that has hung.

    Where the program was copied to the host, the copy, in which the key may be, is removed then.
    """
    _end_children()
    deadline = time.monotonic() + REMOVING
    for session in sessions:
        session.join(deadline - time.monotonic())
    _end_children()


def _end_children() -> None:
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(int(child), signal.SIGKILL)
