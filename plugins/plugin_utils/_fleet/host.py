# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""One host on its way through an act: what it is to hold, its session, and what is known of it by now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import digest_of
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import withhold
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import READERS, HostSpec
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Answer,
    Consumer,
    Inspection,
    MalformedAnswer,
    Problem,
    Standing,
    State,
    answer_from,
    described,
)

INSPECTING = 60.0
"""Seconds in which a host must have been connected to and inspected, and likewise for each other request."""

ROLL_CALL = 5.0
"""Seconds in which an armed host must answer immediately before the rotation."""

WRITING = 30.0
"""Seconds in which a host must have written its files."""


class Templates(Protocol):
    """The user's templates of a host's files."""

    def render(self, key: ApiKey) -> list[str | None]:
        """Return the content of each file for a key; None where a file is no template.

        :raises MulticartError: why one cannot be rendered.
        """

    def check(self, key: ApiKey) -> None:
        """Find out whether the key in each comes from the variable for it alone.

        :raises MulticartError: from elsewhere, too; and so does every later call of `render`.
        """


@dataclass
class Host:
    """A host of an act.

    :ivar spec: what it is to hold; None: that is not known.
    :ivar session: None: it cannot be connected to, see ``failure``.
    :ivar templates: None: none of its files is one.
    :ivar failure: what has failed there; None: nothing has.
    :ivar steps_done: what it was asked to restart and to check went well, whatever else has failed.
    :ivar notes: what there is to tell of it besides, a sentence each.
    :ivar moments: when each event happened there, UTC.
    :ivar secrets: the keys that it has, or is given; no text of it that repeats one is shown.
    """

    name: str
    spec: HostSpec | None = None
    session: Session | None = None
    failure: Problem | None = None
    templates: Templates | None = None
    inspection: Inspection | None = None
    reached: bool = True
    changed: bool = False
    steps_done: bool = False
    notes: list[str] = field(default_factory=list)
    moments: dict[str, datetime] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set, repr=False)

    @property
    def consumer(self) -> Consumer:
        return Consumer(self.name, self.inspection, self.failure, self.reached)

    @property
    def has_stores(self) -> bool:
        return self.spec is not None and self.spec.has_stores

    @property
    def has_readers_alone(self) -> bool:
        """Whether it has no file of its own: what it restarts reads the key from a store."""
        return self.spec is not None and READERS in self.spec.files

    @property
    def wave(self) -> int:
        return self.spec.wave if self.spec is not None else 0

    @property
    def wave_timeout(self) -> float:
        return self.spec.wave_timeout if self.spec is not None else 0.0

    @property
    def is_armed(self) -> bool:
        """Whether its program waits for the key."""
        return self.session is not None and self.session.holds

    @property
    def is_new(self) -> bool:
        """Whether nothing there can have an old key: no file has held any."""
        if self.inspection is None or self.has_readers_alone:
            return False
        return not any(file.held or file.unknown for file in self.inspection.files)

    @property
    def can_be_asked(self) -> bool:
        return self.session is not None and self.session.over is None

    @property
    def longest_deploy(self) -> float:
        """Seconds in which it must have written its files, restarted what reads them, and shown its health."""
        return WRITING + (self.spec.longest_deploy if self.spec is not None else 0.0)

    @property
    def is_checked(self) -> bool | None:
        """Whether it passed its health checks in this run; None: it has none."""
        has_checks = self.spec is not None and bool(self.spec.steps.health)
        if not has_checks:
            return None
        # What was restarted again after that has to pass them again.
        healthy = self.moments.get("healthy")
        return healthy is not None and healthy >= self.moments.get("restarted", healthy)

    def is_settled(self, live: str, rewrites: bool = False) -> bool:
        """Whether there is nothing to do there, not even to check.

        :param rewrites: what a template makes of the same key by now is something to do.
        """
        settled = all(
            file.record is not None and not file.record.open and file.record.held == live and not file.changed
            for file in self.consumer.files
        )
        checks = self.spec is not None and self.spec.steps.health
        outdated = rewrites and any(file.outdated for file in self.consumer.files)
        return settled and not outdated and not checks and self.consumer.standing(live) == Standing(State.UP_TO_DATE)

    def ask(self, phase: str, live: Live | None, limit: float = INSPECTING, **fields: Any) -> Reply:
        """Send a request about its files.

        :param live: the live key, told by its fingerprint alone; None: it is not known.
        :param fields: of the request; and for each file, its ``contents`` where it is a template, and the keys that
            must still be in it, ``inspected``.
        """
        session, spec = self._talk()
        nothing = [None] * len(spec.files)
        contents, inspected = (fields.pop(name, None) or nothing for name in ("contents", "inspected"))
        request = {**spec.request(), **fields}
        for entry, content, held in zip(request["files"], contents, inspected, strict=True):
            entry["digest"] = None if content is None else digest_of(content.encode())
            entry["content"] = content if phase == "deploy" else None
            entry["inspected"] = held
        if live is not None:
            request.update(live=live.key.fingerprint, account=live.account)
            request["live_shape"] = [live.key.prefix, len(live.key.reveal())]  # by which a copy elsewhere is found
            self.secrets.add(live.key.reveal())
        first = WRITING if phase == "deploy" else None
        return session.ask(phase, limit, first, **request)

    def _talk(self) -> tuple[Session, HostSpec]:
        """Return what it takes to talk to the host; only those are asked that have both."""
        if self.session is None or self.spec is None:
            raise MulticartError(Reason.INTERNAL_ERROR, "A host without a session was asked.")
        return self.session, self.spec

    def contents(self, key: ApiKey) -> list[str | None]:
        """Return the content of each file for a key, where it is a template; what fails is the host's failure."""
        try:
            return self.templates.render(key) if self.templates is not None else []
        except MulticartError as error:
            self.failure = Problem(error.reason.value, str(error))
            return []

    def check_templates(self, key: ApiKey) -> None:
        """Find out whether its templates would keep a key that a rotation ends; what they made before was checked."""
        checked = all(
            file.record is not None and file.record.held == key.fingerprint and not file.outdated
            for file in self.consumer.files
        )
        if self.templates is None or checked:
            return
        try:
            self.templates.check(key)
        except MulticartError as error:
            self.failure = Problem(error.reason.value, str(error))

    def take(self, reply: Reply) -> Answer | None:
        """Take over what it has answered; None: it has not, and ``failure`` says why."""
        session, spec = self._talk()
        over = reply.error
        if over is None:
            asked_about = [] if reply.request["phase"] == "ping" else spec.names
            try:
                said = withhold(reply.said, self.secrets)
                return self._taken(answer_from(said, reply.moments, asked_about))
            except MalformedAnswer as error:
                over = LinkError("malformed_answer", f"its answer is malformed: {error}")
                session.give_up(over)
        self.failure, self.reached = over.problem, over.reached
        return None

    def _taken(self, answer: Answer) -> Answer:
        if answer.problems:
            self.failure = Problem(answer.problems[0].reason, described(answer.problems))
        if answer.files:
            # What a file held before this run is known from the first answer.
            before = [file.held for file in self.inspection.files] if self.inspection is not None else []
            held = before if len(before) == len(answer.files) else [file.held for file in answer.files]
            files = tuple(replace(file, held=kept) for file, kept in zip(answer.files, held, strict=True))
            known = self.inspection or Inspection(files)
            lacking = known.lacking if answer.lacking is None else answer.lacking
            processes = known.processes if answer.processes is None else answer.processes
            # Where some could not be read, that is so later, too, even if they were not inspected again.
            self.inspection = Inspection(files, lacking, processes, known.hidden or answer.hidden)
        return answer
