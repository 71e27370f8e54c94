# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is changed in an environment file, what is kept, and what is refused."""

from contextlib import suppress
from typing import Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.tests.readers.cases import CHANGED, FILES, NAME, NEW, REFUSED
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("case", CHANGED)
def test_changes_the_value_and_nothing_else(case: str) -> None:
    before, after = CHANGED[case]
    if after is None:
        with pytest.raises(env_file.Ambiguous):
            env_file.with_value(before, NAME, NEW)
        return
    assert env_file.with_value(before, NAME, NEW) == after
    assert env_file.with_value(after, NAME, NEW) == after


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_readers_disagree_about(case: str) -> None:
    data, line = REFUSED[case]
    with pytest.raises(env_file.Ambiguous) as caught:
        env_file.with_value(data, NAME, NEW)
    assert caught.value.line == line
    assert f"line {line}:" in str(caught.value)
    assert "old" not in str(caught.value).replace("would", "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A=1\nKEY=p.old # ours\nB=2\n", b"A=1\nB=2\n"),
        (b"KEY=p.old", b""),
        (b"A=1\r\nexport KEY='a'\r\nKEY=b\r\n", b"A=1\r\n"),
        (b"#KEY=a\n", b"#KEY=a\n"),
        (b"A='\nKEY=a\n'\nKEY=b\n", b"A='\nKEY=a\n'\n"),
    ],
)
def test_removes_the_lines(before: bytes, after: bytes) -> None:
    assert env_file.without(before, NAME) == after


def test_refuses_to_remove_what_holds_more() -> None:
    with pytest.raises(env_file.Ambiguous):
        env_file.without(b"KEY=p.old;B=2\n", NAME)


@pytest.mark.parametrize("before", [b"B=||#\n", b"B=1 &&\n# then\n\n", b"B=1 |\n"])
def test_does_not_remove_the_end_of_a_command(before: bytes) -> None:
    with pytest.raises(env_file.Ambiguous, match="the end of the command before it"):
        env_file.without(before + b"export KEY=p.old\n", NAME)


def test_tells_where_the_values_are() -> None:
    data = b"A=1\nKEY='p.old'\nKEY=\n"
    found = env_file.assignments(data, NAME)
    assert [(item.line, item.value, data[item.start : item.end]) for item in found] == [
        (2, b"p.old", b"p.old"),
        (3, b"", b""),
    ]


@pytest.mark.parametrize(
    ("value", "prefix"), [("p.old", "p"), ("changeme", None), ("a b.c", None), ("caf\xe9.x", None)]
)
def test_knows_a_key_by_its_shape(value: str, prefix: Optional[str]) -> None:
    key = env_file.key_in(env_file.assignments(f'KEY="{value}"\n'.encode(), NAME)[0])
    assert (key and key.prefix) == prefix


@pytest.mark.parametrize("data", [b"KEY=a\0b\n", "KEY=p.old\n".encode("utf-16"), b"\xff\xfe\n"])
def test_refuses_what_is_no_text(data: bytes) -> None:
    with pytest.raises(env_file.NotText):
        env_file.assignments(data, NAME)


@pytest.mark.parametrize("name", ["", "1A", "A=B", "A B", "A\n", "\xc4"])
def test_refuses_what_is_no_name(name: str) -> None:
    with pytest.raises(env_file.BadName):
        env_file.assignments(b"", name)


def test_stays_quick_with_a_hostile_file() -> None:
    for piece in (b"KEY=p.old\n", b"$(", b"'\\", b'"\\', b"A='x\n", b"A=\\\n", b"((", b"\t "):
        data = piece * (20_000 // len(piece))
        with suppress(env_file.Ambiguous):
            assert b"new" in env_file.with_value(data, NAME, NEW)


@settings(max_examples=400, deadline=None)
@given(FILES | st.binary(max_size=60))
def test_holds_for_any_content(data: bytes) -> None:
    try:
        changed = env_file.with_value(data, NAME, NEW)
        assert {item.value for item in env_file.assignments(changed, NAME)} == {NEW}
        assert env_file.with_value(changed, NAME, NEW) == changed
        assert env_file.assignments(env_file.without(changed, NAME), NAME) == []
    except env_file.EnvFileError:
        return
