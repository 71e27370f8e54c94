# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owner, group and mode where there is no AnsibleModule: as chmod(1) has them, and before anybody reads the file."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _file_attributes as file_attributes
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import (
    Ownership,
    UnknownName,
    ids_of,
    mode_of,
)
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

NOBODY = 65534
NO_LINK = {"follow_symlinks": False}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

# --- modes, as chmod(1) has them ------------------------------------------------------------------

PERMISSIONS = st.lists(st.sampled_from("rwxXst"), max_size=4).map("".join) | st.sampled_from("ugo")
ACTIONS = st.lists(st.tuples(st.sampled_from("+-="), PERMISSIONS).map("".join), min_size=1, max_size=3).map("".join)
CLAUSES = st.tuples(st.lists(st.sampled_from("ugoa"), max_size=3).map("".join), ACTIONS).map("".join)
SYMBOLIC = st.lists(CLAUSES, min_size=1, max_size=3).map(",".join)
OCTAL = st.integers(0, 0o7777).map("{0:04o}".format)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(name="file", scope="module")
def fixture_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("modes") / "file"
    path.touch()
    return path


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SYMBOLIC | OCTAL, st.integers(0, 0o7777), st.sampled_from([0o022, 0o077, 0o000, 0o027]))
@example("+w", 0o600, 0o022)
@example("=rw", 0o7777, 0o027)
@example("o=", 0o1777, 0o022)
@example("u+t,o+s", 0o600, 0o022)
@example("a=rX,u+w", 0o711, 0o077)
@example("g=u-w", 0o750, 0o022)
def test_a_mode_is_what_chmod_makes_of_it(file: Path, wanted: str, current: int, mask: int) -> None:
    file.chmod(current)
    with umask(mask):
        subprocess.run(["chmod", "--", wanted, str(file)], check=False, stderr=subprocess.DEVNULL)
        assert mode_of(wanted, current) == stat.S_IMODE(file.stat().st_mode)
        assert os.umask(mask) == mask


@pytest.mark.parametrize("wanted", [None, ""])
def test_without_a_mode_none_is_wanted(wanted: Optional[str]) -> None:
    assert mode_of(wanted, 0o640) is None


# --- names ----------------------------------------------------------------------------------------


def wanted(owner: Optional[str] = None, group: Optional[str] = None, mode: Optional[str] = None) -> dict[str, Any]:
    return {"owner": owner, "group": group, "mode": mode}


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (wanted(), (-1, -1)),
        (wanted("", ""), (-1, -1)),
        (wanted("root"), (0, -1)),
        (wanted("0", "0"), (0, 0)),
        (wanted("12345", "54321"), (12345, 54321)),  # a number need not have a name
        (wanted(group="root"), (-1, 0)),
    ],
)
def test_names_are_looked_up_on_the_host(names: dict[str, Any], ids: tuple[int, int]) -> None:
    assert ids_of(names) == ids


@pytest.mark.parametrize("option", ["owner", "group"])
@pytest.mark.parametrize("name", ["nobody-has-this-name", "-1", "1.0", "0x0"])
def test_a_name_that_is_not_known_is_refused_by_its_option(option: str, name: str) -> None:
    with pytest.raises(UnknownName, match="{0} is not known on this host".format(option)) as refused:
        ids_of({**wanted(), option: name})
    assert name not in str(refused.value)


# --- a file ---------------------------------------------------------------------------------------


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    path = tmp_path / "env"
    path.write_text("A=1\n")
    path.chmod(0o600)
    return path


def ownership(path: Path, **names: Any) -> Ownership:
    return Ownership(host_file.read(str(path)), wanted(**names))


def attributes(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


ME = (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    ("names", "differs", "becomes"),
    [
        ({}, False, (*ME, 0o600)),
        ({"mode": "0600"}, False, (*ME, 0o600)),
        ({"mode": "u=rw,go="}, False, (*ME, 0o600)),
        ({"owner": str(ME[0]), "group": str(ME[1])}, False, (*ME, 0o600)),
        ({"mode": "0640"}, True, (*ME, 0o640)),
        pytest.param({"owner": "12"}, True, (12, ME[1], 0o600), marks=as_root),
        pytest.param({"group": "13"}, True, (ME[0], 13, 0o600), marks=as_root),
        pytest.param({"owner": "12", "group": "13", "mode": "u=rw,g=r"}, True, (12, 13, 0o640), marks=as_root),
        pytest.param({"owner": "12", "mode": "4755"}, True, (12, ME[1], 0o4755), marks=as_root),
    ],
)
def test_what_differs_is_told_and_given_once(
    path: Path, names: dict[str, Any], differs: bool, becomes: tuple[int, int, int]
) -> None:
    before = attributes(path)
    assert ownership(path, **names).differ() is differs
    assert attributes(path) == before
    assert ownership(path, **names).finish() is differs
    assert attributes(path) == becomes
    assert not ownership(path, **names).differ() and not ownership(path, **names).finish()


@as_root
def test_a_set_id_bit_that_the_kernel_takes_away_with_the_owner_is_given_again(path: Path) -> None:
    path.chmod(0o4755)
    assert ownership(path, owner="12", mode="4755").finish()
    assert attributes(path) == (12, ME[1], 0o4755)


def test_a_replacement_is_given_them_before_it_takes_the_files_place(path: Path) -> None:
    draft = path.with_name("draft")
    draft.touch(mode=0o600)
    ownership(path, mode="0444").prepare(str(draft))
    assert attributes(draft)[2] == 0o444
    assert attributes(path)[2] == 0o600


def test_a_symbolic_mode_of_a_replacement_starts_from_its_own(path: Path) -> None:
    path.chmod(0o640)
    draft = path.with_name("draft")
    draft.touch(mode=0o640)
    ownership(path, mode="g-r,o+r").prepare(str(draft))
    assert attributes(draft)[2] == 0o604


def test_a_file_that_is_missing_lacks_nothing_yet(tmp_path: Path) -> None:
    assert not ownership(tmp_path / "missing", mode="0640").differ()


@pytest.mark.parametrize("error", [PermissionError(), OverflowError(), OSError()])
def test_attributes_that_cannot_be_given_are_told_without_the_errors_text(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*dummy: Any) -> None:
        raise error

    monkeypatch.setattr(os, "chmod", refuse)
    with pytest.raises(HostFileError) as refused:
        ownership(path, mode="0640").finish()
    assert (refused.value.reason, refused.value.__suppress_context__) == ("attributes_refused", True)
    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(HostFileError):
        ownership(path, owner=str(ME[0] + 1)).finish()


@pytest.mark.parametrize("user", [0, NOBODY])
def test_in_place_only_the_owner_and_root_may_give_another_mode(
    path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for mode in (None, "0600"):
        ownership(path, mode=mode).refuse_in_place()
    if user in (0, path.stat().st_uid):
        ownership(path, mode="0640").refuse_in_place()
        return
    with pytest.raises(HostFileError):
        ownership(path, mode="0640").refuse_in_place()


# --- SELinux --------------------------------------------------------------------------------------


@pytest.fixture(name="selinux")
def fixture_selinux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make this a host with SELinux, for what a program of it answers, and note which labels are given."""
    program = tmp_path / "matchpathcon"
    program.write_text('#!/bin/sh\necho "label_of $2"\n')
    program.chmod(0o755)
    given_labels: list[Any] = []
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(os.path, "isdir", lambda name: name == "/sys/fs/selinux")
    monkeypatch.setattr(os, "setxattr", lambda *arguments, **how: given_labels.append((*arguments, how)))
    return given_labels


def test_a_new_file_gets_the_label_that_the_policy_has_for_its_place(tmp_path: Path, selinux: list[Any]) -> None:
    target, draft = tmp_path / "env", tmp_path / "draft"
    draft.touch()
    content = host_file.Content(str(target), str(target), None, None, None, False)
    Ownership(content, wanted()).prepare(str(draft))
    assert selinux == [(str(draft), "security.selinux", "label_of {0}".format(target).encode() + b"\0", NO_LINK)]


@pytest.mark.parametrize("script", ["exit 1", "sleep 60", None])
def test_a_policy_that_says_nothing_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selinux: list[Any], script: Optional[str]
) -> None:
    if script is None:
        (tmp_path / "matchpathcon").write_bytes(b"no program")
    else:
        (tmp_path / "matchpathcon").write_text("#!/bin/sh\n{0}\n".format(script))
    original = subprocess.check_output

    def impatient(*arguments: Any, **keywords: Any) -> Any:
        assert keywords["timeout"] <= 10
        return original(*arguments, **{**keywords, "timeout": 0.5})

    monkeypatch.setattr(subprocess, "check_output", impatient)
    draft = tmp_path / "draft"
    draft.touch()
    file_attributes._label_new_file(str(draft), str(tmp_path / "env"))
    assert selinux == []


def test_a_file_that_exists_keeps_its_label(path: Path, selinux: list[Any]) -> None:
    ownership(path, mode="0600").prepare(str(path))
    assert selinux == []
