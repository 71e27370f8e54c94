# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The locks have every requirement, in a version that it allows, on every Python. Where one does not: `make lock`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tools import lock

LOCKS = lock.locks()
ON_EACH_PYTHON = [(name, python) for name, a_lock in LOCKS.items() for python in a_lock.pythons]


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, and of those that it takes in, without comments."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            yield from lines(path.parent / text[3:])
        elif text:
            yield text


def on(python: str, path: Path) -> list[Requirement]:
    """Return what a file says for one Python."""
    # Any release but the very first ones, for which a few packages have lines of their own.
    environment = {"python_version": python, "python_full_version": f"{python}.9"}
    found = map(Requirement, lines(path))
    return [each for each in found if each.marker is None or each.marker.evaluate(environment)]


def unmet(required: list[Requirement], locked: list[Requirement]) -> list[str]:
    """Return the requirements that are not among what is locked, or locked in a version that they do not allow."""
    versions = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in locked}
    have = [(each, versions.get(canonicalize_name(each.name))) for each in required]
    return [f"{each}, not {got}" for each, got in have if not got or not each.specifier.contains(got, prereleases=True)]


@pytest.mark.parametrize("name,python", ON_EACH_PYTHON)
def test_a_lock_meets_the_requirements(name: str, python: str) -> None:
    a_lock = LOCKS[name]
    required = [each for path in a_lock.inputs for each in on(python, lock.ROOT / path)]
    if a_lock.core:
        required.append(Requirement(f"ansible-core~={a_lock.core}.0"))
    assert required
    assert not unmet(required, on(python, lock.ROOT / lock.LOCKED / f"{name}.txt"))


@pytest.mark.parametrize("name,python", ON_EACH_PYTHON)
def test_a_lock_has_one_version_of_each(name: str, python: str) -> None:
    locked = on(python, lock.ROOT / lock.LOCKED / f"{name}.txt")
    names = [canonicalize_name(each.name) for each in locked]
    assert len(names) == len(set(names))
    assert not [str(each) for each in locked if not str(each.specifier).startswith("==") or "*" in str(each.specifier)]


def test_there_is_no_other_lock_and_none_names_a_place() -> None:
    """What is installed comes from wherever the pip of this machine takes it."""
    paths = list((lock.ROOT / lock.LOCKED).iterdir())
    assert {path.name for path in paths} == {f"{name}.txt" for name in LOCKS}
    assert not [line for path in paths for line in lines(path) if "://" in line or line.startswith("-")]


def test_what_is_missing_too_old_or_too_new_is_found() -> None:
    """The test above, on what it must not let through; names are the same in any spelling."""
    locked = [Requirement("a-b==1.5"), Requirement("pre==1.0a1")]
    assert not unmet([Requirement("A_b>=1,<2"), Requirement("pre>=0.9")], locked)
    for text in ("new", "a.b>=1.6", "a-b<1.5", "a-b==1.4"):
        assert unmet([Requirement(text)], locked) == [f"{Requirement(text)}, not {'1.5' if 'b' in text else None}"]
