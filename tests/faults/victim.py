# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet whose run can be killed at a point of one's choice, and what must hold then and after a plain re-run."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils import _record as record

from tests.integration.harness import ANSIBLE_BIN, VARIABLE, Fleet, Host, Run, Task, files_below, fingerprint
from tests.integration.sshd import Sshd
from tests.leaks.canaries import Canaries
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account, JournalEntry

TEXT = f'# before\nOTHER="a b"\nexport {VARIABLE}="{{key}}" # ours\nLAST=1'
"""An environment file: every byte but the key stays."""

# Writes down the fingerprint of the key in the file. "$1" is the consumer's folder, "$2" its control folder.
_RESTART = r"""
hold() { if [ -e "$1" ]; then : > "$2/reached"; while [ ! -e "$2/go" ]; do sleep 0.02; done; fi; }
hold "$2/hold-before-restart" "$2"
key=$(sed -n 's/^export MULTICART_API_KEY="\([^"]*\)".*/\1/p' "$1/app.env")
printf %s "$key" | sha256sum | cut -c1-16 >> "$1/log"
hold "$2/hold-after-restart" "$2"
"""
_HEALTH = r"""
if [ -e "$2/hold-health" ]; then : > "$2/reached"; while [ ! -e "$2/go" ]; do sleep 0.02; done; fi
grep -q MULTICART_API_KEY "$1/app.env"
"""
_SECONDS = 60.0
LEAVING = 10.0
"""Seconds in which a host's program has ended by itself once its channel is gone, on a very busy machine."""


@dataclass(frozen=True)
class Layout:
    """How a consumer's file is kept and how it is reached, and so which way a write takes.

    :ivar file: more of its entry in ``multicart_deploy_files``.
    :ivar mode: of the file before the run; it is 0600 after it.
    :ivar linked: it has another name, so that it can only be written in place, where a kill may leave half of each.
    :ivar state_dir: its record is kept in a directory of its own.
    :ivar armed: it is reached over ssh, so that it is armed; otherwise it is served at the release.
    """

    file: Mapping[str, Any] = field(default_factory=dict)
    mode: int = 0o600
    linked: bool = False
    state_dir: bool = False
    armed: bool = False


@dataclass
class Started:
    """A run of ansible-playbook under way; ``mark`` is in the environment of each of its processes and of no other."""

    process: subprocess.Popen[bytes]
    mark: str
    output: Path

    def family(self) -> list[int]:
        """Return the processes of this run, on whichever side: Ansible's workers are in sessions of their own."""
        return processes_with(f"RECORDER_FILE={self.mark}")

    def ended(self) -> Run:
        """Wait for its end, and return what came of it."""
        code = self.process.wait(_SECONDS)
        tasks = [Task(**json.loads(line)) for line in Path(self.mark).read_text().splitlines()]
        return Run("multicart.keys.rotate", code, self.output.read_text(), tasks)

    @property
    def ssh_clients(self) -> list[int]:
        """The ssh clients of this run, without those that merely keep a connection open for others (ControlPersist)."""
        return [pid for pid in self.family() if _command_of(pid)[:1] == [b"ssh"]]

    @property
    def worker(self) -> int:
        """The process of Ansible's in which the act runs: the ssh clients are its children."""
        [parent] = {_parent_of(pid) for pid in self.ssh_clients}
        return parent

    def left(self) -> list[int]:
        """Return what is left of the run on this side, ControlPersist's keepers of connections excepted."""
        return left_of(f"RECORDER_FILE={self.mark}")

    def kill(self, number: signal.Signals, spare: Callable[[int], bool] = lambda _pid: False) -> None:
        """Send the signal to the run's process group, wait for its end, and end what is left of the run."""
        os.killpg(self.process.pid, number)
        if number is not signal.SIGKILL:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        deadline = time.monotonic() + _SECONDS
        while True:
            left = [pid for pid in self.family() if not spare(pid)]
            if not left and self.process.poll() is not None:
                return
            assert time.monotonic() < deadline, f"these cannot be ended: {left}"
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def processes_with(assignment: str) -> list[int]:
    """Return the processes with this in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                # What has ended and was not waited for yet has no environment any more.
                if assignment.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def left_of(assignment: str) -> list[int]:
    """Return the processes with this in their environment, ControlPersist's keepers of connections excepted."""
    return [pid for pid in processes_with(assignment) if b" [mux]" not in b" ".join(_command_of(pid))]


def _command_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Victim(Fleet):
    """A fleet of two or more: ``web1`` can be stopped at any step, the others go their way.

    At least two, so that a pending rotation is confirmed by two records, and a plain re-run finishes it.
    """

    def __init__(
        self, sandbox: Sandbox, folder: Path, account: Account, layout: Layout = Layout(), size: int = 2
    ) -> None:
        super().__init__(sandbox, folder, account)
        self._layout = layout
        self._way = contextlib.ExitStack()
        if layout.armed:
            self.variables.update(self._way.enter_context(Sshd()).variables)
        (folder / "control").mkdir()
        # Short, as Ansible keeps a socket in it, whose path may have a hundred characters.
        self.tmp = Path(tempfile.mkdtemp(prefix="mc-"))
        (folder / "restart").write_text(_RESTART)
        (folder / "health").write_text(_HEALTH)
        (folder / "app.env.j2").write_text(TEXT.format(key="{{ multicart_key }}"))
        self.env.update(TMPDIR=str(self.tmp))
        self.old = self.live
        for number in range(1, size + 1):
            self._add(f"web{number}")

    def _add(self, name: str) -> None:
        control = self.folder / "control" / name
        control.mkdir()
        where = f"{{{{ home }}}} {control}"
        host = self.add(
            name,
            TEXT,
            multicart_deploy_files=[{"path": "{{ home }}/app.env", **self._layout.file}],
            multicart_deploy_commands=[f"sh {self.folder}/restart {where}"],
            multicart_deploy_health_checks=[f"sh {self.folder}/health {where}"],
        )
        host.env.chmod(self._layout.mode)
        if self._layout.linked:
            (host.folder / "other-name").hardlink_to(host.env)
        if self._layout.state_dir:
            (host.folder / "state").mkdir()
            host.variables["multicart_deploy_state_dir"] = "{{ home }}/state"
        python = control / "python"
        python.write_text(
            "#!/bin/sh\n"
            f"PYTHONPATH={shlex.quote(str(Path(__file__).parent / 'host'))} "
            f"MULTICART_STEPS={shlex.quote(str(control))} MULTICART_STEPS_BELOW={shlex.quote(str(host.folder))} "
            f'exec {shlex.quote(sys.executable)} "$@"\n'
        )
        python.chmod(0o755)
        host.variables["ansible_python_interpreter"] = str(python)

    def control(self, name: str, host: str = "web1") -> Path:
        """Return a file of a host's control folder."""
        return self.folder / "control" / host / name

    def programs(self, *names: str) -> list[int]:
        """Return the processes on these hosts, or on all."""
        controls = [self.folder / "control" / name for name in names or self.hosts]
        return [pid for control in controls for pid in processes_with(f"MULTICART_STEPS={control}")]

    def end_programs(self, *names: str) -> None:
        """Let these hosts lose their power."""
        for pid in self.programs(*names):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def check_left(self) -> None:
        """No process waits on any host any more, although nobody has ended it."""
        deadline = time.monotonic() + LEAVING
        while left := self.programs():
            shown = [b" ".join(_command_of(pid))[:200] for pid in left]
            assert time.monotonic() < deadline, f"these are left on the hosts: {shown}"
            time.sleep(0.02)

    @property
    def record_name(self) -> str:
        """The name of the record of ``web1``."""
        host = self.hosts["web1"]
        variable = None if "template" in self._layout.file else VARIABLE
        return Path(record.path_of(str(host.env), variable, "/" if self._layout.state_dir else None)).name

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """The record of each host that has one."""
        found = {name: list(host.folder.rglob("*.multicart*.json")) for name, host in self.hosts.items()}
        return {name: json.loads(path.read_text()) for name, paths in found.items() for path in paths}

    @property
    def retiring(self) -> tuple[str, ...]:
        """The arguments that name the key to retire."""
        return ("-e", f"multicart_rotate_retire={fingerprint(self.old)}")

    def peek(self) -> list[JournalEntry]:
        """Return the requests to the API so far, without forgetting them as :meth:`requests` does."""
        return self.sandbox.journal(self._seen)

    @contextlib.contextmanager
    def started(self, *by: str) -> Iterator[Started]:
        """Start rotate.yml, confirmed, by a command that becomes Ansible; nothing of it outlives the block."""
        number = next(self._numbers)  # pylint: disable=stop-iteration-return  # they never end
        recorded, output = (self.folder / f"{name}-{number}" for name in ("recorded", "output"))
        recorded.touch()
        command = [str(ANSIBLE_BIN / "ansible-playbook"), "-i", str(self.inventory), "multicart.keys.rotate"]
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [*by, *command, "-e", "multicart_rotate_confirm=true"],
                cwd=self.folder,
                env=self._environment(recorded, {}),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        run = Started(process, str(recorded), output)
        try:
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError):
                run.kill(signal.SIGKILL)

    def wait_until(self, reached: Callable[[], bool], run: Started) -> bool:
        """Wait until the point is reached; False: the run has ended before."""
        deadline = time.monotonic() + _SECONDS
        while not reached():
            if run.process.poll() is not None:
                return reached()
            assert time.monotonic() < deadline, run.output.read_text()
            time.sleep(0.03)
        return True

    def release(self) -> None:
        """Let nothing stop or fail any more."""
        self.sandbox.clear()
        for path in (self.folder / "control").glob("*/*"):
            if path.name.startswith(("stop", "hold-", "flood")):
                path.unlink()

    def forget(self) -> None:
        """Remove what is not in the folder."""
        self._way.close()
        shutil.rmtree(self.tmp, ignore_errors=True)

    # --- what must hold -----------------------------------------------------------------------------

    def check_killed(self, run: Started) -> None:
        """Whatever the point: the files are whole, and what is left over tells no secret."""
        old, new = (TEXT.format(key=key) for key in (self.old, self.live))
        allowed = {new[:at] + old[at:] for at in range(len(new) + 1)} if self._layout.linked else {old, new}
        for host in self.hosts.values():
            assert host.env.read_text() in allowed, f"the file of {host.name} is neither the old nor the new one"
            for left in _leftovers(host):
                assert stat.S_IMODE(left.stat().st_mode) == 0o600, left
        canaries = Canaries.of(self.known_secrets)
        files = {
            path for host in self.hosts.values() for path in (host.env, host.folder / "other-name", *_leftovers(host))
        }
        for path in {*files_below(self.folder), *files_below(self.tmp)} - files:
            assert not (found := canaries.found_in(path.read_bytes())), f"{found} was left in {path}"
        assert self.rotations <= 1, run.output.read_text()

    def check_finished(self, run: Run) -> None:
        """The intent was finished, once, and everything that follows from it was done."""
        assert run.green, run
        assert self.rotations == 1, run
        retired = [entry["fingerprint"] for entry in self.requests() if entry["committed"]]
        assert retired == [fingerprint(self.old)]
        for host in self.hosts.values():
            assert host.env.read_text() == TEXT.format(key=self.live), host.name
            assert stat.S_IMODE(host.env.stat().st_mode) == 0o600
            assert not _leftovers(host), host.name
            kept = self.records[host.name]
            assert (kept["open"], kept["held"]) == (False, self.live_fingerprint), kept
            assert kept["rotation"] == {"retire": fingerprint(self.old), "concluded": True}, kept
            assert self.live_fingerprint in kept["readers"].values(), kept
            assert host.log, f"{host.name} was not restarted"
            assert host.log[-1] == self.live_fingerprint, f"{host.name} was not restarted with the new key"


def _leftovers(host: Host) -> list[Path]:
    return [path for path in host.folder.rglob("*") if path.name.endswith(".multicart-tmp")]
