# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make leaks``: the whole matrix on the oldest, a middle and the newest supported ansible-core.

Each core gets an environment of its own in .cache; one for which there is no Python here is named and left out, which
fails where ``CI`` is set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

CORES = {"2.16": ("3.10", "3.11", "3.12"), "2.19": ("3.11", "3.12", "3.13"), "2.21": ("3.12", "3.13", "3.14")}
"""Releases of ansible-core, and the Pythons that each of them runs on."""

_ROOT = Path(__file__).resolve().parents[2]


def python_for(core: str) -> str | None:
    """Return a Python on which this core runs; one of pyenv's if there is none on the search path."""
    for version in CORES[core]:
        places = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
        for place in filter(None, places):
            asked = subprocess.run([str(place), "--version"], capture_output=True, text=True, check=False)
            if asked.stdout.startswith(f"Python {version}."):
                return str(place)
    return None


def environment_of(core: str, python: str) -> Path:
    """Return the folder of the programs of this core, installed unless they are."""
    folder = _ROOT / ".cache" / "cores" / core
    made = folder / ".made"
    if not made.exists():
        print(f"Setting up {folder.relative_to(_ROOT)} ...", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"ansible-core~={core}.0", "requests"], check=True)
        made.touch()
    return folder / "bin"


def main() -> int:
    """Run what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.leaks")
    parser.add_argument("--core", choices=CORES, action="append", help="only this one; may be given again")
    parser.add_argument("--jobs", default="2", help="how many tests at once")
    chosen, rest = parser.parse_known_args()
    failed, missing = [], []
    for core in chosen.core or CORES:
        python = python_for(core)
        if python is None:
            missing.append(core)
            continue
        print(f"--- ansible-core {core} ---", flush=True)
        told = {"MULTICART_FULL": "1", "MULTICART_TEST_ANSIBLE": str(environment_of(core, python))}
        command = [sys.executable, "-m", "pytest", "-o", "cache_dir=.cache/pytest", "-n", chosen.jobs, "tests/leaks"]
        if subprocess.run([*command, *rest], cwd=_ROOT, env={**os.environ, **told}, check=False).returncode:
            failed.append(core)
    for core in missing:
        print(f"Not run on ansible-core {core}: it needs Python {' or '.join(CORES[core])}, and there is none here.")
    if failed:
        print(f"Failed on ansible-core {', '.join(failed)}.")
    return 1 if failed or (missing and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
