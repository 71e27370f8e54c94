# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.awx.collection``: get from PyPI what only Galaxy has otherwise.

The collection ``awx.awx``; and of two others the plugins that hosts are reached with.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# The last release of the community package with awx.awx (24.6.1) in it; the rest of it is left where it is.
_PACKAGE = "ansible==13.8.0"
_WANTED = ("awx/", "ansible/posix/plugins/shell/", "community/general/plugins/become/")
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "awx"
"""The directory with ``ansible_collections/awx/awx`` and the others, once they were got."""
_GOT = COLLECTIONS / ".got"


def get() -> None:
    """Download the package and take what is wanted out of it, unless that was done."""
    wanted = f"{_PACKAGE} {' '.join(_WANTED)}\n"
    if _GOT.exists() and _GOT.read_text(encoding="utf-8") == wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        # For a later Python, because nothing of it is run with this one.
        how = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "pip", "download", *how, "--dest", folder, _PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            folders = tuple(f"ansible_collections/{folder}" for folder in _WANTED)
            archive.extractall(COLLECTIONS, [name for name in archive.namelist() if name.startswith(folders)])
    _GOT.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    get()
