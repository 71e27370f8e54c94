# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics of all accounts in one file, hooks that may do anything, the system log; nothing of it fails a run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import syslog
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import State
from ansible_collections.multicart.keys.plugins.plugin_utils._locks import hold
from ansible_collections.multicart.keys.plugins.plugin_utils._options import CONNECTION, MONITORING, resolve
from ansible_collections.multicart.keys.plugins.plugin_utils._report import hooks, metrics, monitoring
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report, joined, report_from
from ansible_collections.multicart.keys.plugins.plugin_utils._report.hooks import NotAHook, hooks_of
from ansible_collections.multicart.keys.plugins.plugin_utils._report.metrics import ForeignMetrics, merged
from ansible_collections.multicart.keys.plugins.plugin_utils._report.monitoring import Monitoring, log_record, write_all
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.plugins.plugin_utils.runs import DONE, NEW, OLD, START, host, told_of, unhealthy, unreachable
from tests.waiting import eventually, is_gone

ROTATED = told_of({"web1": host(1.0, restarted=2.5), "web2": host(0.5)}, key_since=START)
FOUND = ActResult(live=DONE.live)
AUDITED = replace(told_of({"web1": host()}, FOUND), run="audit", key_since=START)
DRIFTED = replace(told_of({"web1": host(), "web2": unreachable()}, FOUND), run="audit")
NOT_BEGUN = told_of({}, ActResult(error=MulticartError(Reason.UNREACHABLE, "No answer.")))


def values(content: bytes) -> dict[str, float]:
    """Return the metrics of a file, each as name and labels."""
    families = text_string_to_metric_families(content.decode())
    return {
        " ".join([sample.name, *(sample.labels[name] for name in metrics.METRICS[sample.name][1])]): sample.value
        for family in families
        for sample in family.samples
    }


def told_by(**variables: Any) -> Monitoring:
    """Return the monitoring with these variables, which adds what it warns of to `warned`."""
    warned.clear()
    given = {f"multicart_report_{name}": value for name, value in variables.items()}
    options = resolve((*CONNECTION, *MONITORING), {}, given, lambda value: value, {"MULTICART_SESSION_TOKEN": "canary"})
    return Monitoring(options, warned.append)


warned: list[str] = []


# --- metrics --------------------------------------------------------------------------------------


def test_a_rotation_is_told_in_metrics() -> None:
    found = values(merged(ROTATED, b""))
    made = ROTATED.made_at.timestamp()
    counts = {f"multicart_consumers default {state}": 0 for state in (*(each.value for each in State), "unknown")}
    assert found == {
        **counts,
        "multicart_consumers default up_to_date": 2,
        "multicart_key_since_timestamp_seconds default": START.timestamp(),
        "multicart_last_outage_seconds default": 2.5,
        "multicart_last_success_timestamp_seconds default rotate": made,
    }


def test_what_a_run_has_not_learnt_stays() -> None:
    first = merged(ROTATED, b"")
    later = values(merged(DRIFTED, first))
    before = values(first)
    assert later["multicart_consumers default unreachable"] == later["multicart_consumers default up_to_date"] == 1
    assert "multicart_key_since_timestamp_seconds default" not in later, "of another key"
    for name in ("last_outage_seconds default", "last_success_timestamp_seconds default rotate"):
        assert later[f"multicart_{name}"] == before[f"multicart_{name}"]
    assert not any(name.endswith("default audit") for name in later)
    assert values(merged(AUDITED, first))["multicart_last_success_timestamp_seconds default audit"]
    assert values(merged(NOT_BEGUN, first)) == before


def test_without_the_live_key_it_is_not_known_how_consumers_stand() -> None:
    lost = told_of({"web1": host(), "web2": unreachable()}, ActResult(error=MulticartError(Reason.UNREACHABLE, "No.")))
    found = values(merged(lost, merged(ROTATED, b"")))
    assert {name: value for name, value in found.items() if "consumers" in name and value} == {
        "multicart_consumers default unknown": 2
    }
    assert found["multicart_key_since_timestamp_seconds default"] == START.timestamp()


def test_an_outage_that_goes_on_is_no_number() -> None:
    sick = told_of({"web1": unhealthy(1.0)})
    assert "multicart_last_outage_seconds default" not in values(merged(sick, merged(ROTATED, b"")))


@settings(max_examples=25)
@given(st.lists(st.text(max_size=8), min_size=2, max_size=4, unique=True))
def test_accounts_of_any_name_keep_their_metrics(names: list[str]) -> None:
    content = b""
    for name in names:
        content = merged(replace(ROTATED, account=name), content)
    again = merged(replace(ROTATED, account=names[0]), content)
    assert again == content
    assert {key[1][0] for key in metrics._read(content)} == set(names)


@pytest.mark.parametrize(
    "content",
    [
        b"node_load1 0.5\n",
        b"multicart_consumers 7\n",
        b"{}\n",
        b"\xff",
        b"no metrics\n",
        b"a{",
        b'a{b="c"} d\n',
        b"# my own notes\n",
        b'multicart_consumers{account="a",state="missing",site="b"} 1\n',
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.prom"
    path.write_bytes(content)
    with pytest.raises(ForeignMetrics):
        merged(ROTATED, content)
    told_by(metrics=str(path)).tell(ROTATED)
    assert path.read_bytes() == content
    assert warned == [
        f"The metrics were not written to {path}: it holds other things than metrics of this collection. Name another "
        "file."
    ]


def test_the_file_is_whole_and_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    before = os.umask(0o077)
    try:
        told_by(metrics=str(path)).tell(ROTATED)
    finally:
        os.umask(before)
    assert values(path.read_bytes()) == values(merged(ROTATED, b""))
    assert (stat.S_IMODE(path.stat().st_mode), list(tmp_path.iterdir()), warned) == (0o644, [path], [])


def test_a_part_of_the_fleet_writes_no_metrics(tmp_path: Path) -> None:
    told_by(metrics=str(tmp_path / "x.prom")).tell(replace(ROTATED, whole=False))
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_a_pipe_are_replaced_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    for name, make in (("link", lambda path: path.symlink_to(elsewhere)), ("pipe", os.mkfifo)):
        path = tmp_path / f"{name}.prom"
        make(path)
        told_by(metrics=str(path)).tell(ROTATED)
        assert values(path.read_bytes()) and not path.is_symlink(), warned
    assert elsewhere.read_text() == ""


def test_a_pipe_that_somebody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    told_by(metrics=str(path)).tell(ROTATED)
    os.close(pipe)
    assert path.is_file(), warned


def test_no_other_file_is_opened_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of the directory puts a link there at the worst moment, after each step."""
    private, folder = tmp_path / "private", tmp_path / "collector"
    private.touch(0o600)
    folder.mkdir()

    def swapped(act: Any) -> Any:
        def acting(*given: Any, **options: Any) -> Any:
            for draft in folder.iterdir():
                draft.unlink()
                draft.symlink_to(private)
            return act(*given, **options)

        return acting

    monkeypatch.setattr(os, "fchmod", swapped(os.fchmod))
    monkeypatch.setattr(os, "chmod", swapped(os.chmod))
    monkeypatch.setattr(Path, "chmod", swapped(Path.chmod))
    told_by(metrics=str(folder / "x.prom")).tell(ROTATED)
    assert (stat.S_IMODE(private.stat().st_mode), private.read_bytes()) == (0o600, b"")


def _full(*_given: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.prom"
    told_by(metrics=str(path)).tell(ROTATED)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fchmod", _full)
    told_by(metrics=str(path)).tell(AUDITED)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])
    assert warned == [f"The metrics were not written to {path}: No space left on device."]


def test_another_run_is_waited_for_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "WAITING", 0.01)
    lock = os.open(tmp_path, os.O_RDONLY)
    hold(lock, 0)
    asked = told_by(metrics=str(tmp_path / "x.prom"))
    asked.tell(ROTATED)
    assert warned == [f"The metrics were not written to {tmp_path / 'x.prom'}: other runs keep its directory locked."]
    os.close(lock)
    asked.tell(ROTATED)
    assert (tmp_path / "x.prom").exists()


# --- hooks ----------------------------------------------------------------------------------------

CAT = {"command": ["sh", "-c", "cat > $HOME/told"], "events": ["change"]}


@pytest.mark.parametrize(
    ("report", "events"),
    [
        (ROTATED, ["change"]),
        (told_of({"web1": unhealthy(1.0)}), ["change", "failure"]),
        (AUDITED, []),
        (DRIFTED, ["drift"]),
        (NOT_BEGUN, ["failure"]),
        (replace(NOT_BEGUN, run="audit"), ["failure"]),
    ],
)
def test_which_events_a_run_was(report: Report, events: list[str]) -> None:
    assert report.events == report.to_json()["events"] == events
    assert report_from(report.to_json()).events == events


def test_a_hook_is_given_the_report_and_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MULTICART_SESSION_TOKEN", "canary")
    monkeypatch.setenv("VAULT_TOKEN", "canary")
    shown = {"command": ["sh", "-c", "env > $HOME/env; pwd; echo noise >&2"], "events": ["change", "failure"]}
    told_by(hooks=[CAT, shown]).tell(ROTATED)
    assert json.loads((tmp_path / "told").read_text()) == ROTATED.to_json()
    assert "canary" not in (tmp_path / "env").read_text()
    assert "PATH=" in (tmp_path / "env").read_text()
    (tmp_path / "told").unlink()
    told_by(hooks=[CAT]).tell(NOT_BEGUN)
    assert not (tmp_path / "told").exists() and warned == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "exit status -9"),
        ("cat; sleep 1000 & sleep 1000", "it did not end within 0.3 s, and was killed"),
        ("trap '' TERM HUP INT; exec sleep 1000", "it did not end within 0.3 s, and was killed"),
        ("exec yes", "it did not end within 0.3 s, and was killed"),
    ],
)
def test_a_hook_that_fails_is_a_warning_and_keeps_no_other_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, why: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if "0.3" in why:
        monkeypatch.setattr(hooks, "LIMIT", 0.3)
        told_by(hooks=[{**CAT, "command": ["sh", "-c", command]}]).tell(ROTATED)
        monkeypatch.undo()
        monkeypatch.setenv("HOME", str(tmp_path))
        first = list(warned)
        told_by(hooks=[CAT]).tell(ROTATED)
    else:
        told_by(hooks=[{**CAT, "command": ["sh", "-c", command]}, CAT]).tell(ROTATED)
        first = list(warned)
    assert first == [f"A hook failed, entry 1 (sh) of multicart_report_hooks: {why}."]
    assert json.loads((tmp_path / "told").read_text())


def test_a_hook_that_reads_nothing_of_a_long_report_is_no_failure() -> None:
    long = replace(ROTATED, message="x" * 10**6)
    told_by(hooks=[{"command": ["true"], "events": ["change"]}]).tell(long)
    assert warned == []


def test_nothing_that_a_hook_has_started_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    background = "sleep 1000 & echo $! > $HOME/pid"
    told_by(hooks=[{"command": ["sh", "-c", background], "events": ["change"]}]).tell(ROTATED)
    pid = int((tmp_path / "pid").read_text())
    assert eventually(lambda: is_gone(pid))
    assert warned == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_hook_does_not_outlive_a_run_that_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = told_by(hooks=[{"command": ["sh", "-c", "echo $$ > $HOME/pid; exec sleep 1000"], "events": ["change"]}])

    def act() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have had it ignored
        # As a worker of Ansible does.
        signal.signal(signal.SIGTERM, lambda *_given: os._exit(7))
        asked.tell(ROTATED)

    run = multiprocessing.get_context("fork").Process(target=act)
    run.start()
    pid = tmp_path / "pid"
    assert eventually(lambda: pid.exists() and pid.read_text().endswith("\n"))
    os.kill(run.pid or 0, number)
    run.join(30)
    assert run.exitcode == (7 if number is signal.SIGTERM else -number)
    assert eventually(lambda: is_gone(int(pid.read_text())))


def test_a_hook_that_is_gone_when_its_turn_comes_is_a_warning(tmp_path: Path) -> None:
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asked = told_by(hooks=[{"command": [str(program)], "events": ["change"]}])
    program.unlink()
    asked.tell(ROTATED)
    assert warned == [
        "A hook failed, entry 1 (hook) of multicart_report_hooks: it cannot be run (No such file or directory)."
    ]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("true", "needs command and events, and nothing else, in entry 2"),
        ({"command": ["true"]}, "needs command and events"),
        ({"command": ["true"], True: ["change"]}, "needs command and events"),
        ({**CAT, "timeout": 5}, "needs command and events, and nothing else"),
        (
            {**CAT, "command": "true --all"},
            "needs a list of texts, the program and its arguments, as the command of entry 2",
        ),
        ({**CAT, "command": []}, "needs a list of texts"),
        ({**CAT, "command": ["sleep", 5]}, "needs a list of texts"),
        ({**CAT, "events": "change"}, "needs a list of some of change, failure, drift as the events of entry 2"),
        ({**CAT, "events": []}, "needs a list of some of"),
        ({**CAT, "events": ["success"]}, "needs a list of some of"),
        ({**CAT, "events": [["change"]]}, "needs a list of some of"),
        ({**CAT, "command": ["true", "--token=canary"]}, "has a credential in the command of entry 2"),
        ({**CAT, "command": ["no-such-program"]}, "names a program in entry 2 that is missing on this machine"),
        ({**CAT, "command": ["/etc/passwd"]}, "names a program in entry 2 that is missing on this machine"),
        ({**CAT, "command": [""]}, "names a program in entry 2 that is missing on this machine"),
        ({**CAT, "command": ["a\0b"]}, "names a program in entry 2 that is missing on this machine"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named_and_not_repeated(entry: Any, told: str) -> None:
    with pytest.raises(NotAHook) as caught:
        hooks_of([CAT, entry], ["canary"])
    assert str(caught.value).startswith(told)
    with pytest.raises(MulticartError) as refused:
        told_by(hooks=[CAT, entry])
    assert refused.value.reason is Reason.INVALID_OPTION
    assert str(refused.value).startswith("The variable multicart_report_hooks ")
    assert "canary" not in str(refused.value)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"metrics": "/x/metrics.txt"}, "The variable multicart_report_metrics must end in .prom"),
        ({"metrics": ["/x.prom"]}, "The variable multicart_report_metrics must be a single value"),
        ({"hooks": {"command": ["true"]}}, "The variable multicart_report_hooks must be a list"),
        ({"hooks": "true"}, "The variable multicart_report_hooks must be a list"),
        ({"syslog": "perhaps"}, "The variable multicart_report_syslog must be true or false"),
    ],
)
def test_what_is_wrong_with_the_variables_is_refused(variables: Mapping[str, Any], told: str) -> None:
    with pytest.raises(MulticartError) as caught:
        told_by(**variables)
    assert caught.value.reason is Reason.INVALID_OPTION and str(caught.value).startswith(told)


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "find_spec", lambda name: None)
    assert not told_by().tells_of_deployments
    with pytest.raises(MulticartError) as caught:
        told_by(metrics="/x.prom")
    assert caught.value.reason is Reason.PROMETHEUS_CLIENT_MISSING
    assert "-m pip install prometheus_client" in str(caught.value)


def test_whatever_goes_wrong_afterwards_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def spoilt(*_given: object) -> bytes:
        raise ValueError("canary")

    monkeypatch.setattr(monitoring, "merged", spoilt)
    told_by(metrics=str(tmp_path / "x.prom")).tell(ROTATED)
    assert warned == [f"The metrics were not written to {tmp_path / 'x.prom'}: ValueError."]


# --- the log of the system ------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, text: lines.append((priority, text)))
    monkeypatch.setattr(monitoring, "LOG_SOCKETS", (str(tmp_path),))
    return lines


def test_each_rotation_is_logged_and_nothing_else(log: list[tuple[int, str]]) -> None:
    asked = told_by(syslog=True)
    for report in (AUDITED, DRIFTED, NOT_BEGUN, replace(ROTATED, outcome="unchanged")):
        asked.tell(report)
    assert log == []
    asked.tell(ROTATED)
    asked.tell(told_of({"web1": unhealthy(1.0)}))
    keys = f'old_key="{OLD.fingerprint}" new_key="{NEW.fingerprint}"'
    assert log == [
        (syslog.LOG_NOTICE, f'account="default" outcome="rotated" reason=null {keys} consumers=2 unfinished=0'),
        (
            syslog.LOG_WARNING,
            f'account="default" outcome="rotated" reason="not_up_to_date" {keys} consumers=1 unfinished=1',
        ),
    ]
    assert warned == []
    told_by().tell(ROTATED)
    assert len(log) == 2


@given(st.text())
def test_a_line_of_the_log_is_one_line(account: str) -> None:
    line = log_record(replace(ROTATED, account=account))
    assert line.isprintable() and "\0" not in line


def test_a_machine_without_a_log_is_told(log: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "LOG_SOCKETS", ("/no/such/socket",))
    told_by(syslog=True).tell(ROTATED)
    assert warned == ["The rotation was not logged: no system log listens here (/no/such/socket)."]


def test_a_log_that_is_stuck_is_not_waited_for_without_end(
    log: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the real one is when its daemon was stopped and its queue is full."""
    goes_on = threading.Event()
    monkeypatch.setattr(syslog, "syslog", lambda *given: goes_on.wait(10))
    monkeypatch.setattr(monitoring, "LOGGING", 0.05)
    told_by(syslog=True).tell(ROTATED)
    goes_on.set()
    assert warned == ["The rotation was not logged: the system log took nothing for 0.05 s."]


# --- deployments, host by host --------------------------------------------------------------------


def deployed(name: str, how: Any, **fields: Any) -> Report:
    return replace(told_of({name: how}, FOUND), run="deploy", **fields)


def test_the_deployments_to_single_hosts_make_one_report() -> None:
    good, sick, empty = (
        deployed("web1", host()),
        deployed("web2", unreachable()),
        replace(told_of({}, ActResult()), run="deploy"),
    )
    found = joined([good, empty, deployed("web3", host())])
    assert ([line.name for line in found.lines], found.reason, found.finish) == (["web1", "web3"], None, None)
    found = joined([empty, good, sick])
    assert [line.name for line in found.lines] == ["web2", "web1"]
    assert (found.reason, found.message) == ("not_up_to_date", "1 of 2 consumers are not up to date.")
    assert (found.run, found.new_key) == ("deploy", good.new_key)
    assert found.finish is not None and "--limit web2" in found.finish


def test_why_a_deployment_failed_as_a_whole_is_told() -> None:
    lost = told_of({"web1": unreachable()}, ActResult(error=MulticartError(Reason.UNREACHABLE, "No answer.", "Ask.")))
    found = joined([deployed("web2", host()), lost])
    assert (found.reason, found.message) == ("unreachable", "No answer. Ask.")


def test_since_when_a_key_is_live_is_what_two_hosts_confirm() -> None:
    ages = [deployed(f"web{age}", host(), key_since=START - timedelta(days=age)) for age in (1, 9, 5)]
    assert joined(ages).key_since == START - timedelta(days=5)
    assert joined(ages[:2]).key_since == START - timedelta(days=9)
    assert joined([deployed("web1", host())]).key_since is None


# --- files ----------------------------------------------------------------------------------------


def test_what_a_run_that_was_killed_has_left_keeps_none_from_writing(tmp_path: Path) -> None:
    """In a container, the next run may have the same process id."""
    path = tmp_path / "multicart.prom"
    path.with_name(f".{path.name}.{os.getpid()}").touch()
    write_all({path: b"1"})
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("names", [("good", "missing/bad"), ("missing/bad", "good")])
def test_all_files_are_written_or_none(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(FileNotFoundError):
        write_all({tmp_path / name: b"1" for name in names})
    assert list(tmp_path.iterdir()) == []
