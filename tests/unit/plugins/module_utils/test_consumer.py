# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One file of a consumer and its record on a real file system: look, open, write, close, and being killed between."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._env_file import Ambiguous
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import UnknownName
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError
from ansible_collections.multicart.keys.plugins.module_utils._key_file import KeyFile

OLD, NEW, OTHER = ApiKey("acme.old-secret"), ApiKey("acme.new-secret"), ApiKey("acme.other-secret")
SINCE, LATER = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"


class Attributes:
    """Stands in for what needs a running `AnsibleModule`."""

    def __init__(self, differ: bool = False) -> None:
        self.differ = differ
        self.prepared: list[str] = []

    def prepare(self, path: str) -> None:
        self.prepared.append(os.path.realpath(path))

    def finish(self) -> bool:
        return self.differ


class Host:
    """A directory with one environment file; every phase looks afresh, as every task does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = folder / "env"
        self.record_path = folder / ".env.KEY.multicart.json"
        self.state_dir: Optional[str] = None
        self.check_mode = False
        self.account: Optional[str] = None
        self.entry: dict[str, Any] = {"path": str(self.env), "variable": "KEY", "unsafe_writes": False}
        self.entry.update(dict.fromkeys(("owner", "group", "mode", "digest", "content")))

    def look(self, live: Optional[ApiKey] = None) -> KeyFile:
        return KeyFile(self.entry, self.state_dir, live.fingerprint if live else None, self.check_mode, self.account)

    def open(self, key: ApiKey) -> KeyFile:
        file = self.look()
        file.open(key.fingerprint)
        return file

    def write(self, key: ApiKey, since: str = SINCE, attributes: Optional[Attributes] = None) -> KeyFile:
        file = self.look(key)
        given: Any = attributes or Attributes()
        file.write(key, since, lambda *_: given)
        return file

    def close(self, live: Optional[ApiKey] = None) -> KeyFile:
        file = self.look(live)
        file.close()
        return file

    def use_template(self, key: ApiKey, text: str = "key: {}\n") -> str:
        """Make the entry the user's template, as the action renders it with the live key."""
        content = text.format(key.reveal())
        self.entry.update(variable=None, content=content, digest=record.digest_of(content.encode()))
        self.record_path = self.folder / ".env.multicart-template.json"
        return content

    @property
    def record(self) -> Optional[dict[str, Any]]:
        return record.parse(self.record_path.read_bytes()) if self.record_path.exists() else None

    @property
    def all_files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.env.write_text(f"A=1\nKEY={OLD.reveal()}\n")
    return host


# --- the whole roll-out ---------------------------------------------------------------------------


def test_a_roll_out_leaves_the_right_record_at_each_step(host: Host) -> None:
    file = host.look()
    assert (file.holds, file.record, file.changed, file.restart_due) == ([OLD.fingerprint], None, False, False)

    file = host.open(OLD)
    opened = {**record.NONE, "open": True, "begun": True, "retire": OLD.fingerprint}
    assert (file.changed, file.restart_due, host.record) == (True, False, opened)

    file = host.write(NEW)
    assert host.env.read_text() == f"A=1\nKEY={NEW.reveal()}\n"
    digest = record.digest_of(host.env.read_bytes())
    written = {**opened, "restart": True, "held": NEW.fingerprint, "since": SINCE, "digest": digest}
    assert (file.changed, file.restart_due, file.holds, host.record) == (True, True, [NEW.fingerprint], written)

    file = host.close()
    assert (file.changed, file.restart_due, host.record) == (
        True,
        False,
        {**written, "open": False, "begun": False, "restart": False},
    )


def test_a_roll_out_that_is_done_changes_nothing_when_it_is_run_again(host: Host) -> None:
    host.write(NEW)
    host.close()
    before = host.all_files
    written, closed = host.write(NEW, LATER), host.close()
    assert (written.changed, written.restart_due, closed.changed) == (False, False, False)
    assert host.all_files == before


def test_without_readiness_the_write_itself_opens_the_record_for_the_key_that_it_replaces(host: Host) -> None:
    assert host.write(NEW).restart_due
    assert host.record is not None
    assert (host.record["open"], host.record["retire"]) == (True, OLD.fingerprint)


def test_the_record_is_opened_before_the_bytes_change_and_tells_them_after(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[str, Optional[str]]] = []
    replace: Callable[..., None] = host_file.replace

    def watched(content: Any, data: bytes, *more: Any) -> None:
        replace(content, data, *more)
        kept = record.parse(data)
        order.append((Path(content.path).name, kept["held"] if kept else None))

    monkeypatch.setattr(host_file, "replace", watched)
    host.write(NEW)
    assert order == [(host.record_path.name, None), ("env", None), (host.record_path.name, NEW.fingerprint)]


def test_a_new_file_is_made_and_its_first_key_makes_a_restart_due(host: Host) -> None:
    host.env.unlink()
    file = host.look()
    assert (file.holds, file.unknown, file.problem) == ([], False, None)
    file = host.write(NEW)
    assert host.env.read_text() == f"KEY={NEW.reveal()}\n"
    assert file.restart_due and host.record and host.record["retire"] is None
    host.close()
    assert host.record and not host.record["open"]


@pytest.mark.parametrize("text", ["", "A=1\n", "KEY=\n", "KEY=changeme\n", f"#KEY={OLD.reveal()}\n"])
def test_what_is_not_shaped_like_a_key_is_missing(host: Host, text: str) -> None:
    host.env.write_text(text)
    assert (host.look().holds, host.look().unknown) == ([], False)
    assert host.write(NEW).holds == [NEW.fingerprint]


def test_a_record_whose_file_holds_a_dead_key_by_now_stays_open(host: Host) -> None:
    host.write(NEW)
    assert not host.close(OTHER).changed
    assert host.record and (host.record["open"], host.record["restart"]) == (True, True)
    host.close(NEW)
    assert host.record and not host.record["open"]


def test_every_assignment_is_seen_and_changed(host: Host) -> None:
    host.env.write_text(f"KEY={OLD.reveal()}\nexport KEY='{NEW.reveal()}'\n")
    assert host.look().holds == [OLD.fingerprint, NEW.fingerprint]
    assert host.write(NEW).restart_due
    assert host.env.read_text() == f"KEY={NEW.reveal()}\nexport KEY='{NEW.reveal()}'\n"
    host.close()
    assert host.record and not host.record["open"]


def test_a_restart_is_due_although_the_first_of_two_assignments_was_current(host: Host) -> None:
    host.env.write_text(f"KEY={NEW.reveal()}\nKEY={OLD.reveal()}\n")
    assert host.write(NEW).restart_due
    host.close()
    assert host.record and not host.record["open"]


def test_a_file_that_held_the_key_before_is_adopted_with_a_closed_record(host: Host) -> None:
    file = host.write(OLD)
    assert (file.changed, file.restart_due) == (True, False)
    assert host.record == {
        **record.NONE,
        "held": OLD.fingerprint,
        "since": SINCE,
        "digest": record.digest_of(host.env.read_bytes()),
    }
    assert not host.write(OLD, LATER).changed


def test_the_date_of_a_key_outlives_a_change_of_the_rest_of_the_file(host: Host) -> None:
    host.write(OLD)
    host.env.write_text(f"B=2\nKEY={OLD.reveal()}\n")
    host.write(OLD, LATER)
    assert host.record and host.record["since"] == SINCE


def test_a_record_that_is_open_for_the_very_key_in_the_file_stays_open(host: Host) -> None:
    host.open(OLD)
    assert not host.write(OLD).restart_due  # a run that rotated nothing
    assert not host.close().changed
    assert host.record and host.record["open"]


def test_a_restart_that_is_due_is_not_forgotten_when_another_rotation_begins(host: Host) -> None:
    host.write(NEW)  # and killed before the restart
    assert host.look().restart_due
    host.open(NEW)  # multicart_rotate_retire names the live key, and the service refuses to rotate it
    assert host.write(NEW).restart_due


def test_after_that_restart_the_record_still_waits_for_the_rotation(host: Host) -> None:
    host.write(NEW)
    host.open(NEW)
    file = host.close()
    assert (file.changed, file.restart_due) == (True, False)
    assert host.record and (host.record["open"], host.record["retire"]) == (True, NEW.fingerprint)


def test_the_key_that_was_to_be_retired_stays_on_record_when_the_one_after_it_is_replaced_too(host: Host) -> None:
    host.open(OLD)
    host.write(NEW)  # and killed before the restart; then somebody rotates again
    host.write(OTHER)
    assert host.record and (host.record["retire"], host.record["held"]) == (OLD.fingerprint, OTHER.fingerprint)


def test_a_key_that_a_slower_run_has_overwritten_is_not_on_record_as_the_one_to_retire(host: Host) -> None:
    host.write(NEW)
    host.close()
    host.write(OLD)  # which is dead: it was read before the rotation
    host.write(NEW)
    assert host.record and (host.record["open"], host.record["retire"]) == (True, OLD.fingerprint)
    host.close()
    assert host.record and not (host.record["open"] or host.record["restart"])


@pytest.mark.parametrize("before", ["", "KEY=changeme\n"])
def test_a_host_without_a_key_that_gets_the_one_to_retire_still_waits_for_the_rotation(host: Host, before: str) -> None:
    host.env.write_text(before)
    host.open(NEW)
    host.write(NEW)
    host.close()
    assert host.record and (host.record["open"], host.record["retire"]) == (True, NEW.fingerprint)


def test_a_slower_write_that_dies_half_way_asks_for_no_rotation(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write(NEW)
    host.close()
    replace: Callable[..., None] = host_file.replace

    def killed_before_the_file(content: Any, data: bytes, *more: Any) -> None:
        if record.parse(data) is None:
            raise KeyboardInterrupt
        replace(content, data, *more)

    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(host_file, "replace", killed_before_the_file)
        host.write(OLD)
    assert NEW.reveal() in host.env.read_text()
    assert host.record and (host.record["open"], host.record["begun"]) == (True, False)
    host.write(NEW)
    host.close()
    assert host.record and not host.record["open"]


def test_a_record_that_is_none_is_replaced(host: Host) -> None:
    host.record_path.write_text('{"open": tr')
    assert host.look().record is None
    host.write(NEW)
    assert host.record and host.record["retire"] == OLD.fingerprint


def test_a_file_that_was_put_back_by_hand_is_written_and_told_as_a_change(host: Host) -> None:
    before = host.env.read_bytes()
    host.write(NEW)
    host.env.write_bytes(before)
    assert host.write(NEW).changed  # although the record says already what it is to say
    assert NEW.reveal() in host.env.read_text()


def test_attributes_are_given_before_the_file_is_seen_and_told_as_a_change(host: Host) -> None:
    host.write(OLD)
    attributes = Attributes()
    assert host.write(NEW, attributes=attributes).changed
    assert attributes.prepared == [str(host.folder / ".env.multicart-tmp")]
    host.close()
    assert host.write(NEW, attributes=Attributes(differ=True)).changed
    assert not host.write(NEW).changed


def test_what_a_killed_run_left_beside_an_unchanged_file_is_swept(host: Host) -> None:
    host.write(OLD)
    leftover = host.folder / ".env.multicart-tmp"
    leftover.write_text(OTHER.reveal())
    host.check_mode = True
    host.write(OLD)
    assert leftover.exists()
    host.check_mode = False
    host.write(OLD)
    assert not leftover.exists()


def test_no_key_is_in_a_record_or_a_description(host: Host) -> None:
    shown = [json.dumps(phase.describe()) for phase in (host.look(), host.open(OLD), host.write(NEW), host.close())]
    shown.append(host.record_path.read_text())
    for key in (OLD, NEW):
        assert not any(key.reveal() in text or key.reveal().partition(".")[2] in text for text in shown)


# --- check mode -----------------------------------------------------------------------------------

PHASES: dict[str, Callable[[Host], KeyFile]] = {
    "look": lambda host: host.look(),
    "open": lambda host: host.open(OLD),
    "write": lambda host: host.write(NEW),
    "write what is there": lambda host: host.write(OLD),
    "close": lambda host: host.close(NEW),
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
    untouched = host.all_files
    host.check_mode = True
    foretold = PHASES[phase](host)
    assert host.all_files == untouched
    host.check_mode = False
    done = PHASES[phase](host)
    assert foretold.describe() == done.describe()
    assert (foretold.changed, foretold.restart_due) == (done.changed, done.restart_due)
    assert done.changed == (host.all_files != untouched)


def test_after_a_rotation_that_was_only_foretold_every_file_would_change(host: Host) -> None:
    host.check_mode = True
    file = host.look()
    file.predict_replaced()
    assert file.changed
    assert list(host.all_files) == ["env"]


# --- templates ------------------------------------------------------------------------------------


def test_a_template_is_current_when_it_is_what_would_be_written(host: Host) -> None:
    host.env.write_text(host.use_template(NEW))
    file = host.look(NEW)
    assert (file.holds, file.unknown) == ([NEW.fingerprint], False)


def test_a_template_whose_key_was_replaced_is_known_by_its_record(host: Host) -> None:
    host.use_template(OLD)
    host.write(OLD)
    host.close(OLD)
    host.use_template(NEW)
    file = host.look(NEW)
    assert (file.holds, file.unknown) == ([OLD.fingerprint], False)
    assert host.write(NEW).restart_due
    assert host.record and host.record["retire"] == OLD.fingerprint


def test_a_template_that_was_edited_by_hand_holds_nobody_knows_what(host: Host) -> None:
    host.use_template(OLD)
    host.write(OLD)
    host.env.write_bytes(host.env.read_bytes() + b"# edited\n")
    file = host.look(OLD)
    assert (file.holds, file.unknown, file.problem) == ([], True, None)
    file = host.write(OLD)
    assert (file.holds, file.unknown, file.restart_due) == ([OLD.fingerprint], False, True)
    host.close(OLD)
    assert host.record and not host.record["open"]


def test_a_template_without_a_record_or_a_file_is_told_apart(host: Host) -> None:
    host.use_template(NEW)
    assert host.look(NEW).unknown  # the file is somebody else's
    host.env.unlink()
    file = host.look(NEW)
    assert (file.holds, file.unknown) == ([], False)


def test_a_template_is_written_whole(host: Host) -> None:
    content = host.use_template(NEW, "caf\u00e9: {}\r\n")
    host.write(NEW)
    assert host.env.read_bytes() == content.encode()


def test_a_restart_is_due_when_the_template_changed_and_the_key_did_not(host: Host) -> None:
    host.use_template(NEW)
    host.write(NEW)
    host.close(NEW)
    host.use_template(NEW, "port: 1\nkey: {}\n")
    file = host.write(NEW, LATER)
    assert file.changed
    assert file.restart_due
    host.close(NEW)
    assert host.record and not host.record["open"]


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

    file = host.look(NEW)
    assert file.holds == [(NEW if number == AFTER_THE_FILE else OLD).fingerprint]
    assert file.restart_due is (number != BEFORE_THE_RECORD)
    assert host.record and host.record["open"] is (number != BEFORE_THE_RECORD)
    if host.record["open"]:
        assert host.record["retire"] == OLD.fingerprint

    assert host.write(NEW, LATER).restart_due
    host.close(NEW)
    assert not host.look(NEW).restart_due
    assert host.record and (host.record["open"], host.record["held"]) == (False, NEW.fingerprint)
    assert sorted(host.all_files) == sorted(["env", host.record_path.name])


def test_a_run_that_is_killed_before_the_first_key_of_a_file_is_seen_too(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.env.unlink()
    killed_at(host, monkeypatch, BEFORE_THE_FILE)
    assert host.record and host.record["open"] and not host.look().holds
    assert host.write(NEW).restart_due


# --- records elsewhere ----------------------------------------------------------------------------


def test_records_are_kept_in_the_directory_that_is_set(host: Host, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    host.state_dir = str(state_dir)
    host.write(NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "state"]
    (kept,) = state_dir.iterdir()
    assert host.look().restart_due
    host.close()
    found = record.parse(kept.read_bytes())
    assert found and not found["open"]


def test_a_directory_for_records_that_is_missing_is_found_out_by_the_look(host: Host, tmp_path: Path) -> None:
    host.state_dir = str(tmp_path / "state")
    why_not = host.look().describe()["why_not"]
    assert host.state_dir in why_not and "does not exist" in why_not


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
        (_no_room_for_a_new_line, Ambiguous, "line 2: "),
        (_owner, UnknownName, "owner is not known on this host"),
        (_group, UnknownName, "group is not known on this host"),
        (_record_is_a_directory, HostFileError, "is a directory"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_problem_is_told_by_the_look_and_raised_before_anything_changes(
    host: Host, spoil: Callable[[Host], None], error: type[Exception], text: str, check_mode: bool
) -> None:
    spoil(host)
    host.check_mode = check_mode
    before = sorted((path, path.is_file() and path.read_bytes()) for path in host.folder.iterdir())

    file = host.look()
    why_not = file.describe()["why_not"]
    assert why_not.startswith("path " + str(host.folder))
    assert text in why_not
    assert "secret" not in why_not
    phases: tuple[Callable[[], object], ...] = (
        lambda: host.open(OLD),
        lambda: host.write(NEW),
        host.close,
        file.predict_replaced,
    )
    for phase in phases:
        with pytest.raises(error):
            phase()
    assert sorted((path, path.is_file() and path.read_bytes()) for path in host.folder.iterdir()) == before


def test_what_only_the_longest_key_shows_is_found_out_before_the_old_one_dies(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(host_file, "check", lambda _content, data, *_more: sizes.append(len(data)))
    host.look()
    assert max(sizes) == len(f"A=1\nKEY={'x' * 512}\n")


class Refused:
    """Attributes that this host cannot give."""

    def differ(self) -> bool:
        raise HostFileError("attributes_refused", "/env")


def test_attributes_that_cannot_be_given_are_found_out_before_the_old_one_dies(host: Host) -> None:
    file = host.look()
    file.look_at_attributes(lambda *_: Refused())
    assert not file.only_key
    assert "cannot be given" in file.describe()["why_not"]


# --- accounts -------------------------------------------------------------------------------------


def test_a_file_that_was_given_the_key_of_one_account_refuses_that_of_another(host: Host) -> None:
    host.account = "one"
    host.write(OLD)
    host.close(OLD)
    assert host.record is not None and host.record["account"] == "one"
    host.account = "another"
    before = host.env.read_bytes()
    file = host.look(NEW)
    assert file.describe()["why_not"].endswith(f"remove the record {host.record_path} first")
    for act in (lambda: host.write(NEW), lambda: host.open(NEW), lambda: host.close(NEW)):
        with pytest.raises(record.OtherAccount):
            act()
    assert host.env.read_bytes() == before


def test_a_record_that_knows_no_account_learns_it_with_the_next_key(host: Host) -> None:
    host.write(OLD)
    host.account = "one"
    host.write(NEW)
    assert host.record is not None and host.record["account"] == "one"
