# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only one of the types for GitLab, AWS and sops has, each at its real place or stand-in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import aws
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.aws_secretsmanager import _field_in, _with_field
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    NO_CONTROL_NODE,
    Conflict,
    ControlNode,
    InvalidEntry,
    Store,
    StoreError,
    label_of,
    open_store,
    resolve,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores.aws_gitlab_and_sops import KEY, GitLabVariable, SecretsManager, SopsFile, SsmParameter
from tests.stores.backends import Backend, git
from tests.stores.gitlab_api import OWNERS, TOKEN
from tests.stores.talk import NEW, OLD, OTHER, SINCE, Talk, fingerprint

NOTED = f"MULTICART_RECORD_{KEY}"


@dataclass(frozen=True)
class Literal:
    """A number, as it is written."""

    text: str


def opened(backend: Backend, **fields: Any) -> Store:
    return open_store(backend.kind, resolve(backend.kind, {**backend.entry, **fields}, NO_CONTROL_NODE))


def problem_of(store: Store) -> StoreError:
    with pytest.raises(StoreError) as caught:
        store.inspect()
    assert "canary" not in str(caught.value)
    return caught.value


def record(held: str) -> dict[str, Any]:
    return {**records.NONE, "held": fingerprint(held), "since": SINCE}


@pytest.fixture(params=[GitLabVariable, SecretsManager, SsmParameter, SopsFile])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made = request.param(tmp_path)
    made.put(OLD)
    yield made
    made.stop()


def only(kind: type[Backend]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("backend", [kind], indirect=True, ids=[kind.kind])


# --- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("gitlab_variable", {}, "project, group or instance"),
        ("gitlab_variable", {"project": "a/b", "group": "a"}, "project, group or instance"),
        ("gitlab_variable", {"instance": True, "environment_scope": "prod"}, "no environment_scope"),
        ("gitlab_variable", {"project": "a/b", "name": "a-b"}, "name"),
        ("gitlab_variable", {"project": "a/b", "name": "a/b"}, "name"),
        ("gitlab_variable", {"project": "a/b", "api_url": "http://gitlab.example"}, "api_url"),
        ("aws_ssm", {}, "name"),
        ("aws_ssm", {"name": "arn:aws:ssm:eu-central-1:1:parameter/a"}, "name"),
        ("aws_ssm", {"name": "/a/b:3"}, "name"),
        ("aws_secretsmanager", {"secret_id": "a", "access_key_id": "AK"}, "access_key_id and secret_access_key"),
        ("aws_secretsmanager", {"secret_id": "a", "session_token": "canary"}, "access_key_id and secret_access_key"),
        (
            "aws_secretsmanager",
            {"secret_id": "a", "access_key_id": "AK", "secret_access_key": "canary", "profile": "us"},
            "profile, or",
        ),
        ("sops", {"path": __file__, "key": ['a"]["b']}, "key"),
        ("sops", {"path": __file__, "remote": "origin"}, "remote and branch"),
    ],
)
def test_what_an_entry_cannot_say(kind: str, fields: dict[str, Any], named: str) -> None:
    token = {"token": TOKEN} if kind == "gitlab_variable" else {}
    with pytest.raises(InvalidEntry, match=f"needs {named}") as caught:
        resolve(kind, {**token, **fields}, NO_CONTROL_NODE)
    assert "canary" not in str(caught.value)


def test_credentials_of_the_environment_go_only_where_the_environment_says() -> None:
    for kind, fields in (("aws_ssm", {"name": "a"}), ("aws_secretsmanager", {"secret_id": "a"})):
        for more in ({}, {"profile": "us"}):
            with pytest.raises(InvalidEntry, match="go only where the environment says"):
                resolve(kind, {**fields, **more, "endpoint_url": "https://elsewhere.example"}, NO_CONTROL_NODE)
    control = ControlNode({"GITLAB_TOKEN": TOKEN, "CI_API_V4_URL": "https://gitlab.example/api/v4/"})
    options = resolve("gitlab_variable", {"project": "acme/shop"}, control)
    assert (options["api_url"], options["token"]) == ("https://gitlab.example/api/v4", TOKEN)
    with pytest.raises(InvalidEntry, match="goes only where the environment says"):
        resolve("gitlab_variable", {"project": "acme/shop", "api_url": "https://elsewhere.example"}, control)


@pytest.mark.parametrize(
    ("kind", "fields", "label"),
    [
        ("gitlab_variable", {"group": "acme", "token": TOKEN}, "acme KEY at https://gitlab.com/api/v4"),
        (
            "gitlab_variable",
            {"project": "a/b", "environment_scope": "prod", "token": TOKEN},
            "a/b KEY for prod at https://gitlab.com/api/v4",
        ),
        ("aws_secretsmanager", {"secret_id": "shop", "region": "eu-central-1"}, "shop in eu-central-1"),
        ("aws_secretsmanager", {"secret_id": "shop", "field": "KEY"}, "shop KEY"),
        ("aws_ssm", {}, "KEY"),
        ("sops", {"path": __file__, "key": ["a", "b"]}, f"{__file__} a.b"),
    ],
)
def test_it_is_called_by_what_tells_it_from_others(kind: str, fields: dict[str, Any], label: str) -> None:
    name = {"name": "KEY"} if kind in ("gitlab_variable", "aws_ssm") else {}
    assert label_of(kind, resolve(kind, {**name, **fields}, NO_CONTROL_NODE)) == f"{kind} {label}"


# --- all of them ----------------------------------------------------------------------------------


def test_who_writes_first_is_found_out(backend: Any) -> None:
    """The compare-and-set, or what comes next to it."""
    store = opened(backend)
    found = store.inspect()
    backend.put(OTHER)
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), found)
    assert backend.value() == OTHER
    again = store.write(ApiKey(NEW), store.inspect())
    assert (backend.value(), again.fingerprint) == (NEW, fingerprint(NEW))


# --- GitLab ---------------------------------------------------------------------------------------


@only(GitLabVariable)
@pytest.mark.parametrize(("owner", "fields"), [(OWNERS[1], {"group": "acme/team"}), (OWNERS[2], {"instance": True})])
def test_variables_of_groups_and_of_the_instance(backend: GitLabVariable, owner: str, fields: dict[str, Any]) -> None:
    ours = backend.api.create(owner.replace("%2F", "/"), KEY, OLD, masked=True)
    entry = {"api_url": backend.api.url, "token": TOKEN, **fields}
    store = open_store("gitlab_variable", resolve("gitlab_variable", entry, NO_CONTROL_NODE))
    store.verify_right()
    store.note(record(NEW), store.write(ApiKey(NEW), store.inspect()))
    assert ours == {**ours, "value": NEW, "masked": True}
    assert store.inspect().record == record(NEW)
    noted = backend.api.variables[owner.replace("%2F", "/"), NOTED, "*"]
    assert noted["raw"] and NEW not in noted["value"]


@only(GitLabVariable)
def test_a_hidden_variable_stays_so_and_is_known_by_its_record(backend: GitLabVariable) -> None:
    ours = backend.api.variables["/projects/acme/shop", KEY, "prod/*"]
    ours["hidden"] = True
    talk = Talk(backend.kind, backend.entry, NO_CONTROL_NODE)
    assert talk.inspect()["holds"] == []
    assert talk.deploy()["problems"] == []
    found = talk.inspect(NEW)
    talk.end()
    assert (found["holds"], found["recorded"]) == ([fingerprint(NEW)], True)
    assert (ours["value"], ours["hidden"], ours["masked"], ours["protected"]) == (NEW, True, True, True)


@only(GitLabVariable)
def test_a_change_says_the_value_alone(backend: GitLabVariable) -> None:
    store = opened(backend)
    store.write(ApiKey(NEW), store.inspect())
    assert [request.body for request in backend.api.changes] == [{"value": NEW}]


@only(GitLabVariable)
@pytest.mark.parametrize("fault", ["html", "echo", "hang"])
def test_what_gitlab_answers_is_told_by_kind_alone(
    backend: GitLabVariable, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr("ansible_collections.multicart.keys.plugins.plugin_utils._stores.rest.ANSWERING", 1)
    backend.break_by(fault)
    reasons = {"html": "store_malformed", "echo": "store_failed", "hang": "store_unreachable"}
    assert problem_of(opened(backend)).reason == reasons[fault]


@only(GitLabVariable)
def test_the_right_to_change_the_variable_is_proven_apart_from_its_record(backend: GitLabVariable) -> None:
    store = opened(backend)
    backend.api.refused = lambda request: request.is_change and request.path.endswith(f"/{KEY}")
    store.note(record(OLD), store.inspect())
    with pytest.raises(StoreError) as caught:
        store.verify_right()
    assert caught.value.reason == "store_refused"


@only(GitLabVariable)
def test_a_conflict_while_rights_are_proven_is_told(backend: GitLabVariable, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = backend.api.answer
    monkeypatch.setattr(
        backend.api,
        "answer",
        lambda request: backend.api.failure(409, "no") if request.is_change else answer(request),
    )
    talk = Talk(backend.kind, backend.entry, NO_CONTROL_NODE)
    talk.inspect()
    (problem,) = talk.prepare()
    talk.end()
    assert problem["reason"] == "store_conflict"


# --- AWS ------------------------------------------------------------------------------------------


@only(SecretsManager)
def test_a_secret_that_is_the_key_as_a_whole(backend: SecretsManager) -> None:
    backend.put_text(OLD)
    store = opened(backend, field=None)
    assert store.inspect().fingerprint == fingerprint(OLD)
    store.verify_right()
    store.write(ApiKey(NEW), store.inspect())
    current = backend.client.get_secret_value(SecretId=backend.name, VersionStage="AWSCURRENT")
    former = backend.client.get_secret_value(SecretId=backend.name, VersionStage="AWSPREVIOUS")
    assert (current["SecretString"], former["SecretString"]) == (NEW, OLD)
    assert problem_of(opened(backend)).reason == "store_malformed"  # no JSON


@pytest.mark.parametrize(
    ("backend", "right"),
    [
        (SecretsManager, "secretsmanager:PutSecretValue"),
        (SecretsManager, "secretsmanager:UpdateSecretVersionStage"),
        (SsmParameter, "ssm:PutParameter"),
        (SsmParameter, "ssm:GetParameterHistory"),
    ],
    indirect=["backend"],
)
def test_each_right_that_a_write_needs_is_proven_apart_from_the_record(backend: Any, right: str) -> None:
    store = opened(backend)
    backend.deny(right)
    store.note(record(OLD), store.inspect())
    with pytest.raises(StoreError) as caught:
        store.verify_right()
    assert caught.value.reason == "store_refused"


@only(SecretsManager)
def test_a_proof_changes_no_version(backend: SecretsManager) -> None:
    def stages() -> Any:
        return backend.client.describe_secret(SecretId=backend.name)["VersionIdsToStages"]

    before, store = stages(), opened(backend)
    for _time in range(2):  # the stage of this collection comes, and goes
        store.verify_right()
        now = {each: [name for name in names if name != "MULTICART_KEYS"] for each, names in stages().items()}
        assert now == before


@pytest.mark.full
@only(SecretsManager)
def test_fields_of_one_secret_have_records_of_their_own(backend: SecretsManager) -> None:
    first, second = opened(backend), opened(backend, field="first")
    first.note(record(OLD), first.inspect())
    second.note(record(NEW), second.inspect())
    first.note(record(OTHER), first.inspect())
    assert (first.inspect().record, second.inspect().record) == (record(OTHER), record(NEW))


@only(SecretsManager)
@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"RotationEnabled": True}, "store_not_writable"),
        ({"OwningService": "rds"}, "store_not_writable"),
        ({"DeletedDate": "2026-11-26"}, "store_missing"),
    ],
)
def test_a_secret_that_would_not_stay_is_refused(
    backend: SecretsManager, monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], reason: str
) -> None:
    ask = aws.Aws.ask

    def with_that(self: aws.Aws, method: str, **parameters: Any) -> Any:
        said = ask(self, method, **parameters)
        return {**said, **known} if method == "describe_secret" else said

    monkeypatch.setattr(aws.Aws, "ask", with_that)
    assert problem_of(opened(backend)).reason == reason


@only(SsmParameter)
def test_a_write_in_the_same_moment_is_found_out(backend: SsmParameter, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, puts = aws.Aws.ask, []

    def just_before(self: aws.Aws, method: str, **parameters: Any) -> Any:
        if method == "put_parameter":
            puts.append(parameters)
            if len(puts) == 1:
                backend.put(OTHER)
        return ask(self, method, **parameters)

    store = opened(backend)
    found = store.inspect()
    monkeypatch.setattr(aws.Aws, "ask", just_before)
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), found)
    assert puts[0] == {**puts[0], "KeyId": "alias/ours", "Description": "ours", "Type": "SecureString"}


@pytest.mark.full
@only(SsmParameter)
def test_many_versions_are_looked_through(backend: SsmParameter) -> None:
    for number in range(55):  # more than there are on a page
        backend.put(f"acme.OLD{number}")
    store = opened(backend)
    store.write(ApiKey(NEW), store.inspect())
    assert backend.value() == NEW


def test_a_record_in_tags_is_all_there_or_none() -> None:
    tags = aws.RecordTags("ours/")
    long = {"retired": [{"key": fingerprint(str(number)), "at": SINCE} for number in range(40)]}
    written, gone = tags.written(long)
    assert gone == [] and len(written) > 2
    assert all(re.fullmatch(r"[\w .:/=+@-]{1,256}", tag["Value"]) for tag in written)
    assert tags.read([*reversed(written), {"Key": "owner", "Value": "us"}]) == long
    assert tags.read(written[:-1]) is None
    assert tags.read([{**written[0], "Value": "1:canary"}, *written[1:]]) is None
    tags.read(written)
    short, gone = tags.written({})
    assert gone == [tag["Key"] for tag in written[1:]]
    assert tags.read([*short, *written[1:]]) == {}  # what was to go is still there


@only(SsmParameter)
def test_without_credentials_or_region_it_says_so(
    backend: SsmParameter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", backend.entry["endpoint_url"])
    options = resolve("aws_ssm", {"name": "shop", "region": "eu-central-1"}, NO_CONTROL_NODE)
    assert problem_of(open_store("aws_ssm", options)).reason == "store_refused"
    with pytest.raises(StoreError, match="AWS_REGION") as caught:
        open_store("aws_ssm", {**options, "region": None})
    assert caught.value.reason == "store_failed"
    with pytest.raises(StoreError, match="profile"):
        open_store("aws_ssm", {**options, "profile": "nobody"})


# --- sops -----------------------------------------------------------------------------------------


@only(SopsFile)
@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("a.json", json.dumps({"first": "1", "data": {KEY: OLD, "last": [1.5]}}), ["data", KEY]),
        ("a.env", f"FIRST=1\n{KEY}={OLD}\nLAST=a b\n", [KEY]),
        ("a.ini", f"[shop]\nfirst = 1\n{KEY} = {OLD}\n\n[other]\nlast = 2\n", ["shop", KEY]),
        ("a.yaml", f"first: 1\n{KEY}: {OLD}\nlast: x # kept\n", [KEY]),
    ],
)
def test_all_formats_of_sops(backend: SopsFile, name: str, text: str, key: list[str]) -> None:
    path = backend.encrypted(name, text)
    before = backend.decrypted(path)
    store = opened(backend, path=str(path), key=key)
    found = store.inspect()
    assert found.fingerprint == fingerprint(OLD)
    store.note(record(NEW), store.write(ApiKey(NEW), found))
    assert backend.decrypted(path) == before.replace(OLD, NEW)
    assert store.inspect().record == record(NEW)
    assert sorted(each.name for each in path.parent.glob(".*")) == [f".{name}.{'.'.join(key)}.multicart.json"]


@pytest.mark.full
@only(SopsFile)
def test_a_file_of_sops_in_git(backend: SopsFile, tmp_path: Path) -> None:
    remote, ours = tmp_path / "remote.git", tmp_path / "ours"
    git("init", "--quiet", "--bare", "--initial-branch=main", remote)
    git("clone", "--quiet", remote, ours)
    shutil.copy(backend.entry["path"], ours / "secrets.yaml")
    git("add", ".", cwd=ours)
    git("commit", "--quiet", "-m", "ours", cwd=ours)
    git("push", "--quiet", "origin", "HEAD:main", cwd=ours)
    talk = Talk(
        "sops",
        {**backend.entry, "path": str(ours / "secrets.yaml"), "remote": "origin", "branch": "main"},
        NO_CONTROL_NODE,
    )
    talk.rotate()
    talk.end()
    clone = tmp_path / "clone"
    git("clone", "--quiet", remote, clone)
    assert f"{KEY}: {NEW}\n" in backend.decrypted(clone / "secrets.yaml")
    assert (clone / f".secrets.yaml.shop.{KEY}.multicart.json").exists()


@only(SopsFile)
def test_a_value_that_is_no_text_or_has_no_place(backend: SopsFile) -> None:
    assert problem_of(opened(backend, key=["shop"])).reason == "store_malformed"
    assert problem_of(opened(backend, key=["other", "below"])).reason == "store_malformed"
    store = opened(backend, key=["shop", "new"])
    found = store.inspect()
    assert found.fingerprint is None
    store.write(ApiKey(NEW), found)
    assert f"new: {NEW}\n" in backend.decrypted(Path(backend.entry["path"]))
    assert backend.value() == OLD


# --- JSON in a secret -----------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.sampled_from(["0.1234567890123456789", "1E400", "-0", "1.10", "12345678901234567890123"]).map(Literal),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text() | st.just(KEY), _VALUES), max_size=5), st.sampled_from(["", " ", "\n\t"]))
def test_all_else_in_a_json_object_stays_as_it_is_written(pairs: list[tuple[str, Any]], space: str) -> None:
    """It was read and written again: 1E400 became Infinity, which is no JSON, and of two equal names one was left."""

    def text_with(of_field: str) -> str:
        parts = [f"{json.dumps(name)}{space}:{of_field if name == KEY else written(value)}" for name, value in pairs]
        return f"{space}{{{space}{f'{space},{space}'.join(parts)}{space}}}{space}"

    text, number = text_with('"changeme"'), [name for name, _value in pairs].count(KEY)
    if number > 1:
        with pytest.raises(StoreError, match="more than once") as caught:
            _with_field(text, KEY, NEW)
        assert caught.value.reason == "store_malformed"
        return
    changed = _with_field(text, KEY, NEW)
    assert json.loads(changed)[KEY] == _field_in(changed, KEY)[0] == NEW
    if number:
        assert changed == text_with(json.dumps(NEW))
    else:
        added = f'{", " if pairs else ""}"{KEY}": "{NEW}"'
        assert changed.replace(added, "") == text and json.loads(changed)


def written(value: Any) -> str:
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, list):
        return f"[{','.join(written(each) for each in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{written(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("text", ["", "[]", "x", '{"a": 1', '{"a": 1} x', "\ufeff{}", "[" * 100_000])
def test_what_is_no_json_object_is_malformed(text: str) -> None:
    with pytest.raises(StoreError, match="not a JSON object"):
        _field_in(text, KEY)


@only(SecretsManager)
def test_numbers_in_a_secret_are_kept_and_a_field_that_is_there_twice_is_refused(backend: SecretsManager) -> None:
    text = f'{{"id": 0.1234567890123456789, "big": 1E400, "n": -0, "{KEY}": "%s", "n": 1.10}}'
    backend.put_text(text % OLD)
    store = opened(backend)
    store.write(ApiKey(NEW), store.inspect())
    assert backend._current()["SecretString"] == text % NEW
    backend.put_text(f'{{"{KEY}": "{OLD}", "{KEY}": "{OLD}"}}')
    assert problem_of(opened(backend)).reason == "store_malformed"
