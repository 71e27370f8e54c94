# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.awx.collection``: get the collection ``awx.awx``, which Galaxy has, from where PyPI has it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# The last release of the community package with awx.awx (24.6.1) in it; the rest of it is left where it is.
_PACKAGE = "ansible==13.8.0"
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache" / "awx"
"""The directory with ``ansible_collections/awx/awx``, once it was got."""


def get() -> None:
    """Download the package and take the collection out of it."""
    with tempfile.TemporaryDirectory() as folder:
        # For a later Python, because nothing of it is run with this one.
        how = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "pip", "download", *how, "--dest", folder, _PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if name.startswith("ansible_collections/awx/")]
            archive.extractall(COLLECTIONS, wanted)


if __name__ == "__main__":
    get()
