# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Planted leaks: every sink is known to be able to fail, and every form of a secret is recognised.

They are also the ways in which a playbook can still give a secret away, which no collection can prevent.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.leaks.canaries import PIECE, Canaries, forms
from tests.leaks.conftest import new_password
from tests.leaks.watched import ARMED, LOUD, PLAIN, RUNNER, Leak, Style, Watched
from tests.sandbox.handle import Sandbox

# Long enough to be seen from outside: a scan of all processes has begun and ended meanwhile.
SHORT = "for scan in 1 2; do rm -f SCANNED; until [ -e SCANNED ]; do sleep 0.01; done; done"


@dataclass(frozen=True)
class Plant:
    """A leak, and the sink in which it must be found.

    :ivar task: what leaks: ``SECRET`` stands for the secret, ``HOME`` for the folder of the fleet, ``HOST`` for that
        of the host, ``TMP`` for the temporary folder, ``SCANNED`` for a file that each scan of the processes makes.
    :ivar script: of a shell on the host, instead.
    :ivar head: a line of the play, instead.
    :ivar source: where exactly, if there are several in one sink.
    """

    sink: str
    task: str = ""
    script: str = ""
    head: str = ""
    source: str = ""
    style: Style = PLAIN

    @property
    def yaml(self) -> str:
        return "- " + (self.task or "ansible.builtin.command: sh FILE")


COPY = 'ansible.builtin.copy: {content: "SECRET", dest: "%s", mode: "0600"}\n  no_log: true'
PLANTS = {
    "debug-on-stdout": Plant("output", 'ansible.builtin.debug: {msg: "it is SECRET"}'),
    "task-name": Plant("output", "ansible.builtin.debug:\n  name: about SECRET"),
    "failure": Plant("output", 'ansible.builtin.fail: {msg: "SECRET"}\n  ignore_errors: true', style=LOUD),
    "environment-keyword-when-loud": Plant(
        "output", 'ansible.builtin.command: "true"\n  no_log: true\n  environment: {MY_KEY: SECRET}', style=LOUD
    ),
    "diff": Plant("output", 'ansible.builtin.copy: {content: "it is SECRET", dest: "HOME/shown", mode: "0600"}'),
    "log": Plant("log_path", 'ansible.builtin.debug: {msg: "it is SECRET"}'),
    "junit": Plant("junit", 'ansible.builtin.debug: {msg: "it is SECRET"}'),
    "result": Plant("results given to callbacks", 'ansible.builtin.set_fact: {shown: "SECRET"}'),
    "arguments-of-a-task-despite-no-log": Plant(
        "tasks given to callbacks", 'ansible.builtin.debug: {msg: "SECRET"}\n  no_log: true'
    ),
    "variables-of-a-task": Plant("tasks given to callbacks", 'ansible.builtin.meta: noop\n  vars: {mine: "SECRET"}'),
    "variables-of-a-play": Plant("plays given to callbacks", head='vars: {mine: "SECRET"}'),
    "fact": Plant("variables", 'ansible.builtin.set_fact: {mine: "SECRET"}\n  no_log: true'),
    "fact-cache": Plant("fact cache", 'ansible.builtin.set_fact: {mine: "SECRET", cacheable: true}\n  no_log: true'),
    "artifacts": Plant("artifacts", 'ansible.builtin.debug: {msg: "it is SECRET"}', style=RUNNER),
    "statistics": Plant(
        "artifacts", 'ansible.builtin.set_stats: {data: {mine: "SECRET"}}\n  no_log: true', style=RUNNER
    ),
    "syslog": Plant("syslog", 'ansible.builtin.stat: {path: "/SECRET"}\n  no_log: false'),
    "argument-seen-by-python": Plant(
        "arguments", 'ansible.builtin.command: {argv: ["true", "SECRET"]}\n  no_log: true', source="spy"
    ),
    "argument-seen-in-proc": Plant("arguments", script=f"sh -c '{SHORT}; :' SECRET", source="processes"),
    "argument-on-a-host-over-ssh": Plant(
        "arguments", script=f"sh -c '{SHORT}; :' SECRET", source="processes", style=ARMED
    ),
    "argument-of-an-ssh-client": Plant(
        "arguments", f'ansible.builtin.raw: "{SHORT}; : SECRET"\n  no_log: true', source="processes", style=ARMED
    ),
    "environment-on-a-host-over-ssh": Plant(
        "environment", script=f"MINE=SECRET sh -c '{SHORT}; :'", source="processes", style=ARMED
    ),
    "environment-seen-in-proc": Plant("environment", script=f"MINE=SECRET sh -c '{SHORT}; :'", source="processes"),
    "environment-seen-by-python": Plant(
        "environment",
        "ansible.builtin.debug: {msg: \"{{ lookup('ansible.builtin.pipe', 'sh FILE') }}\"}",
        source="spy",
        script="MINE=SECRET PYTHON -c pass",
    ),
    "credential-on-a-host": Plant(
        "environment", script=f"MULTICART_SESSION_TOKEN=TOKEN sh -c '{SHORT}; :'", source="processes"
    ),
    "file-in-the-home-folder": Plant("files left", COPY % "HOME/home/left"),
    "file-in-the-project": Plant("files left", COPY % "HOME/left"),
    "file-in-the-temporary-folder": Plant("files left", COPY % "TMP/left"),
    "file-in-the-shared-temporary-folder": Plant("files left", COPY % "/tmp/multicart-RANDOM"),
    "name-of-a-file": Plant("files left", 'ansible.builtin.file: {path: "HOME/SECRET", state: touch, mode: "0600"}'),
    "file-beside-the-environment-file": Plant("files on the hosts", COPY % "HOST/app.env.bak"),
    # The last task, as the tree holds the last result of a host.
    "tree": Plant("tree", 'ansible.builtin.debug: {msg: "it is SECRET"}'),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_a_planted_leak_is_found(plant: Plant, found: Callable[[Plant], list[Leak]]) -> None:
    assert [leak for leak in found(plant) if leak.sink == plant.sink and leak.where.startswith(plant.source)]


@pytest.fixture(scope="module")
def found(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Plant], list[Leak]]]:
    """What was found of a plant. One run for each style has all its plants, each with a secret of its own."""
    made: dict[str, tuple[Watched, list[Leak], dict[Plant, str]]] = {}

    def find(plant: Plant) -> list[Leak]:
        name = plant.style.name
        if name not in made:
            made[name] = _run_all(sandbox, tmp_path_factory.mktemp(name), plant.style)
        _fleet, leaks, names = made[name]
        return [leak for leak in leaks if leak.what.startswith(names[plant] + ",")]

    yield find
    for fleet, _leaks, _names in made.values():
        fleet.close()
        for path in Path("/tmp").glob("multicart-leak-*"):
            path.unlink()


def _run_all(sandbox: Sandbox, folder: Path, style: Style) -> tuple[Watched, list[Leak], dict[Plant, str]]:
    account = sandbox.add_account(f"{secrets.token_hex(4)}@example.com", new_password())
    fleet = Watched(sandbox, folder, account, style=style)
    host = fleet.add("web1")
    token = fleet.env["MULTICART_SESSION_TOKEN"]
    names, tasks, heads = {}, [], []
    for number, plant in enumerate(plant for plant in PLANTS.values() if plant.style is style):
        secret = secrets.token_urlsafe(24).replace("-", "x")
        known = {
            "SECRET": secret,
            "TOKEN": token,
            "RANDOM": f"leak-{secrets.token_hex(4)}",
            "HOME": str(folder),
            "HOST": str(host.folder),
            "TMP": str(fleet.tmp),
            "SCANNED": str(fleet.scanned),
            "PYTHON": sys.executable,
            "FILE": str(folder / f"play-script-{number}.yml"),
        }
        fleet.secrets[f"plant {number}"] = secret
        names[plant] = "token 1" if "TOKEN" in plant.script else f"plant {number}"
        (folder / f"play-script-{number}.yml").write_text(_filled(plant.script, known) + "\n")
        (heads if plant.head else tasks).append(_filled(plant.head or plant.yaml, known))
    run = fleet.play("\n".join(tasks), head="\n".join(heads))
    assert run.green, run
    return fleet, fleet.leaks(), names


def _filled(text: str, known: dict[str, str]) -> str:
    for word, value in known.items():
        text = text.replace(word, value)
    return text


SECRETS = {
    "a key": f"abc1234.{secrets.token_urlsafe(30)}",
    "a token": secrets.token_hex(20),
    "a password": new_password(),
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_every_form_of_a_secret_is_recognised(secret: str) -> None:
    canaries = Canaries({"it": secret})
    for name, form in forms(secret):
        assert canaries.found_in(f'so: "{form}".'), name
        assert canaries.found_in(f"{form[: len(form) // 2]}\n".encode()), f"half of it, {name}"
    assert canaries.found_in(secret[-PIECE - 4 :])


def test_two_characters_before_an_entity_are_no_piece_of_a_password() -> None:
    """``d0&quot;`` is in every escaped JSON with a fingerprint, and at the end of many a password's half."""
    canaries = Canaries({"it": "Xy_3d0\"'&<abcdefgh"})
    assert not canaries.found_in("&quot;held&quot;: &quot;5df817d3c1cbe1d0&quot;,")
    assert canaries.found_in("so: &quot;3d0&quot;&#x27;&amp;&lt;a&quot;")


def test_hexadecimal_digits_that_are_in_many_an_id_are_no_piece_of_a_key() -> None:
    """In lower case, one key in a hundred has eight of them in a row."""
    canaries = Canaries({"it": "abc1234.XyzDEADbeefXyzQrs"})
    assert not canaries.found_in("__CURSOR=s=0123deadbeef4567;i=1")
    assert canaries.found_in("so: XyzDEADbeefX") and canaries.found_in("so: deadbeefxyzq")


def test_secrets_that_begin_alike_are_all_searched_for() -> None:
    """As the keys of one account do; the one was once taken for the other."""
    keys = [f"abc1234.{secrets.token_urlsafe(30)}" for _number in range(2)]
    canaries = Canaries.of(keys)
    assert [bool(canaries.found_in(key)) for key in keys] == [True, True]


@pytest.mark.parametrize("shown", ["abc1234.", "abc1234.••••••••••••••••", "0123456789abcdef", ""])
def test_what_may_be_shown_is_no_leak(shown: str) -> None:
    assert not Canaries({"it": SECRETS["a key"]}).found_in(f"the key {shown} is live")
