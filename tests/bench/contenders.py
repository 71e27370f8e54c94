# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to bring a new key to a fleet, each with the same hosts and as many of them at a time."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.stage import HERE, Outage, Ran, Stage
from tests.integration.sshd import Sshd

Way = Callable[[Stage, Sshd, int], Outage]


def by_hand(stage: Stage, _sshd: Sshd, forks: int) -> Outage:
    """Two calls of ``uri``, then a play that gathers facts and runs ``lineinfile``; Ansible as it comes."""
    variables = {
        "api_url": stage.sandbox.url,
        "old_key": stage.fleet.live,
        "token": stage.fleet.env["MULTICART_SESSION_TOKEN"],
    }
    extra = stage.fleet.folder / "by-hand.json"
    extra.write_text(json.dumps(variables))
    with stage.rotation("by hand") as found:
        found.append(stage.run("ansible-playbook", str(HERE / "by_hand.yml"), "-e", f"@{extra}", "-f", str(forks)))
    return found[0]


def ours(strategy: str) -> Way:
    """Return rotate.yml under this strategy."""

    def rotate(stage: Stage, _sshd: Sshd, forks: int) -> Outage:
        env = {"ANSIBLE_STRATEGY": strategy, "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=300s"}
        if strategy.startswith("mitogen"):
            env.update(
                ANSIBLE_STRATEGY_PLUGINS=str(mitogen_plugins()), ANSIBLE_HOST_KEY_CHECKING="0"
            )  # it has its own ssh
        confirmed = ("-e", "multicart_rotate_confirm=true", "-f", str(forks))
        with stage.rotation(f"multicart.keys, {strategy}") as found:
            found.append(stage.run("ansible-playbook", "multicart.keys.rotate", *confirmed, **env))
        return found[0]

    return rotate


def mitogen_plugins() -> Path | None:
    """Return where Mitogen keeps its strategies; None: it is not installed."""
    spec = importlib.util.find_spec("ansible_mitogen")
    return Path(spec.origin).parent / "plugins" / "strategy" if spec and spec.origin else None


def raw_ssh(stage: Stage, sshd: Sshd, forks: int) -> Outage:
    """What no Ansible can beat: ``ssh`` over open connections, that many at a time."""

    def ssh(name: str, command: str, text: str = "") -> None:
        path = stage.fleet.folder / "cm"
        path.mkdir(exist_ok=True)
        control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={path}/{name}"]
        subprocess.run(["ssh", *sshd.options, *control, name, command], input=text, text=True, check=True)

    with ThreadPoolExecutor(forks) as pool:
        list(pool.map(lambda name: ssh(name, "true"), stage.fleet.hosts))
        with stage.rotation("ssh alone") as found:
            began = time.monotonic()
            line = f"MULTICART_API_KEY={stage.rotate_by_http()}\n"
            files = {name: host.env for name, host in stage.fleet.hosts.items()}
            list(pool.map(lambda name: ssh(name, f"cat > {files[name]}", line), files))
            found.append(Ran(0, "", 0.0, 0.0, time.monotonic() - began))
        list(pool.map(lambda name: ssh(name, "true"), ()))
    for name in stage.fleet.hosts:
        path = stage.fleet.folder / "cm" / name
        subprocess.run(["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", name], check=False, stderr=-3)
    return found[0]


def floor(stage: Stage, forks: int, **env: str) -> tuple[dict[str, float], Ran]:
    """Return when each host had answered a ping over an open connection, in seconds after the play began."""
    settings = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=300s", **env}
    ran = stage.run("ansible-playbook", str(HERE / "ping.yml"), "-f", str(forks), **settings)
    assert ran.code == 0, ran.output
    began = next(event["time"] for event in ran.events if (event["event"], event["name"]) == ("play", "Ping"))
    answered = [event for event in ran.events if (event["event"], event["name"]) == ("ok", "Ping")]
    return {event["host"]: event["time"] - began for event in answered}, ran
