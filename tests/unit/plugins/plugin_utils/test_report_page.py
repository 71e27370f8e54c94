# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a page: complete, drawn where it belongs, and harmless whatever the hosts are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Plan, Step
from ansible_collections.multicart.keys.plugins.plugin_utils._report import page as report_page
from ansible_collections.multicart.keys.plugins.plugin_utils._report.page import page, picture_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.runs import DONE, NEW, OLD, host, told_of, unhealthy, unreachable

HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{ 7*7 }}", "]]>", "&lt;b&gt;", "a" * 300]


class Reader(HTMLParser):
    """Collects the tags of a page, what they refer to, and the names in its table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.names: list[str] = []
        self._in_name = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in_name = tag == "th" and ("scope", "row") in attrs
        if self._in_name:
            self.names.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_name = self._in_name and tag != "th"

    def handle_data(self, data: str) -> None:
        if self._in_name:
            self.names[-1] += data


def harmless(reader: Reader) -> bool:
    names = {name for name, _value in reader.attributes}
    links = [value for name, value in reader.attributes if name in ("href", "src", "action")]
    return (
        not {"script", "img", "iframe", "object"} & set(reader.tags)
        and links == ["data:,"]
        and not any(name.startswith("on") for name in names)
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(HOSTILE) | st.text("<>&\"'/a{}%#\\", min_size=1), unique=True, min_size=1, max_size=6))
def test_no_name_gets_out_of_its_place(names: list[str]) -> None:
    hosts = {name: host(at) if at % 2 else unhealthy(at) for at, name in enumerate(names)}
    text = page(told_of(hosts, finish=f"ansible-playbook {names[0]}", message=names[-1]))
    reader = Reader(text)
    assert sorted(reader.names) == sorted(name.replace("\r", "\n") for name in names)
    assert harmless(reader)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("step", [Step.ROTATE, Step.FINISH, Step.NOT_DUE])
def test_without_a_rotation_there_is_no_picture(step: Step) -> None:
    run = ActResult(Plan(step, "because", OLD.fingerprint), Live(NEW))
    report = told_of({"web": host(1)}, run)
    assert picture_of(report) is None
    assert "<figure" not in page(report)


def test_what_is_left_to_do_is_on_the_page() -> None:
    text = page(told_of({"web": host(1), "gone": unreachable()}))
    assert "ansible-playbook multicart.keys.deploy --limit gone" in text
    assert "Key rotated. 1 of 2 consumers are not done." in text
    assert 'class="open' in text


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 5000), st.sampled_from(["well", "sick", "gone"])), min_size=1, max_size=40),
    st.sampled_from([2, 1000]),
)
def test_every_row_is_in_the_picture_once_within_it_and_in_order(writes: list[tuple[float, str]], named: int) -> None:
    fates = {"well": host, "sick": unhealthy, "gone": lambda _at: unreachable()}
    report = told_of({f"web{number}": fates[how](at) for number, (at, how) in enumerate(writes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, "NAMED", named)
        picture = picture_of(report)
    assert picture is not None
    assert [row.line for band in picture.bands for row in band.rows] == list(report.lines)
    for band in picture.bands:
        tops = [row.top for row in band.rows]
        assert tops == sorted(set(tops)) and tops[0] == 0
        assert all(0 <= top < band.height for _number, top in band.counts)
        for row in band.rows:
            ends = [round(each.x + each.width, 2) for each in row.bars]
            assert ends == sorted(ends) and all(0 <= end <= 100.01 for end in ends)
            assert [each.kind for each in row.bars][-1] == ("up" if row.line.done else "open")
    assert 2 <= len(picture.ticks) <= 8


def test_a_thousand_consumers_are_all_there() -> None:
    report = told_of({f"web{at}": host(at / 10) for at in range(1000)})
    text = page(report)
    assert len(Reader(text).names) == 1000
    picture = picture_of(report)
    assert picture is not None and not picture.named
    assert sum(band.height for band in picture.bands) <= 1100
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.123, "0.12 s"), (9.99, "9.99 s"), (61.26, "61.3 s"), (150, "2 min 30 s")]
)
def test_durations_read_well(value: float | None, shown: str) -> None:
    assert report_page.seconds(value) == shown


def test_nothing_is_loaded() -> None:
    text = page(told_of({"web": host(1)}))
    assert not re.search(r"url\((?!#)|@import|https?:", text)


def test_the_consumers_and_their_moments_are_in_the_table() -> None:
    text = page(told_of({"web": host(1.5, restarted=2.25, healthy=3), "gone": unreachable()}))
    for shown in ("+1.50 s", "+2.25 s", "+3.00 s", "−5.00 s", "unreachable: it is unreachable (No route to host)"):
        assert shown in text
    assert OLD.fingerprint in text and NEW.fingerprint in text
    assert OLD.reveal() not in text and NEW.reveal() not in text


def test_a_fleet_of_one_and_one_of_none_read_well() -> None:
    assert "Key rotated. The consumer is up to date." in page(told_of({"web": host(1)}))
    assert "Key rotated. 1 of 1 consumer is not done." in page(told_of({"web": unreachable()}))
    assert "Key rotated." in page(told_of({}, DONE))
