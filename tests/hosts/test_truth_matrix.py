# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The truth matrix: a run is green if, and only if, everything really uses the new key.

Everything that uses one key is rotated at once: services of every shape, other init systems, a container, a user's own
unit, stores of every type, and a host that takes its key from one. Then each is broken in every way, one at a time.
What is really so is found out by :mod:`tests.hosts.oracle`, which shares nothing with the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.fleet import KEY_FILE, health_of
from tests.hosts.oracle import API
from tests.hosts.stage import Stage
from tests.hosts.trees import SUITES
from tests.hosts.whole import STORE, USER, Whole
from tests.integration.conftest import new_login
from tests.integration.harness import Run, fingerprint
from tests.sandbox.handle import Sandbox
from tests.stores.backends import Backend, OpenBao
from tests.stores.test_store_contract import BACKENDS

Step = Callable[[Whole], object]
DROPPED = "/etc/systemd/system/app.service.d"
FORCED = ("-e", "multicart_rotate_force=true")
"""For a consumer that names other services or commands than before: a restart is due."""
APP = "/usr/bin/python3 /usr/local/lib/app.py serve app"


# --- the fleets -----------------------------------------------------------------------------------


class Fleets:
    """One fleet at a time, which many tests use one after the other: it takes long to start one."""

    def __init__(self, stage: Stage, sandbox: Sandbox, new_folder: Callable[[str], Path]) -> None:
        self._stage, self._sandbox, self._new_folder = stage, sandbox, new_folder
        self._kept: tuple[tuple[Any, ...], Whole] | None = None

    @contextmanager
    def whole(self, suite: str = SUITES[0], hosts: bool = True, stores: bool = True) -> Iterator[Whole]:
        """Lend a fleet in which nothing is broken; after a test that fails the next one gets another.

        :param hosts: with every kind of host; else with services of every shape and a reader of a store.
        :param stores: with every type of store; else with two.
        """
        kind = (suite, hosts, stores)
        if self._kept is None or self._kept[0] != kind:
            self.close()
            self._kept = kind, self._made(*kind)
        whole = self._kept[1]
        try:
            yield whole
        except BaseException:
            self.close()
            raise
        finally:
            self._sandbox.clear()

    def close(self) -> None:
        if self._kept is not None:
            whole, self._kept = self._kept[1], None
            whole.close()

    def _made(self, suite: str, hosts: bool, stores: bool) -> Whole:
        account = self._sandbox.add_account(*new_login(), created_at="2024-01-01T00:00:00Z")
        whole = Whole(self._sandbox, self._new_folder("whole"), account, self._stage, suite)
        for name in BACKENDS if stores else ("vault_kv2", "command"):
            try:
                store = BACKENDS[name](self._new_folder(name))
            except pytest.skip.Exception as reason:  # a program that not every machine has
                print(reason)
            else:
                whole.add_store(name, store)
        vault = whole.stores[f"{STORE}vault_kv2"]
        assert isinstance(vault, OpenBao)
        whole.add_services()
        whole.add_reader(vault)
        if hosts:
            whole.add_other_inits()
            whole.add_container()
            whole.add_user_unit()
        whole.keep_passwords(self._new_folder("passwords"))
        if hosts or stores:  # whatever is broken first, what was there before is known by records
            assert whole.deploy().green
        return whole


@pytest.fixture(scope="module")
def fleets(stage: Stage, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    fleets = Fleets(stage, sandbox, tmp_path_factory.mktemp)
    yield fleets
    fleets.close()


# --- what can be wrong ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Break:
    """Something that is wrong with one consumer.

    :ivar state: how the run calls the consumer then; None: it refuses to rotate.
    :ivar words: what its message names.
    :ivar before: makes it so before the run.
    :ivar meanwhile: makes it so when the old key is revoked and no consumer has the new one.
    :ivar mend: makes it right again.
    :ivar also: other consumers that are red with it, and how they are called.
    :ivar reasons: one of these is the reason of the consumer, where it matters.
    :ivar audited: an audit can be run meanwhile, and finds the same.
    """

    consumer: str
    state: str | None
    words: tuple[str, ...]
    before: Step = lambda whole: None
    meanwhile: Step | None = None
    mend: Step = lambda whole: None
    also: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    reasons: frozenset[str] = frozenset()
    audited: bool = True


def drop_in(*lines: str) -> Step:
    """Return what changes the unit of the app on the host with systemd."""

    def change(whole: Whole) -> None:
        whole.real["web"].write(f"{DROPPED}/break.conf", "\n".join(["[Service]", *lines, ""]))
        whole.sh("web", "systemctl daemon-reload")

    return change


def no_drop_in(whole: Whole) -> None:
    whole.sh("web", f"rm -rf {DROPPED} && systemctl daemon-reload")


def first_key(whole: Whole, name: str, service: str = "app") -> None:
    """Let a service with --one-key take the key of now for its first one."""
    whole.real[name].write(f"/var/lib/app/{service}.first", whole.live_fingerprint)


def steps(*parts: Step) -> Step:
    return lambda whole: [part(whole) for part in parts]


def sh(name: str, command: str) -> Step:
    return lambda whole: whole.sh(name, command)


def by_sed(name: str, file: str, script: str) -> Step:
    return sh(name, f"sed -i '{script}' {file}")


def vary(name: str, **variables: Any) -> Step:
    return lambda whole: whole.vary(name, **variables)


def restore(name: str) -> Step:
    return lambda whole: whole.restore(name)


def store_of(whole: Whole, name: str) -> Backend:
    return whole.stores[STORE + name]


def old_copy(whole: Whole) -> None:
    """Give the reader of the store a copy, which is what a cache of a store may be."""
    whole.real["reader"].write("/etc/app/copy", whole.live, "root:app", "0640")


def detached(name: str) -> Step:
    """Return what starts a process that has the key and that nobody restarts."""
    return lambda whole: whole.sh(
        name, f"set -a; . {KEY_FILE}; setsid sleep 1234 </dev/null >/dev/null 2>&1 & until pgrep -x sleep; do :; done"
    )


ON_SYSTEMD = {
    "dies with the new key": Break(
        "web",
        "restart due",
        ("the service app was restarted and is failed",),
        before=steps(lambda whole: first_key(whole, "web"), drop_in("ExecStart=", f"ExecStart={APP} --one-key")),
        mend=no_drop_in,
    ),
    "hangs in stop": Break(
        "web",
        "restart due",
        ("the service app could not be restarted (stopped after 5 s",),
        before=steps(
            vary("web", multicart_deploy_timeout=5),
            drop_in("TimeoutStopSec=infinity", "ExecStart=", f"ExecStart={APP} --hang"),
            sh("web", "systemctl restart app"),
        ),
        mend=steps(no_drop_in, sh("web", "systemctl kill --signal=KILL app"), restore("web")),
    ),
    "is masked": Break(
        "web",
        None,
        ("web: its service app-masked is masked",),
        before=vary("web", multicart_deploy_services=["app", "app-masked"]),
        mend=restore("web"),
        arguments=FORCED,
    ),
    "is masked meanwhile": Break(
        "web",
        "restart due",
        ("the service app could not be restarted",),
        meanwhile=sh(
            "web",
            "cd /etc/systemd/system && mv app.service /root/ && ln -s /dev/null app.service && systemctl daemon-reload",
        ),
        mend=sh("web", "mv /root/app.service /etc/systemd/system/app.service && systemctl daemon-reload"),
    ),
    "is reloaded where that does nothing": Break(
        "web",
        None,
        ("web: its service app reads", "EnvironmentFile"),
        before=vary("web", multicart_deploy_services=[{"name": "app", "state": "reloaded"}]),
        mend=restore("web"),
        arguments=FORCED,
    ),
    "serves nobody": Break(
        "web",
        "restart due",
        ("the health check /usr/bin/python3 failed",),
        before=drop_in("ExecStart=", "ExecStart=/bin/sleep infinity"),
        mend=no_drop_in,
    ),
    "leaves a child behind": Break(
        "web",
        "process out of date",
        ("sleep", "unit app.service", "still holds the retired key"),
        before=steps(
            drop_in("KillMode=process", "ExecStart=", f"ExecStart={APP} --child"),
            sh("web", "systemctl restart app"),
        ),
        mend=steps(no_drop_in, sh("web", "pkill -x sleep")),
    ),
    "is another unit that nothing restarts": Break(
        "web",
        None,
        ("web: python3", "app@other.service", "nothing restarts"),
        before=sh("web", f"cp {KEY_FILE} /etc/app/other.env && systemctl start app@other"),
        mend=sh("web", "systemctl stop app@other && rm /etc/app/other.env"),
    ),
    "is another unit, and the run was told to go on": Break(
        "web",
        "process out of date",
        ("python3", "unit app@other.service", "still holds the retired key"),
        before=sh("web", f"cp {KEY_FILE} /etc/app/other.env && systemctl start app@other"),
        mend=sh("web", "systemctl stop app@other && rm /etc/app/other.env"),
        arguments=("-e", "multicart_rotate_uncovered=warn"),
    ),
    "has its files on a disk that turns read-only": Break(
        "web",
        "out of date",
        ("read-only",),
        meanwhile=sh("web", "mount --bind /etc /etc && mount -o remount,ro,bind /etc"),
        mend=sh("web", "umount /etc"),
    ),
    "has its files on a disk that is full by then": Break(
        "web",
        "out of date",
        ("is full",),
        before=sh(
            "web",
            "cp -a /etc/app /etc/app.kept && mount -t tmpfs -o size=64k none /etc/app && "
            "cp -a /etc/app.kept/. /etc/app",
        ),
        meanwhile=sh("web", "cat /dev/zero > /etc/app/filler 2>/dev/null || true"),
        mend=sh(
            "web",
            "rm /etc/app/filler && cp -a /etc/app/. /etc/app.kept && umount /etc/app && "
            "rm -r /etc/app && mv /etc/app.kept /etc/app",
        ),
    ),
    "has a file that somebody makes a folder of": Break(
        "web",
        "unreadable",
        ("/etc/app/one.env",),
        meanwhile=sh("web", "mv /etc/app/one.env /etc/app/one.kept && mkdir /etc/app/one.env"),
        mend=sh("web", "rmdir /etc/app/one.env && mv /etc/app/one.kept /etc/app/one.env"),
    ),
    "crashes when the key is released": Break(
        "web",
        "unreachable",
        (),
        meanwhile=lambda whole: whole.real["web"].crash(),
        mend=steps(
            lambda whole: whole.real["web"].reboot(),
            sh("web", "/usr/bin/python3 /usr/local/lib/app.py health app-socket"),
        ),
    ),
    "has a systemd that does not answer": Break(
        "web",
        "restart due",
        ("its systemctl does not answer",),
        before=vary("web", multicart_deploy_timeout=5),
        meanwhile=lambda whole: whole.real["web"].stall(),
        mend=steps(lambda whole: whole.real["web"].stall(False), restore("web")),
        audited=False,  # nobody can log in
    ),
    "is a user's unit that dies with the new key": Break(
        "user",
        "restart due",
        ("the health check",),
        before=steps(
            lambda whole: first_key(whole, "user", "app-user"),
            by_sed("user", "/etc/systemd/user/app-user.service", "s/serve app-user/& --one-key/"),
            sh("user", f"{USER} daemon-reload"),
        ),
        mend=steps(
            by_sed("user", "/etc/systemd/user/app-user.service", "s/ --one-key//"),
            sh("user", f"{USER} daemon-reload"),
        ),
    ),
    "reads its key from a store that lags behind": Break(
        "reader",
        "process out of date",
        ("unit app-reader.service", "still holds the retired key"),
        before=old_copy,
        mend=sh("reader", "rm /etc/app/copy"),
    ),
    "reads its key from a store and is not restarted": Break(
        "reader",
        "process out of date",
        ("unit app-reader.service", "still holds the retired key"),
        before=vary("reader", multicart_deploy_services=[], multicart_deploy_commands=["true"]),
        mend=restore("reader"),
        arguments=FORCED,
    ),
    "cannot reach the store that it reads": Break(
        "reader",
        "restart due",
        ("app-reader",),
        before=sh(
            "reader", "cd /etc/app && cp -a store.json store.kept && sed -i 's/:[0-9]*\\/v1/:1\\/v1/' store.json"
        ),
        mend=sh("reader", "mv /etc/app/store.kept /etc/app/store.json"),
    ),
}

ON_OTHERS = {
    "is of OpenRC and dies with the new key": Break(
        "openrc",
        "restart due",
        ("the service app",),
        before=steps(
            lambda whole: first_key(whole, "openrc"),
            by_sed("openrc", "/etc/init.d/app", 's/serve $RC_SVCNAME"/serve $RC_SVCNAME --one-key"/'),
        ),
        mend=by_sed("openrc", "/etc/init.d/app", 's/serve $RC_SVCNAME --one-key"/serve $RC_SVCNAME"/'),
    ),
    "is of runit and dies with the new key": Break(
        "runit",
        "restart due",
        ("the service app",),
        before=steps(
            lambda whole: first_key(whole, "runit"),
            by_sed("runit", "/etc/sv/app/run", 's/serve "$name"/& --one-key/'),
        ),
        mend=by_sed("runit", "/etc/sv/app/run", "s/ --one-key$//"),
    ),
    "is a process of nobody on OpenRC": Break(
        "openrc",
        "process out of date",
        ("sleep", "no service", "still holds the retired key"),
        before=detached("openrc"),
        mend=sh("openrc", "pkill -x sleep"),
    ),
    "is a process of nobody on runit": Break(
        "runit",
        "process out of date",
        ("sleep", "no service", "still holds the retired key"),
        before=detached("runit"),
        mend=sh("runit", "pkill -x sleep"),
    ),
    "crashes with OpenRC": Break(
        "openrc",
        "unreachable",
        (),
        meanwhile=lambda whole: whole.real["openrc"].crash(),
        mend=lambda whole: whole.real["openrc"].reboot(),
    ),
    "crashes with runit": Break(
        "runit",
        "unreachable",
        (),
        meanwhile=lambda whole: whole.real["runit"].crash(),
        mend=lambda whole: whole.real["runit"].reboot(),
    ),
    "is a container that is only restarted": Break(
        "box",
        "process out of date",
        ("a container", "still holds the retired key"),
        before=vary("box", multicart_deploy_commands=["podman restart c1"]),
        mend=restore("box"),
        arguments=FORCED,
    ),
    "is a container that cannot be created": Break(
        "box",
        "restart due",
        ("the command podman failed",),
        before=sh("box", "podman tag app kept && podman untag app localhost/app:latest"),
        mend=sh("box", "podman tag kept app && podman untag app localhost/kept:latest"),
    ),
}


def of_store(name: str, fault: str) -> Break:
    """Return what breaks a store when the key is about to be written."""
    reasons = frozenset(BACKENDS[name].faults[fault])
    also = {"reader": "out of date"}
    if name.startswith("aws_") and fault == "down":  # they are of one server
        also |= {STORE + each: "out of date" for each in BACKENDS if each.startswith("aws_") and each != name}
    return Break(
        STORE + name,
        "out of date",
        (),
        meanwhile=lambda whole: store_of(whole, name).break_by(fault),
        mend=lambda whole: store_of(whole, name).mend(),
        also=also,
        reasons=reasons,
    )


IN_STORES = {
    **{
        f"is a store, {name}, {fault}": of_store(name, fault)
        for name, maker in BACKENDS.items()
        for fault in sorted(maker.at_write)
    },
    "is a store that keeps its old key": Break(
        f"{STORE}command",
        "out of date",
        (),
        meanwhile=lambda whole: store_of(whole, "command").break_by("forgets"),
        mend=lambda whole: store_of(whole, "command").mend(),
        reasons=frozenset({"store_not_kept"}),
    ),
}
BREAKS = {**ON_SYSTEMD, **ON_OTHERS, **IN_STORES}
"""All that can be wrong, one at a time."""


def uses(whole: Whole, **fields: Any) -> None:
    """Say what is used on the host with systemd."""
    whole.uses["web"] = replace(whole.uses["web"], **fields)


NOTHING = {
    "a service has crashed before": Break("web", None, (), before=sh("web", "systemctl kill -s KILL app-notify")),
    "a service was stopped on purpose": Break(
        "web",
        None,
        ("web: stopped on purpose, and left alone: app@one.",),
        before=steps(
            sh("web", "systemctl stop app@one"),
            vary("web", multicart_deploy_health_checks=[health_of("app")]),
            lambda whole: uses(whole, serve=[name for name in whole.uses["web"].serve if name != "app@one"]),
        ),
        mend=steps(
            sh("web", "systemctl start app@one"),
            restore("web"),
            lambda whole: uses(whole, serve=[*whole.uses["web"].serve, "app@one"]),
        ),
    ),
    "somebody adds a line meanwhile": Break(
        "web",
        None,
        (),
        meanwhile=sh("web", f"echo MODE=live >> {KEY_FILE}"),
        mend=sh("web", f"grep -qx MODE=live {KEY_FILE} && sed -i /MODE/d {KEY_FILE}"),
    ),
    "the answer of the API is lost": Break(
        "web", None, (), before=lambda whole: whole.fault("rotate", "answer_lost_after_commit")
    ),
}
"""What may be so and is no fault."""


# --- the matrix -----------------------------------------------------------------------------------


def assert_green(whole: Whole, run: Run) -> None:
    assert run.green, run
    assert whole.wrong() == {}
    assert {name: task["state"] for name, task in run.own.items()} == dict.fromkeys(whole.hosts, "up_to_date"), run


def assert_red(whole: Whole, run: Run, *broken: Break) -> None:
    """Exactly what is broken is red, by its state, and everything else is up to date; and that is so."""
    red = {name: state for each in broken for name, state in each.also.items()}
    red |= {each.consumer: each.state or "" for each in broken}
    assert not run.green and run.reason == "not_up_to_date", (whole.wrong(), run)
    assert {name: state for name, state in run.states.items() if state != "up to date"} == red, run
    assert {task.host for task in run.failures} == set(red), run
    for each in broken:
        told = run.consumers[each.consumer]
        assert all(words in told for words in each.words), told
        assert not each.reasons or run.own[each.consumer]["reason"] in each.reasons, run
    wrong = whole.wrong()
    assert {each.consumer for each in broken} <= set(wrong) <= set(red), wrong


def assert_refused(whole: Whole, run: Run, broken: Break, rotations: int) -> None:
    """It is named before anything is changed, and everything uses the key of before."""
    assert not run.green and run.reason in ("not_ready", "uncovered_process"), run
    assert all(words in run.message for words in broken.words), run.message
    assert whole.rotations == rotations and whole.wrong() == {}


def rotated(whole: Whole, *breaks: Break) -> Run:
    """Break things and rotate."""
    for each in breaks:
        each.before(whole)
    later = [each.meanwhile for each in breaks if each.meanwhile is not None]
    errors: list[BaseException] = []

    def break_meanwhile() -> None:
        try:
            for step in later:
                step(whole)
        except BaseException as error:
            errors.append(error)

    whole.wait()
    with whole.once_rotated(break_meanwhile) if later else nullcontext():
        run = whole.rotate(*(word for each in breaks for word in each.arguments))
    if errors:
        raise errors[0]
    return run


def test_everything_has_the_new_key_or_what_has_not_is_named(fleets: Fleets) -> None:
    """The matrix in short: nothing is broken; then a service, and a store with what reads it; then nothing again."""
    with fleets.whole(hosts=False, stores=False) as whole:
        assert_green(whole, whole.rotate())
        broken = [ON_SYSTEMD["dies with the new key"], IN_STORES["is a store, command, down"]]
        run = rotated(whole, *broken)
        assert_red(whole, run, *broken)
        for each in broken:
            each.mend(whole)
        assert_green(whole, whole.finish(run))
        assert whole.rotations == 2


# Those of one release after the other, so that each has to be started once.
EVERY = [
    pytest.param(suite, name, id=f"{suite}-{name}")
    for suite in SUITES
    for name in (BREAKS if suite == "bookworm" else ON_SYSTEMD)
]


@pytest.mark.full
@pytest.mark.parametrize(("suite", "name"), EVERY)
def test_exactly_what_is_broken_is_red_and_once_it_is_mended_a_run_is_green(
    fleets: Fleets, suite: str, name: str
) -> None:
    broken = BREAKS[name]
    is_store = name in IN_STORES
    with fleets.whole(suite, hosts=not is_store, stores=is_store) as whole:
        if broken.consumer not in whole.hosts:
            pytest.skip(f"there is no {broken.consumer} on this machine")
        before = whole.rotations
        run = rotated(whole, broken)
        if broken.state is None:
            assert_refused(whole, run, broken, before)
            broken.mend(whole)
            assert_green(whole, whole.rotate())
        else:
            assert whole.rotations == before + 1, run
            assert_red(whole, run, broken)
            if broken.audited:
                audit = whole.audit()
                red = {broken.consumer, *broken.also}
                assert {name for name, state in audit.states.items() if state != "up to date"} == red, audit
                assert not audit.green
            broken.mend(whole)
            assert "run multicart.keys.deploy" in run.message
            assert_green(whole, whole.deploy())
        assert whole.rotations == before + 1


@pytest.mark.full
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("name", [None, *NOTHING])
def test_where_nothing_is_broken_a_run_is_green(fleets: Fleets, suite: str, name: str | None) -> None:
    nothing = NOTHING[name] if name else Break("web", None, ())
    with fleets.whole(suite, stores=name is None) as whole:
        before = whole.rotations
        run = rotated(whole, nothing)
        assert_green(whole, run)
        assert all(words in run.output for words in nothing.words), run
        assert whole.rotations == before + 1
        nothing.mend(whole)
        audit = whole.audit()
        assert audit.green and whole.wrong() == {}, audit


@pytest.mark.full
@pytest.mark.parametrize("suite", SUITES)
def test_of_many_that_are_broken_at_once_each_is_named(fleets: Fleets, suite: str) -> None:
    names = (
        "hangs in stop",
        "is of OpenRC and dies with the new key",
        "is a process of nobody on runit",
        "is a container that is only restarted",
        "is a user's unit that dies with the new key",
        "is a store, vault_kv2, sealed",
        "is a store, github_secret, unauthorised",
        "is a store that keeps its old key",
    )
    broken = [BREAKS[name] for name in names]
    with fleets.whole(suite) as whole:
        run = rotated(whole, *broken)
        assert_red(whole, run, *broken)
        for each in broken:
            each.mend(whole)
        assert_green(whole, whole.finish(run))


@pytest.mark.full
def test_what_is_told_and_not_counted_is_all_that_is_not_true(fleets: Fleets) -> None:
    """A login keeps the key that it had, and is named."""
    with fleets.whole(stores=False) as whole:
        started = "sudo sh -c 'set -a; . /etc/app/env; exec setsid sleep 1234' </dev/null >/dev/null 2>&1 &"
        whole.real["web"].ssh(f"{started} until pgrep -x sleep; do :; done")
        old = whole.live_fingerprint
        run = whole.rotate()
        assert run.green, run
        assert whole.wrong() == {"web": [f"the process sleep 1234 has {old}"]}
        assert "holds the key" in run.output and "sleep (process" in run.output, run
        whole.sh("web", "pkill -x sleep")
        assert whole.wrong() == {}


@pytest.mark.full  # the rejection is waited for
def test_while_the_api_accepts_the_old_key_no_run_is_green(fleets: Fleets) -> None:
    with fleets.whole(hosts=False, stores=False) as whole:
        whole.fault("read", "claimed", credential="key", times=-1)
        run = whole.rotate()
        assert (run.green, run.reason) == (False, "old_key_still_valid"), run
        assert set(run.states.values()) == {"up to date"}
        assert set(whole.wrong()) == {API}
        assert not whole.finish(run).green
        whole.sandbox.clear()
        assert whole.wrong() == {}
        assumed = f"multicart_rotate_assume_rejected={fingerprint(whole.account['former_keys'][-1])}"
        assert_green(whole, whole.finish(run, "-e", assumed))
