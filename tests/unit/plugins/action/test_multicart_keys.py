# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edges of the key modules: documented results only, masked unless asked, and no foreign text."""

from __future__ import annotations

import importlib
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Request, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection

PLUGINS = "ansible_collections.multicart.keys.plugins"
OLD, NEW = ApiKey("173axcs.oldoldoldold"), ApiKey("173axcs.newnewnewnew")
SECRETS = ("oldoldold", "newnewnew", "canary")
COMMON = {"changed", "failed", "msg", "diff"}
"""What every module may return, and Ansible documents."""

OF_THE_CALLER = {"api_key", "check_mode", "live", "former"}
"""What no option of the modules says, or that of the connection."""

ERROR = MulticartError(Reason.NEW_KEY_UNREADABLE, "It cannot be read.")
ROTATIONS = [
    Result(Outcome.ROTATED, NEW, OLD, verified=True, old_key_rejected=True, rotated_at="2026-06-20T03:00:00.000Z"),
    Result(Outcome.ROTATED, None, OLD, rotated_at="2026-06-20T03:00:00.000Z", error=ERROR),
    Result(Outcome.ROTATED, None, OLD, old_key_rejected=True, rotated_at="2026-06-20T03:00:00.000Z"),
    Result(Outcome.ALREADY_ROTATED, NEW, verified=True),
    Result(Outcome.ALREADY_ROTATED, NEW, OLD, verified=True, old_key_rejected=True),
    Result(Outcome.WOULD_ROTATE, previous=OLD),
    Result(Outcome.UNCHANGED, OLD, OLD, error=ERROR),
    Result(Outcome.UNCHANGED, error=ERROR),
    Result(Outcome.UNKNOWN, None, OLD, error=ERROR),
]


def action(name: str, args: dict[str, Any] | None = None, check_mode: bool = False) -> tuple[Any, Any]:
    """Return an action plugin for a task, and its module to be steered."""
    module = importlib.import_module(f"{PLUGINS}.action.{name}")
    keywords = {"async_val": 0, "diff": True, "loop": None, "loop_with": None, "no_log": False}
    task = SimpleNamespace(args=args or {}, check_mode=check_mode, action=name, **keywords)
    templar = SimpleNamespace(copy_with_new_env=lambda **dummy: SimpleNamespace(template=lambda value: value))
    plugin = module.ActionModule(
        task=task,
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)),
        play_context=SimpleNamespace(check_mode=check_mode),
        loader=None,
        templar=templar,
        shared_loader_obj=None,
    )
    return plugin, module


def documented(name: str) -> dict[str, Any]:
    """Return what a module says it returns."""
    returns: dict[str, Any] = yaml.safe_load(importlib.import_module(f"{PLUGINS}.modules.{name}").RETURN)
    return returns


def assert_documented(name: str, result: dict[str, Any]) -> None:
    returns = documented(name)
    shown = {key for key in result if not key.startswith("_ansible")} - COMMON
    assert shown <= set(returns)
    types = {"str": str, "bool": bool, "dict": dict}
    for key in shown:
        assert result[key] is None or isinstance(result[key], types[returns[key]["type"]])
    always = {key for key, about in returns.items() if about["returned"] == "always"}
    assert always <= set(result)
    failed = bool(result.get("failed"))
    assert ("reason" in result) == ("msg" in result) == failed
    json.dumps(result)


def noting(asked: list[Request], rotation: Result) -> Callable[..., Result]:
    """Return a rotation that notes its request and ends as given."""

    def rotate_key(_connection: Connection, _cache: Any, request: Request) -> Result:
        asked.append(request)
        return replace(rotation)

    return rotate_key


@pytest.fixture(autouse=True)
def _own_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    for name in ("API_URL", "SESSION_TOKEN", "EMAIL", "PASSWORD", "API_KEY", "VALIDATE_CERTS", "CA_PATH", "TIMEOUT"):
        monkeypatch.delenv(f"MULTICART_{name}", raising=False)


# --- multicart_key_info ---------------------------------------------------------------------------


@pytest.mark.parametrize("reveal", [False, True])
def test_info_returns_what_is_documented_and_the_key_only_on_request(
    monkeypatch: pytest.MonkeyPatch, reveal: bool
) -> None:
    plugin, module = action("multicart_key_info", {"session_token": "canary-token", "reveal": reveal})
    account = Account("7", NEW, {"id": 7, "timezone": "UTC"})
    monkeypatch.setattr(module, "read_account", lambda connection, cache: account)
    result = plugin.run(task_vars={})
    assert_documented("multicart_key_info", result)
    expected = {name for name, about in documented("multicart_key_info").items() if about["returned"] == "success"}
    assert expected <= set(result)
    assert result["account"] == {"id": 7, "timezone": "UTC"}
    assert result["changed"] is False and "failed" not in result
    assert (result.get("api_key") == NEW.reveal()) == reveal
    assert bool(result.get("_ansible_no_log")) == reveal
    if not reveal:
        assert not any(secret in json.dumps(result) for secret in SECRETS)


def test_info_gives_the_reason_of_a_failure_and_nothing_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, module = action("multicart_key_info", {"session_token": "canary-token"})

    def read_account(connection: Connection, cache: Any) -> Account:
        raise MulticartError(Reason.REFUSED, "No.", "Ask.")

    monkeypatch.setattr(module, "read_account", read_account)
    result = plugin.run(task_vars={})
    assert_documented("multicart_key_info", result)
    assert (result["failed"], result["msg"], result["reason"]) == (True, "No. Ask.", "refused")
    assert set(result) - {"_ansible_no_log"} == {"changed", "failed", "msg", "reason"}


# --- multicart_key_rotate -------------------------------------------------------------------------


@pytest.mark.parametrize("reveal", [False, True])
@pytest.mark.parametrize(
    "rotation", ROTATIONS, ids=lambda rotation: f"{rotation.outcome.value}-{rotation.error is None}"
)
def test_rotate_returns_what_is_documented_for_every_way_it_can_end(
    monkeypatch: pytest.MonkeyPatch, rotation: Result, reveal: bool
) -> None:
    plugin, module = action("multicart_key_rotate", {"session_token": "canary-token", "reveal": reveal})
    monkeypatch.setattr(module, "rotate_key", lambda connection, cache, request: replace(rotation))
    result = plugin.run(task_vars={})
    assert_documented("multicart_key_rotate", result)
    assert result["outcome"] == rotation.outcome.value
    assert result["changed"] == (rotation.outcome in (Outcome.ROTATED, Outcome.WOULD_ROTATE))
    assert bool(result.get("failed")) == (rotation.error is not None)
    assert result.get("key_fingerprint") == (rotation.live.fingerprint if rotation.live else None)
    assert result.get("previous_key_fingerprint") == (rotation.previous.fingerprint if rotation.previous else None)
    assert ("diff" in result) == result["changed"]
    assert ("api_key" in result) == bool(result.get("_ansible_no_log")) == (reveal and rotation.live is not None)
    result.pop("api_key", None)
    assert not any(secret in json.dumps(result) for secret in SECRETS)


@pytest.mark.parametrize("name", [name for name in vars(Request()) if name not in OF_THE_CALLER])
def test_every_option_of_rotate_reaches_the_rotation(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values: dict[str, Any] = {"retire": OLD.fingerprint, "settle_timeout": 7.5}
    value: Any = values.get(name, not getattr(Request(), name))
    plugin, module = action("multicart_key_rotate", {"session_token": "canary-token", name: value})
    asked: list[Request] = []
    monkeypatch.setattr(module, "rotate_key", noting(asked, ROTATIONS[0]))
    plugin.run(task_vars={})
    assert [vars(request) for request in asked] == [{**vars(Request()), name: value}]


@pytest.mark.parametrize("check_mode", [False, True])
def test_check_mode_reaches_the_rotation(monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    plugin, module = action("multicart_key_rotate", {"session_token": "canary-token"}, check_mode)
    asked: list[Request] = []
    monkeypatch.setattr(module, "rotate_key", noting(asked, ROTATIONS[5]))
    plugin.run(task_vars={})
    assert [request.check_mode for request in asked] == [check_mode]


def test_rotate_with_wrong_options_has_changed_nothing() -> None:
    plugin, _module = action("multicart_key_rotate", {"session_token": "canary-token", "verify": "perhaps-canary"})
    result = plugin.run(task_vars={})
    assert_documented("multicart_key_rotate", result)
    assert (result["outcome"], result["reason"], result["changed"]) == ("unchanged", "invalid_option", False)
    assert "canary" not in json.dumps(result)


@pytest.mark.parametrize(("name", "function"), [("rotate", "rotate_key"), ("revoke", "revoke_key")])
def test_no_time_limit_of_a_task_breaks_off_what_was_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, function: str
) -> None:
    plugin, module = action(f"multicart_key_{name}", {"session_token": "canary-token", "retire": OLD.fingerprint})
    left = []

    def change(*_given: Any) -> Result:
        left.append(signal.alarm(0))
        return ROTATIONS[0]

    monkeypatch.setattr(module, function, change)
    signal.alarm(1000)  # as core sets it
    try:
        plugin.run(task_vars={})
    finally:
        signal.alarm(0)
    assert left == [0]


# --- multicart_key_revoke -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rotation", ROTATIONS, ids=lambda rotation: f"{rotation.outcome.value}-{rotation.error is None}"
)
def test_revoke_returns_what_is_documented_for_every_way_it_can_end(
    monkeypatch: pytest.MonkeyPatch, rotation: Result
) -> None:
    plugin, module = action("multicart_key_revoke", {"api_key": OLD.reveal(), "retire": OLD.fingerprint})
    monkeypatch.setattr(module, "revoke_key", lambda connection, cache, request: replace(rotation))
    result = plugin.run(task_vars={})
    assert_documented("multicart_key_revoke", result)
    assert result["outcome"] == rotation.outcome.value
    assert result["changed"] == (rotation.outcome in (Outcome.ROTATED, Outcome.WOULD_ROTATE))
    assert bool(result.get("failed")) == (rotation.error is not None)
    assert "_ansible_no_log" not in result
    assert not any(secret in json.dumps(result) for secret in SECRETS)


@pytest.mark.parametrize("check_mode", [False, True])
def test_every_option_of_revoke_reaches_the_revocation(monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    given = {"retire": OLD.fingerprint, "settle_timeout": 7.5}
    plugin, module = action("multicart_key_revoke", {"session_token": "canary-token", **given}, check_mode)
    asked: list[Revocation] = []

    def revoke_key(_connection: Connection, _cache: Any, request: Revocation) -> Result:
        asked.append(request)
        return replace(ROTATIONS[0])

    monkeypatch.setattr(module, "revoke_key", revoke_key)
    plugin.run(task_vars={})
    assert asked == [Revocation(OLD.fingerprint, None, 7.5, check_mode)]


def test_revoke_without_the_fingerprint_of_the_key_changes_nothing() -> None:
    plugin, _module = action("multicart_key_revoke", {"api_key": OLD.reveal()})
    result = plugin.run(task_vars={})
    assert (result["outcome"], result["reason"], result["changed"]) == ("unchanged", "invalid_option", False)
    assert "The option retire is required." in result["msg"]


# --- all -----------------------------------------------------------------------------------------

MODULES = {
    "multicart_key_info": "read_account",
    "multicart_key_rotate": "rotate_key",
    "multicart_key_revoke": "revoke_key",
}
REQUIRED = {"multicart_key_revoke": {"retire": OLD.fingerprint}}


@pytest.mark.parametrize("name", MODULES)
def test_an_unexpected_error_shows_type_and_place_only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plugin, module = action(name, {"session_token": "canary-token", **REQUIRED.get(name, {})})

    def broken(*_args: Any) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(module, MODULES[name], broken)
    result = plugin.run(task_vars={})
    assert_documented(name, result)
    assert result["reason"] == "internal_error"
    assert "Unexpected RuntimeError at broken:" in result["msg"]
    assert "canary" not in json.dumps(result)
    assert "exception" not in result
    if name != "multicart_key_info":
        assert result["outcome"] == "unknown"


@pytest.mark.parametrize("name", MODULES)
def test_without_a_credential_the_result_says_which_options_to_set(name: str) -> None:
    result = action(name, REQUIRED.get(name))[0].run(task_vars={})
    assert_documented(name, result)
    assert result["reason"] == "no_credentials"
    assert "MULTICART_SESSION_TOKEN" in result["msg"]


@pytest.mark.parametrize("name", MODULES)
def test_variables_and_the_controllers_environment_reach_the_connection(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MULTICART_API_URL", "https://environment.example")
    plugin, module = action(name, {"timeout": 3, **REQUIRED.get(name, {})})
    seen: list[Connection] = []

    def stop(connection: Connection, *_args: Any) -> None:
        seen.append(connection)
        raise MulticartError(Reason.REFUSED, "No.")

    monkeypatch.setattr(module, MODULES[name], stop)
    plugin.run(task_vars={"multicart_session_token": "from-a-variable"})
    assert seen == [Connection("https://environment.example", "from-a-variable", timeout=3.0)]


@pytest.mark.parametrize("name", MODULES)
def test_a_documented_reason_is_one_of_the_closed_list(name: str) -> None:
    assert documented(name)["reason"]["sample"] in {reason.value for reason in Reason}


@pytest.mark.parametrize("name", ["multicart_key_rotate", "multicart_key_revoke"])
def test_the_documented_outcomes_are_those_of_the_code(name: str) -> None:
    text = " ".join(documented(name)["outcome"]["description"])
    for outcome in Outcome:
        assert f"V({outcome.value})" in text
    assert text.count("V(") == len(Outcome)
