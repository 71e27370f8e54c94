# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The hours in which a new rotation is allowed, by the clock on the wall of a time zone. No Ansible; pure once parsed.

``Mon-Fri 22:00-06:00, Sun 00:00-24:00 Europe/Berlin``: spans of hours on days, and the time zone. A span that crosses
midnight belongs to the day on which it begins. What the clock shows decides: an hour that is skipped when clocks go
forward does not come, and one that is repeated when they go back comes twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY
EXAMPLE = "Mon-Fri 22:00-06:00, Sun 00:00-24:00 Europe/Berlin"

_SPAN = re.compile(r"(?:([a-z]+)(?:-([a-z]+))? +)?(\d\d):(\d\d) *- *(\d\d):(\d\d)")


class NotHours(ValueError):
    """A text that names no hours. Its own text ends the sentence "It ...", and repeats nothing of what was given."""


@dataclass(frozen=True)
class AllowedHours:
    """Spans of time that come each week.

    :ivar spans: where each begins, in minutes of the week, and how many minutes it lasts.
    """

    spans: tuple[tuple[int, int], ...]
    zone: ZoneInfo

    def are_now(self, now: datetime) -> bool:
        """Tell whether a moment is in them."""
        shown = now.astimezone(self.zone)
        minute = shown.weekday() * DAY + shown.hour * 60 + shown.minute
        return any((minute - begins) % WEEK < lasts for begins, lasts in self.spans)

    def next(self, now: datetime) -> datetime:
        """Return the first minute after a moment that is in them, if the moment is not.

        Minute by minute, so that nothing has to be known of when clocks change: time zones differ by whole minutes.
        """
        moment = now.astimezone(timezone.utc).replace(second=0, microsecond=0)
        while not self.are_now(moment := moment + timedelta(minutes=1)):
            pass
        return moment

    def shown(self, moment: datetime) -> str:
        """Return a moment as the clock on the wall there shows it, and in UTC; in English, whatever the locale."""
        local, utc = moment.astimezone(self.zone), moment.astimezone(timezone.utc)
        return f"{DAYS[local.weekday()].title()} {local:%Y-%m-%d %H:%M} {self.zone.key} ({utc:%Y-%m-%dT%H:%MZ})"


def parse(text: str) -> AllowedHours:
    """Read the hours.

    :raises NotHours: it says which part is wrong.
    """
    spans, _space, zone = text.strip().rpartition(" ")
    if not spans:
        raise NotHours(f"needs hours and a time zone, such as {EXAMPLE}")
    found = tuple(span for part in spans.split(",") for span in _spans(part.strip().lower()))
    return AllowedHours(found, _zone(zone))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise NotHours(f"needs spans such as 22:00-06:00 or Mon-Fri 22:00-06:00 before the time zone, as in {EXAMPLE}")
    begins, ends = _minutes(match[3], match[4]), _minutes(match[5], match[6])
    if begins in (ends, DAY):
        raise NotHours("has a span without a length; a whole day is 00:00-24:00")
    for day in _days(match[1], match[2]):
        yield day * DAY + begins, (ends - begins) % DAY or DAY


def _minutes(hours: str, minutes: str) -> int:
    found = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or found > DAY:
        raise NotHours("has an invalid time; times are from 00:00 to 24:00")
    return found


def _days(first: str | None, last: str | None) -> Iterator[int]:
    if first is None:
        yield from range(7)
        return
    if first not in DAYS or (last or first) not in DAYS:
        raise NotHours(f"has an unknown day; days are {', '.join(DAYS).title()}")
    begins = DAYS.index(first)
    yield from ((begins + more) % 7 for more in range((DAYS.index(last or first) - begins) % 7 + 1))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
    if not known:
        raise NotHours("needs the data of time zones, which this machine lacks: install tzdata where Ansible runs")
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "it is the last word, such as UTC or Europe/Berlin"
    raise NotHours(f"has an unknown time zone: {hint}")
