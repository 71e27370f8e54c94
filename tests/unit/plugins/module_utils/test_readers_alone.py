# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of services and commands that have no file, because they read the key from a store."""

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._key_file import ReadersAlone
from ansible_collections.multicart.keys.plugins.module_utils._phases import FIELDS
from ansible_collections.multicart.keys.plugins.module_utils._record import RejectedBefore

OLD, NEW = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary")
SINCE = "2026-11-26T03:00:00Z"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def readers(**request: Any) -> ReadersAlone:
    entry = {"path": "services and commands", "variable": None, "format": "none"}
    wanted = {**FIELDS, "services": [{"name": "app", "state": "restarted"}], "account": "a" * 16, **request}
    return ReadersAlone(entry, wanted)


def restarted(key: ApiKey) -> None:
    before = readers(live=key.fingerprint)
    before.write(key, SINCE)
    before.close()


def test_of_which_nothing_is_known_they_hold_nothing_and_are_restarted(home: Path) -> None:
    fresh = readers()
    assert (fresh.holds, fresh.problem, fresh.record) == ([], None, None)
    fresh.write(NEW, SINCE)
    assert fresh.changed and fresh.restart_due
    kept = json.loads((home / ".multicart.readers.json").read_text())
    assert (kept["held"], kept["since"]) == (NEW.fingerprint, SINCE)
    assert "canary" not in json.dumps(kept)


def test_once_restarted_they_hold_it_and_need_no_restart() -> None:
    restarted(NEW)
    known = readers(live=NEW.fingerprint)
    assert (known.holds, known.restart_due, known.record and known.record["open"]) == ([NEW.fingerprint], False, False)
    known.write(NEW, SINCE)
    assert not known.changed


def test_a_restart_for_another_key_is_due_until_it_is_closed() -> None:
    restarted(OLD)
    readers(live=NEW.fingerprint).write(NEW, SINCE)
    broken_off = readers(live=NEW.fingerprint)
    assert broken_off.holds == [NEW.fingerprint] and broken_off.restart_due


def test_t21_what_was_restarted_before_the_stores_had_the_key_still_holds_the_old_one() -> None:
    restarted(OLD)
    too_early = readers(live=NEW.fingerprint, stores_behind=True)
    too_early.write(NEW, SINCE)
    assert too_early.restart_due
    after = readers(live=NEW.fingerprint)
    assert after.holds == [OLD.fingerprint]
    after.write(NEW, SINCE)
    assert after.restart_due


def test_check_mode_notes_nothing(home: Path) -> None:
    planned = readers(check_mode=True)
    planned.write(NEW, SINCE)
    assert planned.changed and not (home / ".multicart.readers.json").exists()


def test_the_key_of_another_account_is_not_taken_for_theirs() -> None:
    restarted(OLD)
    assert getattr(readers(account="b" * 16).problem, "reason", None) == "other_account"


def test_they_are_not_restarted_for_a_key_that_was_seen_to_be_rejected() -> None:
    restarted(OLD)
    restarted(NEW)
    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": SINCE, "accepted": True, "updated_at": None}
    readers(live=NEW.fingerprint).conclude(seen)
    with pytest.raises(RejectedBefore, match=r"remove the record .*/\.multicart\.readers\.json first"):
        readers(live=OLD.fingerprint).write(OLD, SINCE)
    assert readers().holds == [NEW.fingerprint]


def test_the_record_may_be_elsewhere(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    readers(state_dir=str(state)).write(NEW, SINCE)
    assert len(list(state.iterdir())) == 1
    assert readers(state_dir=str(state)).holds == [NEW.fingerprint]


def test_what_another_consumer_keeps_at_home_is_left_alone(home: Path) -> None:
    state = home / "state"
    state.mkdir()
    readers(account="b" * 16).write(OLD, SINCE)
    own = readers(state_dir=str(state))
    assert (own.problem, own.record) == (None, None)


def test_a_place_that_cannot_be_written_is_told_before_anything_is_rotated(home: Path) -> None:
    (home / ".multicart.readers.json").mkdir()
    assert readers().problem is not None
    assert readers(state_dir=str(home / "nowhere")).problem is not None
