# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One file that holds a key and its record on a real file system: inspect, open, write, close, and killed between."""

import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._env_file import Ambiguous
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import Ownership, UnknownName
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError
from ansible_collections.multicart.keys.plugins.module_utils._key_file import KeyFile

OLD, NEW, OTHER = ApiKey("acme.old-secret"), ApiKey("acme.new-secret"), ApiKey("acme.other-secret")
SINCE, LATER = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
ONE, ANOTHER = "a" * 16, "b" * 16
NOBODY = 65534
SERVICES = [{"name": "app", "state": "restarted"}]
READERS = record.readers_of(SERVICES, [], record.this_machine())


class Host:
    """A directory with one environment file; every phase inspects it afresh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = folder / "env"
        self.record_path = folder / ".env.KEY.multicart.json"
        self.request = dict(state_dir=None, services=SERVICES, commands=[], live=None, account=None, check_mode=False)  # type: dict[str, Any]
        self.entry = {"path": str(self.env), "variable": "KEY", "unsafe_writes": False}  # type: dict[str, Any]
        self.entry.update(dict.fromkeys(("owner", "group", "mode", "digest", "content")))

    def inspect(self, live: Optional[ApiKey] = None) -> KeyFile:
        return KeyFile(dict(self.entry), dict(self.request, live=live.fingerprint if live else None))

    def open(self, key: ApiKey) -> KeyFile:
        file = self.inspect()
        file.open(key.fingerprint)
        return file

    def write(self, key: ApiKey, since: str = SINCE, retires: Optional[dict[str, Any]] = None) -> KeyFile:
        file = self.inspect(key)
        file.write(key, since, retires)
        return file

    def close(self, live: ApiKey) -> KeyFile:
        file = self.inspect(live)
        file.close()
        return file

    def conclude(self, seen: Optional[dict[str, Any]] = None) -> KeyFile:
        file = self.inspect()
        file.conclude(seen)
        return file

    def use_template(self, key: ApiKey, text: str = "key: {}\n") -> str:
        """Make the entry the user's template, as the control node renders it with the live key."""
        content = text.format(key.reveal())
        self.entry.update(variable=None, content=content, digest=record.digest_of(content.encode()))
        self.record_path = self.folder / ".env.multicart-template.json"
        return content

    @property
    def record(self) -> dict[str, Any]:
        kept = record.parse(self.record_path.read_bytes())
        assert kept is not None
        return kept

    @property
    def all_files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    @property
    def visible(self) -> dict[str, bytes]:
        """What counts as a change: a file, and that there is a record; what a record says is bookkeeping."""
        return {name: b"" if name == self.record_path.name else data for name, data in self.all_files.items()}


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.env.write_text(f"A=1\nKEY={OLD.reveal()}\n")
    return host


# --- a whole rotation ---------------------------------------------------------------------------


def test_a_rotation_leaves_the_right_record_at_each_step(host: Host) -> None:
    file = host.inspect()
    assert (file.holds, file.record, file.changed, file.restart_due) == ([OLD.fingerprint], None, False, False)

    file = host.open(OLD)
    rotation = {"retire": OLD.fingerprint, "concluded": False}
    opened = {**record.NONE, "open": True, "rotation": rotation, "readers": {"any": OLD.fingerprint}}
    opened["running"] = {READERS: []}
    assert (file.changed, file.restart_due, host.record) == (True, False, opened)

    host.request["account"] = ONE
    file = host.write(NEW, retires={"key": OLD.fingerprint, "accepted": True})
    assert host.env.read_text() == f"A=1\nKEY={NEW.reveal()}\n"
    digest = record.digest_of(host.env.read_bytes())
    retired = {"key": OLD.fingerprint, "seen": "unseen", "at": None, "accepted": True}
    written = {**opened, "readers": {}, "held": NEW.fingerprint, "since": SINCE, "digest": digest, "account": ONE}
    written["retired"] = [retired]
    assert (file.changed, file.restart_due, file.holds, host.record) == (True, True, [NEW.fingerprint], written)
    assert file.held == [OLD.fingerprint]

    file = host.close(NEW)
    closed = {**written, "open": False, "readers": {READERS: NEW.fingerprint}, "running": None}
    assert (file.changed, file.restart_due, host.record) == (False, False, closed)

    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True}
    host.conclude({**seen, "updated_at": [SINCE, LATER]})
    concluded = {**closed, "rotation": {**rotation, "concluded": True}, "retired": [seen]}
    assert host.record == {**concluded, "updated_at": [SINCE, LATER]}


def test_a_rotation_that_is_done_changes_nothing_when_it_is_run_again(host: Host) -> None:
    host.write(NEW)
    host.close(NEW)
    before = host.all_files, [path.stat().st_ino for path in sorted(host.folder.iterdir())]
    written, closed = host.write(NEW, LATER), host.close(NEW)
    assert (written.changed, written.restart_due, closed.changed) == (False, False, False)
    assert (host.all_files, [path.stat().st_ino for path in sorted(host.folder.iterdir())]) == before


def test_a_deployment_opens_the_record_for_no_rotation(host: Host) -> None:
    assert host.write(NEW).restart_due
    assert (host.record["open"], host.record["rotation"]) == (True, None)
    assert [(entry["key"], entry["accepted"]) for entry in host.record["retired"]] == [(OLD.fingerprint, False)]


def test_the_record_is_opened_before_the_bytes_change_and_tells_them_after(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, Any]] = []
    replace: Callable[..., None] = host_file.replace

    def watched(content: Any, data: bytes, *more: Any) -> None:
        replace(content, data, *more)
        kept = record.parse(data)
        order.append((Path(content.path).name, (kept["open"], kept["held"]) if kept else None))

    monkeypatch.setattr(host_file, "replace", watched)
    host.write(NEW)
    name = host.record_path.name
    assert order == [(name, (True, None)), ("env", None), (name, (True, NEW.fingerprint))]


def test_a_new_file_is_made_and_its_first_key_makes_a_restart_due(host: Host) -> None:
    host.env.unlink()
    file = host.inspect()
    assert (file.holds, file.unknown, file.problem) == ([], False, None)
    file = host.write(NEW)
    assert host.env.read_text() == f"KEY={NEW.reveal()}\n"
    assert stat.S_IMODE(host.env.stat().st_mode) == 0o600
    assert file.restart_due
    host.close(NEW)
    assert not host.record["open"]


@pytest.mark.parametrize("text", ["", "A=1\n", "KEY=\n", "KEY=changeme\n", f"#KEY={OLD.reveal()}\n"])
def test_what_is_not_shaped_like_a_key_is_missing(host: Host, text: str) -> None:
    host.env.write_text(text)
    assert (host.inspect().holds, host.inspect().unknown) == ([], False)
    assert host.write(NEW).holds == [NEW.fingerprint]


def test_a_record_whose_file_holds_a_revoked_key_by_now_stays_open(host: Host) -> None:
    host.write(NEW)
    assert not host.close(OTHER).changed
    assert host.record["open"] and host.inspect().restart_due
    host.close(NEW)
    assert not host.record["open"]


def test_a_record_is_not_closed_where_it_is_not_known_which_key_is_live(host: Host) -> None:
    host.write(NEW)
    file = host.inspect()
    file.close()
    assert host.record["open"]


def test_every_assignment_is_seen_and_changed(host: Host) -> None:
    host.env.write_text(f"KEY={OLD.reveal()}\nexport KEY='{NEW.reveal()}'\n")
    assert host.inspect().holds == [OLD.fingerprint, NEW.fingerprint]
    assert host.write(NEW).restart_due
    assert host.env.read_text() == f"KEY={NEW.reveal()}\nexport KEY='{NEW.reveal()}'\n"
    host.close(NEW)
    assert not host.record["open"]


def test_a_restart_is_due_although_the_first_of_two_assignments_was_up_to_date(host: Host) -> None:
    host.env.write_text(f"KEY={NEW.reveal()}\nKEY={OLD.reveal()}\n")
    assert host.write(NEW).restart_due
    host.close(NEW)
    assert not host.record["open"]


def test_a_file_that_held_the_key_before_is_adopted_with_a_closed_record(host: Host) -> None:
    file = host.write(OLD)
    assert (file.changed, file.restart_due) == (True, False)
    assert host.record == {
        **record.NONE,
        "held": OLD.fingerprint,
        "since": SINCE,
        "digest": record.digest_of(host.env.read_bytes()),
        "readers": {"any": OLD.fingerprint},
    }
    assert not host.write(OLD, LATER).changed


def test_the_date_of_a_key_outlives_a_change_of_the_rest_of_the_file(host: Host) -> None:
    host.write(OLD)
    before = host.record
    host.env.write_text(f"B=2\nKEY={OLD.reveal()}\n")
    assert not host.write(OLD, LATER).changed
    assert host.record == before


# --- which restart is due, and which rotation is pending ------------------------------------------


def test_a_rotation_that_came_to_nothing_makes_no_restart_due(host: Host) -> None:
    host.open(OLD)
    assert not host.inspect().restart_due
    assert not host.write(OLD).restart_due
    host.close(OLD)
    assert (host.record["open"], host.record["rotation"]) == (False, {"retire": OLD.fingerprint, "concluded": False})


def test_of_a_file_with_two_keys_it_is_not_known_which_one_its_readers_use(host: Host) -> None:
    host.env.write_text(f"KEY={OLD.reveal()}\nKEY={NEW.reveal()}\n")
    host.open(OLD)
    assert host.record["readers"] == {}


def test_a_restart_that_is_due_is_not_forgotten_when_another_rotation_begins(host: Host) -> None:
    host.write(NEW)  # and killed before the restart
    assert host.inspect().restart_due
    host.open(NEW)  # multicart_rotate_retire names the live key, and the API refuses to rotate it
    assert host.write(NEW).restart_due


def test_after_that_restart_the_record_still_names_the_rotation(host: Host) -> None:
    host.write(NEW)
    host.open(NEW)
    file = host.close(NEW)
    assert not file.restart_due
    assert host.record["rotation"] == {"retire": NEW.fingerprint, "concluded": False}


def test_the_key_that_was_to_be_retired_stays_on_record_when_the_one_after_it_is_replaced_too(host: Host) -> None:
    host.open(OLD)
    host.write(NEW)  # and killed before the restart; then somebody rotates again
    host.write(OTHER)
    rotation = {"retire": OLD.fingerprint, "concluded": False}
    assert (host.record["rotation"], host.record["held"]) == (rotation, OTHER.fingerprint)
    host.close(OTHER)
    assert (host.record["open"], host.record["rotation"]) == (False, rotation)


@pytest.mark.parametrize("adopted", [True, False])
def test_readers_that_a_slower_run_has_restarted_with_the_former_key_are_restarted_again(
    host: Host, adopted: bool
) -> None:
    """It wrote a key that it had read before the rotation, restarted, and found that the file has to be put back."""
    if adopted:
        host.env.write_text(f"A=1\nKEY={NEW.reveal()}\n")
    host.write(NEW)
    host.close(NEW)
    assert host.write(OLD).restart_due
    assert host.write(NEW).restart_due
    host.close(NEW)
    assert not host.record["open"] and not host.inspect().restart_due


@pytest.mark.parametrize("after", [False, True])
def test_what_was_started_after_the_file_got_its_content_needs_no_restart(
    host: Host, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """A machine of an image that the file is in, or one that has another name by now: its readers are new there."""
    host.write(NEW)
    host.close(NEW)
    monkeypatch.setattr(record, "this_machine", lambda: ANOTHER)
    assert host.inspect().restart_due
    changed = host.env.stat().st_ctime
    monkeypatch.setattr(record, "started_at", lambda: changed + 1 if after else changed - 1)
    assert host.inspect().restart_due != after
    # Where its restart, or that of others, is known to be due, it is.
    host.write(OTHER)
    assert host.inspect().restart_due
    monkeypatch.setattr(record, "this_machine", lambda: ONE)
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    assert host.inspect().restart_due
    monkeypatch.setattr(record, "started_at", lambda: None)
    assert host.inspect().restart_due


COMMANDS, OTHER_COMMANDS = [["restart-app"]], [["restart-proxy"]]
READ_BY = {"services": (SERVICES, []), "commands": ([], COMMANDS), "both": (SERVICES, COMMANDS)}  # type: dict[str, Any]


@pytest.mark.parametrize("later", [*READ_BY.values(), ([], OTHER_COMMANDS)])
@pytest.mark.parametrize("before", READ_BY.values())
@pytest.mark.parametrize("renamed", [False, True])
def test_a_restart_that_failed_is_due_also_where_everything_was_started_since(
    host: Host, monkeypatch: pytest.MonkeyPatch, before: Any, later: Any, renamed: bool
) -> None:
    """The steps were corrected and the machine was started again, or each job is in a container of its own."""
    host.request["services"], host.request["commands"] = before
    host.write(OLD)
    host.close(OLD)
    host.write(NEW)  # then its restart failed
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    if renamed:
        monkeypatch.setattr(record, "this_machine", lambda: ONE)
    host.request["services"], host.request["commands"] = later
    assert host.inspect(NEW).restart_due and host.write(NEW).restart_due
    host.close(NEW)
    assert not host.inspect(NEW).restart_due


def test_commands_were_run_for_another_machine_only_if_they_are_the_same(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may restart what runs elsewhere: a container that runs them is new each time, and that is not."""
    host.request.update(services=[], commands=COMMANDS)
    host.write(NEW)
    host.close(NEW)
    monkeypatch.setattr(record, "this_machine", lambda: ONE)
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    assert not host.inspect().restart_due
    for services, commands, due in (([], OTHER_COMMANDS, True), (SERVICES, COMMANDS, True), (SERVICES, [], False)):
        host.request.update(services=services, commands=commands)
        assert host.inspect().restart_due == due


def test_a_machine_that_was_started_since_does_not_know_of_the_restart_that_another_one_still_needs(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.open(OLD)
    first = record.this_machine()
    monkeypatch.setattr(record, "this_machine", lambda: ANOTHER)
    host.open(OLD)
    host.write(NEW)
    host.close(NEW)
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    monkeypatch.setattr(record, "this_machine", lambda: first)
    assert host.inspect().restart_due
    host.close(NEW)
    monkeypatch.setattr(record, "this_machine", lambda: ONE)
    assert not host.inspect().restart_due


@pytest.mark.parametrize("opened", [False, True])
def test_a_restart_is_due_for_a_new_key_also_where_the_machine_was_started_after_the_file_had_the_old_one(
    host: Host, monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    """Whatever the clock says: it may have been wrong when the machine was started, or when the file was written."""
    host.env.write_text(f"KEY={OLD.reveal()}\n")
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    if opened:
        host.open(OLD)
    assert host.write(NEW).restart_due
    # Killed before the restart.
    assert host.inspect(NEW).restart_due and host.write(NEW).restart_due
    host.close(NEW)
    assert not host.inspect(NEW).restart_due
    assert host.write(OTHER).restart_due


def test_a_rotation_is_refused_where_the_record_has_taken_the_last_of_the_space(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one free block or inode the first record leaves none, and the key could not be written any more."""
    host.env.write_text(f"KEY={OLD.reveal()}\n")
    check = host_file.check

    def with_room_for_one(content: Any, *more: Any) -> bool:
        if host.record_path.exists():
            raise HostFileError("no_space", content.path)
        return check(content, *more)

    monkeypatch.setattr(host_file, "check", with_room_for_one)
    assert host.inspect(OLD).problem is None
    with pytest.raises(HostFileError, match="full"):
        host.open(OLD)


def test_a_rotation_of_which_nothing_came_leaves_no_restart_due_where_there_was_none(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of an image: its readers have started with the key."""
    host.write(OLD)
    host.close(OLD)
    monkeypatch.setattr(record, "this_machine", lambda: ANOTHER)
    monkeypatch.setattr(record, "started_at", lambda: time.time() + 3600)
    host.open(OLD)
    assert not host.inspect(OLD).restart_due
    host.write(OLD)
    assert not host.inspect(OLD).restart_due
    assert host.write(NEW).restart_due


def test_t16_each_set_of_readers_of_a_file_is_restarted_once(host: Host) -> None:
    """T16: two roles on one host share a file, each with services of its own."""
    host.write(NEW)
    host.close(NEW)
    host.request["services"] = [{"name": "other", "state": "restarted"}]
    assert host.inspect().restart_due and host.write(NEW).restart_due
    host.close(NEW)
    assert not host.inspect().restart_due
    host.request["services"] = SERVICES
    assert not host.inspect().restart_due
    host.write(OTHER)
    host.close(OTHER)
    host.request["services"] = [{"name": "other", "state": "restarted"}]
    assert host.inspect().restart_due


def test_t16_each_host_that_shares_a_file_has_its_own_restart_and_its_own_services(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16: two hosts with the same services; that of the second was stopped on purpose."""

    def on(machine: str, *running: str) -> None:
        monkeypatch.setattr(record, "this_machine", lambda: machine)
        host.request["running"] = lambda: list(running)

    on(ONE, "app")
    first = host.open(OLD)._readers
    on(ANOTHER)
    second = host.open(OLD)._readers
    assert host.record["running"] == {first: ["app"], second: []}
    on(ONE)
    host.write(NEW)
    host.close(NEW)
    assert not host.inspect().restart_due
    on(ANOTHER)
    assert host.inspect().restart_due and host.write(NEW).restart_due
    host.close(NEW)
    for machine in (ONE, ANOTHER):
        on(machine)
        assert not host.inspect().restart_due
    assert host.record["readers"] == {first: NEW.fingerprint, second: NEW.fingerprint}


@pytest.mark.parametrize("killed", [False, True])
def test_t16_each_user_of_a_machine_has_a_restart_of_their_own_by_the_same_command(
    host: Host, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Also where Ansible becomes another user than in a run that was killed before the command."""
    host.request.update(services=[], commands=[["systemctl", "--user", "restart", "app"]])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host.write(NEW)
    if not killed:
        host.close(NEW)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert host.inspect().restart_due and host.write(NEW).restart_due
    host.close(NEW)
    assert not host.inspect().restart_due
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host.inspect().restart_due == killed


def test_a_rotation_is_named_on_a_host_that_had_no_key_too(host: Host) -> None:
    host.env.write_text("KEY=changeme\n")
    host.open(OLD)
    host.write(NEW)
    host.close(NEW)
    assert host.record["rotation"] == {"retire": OLD.fingerprint, "concluded": False}


def test_a_slower_write_that_dies_half_way_asks_for_no_rotation(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(NEW)
    host.close(NEW)
    replace: Callable[..., None] = host_file.replace

    def killed_before_the_file(content: Any, data: bytes, *more: Any) -> None:
        if record.parse(data) is None:
            raise KeyboardInterrupt
        replace(content, data, *more)

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(host_file, "replace", killed_before_the_file)
        host.write(OLD)
    assert NEW.reveal() in host.env.read_text()
    assert (host.record["open"], host.record["rotation"]) == (True, None)
    host.write(NEW)
    host.close(NEW)
    assert not host.record["open"]


def test_the_verdict_is_noted_in_a_record_that_stays_open_too(host: Host) -> None:
    host.open(OLD)
    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True}
    assert not host.conclude({**seen, "updated_at": None}).changed
    assert (host.record["open"], host.record["rotation"]["concluded"], host.record["retired"]) == (True, True, [seen])


def test_a_verdict_without_news_of_the_account_keeps_what_is_known_of_it(host: Host) -> None:
    host.open(OLD)
    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True}
    host.conclude({**seen, "updated_at": [SINCE, LATER]})
    host.conclude({**seen, "updated_at": None})
    assert host.record["updated_at"] == [SINCE, LATER]


def test_where_there_is_no_record_a_verdict_makes_none(host: Host) -> None:
    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True, "updated_at": None}
    host.conclude(seen)
    host.conclude(None)
    host.close(OLD)
    assert list(host.all_files) == ["env"]


def test_a_verdict_without_a_retired_key_concludes_all_the_same(host: Host) -> None:
    host.open(OLD)
    host.conclude(None)
    assert (host.record["rotation"]["concluded"], host.record["retired"]) == (True, [])


def test_a_record_that_is_none_is_replaced(host: Host) -> None:
    host.record_path.write_text('{"open": tr')
    assert host.inspect().record is None
    assert host.write(NEW).restart_due
    assert host.record["held"] == NEW.fingerprint


def test_a_file_that_was_put_back_by_hand_is_written_and_told_as_a_change(host: Host) -> None:
    before = host.env.read_bytes()
    host.write(NEW)
    host.env.write_bytes(before)
    assert host.write(NEW).changed  # although the record says already what it is to say
    assert NEW.reveal() in host.env.read_text()


# --- what was inspected ---------------------------------------------------------------------------


def test_a_file_that_holds_another_key_than_was_inspected_is_left_alone(host: Host) -> None:
    file = host.inspect(NEW)
    file.refuse_changed([OLD.fingerprint])
    for inspected in ([], [NEW.fingerprint], [OLD.fingerprint] * 2):
        with pytest.raises(HostFileError) as refused:
            file.refuse_changed(inspected)
        assert refused.value.reason == "changed_meanwhile"


# --- owner, group and mode ------------------------------------------------------------------------


def test_attributes_are_given_before_the_file_is_seen_and_told_as_a_change(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.write(OLD)
    seen: list[int] = []
    rename: Callable[..., None] = os.rename

    def watched(source: str, target: str) -> None:
        if os.path.basename(target) == "env":
            seen.append(stat.S_IMODE(os.stat(source).st_mode))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    host.entry["mode"] = "0640"
    assert host.write(NEW).changed
    assert seen == [0o640]
    host.close(NEW)
    host.entry["mode"] = "0600"
    assert host.write(NEW).changed
    assert stat.S_IMODE(host.env.stat().st_mode) == 0o600
    assert (host.write(NEW).changed, len(seen)) == (False, 1)


def test_check_mode_foretells_that_attributes_change(host: Host) -> None:
    host.write(NEW)
    host.close(NEW)
    host.env.chmod(0o600)
    host.request["check_mode"] = True
    for mode, changed in (("0640", True), ("0600", False), (None, False)):
        host.entry["mode"] = mode
        assert host.write(NEW).changed is changed
    assert stat.S_IMODE(host.env.stat().st_mode) == 0o600


def test_an_inspection_tells_that_attributes_would_change(host: Host) -> None:
    host.env.chmod(0o600)
    for mode, changed in (("0640", True), ("0600", False), (None, False)):
        host.entry["mode"] = mode
        file = host.inspect()
        file.find_changes()
        assert file.changed is changed
    host.env.unlink()
    host.entry["mode"] = "0640"
    file = host.inspect()
    file.find_changes()
    assert not file.changed  # the file itself is missing, which is told apart
    assert stat.S_IMODE(host.folder.stat().st_mode) != 0o640


def test_what_a_killed_run_left_beside_an_unchanged_file_is_swept(host: Host) -> None:
    host.write(OLD)
    leftover = host.folder / ".env.multicart-tmp"
    leftover.write_text(OTHER.reveal())
    host.request["check_mode"] = True
    host.write(OLD)
    assert leftover.exists()
    host.request["check_mode"] = False
    host.write(OLD)
    assert not leftover.exists()


def test_no_key_is_in_a_record_or_a_description(host: Host) -> None:
    phases = (host.inspect(), host.open(OLD), host.write(NEW), host.close(NEW), host.conclude())
    shown = [json.dumps(phase.describe()) for phase in phases]
    shown.append(host.record_path.read_text())
    for key in (OLD, NEW):
        assert not any(key.reveal() in text or key.reveal().partition(".")[2] in text for text in shown)


# --- check mode -----------------------------------------------------------------------------------

PHASES: dict[str, Callable[[Host], KeyFile]] = {
    "inspect": lambda host: host.inspect(),
    "open": lambda host: host.open(OLD),
    "write": lambda host: host.write(NEW, retires={"key": OLD.fingerprint, "accepted": True}),
    "write what is there": lambda host: host.write(OLD),
    "close": lambda host: host.close(NEW),
    "conclude": lambda host: host.conclude(
        {"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True, "updated_at": None}
    ),
}


@pytest.mark.parametrize("before", [[], ["open"], ["write"], ["open", "write"], ["write", "close"]])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", ["variable", "template", "missing"])
def test_check_mode_changes_nothing_and_tells_what_the_real_run_does(
    host: Host, before: list[str], phase: str, kind: str
) -> None:
    if kind == "template":
        host.use_template(NEW)
    elif kind == "missing":
        host.env.unlink()
    for earlier in before:
        PHASES[earlier](host)
    untouched, visible = host.all_files, host.visible
    host.request["check_mode"] = True
    foretold = PHASES[phase](host)
    assert host.all_files == untouched
    host.request["check_mode"] = False
    done = PHASES[phase](host)
    assert foretold.describe() == done.describe()
    assert foretold.restart_due == done.restart_due
    assert done.changed == (host.visible != visible)


def test_check_mode_meets_what_only_the_new_content_shows(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has room for the file as it is, and not for what the template makes of it."""
    content = host.use_template(NEW, "key: {}\n" + "#" * 5000)

    def check(_content: Any, data: bytes, *_more: Any) -> bool:
        if data == content.encode():
            raise HostFileError("no_space", str(host.env))
        return False

    monkeypatch.setattr(host_file, "check", check)
    host.request["check_mode"] = True
    with pytest.raises(HostFileError) as refused:
        host.write(NEW)
    assert refused.value.reason == "no_space"


# --- templates ------------------------------------------------------------------------------------


def test_a_template_is_up_to_date_when_it_is_what_would_be_written(host: Host) -> None:
    host.env.write_text(host.use_template(NEW))
    file = host.inspect(NEW)
    assert (file.holds, file.unknown) == ([NEW.fingerprint], False)


def test_a_template_whose_key_was_replaced_is_known_by_its_record(host: Host) -> None:
    host.use_template(OLD)
    host.write(OLD)
    host.close(OLD)
    host.use_template(NEW)
    file = host.inspect(NEW)
    assert (file.holds, file.unknown) == ([OLD.fingerprint], False)
    assert host.write(NEW).restart_due


def test_of_a_template_that_was_edited_by_hand_it_is_not_known_what_it_holds(host: Host) -> None:
    host.use_template(OLD)
    host.write(OLD)
    host.env.write_bytes(host.env.read_bytes() + b"# edited\n")
    file = host.inspect(OLD)
    assert (file.holds, file.unknown, file.problem) == ([], True, None)
    file = host.write(OLD)
    assert (file.holds, file.unknown, file.restart_due) == ([OLD.fingerprint], False, True)
    host.close(OLD)
    assert not host.record["open"]


def test_a_template_without_a_record_or_a_file_is_told_apart(host: Host) -> None:
    host.use_template(NEW)
    assert host.inspect(NEW).unknown  # the file is somebody else's
    host.env.unlink()
    file = host.inspect(NEW)
    assert (file.holds, file.unknown) == ([], False)


def test_a_template_is_written_whole(host: Host) -> None:
    content = host.use_template(NEW, "caf\u00e9: {}\r\n")
    host.write(NEW)
    assert host.env.read_bytes() == content.encode()


def test_an_inspection_tells_that_a_template_would_change_the_file(host: Host) -> None:
    host.use_template(NEW)
    host.write(NEW)
    for text, outdated in (("key: {}\n", False), ("port: 1\nkey: {}\n", True)):
        host.use_template(NEW, text)
        file = host.inspect()
        file.find_changes()
        assert (file.outdated, file.holds) == (outdated, [NEW.fingerprint])
    kept = host.write(NEW).record
    assert kept is not None and (kept["held"], kept["retired"]) == (NEW.fingerprint, [])
    host.entry["digest"] = None  # as before the live key is known
    file = host.inspect()
    file.find_changes()
    assert not file.outdated


def test_a_restart_is_due_when_the_template_changed_and_the_key_did_not(host: Host) -> None:
    host.use_template(NEW)
    host.write(NEW)
    host.close(NEW)
    host.use_template(NEW, "port: 1\nkey: {}\n")
    file = host.write(NEW, LATER)
    assert file.changed
    assert file.restart_due
    host.close(NEW)
    assert not host.record["open"]


# --- killed ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Nobody catches it, as with SIGKILL."""


def killed_at(host: Host, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Write the new key and die instead of replacing this one of the three: record, file, record."""
    replace: Callable[..., None] = host_file.replace
    calls = iter(range(1, 9))

    def deadly(*arguments: Any) -> None:
        if next(calls) == number:
            raise Killed
        replace(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(host_file, "replace", deadly)
        with pytest.raises(Killed):
            host.write(NEW)


BEFORE_THE_RECORD, BEFORE_THE_FILE, AFTER_THE_FILE = 1, 2, 3


@pytest.mark.parametrize("number", [BEFORE_THE_RECORD, BEFORE_THE_FILE, AFTER_THE_FILE])
@pytest.mark.parametrize("kind", ["variable", "template"])
def test_a_run_that_is_killed_is_seen_and_made_good_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    if kind == "template":
        host.use_template(OLD)
    host.write(OLD)
    host.close(OLD)
    if kind == "template":
        host.use_template(NEW)
    killed_at(host, monkeypatch, number)

    file = host.inspect(NEW)
    assert file.holds == [(NEW if number == AFTER_THE_FILE else OLD).fingerprint]
    assert file.restart_due is (number != BEFORE_THE_RECORD)
    assert host.record["open"] is (number != BEFORE_THE_RECORD)
    assert host.record["rotation"] is None

    assert host.write(NEW, LATER).restart_due
    host.close(NEW)
    assert not host.inspect(NEW).restart_due
    assert (host.record["open"], host.record["held"]) == (False, NEW.fingerprint)
    assert sorted(host.all_files) == sorted(["env", host.record_path.name])


def test_a_run_that_is_killed_before_the_first_key_of_a_file_is_seen_too(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.env.unlink()
    killed_at(host, monkeypatch, BEFORE_THE_FILE)
    assert host.record["open"] and not host.inspect().holds
    assert host.write(NEW).restart_due


# --- records elsewhere ----------------------------------------------------------------------------


def test_records_are_kept_in_the_directory_that_is_set(host: Host, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    host.request["state_dir"] = str(state_dir)
    host.write(NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "state"]
    (kept,) = state_dir.iterdir()
    assert host.inspect().restart_due
    host.close(NEW)
    found = record.parse(kept.read_bytes())
    assert found and not found["open"]


def test_an_unfinished_restart_is_known_by_every_path_that_leads_to_the_file(host: Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("env")
    host.write(NEW)
    host.entry["path"] = str(tmp_path / "link")
    assert host.inspect().restart_due and host.write(NEW).restart_due
    host.close(NEW)
    host.entry["path"] = str(host.env)
    assert not host.inspect().restart_due and not host.record["open"]


FORMS = {
    "env": {},
    "key": {"variable": None, "format": "key"},
    "template": {"variable": None, "digest": "", "content": ""},
}  # type: dict[str, dict[str, Any]]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(
    ("before", "after"), [("env", "template"), ("template", "env"), ("env", "key"), ("env", "env")]
)
def test_an_unfinished_restart_is_known_by_every_form_of_the_file_and_in_a_new_directory_for_records(
    host: Host, tmp_path: Path, before: str, after: str, moved: bool
) -> None:
    contents = {form: f"KEY={NEW.reveal()}\n" for form in FORMS}
    contents["key"] = f"{NEW.reveal()}\n"

    def use(form: str) -> None:
        more = {"digest": record.digest_of(contents[form].encode()), "content": contents[form]}
        host.entry.update({"variable": "KEY", "format": "env", **FORMS[form], **(more if form == "template" else {})})

    use(before)
    host.open(OLD)
    host.write(NEW, retires={"key": OLD.fingerprint, "accepted": True})
    (known,) = (record.parse(path.read_bytes()) for path in tmp_path.glob(".env.*"))
    host.env.write_text(contents[after])
    (tmp_path / "state").mkdir()
    host.request["state_dir"] = str(tmp_path / "state") if moved else None
    use(after)
    assert host.inspect().record == known
    assert host.inspect(NEW).restart_due and host.write(NEW, LATER).restart_due
    host.close(NEW)
    # Of the other form nothing is found later that is no longer true; what others may share is left.
    (kept,) = (tmp_path / "state" if moved else tmp_path).glob("*.json" if moved else ".*.json")
    assert len(list(tmp_path.glob(".*.json"))) == 1
    found = record.parse(kept.read_bytes())
    assert found and (found["open"], found["since"], found["rotation"]) == (False, SINCE, known and known["rotation"])
    assert not host.inspect(NEW).restart_due


def test_a_template_in_place_of_several_variables_takes_over_what_is_unfinished_of_its_account(host: Host) -> None:
    host.env.write_text(f"A={OLD.reveal()}\nB={OLD.reveal()}\nC={OTHER.reveal()}\n")
    host.entry["beside"] = ["A", "B"]
    for variable, account in (("A", ONE), ("B", ONE), ("C", ANOTHER)):
        host.entry["variable"], host.request["account"] = variable, account
        host.write(OTHER if variable == "C" else NEW)
        if variable == "A":
            host.close(NEW)
    host.request["account"] = ONE
    host.use_template(NEW, host.env.read_text().replace(NEW.reveal(), "{0}"))
    assert host.inspect(NEW).restart_due
    host.close(NEW)
    assert sorted(path.name for path in host.folder.glob(".*")) == [
        ".env.C.multicart.json",
        ".env.multicart-template.json",
    ]


@pytest.mark.parametrize("place", ["link", "other", "folder", "foreign"])
def test_what_somebody_else_put_where_a_record_was_is_no_record(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    host.write(NEW)
    (tmp_path / "state").mkdir()
    host.request["state_dir"] = str(tmp_path / "state")
    if place == "link":
        host.record_path.rename(tmp_path / "kept")
        host.record_path.symlink_to("kept")
    elif place == "folder":
        host.record_path.unlink()
        host.record_path.mkdir()
    elif place == "foreign":
        host.record_path.write_text('{"format": 2}')
    else:
        if not os.getuid():
            monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
            assert host.inspect().record  # what root has left is believed
            os.chown(host.record_path, NOBODY - 1, -1)
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    file = host.inspect()
    assert (file.record, file.problem) == (None, None)
    file.open(NEW.fingerprint)
    assert os.path.lexists(host.record_path)


@pytest.mark.parametrize("moved", [False, True])
def test_the_key_of_another_account_is_refused_also_where_the_record_was(
    host: Host, tmp_path: Path, moved: bool
) -> None:
    host.request["account"] = ONE
    host.write(OLD)
    before, host.request["account"] = host.record_path, ANOTHER
    (tmp_path / "state").mkdir()
    if moved:
        host.request["state_dir"] = str(tmp_path / "state")
    else:
        host.use_template(NEW)
    problem = host.inspect(NEW).describe()["problem"]
    assert problem["reason"] == "other_account" and f"remove the record {before} first" in problem["text"]


def test_a_record_that_cannot_be_removed_is_left_where_it_was(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(NEW)
    before = host.record_path
    host.use_template(NEW, host.env.read_text().replace(NEW.reveal(), "{}"))

    def denied(content: Any) -> None:
        raise HostFileError("not_writable", content.path)

    monkeypatch.setattr(host_file, "remove", denied)
    host.close(NEW)
    assert before.exists() and not host.record["open"] and not host.inspect(NEW).restart_due


def test_a_directory_for_records_that_is_missing_is_found_out_by_the_inspection(host: Host, tmp_path: Path) -> None:
    host.request["state_dir"] = str(tmp_path / "state")
    problem = host.inspect().describe()["problem"]
    assert problem["reason"] == "no_such_directory"
    assert host.request["state_dir"] in problem["text"] and "does not exist" in problem["text"]


def test_what_is_wrong_with_file_and_record_is_told_of_the_path_that_was_given(host: Host, tmp_path: Path) -> None:
    host.entry["path"] = str(tmp_path / "gone" / "env")
    problem = host.inspect().describe()["problem"]
    assert problem["reason"] == "no_such_directory"
    assert host.entry["path"] in problem["text"] and "multicart.json" not in problem["text"]


# --- problems -------------------------------------------------------------------------------------


def _directory(host: Host) -> None:
    host.env.unlink()
    host.env.mkdir()


def _two_names(host: Host) -> None:
    host.env.write_text(f"KEY={OLD.reveal()};B=2\n")


def _composed(host: Host) -> None:
    host.env.write_text("KEY=$(cat /run/key)\n")


def _no_room_for_a_new_line(host: Host) -> None:
    host.env.write_text('A="never closed\n')


def _owner(host: Host) -> None:
    host.entry["owner"] = "nobody-has-this-name"


def _group(host: Host) -> None:
    host.entry["group"] = "nobody-has-this-name"


def _record_is_a_directory(host: Host) -> None:
    host.record_path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (_directory, HostFileError, "is a directory"),
        (_two_names, Ambiguous, "line 1: "),
        (_composed, Ambiguous, "line 1: "),
        (_no_room_for_a_new_line, Ambiguous, "line 1: "),
        (_owner, UnknownName, "owner is not known on this host"),
        (_group, UnknownName, "group is not known on this host"),
        (_record_is_a_directory, HostFileError, "is a directory"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_problem_is_told_by_the_inspection_and_raised_before_anything_changes(
    host: Host, spoil: Callable[[Host], None], error: type[Exception], text: str, check_mode: bool
) -> None:
    spoil(host)
    host.request["check_mode"] = check_mode
    before = sorted((path, path.is_file() and path.read_bytes()) for path in host.folder.iterdir())

    file = host.inspect()
    problem = file.describe()["problem"]
    assert problem["text"].startswith("path " + str(host.folder))
    assert text in problem["text"]
    assert "secret" not in problem["text"]
    assert problem["reason"] == getattr(file.problem, "reason")  # noqa: B009
    phases: tuple[Callable[[], object], ...] = (
        lambda: host.open(OLD),
        lambda: host.write(NEW),
        lambda: host.close(NEW),
        lambda: host.conclude(None),
        lambda: file.refuse_changed(file.holds),
    )
    for phase in phases:
        with pytest.raises(error):
            phase()
    assert sorted((path, path.is_file() and path.read_bytes()) for path in host.folder.iterdir()) == before


def test_what_only_the_longest_key_shows_is_found_out_before_the_old_one_is_revoked(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: dict[str, bytes] = {}
    monkeypatch.setattr(host_file, "check", lambda content, data, *_more: checked.update({content.path: data}))
    host.inspect()
    assert len(checked[str(host.env)]) == len(f"A=1\nKEY={'x' * 512}\n")
    kept = record.parse(checked[str(host.record_path)])
    assert kept is not None and kept["open"]


def test_a_record_that_cannot_be_written_is_found_out_before_the_old_key_is_revoked(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(content: Any, *_more: Any) -> bool:
        if content.path == str(host.record_path):
            raise HostFileError("no_space", content.path)
        return False

    monkeypatch.setattr(host_file, "check", check)
    problem = host.inspect().describe()["problem"]
    assert problem["reason"] == "no_space" and str(host.record_path) in problem["text"]


@pytest.mark.parametrize(("mode", "refused"), [("0640", True), ("u=rw,g=,o=", False), (None, False)])
def test_a_mode_that_cannot_be_given_is_found_out_before_the_old_key_is_revoked(
    host: Host, monkeypatch: pytest.MonkeyPatch, mode: Optional[str], refused: bool
) -> None:
    """Where the file itself is written, since it cannot be replaced: only its owner may give it another mode."""
    host.env.chmod(0o600)
    monkeypatch.setattr(host_file, "check", lambda *dummy: True)
    host.entry["mode"] = mode
    assert host.inspect().problem is None
    monkeypatch.setattr(os, "geteuid", lambda: 1234567)
    problem = host.inspect().describe()["problem"]
    assert (problem and problem["reason"]) == ("attributes_refused" if refused else None)


def test_where_a_file_is_replaced_its_mode_is_no_problem(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.entry["mode"] = "0640"
    monkeypatch.setattr(host_file, "check", lambda *dummy: False)
    monkeypatch.setattr(Ownership, "refuse_in_place", None)
    assert host.inspect().problem is None


@pytest.mark.parametrize("target", ["elsewhere", "missing", ".env.KEY.multicart.json.real"])
def test_x3_a_link_in_place_of_the_record_is_refused(host: Host, target: str) -> None:
    """X3: anyone who may write beside the file would have root write where the link leads."""
    place = host.folder / target
    if target != "missing":
        place.write_text("precious")
    host.record_path.symlink_to(place)
    problem = host.inspect().describe()["problem"]
    assert problem["reason"] == ("dangling_link" if target == "missing" else "not_regular")
    for act in (lambda: host.open(OLD), lambda: host.write(NEW), lambda: host.close(OLD)):
        with pytest.raises(HostFileError):
            act()
    assert not place.exists() or place.read_text() == "precious"
    assert OLD.reveal() in host.env.read_text()


def test_a_directory_of_the_record_that_is_a_link_is_no_problem(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to("real")
    host.request["state_dir"] = str(tmp_path / "state")
    assert host.inspect().problem is None
    host.write(NEW)
    assert len(list((tmp_path / "real").iterdir())) == 1


# --- accounts -------------------------------------------------------------------------------------


def test_a_file_that_was_given_the_key_of_one_account_refuses_that_of_another(host: Host) -> None:
    host.request["account"] = ONE
    host.write(OLD)
    host.close(OLD)
    assert host.record["account"] == ONE
    host.request["account"] = ANOTHER
    before = host.env.read_bytes()
    problem = host.inspect(NEW).describe()["problem"]
    assert problem["reason"] == "other_account"
    assert problem["text"].endswith(f"remove the record {host.record_path} first")
    for act in (lambda: host.write(NEW), lambda: host.open(NEW), lambda: host.close(NEW)):
        with pytest.raises(record.OtherAccount):
            act()
    assert host.env.read_bytes() == before


def test_a_record_that_knows_no_account_learns_it_with_the_next_key(host: Host) -> None:
    host.write(OLD)
    host.request["account"] = ONE
    host.write(NEW)
    assert host.record["account"] == ONE
    host.request["account"] = None
    host.write(OTHER)
    assert host.record["account"] == ONE


# --- a key that was rejected -----------------------------------------------------------------------


def rotated(host: Host, seen: str = "rejected") -> None:
    """Leave what a rotation leaves that has seen this of the key it retired."""
    host.open(OLD)
    host.write(NEW, retires={"key": OLD.fingerprint, "accepted": True})
    host.close(NEW)
    host.conclude({"key": OLD.fingerprint, "seen": seen, "at": LATER, "accepted": True, "updated_at": None})


@pytest.mark.parametrize(
    "content", [f"KEY={NEW.reveal()}\n", "KEY=\n", f"KEY={OTHER.reveal()}\n", f"KEY={OLD.reveal()}\n", None]
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_key_that_was_seen_to_be_rejected_is_not_written_again(
    host: Host, content: Optional[str], check_mode: bool
) -> None:
    """An API that is behind returns it, and accepts it; whatever has become of the file meanwhile."""
    rotated(host)
    host.env.unlink()
    if content is not None:
        host.env.write_text(content)
    before, host.request["check_mode"] = host.all_files, check_mode
    with pytest.raises(record.RejectedBefore, match=f"remove the record {host.record_path} first"):
        host.write(OLD)
    assert host.all_files == before
    # A newer one is written, and this one, too, once nobody knows of that.
    host.request["check_mode"] = False
    assert host.write(OTHER).holds == [OTHER.fingerprint]
    host.record_path.unlink()
    assert host.write(OLD).holds == [OLD.fingerprint]


@pytest.mark.parametrize("seen", ["still_valid", "unseen"])
def test_a_key_whose_rejection_was_not_seen_may_be_live_again(host: Host, seen: str) -> None:
    """As when a rotation that was read back, or somebody's slower run, was wrong."""
    rotated(host, seen)
    assert host.write(OLD).holds == [OLD.fingerprint]


def test_where_the_rejected_key_was_never_replaced_nothing_is_refused(host: Host) -> None:
    """There is nothing newer to lose: the file could not be written when it was rotated."""
    host.write(OLD)
    host.conclude({"key": OLD.fingerprint, "seen": "rejected", "at": LATER, "accepted": True, "updated_at": None})
    assert not host.write(OLD).changed


# --- records of another user ----------------------------------------------------------------------


def test_o6_a_record_can_be_read_by_those_who_may_read_its_directory(host: Host) -> None:
    """It holds no secret. Its owner is who wrote it last, so that the next user may write it, too."""
    for step in (lambda: host.open(OLD), lambda: host.write(NEW), lambda: host.close(NEW)):
        if host.record_path.exists():
            host.record_path.chmod(0o600)  # by an earlier run that was killed
        step()
        assert stat.S_IMODE(host.record_path.stat().st_mode) == 0o644


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_o6_a_record_that_root_has_made_does_not_refuse_the_owner_of_the_file(
    monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """With and without files that have no name, by which the right to write is verified."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE")
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to others
        host = Host(Path(place))
        host.env.write_text(f"KEY={OLD.reveal()}\n")
        host.open(OLD)
        for path in (host.env, host.folder):
            os.chown(path, NOBODY, NOBODY)
        child = os.fork()
        if not child:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            file = host.write(NEW)
            os._exit(0 if file.problem is None and host.close(NEW).problem is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert (host.record["held"], host.record["open"]) == (NEW.fingerprint, False)
        assert (host.record_path.stat().st_uid, host.env.stat().st_uid) == (NOBODY, NOBODY)
        host.write(OTHER)  # and root again
        assert (host.record["held"], host.record_path.stat().st_uid) == (OTHER.fingerprint, 0)
        assert host.env.stat().st_uid == NOBODY


def test_what_a_killed_run_leaves_beside_a_record_is_private(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.open(OLD)
    seen = []
    rename = os.rename

    def look(source: str, target: str) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        rename(source, target)

    monkeypatch.setattr(host_file.os, "rename", look)
    host.close(OLD)
    assert seen == [0o600]


def be(monkeypatch: pytest.MonkeyPatch, machine_id: str, node: str) -> None:
    """Make this machine another one."""
    monkeypatch.setattr(record, "this_machine", lambda: (machine_id * 8)[:8] + (node * 8)[:8])


def test_a_clone_that_has_finished_forgets_nothing_of_another(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.request.update(services=SERVICES, running=lambda: ["app"])
    be(monkeypatch, "0", "a")
    readers = record.readers_of(SERVICES, [], record.this_machine())
    host.write(NEW)  # and its restart fails
    be(monkeypatch, "0", "b")
    assert host.write(NEW).restart_due
    kept = host.close(NEW).record
    assert kept is not None and record.to_be_running(kept, readers) == ["app"]


def test_a_container_that_was_killed_leaves_its_commands_to_one_other(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.request.update(commands=[["kubectl", "rollout", "restart"]], running=list)
    monkeypatch.setattr(record, "started_at", lambda: 4e9)  # each is newer than the file
    be(monkeypatch, "a", "a")
    host.write(NEW)
    due = []
    for node in "bcd":
        be(monkeypatch, node, node)
        due.append(host.inspect(NEW).restart_due)
        host.write(NEW)
        host.close(NEW)
    assert due == [True, False, False]


@pytest.mark.parametrize(
    ("words", "due"),
    [
        ("sudo systemctl restart app", False),
        ("systemctl --user restart app", True),
        ("sh -c", False),
        ("~/bin/restart", True),
        ("restart --users", False),
        ("restart $HOME/app", True),
    ],
)
def test_what_one_user_has_restarted_is_restarted_for_another_only_where_each_has_their_own(
    host: Host, monkeypatch: pytest.MonkeyPatch, words: str, due: bool
) -> None:
    """What root has deployed, the owner of the file can rotate."""
    host.request["commands"] = [words.split()]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    host.write(NEW)
    host.close(NEW)
    assert not host.inspect(NEW).restart_due
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert host.inspect(NEW).restart_due is due
