# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On the search path of a consumer's Python: counts the steps that change its files, and stops at one of them.

A step is a call that names a path below the consumer's folder, or writes to a file there. Each leaves a line in the
file ``steps`` of the control folder. If the file ``stop`` holds the number of a step, or its name and how often it came
(``rename app.env #1``), the process says so in ``reached`` and waits before that step; a write is half done by then.
It goes on once there is a file ``go``. Each request that the program of a host session waits for leaves a line in the
file ``waits``. If there is a file ``hold-start`` it waits at its start, and if there is a file
``hold-inspect`` before it reads ``app.env``. If there is a file ``flood``, it prints without an end instead of waiting.

Standard library only, as it is imported by every Python process there.
"""

import os
import signal
import time

_CONTROL = os.environ.get("MULTICART_STEPS", "")
_FOLDER = os.environ.get("MULTICART_STEPS_BELOW", "")


def _stops(name: str, path: str) -> bool:
    """Note a step, and tell whether to stop at it."""
    base = os.path.basename(path)
    line = f"{name} {'(unnamed)' if base.startswith('#') else base}"
    with open(os.path.join(_CONTROL, "steps"), "a+") as steps:
        steps.write(f"{line}\n")
        steps.seek(0)
        so_far = steps.read().splitlines()
    try:
        with open(os.path.join(_CONTROL, "stop")) as stop:
            wanted = stop.read().strip()
    except FileNotFoundError:
        return False
    return wanted in (str(len(so_far)), f"{line} #{so_far.count(line)}")


def _wait() -> None:
    with open(os.path.join(_CONTROL, "reached"), "w"):
        pass
    while os.path.exists(os.path.join(_CONTROL, "flood")):
        print("x" * 60)
    while not os.path.exists(os.path.join(_CONTROL, "go")):
        time.sleep(0.01)


def _is_ours(path: str) -> bool:
    # Its directory may be named by a descriptor.
    return os.path.join(os.path.realpath(os.path.dirname(path)), "").startswith(os.path.join(_FOLDER, ""))


def _watch_paths(name: str) -> None:
    real = getattr(os, name)

    def watched(path: object, *others: object, **more: object) -> object:
        target = others[0] if others else path
        if isinstance(target, str) and _is_ours(target) and _stops(name, target):
            _wait()
        return real(path, *others, **more)

    setattr(os, name, watched)


def _watch_reads() -> None:
    real = os.open

    def watched(path: object, *others: object, **more: object) -> object:
        held = os.path.join(_CONTROL, "hold-inspect")
        if isinstance(path, str) and os.path.basename(path) == "app.env" and os.path.exists(held) and _is_ours(path):
            _wait()
        return real(path, *others, **more)

    os.open = watched


def _watch_descriptors() -> None:
    real_write, real_sync = os.write, os.fsync

    def behind(descriptor: int) -> str:
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return ""
        return path if _is_ours(path) or path == _FOLDER else ""

    def write(descriptor: int, data: bytes) -> int:
        path = behind(descriptor)
        if path and _stops("write", path):
            half = real_write(descriptor, bytes(data)[: len(data) // 2])
            _wait()
            return half
        return real_write(descriptor, data)

    def fsync(descriptor: int) -> None:
        path = behind(descriptor)
        if path and _stops("fsync", path):
            _wait()
        return real_sync(descriptor)

    os.write, os.fsync = write, fsync


def _watch_waits() -> None:
    """The program limits the time for which it waits for a request, and nothing else."""
    real = signal.setitimer

    def setitimer(which: int, seconds: float, *more: float) -> object:
        if seconds:
            with open(os.path.join(_CONTROL, "waits"), "a") as waits:
                waits.write(f"{seconds:g}\n")
        return real(which, seconds, *more)

    signal.setitimer = setitimer


if _CONTROL:
    _watch_waits()
    for _name in ("rename", "replace", "unlink"):
        _watch_paths(_name)
    _watch_reads()
    _watch_descriptors()
    if os.path.exists(os.path.join(_CONTROL, "hold-start")):
        _wait()
