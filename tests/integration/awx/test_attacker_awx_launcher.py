# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker who may launch the job templates of AWX, and not see their credentials.

They may set whatever a launch can: any extra variable, with Jinja in it, any limit, tags, and answers of a survey.

What must not happen: a credential of the job reaches another server, or is trusted to another certificate; a job does
half of a rotation; what they say is evaluated as a template where AWX marks it as a text; a message, a result or a file
that they may read repeats a credential that a variable of theirs refers to.

Where AWX is set to evaluate templates of a launch (``ALLOW_JINJA_IN_EXTRA_VARS: always``), who may launch may run
anything on the control node; all the same no message of this collection shows them what a variable of it came to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.awx.job import Awx, confirmed
from tests.integration.conftest import new_login
from tests.integration.harness import Fleet
from tests.integration.listener import Listener
from tests.sandbox.handle import Sandbox


@pytest.fixture
def tls_fleet(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose service shows a certificate that nobody here trusts, as one between it and AWX would."""
    with Sandbox.start(tmp_path_factory.mktemp("tls"), tls=True, accounts=[new_login()]) as sandbox:
        (tmp_path / "tls").mkdir()
        yield Fleet(sandbox, tmp_path / "tls", sandbox.account())


# --- the URL and TLS ------------------------------------------------------------------------------

PLAYBOOKS = ["rotate.yml", *(pytest.param(f"{name}.yml", marks=pytest.mark.full) for name in ("deploy", "audit"))]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("where", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.full)])
def test_no_variable_sends_a_credential_to_another_server(
    fleet: Fleet, awx: Awx, listener: Listener, playbook: str, where: str
) -> None:
    elsewhere = {"multicart_api_url": f"http://{where}:{listener.port}/api/v1"}
    job = awx.launch(playbook, {**confirmed(fleet), **elsewhere})
    assert (job.green, job.reason) == (False, "url_not_bound"), job
    assert listener.heard == []
    assert (fleet.requests(), fleet.rotations) == ([], 0)


@pytest.mark.full
def test_the_doctor_sends_no_credential_to_another_server(fleet: Fleet, awx: Awx, listener: Listener) -> None:
    """It tries whatever there is, and says what it did not try."""
    awx.launch("doctor.yml", {"multicart_api_url": f"http://127.0.0.1:{listener.port}/api/v1"})
    assert listener.heard == []
    assert fleet.requests() == []


@pytest.mark.parametrize(
    "variable",
    ["validate_certs", pytest.param("ca_path", marks=pytest.mark.full)],
)
@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_no_variable_trusts_another_server(
    tls_fleet: Fleet, new_awx: Callable[[Fleet], Awx], playbook: str, variable: str
) -> None:
    tls_fleet.add("web1")
    awx = new_awx(tls_fleet)
    value = {"validate_certs": "false", "ca_path": str(tls_fleet.sandbox.ca_path)}[variable]
    job = awx.launch(playbook, {**confirmed(tls_fleet), f"multicart_{variable}": value})
    assert (job.green, job.reason) == (False, "url_not_bound"), job
    assert (tls_fleet.requests(), tls_fleet.rotations) == ([], 0)


def test_an_answer_is_no_template(fleet: Fleet, awx: Awx) -> None:
    """AWX marks it so; were it evaluated all the same, anyone who may launch could read the credential."""
    ran = fleet.folder / "ran"
    answers = {
        "multicart_rotate_confirm": "yes",
        "multicart_rotate_retire": f"{{{{ lookup('ansible.builtin.pipe', 'touch {ran}') }}}}",
    }
    job = awx.launch("rotate.yml", answers)
    assert not job.green, job
    assert not ran.exists()
    assert (fleet.requests(), fleet.rotations) == ([], 0)


TOKEN = "{{ lookup('ansible.builtin.env', 'MULTICART_SESSION_TOKEN') }}"
ROTATE_OPTIONS = ("retire", "max_age", "min_hosts", "force", "confirm", "unknown_age", "assume_rejected", "uncovered")
ROTATE_OPTIONS += ("allowed_hours",)
SHOWN_NOWHERE = [*(f"multicart_rotate_{name}" for name in ROTATE_OPTIONS), "multicart_api_url", "multicart_timeout"]
SHOWN_NOWHERE += [f"multicart_{name}" for name in ("account", "validate_certs", "ca_path", "email", "session_token")]
SHOWN_NOWHERE += [f"multicart_deploy_{name}" for name in ("files", "services", "commands", "health_checks", "timeout")]


@pytest.mark.parametrize(
    "variable",
    [
        name if name in ("multicart_rotate_retire", "multicart_api_url") else pytest.param(name, marks=pytest.mark.full)
        for name in SHOWN_NOWHERE
    ],
)
def test_a_template_that_is_evaluated_all_the_same_shows_nobody_the_credential(fleet: Fleet, variable: str) -> None:
    """Every run of the harness is searched for what it has printed and left."""
    fleet.add_many(2)
    run = fleet.run("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", "-e", f'{variable}="{TOKEN}"')
    assert run.reason != "internal_error", run
    assert fleet.rotations <= 1
    assert not run.green or variable == "multicart_session_token" or fleet.stale == [], run


@pytest.mark.full
def test_answers_that_are_left_empty_are_unset(fleet: Fleet, awx: Awx) -> None:
    names = ("retire", "max_age", "min_hosts", "force", "unknown_age", "assume_rejected")
    answers = {f"multicart_rotate_{name}": "" for name in names}
    more = {"multicart_hosts": "", "multicart_api_url": "", "multicart_account": ""}
    job = awx.launch("rotate.yml", {**answers, **more, "multicart_rotate_confirm": "yes"})
    assert job.green, job
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.parametrize("answer", ["", pytest.param("no", marks=pytest.mark.full)])
def test_without_the_confirmation_nothing_is_rotated(fleet: Fleet, awx: Awx, answer: str) -> None:
    job = awx.launch("rotate.yml", {**confirmed(fleet), "multicart_rotate_confirm": answer})
    assert (job.green, job.reason) == (False, "not_confirmed"), job
    assert fleet.rotations == 0


# --- limits ---------------------------------------------------------------------------------------


def test_a_rotation_limited_to_some_consumers_is_refused(fleet: Fleet, awx: Awx) -> None:
    before = fleet.snapshot()
    job = awx.launch("rotate.yml", confirmed(fleet), limit="web1,web2")
    assert (job.green, job.reason) == (False, "left_out"), job
    assert "web3" in job.message
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


@pytest.mark.full
def test_a_limit_that_only_leaves_localhost_out_makes_no_difference(fleet: Fleet, awx: Awx) -> None:
    job = awx.launch("rotate.yml", confirmed(fleet), limit="multicart_consumers")
    assert job.green, job
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.full
@pytest.mark.parametrize("playbook", ["rotate.yml", "deploy.yml", "audit.yml"])
@pytest.mark.parametrize("limit", ["db1", "localhost", "nobody"])
def test_a_limit_without_any_consumer_is_not_green(fleet: Fleet, awx: Awx, playbook: str, limit: str) -> None:
    fleet.groups = {"multicart_consumers": ["web1", "web2", "web3"]}
    fleet.add("db1", None)
    before = fleet.snapshot()
    job = awx.launch(playbook, confirmed(fleet), limit=limit)
    assert not job.green, job
    assert (fleet.rotations, fleet.snapshot()) == (0, before)


def test_a_deployment_limited_to_some_consumers_brings_those_up_to_date(fleet: Fleet, awx: Awx) -> None:
    fleet.sandbox.rotate_behind(fleet.email)
    job = awx.launch("deploy.yml", limit="web1,web2")
    assert job.green, job
    assert fleet.stale == ["web3"]


# --- tags -----------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("tags", [{"tags": "deploy"}, {"skip_tags": "never,rotate"}], ids=["tags", "skip-tags"])
def test_tags_leave_nothing_out(fleet: Fleet, awx: Awx, tags: dict[str, Any]) -> None:
    job = awx.launch("rotate.yml", confirmed(fleet), **tags)
    assert job.green, job
    assert (fleet.rotations, fleet.stale) == (1, [])


@pytest.mark.full
@pytest.mark.parametrize("playbook", ["rotate.yml", "deploy.yml", "audit.yml"])
def test_skipping_everything_does_nothing(fleet: Fleet, awx: Awx, playbook: str) -> None:
    """Nothing of ours runs then; so the role's job templates do not ask for tags to skip."""
    fleet.sandbox.rotate_behind(fleet.email)
    before = fleet.snapshot()
    job = awx.launch(playbook, confirmed(fleet), skip_tags="always")
    assert job.tasks == [], job
    assert (fleet.requests(), fleet.rotations, fleet.snapshot()) == ([], 0, before)
