# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doctor's advice, for every state that account and fleet can be in."""

from __future__ import annotations

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import Trial, diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import Invocation
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Consumer, File, Record

LIVE = ApiKey("173axcs.aaaaBBBBccccDDDD")
HOW = Invocation({"inventory": ("inv.yml",)})
DEPLOY = "ansible-playbook -i inv.yml multicart.keys.deploy"
ROTATE = "ansible-playbook -i inv.yml multicart.keys.rotate -e multicart_rotate_confirm=true"

TOKEN = Trial("session_token", "7", LIVE)
LOGIN = Trial("email and password", "7", LIVE)
KEY = Trial("api_key", "7", LIVE)
DEAD_TOKEN = Trial("session_token", error=MulticartError(Reason.CREDENTIALS_REJECTED, "It was refused."))
DEAD_KEY = Trial("api_key", error=MulticartError(Reason.CREDENTIALS_REJECTED, "It was refused."))
NOBODY = Trial("session_token", error=MulticartError(Reason.UNREACHABLE, "No connection."))

CURRENT = Consumer("web1", (File("/a", (LIVE.fingerprint,)),))
STALE = Consumer("web2", (File("/a", ("0" * 16,)),))
BEGUN = Consumer("web3", (File("/a", (LIVE.fingerprint,), record=Record(True, LIVE.fingerprint, begun=True)),))
GONE = Consumer("web4", failure="it is unreachable", reached=False)


@pytest.mark.parametrize(
    ("trials", "consumers", "advice"),
    [
        ([TOKEN], [CURRENT], f"Nothing is broken. To rotate: {ROTATE}"),
        ([LOGIN], [CURRENT], f"Nothing is broken. To rotate: {ROTATE}"),
        ([DEAD_TOKEN, LOGIN], [CURRENT], f"Nothing is broken. To rotate: {ROTATE}"),
        ([KEY], [CURRENT], "An API key alone cannot rotate"),
        ([DEAD_TOKEN, KEY], [CURRENT], "An API key alone cannot rotate"),
        ([TOKEN], [CURRENT, STALE], f"this does not rotate: {DEPLOY}"),
        ([KEY], [STALE], f"this does not rotate: {DEPLOY}"),
        ([TOKEN], [STALE, GONE], f"Fix the consumers that cannot be looked at, then: {DEPLOY}"),
        ([TOKEN], [BEGUN], f"A rotation of the live key was begun; to carry it out: {ROTATE}"),
        ([KEY], [BEGUN], "An API key alone cannot rotate"),
        ([TOKEN, Trial("api_key", "8", LIVE)], [CURRENT], "belong to different accounts"),
        ([DEAD_TOKEN, DEAD_KEY], [CURRENT], "The dashboard shows the live key"),
        ([NOBODY], [CURRENT], "The service gave no usable answer"),
        ([], [CURRENT], "Give what you have"),
    ],
)
def test_the_next_safe_command(trials: list[Trial], consumers: list[Consumer], advice: str) -> None:
    found = diagnose(trials, consumers, HOW)
    assert advice in found.advice
    assert LIVE.reveal() not in f"{found}"


def test_every_credential_and_every_consumer_is_told_of() -> None:
    found = diagnose([DEAD_TOKEN, LOGIN], [CURRENT, STALE], HOW)
    assert found.lines[:2] == [
        "session_token: credentials_rejected: It was refused.",
        "email and password: works, account 7.",
    ]
    assert found.consumers == {"web1": "current", "web2": "stale"}
    assert found.live == LIVE


def test_without_the_live_key_it_tells_what_the_consumers_hold() -> None:
    found = diagnose([DEAD_TOKEN], [CURRENT, GONE, Consumer("new", (File("/a"),))], HOW)
    assert found.consumers == {
        "web1": f"holds {LIVE.fingerprint}",
        "web4": "it is unreachable",
        "new": "holds no key",
    }
    assert found.live is None
