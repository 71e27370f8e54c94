# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Acts over hosts whose files hold the key in every form: refused before anything is rotated, or right (T1 to T6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Trial
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Wanted
from ansible_collections.multicart.keys.tests.readers.other_forms import FOREIGN, KEY, NAME, ORDINARY
from ansible_collections.multicart.keys.tests.readers.practice import PRACTICE

from tests.unit.plugins.plugin_utils.local_hosts import NEW, OLD, end_all
from tests.unit.plugins.plugin_utils.test_act import Fleet, reason

FORCED = Wanted(confirmed=True, force=True)


@pytest.fixture(name="fleet")
def fixture_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A host that is ready, and one whose file is the one in question."""
    assert OLD.reveal() == KEY
    fleet = Fleet(tmp_path / "fleet", 2)
    yield fleet
    end_all(fleet.hosts)


def put(fleet: Fleet, text: str, **entry: str) -> Path:
    return put_all(fleet, [text], **entry)[0]


def put_all(fleet: Fleet, texts: Iterable[str], **entry: str) -> list[Path]:
    host = fleet.hosts[1]
    paths = []
    for number, text in enumerate(texts):
        paths.append(host.folder / f"file{number}")
        paths[-1].write_bytes(text.encode())
    entries = [{"path": str(path), **entry} for path in paths]
    host.variables = {"files": [{"path": str(host.env), "variable": "KEY"}, *entries]}
    return paths


def test_t1_nothing_is_rotated_while_a_file_holds_the_key_in_another_form(fleet: Fleet) -> None:
    paths = put_all(fleet, [text for text, _line in FOREIGN.values()])
    before = fleet.snapshot()
    for check_mode in (True, False):
        fleet.check_mode = check_mode
        result = fleet.rotate(FORCED)
        assert "rotate" not in fleet.api.calls
        assert [fleet.snapshot()[1][str(path)] for path in paths] == [before[1][str(path)] for path in paths]
        (good, bad) = result.hosts
        assert (good.reason, fleet.holds) == (None, ["old", "old"])
        problems = [file.problem for file in bad.files[1:]]
        for (_text, line), path, problem in zip(FOREIGN.values(), paths, problems, strict=True):
            assert problem is not None and problem.reason in ("other_form", "ambiguous")
            assert f"{path}: line {line}: " in problem.text
            assert "template" in problem.text
    assert reason(result) is Reason.NOT_READY
    assert "web2" in str(result.error)


@pytest.mark.parametrize("kind", ["systemd drop-in", "NAME: value", "key file", "Kubernetes Secret, data"])
def test_t1_audit_deploy_and_doctor_say_so_as_well(fleet: Fleet, kind: str) -> None:
    text, line = FOREIGN[kind]
    path = put(fleet, text)
    told = f"line {line}: "
    for act in (fleet.audit, fleet.deploy):
        result = act()
        assert reason(result) is Reason.NOT_UP_TO_DATE
        assert result.hosts[1].reason == "other_form"
        assert told in result.hosts[1].message
        assert path.read_text() == text
    assert told in "\n".join(diagnose([], fleet.act().inspect()).lines)


def test_ordinary_files_are_rotated_with_every_other_byte_kept(fleet: Fleet) -> None:
    texts = [*ORDINARY.values(), *PRACTICE.values()]
    paths = put_all(fleet, texts)
    assert reason(fleet.deploy()) is None
    for path, text in zip(paths, texts, strict=True):
        assert path.read_text().count(KEY) == 1 + text.count(KEY)
    assert reason(fleet.rotate(FORCED)) is None
    for path, text in zip(paths, texts, strict=True):
        assert path.read_bytes().decode().replace(f"{NAME}={NEW.reveal()}\n", "", 1) == text


def test_t2_a_former_key_elsewhere_is_told_once_and_refuses_nothing(fleet: Fleet) -> None:
    former = ApiKey("acme.FORMERcan")
    path = put(fleet, f"A={KEY}\nB={KEY}\nTOKEN={former.reveal()}\n", variable="A")
    fleet.hosts[1].variables["files"].append({"path": str(path), "variable": "B"})
    told = f"web2: path {path}: line 3: what looks like a former key ({former.fingerprint}) stands here"
    for act in (fleet.audit, lambda: fleet.rotate(FORCED), fleet.audit):
        assert reason(act()) is None
        assert ["former" in line for line in fleet.lines].count(True) == 1
        assert any(line.startswith(told) for line in fleet.lines)
    assert path.read_text() == f"A={NEW.reveal()}\nB={NEW.reveal()}\nTOKEN={former.reveal()}\n"


def test_t2_the_doctor_knows_the_live_key(fleet: Fleet) -> None:
    put(fleet, f"SMTP=x\nTOKEN={KEY}\n")
    trial = Trial("session_token", "1", OLD)
    told = diagnose([trial], fleet.act().inspect(Live(OLD))).lines
    assert "line 2: the key also stands here" in "\n".join(told)


def test_t2_the_live_key_under_a_name_that_is_not_configured_is_found_by_prefix_and_length(fleet: Fleet) -> None:
    put(fleet, f"SMTP=x\nTOKEN={KEY}\n")
    result = fleet.rotate(FORCED)
    assert (reason(result), fleet.holds) == (Reason.NOT_READY, ["old", "old"])
    assert "line 2: the key also stands here" in str(result.error)


def test_t2_two_variables_of_one_file_are_planned_together_also_through_a_link(fleet: Fleet) -> None:
    path = put(fleet, f"A={KEY}\nB={KEY}\n", variable="A")
    link = path.with_name("link")
    link.symlink_to(path)
    fleet.hosts[1].variables["files"].append({"path": str(link), "variable": "B"})
    assert reason(fleet.rotate(FORCED)) is None
    assert path.read_text() == f"A={NEW.reveal()}\nB={NEW.reveal()}\n"


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_that_is_nothing_but_the_key_is_rotated(fleet: Fleet, end: str) -> None:
    path = put(fleet, KEY + end, format="key")
    assert reason(fleet.audit()) is None
    assert reason(fleet.rotate(FORCED)) is None
    assert path.read_text() == NEW.reveal() + end
    assert reason(fleet.audit()) is None
    path.write_text(KEY + end)
    assert reason(fleet.audit()) is Reason.NOT_UP_TO_DATE
    assert reason(fleet.deploy()) is None
    assert path.read_text() == NEW.reveal() + end


def test_a_new_file_that_is_nothing_but_the_key_has_no_line_break(fleet: Fleet) -> None:
    path = put(fleet, "", format="key")
    path.unlink()
    assert reason(fleet.deploy()) is None
    assert path.read_bytes() == KEY.encode()
    assert path.stat().st_mode & 0o777 == 0o600


def test_more_than_the_key_is_never_overwritten_by_the_key_alone(fleet: Fleet) -> None:
    path = put(fleet, f"A=1\nKEY={KEY}\n", format="key")
    result = fleet.rotate(FORCED)
    assert (reason(result), fleet.api.calls) == (Reason.NOT_READY, ["read"])
    assert "more than a key" in result.hosts[1].message
    assert path.read_text() == f"A=1\nKEY={KEY}\n"
