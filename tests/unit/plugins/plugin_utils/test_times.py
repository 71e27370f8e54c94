# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as texts: how they are shown, and what is taken for one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_now, iso_time, parse_time, utc_now
from hypothesis import example, given
from hypothesis import strategies as st

MAY_2026 = datetime(2026, 5, 1, tzinfo=timezone.utc)


def test_a_moment_is_shown_in_utc_to_the_millisecond() -> None:
    moment = datetime(2026, 6, 20, 5, 4, 3, 2999, timezone(timedelta(hours=2)))
    assert iso_time(moment) == "2026-06-20T03:04:03.002Z"
    assert iso_time(moment.replace(microsecond=0)) == "2026-06-20T03:04:03.000Z"


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC-5:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_a_moment_is_shown_in_utc_wherever_the_control_node_is() -> None:
    assert iso_time(datetime(2026, 6, 20, 5, 4, 3, 0, timezone.utc)) == "2026-06-20T05:04:03.000Z"
    assert iso_now().endswith("Z")


def test_the_time_is_now() -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    shown = parse_time(iso_now())
    assert shown is not None
    assert before <= shown <= utc_now() <= datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01T00:00:00Z", MAY_2026),
        ("2026-05-01T02:00:00.000+02:00", MAY_2026),
        ("2026-05-01T00:00:00", None),  # without a zone it could be any of 26 hours
        ("2026-05-01", None),
        ("2026-13-01T00:00:00Z", None),
        ("9999-99-99T99:99:99Z", None),
        ("0001-01-01T00:00:00+14:00", None),  # UTC has no year 0
        ("9999-12-31T23:59:59-14:00", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Z", None),
    ],
)
def test_a_moment_has_a_time_zone_or_is_none(text: str | None, moment: datetime | None) -> None:
    assert parse_time(text) == moment


@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59.999999-23:59")
@given(st.text("0123456789-+:.TZ", max_size=40) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat))
def test_what_is_read_can_be_shown_and_read_again_whoever_has_sent_it(text: str) -> None:
    moment = parse_time(text)
    if moment is not None:
        assert moment.utcoffset() == timedelta(0)
        again = parse_time(iso_time(moment))
        assert again is not None and timedelta(0) <= moment - again < timedelta(milliseconds=1)
        assert utc_now() - (utc_now() - moment) is not None
