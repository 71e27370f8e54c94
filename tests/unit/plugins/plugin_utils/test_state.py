# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a consumer stands, and what is read of a host's answer: its closed form, or an error of that host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    MOST_FILES,
    Answer,
    Consumer,
    File,
    Inspection,
    MalformedAnswer,
    Problem,
    Record,
    Retired,
    Standing,
    State,
    answer_from,
    clean,
    record_from,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

LIVE, OLD = "1" * 16, "0" * 16
PATH = "/etc/app/env"
FULL = Problem("no_space", "the file system is full.")

GOOD = File(PATH, holds=(LIVE,))
STALE = File(PATH, holds=(OLD,))
MISSING = File(PATH)
UNKNOWN = File(PATH, unknown=True)
DUE = File(PATH, holds=(LIVE,), restart_due=True)


def consumer(*files: File, lacking: Sequence[Problem] = (), failure: Problem | None = None) -> Consumer:
    return Consumer("web", Inspection(files, tuple(lacking)), failure)


# --- how a consumer stands ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (consumer(GOOD), State.UP_TO_DATE),
        (consumer(GOOD, File("/b", holds=(LIVE, LIVE))), State.UP_TO_DATE),
        (consumer(File(PATH, holds=(LIVE,), held=(OLD,), changed=True)), State.UP_TO_DATE),
        (consumer(File(PATH, holds=(LIVE,), record=Record(open=True, retire=LIVE))), State.UP_TO_DATE),
        (consumer(File(PATH, holds=(LIVE,), problem=FULL)), State.UP_TO_DATE),  # not writable, but need not be written
        (consumer(GOOD, DUE), State.RESTART_DUE),
        (consumer(GOOD, failure=FULL), State.RESTART_DUE),  # what failed keeps its readers from the key
        (consumer(GOOD, STALE), State.OUT_OF_DATE),
        (consumer(File(PATH, holds=(LIVE, OLD))), State.OUT_OF_DATE),  # one assignment of several
        (consumer(GOOD, UNKNOWN), State.OUT_OF_DATE),
        (consumer(STALE, MISSING, DUE), State.OUT_OF_DATE),
        (consumer(STALE, failure=FULL), State.OUT_OF_DATE),
        (consumer(DUE, MISSING), State.MISSING),
        (consumer(MISSING, failure=FULL), State.MISSING),
        (consumer(), State.MISSING),
        (consumer(STALE, File("/b", problem=FULL)), State.UNREADABLE),
        (Consumer("web", failure=FULL), State.UNREADABLE),
        (Consumer("web"), State.UNREADABLE),
        (Consumer("web", failure=FULL, reached=False), State.UNREACHABLE),
        (Consumer("web", Inspection((GOOD,)), FULL, reached=False), State.UNREACHABLE),
    ],
)
def test_a_consumer_is_as_good_as_the_worst_of_its_files(found: Consumer, state: State) -> None:
    assert found.standing(LIVE).state is state


def test_the_same_files_stand_otherwise_against_another_key() -> None:
    assert consumer(STALE).standing(OLD).state is State.UP_TO_DATE
    assert consumer(GOOD).standing(OLD).state is State.OUT_OF_DATE
    assert consumer(GOOD).standing("").state is State.OUT_OF_DATE


@pytest.mark.parametrize(
    ("files", "holds"), [((MISSING,), False), ((MISSING, STALE), True), ((UNKNOWN,), True), ((), False)]
)
def test_a_file_that_may_hold_a_key_counts_as_holding_one(files: tuple[File, ...], holds: bool) -> None:
    assert consumer(*files).holds_key is holds


def test_a_problem_has_no_full_stop_whoever_has_written_it() -> None:
    assert [Problem("full", text).text for text in ("it is full.", "it is full")] == ["it is full"] * 2


def test_every_problem_of_a_consumer_is_told_and_its_failure_first() -> None:
    first, second = Problem("unreadable", "first"), Problem("not_writable", "second.")
    lacking, failure = Problem("not_ready", "it has no service app"), Problem("timed_out", "it did not answer")
    files = (File("/a", problem=first), GOOD, File("/b", problem=second))
    assert consumer(*files, lacking=[lacking]).problems == (first, second, lacking)
    assert consumer(*files, lacking=[lacking], failure=failure).problems == (failure, first, second, lacking)
    assert Consumer("web", failure=failure).problems == (failure,)
    assert consumer(STALE, MISSING).problems == Consumer("web").problems == ()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (consumer(GOOD), "up to date"),
        (consumer(STALE), f"out of date: the key {OLD} in /etc/app/env"),
        (
            consumer(GOOD, File("/b", unknown=True, record=Record(held=OLD)), MISSING),
            f"out of date: /b was changed by hand, {MISSING.path} holds no key",
        ),
        *(
            (consumer(File("/b", unknown=True, record=record)), "out of date: /b was not written by this collection")
            for record in (None, Record(open=True, retire=OLD))
        ),
        (consumer(DUE), "restart due"),
        (consumer(File("/b", problem=FULL), GOOD), "unreadable: the file system is full"),
        (consumer(GOOD, lacking=[Problem("not_ready", "a."), Problem("not_ready", "b")]), "up to date: a, b"),
        (Consumer("web", failure=Problem("unreachable", "no route"), reached=False), "unreachable: no route"),
    ],
)
def test_a_standing_tells_why_where_the_state_does_not(found: Consumer, words: str) -> None:
    assert found.standing(LIVE).words == words


def test_the_words_of_a_state_are_its_name() -> None:
    assert {state.words.replace(" ", "_") for state in State} == {state.value for state in State}
    assert Standing(State.RESTART_DUE, "").words == "restart due"


def test_records_and_files_are_those_of_the_inspection() -> None:
    record = Record(open=True)
    assert consumer(GOOD, File("/b", record=record)).records == [record]
    assert (Consumer("web").files, Consumer("web").records) == ((), [])


# --- a well-formed answer -------------------------------------------------------------------------

RECORD = {
    **_record.NONE,
    "account": "a" * 16,
    "open": True,
    "rotation": {"retire": OLD, "concluded": True},
    "held": LIVE,
    "since": "2026-05-01T00:00:00Z",
    "digest": "d" * 16,
    "readers": {"any": LIVE},
    "retired": [{"key": OLD, "seen": "rejected", "at": "2026-05-01T02:00:00+02:00", "accepted": True}],
    "updated_at": ["2026-01-01T00:00:00Z", "2026-05-01T00:00:00Z"],
}
FILE = {
    "path": "/somewhere/else",
    "variable": "OTHER",
    "held": [OLD],
    "holds": [LIVE, LIVE],
    "unknown": False,
    "recorded": True,
    "restart_due": True,
    "changed": True,
    "outdated": True,
    "problem": {"reason": "not_writable", "text": "become root"},
    "record": RECORD,
}
ANSWER = {
    "files": [FILE],
    "changed": True,
    "problems": [{"reason": "restart_failed", "text": "exit code 1"}],
    "lacking": ["it has no service app"],
}
NAMED = [(PATH, "KEY")]
MAY_2026 = datetime(2026, 5, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (None, "unreachable"),
        ("it is unreachable", "unreachable"),
        ("it is unreachable (No route to host)", "unreachable: No route to host"),
        ("it is unreachable (No route to host); so what", "unreachable: No route to host; so what"),
        ("it is unreachable; so what", "unreachable: so what"),
        ("it has no Python", "unreachable: it has no Python"),
    ],
)
def test_a_state_and_its_reason_say_nothing_twice(why: str | None, words: str) -> None:
    assert Standing(State.UNREACHABLE, why).words == words
    assert Standing(State.UNREACHABLE, why).sentence == f"It is {words}"


def test_an_answer_is_read_as_it_is_but_under_the_names_that_were_asked_about() -> None:
    moments = {"written": 1.5, "restarted": 2.5, "healthy": 3.5, "hacked": 4.5}
    record = Record(True, OLD, True, LIVE, MAY_2026, (Retired(OLD, "rejected", MAY_2026, True),), True)
    problem = Problem("not_writable", "become root")
    file = File(PATH, "KEY", (LIVE, LIVE), (OLD,), False, True, True, True, True, problem, record)
    assert answer_from(ANSWER, moments, NAMED) == Answer(
        files=(file,),
        changed=True,
        problems=(Problem("restart_failed", "exit code 1"),),
        lacking=(Problem("not_ready", "it has no service app"),),
        moments={"written": 1.5, "restarted": 2.5, "healthy": 3.5},
    )


def test_fields_that_are_missing_have_their_defaults_and_foreign_ones_are_dropped() -> None:
    assert answer_from({"files": [{}], "ansible_facts": {"x": 1}}, {}, NAMED) == Answer((File(PATH, "KEY"),))
    assert answer_from({}, {}, []) == Answer()


@pytest.mark.parametrize(
    ("said", "moved"),
    [
        (None, False),
        ([None, None], False),
        (["2026-01-01T00:00:00Z", None], False),
        ([None, "2026-01-01T00:00:00Z"], False),
        (["2026-01-01T00:00:00Z"] * 2, False),
        (["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"], True),
    ],
)
def test_a_rotation_has_moved_the_account_only_if_both_dates_say_so(said: Any, moved: bool) -> None:
    assert record_from({**RECORD, "updated_at": said}).moved_account is moved


def test_a_record_without_a_rotation_names_no_key() -> None:
    record = record_from({**RECORD, "rotation": None})
    assert (record.retire, record.concluded) == (None, False)
    assert record_from({**RECORD, "rotation": {"retire": OLD, "concluded": False}}).concluded is False


# --- a malformed one (T18) ------------------------------------------------------------------------


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ANSWER.items() if key != name}


def with_file(**fields: Any) -> dict[str, Any]:
    return {**ANSWER, "files": [{**FILE, **fields}]}


NO_LIST = [None, 5, True, 1.5, "", "x", {}, {"0": {}}]
NO_FLAG = [None, 0, 1, "", "true", [], {}]
FLAGS = ("unknown", "recorded", "restart_due", "changed")
NO_FINGERPRINTS = [*NO_LIST, [[]], [None], [7], [True], [""], ["x"], [LIVE + "0"], [LIVE.upper().replace("1", "A")]]
NO_PROBLEM = [5, True, "", "x", [], {}, {"reason": 5}, {"reason": None, "text": "x"}, {"reason": [], "text": "x"}]
NO_PROBLEM += [{"reason": "ok"}, {"reason": "ok", "text": None}, {"reason": "ok", "text": ["x"]}]
NO_PROBLEM += [{"reason": reason, "text": "x"} for reason in ("", "A", "a b", "{{ x }}", "x\n", "a" * 41, "\u00e4")]


@pytest.mark.parametrize(
    "said",
    [
        *(None, 5, True, 1.5, "", "files", [], [{}], [ANSWER]),
        {},
        without("files") | {"problems": []},
        *({**ANSWER, "files": value} for value in [*NO_LIST, [None], [5], [[]], ["x"], [True], [FILE, None]]),
        *({**ANSWER, "files": [FILE] * 2, "problems": problems} for problems in ([], ANSWER["problems"])),
        {**ANSWER, "files": [], "problems": []},
        *({**ANSWER, "problems": value} for value in NO_LIST),
        *({**ANSWER, "problems": [value]} for value in [None, *NO_PROBLEM]),
        *({**ANSWER, "lacking": value} for value in [*NO_LIST, [None], [5], [[]], [{}], [True]]),
        *({**ANSWER, name: value} for name in ("changed", "hidden") for value in NO_FLAG),
        *(with_file(**{flag: value}) for flag in FLAGS for value in NO_FLAG),
        *(with_file(**{name: value}) for name in ("holds", "held") for value in NO_FINGERPRINTS),
        *(with_file(problem=value) for value in NO_PROBLEM),
        *(with_file(record=value) for value in (5, True, "", [], {}, {"open": True}, {**RECORD, "format": 2})),
        with_file(record={**RECORD, "held": "x"}),
        {**ANSWER, "files": [FILE] * (MOST_FILES + 1)},
        {**ANSWER, "problems": ANSWER["problems"] * (MOST_FILES + 1)},
        {**ANSWER, "lacking": ["x"] * (MOST_FILES + 1)},
        with_file(holds=[LIVE] * (MOST_FILES + 1)),
    ],
)
def test_an_answer_of_another_form_is_malformed(said: Any) -> None:
    with pytest.raises(MalformedAnswer) as malformed:
        answer_from(said, {}, NAMED)
    text = str(malformed.value)
    assert text and text.isprintable() and "{{" not in text


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("failed", [True, False])
def test_other_files_than_it_was_asked_about_are_malformed_unless_the_whole_has_failed(
    count: int, failed: bool
) -> None:
    said = {"files": [FILE] * count, "problems": ANSWER["problems"] if failed else []}
    two = [(PATH, "A"), (PATH, "B")]
    if count == 0 and failed:
        assert answer_from(said, {}, two) == Answer(problems=(Problem("restart_failed", "exit code 1"),))
        return
    with pytest.raises(MalformedAnswer):
        answer_from(said, {}, two)


def test_as_much_as_an_answer_may_list_is_read() -> None:
    many = [(f"/{number}", None) for number in range(MOST_FILES)]
    said = {"files": [{}] * MOST_FILES, "lacking": ["x"] * MOST_FILES}
    assert [file.path for file in answer_from(said, {}, many).files] == [path for path, _variable in many]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**310)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([LIVE, OLD, "not_writable", "rejected", "2026-05-01T00:00:00Z", "{{ lookup('pipe', 'id') }}"])
    | st.characters(codec="utf-16", categories=["Cc", "Cf", "Zl", "Zp"])
)
NAMES = st.sampled_from([*ANSWER, *FILE, *RECORD, "reason", "text", "retire", "concluded", "key", "seen", "at", "any"])
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly(draw: st.DrawFn) -> Any:
    """Return a good answer with one thing in it, at any depth, replaced by something else."""
    said = json.loads(json.dumps(ANSWER))
    place = said
    while True:
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        name = draw(st.sampled_from(names))
        if draw(st.booleans()) and isinstance(place[name], (dict, list)) and place[name]:
            place = place[name]
            continue
        place[name] = draw(JSON)
        return said


def assert_clean(text: str) -> None:
    assert text.isprintable() and len(text) <= 1001
    assert not any(braces in text for braces in ("{{", "{%", "{#"))


def assert_closed_form(answer: Answer, count: int) -> None:
    assert len(answer.files) in (0, count)
    for file in answer.files:
        assert (file.path, file.variable) == (PATH, "KEY")
        assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in (*file.holds, *file.held))
        assert {type(flag) for flag in (file.unknown, file.restart_due, file.changed)} == {bool}
    told = [*answer.problems, *(answer.lacking or ()), *(file.problem for file in answer.files if file.problem)]
    for problem in told:
        assert_clean(problem.text)
        assert_clean(problem.reason)
    assert answer.changed in (True, False)


@settings(max_examples=600, deadline=None)
@given(JSON | nearly())
@example({"files": 5})
@example([{}])
@example({"files": [{"holds": [[]]}]})
@example({"files": [{"holds": float("nan")}]})
def test_any_answer_is_read_or_malformed_and_nothing_else(said: Any) -> None:
    try:
        answer = answer_from(said, {"written": 1.0}, NAMED)
    except MalformedAnswer as malformed:
        assert_clean(str(malformed))
    else:
        assert_closed_form(answer, 1)
    try:
        record = record_from(said)
    except MalformedAnswer:
        return
    assert record.since is None or record.since.tzinfo is not None


@pytest.mark.parametrize("text", ["[" * 900 + "]" * 900, '{"files":' * 900 + "1" + "}" * 900])
def test_a_deeply_nested_answer_is_malformed(text: str) -> None:
    with pytest.raises(MalformedAnswer):
        answer_from(json.loads(text), {}, NAMED)
    with pytest.raises(MalformedAnswer):
        answer_from(with_file(record=json.loads(text)), {}, NAMED)


# --- texts of a host ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, caf\u00e9", "plain text, caf\u00e9"),
        ("\x1b[2Jgone\r\nnext\ttab\x00", " [2Jgone  next tab "),
        ("\u202egnp.exe \u2028\ud800", " gnp.exe   "),
        ("{{ x }} {% y %} {# z #}", "{ { x }} { % y %} { # z #}"),
        ("{{{", "{ { {"),
        ("{{{%", "{ { { %"),
        ("x" * 1000, "x" * 1000),
        ("x" * 1001, "x" * 1000 + "\u2026"),
        ("", ""),
    ],
)
def test_a_foreign_text_is_fit_to_be_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(alphabet="{%#}x \n") | st.text(), st.integers(0, 3))
def test_no_text_is_a_template_or_moves_the_cursor(text: str, more: int) -> None:
    assert_clean(clean(text + "{" * more))
