# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release: refused where something is amiss, and the same bytes from the same files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.tools import release, tarball

ROOT = Path(__file__).resolve().parents[3]
# All but the tests, in which versions are made up.
PARTS = ("galaxy.yml", "README.md", "CONTRIBUTING.md", "SECURITY.md", "COPYING", "CHANGELOG.md", "changelogs", "meta")
PARTS += ("plugins", "roles", "playbooks", "extensions", "docs")


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own, with a change that is worth a release."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder)
    fragments = folder / "changelogs" / "fragments"
    shutil.rmtree(fragments, ignore_errors=True)
    fragments.mkdir()
    (fragments / "1-new.yml").write_text("minor_changes:\n  - Learn to sing.\n")
    (folder / ".gitignore").write_text(".cache\nchangelogs/.plugin-cache.yaml\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def test_a_release_sets_the_version_and_tells_what_changed(checkout: Path) -> None:
    built = release.release(checkout, "7.8.9")
    with tarfile.open(built) as packed:
        manifest = json.load(packed.extractfile("MANIFEST.json"))  # type: ignore[arg-type]  # it is a file
    assert manifest["collection_info"]["version"] == "7.8.9"
    changes = (checkout / "CHANGELOG.md").read_text()
    assert "Learn to sing" in changes.split("v1\\.0\\.0")[1] and "v7\\.8\\.9" in changes
    assert not list((checkout / "changelogs" / "fragments").iterdir())


def test_no_file_keeps_the_old_version(checkout: Path) -> None:
    """Except for the changelog, ranges, and what says since when something is there."""
    old = yaml.safe_load((checkout / "galaxy.yml").read_text())["version"]
    release.release(checkout, "7.8.9")
    kept = re.compile(rf"(?<!\d)(?<!\d\.)(?<!<)(?<![<>]=){re.escape(old)}(?!\.?\d)")
    listed = subprocess.run(["git", "ls-files"], cwd=checkout, check=True, capture_output=True, text=True).stdout
    others = ("changelogs/", "CHANGELOG.md")
    names = [name for name in listed.splitlines() if not name.startswith(others) and not name.endswith(".png")]
    lines = [line for name in names for line in (checkout / name).read_text().splitlines() if kept.search(line)]
    assert not [line for line in lines if "version_added" not in line]
    assert '\nVERSION = "7.8.9"\n' in (checkout / "plugins" / "plugin_utils" / "_api" / "client.py").read_text()


def test_a_place_that_does_not_have_the_version_is_refused(checkout: Path) -> None:
    client = checkout / "plugins" / "plugin_utils" / "_api" / "client.py"
    client.write_text(re.sub(r"(?m)^VERSION = .*$", 'VERSION = "0.0.1"', client.read_text()))
    git(checkout, "commit", "--quiet", "--all", "--message", "forget a place")
    with pytest.raises(release.Refused, match="client.py does not have"):
        release.release(checkout, "7.8.9")
    git(checkout, "diff", "--exit-code")


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9", "1.2", "1.2.3-beta", "01.2.3", ""])
def test_a_version_that_is_none_or_no_newer_is_refused(checkout: Path, version: str) -> None:
    with pytest.raises(release.Refused):
        release.release(checkout, version)
    git(checkout, "diff", "--exit-code")


def test_what_is_not_committed_or_not_told_is_refused(checkout: Path) -> None:
    (checkout / "stray").touch()
    with pytest.raises(release.Refused, match="not committed"):
        release.release(checkout, "7.8.9")
    (checkout / "stray").unlink()
    git(checkout, "rm", "--quiet", "changelogs/fragments/1-new.yml")
    git(checkout, "commit", "--quiet", "--message", "nothing to tell")
    with pytest.raises(release.Refused, match="nothing to tell"):
        release.release(checkout, "7.8.9")


def test_the_same_files_give_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    """Another folder, other times, another order in the directories, another umask."""
    copy = tmp_path / "copy"
    for file in sorted((path for path in checkout.rglob("*") if path.is_file()), reverse=True):
        if ".git" not in file.relative_to(checkout).parts:
            target = copy / file.relative_to(checkout)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
            os.utime(target, (1e9, 1e9))
            target.chmod(0o600)
    (copy / ".cache").mkdir()
    (copy / ".cache" / "rubbish").touch()
    hashes = set()
    for folder in (checkout, copy):
        tarball.build(folder, tmp_path / "dist")
        (built,) = (tmp_path / "dist").iterdir()
        hashes.add(hashlib.sha256(built.read_bytes()).hexdigest())
        built.unlink()
    assert len(hashes) == 1


def test_ansible_accepts_the_tarball(checkout: Path, tmp_path: Path) -> None:
    tarball.build(checkout, tmp_path / "dist")
    (built,) = (tmp_path / "dist").iterdir()
    where = ["--collections-path", str(tmp_path / "there")]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "there")}
    install = [tarball.GALAXY, "collection", "install", *where, str(built)]
    subprocess.run(install, env=env, check=True, capture_output=True)
    verify = [tarball.GALAXY, "collection", "verify", *where, "--offline", "multicart.keys"]
    done = subprocess.run(verify, env=env, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert "Successfully verified" in done.stdout, done.stdout
    names = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*")}
    assert not [name for name in names if "/." in name or "__pycache__" in name]
