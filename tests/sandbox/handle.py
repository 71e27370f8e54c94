# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox in a test: start it, steer it, ask it.

Standard library only; but the interpreter that holds it also runs it, and that takes requirements.txt.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote, urlsplit

from .shapes import CONTROL_PATH, DEFAULT_ACCOUNT, Account, JournalEntry, Settings

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_CALL_SECONDS = 30.0


class SandboxError(RuntimeError):
    """The sandbox did not start, or refused what it was asked."""


class Sandbox:
    """A running sandbox. Use :meth:`start`, preferably in a ``with`` statement."""

    url: str
    """The base URL of the API, as the option ``api_url`` wants it."""
    control: str
    """The base URL of the control interface."""
    ca_path: str | None
    """The certificate authority to trust, or None without TLS."""

    def __init__(self, state_dir: Path, tls: bool, accounts: Sequence[tuple[str, str]]) -> None:
        self.state_dir = state_dir
        self._tls = tls
        self._accounts = accounts
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def start(
        cls,
        state_dir: str | os.PathLike[str],
        tls: bool = False,
        accounts: Sequence[tuple[str, str]] = (DEFAULT_ACCOUNT,),
        port: int = 0,
    ) -> Sandbox:
        """Start a sandbox and return when it answers. ``accounts`` are pairs of email and password."""
        sandbox = cls(Path(state_dir), tls, accounts)
        sandbox._launch(port)
        return sandbox

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the process ------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it does not run."""
        return self._process.pid if self._process else None

    @property
    def port(self) -> int:
        """The port it listens on; it stays the same over restarts."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def log_path(self) -> Path:
        """Where the server's own output goes."""
        return self.state_dir / "sandbox.log"

    def stop(self) -> None:
        """End the server (SIGTERM) and wait for it. Does nothing when it does not run."""
        if self._process:
            self._process.terminate()
            self._reap()

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL)."""
        if self._process:
            self._process.kill()
            self._reap()

    def restart(self) -> None:
        """Start the server again on the same port and state, ending it first when it still runs."""
        self.stop()
        self._launch(self.port)

    def _reap(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None

    def _launch(self, port: int) -> None:
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"{__package__}", "--state", str(self.state_dir)]
        command += ["--port", str(port), "--parent", str(os.getpid()), "--accounts-from-stdin"]
        if threading.current_thread() is threading.main_thread():
            command.append("--pdeathsig")
        if self._tls:
            command.append("--tls")
        # The package is found wherever it was found here, be that the repository or a tree of collections.
        top = Path(__file__).resolve().parents[len(str(__package__).split("."))]
        path = os.pathsep.join(filter(None, [str(top), os.environ.get("PYTHONPATH")]))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C in the terminal is for the tests, which still need the server to clean up.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), contextlib.closing(self._process.stdin) as accounts:
            json.dump(list(self._accounts), accounts)
        ready = self._wait_for_line(self._process)
        self.url = ready["url"]
        self.control = ready["control"]
        self.ca_path = ready["ca_path"]
        self._trust = ssl.create_default_context(cafile=self.ca_path) if self.ca_path else None

    def _wait_for_line(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        stdout = process.stdout
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=_START_SECONDS)
        except queue.Empty:
            line = ""
        if not line:
            self.kill()
            tail = self.log_path.read_text(errors="replace")[-2000:]
            raise SandboxError(f"the sandbox did not start; the end of {self.log_path}:\n{tail}")
        return cast("dict[str, Any]", json.loads(line))

    # --- what it knows ----------------------------------------------------------------------------

    def accounts(self) -> list[Account]:
        """Return all accounts with everything in them, oldest first."""
        return cast("list[Account]", self._call("GET", "/accounts"))

    def account(self, email: str | None = None) -> Account:
        """Return one account; without an address, the first."""
        found = [one for one in self.accounts() if email in (None, one["email"])]
        if not found:
            raise SandboxError(f"no account {email!r}")
        return found[0]

    def journal(self, after: int = 0) -> list[JournalEntry]:
        """Return the requests to the API with a number above ``after``, oldest first."""
        return cast("list[JournalEntry]", self._call("GET", f"/journal?after={after}"))

    def forget_journal(self) -> None:
        """Empty the journal; the counters of the accounts stay."""
        self._call("DELETE", "/journal")

    def rotations(self, email: str | None = None) -> int:
        """Return how many rotations the API accepted, of one account or all; not the dashboard's."""
        return sum(one["rotations"] for one in self.accounts() if email in (None, one["email"]))

    def secrets(self, emails: Iterable[str] | None = None) -> set[str]:
        """Return every secret the sandbox ever handed out or took, of these accounts or of all.

        They must be found nowhere else.
        """
        wanted = None if emails is None else set(emails)
        found: set[str] = set()
        for one in self.accounts():
            if wanted is not None and one["email"] not in wanted:
                continue
            found |= {one["password"], one["api_key"], *one["former_keys"]}
            found |= {*one["tokens"], *one["expired_tokens"]}
        return found

    # --- what it is told --------------------------------------------------------------------------

    def add_account(self, email: str, password: str, **fields: str) -> Account:
        """Make another account; ``fields`` may hold name, timezone, api_key and created_at."""
        body = {"email": email, "password": password, **fields}
        return cast(Account, self._call("POST", "/accounts", body))

    def faults(self, rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Append faults to the list, and return what the list holds then."""
        return cast("list[dict[str, Any]]", self._call("POST", "/faults", list(rules)))

    def remaining_faults(self) -> list[dict[str, Any]]:
        """Return the faults that have not happened yet."""
        return cast("list[dict[str, Any]]", self._call("GET", "/faults"))

    def clear(self) -> None:
        """Take all faults away."""
        self._call("DELETE", "/faults")

    def settings(self, account: str | None = None, **values: Any) -> Settings:
        """Change settings, for one account or for all without their own, and return what holds then."""
        body = values if account is None else {"account": account, **values}
        return cast(Settings, self._call("POST", "/settings", body))

    def token(self, email: str | None = None) -> str:
        """Make a session of an account (the first) and return its token."""
        return str(self._call("POST", "/sessions", {"email": email or self.account()["email"]})["token"])

    def expire(self, email: str | None = None) -> None:
        """End all sessions, or those of one account."""
        self._call("DELETE", "/sessions" + (f"?email={quote(email)}" if email else ""))

    def rotate_behind(self, email: str | None = None) -> Account:
        """Rotate as somebody in the dashboard would, and return the account."""
        return cast(Account, self._call("POST", "/rotate", {"email": email or self.account()["email"]}))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        # http.client knows no proxies: those in the environment are for the code under test, not its test.
        host, port = urlsplit(self.control).hostname or "", self.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=_CALL_SECONDS, context=self._trust)
            if self._trust
            else http.client.HTTPConnection(host, port, timeout=_CALL_SECONDS)
        )
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, CONTROL_PATH + path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        if answer.status != http.HTTPStatus.OK:
            raise SandboxError(f"{method} {path}: {text}")
        return json.loads(text)
