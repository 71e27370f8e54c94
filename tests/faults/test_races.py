# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twenty processes that rotate one account at once: as twenty controllers, and as twenty forks of one run.

What each learns is held against the API's own books. Where they wait for one another is decided by gates between
the processes, never by the clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import rotate_key
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Request, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.faults.racers import Told, by_caller, die, flag, gate, once, race
from tests.integration.harness import fingerprint
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account, JournalEntry

RACERS = 20
WAVES = 4
FOR_EVER = -1
SECONDS = 240.0


@dataclass
class Racing:
    """An account that many rotate, and who of them asked what."""

    sandbox: Sandbox
    email: str
    folder: Path
    began: int
    callers: dict[str, int] = field(default_factory=dict)

    @property
    def account(self) -> Account:
        return self.sandbox.account(self.email)

    @property
    def live(self) -> str:
        return fingerprint(self.account["api_key"])

    @property
    def login(self) -> Login:
        return Login(self.email, self.account["password"])

    def connect(self, racer: int) -> Connection:
        """Return a connection with a session of this caller's own, with a timeout for a very busy machine."""
        token = self.sandbox.token(self.email)
        self.callers[fingerprint(token)] = racer
        return Connection(self.sandbox.url, session_token=token, timeout=30.0)

    def controller(self, racer: int) -> RunCache:
        """Return the run cache of a run that shares nothing with another."""
        folder = self.folder / f"run-{racer}"
        folder.mkdir(mode=0o700)
        return RunCache(str(folder), folder.name.encode())

    def faults(self, faults: tuple[dict[str, Any], ...]) -> None:
        self.sandbox.faults([{**fault, "account": self.email} for fault in faults])

    def journal(self) -> list[JournalEntry]:
        return [entry for entry in self.sandbox.journal(self.began) if entry["account"] == self.account["id"]]

    def commits(self) -> list[JournalEntry]:
        return [entry for entry in self.journal() if entry["committed"]]

    def asked_by(self) -> dict[int, list[JournalEntry]]:
        return by_caller(self.journal(), self.callers)


@pytest.fixture
def racing(sandbox: Sandbox, new_account: Callable[[], Account], tmp_path: Path) -> Iterator[Racing]:
    began = max((entry["seq"] for entry in sandbox.journal()), default=0)
    yield Racing(sandbox, new_account()["email"], tmp_path, began)
    sandbox.clear()


def rotate(fault: str, times: int = FOR_EVER, **more: Any) -> dict[str, Any]:
    return {"on": "rotate", "fault": fault, "times": times, **more}


def read_back(fault: str, times: int, **more: Any) -> dict[str, Any]:
    """The reads after everybody's first one."""
    return {"on": "read", "fault": fault, "times": times, "after": RACERS, "credential": "token", **more}


# --- twenty controllers that name the key ---------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What the API does while all of them rotate.

    :ivar together: nobody sends the rotation before all of them have read the old key.
    :ivar lossy: answers get lost, so that a caller cannot know whether it was its own request that counted.
    """

    faults: tuple[dict[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    together: bool = True
    lossy: bool = False
    login: bool = False


ROWS = {
    "all-have-read": Row(),
    "carried-out-late": Row((rotate("late_commit", seconds=0.3),)),
    "losers-read-the-dead-key": Row((read_back("stale_read", 30),)),
    "answers-lost-after-commit": Row((rotate("answer_lost_after_commit"),), lossy=True),
    "answers-lost-before-commit": Row((rotate("answer_lost_before_commit", RACERS // 2),), lossy=True),
}
FULL = {
    "as-they-come": Row(together=False),
    "answered-late": Row((rotate("slow", 1, seconds=3.0),)),
    "all-lost-once": Row((rotate("reset_before", RACERS),), lossy=True),
    "reads-fail-for-a-while": Row((read_back("http_503", 30),)),
    "proxy-fails-after-commit": Row((rotate("http_502_after_commit"),), lossy=True),
    "tokens-die": Row(settings={"tokens_die_with_rotation": True}, login=True),
    "tokens-die-and-answers-are-lost": Row(
        (rotate("reset_after"),), settings={"tokens_die_with_rotation": True}, login=True, lossy=True
    ),
    **{
        f"dead-is-said-as-{form}": Row(settings={"dead_credential": form})
        for form in ("envelope400", "http401", "http403")
    },
}


@pytest.mark.parametrize(
    "row",
    [
        *(pytest.param(row, id=name) for name, row in ROWS.items()),
        *(pytest.param(row, id=name, marks=pytest.mark.full) for name, row in FULL.items()),
    ],
)
def test_twenty_controllers_that_name_the_key_rotate_once(racing: Racing, row: Row) -> None:
    if row.settings:
        racing.sandbox.settings(racing.email, **row.settings)
    retire = racing.live
    connections = [racing.connect(racer) for racer in range(RACERS)]
    if row.login:
        connections = [replace(connection, login=racing.login) for connection in connections]
    racing.faults(row.faults)
    all_have_read = gate(RACERS)

    def work(racer: int) -> Result:
        if row.together:
            once("rotate", before=all_have_read.wait)
        return rotate_key(connections[racer], racing.controller(racer), Request(retire))

    told = race(RACERS, work)
    [commit] = racing.commits()
    assert (commit["credential"], commit["fingerprint"], racing.account["rotations"]) == ("key", retire, 1)
    assert {(one.live, one.proven, one.says) for one in told if one} == {(racing.live, True, "")}
    outcomes = Counter(one.outcome for one in told if one)
    assert sum(outcomes.values()) == RACERS
    if not row.lossy:
        assert outcomes == {"rotated": 1, "already_rotated": RACERS - 1}
        return
    # A caller that did not hear the answer knows that the key it named was replaced, and is not sure by whom.
    assert outcomes["rotated"] >= 1
    sent = {racer for racer, asked in racing.asked_by().items() if commit in asked} if not row.login else set()
    assert all(told[racer].outcome == "rotated" for racer in sent)


# --- twenty controllers that rotate whatever is live ----------------------------------------------


def check_honest(racing: Racing, told: list[Told | None]) -> None:
    """Every accepted rotation is reported by its caller and by nobody else; nobody vouches for an unproven key."""
    asked = racing.asked_by()
    for racer, one in enumerate(told):
        assert one is not None
        mine = [entry["fingerprint"] for entry in asked[racer] if entry["committed"]]
        assert mine == ([one.previous] if one.outcome == "rotated" else []), (racer, one)
        let_in = {entry["fingerprint"] for entry in asked[racer] if entry["credential"] == "key" and entry["accepted"]}
        if one.reason is None:
            assert one.proven
            assert one.live in let_in - set(mine), (racer, one)
        else:
            assert (one.reason, one.proven) == ("new_key_rejected", False), (racer, one)
            assert "Run again" in one.says
    assert sum(one.outcome == "rotated" for one in told if one) == racing.account["rotations"]


@pytest.mark.parametrize("turn", [1, pytest.param(2, marks=pytest.mark.full), pytest.param(3, marks=pytest.mark.full)])
def test_twenty_controllers_that_rotate_whatever_is_live_each_report_their_own(racing: Racing, turn: int) -> None:
    connections = [racing.connect(racer) for racer in range(RACERS)]
    told = race(RACERS, lambda racer: rotate_key(connections[racer], racing.controller(racer), Request()))
    assert 1 <= racing.account["rotations"] <= RACERS
    check_honest(racing, told)


def test_a_key_that_is_replaced_before_it_was_proven_is_never_vouched_for(racing: Racing) -> None:
    """In waves: one reads when the one before has rotated, and that one verifies its key when this one has rotated."""
    size = RACERS // WAVES
    connections = [racing.connect(racer) for racer in range(RACERS)]
    may_read, rotated = [flag() for _wave in range(WAVES + 1)], [flag() for _wave in range(WAVES)]
    have_read, have_sent = ([gate(size) for _wave in range(WAVES)] for _which in range(2))
    may_read[0].set()

    def work(racer: int) -> Result:
        wave = racer % WAVES
        assert may_read[wave].wait(SECONDS)

        def sent() -> None:
            have_sent[wave].wait()
            rotated[wave].set()
            may_read[wave + 1].set()

        once("rotate", before=have_read[wave].wait, after=sent)
        once("accepts", before=rotated[min(wave + 1, WAVES - 1)].wait)
        return rotate_key(connections[racer], racing.controller(racer), Request())

    told = race(RACERS, work)
    assert racing.account["rotations"] == WAVES
    check_honest(racing, told)
    last = {one.live for racer, one in enumerate(told) if one and racer % WAVES == WAVES - 1}
    assert last == {racing.live}


# --- twenty forks of one run ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [None, rotate("answer_lost_after_commit"), rotate("answer_lost_before_commit", 1)],
    ids=["answered", "lost-after-commit", "lost-before-commit"],
)
def test_twenty_forks_of_one_run_rotate_once(racing: Racing, fault: dict[str, Any] | None) -> None:
    """Whichever credential a task uses, and whether it names the key or not: it is one intent of one account."""
    cache, retire = racing.controller(0), racing.live
    with_token = racing.connect(0)
    with_login = replace(with_token, session_token=None, login=racing.login)
    racing.faults((fault,) if fault else ())

    def work(racer: int) -> Result:
        connection = with_login if racer % 2 else with_token
        return rotate_key(connection, cache, Request(retire if racer % 3 else None))

    told = race(RACERS, work)
    assert [commit["fingerprint"] for commit in racing.commits()] == [retire]
    assert {(one.live, one.previous, one.proven, one.says) for one in told if one} == {(racing.live, retire, True, "")}
    assert Counter(one.outcome for one in told if one) == {"rotated": 1, "already_rotated": RACERS - 1}


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_fork_that_is_killed_while_it_rotates_leaves_its_intent_to_the_others(racing: Racing, point: str) -> None:
    cache, retire, connection = racing.controller(0), racing.live, racing.connect(0)
    killed = flag()

    def end() -> None:
        if not killed.is_set():
            killed.set()
            die()

    def work(_racer: int) -> Result:
        once("rotate", **{point: end})
        return rotate_key(connection, cache, Request())

    told = race(RACERS, work)
    assert told.count(None) == 1
    assert [commit["fingerprint"] for commit in racing.commits()] == [retire]
    assert {(one.live, one.previous, one.proven, one.says) for one in told if one} == {(racing.live, retire, True, "")}
    assert Counter(one.outcome for one in told if one) == {"rotated": 1, "already_rotated": RACERS - 2}
