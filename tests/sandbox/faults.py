# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults, one small function each, in one table.

To add one: write a function that takes a :class:`Call` and returns an :class:`Answer`, decorate it, and add
its line to README.md (a test compares). Calling ``call.decide()`` is what carries the request out: a fault
that does not call it leaves everything unchanged, one that does spoils the answer to a change that was made.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from . import answers
from .answers import Answer, Ending, detail, failure, hang_up, page, reset, success
from .service import Request


@dataclass(frozen=True)
class Call:
    """What a fault sees and can do."""

    request: Request
    seconds: float
    to: str
    value: Any
    decide: Callable[[], Answer]
    previous_key: Callable[[int], str | None]
    expire_session: Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """A fault and the defaults of the fields it reads."""

    name: str
    act: Callable[[Call], Answer]
    defaults: dict[str, Any]


FAULTS: dict[str, Fault] = {}


def _fault(**defaults: Any) -> Callable[[Callable[[Call], Answer]], Callable[[Call], Answer]]:
    def enter(act: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
        FAULTS[act.__name__] = Fault(act.__name__, act, defaults)
        return act

    return enter


# --- the answer never comes -----------------------------------------------------------------------


@_fault()
def answer_lost_before_commit(_call: Call) -> Answer:
    """Close the connection; nothing was changed."""
    return hang_up()


@_fault()
def answer_lost_after_commit(call: Call) -> Answer:
    """Carry the request out, then close the connection."""
    call.decide()
    return hang_up()


@_fault()
def reset_before(_call: Call) -> Answer:
    """Reset the connection; nothing was changed."""
    return reset()


@_fault()
def reset_after(call: Call) -> Answer:
    """Carry the request out, then reset the connection."""
    call.decide()
    return reset()


@_fault(seconds=30.0)
def timeout_before(call: Call) -> Answer:
    """Say nothing for some seconds, then close; nothing was changed."""
    time.sleep(call.seconds)
    return hang_up()


@_fault(seconds=30.0)
def timeout_after(call: Call) -> Answer:
    """Carry the request out, say nothing for some seconds, then close."""
    call.decide()
    time.sleep(call.seconds)
    return hang_up()


# --- the answer comes late ------------------------------------------------------------------------


@_fault(seconds=2.0)
def slow(call: Call) -> Answer:
    """Carry the request out at once and answer after some seconds."""
    answer = call.decide()
    time.sleep(call.seconds)
    return answer


@_fault(seconds=2.0)
def late_commit(call: Call) -> Answer:
    """Carry the request out only after some seconds, behind the back of a client that gave up."""
    time.sleep(call.seconds)
    return call.decide()


@_fault(seconds=0.5)
def drip(call: Call) -> Answer:
    """Send the true body one byte at a time: no single read times out."""
    answer = call.decide()
    answer.drip = call.seconds
    return answer


# --- the answer is none of the application's ------------------------------------------------------


@_fault()
def http_500(_call: Call) -> Answer:
    """The framework fails; nothing was changed."""
    return page(500, "Server Error (500)")


@_fault()
def http_502(_call: Call) -> Answer:
    """The proxy fails; nothing was changed."""
    return page(502, "502 Bad Gateway")


@_fault()
def http_503(_call: Call) -> Answer:
    """The proxy has nobody to ask; nothing was changed."""
    return page(503, "503 Service Temporarily Unavailable")


@_fault()
def http_500_after_commit(call: Call) -> Answer:
    """The framework fails after the request was carried out."""
    call.decide()
    return page(500, "Server Error (500)")


@_fault()
def http_502_after_commit(call: Call) -> Answer:
    """The proxy fails after the request was carried out."""
    call.decide()
    return page(502, "502 Bad Gateway")


@_fault()
def http_503_after_commit(call: Call) -> Answer:
    """The proxy gives up after the request was carried out."""
    call.decide()
    return page(503, "503 Service Temporarily Unavailable")


@_fault()
def html(_call: Call) -> Answer:
    """A page over HTTP 200, such as a captive portal's; nothing was changed."""
    return page(200, "Scheduled maintenance")


@_fault()
def html_after_commit(call: Call) -> Answer:
    """A page over HTTP 200 after the request was carried out."""
    call.decide()
    return page(200, "Scheduled maintenance")


@_fault()
def http_401(_call: Call) -> Answer:
    """The framework refuses, outside the envelope; nothing was changed."""
    return detail(401, "Authentication credentials were not provided.", WWW_Authenticate="Token")


@_fault()
def http_403(_call: Call) -> Answer:
    """The framework forbids, outside the envelope; nothing was changed."""
    return detail(403, "You do not have permission to perform this action.")


@_fault(value=302, to="/api/v1/elsewhere")
def redirect(call: Call) -> Answer:
    """A redirect with the status ``value`` to ``to``; nothing was changed."""
    return answers.redirect(int(call.value), call.to)


@_fault(value=1)
def rate_limited(call: Call) -> Answer:
    """HTTP 429 with a ``Retry-After`` of ``value``; nothing was changed."""
    return detail(429, "Request was throttled.", Retry_After=str(call.value))


# --- the envelope lies ----------------------------------------------------------------------------


@_fault(value=409)
def refused(call: Call) -> Answer:
    """A definite refusal with the code ``value``; nothing was changed."""
    return failure(int(call.value), "The request was refused!")


@_fault(value="API Key Updated successfully!")
def claimed(call: Call) -> Answer:
    """Success with the data ``value``, although nothing was changed."""
    return success(call.value)


@_fault()
def login_refused(_call: Call) -> Answer:
    """The one generic message of a failed login."""
    return failure(400, "Invalid email or password!")


@_fault()
def echo_secret(call: Call) -> Answer:
    """A refusal that repeats the caller's credential (of a login: the password); nothing was changed."""
    secret = call.request.credential.value or str(call.request.fields.get("password", ""))
    return failure(400, f"Cannot process the request of {secret}!")


def _with_status(call: Call, status: object) -> Answer:
    answer = call.decide()
    if answer.payload is not None:
        answer.payload["status"] = status
    return answer


@_fault()
def status_missing(call: Call) -> Answer:
    """The true answer without its status."""
    answer = call.decide()
    if answer.payload is not None:
        del answer.payload["status"]
    return answer


@_fault()
def status_zero(call: Call) -> Answer:
    """The true answer with status 0, its code and data untouched."""
    return _with_status(call, 0)


@_fault()
def status_string(call: Call) -> Answer:
    """The true answer with status "1", a string."""
    return _with_status(call, "1")


@_fault()
def status_true(call: Call) -> Answer:
    """The true answer with status true, which Python takes for 1."""
    return _with_status(call, True)


@_fault()
def status_null(call: Call) -> Answer:
    """The true answer with status null."""
    return _with_status(call, None)


@_fault(value=["unexpected"])
def wrong_data_type(call: Call) -> Answer:
    """The true answer with ``value`` as its data."""
    answer = call.decide()
    if answer.payload is not None:
        answer.payload["data"] = call.value
    return answer


# --- the key in the answer is wrong ---------------------------------------------------------------


def _account_details(answer: Answer) -> dict[str, Any]:
    """Return the account in an answer, to be changed in place; a throw-away one when there is none in it."""
    data = answer.payload["data"] if answer.payload else None
    return data if isinstance(data, dict) and "api_key" in data else {"api_key": ""}


@_fault(value=1)
def stale_read(call: Call) -> Answer:
    """The key that was live before the last ``value`` rotations; the truth while there were fewer."""
    answer = call.decide()
    previous = call.previous_key(int(call.value))
    if previous is not None:
        _account_details(answer)["api_key"] = previous
    return answer


@_fault()
def key_missing(call: Call) -> Answer:
    """The account without its key."""
    answer = call.decide()
    del _account_details(answer)["api_key"]
    return answer


@_fault()
def key_empty(call: Call) -> Answer:
    """The account with an empty key."""
    answer = call.decide()
    _account_details(answer)["api_key"] = ""
    return answer


@_fault(value="$(touch /tmp/pwned)")
def key_malformed(call: Call) -> Answer:
    """The account with ``value`` for a key."""
    answer = call.decide()
    _account_details(answer)["api_key"] = call.value
    return answer


@_fault(value="LD_PRELOAD=/tmp/evil.so")
def key_newline(call: Call) -> Answer:
    """The true key, a newline and ``value``: an attack on an environment file."""
    answer = call.decide()
    _account_details(answer)["api_key"] += f"\n{call.value}"
    return answer


# --- the body is an attack or a wreck -------------------------------------------------------------


@_fault()
def truncated(call: Call) -> Answer:
    """Half of the true body, although Content-Length promises all of it."""
    answer = call.decide()
    answer.ending = Ending.TRUNCATE
    return answer


def _padded(answer: Answer, megabytes: float) -> Iterable[bytes]:
    """Yield the true envelope with one more member, megabytes long: a client that swallows it finds it valid."""
    yield json.dumps(answer.payload or {}).encode()[:-1] + b', "padding": "'
    block = b"a" * 65536
    for dummy in range(round(megabytes * 16)):
        yield block
    yield b'"}'


@_fault(value=8)
def oversized(call: Call) -> Answer:
    """The true answer, ``value`` megabytes long, announced by Content-Length."""
    answer = call.decide()
    answer.raw, answer.payload = b"".join(_padded(answer, float(call.value))), None
    return answer


@_fault(value=8)
def oversized_chunked(call: Call) -> Answer:
    """The true answer, ``value`` megabytes long, unannounced."""
    answer = oversized(call)
    answer.chunked = True
    return answer


@_fault(value=64)
def gzip_bomb(call: Call) -> Answer:
    """The true answer, ``value`` megabytes long and compressed to a thousandth."""
    answer = call.decide()
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(block) for block in _padded(answer, float(call.value))]
    answer.raw, answer.payload = b"".join([*packed, packer.flush()]), None
    answer.headers["Content-Encoding"] = "gzip"
    return answer


# --- things around the answer ---------------------------------------------------------------------


@_fault()
def token_dies(call: Call) -> Answer:
    """The session in use ends just before the request is decided."""
    call.expire_session()
    return call.decide()


@_fault(value="sessionid=sandbox; Path=/; HttpOnly")
def cookie(call: Call) -> Answer:
    """The true answer, which sets the cookie ``value``; the journal tells whether one came back."""
    answer = call.decide()
    answer.headers["Set-Cookie"] = str(call.value)
    return answer


@_fault()
def closes_after_answer(call: Call) -> Answer:
    """The true answer; then the connection is closed unannounced, under the client's next request."""
    answer = call.decide()
    answer.ending = Ending.CLOSE_AFTER
    return answer
