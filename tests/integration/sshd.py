# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real sshd on loopback, which answers for as many hosts as one likes: each has a connection of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ports import OwnPort

SSHD = shutil.which("sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
_SECONDS = 20.0
_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
MaxStartups 1000
MaxSessions 100
Subsystem sftp internal-sftp
LogLevel ERROR
"""


class Sshd:
    """An sshd with its own keys, port and control paths, for the user who runs it. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        # Short, as ssh keeps sockets in it, whose paths may have a hundred characters.
        self._folder = Path(tempfile.mkdtemp(prefix="mc-ssh-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        assert SSHD, "sshd is missing: apt-get install openssh-server"
        self._folder.chmod(0o711)  # it looks for the key with the rights of whoever logs in
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / name)]
            subprocess.run(command, check=True)
        self.known_hosts.write_text("* " + (self._folder / "host_key.pub").read_text())
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd confines what it does before the login
        with OwnPort() as own:
            self._port = own.number
            (self._folder / "config").write_text(_CONFIG.format(port=self._port, folder=self._folder))
            with (self._folder / "log").open("wb") as log:
                command = [SSHD, "-D", "-e", "-f", str(self._folder / "config")]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        if self._process:
            self._process.terminate()
            self._process.wait(_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def variables(self) -> dict[str, Any]:
        """The inventory variables of all its hosts; each has a name of its own, which is all that tells them apart."""
        return {
            "ansible_connection": "ssh",
            "ansible_host": "{{ inventory_hostname }}.loopback",
            "ansible_port": self._port,
            "ansible_user": pwd.getpwuid(os.geteuid()).pw_name,
            "ansible_ssh_common_args": " ".join(self.options),
            "ansible_control_path_dir": str(self._folder / "cp"),
        }

    @property
    def identity(self) -> Path:
        """The private key that it accepts for every user."""
        return self._folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        return self._folder / "known_hosts"

    @property
    def options(self) -> list[str]:
        """The options with which ssh comes here, whatever the name of the host."""
        return [
            *("-F", "none", "-o", f"IdentityFile={self.identity}", "-o", "IdentitiesOnly=yes"),
            *("-o", "HostName=127.0.0.1", "-o", f"Port={self._port}", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "LogLevel=ERROR"),
        ]

    def kill(self) -> None:
        """End it and all its connections at once, as a machine that loses power does."""
        assert self._process
        for pid in (self._process.pid, *_descendants(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Close all connections that Ansible keeps open."""
        for path in (self._folder / "cp").glob("*"):
            subprocess.run(
                ["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "nobody"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                log = (self._folder / "log").read_text()
                assert self._process and self._process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    """Return all processes below one, those that have become leaders of sessions of their own included."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found
