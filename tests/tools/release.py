# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make release VERSION=1.2.3``: set the version, write the changelog, build the tarball. Nothing is sent anywhere."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from . import tarball

# Where the version stands, but for the changelog.
PLACES = {
    "galaxy.yml": ["\nversion: {}\n"],
    "plugins/plugin_utils/_api/client.py": ['\nVERSION = "{}"\n'],
    "roles/multicart_awx/files/execution-environment.yml": ["/multicart-keys-ee:{}\n", "multicart-keys-{}.tar.gz"],
}


class Refused(Exception):
    """Nothing was changed; the message says why."""


def release(root: Path, version: str) -> Path:
    """Make a release of the collection, and return its tarball."""
    _check(root, version)
    for path, text in _rewritten(root, version).items():
        path.write_text(text, encoding="utf-8")
    _changelog(root, "release")
    tarball.build(root, root / ".cache" / "dist")
    return root / ".cache" / "dist" / f"multicart-keys-{version}.tar.gz"


def _check(root: Path, version: str) -> None:
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise Refused(f"{version!r} is no version such as 1.2.3.")
    released = yaml.safe_load((root / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))["releases"]
    newest = max(released, key=_number)
    if _number(version) <= _number(newest):
        raise Refused(f"{version} must be above {newest}, the newest release: make release VERSION=…")
    if subprocess.run(["git", "status", "--porcelain"], cwd=root, check=True, capture_output=True).stdout:
        raise Refused("There are changes that are not committed; a release is what is in the repository.")
    if not list((root / "changelogs" / "fragments").glob("*.y*ml")):
        raise Refused("There is nothing to tell: changelogs/fragments is empty.")
    _changelog(root, "lint")


def _rewritten(root: Path, version: str) -> dict[Path, str]:
    """Return the files that name the version, with the new one."""
    old = yaml.safe_load((root / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    found = {}
    for name, places in PLACES.items():
        text = (root / name).read_text(encoding="utf-8")
        for place in places:
            if place.format(old) not in text:
                raise Refused(f"{name} does not have {place.format(old).strip()!r}; see PLACES in {__name__}.")
            text = text.replace(place.format(old), place.format(version))
        found[root / name] = text
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _changelog(root: Path, command: str) -> None:
    # It calls the ansible-doc that it finds on the PATH.
    tools = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    subprocess.run([tools / "antsibull-changelog", command], cwd=root, env=env, check=True)


def main() -> int:
    version = sys.argv[1]
    try:
        built = release(Path.cwd(), version)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(f"{hashlib.sha256(built.read_bytes()).hexdigest()}  {built}")
    print(f"Look at CHANGELOG.md, then: git commit -am 'Release {version}' && git tag {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
