# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record beside a file: where it is, what is believed of it, and what it says at each step."""

import copy
import io
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW, NEWER = "0" * 16, "1" * 16, "2" * 16
ACCOUNT = "a" * 16
FIRST, LATER = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
READERS, OTHERS = "b" * 16, "c" * 32

DIGESTS = st.text("0123456789abcdef", min_size=16, max_size=16)
SETS = DIGESTS | st.tuples(DIGESTS, DIGESTS).map("".join) | st.just(record.ANY)
TIMES = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
SEEN = st.sampled_from([record.REJECTED, record.STILL_VALID, record.UNSEEN])
RETIRED = st.fixed_dictionaries({"key": DIGESTS, "seen": SEEN, "at": st.none() | TIMES, "accepted": st.booleans()})
RECORDS = st.fixed_dictionaries(
    {
        "format": st.just(1),
        "account": st.none() | DIGESTS,
        "open": st.booleans(),
        "rotation": st.none() | st.fixed_dictionaries({"retire": DIGESTS, "concluded": st.booleans()}),
        "held": st.none() | DIGESTS,
        "since": st.none() | TIMES,
        "digest": st.none() | DIGESTS,
        "readers": st.dictionaries(SETS, DIGESTS, max_size=4),
        "retired": st.lists(RETIRED, max_size=8),
        "updated_at": st.none() | st.lists(st.none() | TIMES, min_size=2, max_size=2),
        "running": st.none() | st.dictionaries(SETS, st.lists(st.text(min_size=1, max_size=8), max_size=3)),
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


def test_a_file_has_one_record_whatever_links_lead_to_it(tmp_path: Path) -> None:
    real = tmp_path / "releases" / "1" / "env"
    real.parent.mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/1")
    (tmp_path / "link").symlink_to("current/env")
    paths = [str(path) for path in (real, tmp_path / "current/env", tmp_path / "link")]
    assert {record.path_of(path, "KEY", None) for path in paths} == {
        f"{os.path.realpath(real.parent)}/.env.KEY.multicart.json"
    }
    # There, the link to the newest release is what stays the same.
    assert len({record.path_of(path, "KEY", "/state") for path in paths}) == len(paths)


def test_records_of_the_other_forms_of_a_file_are_found_and_none_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    places = list(
        itertools.product(("env", "env.KEY", "en[v]", "e"), ("KEY", "OTHER", None), (None, str(tmp_path / "state")))
    )
    paths = {place: record.path_of(str(tmp_path / place[0]), *place[1:]) for place in places}
    assert len(set(paths.values())) == len(places)
    for path in paths.values():
        Path(path).touch()
    for name, variable, state_dir in places:
        found = record.former_paths(str(tmp_path / name), variable, state_dir)
        forms = ["KEY", "OTHER"] if variable is None else [None]
        expected = [paths[name, form, state_dir] for form in forms]
        if state_dir:
            expected += [paths[name, form, None] for form in (variable, *forms)]
        assert found == expected


def test_a_name_that_is_no_utf_8_has_a_record_too() -> None:
    name = b"/etc/caf\xe9".decode("utf-8", "surrogateescape")
    assert record.path_of(name, None, "/state").startswith("/state/" + record.digest_of(b"/etc/caf\xe9"))


# --- what is believed ---------------------------------------------------------------------------

FULL = {
    "format": 1,
    "account": ACCOUNT,
    "open": True,
    "rotation": {"retire": OLD, "concluded": False},
    "held": NEW,
    "since": FIRST,
    "digest": OLD,
    "readers": {READERS: NEW, record.ANY: OLD},
    "retired": [{"key": OLD, "seen": "rejected", "at": LATER, "accepted": True}],
    "updated_at": [FIRST, None],
    "running": {READERS: ["app"]},
}  # type: dict[str, Any]


def parsed(**fields: Any) -> Optional[record.Record]:
    """Return what is believed of a full record with some fields changed."""
    return record.parse(json.dumps({**FULL, **fields}).encode())


@given(RECORDS)
def test_what_was_written_is_read_back(kept: record.Record) -> None:
    assert record.parse(record.serialize(kept)) == kept


@given(RECORDS, st.data())
def test_a_record_that_is_cut_short_is_none(kept: record.Record, data: st.DataObject) -> None:
    content = record.serialize(kept).rstrip(b"\n")
    assert record.parse(content[: data.draw(st.integers(0, len(content) - 1))]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | DIGESTS | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*record.NONE, "x", "key"]), inner),
    max_leaves=8,
)  # type: st.SearchStrategy[Any]
HALF_RIGHT = RECORDS.flatmap(
    lambda kept: st.dictionaries(st.sampled_from(list(record.NONE)), JSON, max_size=2).map(
        lambda wrong: {**kept, **wrong}
    )
)


def is_time(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 40 and set(value) <= set("0123456789T:.+Z-") and value != ""


def is_set(name: str) -> bool:
    return name == "any" or is_digest(name) or (len(name) == 32 and is_digest(name[:16]) and is_digest(name[16:]))


def is_digest(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 16 and set(value) <= set("0123456789abcdef")


def assert_record(kept: Any) -> None:
    """Hold a record against its description, independently of the code that reads it."""
    assert list(kept) == list(record.NONE)
    assert kept["format"] == 1 and isinstance(kept["open"], bool)
    assert all(kept[name] is None or is_digest(kept[name]) for name in ("account", "held", "digest"))
    assert kept["since"] is None or is_time(kept["since"])
    if kept["rotation"] is not None:
        assert set(kept["rotation"]) == {"retire", "concluded"}
        assert is_digest(kept["rotation"]["retire"]) and isinstance(kept["rotation"]["concluded"], bool)
    assert all(is_set(name) for name in kept["readers"])
    assert all(is_digest(key) for key in kept["readers"].values())
    assert len(kept["retired"]) <= 8
    for entry in kept["retired"]:
        assert set(entry) == {"key", "seen", "at", "accepted"}
        assert is_digest(entry["key"]) and entry["seen"] in ("rejected", "still_valid", "unseen")
        assert (entry["at"] is None or is_time(entry["at"])) and isinstance(entry["accepted"], bool)
    if kept["updated_at"] is not None:
        assert len(kept["updated_at"]) == 2
        assert all(moment is None or is_time(moment) for moment in kept["updated_at"])
    assert all(is_set(name) for name in kept["running"] or {})
    assert all(isinstance(name, str) and name for names in (kept["running"] or {}).values() for name in names)


@given(st.binary() | (JSON | HALF_RIGHT).map(lambda value: json.dumps(value).encode()))
def test_of_anything_else_nothing_is_believed(content: bytes) -> None:
    found = record.parse(content)
    if found is not None:
        assert_record(found)


NO_DIGEST = [7, 1.5, True, [], {}, "", "x", "0" * 15, "0" * 17, "0" * 16 + "\n", "G" * 16, "ABCDEF" + "0" * 10, [OLD]]
NO_TIME = [7, True, [], {}, "", "now", FIRST + "\n", FIRST + " ", "2" * 41, "{{ x }}", "\u0661"]
NO_FLAG = [None, 0, 1, 1.0, "true", [], {}]


def _entry(**fields: Any) -> list[dict[str, Any]]:
    return [{**FULL["retired"][0], **fields}]


def _without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("format", value) for value in (None, 0, 2, 1.0, True, "1", [1])),
        *((name, value) for name in ("account", "held", "digest") for value in NO_DIGEST),
        *(("open", value) for value in NO_FLAG),
        *(("since", value) for value in NO_TIME),
        *(("rotation", value) for value in (OLD, True, [], [OLD, False], {}, {"retire": OLD}, {"concluded": True})),
        ("rotation", {"retire": OLD, "concluded": False, "more": 1}),
        *(("rotation", {"retire": value, "concluded": False}) for value in [None, *NO_DIGEST]),
        *(("rotation", {"retire": OLD, "concluded": value}) for value in NO_FLAG),
        *(("readers", value) for value in (None, [], "any", 7, {"": OLD}, {"ANY": OLD}, {"x": OLD})),
        *(("readers", {name: OLD}) for name in ("anyany", OLD[1:], OLD + "0", OLD + NEW[1:], OLD * 3, READERS + "\n")),
        *(("readers", {READERS: value}) for value in [None, *NO_DIGEST]),
        ("readers", {"{0:016x}".format(number): OLD for number in range(record.READERS_KEPT + 1)}),
        *(
            ("retired", value)
            for value in (None, {}, "", OLD, [OLD], [None], [[]], [_without(FULL["retired"][0], "at")])
        ),
        ("retired", _entry() * 9),
        ("retired", _entry(more=1)),
        *(("retired", _entry(key=value)) for value in [None, *NO_DIGEST]),
        *(("retired", _entry(seen=value)) for value in (None, True, "", "dead", ["rejected"], {"rejected": 1})),
        *(("retired", _entry(at=value)) for value in NO_TIME),
        *(("retired", _entry(accepted=value)) for value in NO_FLAG),
        *(("updated_at", value) for value in (FIRST, True, {}, [], [FIRST], [FIRST] * 3, [FIRST, 7], [[], FIRST])),
        *(("updated_at", [FIRST, value]) for value in NO_TIME),
        *(("running", value) for value in ("app", 7, True, [], ["app"], {"": []}, {"x": []}, {"ANY": []})),
        *(("running", {READERS: value}) for value in ("app", 7, None, {}, [7], [None], [""], ["x" * 257], ["x"] * 101)),
        ("running", {"{0:016x}".format(number): [] for number in range(record.READERS_KEPT + 1)}),
    ],
)
def test_a_field_of_another_type_or_form_makes_it_no_record(name: str, value: Any) -> None:
    assert parsed() == FULL
    assert parsed(**{name: value}) is None
    assert record.checked({**FULL, name: value}) is None


@pytest.mark.parametrize("name", [*record.NONE])
def test_a_field_that_is_missing_is_unknown_but_for_the_format(name: str) -> None:
    found = record.parse(json.dumps(_without(FULL, name)).encode())
    assert found == (None if name == "format" else {**FULL, name: record.NONE[name]})


def test_as_much_as_a_record_may_list_is_believed() -> None:
    retired, names = _entry() * 8, ["{0:016x}".format(number) for number in range(record.READERS_KEPT)]
    most = {"retired": retired, "readers": dict.fromkeys(names, OLD), "running": dict.fromkeys(names, ["x"] * 100)}
    assert parsed(**most) == {**FULL, **most}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"open"',
        b"{}",
        b'{"open": true}',
        b'\xff\xfe{"format": 1}',
        b'{"format": 1}{"format": 1}',
        b'{"format": 1, "since": NaN}',
        b'{"format": 1, "held": "' + b"x" * 1000000 + b'"}',
        b"[" * 100000,
        b'{"a":' * 100000,
        b"9" * 5000,
    ],
    ids=lambda content: repr(content[:30]),
)
def test_garbage_is_no_record(content: bytes) -> None:
    assert record.parse(content) is None


def test_foreign_fields_are_dropped() -> None:
    assert parsed(api_key="p.secret") == FULL
    assert record.parse(b'{"format": 1, "api_key": "p.secret"}') == record.NONE


# --- what it says ---------------------------------------------------------------------------------


@pytest.fixture(name="full", params=["full", "none"])
def fixture_full(request: Any) -> Any:
    """Yield a record, and see to it that whatever is made of it leaves it as it is."""
    kept = copy.deepcopy(FULL if request.param == "full" else record.NONE)
    before = copy.deepcopy(kept)
    yield kept
    assert kept == before


def test_opening_names_the_key_to_retire_and_keeps_what_was_known(full: record.Record) -> None:
    rotation = {"retire": NEW, "concluded": False}
    begun = {"open": True, "rotation": rotation}
    assert record.opened({**full, "open": False}, NEW) == {**full, **begun, "running": {}}
    assert record.opened(None, NEW) == {**record.NONE, **begun, "running": {}}
    assert record.opened({**full, "rotation": {"retire": NEW, "concluded": True}}, NEW)["rotation"] == rotation


def opened_by(readers: str, kept: Optional[record.Record], *names: str, retire: str = NEW) -> record.Record:
    """Return a record after readers have opened it of which these services run."""
    return record.opened(kept, retire, lambda: list(names), readers=readers)


def test_what_ran_when_a_record_was_opened_is_noted_for_each_set_of_readers(full: record.Record) -> None:
    """Once: since then it may have been stopped by the restart itself.

    Of two hosts that share a file one may have stopped its own on purpose.
    """
    begun = opened_by(READERS, {**full, "open": False}, "app")
    assert begun["running"] == {READERS: ["app"]}
    assert opened_by(READERS, begun, retire=NEWER)["running"] == {READERS: ["app"]}
    both = opened_by(OTHERS, begun)
    assert both["running"] == {READERS: ["app"], OTHERS: []}
    assert record.rewritten(both, OTHERS, lambda: ["now"])["running"] == {READERS: ["app"], OTHERS: []}
    assert record.rewritten(begun, OTHERS, lambda: ["now"])["running"] == {READERS: ["app"], OTHERS: ["now"]}


def test_what_ran_is_noted_anew_while_the_key_that_was_to_be_retired_is_live() -> None:
    """Nothing came of that rotation, so what is stopped by now was stopped on purpose."""
    both = opened_by(OTHERS, opened_by(READERS, None, "app"), "job")
    again = opened_by(READERS, both, "other")
    assert again["running"] == {OTHERS: ["job"], READERS: ["other"]}
    assert opened_by(READERS, record.closed(again))["running"] == {READERS: []}


def set_of(machine: str, number: int) -> str:
    return machine + "{0:016x}".format(number)


def test_what_ran_on_a_machine_is_known_by_whatever_set_has_noted_it() -> None:
    clone, other = "a" * 8 + "c" * 8, "b" * 16
    here = "a" * 8 + "d" * 8
    noted = {set_of(here, 1): ["app"], set_of(here, 2): ["job"], set_of(clone, 1): ["web"], set_of(other, 1): ["db"]}
    kept = {**record.NONE, "open": True, "running": noted}
    for number in (1, 2, 3):
        assert record.to_be_running(kept, set_of(here, number)) == ["app", "job"]
    assert record.to_be_running(kept, set_of(clone, 3)) == ["web"]
    # By a new node name it is known as long as nothing is noted under that.
    renamed = set_of("a" * 8 + "e" * 8, 1)
    assert record.to_be_running(kept, renamed) == ["app", "job", "web"]
    assert record.to_be_running({**kept, "readers": {renamed: OLD}}, renamed) == []
    assert record.to_be_running({**kept, "running": {**noted, renamed: []}}, renamed) == []
    assert record.to_be_running({**kept, "running": None}, renamed) == []
    assert record.to_be_running(kept, NEWER) == []


def test_what_was_restarted_is_no_longer_noted_on_that_machine_but_all_else_is() -> None:
    here, other = "a" * 16, "b" * 16
    one, two, three = (set_of(here, number) for number in (1, 2, 3))
    noted = {one: ["app"], two: ["app", "job"], three: [], set_of(other, 1): ["app"]}
    kept = {**record.NONE, "open": True, "running": noted}
    done = record.closed(kept, set_of(here, 4), NEW, ["app", "worker"])
    assert done["running"] == {two: ["job"], three: [], set_of(other, 1): ["app"]}
    done = record.closed(kept, two, NEW, ["job"])
    assert done["running"] == {one: ["app"], three: [], set_of(other, 1): ["app"]}


def test_of_what_ran_not_too_much_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = record.NONE
    monkeypatch.setattr(record, "READERS_KEPT", 256)
    for number in range(300):
        kept = opened_by("{0:016x}".format(number), kept, *["x"] * 1000)
    assert record.checked(kept) == kept
    assert len(kept["running"]) == 256 and kept["running"]["{0:016x}".format(299)] == ["x"] * record.SERVICES_KEPT


def test_another_key_has_a_new_date_and_the_same_one_keeps_its_own(full: record.Record) -> None:
    first = record.wrote(full, NEWER, "d1", LATER)
    assert first == {**full, "held": NEWER, "since": LATER, "digest": "d1"}
    assert record.wrote(first, NEWER, "d2", FIRST) == {**first, "digest": "d2"}
    assert record.wrote(first, OLD, "d3", FIRST) == {**first, "held": OLD, "since": FIRST, "digest": "d3"}
    assert record.wrote({**first, "since": None}, NEWER, "d1", FIRST)["since"] == FIRST


def test_the_keys_that_another_one_replaces_are_retired_whoever_did_it() -> None:
    """A process that keeps one of them is found by that, in every later run."""
    unseen = {"seen": record.UNSEEN, "at": None, "accepted": False}
    kept = record.replaced(record.NONE, [OLD, OLD, OTHERS], NEW)
    assert kept == {**record.NONE, "retired": [{"key": OLD, **unseen}, {"key": OTHERS, **unseen}]}
    # Also one that was held, and is not in the file any more: it was put right by hand.
    later = record.replaced({**kept, "held": NEW}, [NEWER], NEWER)
    assert later["retired"] == [*kept["retired"], {"key": NEW, **unseen}]
    assert record.replaced({**later, "held": NEWER}, [NEWER], NEWER) == {**later, "held": NEWER}
    # What is known of one by now is not forgotten.
    known = record.retired(record.NONE, OLD, record.REJECTED, FIRST, accepted=True)
    assert record.replaced(known, [OLD], NEW) == known


def test_the_account_is_learnt_and_not_forgotten(full: record.Record) -> None:
    assert record.wrote(full, NEW, OLD, FIRST, account=OTHERS)["account"] == OTHERS
    assert record.wrote(full, NEW, OLD, FIRST)["account"] == full["account"]


def test_closing_changes_nothing_else(full: record.Record) -> None:
    assert record.closed({**full, "open": True, "running": None}) == {**full, "open": False, "running": None}


def test_what_ran_of_other_readers_is_known_until_they_were_restarted_too(full: record.Record) -> None:
    """One of them may be down when the first closes the record: its service is not taken for stopped on purpose."""
    both = {**full, "open": True, "running": {READERS: ["app"], OTHERS: ["job"]}}
    assert record.closed(both, READERS) == {**full, "open": False, "running": {OTHERS: ["job"]}}
    assert record.closed(record.closed(both, READERS), OTHERS)["running"] is None


def test_the_verdict_concludes_the_rotation_and_nothing_else() -> None:
    assert record.concluded(FULL) == {**FULL, "rotation": {"retire": OLD, "concluded": True}}
    assert record.concluded(record.NONE) == record.NONE


@pytest.mark.parametrize("updated_at", [None, ["before", "after"]])
def test_what_was_seen_of_the_retired_key_is_concluded_too(updated_at: Any) -> None:
    seen = {"key": OLD, "seen": record.REJECTED, "at": LATER, "accepted": True, "updated_at": updated_at}
    concluded = record.concluded(FULL, seen)
    assert concluded["retired"] == record.retired(FULL, OLD, record.REJECTED, LATER, True)["retired"]
    assert concluded["updated_at"] == (updated_at or FULL["updated_at"])
    assert concluded["rotation"]["concluded"]


# --- which restart is due -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "due"),
    [
        (None, False),  # nothing is known: it was not written by a run
        ({}, True),  # a file that was written and whose readers were never restarted
        ({READERS: OLD}, True),
        ({READERS: NEW}, False),
        ({OTHERS: NEW}, True),  # another set of services: this one was not restarted
        ({OTHERS: NEW, READERS: NEW}, False),
        ({OTHERS: NEW, READERS: OLD}, True),
        ({record.ANY: NEW}, False),  # adopted: whoever reads it uses that key
        ({record.ANY: NEW, READERS: OLD}, False),
        ({record.ANY: OLD, READERS: NEW}, False),
        ({record.ANY: OLD, OTHERS: NEW}, True),
    ],
)
@pytest.mark.parametrize("is_open", [True, False])
def test_a_restart_is_due_until_these_readers_were_restarted_with_the_key(
    kept: Optional[dict[str, str]], due: bool, is_open: bool
) -> None:
    known = None if kept is None else {**FULL, "readers": kept, "open": is_open}
    assert record.restart_due(known, NEW, READERS) is due


def test_a_file_that_held_the_key_before_is_used_by_its_readers_already(full: record.Record) -> None:
    adopted = record.adopted(full, NEW)
    assert adopted == {**full, "readers": {record.ANY: NEW}}
    assert not record.restart_due(adopted, NEW, READERS)
    assert not record.restart_due(adopted, NEW, OTHERS)
    assert record.restart_due(adopted, NEWER, READERS)


def test_t16_each_set_of_readers_has_its_own_restart(full: record.Record) -> None:
    """T16: two roles of one host share a file, each with its own services."""
    kept = record.restarted({**full, "readers": {}}, READERS, NEW)
    assert kept == {**full, "readers": {READERS: NEW}}
    assert record.restart_due(kept, NEW, OTHERS)
    kept = record.restarted(kept, OTHERS, NEW)
    assert kept["readers"] == {READERS: NEW, OTHERS: NEW}
    # The others' restart is due from now on; or else they are gone, and would be listed for ever.
    kept = record.restarted(kept, READERS, NEWER)
    assert kept["readers"] == {READERS: NEWER}
    assert record.restart_due(kept, NEWER, OTHERS)


def test_of_a_file_that_gets_another_content_it_is_not_known_any_more_what_its_readers_use(full: record.Record) -> None:
    known = {READERS: NEW, OTHERS: OLD, record.ANY: NEW}
    kept = record.rewritten({**full, "open": False, "readers": known}, READERS, lambda: ["now"])
    assert kept == {**full, "open": True, "readers": {OTHERS: OLD}, "running": {READERS: ["now"]}}
    assert record.restart_due(kept, NEW, READERS)
    assert not record.restart_due(kept, OLD, OTHERS)


def test_the_newest_sets_of_readers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "READERS_KEPT", 256)
    kept = dict(record.NONE)
    names = ["{0:016x}".format(number) for number in range(300)]
    for name in [names[0], *names]:
        kept = record.restarted(kept, name, NEW)
    assert list(kept["readers"]) == names[-256:]
    assert record.checked(kept) == kept
    # One that was restarted again is the newest by then.
    kept = record.restarted(kept, names[50], NEW)
    kept = record.restarted(kept, "f" * 16, NEW)
    assert list(kept["readers"]) == [*names[45:50], *names[51:], names[50], "f" * 16]


def test_a_set_of_readers_has_a_name_of_its_own() -> None:
    app, proxy = {"name": "app", "state": "restarted"}, {"name": "proxy", "state": "restarted"}
    sets = [([], []), ([app], []), ([proxy], []), ([app, proxy], []), ([proxy, app], []), ([], [["app"]])]
    sets += [([{**app, "state": "reloaded"}], []), ([app], [["x"]]), ([], [["a", "b"]]), ([], [["a"], ["b"]])]
    names = [record.readers_of(*each) for each in sets]
    assert len(set(names)) == len(sets)
    assert all(is_digest(name) for name in names)
    assert record.readers_of([dict(reversed(list(app.items())))], []) == record.readers_of([app], [])


HERE, THERE = "0123456789abcdef" * 2, "fedcba9876543210" * 2


@pytest.fixture(name="name_of")
def fixture_name_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what gives the name of a machine by the content of its two files (None: missing) and its node name."""
    paths = [tmp_path / "etc", tmp_path / "dbus"]
    monkeypatch.setattr(record, "MACHINE_IDS", tuple(map(str, paths)))

    def name_of(etc: Optional[str], dbus: Optional[str] = None, node: str = "web1") -> str:
        for path, content in zip(paths, (etc, dbus), strict=True):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content.encode("latin-1"))
        monkeypatch.setattr(record.os, "uname", lambda: SimpleNamespace(nodename=node))
        return record.this_machine()

    return name_of


def test_t16_each_machine_has_a_name_of_its_own_whatever_it_is_called(name_of: Callable[..., str]) -> None:
    here = name_of(HERE + "\n")
    assert is_digest(here) and here != HERE[:16]
    assert name_of(HERE + "\n", THERE + "\n") == name_of(HERE.upper()) == here
    assert len({here, name_of(THERE + "\n"), name_of(HERE, node="clone")}) == 3
    app = [{"name": "app", "state": "restarted"}]
    assert len({record.readers_of(app, [], where) for where in (here, name_of(THERE), "")}) == 3


@pytest.mark.parametrize(
    "content", [None, "", "\n", "uninitialized\n", HERE[1:], HERE + "0", "0" * 32, HERE + "\n" + THERE, "\xff" * 32]
)
def test_t16_a_machine_without_an_identity_has_its_other_one_or_its_node_name(
    name_of: Callable[..., str], content: Optional[str]
) -> None:
    assert name_of(content, HERE) == name_of(HERE)
    assert name_of(content, content) == name_of(None, node="web1") != name_of(content, content, node="web2")
    assert is_digest(name_of(content, node="caf\udce9"))


def test_t16_where_nothing_is_restarted_it_does_not_matter_where() -> None:
    """A container that is created again has another name each time."""
    assert record.readers_of([], [], "here") == record.readers_of([], [], "there") == record.readers_of([], [])


def test_the_commands_of_each_user_are_a_set_of_their_own_and_services_are_those_of_the_machine() -> None:
    app, command = [{"name": "app", "state": "restarted"}], [["systemctl", "--user", "restart", "app"]]
    for services in ([], app):
        names = [record.readers_of(services, command, "here", user) for user in (0, 1000, 1001)]
        assert len(set(names)) == len(names)
    assert record.readers_of(app, [], "here", 0) == record.readers_of(app, [], "here", 1000)
    assert record.readers_of([], [], "here", 0) == record.readers_of([], [])


def test_when_the_first_process_was_started_is_known_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    started = record.started_at()
    assert started is not None and 0 < started < time.time()
    monkeypatch.setattr(record, "open", lambda *dummy: io.BytesIO(b"1 (a) b) S 1 2"), raising=False)
    assert record.started_at() is None


def test_t16_an_identity_that_cannot_be_read_counts_as_none(
    name_of: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = name_of(None)
    monkeypatch.setattr(record, "MACHINE_IDS", (str(tmp_path), str(tmp_path / "a" / "b")))
    assert record.this_machine() == expected


# --- retired keys ---------------------------------------------------------------------------------


def test_a_retired_key_is_noted_once_and_the_newest_last(full: record.Record) -> None:
    kept = record.retired(full, NEW, record.UNSEEN, None, False)
    assert kept == {
        **full,
        "retired": [*full["retired"], {"key": NEW, "seen": "unseen", "at": None, "accepted": False}],
    }
    kept = record.retired(kept, NEWER, record.REJECTED, LATER, True)
    again = record.retired(kept, NEW, record.REJECTED, LATER, True)
    assert [entry["key"] for entry in again["retired"]][-2:] == [NEWER, NEW]
    assert again["retired"][-1] == {"key": NEW, "seen": "rejected", "at": LATER, "accepted": True}
    assert len(again["retired"]) == len(kept["retired"])


def test_the_last_eight_retired_keys_are_kept() -> None:
    kept = dict(record.NONE)
    keys = ["{0:016x}".format(number) for number in range(12)]
    for key in keys:
        kept = record.retired(kept, key, record.UNSEEN, None, True)
    assert [entry["key"] for entry in kept["retired"]] == keys[-8:]
    assert record.checked(kept) == kept


@pytest.mark.parametrize("before", [record.REJECTED, record.STILL_VALID])
@pytest.mark.parametrize(("was", "is_accepted"), [(True, False), (False, True), (False, False)])
def test_what_was_seen_is_not_forgotten_by_who_saw_nothing(before: str, was: bool, is_accepted: bool) -> None:
    kept = record.retired(record.NONE, OLD, before, FIRST, was)
    kept = record.retired(kept, OLD, record.UNSEEN, None, is_accepted)
    assert kept["retired"] == [{"key": OLD, "seen": before, "at": FIRST, "accepted": was or is_accepted}]


@pytest.mark.parametrize("seen", [record.REJECTED, record.STILL_VALID])
def test_what_was_seen_last_counts(seen: str) -> None:
    kept = record.retired(record.NONE, OLD, record.STILL_VALID, FIRST, True)
    assert record.retired(kept, OLD, seen, LATER, True)["retired"][0] == {
        "key": OLD,
        "seen": seen,
        "at": LATER,
        "accepted": True,
    }


# --- any history ----------------------------------------------------------------------------------

STEPS = st.one_of(
    st.builds(lambda key: lambda kept: record.opened(kept, key), DIGESTS),
    st.builds(lambda key, at: lambda kept: record.wrote(kept, key, OLD, at, ACCOUNT), DIGESTS, TIMES),
    st.builds(lambda key: lambda kept: record.adopted(kept, key), DIGESTS),
    st.builds(lambda name, key: lambda kept: record.restarted(kept, name, key), DIGESTS, DIGESTS),
    st.builds(
        lambda key, seen, at, yes: lambda kept: record.retired(kept, key, seen, at, yes),
        DIGESTS,
        SEEN,
        TIMES,
        st.booleans(),
    ),
    st.just(record.closed),
    st.just(record.concluded),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_a_record_can_be_read_again(steps: Any) -> None:
    kept = dict(record.NONE)
    for step in steps:
        kept = step(kept)
    assert record.parse(record.serialize(kept)) == kept
    assert_record(kept)
