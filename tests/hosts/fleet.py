# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with an init system of their own, and a fleet of them.

A host is prepared, which takes no time, then started, and waited for only when it is needed: many start at once.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.awx.collection import COLLECTIONS
from tests.hosts.stage import PATH, SECONDS, Stage, children, remove_group, run
from tests.integration.harness import VARIABLE, Fleet, Host, Run
from tests.leaks.canaries import Canaries
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account

KEY_FILE = "/etc/app/env"
APP = "/usr/bin/python3 /usr/local/lib/app.py"
ROOT_BY = ("sudo", "sudo-password", "su", "doas", "doas-password")
"""The ways in which an unprivileged user becomes root."""
_SYSTEMD_FILES = ("/bin/systemctl", "/lib/systemd", "/usr/bin/loginctl", "/sbin/init")
_OPENRC_FILES = ("/sbin/openrc*", "/sbin/rc-*", "/bin/rc-status", "/etc/runlevels", "/etc/init.d/app*")
_RUNIT_FILES = ("/usr/bin/sv", "/usr/bin/runsv*", "/sbin/runit*", "/etc/service", "/etc/sv")
# Processes that hold something shaped like a key in their environment, each with the fingerprints.
_HOLDERS = """
import hashlib, json, os, re
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        pieces = open("/proc/" + pid + "/environ", "rb").read().split(b"\\0")
        name = open("/proc/" + pid + "/comm").read().strip()
        group = [line.strip() for line in open("/proc/" + pid + "/cgroup") if line.startswith("0::")][0][3:]
    except OSError:
        continue
    for piece in pieces:
        value = piece.partition(b"=")[2]
        if re.fullmatch(rb"[A-Za-z0-9]+\\.[A-Za-z0-9]{8,}", value):
            found.append([int(pid), name, group, hashlib.sha256(value).hexdigest()[:16]])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Kind:
    """What a host runs on.

    :ivar init: what to start; empty: systemd.
    :ivar lacks: the files of the other inits, which share the tree.
    :ivar started: ends when all has started.
    """

    suite: str
    init: str = ""
    lacks: tuple[str, ...] = (*_OPENRC_FILES, *_RUNIT_FILES)
    started: str = "systemctl is-system-running --wait || systemctl is-system-running | grep -qx degraded"


KINDS = {
    "bookworm": Kind("bookworm"),
    "trixie": Kind("trixie"),
    "forky": Kind("forky"),
    "openrc": Kind(
        "bookworm",
        "/sbin/openrc-init",
        (*_SYSTEMD_FILES, *_RUNIT_FILES),
        "until [ -e /run/openrc/softlevel ] && ! [ -e /run/openrc/rc.starting ]; do sleep 0.05; done",
    ),
    "runit": Kind("bookworm", "/sbin/runit", (*_SYSTEMD_FILES, *_OPENRC_FILES), "sv check ssh"),
}


@dataclass(frozen=True)
class Holder:
    """A process with a key in its environment."""

    pid: int
    command: str
    group: str
    fingerprint: str


class RealHost:
    """A host with an init system as its process 1, an address and a disk of its own."""

    def __init__(self, stage: Stage, name: str, kind: str) -> None:
        self.stage, self.name, self.kind = stage, name, KINDS[kind]
        self.address = stage.next_address()
        self._top = stage.folder / f"host-{name}"
        self.root = self._top / "root"
        self._group = stage.groups / name
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._is_ready = False
        self._enabled: list[str] = []
        self._prepare()

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Switch it on; see :meth:`wait`."""
        stage, inside = self.stage, str(self._group)
        stage.run("mkdir", "-p", inside)
        stage.run("ip", "link", "set", self._port, "up")
        init = [self.kind.init] if self.kind.init else ["--boot"]
        options = [
            *("--quiet", "--register=no", "--keep-unit", "--settings=no", "--private-users=no", "--console=pipe"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            *("--capability=all", "--system-call-filter=@keyring bpf"),  # as on a real machine: podman wants them
            f"--directory={self.root}",
            f"--machine={self.name}",
            f"--network-namespace-path=/run/netns/{self.name}",
        ]
        enter = 'echo 0 > "$1"/cgroup.procs && shift && exec "$@"'
        command = stage.command("sh", "-c", enter, "sh", inside, "systemd-nspawn", *options, *init)
        with self.console.open("ab") as log:
            self._process = subprocess.Popen(
                command, env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._is_ready = False

    def wait(self) -> None:
        """Wait until it has started."""
        if self._is_ready or not self.is_on:
            return
        deadline = time.monotonic() + SECONDS
        self._leader = self._wait_for_leader(deadline)
        answers = f"until : < /dev/tcp/{self.address}/22; do sleep 0.05; done"
        run(["timeout", str(SECONDS), *self.stage.command("bash", "-c", f"{{ {answers}; }} 2> /dev/null")])
        self.run(self.kind.started)
        noted = " ".join(f"/run/app/{noted_as(name)}.json" for name in self._enabled if "." not in name)
        self.run(f"for note in {noted}; do until [ -e $note ]; do sleep 0.02; done; done")
        self._is_ready = True

    @property
    def is_on(self) -> bool:
        return self._process is not None

    def crash(self, silently: bool = False) -> None:
        """End all of it at once.

        :param silently: nothing of that is seen on the network: the others wait for an answer.
        """
        assert self._process is not None
        if silently:
            self.stage.run("ip", "link", "set", self._port, "down")
        remove_group(self.stage.inside(self._group))
        self._process.wait(SECONDS)
        self._process, self._leader, self._is_ready = None, 0, False

    def stall(self, stalled: bool = True) -> None:
        """Let its process 1 do nothing any more, or go on."""
        os.kill(self._leader, signal.SIGSTOP if stalled else signal.SIGCONT)

    def reboot(self) -> None:
        """Switch it off, unless it is, and on again, with its disk as it is, and wait until it has started."""
        if self.is_on:
            self.crash()
        self.start()
        self.wait()

    def remove(self) -> None:
        """End it and forget its disk."""
        if self.is_on:
            self.crash()
        self.stage.run("umount", str(self.root))
        self.stage.run("rm", "-r", str(self._top))
        self.stage.run("ip", "netns", "delete", self.name)

    @property
    def console(self) -> Path:
        """What its process 1 has printed."""
        return self.stage.keys / f"{self.name}.console"

    def _prepare(self) -> None:
        stage, top = self.stage, str(self._top)
        lower = stage.tree(self.kind.suite)
        stage.run("mkdir", "-p", *(f"{top}/{name}" for name in ("upper", "work", "root")))
        layers = f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work"
        stage.run("mount", "-t", "overlay", "-o", layers, "overlay", str(self.root))
        stage.run("sh", "-c", f"cd {self.root} && rm -rf " + " ".join(f".{path}" for path in self.kind.lacks))
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        # At a first start without one, systemd enables all units.
        self.write("/etc/machine-id", secrets.token_hex(16) + "\n")
        self._port = "to-" + self.address.rpartition(".")[2]
        for line in (
            f"netns add {self.name}",
            f"link add {self._port} type veth peer name eth0 netns {self.name}",
            f"link set {self._port} master hosts",
            f"-netns {self.name} address add {self.address}/24 dev eth0",
            f"-netns {self.name} link set eth0 up",
            f"-netns {self.name} link set lo up",
        ):
            stage.run("ip", *line.split())

    def _wait_for_leader(self, deadline: float) -> int:
        """Return its process 1, as it is called here."""
        assert self._process is not None
        while True:
            for pid in _descendants(self._process.pid):
                status = _status(pid)
                if status.get("NSpid", "").split()[2:] == ["1"] and status["Name"] != "(sd-stubinit)":
                    return pid
            printed = self.console.read_text(errors="replace")
            assert self._process.poll() is None and time.monotonic() < deadline, f"{self.name}: {printed}"
            time.sleep(0.02)

    # --- what is on it ----------------------------------------------------------------------------

    def run(self, command: str, standard_input: str | None = None) -> str:
        """Run a shell command as root, and return what it printed; it must succeed.

        If the host is off, all it sees of it is the disk.
        """
        if not self.is_on:
            return run(self.stage.command("chroot", str(self.root), "sh", "-c", command), None, standard_input)
        if not self._leader:
            self.wait()
        enter = ["nsenter", f"--target={self._leader}", "--all", "--wd", "--"]
        return run([*enter, "sh", "-c", command], None, standard_input)

    def ssh(self, command: str, user: str = "ops") -> str:
        """Run a shell command in a login of a user, and return what it printed; it must succeed."""
        self.wait()
        line = [str(self.stage.ssh), *self.stage.ssh_options, f"{user}@{self.address}", command]
        return run(line)

    def read(self, path: str) -> str:
        return self.run(f"cat -- '{path}'")

    def write(self, path: str, text: str, owner: str = "root:root", mode: str = "0644") -> None:
        folder = os.path.dirname(path)
        steps = f"mkdir -p '{folder}' && cat > '{path}' && chown {owner} '{path}' && chmod {mode} '{path}'"
        self.run(steps, text)

    def journal(self) -> str:
        """Return all that it has logged since it was switched on, with all that is known of each entry."""
        command = "journalctl --all --no-pager --output=export" if not self.kind.init else "cat /var/log/*.log || true"
        return self.run(command + " 2> /dev/null")

    def enable(self, *names: str) -> None:
        """Have services started with it; it must be off."""
        for name in names:
            self._enabled.append(name)
            if self.kind.init == "/sbin/runit":
                self.run(f"ln -sf /etc/sv/{name} /etc/service/{name}")
            elif self.kind.init:
                self.run(f"ln -sf /etc/init.d/{name} /etc/runlevels/default/{name}")
            else:
                unit = name if "." in name else f"{name}.service"
                self.run(f"systemctl --root=/ enable -- {unit} 2>&1")

    def app(self, name: str = "app") -> dict[str, Any]:
        """Return what the program of a service has noted last: ``pid``, ``fingerprint``, ``reloads``, ``at``."""
        found: dict[str, Any] = json.loads(self.read(f"/run/app/{noted_as(name)}.json"))
        return found

    def unit(self, name: str, *properties: str) -> list[str]:
        """Return what systemd says of a unit."""
        wanted = ",".join(properties)
        told = dict(line.split("=", 1) for line in self.run(f"systemctl show -p {wanted} -- {name}").splitlines())
        return [told[one] for one in properties]

    @property
    def holders(self) -> list[Holder]:
        """The processes with a key in their environment."""
        return [Holder(*line) for line in json.loads(self.run("python3 -", _HOLDERS))]


@dataclass
class Consumer(Host):
    """A consumer that is a real host.

    :ivar files: the paths that hold the key.
    """

    real: RealHost = field(kw_only=True)
    files: list[str] = field(kw_only=True)

    @property
    def record(self) -> dict[str, Any]:
        folder, _slash, name = self.files[0].rpartition("/")
        found: dict[str, Any] = json.loads(self.real.read(f"{folder}/.{name}.{VARIABLE}.multicart.json"))
        return found


class RealFleet(Fleet):
    """Consumers that are real hosts, among others perhaps; those that are not removed by hand are by :meth:`close`."""

    def __init__(self, sandbox: Sandbox, folder: Path, account: Account, stage: Stage) -> None:
        super().__init__(sandbox, folder, account)
        self.stage = stage
        self.real: dict[str, RealHost] = {}
        # Where the way to become root by doas is; and a busy machine takes its time to answer.
        self.env["ANSIBLE_COLLECTIONS_PATH"] = f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{COLLECTIONS}"
        self.env["ANSIBLE_TIMEOUT"] = "20"

    def boot(
        self,
        name: str,
        kind: str = "bookworm",
        by: str = "sudo",
        services: tuple[str, ...] = ("app",),
        files: Mapping[str, str] | None = None,
        **variables: Any,
    ) -> RealHost:
        """Add a host whose services use the live key, and start it.

        :param by: how the user becomes root, see :data:`ROOT_BY`.
        :param services: what is started with it and restarted with the key.
        :param files: that hold the key, with their content.
        """
        host = RealHost(self.stage, name, kind)
        self.real[name] = host
        files = {KEY_FILE: "MODE=live\nMULTICART_API_KEY={key}\n"} if files is None else files
        for path, content in files.items():
            host.write(path, content.replace("{key}", self.live), "root:app", "0640")
        host.enable(*services)
        settings = {
            **self.stage.variables,
            "ansible_host": host.address,
            **self.becoming(by),
            "multicart_deploy_files": [{"path": path} for path in files],
            "multicart_deploy_services": list(services),
            "multicart_deploy_health_checks": [health_of(service) for service in services],
            "multicart_deploy_health_retries": 20,
            "multicart_deploy_health_delay": 0.1,
            "multicart_deploy_timeout": 20,
        }
        folder = self.folder / "hosts" / name
        folder.mkdir(parents=True)
        self.hosts[name] = Consumer(name, folder, {**settings, **variables}, real=host, files=list(files))
        host.start()
        return host

    def becoming(self, by: str) -> dict[str, Any]:
        """Return the inventory variables of a user, and of how it becomes root."""
        method, _dash, password = by.partition("-")
        user = {"sudo": "ops", "sudo-password": "ops-password", "su": "plain"}.get(by, by)
        methods = {"doas": "community.general.doas"}
        found = {"ansible_user": user, "ansible_become": True, "ansible_become_method": methods.get(method, method)}
        if password or method == "su":
            found["ansible_become_password"] = self.stage.password
        if method == "doas":  # without a terminal it asks for no password; before core 2.19 its plugin does not say so
            found.update({"ansible_pipelining": False} if password else {"ansible_doas_allow_pipelining": True})
        return found

    def wait(self) -> None:
        """Wait until all have started that are on."""
        for host in self.real.values():
            host.wait()

    def close(self) -> None:
        self.stage.hang_up()
        for host in self.real.values():
            host.remove()

    def consumer(self, name: str) -> Consumer:
        found = self.hosts[name]
        assert isinstance(found, Consumer)
        return found

    def run(self, playbook: str, *arguments: str, env: Mapping[str, str] | None = None, revealed: bool = False) -> Run:
        """Run a playbook and search what came of it for secrets, the logs of all hosts included."""
        self.wait()
        done = super().run(playbook, *arguments, env=env, revealed=revealed)
        print(done)  # for whom a test fails
        if not revealed:
            self.search_logs(done)
        return done

    def search_logs(self, done: Run) -> None:
        """Fail if a secret is in what a run has printed or in what the hosts have logged."""
        canaries = Canaries.of({*self.known_secrets, self.stage.password})
        assert not (found := canaries.lines_in(done.output)), f"a secret was printed: {found}"
        for host in self.real.values():
            found = canaries.lines_in(host.journal()) if host.is_on else []
            assert not found, f"a secret was logged on {host.name}: {found}"

    def _is_current(self, host: Host) -> bool:
        if not isinstance(host, Consumer):
            return super()._is_current(host)
        texts = [host.real.read(path) for path in host.files]
        former = self.account["former_keys"]
        return all(self.live in text for text in texts) and not any(key in text for key in former for text in texts)


def health_of(service: str) -> str:
    """Return a command that succeeds while the app of a service answers."""
    return f"{APP} health {noted_as(service)}"


def noted_as(service: str) -> str:
    """Return the name by which the app of a service is known."""
    return service.replace("@", "-")


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
