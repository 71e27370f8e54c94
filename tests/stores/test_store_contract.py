# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every type of store must do, each against a real place: nothing lost, nothing half done, nothing told.

A new type is added to `BACKENDS`, and must pass all of this.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import InvalidEntry, open_store, resolve

from tests.stores.aws_gitlab_and_sops import BACKENDS as AWS_GITLAB_AND_SOPS
from tests.stores.backends import BACKENDS as OF_FILES_AND_PROGRAMS
from tests.stores.backends import Backend
from tests.stores.github_api import GitHubSecret
from tests.stores.kubernetes_api import KubernetesSecret
from tests.stores.other_apis import BACKENDS as OTHER_APIS
from tests.stores.talk import NEW, OLD, OTHER, SINCE, Talk, fingerprint
from tests.waiting import PATIENCE, eventually

ACCOUNT = "a" * 16

BACKENDS: dict[str, type[Any]] = {
    **OF_FILES_AND_PROGRAMS,
    "kubernetes_secret": KubernetesSecret,
    "github_secret": GitHubSecret,
    **AWS_GITLAB_AND_SOPS,
    **OTHER_APIS,
}


EXAMPLES = ("command_share", "command_pass", "command_hook")
"""Of the type ``command``, which is held against all of it in every run."""

FULL = (*EXAMPLES, *AWS_GITLAB_AND_SOPS, *OTHER_APIS)
"""What is held against all of it in full runs only: of the later types each run sees a rotation, and what is broken."""


def row(name: str, *more: str, full: Container[str] = FULL) -> Any:
    """Return a row of parameters for a backend; in full runs only for those named."""
    return pytest.param(name, *more, id="-".join((name, *more)), marks=[pytest.mark.full] if name in full else [])


@pytest.fixture(params=[row(name) for name in BACKENDS])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = BACKENDS[request.param](tmp_path)
    made.put(OLD)
    yield made
    made.stop()


def every(which: str, full: Container[str] = FULL) -> Callable[[Any], Any]:
    """Parametrise by type and fault."""
    rows = [row(name, fault, full=full) for name, maker in BACKENDS.items() for fault in sorted(getattr(maker, which))]
    return pytest.mark.parametrize(("backend", "fault"), rows, indirect=["backend"])


@contextmanager
def talking(backend: Backend, account: str | None = ACCOUNT) -> Iterator[Talk]:
    talk = Talk(backend.kind, backend.entry, backend.control, account)
    yield talk
    talk.end()


def seen(backend: Backend, key: str) -> list[str]:
    """Return what is known of a key that somebody else has put there."""
    return [fingerprint(key)] if backend.readable else []


@pytest.mark.parametrize("backend", [row(name, full=EXAMPLES) for name in BACKENDS], indirect=True)
def test_a_rotation_replaces_the_key_and_nothing_else(backend: Backend) -> None:
    before = backend.rest()
    with talking(backend) as talk:
        assert talk.inspect()["holds"] == seen(backend, OLD)
        stands = talk.rotate()
    assert backend.value() == NEW
    assert backend.rest() == before
    record = stands["record"]
    assert stands["holds"] == [record["held"]] == [fingerprint(NEW)]
    assert (record["open"], record["rotation"]["retire"], record["rotation"]["concluded"]) == (
        False,
        fingerprint(OLD),
        True,
    )
    assert (record["account"], record["since"]) == (ACCOUNT, SINCE)
    with talking(backend) as talk:  # what it left is found again
        assert talk.inspect(NEW)["record"] == record


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documentation_work(tmp_path: Path, name: str) -> None:
    backend = BACKENDS[name](tmp_path)
    backend.put(OLD)
    before = backend.rest()
    with talking(backend) as talk:
        assert talk.rotate()["record"]["held"] == fingerprint(NEW)
    assert (backend.value(), backend.rest()) == (NEW, before)
    backend.stop()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documentation_fail_where_what_they_run_fails(tmp_path: Path, name: str) -> None:
    backend = BACKENDS[name](tmp_path)
    backend.put(OLD)
    before = backend.rest()
    for fault, reasons in backend.faults.items():
        with talking(backend) as talk:
            talk.inspect()
            talk.prepare()
            backend.break_by(fault)
            (problem,) = talk.deploy(retires=OLD)["problems"]
        with talking(backend) as talk:
            found = talk.inspect()["problem"]
        backend.mend()
        assert (problem["reason"] in reasons, found["reason"] in reasons) == (True, True), fault
        assert (backend.value(), backend.rest()) == (OLD, before)
    backend.stop()


def test_a_record_of_any_length_is_kept(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.inspect()
        for number in range(records.RETIRED_KEPT + 2):
            seen = {
                "key": f"{number:016x}",
                "seen": "rejected",
                "at": SINCE,
                "accepted": True,
                "updated_at": [SINCE] * 2,
            }
            talk.prepare()
            assert talk.ask("conclude", live=fingerprint(OLD), seen=seen)["problems"] == []
    with talking(backend) as talk:
        assert len(talk.inspect()["record"]["retired"]) == records.RETIRED_KEPT


def test_without_a_key_it_is_missing_and_gets_one(backend: Backend) -> None:
    backend.put(None)
    before = backend.rest()
    with talking(backend) as talk:
        found = talk.inspect()
        assert (found["holds"], found["problem"]) == ([], None)
        assert talk.deploy()["problems"] == []
    assert (backend.value(), backend.rest()) == (NEW, before)


def test_a_deployment_that_finds_it_done_changes_nothing(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.rotate()
    with talking(backend) as talk:
        talk.inspect(NEW)
        said = talk.deploy(inspected=[fingerprint(NEW)])
        assert (said["problems"], said["changed"], talk.close()["changed"]) == ([], False, False)


def test_check_mode_changes_nothing(backend: Backend) -> None:
    with talking(backend) as talk:
        holds = talk.inspect(check_mode=True)["holds"]
        said = talk.deploy(check_mode=True, inspected=holds)
        assert (said["problems"], said["changed"]) == ([], True)
    assert backend.value() == OLD
    with talking(backend) as talk:
        assert talk.inspect()["record"] is None


@every("faults", full=EXAMPLES)
def test_what_is_broken_is_named_before_anything_is_changed(backend: Backend, fault: str) -> None:
    backend.break_by(fault)
    try:
        with talking(backend) as talk:
            found = talk.inspect()
            problem = found["problem"]
            for check_mode in (True, False) if problem is not None else ():
                said = talk.deploy(check_mode=check_mode, inspected=found["holds"])
                assert said["changed"] is False, said
            # A hook, for example, is only met by a change.
            (told,) = [problem] if problem is not None else talk.prepare()
            assert talk.label in told["text"]
    except InvalidEntry as error:
        told = {"reason": "invalid_option", "text": str(error)}
    assert told["reason"] in backend.faults[fault], told
    backend.mend()
    assert backend.value() in (OLD, None)


@every("at_write")
def test_what_fails_at_the_write_is_finished_by_running_again(backend: Backend, fault: str) -> None:
    with talking(backend) as talk:
        talk.inspect()
        assert talk.prepare() == []
        backend.break_by(fault)
        (problem,) = talk.deploy(retires=OLD)["problems"]
        assert problem["reason"] in backend.faults[fault]
    backend.mend()
    assert backend.value() in (OLD, None)
    with talking(backend) as talk:
        found = talk.inspect(NEW)
        assert found["problem"] is None
        assert talk.deploy(retires=OLD, inspected=found["holds"])["problems"] == []
        talk.close()
        assert talk.inspect(NEW)["record"]["open"] is False
    assert backend.value() == NEW


def test_what_somebody_else_changes_meanwhile_is_kept(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.inspect()
        talk.prepare()
        backend.change_rest()
        theirs = backend.rest()
        assert talk.deploy(retires=OLD)["problems"] == []
    assert (backend.value(), backend.rest()) == (NEW, theirs)


def test_a_key_that_somebody_else_has_written_is_not_replaced_by_a_deployment(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.inspect(NEW)
        backend.put(OTHER)
        (problem,) = talk.deploy(inspected=[fingerprint(OLD)])["problems"]
    assert problem["reason"] == "changed_meanwhile"
    assert backend.value() == OTHER


def test_drift_is_seen_and_mended_but_not_by_a_key_that_was_rejected(backend: Backend) -> None:
    rejected = {"key": fingerprint(OLD), "seen": "rejected", "at": SINCE, "accepted": True, "updated_at": None}
    with talking(backend) as talk:
        talk.rotate()
    backend.put(OTHER)
    with talking(backend) as talk:
        holds = talk.inspect(NEW)["holds"]
        assert holds == seen(backend, OTHER)
        assert talk.ask("conclude", live=fingerprint(NEW), seen=rejected)["problems"] == []
        (problem,) = talk.deploy(OLD, inspected=holds)["problems"]
        assert (problem["reason"], backend.value()) == ("rejected_before", OTHER)
        assert talk.deploy(inspected=holds)["problems"] == []
        assert talk.inspect(NEW)["holds"] == [fingerprint(NEW)]
    assert backend.value() == NEW


def test_killed_between_write_and_note_it_is_finished_by_running_again(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.inspect()
        talk.prepare()
    # What its process did before it was killed.
    store = open_store(backend.kind, resolve(backend.kind, backend.entry, backend.control))
    store.write(ApiKey(NEW), store.inspect())
    with talking(backend) as talk:
        found = talk.inspect(NEW)
        assert found["record"]["open"] is True
        assert talk.deploy(retires=OLD, inspected=found["holds"])["problems"] == []
        talk.close()
        talk.conclude()
        stands = talk.inspect(NEW)
    assert (stands["holds"], stands["record"]["held"]) == ([fingerprint(NEW)], fingerprint(NEW))
    assert stands["record"]["open"] is False
    assert backend.value() == NEW


def test_killed_while_it_notes_it_is_finished_by_running_again(tmp_path: Path) -> None:
    """With a signal, in the middle of a program that has written the key."""
    backend = BACKENDS["command"](tmp_path)
    backend.put(OLD)
    talk = Talk(backend.kind, backend.entry, backend.control, ACCOUNT)
    talk.inspect()
    talk.prepare()
    backend.hang_after_the_write()
    reply = talk.session.ask("deploy", 30, **talk.request(key=NEW, live=fingerprint(NEW), since=SINCE))
    assert eventually(lambda: backend.value() == NEW)
    assert talk.session._process is not None
    os.killpg(talk.session._process.pid, signal.SIGKILL)
    assert reply.wait(PATIENCE) and reply.error is not None
    talk.end()
    backend.mend()
    with talking(backend) as talk:
        found = talk.inspect(NEW)
        assert (found["holds"], found["record"]["held"], found["record"]["open"]) == ([fingerprint(NEW)], None, True)
        assert talk.deploy(retires=OLD, inspected=found["holds"])["problems"] == []
        talk.close()
        assert talk.inspect(NEW)["record"]["open"] is False


def test_the_key_of_another_account_is_not_replaced(backend: Backend) -> None:
    with talking(backend) as talk:
        talk.rotate()
    with talking(backend, account="b" * 16) as talk:
        assert talk.inspect()["problem"]["reason"] == "other_account"
        assert talk.prepare()[0]["reason"] == "other_account"
        assert talk.deploy(OTHER)["problems"][0]["reason"] == "other_account"
    assert backend.value() == NEW


def test_a_record_that_is_none_counts_as_none(backend: Backend) -> None:
    store = open_store(backend.kind, resolve(backend.kind, backend.entry, backend.control))
    store.note({"format": 1, "held": "no fingerprint", "open": "perhaps"}, store.inspect())
    with talking(backend) as talk:
        assert talk.inspect()["record"] is None
        talk.rotate()
    assert backend.value() == NEW


def test_no_secret_is_where_others_can_read_it(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The libraries log all that they can; arguments and environments of processes are read all the time."""
    loud = tmp_path / "loud"
    loud.mkdir()
    (loud / "sitecustomize.py").write_text(
        "import http.client, logging\n"
        f"logging.basicConfig(level=logging.DEBUG, filename={str(tmp_path / 'library.log')!r})\n"
        "http.client.HTTPConnection.debuglevel = 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(loud))
    monkeypatch.setenv("MULTICART_SESSION_TOKEN", "token-canary")
    said: list[Any] = []
    with talking(backend) as talk, watched() as seen:
        said.append(talk.inspect())
        talk.prepare()
        said.append(talk.deploy(retires=OLD))
        said += [talk.close(), talk.conclude(), talk.label]
        assert talk.session._complaints == b""
    secrets = [OLD, NEW, "token-canary", *backend.secrets]
    logged = (tmp_path / "library.log").read_text() if (tmp_path / "library.log").exists() else ""
    for sink in (repr(said), logged, *seen):
        assert not [secret for secret in secrets if secret in sink]
    assert any("_stores import serve" in line for line in seen), "nothing was looked at"


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collect the arguments and environments of all processes that this one has started, until the end."""
    seen, over = set[str](), Event()

    def look() -> None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if is_ours(process):
                    seen.update((process / name).read_bytes().decode("utf-8", "replace") for name in names)

    def go_on() -> None:
        while not over.wait(0.005):
            look()

    names = ("cmdline", "environ")
    thread = Thread(target=go_on)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    look()  # at what is there for all that time, though a busy machine may not have looked at it before


def is_ours(process: Path) -> bool:
    """Tell whether this process has started another one, or what has started that."""
    while process.name not in ("0", "1"):
        parent = (process / "stat").read_bytes().rpartition(b")")[2].split()[1].decode()
        if parent == str(os.getpid()):
            return True
        process = process.with_name(parent)
    return False


def test_a_store_that_hangs_ends_with_its_session(tmp_path: Path) -> None:
    backend = BACKENDS["command"](tmp_path)
    with talking(backend) as talk:
        talk.inspect()
        backend.break_by("hang")
        began = time.monotonic()
        said = talk.ask("inspect", limit=5, live=fingerprint(OLD))
        assert time.monotonic() - began < 40  # it hangs for a minute
        assert said["files"][0]["problem"]["reason"] == "timed_out"
    assert eventually(lambda: not any(str(tmp_path) in _text(path) for path in Path("/proc").glob("[0-9]*/cmdline")))


@pytest.mark.parametrize(
    ("fault", "first", "reason"),
    [
        ("down", 60, "store_failed"),
        ("malformed", 60, "store_malformed"),
        pytest.param("hang", 10, "timed_out", marks=pytest.mark.full),  # it waits for that limit
    ],
)
def test_a_store_that_fails_at_the_write_takes_no_time_from_its_neighbours(
    tmp_path: Path, fault: str, first: float, reason: str
) -> None:
    """The session was ended 30 s after the release, while another store waited for what it had restarted."""
    backends = [BACKENDS["command"](tmp_path / name) for name in ("failing", "slow")]
    failing, slow = (Path(backend.entry["write"][2]) for backend in backends)
    with talking(backends[0]) as talk, talking(backends[1]) as other:
        files = [{**each.file, "inspected": None} for each in (talk, other)]
        more = {"files": files, "retires": None, "check_mode": False, "since": SINCE, "account": None}
        for phase in ("inspect", "prepare"):
            asked = talk.session.ask(phase, 30, **more, live=fingerprint(OLD), retire=fingerprint(OLD))
            assert asked.wait(30) and asked.error is None
        for place, how in ((failing, {"fault_at_write": fault}), (slow, {"hold_at_note": True})):
            place.write_text(json.dumps({**json.loads(place.read_text()), **how}))
        reply = talk.session.ask("deploy", 120, first, **more, key=NEW, live=fingerprint(NEW))
        assert reply.wait_for_first(first + 30)
        assert not reply.written and not reply.wait(0)
        slow.with_suffix(".go").touch()
        assert reply.wait(60) and reply.error is None and reply.said["steps_done"]
        closed = talk.session.ask("close", 30, **more, live=fingerprint(NEW))
        assert closed.wait(30) and closed.error is None
    # What reads the other is not restarted again by every run until the failing one is mended.
    records = [file["record"] for file in closed.said["files"]]
    assert (closed.said["problems"], [kept and kept["open"] for kept in records]) == ([], [True, False])
    assert [problem["reason"] for problem in reply.said["problems"]] == [reason]
    assert ("not known" in reply.said["problems"][0]["text"]) == (fault == "hang")
    assert backends[1].value() == NEW and reply.said["files"][1]["record"]["held"] == fingerprint(NEW)
    assert "written" not in reply.moments


def test_what_the_act_leaves_behind_when_it_is_killed_ends_by_itself(tmp_path: Path) -> None:
    """Its process leaves when its input ends, also from a program that hangs."""
    backend = BACKENDS["command"](tmp_path)
    with talking(backend) as talk:
        talk.inspect()
        process = talk.session._process
        assert process is not None and process.stdin is not None
        backend.break_by("hang")
        calls = Path(backend.entry["write"][2]).with_suffix(".seen")
        before = calls.read_text().count("\n")
        talk.session.ask("inspect", 2, files=[{**talk.file, "inspected": None}], account=None, live=None)
        assert eventually(lambda: calls.read_text().count("\n") > before)
        process.stdin.close()
        process.wait(PATIENCE)


def test_the_process_leaves_nothing_behind_but_where_the_run_of_ansible_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run left an empty directory of Ansible's, which a store of ansible-vault loads."""
    home, scratch, of_run = tmp_path / "home", tmp_path / "scratch", tmp_path / "run"
    for each in (home, scratch, of_run):
        each.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    backend = BACKENDS["ansible_vault"](tmp_path)
    backend.put(OLD)
    talk = Talk(backend.kind, backend.entry, backend.control, ACCOUNT, str(of_run))
    talk.rotate()
    talk.end()
    assert [*of_run.glob("ansible-local-*")], "Ansible was not loaded"
    assert [*home.rglob("*"), *scratch.rglob("*")] == []


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
