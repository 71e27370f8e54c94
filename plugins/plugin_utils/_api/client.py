# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The HTTP client of MultiCartAPI: the only place that knows HTTP.

Facts about the API are from its guide "Get or Regenerate Your API Key" and its public reference, both dated
2026-06-20. Every answer in its envelope is HTTP 200; ``status`` in the body decides.
"""

from __future__ import annotations

import json
import os
import platform
import queue
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any, Protocol, TypeGuard, TypeVar, cast
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.account import Account, RotationAnswer, Verdict
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import clean_fields, clean_text
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection, Login, is_loopback

try:
    import requests
    import requests.adapters
    import requests.auth
    import requests.utils
except ImportError:  # not a dependency of ansible-core
    requests = None  # type: ignore[assignment]  # checked before every use

VERSION = "1.0.0"
"""Of the collection; a test holds it against galaxy.yml."""

MAX_ANSWER = 256 * 1024
"""Bytes of one answer; the real ones are below one KiB."""

GRACE = 0.5
"""Seconds by which the HTTP library may be late to say itself that it found no connection in time."""

RATE_LIMIT_PATIENCE = 60.0
"""Seconds for which a request is put off at the API's wish, however long it would like that to be."""

MOST_PUT_OFF = 2 * RATE_LIMIT_PATIENCE
"""Seconds for which all requests of one client are: others wait for the run cache, and armed hosts for the new key."""

REFUSING_CODES = (400, 404)
"""Codes of an envelope that reject a key, besides 401 and 403: nobody documents which one a revoked key gets.

All others, such as 402, 409 and 429, are about something else.
"""

# The trailing slash differs from path to path, and a wrong one is answered with a redirect.
LOGIN_PATH = "/users/login"
ACCOUNT_PATH = "/users/account-details"
ROTATE_PATH = "/users/api-key/update/"


Answer = TypeVar("Answer")

_Response = tuple[int, bytes, float | None]
"""Status and body, and the seconds that the API asks to wait."""


class TokenStore(Protocol):
    """Keeps the token of this run's login, so that one run logs in once."""

    def token(self) -> str | None:
        """Return the token; None: this run has not logged in."""

    def keep_token(self, token: str) -> None:
        """Keep the token; it must last before this returns."""


class _Rejected(MulticartError):
    """The API refused the credential."""


class _Refused(MulticartError):
    """The API refused for another cause; ``code`` is the envelope's."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(Reason.REFUSED, what)
        self.code = code


class _RateLimited(MulticartError):
    """The API did not process the request, as there were too many; ``seconds`` is what it asks to wait, if it does."""

    def __init__(self, endpoint: str, seconds: float | None) -> None:
        super().__init__(Reason.RATE_LIMITED, f"{endpoint}: the API limits the rate of requests.")
        self.seconds = seconds


class _NoAnswer(MulticartError):
    """No usable answer came; ``sent`` tells whether the request may have reached the API."""

    def __init__(self, reason: Reason, what: str, sent: bool = True) -> None:
        super().__init__(reason, what)
        self.sent = sent


class Client:
    """One conversation with the API over one kept connection; close it, or use it in a ``with`` block.

    :param connection: address, TLS options and credentials.
    :param tokens: where the token of this run's login is kept.
    :raises MulticartError: ``requests_missing``, ``invalid_option`` (ca_path).
    """

    def __init__(
        self,
        connection: Connection,
        tokens: TokenStore,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests is None:
            raise MulticartError(Reason.REQUESTS_MISSING, "The Python library requests is missing.")
        self._connection = connection
        self._tokens = tokens
        self._sleep = sleep
        self._clock = clock
        self._put_off = 0.0
        self._secrets: set[str] = set(connection.secrets)
        self._unproven: str | None = None
        self._session = session_for(connection.api_url, _trust(connection))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def read(self) -> Account:
        """Read the account and its live key with the best credential that was given: token, login, API key.

        A token that is rejected is replaced by a login, where there is one.

        :raises MulticartError: ``no_credentials``, ``credentials_rejected``, ``malformed_key``, or why no usable
            answer came within the timeout.
        """
        if not self._connection.can_read_back:
            if self._connection.api_key is None:
                raise MulticartError(Reason.NO_CREDENTIALS, "There is no credential to read the account with.")
            return self._account(_key_header(self._connection.api_key))
        # This run has logged in only if the given token was rejected, or there was none.
        token = self._tokens.token() or self._connection.session_token
        if token is not None:
            try:
                return self._read_with(token)
            except MulticartError as error:
                # Nobody documents how a token that has ended is refused, so any definite refusal may mean that.
                refused = error.reason in (Reason.CREDENTIALS_REJECTED, Reason.REFUSED)
                if not refused or self._connection.login is None or token == self._unproven:
                    raise
        self._unproven = self._log_in()
        return self._read_with(self._unproven)

    def _read_with(self, token: str) -> Account:
        self._secrets.add(token)
        account = self._account(_token_header(token))
        self._unproven = None
        return account

    def rotate(self, key: ApiKey) -> RotationAnswer:
        """Ask once, authenticated by the key that is to be replaced; again only if the API did not process the request.

        The API accepts it only while that key is live, so that a repeat of the same request is harmless.
        """
        self._secrets.add(key.reveal())
        try:
            self._patiently(lambda: self._post(ROTATE_PATH, _key_header(key), {}), tries_again=False)
        except _Rejected as error:
            return RotationAnswer(Verdict.REJECTED, error)
        except _NoAnswer as error:
            return RotationAnswer(Verdict.UNCLEAR if error.sent else Verdict.NOT_SENT, error)
        except MulticartError as error:
            return RotationAnswer(Verdict.REFUSED, error)
        return RotationAnswer(Verdict.ACCEPTED)

    def accepts(self, key: ApiKey) -> bool:
        """Tell whether the API accepts this key, or rejects it.

        :raises MulticartError: when no answer that says so came within the timeout.
        """
        self._secrets.add(key.reveal())
        return self._patiently(lambda: self._lets_in(key))

    def _lets_in(self, key: ApiKey) -> bool:
        try:
            self._post(ACCOUNT_PATH, _key_header(key), {})
        except _Rejected:
            return False
        except _Refused as error:
            if error.code in REFUSING_CODES:
                return False
            raise _NoAnswer(error.reason, error.what) from None
        return True

    def _log_in(self) -> str:
        login = cast(Login, self._connection.login)  # the caller has made sure
        data = self._patiently(lambda: self._post(LOGIN_PATH, {}, {"email": login.email, "password": login.password}))
        token = data.get("token") if isinstance(data, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,4096}", token):
            raise MulticartError(Reason.NOT_AN_ENVELOPE, "The answer to the login holds no usable session token.")
        self._secrets.add(token)
        self._tokens.keep_token(token)
        return token

    def _account(self, credential: Mapping[str, str]) -> Account:
        return self._patiently(lambda: self._to_account(self._post(ACCOUNT_PATH, credential, {})))

    def _to_account(self, data: Any) -> Account:
        account_id = data.get("id") if isinstance(data, dict) else None
        if type(account_id) not in (int, str) or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", str(account_id)):
            raise _NoAnswer(Reason.NOT_AN_ENVELOPE, "The answer to account-details is not an account.")
        text = data.get("api_key")
        try:
            key = ApiKey(text if isinstance(text, str) else "")
        except NotAKey as error:
            raise MulticartError(Reason.MALFORMED_KEY, f"The API's answer holds no usable key: {error}.") from None
        self._secrets.add(key.reveal())
        return Account(str(account_id), key, clean_fields(data, self._secrets))

    def _patiently(self, ask: Callable[[], Answer], tries_again: bool = True) -> Answer:
        """Ask again with growing pauses until a usable answer comes or the timeout has passed.

        :param tries_again: also where the API may have processed the request: only for reads.
        """
        pause, began = 0.2, self._clock()
        while True:
            try:
                return ask()
            except _NoAnswer as error:
                final = error.reason in (Reason.CERTIFICATE_INVALID, Reason.REDIRECT_REFUSED, Reason.ANSWER_TOO_LARGE)
                wait, patience = pause, self._connection.timeout
                if final or not tries_again or self._clock() + wait >= began + patience:
                    raise
            except _RateLimited as error:
                wait = max(pause, 1.0 if error.seconds is None else error.seconds)
                self._put_off += wait
                if self._clock() + wait >= began + RATE_LIMIT_PATIENCE or self._put_off > MOST_PUT_OFF:
                    raise
            self._sleep(wait)
            pause = min(pause * 2, 2.0)

    def _post(self, path: str, credential: Mapping[str, str], body: Mapping[str, str]) -> Any:
        """Send one request and return ``data`` of a successful envelope.

        :raises MulticartError: ``_Rejected``, ``_Refused``, ``_RateLimited`` or ``_NoAnswer``.
        """
        endpoint = f"POST {path}"
        status, body_text, seconds = self._exchange(endpoint, path, credential, body)
        if 300 <= status < 400:
            raise _NoAnswer(Reason.REDIRECT_REFUSED, f"{endpoint} was answered with a redirect (HTTP {status}).")
        if status in (401, 403):
            raise _Rejected(
                Reason.CREDENTIALS_REJECTED, f"{endpoint}: the API rejected the {_named(credential)} (HTTP {status})."
            )
        if status == 429:
            raise _RateLimited(endpoint, seconds)
        if status != 200:
            raise _NoAnswer(
                Reason.NOT_AN_ENVELOPE, f"{endpoint} was answered with HTTP {status} instead of the API's JSON."
            )
        return self._open_envelope(endpoint, body_text, seconds, _named(credential))

    def _open_envelope(self, endpoint: str, body: bytes, seconds: float | None, credential: str) -> Any:
        try:
            envelope = json.loads(body)
        except (ValueError, RecursionError):
            raise _NoAnswer(Reason.NOT_AN_ENVELOPE, f"{endpoint} was not answered with JSON.") from None
        if not isinstance(envelope, dict) or not _is_whole(envelope.get("status")) or "data" not in envelope:
            raise _NoAnswer(
                Reason.NOT_AN_ENVELOPE, f"{endpoint} was answered with JSON that is not the API's (code, data, status)."
            )
        if envelope["status"] == 1:
            return envelope["data"]
        code = envelope.get("code")
        if envelope["status"] != 0 or not _is_whole(code) or code >= 500:
            # An inner failure does not tell whether the change was made.
            raise _NoAnswer(Reason.NOT_AN_ENVELOPE, f"{endpoint}: the API reported a failure of its own.")
        if code == 429:
            raise _RateLimited(endpoint, seconds)
        said = clean_text(envelope["data"], self._secrets) if isinstance(envelope["data"], str) else ""
        quoted = f' Its message: "{said}"' if said else " Its message repeats a credential." if said is None else ""
        if code in (401, 403) or endpoint.endswith(LOGIN_PATH):
            raise _Rejected(Reason.CREDENTIALS_REJECTED, f"{endpoint}: the API rejected the {credential}.{quoted}")
        raise _Refused(f"{endpoint}: the API refused (code {code}).{quoted}", code)

    def _exchange(self, endpoint: str, path: str, credential: Mapping[str, str], body: Mapping[str, str]) -> _Response:
        """Do one HTTP exchange within the timeout, name resolution and a slow body included.

        It runs in a thread of its own because nothing in an HTTP library bounds the whole of an exchange.
        """
        done: queue.SimpleQueue[_Response | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put(self._send(path, credential, body))
            except BaseException as error:  # pylint: disable=broad-except  # handed to the caller
                done.put(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            outcome = done.get(timeout=self._connection.timeout + GRACE)
        except queue.Empty:
            self._session.close()
            self._session = session_for(self._connection.api_url, _trust(self._connection))
            seconds = f"{self._connection.timeout:g} s"
            raise _NoAnswer(Reason.UNREACHABLE, f"{endpoint}: no complete answer within {seconds}.") from None
        if isinstance(outcome, MulticartError):
            raise outcome
        if isinstance(outcome, BaseException):
            raise _transport_error(endpoint, outcome) from None
        return outcome

    def _send(self, path: str, credential: Mapping[str, str], body: Mapping[str, str]) -> _Response:
        url = self._connection.api_url + path
        with self._session.post(
            url,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **credential},
            timeout=self._connection.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise _NoAnswer(Reason.NOT_AN_ENVELOPE, f"POST {path} was answered in an encoding nobody asked for.")
            seconds = _seconds(response.headers.get("Retry-After", ""))
            if response.status_code != 200:
                return response.status_code, b"", seconds
            text = response.raw.read(MAX_ANSWER + 1)
            if len(text) > MAX_ANSWER:
                raise _NoAnswer(Reason.ANSWER_TOO_LARGE, f"POST {path} was answered with more than {MAX_ANSWER} bytes.")
            length = response.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) != len(text):
                raise _NoAnswer(Reason.UNREACHABLE, f"POST {path}: the answer ended too early.")
            return response.status_code, text, seconds


def _is_whole(value: Any) -> TypeGuard[int]:
    """Tell whether a JSON value is a whole number; ``true`` is none, although Python's bool is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(text: str) -> float | None:
    """Return the seconds of a ``Retry-After``, a number or a date; None: it is neither."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (moment - datetime.now(timezone.utc)).total_seconds() if moment.tzinfo else None


def _key_header(key: ApiKey) -> dict[str, str]:
    return {"x-api-key": key.reveal()}


def _token_header(token: str) -> dict[str, str]:
    return {"Authorization": f"Token {token}"}


def _named(credential: Mapping[str, str]) -> str:
    """Return what a request was authenticated with, in words."""
    if not credential:
        return "email and password"
    return "API key" if "x-api-key" in credential else "session token"


def session_for(url: str, trust: str | bool) -> requests.Session:
    """A session that takes proxies from the environment, and nothing else: no .netrc, no cookies, no CA bundle.

    :raises MulticartError: ``invalid_option``.
    """
    session = _Session()
    session.trust_env = False
    session.proxies = _proxies(url)
    session.verify = trust
    session.cookies.set_policy(_NoCookies())
    session.headers = requests.structures.CaseInsensitiveDict(
        {
            "User-Agent": f"multicart.keys/{VERSION} (Ansible collection; Python {platform.python_version()})",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
    )
    return session


def _proxies(url: str) -> dict[str, str]:
    """Return the proxies of the environment; a loopback address is this machine's, and a proxy is somewhere else.

    :raises MulticartError: ``invalid_option``; the text holds nothing of the proxy's URL, which may hold a password.
    """
    if is_loopback((urlsplit(url).hostname or "").rstrip(".")):
        return {}
    proxy: str | None = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if proxy is None:
        return {}
    wrong = None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        if parts.port == 0 or not re.fullmatch(r"[A-Za-z0-9._:%-]+", parts.hostname or ""):
            wrong = "is not the URL of a proxy"
        elif parts.scheme.startswith("socks") and find_spec("socks") is None:
            wrong = "names a SOCKS proxy, for which the Python library PySocks is missing"
        elif parts.scheme not in ("http", "https", "socks4", "socks4a", "socks5", "socks5h"):
            wrong = "is not the URL of a proxy"
    except ValueError:
        wrong = "is not the URL of a proxy"
    if wrong:
        raise MulticartError(
            Reason.INVALID_OPTION,
            f"What the environment sets as proxy (HTTPS_PROXY or ALL_PROXY) {wrong}.",
            "Nothing was changed; correct it, or name the API's host in NO_PROXY.",
        )
    return {"https": proxy}


def _trust(connection: Connection) -> str | bool:
    """Return what certificates are checked against: ``ca_path``, else the system's store, else certifi's."""
    if not connection.validate_certs:
        return False
    if connection.ca_path is not None:
        path = os.path.expanduser(connection.ca_path)
        if not os.path.exists(path):
            raise MulticartError(
                Reason.INVALID_OPTION,
                "The option ca_path names no existing file or directory.",
                "Give the path on the control node of a file with PEM certificates; nothing was changed.",
            )
        return path
    return system_trust()


def system_trust() -> str | bool:
    """Return the system's store of certificates; True: certifi's, if there is none."""
    store = ssl.get_default_verify_paths()
    return store.cafile or store.capath or True


def _transport_error(endpoint: str, error: BaseException) -> _NoAnswer:
    """Name what went wrong below HTTP; the library's own text may hold addresses and more, so it is not quoted."""
    failed, causes = requests.exceptions, _causes(error)
    names, refused = {type(cause).__name__ for cause in causes}, _is_any(causes, ConnectionRefusedError)
    # The request may have been, unless there never was a connection to the API for it.
    sent = not (
        refused
        or names & {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"}
        or any(isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed") for cause in causes)
    )
    if isinstance(error, failed.SSLError) and _is_any(causes, ssl.SSLCertVerificationError):
        what = "the API's certificate is not valid here"
        return _NoAnswer(Reason.CERTIFICATE_INVALID, f"{endpoint}: {what}.", sent=False)
    if isinstance(error, failed.ProxyError):
        # Also what a connection that breaks behind the proxy is called, with the request sent.
        what = "the proxy broke the connection" if sent else "the proxy gave no connection"
    elif isinstance(error, failed.ConnectTimeout):
        what, sent = "no connection in time", False
    elif isinstance(error, failed.ConnectionError):
        unnamed = "the host name is unknown" if "NameResolutionError" in names else "the connection broke"
        what = "the connection was refused" if refused else unnamed
    elif isinstance(error, (OSError, ValueError)) or type(error).__module__.split(".")[0] in ("urllib3", "http"):
        what, sent = f"the exchange broke ({type(error).__name__})", True
    else:
        return _NoAnswer(Reason.INTERNAL_ERROR, f"{endpoint}: unexpected {type(error).__name__}.")
    return _NoAnswer(Reason.UNREACHABLE, f"{endpoint}: {what}.", sent)


def _is_any(causes: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _causes(error: BaseException) -> list[BaseException]:
    """All exceptions behind one, over ``args``, ``reason``, cause and context, each once."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and not any(cause is known for known in found):
            found.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return found


if requests is not None:
    from http.cookiejar import DefaultCookiePolicy

    class _NoCookies(DefaultCookiePolicy):
        def set_ok(self, cookie: Any, request: Any) -> bool:
            return False

    class _Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> str | None:
            """Read no redirect: even when told not to follow, requests parses the target and swallows the body."""
            return None
