# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``tarball.py COLLECTION OUTPUT``: build a collection so that the same files give the same bytes.

``ansible-galaxy collection build`` takes times of modification, and the order in which a directory lists its files,
into the tarball. This puts the files in order and leaves the times out.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

GALAXY = Path(sys.executable).with_name("ansible-galaxy")
_Members = dict[str, tuple[tarfile.TarInfo, bytes]]


def build(collection: Path, output: Path) -> None:
    """Build the collection into the directory, as ``NAMESPACE-NAME-VERSION.tar.gz``, the only one of the collection."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([GALAXY, "collection", "build", "--output-path", folder], cwd=collection, check=True)
        (raw,) = Path(folder).iterdir()
        members = _read(raw)
        output.mkdir(parents=True, exist_ok=True)
        for other in output.glob(f"{raw.name.rpartition('-')[0]}-*.tar.gz"):
            other.unlink()
        _write(output / raw.name, _in_order(members))


def _read(path: Path) -> _Members:
    with tarfile.open(path) as tarball:
        files = ((member, tarball.extractfile(member) if member.isfile() else None) for member in tarball)
        return {member.name: (member, file.read() if file else b"") for member, file in files}


def _in_order(members: _Members) -> _Members:
    """Sort the list of files, and with it the hash that the manifest has of the list."""
    files = json.loads(members["FILES.json"][1])
    files["files"].sort(key=lambda entry: entry["name"])
    listed = _dump(files)
    manifest = json.loads(members["MANIFEST.json"][1])
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listed).hexdigest()
    changed = {"FILES.json": listed, "MANIFEST.json": _dump(manifest)}
    # The manifest stands first, where whoever reads the tarball looks for it.
    names = ["MANIFEST.json", "FILES.json", *sorted(members.keys() - changed.keys())]
    return {name: (members[name][0], changed.get(name, members[name][1])) for name in names}


def _dump(data: Any) -> bytes:
    return json.dumps(data, indent=True).encode()


def _write(path: Path, members: _Members) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tarball:
        for member, content in members.values():
            member.size, member.mtime, member.pax_headers = len(content), 0, {}
            member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
            tarball.addfile(member, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
