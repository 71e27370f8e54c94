# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to bring a rotated key to the fleet, side by side."""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.bench.stage import HERE, Measured, Ran, Stage
from tests.integration.harness import VARIABLE
from tests.integration.sshd import Sshd

BY_HAND = "by hand"
TUNED = "by hand, tuned"
OURS = "ours"
FREE = "ours, free"
MITOGEN = "ours, Mitogen"
FLOOR = "floor"
RAW = "raw ssh"


def by_hand(stage: Stage) -> Measured:
    """Two ``uri`` calls, then a play that gathers facts and runs ``lineinfile``."""
    return stage.measure(lambda: stage.playbook(str(HERE / "files" / "by_hand.yml")))


def by_hand_tuned(stage: Stage) -> Measured:
    """The same, without facts and with pipelining."""
    playbook, env = str(HERE / "files" / "by_hand.yml"), {"ANSIBLE_PIPELINING": "1"}
    return stage.measure(lambda: stage.playbook(playbook, "-e", "by_hand_facts=false", env=env))


def ours(strategy: str = "linear") -> Callable[[Stage], Measured]:
    """The collection's playbook, with one of Ansible's strategies."""
    env = {"ANSIBLE_STRATEGY": strategy}
    if strategy.startswith("mitogen"):
        env["ANSIBLE_STRATEGY_PLUGINS"] = str(mitogen_strategies())
    return lambda stage: stage.measure(lambda: rotate(stage, env))


def rotate(stage: Stage, env: dict[str, str]) -> Ran:
    """Run rotate.yml."""
    return stage.playbook("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", env=env)


def floor(stage: Stage) -> Measured:
    """One task that does nothing, over open connections, from the start of its play to each host's answer."""
    ran = stage.playbook(str(HERE / "files" / "floor.yml"), env={"ANSIBLE_PIPELINING": "1"})
    return Measured(ran.answers("The floor"), ran.took, ran.cpu, ran.peak)


def raw_ssh(stage: Stage) -> Measured:
    """No Ansible: as many ssh at a time as there are forks, over open connections, each writing one file."""
    assert isinstance(stage.network, Sshd)
    control = f"{stage.network.variables['ansible_control_path_dir']}/%n"
    Path(control).parent.mkdir(exist_ok=True)
    ssh = ["ssh", *stage.network.options, "-o", f"ControlPath={control}"]
    keep = ["-o", "ControlMaster=auto", "-o", "ControlPersist=300"]

    def act() -> Ran:
        started, before = time.monotonic(), _cpu()
        content = f"PORT=8080\n{VARIABLE}={_rotate_at_the_service(stage)}\nLOG_LEVEL=info\n".encode()

        def write(name: str) -> None:
            path = stage.fleet.hosts[name].env
            command = f"umask 077; cat > {path}.new && mv {path}.new {path}"
            subprocess.run([*ssh, name, command], input=content, check=True)

        _each(stage, write)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Ran(time.monotonic() - started, _cpu() - before, peak)

    _each(stage, lambda name: subprocess.run([*ssh, *keep, name, "true"], check=True, stdin=subprocess.DEVNULL))
    return stage.measure(act)


def _rotate_at_the_service(stage: Stage) -> str:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Token {stage.fleet.env['MULTICART_SESSION_TOKEN']}"
        url = stage.fleet.env["MULTICART_API_URL"]
        session.post(f"{url}/users/api-key/update/", json={}, timeout=10).raise_for_status()
        return str(session.post(f"{url}/users/account-details", json={}, timeout=10).json()["data"]["api_key"])


def _each(stage: Stage, act: Callable[[str], object]) -> None:
    with ThreadPoolExecutor(stage.forks) as pool:
        list(pool.map(act, stage.fleet.hosts))


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def mitogen_strategies() -> Path | None:
    """Where Mitogen has its strategy plugins; None: it is not installed."""
    found = importlib.util.find_spec("ansible_mitogen")
    return Path(found.origin).parent / "plugins" / "strategy" if found and found.origin else None


WAYS: dict[str, Callable[[Stage], Measured]] = {
    BY_HAND: by_hand,
    TUNED: by_hand_tuned,
    FLOOR: floor,
    OURS: ours(),
    FREE: ours("free"),
    MITOGEN: ours("mitogen_linear"),
    RAW: raw_ssh,
}
