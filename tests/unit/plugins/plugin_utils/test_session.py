# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host session over real processes: armed and served, and every way in which a host's program may misbehave."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import session as session_module
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, Session, wait_for
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import answer_from

from tests.unit.plugins.plugin_utils.local_hosts import (
    NEW,
    OLD,
    LocalHost,
    LocalLink,
    end_all,
    session_threads,
    stop,
    strange,
)
from tests.waiting import PATIENCE, eventually, is_gone

SINCE = "2026-01-01T00:00:00.000Z"
LONG = 20.0
"""More seconds than anything takes that goes well."""


@pytest.fixture(name="web")
def fixture_web(tmp_path: Path) -> Iterator[LocalHost]:
    host = LocalHost("web", tmp_path / "web")
    yield host
    end_all([host])


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = len(session_threads())
    yield
    assert eventually(lambda: len(session_threads()) <= before), session_threads()


def ask(session: Session, web: LocalHost, phase: str, limit: float = LONG, **fields: Any) -> Reply:
    """Ask for something as an act does, and wait for what comes of it."""
    reply = send(session, web, phase, limit, **fields)
    wait_for([reply])
    return reply


def send(
    session: Session, web: LocalHost, phase: str, limit: float = LONG, first: float | None = None, **fields: Any
) -> Reply:
    of_phase = {
        "prepare": {"retire": OLD.fingerprint, "live": OLD.fingerprint},
        "deploy": {"key": NEW.reveal(), "since": SINCE, "live": NEW.fingerprint},
    }.get(phase, {"live": NEW.fingerprint})
    return session.ask(phase, limit, first, **{**web.spec.request(), **of_phase, **fields})


def arm(web: LocalHost) -> Session:
    session = web.session()
    for phase in ("inspect", "prepare"):
        answer = ask(session, web, phase)
        assert answer.error is None and not answer_from(answer.said, {}, web.spec.names).problems
    assert web.holds == OLD.reveal()
    return session


def ended(session: Session, web: LocalHost, seconds: float = PATIENCE) -> bool:
    """Tell whether neither the session's thread nor any process of it is left."""
    return session.join(seconds) and all(process.poll() is not None for process in web.link.processes)


# --- all goes well --------------------------------------------------------------------------------


@pytest.mark.parametrize("holds", [True, False])
def test_a_session_serves_a_whole_rotation_over_either_kind_of_link(web: LocalHost, holds: bool) -> None:
    web.link.holds = holds
    web.variables = {"commands": [web.logs("restart")], "health_checks": [web.logs("check")]}
    session = arm(web)
    assert session.holds is holds
    assert ask(session, web, "ping").said == {}
    began = time.monotonic()
    deployed = ask(session, web, "deploy", first=LONG)
    assert not answer_from(deployed.said, {}, web.spec.names).problems
    assert (web.holds, web.log) == (NEW.reveal(), ["restart", "check"])
    moments = [deployed.moments[event] for event in ("written", "restarted", "healthy")]
    assert began <= moments[0] <= moments[1] <= moments[2] <= time.monotonic()
    ask(session, web, "close")
    concluded = ask(session, web, "conclude")
    (file,) = answer_from(concluded.said, {}, web.spec.names).files
    assert file.holds == (NEW.fingerprint,) and file.record is not None and not file.record.open
    session.end()
    assert ended(session, web) and session.over is None
    assert len(web.link.processes) == (1 if holds else 6)


def test_the_key_comes_with_the_deployment_alone(web: LocalHost) -> None:
    web.link.holds = False
    session = arm(web)
    ask(session, web, "ping")
    before = list(web.link.inputs)
    ask(session, web, "deploy")
    assert not any(b"canary" in each for each in before)
    assert NEW.reveal().encode() in web.link.inputs[-1]
    session.end()
    assert ended(session, web)


def test_a_session_of_which_nothing_was_asked_starts_nothing(web: LocalHost) -> None:
    session = web.session()
    session.end()
    assert ended(session, web) and web.link.processes == []


@pytest.mark.parametrize("phases", [["inspect"], ["inspect", "prepare"], ["inspect", "prepare", "ping"]])
def test_the_end_of_the_input_without_a_key_changes_nothing(web: LocalHost, phases: list[str]) -> None:
    session = web.session()
    for phase in phases:
        ask(session, web, phase)
    before = web.snapshot()
    session.end()
    assert ended(session, web)
    assert (web.snapshot(), web.holds) == (before, OLD.reveal())


def test_a_program_whose_control_node_dies_leaves_without_a_change(web: LocalHost, tmp_path: Path) -> None:
    web.link = LocalLink(pid_file=tmp_path / "pid")
    session = arm(web)
    before = web.snapshot()
    pid = int((tmp_path / "pid").read_text())
    web.link.processes[0].kill()
    assert eventually(lambda: is_gone(pid))
    assert web.snapshot() == before
    assert ask(session, web, "ping").error is not None
    assert ended(session, web)


def test_events_are_seen_as_they_happen(web: LocalHost) -> None:
    goes_on = web.folder / "goes-on"
    web.variables = {"commands": [f"sh -c 'until [ -e {goes_on} ]; do sleep 0.05; done'"]}
    session = arm(web)
    reply = send(session, web, "deploy", PATIENCE, first=LONG)
    assert reply.wait_for_first(LONG)
    assert not reply.answered and web.holds == NEW.reveal()
    meanwhile = time.monotonic()
    goes_on.touch()
    assert reply.wait(PATIENCE) and reply.moments["written"] < meanwhile < reply.moments["restarted"]
    session.end()
    assert ended(session, web)


def test_what_takes_longer_than_its_first_event_may_is_waited_for_after_that(web: LocalHost) -> None:
    web.variables = {"commands": ["sleep 4.5"]}
    session = arm(web)
    reply = ask(session, web, "deploy", first=4.0)
    assert reply.error is None and "restarted" in reply.moments
    session.end()
    assert ended(session, web)


@pytest.mark.parametrize(
    ("events", "written"),
    [(["write_failed"], False), (["write_failed", "restarted"], False), (["restarted"], False), (["written"], True)],
)
def test_only_what_was_written_counts_as_written(web: LocalHost, events: list[str], written: bool) -> None:
    """What waits for a store would otherwise start with the key that it had before."""
    told = "; ".join(f"say(request, event='{event}')" for event in events)
    web.link = LocalLink(strange(FOR_ALL + told + "; say(request)"))
    session = web.session()
    reply = ask(session, web, "deploy")
    assert reply.written is written and list(reply.moments) == events
    session.end()
    assert ended(session, web)


# --- a host that misbehaves -----------------------------------------------------------------------


def failing(web: LocalHost, code: str, limit: float = 1.0, **fields: Any) -> LinkError:
    """Inspect a host with a strange program, and return how that fails, in its time and with nothing left."""
    web.link = LocalLink(strange(code))
    session = web.session()
    began = time.monotonic()
    reply = ask(session, web, "inspect", limit, **fields)
    assert time.monotonic() - began < limit + PATIENCE
    assert reply.said is None and reply.error is not None
    assert session.over is reply.error
    assert not reply.answered
    late = session.ask("ping", 1.0)
    assert late.wait(0) and late.error is reply.error
    session.end()
    assert ended(session, web)
    assert "canary" not in str(reply.error) and "\n" not in str(reply.error)
    return reply.error


HANG = "\nwhile True: time.sleep(60)"
FOR_ALL = "for request in requests():\n    "


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "list(requests())" + HANG,
        FOR_ALL + "say(request, event='looking')" + HANG,
        FOR_ALL + "raw('0' * 16 + ' {}\\n')",  # another tag than that of the request
        FOR_ALL + "raw(request['tag'].upper() + ' {}\\n')",
        FOR_ALL + "raw(request['tag'] + '{}\\n')",
        FOR_ALL + "raw(' ' + request['tag'] + ' {}\\n')",
        FOR_ALL + "raw(request['tag'] + ' {}')" + HANG,  # the line does not end
        "os.close(1)" + HANG,
        FOR_ALL + "os.close(1)" + HANG,
        "next(requests()); os.close(2)" + HANG,
    ],
)
def test_a_program_that_gives_no_answer_costs_its_own_limit(web: LocalHost, code: str) -> None:
    error = failing(web, code)
    assert error.problem.reason == "timed_out"
    assert error.problem.text == "it did not answer within 1 s"


@pytest.mark.parametrize("stream", ["1", "2"])
@pytest.mark.parametrize("line", ["'x' * 65536", "'x\\n' * 32768", "'\\n' * 65536"])
def test_a_program_that_floods_is_given_up_long_before_its_limit(web: LocalHost, stream: str, line: str) -> None:
    error = failing(web, f"flood = ({line}).encode()\nwhile True: os.write({stream}, flood)", limit=60.0)
    assert error.problem.reason == "malformed_answer"


def test_a_program_that_prints_slowly_without_an_end_is_given_up_at_its_limit(web: LocalHost) -> None:
    error = failing(web, "while True: raw('x' * 100); os.write(2, b'y'); time.sleep(0.01)")
    assert error.problem.reason == "timed_out"


@pytest.mark.parametrize(
    ("code", "reason", "word"),
    [
        ("sys.exit(127)", "python_missing", "ansible_python_interpreter"),
        ("sys.exit(3)", "no_answer", "exit status 3"),
        ("os.kill(os.getpid(), 9)", "no_answer", "exit status -9"),
        ("os.write(2, b'sudo: a password is required canary'); sys.exit(1)", "become_failed", "become_password"),
        ("os.write(2, b'Password: '); sys.exit(1)", "become_failed", "become_password"),
        ("os.write(2, b'sudo: sorry, you must have a tty to run sudo'); sys.exit(1)", "terminal_needed", "requiretty"),
        ("next(requests()); raw('canary'); os.write(2, b'canary'); sys.exit(5)", "no_answer", "exit status 5"),
    ],
)
def test_a_program_that_ends_without_an_answer_is_told_by_its_end(
    web: LocalHost, code: str, reason: str, word: str
) -> None:
    error = failing(web, code, limit=LONG)
    assert error.problem.reason == reason and word in error.problem.text
    assert error.reached


def test_a_program_that_stops_reading_its_input_costs_its_own_limit(web: LocalHost) -> None:
    assert failing(web, "time.sleep(60)", padding="x" * 3_000_000).problem.reason == "timed_out"
    assert failing(web, "next(requests())" + HANG, padding="x" * 3_000_000).problem.reason == "timed_out"


def test_a_large_request_is_read_and_answered_in_pieces(web: LocalHost) -> None:
    web.link = LocalLink(strange(FOR_ALL + "say(request, size=len(request['padding']), back='y' * 1000000)"))
    session = web.session()
    said = ask(session, web, "inspect", padding="x" * 3_000_000).said
    assert (said["size"], len(said["back"])) == (3_000_000, 1_000_000)
    session.end()
    assert ended(session, web)


def test_garbage_around_the_answers_is_none_of_them(web: LocalHost) -> None:
    noise = "raw(b'\\xff\\xfe Welcome!\\r\\n{}\\n' + request['tag'].encode()[:8] + b'\\n')"
    code = f"raw(b'banner without an end'); raw('\\n')\n{FOR_ALL}{noise}; say(request, ok=request['phase']); {noise}"
    code += "; raw(request['tag'] + ' {\"ok\": \"twice\"}\\n')"
    web.link = LocalLink(strange(code))
    session = web.session()
    for phase in ("inspect", "ping", "close"):
        reply = ask(session, web, phase)
        assert (reply.said, reply.error) == ({"ok": phase}, None)
    session.end()
    assert ended(session, web)


@pytest.mark.parametrize(
    "text", ["''", "'{'", "'[' * 100000", "'{\"a\": ' * 50000", "'9' * 10000", "'nonsense'", "'\\0'", "'NaN' * 2"]
)
def test_an_answer_that_is_no_json_is_none(web: LocalHost, text: str) -> None:
    web.link = LocalLink(strange(FOR_ALL + f"raw(request['tag'] + ' ' + {text} + '\\n')"))
    session = web.session()
    reply = ask(session, web, "inspect")
    assert (reply.said, reply.error) == (None, None)
    session.end()
    assert ended(session, web)


@pytest.mark.parametrize("text", ["null", "5", "[]", '"text"', '{"files": 5}', '{"at": {}, "event": []}'])
def test_any_json_is_handed_on_to_be_judged(web: LocalHost, text: str) -> None:
    web.link = LocalLink(strange(FOR_ALL + f"raw(request['tag'] + ' ' + {text!r} + '\\n')"))
    session = web.session()
    reply = ask(session, web, "inspect")
    assert reply.error is None and (reply.said is None) == (text == "null")
    session.end()
    assert ended(session, web)


def test_a_program_that_dies_while_armed_is_found_by_the_next_request(web: LocalHost) -> None:
    session = arm(web)
    web.link.processes[0].kill()
    began = time.monotonic()
    reply = ask(session, web, "ping", limit=2 * PATIENCE)
    assert reply.error is not None and time.monotonic() - began < PATIENCE
    assert reply.error.problem.reason == "no_answer"
    assert ended(session, web) and web.holds == OLD.reveal()


def test_a_program_that_hangs_while_armed_costs_the_limit_of_the_roll_call(web: LocalHost) -> None:
    session = arm(web)
    os.kill(web.link.processes[0].pid, signal.SIGSTOP)
    began = time.monotonic()
    reply = ask(session, web, "ping", limit=0.7)
    assert reply.error is not None and reply.error.problem.reason == "timed_out"
    assert time.monotonic() - began < PATIENCE
    assert ended(session, web) and web.holds == OLD.reveal()


@pytest.mark.parametrize(("limit", "first"), [(0.7, None), (60.0, 0.7)])
def test_a_host_that_comes_back_after_it_was_given_up_writes_nothing(
    web: LocalHost, tmp_path: Path, limit: float, first: float | None
) -> None:
    """The key lies in its input already when it hangs; its limit for restarts may be far away."""
    pid_file = tmp_path / "pid"
    web.link = LocalLink(pid_file=pid_file)
    session = arm(web)
    before = web.snapshot()
    pid = stop(pid_file)
    reply = send(session, web, "deploy", limit, first)
    assert reply.wait(PATIENCE)
    assert reply.error is not None and reply.error.problem.reason == "timed_out"
    assert reply.error.problem.text == "it did not answer within 0.7 s"
    assert ended(session, web)
    os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: is_gone(pid))
    assert web.snapshot() == before


def test_a_host_that_hangs_for_less_than_its_limit_is_served(web: LocalHost, tmp_path: Path) -> None:
    web.link = LocalLink(pid_file=tmp_path / "pid")
    session = arm(web)
    pid = stop(tmp_path / "pid")
    reply = send(session, web, "deploy", first=LONG)
    time.sleep(0.4)
    os.kill(pid, signal.SIGCONT)
    assert reply.wait(LONG) and reply.error is None
    assert web.holds == NEW.reveal()
    session.end()
    assert ended(session, web)


def test_a_host_that_is_asked_nothing_for_too_long_leaves_by_itself(
    web: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = arm(web)
    monkeypatch.setattr(session_module, "ARMED", 0.4)
    assert ask(session, web, "ping").error is None
    assert eventually(lambda: web.link.processes[0].poll() is not None)
    reply = ask(session, web, "deploy")
    assert reply.error is not None and web.holds == OLD.reveal()
    assert ended(session, web)


def test_a_program_that_does_not_leave_is_ended(web: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LEAVING", 0.3)
    web.link = LocalLink(strange(FOR_ALL + "say(request)" + "\nwhile True: raw('x' * 1000); os.write(2, b'x' * 1000)"))
    session = web.session()
    assert ask(session, web, "inspect").said == {}
    began = time.monotonic()
    session.end()
    assert ended(session, web) and time.monotonic() - began < PATIENCE
    assert session.over is None


def test_a_session_that_is_given_up_ends_at_once_and_answers_nothing_more(web: LocalHost) -> None:
    web.variables = {"commands": ["sleep 60"]}
    session = arm(web)
    reply = send(session, web, "deploy", PATIENCE, first=LONG)
    assert reply.wait_for_first(LONG)
    why = LinkError("malformed_answer", "its answer is malformed")
    session.give_up(why)
    session.give_up(LinkError("another", "too late"))
    assert reply.error is why and session.over is why
    assert ask(session, web, "close").error is why
    assert ended(session, web)


def test_an_answer_that_is_there_is_not_taken_back(web: LocalHost) -> None:
    session = arm(web)
    reply = ask(session, web, "ping")
    session.give_up(LinkError("timed_out", "x"))
    assert (reply.error, reply.said, reply.answered) == (None, {}, True)
    assert ended(session, web)


# --- links that cannot be made --------------------------------------------------------------------


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("error", [LinkError("unreachable", "it is unreachable", reached=False), ValueError("canary")])
def test_a_link_that_cannot_be_made_is_told_by_every_request(web: LocalHost, holds: bool, error: Any) -> None:
    web.link.holds = holds
    web.link.error = error
    session = web.session()
    reply = ask(session, web, "inspect")
    assert reply.error is not None
    if isinstance(error, LinkError):
        assert reply.error is error and not reply.error.reached
    else:
        assert reply.error.problem.reason == "internal_error"
        assert reply.error.problem.text == "unexpected ValueError in its session"
    assert ask(session, web, "ping").error is reply.error
    assert ended(session, web)


@pytest.mark.parametrize("holds", [True, False])
def test_a_host_that_insists_on_a_terminal_is_served_in_another_way(web: LocalHost, holds: bool) -> None:
    """O3: sudo with requiretty."""
    refusal = strange("os.write(2, b'sudo: sorry, you must have a tty to run sudo\\n'); sys.exit(1)")
    copied = LocalLink(holds=False)
    web.link = LocalLink(refusal, holds=holds, with_terminal=copied)
    session = arm(web)
    assert not session.holds
    assert ask(session, web, "deploy").error is None
    assert (web.holds, len(copied.processes), len(web.link.processes)) == (NEW.reveal(), 3, 1)
    session.end()
    assert session.join(PATIENCE)


def test_a_terminal_that_does_not_help_either_is_told(web: LocalHost) -> None:
    refusal = strange("os.write(2, b'sudo: sorry, you must have a tty to run sudo\\n'); sys.exit(1)")
    web.link = LocalLink(refusal, with_terminal=LocalLink(refusal, holds=False))
    session = web.session()
    reply = ask(session, web, "inspect")
    assert reply.error is not None and reply.error.problem.reason == "terminal_needed"
    assert "ansible_pipelining" in reply.error.problem.text
    assert session.join(PATIENCE)


def test_a_host_that_has_answered_before_is_not_served_in_another_way(web: LocalHost) -> None:
    code = "for request in requests():\n    say(request)\n    break\nos.write(2, b'no tty'); sys.exit(1)"
    web.link = LocalLink(strange(code), with_terminal=LocalLink(holds=False))
    session = web.session()
    assert ask(session, web, "inspect").said == {}
    assert ask(session, web, "deploy").error is not None
    assert web.holds == OLD.reveal() and session.join(PATIENCE)


# --- turns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("holds", [True, False])
def test_no_more_hosts_are_connected_to_at_a_time_than_there_are_forks(tmp_path: Path, holds: bool) -> None:
    gate, most = threading.Semaphore(2), tmp_path / "most"
    most.mkdir()
    code = f"""
request = next(requests())
mark = os.path.join({str(most)!r}, str(os.getpid()))
open(mark, "w").close()
until = time.monotonic() + 15
while len(os.listdir({str(most)!r})) < 2 and time.monotonic() < until: time.sleep(0.01)
time.sleep(0.2)
count = len(os.listdir({str(most)!r}))
os.unlink(mark)
time.sleep(0.2)
say(request, count=count)
list(requests())
"""
    link = [
        LocalLink(strange(code).replace("list(requests())", "sys.stdin.read()"), holds=holds) for _number in range(4)
    ]
    hosts = [LocalHost(f"web{number}", tmp_path / f"web{number}", each, gate=gate) for number, each in enumerate(link)]
    sessions = [host.session() for host in hosts]
    replies = [send(session, host, "inspect") for session, host in zip(sessions, hosts, strict=True)]
    wait_for(replies)
    assert max(reply.said["count"] for reply in replies) == 2
    for session, host in zip(sessions, hosts, strict=True):
        session.end()
        assert ended(session, host)


def test_the_turn_of_a_host_that_hangs_passes_on(tmp_path: Path) -> None:
    gate = threading.Semaphore(1)
    hung = LocalHost("hung", tmp_path / "hung", LocalLink(strange("time.sleep(60)")), gate=gate)
    web = LocalHost("web", tmp_path / "web", gate=gate)
    sessions = [hung.session(), web.session()]
    replies = [send(sessions[0], hung, "inspect", 0.5)]
    assert eventually(lambda: hung.link.processes)
    replies.append(send(sessions[1], web, "inspect", LONG))
    began = time.monotonic()
    wait_for(replies)
    assert time.monotonic() - began < PATIENCE
    assert replies[0].error is not None and replies[1].error is None
    for session, host in zip(sessions, (hung, web), strict=True):
        session.end()
        assert ended(session, host)


def test_the_limit_of_a_request_counts_from_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(session_module, "time", clock)
    gate = threading.Semaphore(0)
    web = LocalHost("web", tmp_path / "web", gate=gate)
    session = web.session()
    reply = send(session, web, "inspect", LONG)
    passed[0] = 2 * LONG
    reply.end_if_late()
    assert not reply.wait(0) and reply.began is None
    gate.release()
    assert reply.wait(LONG) and reply.error is None
    session.end()
    assert ended(session, web)


@pytest.mark.parametrize("holds", [True, False])
def test_a_session_that_was_given_up_before_its_turn_starts_nothing(tmp_path: Path, holds: bool) -> None:
    """So a host that was reported as failed does not get the key later."""
    gate = threading.Semaphore(0)
    web = LocalHost("web", tmp_path / "web", LocalLink(holds=holds), gate=gate)
    session = web.session()
    reply = send(session, web, "deploy")
    assert eventually(session_threads)
    session.give_up(LinkError("broken_off", "the run has ended"))
    assert reply.error is not None
    gate.release()
    assert ended(session, web)
    assert (web.holds, web.link.processes) == (OLD.reveal(), [])


def test_what_hangs_over_a_link_that_takes_its_input_at_once_is_ended_by_who_waits(tmp_path: Path) -> None:
    web = LocalHost("web", tmp_path / "web", LocalLink(strange("time.sleep(60)"), holds=False))
    session = web.session()
    reply = send(session, web, "inspect", 0.3)
    began = time.monotonic()
    wait_for([reply])
    assert 0.3 < time.monotonic() - began < PATIENCE
    assert reply.error is not None and reply.error.problem.reason == "timed_out"
    end_all([web])  # as the act does at its end with all processes that it has started
    assert session.join(PATIENCE)


def test_who_waits_can_break_off() -> None:
    class Orphaned(Exception):
        pass

    def watch() -> None:
        raise Orphaned

    reply = Reply(Session("web", LocalLink(), threading.Semaphore(1)), {}, LONG, LONG)
    with pytest.raises(Orphaned):
        wait_for([reply], watch)


# --- clocks ---------------------------------------------------------------------------------------


def moments(web: LocalHost, events: list[tuple[str, Any]], at: Any) -> tuple[dict[str, float], float, float]:
    """Return the moments of events that a host tells with these times of its clock, and between which they must be."""
    told = "".join(f"raw(request['tag'] + ' ' + {_json(event, clock)!r} + '\\n')\n    " for event, clock in events)
    web.link = LocalLink(
        strange(f"{FOR_ALL}time.sleep(0.3)\n    {told}raw(request['tag'] + ' ' + {_json(None, at)!r} + '\\n')")
    )
    session = web.session()
    began = time.monotonic()
    reply = ask(session, web, "deploy")
    now = time.monotonic()
    assert reply.error is None
    session.end()
    assert ended(session, web)
    return reply.moments, began, now


def _json(event: str | None, clock: Any) -> str:
    return f'{{"event": "{event}", "at": {clock}}}' if event else f'{{"at": {clock}}}'


def test_how_long_ago_an_event_was_is_the_hosts_to_say(web: LocalHost) -> None:
    found, began, now = moments(web, [("written", "5000.0"), ("restarted", "5000.1")], "5000.2")
    assert found["restarted"] - found["written"] == pytest.approx(0.1, abs=1e-6)
    assert began <= found["written"] <= found["restarted"] <= now - 0.1


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        ("1.0", "99999.0"),  # long before the request
        ("99999.0", "1.0"),  # after the answer
        ("-1e308", "1e308"),
        ("1e308", "-1e308"),
        ("NaN", "1.0"),
        ("Infinity", "-Infinity"),
        ("1" + "0" * 400, "1.0"),
        ("1.0", "1" + "0" * 400),
        ("true", "null"),
        ('"soon"', "[]"),
    ],
)
def test_no_clock_of_a_host_moves_an_event_out_of_its_request(web: LocalHost, event: str, answer: str) -> None:
    found, began, now = moments(web, [("written", event)], answer)
    assert began <= found["written"] <= now


def test_a_host_whose_clock_is_wrong_is_served_all_the_same(web: LocalHost) -> None:
    """What its program takes for a time of its own clock comes from that clock."""
    code = "for at in (1e9, 5.0):\n    request = next(each)\n    say(request, at=at, expires=request.get('expires'))"
    web.link = LocalLink(strange(f"each = requests()\n{code}"))
    session = web.session()
    first, second = ask(session, web, "inspect", 7.0), ask(session, web, "deploy", 60.0, first=9.0)
    assert first.said == {"expires": None}
    assert second.said["expires"] == pytest.approx(1e9 + 9.0, abs=5)
    session.end()
    assert ended(session, web)
