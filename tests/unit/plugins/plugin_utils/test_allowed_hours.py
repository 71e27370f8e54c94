# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hours in which rotations are allowed: by example, and all week and year against the same in other words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import allowed_hours
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.allowed_hours import DAYS, NotHours, parse
from hypothesis import example, given
from hypothesis import strategies as st

MINUTE = timedelta(minutes=1)
# Clocks go forward and back by an hour, by half an hour, at midnight; and never.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu")

days = st.sampled_from(DAYS)
minutes = st.integers(0, 24 * 60)
spans = st.lists(
    st.tuples(days, days, minutes, minutes).filter(lambda it: it[2] not in (it[3], 24 * 60)), min_size=1, max_size=3
)
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(timezone.utc))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def at(text: str, zone: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def text_of(listed: list[tuple[str, str, int, int]], zone: str) -> str:
    told = [f"{first.title()}-{last.title()} {clock(begins)}-{clock(ends)}" for first, last, begins, ends in listed]
    return f"{', '.join(told)} {zone}"


def is_within(listed: list[tuple[str, str, int, int]], shown: datetime) -> bool:
    """Tell the same in other words: is the clock on a day of a span between its ends, or after midnight before one?"""
    today, minute = shown.weekday(), shown.hour * 60 + shown.minute
    for first, last, begins, ends in listed:
        here = [DAYS.index(first)]
        while here[-1] != DAYS.index(last):
            here.append((here[-1] + 1) % 7)
        if begins < ends:
            if today in here and begins <= minute < ends:
                return True
        elif (today in here and minute >= begins) or ((today - 1) % 7 in here and minute < ends):
            return True
    return False


# --- by example -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "local", "allowed"),
    [
        ("22:00-06:00", "2026-06-01T21:59:59", False),
        ("22:00-06:00", "2026-06-01T22:00:00", True),
        ("22:00-06:00", "2026-06-02T05:59:59", True),
        ("22:00-06:00", "2026-06-02T06:00:00", False),
        ("Fri 22:00-06:00", "2026-06-06T05:00:00", True),  # a Saturday
        ("Fri 22:00-06:00", "2026-06-05T05:00:00", False),
        ("Sun 22:00-06:00", "2026-06-01T05:00:00", True),  # a Monday
        ("Sat-Mon 08:00-09:00", "2026-06-07T08:30:00", True),
        ("Sat-Mon 08:00-09:00", "2026-06-02T08:30:00", False),
        ("Mon 00:00-24:00", "2026-06-01T23:59:59", True),
        ("Mon 00:00-24:00", "2026-06-02T00:00:00", False),
        ("Tue 00:00-01:00, mon 23:00 - 24:00", "2026-06-01T23:30:00", True),
        ("Tue 00:00-01:00, mon 23:00 - 24:00", "2026-06-02T00:30:00", True),
    ],
)
def test_when_they_are(hours: str, local: str, allowed: bool) -> None:
    for zone in ZONES:
        assert parse(f"{hours} {zone}").are_now(at(local, zone).astimezone(timezone.utc)) is allowed


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        ("Mon-Fri 22:00-06:00 UTC", "2026-06-01T21:59:59", "2026-06-01T22:00"),
        ("Mon-Fri 22:00-06:00 UTC", "2026-06-06T06:00", "2026-06-08T22:00"),
        ("Mon 22:00-23:00 Europe/Berlin", "2026-06-01T21:00", "2026-06-08T20:00"),
        # Clocks go forward from 2:00 to 3:00 on 29 March 2026.
        ("Sun 02:15-02:45 Europe/Berlin", "2026-03-28T12:00", "2026-04-05T00:15"),
        ("Sun 02:15-04:00 Europe/Berlin", "2026-03-29T00:00", "2026-03-29T01:00"),
        # They go back from 3:00 to 2:00 on 25 October 2026, so that 2:15 comes twice.
        ("Sun 02:15-02:45 Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:15"),
        ("Sun 02:15-02:45 Europe/Berlin", "2026-10-25T00:45", "2026-10-25T01:15"),
        # Cuba's clocks go forward at midnight: the day begins at 1:00.
        ("Sun 00:00-02:00 America/Havana", "2026-03-08T04:00", "2026-03-08T05:00"),
    ],
)
def test_when_they_are_next(hours: str, now: str, opens: str) -> None:
    assert parse(hours).next(utc(now)) == utc(opens)


def test_a_moment_is_shown_by_the_clock_there_and_in_utc() -> None:
    shown = parse("22:00-06:00 Europe/Berlin").shown(utc("2026-06-01T20:00"))
    assert shown == "Mon 2026-06-01 22:00 Europe/Berlin (2026-06-01T20:00Z)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "needs hours and a time zone"),
        ("UTC", "needs hours and a time zone"),
        ("22:00-06:00", "needs hours and a time zone"),
        ("Mon 22:00-06:00", "needs spans such as"),
        ("Mon-Fri UTC", "needs spans such as"),
        ("22-06 UTC", "needs spans such as"),
        ("22:00-06:00,, UTC", "needs spans such as"),
        ("Mon-Fri-Sun 22:00-06:00 UTC", "needs spans such as"),
        ("22:00-06:60 UTC", "has an invalid time"),
        ("24:01-06:00 UTC", "has an invalid time"),
        ("24:00-06:00 UTC", "has a span without a length"),
        ("06:00-06:00 UTC", "has a span without a length"),
        ("daily 22:00-06:00 UTC", "has an unknown day"),
        ("Mon-Fry 22:00-06:00 UTC", "has an unknown day"),
        ("22:00-06:00 Europe/Berlim", "has an unknown time zone: did you mean Europe/Berlin?"),
        ("22:00-06:00 ../etc/passwd", "has an unknown time zone: it is the last word"),
        ("22:00-06:00 /etc/localtime", "has an unknown time zone"),
        ("22:00-06:00 Europe", "has an unknown time zone"),
        ("22:00-06:00 zone.tab", "has an unknown time zone"),
        ("22:00-06:00 173axcs.secretsecret", "has an unknown time zone: it is the last word"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(text: str, told: str) -> None:
    with pytest.raises(NotHours) as caught:
        parse(text)
    assert str(caught.value).startswith(told)
    assert "secretsecret" not in str(caught.value)


def test_a_machine_without_time_zones_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed_hours, "available_timezones", set)
    with pytest.raises(NotHours, match="which this machine lacks"):
        parse("22:00-06:00 Nowhere/Atall")


# --- against the same in other words --------------------------------------------------------------


@given(spans, st.sampled_from(ZONES), moments)
@example([("fri", "sun", 1320, 360)], "Europe/Berlin", utc("2026-03-29T01:00"))
def test_they_are_where_the_clock_on_the_wall_says_so(
    listed: list[tuple[str, str, int, int]], zone: str, now: datetime
) -> None:
    assert parse(text_of(listed, zone)).are_now(now) is is_within(listed, now.astimezone(ZoneInfo(zone)))


# As wide as a span of one day in a week leaves open, and around each change of clocks.
changes = st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T05:00", "2026-04-04T15:00"]).map(utc)


@given(
    spans,
    st.sampled_from(ZONES),
    st.one_of(moments, st.builds(lambda at, by: at + by * MINUTE, changes, st.integers(-99, 99))),
)
def test_the_next_time_is_the_first_one(listed: list[tuple[str, str, int, int]], zone: str, now: datetime) -> None:
    hours = parse(text_of(listed, zone))
    if hours.are_now(now):
        return
    opens = hours.next(now)
    assert opens > now and opens.second == 0
    assert is_within(listed, opens.astimezone(ZoneInfo(zone)))
    # Nothing in between; as far back as is quick to try, at any second.
    for back in range(1, min(300, int((opens - now) / MINUTE) + 1)):
        assert not is_within(listed, (opens - back * MINUTE).astimezone(ZoneInfo(zone)))
    assert not is_within(listed, (opens - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)))


@given(st.text(max_size=40))
def test_any_other_text_is_refused_in_words_of_its_own(text: str) -> None:
    try:
        assert parse(text).spans
    except NotHours as error:
        assert len(str(error)) < 200
