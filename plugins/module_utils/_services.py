# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What makes a consumer use the key in its files: services to restart, commands to run; and how it shows its health.

They are run by the program that writes the key, not by tasks of their own: each further task would cost every host
another round trip, and all hosts the wait for the slowest, while the old key is revoked already.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

Command = List[str]
Service = Dict[str, Any]
"""``name``, and ``state``: ``restarted`` or ``reloaded``."""
Run = Callable[..., Tuple[int, str]]
"""Runs a command; returns its exit code and, with ``listen=True``, what it printed.

Raises OSError if it cannot be started, `TookTooLong` if it does not end.
"""

REASONS = ("restart_failed", "unhealthy", "process_out_of_date", "stores_behind")
SYSTEMD = "/run/systemd/system"
"""Exists if and only if the host was booted with systemd: sd_booted(3)."""
OPENRC = "/run/openrc/options"
"""Where OpenRC notes what it has started."""
SETTLING = 1.0
"""Seconds after its restart in which a service must not have ended again."""
_MANAGERS = {
    "systemctl": {"restarted": "restart -- {0}", "reloaded": "reload-or-restart -- {0}"},
    "rc-service": {"restarted": "{0} restart", "reloaded": "{0} reload", "status": "{0} status"},
    "sv": {"restarted": "restart {0}", "reloaded": "reload {0}", "status": "status {0}"},
    "service": {"restarted": "{0} restart", "reloaded": "{0} reload", "status": "{0} status"},
}
_STOPPED = 3
"""Exit status of ``status`` for a service that was stopped on purpose, by the Linux Standard Base and by OpenRC."""
_RESTARTING = (
    *("start", "restart", "try-restart", "condrestart", "reload", "force-reload"),
    *("reload-or-restart", "try-reload-or-restart"),
)
_OF_OTHERS = ("-M", "--machine", "-H", "--host")
_WITH_VALUE = _OF_OTHERS + (
    *("-t", "--type", "--state", "-p", "--property", "-P", "-n", "--lines", "-o", "--output", "-s", "--signal"),
    *("--job-mode", "--kill-whom", "--kill-who", "--root", "--image", "--timestamp"),
)
"""Options of systemctl whose value may be the next word."""
_POLITE_SECONDS = 2
_MORE_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class StepFailed(Exception):
    """A step failed; `reason` is out of `REASONS`. The message holds nothing of what a command printed."""

    def __init__(self, reason: str, message: str, hung: bool = False) -> None:
        super().__init__(message)
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
        words = [expanded(word) for word in command]
        # No pipe unless somebody listens: what a command leaves running in the background would keep it open.
        output, none = subprocess.PIPE if listen else subprocess.DEVNULL, subprocess.DEVNULL
        # There is no AnsibleModule in a host session, and its run_command knows no timeout.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            words, stdin=none, stdout=output, stderr=none, start_new_session=True, env=_environment()
        )
        try:
            printed = process.communicate(timeout=timeout)[0] or b""
        except subprocess.TimeoutExpired:
            _stop(process)
            raise TookTooLong(timeout) from None
        return process.returncode, printed.decode("utf-8", "replace")

    return run


def _environment() -> Dict[str, str]:
    """Return the environment of what is started; become leaves out where the user's own systemd listens."""
    folder = "/run/user/{0}".format(os.geteuid())
    more = {"XDG_RUNTIME_DIR": folder} if os.path.isdir(folder) else {}
    return dict(more, **os.environ)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):  # what runs as another user goes on
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLITE_SECONDS)


def manager() -> str:
    """Return the host's program for services: of systemd, OpenRC or runit, or the general one; empty: it has none."""
    if os.path.isdir(SYSTEMD):
        return "systemctl"
    runit = ["sv"] if os.path.isdir("/run/runit") or os.path.isdir("/etc/runit/runsvdir") else []
    return next((name for name in ["rc-service"] + runit + ["service"] if _which(name)), "")


# --- before the key is replaced -------------------------------------------------------------------


def lacking(services: List[Service], commands: List[Command], paths: List[str], run: Run) -> List[str]:
    """Return what could not be restarted or run, each as a sentence without its full stop; changes nothing.

    :param paths: of the files whose key the services are to use.
    """
    found = [problem for service in services for problem in _lacking_service(service, paths, run)]
    absent = sorted({command[0] for command in commands if not shutil.which(expanded(command[0]))})
    found += ["it has no command {0}".format(name) for name in absent]
    return found + [problem for command in commands for problem in _lacking_user_unit(command, run)]


def running(services: List[Service], run: Run) -> List[str]:
    """Return the names of the services that run now; those that have failed would run, too."""
    with suppress(TookTooLong, OSError):
        return [service["name"] for service in services if _is_wanted(manager(), service["name"], run)]
    return [service["name"] for service in services]


def _lacking_service(service: Service, paths: List[str], run: Run) -> List[str]:
    program, name = manager(), service["name"]
    if not program:
        return ["it has no systemctl, rc-service, sv or service: use multicart_deploy_commands"]
    try:
        if program == "systemctl":
            return _lacking_unit(unit_of(name, run), service, paths)
        known = _knows(program, name, run)
    except TookTooLong:
        return ["its {0} does not answer".format(program)]
    return [] if known else ["it has no service {0}".format(name)]


def _lacking_unit(unit: Dict[str, str], service: Service, paths: List[str]) -> List[str]:
    name = service["name"]
    if unit.get("LoadState") != "loaded":
        return [_not_loaded(name, unit)]
    if unit.get("CanStart") != "yes":
        return ["its service {0} cannot be started by hand (CanStart=no): name the one that starts it".format(name)]
    if service["state"] == "reloaded":
        ours = {os.path.realpath(path) for path in paths}
        # A pattern, or a link, perhaps.
        files = [(file, glob.glob(file) or [file]) for file in unit["EnvironmentFiles"].split("\n")]
        read = [file for file, found in files if ours.intersection(map(os.path.realpath, found))]
        if read:
            return [
                "its service {0} reads {1} by EnvironmentFile, which a reload does not read again: use state "
                "restarted".format(name, sorted(read)[0])
            ]
    return []


def _lacking_user_unit(command: Command, run: Run) -> List[str]:
    """Return why ``systemctl --user`` could not restart a unit of a user's own manager."""
    if os.path.basename(command[0]) != "systemctl" or "--user" not in command:
        return []
    whose, words = _of_systemctl(command[1:])
    units = words[1:] if words[:1] and words[0] in _RESTARTING else []
    try:
        named = [unit for unit in units if not re.search(r"[*?\[]", unit)]
        states = {unit: unit_of(unit, run, whose).get("LoadState") for unit in named}
    except (TookTooLong, OSError):
        states = dict.fromkeys(units)
    return [
        "its user unit {0} is {1}".format(unit, state)
        if state
        else "the user's own systemd does not answer for {0}: loginctl enable-linger starts it at boot".format(unit)
        for unit, state in sorted(states.items())
        if state != "loaded"
    ]


def _of_systemctl(words: List[str]) -> Tuple[List[str], List[str]]:
    """Return the options of systemctl that say whose systemd is meant, and all words that are no options."""
    whose, rest, left = ["--user"], [], list(words)  # type: List[str], List[str], List[str]
    while left:
        word = left.pop(0)
        option = [word] + (left[:1] if word in _WITH_VALUE else [])
        del left[: len(option) - 1]
        if not word.startswith("-"):
            rest.append(word)
        elif word.startswith(_OF_OTHERS):
            whose += option
    return whose, rest


def _not_loaded(name: str, unit: Dict[str, str]) -> str:
    return "its service {0} is {1}".format(name, unit.get("LoadState") or "unknown")


def unit_of(name: str, run: Run, whose: Iterable[str] = ()) -> Dict[str, str]:
    """Return what systemd says of a unit; its ``EnvironmentFiles`` a line each.

    :param whose: the options of systemctl that say whose systemd is asked.
    """
    wanted = "Id,Names,LoadState,ActiveState,SubState,CanStart,NeedDaemonReload,Type,RemainAfterExit,EnvironmentFiles"
    asked = ["systemctl"] + list(whose) + ["show", "--property=" + wanted, "--", name]
    found = {"EnvironmentFiles": ""}
    for line in run(asked, listen=True)[1].splitlines():
        key, _equals, value = line.partition("=")
        if key == "EnvironmentFiles":
            value = "\n".join(filter(None, (found[key], re.sub(r" \(ignore_errors=\w+\)$", "", value))))
        found[key] = value
    return found


def units_of(services: List[Service], run: Run) -> Set[str]:
    """Return the names of the units of services: by an alias no process is known."""
    found = {name if name.endswith(".service") else name + ".service" for name in (each["name"] for each in services)}
    with suppress(TookTooLong, OSError):
        for service in services if manager() == "systemctl" else ():
            unit = unit_of(service["name"], run)
            found.update([unit.get("Id", "")] + unit.get("Names", "").split())
    return found - {""}


def _knows(program: str, name: str, run: Run) -> bool:
    if program == "rc-service":
        return run([_which(program), "--exists", name])[0] == 0
    of_runit = ["/etc/service", "/service", "/var/service", "/etc/runit/runsvdir/default"]
    folders = of_runit if program == "sv" else ["/etc/init.d", "/etc/rc.d", "/usr/local/etc/rc.d"]
    return any(os.path.exists(os.path.join(folder, name)) for folder in folders)


# --- after it -------------------------------------------------------------------------------------


def restart(
    services: List[Service],
    commands: List[Command],
    run: Run,
    noted: Optional[List[str]] = None,
    may_lack: bool = False,
) -> Tuple[bool, List[str]]:
    """Make the consumer use the key: services first, then commands, these up to the first that fails.

    A service that was stopped on purpose is left alone, and so is one that only runs now and then. One that fails does
    not keep the others from the key: the old one is revoked.

    :param noted: the services that ran when the record was opened; None: that is not known.
    :param may_lack: a unit that systemd does not have yet is left alone, too.
    :return: whether anything was restarted or run, and the services that were left alone.
    :raises StepFailed: ``restart_failed``; it names all that failed.
    """
    program, left, failures = manager(), [], []  # type: str, List[str], List[StepFailed]
    for service in services:
        try:
            if not _restart(service, program, run, noted, may_lack):
                left.append(service["name"])
        except StepFailed as failed:
            failures.append(failed)
        except TookTooLong:
            failures.append(_silent(program))
            break  # it would be waited for again for each of them
    try:
        for command in commands:
            _run("restart_failed", "the command {0} failed".format(command[0]), command, run)
    except StepFailed as failed:
        failures.append(failed)
    _refuse(failures)
    return len(left) < len(services) or bool(commands), left


def _restart(service: Service, program: str, run: Run, noted: Optional[List[str]], may_lack: bool) -> bool:
    """Restart a service; False: it is left alone."""
    name = service["name"]
    if not program:
        raise StepFailed("restart_failed", "this host has no program for services: use multicart_deploy_commands")
    wanted = name in (noted or ())
    if program == "systemctl":
        unit = unit_of(name, run)
        if unit.get("LoadState", "loaded") != "loaded":
            if may_lack:
                return False
            raise StepFailed("restart_failed", _not_loaded(name, unit))
        if _only_runs_now_and_then(unit) or not (wanted or _is_active(unit)):
            return False
        _prepare_unit(name, unit, run)
    elif not (wanted or _is_wanted(program, name, run)):
        return False
    elif program == "rc-service" and _has_ended(name):
        run([_which(program), name, "zap"])  # it would fail to stop it
    failure = "the service {0} could not be {1}".format(name, service["state"])
    _run("restart_failed", failure, _asked(program, service["state"], name), run)
    return True


def _refuse(failures: List[StepFailed]) -> None:
    """Raise what has failed, all of it in one."""
    if failures:
        raise StepFailed(failures[0].reason, ", ".join(dict.fromkeys(map(str, failures))))


def refuse_ended(services: List[Service], run: Run) -> None:
    """Make sure that services still run shortly after their restart: managers count a start as done before that.

    :raises StepFailed: ``restart_failed``.
    """
    program = manager()
    if program not in ("systemctl", "rc-service", "sv") or not services:
        return  # many a script of the general one knows no status
    time.sleep(SETTLING)
    try:
        ended = [_ended(program, service["name"], run) for service in services]
    except TookTooLong:
        ended = [_silent(program)]
    _refuse([failed for failed in ended if failed])


def _silent(program: str) -> StepFailed:
    return StepFailed("restart_failed", "its {0} does not answer".format(program))


def _ended(program: str, name: str, run: Run) -> Optional[StepFailed]:
    if program == "systemctl":
        unit = unit_of(name, run)
        runs = unit.get("ActiveState") in ("active", "reloading")
        state = "{0} ({1})".format(unit.get("ActiveState"), unit.get("SubState"))
    else:
        runs, state = _runs(program, name, run), "not running"
    if runs:
        return None
    return StepFailed("restart_failed", "the service {0} was restarted and is {1} now".format(name, state))


def _is_wanted(program: str, name: str, run: Run) -> bool:
    """Tell whether a service runs, or is meant to: one that has failed does not count as stopped."""
    if program == "systemctl":
        unit = unit_of(name, run)
        return _is_active(unit) and not _only_runs_now_and_then(unit)
    if not program:
        return True
    if program == "sv":
        said = run(_asked(program, "status", name), listen=True)[1].partition(";")[0]  # then of its log
        return said.startswith("run:") or "want up" in said
    return run(_asked(program, "status", name))[0] != _STOPPED


def _runs(program: str, name: str, run: Run) -> bool:
    """Tell whether a service has run since it was restarted, by its manager."""
    code, printed = run(_asked(program, "status", name), listen=True)
    if program == "sv":  # which says so in words alone; for 0 s runs what was started once more because it had ended
        return re.match(r"run: [^;]*\(pid \d+\) [1-9]", printed) is not None
    return code == 0 and not (program == "rc-service" and _has_ended(name))


def _has_ended(name: str) -> bool:
    """Tell whether what OpenRC has started is gone; with Debian's start-stop-daemon it does not see that itself."""
    try:
        with open(os.path.join(OPENRC, name, "pidfile")) as note, open(note.read().strip()) as file:
            return not os.path.exists("/proc/{0}".format(int(file.read())))
    except (OSError, ValueError):
        return False  # that is not known


def _asked(program: str, what: str, name: str) -> Command:
    """Return the command by which a manager is asked for a state of a service, or for its ``status``."""
    return [_which(program) or program] + [word.format(name) for word in _MANAGERS[program][what].split()]


def runs_now_and_then(name: str, run: Run) -> bool:
    """Tell whether a unit of systemd only runs for a moment now and then, so that nothing has to be restarted."""
    with suppress(TookTooLong, OSError):
        return _only_runs_now_and_then(unit_of(name, run))
    return False


def _is_active(unit: Dict[str, str]) -> bool:
    return unit.get("ActiveState") != "inactive"


def _only_runs_now_and_then(unit: Dict[str, str]) -> bool:
    return unit.get("Type") == "oneshot" and unit.get("RemainAfterExit") == "no"


def _prepare_unit(name: str, unit: Dict[str, str], run: Run) -> None:
    if unit.get("NeedDaemonReload") == "yes":
        _run("restart_failed", "systemctl daemon-reload failed", ["systemctl", "daemon-reload"], run)
    if unit.get("ActiveState") == "failed":
        run(["systemctl", "reset-failed", "--", name])


def check_health(commands: List[Command], retries: int, delay: float, run: Run) -> None:
    """Run every command until it succeeds; one that hangs is not tried again.

    :param retries: how often one that failed is tried again.
    :param delay: seconds between two tries.
    :raises StepFailed: ``unhealthy``.
    """
    for command in commands:
        for left in range(retries, -1, -1):
            try:
                _run("unhealthy", "the health check {0} failed".format(command[0]), command, run)
                break
            except StepFailed as failed:
                if failed.hung or not left:
                    raise
                time.sleep(delay)


def _run(reason: str, failure: str, command: Command, run: Run) -> None:
    # What a command prints may hold a key, in a form that nobody can predict: only its exit code is reported.
    why, hung = None, False
    try:
        code = run(command)[0]
        if code:
            why = "exit code {0}; run it on the host to see why".format(code)
    except OSError as error:
        why = os.strerror(error.errno or 0)
    except TookTooLong as error:
        hung = True
        why = "stopped after {0:g} s; multicart_deploy_timeout says how long it may take".format(*error.args)
    if why:
        raise StepFailed(reason, "{0} ({1})".format(failure, why), hung)


def expanded(name: str) -> str:
    """Return a word of a command, or a path, with ``~`` and ``$NAME`` expanded."""
    return os.path.expanduser(os.path.expandvars(name))


def _which(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath)] + list(_MORE_PATH))
    return shutil.which(name, path=path) or ""
