# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links of the documentation lead to files and headings that exist, and work on Galaxy's page where they have to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.docs import rst

ROOT = rst.ROOT
ON_GALAXY = [ROOT / "README.md", *sorted(ROOT.glob("roles/*/README.md"))]
PAGES = [*ON_GALAXY, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "tests" / "README.md"]
PAGES += [ROOT / "tests" / "sandbox" / "README.md", *sorted(ROOT.glob("extensions/**/README.md")), *rst.PAGES]
HERE = re.compile(r"https://github\.com/multicart/keys/(blob|tree|raw)/main/")


def links(page: Path) -> list[str]:
    """Return the addresses that a page leads to; Sphinx itself checks what one of the site has without an address."""
    pattern = r"`[^`<]+<([^>\s]+://[^>\s]+)>`__" if page in rst.PAGES else r"\]\(([^)\s]+)\)"
    return re.findall(pattern, page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and Galaxy make them."""
    text = page.read_text(encoding="utf-8")
    headings = rst.headings(text) if page in rst.PAGES else re.findall(r"^#+ (.+)$", text, re.MULTILINE)
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


def test_the_readme_leads_to_every_page_of_the_site() -> None:
    """To those of the types of stores by way of the page about stores."""
    linked = {link.rpartition("/")[2] for link in links(ON_GALAXY[0])}
    linked |= {f"{name}.rst" for name in re.findall(r"docsite\.(store_\w+)>", rst.read("stores"))}
    assert not [page.name for page in rst.PAGES if page.name not in linked]


def test_every_page_and_every_picture_is_on_the_site() -> None:
    sections = yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text(encoding="utf-8"))["sections"]
    listed = sorted(name for section in sections for name in section["toctree"])
    assert listed == sorted(page.stem for page in rst.PAGES)
    shown = {name for page in rst.PAGES for name in re.findall(r"\.\. image:: (\S+)", page.read_text(encoding="utf-8"))}
    assert shown == {path.name for kind in ("*.svg", "*.png") for path in rst.FOLDER.glob(kind)}
