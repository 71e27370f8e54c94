# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The live key for one host: the same session as in the act, without a rotation. No HTTP, no Ansible.

Other hosts of the run, other runs and other people may act at the same time. So an older key never replaces another one
that may be newer, and whoever is late starts over.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import iso_time
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.conversation import (
    INSPECTING,
    WRITING,
    Member,
    fields_for,
    given_by,
    rendered,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Consumer,
    File,
    Inspection,
    Problem,
    Standing,
    State,
)

ATTEMPTS = 5
"""How often a host is begun with anew, because its files or the account's key have changed meanwhile."""


class AccountForHosts(Protocol):
    """What a deployment needs of the API, shared by all hosts of a run."""

    def read(self, newest: bool = True) -> Live:
        """Return the live key; see :class:`operations.AccountOfRun`."""

    def confirm(self, live: Live, held: frozenset[str], inspected_at: float) -> Live:
        """Return the live key by a read that is newer than any of the keys held at a moment."""


@dataclass(frozen=True)
class Deployed:
    """How one host ended.

    :ivar live: the key that it was to be given; None: it is not known.
    :ivar unreachable: there was no connection to it.
    :ivar problem: why it failed; None: it did not.
    """

    standing: Standing
    changed: bool = False
    files: tuple[File, ...] = ()
    live: ApiKey | None = None
    unreachable: bool = False
    problem: Problem | None = None
    message: str = ""


class _StartOver(Exception):
    """What was found out is no longer so."""


class Deployment:
    """One host's files, restarts and health checks, for the live key as it is now."""

    def __init__(self, member: Member, account: AccountForHosts, check_mode: bool = False) -> None:
        self._member = member
        self._account = account
        self._check_mode = check_mode
        self._changed = False

    def run(self) -> Deployed:
        """Do it all; a failure is in the result.

        :raises MulticartError: the live key cannot be read.
        """
        if self._member.session is None:
            problem = self._member.failure or Problem("no_session", "it cannot be connected to")
            return self._failed(Standing(State.UNREADABLE, problem.text), problem)
        try:
            for _attempt in range(ATTEMPTS):
                try:
                    return self._once()
                except _StartOver:
                    continue
            raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key, or the file, was changed again and again.")
        finally:
            self._member.session.end()
            self._member.session.join(WRITING)

    def _once(self) -> Deployed:
        live = self._account.read(newest=False)
        consumer, inspected_at = self._inspect(live), time.monotonic()
        if consumer.inspection is None:
            stands = consumer.standing(live.key.fingerprint)
            return self._failed(stands, consumer.problems[0], live.key, unreachable=not consumer.reached)
        held = frozenset(key for file in consumer.files for key in file.holds) - {live.key.fingerprint}
        if held and self._account.confirm(live, held, inspected_at).key != live.key:
            raise _StartOver
        if self._is_done(consumer, live):
            return self._succeeded(consumer, live)
        return self._deploy(consumer, live)

    def _inspect(self, live: Live) -> Consumer:
        contents = rendered(self._member, live.key)
        asked = self._ask("inspect", INSPECTING, fields_for(self._member, live, contents))
        given = given_by(self._member, asked)
        if given.answer is None:
            return Consumer(self._member.name, failure=given.failure, reached=given.reached)
        lacking = (*given.answer.lacking, *given.answer.problems)
        if self._member.failure is not None:
            lacking = (*lacking, self._member.failure)
        return Consumer(self._member.name, Inspection(given.answer.files, lacking))

    def _is_done(self, consumer: Consumer, live: Live) -> bool:
        """Tell whether there is nothing to do, not even to check."""
        has_checks = self._member.spec is not None and bool(self._member.spec.steps.health)
        settled = all(
            file.record is not None and not file.record.open and file.record.held == live.key.fingerprint
            for file in consumer.files
        )
        stands = consumer.standing(live.key.fingerprint).state
        changes = any(file.changed for file in consumer.files)
        return stands is State.UP_TO_DATE and settled and not changes and not has_checks and not consumer.problems

    def _deploy(self, consumer: Consumer, live: Live) -> Deployed:
        contents = rendered(self._member, live.key)
        if self._member.failure is not None:
            return self._failed(consumer.standing(live.key.fingerprint), self._member.failure, live.key)
        fields = fields_for(self._member, live, contents)
        for entry, content, file in zip(fields["files"], contents or [None] * len(consumer.files), consumer.files):
            entry.update(content=content, inspected=list(file.holds))
        since = live.rotated_at or iso_time(datetime.now(timezone.utc))
        fields.update(key=live.key.reveal(), since=since, check_mode=self._check_mode)
        limit = WRITING + (self._member.spec.longest_deploy if self._member.spec else 0.0)
        given = given_by(self._member, self._ask("deploy", limit, fields, WRITING))
        answer = given.answer
        if answer is None:
            stands = Consumer(self._member.name, failure=given.failure, reached=given.reached)
            return self._failed(stands.standing(""), given.failure or Problem("no_answer", "no answer"), live.key)
        self._changed = self._changed or answer.changed
        if any(problem.reason == "changed_meanwhile" for problem in answer.problems):
            raise _StartOver
        consumer = Consumer(self._member.name, Inspection(answer.files or consumer.files))
        if answer.problems:
            stands = consumer.standing(live.key.fingerprint)
            return self._failed(stands, answer.problems[0], live.key, consumer.files, answer.problems)
        if self._check_mode:
            return self._succeeded(consumer, live)
        if self._account.read(newest=False).key != live.key:
            raise _StartOver
        return self._close(consumer, live)

    def _close(self, consumer: Consumer, live: Live) -> Deployed:
        given = given_by(self._member, self._ask("close", INSPECTING, fields_for(self._member, live)))
        problems = given.answer.problems if given.answer else (given.failure or Problem("no_answer", "no answer"),)
        if problems:
            stands = consumer.standing(live.key.fingerprint)
            return self._failed(stands, problems[0], live.key, consumer.files)
        # What a file held before this run is known from the write.
        closed = given.answer.files if given.answer else ()
        files = tuple(replace(now, held=then.held) for now, then in zip(closed, consumer.files))
        return self._succeeded(Consumer(consumer.name, Inspection(files)), live)

    def _ask(self, phase: str, limit: float, fields: Mapping[str, Any], first: float | None = None) -> Any:
        session = self._member.session
        assert session is not None
        reply = session.ask(phase, limit, first, **fields)
        reply.wait(limit + 1)
        return reply

    def _succeeded(self, consumer: Consumer, live: Live) -> Deployed:
        stands = consumer.standing(live.key.fingerprint)
        if self._check_mode:
            stands = Standing(State.UP_TO_DATE)
        if stands.state is not State.UP_TO_DATE:
            problem = Problem(Reason.NOT_UP_TO_DATE.value, stands.words)
            return self._failed(stands, problem, live.key, consumer.files)
        checks = self._member.spec is not None and self._member.spec.steps.health
        checked = "its health checks passed" if checks else "it has no health check"
        would = "Would hold" if self._check_mode and self._changed else "Holds"
        message = f"{would} the live key {live.key.masked} {live.key.fingerprint}; {checked}."
        return Deployed(stands, self._changed, consumer.files, live.key, message=message)

    def _failed(
        self,
        stands: Standing,
        problem: Problem,
        live: ApiKey | None = None,
        files: tuple[File, ...] = (),
        problems: tuple[Problem, ...] = (),
        unreachable: bool = False,
    ) -> Deployed:
        text = "; ".join(each.text.rstrip(".") for each in problems or (problem,))
        told = Problem(problem.reason, f"{text}.")
        return Deployed(Standing(stands.state, text), self._changed, files, live, unreachable, told)
