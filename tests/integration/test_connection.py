# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where credentials come from and where they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import new_login
from tests.integration.harness import Fleet
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account


@pytest.fixture
def other_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("other"), tls=True, accounts=[new_login()]) as sandbox:
        yield sandbox


def test_a_launch_time_variable_cannot_send_the_token_elsewhere(fleet: Fleet, other_sandbox: Sandbox) -> None:
    fleet.add("web1")
    for variable in (f"multicart_api_url={other_sandbox.url}", "multicart_validate_certs=false"):
        run = fleet.rotate("-e", variable)
        assert (run.green, run.reason) == (False, "url_not_bound"), run
        assert "MULTICART_API_URL" in run.message
    assert other_sandbox.journal() == []
    assert fleet.requests() == []


def test_what_awx_leaves_empty_is_unset(fleet: Fleet) -> None:
    fleet.add("web1")
    credential = {
        "MULTICART_SESSION_TOKEN": "",
        "MULTICART_EMAIL": fleet.email,
        "MULTICART_PASSWORD": fleet.account["password"],
        "MULTICART_API_KEY": "",
        "MULTICART_CA_PATH": "",
        "MULTICART_TIMEOUT": "",
        "MULTICART_VALIDATE_CERTS": "True",
    }
    survey = "multicart_rotate_retire='' multicart_rotate_max_age='' multicart_api_url=''"
    more = "multicart_rotate_min_hosts='' multicart_rotate_force='' multicart_account='' multicart_hosts=''"
    rest = "multicart_rotate_unknown_age='' multicart_rotate_assume_rejected=''"
    run = fleet.rotate("-e", survey, "-e", more, "-e", rest, env=credential)
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])
    assert [entry["endpoint"] for entry in fleet.requests()].count("login") == 1


def test_variables_are_templated_and_beat_the_environment(fleet: Fleet, new_account: Callable[[], Account]) -> None:
    fleet.add("web1")
    other = new_account()
    fleet.variables["multicart_session_token"] = "{{ lookup('ansible.builtin.file', token_file) }}"
    token = fleet.folder / "hosts" / "token"
    token.write_text(fleet.sandbox.token(fleet.email))
    run = fleet.rotate(
        "-e", f"token_file={token}", env={"MULTICART_SESSION_TOKEN": fleet.sandbox.token(other["email"])}
    )
    assert run.green, run
    assert (fleet.rotations, fleet.sandbox.rotations(other["email"])) == (1, 0)


def test_tls(other_sandbox: Sandbox, tmp_path: Path) -> None:
    fleet = Fleet(other_sandbox, tmp_path, other_sandbox.account())
    fleet.add("web1")
    refused = fleet.rotate()
    assert (refused.green, refused.reason) == (False, "certificate_invalid"), refused
    assert "ca_path" in refused.message
    assert fleet.requests() == []
    run = fleet.rotate(env={"MULTICART_CA_PATH": str(other_sandbox.ca_path)})
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, [])


def test_a_redirect_is_not_followed(fleet: Fleet, other_sandbox: Sandbox) -> None:
    fleet.add("web1")
    fleet.fault("read", "redirect", to=other_sandbox.url + "/users/account-details", times=-1)
    run = fleet.rotate()
    assert (run.green, run.reason) == (False, "redirect_refused"), run
    assert other_sandbox.journal() == []


def test_nothing_that_a_run_starts_on_its_own_machine_inherits_a_credential(fleet: Fleet) -> None:
    """Least of all the key that has just died: Compose, python-dotenv and Node.js prefer it to the one in the file."""
    fleet.add("web1", multicart_deploy_commands=["sh -c 'env > {{ home }}/restart'"])
    fleet.variables["multicart_deploy_health_checks"] = ["sh -c 'env > {{ home }}/health'"]
    credentials = {"MULTICART_API_KEY": fleet.live, "MULTICART_EMAIL": fleet.email}
    run = fleet.rotate(env={**credentials, "MULTICART_PASSWORD": fleet.account["password"]})
    assert run.green, run
    for name in ("restart", "health"):
        inherited = [line.partition("=")[0] for line in (fleet.hosts["web1"].folder / name).read_text().splitlines()]
        assert "PATH" in inherited
        assert [name for name in inherited if name.startswith("MULTICART_")] == ["MULTICART_API_URL"]
