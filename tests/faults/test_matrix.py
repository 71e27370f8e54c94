# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault matrix: a rotation under one fault each, over real HTTP against the sandbox in its own process.

A row says what the API does, and what must come of it: how many rotations it accepted, the outcome, the reason, and
a word of what the operator reads. Whatever the row, :func:`check` holds the result against the API's own books,
and the same intent is then carried to its end by a second run that meets no fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import revoke_key, rotate_key
from ansible_collections.multicart.keys.plugins.plugin_utils._api.revocation import Revocation
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Request, Result
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.faults.front import Ask, Elsewhere, Front, Habit, is_rotation, nobody_answers, nobody_there
from tests.integration.harness import Fleet, fingerprint, note
from tests.leaks.canaries import Canaries
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account
from tests.waiting import eventually

FOR_EVER = -1
BRIEF = 1.0  # seconds: long enough for an answer on a busy machine, short enough to wait for in a test
REDIRECTS = (301, 302, 303, 307, 308)
ELSEWHERE = "(the address of another host)"

# What the operator is told, in a word of it.
CHECK_NETWORK = "the network"
CHECK_URL = "Check that api_url"
CHECK_CREDENTIALS = "Check what was given"
FIX_URL = "Set api_url to the address"
LOOK_AT_DASHBOARD = "dashboard"
SAME_INTENT = "Run again with retire="
SAME_COMMAND = "Run the same command again, with -e multicart_rotate_retire="
RUN_AGAIN = "Run again with working credentials"

Fault = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One fault, and what must come of it.

    :ivar commits: rotations that the API accepted from the first call.
    :ivar after: the same after the second call, which meets no fault.
    :ivar has: what the caller holds: a token, a login, or both.
    :ivar named: whether the caller names the key to retire, as rotate.yml does.
    :ivar dashboard: somebody rotates in the dashboard before the call.
    """

    name: str
    outcome: str
    reason: str | None
    says: str
    commits: int
    faults: tuple[Fault, ...] = ()
    habit: Habit | None = None
    port: Callable[[], contextlib.AbstractContextManager[int]] | None = None
    has: str = "token"
    named: bool = True
    dashboard: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0
    settle: float = 10.0
    after: int = 1


def rotated(name: str, *faults: Fault, **more: Any) -> Row:
    """The rotation succeeds all the same."""
    return Row(name, "rotated", None, "", 1, faults, **more)


def recovered(name: str, *faults: Fault, **more: Any) -> Row:
    """The answer is lost, and the truth is read back."""
    return rotated(name, *faults, **more)


def already(name: str, *faults: Fault, commits: int = 1, **more: Any) -> Row:
    return Row(name, "already_rotated", None, "", commits, faults, **more)


def unchanged(name: str, reason: str, says: str, *faults: Fault, **more: Any) -> Row:
    """Nothing was rotated, and that is known."""
    return Row(name, "unchanged", reason, says, 0, faults, **more)


def unknown(name: str, reason: str, commits: int, *faults: Fault, **more: Any) -> Row:
    """Nobody can tell at this moment."""
    return Row(name, "unknown", reason, SAME_INTENT, commits, faults, settle=BRIEF, **{"timeout": BRIEF, **more})


def unreadable(name: str, *faults: Fault, **more: Any) -> Row:
    """The key was replaced, and the new one cannot be read at this moment."""
    more = {"settle": BRIEF, "timeout": BRIEF, **more}
    return Row(name, "rotated", "new_key_unreadable", RUN_AGAIN, 1, faults, **more)


def rotate(fault: str, times: int = 1, **more: Any) -> Fault:
    return {"on": "rotate", "fault": fault, "times": times, **more}


def read(fault: str, times: int = FOR_EVER, **more: Any) -> Fault:
    """Every read with the token, the first included."""
    return {"on": "read", "fault": fault, "times": times, "credential": "token", **more}


def read_back(fault: str, times: int = FOR_EVER, **more: Any) -> Fault:
    """Every read with the token but the first."""
    return read(fault, times, after=1, **more)


def proof(fault: str, times: int = FOR_EVER, **more: Any) -> Fault:
    """Every call that verifies a key."""
    return {"on": "read", "fault": fault, "times": times, "credential": "key", **more}


# --- what happens between client and service ------------------------------------------------------


def refused_when_rotating(front: Front, request: bytes, ask: Ask) -> bytes:
    front.refuse()
    return ask(request)


def refused_for_a_while(front: Front, request: bytes, ask: Ask) -> bytes:
    if not is_rotation(request) and not front.done:
        front.done = True
        front.refuse(BRIEF)
    return ask(request)


def stalled_when_rotating(front: Front, request: bytes, ask: Ask) -> bytes:
    front.stall()
    return ask(request)


def cut_for_ever(_front: Front, request: bytes, ask: Ask) -> bytes | None:
    if is_rotation(request):
        ask(request[:-1])
        return None
    return ask(request)


def cut_once(front: Front, request: bytes, ask: Ask) -> bytes | None:
    if is_rotation(request) and not front.done:
        front.done = True
        return cut_for_ever(front, request, ask)
    return ask(request)


def delivered_twice(_front: Front, request: bytes, ask: Ask) -> bytes:
    """The answer to the first delivery counts."""
    answer = ask(request)
    if is_rotation(request):
        ask(request)
    return answer


def delivered_twice_and_answered_late(_front: Front, request: bytes, ask: Ask) -> bytes:
    """The answer to the second delivery is all that the client gets."""
    if is_rotation(request):
        ask(request)
    return ask(request)


# --- the table ------------------------------------------------------------------------------------

CONNECTIONS = (
    unchanged("refused", "unreachable", CHECK_NETWORK, port=nobody_there, timeout=BRIEF),
    unchanged("refused-when-rotating", "unreachable", CHECK_NETWORK, habit=refused_when_rotating, timeout=BRIEF),
    rotated("refused-for-a-while", habit=refused_for_a_while),
    unchanged("timeout-in-connect", "unreachable", CHECK_NETWORK, port=nobody_answers, timeout=BRIEF),
    unchanged(
        "timeout-in-connect-when-rotating", "unreachable", CHECK_NETWORK, habit=stalled_when_rotating, timeout=BRIEF
    ),
    recovered("reset-before", rotate("reset_before")),
    unknown("reset-before-for-ever", "unreachable", 0, rotate("reset_before", FOR_EVER)),
    recovered("reset-during-the-request", habit=cut_once),
    unknown("reset-during-the-request-for-ever", "unreachable", 0, habit=cut_for_ever),
    recovered("reset-after", rotate("reset_after", FOR_EVER)),
    recovered("lost-before-commit", rotate("answer_lost_before_commit")),
    unknown("lost-before-commit-for-ever", "unreachable", 0, rotate("answer_lost_before_commit", FOR_EVER)),
    recovered("lost-after-commit", rotate("answer_lost_after_commit", FOR_EVER)),
    recovered("lost-before-then-after-commit", rotate("reset_before"), rotate("answer_lost_after_commit", FOR_EVER)),
    rotated("closed-after-each-answer", {"on": "any", "fault": "closes_after_answer", "times": FOR_EVER}),
    unchanged("first-read-reset-for-ever", "unreachable", CHECK_NETWORK, read("reset_before"), timeout=BRIEF),
    rotated("first-read-lost", read("answer_lost_before_commit", 1)),
)

TIMES = (
    recovered("timeout-before", rotate("timeout_before", seconds=2 * BRIEF), timeout=BRIEF),
    unknown("timeout-before-for-ever", "unreachable", 0, rotate("timeout_before", FOR_EVER, seconds=2 * BRIEF)),
    recovered("timeout-in-headers", rotate("timeout_after", FOR_EVER, seconds=2 * BRIEF), timeout=BRIEF),
    recovered("timeout-in-body", rotate("drip", seconds=2 * BRIEF), timeout=BRIEF),
    recovered("slow-drip", rotate("drip", seconds=BRIEF / 5), timeout=BRIEF),
    rotated("quick-drip", rotate("drip", seconds=0.002)),
    unreadable("slow-drip-when-reading-back", read_back("drip", seconds=BRIEF / 5)),
    recovered("carried-out-late", rotate("late_commit", seconds=2 * BRIEF), timeout=BRIEF),
    unknown(
        "carried-out-after-the-end",
        "unreachable",
        0,
        rotate("late_commit", FOR_EVER, seconds=10 * BRIEF),
        timeout=BRIEF / 2,
    ),
)

NO_ENVELOPES = (
    *(
        row
        for code in (500, 502, 503)
        for row in (
            recovered(f"http-{code}", rotate(f"http_{code}")),
            unknown(f"http-{code}-for-ever", "not_an_envelope", 0, rotate(f"http_{code}", FOR_EVER)),
            recovered(f"http-{code}-after-commit", rotate(f"http_{code}_after_commit", FOR_EVER)),
            unchanged(
                f"http-{code}-when-first-read", "not_an_envelope", CHECK_URL, read(f"http_{code}"), timeout=BRIEF
            ),
        )
    ),
    *(
        row
        for code in (401, 403)
        for row in (
            unchanged(f"http-{code}", "credentials_rejected", CHECK_CREDENTIALS, rotate(f"http_{code}", FOR_EVER)),
            unchanged(f"http-{code}-when-first-read", "credentials_rejected", CHECK_CREDENTIALS, read(f"http_{code}")),
            unreadable(f"http-{code}-when-read-back", read_back(f"http_{code}")),
        )
    ),
    recovered("html", rotate("html")),
    recovered("html-after-commit", rotate("html_after_commit", FOR_EVER)),
    recovered("truncated", rotate("truncated", FOR_EVER)),
    rotated("truncated-read", read("truncated", 1)),
    unchanged("truncated-read-for-ever", "unreachable", CHECK_NETWORK, read("truncated"), timeout=BRIEF),
    *(
        row
        for name, reason, timeout in (
            ("oversized", "answer_too_large", BRIEF),
            ("oversized_chunked", "answer_too_large", BRIEF),
            ("gzip_bomb", "not_an_envelope", 4 * BRIEF),  # which the stand-in takes its time to pack
        )
        for row in (
            recovered(name, rotate(name, FOR_EVER)),
            unchanged(f"{name}-when-first-read", reason, "Check that api_url", read(name), timeout=timeout),
            unreadable(f"{name}-when-read-back", read_back(name)),
        )
    ),
    *(
        row
        for code in REDIRECTS
        for row in (
            recovered(f"redirect-{code}", rotate("redirect", value=code, to=ELSEWHERE)),
            unknown(
                f"redirect-{code}-for-ever",
                "redirect_refused",
                0,
                rotate("redirect", FOR_EVER, value=code, to=ELSEWHERE),
            ),
            unchanged(
                f"redirect-{code}-when-first-read",
                "redirect_refused",
                FIX_URL,
                read("redirect", value=code, to=ELSEWHERE),
            ),
            unreadable(f"redirect-{code}-when-read-back", read_back("redirect", value=code, to=ELSEWHERE)),
        )
    ),
)

ENVELOPES = (
    *(
        row
        for wrong in ("status_missing", "status_string", "status_true", "status_null")
        for row in (
            recovered(wrong, rotate(wrong, FOR_EVER)),
            unchanged(f"{wrong}-when-first-read", "not_an_envelope", CHECK_URL, read(wrong), timeout=BRIEF),
            unreadable(f"{wrong}-when-read-back", read_back(wrong)),
        )
    ),
    # The API says no and has done it: nobody but the API can know that this was not somebody else.
    already("status_zero", rotate("status_zero", FOR_EVER)),
    unchanged("status_zero-when-first-read", "refused", LOOK_AT_DASHBOARD, read("status_zero")),
    unreadable("status_zero-when-read-back", read_back("status_zero")),
    unchanged("refused", "refused", LOOK_AT_DASHBOARD, rotate("refused", FOR_EVER)),
    recovered("inner-failure", rotate("refused", value=500)),
    unknown("inner-failure-for-ever", "not_an_envelope", 0, rotate("refused", FOR_EVER, value=500)),
    unchanged("secret-repeated", "refused", LOOK_AT_DASHBOARD, rotate("echo_secret", FOR_EVER)),
    rotated("data-of-a-wrong-type", rotate("wrong_data_type")),
    unchanged(
        "data-of-a-wrong-type-when-first-read", "not_an_envelope", CHECK_URL, read("wrong_data_type"), timeout=BRIEF
    ),
    unreadable("data-of-a-wrong-type-when-read-back", read_back("wrong_data_type")),
    *(
        row
        for wrong in ("key_missing", "key_empty", "key_malformed", "key_newline")
        for row in (
            unchanged(f"{wrong}-when-first-read", "malformed_key", LOOK_AT_DASHBOARD, read(wrong)),
            rotated(f"{wrong}-for-a-while", read_back(wrong, 2)),
            unreadable(f"{wrong}-when-read-back", read_back(wrong)),
        )
    ),
    unknown("claimed", "key_did_not_change", 0, rotate("claimed"), timeout=10.0),
    unknown("claimed-for-ever", "key_did_not_change", 0, rotate("claimed", FOR_EVER), timeout=10.0),
    rotated("cookie", {"on": "any", "fault": "cookie", "times": FOR_EVER}),
)

READS = (
    rotated("stale-for-a-while", read_back("stale_read", 3)),
    unreadable("stale-for-ever", read_back("stale_read"), timeout=10.0),
    recovered("lost-and-stale-for-a-while", rotate("answer_lost_after_commit"), read_back("stale_read", 3)),
    # The second request is refused, which a service that lies about the key may mean in either way.
    rotated("first-read-stale", read("stale_read", 1), dashboard=True),
    already("first-read-stale-of-an-unnamed-key", read("stale_read", 1), dashboard=True, named=False, commits=0),
    rotated("failing-for-a-while", read_back("http_503", 3)),
    recovered("lost-and-failing-for-a-while", rotate("answer_lost_after_commit"), read_back("http_503", 3)),
    unreadable("failing-for-ever", read_back("http_503")),
    unknown("nothing-but-failures", "not_an_envelope", 1, read_back("http_503"), proof("http_503")),
    unknown(
        "lost-before-and-nothing-but-failures",
        "not_an_envelope",
        0,
        rotate("answer_lost_before_commit", FOR_EVER),
        read_back("http_503"),
        proof("http_503"),
    ),
    unknown(
        "lost-after-and-nothing-but-failures",
        "not_an_envelope",
        1,
        rotate("answer_lost_after_commit", FOR_EVER),
        read_back("http_503"),
        proof("http_503"),
    ),
    rotated("proofs-failing-for-a-while", proof("http_503", 2)),
    Row("proofs-failing-for-ever", "rotated", "not_an_envelope", CHECK_URL, 1, (proof("http_503"),), timeout=BRIEF),
    Row("new-key-not-let-in", "rotated", "new_key_rejected", "Run again", 1, (proof("http_401"),)),
    *(
        recovered(f"lost-and-dead-is-said-as-{form}", rotate("reset_after"), settings={"dead_credential": form})
        for form in ("envelope401", "envelope400", "http401", "http403")
    ),
    rotated("the-prefix-changes-too", settings={"prefix_changes": True}),
)

_MORTAL = {"tokens_die_with_rotation": True}
CREDENTIALS = (
    unreadable("token-dies-with-the-rotation", settings=_MORTAL, timeout=10.0),
    rotated("token-dies-with-a-login-at-hand", settings=_MORTAL, has="both"),
    rotated("token-of-the-login-dies", settings=_MORTAL, has="login"),
    recovered("lost-and-token-dies-with-a-login-at-hand", rotate("reset_after"), settings=_MORTAL, has="both"),
    unknown("lost-and-token-dies", "credentials_rejected", 1, rotate("reset_after"), settings=_MORTAL, timeout=10.0),
    unreadable(
        "token-dies-and-login-refused",
        {"on": "login", "fault": "login_refused", "times": FOR_EVER},
        settings=_MORTAL,
        has="both",
        timeout=10.0,
    ),
    unchanged("token-dead-before", "credentials_rejected", CHECK_CREDENTIALS, read("token_dies", 1)),
    rotated("token-dead-before-with-a-login-at-hand", read("token_dies", 1), has="both"),
    unchanged(
        "login-refused",
        "credentials_rejected",
        CHECK_CREDENTIALS,
        {"on": "login", "fault": "login_refused", "times": FOR_EVER},
        has="login",
    ),
    rotated("login-failing-for-a-while", {"on": "login", "fault": "http_502", "times": 2}, has="login"),
)

DELIVERIES = (
    rotated("delivered-twice", habit=delivered_twice),
    # What the client hears is the refusal of the second; that the first was its own it cannot know.
    already("delivered-twice-and-answered-late", habit=delivered_twice_and_answered_late),
)

ROWS = {
    f"{table}-{row.name}": row
    for table, rows in (
        ("connection", CONNECTIONS),
        ("time", TIMES),
        ("no-envelope", NO_ENVELOPES),
        ("envelope", ENVELOPES),
        ("read", READS),
        ("credential", CREDENTIALS),
        ("delivery", DELIVERIES),
    )
    for row in rows
}


# --- one row --------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    other = Elsewhere()
    yield other
    other.close()


@pytest.fixture
def account(sandbox: Sandbox, new_account: Callable[[], Account]) -> Iterator[Account]:
    account = new_account()
    yield account
    sandbox.clear()


def connection_to(sandbox: Sandbox, account: Account, has: str, url: str, timeout: float) -> Connection:
    bare = Connection(url, timeout=timeout)
    login = Login(account["email"], account["password"]) if has in ("login", "both") else None
    token = sandbox.token(account["email"]) if has in ("token", "both") else None
    return replace(bare, session_token=token, login=login)


def new_run(folder: Path, name: str) -> RunCache:
    """Return the run cache of a run that knows nothing of another."""
    (folder / name).mkdir(mode=0o700)
    return RunCache(str(folder / name), name.encode())


@contextlib.contextmanager
def way_to(sandbox: Sandbox, row: Row) -> Iterator[str]:
    """Yield the address under which the row's caller looks for the API."""
    if row.port:
        with row.port() as port:
            yield f"http://127.0.0.1:{port}/api/v1"
    elif row.habit:
        with Front(sandbox.port, row.habit) as front:
            yield front.url
    else:
        yield sandbox.url


def told(result: Result) -> str:
    """Return the sentence that the operator reads."""
    return str(result.error or "")


def check(sandbox: Sandbox, email: str, retire: str, result: Result) -> None:
    """Hold what a result says against the books of the API."""
    account = sandbox.account(email)
    live = account["api_key"]
    if result.error is None:
        assert result.live is not None
        assert result.live.reveal() == live, "a key is reported as live that is not"
    if result.previous is not None:
        retire = result.previous.reveal()
    if result.outcome.value in ("rotated", "already_rotated"):
        assert live != retire, "reported as replaced, and it was not"
    elif result.outcome.value == "unchanged":
        assert live == retire, "reported as unchanged, and it was replaced"
    assert result.changed == (result.outcome.value == "rotated")
    assert not any(name in told(result) for name in ("Traceback", "Errno", "internal_error"))
    canaries = Canaries.of(sandbox.secrets([email]))
    assert not canaries.found_in(f"{told(result)} {result!r}"), "a secret is in the message"


def wait_for_late_commits(sandbox: Sandbox, started: int) -> None:
    """Wait until all requests that were held back have been carried out, or refused."""
    late = (entry for entry in sandbox.journal(started) if entry["fault"] == "late_commit")
    for seq in [entry["seq"] for entry in late]:
        assert eventually(lambda seq=seq: sandbox.journal(seq - 1)[0]["http"] is not None)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_rotation_under_a_fault(
    row: Row, sandbox: Sandbox, account: Account, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    email = account["email"]
    if row.settings:
        sandbox.settings(email, **row.settings)
    if row.dashboard:
        sandbox.rotate_behind(email)
    retire = sandbox.account(email)["api_key"]
    started = max((entry["seq"] for entry in sandbox.journal()), default=0)

    with way_to(sandbox, row) as url:
        connection = connection_to(sandbox, account, row.has, url, row.timeout)
        sandbox.faults([{**fault, **({"to": elsewhere.url} if "to" in fault else {})} for fault in row.faults])
        request = Request(ApiKey(retire).fingerprint if row.named else None, settle_timeout=row.settle)
        first = rotate_key(connection, new_run(tmp_path, "first"), request)
    commits = sandbox.rotations(email)
    check(sandbox, email, retire, first)
    reason = first.error.reason.value if first.error else None
    assert (commits, first.outcome.value, reason) == (row.commits, row.outcome, row.reason), told(first)
    assert row.says in told(first)
    assert not elsewhere.was_called
    if row.outcome == "unknown":
        assert f"retire={fingerprint(retire)}" in told(first)

    sandbox.clear()
    connection = connection_to(sandbox, account, row.has, sandbox.url, 10.0)
    second = rotate_key(connection, new_run(tmp_path, "second"), Request(fingerprint(retire)))
    wait_for_late_commits(sandbox, started)
    check(sandbox, email, retire, second)
    assert second.error is None, told(second)
    assert sandbox.rotations(email) == row.after
    assert second.outcome.value == ("already_rotated" if commits else "rotated")
    assert (second.verified, second.old_key_rejected) == (True, None if commits else True)
    rotations = [entry for entry in sandbox.journal(started) if entry["endpoint"] == "rotate"]
    assert {entry["credential"] for entry in rotations} <= {"key"}
    assert {entry["fingerprint"] for entry in rotations if entry["committed"]} == {fingerprint(retire)}


# --- the last resort: an API key alone ------------------------------------------------------------

_BLOCKED = (rotate("http_403", FOR_EVER), proof("http_403"))
REVOKING = {
    "nothing": ("rotated", None, 1, ()),
    "lost-before": ("rotated", None, 1, (rotate("answer_lost_before_commit"),)),
    "lost-after": ("unknown", "credentials_rejected", 1, (rotate("answer_lost_after_commit"),)),
    "blocked": ("unknown", "credentials_rejected", 0, _BLOCKED),
    "lost-before-and-blocked": (
        "unknown",
        "credentials_rejected",
        0,
        (rotate("answer_lost_before_commit"), *_BLOCKED),
    ),
    "refused": ("unchanged", "refused", 0, (rotate("refused", FOR_EVER),)),
    "failing": ("unknown", "not_an_envelope", 0, (rotate("http_502", FOR_EVER),)),
    "failing-after": ("unknown", "credentials_rejected", 1, (rotate("http_502_after_commit"),)),
    "claimed": ("unknown", "key_did_not_change", 0, (rotate("claimed"),)),
}


@pytest.mark.parametrize("row", REVOKING.values(), ids=REVOKING.keys())
def test_a_key_alone_that_revokes_itself_never_says_so_without_knowing(
    row: tuple[str, str | None, int, tuple[Fault, ...]], sandbox: Sandbox, account: Account, tmp_path: Path
) -> None:
    outcome, reason, commits, faults = row
    key = ApiKey(account["api_key"])
    connection = Connection(sandbox.url, api_key=key, timeout=BRIEF)
    sandbox.faults(list(faults))
    request = Revocation(key.fingerprint, settle_timeout=BRIEF)
    result = revoke_key(connection, new_run(tmp_path, "only"), request)
    found = result.error.reason.value if result.error else None
    assert (result.outcome.value, found, sandbox.rotations(account["email"])) == (outcome, reason, commits), told(
        result
    )
    assert result.verified == result.changed == (outcome == "rotated")
    if result.verified:
        assert sandbox.account(account["email"])["api_key"] != key.reveal()


# --- the same through Ansible ---------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """A fault, and what a run of rotate.yml makes of it; ``reason`` None: it ends green."""

    outcome: str | None
    reason: str | None
    says: str
    commits: int
    faults: tuple[Fault, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    has: str = "token"


def green(*faults: Fault, outcome: str = "rotated", **more: Any) -> Played:
    return Played(outcome, None, "", 1, faults, **more)


PLAYED = {
    "lost-before-commit": green(rotate("answer_lost_before_commit")),
    "lost-after-commit": green(rotate("answer_lost_after_commit")),
    "http-502-after-commit": green(rotate("http_502_after_commit", FOR_EVER)),
    "token-dies-with-a-login-at-hand": green(settings=_MORTAL, has="both"),
    # Takes settle_timeout, thirty seconds.
    "lost-before-commit-for-ever": Played(
        "unknown", "unreachable", SAME_COMMAND, 0, (rotate("answer_lost_before_commit", FOR_EVER),)
    ),
    "token-dies": Played("rotated", "new_key_unreadable", RUN_AGAIN, 1, settings=_MORTAL),
    "http-403": Played("unchanged", "credentials_rejected", "rejected the API key", 0, (rotate("http_403"),)),
    "redirect-307-when-first-read": Played(
        None, "redirect_refused", FIX_URL, 0, (read("redirect", value=307, to=ELSEWHERE),)
    ),
    "key-with-a-newline-when-first-read": Played(None, "malformed_key", LOOK_AT_DASHBOARD, 0, (read("key_newline"),)),
}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=name, marks=[pytest.mark.full] if row.outcome == "unknown" else [])
        for name, row in PLAYED.items()
    ],
)
def test_a_run_of_rotate_under_a_fault(row: Played, fleet: Fleet, elsewhere: Elsewhere) -> None:
    hosts = fleet.add_many(2)  # so that a pending rotation is confirmed, and a plain re-run finishes it
    account, old = fleet.account, fleet.live
    if row.settings:
        fleet.sandbox.settings(fleet.email, **row.settings)
    if row.has == "both":
        fleet.env.update(MULTICART_EMAIL=fleet.email, MULTICART_PASSWORD=account["password"])
    fleet.sandbox.faults([{**fault, **({"to": elsewhere.url} if "to" in fault else {})} for fault in row.faults])
    run = fleet.rotate()
    assert (fleet.rotations, run.outcome, run.reason) == (row.commits, row.outcome, row.reason), run
    assert run.green == (row.reason is None), run
    assert row.says in run.message
    assert not elsewhere.was_called
    if not run.green:
        assert all(old in host.env.read_text() for host in hosts)
        fleet.sandbox.clear()
        fleet.env["MULTICART_SESSION_TOKEN"] = fleet.sandbox.token(fleet.email)
        run = fleet.rotate()
        assert run.green, run
    assert (fleet.rotations, fleet.stale) == (1, []), run
    assert not any(host.record["open"] for host in hosts)


# --- reads that lag behind --------------------------------------------------------------------------

LAGS = [1, 2, 3, 7, FOR_EVER]  # reads; the last takes half a minute to be given up
PLAYBOOKS = {
    "rotate": ("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true"),
    "retire": ("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", "-e", "multicart_rotate_retire={live}"),
    "deploy": ("multicart.keys.deploy",),
}


@pytest.mark.parametrize("times", [pytest.param(n, marks=[] if n == 2 else [pytest.mark.full]) for n in LAGS])
@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_fleet_that_holds_the_live_key_never_gets_an_older_one(fleet: Fleet, playbook: str, times: int) -> None:
    """Somebody has rotated and deployed; the reads of a run after that are older than that rotation."""
    fleet.sandbox.rotate_behind(fleet.email)
    hosts = [fleet.add("web1", multicart_deploy_commands=[note("restarted")]), fleet.add("web2")]
    live = fleet.live
    fleet.sandbox.faults([{"on": "read", "credential": "token", "fault": "stale_read", "times": times}])
    command = [word.format(live=fingerprint(live)) for word in PLAYBOOKS[playbook]]
    run = fleet.run(*command)
    fleet.sandbox.clear()
    if times == FOR_EVER:
        assert (run.green, run.reason, fleet.rotations) == (False, "new_key_rejected", 0), run
        assert [live in host.env.read_text() for host in hosts] == [True, True]
        run = fleet.run(*command)
    assert run.green, run
    assert (fleet.rotations, fleet.stale) == (0 if playbook == "deploy" else 1, []), run
