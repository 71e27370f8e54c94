# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host's own task shows, and which hosts are refused for their facts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import refuse_facts
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.consumers import (
    SKIPPED,
    checked_for_stores,
    shown,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec, spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Plan, Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import File, Problem, Standing, State

from tests.unit.plugins.plugin_utils.runs import DONE, NEW, OLD

GOOD = HostResult("web", Standing(State.UP_TO_DATE))
FAILED = HostResult("web", Standing(State.RESTART_DUE, "the command x failed"), reason="restart_failed")
BEHIND = HostResult("web", Standing(State.OUT_OF_DATE))
ERROR = MulticartError(Reason.OLD_KEY_STILL_VALID, "It still works.", "Wait.")


@pytest.mark.parametrize(
    ("host", "error", "failed", "reason", "message"),
    [
        (GOOD, None, False, None, "It is up to date."),
        (replace(GOOD, checked=True), None, False, None, "It is up to date; its health checks passed."),
        (FAILED, None, True, "restart_failed", "Restart due: the command x failed."),
        (FAILED, ERROR, True, "restart_failed", "Restart due: the command x failed."),
        (BEHIND, None, True, "not_up_to_date", "It is out of date."),
        (BEHIND, ERROR, True, "old_key_still_valid", "It still works. Wait."),
        (GOOD, ERROR, True, "old_key_still_valid", "It still works. Wait."),
    ],
)
def test_a_host_fails_for_its_own_reason_or_with_the_whole(
    host: HostResult, error: MulticartError | None, failed: bool, reason: str | None, message: str
) -> None:
    told = shown(DONE, host, error)
    assert (bool(told.get("failed")), told.get("reason"), told["msg"]) == (failed, reason, message)
    assert (told["changed"], told["state"]) == (False, host.standing.state.value)


@pytest.mark.parametrize("outcome", [Outcome.ROTATED, Outcome.ALREADY_ROTATED, Outcome.UNKNOWN, Outcome.UNCHANGED])
def test_a_host_has_no_state_where_it_is_not_known_which_key_is_live(outcome: Outcome) -> None:
    lost = replace(DONE, rotation=Result(outcome, None, OLD))
    assert shown(lost, GOOD, ERROR)["state"] == ("up_to_date" if outcome is Outcome.UNCHANGED else "unknown")


FILES = (
    File("/a", "KEY", held=(OLD.fingerprint, OLD.fingerprint), holds=(NEW.fingerprint,)),
    File("/b", None, held=(), holds=(NEW.fingerprint,)),
    File("/c", "KEY", held=(NEW.fingerprint,), holds=(NEW.fingerprint,)),
    File("/d", "KEY", held=(NEW.fingerprint, OLD.fingerprint), holds=(NEW.fingerprint,)),
)


def diff(result: ActResult, **more: Any) -> list[tuple[str, str, str]]:
    told = shown(result, HostResult("web", GOOD.standing, **{"changed": True, "files": FILES, **more}), None)
    assert all(each["before_header"] == each["after_header"] for each in told["diff"])
    return [(each["before_header"], each["before"], each["after"]) for each in told["diff"]]


def test_a_difference_shows_fingerprints_and_masks_of_what_has_changed() -> None:
    new = f"{NEW.masked} (fingerprint {NEW.fingerprint})\n"
    old = f"KEY=(fingerprint {OLD.fingerprint})\n"
    assert diff(DONE) == [
        ("/a", old * 2, f"KEY={new}"),
        ("/b", "", f"key={new}"),
        ("/d", f"KEY=(fingerprint {NEW.fingerprint})\n{old}", f"KEY={new}"),
    ]
    shown_text = json.dumps(diff(DONE))
    assert OLD.reveal() not in shown_text and NEW.reveal() not in shown_text


def test_the_difference_of_a_rotation_that_is_foretold_names_no_key() -> None:
    result = ActResult(Plan(Step.ROTATE, "because", OLD.fingerprint), Live(OLD), check_mode=True)
    assert [(path, after) for path, _before, after in diff(result)] == [
        (path, f"{name}=(the new key)\n") for path, name in (("/a", "KEY"), ("/b", "key"), ("/c", "KEY"), ("/d", "KEY"))
    ]
    for known in (replace(result, check_mode=False), replace(result, plan=Plan(Step.CATCH_UP, "because"))):
        assert "(the new key)" not in json.dumps(diff(known))


@pytest.mark.parametrize(
    ("result", "changed", "wanted"),
    [(DONE, False, True), (DONE, True, False), (ActResult(), True, True)],
)
def test_without_a_change_or_a_wish_there_is_no_difference(result: ActResult, changed: bool, wanted: bool) -> None:
    host = HostResult("web", GOOD.standing, changed, FILES)
    assert "diff" not in shown(result, host, None, wanted)


# --- services without a file ----------------------------------------------------------------------


def spec(**variables: Any) -> HostSpec:
    return spec_of({f"multicart_deploy_{name}": value for name, value in variables.items()}, lambda value: value)


READER = Host("reader", spec(commands=["true"]))
WEB = Host("web", spec(files=[{"path": "/a"}]))
STORE = Host(
    "store", spec(stores=[{"type": "command", "label": "x", **dict.fromkeys(("inspect", "write", "note"), ["true"])}])
)
EMPTY = Host("empty", failure=Problem("no_files", "it has no files of this account: set multicart_deploy_files"))


@pytest.mark.parametrize(
    ("others", "refused"),
    [
        ([], True),
        ([WEB, EMPTY], True),
        ([WEB, STORE], False),
        ([WEB, Host("unknown", failure=Problem("skipped", SKIPPED))], False),
        ([WEB, Host("wrong", failure=Problem("invalid_option", "multicart_deploy_stores: it must be a list"))], False),
    ],
)
def test_services_without_a_file_need_a_store_in_the_fleet(others: list[Host], refused: bool) -> None:
    """A consumer of which nothing is known may be one."""
    reader, *rest = checked_for_stores([READER, *others])
    assert rest == others
    assert (reader.failure.reason if reader.failure else None) == ("no_files" if refused else None)


# --- facts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("multicart_api_url", "multicart_api_url"),
        ("multicart_deploy_files__x", "multicart_deploy_files__x"),
        ("multicart_{{ x }}", "a variable"),
        ("multicart_\n", "a variable"),
        ("multicart_\u00e4", "a variable"),
        ("multicart_" + "x" * 99, ("multicart_" + "x" * 99)[:60]),
    ],
)
def test_a_host_whose_facts_have_names_of_this_collection_is_refused(name: str, told: str) -> None:
    """X1, X2: what a host says names no file, no URL and no option."""
    with pytest.raises(MulticartError) as refused:
        refuse_facts({"ansible_facts": {"hostname": "web", name: "x"}, name: "x"})
    assert (refused.value.reason, refused.value.what) == (Reason.FACTS_REFUSED, f"Its facts set {told}.")


@pytest.mark.parametrize("facts", [None, {}, {"hostname": "x", "my_multicart_x": 1, "MULTICART_X": 1}])
def test_other_facts_are_no_reason(facts: Any) -> None:
    refuse_facts({"ansible_facts": facts, "multicart_api_url": "https://of.the.inventory"})
    refuse_facts({})
