# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The report as one HTML page: what is drawn where. How it looks is in ``report.html.j2``.

The page loads nothing and runs no script. Every text in it is escaped by the template engine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Step
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import (
    EVENTS,
    HOST,
    NOT_NEEDED,
    STORE,
    UNKNOWN,
    Group,
    Line,
    Report,
)
from jinja2 import Environment, StrictUndefined, Template

TEMPLATE = Path(__file__).with_name("report.html.j2")

NAMED = 80
"""Up to so many consumers of a section, a row is high enough for its name, and the table is open."""

FEW = 20
"""So many names, or processes, are listed of those that have the same to tell."""

ROW = 22
"""Pixels of a row with a name."""

PLACES = 3
"""So many files of a consumer are listed."""

PICTURE = 480
"""Pixels that the rows without names share, though each has one at least."""

THICKNESS = {"out": 12, "restart": 8, "check": 8, "open": 12, "up": 2}
"""Pixels of each kind of bar in a row with a name: the less is missing, the thinner it is."""

READY_WIDTH = 12.0
"""Percent of the width for what came before the rotation, which has a scale of its own."""

BAND = 10
"""So many rows with names are drawn as one, so that a printed page does not end within a row."""


@dataclass(frozen=True)
class Bar:
    """A part of a row: percent from the left, percent wide; pixels from the top of its band, pixels high."""

    kind: str
    x: float
    width: float
    top: int
    height: int


@dataclass(frozen=True)
class Row:
    """One consumer in the picture; pixels from the top of its band."""

    line: Line
    top: int
    height: int
    bars: Sequence[Bar]
    ready: float | None
    released: float | None
    healthy: float | None
    tip: str

    @property
    def named(self) -> bool:
        return self.height == ROW

    @property
    def middle(self) -> int:
        return self.top + self.height // 2


@dataclass(frozen=True)
class Tick:
    """A mark of the scale, in percent from the left."""

    x: float
    label: str


@dataclass(frozen=True)
class Band:
    """Rows that are drawn together.

    :ivar counts: number and place of some rows, where they are too low for names.
    :ivar title: what its section is called; None: it goes on with the one above, or is the only one.
    """

    rows: Sequence[Row]
    counts: Sequence[tuple[int, int]]
    title: str | None

    @property
    def height(self) -> int:
        return self.rows[-1].top + self.rows[-1].height


@dataclass(frozen=True)
class Picture:
    """The timeline.

    :ivar zero: where the rotation is, in percent from the left.
    :ivar ready: how long before it the first consumer was armed.
    """

    bands: Sequence[Band]
    ticks: Sequence[Tick]
    zero: float
    ready: str | None

    @property
    def kinds(self) -> set[str]:
        """What there is to explain."""
        return {each.kind for row in self.rows for each in row.bars}

    @property
    def rows(self) -> list[Row]:
        return [row for band in self.bands for row in band.rows]

    @property
    def named(self) -> bool:
        return any(row.named for row in self.rows)

    @property
    def low(self) -> bool:
        return any(not row.named for row in self.rows)


def picture_of(report: Report) -> Picture | None:
    """Return where everything is drawn; None: without a rotation, or without any consumer, there is nothing to draw."""
    lines = report.lines
    if report.rotated_at is None or not lines:
        return None
    scale = _Scale(lines)
    return Picture(
        bands=list(_bands(sections(report), scale)),
        ticks=list(scale.ticks()),
        zero=scale.zero,
        ready=f"−{seconds(-scale.first)}" if scale.first else None,
    )


class _Scale:
    """Seconds since the rotation, and percent of the width."""

    def __init__(self, lines: Sequence[Line]) -> None:
        known = [value for line in lines for value in line.seconds.values()]
        self.first = min([0.0, *known])
        self.zero = READY_WIDTH if self.first < 0 else 0.0
        self.end = max([0.1, *known]) * 1.05

    def x(self, at: float) -> float:
        if at < 0:
            return round(self.zero * (1 - at / self.first), 3)
        return round(self.zero + (100 - self.zero) * min(at / self.end, 1.0), 3)

    def ticks(self) -> Iterator[Tick]:
        step = 10.0 ** math.floor(math.log10(self.end / 4))
        step *= next((factor for factor in (1, 2, 5) if self.end / (step * factor) <= 7), 10)
        for number in range(int(self.end / step) + 1):
            yield Tick(self.x(number * step), f"{number * step:g} s")


def _bands(parts: Sequence[Section], scale: _Scale) -> Iterator[Band]:
    for part in parts:
        named = not part.large
        lines = part.group.lines if named else _by_end(part.group.lines)
        height = ROW if named else max(1, min(ROW // 2, PICTURE // len(lines)))
        size = BAND if named else len(lines)
        for first in range(0, len(lines), size):
            rows = [_row(line, at * height, height, scale) for at, line in enumerate(lines[first : first + size])]
            title = part.title if first == 0 and len(parts) > 1 else None
            yield Band(rows, [] if named else list(_counts(rows)), title)


def _by_end(lines: Sequence[Line]) -> Sequence[Line]:
    """Sort consumers that are drawn without their names, so that the picture shows how many are done when."""
    return sorted(lines, key=lambda line: (told(line), line.outage or 0.0, line.seconds.get("healthy", 0.0)))


def _row(line: Line, top: int, height: int, scale: _Scale) -> Row:
    at = {event: max(0.0, line.seconds[event]) for event in EVENTS[1:] if event in line.seconds}
    spans, since = [], 0.0
    for event, kind in (("written", "out"), ("restarted", "restart"), ("healthy", "check")):
        if event in at and at[event] > since:
            spans.append((kind, since, at[event]))
            since = at[event]
    if not line.done:
        spans.append(("open", since, scale.end))
    elif set(at) - {"released"}:
        spans.append(("up", since, scale.end))
    return Row(
        line=line,
        top=top,
        height=height,
        bars=[_bar(kind, scale.x(left), scale.x(right), top, height) for kind, left, right in spans],
        ready=scale.x(line.seconds["armed"]) if "armed" in line.seconds else None,
        released=scale.x(at["released"]) if "released" in at else None,
        healthy=scale.x(at["healthy"]) if "healthy" in at else None,
        tip=", ".join([f"{line.name}: {told(line)}", *(f"{event} {moment(line, event)}" for event in line.times)]),
    )


def _bar(kind: str, left: float, right: float, top: int, height: int) -> Bar:
    thick = THICKNESS[kind] if height == ROW else height
    return Bar(kind, left, round(right - left, 3), top + (height - thick) // 2, thick)


def _counts(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Number some of the rows."""
    step = next((step for step in (20, 50, 100, 500, 5000) if len(rows) <= 12 * step), len(rows))
    yield from ((number, row.top) for number, row in enumerate(rows, 1) if number == 1 or number % step == 0)


# --- sections -------------------------------------------------------------------------------------


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
class Ailment:
    """What is wrong with consumers that have the same to tell."""

    told: str
    names: Sequence[str]

    @property
    def first(self) -> Sequence[str]:
        return self.names[:FEW]

    @property
    def rest(self) -> Sequence[str]:
        return self.names[FEW:]


def ailments(lines: Iterable[Line]) -> list[Ailment]:
    """Return what is wrong with these consumers."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(told(line), []).append(line.name)
    return [Ailment(what, names) for what, names in found.items()]


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
        done, recorded = sum(line.done for line in stores), sum(_is_recorded(line) for line in stores)
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


def _is_recorded(line: Line) -> bool:
    return line.done and any(file.recorded for file in line.files)


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
    besides = f", but for {_counted(passing, 'login or passing job', 'logins or passing jobs')}" if passing else ""
    more = [f"{len(found) - FEW} more are in the JSON file."] if len(found) > FEW else []
    details = [*(f"{name}: {process.words}" for name, process in found[:FEW]), *more]
    yield Check(not bad, f"{what} a retired key{besides}.", details)
    hidden = sum(line.hidden for line in hosts)
    if hidden:
        have = "has" if hidden == 1 else "have"
        yield Check(None, f"{_counted(hidden, 'host')} {have} processes that could not be read.")


# --- words ----------------------------------------------------------------------------------------


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
        value = line.seconds[event]
        return f"{'−' if value < 0 else '+'}{seconds(abs(value))}"
    return f"{line.times[event]:%H:%M:%S} UTC" if event in line.times else "–"


def told(line: Line) -> str:
    """Return a consumer's state in words."""
    words = line.state.replace("_", " ")
    return f"{words}: {line.why}" if line.why else words


def state(line: Line) -> str:
    return line.state.replace("_", " ")


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
    if report.outcome == Outcome.UNCHANGED.value or (report.old_key and report.old_key == report.new_key):
        return "live", "nothing was rotated"
    if report.reason == Reason.OLD_KEY_STILL_VALID.value:
        return "still valid", "the API accepts it"
    return ("not known", "not verified by this run") if report.old_key else None


def day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(seconds=seconds, day=day, iso=iso_time, state=state, places=places)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def page(report: Report) -> str:
    """Render the page."""
    return _template().render(
        report=report,
        picture=picture_of(report),
        sections=sections(report),
        ailments=ailments(report.unfinished),
        checks=list(checks(report)),
        headline=headline(report),
        old_key=old_key(report),
        moment=moment,
        events=EVENTS,
        known=is_known(report),
        row_height=ROW,
    )
