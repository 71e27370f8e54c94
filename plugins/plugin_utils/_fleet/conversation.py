# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What the act and a deployment say to a host and hear from it: one member, its requests, its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import digest_of
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import LinkError, Reply, Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Answer,
    MalformedAnswer,
    Problem,
    answer_from,
)

INSPECTING = 60.0
"""Seconds in which a host must have been connected to and inspected, and likewise for each other request."""

WRITING = 30.0
"""Seconds in which a host must have written its files."""


@dataclass
class Member:
    """A host that takes part.

    :ivar spec: what it is to hold; None: that is not known.
    :ivar session: None: it cannot be connected to.
    :ivar failure: why it cannot take part.
    :ivar render: returns the content of each file for a key; None where a file is no template.
    """

    name: str
    spec: HostSpec | None = None
    session: Session | None = None
    failure: Problem | None = None
    render: Callable[[ApiKey], list[str | None]] | None = None


@dataclass(frozen=True)
class Given:
    """What a host has answered, or why it has not, and whether it was reached at all."""

    answer: Answer | None = None
    failure: Problem | None = None
    reached: bool = True


def fields_for(member: Member, live: Live | None, contents: Sequence[str | None] = ()) -> dict[str, Any]:
    """Return what each request to a host holds.

    :param live: the live key, by fingerprint alone; None: it is not known.
    :param contents: of the host's files with that key, where they are templates.
    """
    assert member.spec is not None
    fields = member.spec.request()
    for number, entry in enumerate(fields["files"]):
        content = contents[number] if contents else None
        entry["digest"] = None if content is None else digest_of(content.encode())
    if live is not None:
        fields.update(live=live.key.fingerprint, account=live.account)
    return fields


def rendered(member: Member, key: ApiKey) -> list[str | None]:
    """Return the contents of a host's files, where they are templates; a failure is the host's own."""
    try:
        return member.render(key) if member.render is not None else []
    except MulticartError as error:
        member.failure = Problem(error.reason.value, f"{error.what} {error.advice}".rstrip("."))
        return []


def given_by(member: Member, reply: Reply) -> Given:
    """Read what a host has given in time; one that was late, or whose answer is malformed, is not asked again."""
    session, spec = member.session, member.spec
    assert session is not None and spec is not None
    if not reply.wait(0):
        session.give_up(LinkError("timed_out", f"it did not answer within {reply.limit:g} s"))
    if reply.error is not None:
        return Given(None, reply.error.problem, reply.error.reached)
    try:
        return Given(answer_from(reply.said, reply.moments, spec.names))
    except MalformedAnswer as error:
        malformed = LinkError("malformed_answer", f"its answer is malformed: {error}")
        session.give_up(malformed)
        return Given(None, malformed.problem)
