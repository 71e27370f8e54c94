# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays that run their task on many hosts, in batches, in loops and again: one rotation, and every call tells its key.

Each row is a play with an account of its own, and all plays are one run of ansible-playbook.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.harness import Fleet, Task, _indented, fingerprint
from tests.sandbox.shapes import Account

HOSTS = 3
OUTCOMES = ("rotated", "already_rotated")
HEADS = {
    "linear": "",
    "free": "strategy: free",
    "host-pinned": "strategy: host_pinned",
    "serial": "serial: 1",
    "serial-growing": "serial: [1, 2]",
    "free-in-batches": "strategy: free\nserial: 2",
}
TASKS = {
    "plain": "",
    "named": "multicart.keys.multicart_key_rotate: {retire: FINGERPRINT}",
    "run-once": "run_once: true",
    "loop": "loop: [1, 2]",
    "until": (
        "multicart.keys.multicart_key_rotate: {settle_timeout: 0.1}\n"
        "until: key is success\nretries: 4\ndelay: 0\nregister: key"
    ),
    "throttle": "throttle: 1",
    "delegated": "delegate_to: localhost",
}
"""What the task says, besides what it does."""
TELLING = (
    ("linear", "until"),
    ("linear", "throttle"),
    ("host-pinned", "plain"),
    ("free", "run-once"),
    ("free", "until"),
    ("host-pinned", "loop"),
    ("serial", "named"),
    ("serial", "run-once"),
    ("serial-growing", "loop"),
)


@dataclass(frozen=True)
class Play:
    """One play, and the account that it rotates."""

    head: str
    task: str
    account: Account

    @property
    def name(self) -> str:
        return f"{self.head} {self.task}"

    @property
    def calls(self) -> int:
        """How many there are: run_once is once in a batch, and nothing at all to the strategies that run ahead."""
        if self.task == "run-once" and "free" not in self.head and self.head != "host-pinned":
            return {"linear": 1, "serial": HOSTS, "serial-growing": 2}[self.head]
        return HOSTS * (2 if self.task == "loop" else 1)

    @property
    def variable(self) -> str:
        """Of the environment, with the session token: a test's playbook may be read, so that no secret is in it."""
        return f"TOKEN_{self.account['id']}"

    @property
    def text(self) -> str:
        task = TASKS[self.task].replace("FINGERPRINT", fingerprint(self.account["api_key"]))
        if "multicart_key_rotate" not in task:
            task = f"multicart.keys.multicart_key_rotate:\n{task}"
        lines = [
            "- hosts: all",
            "  gather_facts: false",
            *_indented(HEADS[self.head], 2),
            "  vars:",
            "    multicart_api_url: \"{{ lookup('ansible.builtin.env', 'MULTICART_API_URL') }}\"",
            f"    multicart_session_token: \"{{{{ lookup('ansible.builtin.env', '{self.variable}') }}}}\"",
            "  tasks:",
            f"    - name: {self.name}",
            *_indented(task, 6),
        ]
        return "\n".join(lines) + "\n"


def calls(tasks: list[Task]) -> list[dict[str, Any]]:
    """Return what each call told, those of a loop one by one, those that were tried again left out."""
    ended = [task for task in tasks if task.status == "ok"]
    return [one for task in ended for one in task.get("results", [task.result])]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(TELLING, id="telling"),
        *(pytest.param(tuple(itertools.product([head], TASKS)), id=head, marks=pytest.mark.full) for head in HEADS),
    ],
)
def test_whatever_a_play_does_with_the_task_it_rotates_once(
    fleet: Fleet, new_account: Callable[[], Account], rows: tuple[tuple[str, str], ...]
) -> None:
    for number in range(HOSTS):
        fleet.add(f"web{number}", None)
    del fleet.env["MULTICART_SESSION_TOKEN"]
    plays = [Play(head, task, new_account()) for head, task in rows]
    for play in plays:
        fleet.env[play.variable] = fleet.sandbox.token(play.account["email"])
        if play.task == "until":
            # So many that the first try ends without an answer.
            fleet.fault("rotate", "answer_lost_before_commit", times=3, account=play.account["email"])
    playbook = fleet.folder / "plays.yml"
    playbook.write_text("".join(play.text for play in plays))
    run = fleet.run(str(playbook))
    assert run.green, run
    for play in plays:
        account = fleet.sandbox.account(play.account["email"])
        assert account["rotations"] == 1, f"{play.name}: {run}"
        tasks = [task for task in run.tasks if task.task == play.name]
        told = [(one["outcome"], one["key_fingerprint"]) for one in calls(tasks)]
        assert told.count(("rotated", fingerprint(account["api_key"]))) == 1, f"{play.name}: {run}"
        assert set(told) <= {(outcome, fingerprint(account["api_key"])) for outcome in OUTCOMES}, f"{play.name}: {run}"
        assert len(told) == play.calls, f"{play.name}: {run}"
        assert (play.task == "until") == any(task.status == "retried" for task in tasks), f"{play.name}: {run}"
