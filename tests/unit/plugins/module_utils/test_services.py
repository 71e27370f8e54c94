# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Services and commands, against service managers that only note how they were called."""

import os
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _services as services

APP = [{"name": "app", "state": "restarted"}]
PROXY = [{"name": "proxy", "state": "reloaded"}]
Programs = Callable[..., list[str]]


UNIT = {"LoadState": "loaded", "ActiveState": "active", "CanStart": "yes", "Type": "simple", "RemainAfterExit": "no"}

run = services.runner(30)


def systemctl(**units: dict[str, str]) -> str:
    """Return a systemctl that knows these units, each by what differs from a service that runs; it does nothing."""
    lines = ['[ "$1" = show ] || exit 0', 'case "$4" in']
    for name, differs in units.items():
        shown = "\\n".join(f"{key}={value}" for key, value in {**UNIT, **differs}.items())
        lines.append(f"{name}) printf '{shown}\\n' ;;")
    return "\n".join([*lines, "*) echo LoadState=not-found ;;", "esac"])


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Make these, and a plain shell, the only programs of the host; returns the list of calls to them as it grows."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(services, "_MORE_PATH", ())
    monkeypatch.setattr(services, "SYSTEMD", str(tmp_path / "systemd"))
    monkeypatch.setattr(services, "OPENRC", str(tmp_path / "openrc"))
    calls = tmp_path / "calls"
    calls.touch()

    def install(systemd: bool = False, **scripts: str) -> list[str]:
        if systemd:
            (tmp_path / "systemd").mkdir()
        for name, script in scripts.items():
            program = path / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho {program.name} "$@" >> {calls}\n{script}\n')
            program.chmod(0o755)
        return calls.read_text().splitlines()

    return install


@pytest.mark.parametrize(
    ("systemd", "program", "called"),
    [
        (True, "systemctl", ["systemctl restart -- app", "systemctl reload-or-restart -- proxy"]),
        (False, "rc-service", ["rc-service app restart", "rc-service proxy reload"]),
        (False, "service", ["service app restart", "service proxy reload"]),
    ],
)
def test_services_are_restarted_by_the_manager_of_the_host(
    programs: Programs, systemd: bool, program: str, called: list[str]
) -> None:
    programs(systemd=systemd, **{"service": "", program: systemctl(app={}, proxy={}) if systemd else ""})
    assert services.restart([*APP, *PROXY], [], run) == (True, [])
    assert [call for call in programs() if " show " not in call and not call.endswith(" status")] == called


@pytest.mark.parametrize(
    ("unit", "noted", "restarted"),
    [
        ({}, None, True),
        ({"ActiveState": "inactive"}, None, False),
        ({"ActiveState": "inactive"}, ["app"], True),
        ({"ActiveState": "failed"}, None, True),
        ({"ActiveState": "activating"}, None, True),
        ({"ActiveState": "deactivating"}, [], True),
        ({"Type": "oneshot"}, ["app"], False),
        ({"Type": "oneshot", "RemainAfterExit": "yes"}, None, True),
    ],
)
def test_t20_what_was_stopped_on_purpose_or_runs_now_and_then_is_left_alone(
    programs: Programs, unit: dict[str, str], noted: Optional[list[str]], restarted: bool
) -> None:
    programs(systemd=True, systemctl=systemctl(app=unit))
    assert services.restart(APP, [], run, noted) == (restarted, [] if restarted else ["app"])
    assert ("systemctl restart -- app" in programs()) == restarted
    assert services.restart(APP, [["sh", "-c", ":"]], run, noted)[0]


@pytest.mark.parametrize("state", ["not-found", "masked", "bad-setting"])
def test_a_unit_that_systemd_does_not_have_is_none_that_was_stopped_on_purpose(programs: Programs, state: str) -> None:
    """A name that is spelt wrong: what is meant by it keeps the old key."""
    programs(systemd=True, systemctl=systemctl(app={"LoadState": state, "ActiveState": "inactive"}, proxy={}))
    with pytest.raises(services.StepFailed, match=f"^its service app is {state}$") as raised:
        services.restart([*APP, *PROXY], [], run)
    assert raised.value.reason == "restart_failed"
    assert [call for call in programs() if " show " not in call] == ["systemctl reload-or-restart -- proxy"]


@pytest.mark.parametrize(("status", "left"), [(0, []), (3, ["app"]), (1, []), (32, [])])
def test_t20_without_systemd_the_status_of_a_service_tells(programs: Programs, status: int, left: list[str]) -> None:
    programs(service=f'[ "$2" != status ] || exit {status}')
    assert services.restart(APP, [], run) == (not left, left)


def test_what_runs_now_is_noted_with_what_has_failed(programs: Programs) -> None:
    states = {
        "app": {},
        "proxy": {"ActiveState": "inactive"},
        "job": {"Type": "oneshot"},
        "bad": {"ActiveState": "failed"},
    }
    programs(systemd=True, systemctl=systemctl(**states))
    assert services.running([{"name": name} for name in states], run) == ["app", "bad"]


def test_t9_systemd_reads_its_units_again_where_they_have_changed(programs: Programs) -> None:
    programs(systemd=True, systemctl=systemctl(app={"NeedDaemonReload": "yes", "ActiveState": "failed"}))
    services.restart(APP, [], run)
    done = [call for call in programs() if " show " not in call]
    assert done == ["systemctl daemon-reload", "systemctl reset-failed -- app", "systemctl restart -- app"]


@pytest.mark.parametrize("state", ["failed", "inactive", "activating"])
def test_t8_a_service_that_ends_shortly_after_its_restart_has_failed(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(services, "SETTLING", 0.01)
    programs(systemd=True, systemctl=systemctl(app={"ActiveState": state, "SubState": "dead"}, proxy={}))
    services.refuse_ended(PROXY, run)
    with pytest.raises(services.StepFailed, match=f"app was restarted and is {state}") as failed:
        services.refuse_ended([*PROXY, *APP], run)
    assert failed.value.reason == "restart_failed" and "proxy" not in str(failed.value)


@pytest.mark.parametrize("pid", ["0", "1", "none"])
def test_t8_a_service_that_openrc_takes_for_started_and_that_has_ended_has_failed(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    """With Debian's start-stop-daemon; and it would not be stopped, and so not restarted."""
    monkeypatch.setattr(services, "SETTLING", 0.01)
    programs(rc_service="")
    services.refuse_ended(APP, run)
    (tmp_path / "openrc" / "app").mkdir(parents=True)
    (tmp_path / "openrc" / "app" / "pidfile").write_text(f"{tmp_path}/app.pid")
    services.refuse_ended(APP, run)
    (tmp_path / "app.pid").write_text(f"{pid}\n")  # 0 is no process, 1 is one
    if pid == "0":
        with pytest.raises(services.StepFailed, match="app was restarted and is not running"):
            services.refuse_ended(APP, run)
    else:
        services.refuse_ended(APP, run)
    services.restart(APP, [], run)
    zapped = ["rc-service app zap"] if pid == "0" else []
    assert programs()[-len(zapped) - 1 :] == [*zapped, "rc-service app restart"]


@pytest.mark.parametrize(
    ("said", "wanted", "runs"),
    [
        ("run: app: (pid 12) 1s", True, True),
        ("run: app: (pid 12) 86400s, normally down; run: log: (pid 11) 86400s", True, True),
        ("run: app: (pid 12) 0s; run: log: (pid 11) 9s", True, False),
        ("down: app: 0s, normally up, want up; run: log: (pid 11) 9s", True, False),
        ("down: app: 5s, normally up; down: log: 1s, want up", False, False),
        ("fail: app: unable to change to service directory: file does not exist", False, False),
    ],
)
def test_t8_t20_runit_says_in_words_whether_a_service_is_wanted_and_whether_it_has_run(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, said: str, wanted: bool, runs: bool
) -> None:
    """It starts again and again what has ended, so that it may be seen to run just then."""
    monkeypatch.setattr(services, "SETTLING", 0.01)
    monkeypatch.setattr(services, "manager", lambda: "sv")
    programs(sv=f"echo '{said}'")
    assert services.running(APP, run) == ["app"] * wanted
    if runs:
        services.refuse_ended(APP, run)
    else:
        with pytest.raises(services.StepFailed, match="app was restarted and is not running"):
            services.refuse_ended(APP, run)


def test_commands_find_the_systemd_of_the_user_that_they_run_as(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(show=f'echo "$XDG_RUNTIME_DIR" > {tmp_path}/seen')
    monkeypatch.setattr(services.os.path, "isdir", lambda path: True)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    run([str(tmp_path / "bin" / "show")])
    assert (tmp_path / "seen").read_text().strip() == f"/run/user/{os.geteuid()}"


def test_systemctl_without_systemd_is_not_the_manager(programs: Programs) -> None:
    """As in a container, where it is installed and nobody listens to it."""
    programs(systemctl="exit 1", service="")
    assert services.restart(APP, [], run) == (True, [])
    assert programs() == ["service app status", "service app restart"]


def test_services_come_before_commands_and_one_that_fails_keeps_no_other_from_the_key(programs: Programs) -> None:
    """All hold a key that is revoked by now."""
    programs(service='[ "$2" = status ] || [ "$1" = proxy ] || exit 3', notify="")
    with pytest.raises(services.StepFailed, match=r"^the service app could not be restarted \(exit code 3;") as failed:
        services.restart([*APP, *PROXY], [["notify", "all"]], run)
    assert failed.value.reason == "restart_failed"
    done = ["service app status", "service app restart", "service proxy status", "service proxy reload", "notify all"]
    assert programs() == done


def test_commands_are_run_up_to_the_first_that_fails_and_all_that_failed_is_named(programs: Programs) -> None:
    """They may be the lines of a script."""
    programs(service='[ "$2" = status ] || exit 3', notify='[ "$1" != first ]')
    with pytest.raises(services.StepFailed) as failed:
        services.restart([*APP, *PROXY], [["notify", "first"], ["notify", "second"]], run)
    assert [words.partition(" (")[0] for words in str(failed.value).split(", ")] == [
        "the service app could not be restarted",
        "the service proxy could not be reloaded",
        "the command notify failed",
    ]
    assert programs()[-1] == "notify first"


@pytest.mark.parametrize("asks", ["restart", "refuse_ended"])
def test_a_manager_that_does_not_answer_is_named_once(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, asks: str
) -> None:
    monkeypatch.setattr(services, "SETTLING", 0.01)
    programs(systemd=True, systemctl="sleep 60")
    (Path(os.environ["PATH"]) / "sleep").symlink_to(shutil.which("sleep", path=os.defpath) or "/bin/sleep")
    hasty = services.runner(2.0)
    with pytest.raises(services.StepFailed, match="^its systemctl does not answer$") as failed:
        services.refuse_ended([*APP, *PROXY], hasty) if asks == "refuse_ended" else services.restart(
            [*APP, *PROXY], [], hasty
        )
    assert failed.value.reason == "restart_failed"
    assert len(programs()) == 1


def test_a_command_that_failed_is_told_without_what_it_said_or_was_given(programs: Programs) -> None:
    programs(notify="echo SECRET; echo SECRET >&2; exit 7")
    with pytest.raises(services.StepFailed) as failed:
        services.restart([], [["notify", "--token=SECRET"]], run)
    assert str(failed.value) == "the command notify failed (exit code 7; run it on the host to see why)"


def test_a_command_that_cannot_be_started_is_told_as_such(programs: Programs) -> None:
    programs()
    with pytest.raises(services.StepFailed, match=r"command absent failed \(No such file or directory\)"):
        services.restart([], [["absent"]], run)


def test_nothing_to_do_is_told_from_something_done(programs: Programs) -> None:
    programs(true="")
    assert services.restart([], [], run) == (False, [])
    assert services.restart([], [["true"]], run) == (True, [])


# --- before the rotation --------------------------------------------------------------------------


def test_a_service_that_the_host_does_not_have_is_found_out(programs: Programs) -> None:
    programs(rc_service='[ "$2" = app ]')
    assert services.lacking([*APP, *PROXY], [], [], run) == ["it has no service proxy"]
    assert not any("restart" in call for call in programs())


@pytest.mark.parametrize(
    ("unit", "problem"),
    [
        ({}, None),
        ({"ActiveState": "inactive"}, None),
        ({"LoadState": "masked"}, "its service app is masked"),
        ({"LoadState": "bad-setting"}, "its service app is bad-setting"),
        ({"CanStart": "no"}, "its service app cannot be started by hand (CanStart=no): name the one that starts it"),
    ],
)
def test_t19_a_unit_that_could_not_be_restarted_is_no_ready_one(
    programs: Programs, unit: dict[str, str], problem: Optional[str]
) -> None:
    programs(systemd=True, systemctl=systemctl(app=unit))
    assert services.lacking([*APP, *PROXY], [], [], run) == [
        *filter(None, [problem]),
        "its service proxy is not-found",
    ]
    assert not any("restart" in call for call in programs())


@pytest.mark.parametrize("state", ["restarted", "reloaded"])
@pytest.mark.parametrize(
    ("read", "ours"), [("/etc/app.env", True), ("-/etc/app.env", False), ("/etc/app.env.d", False), ("/etc/a b", True)]
)
def test_t7_a_reload_that_does_not_read_the_file_again_is_refused(
    programs: Programs, state: str, read: str, ours: bool
) -> None:
    files = f"/etc/default/all (ignore_errors=yes)\\nEnvironmentFiles={read} (ignore_errors=no)"
    programs(systemd=True, systemctl=systemctl(app={"EnvironmentFiles": files}))
    found = services.lacking([{"name": "app", "state": state}], [], ["/etc/app.env", "/etc/a b"], run)
    assert bool(found) == (ours and state == "reloaded")
    assert all(read in text and "use state restarted" in text for text in found)


@pytest.mark.parametrize("read", ["link.env", "real.env", "*.env", "[lr]*.env", "dir/../real.env"])
def test_t7_a_reload_is_refused_by_whatever_path_systemd_reads_the_file(
    programs: Programs, tmp_path: Path, read: str
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "real.env").touch()
    (tmp_path / "link.env").symlink_to("real.env")
    files = f"EnvironmentFiles={tmp_path}/other (ignore_errors=yes)\nEnvironmentFiles={tmp_path}/{read}"
    programs(systemd=True, systemctl=systemctl(app={"LoadState": f"loaded\n{files} (ignore_errors=no)"}))
    app = [{"name": "app", "state": "reloaded"}]
    assert read in services.lacking(app, [], [str(tmp_path / "link.env")], run)[0]
    assert services.lacking(app, [], [str(tmp_path / "another.env")], run) == []


def test_t19_a_unit_of_a_user_needs_the_systemd_of_that_user(programs: Programs) -> None:
    programs(
        systemd=True, systemctl='[ "$5" = app ] && echo LoadState=loaded; [ "$5" != old ] || echo LoadState=masked'
    )
    ask = [["systemctl", "--user", "restart", name] for name in ("app", "old", "gone")]
    assert services.lacking([], ask, [], run) == [
        "its user unit old is masked",
        "the user's own systemd does not answer for gone: loginctl enable-linger starts it at boot",
    ]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("-M shop@ restart app", "--user -M shop@"),
        ("restart app --machine shop@.host", "--user --machine shop@.host"),
        ("--machine=shop@ try-restart app", "--user --machine=shop@"),
        ("restart --no-block --job-mode fail app", "--user"),
        ("restart -- app", "--user"),
        ("kill --signal HUP app", None),
        ("kill -s HUP app", None),
        ("daemon-reload", None),
        ("import-environment HOME", None),
        ("restart 'app@*'", None),
    ],
)
def test_t19_a_unit_of_a_user_is_known_among_the_other_words_of_its_command(
    programs: Programs, words: str, asked: Optional[str]
) -> None:
    programs(systemd=True, systemctl='for last; do :; done; [ "$last" != app ] || echo LoadState=loaded')
    assert services.lacking([], [["systemctl", "--user", *shlex.split(words)]], [], run) == []
    calls = [call.partition(" show ")[0] for call in programs() if call.endswith(" -- app")]
    assert calls == ([] if asked is None else [f"systemctl {asked}"])


def test_a_host_without_any_manager_is_told_what_to_use_instead(programs: Programs) -> None:
    programs()
    assert services.lacking(APP, [], [], run) == [
        "it has no systemctl, rc-service, sv or service: use multicart_deploy_commands"
    ]
    with pytest.raises(services.StepFailed, match="multicart_deploy_commands"):
        services.restart(APP, [], run)


def test_every_command_that_the_host_does_not_have_is_named_once(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(notify="")
    monkeypatch.setenv("HOME", str(tmp_path))
    plain = tmp_path / "plain"
    plain.touch()
    present = [["notify"], [str(tmp_path / "bin" / "notify")], ["~/bin/notify"], ["$HOME/bin/notify", "x"]]
    absent = [["absent"], ["absent", "again"], [str(plain)]]
    assert services.lacking([], [*present, *absent], [], run) == [
        f"it has no command {plain}",
        "it has no command absent",
    ]
    assert programs() == []


# --- health ---------------------------------------------------------------------------------------


def test_a_consumer_has_some_time_to_get_well(programs: Programs, tmp_path: Path) -> None:
    third = f"set --; while read -r line; do set -- 1 $*; done < {tmp_path / 'calls'}; [ $# -ge 3 ]"
    programs(check=third)
    services.check_health([["check", "a"]], retries=2, delay=0, run=run)
    assert programs() == ["check a"] * 3


def test_a_consumer_that_stays_ill_is_unhealthy(programs: Programs) -> None:
    programs(check="exit 1", other="")
    with pytest.raises(services.StepFailed, match="health check check failed") as failed:
        services.check_health([["check"], ["other"]], retries=1, delay=0, run=run)
    assert failed.value.reason == "unhealthy"
    assert programs() == ["check"] * 2


def never_ends(command: list[str], listen: bool = False) -> tuple[int, str]:
    run(command, listen)
    raise services.TookTooLong(2.5)


def test_what_hangs_is_told_as_such_and_not_tried_again(programs: Programs) -> None:
    programs(check="")
    with pytest.raises(
        services.StepFailed, match=r"check failed \(stopped after 2.5 s; multicart_deploy_timeout"
    ) as failed:
        services.check_health([["check"]], retries=9, delay=0, run=never_ends)
    assert failed.value.reason == "unhealthy"
    assert programs() == ["check"]


def test_a_manager_that_hangs_is_found_out_before_the_rotation(programs: Programs) -> None:
    programs(systemd=True, systemctl="")
    assert services.lacking(APP, [], [], never_ends) == ["its systemctl does not answer"]


def test_a_command_that_does_not_end_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    deaf = f"trap : TERM; (trap : TERM; while :; do echo x >> {marks}; sleep 0.1; done) & while :; do sleep 0.1; done"
    with pytest.raises(services.TookTooLong):
        services.runner(0.5)(["sh", "-c", deaf])
    written = marks.stat().st_size
    time.sleep(0.5)
    assert marks.stat().st_size == written


def test_one_that_may_not_be_stopped_is_told_as_hanging_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a command that became another user."""

    def refuse(_group: int, _signal: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refuse)
        patch.setattr(services, "_POLITE_SECONDS", 0.1)
        with pytest.raises(services.StepFailed, match="stopped after 0.1 s") as failed:
            services.check_health([["sleep", "3"]], retries=9, delay=0, run=services.runner(0.1))
    assert failed.value.hung


@pytest.mark.parametrize("command", ["sleep 30 & exit 3", "head -c 1000000 /dev/zero; exit 3"])
def test_what_a_command_leaves_running_or_prints_does_not_hold_it_up(command: str) -> None:
    assert services.runner(10)(["sh", "-c", command]) == (3, "")


def test_the_real_manager_of_this_machine_is_one_of_those_known() -> None:
    assert services.manager() in ("systemctl", "rc-service", "service", "")
    assert (services.manager() == "systemctl") == os.path.isdir("/run/systemd/system")
