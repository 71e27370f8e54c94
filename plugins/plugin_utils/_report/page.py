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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import (
    EVENTS,
    NOT_NEEDED,
    UNKNOWN,
    Line,
    Report,
)
from jinja2 import Environment, StrictUndefined, Template

TEMPLATE = Path(__file__).with_name("report.html.j2")

NAMED = 80
"""Up to so many consumers a row is high enough for its name."""

ROW = 22
"""Pixels of a row with a name."""

PICTURE = 960
"""Pixels that the rows without names share, though each has one at least."""

READY_WIDTH = 12.0
"""Percent of the width for what came before the rotation, which has a scale of its own."""

BAND = 10
"""So many rows with names are drawn as one, so that a printed page does not end within a row."""


@dataclass(frozen=True)
class Bar:
    """A part of a row: percent from the left, percent wide."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True)
class Row:
    """One consumer in the picture; pixels from the top of its band."""

    line: Line
    top: int
    height: int
    bars: Sequence[Bar]
    ready: float | None
    healthy: float | None
    tip: str

    @property
    def named(self) -> bool:
        return self.height == ROW


@dataclass(frozen=True)
class Tick:
    """A mark of the scale, in percent from the left."""

    x: float
    label: str


@dataclass(frozen=True)
class Band:
    """Rows that are drawn together.

    :ivar counts: number and place of some rows, where they are too low for names.
    :ivar apart: whether there is a gap above it.
    """

    rows: Sequence[Row]
    counts: Sequence[tuple[int, int]]
    apart: bool

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
        return {each.kind for band in self.bands for row in band.rows for each in row.bars}

    @property
    def named(self) -> bool:
        return any(row.named for band in self.bands for row in band.rows)


def picture_of(report: Report) -> Picture | None:
    """Return where everything is drawn; None: without a rotation, or without any consumer, there is nothing to draw."""
    lines = report.lines
    if report.rotated_at is None or not lines:
        return None
    scale = _Scale(lines)
    return Picture(
        bands=list(_bands(lines, scale)),
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


def _bands(lines: Sequence[Line], scale: _Scale) -> Iterator[Band]:
    unfinished = [line for line in lines if not line.done]
    for group in (unfinished, [line for line in lines if line.done]):
        named = len(group) <= NAMED
        height = ROW if named else max(1, min(ROW // 2, PICTURE // len(group)))
        size = BAND if named else len(group)
        for first in range(0, len(group), size):
            rows = [_row(line, at * height, height, scale) for at, line in enumerate(group[first : first + size])]
            counts = [] if named else list(_counts(rows))
            yield Band(rows, counts, apart=bool(unfinished) and group is not unfinished and first == 0)


def _row(line: Line, top: int, height: int, scale: _Scale) -> Row:
    at = {event: max(0.0, line.seconds[event]) for event in EVENTS[2:] if event in line.seconds}
    bars, since = [], 0.0
    for event, kind in (("written", "out"), ("restarted", "restart"), ("healthy", "check")):
        if event in at and at[event] > since:
            bars.append(_bar(kind, since, at[event], scale))
            since = at[event]
    if not line.done:
        bars.append(_bar("open", since, scale.end, scale))
    elif at:
        bars.append(_bar("up", since, scale.end, scale))
    return Row(
        line=line,
        top=top,
        height=height,
        bars=bars,
        ready=scale.x(line.seconds["armed"]) if "armed" in line.seconds else None,
        healthy=scale.x(at["healthy"]) if "healthy" in at else None,
        tip=", ".join([f"{line.name}: {told(line)}", *(f"{event} {moment(line, event)}" for event in line.times)]),
    )


def _bar(kind: str, since: float, until: float, scale: _Scale) -> Bar:
    left = scale.x(since)
    return Bar(kind, left, round(scale.x(until) - left, 3))


def _counts(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Number some of the rows."""
    step = next((step for step in (20, 50, 100, 500, 5000) if len(rows) <= 12 * step), len(rows))
    yield from ((number, row.top) for number, row in enumerate(rows, 1) if number == 1 or number % step == 0)


# --- words ----------------------------------------------------------------------------------------


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


def headline(report: Report) -> str:
    """Return in a few words how the run ended."""
    key = {
        Outcome.ROTATED.value: "Key rotated",
        Outcome.ALREADY_ROTATED.value: "The key had been rotated before",
        Outcome.UNCHANGED.value: "Not rotated: the old key is still live",
        Outcome.UNKNOWN.value: "Not known whether the key was rotated",
        NOT_NEEDED: "No rotation was necessary",
    }[report.outcome]
    total, open_ = len(report.lines), len(report.unfinished)
    if report.outcome in (Outcome.UNCHANGED.value, Outcome.UNKNOWN.value) or not total:
        return f"{key}."
    if open_:
        return f"{key}. {open_} of {total} {'consumer is' if total == 1 else 'consumers are'} not done."
    return f"{key}. {'The consumer is' if total == 1 else f'All {total} consumers are'} up to date."


def day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y, %H:%M:%S} UTC"


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(seconds=seconds, day=day, iso=iso_time, told=told)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def page(report: Report) -> str:
    """Render the page."""
    return _template().render(
        report=report,
        picture=picture_of(report),
        headline=headline(report),
        moment=moment,
        events=EVENTS,
        known=not any(line.state == UNKNOWN for line in report.lines),
        row_height=ROW,
    )
