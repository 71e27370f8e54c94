# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Namespaces of our own, in which hosts are started: nothing of them is outside, and all of it ends with them.

Mounts, network, process numbers: the kernel takes them away as soon as the one process ends that holds them, which it
does at the latest with the process that made it, however that ends. What may be left then are an empty folder and some
empty control groups, which the next one removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.hosts.trees import tree

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 240.0
"""In which anything ends that is done here, on a very busy machine."""
NETWORK = "10.77.0"
_NAME = "mc-hosts"
_CLONE_NEWNET = 0x40000000
"""As in sched.h; ``os`` has it since Python 3.12."""
_FILES = Path(__file__).with_name("files")
# A unified hierarchy, as Debian has it since bullseye, whatever this machine has.
_SETUP = """
mount -t tmpfs -o mode=755 none "$1"
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mkdir /run/netns /sys/fs/cgroup/"$2"
ip link set lo up
ip link add hosts type bridge
ip address add "$3".1/24 dev hosts
ip link set hosts up
echo ready
exec sleep infinity
"""
# What all hosts of a release have in common: users, each with another way to become root, and what uses the key.
_PREPARE = """
cp -r "$FILES"/. .
rm -f etc/hostname etc/ssh/ssh_host_*
cp "$KEYS"/host_key etc/ssh/ssh_host_ed25519_key
cp "$KEYS"/host_key.pub etc/ssh/ssh_host_ed25519_key.pub
chroot . sh -e <<'END'
useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin app
for user in ops ops-password plain doas doas-password; do
    useradd --create-home --shell /bin/bash "$user"
    echo "$user:$PASSWORD" | chpasswd
done
echo "root:$PASSWORD" | chpasswd
END
for home in root home/*; do
    mkdir -p "$home"/.ssh
    cp "$KEYS"/user_key.pub "$home"/.ssh/authorized_keys
done
echo 'ops ALL=(ALL) NOPASSWD: ALL
ops-password ALL=(ALL) ALL' > etc/sudoers.d/app
chmod 0440 etc/sudoers.d/app
echo 'permit nopass doas
permit doas-password' > etc/doas.conf
install -d -m 0750 -g "$(chroot . id -g app)" etc/app
install -d -o "$(chroot . id -u app)" -g "$(chroot . id -g app)" var/lib/app
ln -s /dev/null etc/systemd/system/app-masked.service
# ansible-test lets no file of the collection be run by that.
sed -i '1i #!/sbin/openrc-run' etc/init.d/app
chmod +x etc/init.d/app
ln -s app etc/init.d/app-fragile
cp -r etc/sv/app etc/sv/app-fragile
for unit in console-getty podman podman-auto-update podman-restart cni-dhcp; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done
"""


class NoStage(Exception):
    """There can be no hosts here; the message says why."""


class Stage:
    """The namespaces, and the trees of Debian in them. Use it in a ``with`` statement, which may raise `NoStage`.

    :ivar folder: of the hosts, where only the namespaces have anything.
    :ivar keys: a folder with the key that every user of every host accepts, and what is known of the hosts.
    :ivar password: of every user of every host.
    """

    def __init__(self) -> None:
        _sweep()
        self.name = f"{_NAME}-{os.getpid()}-{secrets.token_hex(3)}"
        self._top = Path(tempfile.gettempdir()) / self.name
        self.folder, self.keys = self._top / "hosts", self._top / "keys"
        self.password = secrets.token_hex(12)
        self._keeper: subprocess.Popen[str] | None = None
        self._pid = 0
        self._trees: dict[str, Path] = {}
        self._numbers = iter(range(11, 255))
        self._doors: list[Door] = []

    def __enter__(self) -> Stage:
        for folder in (self._top, self.folder, self.keys):
            folder.mkdir(mode=0o700)
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.keys / name], check=True)
        (self.keys / "known_hosts").write_text("* " + (self.keys / "host_key.pub").read_text())
        setup = ["/bin/sh", "-ec", _SETUP, "sh", str(self.folder), self.name, NETWORK]
        namespaces = ["--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
        # It dies with the thread that has started it, which therefore has to be the main one.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, *setup]
        self._keeper = subprocess.Popen(
            command,
            cwd="/",
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said != "ready\n":
            said += self._keeper.stdout.read()
            self._end()
            raise NoStage(f"no namespaces can be made here: {said.strip()}")
        (self._pid,) = children(self._keeper.pid)
        self._write_ssh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        for door in self._doors:
            door.close()
        self._end()

    # --- what happens in it -----------------------------------------------------------------------

    @property
    def net(self) -> str:
        """The network of the hosts."""
        return f"/proc/{self._pid}/ns/net"

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs a command in the namespaces."""
        return ["nsenter", f"--target={self._pid}", "--mount", "--net", "--pid", "--wd", "--", *words]

    def run(self, *words: str, **environment: str) -> str:
        """Run a command in the namespaces and return what it printed."""
        return run(self.command(*words), environment)

    def inside(self, path: Path | str) -> Path:
        """Return how a path in the namespaces is reached from outside."""
        return Path(f"/proc/{self._pid}/root") / str(path).lstrip("/")

    @property
    def groups(self) -> Path:
        """The control groups of the hosts, as they are called inside."""
        return Path("/sys/fs/cgroup") / self.name

    def next_address(self) -> str:
        """Return the address of one more host."""
        return f"{NETWORK}.{next(self._numbers)}"

    def door(self, port: int) -> int:
        """Let the hosts reach a server of this machine; return the port at which they find it, on the bridge."""
        door = Door(self.net, port)
        self._doors.append(door)
        return door.port

    @property
    def gateway(self) -> str:
        """The address of the bridge, at which hosts find what has a door."""
        return f"{NETWORK}.1"

    def tree(self, suite: str) -> Path:
        """Return the folder with a release of Debian and the app on it, which is shared by all hosts that have it.

        :raises NoTree: it cannot be made here.
        """
        if suite not in self._trees:
            folder = self.folder / suite
            self.run("mkdir", str(folder))
            archive = tree(suite)
            self.run("tar", "--extract", f"--file={archive}", f"--directory={folder}", "--numeric-owner", "--xattrs")
            script = ["sh", "-ec", 'cd "$1" && shift && eval "$1"', "sh", str(folder), _PREPARE]
            self.run(*script, FILES=str(_FILES), KEYS=str(self.keys), PASSWORD=self.password)
            self._trees[suite] = folder
        return self._trees[suite]

    # --- ssh --------------------------------------------------------------------------------------

    @property
    def ssh(self) -> Path:
        """A program in place of ssh, which is the same in the network of the hosts."""
        return self.keys / "ssh"

    @property
    def ssh_options(self) -> list[str]:
        return [
            *("-F", "none", "-o", f"IdentityFile={self.keys}/user_key", "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={self.keys}/known_hosts", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
        ]

    @property
    def variables(self) -> dict[str, str]:
        """The inventory variables that all hosts have in common."""
        return {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(self.ssh),
            "ansible_ssh_common_args": " ".join(self.ssh_options),
            "ansible_control_path_dir": str(self.keys / "cp"),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def hang_up(self) -> None:
        """Close all connections that Ansible keeps open."""
        for path in (self.keys / "cp").glob("*"):
            command = ["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "nobody"]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def _write_ssh(self) -> None:
        self.ssh.write_text(f'#!/bin/sh\nexec nsenter --net={self.net} -- ssh "$@"\n')
        self.ssh.chmod(0o755)

    # --- its end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        assert self._keeper is not None
        if self._pid:
            remove_group(self.inside(self.groups))
        self._keeper.kill()
        self._keeper.wait(SECONDS)
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()
        shutil.rmtree(self._top, ignore_errors=True)


class Door:
    """What hands connections on, from the network of the hosts to a server of this machine, until it is closed."""

    def __init__(self, net: str, port: int) -> None:
        self._inside = port
        self._socket: socket.socket | None = None
        # A thread that has entered another network does not come back.
        opening = threading.Thread(target=self._open, args=(net,))
        opening.start()
        opening.join()
        assert self._socket is not None, "no socket can be made in the network of the hosts"
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def close(self) -> None:
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)  # ends the thread that waits for somebody
        self._socket.close()

    def _open(self, net: str) -> None:
        with open(net, "rb") as file:
            if ctypes.CDLL(None).setns(file.fileno(), _CLONE_NEWNET):
                return
        self._socket = socket.create_server((f"{NETWORK}.1", 0))

    def _serve(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                there = server.accept()[0]
                try:
                    here = socket.create_connection(("127.0.0.1", self._inside))
                except OSError:
                    there.close()
                    continue
                for pair in ((there, here), (here, there)):
                    threading.Thread(target=_hand_on, args=pair, daemon=True).start()


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of them has gone
        while said := source.recv(65536):
            target.sendall(said)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)  # ends the other direction, too
        each.close()


def run(command: list[str], environment: dict[str, str] | None = None, standard_input: str | None = None) -> str:
    """Run a command and return what it printed; it must succeed."""
    done = subprocess.run(
        command,
        env={"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(environment or {})},
        input=standard_input or "",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def remove_group(group: Path) -> None:
    """End all that runs in a control group and remove it."""
    if not group.exists():
        return
    (group / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + SECONDS
    while "populated 1" in (group / "cgroup.events").read_text():
        assert time.monotonic() < deadline, f"{group} does not end"
        time.sleep(0.01)
    for folder, _folders, _files in os.walk(group, topdown=False):
        os.rmdir(folder)


def _sweep() -> None:
    """Remove what those left that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_NAME}-*"):
        if _is_dead(path.name):
            shutil.rmtree(path, ignore_errors=True)
    for hierarchy in _hierarchies():
        for path in hierarchy.glob(f"{_NAME}-*"):
            if _is_dead(path.name):
                with contextlib.suppress(OSError):  # another process of pytest removes it
                    remove_group(path)


def _is_dead(name: str) -> bool:
    pid = name[len(_NAME) + 1 :].partition("-")[0]
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _hierarchies() -> Iterator[Path]:
    """Return where this machine has the unified hierarchy."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, path, kind = line.split()[:3]
        if kind == "cgroup2":
            yield Path(path)
