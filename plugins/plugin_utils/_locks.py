# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Locks of open files, for which other processes wait up to a limit."""

from __future__ import annotations

import fcntl
import time


def hold(lock: int, seconds: float) -> bool:
    """Take the lock of an open file, which ends with it; return whether another process had it before.

    :raises TimeoutError: it has it for longer than so many seconds.
    """
    deadline, waited = time.monotonic() + seconds, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError from None
            waited = True
            time.sleep(0.1)
        except OSError:
            return waited  # a file system without locks
