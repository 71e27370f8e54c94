# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links of the documentation lead to files and headings that exist, and work on Galaxy's page where they have to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ON_GALAXY = [ROOT / "README.md", *sorted(ROOT.glob("roles/*/README.md"))]
PAGES = [*ON_GALAXY, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "tests" / "README.md"]
PAGES += [ROOT / "tests" / "sandbox" / "README.md", *sorted(ROOT.glob("extensions/**/README.md"))]
HERE = re.compile(r"https://github\.com/multicart/keys/(blob|tree)/main/")


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and Galaxy make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_into_the_repository(page: Path) -> None:
    for link in links(page):
        kind = HERE.match(link)
        if "://" in link and not kind:
            continue
        name, _hash, anchor = HERE.sub("", link).partition("#")
        target = (ROOT if kind else page.parent) / name if name else page
        assert target.exists(), link
        if kind:
            assert target.is_dir() == (kind[1] == "tree"), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", ON_GALAXY, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_relative_links_on_galaxy(page: Path) -> None:
    assert not [link for link in links(page) if "://" not in link and not link.startswith("#")]
