# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The act: one rotation over a fleet, from the decision to the verdict, in ordinary control flow. No HTTP, no Ansible.

inspect all -> plan -> prepare all -> roll call -> rotate -> release -> collect -> verify -> close -> conclude. Every
host's program waits for the key before the old one is revoked; whatever goes wrong before ends all programs without a
change, and whatever goes wrong with one host afterwards is that host's alone.

A deployment is the same without the rotation: an older key never replaces another one that may be newer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import REJECTED, STILL_VALID, UNSEEN
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, Result, another_was_replaced
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import ROLL_CALL, WRITING, Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    AccountState,
    Plan,
    Refusals,
    Retirement,
    Step,
    Wanted,
    age_of_key,
    counted,
    impossible_dates,
    make_plan,
    refuse_unready,
    retirement,
    unready,
    verdict,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, wait_for
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Answer,
    Consumer,
    File,
    Problem,
    Process,
    Standing,
    State,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_now, iso_time, parse_time, utc_now

ATTEMPTS = 5
"""How often a deployment begins again, because the account's key or a file was changed meanwhile."""


class AccountApi(Protocol):
    """What an act needs of the API. `rotate` and `verify` return what failed, all else raises `MulticartError`."""

    def read(self, newest: bool) -> Live:
        """Return the live key, which the API accepts; not ``newest``: as it was a few seconds ago is enough."""

    def confirm(self, live: Live, held: frozenset[str], inspected_at: float) -> Live:
        """Return the live key by a read that is newer than any of the keys that hosts held at a moment."""

    def need_readback(self) -> None:
        """Refuse to rotate with credentials that cannot read the key that replaces the live one."""

    def rotate(self, key: ApiKey, former: frozenset[str]) -> Result:
        """Retire the live key and return the one that replaced it; a key out of ``former`` is never that one."""

    def verify(self, retired: str) -> Result:
        """Verify that the new key is accepted and the retired one rejected."""


@dataclass(frozen=True)
class Turn:
    """The time for which one act alone is about an account, on this control node.

    :ivar waited: another act had to be waited for.
    :ivar rotated_to: the key, by fingerprint, that the other act has made live; None: it has not rotated.
    :ivar tell: keeps the same for an act that waits for this one.
    """

    waited: bool = False
    rotated_to: str | None = None
    tell: Callable[[str], object] = lambda key: None


class Guard:
    """Keeps an act from being broken off when the key is replaced; this one does not."""

    def is_orphaned(self) -> bool:
        """Tell whether the run that the act belongs to has ended."""
        return False

    def critical(self) -> AbstractContextManager[Any]:
        """Return a context that no signal and no time limit of Ansible's interrupts."""
        return nullcontext()

    def alone(self, account: str | None) -> AbstractContextManager[Turn]:
        """Return a context with no other act of this account on this control node.

        :raises MulticartError: ``busy``.
        """
        return nullcontext(Turn())


@dataclass
class HostResult:
    """How one consumer ended.

    :ivar reason: why it failed; None: it did not.
    :ivar message: the same, or how it stands, in a sentence.
    :ivar checked: it passed its health checks in this run; None: it has none.
    :ivar wave: in which wave it got the key.
    :ivar has_stores: it is one or more stores, and no host.
    :ivar processes: those found last that hold another key than the live one.
    :ivar hidden: it has processes that could not be read.
    :ivar notes: what there is to tell of it besides, a sentence each.
    :ivar moments: when each event happened: ``armed``, ``released``, ``written``, ``restarted``, ``healthy``; UTC.
    """

    name: str
    standing: Standing
    changed: bool = False
    files: tuple[File, ...] = ()
    reason: str | None = None
    checked: bool | None = None
    wave: int = 0
    has_stores: bool = False
    processes: tuple[Process, ...] = ()
    hidden: bool = False
    notes: tuple[str, ...] = ()
    moments: dict[str, datetime] = field(default_factory=dict)

    @property
    def up_to_date(self) -> bool:
        return self.standing.state is State.UP_TO_DATE

    @property
    def message(self) -> str:
        checks = "; its health checks passed" if self.checked else ""
        unread = "; that is known by its record alone" if any(file.recorded for file in self.files) else ""
        hidden = "; some of its processes could not be read" if self.hidden and self.reason is None else ""
        return f"{self.standing.sentence}{checks}{unread}{hidden}."


@dataclass
class ActResult:
    """What came of an act.

    :ivar rotation: what came of the request to rotate; None: none was made.
    :ivar error: why the whole of it failed; None: it did not.
    :ivar lines: what there is to say, a sentence each.
    :ivar since: since when the live key is live; None: the consumers do not confirm it.
    """

    plan: Plan | None = None
    live: Live | None = None
    rotation: Result | None = None
    error: MulticartError | None = None
    hosts: list[HostResult] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    check_mode: bool = False
    since: datetime | None = None

    @property
    def is_live_lost(self) -> bool:
        """Whether it is not known any more which key is live: it was, or may have been, replaced, and not read back."""
        replaced = (Outcome.ROTATED, Outcome.ALREADY_ROTATED, Outcome.UNKNOWN)
        return self.rotation is not None and self.rotation.live is None and self.rotation.outcome in replaced


class Act:
    """One act over these hosts. Its methods do it all; a failure is in the result, if there is one, and not raised.

    :param say: shows a line of progress.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        api: AccountApi,
        say: Callable[[str], None] = lambda line: None,
        guard: Guard | None = None,
        check_mode: bool = False,
    ) -> None:
        self._stores_served: bool | None = None
        self._rewrites = False
        self._hosts = sorted(hosts, key=lambda host: host.name)
        self._api = api
        self._say = say
        self._guard = guard or Guard()
        self._result = ActResult(check_mode=check_mode)
        self._began = (time.monotonic(), utc_now())

    def rotate(self, wanted: Wanted, refusals: Refusals | None = None) -> ActResult:
        """Rotate, or do what comes first.

        :param refusals: what speaks against a new rotation beforehand.
        """
        result = self._ended(lambda: self._rotate_or_deploy(wanted, refusals or Refusals()))
        if result.error is None:
            self._judge(wanted)
        return result

    def deploy(self, stores_served: bool | None = None) -> ActResult:
        """Deploy the live key to the hosts, without a rotation.

        :param stores_served: whether the stores have it, where they are not among these hosts; None: they are.
        """
        self._stores_served, self._rewrites = stores_served, True
        result = self._ended(self._deploy_live)
        result.error = result.error or verdict(self._standings()) or unready(self._fleet())
        return result

    def audit(self) -> ActResult:
        """Inspect the hosts, and change nothing."""
        self._result.check_mode = False  # it tells what is, not what would be
        result = self._ended(lambda: self._inspect(self._read()))
        if result.error is None and result.live is not None:
            result.error = verdict(self._standings()) or unready(self._fleet())
            if result.error is None:
                total = len(result.hosts)
                result.lines.append(f"{total} of {total} consumers are up to date; {_seen_of_processes(result.hosts)}.")
            result.lines.append(f"Live key: {_shown(result.live.key)}")
        return result

    def inspect(self, live: Live | None = None) -> list[Consumer]:
        """Inspect the hosts, without knowing which key is live if it is None, and change nothing.

        :raises MulticartError: ``internal_error``: hosts that were not inspected are not to blame for that.
        """
        result = self._ended(lambda: self._inspect(live))
        if result.error is not None:
            raise result.error
        return [host.consumer for host in self._hosts]

    def _ended(self, act: Callable[[], object]) -> ActResult:
        try:
            act()
        except MulticartError as error:
            self._result.error = error
        except Exception as error:  # pylint: disable=broad-except  # each host tells how it stands all the same
            self._result.error = unexpected(error)
        finally:
            self._end_sessions()
        self._result.hosts = [self._host_result(host) for host in self._hosts]
        if self._result.live is not None:
            now = utc_now()
            age = age_of_key(self._fleet(), _account_state(self._result.live), now)
            self._result.since = now - age if age is not None else None
        return self._result

    def _read(self, newest: bool = True) -> Live:
        self._result.live = self._api.read(newest)
        return self._result.live

    # --- before a rotation --------------------------------------------------------------------------

    def _rotate_or_deploy(self, wanted: Wanted, refusals: Refusals) -> None:
        first = live = self._read()
        if self._result.check_mode:
            self._inspect(live)
            plan = self._result.plan = self._plan(live, wanted, refusals)
            if plan.step is not Step.ROTATE:
                self._deploy_once(live)
            return
        with self._guard.alone(live.account) as turn:
            for attempt in range(ATTEMPTS):
                live = self._read() if turn.waited or attempt else live
                self._inspect(live)
                plan = self._result.plan = self._plan(live, wanted, refusals)
                rotated = turn.waited and (live.key != first.key or live.key.fingerprint == turn.rotated_to)
                if rotated and plan.step is Step.ROTATE and wanted.retire is None:
                    why = "another run, which this one waited for, has rotated the key"
                    plan = self._result.plan = Plan(Step.DONE, why)
                if plan.step is Step.ROTATE:
                    self._say(f"Rotating {_shown(live.key)}: {plan.why}.")
                    self._rotate_or_conclude(live, turn)
                    return
                self._say(f"Not rotating: {plan.why}.")
                if self._deploy_once(live, plan, last=attempt == ATTEMPTS - 1):
                    self._conclude_earlier(live, plan, wanted, refusals)
                    return
        raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key was replaced again and again while it was deployed.")

    def _inspect(self, live: Live | None) -> None:
        began = time.monotonic()
        for host in self._hosts:
            if host.session is not None:
                over = host.session.over
                host.failure = over.problem if over is not None else None
        asked = [host for host in self._hosts if host.can_be_asked]
        contents = {host.name: host.contents(live.key) for host in asked} if live is not None else {}
        self._ask_all("inspect", asked, live, contents=contents)
        if live is not None:
            for host in asked:
                host.check_templates(live.key)
        faulty = sum(bool(host.consumer.problems) for host in self._hosts)
        not_ready = f"; {faulty} {'is' if faulty == 1 else 'are'} not ready" if faulty else ""
        self._say(f"Inspected {counted(self._hosts)} in {time.monotonic() - began:.1f} s{not_ready}.")
        for host in self._hosts:
            for problem in host.consumer.problems:
                self._say(f"{host.name}: {problem.text}.")
            for file in host.consumer.files:
                self._note(host, *file.notes)
            self._note_processes(host)

    def _note(self, host: Host, *texts: str) -> None:
        """Tell what there is to tell of a host besides, once."""
        for text in texts:
            note = f"{text.rstrip('.')}."
            if note not in host.notes:
                host.notes.append(note)
                self._say(f"{host.name}: {note}")

    def _note_processes(self, host: Host) -> None:
        """Tell of the processes that hold a key and that nothing of this run restarts."""
        steps = host.spec.steps if host.spec is not None else None
        restarts = steps is not None and bool(steps.services or steps.commands)
        for process in host.consumer.processes:
            if process.uncovered or not process.blamed or not restarts:
                self._note(host, f"{process.words} holds the key {process.key}")

    def _plan(self, live: Live, wanted: Wanted, refusals: Refusals) -> Plan:
        if live.retired is not None:
            if wanted.retire == live.key.fingerprint:
                raise another_was_replaced()
            return Plan(Step.DONE, "this run has rotated the key already", live.retired)
        account, now = _account_state(live), utc_now()
        if wanted.max_age is not None:
            for name in impossible_dates(self._fleet(), account, now):
                self._say(f"{name}: since when it holds the live key cannot be true, and does not count.")
        plan = make_plan(self._fleet(), account, wanted, now, refusals)
        if plan.step is Step.ROTATE:
            self._api.need_readback()
        return plan

    def _rotate_or_conclude(self, live: Live, turn: Turn) -> None:
        try:
            self._rotate(live, turn)
        except MulticartError as error:
            rotation = self._result.rotation
            is_refused = rotation is None or rotation.outcome is Outcome.UNCHANGED
            if is_refused and error.reason is not Reason.BROKEN_OFF:
                # Should somebody else replace the key, the records must not say that it was this rotation.
                self._conclude(live, None)
            raise

    def _rotate(self, live: Live, turn: Turn) -> None:
        began = time.monotonic()
        self._ask_all("prepare", self._hosts, live, retire=live.key.fingerprint)
        self._refuse_unready()
        armed = [host for host in self._hosts if host.is_armed]
        others = "" if len(armed) == len(self._hosts) else "; the others are served at the release"
        seconds = time.monotonic() - began
        self._say(f"{len(armed)} of {len(self._hosts)} armed in {seconds:.2f} s{others}.")
        for host in armed:
            host.moments["armed"] = utc_now()
        former = {entry.key for host in self._hosts for record in host.consumer.records for entry in record.retired}
        with self._guard.critical():
            # So that none of them has hung or died while the others were armed.
            self._ask_all("ping", armed, None, limit=ROLL_CALL)
            self._refuse_unready()
            rotation = self._result.rotation = self._api.rotate(live.key, frozenset(former))
            if rotation.live is None or rotation.live == live.key:
                raise _not_replaced(rotation, live.key)
            new = replace(live, key=rotation.live, rotated_at=rotation.rotated_at, updated_at=rotation.updated_at)
            self._result.live = new
            turn.tell(new.key.fingerprint)
            asked = self._release(new, {"key": live.key.fingerprint, "accepted": rotation.error is None})
            _wait_for_first(asked, WRITING)
        verifying = _in_thread(lambda: self._api.verify(live.key.fingerprint))
        self._collect(asked)
        self._say_outage(rotation)
        self._verify(live, new, rotation, verifying.result())

    def _refuse_unready(self) -> None:
        refuse_unready(self._fleet())
        self._refuse_orphaned()

    def _refuse_orphaned(self) -> None:
        if self._guard.is_orphaned():
            raise MulticartError(Reason.BROKEN_OFF, "The run that this rotation belongs to has ended.")

    # --- the release, and what follows --------------------------------------------------------------

    def _release(
        self, live: Live, retires: dict[str, Any] | None, as_inspected: bool = False
    ) -> list[tuple[Host, Reply]]:
        """Hand the key to every host, wave by wave: first to those that wait for it.

        :param as_inspected: only to files that still hold what was inspected, and where there is anything to do.
        """
        hosts = [host for host in self._hosts if host.can_be_asked and host.inspection is not None]
        if as_inspected:
            hosts = [host for host in hosts if not host.is_settled(live.key.fingerprint, self._rewrites)]
        # Those that wait for it, then those for which there is more to do.
        hosts.sort(key=lambda host: (host.wave, host.templates is not None, not host.is_armed))
        asked: list[tuple[Host, Reply]] = []
        for _wave, members in groupby(hosts, lambda host: host.wave):
            wave = list(members)
            _wait_for_first(asked, max(host.wave_timeout for host in wave))
            asked += self._hand_over(wave, live, retires, as_inspected, behind=not self._stores_have(live, asked))
        return asked

    def _stores_have(self, live: Live, asked: Sequence[tuple[Host, Reply]]) -> bool:
        """Tell whether every store has the key by now, if this act, or the run before it, knows it."""
        if self._stores_served is not None:
            return self._stores_served
        replies = {host.name: reply for host, reply in asked}
        return all(
            replies[host.name].written if host.name in replies else host.is_settled(live.key.fingerprint)
            for host in self._hosts
            if host.spec is None or host.has_stores
        )

    def _hand_over(
        self, hosts: Sequence[Host], live: Live, retires: dict[str, Any] | None, as_inspected: bool, behind: bool
    ) -> list[tuple[Host, Reply]]:
        """Hand the key to hosts.

        :param behind: a store does not have it yet: what reads its key there is restarted, and has to be once more.
        """
        since, asked = live.rotated_at or iso_now(), []
        for host in hosts:
            host.failure = None
            contents = host.contents(live.key)
            if host.failure is not None:
                continue
            host.moments["released"] = utc_now()
            host.moments.pop("healthy", None)  # of what it had before
            inspected = [list(file.holds) for file in host.consumer.files] if as_inspected else None
            try:
                reply = host.ask(
                    "deploy",
                    live,
                    host.longest_deploy,
                    contents=contents,
                    key=live.key.reveal(),
                    since=since,
                    retires=retires,
                    inspected=inspected,
                    stores_behind=behind and host.has_readers_alone,
                    check_mode=self._result.check_mode,
                )
            except Exception as error:  # pylint: disable=broad-except  # the others still need the key
                host.failure = Problem(Reason.INTERNAL_ERROR.value, unexpected(error).what)
            else:
                asked.append((host, reply))
        return asked

    def _collect(self, asked: Sequence[tuple[Host, Reply]]) -> None:
        wait_for([reply for _host, reply in asked])
        for host, reply in asked:
            if host.is_new:
                self._forgive_lacking(host)
            known = [problem.text for problem in host.consumer.problems]
            answer = host.take(reply)
            if answer is None and host.failure is not None:
                unknown = f"{host.failure.text}; whether the key was written there is not known"
                host.failure = Problem(host.failure.reason, unknown)
            answer = answer or Answer()
            host.changed = host.changed or answer.changed
            host.moments.update({event: self._utc(at) for event, at in answer.moments.items()})
            host.steps_done = answer.steps_done
            if answer.left:
                self._note(host, f"stopped on purpose, and left alone: {', '.join(answer.left)}")
            if host.failure is None:
                self._note_processes(host)
            elif host.failure.text not in known:
                self._say(f"{host.name}: {host.failure.text}.")

    def _forgive_lacking(self, host: Host) -> None:
        """Make notes of what a host lacks that gets its first key: what is to read it may be installed after it."""
        if host.inspection is not None:
            self._note(host, *(problem.text for problem in host.inspection.lacking))
            host.inspection = replace(host.inspection, lacking=())

    def _deploy_live(self) -> Live:
        for attempt in range(ATTEMPTS):
            live = self._read(newest=False)
            self._inspect(live)
            if self._deploy_once(live, last=attempt == ATTEMPTS - 1):
                return live
        raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key was replaced again and again while it was deployed.")

    def _deploy_once(self, live: Live, plan: Plan | None = None, last: bool = True) -> bool:
        """Deploy the live key to every host that can be served; False: it, or a file, was changed meanwhile.

        :param last: a file that is changed again and again is its host's failure.
        """
        inspected_at = time.monotonic()
        held = frozenset(key for host in self._hosts for file in host.consumer.files for key in file.holds)
        others = held - {live.key.fingerprint}
        if others and self._api.confirm(live, others, inspected_at).key != live.key:
            return False
        retires = {"key": plan.retire, "accepted": True} if plan is not None and plan.finishes else None
        self._collect(self._release(live, retires, as_inspected=True))
        changed = [host for host in self._hosts if host.failure and host.failure.reason == "changed_meanwhile"]
        if changed and not last:
            return False
        if self._result.check_mode:
            return True
        # For one host alone, a read that many share will do: there may be thousands.
        if self._api.read(newest=plan is not None).key != live.key:
            return False
        return self._close(live) or last

    def _verify(self, before: Live, live: Live, rotation: Result, verified: Result) -> None:
        """Close and conclude what the API has confirmed; what could not be verified stays open for the next run."""
        self._result.rotation = replace(
            rotation,
            verified=verified.verified,
            old_key_rejected=verified.old_key_rejected,
            error=rotation.error or verified.error,
        )
        still_valid = verified.error is not None and verified.error.reason is Reason.OLD_KEY_STILL_VALID
        if verified.error is not None and not still_valid:
            raise verified.error
        if verified.live not in (None, live.key) or not self._close(live):
            self._say("The key was replaced again meanwhile.")
            live = self._deploy_live()
        seen = REJECTED if verified.old_key_rejected else STILL_VALID if still_valid else UNSEEN
        # In no other form than records may have: one that cannot be read counts as none.
        moments = map(parse_time, (before.updated_at, live.updated_at))
        moved = [iso_time(moment) if moment else None for moment in moments]
        self._conclude(live, _seen(before.key.fingerprint, seen, moved))
        if verified.error is not None:
            raise verified.error

    def _close(self, live: Live) -> bool:
        """Close what was done; False: a file holds another key by now, which may be newer."""
        served = [host for host in self._hosts if host.can_be_asked and "released" in host.moments]
        # Where one file could not be written, what reads the others was restarted all the same.
        hosts = [host for host in served if not host.failure or host.steps_done]
        was_open = {host.name for host in hosts if any(record.open for record in host.consumer.records)}
        self._ask_all("close", hosts, live)
        closed = [host for host in hosts if host.failure is None]
        for host in closed:
            host.changed = host.changed or host.name in was_open
        return State.OUT_OF_DATE not in [host.consumer.standing(live.key.fingerprint).state for host in closed]

    def _conclude(self, live: Live, seen: dict[str, Any] | None) -> None:
        """Note beside every file that the verdict was given, also where the record stays open."""
        self._ask_all("conclude", [host for host in self._hosts if host.can_be_asked], live, seen=seen)

    def _conclude_earlier(self, live: Live, plan: Plan, wanted: Wanted, refusals: Refusals) -> None:
        """Conclude what records are open for, if this run is about that and has seen them all.

        Or if it can tell which rotation that is, and leaves nobody out; or by the operator's word.
        """
        unseen = {host.name for host in self._hosts if host.inspection is None}
        is_assumed = plan.retire is not None and plan.retire == wanted.assume_rejected
        may = is_assumed or not unseen or (plan.finishes and not unseen & {*refusals.left_out})
        if may and plan.step not in (Step.NOT_DUE, Step.OUTSIDE_HOURS, Step.DONE):
            known = REJECTED if is_assumed else UNSEEN
            self._conclude(live, _seen(plan.retire, known, accepted=plan.finishes) if plan.retire else None)

    def _ask_all(self, phase: str, hosts: Iterable[Host], live: Live | None, **fields: Any) -> None:
        """Ask hosts for the same, all at once, and take over what they answer.

        :param fields: of the request, and its ``limit``; ``contents`` by host.
        """
        contents = fields.pop("contents", {})
        asked = [
            (host, host.ask(phase, live, contents=contents.get(host.name), **fields))
            for host in hosts
            if host.session is not None
        ]
        # What follows an accepted rotation goes on to its end, come what may; and what failed first stays the reason.
        before = phase in ("inspect", "prepare", "ping")
        wait_for([reply for _host, reply in asked], self._refuse_orphaned if before else lambda: None)
        for host, reply in asked:
            failed = host.failure
            host.take(reply)
            host.failure = failed or host.failure

    def _end_sessions(self) -> None:
        """End every session; nothing of the act outlives it."""
        sessions = [host.session for host in self._hosts if host.session is not None]
        for session in sessions:
            session.end()
        deadline = time.monotonic() + ROLL_CALL
        for session in sessions:
            if not session.join(deadline - time.monotonic()):
                session.give_up(LinkError("timed_out", "it did not end in time"))

    # --- what came of it ----------------------------------------------------------------------------

    def _host_result(self, host: Host) -> HostResult:
        live = self._result.live.key.fingerprint if self._result.live else ""
        problems = host.consumer.problems
        stands, changed = host.consumer.standing(live), host.changed
        plan = self._result.plan
        if self._result.check_mode and not problems and stands.state is not State.UNREADABLE:
            rotates = plan is not None and plan.step is Step.ROTATE
            changed = changed or rotates or stands.state is not State.UP_TO_DATE
            stands = Standing(State.UP_TO_DATE)
        reason = problems[0].reason if problems else None
        inspection = host.inspection
        return HostResult(
            host.name,
            stands,
            changed,
            host.consumer.files,
            reason,
            checked=host.is_checked,
            wave=host.wave,
            has_stores=host.has_stores,
            processes=tuple(each for each in host.consumer.processes if live and each.key != live),
            hidden=inspection is not None and inspection.hidden,
            notes=tuple(host.notes),
            moments=host.moments,
        )

    def _standings(self) -> dict[str, Standing]:
        return {host.name: host.standing for host in self._result.hosts}

    def _judge(self, wanted: Wanted) -> None:
        """Find out whether the whole of it failed, and put into words what came of it."""
        result, plan, live = self._result, self._result.plan, self._result.live
        if plan is None or live is None:
            raise MulticartError(Reason.INTERNAL_ERROR, "The act ended without a plan.")
        if result.check_mode and plan.step is Step.ROTATE:
            result.rotation = Result(Outcome.WOULD_ROTATE, previous=live.key)
            deploying = f"deploy the new key to {counted(result.hosts)}. Nothing was changed."
            result.lines.append(f"Would retire {_shown(live.key)} and {deploying}")
            return
        result.error = verdict(self._standings())
        if result.error is None and plan.step is Step.CATCH_UP:
            said = "Would not rotate" if result.check_mode else "Nothing was rotated"
            advice = "Nothing was changed. First: multicart.keys.deploy." if result.check_mode else None
            result.error = MulticartError(Reason.CAUGHT_UP, f"{said}: {plan.why}.", advice)
        if result.error is None and plan.step is Step.RETIRED and plan.retire is not None:
            result.error = self._judge_retirement(plan.retire, wanted.assume_rejected)
        result.error = result.error or unready(self._fleet())
        if result.error is not None:
            return
        if result.check_mode:
            result.lines.append(f"Would not rotate: {plan.why}. Nothing was changed.")
        elif plan.step is Step.FINISH:
            result.lines.append(
                f"The rotation of an earlier run was finished: {plan.retire} was retired; that the API rejects it was "
                "not seen by this run."
            )
        elif plan.step in (Step.NOT_DUE, Step.OUTSIDE_HOURS, Step.DONE):
            result.lines.append(f"Not rotated: {plan.why}.")
        elif result.rotation is not None:
            result.lines.append(_rotated(result.rotation))
        result.lines.append(_checked(result.hosts, live.key))

    def _judge_retirement(self, key: str, assume_rejected: str | None) -> MulticartError | None:
        known = retirement(self._fleet(), key, assume_rejected)
        if known is Retirement.STILL_VALID:
            return MulticartError(Reason.OLD_KEY_STILL_VALID, f"The API still accepted the retired key {key}.")
        if known is Retirement.UNKNOWN:
            return MulticartError(Reason.REJECTION_UNSEEN, f"Nobody has seen that the API rejects {key}.")
        seen = "the API rejected it" if known is Retirement.REJECTED else "that the API rejects it was not seen"
        self._result.lines.append(f"The key {key} is retired; {seen}.")
        return None

    def _say_outage(self, rotation: Result) -> None:
        written = [host.moments["written"] for host in self._hosts if "written" in host.moments]
        rotated_at = parse_time(rotation.rotated_at)
        if not written or rotated_at is None:
            return
        restarted = [host.moments["restarted"] for host in self._hosts if "restarted" in host.moments]
        # In milliseconds, as in the report.
        last, end = (round((max(at) - rotated_at).total_seconds(), 3) for at in (written, written + restarted))
        out = sum(host.failure is not None or "written" not in host.moments for host in self._hosts)
        over = f"the outage goes on for {out}" if out else f"outage of the fleet {end:.2f} s"
        have = f"{len(written)} of {len(self._hosts)} have the new key, the last after {last:.2f} s"
        self._say(f"Released: {have}; {over}.")

    def _fleet(self) -> list[Consumer]:
        return [host.consumer for host in self._hosts]

    def _utc(self, moment: float) -> datetime:
        monotonic, utc = self._began
        return utc + timedelta(seconds=moment - monotonic)


def _wait_for_first(asked: Iterable[tuple[Host, Reply]], seconds: float) -> None:
    """Wait until all of these have written, or failed; those that have not by then are not waited for here."""
    deadline = time.monotonic() + seconds
    for _host, reply in asked:
        reply.wait_for_first(deadline - time.monotonic())


def _account_state(live: Live) -> AccountState:
    return AccountState(live.key.fingerprint, parse_time(live.created_at), parse_time(live.updated_at))


def _shown(key: ApiKey) -> str:
    return f"{key.masked} {key.fingerprint}"


def _seen(key: str, seen: str, updated_at: list[str | None] | None = None, accepted: bool = True) -> dict[str, Any]:
    """Return what the records are to say of a retired key."""
    at = None if seen == UNSEEN else iso_now()
    return {"key": key, "seen": seen, "at": at, "accepted": accepted, "updated_at": updated_at}


def _not_replaced(rotation: Result, retire: ApiKey) -> MulticartError:
    """Return why there is no new key to deploy, and what to do, for those who run a playbook."""
    error = rotation.error or MulticartError(Reason.KEY_DID_NOT_CHANGE, "The key was not replaced.")
    if rotation.outcome is not Outcome.UNKNOWN:
        return error
    advice = (
        f"Run the same command again, with -e multicart_rotate_retire={retire.fingerprint}: it cannot rotate twice. "
        "multicart.keys.doctor shows which key is live."
    )
    return MulticartError(error.reason, error.what, advice)


def _rotated(rotation: Result) -> str:
    if rotation.outcome is Outcome.ALREADY_ROTATED or rotation.previous is None:
        return "The key had been rotated before this run asked for it."
    rejected = "; the API rejects it" if rotation.old_key_rejected else ""
    return f"Rotated at {rotation.rotated_at}: {_shown(rotation.previous)} was revoked{rejected}."


def _checked(hosts: Sequence[HostResult], live: ApiKey) -> str:
    """Say what was checked, and what was not."""
    passed, unrun, none = (sum(host.checked is each for host in hosts) for each in (True, False, None))
    said = [f"{passed} passed {'its' if passed == 1 else 'their'} health checks"] if passed else []
    said += [f"{unrun} did not run {'its' if unrun == 1 else 'their'} health checks"] if unrun else []
    said += [f"{none} {'has' if none == 1 else 'have'} {'none' if said else 'no health checks'}"] if none else []
    have = f"{len(hosts)} of {len(hosts)} consumers hold the live key {_shown(live)}"
    return f"{have}; {', '.join(said)}; {_seen_of_processes(hosts)}."


def _seen_of_processes(hosts: Sequence[HostResult]) -> str:
    """Say what a green run has seen of the processes, and where it could not see all of them."""
    passing = sum(not process.blamed for host in hosts for process in host.processes)
    besides = f", except {passing} {'login or passing job' if passing == 1 else 'logins or passing jobs'}"
    hidden = sum(host.hidden for host in hosts)
    unread = f" (on {hidden} {'host' if hidden == 1 else 'hosts'}, some could not be read)" if hidden else ""
    return f"no process that could be read holds a retired key{besides if passing else ''}{unread}"


def _in_thread(function: Callable[[], Result]) -> Future[Result]:
    """Do something while the caller does something else; the thread keeps no run from ending."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # pylint: disable=broad-except  # the thread would print its text
            future.set_exception(unexpected(error))

    threading.Thread(target=run, daemon=True).start()
    return future
