# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's side of a session: what each request does and answers, and when the program leaves without a change."""

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _phases as phases
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils import _services as services
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError

OLD, NEW, OTHER = ApiKey("acme.OLDcanary"), ApiKey("acme.NEWcanary"), ApiKey("acme.OTHERcanary")
SINCE = "2026-01-01T00:00:00.000Z"
ACCOUNT = "a" * 16


class Host:
    """A directory with two environment files, and what was run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = [folder / "one", folder / "two"]
        self.events: list[str] = []
        for path in self.paths:
            path.write_text(f"A=1\nKEY={OLD.reveal()}\n")

    def ask(self, phase: str, live: Optional[ApiKey] = NEW, **fields: Any) -> dict[str, Any]:
        fields = {"account": ACCOUNT, "live": live and live.fingerprint, **fields}
        fields.setdefault("files", [self.entry(path) for path in self.paths])
        if phase == "deploy":
            fields = {"key": NEW.reveal(), "since": SINCE, **fields}
        request = dict(phases.FIELDS, phase=phase, tag="t", wait=5.0, **fields)
        self.events = []
        answer = phases.answer_to(json.loads(json.dumps(request)), self.events.append)
        assert "canary" not in json.dumps(answer)
        return answer

    def entry(self, path: Any, **more: Any) -> dict[str, Any]:
        entry = dict.fromkeys(("owner", "group", "mode", "digest", "content"))
        return {**entry, "path": str(path), "variable": "KEY", "unsafe_writes": False, **more}

    def records(self) -> list[Optional[record.Record]]:
        kept = [self.folder / f".{path.name}.KEY.multicart.json" for path in self.paths]
        return [record.parse(path.read_bytes()) if path.exists() else None for path in kept]

    def texts(self) -> list[str]:
        return [path.read_text() for path in self.paths]

    def snapshot(self) -> dict[str, Any]:
        return {
            str(path): (path.lstat().st_mtime_ns, path.lstat().st_mode, path.read_bytes())
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def command(self, text: str) -> list[str]:
        return ["sh", "-c", f"echo {text} >> {self.folder}/log"]


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    for name in (*phases.CREDENTIALS, "KEY"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setattr(services, "SYSTEMD", str(tmp_path / "no-systemd"))
    return Host(tmp_path)


def written(key: ApiKey) -> str:
    return f"A=1\nKEY={key.reveal()}\n"


# --- inspect --------------------------------------------------------------------------------------


def test_an_inspection_tells_what_the_files_hold_and_what_the_host_lacks_and_changes_nothing(host: Host) -> None:
    before = host.snapshot()
    wanted = dict(commands=[["absent-command"]], health=[["sh"], ["absent-check"]])
    answer = host.ask("inspect", **wanted)
    assert sorted(answer) == ["files", "hidden", "lacking", "processes"]
    assert answer["lacking"] == ["it has no command absent-check", "it has no command absent-command"]
    assert answer["files"] == [
        {
            "path": str(path),
            "variable": "KEY",
            "held": [OLD.fingerprint],
            "holds": [OLD.fingerprint],
            "unknown": False,
            "restart_due": False,
            "changed": False,
            "outdated": False,
            "problem": None,
            "notes": [],
            "record": None,
        }
        for path in host.paths
    ]
    assert (host.snapshot(), host.events) == (before, [])


def test_each_file_tells_its_own_problem_and_that_its_mode_would_change(host: Host) -> None:
    host.paths[0].unlink()
    host.paths[0].mkdir()
    host.paths[1].chmod(0o600)
    answer = host.ask("inspect", files=[host.entry(host.paths[0]), host.entry(host.paths[1], mode="0640")])
    first, second = answer["files"]
    assert (first["problem"]["reason"], second["problem"]) == ("path_is_directory", None)
    assert str(host.paths[0]) in first["problem"]["text"]
    assert (first["changed"], second["changed"]) == (False, True)
    assert answer["lacking"] == []


def test_an_inspection_does_not_ask_a_service_manager_for_longer_than_a_command_may_take(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(services, "runner", asked.append)
    monkeypatch.setattr(services, "lacking", lambda *dummy: [])
    for timeout in (5.0, 300.0):
        host.ask("inspect", timeout=timeout)
    assert asked == [5.0, phases.ASKING]


def test_an_inspection_without_the_live_key_tells_as_much(host: Host) -> None:
    answer = host.ask("inspect", live=None, account=None)
    assert [file["holds"] for file in answer["files"]] == [[OLD.fingerprint]] * 2


# --- prepare, ping --------------------------------------------------------------------------------


def test_preparing_opens_every_record_for_the_key_and_nothing_else(host: Host) -> None:
    answer = host.ask("prepare", live=OLD, retire=OLD.fingerprint)
    assert (answer["problems"], answer["changed"]) == ([], True)
    rotation = {"retire": OLD.fingerprint, "concluded": False}
    assert [kept and (kept["open"], kept["rotation"]) for kept in host.records()] == [(True, rotation)] * 2
    assert host.texts() == [written(OLD)] * 2


def test_what_cannot_be_prepared_is_a_problem_and_the_other_file_is_prepared_all_the_same(host: Host) -> None:
    host.paths[0].write_text("KEY=$(cat /key)\n")
    answer = host.ask("prepare", live=OLD, retire=OLD.fingerprint)
    assert [problem["reason"] for problem in answer["problems"]] == ["ambiguous"]
    assert [kept is not None for kept in host.records()] == [False, True]


def test_a_ping_is_answered_with_nothing(host: Host) -> None:
    before = host.snapshot()
    assert host.ask("ping") == {}
    assert (host.snapshot(), host.events) == (before, [])


# --- deploy ---------------------------------------------------------------------------------------


def test_a_deployment_writes_restarts_and_checks_in_this_order(host: Host) -> None:
    retires = {"key": OLD.fingerprint, "accepted": True}
    steps = dict(commands=[host.command("restart")], health=[host.command("check")], retires=retires)
    answer = host.ask("deploy", **steps)
    assert host.texts() == [written(NEW)] * 2
    assert (answer["changed"], answer["problems"]) == (True, [])
    assert [file["holds"] for file in answer["files"]] == [[NEW.fingerprint]] * 2
    assert [file["held"] for file in answer["files"]] == [[OLD.fingerprint]] * 2
    assert host.events == ["written", "restarted", "healthy"]
    assert host.log() == ["restart", "check"]
    for kept in host.records():
        assert kept is not None and kept["open"]
        assert (kept["held"], kept["since"], kept["account"]) == (NEW.fingerprint, SINCE, ACCOUNT)
        assert kept["retired"] == [{**retires, "seen": "unseen", "at": None}]


def test_what_is_started_sees_neither_credentials_nor_the_key_of_before(host: Host) -> None:
    names = [*phases.CREDENTIALS, "KEY"]
    seen = host.command(" ".join(f"'{name}='${name}" for name in names))
    answer = host.ask("deploy", commands=[seen], health=[seen], environment=["KEY"])
    assert answer["problems"] == []
    assert host.log() == [" ".join(f"{name}=" for name in names)] * 2
    os.environ.update(dict.fromkeys(names, "canary"))
    assert host.ask("inspect", health=[seen], environment=["KEY"])["lacking"] == []
    assert not set(names) & set(os.environ)


def test_of_files_that_are_up_to_date_nothing_is_restarted_but_health_is_checked(host: Host) -> None:
    steps = dict(commands=[host.command("restart")], health=[host.command("check")])
    host.ask("deploy", **steps)
    host.ask("close", **steps)
    answer = host.ask("deploy", **steps)
    assert (answer["changed"], host.events) == (False, ["written", "healthy"])
    assert host.log() == ["restart", "check", "check"]


def test_a_restart_that_is_due_in_one_file_is_made_for_all(host: Host) -> None:
    steps = dict(commands=[host.command("restart")])
    host.ask("deploy", **steps)
    host.ask("close", **steps)
    host.paths[1].write_text(written(OLD))
    host.ask("deploy", **steps)
    assert (host.events, host.log()) == (["written", "restarted"], ["restart"] * 2)


def test_t16_what_ran_on_another_host_that_shares_the_file_is_not_started_here(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is in reserve has stopped its app on purpose."""
    started: list[Any] = []
    monkeypatch.setattr(services, "restart", lambda *given: started.append(given[3]) or (True, []))
    monkeypatch.setattr(services, "refuse_ended", lambda wanted, run: None)

    def ask(phase: str, machine: str, *running: str, **fields: Any) -> None:
        monkeypatch.setattr(record, "this_machine", lambda: machine)
        monkeypatch.setattr(services, "running", lambda wanted, run: list(running))
        files = [host.entry(host.paths[0])]
        answer = host.ask(phase, services=[{"name": "app", "state": "restarted"}], files=files, **fields)
        assert answer["problems"] == []

    works, waits = "a" * 16, "b" * 16
    ask("prepare", works, "app", retire=OLD.fingerprint)
    ask("prepare", waits, retire=OLD.fingerprint)
    ask("deploy", waits)
    ask("deploy", works)
    assert started == [[], ["app"]]


HERE, RENAMED = "a" * 16, "a" * 8 + "c" * 8


@pytest.mark.parametrize(
    ("machine", "later"), [(HERE, ["app", "worker"]), (RENAMED, ["app"]), (RENAMED, ["worker", "app"]), (HERE, ["app"])]
)
def test_a_service_that_a_failed_restart_has_stopped_is_wanted_whatever_the_list_and_the_node_are_called_by_then(
    host: Host, monkeypatch: pytest.MonkeyPatch, machine: str, later: list[str]
) -> None:
    noted: list[Any] = []
    fails = [True]

    def restart(_services: Any, _commands: Any, _run: Any, ran: list[str], _may_lack: bool) -> tuple[bool, list[str]]:
        noted.append(ran)
        if fails.pop():
            raise services.StepFailed("restart_failed", "it has")
        return True, []

    monkeypatch.setattr(services, "restart", restart)
    monkeypatch.setattr(services, "refuse_ended", lambda *_given: None)

    def ask(phase: str, name: str, names: list[str], running: list[str]) -> Any:
        monkeypatch.setattr(record, "this_machine", lambda: name)
        monkeypatch.setattr(services, "running", lambda *_given: running)
        wanted = [{"name": each, "state": "restarted"} for each in names]
        return host.ask(phase, services=wanted, files=[host.entry(host.paths[0])], live=NEW)

    assert ask("deploy", HERE, ["app"], ["app"])["problems"] != []
    fails.append(False)
    assert ask("deploy", machine, later, [])["problems"] == []
    ask("close", machine, later, [])
    assert noted == [["app"], ["app"]]
    kept = host.records()[0]
    assert kept is not None and not kept["open"]
    # A clone, by what can be seen of it, does not take back what another has noted.
    assert (kept["running"] is None) == (machine == HERE)


def test_without_anything_to_restart_nothing_is_said_to_be(host: Host) -> None:
    answer = host.ask("deploy")
    assert (answer["changed"], host.events) == (True, ["written"])


def test_a_restart_alone_is_a_change(host: Host) -> None:
    host.ask("deploy")
    answer = host.ask("deploy", commands=[host.command("restart")])
    assert (answer["changed"], host.log()) == (True, ["restart"])


def test_a_file_that_fails_keeps_neither_the_others_from_the_key_nor_their_readers_from_a_restart(host: Host) -> None:
    host.paths[0].write_text("KEY=$(cat /key)\n")
    answer = host.ask("deploy", commands=[host.command("restart")])
    assert [problem["reason"] for problem in answer["problems"]] == ["ambiguous"]
    assert host.texts() == ["KEY=$(cat /key)\n", written(NEW)]
    assert (host.events, host.log()) == (["write_failed", "restarted"], ["restart"])
    host.paths[0].write_text(written(OLD))
    assert host.ask("deploy", commands=[host.command("restart")])["problems"] == []
    assert (host.events, host.log()) == (["written", "restarted"], ["restart"] * 2)


def test_a_file_that_fails_makes_no_restart_of_the_readers_of_the_others_at_each_run(host: Host) -> None:
    host.paths[0].write_text("KEY=$(cat /key)\n")
    steps = dict(commands=[host.command("restart")])
    assert host.ask("deploy", **steps)["steps_done"] is True
    assert [problem["reason"] for problem in host.ask("close", **steps)["problems"]] == ["ambiguous"]
    assert host.ask("deploy", **steps)["steps_done"] is True and host.log() == ["restart"]
    assert host.ask("deploy", commands=[["false"], ["new"]])["steps_done"] is False


@pytest.mark.parametrize("had_key", [False, True])
def test_a_unit_that_reads_a_first_key_may_be_installed_after_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, had_key: bool
) -> None:
    monkeypatch.setattr(services, "manager", lambda: "systemctl")
    monkeypatch.setattr(services, "unit_of", lambda name, run: {"LoadState": "not-found", "ActiveState": "inactive"})
    for path in host.paths:
        path.write_text(written(OLD) if had_key else "A=1\n")
    answer = host.ask("deploy", services=[{"name": "app", "state": "restarted"}])
    told = [problem["text"] for problem in answer["problems"]]
    assert (told, answer["left"]) == ((["its service app is not-found"], []) if had_key else ([], ["app"]))


@pytest.mark.parametrize("inspected", [False, True])
def test_t16_a_record_that_other_hosts_change_at_the_same_moment_is_read_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, inspected: bool
) -> None:
    """Each of those that share it notes its own, all at once; the change of the file is reported all the same."""
    replace, others = host_file.replace, iter(range(12))

    def meddle(content: Any, data: bytes, *more: Any) -> None:
        if content.path.endswith(".json") and next(others, None) is not None:
            kept = record.parse(content.data or b"") or record.NONE
            Path(content.path).write_bytes(
                record.serialize({**kept, "since": f"2026-01-01T00:00:0{next(others) % 9}Z"})
            )
        replace(content, data, *more)

    monkeypatch.setattr(host_file, "replace", meddle)
    files = [host.entry(host.paths[0], **({"inspected": [OLD.fingerprint]} if inspected else {}))]
    answer = host.ask("deploy", files=files)
    assert (answer["problems"], answer["changed"], host.texts()[0]) == ([], True, written(NEW))
    assert answer["files"][0]["held"] == [OLD.fingerprint]


def test_where_no_file_could_be_written_nothing_is_restarted(host: Host) -> None:
    for path in host.paths:
        path.write_text("KEY=$(cat /key)\n")
    assert len(host.ask("deploy", commands=[host.command("restart")])["problems"]) == 2
    assert (host.events, host.log()) == ([], [])


def test_readers_of_files_that_are_to_be_inspected_again_are_restarted_once(host: Host) -> None:
    files = [host.entry(path, inspected=[key.fingerprint]) for path, key in zip(host.paths, (NEW, OLD), strict=True)]
    answer = host.ask("deploy", commands=[host.command("restart")], files=files)
    assert [problem["reason"] for problem in answer["problems"]] == ["changed_meanwhile"]
    assert (host.events, host.log()) == ([], [])


def test_what_was_not_scanned_is_not_told(host: Host) -> None:
    """What the inspection saw of processes stands: also that some could not be read."""
    assert {"processes", "hidden"} & set(host.ask("deploy", health=[["true"]])) == {"processes", "hidden"}
    assert {"processes", "hidden"} & set(host.ask("close")) == set()


def test_processes_that_were_inspected_before_a_restart_which_failed_are_not_told_as_still_there(host: Host) -> None:
    """With the key that was live then; without a restart they are."""
    answer = host.ask("deploy", commands=[["false"]])
    assert ([problem["reason"] for problem in answer["problems"]], answer["processes"]) == (["restart_failed"], [])
    host.ask("deploy")
    host.ask("close")
    answer = host.ask("deploy", health=[["false"]])
    assert [problem["reason"] for problem in answer["problems"]] == ["unhealthy"] and "processes" not in answer


@pytest.mark.parametrize(
    ("steps", "reason", "events"),
    [
        (dict(commands=[["sh", "-c", "exit 3"]], health=[["true"]]), "restart_failed", ["written"]),
        (dict(commands=[["true"]], health=[["sh", "-c", "exit 3"]]), "unhealthy", ["written", "restarted"]),
        (dict(commands=[["absent-command"]]), "restart_failed", ["written"]),
        (dict(commands=[["sleep", "60"]], timeout=0.2), "restart_failed", ["written"]),
        (dict(services=[{"name": "absent", "state": "restarted"}]), "restart_failed", ["written"]),
    ],
)
def test_a_step_that_fails_is_a_problem_and_nothing_after_it_is_done(
    host: Host, steps: dict[str, Any], reason: str, events: list[str]
) -> None:
    answer = host.ask("deploy", **steps)
    assert [problem["reason"] for problem in answer["problems"]] == [reason]
    assert (host.events, answer["changed"]) == (events, True)
    assert host.texts() == [written(NEW)] * 2
    assert all(kept and kept["open"] for kept in host.records())


def test_a_failed_health_check_is_tried_again_as_often_as_it_may(host: Host) -> None:
    check = ["sh", "-c", f"echo check >> {host.folder}/log; exit 1"]
    assert host.ask("deploy", health=[check], retries=2, delay=0.01)["problems"][0]["reason"] == "unhealthy"
    assert host.log() == ["check"] * 3


def test_after_the_restart_for_a_process_with_the_old_key_all_is_checked_once_more(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was just started may fail, and may not have the key yet that it takes from elsewhere."""
    hit = {"key": OLD.fingerprint, "pid": 7, "command": "app", "place": "service", "unit": "app.service"}
    found, done = [[hit], [hit], []], []

    def noted(word: str, returns: Any = None) -> Callable[..., Any]:
        return lambda *_given: (done.append(word), returns() if callable(returns) else returns)[1]

    monkeypatch.setattr(phases.processes, "scan", noted("scan", lambda: (found.pop(0), False)))
    monkeypatch.setattr(services, "runs_now_and_then", lambda unit, run: False)
    monkeypatch.setattr(services, "restart", noted("restart", (True, [])))
    monkeypatch.setattr(services, "refuse_ended", noted("ended"))
    monkeypatch.setattr(services, "check_health", noted("health"))
    steps: dict[str, Any] = dict(services=[{"name": "app", "state": "restarted"}], health=[["true"]])
    answer = host.ask("deploy", retries=10, **steps)
    assert answer["problems"] == []
    assert done == ["restart", "ended", "health", "scan"] * 2 + ["scan"]
    assert host.events == ["written"] + ["restarted", "healthy"] * 2


@pytest.mark.parametrize(("place", "unit"), [("service", "redis-server.service"), ("user_service", "redis.service")])
def test_the_unit_of_a_process_with_the_old_key_is_restarted_by_whatever_name_it_is_configured(
    host: Host, monkeypatch: pytest.MonkeyPatch, place: str, unit: str
) -> None:
    """Once; and the unit of that name which a user's own systemd has is another one."""
    hit = {"key": OLD.fingerprint, "pid": 7, "command": "redis", "place": place, "unit": unit}
    restarted: list[str] = []
    monkeypatch.setattr(phases.processes, "scan", lambda *_given: ([] if len(restarted) > 1 else [hit], False))
    known = {"Id": "redis-server.service", "Names": "redis.service redis-server.service"}
    monkeypatch.setattr(services, "manager", lambda: "systemctl")
    monkeypatch.setattr(services, "unit_of", lambda name, run: known)
    monkeypatch.setattr(services, "running", lambda wanted, run: [])

    def restart(wanted: list[services.Service], *_given: Any) -> tuple[bool, list[str]]:
        restarted.extend(each["name"] for each in wanted)
        return True, []

    monkeypatch.setattr(services, "restart", restart)
    monkeypatch.setattr(services, "refuse_ended", lambda *_given: None)
    answer = host.ask("deploy", services=[{"name": "redis", "state": "restarted"}])
    if place == "service":
        assert (answer["problems"], restarted) == ([], ["redis", "redis-server.service"])
    else:
        assert [problem["reason"] for problem in answer["problems"]] == ["process_out_of_date"]
        assert restarted == ["redis"]


def test_a_restart_for_nothing_but_a_process_with_the_old_key_is_a_change(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was to be written, and nothing else to be restarted."""
    steps: dict[str, Any] = dict(services=[{"name": "app", "state": "restarted"}], retries=10)
    hit = {"key": OLD.fingerprint, "pid": 7, "command": "app", "place": "service", "unit": "app.service"}
    monkeypatch.setattr(services, "runs_now_and_then", lambda unit, run: False)
    monkeypatch.setattr(services, "restart", lambda *_given: (True, []))
    monkeypatch.setattr(services, "refuse_ended", lambda *_given: None)
    found: list[Any] = [[], [hit], []]
    monkeypatch.setattr(phases.processes, "scan", lambda *_given: (found.pop(0), False))
    host.ask("deploy", **steps)
    host.ask("close", **steps)
    seen = dict(key=OLD.fingerprint, seen="unseen", at=None, accepted=True, updated_at=None)
    host.ask("conclude", seen=seen, **steps)
    answer = host.ask("deploy", **steps)
    assert (found, answer["problems"]) == ([], [])
    assert answer["changed"] is True


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_process_is_blamed_for_the_key_that_a_file_of_nothing_else_held_whatever_lines_are_behind_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    hit = {"key": OLD.fingerprint, "pid": 7, "command": "app", "place": "service", "unit": "app.service"}
    monkeypatch.setattr(services, "runs_now_and_then", lambda unit, run: False)
    monkeypatch.setattr(phases.processes, "scan", lambda keys, _ignored: ([hit] if hit["key"] in keys else [], False))
    host.paths[0].write_text(f"{OLD.reveal()}{end}")
    answer = host.ask("deploy", files=[host.entry(host.paths[0], variable=None, format="key")], retries=0)
    assert host.texts()[0] == f"{NEW.reveal()}{end[:1]}"
    assert [problem["reason"] for problem in answer["problems"]] == ["process_out_of_date"]


@pytest.mark.parametrize(
    ("account", "blamed"), [("f" * 16, False), (ACCOUNT, True), (None, True)], ids=["of another", "of this", "nobody's"]
)
def test_a_file_that_is_a_copy_of_another_accounts_blames_no_process_for_the_key_of_that(
    host: Host, monkeypatch: pytest.MonkeyPatch, account: Optional[str], blamed: bool
) -> None:
    """Whose key it is, the record of the other file says: that may be a copy of this one, too."""
    hit = {"key": OLD.fingerprint, "pid": 7, "command": "erp", "place": "service", "unit": "erp.service"}
    monkeypatch.setattr(services, "runs_now_and_then", lambda unit, run: False)
    monkeypatch.setattr(phases.processes, "scan", lambda keys, _ignored: ([hit] if hit["key"] in keys else [], False))
    kept = record.wrote(record.NONE, OLD.fingerprint, None, SINCE, account)
    (host.folder / ".erp.KEY.multicart.json").write_bytes(record.serialize(kept))
    foreign = [[str(host.folder / name), "KEY"] for name in ("erp", "absent", "absent/too")]
    told = host.ask("inspect", foreign=foreign)["processes"]
    answer = host.ask("deploy", foreign=foreign, retries=0)
    assert ([each["command"] for each in told], host.texts()) == (["erp"] * blamed, [written(NEW)] * 2)
    assert [problem["reason"] for problem in answer["problems"]] == ["process_out_of_date"] * blamed


@pytest.mark.parametrize("account", [ACCOUNT, "f" * 16, None])
def test_a_file_of_this_account_under_the_name_of_another_is_told_before_a_rotation(
    host: Host, account: Optional[str]
) -> None:
    kept = record.wrote(record.NONE, OLD.fingerprint, None, SINCE, account)
    (host.folder / ".erp.KEY.multicart.json").write_bytes(record.serialize(kept))
    told = host.ask("inspect", foreign=[[str(host.folder / "erp"), "KEY"]], account=ACCOUNT)["lacking"]
    assert len(told) == (account == ACCOUNT)
    assert all(f"path {host.folder}/erp has a key of this account, by its record" in one for one in told)


def test_a_file_that_holds_another_key_than_was_inspected_is_left_alone(host: Host) -> None:
    """S7: another run may have written a newer key meanwhile."""
    host.paths[1].write_text(written(OTHER))
    files = [host.entry(path, inspected=[OLD.fingerprint]) for path in host.paths]
    answer = host.ask("deploy", files=files, commands=[host.command("restart")])
    assert [problem["reason"] for problem in answer["problems"]] == ["changed_meanwhile"]
    assert (host.texts(), host.log()) == ([written(NEW), written(OTHER)], [])


@pytest.mark.parametrize("inspected", [None, [OLD.fingerprint]])
@pytest.mark.parametrize("times", [1, 4, 5])
def test_a_file_that_is_changed_at_the_same_moment_is_read_again_unless_it_was_inspected(
    host: Host, monkeypatch: pytest.MonkeyPatch, inspected: Optional[list[str]], times: int
) -> None:
    attempts: list[str] = []
    replace: Callable[..., None] = host_file.replace

    def meddled_with(content: Any, *more: Any) -> None:
        if content.path == str(host.paths[0]):
            attempts.append(content.path)
            if len(attempts) <= times:
                raise HostFileError("changed_meanwhile", content.path)
        replace(content, *more)

    monkeypatch.setattr(host_file, "replace", meddled_with)
    answer = host.ask("deploy", files=[host.entry(host.paths[0], inspected=inspected)])
    fails = times >= phases.ATTEMPTS or inspected is not None
    assert [problem["reason"] for problem in answer["problems"]] == (["changed_meanwhile"] if fails else [])
    assert host.texts()[0] == written(OLD if fails else NEW)
    assert len(attempts) == (1 if inspected else min(times + 1, phases.ATTEMPTS))


def test_in_a_rotation_a_file_that_is_changed_again_and_again_keeps_no_reader_of_another_one_from_its_key(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace: Callable[..., None] = host_file.replace

    def meddled_with(content: Any, *more: Any) -> None:
        if content.path == str(host.paths[0]):
            raise HostFileError("changed_meanwhile", content.path)
        replace(content, *more)

    monkeypatch.setattr(host_file, "replace", meddled_with)
    answer = host.ask("deploy", commands=[host.command("restart")])
    assert [problem["reason"] for problem in answer["problems"]] == ["changed_meanwhile"]
    assert (host.texts(), host.log()) == ([written(OLD), written(NEW)], ["restart"])


def test_another_account_is_a_problem_of_the_file(host: Host) -> None:
    host.ask("deploy")
    answer = host.ask("deploy", account="b" * 16, key=OTHER.reveal())
    assert [problem["reason"] for problem in answer["problems"]] == ["other_account"] * 2
    assert host.texts() == [written(NEW)] * 2


def test_a_template_is_written_as_the_control_node_has_rendered_it(host: Host) -> None:
    content = f"key: {NEW.reveal()}\n"
    entry = host.entry(host.paths[0], variable=None, content=content, digest=record.digest_of(content.encode()))
    assert host.ask("inspect", files=[{**entry, "content": None}])["files"][0]["unknown"]
    answer = host.ask("deploy", files=[entry])
    assert (answer["files"][0]["holds"], host.texts()[0]) == ([NEW.fingerprint], content)


@pytest.mark.parametrize("key", ["not a key", "acme.two\nlines", "", None])
def test_what_is_no_key_is_written_nowhere(host: Host, key: Any) -> None:
    before = host.snapshot()
    answer = host.ask("deploy", key=key)
    assert (answer["changed"], answer["problems"][0]["reason"]) == (False, "internal_error")
    assert "NotAKey" in answer["problems"][0]["text"]
    assert host.snapshot() == before


# --- close, conclude ------------------------------------------------------------------------------


def test_closing_and_concluding_end_every_record(host: Host) -> None:
    host.ask("prepare", live=OLD, retire=OLD.fingerprint)
    host.ask("deploy")
    answer = host.ask("close")
    assert answer["problems"] == [] and not any(file["restart_due"] for file in answer["files"])
    assert [kept and kept["open"] for kept in host.records()] == [False] * 2
    seen = {"key": OLD.fingerprint, "seen": "rejected", "at": SINCE, "accepted": True}
    assert host.ask("conclude", seen={**seen, "updated_at": [SINCE, SINCE]})["problems"] == []
    for kept in host.records():
        assert kept and kept["rotation"]["concluded"] and kept["retired"] == [seen]
        assert kept["updated_at"] == [SINCE, SINCE]


def test_closing_leaves_open_what_does_not_hold_the_live_key(host: Host) -> None:
    host.ask("deploy")
    host.paths[1].write_text(written(OTHER))
    host.ask("close")
    assert [kept and kept["open"] for kept in host.records()] == [False, True]


# --- paths ----------------------------------------------------------------------------------------


def test_paths_are_those_that_a_module_would_use(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(host.folder))
    monkeypatch.setenv("PLACE", "one")
    (host.folder / "state").mkdir()
    answer = host.ask("deploy", files=[host.entry("~/$PLACE"), host.entry("$HOME/two")], state_dir="~/state")
    assert [file["path"] for file in answer["files"]] == [str(path) for path in host.paths]
    assert len(list((host.folder / "state").iterdir())) == 2
    assert host.texts() == [written(NEW)] * 2


# --- check mode, and what nobody expected ---------------------------------------------------------


@pytest.mark.parametrize("before", [[], ["prepare"], ["deploy"]])
@pytest.mark.parametrize("phase", ["inspect", "prepare", "ping", "deploy", "close", "conclude"])
def test_check_mode_changes_nothing_and_runs_nothing(host: Host, before: list[str], phase: str) -> None:
    fields = dict(retire=OLD.fingerprint, seen={"key": OLD.fingerprint, "seen": "unseen", "at": None, "accepted": True})
    fields["seen"]["updated_at"] = None
    for earlier in before:
        host.ask(earlier, **fields)
    untouched = host.snapshot()
    steps = dict(commands=[host.command("restart")], health=[host.command("check")])
    answer = host.ask(phase, check_mode=True, **fields, **steps)
    assert host.snapshot() == untouched
    assert host.events == []
    if phase == "deploy":
        assert answer["changed"] == (before != ["deploy"])
        assert [file["holds"] for file in answer["files"]] == [[NEW.fingerprint]] * 2


@pytest.mark.parametrize("phase", ["inspect", "prepare", "deploy", "close", "conclude"])
def test_an_unexpected_error_shows_its_type_and_place_only(
    host: Host, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    def broken(*dummy: Any) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(phases, "KeyFile", broken)
    answer = host.ask(phase)
    assert answer["files"] == answer["lacking"] == [] and answer["changed"] is False
    (problem,) = answer["problems"]
    assert problem["reason"] == "internal_error"
    place, line = problem["text"].rsplit(":", 1)
    assert (place, line.isdigit()) == ("unexpected ZeroDivisionError at broken", True)


@pytest.mark.parametrize("phase", ["", "canary", "__class__", None])
def test_an_unknown_phase_does_nothing(host: Host, phase: Any) -> None:
    """S9: what is not one of the phases is never taken for done."""
    before = host.snapshot()
    answer = host.ask(phase)
    assert answer["problems"][0]["reason"] == "internal_error"
    assert "KeyError" in answer["problems"][0]["text"]
    assert host.snapshot() == before


# --- the conversation -----------------------------------------------------------------------------


@pytest.fixture(name="serve")
def fixture_serve(host: Host) -> Iterator[Callable[..., list[tuple[str, dict[str, Any]]]]]:
    handler = signal.getsignal(signal.SIGALRM)

    def serve(*requests: Any, sink: Any = None) -> list[tuple[str, dict[str, Any]]]:
        lines = [request if isinstance(request, bytes) else line_of(host, **request) for request in requests]
        output = io.BytesIO() if sink is None else sink
        phases.serve(io.BytesIO(b"".join(lines)), output)
        assert signal.setitimer(signal.ITIMER_REAL, 0) == (0.0, 0.0)
        said = [] if sink is not None else output.getvalue().decode("ascii").splitlines()
        return [(line.split(" ", 1)[0], json.loads(line.split(" ", 1)[1])) for line in said]

    yield serve
    signal.signal(signal.SIGALRM, handler)


def line_of(host: Host, phase: str, tag: str = "t", wait: float = 5.0, **fields: Any) -> bytes:
    files = [host.entry(path) for path in host.paths]
    more = {"key": NEW.reveal(), "since": SINCE} if phase == "deploy" else {}
    request = {"phase": phase, "tag": tag, "wait": wait, "files": files, "live": NEW.fingerprint, **more, **fields}
    return json.dumps(request).encode("ascii") + b"\n"


Serve = Callable[..., list[tuple[str, dict[str, Any]]]]


def test_requests_are_answered_one_after_another_until_the_input_ends(host: Host, serve: Serve) -> None:
    began = phases._now()
    said = serve(
        {"phase": "inspect", "tag": "a"},
        {"phase": "prepare", "tag": "b", "retire": OLD.fingerprint},
        {"phase": "ping", "tag": "c"},
        {"phase": "deploy", "tag": "d", "commands": [["true"]], "health": [["true"]]},
        {"phase": "close", "tag": "e"},
        {"phase": "conclude", "tag": "f"},
    )
    assert [tag for tag, _answer in said] == ["a", "b", "c", "d", "d", "d", "d", "e", "f"]
    events = [answer.get("event") for _tag, answer in said]
    assert events == [None, None, None, "written", "restarted", "healthy", None, None, None]
    moments = [answer["at"] for _tag, answer in said]
    assert moments == sorted(moments) and began <= moments[0] and moments[-1] <= phases._now()
    assert all(isinstance(moment, float) for moment in moments)
    assert host.texts() == [written(NEW)] * 2


def test_a_request_holds_all_it_needs_so_that_each_may_be_the_first(host: Host, serve: Serve) -> None:
    for phase in ("prepare", "deploy", "close", "conclude"):
        ((_tag, *_events), *_more) = serve({"phase": phase, "retire": OLD.fingerprint})
    assert [kept and kept["open"] for kept in host.records()] == [False] * 2
    assert host.texts() == [written(NEW)] * 2


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_the_end_of_the_input_and_a_request_that_is_cut_short_change_nothing(
    host: Host, serve: Serve, cut: int
) -> None:
    before = host.snapshot()
    assert serve(line_of(host, "deploy")[:cut]) == []
    assert host.snapshot() == before


@pytest.mark.parametrize(("late", "done"), [(-0.5, False), (60.0, True), (None, True)])
def test_a_request_that_was_meant_for_an_earlier_time_changes_nothing(
    host: Host, serve: Serve, late: Optional[float], done: bool
) -> None:
    before = host.snapshot()
    expires = None if late is None else phases._now() + late
    said = serve({"phase": "deploy", "expires": expires}, {"phase": "ping"})
    assert bool(said) is done
    assert (host.snapshot() != before) is done


def test_a_time_that_a_suspended_machine_has_not_counted_is_over(
    host: Host, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = host.snapshot()
    moments = iter([0.0, 60.5])
    monkeypatch.setattr(phases, "_now", lambda: next(moments))
    assert serve(line_of(host, "deploy")) == []
    assert host.snapshot() == before


def test_the_next_request_must_come_as_soon_as_the_last_one_said(
    host: Host, monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    waits: list[float] = []
    real = phases._line_in_time
    monkeypatch.setattr(phases, "_line_in_time", lambda source, seconds: waits.append(seconds) or real(source, seconds))
    serve({"phase": "ping", "wait": 7.0}, {"phase": "ping", "wait": 300.0})
    assert waits == [60.0, 7.0, 300.0]


class Gone(io.BytesIO):
    """An output that nobody reads any more."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, _data: Any) -> int:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed")])
def test_what_was_begun_is_finished_though_nobody_listens_any_more(host: Host, serve: Serve, error: Exception) -> None:
    serve({"phase": "deploy", "commands": [host.command("restart")]}, sink=Gone(error))
    assert (host.texts(), host.log()) == ([written(NEW)] * 2, ["restart"])


def test_the_clock_goes_on_while_the_machine_sleeps_where_there_is_such_a_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= phases._now() <= time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(phases, "_BOOTTIME", None)  # as before Python 3.7
    before = time.monotonic()
    assert before <= phases._now() <= time.monotonic()
