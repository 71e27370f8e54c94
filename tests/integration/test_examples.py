# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every example of the documentation is taken out of it and run; what cannot be run here is only checked, see below."""

from __future__ import annotations

import ast
import getpass
import grp
import importlib
import json
import os
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.awx import collection
from tests.integration.harness import UNREACHABLE, Fleet, Run
from tests.unit.docs import rst

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("roles/*/README.md"))]
PAGES += [ROOT / "tests/sandbox/README.md", *sorted(ROOT.glob("extensions/**/README.md"))]
PLUGINS = [path for path in sorted((ROOT / "plugins").rglob("*.py")) if 'EXAMPLES = r"""' in path.read_text("utf-8")]

AWX_ROLE = "it needs an AWX; test_awx_role.py runs the role against a stand-in"
# Commands that are only looked at by bash, by their first words, with the reason.
NOT_RUN = {
    "make demo": ".ci/run runs it",
    "ansible multicart_consumers": "it needs hosts of these names",
    "read -rs": "it waits for somebody to type",
    "make build": "tests/unit/tools/test_release.py builds and installs the tarball",
    "ansible-galaxy collection install .cache/dist": "tests/unit/tools/test_release.py builds and installs the tarball",
    "make release": "tests/unit/tools/test_release.py makes releases",
    "ansible-galaxy collection install multicart.keys": "it needs Galaxy",
    "ansible-galaxy collection install 'awx.awx": "it needs Galaxy",
    "ansible-playbook multicart.keys.awx": AWX_ROLE,
    "python3 -m pip install": "it needs a package index",
    "$ python -m pip install -r tests/sandbox": "it needs a package index",
    "$ python -m tests.sandbox": "tests/unit/sandbox runs it",
    "$ curl": "tests/unit/sandbox sends it",
}
# Plays of which Ansible checks the syntax only.
NOT_PLAYED = {"docs/docsite/rst/awx.rst": AWX_ROLE}
# What is only exported, and read where the commands after it are run.
EXPORTED = {"MULTICART_EMAIL", "MULTICART_PASSWORD", "CONTROLLER_HOST", "CONTROLLER_OAUTH_TOKEN"}
EXPORTED |= {"ANSIBLE_STRATEGY", "ANSIBLE_STRATEGY_PLUGINS"}  # test_over_mitogen.py sets them


@dataclass(frozen=True)
class Example:
    """One piece of code in the documentation."""

    place: str
    language: str
    text: str

    @property
    def data(self) -> Any:
        return yaml.safe_load(self.text)


def examples() -> Iterator[Example]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            yield Example(f"{page.relative_to(ROOT)}:{line}", match[2], textwrap.dedent(match[3]))
    for page in rst.PAGES:
        for line, language, code in rst.codes(page.read_text(encoding="utf-8")):
            example = Example(f"{page.relative_to(ROOT)}:{line}", language, code)
            if language == "shell" or (language == "yaml" and isinstance(example.data, list)):
                yield example  # tests/unit/docs holds all of the others against what they are for
    for plugin in PLUGINS:
        text = plugin.read_text(encoding="utf-8").split('EXAMPLES = r"""')[1].split('"""')[0]
        yield Example(str(plugin.relative_to(ROOT)), "yaml", text)


EVERY = list(examples())
YAML = [example for example in EVERY if example.language == "yaml"]
SHELL = [example for example in EVERY if example.language in ("shell", "console")]
PLAYS = [example for example in YAML if isinstance(example.data, list)]
PYTHON = [example for example in EVERY if example.language == "python"]
(INVENTORY,) = (example for example in YAML if "multicart_consumers" in example.data)
VARIABLES = [example for example in YAML if isinstance(example.data, dict) and example is not INVENTORY]


def test_every_example_has_a_language_that_is_run_here() -> None:
    assert {example.language for example in EVERY} == {"yaml", "shell", "console", "python"}
    assert len(PLAYS) > 6 and len(PLUGINS) > 6
    of_site = [example for example in EVERY if ".rst:" in example.place]
    in_readmes = len(EVERY) - len(of_site) - len(PLUGINS)
    assert sum(page.read_text("utf-8").count("```") for page in PAGES) == 2 * in_readmes


class Stage:
    """A fleet that looks like the one in the examples: its paths are on the fleet's hosts, its users are this one."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.log = fleet.folder / "hosts" / "commands"
        tools = fleet.folder / "tools"
        tools.mkdir()
        for name in ("systemctl", "service", "rc-service", "curl"):
            shown = r"LoadState=loaded\nActiveState=active\n"  # what Ansible's own module asks for
            said = f'#!/bin/sh\necho {name} "$@" >>{self.log}\n[ "$1" != show ] || printf "{shown}"\n'
            (tools / name).write_text(said)
            (tools / name).chmod(0o755)
        fleet.env["PATH"] = f"{tools}:{os.environ['PATH']}"
        # The hosts are this machine: facts would have the controller's environment, and with it the token.
        fleet.env["ANSIBLE_GATHERING"] = "explicit"
        fleet.env["ANSIBLE_COLLECTIONS_PATH"] = f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{collection.COLLECTIONS}"
        (fleet.folder / "myapp-config.json.j2").write_text('{"key": "{{ multicart_key }}"}\n')

    def translate(self, text: str) -> str:
        """Return the example with its absolute paths below each host's own folder, and no users that are not here."""
        text = text.replace("/.env", "/worker.env")  # in hidden files the harness searches for secrets
        for path in set(re.findall(r"path: (/[\w./-]+)", text)):
            for host in self.fleet.hosts.values():
                place = host.folder / path.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                if place.name == "worker.env":
                    place.write_text("WORKER_API_KEY=changeme\n")
        text = re.sub(r"(path): (/[\w./-]+)", r'\1: "{{ home }}\2"', text)
        text = re.sub(r"owner: \w+", f"owner: {getpass.getuser()}", text)
        return re.sub(r"group: \w+", f"group: {grp.getgrgid(os.getgid()).gr_name}", text)

    def run(self, example: Example, *arguments: str) -> Run:
        content = yaml.safe_load(self.translate(example.text))
        if not any("hosts" in item for item in content):
            content = self._play_of(content)
        for play in content:  # whatever this machine runs on
            play["module_defaults"] = {"ansible.builtin.service": {"use": "systemd"}}
        path = self.fleet.folder / "example.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return self.fleet.run(str(path), "-e", "multicart_rotate_confirm=true", "-e", "multicart_hosts=all", *arguments)

    @staticmethod
    def _play_of(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return a play of the tasks, with what they take for granted: handlers, and that the hosts take part."""
        handlers = [{"name": task["notify"], "ansible.builtin.debug": None} for task in tasks if "notify" in task]
        first = {"multicart.keys.multicart_host": {"phase": "join"}}
        return [{"hosts": "all", "gather_facts": False, "tasks": [first, *tasks], "handlers": handlers}]


@pytest.fixture
def stage(fleet: Fleet) -> Stage:
    return Stage(fleet)


@pytest.mark.parametrize("example", PLAYS, ids=lambda example: example.place)
def test_plays_and_tasks(stage: Stage, example: Example) -> None:
    stage.fleet.add_many(2)
    stage.fleet.groups["web"] = ["web1", "web2"]
    stage.fleet.groups["multicart_consumers"] = ["web1", "web2"]
    if example.place.split(":")[0] in NOT_PLAYED:
        run = stage.run(example, "--syntax-check")
        assert run.green, run
        return
    run = stage.run(example)
    assert run.green, run
    assert {task.host for task in run.tasks} >= ({"web1", "web2"} if run.tasks else set())


@pytest.mark.parametrize("example", VARIABLES, ids=lambda example: example.place)
def test_variables(stage: Stage, example: Example) -> None:
    """Rotate with these variables; the file is in the folder of the fleet, and the programs leave that they ran."""
    assert all(name.startswith("multicart_report_") for name in example.data)
    metrics = stage.fleet.folder / Path(example.data["multicart_report_metrics"]).name
    hooks = example.data["multicart_report_hooks"]
    for hook in hooks:
        program = stage.fleet.folder / "tools" / hook["command"][0]
        program.write_text(f'#!/bin/sh\necho {program.name} "$@" >>{stage.log}\n')
        program.chmod(0o755)
    stage.fleet.add("web1")
    run = stage.fleet.rotate("-e", json.dumps({**example.data, "multicart_report_metrics": str(metrics)}))
    assert run.green and metrics.exists(), run
    ran = [" ".join(hook["command"]) for hook in hooks if "change" in hook["events"]]
    assert stage.log.read_text().splitlines() == ran


@pytest.fixture
def documented(stage: Stage) -> Fleet:
    """The fleet of the README's inventory, to which the key has been brought."""
    fleet = stage.fleet
    for name in INVENTORY.data["multicart_consumers"]["hosts"]:
        fleet.add(name)
    variables = INVENTORY.data["multicart_consumers"]["vars"]
    fleet.variables.update(yaml.safe_load(stage.translate(yaml.safe_dump(variables))))
    for host in fleet.hosts.values():
        del host.variables["multicart_deploy_files"]
        host.env.unlink()
    run = fleet.deploy()
    assert run.green, run
    assert all((host.folder / "etc/myapp/env").read_text().count(fleet.live) == 1 for host in fleet.hosts.values())
    said = stage.log.read_text()
    assert said.count("restart myapp") + said.count("myapp restart") == 2 and said.count("curl --fail") == 2
    return fleet


def table() -> dict[str, list[str]]:
    """Return the commands of the page about playbooks, by the comments above them."""
    text = next(rst.codes(rst.sections(rst.read("playbooks"))["Commands"]))[2].replace("\\\n", " ")
    return {what: shlex.split(command) for what, command in re.findall(r"^# (.*)\n(ansible-.*)$", text, re.MULTILINE)}


def play(fleet: Fleet, command: list[str]) -> Run:
    assert command[:3] == ["ansible-playbook", "-i", "inventory.yml"]
    return fleet.run(*(word.replace("FINGERPRINT", fleet.live_fingerprint) for word in command[3:]))


def test_the_commands_of_the_page_about_playbooks(documented: Fleet) -> None:
    commands = table()
    assert len(commands) >= 8
    rotated, down = [], []
    for what, command in commands.items():
        before = documented.rotations
        excluded = [name for name in documented.hosts if f"!{name}" in str(command)]
        for name in excluded:
            documented.hosts[name].variables.update(UNREACHABLE)
        run = play(documented, command)
        assert run.green, run
        assert documented.stale == excluded
        down += excluded
        for name in excluded:
            documented.hosts[name].variables = {}
        if documented.rotations != before:
            rotated.append(what.split(":")[0].split(" ")[0])
    assert down == ["web2.example.com"]
    assert rotated == ["rotate", "retire", "rotate"]


def lines(example: Example) -> list[str]:
    """Return the commands of an example; what stands under a prompt is what it prints."""
    text = re.sub(r"^#.*\n", "", example.text, flags=re.MULTILINE).replace("\\\n", " ")
    return [line for line in text.splitlines() if line and (example.language == "shell" or line.startswith("$ "))]


def reason_not_to_run(command: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), None)


@pytest.mark.parametrize("example", SHELL, ids=lambda example: example.place)
def test_shell(request: pytest.FixtureRequest, example: Example) -> None:
    for command in lines(example):
        subprocess.run(["bash", "-n", "-c", command.removeprefix("$ ")], check=True)
        if reason_not_to_run(command) or shlex.split(command) in table().values():  # those are run together, above
            continue
        if command.startswith("ansible-playbook"):
            run = play(request.getfixturevalue("documented"), shlex.split(command))
            assert run.green, run
        elif command.startswith("export "):
            names = re.findall(r"(\w+)=", command)
            assert set(names) <= EXPORTED, names
        elif command.startswith("cp -R ~/.ansible/collections/"):
            copy(command, request.getfixturevalue("tmp_path"))
        else:
            pytest.fail(f"{command!r} is neither run nor listed with a reason")


def copy(command: str, home: Path) -> None:
    """Run a command that copies from the collection, as if it was installed in a home."""
    (home / ".ansible").mkdir()
    (home / ".ansible" / "collections").symlink_to(os.environ["ANSIBLE_COLLECTIONS_PATH"])
    subprocess.run(["bash", "-c", command], cwd=home, env={**os.environ, "HOME": str(home)}, check=True)
    copied = home / shlex.split(command)[-1]
    assert (copied / "rotate.yml").exists() and (copied / "collections" / "requirements.yml").exists()


@pytest.mark.parametrize("example", PYTHON, ids=lambda example: example.place)
def test_python(example: Example) -> None:
    """What is imported is there; the rest is the reader's own."""
    tree = ast.parse(example.text)
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        assert not [name.name for name in node.names if not hasattr(module, name.name)]


def test_every_reason_not_to_run_is_needed() -> None:
    assert set(NOT_PLAYED) <= {example.place.split(":")[0] for example in PLAYS}
    commands = [command for example in SHELL for command in lines(example)]
    assert not [start for start in NOT_RUN if not any(command.startswith(start) for command in commands)]
