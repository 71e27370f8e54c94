# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker who is the API, or stands in the network before it: one table, one answer to each.

They may answer anything, in any form and at any speed: redirects, floods, drops, bombs, demands for other credentials,
answers ahead of a question, certificates of their own, keys that are shell code, what was sent to them in any disguise;
and the environment of the run points elsewhere, too: proxies, bundles of certificates, a ``.netrc``.

What must not happen: a credential reaches another host; an error, or anything else that is shown, holds one; an answer
is waited for or read for ever; a request is sent again that may have been carried out, but to the same end; what does
not have the form of a key is taken for one.

Others of these attacks: lies about a rotation, replicas that lag, and accounts that differ in test_rotation.py and
tests/faults/test_matrix.py; limits of the rate in test_client.py; texts that are shown in test_sanitize.py.
"""

from __future__ import annotations

import base64
import gzip
import json
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api import client as client_module
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._api.client import Client
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login

from tests.unit.plugins.plugin_utils.doubles import Time, Tokens
from tests.unit.plugins.plugin_utils.raw_server import NAMED, RawServer, answer

pytest.importorskip("trustme")
from tests.unit.plugins.plugin_utils.scripted_server import RESET, Authority, RecordingProxy, ScriptedServer, Step
from tests.waiting import PATIENCE

KEY = ApiKey("173axcs.aaaaBBBBccccDDDD")
TOKEN, PASSWORD = "t0kenT0kenT0kenT0ken", "pa55 W0rd! pa55"
LOGIN = Login("ops@example.com", PASSWORD)
GOOD = json.dumps({"code": 200, "status": 1, "data": {"id": 7, "api_key": KEY.reveal(), "token": TOKEN}}).encode()
SENT_LIMIT = 64 * 2**20
"""Bytes that fit into the buffers of two sockets, and more; an endless answer that is read on is far beyond."""


def refusal(message: Any) -> bytes:
    return json.dumps({"code": 400, "status": 0, "data": message}).encode()


@dataclass(frozen=True)
class Row:
    """What the API does, and the one answer to it.

    :ivar says: the steps of every answer; ``ELSEWHERE`` in it is the address of another host.
    :ivar forever: what it goes on with, and how long it waits before each time.
    :ivar read: the reason of a read; none if it succeeds.
    :ivar verdict: what becomes of a rotation.
    :ivar waits: whether only the timeout ends it.
    """

    name: str
    says: tuple[Step, ...]
    read: str | None
    verdict: Verdict = Verdict.UNCLEAR
    forever: tuple[bytes, float] | None = None
    waits: bool = False

    def script(self, elsewhere: str) -> Callable[[], Iterator[Step]]:
        def steps() -> Iterator[Step]:
            for step in self.says:
                yield step.replace(b"ELSEWHERE", elsewhere.encode()) if isinstance(step, bytes) else step
            while self.forever:
                yield self.forever[1]
                yield self.forever[0]

        return steps


def says(name: str, body: bytes, read: str | None, *headers: str, status: str = "200 OK", **more: Any) -> Row:
    return Row(name, (answer(body, status, *headers),), read, **more)


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


CHUNKED = head("Transfer-Encoding: chunked")
BOMB = b'{"code": 200, "status": 1, "data": "' + b" " * 2**24 + b'"}'
REDIRECTS = [
    says(f"{status} {name}", GOOD, "redirect_refused", f"Location: {to}", status=f"{status} Moved")
    for status in (301, 302, 303, 307, 308)
    for name, to in {
        "to another host": "http://ELSEWHERE/api/v1/users/account-details",
        "to another scheme": "https://ELSEWHERE/",
        "protocol-relative": "//ELSEWHERE/users/login",
        "to the host itself": "/api/v1/users/account-details/",
        "with user information": "http://127.0.0.1@ELSEWHERE/",
    }.items()
]
NO_REDIRECTS = [
    says("300 with a choice", GOOD, "redirect_refused", "Location: http://ELSEWHERE/", status="300 Choose"),
    says("Location with success", GOOD, None, "Location: http://ELSEWHERE/", verdict=Verdict.ACCEPTED),
    says("Refresh", GOOD, None, "Refresh: 0; url=http://ELSEWHERE/", verdict=Verdict.ACCEPTED),
    says("Alt-Svc", GOOD, None, 'Alt-Svc: h2="ELSEWHERE", h3="ELSEWHERE"', verdict=Verdict.ACCEPTED),
    says("305 to a proxy", b"", "redirect_refused", "Location: http://ELSEWHERE/", status="305 Use Proxy"),
    says("201 elsewhere", GOOD, "not_an_envelope", "Location: http://ELSEWHERE/", status="201 Created"),
    says("page that redirects", b'<meta http-equiv="refresh" content="0;url=//ELSEWHERE/">', "not_an_envelope"),
]
SIZES = [
    Row("endless body", (head(),), "answer_too_large", forever=(b" " * 65536, 0.0)),
    Row("huge length", (head("Content-Length: 999999999999"),), "answer_too_large", forever=(b" " * 65536, 0.0)),
    Row("endless chunks", (CHUNKED,), "answer_too_large", forever=(b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0)),
    Row("endless chunk", (CHUNKED, b"fffffffffffff\r\n"), "answer_too_large", forever=(b" " * 65536, 0.0)),
    Row("endless size of a chunk", (CHUNKED,), "unreachable", forever=(b"0" * 65536, 0.0)),
    Row("negative chunk", (CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"), "unreachable"),
    Row("endless trailers", (CHUNKED, b"0\r\n"), "unreachable", forever=(b"X: y\r\n" * 999, 0.0), waits=True),
    Row("endless header lines", (b"HTTP/1.1 200 OK\r\n",), "unreachable", forever=(b"X: y\r\n" * 999, 0.0)),
    Row("endless header line", (b"HTTP/1.1 200 OK\r\nX: ",), "unreachable", forever=(b"y" * 65536, 0.0)),
    Row("endless status line", (b"HTTP/1.1 200 ",), "unreachable", forever=(b"O" * 65536, 0.0)),
    Row("endless nothing", (), "unreachable", forever=(b"\0" * 65536, 0.0)),
    Row("lengths that differ", (head("Content-Length: 5", "Content-Length: 500") + GOOD,), "unreachable"),
    Row("error with an endless body", (head(status="500 Oh"),), "not_an_envelope", forever=(b" " * 65536, 0.0)),
    *(
        says(f"{encoding} bomb", packed, "not_an_envelope", f"Content-Encoding: {encoding}")
        for encoding, packed in {
            "gzip": gzip.compress(BOMB),
            "deflate": zlib.compress(BOMB),
            "gzip, gzip": gzip.compress(gzip.compress(BOMB)),
            "br": b"\x1b\xff\xff\xff" * 9,
            "zstd": b"\x28\xb5\x2f\xfd" * 9,
            "x-unheard-of": b"?",
        }.items()
    ),
    says("bomb that says it is none", gzip.compress(BOMB), "not_an_envelope", "Content-Encoding: identity"),
    Row(
        "bomb as a transfer encoding",
        (
            head("Transfer-Encoding: gzip, chunked"),
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(GOOD)), gzip.compress(GOOD)),
        ),
        "not_an_envelope",
    ),
    says("deep JSON", b"[" * 200_000, "not_an_envelope"),
    says("long number", b'{"code": 200, "data": {}, "status": %s}' % (b"1" * 9999), "not_an_envelope"),
    says("not a number", b'{"code": 200, "data": {}, "status": NaN}', "not_an_envelope"),
]
TIMES = [
    Row("nothing", (), "unreachable", forever=(b"", 0.1), waits=True),
    Row("body by drops", (head("Content-Length: 9999"),), "unreachable", forever=(b" ", 0.05), waits=True),
    Row("head by drops", (b"HTTP/1.1 200 OK\r\nX: ",), "unreachable", forever=(b"y", 0.05), waits=True),
    Row("status by drops", (b"HTTP/1.1 ",), "unreachable", forever=(b"2", 0.05), waits=True),
    Row("flood of 100 Continue", (), "unreachable", forever=(b"HTTP/1.1 100 Continue\r\n\r\n" * 99, 0.0), waits=True),
]
ONE_XX = [
    Row(f"{status} for ever", (), "not_an_envelope", forever=(head(status=f"{status} Wait") * 99, 0.0))
    for status in (101, 102, 103, 199)
] + [Row("100 before the answer", (head(status="100 Continue") * 3 + answer(GOOD),), None, Verdict.ACCEPTED)]
RESETS = [
    Row("reset before a word", (RESET,), "unreachable"),
    Row("reset in the status", (b"HTTP/1.1 2", 0.02, RESET), "unreachable"),
    Row("reset in the head", (b"HTTP/1.1 200 OK\r\nContent-", 0.02, RESET), "unreachable"),
    Row("reset before the body", (head("Content-Length: 99"), 0.02, RESET), "unreachable"),
    Row("reset in the body", (head(f"Content-Length: {len(GOOD)}") + GOOD[:-9], 0.02, RESET), "unreachable"),
    Row("reset in a chunk", (CHUNKED + b"ff\r\n{", 0.02, RESET), "unreachable"),
    Row("reset instead of an end", (head() + GOOD[:-9], 0.02, RESET), "unreachable"),
]
DEMANDS = [
    says(
        f"401 {scheme}",
        b"",
        "credentials_rejected",
        f"WWW-Authenticate: {scheme}",
        status="401 No",
        verdict=Verdict.REJECTED,
    )
    for scheme in (
        'Basic realm="x"',
        'Digest realm="x", nonce="y", qop="auth", algorithm=MD5',
        "Negotiate",
        "NTLM",
        "Bearer",
    )
] + [
    says("407", b"", "not_an_envelope", 'Proxy-Authenticate: Basic realm="x"', status="407 No"),
    says("426", b"", "not_an_envelope", "Upgrade: h2c", "Connection: Upgrade", status="426 Upgrade Required"),
    says("cookie", GOOD, None, "Set-Cookie: a=b; Path=/", "Set-Cookie2: c=d", verdict=Verdict.ACCEPTED),
    says("client hints", GOOD, None, "Accept-CH: Sec-CH-UA", "Clear-Site-Data: *", verdict=Verdict.ACCEPTED),
]
TYPES = [
    says(
        f"{part} {json.dumps(value)[:20]}",
        json.dumps({**json.loads(GOOD), part: value}).encode(),
        reason,
        verdict=verdict,
    )
    for part, reason, verdict, values in (
        ("status", "not_an_envelope", Verdict.UNCLEAR, (None, True, False, "1", 1.0, [1], {}, 2, -1, 10**30)),
        ("data", "not_an_envelope", Verdict.ACCEPTED, (None, True, 1, "x", [], ["id"], {}, {"id": [7]}, {"id": ""})),
        (
            "data",
            "malformed_key",
            Verdict.ACCEPTED,
            ({"id": 7}, {"id": 7, "api_key": 5}, {"id": 7, "api_key": ["a.b"]}),
        ),
        (
            "data",
            "malformed_key",
            Verdict.ACCEPTED,
            ({"id": 7, "api_key": "a.b\nPATH=x"}, {"id": 7, "api_key": "a.$(x)"}),
        ),
    )
    for value in values
]
_ECHOED = {"token": TOKEN, "key": KEY.reveal(), "secret half": KEY.reveal()[8:], "password": PASSWORD}
_FORMS: dict[str, Callable[[str], Any]] = {
    "as it is": str,
    "in base64": lambda text: base64.b64encode(text.encode()).decode(),
    "split by zero-width characters": "\u200b".join,
    "split by soft hyphens": "\u00ad".join,
    "split by spaces": " ".join,
    "on lines": "\n".join,
    "in terminal colours": "\x1b".join,
    "backwards": lambda text: text[::-1],
    "in a list": lambda text: [text],
    "as a name": lambda text: {text: text},
}
ECHOES = [
    says(f"{what} {form}", refusal(_FORMS[form](secret)), "credentials_rejected", verdict=Verdict.REFUSED)
    for what, secret in _ECHOED.items()
    for form in _FORMS
] + [
    says("secrets in the head", b"", "not_an_envelope", f"X: {TOKEN}", status=f"500 {TOKEN} {KEY.reveal()}"),
    says("secrets in a page", f"<h1>{TOKEN} {KEY.reveal()} {PASSWORD}</h1>".encode(), "not_an_envelope"),
]
LIMITS = [
    says(f"429 {after[:20]}", b"", "rate_limited", f"Retry-After: {after}", status="429 Slow", verdict=Verdict.REFUSED)
    for after in (
        *("-1", "1e9", "0x10", "9" * 15, "9" * 5000, "NaN", "soon", "", "1, 2"),
        *("Fri, 31 Dec 9999 23:59:59 -1200", "Mon, 01 Jan 0001 00:00:00 +1400", "Thu, 01 Jan 1970 00:00:00 GMT"),
    )
]
TABLE = [*LIMITS, *REDIRECTS, *NO_REDIRECTS, *SIZES, *TIMES, *ONE_XX, *RESETS, *DEMANDS, *TYPES, *ECHOES]


@pytest.fixture(name="elsewhere", autouse=True)
def fixture_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RawServer]:
    """Another host, to which everything in the environment points."""
    with RawServer(answer(GOOD)) as server:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login evil password canary\ndefault login evil password canary\n")
        netrc.chmod(0o600)
        (tmp_path / "bundle.pem").write_text("no certificate")
        poison = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), server.url)
        poison |= {name: str(tmp_path / "bundle.pem") for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        for name, value in {**poison, "HOME": str(tmp_path), "NETRC": str(netrc), "NO_PROXY": "example.com"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(client_module, "GRACE", 0.1)
        yield server
        assert server.heard == [], "something reached another host"


def connect(url: str, **more: Any) -> Client:
    watch = Time()
    connection = Connection(url, session_token=TOKEN, login=LOGIN, api_key=KEY, **more)
    return Client(connection, Tokens(), watch.sleep, watch.clock)


def assert_clean(text: str) -> None:
    tight = "".join(character for character in text if character.isalnum())
    for secret in (TOKEN, KEY.reveal()[8:], PASSWORD, "canary"):
        assert secret not in text
        assert "".join(character for character in secret if character.isalnum()) not in tight


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_answer_has_its_answer(row: Row, elsewhere: RawServer) -> None:
    with ScriptedServer(row.script(elsewhere.url.removeprefix("http://"))) as server:
        start, reason = time.monotonic(), None
        with connect(server.url, timeout=0.3 if row.waits else 10.0) as client:
            try:
                client.read()
            except MulticartError as error:
                reason = error.reason.value
                assert_clean(f"{error} {error!r} {error.__cause__!r}")
            answered = client.rotate(KEY)
        assert_clean(str(answered.error))
        assert (reason, answered.verdict) == (row.read, row.verdict)
        assert time.monotonic() - start < 9.0
        assert server.sent < SENT_LIMIT * server.connections
        for request in server.heard:
            assert not {line.split(b":")[0].lower() for line in request.split(b"\r\n")} & {b"cookie", b"cookie2"}
            assert not [word for word in (b"Basic", b"Digest", b"Negotiate", b"NTLM", b"canary") if word in request]


@pytest.mark.parametrize("later", [False, True])
def test_an_answer_sent_ahead_is_not_that_of_the_next_request(later: bool) -> None:
    """Behind the answer to a read, on a connection kept open, comes one that claims the rotation to come."""
    said = answer(GOOD).replace(b"Connection: close", b"Connection: keep-alive")
    was_read, sent = threading.Event(), threading.Event()

    class Ahead(RawServer):
        """Answers the first request twice, and waits for what comes next on that connection."""

        def speak(self, connection: socket.socket, request: bytes) -> None:
            if len(self.heard) > 1:
                connection.sendall(answer(refusal("No.")))
                return
            connection.sendall(said if later else said + said)
            if later:
                was_read.wait(PATIENCE)
                connection.sendall(said)
            sent.set()
            select.select([connection], [], [], PATIENCE)

    with Ahead() as server, connect(server.url, timeout=10.0) as client:
        assert client.read().key == KEY
        was_read.set()
        assert sent.wait(PATIENCE)
        # What came with the first answer is thrown away; a connection on which more came is not used again.
        assert client.rotate(KEY).verdict is (Verdict.REFUSED if later else Verdict.UNCLEAR)


# --- TLS, and proxies -----------------------------------------------------------------------------

CERTIFICATES = {
    "good": None,
    "expired": "certificate_invalid",
    "not yet valid": "certificate_invalid",
    "wrong name": "certificate_invalid",
    "self-signed": "certificate_invalid",
    "unknown authority": "certificate_invalid",
    "TLS 1.0": "unreachable",
}


@pytest.fixture(name="authority", scope="module")
def fixture_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def read_reason(client: Client) -> str | None:
    try:
        client.read()
    except MulticartError as error:
        assert_clean(f"{error} {error!r}")
        return error.reason.value
    return None


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_bad_certificate_hears_no_credential(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, kind: str, proxied: bool
) -> None:
    """Neither the server behind a bad certificate nor a proxy on the way hears more than where to connect."""
    row = says("good", GOOD, None)
    for name in ("ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name)
    with ScriptedServer(row.script(""), authority.context(kind)) as server, RecordingProxy() as proxy:
        url = server.url
        if proxied:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            url = url.replace("127.0.0.1", NAMED)
        with connect(url, ca_path=authority.path) as client:
            assert read_reason(client) == CERTIFICATES[kind]
            verdict = client.rotate(KEY).verdict
            assert verdict is Verdict.ACCEPTED if kind == "good" else verdict in (Verdict.NOT_SENT, Verdict.UNCLEAR)
        assert bool(server.heard) == (kind == "good")
        assert bool(proxy.heard) == proxied
        for request in proxy.heard:
            lines = request.rstrip(b"\r\n").split(b"\r\n")
            assert lines[0].startswith(f"CONNECT {NAMED}:{server.port} HTTP/1.".encode())
            assert {line.split(b":")[0].lower() for line in lines[1:]} <= {b"host", b"user-agent"}
        carried = b"".join(proxy.heard) + proxy.carried
        assert not [secret for secret in (TOKEN, KEY.reveal(), PASSWORD) if secret.encode() in carried]


@pytest.mark.parametrize("proxied", [False, True])
def test_https_is_never_left_for_http(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, elsewhere: RawServer, proxied: bool
) -> None:
    row = says("downgrade", b"", "redirect_refused", f"Location: {elsewhere.url}/", status="307 Down")
    with ScriptedServer(row.script(""), authority.context("good")) as server, RecordingProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        url = server.url.replace("127.0.0.1", NAMED) if proxied else server.url
        with connect(url, ca_path=authority.path) as client:
            assert read_reason(client) == "redirect_refused"
        assert bool(proxy.heard) == proxied


@pytest.mark.parametrize(
    "steps", [(RESET,), (b"\x16\x03\x01", RESET), (b"HTTP/1.1 200 OK\r\n\r\n",), (b"\x15\x03\x03\x00\x02\x02\x28",)]
)
def test_a_handshake_that_breaks_is_no_answer(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, steps: tuple[Step, ...]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Greeter(ScriptedServer):
        """Speaks as soon as somebody connects."""

        def _handle(self, connection: Any) -> None:
            connection.recv(1)
            self.speak(connection, b"")
            connection.close()

    with (
        Greeter(lambda: iter(steps)) as server,
        connect(server.url.replace("http:", "https:"), ca_path=authority.path, timeout=2.0) as client,
    ):
        assert read_reason(client) == "unreachable"
        assert client.rotate(KEY).verdict in (Verdict.NOT_SENT, Verdict.UNCLEAR)


@pytest.mark.parametrize(
    ("content", "reason"),
    [("good", None), ("no certificate", "unreachable"), ("", "unreachable"), (None, "certificate_invalid")],
)
def test_the_system_store_is_where_openssl_says(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, reason: str | None
) -> None:
    """SSL_CERT_FILE is how a system says where its store is; a poisoned one opens nothing up by being broken."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    store = tmp_path / "store.pem"
    if content is not None:
        store.write_text(Path(authority.path).read_text() if content == "good" else content)
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    row = says("good", GOOD, None)
    with (
        ScriptedServer(row.script(""), authority.context("good")) as server,
        connect(server.url, timeout=2.0) as client,
    ):
        assert read_reason(client) == reason
        assert bool(server.heard) == (reason is None)
