# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs that are killed anywhere, then fleets that change, then the same command again: all of them, without I/O.

The hosts' records are made by the functions with which hosts make them, the decisions by the plan itself; in between is
nothing but this model of an act, which does each of its steps on any part of the fleet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import (
    AccountState,
    Plan,
    Retirement,
    Step,
    Wanted,
    age_of_key,
    make_plan,
    pending_rotation,
    retirement,
    verdict,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Consumer,
    File,
    Inspection,
    Problem,
    State,
    record_from,
)

KEYS = [f"{number:016x}" for number in range(9)]
"""The keys of the account, each made by the rotation of the one before it. A run rotates ``KEYS[1]``."""
OLDER, OLD, NEW = KEYS[:3]
READERS = records.readers_of([], [])
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
SINCE = "2026-01-01T00:00:00.000Z"
AGAIN = Wanted(confirmed=True)


@dataclass
class Host:
    """A consumer: the key in its file, and its record as the host keeps it."""

    name: str
    key: str | None = OLD
    record: records.Record | None = None
    down: bool = False
    foreign: bool = False

    def consumer(self) -> Consumer:
        if self.down:
            return Consumer(self.name, failure=Problem("unreachable", "it is unreachable"), reached=False)
        due = self.key is not None and records.restart_due(self.record, self.key, READERS)
        known = None if self.record is None else record_from(records.checked(self.record))
        problem = Problem("other_account", "it holds the key of another account") if self.foreign else None
        file = File("/env", "KEY", (self.key,) if self.key else (), restart_due=due, record=known, problem=problem)
        return Consumer(self.name, Inspection((file,)))

    # What the host does, as `KeyFile` does it.

    def open(self, retire: str) -> None:
        known = self.record
        if known is None and self.key is not None:
            known = records.adopted(records.NONE, self.key)
        self.record = records.opened(known, retire)

    def write(self, key: str, retires: str | None = None) -> None:
        kept = self.record
        if self.key != key:
            kept = records.rewritten(kept or records.NONE, READERS)
        elif kept is None:
            kept = records.adopted(records.NONE, key)
        self.key = key
        self.record = records.wrote(kept or records.NONE, key, "0" * 16, SINCE)
        if retires is not None:
            self.record = records.retired(self.record, retires, records.UNSEEN, None, True)

    def close(self) -> None:
        if self.record is not None and self.key is not None:
            self.record = records.closed(records.restarted(self.record, READERS, self.key))

    def conclude(self, retired: str | None, seen: str = records.REJECTED, accepted: bool = True) -> None:
        if self.record is not None:
            self.record = records.concluded(self.record)
            if retired is not None:
                self.record = records.retired(self.record, retired, seen, SINCE, accepted)


@dataclass
class World:
    """The account and its consumers, and what was done to them."""

    hosts: list[Host]
    live: str = OLD
    rotations: int = 0
    plans: list[Plan] = field(default_factory=list)

    def copy(self) -> World:
        return replace(self, hosts=[replace(host) for host in self.hosts], plans=[])

    def fleet(self) -> list[Consumer]:
        return [host.consumer() for host in self.hosts]

    def rotate(self) -> None:
        self.live = KEYS[KEYS.index(self.live) + 1]
        self.rotations += 1

    def red(self) -> bool:
        """Tell whether a run that ends now is red for what its consumers hold."""
        return verdict({each.name: each.standing(self.live) for each in self.fleet()}) is not None

    def behind(self) -> list[str]:
        """Return who holds a key that is not the live one, or may run with another than it holds."""
        states = {each.name: each.standing(self.live).state for each in self.fleet()}
        return [name for name, state in states.items() if state in (State.OUT_OF_DATE, State.RESTART_DUE)]

    def run(self, wanted: Wanted = AGAIN) -> bool:
        """Run to the end; return whether that is green."""
        behind = self.behind()
        try:
            plan = make_plan(self.fleet(), AccountState(self.live), wanted, NOW)
        except MulticartError as error:
            assert error.reason in (Reason.NOT_READY, Reason.RETIRE_UNKNOWN, Reason.OTHER_ACCOUNT)
            return False
        self.plans.append(plan)
        served = [host for host in self.hosts if not host.down and not host.foreign]
        retired = plan.retire
        if plan.step is Step.ROTATE:
            assert not behind, "a rotation would lock out for good whoever was not given the key before it"
            for host in served:
                host.open(self.live)
            retired = self.live
            self.rotate()
        for host in served:
            host.write(self.live, retired if plan.step is Step.ROTATE or plan.finishes else None)
        for host in served:
            host.close()
        for host in served:
            if plan.step is Step.ROTATE:
                host.conclude(retired)
            else:
                host.conclude(retired, records.UNSEEN, plan.finishes)
        if plan.step is Step.RETIRED and retirement(self.fleet(), str(retired)) is Retirement.UNKNOWN:
            return False
        return plan.step is not Step.CATCH_UP and not self.red()


def settled(count: int) -> World:
    """Return a fleet on which everything was done long ago."""
    world = World([Host(f"web{number}", OLDER) for number in range(count)], OLDER)
    assert world.run()
    world.rotations = 0
    return world.copy()


def new(count: int) -> World:
    """Return a fleet on which nothing was ever done."""
    return World([Host(f"web{number}") for number in range(count)])


def parts(hosts: Sequence[Host]) -> Iterator[list[int]]:
    numbers = range(len(hosts))
    for size in range(len(hosts) + 1):
        yield from map(list, itertools.combinations(numbers, size))


def killed(made: World) -> Iterator[tuple[str, World]]:
    """Yield every state in which a run that rotates may leave the fleet when it is killed.

    Within one phase hosts work at the same time, so that any part of them may have done it.
    """
    for done in parts(made.hosts):
        world = made.copy()
        for number in done:
            world.hosts[number].open(OLD)
        yield "opening", world
    accepted = made.copy()
    for host in accepted.hosts:
        host.open(OLD)
    accepted.rotate()
    for done in parts(made.hosts):
        world = accepted.copy()
        for number in done:
            world.hosts[number].write(NEW, OLD)
        yield "writing", world.copy()
        # Those that could not be written stay open; the others are closed, and all are concluded.
        for closed in parts(done):
            closing = world.copy()
            for number in closed:
                closing.hosts[done[number]].close()
            yield "closing", closing
        for number in done:
            world.hosts[number].close()
        for concluded in parts(made.hosts):
            if concluded:
                ending = world.copy()
                for number in concluded:
                    ending.hosts[number].conclude(OLD)
                yield "concluding", ending


def replaced(world: World, number: int, key: str | None) -> None:
    world.hosts[number] = Host(world.hosts[number].name, key)


def imaged(world: World, number: int) -> None:
    """An image of the time before the run."""
    world.hosts[number] = settled(1).hosts[0]


def by_hand(world: World, number: int) -> None:
    """Somebody has put the live key into the file and restarted its readers; no record knows."""
    world.hosts[number].key = world.live


def deployed(world: World, number: int) -> None:
    world.hosts[number].write(world.live)
    world.hosts[number].close()


def down(world: World, number: int) -> None:
    world.hosts[number].down = True


CHANGES: dict[str, Callable[[World, int], None]] = {
    "nothing": lambda world, number: None,
    "added": lambda world, number: world.hosts.append(Host("new", None)),
    "added from an image": lambda world, number: world.hosts.append(replace(settled(1).hosts[0], name="new")),
    "replaced by one without a key": lambda world, number: replaced(world, number, None),
    "replaced by one with the old key": lambda world, number: replaced(world, number, OLD),
    "replaced by one with the live key": lambda world, number: replaced(world, number, world.live),
    "removed": lambda world, number: world.hosts.pop(number) and None,
    "restored from an image": imaged,
    "mended by hand": by_hand,
    "deployed": deployed,
    "down": down,
    "rotated by somebody else": lambda world, number: world.rotate(),
}


@pytest.mark.parametrize("make", [settled, new])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_happens_after_a_kill_the_same_command_ends_it(
    make: Callable[[int], World], count: int, change: str
) -> None:
    """At most one more key is retired, never one that a consumer needs, and no run is green while one is behind."""
    for when, left in killed(make(count)):
        numbers = range(1 if change in ("added", "nothing", "rotated by somebody else") else count)
        for number in numbers:
            world = left.copy()
            before = left.rotations
            CHANGES[change](world, number)
            if not world.hosts:
                continue
            others = world.rotations - before
            world.rotations = before
            behind = world.behind()
            green = world.run()
            assert not green or not world.red()
            # It was asked to rotate; while anybody is behind, a key is retired only if none was by the killed run.
            assert world.rotations <= 1 or not behind, (when, left, world)
            for host in world.hosts:
                host.down = False
            for _more in range(3):
                world.run()
                assert not world.red(), (when, left, world)
            # Nothing of it is left: each run that is asked to rotates, once.
            assert world.plans[-1].step is Step.ROTATE, (when, left, world)
            assert others in (0, 1)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_kill_after_the_acceptance_is_finished_by_the_next_run_which_is_green(count: int) -> None:
    """As long as a record of it is open and no verdict was given: nobody has to say anything."""
    for when, world in killed(settled(count)):
        records = [record_from(host.record) for host in world.hosts]
        is_open = any(each.open for each in records)
        green = world.run()
        if when == "opening":
            assert (world.plans[0].step, world.rotations, green) == (Step.ROTATE, 1, True)
        elif when in ("writing", "closing") and is_open:
            assert (world.plans[0].step, world.plans[0].retire) == (Step.FINISH, OLD)
            assert (world.rotations, green) == (1, True)
        elif any(host.key == OLD for host in world.hosts):
            assert world.rotations == 1


def test_in_a_fleet_of_one_it_is_finished_and_red_once() -> None:
    for when, world in killed(settled(1)):
        is_open = record_from(world.hosts[0].record).open
        green = world.run()
        if when == "opening":
            assert (world.rotations, green) == (1, True)
        elif is_open:
            assert (world.plans[0].step, world.rotations, green) == (Step.CATCH_UP, 1, False)
            again = world.copy()
            assert again.run(Wanted(confirmed=True, retire=OLD)) and again.rotations == 1
            assert world.run() and world.rotations == 2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_named_by_its_fingerprint_a_key_is_retired_once_whatever_was_killed(count: int) -> None:
    """With ``multicart_rotate_retire`` the command may be given any number of times."""
    for when, world in killed(settled(count)):
        wanted = Wanted(confirmed=True, retire=OLD)
        for _run in range(3):
            green = world.run(wanted)
            assert world.rotations == 1, (when, world)
        assert not world.red()
        # Green: it was rejected, or two have noted that its replacement was accepted.
        assert green == (retirement(world.fleet(), OLD) in (Retirement.REJECTED, Retirement.NOT_SEEN))


# --- several accounts -----------------------------------------------------------------------------


def test_records_of_another_account_say_nothing() -> None:
    """Hosts whose files are another account's, of which a rotation is pending, and hosts of this one."""
    for _when, theirs in killed(settled(3)):
        for host in theirs.hosts:
            host.foreign = True
            host.name = f"erp-{host.name}"
        mine = World([Host(f"shop{number}", KEYS[7]) for number in range(2)], KEYS[7])
        fleet = [*mine.fleet(), *theirs.fleet()]
        assert pending_rotation(fleet, mine.live) is None
        assert age_of_key(fleet, AccountState(OLD), NOW) is None
        assert retirement(fleet, OLDER) is Retirement.UNKNOWN
        with pytest.raises(MulticartError) as caught:
            make_plan(fleet, AccountState(mine.live), Wanted(confirmed=True, force=True), NOW)
        assert caught.value.reason is Reason.NOT_READY
        with pytest.raises(MulticartError) as caught:
            make_plan(fleet, AccountState(mine.live), Wanted(confirmed=True, retire=OLD), NOW)
        assert caught.value.reason is Reason.OTHER_ACCOUNT


# --- hosts that lie -------------------------------------------------------------------------------


def lies() -> Iterator[Host]:
    """Yield what a host may say: any record, any key."""
    made = {
        "since": [None, "1970-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "2026-05-31T00:00:00Z"],
        "rotation": [
            None,
            *({"retire": key, "concluded": done} for key in (OLDER, OLD, NEW) for done in (True, False)),
        ],
        "open": [True, False],
    }
    told = [
        {"key": OLD, "seen": seen, "at": None, "accepted": seen != "unseen"} for seen in ("rejected", "still_valid")
    ]
    for since, rotation, is_open in itertools.product(*made.values()):
        fields = {"since": since, "rotation": rotation, "open": is_open, "held": OLD, "retired": told}
        kept = records.checked({**records.NONE, **fields, "updated_at": [SINCE, "2026-05-01T00:00:00Z"]})
        assert kept is not None
        for key in (OLD, NEW):
            yield Host("liar", key, {**kept, "readers": {records.ANY: key}})
    yield Host("liar", OLD, None)
    yield Host("liar", down=True)


LIES = list(lies())
LIES_OF_NO_AGE = [liar for liar in LIES if liar.record is None or liar.record["since"] is None]


def decided(world: World, wanted: Wanted = AGAIN) -> Step | Reason:
    try:
        return make_plan(world.fleet(), AccountState(world.live), wanted, NOW).step
    except MulticartError as error:
        return error.reason


def with_liars(world: World, *liars: Host) -> World:
    hosts = [*world.hosts, *(replace(liar, name=f"liar{number}") for number, liar in enumerate(liars))]
    return replace(world, hosts=hosts, plans=[])


KEPT_FROM_ROTATING = (Step.CATCH_UP, Reason.NOT_READY)
"""What a host may always bring about: it need only say that it is behind, or be silent."""


def test_one_of_five_that_lies_makes_no_rotation_begin_and_none_be_taken_for_finished() -> None:
    for _when, world in killed(settled(4)):
        truth = decided(world)
        for liar in LIES_OF_NO_AGE:
            said = decided(with_liars(world, liar))
            if truth is Step.FINISH:
                # It can say that the verdict was given; then the fleet is brought up to date, and the run is red.
                assert said in (Step.FINISH, *KEPT_FROM_ROTATING) or not world.red()
            elif said is Step.FINISH:
                # It can keep a rotation from being forgotten of which nobody has given the verdict.
                assert world.live == NEW and pending_rotation(with_liars(world, liar).fleet(), NEW) == OLD
            else:
                assert said in (truth, *KEPT_FROM_ROTATING)


def test_two_of_five_that_lie_can_but_have_a_rotation_finished_that_nobody_else_has_seen() -> None:
    """As SECURITY.md says: if they are more than half of those that a rotation has been at."""
    for honest, fooled in ((settled(3), False), (new(3), True)):
        seen = set()
        for pair in itertools.combinations_with_replacement(LIES_OF_NO_AGE, 2):
            world = with_liars(honest, *pair)
            step = decided(world)
            seen.add(step)
            assert step in (Step.ROTATE, Step.FINISH, *KEPT_FROM_ROTATING)
            if step is Step.FINISH:
                # The live key is what every honest consumer gets all the same.
                assert not fooled or pending_rotation(world.fleet(), world.live) in (OLDER, NEW)
        assert (Step.FINISH in seen) is fooled


def test_two_of_five_that_lie_make_a_key_older_and_one_does_not() -> None:
    honest, account = settled(3), AccountState(OLD, NOW - timedelta(days=3650))
    truth = age_of_key(honest.fleet(), account, NOW)
    assert truth is not None
    one, two = (
        {
            age_of_key(with_liars(honest, *liars).fleet(), account, NOW)
            for liars in itertools.combinations_with_replacement(LIES, count)
        }
        for count in (1, 2)
    )
    assert one == {truth}
    assert truth in two and len(two) > 1 and min(filter(None, two)) == truth


def test_two_of_five_that_lie_make_a_key_rejected_and_one_does_not() -> None:
    honest = settled(3)
    one, two = (
        {
            retirement(with_liars(honest, *liars).fleet(), OLD)
            for liars in itertools.combinations_with_replacement(LIES, count)
        }
        for count in (1, 2)
    )
    assert Retirement.REJECTED not in one and Retirement.REJECTED in two
