# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record beside a file: where it is, what is believed of it, and what it says at each step."""

import json
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = "0" * 16, "1" * 16
FIRST, LATER = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"

TEXTS = st.none() | st.text(max_size=64)
RECORDS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("open", "begun", "restart"), st.booleans()),
        "retire": TEXTS,
        "held": TEXTS,
        "since": TEXTS,
        "digest": TEXTS,
        "account": TEXTS,
    }
)


# --- where it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "state_dir", "path"),
    [
        ("KEY", None, "/etc/app/.env.KEY.multicart.json"),
        (None, None, "/etc/app/.env.multicart-template.json"),
        ("KEY", "/var/lib/mc", "/var/lib/mc/{digest}.env.KEY.multicart.json"),
        (None, "/var/lib/mc", "/var/lib/mc/{digest}.env.multicart-template.json"),
    ],
)
def test_it_is_hidden_beside_the_file_or_in_the_directory_for_records(
    variable: Optional[str], state_dir: Optional[str], path: str
) -> None:
    digest = record.digest_of(b"/etc/app/env")
    assert record.path_of("/etc/app/env", variable, state_dir) == path.format(digest=digest)


PATHS = st.lists(st.sampled_from(["etc", "app", ".env", "env", "a.KEY"]), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
PLACES = st.tuples(PATHS, st.none() | st.sampled_from(["KEY", "OTHER"]))


@given(PLACES, PLACES)
def test_two_places_never_share_a_record_in_the_directory_for_records(
    one: tuple[str, Optional[str]], two: tuple[str, Optional[str]]
) -> None:
    assert (record.path_of(*one, "/state") == record.path_of(*two, "/state")) == (one == two)


@given(PATHS, PATHS, st.none() | st.just("KEY"))
def test_two_files_never_share_a_record_beside_them(one: str, two: str, variable: Optional[str]) -> None:
    assert (record.path_of(one, variable, None) == record.path_of(two, variable, None)) == (one == two)


def test_a_template_never_shares_the_record_of_a_variable() -> None:
    assert record.path_of("/etc/env.KEY", None, None) != record.path_of("/etc/env", "KEY", None)


def test_a_name_that_is_no_utf_8_has_a_record_too() -> None:
    name = b"/etc/caf\xe9".decode("utf-8", "surrogateescape")
    assert record.path_of(name, None, "/state").startswith("/state/" + record.digest_of(b"/etc/caf\xe9"))


# --- what is believed -----------------------------------------------------------------------------


@given(RECORDS)
def test_what_was_written_is_read_back(kept: record.Record) -> None:
    assert record.parse(record.serialize(kept)) == kept


@given(RECORDS, st.data())
def test_a_record_that_is_cut_short_is_none(kept: record.Record, data: st.DataObject) -> None:
    content = record.serialize(kept).rstrip(b"\n")
    assert record.parse(content[: data.draw(st.integers(0, len(content) - 1))]) is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*record.NONE, "x"]), inner),
    max_leaves=8,
)


def is_record(kept: Any) -> bool:
    texts = [kept[name] for name in ("retire", "held", "since", "digest", "account")]
    return isinstance(kept["open"], bool) and all(
        text is None or (isinstance(text, str) and len(text) <= 64) for text in texts
    )


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_of_anything_else_nothing_is_believed(content: bytes) -> None:
    found = record.parse(content)
    assert found is None or (set(found) == set(record.NONE) and is_record(found))


GOOD = {"open": True, "begun": True, "restart": True, "retire": OLD, "held": NEW, "since": FIRST, "digest": OLD}
GOOD["account"] = NEW


@pytest.mark.parametrize("name", ["retire", "held", "since", "digest", "account"])
@pytest.mark.parametrize("value", [7, True, [], {}, "x" * 65])
def test_a_field_of_another_type_or_of_any_length_spoils_the_record(name: str, value: Any) -> None:
    assert record.parse(json.dumps(GOOD).encode()) == GOOD
    assert record.parse(json.dumps({**GOOD, name: value}).encode()) is None


@pytest.mark.parametrize("name", ["open", "begun", "restart"])
@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_a_flag_is_true_or_false_and_nothing_else(name: str, value: Any) -> None:
    assert record.parse(json.dumps({**GOOD, name: value}).encode()) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"open"',
        b"{}",
        b'{"open": 1}',
        b'{"open": "true"}',
        b'{"open": null}',
        b'\xff\xfe{"open": true}',
        b'{"open": true}{"open": true}',
        b'{"open": true, "retire": "' + b"x" * 1000000 + b'"}',
        b"[" * 100000,
    ],
    ids=lambda content: repr(content[:30]),
)
def test_garbage_is_no_record(content: bytes) -> None:
    assert record.parse(content) is None


def test_fields_that_are_missing_are_unknown_and_foreign_ones_are_dropped() -> None:
    assert record.parse(b'{"open": true, "api_key": "p.secret"}') == {**record.NONE, "open": True}


# --- what it says ---------------------------------------------------------------------------------


def test_opening_keeps_what_was_known() -> None:
    assert record.opened(None, OLD) == {**record.NONE, "open": True, "retire": OLD}
    known = {**GOOD, "open": False, "begun": False, "restart": False, "retire": None}
    assert record.opened(known, NEW, restart=True, begun=True) == {**GOOD, "retire": NEW}
    assert known["open"] is False


def test_another_key_has_a_new_date_and_the_same_one_keeps_its_own() -> None:
    first = record.wrote(record.opened(None, OLD), NEW, "d1", FIRST)
    assert first == {**record.NONE, "open": True, "retire": OLD, "held": NEW, "since": FIRST, "digest": "d1"}
    assert record.wrote(first, NEW, "d2", LATER) == {**first, "digest": "d2"}
    assert record.wrote(first, OLD, "d3", LATER) == {**first, "held": OLD, "since": LATER, "digest": "d3"}
    assert record.wrote({**first, "since": None}, NEW, "d1", LATER)["since"] == LATER


@given(RECORDS)
def test_closing_changes_nothing_else(kept: record.Record) -> None:
    assert record.closed(kept) == {**kept, "open": False, "begun": False, "restart": False}
    assert record.closed(record.opened(kept, OLD)) == {
        **kept,
        "open": False,
        "begun": False,
        "restart": False,
        "retire": OLD,
    }


@pytest.mark.parametrize(
    ("kept", "due"),
    [
        (None, False),
        (record.opened(None, OLD), True),  # another key was to be retired: this one is new
        (record.opened(None, None), True),  # the first key that this file ever held
        (record.opened(None, NEW), False),  # this very key is to be retired
        (record.opened(None, NEW, restart=True), True),  # the same, but another restart was due before
        (record.closed(record.opened(None, OLD)), False),
    ],
)
def test_a_restart_is_due_while_the_record_is_open_for_another_key(kept: Optional[record.Record], due: bool) -> None:
    assert record.restart_due(kept, NEW) is due
