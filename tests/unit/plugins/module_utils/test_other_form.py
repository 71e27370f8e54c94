# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that hold the key in a form that is not changed are refused, and ordinary ones are not (T1 to T6)."""

from contextlib import suppress
from typing import Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._other_form import OtherForm, known_key
from ansible_collections.multicart.keys.tests.readers import fuzz
from ansible_collections.multicart.keys.tests.readers.many import MANY, one_by_one
from ansible_collections.multicart.keys.tests.readers.other_forms import FOREIGN, KEY, NAME, ORDINARY
from ansible_collections.multicart.keys.tests.readers.practice import PRACTICE
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere
from hypothesis import given, settings
from hypothesis import strategies as st

LIVE, NEW, FORMER = ApiKey(KEY), ApiKey("acme.NEWcanary"), ApiKey("acme.FORMERcan")


READ_BY_ONE = ("PHP array",)
"""Where python-dotenv sees the variable; refused as well, since no other reader does."""


def refusal(data: str, live: Optional[ApiKey] = LIVE, name: str = NAME, beside: tuple[str, ...] = ()) -> OtherForm:
    with pytest.raises(OtherForm) as caught:
        other_form.refuse(data.encode(), name, [known_key(live)] if live else [], beside)
    assert "canary" not in str(caught.value)
    return caught.value


def with_new(data: str, name: str = NAME, beside: tuple[str, ...] = (), live: ApiKey = LIVE) -> str:
    """Write the new key, as the roles do: inspected with the old one, written with the new one."""
    for key in (live, NEW):
        other_form.refuse(data.encode(), name, [known_key(key)], beside)
    after = env_file.with_value(data.encode(), name, NEW.reveal().encode()).decode()
    other_form.refuse(after.encode(), name, [known_key(NEW)], beside)
    return after


# --- T1: another kind of file ----------------------------------------------------------------------


def test_t1_knows_enough_kinds_of_files() -> None:
    assert len(FOREIGN) >= 15
    assert len(ORDINARY) >= 30


@pytest.mark.parametrize("kind", FOREIGN)
def test_t1_a_key_in_another_form_is_refused_by_its_line(kind: str) -> None:
    data, line = FOREIGN[kind]
    if kind in READ_BY_ONE:
        with pytest.raises(env_file.Ambiguous, match=f"line {line}: .* use a template if this is no environment file"):
            other_form.refuse(data.encode(), NAME, [known_key(LIVE)])
        return
    error = refusal(data)
    assert (error.reason, error.line) == ("other_form", line)
    assert f"line {line}: " in str(error)
    for way_out in ("template", "another variable", "format to key"):
        assert way_out in str(error)


@pytest.mark.parametrize("kind", FOREIGN)
def test_t1_it_is_refused_beside_an_assignment_too(kind: str) -> None:
    data, line = FOREIGN[kind]
    if KEY in data and kind not in READ_BY_ONE:
        assert refusal(f"{NAME}={KEY}\n{data}", live=None).line == line + 1


# What holds neither the live key nor its name cannot be told from an environment file by its contents alone.
_BY_KEY_ALONE = (
    *READ_BY_ONE,
    *("TOML without a table", "properties", "curlrc", "query string", "user of an URL", "another variable"),
)


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if not kind.startswith(_BY_KEY_ALONE)])
def test_t1_it_is_refused_without_knowing_the_key(kind: str) -> None:
    data, _line = FOREIGN[kind]
    refusal(data, live=None)
    refusal(data.replace(KEY, "changeme"), live=None)


_LIKE_ENV = (*_BY_KEY_ALONE, "properties with a colon", "NAME: value", "Python settings", "crontab")
"""What is left of these without the key is an environment file."""


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if not kind.startswith(_LIKE_ENV)])
def test_t1_no_line_is_added_to_a_file_of_another_kind_that_never_had_the_key(kind: str) -> None:
    lines = [line for line in FOREIGN[kind][0].split("\n") if KEY not in line and NAME not in line]
    if any(lines):
        refusal("\n".join(lines), live=None)


@pytest.mark.parametrize("mark", ["", "\t", "\ufeff"])
@pytest.mark.parametrize("comment", ["#{}", "# {}", "; {}", "//{}", "A=1 # {}", "A='x # y' # {}", "A=it's # {}"])
def test_t1_comments_never_refuse(comment: str, mark: str) -> None:
    if mark == "\ufeff" and comment.startswith(";"):
        return  # for a shell, the end of a command named U+FEFF
    for text in (KEY, f"{NAME}={KEY}", f'"{NAME}": "{KEY}"', f"[{NAME}]"):
        data = mark + comment.format(text) + "\nB=1\n"
        other_form.refuse(data.encode(), NAME, [known_key(LIVE)])
        other_form.refuse(f"{NAME}={KEY}\n{data}".encode(), NAME, [])


@pytest.mark.parametrize("line", [f"A='x # {KEY}'", f'A="x # {KEY}"', f"A=x#{KEY}", f"* {KEY}", f"-- {KEY}"])
def test_t1_what_only_looks_like_a_comment_is_none(line: str) -> None:
    assert refusal(f"B=1\n{line}\n").line == 2


# --- ordinary files ---------------------------------------------------------------------------------

FINE = {**ORDINARY, **{f"{kind}, whole": text for kind, text in PRACTICE.items()}}


def test_there_are_enough_files_from_practice() -> None:
    assert len(PRACTICE) >= 30


@pytest.mark.parametrize("kind", FINE)
def test_an_ordinary_file_gets_its_first_key_and_then_another_one(kind: str) -> None:
    before = FINE[kind]
    after = with_new(before)
    assert after.replace(f"{NAME}={NEW.reveal()}\n", "", 1) == before
    assert with_new(after.replace(NEW.reveal(), KEY)) == after


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize("line", [f"export {NAME}='{KEY}'\n", f"{NAME}={KEY} # ours\n", f'{NAME}="{KEY}"\n'])
def test_only_the_key_of_an_ordinary_file_changes(kind: str, line: str) -> None:
    before = line + FINE[kind]
    assert with_new(before) == line.replace(KEY, NEW.reveal()) + FINE[kind]


@pytest.mark.parametrize("name", MANY)
def test_ordinary_files_are_read_right(name: str) -> None:
    try:
        one_by_one(name, [b""])
    except NotHere as why:
        pytest.skip(str(why))
    files = [text.replace(NAME, "KEY").encode() for text in FINE.values()]
    files += [b"KEY=p.old\n" + data for data in files]
    asked = [change for data in files for change in fuzz.changes(data)]
    assert len(asked) >= 1.5 * len(FINE)
    found = fuzz.broken(MANY[name], asked)
    assert not found, found


# --- T2: the same key under another name -----------------------------------------------------------


def test_t2_the_key_under_a_name_that_is_not_configured_is_refused() -> None:
    assert refusal(f"SMTP={KEY}\n{NAME}={KEY}\n", live=None).line == 1
    assert refusal(f"SMTP={KEY}\n", live=LIVE).line == 1
    assert refusal(f"{NAME}={FORMER.reveal()}\nSMTP={KEY}\n", live=LIVE).line == 2


def test_t2_the_key_that_the_file_holds_counts_though_another_one_is_live() -> None:
    assert refusal(f"{NAME}={FORMER.reveal()}\nSMTP={FORMER.reveal()}\n").line == 2


def test_t2_all_entries_for_a_path_are_planned_together() -> None:
    before = f"A={KEY}\nB='{KEY}'\n"
    refusal(before, name="A")
    half = with_new(before, "A", ("A", "B"))
    assert with_new(half, "B", ("A", "B")) == before.replace(KEY, NEW.reveal())
    assert refusal(before + f"C={KEY}\n", name="A", beside=("A", "B")).line == 3


def test_t2_a_former_key_elsewhere_does_not_refuse() -> None:
    before = f"{NAME}={KEY}\nSMTP={FORMER.reveal()}\n"
    assert with_new(before) == before.replace(KEY, NEW.reveal())
    for known in ([], [known_key(LIVE)]):
        (told,) = other_form.former(before.encode(), NAME, known)
        assert told.startswith(f"line 2: what looks like a former key ({FORMER.fingerprint}) ")


@pytest.mark.parametrize(
    "line", ["TOKEN=@", "URL=https://h/?key=@&a=b", "URL=https://@@h/", 'A="x:@"', "A: '@'", "A=@ @"]
)
def test_t2_a_former_key_is_told_however_it_is_embedded(line: str) -> None:
    data = f"{NAME}={KEY}\n{line.replace('@', FORMER.reveal(), 1)}\n# {FORMER.reveal()}\n".encode()
    assert [text.partition(":")[0] for text in other_form.former(data, NAME)] == ["line 2"]


@pytest.mark.parametrize(
    "text", ["acme.example", "acme.FORMERcann", "other.FORMERcan", "acme.FOR'ERcan", "# acme.FORMERcan"]
)
def test_t2_what_is_no_former_key_is_not_told(text: str) -> None:
    assert other_form.former(f"{NAME}={KEY}\nA= {text}\n".encode(), NAME) == []


def test_t2_former_keys_are_told_of_no_variable_that_is_changed_and_not_endlessly() -> None:
    data = f"A={FORMER.reveal()}\nB={KEY}\n"
    assert len(other_form.former(data.encode(), "B")) == 1
    assert other_form.former(data.encode(), "B", beside=("A", "B")) == []
    assert len(other_form.former((data + f"C={FORMER.reveal()}\n" * 20).encode(), "B")) == 8


@pytest.mark.parametrize("text", [f"{KEY}x", f"x{KEY}", f"{KEY}.bak", "acme.OLDcanar", "acme.acme.acme"])
def test_t2_only_the_whole_key_is_found(text: str) -> None:
    before = f"A=1\nB={text}\n"
    if KEY in text:
        assert refusal(before).line == 2
    else:
        other_form.refuse(before.encode(), NAME, [known_key(LIVE)])


# --- T3 to T6 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n \n", "\n\n", "\n\t\n", "\n\r\n \n", "\nset +a\n \n", "\nset +o allexport\n"])
def test_t3_a_first_key_is_added_before_blank_lines_at_the_end(end: str) -> None:
    after = with_new(f"A=1{end}")
    assert after == f"A=1\n{NAME}={NEW.reveal()}\n{end[1:]}"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (f"{NAME}=        # required", f"# required\n{NAME}=@"),
        (f"{NAME}=\t# required  ", f"# required\n{NAME}=@"),
        (f"{NAME}=changeme # required", f"# required\n{NAME}=@"),
        (f"{NAME}='' # required", f"# required\n{NAME}='@'"),
        (f"export {NAME}= # required", f"# required\nexport {NAME}=@"),
        (f"{NAME}=  ", f"{NAME}=@"),
        (f"{NAME}=changeme  ", f"{NAME}=@"),
        (f"{NAME}= changeme", f"{NAME}=@"),
        (f"{NAME}=", f"{NAME}=@"),
    ],
)
@pytest.mark.parametrize("rest", ["", "\n", "\nB=1\n"])
def test_t4_a_first_key_in_a_copied_example_is_read_alike_by_all(line: str, after: str, rest: str) -> None:
    assert with_new(f"A=1\n{line}{rest}") == f"A=1\n{after.replace('@', NEW.reveal())}{rest}"


@pytest.mark.parametrize("name", [name for name in MANY if name != "fish"])  # which reads no such lines
def test_t4_real_readers_read_the_key_alone(name: str) -> None:
    try:
        one_by_one(name, [b""])
    except NotHere as why:
        pytest.skip(str(why))
    for line in ("=        # required", "=  ", "=changeme # ours", "=changeme  "):
        after = with_new(f"A=1\n{NAME}{line}\nB=1\n").encode()
        assert one_by_one(name, [after]) == [{"A": "1", NAME: NEW.reveal(), "B": "1"}]


@pytest.mark.parametrize("line", [f"{NAME}: {KEY}", f"  {NAME}: '{KEY}'", f"{NAME} : {KEY}", f"export {NAME}: {KEY}"])
def test_t5_a_value_behind_a_colon_is_refused(line: str) -> None:
    assert refusal(f"A=1\n{line}\n").line == 2
    assert refusal(f"A=1\n{line}\n", live=None).line == 2
    assert refusal(f"{NAME}={KEY}\n{line}\n", live=None).line == 2


@pytest.mark.parametrize(
    "line", [f"{NAME}: acme.FORMERcan", f"export {NAME}: ", f"{NAME} :x", f"\ufeff\t{NAME}:\t'x'\r"]
)
def test_t5_a_colon_beside_an_assignment_is_refused_whatever_is_behind_it(line: str) -> None:
    """npm's dotenv, Ruby's and compose read it as one more assignment, and the last one counts."""
    for first in ("", "changeme", KEY):
        assert refusal(f"{NAME}={first}\n{line}\n", live=None).line == 2
    assert refusal("A=1\nB:\n\n", live=None).line == 2  # of which npm's dotenv takes the next line for the value
    assert with_new(f"A=1 # {NAME}: x\n#{NAME}: x\n{NAME}_2: x\n{NAME}={KEY}\n")


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD=ab<<cd\n@",
        "A=it's\n@",
        "# it's\nA=1 # isn't\n@",
        "A=it's\nB=1 # isn't\n@",
        '@export NAME="K";\n',
        "@export NAME='K' ; # ours\n",
        "@NAME=K;\n",
        '@declare -x NAME="K"\n',
        "@typeset -x NAME=K\n",
    ],
)
def test_t6_what_all_readers_agree_about_is_accepted(line: str) -> None:
    before = line.replace("NAME", NAME).replace("K;", f"{KEY};").replace('"K"', f'"{KEY}"').replace("'K'", f"'{KEY}'")
    before = before.replace("=K\n", f"={KEY}\n").replace("@", "" if NAME in before else f"{NAME}={KEY}\n")
    assert KEY in before
    assert with_new(before) == before.replace(KEY, NEW.reveal())


@pytest.mark.parametrize(
    ("before", "line", "help_"),
    [
        (f"A=1\nSMTP_PASSWORD= \n{NAME}={KEY}\n", 2, "blanks"),
        (f"A=1\nB=it's\n{NAME}={KEY}\nC=that's\n", 2, "quote"),
        (f"A=1\nB=1\\\n{NAME}={KEY}\n", 2, "backslash"),
        (f"A=1\nDB_PASSWORD=ab<<cd\ncd\n{NAME}={KEY}\n", 2, "single quotes"),
        (f"A=1\nreadonly {NAME}\n", 2, "remove that line"),
    ],
)
def test_t6_a_refusal_names_the_line_that_causes_it_and_what_helps(before: str, line: int, help_: str) -> None:
    with pytest.raises(env_file.Ambiguous, match=help_) as caught:
        with_new(before)
    assert caught.value.line == line


# --- a value that is no key, and no placeholder either -------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [f'"Bearer {KEY}"', f"'x-api-key: {KEY}'", f"https://api/?key={KEY}", f"https://{KEY}@api", f"{KEY},b", f"?{KEY}"],
)
def test_a_value_that_is_more_than_the_key_is_refused(value: str) -> None:
    """Its reader would be given a bare key."""
    error = refusal(f"A=1\n{NAME}={value}\n")
    assert error.line == 2 and "more than a key" in str(error)
    refusal(f"A=1\n{NAME}={value.replace(KEY, NEW.reveal())}\n")  # nor another one of the account
    assert with_new(f'{NAME}=" {KEY} "\n') == f'{NAME}="{NEW.reveal()}"\n'


_KEPT_ELSEWHERE = (
    *("op://vault/shop/key", "vault:secret/data/shop#key", "ref+vault://shop/key", "arn:aws:ssm:eu:1:parameter/a"),
    *("encrypted:BE9Y7LKANx77X1pv1HnE", "base64:c2hvcA==", "ENC[AES256_GCM,data:a=,type:str]", "ENC(c2hvcA==)"),
    *("{cipher}c2hvcA", "@Microsoft.KeyVault(SecretUri=https://a)", "/run/secrets/key", "~/key", "./key", "../key"),
)


@pytest.mark.parametrize("value", _KEPT_ELSEWHERE)
def test_a_value_that_names_another_place_or_is_encrypted_is_refused(value: str) -> None:
    """The key would lie in a file that was made to be without it, and what decrypts the file would fail."""
    error = refusal(f'A=1\n{NAME}="{value}"\n', live=None)
    assert error.line == 2 and "remove the value if the key itself is to stand here" in str(error)
    other_form.refuse(f'A="{value}"\n{NAME}={KEY}\n'.encode(), NAME, [known_key(LIVE)])
    assert other_form.without_key(f'A=1\n{NAME}="{value}"\n'.encode(), NAME) == b"A=1\n"
    with pytest.raises(OtherForm, match=r"^line 1: the value says where the key is kept, or is encrypted; list that"):
        other_form.key_alone(f"{value}\n".encode())


@pytest.mark.parametrize("value", ["changeme", "your-key", "<key>", "your key", "%KEY%", "@KEY@", "__KEY__", "xx.yy"])
def test_a_placeholder_is_replaced(value: str) -> None:
    assert with_new(f'{NAME}="{value}"\n') == f'{NAME}="{NEW.reveal()}"\n'


# --- a file that is nothing but the key --------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("held", [KEY, "", "changeme", "<key"])
def test_a_file_that_is_nothing_but_the_key_keeps_its_line_break(held: str, end: str) -> None:
    data = (held + end).encode()
    if held.startswith("<"):
        with pytest.raises(OtherForm):
            other_form.key_alone(data)
        return
    assert other_form.key_alone(data) == (LIVE if held == KEY else None)
    after = other_form.with_key(data, None, NEW)
    assert after == (NEW.reveal() + end).encode()
    assert other_form.key_alone(after) == NEW


@pytest.mark.parametrize("held", [KEY, "changeme", ""])
def test_empty_lines_that_a_killed_write_in_place_has_left_go_with_the_next_one(held: str) -> None:
    data = f"{held}\n\n\n".encode()
    assert other_form.key_alone(data) == (LIVE if held == KEY else None)
    for key in (LIVE, NEW):
        assert other_form.with_key(data, None, key) == f"{key.reveal()}\n".encode()


@pytest.mark.parametrize(
    "data", [f"{KEY}\n \n", f" {KEY}", f"A={KEY}\n", f"A={KEY}\n\n", f"{KEY}\n{KEY}\n", f"# ours\n{KEY}\n", "\0"]
)
def test_a_file_that_is_more_than_the_key_is_never_overwritten(data: str) -> None:
    with pytest.raises(OtherForm, match="more than a key") as caught:
        other_form.key_alone(data.encode())
    assert "canary" not in str(caught.value)


# --- any file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "piece",
    ["'", '"', "\\", '"\\', '\\"', '{\\"a\\":1},', " \t", "acme.", "[", "{,", "A=1\n", "set -x ", "* ", "a" * 40],
)
def test_stays_quick_with_a_hostile_file(piece: str) -> None:
    data = (piece * (200_000 // len(piece))).encode()
    with suppress(env_file.EnvFileError):
        other_form.refuse(data, NAME, [known_key(LIVE)])
    with suppress(env_file.EnvFileError):
        other_form.former(data, NAME, [known_key(LIVE)])
    with suppress(OtherForm):
        other_form.key_alone(data)


@settings(max_examples=300, deadline=None)
@given(fuzz.FILES | st.binary(max_size=60))
def test_what_is_accepted_is_accepted_again_after_the_write(data: bytes) -> None:
    new = ApiKey(fuzz._VALUE)
    try:
        other_form.refuse(data, "KEY", [known_key(new)])
        after = env_file.with_value(data, "KEY", new.reveal().encode())
    except env_file.EnvFileError:
        return
    other_form.refuse(after, "KEY", [known_key(new)])
