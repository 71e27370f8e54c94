# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes a consumer use the key in its files: services to restart, commands to run; and how it shows its health.

They are run by the module that writes the key, not by tasks of their own: each further task would cost every host
another round trip, and all hosts the wait for the slowest, while the old key is dead already.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Tuple

Command = List[str]
Service = Dict[str, Any]
"""``name``, and ``state``: ``restarted`` or ``reloaded``."""
Run = Callable[..., Tuple[int, str]]
"""Runs a command; returns its exit code and, with ``listen=True``, what it printed.

Raises OSError if it cannot be started, `TookTooLong` if it does not end.
"""

REASONS = ("restart_failed", "unhealthy")
SYSTEMD = "/run/systemd/system"
"""Exists if and only if the host was booted with systemd: sd_booted(3)."""
_MANAGERS = {
    "systemctl": {"restarted": "restart {0}", "reloaded": "reload-or-restart {0}"},
    "rc-service": {"restarted": "{0} restart", "reloaded": "{0} reload"},
    "service": {"restarted": "{0} restart", "reloaded": "{0} reload"},
}
_POLITE_SECONDS = 2
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class StepFailed(Exception):
    """A step failed; `reason` is out of `REASONS`. The message holds nothing of what a command printed."""

    def __init__(self, reason: str, message: str, hung: bool = False) -> None:
        super(StepFailed, self).__init__(message)
        self.reason = reason
        self.hung = hung


class TookTooLong(Exception):
    """A command had not ended after so many seconds and was stopped."""


def runner(timeout: float) -> Run:
    """Return what runs a command, with all that it starts itself, for so many seconds at most.

    As in Ansible's own modules there is no shell, but ``~`` and ``$NAME`` are expanded. The command is in a session of
    its own, so that a connection that is lost does not end it.
    """

    def run(command: Command, listen: bool = False) -> Tuple[int, str]:
        words = [_expanded(word) for word in command]
        # No pipe unless somebody listens: what a command leaves running in the background would keep it open.
        output, none = subprocess.PIPE if listen else subprocess.DEVNULL, subprocess.DEVNULL
        # In the short way there is no AnsibleModule, whose run_command also knows no timeout.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            words, stdin=none, stdout=output, stderr=none, start_new_session=True
        )
        try:
            printed = process.communicate(timeout=timeout)[0] or b""
        except subprocess.TimeoutExpired:
            _stop(process)
            raise TookTooLong(timeout) from None
        return process.returncode, printed.decode("utf-8", "replace")

    return run


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # what runs as another user goes on
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLITE_SECONDS)


def manager() -> str:
    """Return the host's program for services: systemd's, OpenRC's, or the general one; empty if it has none."""
    if os.path.isdir(SYSTEMD):
        return "systemctl"
    return next((name for name in ("rc-service", "service") if _which(name)), "")


def lacking(services: List[Service], commands: List[Command], run: Run) -> List[str]:
    """Return what could not be run, each as a sentence without its full stop; changes nothing."""
    found = [problem for service in services for problem in _lacking_service(service["name"], run)]
    absent = sorted({command[0] for command in commands if not shutil.which(_expanded(command[0]))})
    return found + ["it has no command {0}".format(name) for name in absent]


def _lacking_service(name: str, run: Run) -> List[str]:
    program = manager()
    if not program:
        return ["it has no systemctl, rc-service or service: use multicart_deploy_commands"]
    try:
        known = _knows(program, name, run)
    except TookTooLong:
        return ["its {0} does not answer".format(program)]
    return [] if known else ["it has no service {0}".format(name)]


def _knows(program: str, name: str, run: Run) -> bool:
    if program == "systemctl":
        asked = [program, "show", "--property=LoadState", "--", name]
        return run(asked, listen=True)[1].strip() == "LoadState=loaded"
    if program == "rc-service":
        return run([_which(program), "--exists", name])[0] == 0
    folders = ("/etc/init.d", "/etc/rc.d", "/usr/local/etc/rc.d")
    return any(os.path.exists(os.path.join(folder, name)) for folder in folders)


def restart(services: List[Service], commands: List[Command], run: Run) -> bool:
    """Make the consumer use the key: services first, then commands; tell whether there was anything to do.

    :raises StepFailed: ``restart_failed``, at the first that failed.
    """
    program = manager()
    for service in services:
        if not program:
            raise StepFailed("restart_failed", "this host has no program for services: use multicart_deploy_commands")
        arguments = [word.format(service["name"]) for word in _MANAGERS[program][service["state"]].split()]
        line = [_which(program) or program] + arguments
        _run("restart_failed", "the service {0} could not be {1}".format(service["name"], service["state"]), line, run)
    for command in commands:
        _run("restart_failed", "the command {0} failed".format(command[0]), command, run)
    return bool(services or commands)


def prove_health(commands: List[Command], retries: int, delay: float, run: Run) -> None:
    """Run every command until it succeeds; one that hangs is not tried again.

    :param retries: how often one that failed is tried again.
    :param delay: seconds between two tries.
    :raises StepFailed: ``unhealthy``.
    """
    for command in commands:
        for left in range(retries, -1, -1):
            try:
                _run("unhealthy", "the health command {0} failed".format(command[0]), command, run)
                break
            except StepFailed as failed:
                if failed.hung or not left:
                    raise
                time.sleep(delay)


def _run(reason: str, failure: str, command: Command, run: Run) -> None:
    # What a command prints may hold a key, in a form that nobody can foresee: only its exit code is told.
    why, hung = None, False
    try:
        code = run(command)[0]
        if code:
            why = "exit code {0}; run it on the host to see why".format(code)
    except OSError as error:
        why = os.strerror(error.errno or 0)
    except TookTooLong as error:
        why, hung = (
            "stopped after {0:g} s; multicart_deploy_timeout says how long it may take".format(*error.args),
            True,
        )
    if why:
        raise StepFailed(reason, "{0} ({1})".format(failure, why), hung)


def _expanded(name: str) -> str:
    return os.path.expanduser(os.path.expandvars(name))


def _which(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath)] + list(_MORE_PATH))
    return shutil.which(name, path=path) or ""
