# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The act: one rotation over the whole fleet, from the decision to the verdict, in ordinary control flow.

inspect all -> plan -> prepare all -> roll call -> rotate -> release -> collect -> verify -> close -> conclude. Every
host's program waits for the key before the old one is revoked; whatever goes wrong before ends all programs without a
change, and whatever goes wrong after with one host is that host's alone. No HTTP, no Ansible.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import REJECTED, STILL_VALID, UNSEEN
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result, iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.conversation import (
    INSPECTING,
    WRITING,
    Member,
    fields_for,
    given_by,
    rendered,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    AccountDates,
    Plan,
    Refusals,
    Retirement,
    Step,
    Wanted,
    make_plan,
    refuse_unready,
    retirement,
    verdict,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, Session, wait_for
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Answer,
    Consumer,
    File,
    Inspection,
    Problem,
    Standing,
    State,
    parse_time,
)

ROLL_CALL = 5.0
"""Seconds in which an armed host must answer immediately before the rotation."""


class AccountApi(Protocol):
    """What the act needs of the API; each of it raises `MulticartError`, but for ``rotate`` and ``verify``."""

    def read(self, newest: bool = True) -> Live:
        """Return the live key, which the API accepts; not ``newest``: as it was a few seconds ago is enough."""

    def rotate(self, live: ApiKey, former: frozenset[str]) -> Result:
        """Retire the live key and return the one that replaced it; a key out of ``former`` is never that one."""

    def verify(self, retired: str) -> Result:
        """Prove that the new key is accepted and the retired one rejected."""


class Guard(Protocol):
    """What keeps the act from being broken off between the request to rotate and the end of the release."""

    def is_orphaned(self) -> bool:
        """Tell whether the run that the act belongs to has ended."""

    def critical(self) -> AbstractContextManager[Any]:
        """Return a context that no signal and no time limit of Ansible's interrupts."""

    def alone(self, account: str | None) -> AbstractContextManager[bool]:
        """Return a context with no other act of this account on this control node; its value: it had to be waited for.

        :raises MulticartError: ``busy``.
        """


class NoGuard:
    """No guard at all."""

    def is_orphaned(self) -> bool:
        return False

    def critical(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def alone(self, account: str | None) -> AbstractContextManager[bool]:
        return nullcontext(False)


@dataclass
class HostResult:
    """How one consumer ended.

    :ivar moments: when each event happened: ``inspected``, ``armed``, ``released``, ``written``, ``restarted``,
        ``healthy``; UTC.
    :ivar checked: whether it has a health check, and passed it.
    """

    name: str
    standing: Standing
    changed: bool = False
    files: tuple[File, ...] = ()
    reason: str | None = None
    checked: bool = False
    moments: dict[str, datetime] = field(default_factory=dict)

    @property
    def up_to_date(self) -> bool:
        return self.standing.state is State.UP_TO_DATE


@dataclass
class ActResult:
    """What came of the act.

    :ivar rotation: what came of the request to rotate; None: none was made.
    :ivar error: why the whole of it failed; None: it did not.
    :ivar lines: what there is to say, a sentence each.
    """

    plan: Plan | None = None
    live: Live | None = None
    rotation: Result | None = None
    error: MulticartError | None = None
    hosts: list[HostResult] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    check_mode: bool = False


@dataclass
class _Host:
    """A member on its way through the act."""

    member: Member
    consumer: Consumer
    deployed: Answer | None = None
    failure: Problem | None = None
    closed: bool = False
    changed: bool = False
    moments: dict[str, datetime] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.member.name

    def take(self, answer: Answer | None) -> None:
        """Take over what the files hold by now; what they held before this run is known from the first answer."""
        if answer is not None and answer.files:
            known = {(file.path, file.variable): file.held for file in self.consumer.files} if self.deployed else {}
            files = tuple(replace(file, held=known.get((file.path, file.variable), file.held)) for file in answer.files)
            self.consumer = Consumer(self.name, Inspection(files))


class Act:
    """One act over these members.

    :param refusals: what speaks against a new rotation beforehand.
    :param say: shows a line of progress.
    """

    def __init__(
        self,
        members: Sequence[Member],
        api: AccountApi,
        wanted: Wanted,
        refusals: Refusals = Refusals(),
        say: Callable[[str], None] = lambda line: None,
        guard: Guard = NoGuard(),
        check_mode: bool = False,
    ) -> None:
        self._members = members
        self._api = api
        self._wanted = wanted
        self._refusals = refusals
        self._say = say
        self._guard = guard
        self._result = ActResult(check_mode=check_mode)
        self._hosts: list[_Host] = []
        self._began = (time.monotonic(), datetime.now(timezone.utc))

    def run(self) -> ActResult:
        """Do it all. A failure is in the result, never raised."""
        return self._ended(self._run, self._judge)

    def audit(self) -> ActResult:
        """Inspect all consumers, and change nothing. A failure is in the result, never raised."""

        def judge() -> None:
            if self._result.error is None:
                self._result.error = verdict({host.name: host.standing for host in self._result.hosts})
                key = self._result.live.key if self._result.live else None
                shown = f"{key.masked} {key.fingerprint}" if key else ""
                self._result.lines.append(f"Live key: {shown}")

        return self._ended(self._inspect_live, judge)

    def look(self) -> list[Consumer]:
        """Inspect all consumers without knowing which key is live, and change nothing."""
        try:
            self._inspect_all(None)
        finally:
            self._dismiss()
        return [host.consumer for host in self._hosts]

    def _ended(self, act: Callable[[], object], judge: Callable[[], None]) -> ActResult:
        try:
            act()
        except MulticartError as error:
            self._result.error = error
        finally:
            self._dismiss()
        self._result.hosts = [self._host_result(host) for host in self._hosts]
        judge()
        return self._result

    def _inspect_live(self) -> None:
        self._result.live = self._api.read()
        self._inspect_all(self._result.live)

    def _run(self) -> None:
        live = self._result.live = self._api.read()
        if self._result.check_mode:
            self._inspect_all(live)
            self._result.plan = self._plan(live)
            return
        with self._guard.alone(live.account) as waited:
            if waited:
                live = self._result.live = self._api.read()
            self._inspect_all(live)
            plan = self._result.plan = self._plan(live)
            if plan.step is Step.ROTATE:
                self._say(f"Rotating {live.key.masked} ({live.key.fingerprint}): {plan.why}.")
                self._rotate(live)
            else:
                self._say(f"Not rotating: {plan.why}.")
                self._deploy_all(live, plan)

    def _plan(self, live: Live) -> Plan:
        if live.retired is not None:
            return Plan(Step.DONE, "this run has rotated the key already", live.retired)
        fleet = [host.consumer for host in self._hosts]
        dates = AccountDates(parse_time(live.created_at), parse_time(live.updated_at))
        now = datetime.now(timezone.utc)
        return make_plan(fleet, live.key.fingerprint, self._wanted, now, dates, self._refusals)

    # --- before the rotation ------------------------------------------------------------------------

    def _inspect_all(self, live: Live | None) -> None:
        began = time.monotonic()
        asked: dict[str, Reply] = {}
        for member in self._members:
            if member.session is not None:
                contents = rendered(member, live.key) if live is not None else []
                fields = fields_for(member, live, contents)
                asked[member.name] = member.session.ask("inspect", INSPECTING, **fields)
        wait_for(asked.values(), INSPECTING * 2)
        self._hosts = [self._inspected(member, asked.get(member.name)) for member in self._members]
        self._hosts.sort(key=lambda host: host.name)
        self._say(f"Inspected {self._count()} in {time.monotonic() - began:.1f} s.")
        for host in self._hosts:
            for problem in host.consumer.problems:
                self._say(f"{host.name}: {problem.text}.")

    def _inspected(self, member: Member, reply: Reply | None) -> _Host:
        if reply is None:
            return _Host(member, Consumer(member.name, failure=member.failure))
        given = given_by(member, reply)
        if given.answer is None:
            return _Host(member, Consumer(member.name, failure=given.failure, reached=given.reached))
        answer = given.answer
        lacking = (*answer.lacking, *answer.problems, *([member.failure] if member.failure else []))
        host = _Host(member, Consumer(member.name, Inspection(answer.files, lacking)))
        host.moments["inspected"] = datetime.now(timezone.utc)
        return host

    def _rotate(self, live: Live) -> None:
        self._prepare_all(live)
        armed = [host for host in self._hosts if host.member.session and host.member.session.holds]
        self._say(f"{len(armed)} of {len(self._hosts)} armed; the others are served at the release.")
        former = frozenset(
            entry.key for host in self._hosts for record in host.consumer.records for entry in record.retired
        )
        with self._guard.critical():
            self._call_the_roll(armed)
            rotation = self._result.rotation = self._api.rotate(live.key, former)
            if rotation.live is None or rotation.live == live.key:
                raise rotation.error or MulticartError(Reason.KEY_DID_NOT_CHANGE, "The key was not replaced.")
            new = replace(live, key=rotation.live, rotated_at=rotation.rotated_at, updated_at=rotation.updated_at)
            retires = {"key": live.key.fingerprint, "accepted": rotation.error is None}
            released = time.monotonic()
            asked = self._release(new, retires)
            for _host, reply in asked:
                reply.wait_for_first(released + WRITING - time.monotonic())
        verifying = _InThread(lambda: self._api.verify(live.key.fingerprint))
        self._collect(asked)
        self._say_outage(rotation)
        self._result.live = new
        self._say("Verifying that the new key is accepted and the old one rejected.")
        verified = verifying.result()
        self._finish(live, new, verified)

    def _prepare_all(self, live: Live) -> None:
        began = time.monotonic()
        asked = {
            host.name: host.member.session.ask(
                "prepare", INSPECTING, retire=live.key.fingerprint, **fields_for(host.member, live)
            )
            for host in self._hosts
            if host.member.session is not None
        }
        wait_for(asked.values(), INSPECTING * 2)
        for host in self._hosts:
            self._note_prepared(host, asked[host.name])
        refuse_unready([host.consumer for host in self._hosts])
        if self._guard.is_orphaned():
            raise MulticartError(Reason.BROKEN_OFF, "The run that this rotation belongs to has ended.")
        self._say(f"Prepared {self._count()} in {time.monotonic() - began:.1f} s.")

    def _note_prepared(self, host: _Host, reply: Reply) -> None:
        given = given_by(host.member, reply)
        problems = given.answer.problems if given.answer is not None else tuple(filter(None, [given.failure]))
        if problems:
            host.consumer = Consumer(host.name, None, Problem(problems[0].reason, _texts(problems)), given.reached)
        else:
            host.moments["armed"] = datetime.now(timezone.utc)

    def _call_the_roll(self, armed: Sequence[_Host]) -> None:
        """Make sure that all armed hosts answer now, so that none of them has hung or died while the others armed."""
        asked = {host.name: host.member.session.ask("ping", ROLL_CALL) for host in armed if host.member.session}
        wait_for(asked.values(), ROLL_CALL + 1)
        for host in armed:
            given = given_by(host.member, asked[host.name])
            if given.answer is None:
                host.consumer = Consumer(host.name, None, given.failure, given.reached)
        refuse_unready([host.consumer for host in self._hosts])
        if self._guard.is_orphaned():
            raise MulticartError(Reason.BROKEN_OFF, "The run that this rotation belongs to has ended.")

    # --- the release, and what follows --------------------------------------------------------------

    def _release(self, live: Live, retires: Mapping[str, Any] | None) -> list[tuple[_Host, Reply]]:
        """Hand the key to every host: first to those that wait for it, then to those for which there is more to do."""
        since = live.rotated_at or iso_time(datetime.now(timezone.utc))
        ready = [
            host for host in self._hosts if host.member.session is not None and host.consumer.inspection is not None
        ]
        ready.sort(key=lambda host: (host.member.render is not None, not host.member.session.holds))  # type: ignore[union-attr]
        asked = []
        for host in ready:
            member = host.member
            contents = rendered(member, live.key)
            if member.failure is not None:
                host.failure = member.failure
                continue
            fields = fields_for(member, live, contents)
            for entry, content in zip(fields["files"], contents, strict=False):
                entry["content"] = content
            fields.update(key=live.key.reveal(), since=since, retires=retires)
            assert member.session is not None and member.spec is not None
            host.moments["released"] = datetime.now(timezone.utc)
            limit = WRITING + member.spec.longest_deploy
            asked.append((host, member.session.ask("deploy", limit, WRITING, **fields)))
        return asked

    def _collect(self, asked: Sequence[tuple[_Host, Reply]]) -> None:
        began = time.monotonic()
        for host, reply in asked:
            reply.wait(began + reply.limit + 1 - time.monotonic())
            given = given_by(host.member, reply)
            answer = host.deployed = given.answer
            if given.failure is not None:
                unknown = f"{given.failure.text}; whether the key was written there is not known"
                host.failure = Problem(given.failure.reason, unknown)
            elif answer is not None and answer.problems:
                host.failure = Problem(answer.problems[0].reason, _texts(answer.problems))
            if answer is not None:
                host.changed = answer.changed
                host.take(answer)
                host.moments.update({event: self._utc(at) for event, at in answer.moments.items()})
            if host.failure is not None:
                self._say(f"{host.name}: {host.failure.text}.")

    def _deploy_all(self, live: Live, plan: Plan) -> None:
        retires = {"key": plan.retire, "accepted": True} if plan.step is Step.FINISH else None
        asked = self._release(live, retires)
        self._collect(asked)
        newest = self._api.read(newest=False)
        if newest.key != live.key:
            raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key was replaced while it was deployed.")
        self._close_all(live)
        seen = None
        if plan.retire is not None:
            assumed = plan.retire == self._wanted.assume_rejected
            seen = _seen(plan.retire, REJECTED if assumed else UNSEEN)
        if plan.step is not Step.NOT_DUE:
            self._conclude_all(live, seen)

    def _finish(self, before: Live, live: Live, verified: Result) -> None:
        """Close and conclude what the API has confirmed; whatever could not be verified stays open for the next run."""
        if verified.live is not None and verified.live != live.key:
            raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key was replaced again while it was deployed.")
        still_valid = verified.error is not None and verified.error.reason is Reason.OLD_KEY_STILL_VALID
        self._result.rotation = replace(
            self._result.rotation or verified,
            verified=verified.verified,
            old_key_rejected=verified.old_key_rejected,
            error=(self._result.rotation and self._result.rotation.error) or verified.error,
        )
        if verified.error is not None and not still_valid:
            raise verified.error
        self._close_all(live)
        seen = REJECTED if verified.old_key_rejected else STILL_VALID if still_valid else UNSEEN
        moved = [before.updated_at, live.updated_at]
        self._conclude_all(live, _seen(before.key.fingerprint, seen, moved))
        if verified.error is not None:
            raise verified.error

    def _close_all(self, live: Live) -> None:
        asked = {
            host.name: host.member.session.ask("close", INSPECTING, **fields_for(host.member, live))
            for host in self._hosts
            if host.member.session is not None and host.deployed is not None and host.failure is None
        }
        wait_for(asked.values(), INSPECTING * 2)
        for host in self._hosts:
            if host.name in asked:
                given = given_by(host.member, asked[host.name])
                problems = given.answer.problems if given.answer is not None else tuple(filter(None, [given.failure]))
                host.failure = problems[0] if problems else None
                host.closed = not problems
                host.take(given.answer)

    def _conclude_all(self, live: Live, seen: Mapping[str, Any] | None) -> None:
        """Note beside every file that the verdict was given, also where the record stays open."""
        asked = {
            host.name: host.member.session.ask("conclude", INSPECTING, seen=seen, **fields_for(host.member, live))
            for host in self._hosts
            if host.member.session is not None and host.member.session.over is None
        }
        wait_for(asked.values(), INSPECTING * 2)
        for host in self._hosts:
            if host.name in asked:
                given = given_by(host.member, asked[host.name])
                host.take(given.answer)
                host.failure = host.failure or given.failure

    def _dismiss(self) -> None:
        """End every session; nothing of the act outlives it."""
        sessions = [member.session for member in self._members if member.session is not None]
        for session in sessions:
            session.end()
        deadline = time.monotonic() + ROLL_CALL
        for session in sessions:
            if not session.join(deadline - time.monotonic()):
                session.give_up(LinkError("timed_out", "it did not end in time"))

    # --- what came of it ----------------------------------------------------------------------------

    def _host_result(self, host: _Host) -> HostResult:
        live = self._result.live.key.fingerprint if self._result.live else ""
        stands, reason = host.consumer.standing(live), None
        problem = host.failure or (host.consumer.problems[0] if host.consumer.problems else None)
        if self._result.check_mode:
            return self._predicted(host, stands)
        if problem is not None:
            reason = problem.reason
            state = stands.state if stands.state is not State.UP_TO_DATE else State.RESTART_DUE
            text = host.failure.text if host.failure else _texts(host.consumer.problems)
            stands = Standing(state, text)
        elif stands.state is State.UP_TO_DATE and host.deployed is not None and not host.closed:
            stands = Standing(State.RESTART_DUE, "its record is still open")
        has_checks = bool(host.member.spec and host.member.spec.steps.health)
        checked = has_checks and "healthy" in host.moments
        return HostResult(host.name, stands, host.changed, host.consumer.files, reason, checked, host.moments)

    def _predicted(self, host: _Host, stands: Standing) -> HostResult:
        plan = self._result.plan
        rotates = plan is not None and plan.step is Step.ROTATE
        behind = stands.state in (State.OUT_OF_DATE, State.MISSING, State.RESTART_DUE)
        changes = rotates or behind or any(file.changed for file in host.consumer.files)
        problem = host.consumer.problems[0] if host.consumer.problems else None
        if problem is None and plan is not None:
            stands = Standing(State.UP_TO_DATE)
        return HostResult(
            host.name, stands, changes and problem is None, host.consumer.files, problem and problem.reason
        )

    def _judge(self) -> None:
        """Find out whether the whole of it failed, and put into words what came of it."""
        result = self._result
        if result.error is not None or result.plan is None or result.live is None:
            return
        if result.check_mode:
            self._predict()
            return
        key = result.live.key
        standings = {host.name: host.standing for host in result.hosts}
        wrong = verdict(standings)
        step = result.plan.step
        if wrong is None and step is Step.CATCH_UP:
            wrong = MulticartError(Reason.CAUGHT_UP, f"Nothing was rotated: {result.plan.why}.")
        if wrong is None and step is Step.RETIRED and result.plan.retire is not None:
            wrong = self._judge_retirement(result.plan.retire)
        if wrong is None and step is Step.FINISH:
            result.lines.append(
                f"The earlier run's rotation was finished: {result.plan.retire} was retired; that the API rejects it "
                "was not seen by this run."
            )
        if wrong is None and step is Step.NOT_DUE:
            result.lines.append(f"Not rotated: {result.plan.why}.")
        if result.rotation is not None and result.rotation.outcome is Outcome.ROTATED:
            result.lines.append(_rotated(result.rotation))
        elif result.rotation is not None and result.rotation.outcome is Outcome.ALREADY_ROTATED:
            result.lines.append("The key had been rotated before this run asked for it.")
        result.error = wrong
        if wrong is None:
            result.lines.append(f"{_checked(result.hosts)} ({key.masked} {key.fingerprint})")

    def _judge_retirement(self, key: str) -> MulticartError | None:
        known = retirement([host.consumer for host in self._hosts], key, self._wanted.assume_rejected)
        if known is Retirement.REJECTED:
            self._result.lines.append(f"The key {key} is retired; the API rejected it.")
        elif known is Retirement.NOT_SEEN:
            self._result.lines.append(f"The key {key} is retired; that the API rejects it was not seen.")
        elif known is Retirement.STILL_VALID:
            return MulticartError(Reason.OLD_KEY_STILL_VALID, f"The API still accepted the retired key {key}.")
        else:
            return MulticartError(Reason.REJECTION_UNSEEN, f"Nobody has seen that the API rejects {key}.")
        return None

    def _predict(self) -> None:
        result, plan = self._result, self._result.plan
        assert plan is not None and result.live is not None
        count = len(result.hosts)
        if plan.step is Step.ROTATE:
            key = result.live.key
            result.lines.append(
                f"Would retire {key.masked} {key.fingerprint} and deploy the new key to {count} consumers. "
                "Nothing was changed."
            )
            result.rotation = Result(Outcome.WOULD_ROTATE, previous=key)
            return
        result.lines.append(f"Would not rotate: {plan.why}. Nothing was changed.")
        result.error = verdict({host.name: host.standing for host in result.hosts})
        if result.error is None and plan.step is Step.CATCH_UP:
            result.error = MulticartError(Reason.CAUGHT_UP, f"Nothing would be rotated: {plan.why}.")

    def _say_outage(self, rotation: Result) -> None:
        written = [host.moments["written"] for host in self._hosts if "written" in host.moments]
        sent = parse_time(rotation.rotated_at)
        if written and sent is not None:
            seconds = (max(written) - sent).total_seconds()
            self._say(
                f"Released: {len(written)} of {len(self._hosts)} have the new key, the last after {seconds:.2f} s."
            )

    def _utc(self, moment: float) -> datetime:
        monotonic, utc = self._began
        return utc + timedelta(seconds=moment - monotonic)

    def _count(self) -> str:
        ready = sum(not host.consumer.problems for host in self._hosts)
        return f"{ready} of {len(self._hosts)} {'host' if len(self._hosts) == 1 else 'hosts'}"


def _seen(key: str, seen: str, updated_at: list[str | None] | None = None) -> dict[str, Any]:
    """Return what the records are to say of a retired key."""
    at = None if seen == UNSEEN else iso_time(datetime.now(timezone.utc))
    return {"key": key, "seen": seen, "at": at, "accepted": True, "updated_at": updated_at}


def _texts(problems: Iterable[Problem]) -> str:
    return ", ".join(problem.text.rstrip(".") for problem in problems)


def _rotated(rotation: Result) -> str:
    old = rotation.previous
    shown = f"{old.masked} ({old.fingerprint})" if old is not None else "The key"
    rejected = "; the API rejects it" if rotation.old_key_rejected else ""
    return f"Rotated at {rotation.rotated_at}: {shown} was revoked{rejected}."


def _checked(hosts: Sequence[HostResult]) -> str:
    """Say what was checked, and what was not."""
    passed = sum(host.checked for host in hosts)
    none = len(hosts) - passed
    said = [f"{passed} passed {'its' if passed == 1 else 'their'} health checks"] if passed else []
    said += [f"{none} {'has' if none == 1 else 'have'} none"] if none else []
    return f"{len(hosts)} of {len(hosts)} consumers hold the live key; {', '.join(said)}."


class _InThread:
    """Something that is done while the caller does something else."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._result: Result | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._result = self._function()

    def result(self) -> Result:
        self._thread.join()
        if self._result is None:
            raise MulticartError(Reason.INTERNAL_ERROR, "The verification ended without a result.")
        return self._result
