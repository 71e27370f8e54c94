# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of the tests are made of: Debian, unpacked once for each release, from the mirror that apt uses here.

``python -m tests.hosts.trees bookworm trixie`` makes them beforehand; whatever needs one makes it otherwise.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "hosts"
_EVERYWHERE = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session", "cron"),
    *("openssh-server", "python3", "sudo", "opendoas", "iproute2", "procps", "tmux"),
)
# The other two inits, and podman, for the one release that every test can have.
_MORE = {"bookworm": ("openrc", "runit", "podman", "runc")}
SUITES = ("bookworm", "trixie", "forky")
_HOW = (
    *("--mode=root", "--variant=minbase", "--format=tar", "--components=main"),
    '--aptopt=APT::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")),
)
_SECONDS = "600"
"""In which a tree is made, also by way of a slow mirror; one that says nothing is not waited for in each process."""
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
# What apt is told here about the way to the mirror holds for the new tree, too.
_PASSED_ON = ("Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::Retries", "Acquire::http")


class NoTree(Exception):
    """There is no such tree, and none can be made here; the message says why."""


def missing() -> str | None:
    """Return why there can be no hosts here; None: nothing is known to be in the way."""
    if os.geteuid() != 0:
        return "hosts are started by root"
    absent = {program: package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    if absent:
        return f"{', '.join(absent)} missing: apt-get install {' '.join(sorted(set(absent.values())))}"
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", "mount -t tmpfs none /mnt && ip link set lo up"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else None


def tree(suite: str) -> Path:
    """Return the archive with the tree of a release, made now unless it is there.

    :raises NoTree: it cannot be made.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    packages = (*_EVERYWHERE, *_MORE.get(suite, ()))
    path = CACHE / f"{suite}-{hashlib.sha256(repr((_HOW, packages)).encode()).hexdigest()[:8]}.tar"
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for old in CACHE.glob(f"{suite}-*"):
                old.unlink()
            _make(suite, packages, path)
    return path


def _make(suite: str, packages: tuple[str, ...], path: Path) -> None:
    mirror = _mirror()
    draft = path.with_suffix(".part")
    options = [*_HOW, *(f"--aptopt={line}" for line in _passed_on())]
    command = ["mmdebstrap", "--quiet", *options, f"--include={','.join(packages)}", suite, str(draft), mirror]
    # Unpacked in memory: half the time on a disk is spent on waiting for it.
    work = CACHE / f"{suite}.work"
    work.mkdir(exist_ok=True)
    script = 'mount -t tmpfs none "$TMPDIR" && exec "$@"'
    made = subprocess.run(
        ["timeout", "--kill-after=10", _SECONDS, "unshare", "--mount", "sh", "-c", script, "sh", *command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TMPDIR": str(work), **_proxies()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    work.rmdir()
    if made.returncode:
        draft.unlink(missing_ok=True)
        lines = [line for line in made.stderr.splitlines() if line.startswith(("E:", " "))] or ["mmdebstrap failed"]
        raise NoTree(f"no tree of {suite}: {' '.join(lines[:4]).replace(mirror, 'the mirror')}")
    draft.replace(path)


def _mirror() -> str:
    """Return where apt gets Debian's packages from on this machine.

    :raises NoTree: apt knows no mirror of Debian.
    """
    for attempt in range(2):
        if attempt:  # a new machine has no lists yet, and without them it is not known whose packages a source has
            subprocess.run(["apt-get", "update"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        line = "$(REPO_URI) $(ORIGIN) $(CODENAME) $(RELEASE)"
        asked = ["apt-get", "indextargets", "--format", line, "Created-By: Packages"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        for words in map(str.split, told.splitlines()):
            if len(words) == 4 and words[1] == "Debian" and "-" not in words[3]:  # neither updates nor security
                return words[0]
    raise NoTree("apt of this machine knows no mirror of Debian")


def _passed_on() -> list[str]:
    told = subprocess.run(["apt-config", "dump", "--no-empty"], capture_output=True, text=True, check=True).stdout
    return [line.rstrip(";") for line in told.splitlines() if line.startswith(_PASSED_ON)]


def _proxies() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower() in ("http_proxy", "https_proxy")}


def main(suites: list[str]) -> int:
    """Make trees; those that cannot be made are named."""
    reason = missing()
    if reason:
        print(f"No hosts: {reason}", file=sys.stderr)
        return 0

    def make(suite: str) -> str:
        began = time.monotonic()
        try:
            path = tree(suite)
        except NoTree as error:
            return str(error)
        return f"{path.name}: {path.stat().st_size / 1e6:.0f} MB, {time.monotonic() - began:.0f} s"

    with ThreadPoolExecutor() as pool:
        for line in pool.map(make, suites):
            print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SUITES[:1])))
