# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make lock``: write down the version of everything that is installed for the tests, on every supported Python.

Needs only the program uv; reads the files with the requirements, and the ansible-cores of the noxfile.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path("tests/requirements")
LOCKED = REQUIREMENTS / "locked"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


class Lock(NamedTuple):
    """A file with versions: of what, for which Pythons, and with which ansible-core if it is not the newest."""

    inputs: tuple[Path, ...]
    pythons: tuple[str, ...] = PYTHONS
    core: str | None = None


def cores() -> dict[str, tuple[str, str]]:
    """Return what the noxfile says of each ansible-core, without nox, which its import would need."""
    for statement in ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "CORES":
            found: dict[str, tuple[str, str]] = ast.literal_eval(statement.value)
            return found
    raise LookupError("noxfile.py has no CORES")


def locks() -> dict[str, Lock]:
    """Return every lock by the name of its file: one for all but what gets along with nothing else."""
    inputs = {path.stem: path.relative_to(ROOT) for path in sorted((ROOT / REQUIREMENTS).glob("*.txt"))}
    found = {"galaxy": Lock((inputs.pop("galaxy"),)), "main": Lock(tuple(inputs.values()))}
    for core, (oldest, newest) in cores().items():
        pythons = PYTHONS[PYTHONS.index(oldest) : PYTHONS.index(newest) + 1]
        found[f"core-{core}"] = Lock((inputs["test"],), pythons, core)
    return found


def main() -> None:
    for name, lock in locks().items():
        print(f"Writing {LOCKED / name}.txt ...", flush=True)
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--upgrade", "--universal"]
        command += ["--python-version", lock.pythons[0], "--annotation-style", "line"]
        command += ["--custom-compile-command", "make lock", "--output-file", f"{LOCKED / name}.txt"]
        if lock.core:
            command += ["--upgrade-package", f"ansible-core~={lock.core}.0"]
        subprocess.run([*command, *map(str, lock.inputs)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
