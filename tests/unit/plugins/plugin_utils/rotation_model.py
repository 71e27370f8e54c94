# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of the API for the rotation: every call meets a scripted fault or the truth, and no time passes."""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from dataclasses import dataclass, field

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account, RotationAnswer, Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Clock, Intent
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason


class Fault(enum.Enum):
    """What one call meets instead of the truth. A fault that does not fit the kind of call is no fault."""

    NONE = "none"
    LOST_BEFORE = "answer lost, nothing done"
    LOST_AFTER = "answer lost, all done"
    LATE = "answer lost, done just before the next call"
    NOT_SENT = "never left"
    SERVER_ERROR = "5xx, nothing done"
    SERVER_ERROR_AFTER = "5xx, all done"
    REFUSED = "a definite no, nothing done"
    CLAIMED = "success, nothing done"
    STALE = "the key before the last rotation"
    TOKEN_REJECTED = "the session token is refused"
    MALFORMED = "no key in the answer"
    OTHER_ACCOUNT = "the account of somebody else"


_UNANSWERED = {
    Fault.LOST_BEFORE: Reason.UNREACHABLE,
    Fault.LOST_AFTER: Reason.UNREACHABLE,
    Fault.LATE: Reason.UNREACHABLE,
    Fault.NOT_SENT: Reason.UNREACHABLE,
    Fault.SERVER_ERROR: Reason.NOT_AN_ENVELOPE,
    Fault.SERVER_ERROR_AFTER: Reason.NOT_AN_ENVELOPE,
}
_UNREADABLE = {
    **_UNANSWERED,
    Fault.REFUSED: Reason.REFUSED,
    Fault.TOKEN_REJECTED: Reason.CREDENTIALS_REJECTED,
    Fault.MALFORMED: Reason.MALFORMED_KEY,
}


@dataclass(frozen=True)
class Step:
    """What happens at one call: perhaps an outsider rotates first, then the call meets its fault."""

    fault: Fault = Fault.NONE
    outsider: bool = False


def key(number: int) -> ApiKey:
    """Return the account's key number ``number``."""
    return ApiKey(f"173axcs.{hashlib.sha256(str(number).encode()).hexdigest()}")


class FakeTime:
    """A clock that moves only when somebody sleeps or calls."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep, lambda: f"2026-06-20T03:00:00.{int(self.now * 1000) % 1000:03}Z")


@dataclass
class Model:
    """The API. ``script`` holds the steps of the next calls; ``for_ever`` is what follows it."""

    script: deque[Step] = field(default_factory=deque)
    for_ever: Step = Step()
    time: FakeTime = field(default_factory=FakeTime)
    keys: list[ApiKey] = field(default_factory=lambda: [key(0)])
    calls: list[str] = field(default_factory=list)
    commits: list[ApiKey] = field(default_factory=list)
    """The keys that were retired by requests of the code under test."""
    proven: list[ApiKey] = field(default_factory=list)
    """The keys that were accepted, each time."""
    outsiders: int = 0
    locked_out: MulticartError | None = None
    """With what every call is refused, while set."""
    lock_at: int | None = None
    """The number of calls after which the API lets nothing in any more, until the script ends."""
    _late: ApiKey | None = None

    @property
    def live(self) -> ApiKey:
        return self.keys[-1]

    def will(self, *faults: Fault | Step, for_ever: Fault = Fault.NONE) -> Model:
        """Script the next calls."""
        self.script = deque(step if isinstance(step, Step) else Step(step) for step in faults)
        self.for_ever = Step(for_ever)
        return self

    def rotate_behind(self) -> None:
        """Rotate as somebody else would."""
        self.keys.append(key(len(self.keys)))
        self.outsiders += 1

    def read(self) -> Account:
        fault = self._call("read")
        if self.locked_out:
            raise self.locked_out
        if fault in _UNREADABLE:
            raise MulticartError(_UNREADABLE[fault], f"Reading failed: {fault.value}.")
        if fault is Fault.STALE:
            return Account("7", self.keys[max(0, len(self.keys) - 2)])
        return Account("8" if fault is Fault.OTHER_ACCOUNT else "7", self.live)

    def rotate(self, key: ApiKey) -> RotationAnswer:
        fault = self._call("rotate")
        if self.locked_out:
            return RotationAnswer(Verdict.REJECTED, self.locked_out)
        if fault is Fault.REFUSED:
            return RotationAnswer(Verdict.REFUSED, MulticartError(Reason.REFUSED, "No."))
        if fault is Fault.CLAIMED:
            return RotationAnswer(Verdict.ACCEPTED)
        if fault is Fault.LATE:
            self._late = key
        done = fault not in _UNANSWERED or fault in (Fault.LOST_AFTER, Fault.SERVER_ERROR_AFTER)
        accepted = done and self._commit(key)
        if fault in _UNANSWERED:
            verdict = Verdict.NOT_SENT if fault is Fault.NOT_SENT else Verdict.UNCLEAR
            return RotationAnswer(verdict, MulticartError(_UNANSWERED[fault], f"Rotating failed: {fault.value}."))
        if accepted:
            return RotationAnswer(Verdict.ACCEPTED)
        return RotationAnswer(Verdict.REJECTED, MulticartError(Reason.CREDENTIALS_REJECTED, "This key is dead."))

    def accepts(self, key: ApiKey) -> bool:
        assert isinstance(key, ApiKey)
        fault = self._call("accepts")
        if self.locked_out:
            return False
        if fault in _UNANSWERED:
            raise MulticartError(_UNANSWERED[fault], f"Asking failed: {fault.value}.")
        if fault is Fault.REFUSED:
            raise MulticartError(Reason.REFUSED, "A conflict, which does not say whether the key is rejected.")
        if key == self.live:
            self.proven.append(key)
        return key == self.live

    def _call(self, name: str) -> Fault:
        self.calls.append(name)
        self.time.now += 0.01
        if self.lock_at is not None and len(self.calls) > self.lock_at:
            self.locked_out = MulticartError(Reason.REFUSED, "The account is suspended.")
        step = self.script.popleft() if self.script else self.for_ever
        self._catch_up()
        if step.outsider:
            self.rotate_behind()
        return step.fault

    def finish(self) -> None:
        """End the script; a request that is late is done now."""
        self.script.clear()
        self.locked_out = self.lock_at = None
        self._catch_up()

    def _catch_up(self) -> None:
        retired, self._late = self._late, None
        if retired is not None:
            self._commit(retired)

    def _commit(self, retired: ApiKey) -> bool:
        if retired != self.live:
            return False
        self.commits.append(retired)
        self.keys.append(key(len(self.keys)))
        return True


@dataclass
class MemoryLedger:
    """What one run knows."""

    key: ApiKey | None = None
    kept: Intent | None = None
    full_after: int | None = None
    """How many more times it can save, as on a disk that fills up."""
    saved: list[Intent] = field(default_factory=list)

    def live(self) -> ApiKey | None:
        return self.key

    def keep_live(self, key: ApiKey) -> None:
        self._save()
        self.key = key

    def learn(self, account: Account) -> None:
        if self.key != account.key:
            self.key = None
        self._save()

    def intent(self) -> Intent | None:
        return Intent(**vars(self.kept)) if self.kept else None

    def record(self, intent: Intent) -> None:
        self._save()
        if (intent.sent or intent.revoked) and self.key == intent.retire:
            self.key = None
        self.kept = Intent(**vars(intent))
        self.saved.append(self.kept)

    def _save(self) -> None:
        if self.full_after is not None:
            if self.full_after == 0:
                raise MulticartError(Reason.RUN_CACHE_UNUSABLE, "The disk is full.")
            self.full_after -= 1
