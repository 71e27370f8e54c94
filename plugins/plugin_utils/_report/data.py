# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""What a run did, told from what came of its act. No HTTP, no Ansible, no I/O, and no secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import READERS
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import again, deploy
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Step, confirmed
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, State
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_time, parse_time, utc_now

FORMAT = 1
"""Of the JSON file; a larger number breaks what reads it."""

EVENTS = ("armed", "released", "written", "restarted", "healthy")
"""What happens at a consumer, in order: the last three on the host."""

RUN_EVENTS = ("change", "failure", "drift")
"""What makes a run worth telling: it changed something; it failed; an audit found consumers that are not up to date."""

NOT_NEEDED = "not_needed"
"""The outcome of a run that had nothing to rotate."""

HOST, STORE = "host", "store"
"""The kinds of consumers."""


@dataclass(frozen=True)
class Key:
    """A key as it may be shown."""

    masked: str | None
    fingerprint: str


@dataclass(frozen=True)
class Decision:
    """What the run decided to do, one of :class:`plan.Step`, and why."""

    step: str
    why: str


@dataclass(frozen=True)
class Place:
    """A file, or a store under its label.

    :ivar recorded: nobody can read it; what it holds is known by its record alone.
    """

    path: str
    variable: str | None
    recorded: bool


@dataclass(frozen=True)
class OldProcess:
    """A process that holds another key than the live one.

    :ivar key: that key, by fingerprint.
    :ivar tolerated: it is a login or a passing job, which may keep the key until it ends.
    """

    command: str
    pid: int
    where: str
    key: str
    tolerated: bool

    @property
    def words(self) -> str:
        return f"{self.command} (process {self.pid}, {self.where}) holds {self.key}"


@dataclass(frozen=True)
class Line:
    """One consumer.

    :ivar state: one of :class:`state.State`, or ``unknown``.
    :ivar why: what is wrong with it; None: nothing, or nothing that is known.
    :ivar times: when each event happened.
    :ivar seconds: the same, relative to the rotation; empty without one.
    :ivar changed: whether this run wrote or restarted anything there.
    :ivar kind: ``host`` or ``store``.
    :ivar wave: in which wave it got the key.
    :ivar checked: it passed its health checks in this run; None: it has none.
    :ivar hidden: it has processes that could not be read.
    """

    name: str
    state: str
    why: str | None
    times: Mapping[str, datetime]
    seconds: Mapping[str, float]
    changed: bool
    kind: str = HOST
    wave: int = 0
    files: Sequence[Place] = ()
    checked: bool | None = None
    processes: Sequence[OldProcess] = ()
    hidden: bool = False

    @property
    def done(self) -> bool:
        return self.state == State.UP_TO_DATE.value

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until its last restart has ended; None: it was not written, or is not done."""
        steps = [self.seconds[event] for event in ("written", "restarted") if event in self.seconds]
        return max(steps) if steps and self.done else None


@dataclass(frozen=True)
class Group:
    """Several consumers, and the numbers that they have in common.

    :ivar wave: the wave that all of them are of; None: several.
    """

    lines: Sequence[Line]
    wave: int | None = None

    @property
    def unfinished(self) -> list[Line]:
        return [line for line in self.lines if not line.done]

    @property
    def armed(self) -> int:
        """How many of them waited for the key before the rotation."""
        return sum("armed" in line.times for line in self.lines)

    def last(self, event: str) -> float | None:
        """Seconds from the rotation until an event has happened at the last of those where it did."""
        return max((line.seconds[event] for line in self.lines if event in line.seconds), default=None)

    @property
    def outage(self) -> float | None:
        """Seconds from the rotation until the last restart of all has ended; None: there was none, or it goes on."""
        outages = [line.outage for line in self.lines if line.outage is not None]
        return max(outages) if outages and not self.unfinished else None


@dataclass(frozen=True)
class Versions:
    """Who made the report."""

    collection: str
    core: str


@dataclass(frozen=True)
class Report:
    """What a run did.

    :ivar outcome: one of :class:`rotation.Outcome`, or ``not_needed``.
    :ivar reason: why the run failed; None: it did not.
    :ivar message: the same in words.
    :ivar account: the name of the account in the inventory.
    :ivar decision: None: the run failed before it.
    :ivar lines: the consumers: those that are not done first, then by wave, in the order in which they were written.
    :ivar finish: how to finish what is not done.
    :ivar run: ``rotate``, ``deploy`` or ``audit``.
    :ivar whole: it was about all consumers.
    :ivar key_since: since when the live key is live; None: that is not known.
    """

    outcome: str
    reason: str | None
    message: str | None
    account: str
    decision: Decision | None
    old_key: Key | None
    new_key: Key | None
    new_key_works: bool | None
    old_key_rejected: bool | None
    rotated_at: datetime | None
    lines: Sequence[Line]
    versions: Versions
    made_at: datetime
    finish: str | None = None
    run: str = "rotate"
    whole: bool = True
    key_since: datetime | None = None

    @property
    def fleet(self) -> Group:
        """All consumers."""
        return Group(self.lines)

    @property
    def waves(self) -> list[Group]:
        """The consumers by wave."""
        waves = sorted({line.wave for line in self.lines})
        return [Group([line for line in self.lines if line.wave == wave], wave) for wave in waves]

    @property
    def unfinished(self) -> list[Line]:
        return self.fleet.unfinished

    @property
    def last_write(self) -> float | None:
        """Seconds from the rotation until the last file was written; None: none was by this run."""
        return self.fleet.last("written")

    @property
    def outage(self) -> float | None:
        """The outage of the fleet, see :attr:`Group.outage`."""
        return self.fleet.outage

    @property
    def events(self) -> list[str]:
        """Which of the events of runs this one was."""
        drifted = self.run == "audit" and self.reason == Reason.NOT_UP_TO_DATE.value
        happened = {
            "change": self.outcome == Outcome.ROTATED.value or any(line.changed for line in self.lines),
            "failure": self.reason is not None and not drifted,
            "drift": drifted,
        }
        return [event for event in RUN_EVENTS if happened[event]]

    @property
    def worth_keeping(self) -> bool:
        """Whether there is anything to tell: a run that was refused, or found all in order, has changed nothing."""
        changed = any(line.changed for line in self.lines)
        return self.decision is not None and (self.outcome != NOT_NEEDED or self.reason is not None or changed)

    def to_json(self) -> dict[str, Any]:
        """Return it as the role's README describes it: moments in UTC, durations in seconds."""
        return {
            "format": FORMAT,
            "made_at": iso_time(self.made_at),
            "versions": vars(self.versions),
            "run": self.run,
            "events": self.events,
            "outcome": self.outcome,
            "reason": self.reason,
            "message": self.message,
            "account": self.account,
            "decision": self.decision and vars(self.decision),
            "old_key": self.old_key and vars(self.old_key),
            "new_key": self.new_key and vars(self.new_key),
            "key_since": self.key_since and iso_time(self.key_since),
            "new_key_works": self.new_key_works,
            "old_key_rejected": self.old_key_rejected,
            "rotated_at": self.rotated_at and iso_time(self.rotated_at),
            "finish": self.finish,
            **_group_to_json(self.fleet),
            "waves": [{"wave": group.wave, **_group_to_json(group)} for group in self.waves],
            "hosts": [
                {
                    "name": line.name,
                    "state": line.state,
                    "why": line.why,
                    "kind": line.kind,
                    "wave": line.wave,
                    "changed": line.changed,
                    "files": [vars(file) for file in line.files],
                    "health_checks_passed": line.checked,
                    "processes": [vars(process) for process in line.processes],
                    "processes_hidden": line.hidden,
                    "times": {event: iso_time(line.times[event]) for event in EVENTS if event in line.times},
                    "seconds": dict(line.seconds),
                    "outage_seconds": line.outage,
                }
                for line in self.lines
            ],
        }


def _group_to_json(group: Group) -> dict[str, Any]:
    return {
        "consumers": {
            "total": len(group.lines),
            "unfinished": len(group.unfinished),
            "armed": group.armed,
            "stores": sum(line.kind == STORE for line in group.lines),
        },
        "last_release_seconds": group.last("released"),
        "last_write_seconds": group.last("written"),
        "outage_seconds": group.outage,
    }


def report_from(kept: Mapping[str, Any]) -> Report:
    """Read what :meth:`Report.to_json` returned."""
    return Report(
        outcome=kept["outcome"],
        reason=kept["reason"],
        message=kept["message"],
        account=kept["account"],
        decision=Decision(**kept["decision"]) if kept["decision"] else None,
        old_key=Key(**kept["old_key"]) if kept["old_key"] else None,
        new_key=Key(**kept["new_key"]) if kept["new_key"] else None,
        new_key_works=kept["new_key_works"],
        old_key_rejected=kept["old_key_rejected"],
        rotated_at=parse_time(kept["rotated_at"]),
        lines=list(map(_line_from, kept["hosts"])),
        versions=Versions(**kept["versions"]),
        made_at=parse_time(kept["made_at"]) or utc_now(),
        finish=kept["finish"],
        run=kept["run"],
        key_since=parse_time(kept["key_since"]),
    )


def _line_from(host: Mapping[str, Any]) -> Line:
    times = {event: parse_time(text) for event, text in host["times"].items()}
    return Line(
        name=host["name"],
        state=host["state"],
        why=host["why"],
        times={event: moment for event, moment in times.items() if moment is not None},
        seconds=host["seconds"],
        changed=host["changed"],
        kind=host["kind"],
        wave=host["wave"],
        files=[Place(**file) for file in host["files"]],
        checked=host["health_checks_passed"],
        processes=[OldProcess(**process) for process in host["processes"]],
        hidden=host["processes_hidden"],
    )


def report_of(result: ActResult, account: str, versions: Versions, made_at: datetime) -> Report:
    """Tell what came of an act, as if it was to rotate the key of the whole fleet."""
    rotation = result.rotation
    outcome = rotation.outcome.value if rotation is not None else NOT_NEEDED
    rotated_at = parse_time(rotation.rotated_at) if rotation is not None else None
    new = _new_key(result)
    lines = in_order([line_of(host, rotated_at, not result.is_live_lost) for host in result.hosts])
    plan = result.plan
    finish = None
    if result.error is not None:
        by_deploying = result.error.reason is Reason.NOT_UP_TO_DATE
        finish = _deploying(lines) if by_deploying else again(plan.retire if plan is not None else None)
    return Report(
        outcome=outcome,
        reason=result.error.reason.value if result.error else None,
        message=_message(result, lines),
        account=account,
        decision=Decision(plan.step.value, plan.why) if plan is not None else None,
        old_key=_old_key(result),
        new_key=new,
        new_key_works=rotation.verified if rotation is not None and rotation.error is None else None,
        old_key_rejected=rotation.old_key_rejected if rotation is not None else None,
        rotated_at=rotated_at,
        lines=lines,
        versions=versions,
        made_at=made_at,
        finish=finish,
        key_since=result.since if new is not None else None,
    )


def joined(reports: Sequence[Report]) -> Report:
    """Make one report of those of the deployments to single hosts, of which there is at least one."""
    lines = in_order([line for report in reports for line in report.lines])
    failed = next((report for report in reports if report.reason), None)
    told = next((report for report in reports if report.new_key), reports[0])
    whole = replace(told, lines=lines, made_at=max(report.made_at for report in reports), reason=None, message=None)
    whole = replace(whole, key_since=confirmed(report.key_since for report in reports if report.key_since))
    if failed is None:
        return whole
    message = _count(lines) if failed.reason == Reason.NOT_UP_TO_DATE.value else failed.message
    return replace(whole, reason=failed.reason, message=message, finish=_deploying(lines))


def _deploying(lines: Sequence[Line]) -> str:
    """Return the command that finishes what is not done.

    It names no host if one of them comes after the stores: it is done only in a run in which these are, too.
    """
    unfinished = [line for line in lines if not line.done]
    later = any(line.wave or READERS.path in [file.path for file in line.files] for line in unfinished)
    return deploy([] if later else [line.name for line in unfinished])


def _count(lines: Sequence[Line]) -> str:
    return f"{sum(not line.done for line in lines)} of {len(lines)} consumers are not up to date."


def _message(result: ActResult, lines: Sequence[Line]) -> str | None:
    if result.error is None:
        return None
    if result.error.reason is Reason.NOT_UP_TO_DATE:  # the consumers, each with its state, stand below
        return _count(lines)
    return str(result.error)


def _old_key(result: ActResult) -> Key | None:
    """Return the key that was retired, by this run or before; None: none was."""
    rotation, plan = result.rotation, result.plan
    if rotation is not None:
        nothing = rotation.outcome in (Outcome.UNCHANGED, Outcome.WOULD_ROTATE)
        return None if nothing else _shown(rotation.previous)
    if plan is None or plan.retire is None or plan.step is Step.ROTATE:
        return None
    return Key(None, plan.retire)


def _new_key(result: ActResult) -> Key | None:
    """Return the key that is live at the end, where that is known."""
    rotation = result.rotation
    if rotation is not None and rotation.live is None and rotation.outcome is not Outcome.UNCHANGED:
        return None
    return _shown(result.live.key) if result.live is not None else None


def _shown(key: ApiKey | None) -> Key | None:
    return None if key is None else Key(key.masked, key.fingerprint)


def line_of(host: HostResult, rotated_at: datetime | None, known: bool) -> Line:
    """Tell how a consumer fared.

    :param known: whether it is known which key is live.
    """
    times = {event: host.moments[event] for event in EVENTS if event in host.moments}
    seconds = {event: round((at - rotated_at).total_seconds(), 3) for event, at in times.items()} if rotated_at else {}
    return Line(
        name=host.name,
        state=host.standing.state.value if known else UNKNOWN,
        why=host.standing.why if known else None,
        times=times,
        seconds=seconds,
        changed=host.changed,
        kind=STORE if host.has_stores else HOST,
        wave=host.wave,
        files=[Place(file.path, file.variable, file.recorded) for file in host.files],
        checked=host.checked,
        processes=[
            OldProcess(each.command, each.pid, each.where, each.key, tolerated=not each.blamed)
            for each in host.processes
        ],
        hidden=host.hidden,
    )


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Sort the consumers: those that are not done first, then by wave, in the order in which they were written."""
    never = datetime.max.replace(tzinfo=timezone.utc)
    return sorted(lines, key=lambda line: (line.done, line.wave, line.times.get("written", never), line.name))
