# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report in a real headless Chromium: it opens, shows every host, loads nothing and complains of nothing."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import deploy
from ansible_collections.multicart.keys.plugins.plugin_utils._report.page import page

from tests.unit.plugins.plugin_utils.runs import host, told_of, unhealthy, unreachable

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = ["<script>document.title='owned'</script>", "'\"><img src=x onerror=document.title='owned'>", "x" * 200]

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium"),
]


def run_chromium(folder: Path, *arguments: str) -> tuple[str, str]:
    """Run it and return what it printed and what it complained of."""
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--v=0", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, done.stderr


def written(folder: Path, count: int) -> tuple[Path, list[str]]:
    """Write the report of a run with so many consumers, some of which are not done."""
    names = [*HOSTILE, *(f"web{number}.example.com" for number in range(count - len(HOSTILE)))]
    hosts = {name: host(0.5 + number / 10) for number, name in enumerate(names)}
    hosts[names[0]], hosts[names[1]] = unreachable(), unhealthy(1)
    path = folder / "report.html"
    path.write_text(page(told_of(hosts, finish=deploy())), encoding="utf-8")
    return path, names


def console(complaints: str) -> list[str]:
    return [line for line in complaints.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("count", [6, 60, 1000])
def test_every_host_is_shown_and_the_console_is_empty(tmp_path: Path, count: int) -> None:
    path, names = written(tmp_path, count)
    shown, complaints = run_chromium(tmp_path, "--dump-dom", path.as_uri())
    assert console(complaints) == []
    assert "<title>Key rotated. 2 of " in shown
    rows = re.findall(r'<th scope="row">(.*?)</?(?:small|th)>', shown, re.DOTALL)
    assert sorted(map(html.unescape, rows)) == sorted(names)
    drawn = re.findall(r'<rect class="(?:open|up)[ "]', shown)
    assert len(drawn) >= count


def test_a_complaint_would_have_been_seen(tmp_path: Path) -> None:
    """The check above is worth something: what the page must not do is noticed."""
    path, _names = written(tmp_path, 6)
    path.write_text(path.read_text(encoding="utf-8").replace("</main>", "<script>1</script></main>"), encoding="utf-8")
    _shown, complaints = run_chromium(tmp_path, "--dump-dom", path.as_uri())
    assert len(console(complaints)) == 1 and "Content Security Policy" in complaints


@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_it_is_painted_in_both_schemes(tmp_path: Path, scheme: str) -> None:
    path, _names = written(tmp_path, 60)
    picture = tmp_path / "report.png"
    _shown, complaints = run_chromium(
        tmp_path,
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1200,2000",
        f"--screenshot={picture}",
        path.as_uri(),
    )
    assert console(complaints) == []
    assert picture.stat().st_size > 50_000


def test_it_prints_on_several_pages(tmp_path: Path) -> None:
    path, _names = written(tmp_path, 60)
    printed = tmp_path / "report.pdf"
    run_chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={printed}", path.as_uri())
    pages = [int(count) for count in re.findall(rb"/Count (\d+)", printed.read_bytes())]
    assert 3 <= max(pages) <= 8
