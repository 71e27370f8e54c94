# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a store answers, or its program prints, takes a bounded part of the control node's memory and time."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import programs, serve
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.programs import Program
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    LONGEST,
    NO_CONTROL_NODE,
    StoreError,
    open_store,
    resolve,
)

from tests.conftest import COLLECTIONS_PATH
from tests.stores.http_api import Answer, HttpApi, Request
from tests.stores.other_apis import AzureSecret
from tests.stores.talk import Talk


class Flood(HttpApi):
    """Answers everything with the same."""

    said = Answer(200)

    def answer(self, request: Request) -> Answer:
        return self.said

    def failure(self, status: int, message: str) -> Answer:
        return Answer(status, message)


@pytest.fixture
def flood() -> Iterator[Flood]:
    made = Flood()
    yield made
    made.stop()


ENTRIES: dict[str, dict[str, Any]] = {
    "awx_credential": {"url": "URL", "name": "x", "token": "x"},
    "consul_kv": {"url": "URL", "key": "x", "token": "x"},
    "etcd": {"url": "URL", "key": "x"},
    "gcp_secret_manager": {"endpoint": "URL", "project": "x", "name": "x", "access_token": "x"},
    "github_secret": {"api_url": "URL", "repository": "x/y", "token": "x"},
    "gitlab_variable": {"api_url": "URL", "project": "x/y", "token": "x"},
    "vault_kv2": {"url": "URL", "path": "x", "token": "x"},
    "aws_ssm": {"endpoint_url": "URL", "name": "x", "region": "x", "access_key_id": "x", "secret_access_key": "x"},
}

PACKED = Answer(200, gzip.compress(b" " * 2 * LONGEST), {"Content-Encoding": "gzip"})


def refused(kind: str, entry: dict[str, Any]) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(kind, resolve(kind, entry, NO_CONTROL_NODE)).inspect()
    return caught.value.reason


@pytest.mark.parametrize("said", [Answer(200, b" " * (LONGEST + 1)), Answer(500, b" " * (LONGEST + 1)), PACKED])
@pytest.mark.parametrize("kind", [kind for kind in ENTRIES if kind != "aws_ssm"])
def test_an_answer_is_read_up_to_a_limit(flood: Flood, kind: str, said: Answer) -> None:
    flood.said = said
    entry = {name: flood.url if value == "URL" else value for name, value in ENTRIES[kind].items()}
    assert refused(kind, entry) == "store_malformed"
    assert {request.headers["Accept-Encoding"] for request in flood.requests} == {"identity"}


def test_an_answer_of_azure_is_read_up_to_a_limit(tmp_path: Path) -> None:
    backend = AzureSecret(tmp_path)
    backend.api.answer = lambda request: PACKED
    try:
        assert refused(backend.kind, backend.entry) == "store_malformed"
    finally:
        backend.stop()


def test_what_boto3_cannot_unpack_is_malformed(flood: Flood) -> None:
    flood.said = Answer(200, b"\xff\xfe\x1f\x8b")
    assert refused("aws_ssm", {**ENTRIES["aws_ssm"], "endpoint_url": flood.url}) == "store_malformed"


# --- memory ---------------------------------------------------------------------------------------

TOO_MUCH = """
import sys, time
sys.path[:] = {path!r}
from {module} import StoredKey, _Asked, _limit_memory
asked = _Asked(StoredKey({{"type": "command", "path": "x", "options": {{}}}}))
_limit_memory(200 << 20)
_limit_memory(900 << 20)
for size in (300, 50):
    asked.begin(lambda stored: None if bytearray(size << 20) else None)
    print((asked.end(time.monotonic() + 60) or {{"reason": None}})["reason"])
"""


def test_what_takes_too_much_memory_is_malformed_and_the_rest_goes_on() -> None:
    script = TOO_MUCH.format(path=[str(COLLECTIONS_PATH), *sys.path], module=serve.__name__)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["store_malformed", "None"]


def test_the_stacks_of_the_threads_leave_the_stores_their_memory_whatever_the_user_has_set(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text('#!/bin/sh\necho \'{"fingerprint": null, "record": null, "writable": true}\'\n')
    answer.chmod(0o755)
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (min(2 * serve.MEMORY, hard) if hard > 0 else 2 * serve.MEMORY, hard))
    try:
        talk = Talk(
            "command", {"label": "x", **dict.fromkeys(("inspect", "write", "note"), [str(answer)])}, NO_CONTROL_NODE
        )
        assert talk.inspect()["problem"] is None
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))
    talk.end()


def test_the_process_of_the_stores_has_a_limit_and_what_it_starts(tmp_path: Path) -> None:
    (tmp_path / "inspect").write_text(
        f'#!/bin/sh\nulimit -d >{tmp_path}/limit\necho \'{{"fingerprint": null, "record": null, "writable": true}}\'\n'
    )
    (tmp_path / "inspect").chmod(0o755)
    words = [str(tmp_path / "inspect")]
    talk = Talk("command", {"label": "x", "inspect": words, "write": words, "note": words}, NO_CONTROL_NODE)
    assert talk.inspect()["problem"] is None
    process = talk.session._process
    assert process is not None
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
    talk.end()
    assert soft == serve.MEMORY + serve.MEMORY_PER_STORE
    assert hard == resource.getrlimit(resource.RLIMIT_DATA)[1]
    assert int((tmp_path / "limit").read_text()) == soft // 1024


# --- programs -------------------------------------------------------------------------------------


def test_a_program_that_prints_without_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match="its inspect prints more than 64 KiB") as caught:
        Program("its inspect", ["yes"], 64 * 1024).run(b"")
    assert caught.value.reason == "store_malformed"
    assert time.monotonic() - began < 5


def test_what_a_program_leaves_running_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LAST_WORDS", 0.2)
    began = time.monotonic()
    assert Program("it", ["sh", "-c", "sleep 4 & echo said"], 100).run(b"") == (0, b"said\n")
    assert time.monotonic() - began < 3


def test_a_program_reads_and_prints_at_the_same_time_or_neither() -> None:
    data = os.urandom(1024 * 1024)
    assert Program("it", ["cat"], len(data)).run(data) == (0, data)
    assert Program("it", ["false"], 100).run(data) == (1, b"")


def test_a_program_that_hangs_is_ended_in_time() -> None:
    with pytest.raises(StoreError, match="it did not end within 0.1 s") as caught:
        Program("it", ["sleep", "60"], 100, seconds=0.1).run(b"")
    assert caught.value.reason == "timed_out"


def test_a_program_has_no_credential_of_the_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTICART_SESSION_TOKEN", "canary")
    status, printed = Program("it", ["env"], 64 * 1024, environment={"OWN": "1"}).run(b"")
    assert (status, b"OWN=1\n" in printed, b"canary" in printed) == (0, True, False)
    assert "canary" not in repr(Program("it", [], 1, environment={"OWN": "canary"}))
