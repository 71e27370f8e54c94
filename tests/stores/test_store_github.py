# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of GitHub Actions: what only this type has; sealed by the real library, against a stand-in for the API."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import github_secret, rest
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    NO_CONTROL_NODE,
    Conflict,
    ControlNode,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    label_of,
    open_store,
    resolve,
)

from tests.ports import OwnPort
from tests.stores.github_api import TOKEN, GitHubApi
from tests.stores.http_api import Answer
from tests.stores.talk import NEW, OLD, OTHER, SINCE, fingerprint

KEY = "MULTICART_API_KEY"
NOTED = f"MULTICART_RECORD_{KEY}"
SHOP, PROD, ORG = "/repos/acme/shop/actions", "/repos/acme/shop/environments/prod/eu", "/orgs/acme/actions"
FIELDS: dict[str, dict[str, Any]] = {
    SHOP: {"repository": "acme/shop"},
    PROD: {"repository": "acme/shop", "environment": "prod/eu"},
    ORG: {"organization": "acme"},
}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHubApi]:
    monkeypatch.setattr(github_secret, "SETTLING", (0.0, 0.0, 0.0))
    made = GitHubApi()
    made.put_secret(SHOP, KEY, OLD)
    made.put_secret(ORG, KEY, OLD, visibility="private", ids=[])
    yield made
    made.stop()


def opened(api: GitHubApi, place: str = SHOP, **fields: Any) -> Store:
    entry = {"api_url": api.url, "token": TOKEN, **FIELDS[place], **fields}
    return open_store("github_secret", resolve("github_secret", entry, NO_CONTROL_NODE))


def record(held: str) -> dict[str, Any]:
    return {**records.NONE, "held": fingerprint(held), "since": SINCE}


def written(store: Store, key: str = NEW) -> Found:
    """Write a key, and note it."""
    return store.note(record(key), store.write(ApiKey(key), store.inspect()))


# --- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "repository or organization"),
        ({"repository": "a/b", "organization": "a"}, "repository or organization"),
        ({"repository": "acme"}, "repository"),
        ({"repository": "acme/.."}, "repository"),
        ({"repository": "acme/a/b"}, "repository"),
        ({"organization": "../acme"}, "organization"),
        ({"organization": "acme", "environment": "prod"}, "environment"),
        ({"repository": "a/b", "environment": ".."}, "environment"),
        ({"repository": "a/b", "name": "1KEY"}, "name"),
        ({"repository": "a/b", "name": "github_key"}, "name"),
        ({"repository": "a/b", "api_url": "http://github.example"}, "api_url"),
        ({"repository": "a/b", "token": ""}, r"token \(or GITHUB_TOKEN"),
    ],
)
def test_what_an_entry_cannot_say(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidEntry, match=f"needs {named}") as caught:
        resolve("github_secret", {"token": TOKEN, **fields}, NO_CONTROL_NODE)
    assert "canary" not in str(caught.value)


def test_a_token_of_the_environment_goes_only_where_the_environment_says() -> None:
    entry = {"repository": "acme/shop"}
    control = ControlNode({"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": "https://github.example/api/v3/"})
    options = resolve("github_secret", entry, control)
    assert (options["api_url"], options["token"]) == ("https://github.example/api/v3", TOKEN)
    assert resolve("github_secret", entry, ControlNode({"GITHUB_TOKEN": TOKEN}))["api_url"] == "https://api.github.com"
    for place in ({"api_url": "https://elsewhere.example"}, {"ca_path": __file__}):
        with pytest.raises(InvalidEntry, match="goes only where the environment says"):
            resolve("github_secret", {**entry, **place}, control)


def test_it_is_called_by_what_tells_it_from_others(api: GitHubApi) -> None:
    entry = {"repository": "acme/shop", "environment": "prod", "token": TOKEN, "name": "key"}
    options = resolve("github_secret", entry, NO_CONTROL_NODE)
    label = "github_secret acme/shop KEY of the environment prod at https://api.github.com"
    assert label_of("github_secret", options) == label


# --- errors ---------------------------------------------------------------------------------------

FAULTS = {
    "down": "store_unreachable",
    "unavailable": "store_unreachable",
    "unauthorised": "store_refused",
    "forbidden": "store_refused",
    "malformed": "store_malformed",
    "html": "store_malformed",
    "redirect": "store_failed",
    "echo": "store_failed",
    "limited": "store_failed",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_error_has_its_reason_and_repeats_nothing(api: GitHubApi, fault: str) -> None:
    store = opened(api)
    found = written(store, OLD)
    before = len(api.requests)
    api.break_by(fault)
    for act in (
        store.inspect,
        store.verify_right,
        lambda: store.write(ApiKey(NEW), found),
        lambda: store.note(record(NEW), found),
    ):
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.reason == FAULTS[fault]
        assert not re.search(r"canary|https?://\d|\.$", str(caught.value)), caught.value
    assert len(api.requests) == before + 4, "something was sent more than once"
    assert api.elsewhere == []
    assert api.secrets[SHOP, KEY]["value"] == OLD


def test_an_error_of_the_write_itself_repeats_nothing(api: GitHubApi) -> None:
    store = opened(api)
    found = store.inspect()
    for fault in ("redirect", "echo", "down"):
        api.break_by(fault, at=lambda request: request.method == "PUT")
        with pytest.raises(StoreError) as caught:
            store.write(ApiKey(NEW), found)
        assert caught.value.reason == FAULTS[fault]
        assert "canary" not in str(caught.value)
    assert api.elsewhere == []
    assert NEW not in repr(api.requests), "the key was not sealed"


@pytest.mark.parametrize(("left", "reason"), [("0", "store_failed"), ("7", "store_refused")])
def test_a_limit_of_the_rate_is_no_lack_of_rights(
    api: GitHubApi, monkeypatch: pytest.MonkeyPatch, left: str, reason: str
) -> None:
    monkeypatch.setattr(api, "answer", lambda _request: Answer(403, {}, {"X-RateLimit-Remaining": left}))
    with pytest.raises(StoreError) as caught:
        opened(api).inspect()
    assert caught.value.reason == reason


def test_no_server_at_all() -> None:
    with OwnPort() as port, pytest.raises(StoreError) as caught:
        entry = {"repository": "acme/shop", "api_url": f"https://127.0.0.1:{port.number}", "token": TOKEN}
        open_store("github_secret", resolve("github_secret", entry, NO_CONTROL_NODE)).inspect()
    assert caught.value.reason == "store_unreachable"


def test_a_server_that_hangs_is_given_up(api: GitHubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "ANSWERING", 1)
    api.break_by("hang")
    with pytest.raises(StoreError) as caught:
        opened(api).inspect()
    assert caught.value.reason == "store_unreachable"


def test_a_public_key_that_is_none(api: GitHubApi) -> None:
    api.break_by("malformed", at=lambda request: request.path.endswith("public-key"))
    with pytest.raises(StoreError) as caught:
        opened(api).inspect()
    assert caught.value.reason == "store_malformed"


@pytest.mark.parametrize("name", ["nacl.public", "requests"])
def test_a_library_that_is_missing_is_named(api: GitHubApi, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError, match=f"{re.escape(sys.executable)} -m pip install ") as caught:
        opened(api)
    assert caught.value.reason == "store_library_missing"


def test_a_netrc_does_not_replace_the_token(api: GitHubApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login them password theirs\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    opened(api).inspect()
    assert {request.headers["Authorization"] for request in api.requests} == {f"Bearer {TOKEN}"}


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", FIELDS)
def test_each_place_gets_the_key_and_its_record(api: GitHubApi, place: str) -> None:
    store = opened(api, place)
    store.verify_right()
    written(store)
    assert api.secrets[place, KEY]["value"] == NEW
    assert {name for where, name in api.secrets if where == place} == {KEY}, "the probe was left"
    found = opened(api, place).inspect()
    assert (found.fingerprint, found.record) == (fingerprint(NEW), record(NEW))
    assert all(where == place for where, name in api.variables)


def test_a_name_in_small_letters_is_the_same_secret(api: GitHubApi) -> None:
    written(opened(api, name="multicart_api_key"))
    assert api.secrets[SHOP, KEY]["value"] == NEW
    assert opened(api).inspect().fingerprint == fingerprint(NEW)


@pytest.mark.parametrize("visibility", ["all", "private", "selected"])
def test_who_may_use_a_secret_of_an_organization_stays(api: GitHubApi, visibility: str) -> None:
    ids = list(range(1, 206)) if visibility == "selected" else []
    api.put_secret(ORG, KEY, OLD, visibility=visibility, ids=ids)
    written(opened(api, ORG))
    kept = api.secrets[ORG, KEY]
    assert (kept["value"], kept["visibility"], kept["ids"]) == (NEW, visibility, ids)


def test_a_full_last_page_of_repositories(api: GitHubApi) -> None:
    ids = list(range(200))
    api.put_secret(ORG, KEY, OLD, visibility="selected", ids=ids)
    written(opened(api, ORG))
    assert api.secrets[ORG, KEY]["ids"] == ids


def test_what_is_only_ours_is_for_no_repository(api: GitHubApi) -> None:
    store = opened(api, ORG)
    store.verify_right()
    written(store)
    bodies = [request.body for request in api.changes if request.body and "visibility" in request.body]
    others = [body for body in bodies if body["visibility"] != "private"]
    assert [(body["visibility"], body["selected_repository_ids"]) for body in others] == [("selected", [])] * 2


def test_a_secret_of_an_organization_has_to_be_there(api: GitHubApi) -> None:
    del api.secrets[ORG, KEY]
    with pytest.raises(StoreError, match="visibility") as caught:
        opened(api, ORG).inspect()
    assert caught.value.reason == "store_missing"


def test_an_environment_has_to_be_there(api: GitHubApi) -> None:
    with pytest.raises(StoreError) as caught:
        opened(api, PROD, environment="staging").inspect()
    assert caught.value.reason == "store_missing"


# --- rights ---------------------------------------------------------------------------------------


def test_the_right_to_write_is_proven_by_a_probe(api: GitHubApi) -> None:
    api.refused = lambda request: request.method == "PUT"
    store = opened(api)
    found = store.inspect()  # nothing tells yet
    with pytest.raises(StoreError) as caught:
        store.verify_right()
    assert caught.value.reason == "store_refused"
    assert store.inspect() == found


@pytest.mark.parametrize(
    ("place", "scopes", "reason"),
    [
        (SHOP, "repo, workflow", None),
        (SHOP, "public_repo", "store_refused"),
        (SHOP, "", None),  # of an app: it does not tell
        (ORG, "repo, admin:org", None),
        (ORG, "repo, write:org", "store_refused"),
    ],
)
def test_a_classic_token_tells_what_it_may(api: GitHubApi, place: str, scopes: str, reason: str | None) -> None:
    api.scopes = scopes
    store = opened(api, place)
    if reason is None:
        store.inspect()
        return
    with pytest.raises(StoreError, match="lacks the scope") as caught:
        store.inspect()
    assert caught.value.reason == reason


# --- what is known of it --------------------------------------------------------------------------


def test_without_a_record_nothing_is_known(api: GitHubApi) -> None:
    found = opened(api).inspect()
    assert (found.fingerprint, found.record) == (None, None)


@pytest.mark.parametrize("drift", ["changed", "deleted", "created anew"])
def test_what_somebody_else_did_to_it_is_seen(api: GitHubApi, drift: str) -> None:
    written(opened(api))
    if drift != "changed":
        del api.secrets[SHOP, KEY]
    if drift != "deleted":
        api.put_secret(SHOP, KEY, OTHER)
    found = opened(api).inspect()
    assert (found.fingerprint, found.record) == (None, {**record(NEW), "held": None})


def test_a_note_does_not_make_a_change_of_others_ours(api: GitHubApi) -> None:
    """As when a rotation is prepared: the secret was changed after it was inspected."""
    store = opened(api)
    found = written(store)
    api.put_secret(SHOP, KEY, OTHER)
    found = store.note(record(NEW), found)
    assert opened(api).inspect().fingerprint is None
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), found)
    assert api.secrets[SHOP, KEY]["value"] == OTHER


def test_what_was_written_and_not_noted_is_not_known(api: GitHubApi) -> None:
    store = opened(api)
    written(store, OLD)
    store.write(ApiKey(NEW), store.inspect())
    assert opened(api).inspect().fingerprint is None


@pytest.mark.parametrize("lag", [1, 2])
def test_a_time_that_comes_late_is_waited_for(api: GitHubApi, lag: int) -> None:
    api.lag = lag
    written(opened(api))
    api.lag = 0
    assert opened(api).inspect().fingerprint == fingerprint(NEW)


def test_a_write_within_the_same_second_is_known_all_the_same(api: GitHubApi) -> None:
    written(opened(api), OLD)
    api.seconds_a_change = 0
    written(opened(api))
    assert opened(api).inspect().fingerprint == fingerprint(NEW)


@pytest.mark.parametrize(
    "value",
    ["", "{", "[]", "5", '{"record": 5, "secret_updated_at": null}', '{"record": {"held": "token-canary"}}'],
)
def test_a_variable_that_is_no_record_counts_as_none(api: GitHubApi, value: str) -> None:
    api.variables[SHOP, NOTED] = {"name": NOTED, "value": value}
    assert opened(api).inspect().fingerprint is None
    assert records.checked(opened(api).inspect().record) is None
    written(opened(api))
    assert opened(api).inspect().fingerprint == fingerprint(NEW)


def test_a_record_that_names_no_fingerprint_is_not_believed(api: GitHubApi) -> None:
    written(opened(api))
    kept = json.loads(api.variables[SHOP, NOTED]["value"])
    kept["record"]["held"] = "no fingerprint"
    api.variables[SHOP, NOTED]["value"] = json.dumps(kept)
    assert opened(api).inspect().fingerprint is None


def test_a_variable_that_is_deleted_is_created_anew(api: GitHubApi) -> None:
    store = opened(api)
    found = written(store)
    api.variables.clear()
    store.note(record(NEW), found)
    assert opened(api).inspect().fingerprint == fingerprint(NEW)


def test_a_secret_is_sealed_for_the_key_of_that_moment(api: GitHubApi) -> None:
    store = opened(api)
    found = store.inspect()
    api.renew_key()
    store.write(ApiKey(NEW), found)
    assert api.secrets[SHOP, KEY]["value"] == NEW
