# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The timeline of the report: what is drawn where. How it looks is in ``report.html.j2``. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import EVENTS, Line, Report
from ansible_collections.multicart.keys.plugins.plugin_utils._report.words import (
    Section,
    moment,
    seconds,
    sections,
    told,
)

ROW = 22
"""Pixels of a row with a name."""

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
