# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the demo happens: one private directory with everything in it, the API, the consumers, and their end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.sandbox.handle import Sandbox

from .fleet import FILES, SHAPES, Consumer
from .screen import Screen

EMAIL = "demo@example.com"
_STATE = "service"
WRAPPER = """#!/bin/sh
exec {python} {folder}/consumer.py "$1" {folder}/hosts/"$2"
"""
SSH = """#!/bin/sh
# In place of ssh, since every host of the demo is this machine: ssh OPTION ... HOST COMMAND
for command do :; done
exec /bin/sh -c "$command"
"""
KEPT = Path(__file__).resolve().parents[2] / ".cache" / "demo"
"""Where the report of the rotation is kept."""


class Stage:
    """The running API and its consumers. Use :func:`open_stage`."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.consumers = [Consumer(shape, folder / "hosts" / shape.consumer, sandbox.url) for shape in SHAPES]
        self._playbook: subprocess.Popen[str] | None = None

    def prepare(self, collection: Path) -> None:
        """Install the collection, write what a user would have, and start the consumers."""
        shutil.copytree(FILES, self.folder, dirs_exist_ok=True)
        shutil.copy(Path(__file__).with_name("consumer.py"), self.folder)
        wrapper = WRAPPER.format(python=shlex.quote(sys.executable), folder=shlex.quote(str(self.folder)))
        for name, text in (("consumer", wrapper), ("ssh", SSH)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o700)
        account = self.sandbox.account()
        environment = {
            "NO_PROXY": "127.0.0.1",
            "MULTICART_API_URL": self.sandbox.url,
            "MULTICART_EMAIL": account["email"],
            "MULTICART_PASSWORD": account["password"],
        }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
        lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n')
        (self.folder / "env.sh").write_text("".join(lines))
        self._install(collection)
        for consumer in self.consumers:
            consumer.prepare(account["api_key"])
            consumer.do("restart")
        for consumer in self.consumers:
            if not consumer.do("health"):
                raise RuntimeError(f"{consumer.name} does not work; see {self.folder}/hosts/{consumer.name}")

    def _install(self, collection: Path) -> None:
        command = ["ansible-galaxy", "collection", "install", "--offline", "-p", "collections", str(collection)]
        installation = self._shell(shlex.join(command), stdout=subprocess.PIPE)
        said, dummy = installation.communicate()
        if installation.returncode != 0:
            raise RuntimeError(f"the collection could not be installed:\n{said}")

    def play(self, command: str, screen: Screen) -> int:
        """Run a command as a user would type it, show what it prints, and return its exit code."""
        screen.command(command)
        self._playbook = self._shell(command, stdout=subprocess.PIPE)
        assert self._playbook.stdout is not None
        for line in self._playbook.stdout:
            screen.output(line.rstrip("\n"))
        return self._playbook.wait()

    def report(self) -> dict[str, Any]:
        """Return the newest report that a run has written; empty: there is none."""
        found = self._reports()
        return json.loads(found[-1].read_text()) if found else {}

    def keep_report(self) -> Path | None:
        """Put the newest report, if there is one, where it stays; return its page."""
        found = self._reports()
        if not found:
            return None
        KEPT.mkdir(parents=True, exist_ok=True)
        for path in (found[-1], found[-1].with_suffix(".html")):
            shutil.copy(path, KEPT / f"report{path.suffix}")
        return KEPT / "report.html"

    def _reports(self) -> list[Path]:
        return sorted((self.folder / "multicart-reports").glob("*.json"))

    def files_with(self, key: str) -> list[Path]:
        """Return the files below the directory that hold a key, the API's own state left out."""
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        state = self.folder / _STATE
        return [file for file in files if state not in file.parents and key.encode() in file.read_bytes()]

    def end(self) -> None:
        """End the playbook if one runs, and the consumers."""
        if self._playbook and self._playbook.poll() is None:
            _end_group(self._playbook)
        for consumer in self.consumers:
            if consumer.file.exists():
                consumer.do("stop")

    def _shell(self, command: str, stdout: int) -> subprocess.Popen[str]:
        # Settings of another Ansible or another account are none of the demo's.
        foreign = ("ANSIBLE_", "MULTICART_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        if sys.stdout.isatty():
            environment["ANSIBLE_FORCE_COLOR"] = "1"
        return subprocess.Popen(
            ["/bin/sh", "-c", f". ./env.sh && exec {command}"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the demo, which ends it
        )


@contextlib.contextmanager
def open_stage() -> Iterator[Stage]:
    """Start the API in a new directory; in the end nothing is left of either, nor of the consumers."""
    folder = Path(tempfile.mkdtemp(prefix="multicart-demo-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sandbox = stack.enter_context(Sandbox.start(folder / _STATE, accounts=[(EMAIL, secrets.token_urlsafe(12))]))
        stage = Stage(folder, sandbox)
        stack.callback(stage.end)
        stack.callback(_ignore_signals)  # a second Ctrl-C does not stop the cleaning up
        yield stage


def _end_group(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            return


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
