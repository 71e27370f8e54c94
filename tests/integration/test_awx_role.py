# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of AWX: made, kept, left alone and put right, by real runs of awx.yml against a stand-in of its API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.awx.app import Awx
from tests.awx.collection import COLLECTIONS
from tests.integration.harness import Fleet, Run

pytestmark = pytest.mark.skipif(
    not COLLECTIONS.exists(), reason="awx.awx is missing: python -m tests.awx.collection gets it from PyPI"
)
PROJECT = Path(__file__).resolve().parents[2] / "roles" / "multicart_awx" / "files" / "project"
REPOSITORY = "https://git.example.com/keys.git"
RULE = "DTSTART;TZID=Europe/Berlin:20260101T040000 RRULE:FREQ=DAILY;INTERVAL=1"


@pytest.fixture
def awx() -> Iterator[Awx]:
    """An AWX with an organization and an inventory that has the group of the consumers."""
    with Awx() as awx:
        owner = awx.store.add("organizations", name="Ops")["id"]
        inventory = awx.store.add("inventories", name="Production", organization=owner)["id"]
        awx.store.add("groups", name="multicart_consumers", inventory=inventory)
        kind = awx.store.add("credential_types", name="Machine", kind="cloud", inputs={}, injectors={})["id"]
        awx.store.add("credentials", name="ssh", organization=owner, credential_type=kind)
        # Names need not be unique: these must not be mistaken for those of the role.
        awx.store.add("credentials", name="MultiCartAPI", organization=owner, credential_type=kind)
        awx.store.repositories[REPOSITORY] = PROJECT
        yield awx


def keep(fleet: Fleet, awx: Awx, *arguments: str, env: dict[str, str] | None = None, **variables: Any) -> Run:
    """Run awx.yml with the credentials of the fleet's account; a variable that is None is left out."""
    given = {
        "multicart_awx_organization": "Ops",
        "multicart_awx_inventory": "Production",
        "multicart_awx_scm_url": REPOSITORY,
        "multicart_awx_session_token": "{{ lookup('ansible.builtin.env', 'MULTICART_SESSION_TOKEN') }}",
        "multicart_awx_email": fleet.email,
        "multicart_awx_password": "{{ lookup('ansible.builtin.env', 'PASSWORD') }}",
        "multicart_awx_other_credentials": ["ssh"],
        "multicart_awx_rotate_rrule": RULE,
        "multicart_awx_audit_rrule": RULE,
        **{f"multicart_awx_{name}": value for name, value in variables.items()},
    }
    given = {name: value for name, value in given.items() if value is not None}
    return run(fleet, awx, "multicart.keys.awx", "-e", json.dumps(given), *arguments, env=env)


def run(fleet: Fleet, awx: Awx, playbook: str, *arguments: str, env: dict[str, str] | None = None) -> Run:
    known = {
        "CONTROLLER_HOST": awx.url,
        "CONTROLLER_OAUTH_TOKEN": awx.token,
        "PASSWORD": fleet.account["password"],
        "ANSIBLE_COLLECTIONS_PATH": f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{COLLECTIONS}",
    }
    done = fleet.run(playbook, *arguments, env={**known, **(env or {})})
    assert awx.token not in done.output, "the token of AWX was printed"
    return done


def changed(done: Run) -> list[str]:
    """Return the names of what a run changed."""
    return [task.task for task in done.tasks if task.get("changed") and "results" not in task.result]


def test_first_run(fleet: Fleet, awx: Awx) -> None:
    first = keep(fleet, awx)
    print(first)
    assert first.green, first
    again = keep(fleet, awx)
    print(again)
    assert again.green and not changed(again), again
