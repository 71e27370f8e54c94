# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image in which AWX runs jobs: ansible-builder finds what the collection needs, and plans to install just that.

Building the image takes a container engine and the network; all steps before that are run as ansible-builder does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "roles" / "multicart_awx" / "files" / "execution-environment.yml"
BIN = Path(sys.executable).parent
REQUESTS = "'requests  # from collection multicart.keys'"


def run(*command: object, cwd: Path = ROOT) -> str:
    """Run a command, away from the collections and the configuration of this machine, and return what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**env, "HOME": str(cwd), "LC_ALL": "C.UTF-8", "PATH": f"{BIN}{os.pathsep}{env['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("ansible-galaxy", "collection", "build", "--output-path", folder)
    (path,) = folder.glob("*.tar.gz")
    return path


def create(definition: Path) -> Path:
    """Make the build context, as ``ansible-builder build`` does first."""
    context = definition.parent / "context"
    run("ansible-builder", "create", "--file", definition, "--context", context, cwd=definition.parent)
    return context


def test_it_installs_a_python_and_an_ansible_that_the_collection_supports(tmp_path: Path) -> None:
    context = create(Path(shutil.copy(DEFINITION, tmp_path)))
    (path,) = (path for name in ("Containerfile", "Dockerfile") if (path := context / name).exists())
    said = dict(
        line[4:].split("=", 1) for line in path.read_text().splitlines() if line.startswith("ARG ") and "=" in line
    )
    assert said["EE_BASE_IMAGE"] == '"quay.io/centos/centos:stream9"'
    assert (said["PYPKG"], said["PYCMD"]) == ('"python3.12"', '"/usr/bin/python3.12"')
    core, runner = (Requirement(word) for word in said["ANSIBLE_INSTALL_REFS"].strip('"').split())
    assert (core.name, runner.name) == ("ansible-core", "ansible-runner")
    oldest = min(Version(one.version) for one in core.specifier)
    assert oldest in SpecifierSet(load(ROOT / "meta" / "runtime.yml")["requires_ansible"])
    assert Version("2.4.3") in runner.specifier
    assert (context / "_build" / "bindep.txt").read_text().split() == ["openssh-clients", "[platform:rpm]"]


def test_it_installs_this_version_of_the_collection() -> None:
    (named,) = load(DEFINITION)["dependencies"]["galaxy"]["collections"]
    assert named["name"] == "multicart.keys"
    assert Version(load(ROOT / "galaxy.yml")["version"]) in SpecifierSet(named["version"])


def test_from_the_tarball_it_installs_what_the_collection_needs(tarball: Path, tmp_path: Path) -> None:
    """Follow the advice at the end of the definition, then run the steps that the image would be built by."""
    text = DEFINITION.read_text(encoding="utf-8")
    advice = yaml.safe_load(text.partition("# Or, with the tarball")[2].partition("\n")[2].replace("# ", ""))
    definition = yaml.safe_load(text)
    definition["dependencies"]["galaxy"] = advice.pop("galaxy")
    path = tmp_path / "execution-environment.yml"
    path.write_text(yaml.safe_dump({**definition, **advice}))
    shutil.copy(tarball, tmp_path)
    build = create(path) / "_build"
    collections = tmp_path / "share" / "collections"
    run("ansible-galaxy", "collection", "install", "-r", "requirements.yml", "-p", collections, cwd=build)
    assert (collections / "ansible_collections" / "multicart" / "keys" / "playbooks" / "rotate.yml").exists()
    found = tmp_path / "requirements.txt"
    system = tmp_path / "bindep.txt"
    script = ["scripts/introspect.py", "introspect", collections, "--user-bindep=bindep.txt"]
    run(sys.executable, *script, f"--write-pip={found}", f"--write-bindep={system}", cwd=build)
    assert [Requirement(line.partition("#")[0]).name for line in found.read_text().splitlines()] == ["requests"]
    assert [line.split()[0] for line in system.read_text().splitlines()] == ["openssh-clients"]
    assert REQUESTS in run("ansible-builder", "introspect", collections)
