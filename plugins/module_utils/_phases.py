# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The host's side of a host session: requests come in as lines of JSON, answers go out likewise, until the input ends.

The control node starts this program, without a key, and speaks to it over its standard input: `inspect`, `prepare`,
`ping`, `deploy` (which alone contains the key), `close`, `conclude`. Each request holds all that it needs, so a program
that was started for one of them does the same as one that has served the others before.

The program leaves the host unchanged when its input ends, or when a request does not come in time or was meant for an
earlier time: so a key that was sent to a host which hung, and comes back after the run has ended, is never written.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from ansible_collections.multicart.keys.plugins.module_utils import _processes as processes
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils import _services as services
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError
from ansible_collections.multicart.keys.plugins.module_utils._key_file import (
    KeyFile,
    ReadersAlone,
    Unusable,
    read_record,
    readers_of,
)
from ansible_collections.multicart.keys.plugins.module_utils._services import expanded

Request = Dict[str, Any]
"""``phase``, ``tag``, ``wait`` (seconds in which the next request must be here), ``limit`` (seconds in which the answer
must be), and the fields of `FIELDS`."""
Answer = Dict[str, Any]
Foreign = Tuple[str, str, record.Record]
"""A file that is said to be of another account, and its record: the path of each, and what that says."""
Tell = Callable[[str], None]
"""Sends an event ahead of the answer."""

FIELDS = {
    "expires": None,
    "files": [],
    "foreign": [],
    "state_dir": None,
    "services": [],
    "commands": [],
    "health": [],
    "timeout": 300.0,
    "retries": 0,
    "delay": 1.0,
    "environment": [],
    "ignore_processes": [],
    "live": None,
    "live_shape": None,
    "account": None,
    "check_mode": False,
    "retire": None,
    "key": None,
    "since": None,
    "retires": None,
    "stores_behind": False,
    "seen": None,
}  # type: Request
"""What a request may hold besides, and what it is where it does not. ``expires`` is a time of this host's own clock, as
its answers tell it (``at``)."""

ATTEMPTS = 5
"""How often a file is read again that another run changed at the same moment."""

PATIENCE = 10.0
"""Seconds for which a record is read again that other hosts, which share it, change at the same moment."""

ASKING = 20.0
"""Seconds in which the host's service manager must answer a question."""

CREDENTIALS = ("MULTICART_SESSION_TOKEN", "MULTICART_EMAIL", "MULTICART_PASSWORD", "MULTICART_API_KEY")
"""What the control node has in its environment, and with it every consumer that is the control node itself."""

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def serve(source: Any, sink: Any, answer: Optional[Callable[[Request, Tell], Answer]] = None) -> None:
    """Answer requests until the input ends.

    :param source: binary file with a request a line.
    :param sink: binary file for the answers, each a line that begins with the request's ``tag``.
    :param answer: who answers them, in place of this host: the stores do.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process wherever it waits
    wait = 60.0
    while True:
        line = _line_in_time(source, wait)
        if not line.endswith(b"\n"):
            return  # the end, or a request that was cut short
        request = dict(FIELDS, **json.loads(line.decode("ascii")))
        if request["expires"] is not None and _now() > request["expires"]:
            return  # nobody waits for the answer any more
        wait = request["wait"]

        def send(said: Answer, tag: str = request["tag"]) -> None:
            # The listener may be gone; what was begun is finished all the same.
            with suppress(OSError, ValueError):
                sink.write("{0} {1}\n".format(tag, json.dumps(dict(said, at=_now()))).encode("ascii"))
                sink.flush()

        send((answer or answer_to)(request, lambda event: send({"event": event})))


def _line_in_time(source: Any, seconds: float) -> bytes:
    began = _now()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    line = source.readline()
    signal.setitimer(signal.ITIMER_REAL, 0)
    # A machine that was suspended meanwhile has not counted that time.
    return line if _now() - began <= seconds else b""


def _now() -> float:
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def answer_to(request: Request, tell: Tell) -> Answer:
    """Do what a request asks for; whatever goes wrong is in the answer, and nothing of an unexpected error's text."""
    try:
        return _PHASES[request["phase"]](request, tell)
    except Exception as error:  # pylint: disable=broad-except
        place = sys.exc_info()[2]
        while place.tb_next is not None:  # type: ignore[union-attr]
            place = place.tb_next  # type: ignore[union-attr]
        where = "{0}:{1}".format(place.tb_frame.f_code.co_name, place.tb_lineno)  # type: ignore[union-attr]
        return _failed("internal_error", "unexpected {0} at {1}".format(type(error).__name__, where))


def _inspect(request: Request, _tell: Tell) -> Answer:
    """Find out what the files hold, whether they can be written, and what the host lacks; change nothing."""

    def inspect(file: KeyFile) -> None:
        file.find_changes()
        if file.problem is not None:
            raise file.problem

    files = _each_file(request, inspect)["files"]  # each tells its own problem
    _forget_environment(request)
    run = services.runner(min(request["timeout"], ASKING))
    paths = [expanded(entry["path"]) for entry in request["files"]]
    lacking = services.lacking(request["services"], request["commands"] + request["health"], paths, run)
    known = {key for file in files for key in file["holds"]} | _retired(files)
    foreign = list(_foreign(request))
    keys = {request["live"]} | (known - _of_other_accounts(request, foreign))
    return dict(_scanned(request, keys, run), files=files, lacking=lacking + _misnamed(request, foreign))


def _retired(files: List[Dict[str, Any]]) -> Set[str]:
    """Return the keys that are known to be retired, by the records of the files, which hold others now."""
    known = {entry["key"] for file in files if file["record"] for entry in file["record"]["retired"]}
    return known - {key for file in files for key in file["holds"]}


def _of_other_accounts(request: Request, foreign: Iterable[Foreign]) -> Set[str]:
    """Return the keys that files of other accounts were given: the processes of those hold them rightly.

    One is found in a file of this account, too, if that was made by copying.
    """
    return {kept["held"] for _path, _place, kept in foreign if record.is_of_other(kept, request["account"])}


def _misnamed(request: Request, foreign: Iterable[Foreign]) -> List[str]:
    """Return which files are of this account, by their records, though they are said to be of another."""
    return [
        "path {0} has a key of this account, by its record {1}, but its entry names another account and would not get "
        "the new key: name this account there, or, if the file is the other's, remove that record".format(path, place)
        for path, place, kept in foreign
        if request["account"] and kept["account"] == request["account"]
    ]


def _foreign(request: Request) -> Iterator[Foreign]:
    """Yield what there is of files that are said to be of other accounts."""
    for path, variable in request["foreign"]:
        with suppress(HostFileError):
            place = record.path_of(expanded(path), variable, _state_dir(request))
            _content, kept = read_record(place)
            if kept is not None:
                yield path, place, kept


def _scanned(request: Request, keys: Set[Any], run: services.Run) -> Dict[str, Any]:
    """Return the processes that hold one of these keys, and whether there are some that cannot be read."""
    hits, hidden = processes.scan(filter(None, keys), request["ignore_processes"])
    units = services.units_of(request["services"], run) if hits else set()
    return {"processes": [_told(request, hit, units, run) for hit in hits], "hidden": hidden}


def _told(request: Request, hit: processes.Hit, units: Set[str], run: services.Run) -> Dict[str, Any]:
    """Return what is reported of a process: whether it gets restarted, and whether it is to blame for what it holds.

    :param units: those that are configured.
    """
    unit, place = hit["unit"], hit["place"]
    configured = place == processes.SERVICE and unit in units
    passing = place in (processes.SESSION, processes.SCHEDULED) or (
        place == processes.SERVICE and services.runs_now_and_then(unit, run)
    )
    # Only systemd tells which processes are those of a service.
    unknown = place == processes.NOWHERE and bool(request["services"]) and services.manager() != "systemctl"
    covered = configured or passing or unknown or place == processes.CONTAINER or bool(request["commands"])
    told = {name: hit[name] for name in ("key", "pid", "command")}
    return dict(told, where=processes.WORDS[place].format(unit), uncovered=not covered, blamed=not passing)


def _prepare(request: Request, _tell: Tell) -> Answer:
    """Open the records for a rotation, and find out once more that the files can be written."""
    return _each_file(request, lambda file: file.open(request["retire"]))


def _ping(_request: Request, _tell: Tell) -> Answer:
    return {}


def _deploy(request: Request, tell: Tell) -> Answer:
    """Write the key, restart those who may run with another one, and check their health."""
    key, had_key = ApiKey(request["key"]), []  # type: ApiKey, List[bool]

    def write(file: KeyFile) -> None:
        had_key.append(bool(file.held) or file.unknown or isinstance(file, ReadersAlone))
        if file.inspected is not None:
            file.refuse_changed(file.inspected)
        file.write(key, request["since"], request["retires"])

    answer = _each_file(request, write)
    answer.update(left=[], steps_done=False)
    # What was inspected and has changed is asked about once more; a rotation asks only once.
    again = any(entry.get("inspected") is not None for entry in request["files"])
    again = again and any(problem["reason"] == "changed_meanwhile" for problem in answer["problems"])
    if request["check_mode"] or again or not any(file["holds"] == [key.fingerprint] for file in answer["files"]):
        return answer
    # Where a file could not be written, the readers of the others need the key all the same.
    tell("write_failed" if answer["problems"] else "written")
    _forget_environment(request)
    run = services.runner(request["timeout"])
    try:
        if any(file["restart_due"] for file in answer["files"]):
            # What is to read a first key may be installed after it.
            _restart(request, answer, run, tell, may_lack=not any(had_key))
        _check_health(request, answer, run, tell)
        _look_at_processes(request, answer, run, tell)
        if request["stores_behind"]:
            raise services.StepFailed("stores_behind", "a store did not have the key yet when this was restarted")
        answer["steps_done"] = True
    except services.StepFailed as error:
        answer["problems"].append({"reason": error.reason, "text": str(error)})
    return answer


def _restart(request: Request, answer: Answer, run: services.Run, tell: Tell, may_lack: bool) -> None:
    kept = [file["record"] for file in answer["files"] if file["record"]]
    ran = [name for each in kept for name in record.to_be_running(each, readers_of(request))]
    answer["processes"] = []  # those that were inspected need not be there any more, even if something fails
    restarted, answer["left"] = services.restart(request["services"], request["commands"], run, ran, may_lack)
    if restarted:
        answer["changed"] = True
        tell("restarted")
    services.refuse_ended([each for each in request["services"] if each["name"] not in answer["left"]], run)


def _check_health(request: Request, answer: Answer, run: services.Run, tell: Tell) -> None:
    # What was stopped on purpose cannot show its health.
    if request["health"] and (len(answer["left"]) < len(request["services"]) or not request["services"]):
        services.check_health(request["health"], request["retries"], request["delay"], run)
        tell("healthy")


def _look_at_processes(request: Request, answer: Answer, run: services.Run, tell: Tell) -> None:
    """Find the processes that still hold a key which is retired; a configured unit is restarted once more for it.

    :raises StepFailed: ``process_out_of_date``.
    """
    former = {key for file in answer["files"] for key in file["held"]} - {request["live"]}
    retired = (_retired(answer["files"]) | former) - _of_other_accounts(request, _foreign(request))
    again = None  # type: Optional[Set[str]]
    deadline = time.monotonic() + request["retries"] * request["delay"]
    while retired:
        answer.update(_scanned(request, retired, run))
        blamed = {hit["where"]: hit for hit in answer["processes"] if hit["blamed"]}
        if not blamed:
            return
        again = services.units_of(request["services"], run) if again is None else again
        due = [unit for unit in sorted(again) if processes.WORDS[processes.SERVICE].format(unit) in blamed]
        if due:
            again.difference_update(due)
            units = [{"name": unit, "state": "restarted"} for unit in due]
            services.restart(units, [], run)
            answer.update(processes=[], changed=True)
            tell("restarted")
            # Before that, what was just started may not have its key yet, and does not seem to have an old one.
            services.refuse_ended(units, run)
            _check_health(request, answer, run, tell)
        elif time.monotonic() < deadline:
            time.sleep(0.2)
        else:
            hit = blamed[sorted(blamed)[0]]
            text = "{command} (process {pid}, {where}) still holds the retired key {key}".format(**hit)
            raise services.StepFailed("process_out_of_date", text)


def _close(request: Request, _tell: Tell) -> Answer:
    """Note beside each file that holds the live key that its readers use it."""
    return _each_file(request, lambda file: file.close())


def _conclude(request: Request, _tell: Tell) -> Answer:
    """Note that the verdict of the rotation was given."""
    return _each_file(request, lambda file: file.conclude(request["seen"]))


_PHASES = {
    "inspect": _inspect,
    "prepare": _prepare,
    "ping": _ping,
    "deploy": _deploy,
    "close": _close,
    "conclude": _conclude,
}


def _each_file(request: Request, act: Callable[[KeyFile], None]) -> Answer:
    """Do something with all files; one that fails does not keep the others from theirs."""
    done = [_one_file(request, act, entry) for entry in request["files"]]
    return {
        "files": [file.describe() for file, _problems in done],
        "changed": any(file.changed for file, _problems in done),
        "problems": [problem for _file, problems in done for problem in problems],
    }


def _one_file(
    request: Request, act: Callable[[KeyFile], None], entry: Dict[str, Any]
) -> Tuple[KeyFile, List[Dict[str, str]]]:
    """Do something with one file; return how it is then, and what was wrong."""
    path = expanded(entry["path"])
    # Also those that reach it by another path, through a link.
    same = [each for each in request["files"] if os.path.realpath(expanded(each["path"])) == os.path.realpath(path)]
    beside = [each["variable"] for each in same if each["variable"]]
    more = {"state_dir": _state_dir(request), "running": lambda: _running(request)}
    kind = ReadersAlone if entry.get("format") == "none" else KeyFile
    before, attempts, deadline = None, 1, time.monotonic() + PATIENCE  # type: Optional[KeyFile], int, float
    while True:
        file = kind(dict(entry, path=path, beside=beside), dict(request, **more))
        if before is not None and before.changed:
            file.changed, file.held = True, before.held
        try:
            act(file)
            return file, []
        except NotAKey as error:
            return file, [{"reason": "malformed_key", "text": file.explain(error)}]
        except Unusable as error:
            # Another file that was inspected stays as it is then: the control node decides again.
            of_record = isinstance(error, HostFileError) and error.path == file.record_path
            again = time.monotonic() < deadline if of_record else file.inspected is None and attempts < ATTEMPTS
            if error.reason != "changed_meanwhile" or not again:
                return file, [{"reason": error.reason, "text": file.explain(error)}]
            attempts += not of_record
        before = file
        time.sleep(random.uniform(0, 0.05))


def _state_dir(request: Request) -> Optional[str]:
    return request["state_dir"] and expanded(request["state_dir"])


def _running(request: Request) -> List[str]:
    return services.running(request["services"], services.runner(min(request["timeout"], ASKING)))


def _failed(reason: str, text: str) -> Answer:
    return {"files": [], "changed": False, "lacking": [], "problems": [{"reason": reason, "text": text}]}


def _forget_environment(request: Request) -> None:
    """Keep credentials, and the key of before, from what is started: many readers prefer them to their file."""
    for name in CREDENTIALS + tuple(request["environment"]):
        os.environ.pop(name, None)
