# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a page: complete, drawn where it belongs, and harmless whatever the hosts are called."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Plan, Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import File, Process, Standing, State
from ansible_collections.multicart.keys.plugins.plugin_utils._report import words
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Decision
from ansible_collections.multicart.keys.plugins.plugin_utils._report.page import TEMPLATE, page
from ansible_collections.multicart.keys.plugins.plugin_utils._report.picture import THICKNESS, picture_of
from ansible_collections.multicart.keys.plugins.plugin_utils._report.words import FEW, NAMED, seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.plugin_utils.runs import DONE, NEW, OLD, ROTATE, ROTATED, host, told_of, unhealthy, unreachable

HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{ 7*7 }}", "]]>", "&lt;b&gt;", "a" * 300]


SICK = Standing(State.RESTART_DUE, "the health check failed")
FAILED = MulticartError(Reason.NOT_READY, "It failed.")
STILL_VALID = MulticartError(Reason.OLD_KEY_STILL_VALID, "It is valid.")
VALID = replace(DONE, rotation=replace(ROTATED, verified=False, old_key_rejected=False), error=STILL_VALID)
UNVERIFIED = replace(DONE, rotation=replace(ROTATED, verified=None))
UNREAD = ActResult(ROTATE, Live(OLD), Result(Outcome.ROTATED, None, OLD, old_key_rejected=True), FAILED)
LOST = ActResult(ROTATE, Live(OLD), Result(Outcome.UNKNOWN, None, OLD), FAILED)
REFUSED = ActResult(ROTATE, Live(OLD), Result(Outcome.UNCHANGED, OLD, OLD), FAILED)
NOT_READY = ActResult(ROTATE, Live(OLD), None, FAILED)
FINISHED = ActResult(Plan(Step.FINISH, "because", OLD.fingerprint), Live(NEW))
AGAIN = f"Fix what is named, then run the same command again, with: -e multicart_rotate_retire={OLD.fingerprint}"
OUTSIDE = ActResult(Plan(Step.OUTSIDE_HOURS, "because"), Live(NEW))
CAUGHT_UP = ActResult(Plan(Step.CATCH_UP, "because"), Live(NEW), None, MulticartError(Reason.CAUGHT_UP, "Red."))


class Reader(HTMLParser):
    """Collects the tags of a page, what they refer to, and the names of consumers in its tables."""

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
        self._in_name = tag == "th" and attrs == [("scope", "row")]
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
def test_no_text_gets_out_of_its_place(names: list[str]) -> None:
    def everywhere(name: str, at: int) -> HostResult:
        files = (File(name, name, recorded=bool(at % 3)),)
        processes = (Process(OLD.fingerprint, 1, name, name, uncovered=False, blamed=bool(at % 2)),)
        consumer = host(at) if at % 2 else host(at, Standing(State.RESTART_DUE, name))
        return replace(consumer, files=files, processes=processes, wave=at % 2, has_stores=bool(at % 3))

    hosts = {name: everywhere(name, at) for at, name in enumerate(names)}
    decision = Decision("rotate", names[0])
    report = told_of(hosts, finish=f"ansible-playbook {names[0]}", message=names[-1], account=names[0])
    reader = Reader(page(report))
    text = page(replace(report, rotated_at=None, message=None, decision=decision))  # which tells why
    assert harmless(Reader(text))
    assert sorted(reader.names) == sorted(name.replace("\r", "\n") for name in names)
    assert harmless(reader)
    assert "default-src 'none'" in text


@pytest.mark.parametrize("step", [Step.ROTATE, Step.FINISH, Step.NOT_DUE])
def test_without_a_rotation_there_is_no_picture(step: Step) -> None:
    run = ActResult(Plan(step, "because", OLD.fingerprint), Live(NEW))
    report = told_of({"web": host(1)}, run)
    assert picture_of(report) is None
    assert "<figure" not in page(report)


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (-0.004, "0.00 s"),
        (0.004, "0.00 s"),
        (0.0, "0.00 s"),
        (-0.006, "−0.01 s"),
        (0.006, "+0.01 s"),
        (12.34, "+12.3 s"),
    ],
)
def test_a_moment_has_a_sign_unless_it_is_that_of_the_rotation(at: float, told: str) -> None:
    (line,) = told_of({"web": host(1, armed=at)}).lines
    assert words.moment(line, "armed") == told


def test_what_is_left_to_do_is_on_the_page() -> None:
    text = page(told_of({"web": host(1), "gone": unreachable()}))
    assert "<p>Fix what is named, then run, with the same -i and -e options:</p>" in text
    assert "<pre>ansible-playbook multicart.keys.deploy --limit gone</pre>" in text
    assert "Key rotated. 1 of 2 consumers is not done." in text
    assert 'class="open' in text


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 5000), st.sampled_from(["well", "sick", "gone"])), min_size=1, max_size=40),
    st.sampled_from([2, NAMED]),
)
def test_every_row_is_in_the_picture_once_within_it_and_in_order(writes: list[tuple[float, str]], named: int) -> None:
    fates = {"well": host, "sick": unhealthy, "gone": lambda _at: unreachable()}
    report = told_of({f"web{number}": fates[how](at) for number, (at, how) in enumerate(writes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "NAMED", named)
        picture = picture_of(report)
    assert picture is not None
    drawn = [row.line for row in picture.rows]
    assert sorted(drawn, key=lambda line: line.name) == sorted(report.lines, key=lambda line: line.name)
    assert [line.done for line in drawn] == [line.done for line in report.lines]
    if named == NAMED:
        assert drawn == list(report.lines)
    for band in picture.bands:
        tops = [row.top for row in band.rows]
        assert tops == sorted(set(tops)) and tops[0] == 0
        assert all(0 <= top < band.height for _number, top in band.counts)
        for row in band.rows:
            ends = [round(each.x + each.width, 2) for each in row.bars]
            assert ends == sorted(ends) and all(0 <= end <= 100.01 for end in ends)
            assert [each.kind for each in row.bars][-1] == ("up" if row.line.done else "open")
            assert all(row.top <= each.top < each.top + each.height <= row.top + row.height for each in row.bars)
    assert 2 <= len(picture.ticks) <= 8


def test_a_thousand_consumers_are_all_there() -> None:
    report = told_of({f"web{at}": host(at / 10) for at in range(1000)})
    text = page(report)
    assert len(Reader(text).names) == 1000
    picture = picture_of(report)
    assert picture is not None and not picture.named
    assert sum(band.height for band in picture.bands) <= 1100
    assert len(text) < 1_000_000


def test_where_consumers_have_no_names_the_picture_shows_how_many_are_done_when() -> None:
    picture = picture_of(told_of({f"web{at}": host(1 / (at + 1), restarted=at % 9) for at in range(NAMED + 1)}))
    assert picture is not None and picture.low
    ends = [row.line.outage for row in picture.rows]
    assert None not in ends and ends == sorted(end or 0.0 for end in ends)


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.123, "0.12 s"), (9.99, "9.99 s"), (61.26, "61.3 s"), (150, "2 min 30 s")]
)
def test_durations_read_well(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


def test_nothing_is_loaded() -> None:
    text = page(told_of({"web": host(1)}))
    assert not re.search(r"url\((?!#)|@import|https?:", text)


def test_the_consumers_and_their_moments_are_in_the_table() -> None:
    text = page(told_of({"web": host(1.5, restarted=2.25, healthy=3), "gone": unreachable()}))
    for shown in ("+1.50 s", "+2.25 s", "+3.00 s", "−5.00 s", "unreachable: No route to host"):
        assert shown in text
    assert OLD.fingerprint in text and NEW.fingerprint in text
    assert OLD.reveal() not in text and NEW.reveal() not in text


def test_a_fleet_of_one_and_one_of_none_read_well() -> None:
    assert "Key rotated. The consumer is up to date." in page(told_of({"web": host(1)}))
    assert "Key rotated. 1 of 1 consumer is not done." in page(told_of({"web": unreachable()}))
    assert "Key rotated." in page(told_of({}, DONE))


# --- what it tells --------------------------------------------------------------------------------


def read(text: str) -> str:
    """Return the text of a page as it is read."""
    body = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_it_leads_with_the_outage_of_the_whole_fleet() -> None:
    slow = host(0.25, released=0.125, restarted=2.5, healthy=9)
    told = read(page(told_of({"slow": slow, "web": host(0.5, released=0.25)})))
    until = "from the request that revoked the old key until the last restart had ended"
    assert f"Outage of the fleet 2.50 s {until} Armed before the rotation 2 of 2 waited for the new key" in told
    assert "Last file written after 0.50 s released after 0.25 s Consumers up to date 2 of 2" in told
    assert "Old key revoked the API rejects it" in told
    assert "until the last file was written" in read(page(told_of({"web": host(0.5)})))
    assert "Outage of the fleet not over it goes on for 1 of 2" in read(page(told_of({"a": slow, "b": unreachable()})))
    unarmed = replace(slow, moments={name: at for name, at in slow.moments.items() if name != "armed"})
    assert "0 of 1 any other is served at the release" in read(page(told_of({"a": unarmed})))


def test_waves_stand_apart_each_with_its_numbers() -> None:
    vault = replace(host(0.5, released=0.125), has_stores=True, files=(File("vault secret/shop", recorded=True),))
    app = replace(host(1.5, released=1.0, restarted=2.0), wave=1, files=(*(File(f"/srv/{at}") for at in range(5)),))
    report = told_of({"vault": vault, "app": app, "gone": unreachable()})
    picture = picture_of(report)
    assert picture is not None
    titles = ["Not done", "Up to date, wave 0", "Up to date, wave 1, after the stores"]
    assert [band.title for band in picture.bands] == titles
    told = read(page(report))
    for shown in (
        "Not done 1 0 – – – – goes on",
        "Up to date, wave 0 1 1 0.12 s 0.50 s – – 0.50 s",
        "Up to date, wave 1, after the stores 1 1 1.00 s 1.50 s 2.00 s – 2.00 s",
        "vault store: vault secret/shop, known by its record alone up to date",
        "app /srv/0, /srv/1, /srv/2 and 2 more up to date",
        "1 of 1 store holds the live key; 1 of them by record alone",
    ):
        assert shown in told, shown


def test_consumers_with_the_same_to_tell_stand_together() -> None:
    hosts = {f"web{at:03}": unreachable() for at in range(FEW + 5)} | {"sick": unhealthy(1)}
    text = page(told_of(hosts))
    told = read(text)
    assert "sick restart due: the health check failed" in told
    assert f"{FEW + 5} consumers unreachable: No route to host web000 web001" in told
    assert f"web{FEW - 1:03} 5 more web{FEW:03}" in told
    assert len(Reader(text).names) == FEW + 6


def process(pid: int, blamed: bool) -> Process:
    return Process(OLD.fingerprint, pid, "app", "unit app.service", uncovered=False, blamed=blamed)


@pytest.mark.parametrize(
    ("consumer", "run", "told"),
    [
        ({}, DONE, ["✓ The API accepts the new key, and rejects the old one.", "– No consumer has health checks."]),
        ({"checked": True}, DONE, ["✓ 1 of 1 consumer with health checks passed them.", "No process that could be"]),
        ({"checked": False}, DONE, ["– 0 of 1 consumer with health checks passed them."]),
        ({"checked": False, "standing": SICK}, DONE, ["✕ 0 of 1 consumer with health checks passed them."]),
        (
            {"hidden": True},
            DONE,
            ["✓ No process that could be read holds a retired key.", "– 1 host has processes that"],
        ),
        (
            {"processes": (process(7, False),)},
            DONE,
            [
                "✓ No process that could be read holds a retired key, except 1 login or passing job. "
                f"web: app (process 7, unit app.service) holds {OLD.fingerprint}"
            ],
        ),
        (
            {"processes": tuple(process(at, at > 1) for at in range(FEW + 2)), "standing": SICK},
            DONE,
            [
                f"✕ {FEW} processes hold a retired key, except 2 logins or passing jobs.",
                "2 more are in the JSON file.",
            ],
        ),
        ({}, VALID, ["✕ The API still accepts the old key.", "Old key still valid the API accepts it"]),
        ({}, UNVERIFIED, ["– The API rejects the old key. This run did not verify that the API accepts the new key."]),
        (
            {},
            LOST,
            ["Consumers up to date not known nor which key is live", "Old key not known not verified by this run"],
        ),
        (
            {},
            UNREAD,
            ["Key rotated. 1 of 1 consumer is not done.", "Consumers up to date not known nor which key is live"],
        ),
        (
            {},
            REFUSED,
            ["Not rotated: the old key is still live.", "Old key live nothing was rotated", "Live key", AGAIN],
        ),
        (
            {},
            NOT_READY,
            ["Not rotated: the old key is still live.", "Old key live nothing was rotated", "It failed."],
        ),
        ({}, FINISHED, ["The rotation of an earlier run was finished. The consumer is up to date.", "Why: because."]),
        ({}, CAUGHT_UP, ["Not rotated. The consumer is up to date.", "What to do Run the same command again."]),
        ({}, OUTSIDE, ["Not rotated at this hour. The consumer is up to date.", "Why: because."]),
    ],
)
def test_what_was_checked_and_what_not(consumer: dict[str, Any], run: ActResult, told: list[str]) -> None:
    web = replace(host(1), files=(File("/srv/.env"),), **consumer)
    found = read(page(told_of({"web": web}, run)))
    for shown in told:
        assert shown in found, shown
    assert ("What was checked" in found) is (run is not LOST)


# --- for everybody --------------------------------------------------------------------------------

SURFACES = ("paper", "card", "code")
TEXTS = ("ink", "soft", "good", "bad", "focus")
MARKS = ("out", "restart", "check", "up", "ready", "hatch")
LINES = ("line", "grid")
"""Nothing is lost without these."""


def palettes() -> dict[str, dict[str, str]]:
    """Return the colours of the page in each scheme."""
    style = TEMPLATE.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3}|rgb|hsl|opacity", re.sub(r":root \{.*?\}", "", style, flags=re.DOTALL))
    return {
        name: dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
        for name, block in zip(("light", "dark", "print"), blocks, strict=True)
    }


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_marks_stand_out_from_what_is_behind_them(scheme: str) -> None:
    colours = palettes()[scheme]
    assert set(colours) == {*SURFACES, *TEXTS, *MARKS, *LINES}
    for text in TEXTS:
        for surface in SURFACES:
            assert contrast(colours[text], colours[surface]) >= 4.5, (text, surface)
    for mark in MARKS:
        assert contrast(colours[mark], colours["card"]) >= 3, mark


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_what_a_bar_means_is_not_told_by_its_colour_alone() -> None:
    assert THICKNESS["out"] > THICKNESS["restart"] > THICKNESS["up"]
    style = page(told_of({"web": host(1)}))
    assert ".check { fill: var(--card); stroke: var(--check);" in style  # hollow
    assert ".open { fill: url(#hatch); }" in style


@pytest.mark.parametrize("count", [1, 6, NAMED + 1])
def test_it_can_be_read_without_eyes_and_without_a_mouse(count: int) -> None:
    hosts = {f"web{at}": host(1, restarted=2) for at in range(count)} | {"gone": unreachable()}
    text = page(told_of(hosts))
    assert '<html lang="en">' in text
    headings = [int(level) for level in re.findall(r"<h([1-6])[ >]", text)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    labels, targets = (set(re.findall(rf' {name}="([^"]+)"', text)) for name in ("aria-labelledby", "id"))
    assert labels and labels <= targets
    assert len(re.findall(r"<table>\s*<caption>", text)) == text.count("<table>")
    assert "<th>" not in text  # each says whether it heads a row or a column
    # Whatever may have to be scrolled can be reached by the keyboard, and has a name.
    assert text.count('class="scroll"') == len(
        re.findall(r'class="scroll" tabindex="0" role="region" aria-label=', text)
    )
    # Drawings are either told in words, once, or left out.
    drawings = re.findall(r"<svg[^>]*>", re.sub(r'<div class="plot head.*?</div>', "", text, flags=re.DOTALL))
    assert [drawing for drawing in drawings if 'aria-hidden="true"' not in drawing] == [
        drawing for drawing in drawings if 'role="img" aria-label="' in drawing
    ]
    assert text.count('role="img"') == 1
    assert ":focus-visible" in text
