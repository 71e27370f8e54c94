# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What consumers hold and how they stand, as types; what a host answers is read into them, and nothing else of it.

Keys appear only as fingerprints. A host's answer is believed of that host alone: one of another form than expected is
an error of that host. No HTTP, no Ansible, no I/O.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils import _record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import is_fingerprint
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import clean
from ansible_collections.multicart.keys.plugins.plugin_utils._times import parse_time

MOST_FILES = 1000
"""Files, problems and the like that an answer may list."""

_REASON = re.compile(r"[a-z_]{1,40}\Z")


class MalformedAnswer(ValueError):
    """A host's answer has another form than one may have; the text says where, and holds nothing of it."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a consumer: a stable reason, and a sentence without its full stop."""

    reason: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.rstrip("."))


def described(problems: Iterable[Problem]) -> str:
    """Return what is wrong in one sentence, without its full stop."""
    return ", ".join(problem.text for problem in problems)


@dataclass(frozen=True)
class Retired:
    """A key that was retired: what was seen of it, when, and whether its replacement was accepted and read back."""

    key: str
    seen: str
    at: datetime | None
    accepted: bool


@dataclass(frozen=True)
class Record:
    """The record of one file; see :mod:`_record`.

    :ivar retire: the key that the last rotation here retires; None: no rotation has been here.
    :ivar concluded: the verdict of that rotation was given.
    :ivar moved_account: that rotation changed the account's ``updated_at``.
    """

    open: bool = False
    retire: str | None = None
    concluded: bool = False
    held: str | None = None
    since: datetime | None = None
    retired: tuple[Retired, ...] = ()
    moved_account: bool = False


@dataclass(frozen=True)
class File:
    """What one file holds.

    :ivar holds: fingerprints of the keys in it; empty: none.
    :ivar held: those that it had before this run wrote it.
    :ivar unknown: it may hold a key that cannot be identified (a template's file that was changed by hand).
    :ivar recorded: it is a store that nobody can read: what it holds is known by its record alone.
    :ivar outdated: its template makes another content of the same key by now.
    :ivar restart_due: its readers may still run with another key than the one in it.
    :ivar problem: why it cannot be written; None: it can.
    :ivar notes: what is worth telling of it, and keeps nothing from being done.
    """

    path: str
    variable: str | None = None
    holds: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    unknown: bool = False
    recorded: bool = False
    restart_due: bool = False
    changed: bool = False
    outdated: bool = False
    problem: Problem | None = None
    record: Record | None = None
    notes: tuple[str, ...] = ()

    def what_is_wrong(self, live: str) -> str | None:
        """Return why it is not up to date; None: it holds the live key."""
        others = sorted({*self.holds} - {live})
        if others:
            return f"the key {', '.join(others)} in {self.path}"
        if self.unknown:
            known = self.record is not None and self.record.held is not None
            return f"{self.path} was {'changed by hand' if known else 'not written by this collection'}"
        return None if self.holds else f"{self.path} holds no key"

    @property
    def own_record(self) -> Record | None:
        """Its record, unless that is another account's."""
        foreign = self.problem is not None and self.problem.reason == _record.OtherAccount.reason
        return None if foreign else self.record


@dataclass(frozen=True)
class Process:
    """A process that holds a key in its environment.

    :ivar key: the key, by fingerprint.
    :ivar where: what it belongs to, in words.
    :ivar uncovered: nothing that is configured restarts it.
    :ivar blamed: it must not hold a retired key; a login or a passing job may.
    """

    key: str
    pid: int
    command: str
    where: str
    uncovered: bool
    blamed: bool

    @property
    def words(self) -> str:
        return f"{self.command} (process {self.pid}, {self.where})"


@dataclass(frozen=True)
class Inspection:
    """What an inspection found on a host.

    :ivar lacking: what its services and commands need and it does not have.
    :ivar hidden: there are processes that could not be read.
    """

    files: tuple[File, ...] = ()
    lacking: tuple[Problem, ...] = ()
    processes: tuple[Process, ...] = ()
    hidden: bool = False

    @property
    def stale(self) -> list[Process]:
        """The processes that must not hold what they hold: a key that this host's records list as retired."""
        retired = {entry.key for file in self.files if file.record for entry in file.record.retired}
        held = {key for file in self.files for key in file.holds}
        return [each for each in self.processes if each.blamed and each.key in retired - held]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why it is not ready to be written, all of it."""
        return (*(file.problem for file in self.files if file.problem), *self.lacking)


class State(str, enum.Enum):
    """How a consumer stands against the live key."""

    UP_TO_DATE = "up_to_date"
    RESTART_DUE = "restart_due"
    PROCESS_OUT_OF_DATE = "process_out_of_date"
    OUT_OF_DATE = "out_of_date"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    UNREACHABLE = "unreachable"

    @property
    def words(self) -> str:
        return self.value.replace("_", " ")


UNKNOWN = "unknown"
"""What is shown in place of a state where it is not known which key is live."""


def in_words(state: str, why: str | None) -> str:
    """Return a state and its reason, without what that says of the state once more."""
    more = re.sub(rf"\Ait is {state}(?: \(([^)]*)\))?", r"\1", why or "").removeprefix("; ")
    return f"{state}: {more}" if more else state


@dataclass(frozen=True)
class Standing:
    """The state of a consumer, and why, where there is more to say."""

    state: State
    why: str | None = None

    @property
    def words(self) -> str:
        return in_words(self.state.words, self.why)

    @property
    def sentence(self) -> str:
        """The same of a consumer that is not named, without the full stop."""
        of_what_it_has = self.state in (State.RESTART_DUE, State.PROCESS_OUT_OF_DATE, State.MISSING)
        return self.words[0].upper() + self.words[1:] if of_what_it_has else f"It is {self.words}"


@dataclass(frozen=True)
class Consumer:
    """A host that uses the key, as it was found last.

    :ivar inspection: None: it could not be inspected, see ``failure``.
    :ivar failure: what has failed there; None: nothing has.
    :ivar reached: whether there was a connection at all.
    """

    name: str
    inspection: Inspection | None = None
    failure: Problem | None = None
    reached: bool = True

    @property
    def files(self) -> tuple[File, ...]:
        return self.inspection.files if self.inspection else ()

    @property
    def processes(self) -> tuple[Process, ...]:
        return self.inspection.processes if self.inspection else ()

    @property
    def records(self) -> list[Record]:
        return [file.own_record for file in self.files if file.own_record]

    @property
    def holds_key(self) -> bool:
        return any(file.holds or file.unknown for file in self.files)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong with it: why it is not ready, or not done."""
        found = self.inspection.problems if self.inspection else ()
        if self.failure is None:
            return found
        # What was found by the inspection is often why the write has failed.
        return (self.failure, *(problem for problem in found if problem.text not in self.failure.text))

    @property
    def what_is_wrong(self) -> str:
        """The same in one sentence, without its full stop."""
        return described(self.problems)

    def standing(self, live: str) -> Standing:
        """Return how the consumer stands against the live key."""
        why = self.what_is_wrong or None
        state = self._state(live)
        if state is State.PROCESS_OUT_OF_DATE and self.inspection is not None and why is None:
            why = ", ".join(f"{process.words} holds the retired key {process.key}" for process in self.inspection.stale)
        if state in (State.OUT_OF_DATE, State.MISSING) and why is None:
            why = ", ".join(filter(None, [file.what_is_wrong(live) for file in self.files])) or None
        return Standing(state, why)

    def _state(self, live: str) -> State:
        if not self.reached:
            return State.UNREACHABLE
        if self.inspection is None or any(file.problem and not file.holds for file in self.files):
            return State.UNREADABLE
        if any(file.unknown or set(file.holds) - {live} for file in self.files):
            return State.OUT_OF_DATE
        if not self.files or any(not file.holds for file in self.files):
            return State.MISSING
        if self.inspection.stale:
            return State.PROCESS_OUT_OF_DATE
        # It holds the key; what has failed keeps its readers from it.
        if self.failure is not None or any(file.restart_due for file in self.files):
            return State.RESTART_DUE
        return State.UP_TO_DATE


# --- answers of hosts -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a host answered to one request.

    :ivar lacking: what a rotation needs and the host has not; None: that was not inspected.
    :ivar processes: those that hold a key; None: likewise.
    :ivar left: services that were stopped on purpose, and left alone.
    :ivar steps_done: what was to be restarted and checked was, and went well.
    :ivar moments: when each event happened, by this machine's ``time.monotonic()``.
    """

    files: tuple[File, ...] = ()
    changed: bool = False
    problems: tuple[Problem, ...] = ()
    lacking: tuple[Problem, ...] | None = None
    processes: tuple[Process, ...] | None = None
    hidden: bool = False
    left: tuple[str, ...] = ()
    steps_done: bool = False
    moments: Mapping[str, float] = field(default_factory=dict)


EVENTS = ("written", "restarted", "healthy")
"""What a host tells while it deploys, in order."""


def answer_from(said: Any, moments: Mapping[str, float], expected: Sequence[tuple[str, str | None]]) -> Answer:
    """Read a host's answer.

    :param expected: path and variable of each file that it was asked about.
    :raises MalformedAnswer: it has another form.
    """
    if not isinstance(said, dict):
        raise MalformedAnswer("it is not a mapping")
    files = _list(said, "files")
    problems = tuple(_problem_from(entry) for entry in _list(said, "problems"))
    # One that has failed as a whole lists none.
    if len(files) != len(expected) and (files or not problems):
        raise MalformedAnswer("it lists other files than it was asked about")
    return Answer(
        # Under the names that it was asked about: a host does not choose what is written of it in a report.
        files=tuple(_file_from(entry, *names) for entry, names in zip(files, expected, strict=False)),
        changed=_flag(said, "changed"),
        problems=problems,
        lacking=tuple(Problem("not_ready", _text(text)) for text in _list(said, "lacking"))
        if "lacking" in said
        else None,
        processes=tuple(map(_process_from, _list(said, "processes"))) if "processes" in said else None,
        hidden=_flag(said, "hidden"),
        left=tuple(_text(name) for name in _list(said, "left")),
        steps_done=_flag(said, "steps_done"),
        moments={event: moment for event, moment in moments.items() if event in EVENTS},
    )


def _file_from(said: Any, path: str, variable: str | None) -> File:
    if not isinstance(said, dict):
        raise MalformedAnswer("a file is not a mapping")
    record = said.get("record")
    problem = said.get("problem")
    return File(
        path=path,
        variable=variable,
        holds=_fingerprints(said, "holds"),
        held=_fingerprints(said, "held"),
        unknown=_flag(said, "unknown"),
        recorded=_flag(said, "recorded"),
        restart_due=_flag(said, "restart_due"),
        changed=_flag(said, "changed"),
        outdated=_flag(said, "outdated"),
        problem=None if problem is None else _problem_from(problem),
        record=None if record is None else record_from(record),
        notes=tuple(map(_text, _list(said, "notes"))),
    )


def record_from(said: Any) -> Record:
    """Read a record.

    :raises MalformedAnswer: it is none.
    """
    kept = _record.checked(said)
    if kept is None:
        raise MalformedAnswer("a record is malformed")
    rotation, updated_at = kept["rotation"], kept["updated_at"]
    return Record(
        open=kept["open"],
        retire=rotation and rotation["retire"],
        concluded=bool(rotation and rotation["concluded"]),
        held=kept["held"],
        since=parse_time(kept["since"]),
        retired=tuple(
            Retired(entry["key"], entry["seen"], parse_time(entry["at"]), entry["accepted"])
            for entry in kept["retired"]
        ),
        moved_account=bool(updated_at and None not in updated_at and updated_at[0] != updated_at[1]),
    )


def _problem_from(said: Any) -> Problem:
    if not isinstance(said, dict) or not isinstance(said.get("reason"), str) or not _REASON.match(said["reason"]):
        raise MalformedAnswer("a problem has no reason")
    return Problem(said["reason"], _text(said.get("text")))


def _process_from(said: Any) -> Process:
    pid = said.get("pid") if isinstance(said, dict) else None
    if not isinstance(pid, int) or isinstance(pid, bool) or not is_fingerprint(said.get("key")):
        raise MalformedAnswer("a process is malformed")
    command, where = _text(said.get("command")), _text(said.get("where"))
    return Process(said["key"], said["pid"], command, where, _flag(said, "uncovered"), _flag(said, "blamed"))


def _text(said: Any) -> str:
    """Return a text of a host, fit to be shown: one line, no control characters, not endless."""
    if not isinstance(said, str):
        raise MalformedAnswer("a text is not a string")
    return clean(said)


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    value = said.get(name, [])
    if not isinstance(value, list) or len(value) > MOST_FILES:
        raise MalformedAnswer(f"{name} is not a list")
    return value


def _flag(said: Mapping[str, Any], name: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise MalformedAnswer(f"{name} is neither true nor false")
    return value


def _fingerprints(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = _list(said, name)
    if not all(is_fingerprint(value) for value in found):
        raise MalformedAnswer(f"{name} lists something other than fingerprints")
    return tuple(found)
