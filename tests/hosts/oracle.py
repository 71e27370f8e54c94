# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is really so, found out without any code of the collection.

Root reads the environment of every process, every service is asked which key it uses, every file is read, every store
by a client of its own, and the API is asked with every key that it ever gave out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import requests

from tests.hosts.fleet import RealHost, noted_as
from tests.integration.harness import fingerprint
from tests.sandbox.handle import Sandbox
from tests.stores.backends import Backend

API = "the API"
# Which keys each process has in its environment, and what the services at the sockets say that they use.
_LOOK = """
import hashlib, json, os, re, socket, sys
processes, answers = [], {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        pieces = open("/proc/" + pid + "/environ", "rb").read().split(b"\\0")
        words = open("/proc/" + pid + "/cmdline", "rb").read().decode("utf-8", "replace").split("\\0")
    except OSError:
        continue
    values = [piece.partition(b"=")[2] for piece in pieces]
    keys = [value for value in values if re.fullmatch(rb"[A-Za-z0-9]+\\.[A-Za-z0-9]{8,}", value)]
    processes.append([" ".join(words[:5]).strip(), [hashlib.sha256(key).hexdigest()[:16] for key in keys]])
for name in sys.argv[1:]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(2)
    try:
        client.connect("/run/app/" + name + ".sock")
        answers[name] = client.recv(100).decode().partition("ok ")[2]
    except OSError as error:
        answers[name] = "no answer: " + str(error)
print(json.dumps([processes, answers]))
"""


@dataclass
class Uses:
    """What uses the key on a host.

    :ivar serve: the services that answer which key they use.
    :ivar unseen: those of them that do not have it in their environment.
    :ivar ran: those that have noted which key they used, and ended.
    :ivar files: that hold the key.
    """

    serve: list[str]
    unseen: Sequence[str] = ()
    ran: Sequence[str] = ()
    files: Sequence[str] = field(default=())


def wrong_on(host: RealHost, uses: Uses, live: str, former: Sequence[str]) -> list[str]:
    """Return what of a host does not use the live key, or uses another one; empty: nothing."""
    if not host.is_on:
        return ["it is off"]
    names = [noted_as(name) for name in uses.serve]
    processes, answers = json.loads(host.run(f"python3 - {' '.join(names)}", _LOOK))
    key = fingerprint(live)
    found = [f"the process {words} has {held}" for words, keys in processes for held in keys if held != key]
    found += [f"{name} uses {answer}" for name, answer in answers.items() if answer != key]
    for name in names:
        held = [keys for words, keys in processes if f" serve {name} " in f"{words} "]
        if name not in uses.unseen and [key] not in held:
            found.append(f"no process of {name} has the live key in its environment: {held}")
    found += [
        f"{name} used {host.app(name)['fingerprint']}" for name in uses.ran if host.app(name)["fingerprint"] != key
    ]
    for path in uses.files:
        text = host.run(f"[ -f {path} ] && cat {path} || true")
        found += [f"{path} is without the live key"] * (live not in text)
        found += [f"{path} holds {fingerprint(old)}" for old in former if old in text]
    return found


def wrong_in(store: Backend, live: str) -> list[str]:
    """Return what is wrong with a store; empty: nothing."""
    try:
        held = store.value()
    except Exception as error:  # whatever its client raises
        return [f"it cannot be read: {type(error).__name__}"]
    return [] if held == live else [f"it holds {fingerprint(held) if held else 'no key'}"]


def wrong_with(sandbox: Sandbox, live: str, former: Sequence[str]) -> list[str]:
    """Return which keys the API accepts or rejects wrongly; empty: none."""
    found = [] if _accepts(sandbox, live) else ["it rejects the live key"]
    return found + [f"it accepts {fingerprint(key)}" for key in former if _accepts(sandbox, key)]


def _accepts(sandbox: Sandbox, key: str) -> bool:
    url = f"{sandbox.url}/users/account-details"
    answer = requests.post(url, json={}, headers={"x-api-key": key}, timeout=10, proxies={"http": ""})
    return answer.status_code == 200 and answer.json()["status"] == 1


def only_wrong(found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {name: sentences for name, sentences in found.items() if sentences}
