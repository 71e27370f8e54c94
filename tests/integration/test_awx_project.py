# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project to copy: AWX offers its playbooks, they run, and a relaunch with the same answers is harmless."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.awx.rules import playbooks_of
from tests.integration.harness import ANSIBLE_BIN, Fleet, Run

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "roles" / "multicart_awx" / "files" / "project"
PLAYBOOKS = ["audit.yml", "deploy.yml", "doctor.yml", "rotate.yml"]


def test_awx_offers_all_of_its_playbooks(tmp_path: Path) -> None:
    assert playbooks_of(PROJECT) == PLAYBOOKS
    # These it does not offer, for which the copy is there.
    (tmp_path / "roles").mkdir()
    (tmp_path / "roles" / "rotate.yml").write_text("- hosts: all\n")
    (tmp_path / "vars.yml").write_text("rotate: true\n")
    assert playbooks_of(tmp_path) == []


def test_their_syntax() -> None:
    command = [str(ANSIBLE_BIN / "ansible-playbook"), "-i", "localhost,", "--syntax-check", *PLAYBOOKS]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert all(f"playbook: {name}" in done.stdout for name in PLAYBOOKS)


def test_the_collection_that_it_requires_is_this_one(tmp_path: Path) -> None:
    """A sync finds nothing left to install where this version is there, and would where it is not."""
    for version, satisfied in (("1.0.0", True), ("2.0.0", False)):
        folder = tmp_path / version / "ansible_collections" / "multicart" / "keys"
        folder.mkdir(parents=True)
        info = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
        assert info["version"].split(".")[0] == "1"
        manifest = {**{name: info[name] for name in ("namespace", "name", "dependencies")}, "version": version}
        (folder / "MANIFEST.json").write_text(json.dumps({"collection_info": manifest, "format": 1}))
        where = ["-p", str(tmp_path / version), "-r", "collections/requirements.yml"]
        command = [str(ANSIBLE_BIN / "ansible-galaxy"), "collection", "install", "--offline", *where]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, env={**os.environ})
        assert (done.returncode == 0 and "Nothing to do" in done.stdout) == satisfied, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of it, with variables beside the playbooks that would break a run if they were found."""
    copied = shutil.copytree(PROJECT, tmp_path / "my-keys")
    (copied / "group_vars").mkdir()
    (copied / "group_vars" / "all.yml").write_text("multicart_deploy_files: [{path: /nowhere/at/all}]\n")
    return copied


def launch(fleet: Fleet, project: Path, retire: str) -> Run:
    """Run its rotate.yml with the answers to the survey, which are strings."""
    answers = {"multicart_rotate_confirm": "yes", "multicart_rotate_retire": retire}
    return fleet.run(str(project / "rotate.yml"), "-e", json.dumps(answers))


def test_a_rotation_through_it_and_a_relaunch(fleet: Fleet, project: Path) -> None:
    fleet.variables["multicart_deploy_files"] = fleet.add("web1").variables.pop("multicart_deploy_files")
    answer = fleet.live_fingerprint
    for number in (1, 2):
        done = launch(fleet, project, answer)
        assert done.green, done
        assert (fleet.rotations, fleet.stale) == (1, []), f"launch {number}"
    assert answer != fleet.live_fingerprint
