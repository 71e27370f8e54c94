# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file modules as Ansible runs them: the real module files, each in a process of its own."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey

COLLECTIONS = next(path for path in sys.path if Path(path, "ansible_collections/multicart/keys/galaxy.yml").exists())
MODULES = Path(COLLECTIONS, "ansible_collections/multicart/keys/plugins/modules")
OLD, NEW = "173axcs.OLDcanary0old", "173axcs.NEWcanary0new"
SECRETS = (OLD.partition(".")[2], NEW.partition(".")[2], "neighbour-secret")
ADDED_BY_CORE = {"gid", "group", "mode", "owner", "size", "state", "uid", "secontext", "failed", "invocation"}


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.env"
    path.write_text(f"OTHER=neighbour-secret\nexport MULTICART_API_KEY='{OLD}' # ours\n")
    path.chmod(0o640)
    return path


def run(module: str, check: bool = False, **options: Any) -> dict[str, Any]:
    """Run the module file with the options, and look that it shows no secret."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check, "_ansible_diff": True}}
    done = subprocess.run(
        [sys.executable, str(MODULES / f"{module}.py")],
        input=json.dumps(arguments),
        env={"PYTHONPATH": COLLECTIONS, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert not [secret for secret in SECRETS if secret in shown]
    result: dict[str, Any] = json.loads(done.stdout)
    result.pop("invocation", None)
    return result


def write(**options: Any) -> dict[str, Any]:
    """Run the writing module, first in check mode, which has to predict what happens and change nothing."""
    path = Path(options["path"])
    before = path.read_bytes() if path.is_file() else None
    foretold = run("multicart_env_file", check=True, **options)
    assert (path.read_bytes() if path.is_file() else None) == before
    result = run("multicart_env_file", **options)
    for field in ("changed", "failed", "reason", "key_fingerprint", "previous_key_fingerprint"):
        assert foretold.get(field) == result.get(field), field
    return result


def look(path: Path, **options: Any) -> dict[str, Any]:
    result = run("multicart_env_file_info", path=str(path), **options)
    assert not result.get("changed")
    return result


def documented(module: str) -> set[str]:
    text = (MODULES / f"{module}.py").read_text()
    return set(yaml.safe_load(text.partition('RETURN = r"""')[2].partition('"""')[0]))


def test_changes_the_key_and_nothing_else(file: Path) -> None:
    result = write(path=str(file), value=NEW)
    assert file.read_text() == f"OTHER=neighbour-secret\nexport MULTICART_API_KEY='{NEW}' # ours\n"
    assert result["changed"] is True
    assert result["key_fingerprint"] == ApiKey(NEW).fingerprint
    assert result["previous_key_fingerprint"] == ApiKey(OLD).fingerprint
    assert result["key_prefix"] == result["previous_key_prefix"] == "173axcs"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    shown = result["diff"][0]
    assert shown["before"] != shown["after"]
    assert "OTHER" not in shown["before"]
    assert set(result) - ADDED_BY_CORE - {"changed", "diff"} <= documented("multicart_env_file")
    again = write(path=str(file), value=NEW)
    assert again["changed"] is False
    assert again["diff"][0]["before"] == again["diff"][0]["after"]


def test_creates_a_private_file(tmp_path: Path) -> None:
    assert write(path=str(tmp_path / "new"), value=NEW)["changed"] is True
    assert (tmp_path / "new").read_text() == f"MULTICART_API_KEY={NEW}\n"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    assert write(path=str(tmp_path / "other"), value=NEW, mode="0644")["changed"] is True
    assert stat.S_IMODE((tmp_path / "other").stat().st_mode) == 0o644


def test_changes_attributes_alone(file: Path) -> None:
    result = write(path=str(file), value=OLD, mode="0600")
    assert result["changed"] is True
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [part["after"] for part in result["diff"][1:]] == [{"mode": "0600"}]
    assert write(path=str(file), value=OLD, mode="0600")["changed"] is False


def test_removes_the_key(file: Path) -> None:
    result = write(path=str(file), state="absent")
    assert result["changed"] is True
    assert file.read_text() == "OTHER=neighbour-secret\n"
    assert result["diff"][0]["after"] == ""
    assert write(path=str(file), state="absent")["changed"] is False
    assert write(path=str(file.parent / "none"), state="absent")["changed"] is False
    assert not (file.parent / "none").exists()


def test_what_is_no_key_counts_as_missing(file: Path) -> None:
    file.write_text("MULTICART_API_KEY=changeme\n")
    result = write(path=str(file), value=NEW)
    assert result["changed"] is True
    assert not [field for field in result if field.startswith("previous_")]


def test_sweeps_the_leftover_of_a_killed_run(file: Path) -> None:
    leftover = file.parent / ".shop.env.multicart-tmp"
    leftover.write_text(OLD)
    assert write(path=str(file), value=OLD)["changed"] is False
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("malformed_key", {"value": f"{NEW}\nX=1"}),
        ("malformed_key", {"value": ""}),
        ("malformed_key", {"value": SECRETS[1]}),
        ("invalid_option", {"value": NEW, "variable": "A=B"}),
        ("invalid_option", {"value": NEW, "owner": "no-such-user"}),
        ("invalid_option", {"value": NEW, "group": "no-such-group"}),
        ("no_such_file", {"value": NEW, "path": "{}/none", "create": False}),
        ("no_such_directory", {"value": NEW, "path": "{}/no/file"}),
        ("path_is_directory", {"value": NEW, "path": "{}"}),
        ("ambiguous", {"value": NEW, "path": "{}/array.env"}),
        ("not_text", {"value": NEW, "path": "{}/binary"}),
        ("other_form", {"value": NEW, "path": "{}/drop-in.conf"}),
        ("other_form", {"value": OLD, "path": "{}/second.env"}),
        ("other_form", {"value": NEW, "path": "{}/second.env"}),
        ("other_form", {"value": NEW, "path": "{}/colon.env"}),
        ("other_form", {"value": NEW, "path": "{}/key"}),
        ("other_form", {"state": "absent", "path": "{}/second.env"}),
        ("other_form", {"value": NEW, "format": "key"}),
        ("invalid_option", {"state": "absent", "format": "key", "path": "{}/key"}),
        ("attributes_refused", {"value": NEW, "mode": "nonsense"}),
    ],
)
def test_says_why_it_failed(file: Path, reason: str, options: dict[str, Any]) -> None:
    (file.parent / "array.env").write_text(f"MULTICART_API_KEY=({OLD})\n")
    (file.parent / "binary").write_bytes(b"MULTICART_API_KEY=\0" + OLD.encode())
    (file.parent / "drop-in.conf").write_text(f"[Service]\nEnvironment=MULTICART_API_KEY={OLD}\n")
    (file.parent / "second.env").write_text(f"MULTICART_API_KEY={OLD}\nSMTP={OLD}\n")
    (file.parent / "colon.env").write_text(f"A=1\nMULTICART_API_KEY: {OLD}\n")
    (file.parent / "key").write_text(f"{OLD}\n")
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    options = {"path": str(file), **options}
    result = write(**{**options, "path": options["path"].format(file.parent)})
    assert result["failed"] is True
    assert result["reason"] == reason
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_that_is_nothing_but_the_key(tmp_path: Path, end: str) -> None:
    file = tmp_path / "key"
    assert look(file, format="key")["writable"] is True
    file.write_bytes(OLD.encode() + end.encode())
    found = look(file, format="key")
    assert (found["writable"], found["key_fingerprint"]) == (True, ApiKey(OLD).fingerprint)
    assert [item["line"] for item in found["assignments"]] == [1]
    result = write(path=str(file), value=NEW, format="key")
    assert (result["changed"], file.read_bytes()) == (True, NEW.encode() + end.encode())
    assert (result["key_fingerprint"], result["previous_key_prefix"]) == (ApiKey(NEW).fingerprint, ApiKey(OLD).prefix)
    assert write(path=str(file), value=NEW, format="key")["changed"] is False
    assert write(path=str(tmp_path / "new"), value=NEW, format="key")["changed"] is True
    assert (tmp_path / "new").read_text() == NEW


def test_info_says_that_the_key_is_in_another_form(file: Path) -> None:
    with file.open("a") as stream:
        stream.write(f"SMTP={OLD}\n")
    found = look(file)
    assert (found["writable"], found["reason"]) == (False, "other_form")
    assert "line 3: " in found["why"]
    assert found["key_fingerprint"] == ApiKey(OLD).fingerprint


def test_shows_nothing_of_what_it_did_not_expect(file: Path) -> None:
    script = (
        "import runpy, sys\n"
        "from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file\n"
        "def broken(data, name): raise KeyError(data)\n"
        "env_file.assignments = broken\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    for module, options in {"multicart_env_file": {"value": NEW}, "multicart_env_file_info": {}}.items():
        done = subprocess.run(
            [sys.executable, "-c", script, str(MODULES / f"{module}.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(file), **options}}),
            env={"PYTHONPATH": COLLECTIONS, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        result = json.loads(done.stdout)
        assert (result["reason"], result["msg"]) == ("internal_error", "unexpected KeyError; please report it")
        assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]


def test_info_describes_every_assignment(file: Path) -> None:
    with file.open("a") as stream:
        stream.write(f"#MULTICART_API_KEY={NEW}\nMULTICART_API_KEY=changeme\n")
    result = look(file)
    assert [(item["line"], item["is_key"], item["key_fingerprint"]) for item in result["assignments"]] == [
        (2, True, ApiKey(OLD).fingerprint),
        (4, False, None),
    ]
    assert "key_fingerprint" not in result
    assert (result["exists"], result["writable"]) == (True, True)
    write(path=str(file), value=NEW)
    assert look(file)["key_fingerprint"] == ApiKey(NEW).fingerprint
    assert set(look(file)) - ADDED_BY_CORE - {"changed"} <= documented("multicart_env_file_info")


def test_info_says_why_it_cannot_be_written(file: Path) -> None:
    os.link(file, file.parent / "other")
    result = look(file)
    assert (result["writable"], result["reason"]) == (False, "hard_linked")
    assert result["why"]
    assert result["key_fingerprint"] == ApiKey(OLD).fingerprint
    assert look(file, unsafe_writes=True)["writable"] is True
    missing = look(file.parent / "none")
    assert (missing["exists"], missing["writable"], missing["assignments"]) == (False, True, [])
    assert look(file.parent / "no" / "file")["reason"] == "no_such_directory"
    file.write_text("MULTICART_API_KEY=$(cat /k)\n")
    assert (look(file)["reason"], look(file)["assignments"]) == ("ambiguous", [])
    assert look(file, variable="A B")["reason"] == "invalid_option"


def test_info_returns_the_record_of_the_roles(file: Path) -> None:
    assert look(file)["record"] is None
    kept = record.opened(record.NONE, ApiKey(OLD).fingerprint)
    place = Path(record.path_of(str(file), "MULTICART_API_KEY", None))
    place.write_bytes(record.serialize(kept))
    found = {"open": True, "retire": ApiKey(OLD).fingerprint, "held": None, "since": None}
    assert look(file)["record"] == found
    since = "2026-06-20T03:00:00.123Z"
    held = record.closed(record.wrote(record.NONE, ApiKey(NEW).fingerprint, "0" * 16, since))
    place.write_bytes(record.serialize(held))
    assert look(file)["record"] == {"open": False, "retire": None, "held": ApiKey(NEW).fingerprint, "since": since}


ANSIBLE = Path(sys.executable).with_name("ansible")


@pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is not there")
@pytest.mark.skipif(
    importlib.util.find_spec("ansible.cli") is None, reason="ansible-test hides ansible.cli from tests of modules"
)
@pytest.mark.parametrize(("pipelining", "written"), [(None, False), ("false", True)])
def test_with_ansible(file: Path, pipelining: Optional[str], written: bool) -> None:
    """The key goes through the connection, in no file, unless the user has turned pipelining off."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    if pipelining:
        environment["ANSIBLE_PIPELINING"] = pipelining
    variables = file.parent / "key.json"
    variables.write_text(json.dumps({"key": NEW}))
    options = {"path": str(file), "value": "{{ key }}"}
    done = subprocess.run(
        [str(ANSIBLE), "localhost", "-vvv", "--diff", "-m", "multicart.keys.multicart_env_file"]
        + ["-a", json.dumps(options), "-e", f"@{variables}"],
        env={**environment, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "HOME": str(file.parent)},
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert ("AnsiballZ_multicart_env_file.py" in done.stdout) == written
    result = json.loads(done.stdout[done.stdout.index("localhost | CHANGED => ") + len("localhost | CHANGED => ") :])
    assert result["key_fingerprint"] == ApiKey(NEW).fingerprint
    assert NEW in file.read_text()
