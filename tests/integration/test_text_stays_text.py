# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Jinja, YAML and Ansible Vault make of a text: it stays that text, or is refused by its name."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from tests.integration.conftest import new_login
from tests.integration.harness import Fleet, fingerprint
from tests.rows import spread
from tests.sandbox.handle import Sandbox

NATIVE = {"ANSIBLE_JINJA2_NATIVE": "1"}
PASSWORD = "12e45678"
"""Which native Jinja, before ansible-core 2.19, takes for a number: infinity."""


def key_with_fingerprint(form: str) -> str:
    """Return a key whose fingerprint has a form."""
    seed = secrets.token_hex(8)
    keys = (f"173axcs.{hashlib.sha256(f'{seed}{number}'.encode()).hexdigest()}" for number in itertools.count())
    return next(key for key in keys if re.fullmatch(form, fingerprint(key)))


@pytest.fixture(params=["[0-9]{16}", "[1-9][0-9]*e[0-9]+"], ids=["digits", "exponent"])
def numeric(sandbox: Sandbox, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A fleet whose live key has a fingerprint that reads as a number, and a login likewise."""
    key = key_with_fingerprint(request.param)
    email, _password = new_login()
    account = sandbox.add_account(email, PASSWORD, api_key=key, created_at="2024-01-01T00:00:00Z")
    fleet = Fleet(sandbox, tmp_path, account)
    del fleet.env["MULTICART_SESSION_TOKEN"]
    fleet.variables.update(
        multicart_email=email,
        multicart_password="{{ lookup('env', 'THE_PASSWORD') }}",
        multicart_rotate_retire="{{ lookup('env', 'THE_FINGERPRINT') }}",
    )
    del fleet.env["MULTICART_API_URL"]
    fleet.variables["multicart_api_url"] = sandbox.url
    fleet.env.update(NATIVE, THE_PASSWORD=PASSWORD, THE_FINGERPRINT=fleet.live_fingerprint)
    yield fleet
    sandbox.clear()


def test_o1_texts_that_read_as_numbers_stay_texts(numeric: Fleet) -> None:
    numeric.add_many(2)
    old = numeric.live
    assert numeric.deploy().green
    run = numeric.rotate()
    assert (run.green, run.outcome, numeric.rotations) == (True, "rotated", 1), run
    assert run.whole["retired"] == fingerprint(old) and not numeric.stale
    again = numeric.rotate()
    assert (again.green, again.step, numeric.rotations) == (True, "retired", 1), again


def test_o1_a_text_of_a_task_stays_a_text_or_is_refused(numeric: Fleet) -> None:
    numeric.add("web1")
    option = "lookup('env', 'THE_FINGERPRINT')"
    run = numeric.play(f'- multicart.keys.multicart_key_rotate: {{retire: "{{{{ {option} }}}}"}}')
    if not run.green:  # native Jinja has read a number: before 2.19 nothing of the text is left
        assert run.reason == "invalid_option" and "quotes" in run.message and "| string" in run.message, run
        assert numeric.rotations == 0
        run = numeric.play(f'- multicart.keys.multicart_key_rotate: {{retire: "{{{{ {option} | string }}}}"}}')
    assert run.green and numeric.rotations == 1, run


@pytest.mark.parametrize(
    ("name", "value"),
    spread(
        ["multicart_password", "multicart_session_token", "multicart_rotate_retire"],
        ["0123456701", "12e45679", "1234567890123456", "true", "12.5"],
    ),
)
def test_o2_an_unquoted_number_is_refused(fleet: Fleet, name: str, value: str) -> None:
    fleet.add("web1")
    if name == "multicart_password":
        fleet.variables["multicart_email"] = fleet.email
    (fleet.folder / "vars.yml").write_text(f"{name}: {value}\n")
    run = fleet.rotate("-e", "@vars.yml")
    if value == "12e45679":  # a text in YAML 1.1, as Ansible reads it
        assert run.reason != "internal_error", run
        return
    assert (run.green, run.reason, fleet.rotations) == (False, "invalid_option", 0), run
    assert name.removeprefix("multicart_") in run.message or name in run.message
    assert "put it in quotes" in run.message and value not in run.message


@pytest.mark.parametrize("password", [None, "wrong"])
@pytest.mark.parametrize("place", ["variable", "option", "lookup"])
def test_o4_a_text_that_the_vault_does_not_open_is_told_as_that(fleet: Fleet, place: str, password: str | None) -> None:
    fleet.add("web1")
    secret = fleet.env.pop("MULTICART_SESSION_TOKEN")
    cipher = VaultLib().encrypt(secret, VaultSecret(b"right")).decode()
    block = "!vault |\n" + "".join(f"          {line}\n" for line in cipher.splitlines())
    (fleet.folder / "vault.yml").write_text(f"multicart_session_token: {block}")
    arguments = []
    if password is not None:
        (fleet.folder / "password").write_text(f"{password}\n")
        arguments = ["--vault-password-file", "password"]
    url = ["-e", json.dumps({"multicart_api_url": fleet.env.pop("MULTICART_API_URL")})]
    if place == "variable":
        run = fleet.rotate(*url, "-e", "@vault.yml", *arguments)
    elif place == "option":
        run = fleet.play(f"- multicart.keys.multicart_key_info:\n    session_token: {block}", *url, *arguments)
    else:
        task = "- ansible.builtin.debug: {msg: \"{{ lookup('multicart.keys.multicart_key', 'key_masked') }}\"}"
        run = fleet.play(task, *url, "-e", "@vault.yml", *arguments)
    assert not run.green and "a defect" not in run.output and fleet.rotations == 0, run
    assert "vault" in run.output.lower(), run
    if place == "variable":
        assert run.reason == "invalid_option", run
