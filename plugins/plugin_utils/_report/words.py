# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The report in words: how the run ended, what is wrong where, what was checked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, in_words
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import (
    HOST,
    NOT_NEEDED,
    STORE,
    Group,
    Line,
    Report,
)

NAMED = 80
"""Up to so many consumers of a section, each is shown by its name at once."""

FEW = 20
"""So many names, or processes, are listed of those that have the same to tell."""

PLACES = 3
"""So many files of a consumer are listed."""


def is_known(report: Report) -> bool:
    """Tell whether it is known which key is live."""
    return not any(line.state == UNKNOWN for line in report.lines)


def _counted(number: int, noun: str, several: str | None = None) -> str:
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def seconds(value: float | None) -> str:
    """Return a duration as people read it."""
    if value is None:
        return "–"
    if abs(value) < 120:
        return f"{value:.1f} s" if abs(value) >= 10 else f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def moment(line: Line, event: str) -> str:
    """Return when an event happened: relative to the rotation, or by the clock where there was none."""
    if event in line.seconds:
        value = round(line.seconds[event], 2)
        return f"{'−' if value < 0 else '+' if value else ''}{seconds(abs(value))}"
    return f"{line.times[event]:%H:%M:%S} UTC" if event in line.times else "–"


def state(line: Line) -> str:
    """Return a consumer's state in words."""
    return line.state.replace("_", " ")


def told(line: Line) -> str:
    """Return a consumer's state, and what is wrong with it."""
    return in_words(state(line), line.why)


def places(line: Line) -> str:
    """Return where a consumer has the key."""
    first = ", ".join(file.path for file in line.files[:PLACES])
    more = f" and {len(line.files) - PLACES} more" if len(line.files) > PLACES else ""
    recorded = ", known by its record alone" if any(file.recorded for file in line.files) else ""
    return f"{first}{more}{recorded}"


def headline(report: Report) -> str:
    """Return in a few words how the run ended."""
    not_rotated = "Not rotated: the old key is still live"
    key = {
        Outcome.ROTATED.value: "Key rotated",
        Outcome.ALREADY_ROTATED.value: "The key had been rotated before",
        Outcome.UNCHANGED.value: not_rotated,
        Outcome.UNKNOWN.value: "Not known whether the key was rotated",
        NOT_NEEDED: {
            Step.ROTATE.value: not_rotated,
            Step.FINISH.value: "The rotation of an earlier run was finished",
            Step.RETIRED.value: "The key had been retired before",
            Step.CATCH_UP.value: "Not rotated",
            Step.OUTSIDE_HOURS.value: "Not rotated at this hour",
        }.get(report.decision.step if report.decision else "", "No rotation was necessary"),
    }[report.outcome]
    total, open_ = len(report.lines), len(report.unfinished)
    if key == not_rotated or report.outcome == Outcome.UNKNOWN.value or not total:
        return f"{key}."
    if open_:
        return f"{key}. {open_} of {_counted(total, 'consumer')} {'is' if open_ == 1 else 'are'} not done."
    return f"{key}. {'The consumer is' if total == 1 else f'All {total} consumers are'} up to date."


def old_key(report: Report) -> tuple[str, str] | None:
    """Return what is known of the old key, in a word and a few more; None: there is no old key."""
    if report.old_key_rejected:
        return "revoked", "the API rejects it"
    refused = report.outcome == NOT_NEEDED and report.decision is not None and report.decision.step == Step.ROTATE.value
    if report.outcome == Outcome.UNCHANGED.value or refused:
        return "live", "nothing was rotated"
    if report.reason == Reason.OLD_KEY_STILL_VALID.value:
        return "still valid", "the API accepts it"
    return ("not known", "not verified by this run") if report.old_key else None


def to_finish(report: Report) -> tuple[str, str | None]:
    """Return how to finish what is not done: a sentence, and the part that can be copied into a terminal."""
    run = "Run" if report.reason == Reason.CAUGHT_UP.value else "Fix what is named, then run"
    command, _space, remark = (report.finish or "").partition(" (")
    if remark:
        return f"{run}, {remark.removesuffix(')')}:", command
    again, _comma, more = command.partition(", and ")
    return (f"{run} {again}, with:", more) if more else (f"{run} {again}.", None)


def day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


# --- consumers that are shown together ------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """Consumers that stand together in the picture and in the tables."""

    title: str
    group: Group

    @property
    def large(self) -> bool:
        """Whether there are too many to show each by its name at once."""
        return len(self.group.lines) > NAMED


def sections(report: Report) -> list[Section]:
    """Return those that are not done, then the others by wave."""
    waves = len(report.waves) > 1
    after = {0: "", 1: ", after the stores"}
    found = [Section("Not done", Group(report.unfinished))] if report.unfinished else []
    for wave, lines in groupby((line for line in report.lines if line.done), lambda line: line.wave):
        title = f"Up to date, wave {wave}{after[wave]}" if waves else "Up to date"
        found.append(Section(title, Group(list(lines), wave)))
    return found


@dataclass(frozen=True)
class Fault:
    """What is wrong with consumers that have the same to tell."""

    told: str
    names: Sequence[str]

    @property
    def first(self) -> Sequence[str]:
        return self.names[:FEW]

    @property
    def rest(self) -> Sequence[str]:
        return self.names[FEW:]


def faults(lines: Iterable[Line]) -> list[Fault]:
    """Return what is wrong with these consumers."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(told(line), []).append(line.name)
    return [Fault(what, names) for what, names in found.items()]


# --- what was checked -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """What was checked; ``good`` is None where that could not be, or there was nothing to check.

    :ivar details: a few more sentences.
    """

    good: bool | None
    text: str
    details: Sequence[str] = ()


def checks(report: Report) -> Iterator[Check]:
    """Return what was checked, and what was not."""
    if report.outcome in (Outcome.ROTATED.value, Outcome.ALREADY_ROTATED.value):
        yield _check_of_keys(report)
    if not report.lines or not is_known(report):
        return
    stores = [line for line in report.lines if line.kind == STORE]
    if stores:
        done = sum(line.done for line in stores)
        recorded = sum(line.done and any(file.recorded for file in line.files) for line in stores)
        how = f"; {recorded} of them by record alone, since nobody can read what is in there" if recorded else ""
        hold = f"{done} of {_counted(len(stores), 'store')} {'holds' if done == 1 else 'hold'} the live key"
        yield Check(done == len(stores), f"{hold}{how}.")
    yield _check_of_health(report.lines)
    yield from _checks_of_processes([line for line in report.lines if line.kind == HOST and line.files])


def _check_of_keys(report: Report) -> Check:
    if report.new_key_works:
        return Check(True, "The API accepts the new key, and rejects the old one.")
    if report.reason == Reason.OLD_KEY_STILL_VALID.value:
        return Check(False, "The API still accepts the old key.")
    rejected = "The API rejects the old key. " if report.old_key_rejected else ""
    return Check(None, f"{rejected}This run did not verify that the API accepts the new key.")


def _check_of_health(lines: Sequence[Line]) -> Check:
    checked = [line for line in lines if line.checked is not None]
    passed = [line for line in checked if line.checked]
    if not checked:
        return Check(None, "No consumer has health checks.")
    none = len(lines) - len(checked)
    others = f"; {none} {'has' if none == 1 else 'have'} none" if none else ""
    failed = any(not line.done for line in checked if not line.checked)
    text = f"{len(passed)} of {_counted(len(checked), 'consumer')} with health checks passed them{others}."
    return Check(False if failed else True if len(passed) == len(checked) else None, text)


def _checks_of_processes(hosts: Sequence[Line]) -> Iterator[Check]:
    if not hosts:
        return
    found = [(line.name, process) for line in hosts for process in line.processes]
    found.sort(key=lambda each: each[1].tolerated)  # those that fail the run first
    bad = sum(not process.tolerated for _name, process in found)
    what = (
        f"{_counted(bad, 'process', 'processes')} {'holds' if bad == 1 else 'hold'}"
        if bad
        else "No process that could be read holds"
    )
    passing = len(found) - bad
    besides = f", except {_counted(passing, 'login or passing job', 'logins or passing jobs')}" if passing else ""
    more = [f"{len(found) - FEW} more are in the JSON file."] if len(found) > FEW else []
    details = [*(f"{name}: {process.words}" for name, process in found[:FEW]), *more]
    yield Check(not bad, f"{what} a retired key{besides}.", details)
    hidden = sum(line.hidden for line in hosts)
    if hidden:
        have = "has" if hidden == 1 else "have"
        yield Check(None, f"{_counted(hidden, 'host')} {have} processes that could not be read.")
