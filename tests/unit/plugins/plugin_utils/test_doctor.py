# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The doctor's advice, for every state that account and fleet can be in."""

from __future__ import annotations

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Trial
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import ADVICE, MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.doctor import diagnose
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import READERS
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Refusals, Wanted
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import (
    Consumer,
    File,
    Inspection,
    Problem,
    Process,
    Record,
    Retired,
)

LIVE = ApiKey("173axcs.aaaaBBBBccccDDDD")
OLD = "0" * 16
DEPLOY = "ansible-playbook multicart.keys.deploy (with the same -i and -e options)"
ROTATE = "ansible-playbook multicart.keys.rotate -e multicart_rotate_confirm=true (with the same -i and -e options)"
FINISH = (
    f"The rotation that retired {OLD} was not finished; to finish it: ansible-playbook multicart.keys.rotate "
    f"-e multicart_rotate_confirm=true -e multicart_rotate_retire={OLD} (with the same -i and -e options)"
)
REFUSED = "A rotation would be refused. "
ALONE = f"; this does not rotate: {DEPLOY}"

TOKEN = Trial("session_token", "7", LIVE)
LOGIN = Trial("email and password", "7", LIVE)
KEY = Trial("api_key", "7", LIVE)
DEAD_TOKEN = Trial("session_token", error=MulticartError(Reason.CREDENTIALS_REJECTED, "It was refused."))
DEAD_KEY = Trial("api_key", error=MulticartError(Reason.CREDENTIALS_REJECTED, "It was refused."))
NOBODY = Trial("session_token", error=MulticartError(Reason.UNREACHABLE, "No connection."))
NO_REQUESTS = Trial("session_token", error=MulticartError(Reason.REQUESTS_MISSING, "It is missing."))


def consumer(name: str, *keys: str, **more: object) -> Consumer:
    return Consumer(name, Inspection((File("/a", holds=keys, **more),)))  # type: ignore[arg-type]


GOOD = consumer("web1", LIVE.fingerprint)
STALE = consumer("web2", OLD)
DUE = consumer("web3", LIVE.fingerprint, restart_due=True)
MISSING = consumer("web4")
KEPT = Consumer(
    "web7",
    Inspection(
        (File("/a", holds=(LIVE.fingerprint,), record=Record(retired=(Retired(OLD, "rejected", None, True),))),),
        processes=(Process(OLD, 7, "shop", "no service", False, True),),
    ),
)
PENDING = [consumer(f"db{number}", LIVE.fingerprint, record=Record(True, OLD)) for number in (1, 2)]
GONE = Consumer("web5", failure=Problem("unreachable", "it is unreachable"), reached=False)
BROKEN = consumer("web6", problem=Problem("not_regular", "path /a is a directory"))

STUCK = consumer("web0", OLD, problem=Problem("other_account", "path /a holds the key of another account"))

LACKING = (Problem("not_ready", "its service shop is not-found"),)
# It gets its first key, which what it lacks may be installed after; but what reads a store is to be restarted.
NEW = Consumer("web10", Inspection((File("/a"),), lacking=LACKING))
READS = Consumer("web11", Inspection((File(READERS.path),), lacking=LACKING))

UNREADY = Consumer(
    "web8",
    Inspection((File("/a", holds=(LIVE.fingerprint,)),), lacking=LACKING),
)
UNCOVERED = Consumer(
    "web9",
    Inspection(
        (File("/a", holds=(LIVE.fingerprint,)),),
        processes=(Process(LIVE.fingerprint, 7, "shop", "no service", True, True),),
    ),
)


@pytest.mark.parametrize(
    ("trials", "consumers", "advice"),
    [
        ([TOKEN], [GOOD], f"Nothing is broken. To rotate: {ROTATE}"),
        ([LOGIN], [GOOD], f"Nothing is broken. To rotate: {ROTATE}"),
        ([DEAD_TOKEN, LOGIN], [GOOD], f"Nothing is broken. To rotate: {ROTATE}"),
        ([KEY], [GOOD], "An API key alone cannot rotate"),
        ([DEAD_TOKEN, KEY], [GOOD], "An API key alone cannot rotate"),
        *(([TOKEN], [GOOD, behind], f"this does not rotate: {DEPLOY}") for behind in (STALE, DUE, MISSING)),
        *(([held], [GOOD, KEPT], "Restart the processes that are named") for held in (TOKEN, KEY)),
        ([TOKEN], [STALE, KEPT], f"this does not rotate: {DEPLOY}"),
        ([KEY], [STALE], f"this does not rotate: {DEPLOY}"),
        ([TOKEN], [STALE, GONE], f"Fix the consumers that cannot be inspected, then: {DEPLOY}"),
        ([TOKEN], [STALE, BROKEN], f"Fix the consumers that cannot be inspected, then: {DEPLOY}"),
        ([TOKEN], [GOOD, STUCK], f"Fix what is named of web0, then deploy the live key{ALONE}"),
        ([KEY], [STUCK], f"Fix what is named of web0, then deploy the live key{ALONE}"),
        (
            [TOKEN],
            [STALE, STUCK],
            f"this does not rotate, and fails for web0 until what is named there is fixed: {DEPLOY}",
        ),
        *(
            ([TOKEN], [*others, NEW], f"rotate, and may fail for web10 until what is named there is fixed: {DEPLOY}")
            for others in ([], [GOOD], [STALE], [MISSING])
        ),
        ([TOKEN], [READS, NEW], "this does not rotate, and may fail for web11, web10 until"),
        ([TOKEN], [READS, GOOD], f"Fix what is named of web11, then deploy the live key{ALONE}"),
        ([TOKEN], [*PENDING, GOOD], FINISH),
        ([TOKEN], [*PENDING, STALE, GONE], FINISH),
        ([TOKEN], [GOOD, UNREADY], f"{REFUSED}1 of 2 consumers are not ready: web8: its service shop is not-found."),
        ([TOKEN], [GOOD, UNCOVERED], f"{REFUSED}These hold the key, and nothing restarts them: web9: "),
        ([TOKEN], [GOOD, UNCOVERED], "multicart_deploy_services"),
        ([TOKEN], [], f"{REFUSED}No consumer has a file of this account. Put the hosts into the group"),
        ([KEY], [GOOD, UNREADY], f"{REFUSED}1 of 2 consumers are not ready: web8"),
        ([KEY], [], "An API key alone cannot rotate"),
        ([KEY], [*PENDING], "An API key alone cannot rotate"),
        ([KEY], [*PENDING, STALE], f"this does not rotate: {DEPLOY}"),
        ([TOKEN, Trial("api_key", "8", LIVE)], [GOOD], "belong to different accounts"),
        ([DEAD_TOKEN, DEAD_KEY], [GOOD], "The dashboard shows the live key"),
        ([NOBODY], [GOOD], f"nothing is known of the credentials. {ADVICE[Reason.UNREACHABLE]}"),
        ([NO_REQUESTS, NO_REQUESTS], [GOOD], f"credentials. {ADVICE[Reason.REQUESTS_MISSING]}"),
        ([], [GOOD], "Give what you have"),
    ],
)
def test_the_next_safe_command(trials: list[Trial], consumers: list[Consumer], advice: str) -> None:
    found = diagnose(trials, consumers)
    assert advice in found.advice
    assert LIVE.reveal() not in f"{found}"


def test_every_credential_and_every_consumer_is_told_of() -> None:
    found = diagnose([DEAD_TOKEN, LOGIN], [GOOD, STALE])
    assert found.lines[:2] == [
        "session_token: credentials_rejected: It was refused.",
        "email and password: works, account 7.",
    ]
    assert found.consumers == {"web1": "up to date", "web2": f"out of date: the key {OLD} in /a"}
    assert found.live == LIVE
    assert found.lines[2:] == [
        f"The live key is {LIVE.masked} {LIVE.fingerprint}.",
        "web1: up to date",
        f"web2: out of date: the key {OLD} in /a",
    ]


def test_when_a_rotation_is_allowed_again_is_told_where_one_would_be_next() -> None:
    waits = "multicart_rotate_allowed_hours allows no new rotation before Monday"
    assert diagnose([TOKEN], [GOOD], waits).advice == f"Nothing is broken. But {waits}. To rotate: {ROTATE}"
    assert diagnose([TOKEN], [STALE], waits) == diagnose([TOKEN], [STALE])


def test_what_keeps_a_rotation_from_being_started_is_no_fault_where_it_is_allowed() -> None:
    assert diagnose([TOKEN], [UNCOVERED], wanted=Wanted(True, warn_uncovered=True)).advice.startswith(
        "Nothing is broken"
    )
    few = diagnose([TOKEN], [GOOD], wanted=Wanted(True, min_hosts=2)).advice
    assert few.startswith(f"{REFUSED}This run has 1 consumer, but multicart_rotate_min_hosts=2.") and ROTATE not in few


def test_what_differs_between_consumers_is_told_as_what_refuses_a_rotation() -> None:
    refusals = Refusals(differing={"multicart_rotate_max_age": ("web1", "web2")})
    advice = diagnose([TOKEN], [GOOD], refusals=refusals).advice
    assert advice == (
        f"{REFUSED}These variables are for the whole run, but are not the same for all consumers: "
        "multicart_rotate_max_age (web1 and web2). Set them with -e, or for the group of all consumers."
    )


def test_that_a_key_alone_cannot_read_its_successor_is_told() -> None:
    assert diagnose([KEY], []).lines == [
        "api_key: works, account 7, but it cannot read the key that replaces it.",
        f"The live key is {LIVE.masked} {LIVE.fingerprint}.",
        "No consumer was inspected.",
    ]
    assert diagnose([], []).lines == ["No credential was given.", "No consumer was inspected."]


def test_without_the_live_key_it_tells_what_the_consumers_hold() -> None:
    torn = consumer("torn", LIVE.fingerprint, OLD, LIVE.fingerprint)
    found = diagnose([DEAD_TOKEN], [GOOD, GONE, MISSING, BROKEN, torn])
    assert found.consumers == {
        "web1": f"holds {LIVE.fingerprint}",
        "web5": "it is unreachable",
        "web4": "holds no key",
        "web6": "path /a is a directory",
        "torn": f"holds {OLD}, {LIVE.fingerprint}",
    }
    assert found.live is None
