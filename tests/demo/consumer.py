# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A consumer of MultiCartAPI: reads its key from its file when it starts, and keeps calling the API with it.

    python consumer.py restart|stop|health DIR

``DIR/consumer.json`` says what it is; every call leaves a line in ``DIR/calls.log``. It knows nothing of the
collection, and is copied beside the inventory and run from there.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from dotenv import dotenv_values

SECONDS_BETWEEN_CALLS = 0.2
PATIENCE = 5.0


def settings_of(home: Path) -> dict[str, Any]:
    """Return what ``consumer.json`` says: name, file, variable, API and guardian."""
    return cast("dict[str, Any]", json.loads((home / "consumer.json").read_text()))


def key_in(file: Path, variable: str) -> str:
    """Return the key in a JSON or environment file, as a program of that kind would read it.

    :raises ValueError: when it cannot be read so.
    """
    found = json.loads(file.read_text()) if file.suffix == ".json" else dotenv_values(file)
    if not isinstance(found.get(variable), str):
        raise ValueError(f"{file} has no {variable}")
    return str(found[variable])


def fingerprint_of(key: str) -> str:
    """Return what tells keys apart: ``printf %s KEY | sha256sum | cut -c1-16``."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class Service:
    """The API, called over one connection as long as that holds."""

    def __init__(self, url: str, key: str, name: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        self._path = f"{parts.path}/users/profile"
        self._headers = {"Content-Type": "application/json", "x-api-key": key, "User-Agent": f"demo-consumer/{name}"}

    def call(self) -> str:
        """Return accepted, refused or failed."""
        try:
            self._connection.request("POST", self._path, "{}", self._headers)
            answer = json.load(self._connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return "failed"
        # The API says HTTP 200 to everything; what counts is the status in the envelope.
        return "accepted" if answer.get("status") == 1 else "refused"


def run(home: Path) -> int:
    """Call and log until ended, or until the guardian process is gone."""
    settings = settings_of(home)
    with (home / "pid").open("a+") as pid:
        fcntl.flock(pid, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held for life, so that nobody mistakes a recycled pid for us
        key = key_in(home / settings["file"], settings["variable"])
        service = Service(settings["service"], key, settings["name"])
        pid.truncate(0)
        pid.write(str(os.getpid()))
        pid.flush()
        while _is_alive(settings["guardian"]):
            call = {"time": time.time(), "answer": service.call(), "fingerprint": fingerprint_of(key)}
            with (home / "calls.log").open("a") as log:
                log.write(json.dumps(call) + "\n")
            time.sleep(SECONDS_BETWEEN_CALLS)
    return 0


def stop(home: Path) -> int:
    """End the running process and wait for its end. Nothing to do when none runs."""
    deadline = time.monotonic() + PATIENCE
    with (home / "pid").open("a+") as pid:
        while not _locked(pid.fileno()):
            pid.seek(0)
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(pid.read()), signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
            time.sleep(0.02)
        pid.truncate(0)
    return 0


def restart(home: Path) -> int:
    """End the running process if there is one, start another, and return when that has read its file."""
    stop(home)
    with (home / "output.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, "run", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while (home / "pid").read_text() != str(process.pid):
        if process.poll() is not None:
            print(f"It ended at once; see {home}/output.log.", file=sys.stderr)
            return 1
        time.sleep(0.02)
    return 0


def health(home: Path) -> int:
    """Tell whether the last call succeeded with the key that is in the file; wait a little for a first call."""
    settings = settings_of(home)
    try:
        wanted = ("accepted", fingerprint_of(key_in(home / settings["file"], settings["variable"])))
    except ValueError as error:
        print(f"It cannot read its file: {error}", file=sys.stderr)
        return 1
    deadline = time.monotonic() + PATIENCE
    last = None
    while last != wanted and time.monotonic() < deadline:
        lines = (home / "calls.log").read_text().splitlines() if (home / "calls.log").exists() else []
        call = json.loads(lines[-1]) if lines else {"answer": "none yet", "fingerprint": "none"}
        last = (call["answer"], call["fingerprint"])
        if last != wanted:
            time.sleep(0.05)
    print("The last call was {} with the key {}.".format(*(last or wanted)))
    return 0 if last == wanted else 1


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """Do one command."""
    commands = {"run": run, "restart": restart, "stop": stop, "health": health}
    parser = argparse.ArgumentParser(description="a consumer of MultiCartAPI")
    parser.add_argument("command", choices=commands)
    parser.add_argument("home", type=Path)
    options = parser.parse_args()
    return commands[options.command](options.home)


if __name__ == "__main__":
    sys.exit(main())
