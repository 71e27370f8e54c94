# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: what survives it, who may reach it, and when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import requests

from tests.sandbox.handle import Sandbox, SandboxError
from tests.waiting import PATIENCE, eventually, is_gone

ROOT = Path(__file__).resolve().parents[3]


def _post(url: str, body: dict[str, str], headers: dict[str, str], verify: str | bool = True) -> dict[str, object]:
    with requests.Session() as session:
        session.trust_env = False
        answer: dict[str, object] = session.post(
            url, json=body, headers=headers, verify=verify, timeout=PATIENCE
        ).json()
        return answer


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sandbox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_everything_but_the_faults_survives_a_crash(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path, accounts=[("a@example.com", "one:two"), ("b@example.com", "three")]) as sandbox:
        token = sandbox.token("a@example.com")
        headers = {"x-api-key": sandbox.account("a@example.com")["api_key"]}
        _post(f"{sandbox.url}/users/api-key/update/", {}, headers)
        sandbox.settings(prefix_changes=True)
        sandbox.faults([{"on": "any", "fault": "html"}])
        before, journal, url = sandbox.accounts(), sandbox.journal(), sandbox.url
        sandbox.kill()
        assert sandbox.pid is None
        sandbox.restart()
        assert (sandbox.accounts(), sandbox.journal(), sandbox.url) == (before, journal, url)
        assert sandbox.remaining_faults() == []
        assert sandbox.settings()["prefix_changes"] is True
        assert sandbox.rotations() == sandbox.rotations("a@example.com") == 1
        assert sandbox.rotations("b@example.com") == 0
        read = _post(f"{sandbox.url}/users/account-details", {}, {"Authorization": f"Token {token}"})
        assert read["status"] == 1


def test_a_crash_between_commit_and_answer_leaves_a_journal_that_is_right(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path) as sandbox:
        sandbox.faults([{"on": "rotate", "fault": "timeout_after", "seconds": 30}])
        key = sandbox.account()["api_key"]
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.post(f"{sandbox.url}/users/api-key/update/", headers={"x-api-key": key}, timeout=0.5)
        assert eventually(sandbox.rotations)
        sandbox.kill()
        sandbox.restart()
        assert sandbox.account()["former_keys"] == [key]
        (entry,) = sandbox.journal()
        assert (entry["committed"], entry["http"]) == (True, None)


def test_tls_is_trusted_with_its_authority_and_only_so(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path, tls=True) as sandbox:
        assert sandbox.url.startswith("https://127.0.0.1:")
        assert sandbox.ca_path == str(tmp_path / "ca.pem")
        login = {"email": "demo@example.com", "password": "rehearsal"}
        assert _post(f"{sandbox.url}/users/login", login, {}, verify=sandbox.ca_path)["status"] == 1
        with pytest.raises(requests.exceptions.SSLError):
            _post(f"{sandbox.url}/users/login", login, {})
        authority = (tmp_path / "ca.pem").read_bytes()
        sandbox.restart()
        assert (tmp_path / "ca.pem").read_bytes() == authority
        assert _post(f"{sandbox.url}/users/login", login, {}, verify=sandbox.ca_path)["status"] == 1


def test_a_client_that_shakes_no_hand_stops_nobody(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path, tls=True) as sandbox, socket.create_connection(("127.0.0.1", sandbox.port)):
        assert sandbox.account()["email"] == "demo@example.com"


def test_faults_of_the_connection_work_under_tls(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path, tls=True) as sandbox:
        key = {"x-api-key": sandbox.account()["api_key"]}
        for fault in ("answer_lost_after_commit", "reset_after", "truncated"):
            sandbox.faults([{"on": "read", "fault": fault}])
            with pytest.raises((requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
                _post(f"{sandbox.url}/users/account-details", {}, key, verify=str(sandbox.ca_path))
        assert _post(f"{sandbox.url}/users/account-details", {}, key, str(sandbox.ca_path))["status"] == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_any_address_but_loopback_is_refused(tmp_path: Path, host: str) -> None:
    done = _run("--state", str(tmp_path / "state"), "--host", host)
    assert done.returncode == 2
    assert "loopback only" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "state").exists()


def test_an_account_that_is_none_is_refused_without_repeating_it(tmp_path: Path) -> None:
    done = _run("--state", str(tmp_path), "--account", "hunter2")
    assert done.returncode == 2
    assert "EMAIL:PASSWORD" in done.stderr
    assert "hunter2" not in done.stderr


def test_by_hand_it_says_how_to_use_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.sandbox", "--state", str(tmp_path), "--banner", "--tls"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        context = ssl.create_default_context(cafile=ready["ca_path"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(ready["control"] + "/accounts", timeout=PATIENCE) as answer:
            (account,) = json.load(answer)
        process.send_signal(signal.SIGINT)
        rest, banner = process.communicate(timeout=PATIENCE)
    assert ready["pid"] == process.pid
    assert process.returncode == 0
    assert rest == ""
    assert (account["email"], account["password"]) == ("demo@example.com", "rehearsal")
    for line in (
        f"export MULTICART_API_URL='{ready['url']}'",
        "export MULTICART_EMAIL='demo@example.com'",
        "export MULTICART_PASSWORD='rehearsal'",
        f"export MULTICART_CA_PATH='{ready['ca_path']}'",
        "curl ",
    ):
        assert line in banner


def test_no_password_is_shown_by_ps(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path, accounts=[("a@example.com", "hunter2")]) as sandbox:
        command_line = Path(f"/proc/{sandbox.pid}/cmdline")
        if not command_line.exists():
            pytest.skip("no /proc here")
        assert "tests.sandbox" in command_line.read_text()
        assert "hunter2" not in command_line.read_text()


def test_a_proxy_in_the_environment_is_not_used_for_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Sandbox.start(tmp_path) as sandbox:
        assert sandbox.account()["email"] == "demo@example.com"


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path / "one") as sandbox, pytest.raises(SandboxError, match="in use"):
        Sandbox.start(tmp_path / "two", port=sandbox.port)


@pytest.mark.parametrize("thread", [False, True], ids=["main thread", "another thread"])
def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path, thread: bool) -> None:
    source = f"""
import sys, threading, time
from tests.sandbox.handle import Sandbox
def start():
    print(Sandbox.start({str(tmp_path)!r}).pid, flush=True)
if {thread}:
    starter = threading.Thread(target=start)
    starter.start()
    starter.join()
else:
    start()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        time.sleep(0.7)
        # The thread that started it has ended by now; the server must not have ended with it.
        os.kill(server, 0)
        parent.kill()
    assert eventually(lambda: is_gone(server))
