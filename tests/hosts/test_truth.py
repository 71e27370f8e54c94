# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Green is true: what counts is not what a file holds but what the processes hold that use the key.

Tests are named after what was found in the field. All of it at once is in :mod:`tests.hosts.test_truth_matrix`.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.hosts.fleet import KEY_FILE, RealFleet, RealHost, health_of
from tests.hosts.whole import DROP_IN, ENV_LINE, IMAGE, RUN_CONTAINER
from tests.integration.harness import Run, fingerprint
from tests.rows import every_other


def used(host: RealHost, *services: str) -> dict[str, str]:
    """Return the fingerprint of the key that each service has."""
    return {service: host.app(service)["fingerprint"] for service in services}


def refused(run: Run, reason: str, fleet: RealFleet) -> bool:
    return (run.green, run.reason, fleet.rotations, fleet.stale) == (False, reason, 0, [])


# --- services -------------------------------------------------------------------------------------


def test_t7_a_reload_is_refused_where_systemd_reads_the_file_only_when_it_starts_a_process(real: RealFleet) -> None:
    web1 = real.boot("web1", multicart_deploy_services=[{"name": "app", "state": "reloaded"}])
    run = real.rotate()
    assert refused(run, "not_ready", real), run
    assert all(words in run.message for words in ("web1", "app", "EnvironmentFile", "restarted"))
    assert (web1.app()["fingerprint"], web1.app()["reloads"]) == (real.live_fingerprint, 0)


def test_t7_a_service_that_reads_the_file_again_is_reloaded(real: RealFleet) -> None:
    web1 = real.boot(
        "web1", services=("app-file",), multicart_deploy_services=[{"name": "app-file", "state": "reloaded"}]
    )
    web1.wait()
    before = web1.app("app-file")
    run = real.rotate()
    assert run.green, run
    after = web1.app("app-file")
    assert (after["pid"], after["reloads"]) == (before["pid"], 1)
    assert after["fingerprint"] == real.live_fingerprint != before["fingerprint"]


def test_t8_a_service_that_ends_at_once_with_the_new_key_is_not_called_healthy(real: RealFleet) -> None:
    real.boot("web1", services=("app-fragile",), multicart_deploy_health_checks=[])
    real.boot("web2")
    run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_up_to_date", 1), run
    assert [task.host for task in run.failures] == ["web1"], run
    assert run.states == {"web1": "restart due", "web2": "up to date"}
    assert "app-fragile" in run.consumers["web1"]
    assert real.real["web1"].unit("app-fragile", "ActiveState") == ["failed"]
    # What failed is started again, and stays what it is until it works.
    web1 = real.real["web1"]
    again = real.deploy()
    assert not again.green and "app-fragile" in again.message, again
    web1.run("rm /var/lib/app/app-fragile.first")
    mended = real.deploy()
    assert mended.green, mended
    assert used(web1, "app-fragile") == {"app-fragile": real.live_fingerprint}
    assert web1.unit("app-fragile", "ActiveState") == ["active"]


@pytest.mark.parametrize("kind", ["openrc", "runit"])
def test_t8_a_service_that_ends_at_once_is_not_called_healthy_without_systemd_either(
    real: RealFleet, kind: str
) -> None:
    real.boot("web1", kind, services=("app-fragile",), multicart_deploy_health_checks=[])
    run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_up_to_date", 1), run
    assert run.states == {"web1": "restart due"} and "app-fragile" in run.consumers["web1"]


@pytest.mark.full
def test_a_service_that_does_not_end_is_named_and_the_others_are_done(real: RealFleet) -> None:
    real.boot("web1", services=("app-hanging",), multicart_deploy_timeout=2)
    real.boot("web2")
    run = real.rotate()
    assert (run.green, run.reason, real.rotations, real.stale) == (False, "not_up_to_date", 1, []), run
    assert run.states == {"web1": "restart due", "web2": "up to date"}
    assert "app-hanging" in run.consumers["web1"]


def test_t9_a_drop_in_with_the_key_is_read_by_systemd_before_the_restart(real: RealFleet) -> None:
    template = real.folder / "key.conf.j2"
    template.write_text("[Service]\nEnvironment=MULTICART_API_KEY={{ multicart_key }}\n")
    web1 = real.boot(
        "web1",
        services=("app-dropin",),
        files={DROP_IN: "[Service]\nEnvironment=MULTICART_API_KEY={key}\n"},
        multicart_deploy_files=[{"path": DROP_IN, "template": str(template), "mode": "0600"}],
    )
    run = real.rotate()
    assert run.green, run
    assert used(web1, "app-dropin") == {"app-dropin": real.live_fingerprint}
    assert web1.unit("app-dropin", "NeedDaemonReload") == ["no"]


def test_t11_healthy_is_said_only_of_what_passed_a_health_check(real: RealFleet) -> None:
    real.boot("web1")
    real.boot("web2", multicart_deploy_health_checks=[])
    run = real.rotate()
    assert run.green, run
    assert "2 of 2 consumers hold the live key" in run.output
    assert "1 passed its health checks, 1 has none" in run.output
    assert "are healthy" not in run.output


def test_t19_services_that_cannot_be_started_are_named_before_the_key_is_revoked(real: RealFleet) -> None:
    named = {"manual": "CanStart", "masked": "masked", "absent": "not-found", "bad": "bad-setting"}
    for name in named:
        real.boot(name, services=(), multicart_deploy_services=[f"app-{name}"])
    run = real.rotate()
    assert refused(run, "not_ready", real), run
    for name, state in named.items():
        assert re.search(rf"{name}: [^;]*\bapp-{name}\b[^;]*{re.escape(state)}", run.message), run.message


@pytest.mark.parametrize("kind", ["openrc", "runit"])
def test_t19_a_service_that_is_not_there_is_named_without_systemd_too(real: RealFleet, kind: str) -> None:
    real.boot("web1", kind, multicart_deploy_services=["app", "app-absent"])
    run = real.rotate()
    assert refused(run, "not_ready", real) and "app-absent" in run.message, run


@pytest.mark.parametrize("lingers", [True, False])
def test_t19_a_user_unit_is_restarted_or_refused_before_the_key_is_revoked(real: RealFleet, lingers: bool) -> None:
    """Become says nothing of where the user's own systemd listens; and without lingering there is none."""
    path = "/home/plain/app.env"
    web1 = real.boot(
        "web1",
        services=(),
        files={path: ENV_LINE},
        ansible_become_user="plain",
        multicart_deploy_commands=["systemctl --user restart app-user"],
        multicart_deploy_health_checks=[health_of("app-user")] if lingers else [],
    )
    web1.run(f"chown plain:plain {path}")
    if not lingers:
        run = real.rotate()
        assert refused(run, "not_ready", real), run
        assert "app-user" in run.message and "linger" in run.message
        return
    web1.run("loginctl enable-linger plain && systemctl start user@$(id -u plain)")
    web1.run("runuser -u plain -- env XDG_RUNTIME_DIR=/run/user/$(id -u plain) systemctl --user start app-user")
    run = real.rotate()
    assert run.green, run
    assert used(web1, "app-user") == {"app-user": real.live_fingerprint}


def test_t20_what_was_stopped_on_purpose_is_left_alone_and_what_has_failed_is_restarted(real: RealFleet) -> None:
    started = ("app", "app-once", "app-notify")
    services = [*started, "app-file", "app-oneshot", "app-timer"]
    web1 = real.boot(
        "web1",
        services=started,
        multicart_deploy_services=services,
        multicart_deploy_health_checks=[health_of("app"), health_of("app-notify")],
    )
    web1.run("systemctl kill --signal=KILL app-notify; until systemctl is-failed -q app-notify; do sleep 0.05; done")
    run = real.rotate()
    assert run.green, run
    assert used(web1, *started) == dict.fromkeys(started, real.live_fingerprint)
    assert web1.unit("app-file", "ActiveState") == ["inactive"]
    assert web1.run("ls /run/app/app-file.json /run/app/app-oneshot.json /run/app/app-timer.json || true") == ""
    left = next(line for line in run.output.splitlines() if "left alone" in line)
    assert "web1" in left and all(name in left for name in ("app-file", "app-oneshot", "app-timer"))
    assert not any(f" {name}" in left.partition("left alone")[2].replace("app-", "_") for name in started)


def test_t20_a_host_whose_services_are_all_stopped_is_not_called_unhealthy(real: RealFleet) -> None:
    web1 = real.boot("web1")
    web1.run("systemctl stop app")
    run = real.rotate()
    assert run.green, run
    assert web1.unit("app", "ActiveState") == ["inactive"]
    assert "app" in next(line for line in run.output.splitlines() if "left alone" in line)
    assert "passed" not in run.output.partition("consumers hold the live key")[2]


@pytest.mark.parametrize("kind", ["openrc", "runit"])
def test_t20_what_was_stopped_on_purpose_is_left_alone_without_systemd_too(real: RealFleet, kind: str) -> None:
    web1 = real.boot("web1", kind)
    web1.wait()
    web1.run("rc-service app stop" if kind == "openrc" else "sv down app")
    before = web1.app()
    run = real.rotate()
    assert run.green and web1.holders == [], run
    assert web1.app() == before
    assert "app" in next(line for line in run.output.splitlines() if "left alone" in line)


@pytest.mark.full
def test_t16_each_host_that_shares_a_file_restarts_its_service_once(real: RealFleet) -> None:
    """With the same variables, one host after the other."""
    web1, web2 = real.boot("web1"), real.boot("web2")
    web2.crash()
    place = f"{web2.root}/etc/app"
    real.stage.run("mount", "--bind", f"{web1.root}/etc/app", place)
    try:
        web2.reboot()
        real.sandbox.rotate_behind(real.email)
        former = [web1.app(), web2.app()]
        role = "- ansible.builtin.include_role: {name: multicart.keys.multicart_deploy}"
        run = real.play(role, head="serial: 1")
        assert run.green, run
        after = [web1.app(), web2.app()]
        assert [app["fingerprint"] for app in after] == [real.live_fingerprint] * 2
        assert all(one["pid"] != other["pid"] for one, other in zip(former, after, strict=True))
        again = real.play(role, head="serial: 1")
        assert again.green and set(again.changed.values()) == {False}, again
        assert [web1.app(), web2.app()] == after
    finally:
        web2.crash()
        real.stage.run("umount", place)


# --- processes ------------------------------------------------------------------------------------


def test_a_service_that_has_the_key_and_is_not_configured_is_named_and_nothing_is_rotated(real: RealFleet) -> None:
    web1 = real.boot("web1")
    # The second one is no container, in spite of its name.
    web1.run(f"cp {KEY_FILE} /etc/app/machine.env && systemctl start app-notify app@machine")
    run = real.rotate()
    assert refused(run, "uncovered_process", real), run
    assert "web1" in run.message and "app-notify.service" in run.message and "app@machine.service" in run.message

    web1.run("systemctl stop app@machine")
    # By an alias, which is the name of no process.
    web1.run("cd /etc/systemd/system && ln -s app-notify.service told.service && systemctl daemon-reload")
    named = real.rotate("-e", '{"multicart_deploy_services": ["app", "told"]}')
    assert named.green, named
    assert used(web1, "app", "app-notify") == dict.fromkeys(("app", "app-notify"), real.live_fingerprint)


@pytest.mark.parametrize("elsewhere", every_other([True, False]))
def test_a_service_that_keeps_a_retired_key_is_out_of_date_until_it_is_restarted(
    real: RealFleet, elsewhere: bool
) -> None:
    """Whether this collection has rotated the key, or somebody in the dashboard has."""
    web1 = real.boot("web1")
    web1.run("systemctl start app-notify")
    old = real.live_fingerprint
    if elsewhere:
        real.sandbox.rotate_behind(real.email)
        run = real.deploy()
    else:
        run = real.rotate("-e", "multicart_rotate_uncovered=warn")
    assert (run.green, real.rotations, real.stale) == (False, int(not elsewhere), []), run
    assert all(words in run.message for words in ("python3", "app-notify.service", old))
    assert used(web1, "app", "app-notify") == {"app": real.live_fingerprint, "app-notify": old}

    audit = real.audit()
    assert not audit.green and audit.states == {"web1": "process out of date"}, audit
    deploy = real.deploy()
    assert not deploy.green and "app-notify.service" in deploy.message, deploy
    ignored = real.deploy("-e", '{"multicart_deploy_ignore_processes": ["app-notify.*"]}')
    assert ignored.green, ignored
    again = real.audit()
    assert not again.green and "app-notify.service" in again.message, again
    web1.run("systemctl restart app-notify")
    assert real.audit().green


@pytest.mark.full
def test_a_child_that_is_not_ended_with_its_service_is_told_of_by_its_unit(real: RealFleet) -> None:
    """KillMode=process."""
    web1 = real.boot("web1", services=("app-leaving",))
    old = real.live_fingerprint
    run = real.rotate()
    assert (run.green, run.reason, real.rotations) == (False, "not_up_to_date", 1), run
    assert run.states == {"web1": "process out of date"}
    assert "sleep" in run.consumers["web1"] and "app-leaving.service" in run.consumers["web1"]
    assert {holder.command for holder in web1.holders if holder.fingerprint == old} == {"sleep"}


def test_logins_and_jobs_with_the_key_are_told_of_and_refuse_nothing(real: RealFleet) -> None:
    """A terminal's server, sudo -E and su from a login, cron, and a job of a timer that is running."""
    web1 = real.boot("web1")
    job = "[Service]\nExecStartPost=/bin/sleep infinity\n"
    web1.write("/etc/systemd/system/app-timer.service.d/long.conf", job)
    web1.write("/etc/cron.d/app", f"MULTICART_API_KEY={real.live}\n@reboot root sleep infinity\n")
    web1.run("systemctl daemon-reload && systemctl start --no-block app-timer")
    web1.run("rm -f /run/crond.reboot && systemctl restart cron")
    for user in ("ops", "doas"):
        web1.write(f"/home/{user}/env", f"MULTICART_API_KEY={real.live}\n", f"{user}:{user}", "0600")
    detached = "</dev/null >/dev/null 2>&1 &"
    web1.ssh("set -a; . ./env; tmux new-session -d 'exec sleep 1001'")
    web1.ssh(f"set -a; . ./env; sudo -E setsid sleep 1002 {detached}")
    web1.ssh(f"sudo su - doas -c 'set -a; . ./env; exec setsid sleep 1003' {detached}")
    web1.run("until [ $(pgrep -cx sleep) = 5 ]; do sleep 0.05; done")
    before = web1.holders
    assert sum(holder.command == "sleep" for holder in before) >= 5, before
    run = real.rotate()
    assert run.green, run
    assert web1.app()["fingerprint"] == real.live_fingerprint
    told = "\n".join(line for line in run.output.splitlines() if "holds the key" in line)
    untold = [holder for holder in before if holder.command == "sleep" and f"(process {holder.pid}," not in told]
    assert not untold, (untold, told, web1.holders, web1.run("journalctl --no-pager --lines=60"))
    audit = real.audit()
    assert audit.green, audit
    for done in (run, audit):
        assert re.search(r"holds a retired key, except \d+ logins or passing jobs", done.output), done


def test_the_environment_of_the_run_itself_is_no_finding(real: RealFleet) -> None:
    """Where /etc/environment has the key, every login has it: that of the run, too."""
    web1 = real.boot("web1")
    web1.write("/etc/environment", f"MULTICART_API_KEY={real.live}\n")
    for _time in range(2):
        run = real.rotate()
        assert run.green, run
        assert "process" not in run.output.partition("Inspected")[2].partition("consumers hold")[0], run
    assert web1.app()["fingerprint"] == real.live_fingerprint


def test_what_an_unprivileged_user_may_not_see_is_said(real: RealFleet) -> None:
    path = "/home/ops/app.env"
    real.boot(
        "web1", services=(), files={path: ENV_LINE}, ansible_become=False, multicart_deploy_commands=["/bin/true"]
    ).run(f"chown ops:ops {path}")
    run = real.rotate()
    assert run.green, run
    assert "no process that could be read holds a retired key (on 1 host, some could not be read)" in run.output


@pytest.mark.full
def test_among_mixed_hosts_each_that_is_not_ready_is_named_and_nothing_is_rotated(
    real: RealFleet, systemd: str
) -> None:
    """Each in another way."""
    for kind in ("openrc", "runit", systemd):
        real.boot(kind, kind)
    unready: dict[str, tuple[str, dict[str, Any]]] = {
        "reloaded": ("EnvironmentFile", {"multicart_deploy_services": [{"name": "app", "state": "reloaded"}]}),
        "masked": ("app-masked", {"multicart_deploy_services": ["app-masked"]}),
        "manual": ("app-manual", {"multicart_deploy_services": ["app", "app-manual"]}),
        "user": ("linger", {"multicart_deploy_commands": ["systemctl --user restart app-user"]}),
        "stale": ("read-only", {}),
    }
    for name, (_word, variables) in unready.items():
        real.boot(name, systemd, **variables)
    real.real["stale"].run("mount --bind /etc /etc && mount -o remount,ro,bind /etc")
    run = real.rotate()
    assert refused(run, "not_ready", real), run
    for name, (word, _variables) in unready.items():
        assert re.search(rf"{name}: [^;]*{word}", run.message), run.message
    assert not re.search(rf"\b(openrc|runit|{systemd}):", run.message)
    assert {host.app()["fingerprint"] for host in real.real.values()} == {real.live_fingerprint}


def test_among_mixed_hosts_exactly_those_are_red_that_are_broken(real: RealFleet, systemd: str) -> None:
    """Each in another way; and a re-run finishes what was mended."""
    for kind in ("openrc", "runit", systemd):
        real.boot(kind, kind)
    broken = {
        "fragile": ("restart due", "app-fragile"),
        "hanging": ("restart due", "app-hanging"),
        "leaving": ("process out of date", "app-leaving.service"),
        "openrc-fragile": ("restart due", "app-fragile"),
        "runit-fragile": ("restart due", "app-fragile"),
    }
    for name, (_state, named) in broken.items():
        init, _dash, is_other = name.partition("-")
        unit = (named.partition(".")[0],)
        kind = init if is_other else systemd
        # What does not end, or is started again and again, is waited for; the others have the time that they need.
        seconds = 2 if name in ("hanging", "runit-fragile") else 20
        real.boot(name, kind, services=unit, multicart_deploy_timeout=seconds, multicart_deploy_health_checks=[])
    run = real.rotate()
    assert (run.green, run.reason, real.rotations, real.stale) == (False, "not_up_to_date", 1, []), run
    assert {task.host for task in run.failures} == set(broken)
    assert {name for name, state in run.states.items() if state == "up to date"} == {"openrc", "runit", systemd}
    for name, (state, named) in broken.items():
        assert run.states[name] == state and named in run.consumers[name], run.consumers

    for name in ("fragile", "openrc-fragile", "runit-fragile"):
        real.real[name].run("rm /var/lib/app/app-fragile.first")
    # runit starts it again by itself, a second after it has ended; a restart in that second is another story.
    real.real["runit-fragile"].run("timeout 20 sh -c 'until sv status app-fragile | grep -q ^run:; do sleep 0.1; done'")
    drop_in = "/etc/systemd/system/app-hanging.service.d/stop.conf"
    real.real["hanging"].write(drop_in, "[Service]\nTimeoutStopSec=200ms\n")
    real.real["hanging"].run("systemctl daemon-reload && systemctl kill --signal=KILL app-hanging")
    real.real["leaving"].run("pkill sleep")
    assert run.whole is not None
    for name in broken:
        real.hosts[name].variables["multicart_deploy_timeout"] = 20
    again = real.rotate("-e", f"multicart_rotate_retire={run.whole['retired']}")
    assert again.green and real.rotations == 1, again
    for host in real.real.values():
        assert {holder.fingerprint for holder in host.holders} == {real.live_fingerprint}


# --- containers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recreated", [pytest.param(True, marks=pytest.mark.full), False])
def test_t10_a_container_has_the_new_key_only_once_it_was_created_anew(real: RealFleet, recreated: bool) -> None:
    web1 = real.boot(
        "web1",
        services=(),
        multicart_deploy_commands=[RUN_CONTAINER if recreated else "podman restart c1"],
        multicart_deploy_health_checks=[health_of("c1")],
    )
    web1.run(f"{IMAGE} && {RUN_CONTAINER}")
    old = real.live_fingerprint
    run = real.rotate()
    assert real.rotations == 1, run
    if recreated:
        assert run.green, run
        assert used(web1, "c1") == {"c1": real.live_fingerprint}
    else:
        assert (run.green, run.states) == (False, {"web1": "process out of date"}), run
        assert "container" in run.consumers["web1"]
        assert used(web1, "c1") == {"c1": old}


# --- logs and records -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sudo", pytest.param("su", marks=pytest.mark.full)])
def test_x4_nothing_of_a_template_is_in_a_log_of_the_host(real: RealFleet, by: str) -> None:
    """Not even where it holds the key in another form. Every run is searched for that, see RealFleet."""
    template = real.folder / "app.env.j2"
    template.write_text(
        "# Every form of it\n"
        "MULTICART_API_KEY={{ multicart_key }}\n"
        "KEY_B64={{ multicart_key | b64encode }}\n"
        "BASIC={{ ('user:' ~ multicart_key) | b64encode }}\n"
        "SECRET={{ multicart_key.split('.')[1] }}\n"
    )
    entry: dict[str, Any] = {"path": KEY_FILE, "template": str(template)}
    web1 = real.boot("web1", by=by, multicart_deploy_files=[entry])
    for run in (real.deploy("-vvv", "--diff"), real.rotate("-vvv", "--diff"), real.audit("-vvv")):
        assert run.green, run
    assert web1.app()["fingerprint"] == real.live_fingerprint
    assert "COMMAND=" in web1.journal() or by == "su"  # it says what was run there


def test_a_secret_in_a_log_of_a_host_is_found(real: RealFleet) -> None:
    web1 = real.boot("web1")
    web1.run(f"logger {real.live.partition('.')[2]}")
    with pytest.raises(AssertionError, match="a secret was logged on web1"):
        real.audit()


def test_o6_a_record_that_root_has_made_does_not_refuse_the_owner_of_the_file(real: RealFleet) -> None:
    path = "/home/ops/app.env"
    web1 = real.boot("web1", services=(), files={path: ENV_LINE}, multicart_deploy_commands=["/bin/true"])
    web1.run(f"chown ops:ops {path} && chmod 0600 {path}")
    assert real.deploy().green
    assert web1.run("stat -c %U /home/ops/.app.env.MULTICART_API_KEY.multicart.json") == "root\n"
    real.hosts["web1"].variables["ansible_become"] = False
    run = real.rotate()
    assert run.green, run
    assert fingerprint(real.live) == real.consumer("web1").record["held"]
