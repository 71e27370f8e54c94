# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker with an account of their own on the control node.

They may read whatever others can read there, above all /proc and /tmp, may plant anything in directories that everybody
may write to, such as the one in which the run is started or that of its reports, and may do so while it works.

What must not happen: a credential or a key is in what they can read: arguments, files in temporary directories, locks,
reports; a file that they planted, or a link, is written through, run, imported, or taken for one of the run's own.

Others of these attacks: everything that a run leaves or shows in tests/leaks; what the run cache keeps in
test_run_cache.py.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Fleet, commands, files_below
from tests.stores.backends import Programs

USER = 65534


def in_full(*kinds: str) -> list[Any]:
    return [pytest.param(kind, marks=pytest.mark.full) for kind in kinds]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def readable_by_others(folder: Path) -> list[Path]:
    """Return what somebody else may read below a directory through which they may go."""
    found = []
    for path in files_below(folder):
        with suppress(FileNotFoundError):
            status = path.lstat()
            parents = [each for each in path.parents if folder in each.parents]
            reached = all(each.stat().st_mode & stat.S_IXOTH for each in parents)
            if stat.S_ISREG(status.st_mode) and reached and status.st_mode & stat.S_IROTH:
                found.append(path)
    return found


@contextmanager
def watching(fleet: Fleet, folders: list[Path]) -> Iterator[set[str]]:
    """Read all that others may read in these directories, and all arguments of processes, while a run works."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for folder in folders:
                for path in readable_by_others(folder):
                    with suppress(OSError):
                        seen.add(path.read_bytes().decode("utf-8", "replace"))
            seen.update(commands())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def test_nothing_secret_can_be_read_by_others_while_it_runs(fleet: Fleet) -> None:
    """With temporary directories in a place that everybody may read, as /tmp."""
    shared = fleet.folder / "tmp"
    shared.mkdir(mode=0o777)
    shared.chmod(0o1777)
    fleet.add_many(2)
    fleet.hosts["web2"].variables["ansible_pipelining"] = False
    env = {name: str(shared) for name in ("ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP", "TMPDIR")}
    env.update(MULTICART_EMAIL=fleet.email, MULTICART_PASSWORD=fleet.account["password"], MULTICART_SESSION_TOKEN="")
    fleet.env.pop("MULTICART_SESSION_TOKEN")
    fleet.fault("rotate", "slow", seconds=1)
    old = fleet.live
    with watching(fleet, [shared, fleet.folder / "home"]) as seen:
        run = fleet.rotate(env=env)
    assert run.green and (fleet.rotations, fleet.stale) == (1, []), run
    assert seen
    secrets = {*fleet.known_secrets, old, fleet.live, fleet.account["password"]}
    hidden = {secret.partition(".")[2] or secret for secret in secrets}
    assert not [secret for secret in hidden for text in seen if secret in text], "others could read a secret"
    assert list(shared.iterdir()) == []


PLANTED = {
    "requests.py": "CODE",
    "cryptography/__init__.py": "CODE",
    "json.py": "CODE",
    "sitecustomize.py": "CODE",
    "ansible_collections/multicart/keys/plugins/plugin_utils/_options.py": "CODE",
    "library/multicart_fleet.py": "CODE",
    "action_plugins/multicart_fleet.py": "CODE",
    "lookup_plugins/multicart_key.py": "CODE",
    "roles/multicart_rotate/tasks/main.yml": "- ansible.builtin.command: touch PLACE\n",
    "host_vars/web1.yml": "multicart_rotate_force: true\n",
    "multicart.keys.rotate": "- hosts: all\n  tasks: [{ansible.builtin.command: touch PLACE}]\n",
    "ansible": "#!/bin/sh\ntouch PLACE\n",
    "python3": "#!/bin/sh\ntouch PLACE\n",
    "ssh": "#!/bin/sh\ntouch PLACE\n",
}


def test_nothing_of_the_working_directory_is_run(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Somebody else has filled the directory in which the run is started; the playbook and inventory are elsewhere."""
    fleet.add_many(2)
    store = Programs(tmp_path_factory.mktemp("store"))
    store.put(fleet.live)
    stores = [{"type": store.kind, **store.entry}]
    fleet.add("store", None, multicart_deploy_files=[], multicart_deploy_stores=stores)
    ran = fleet.folder / "ran"
    place = fleet.folder / "shared"
    modules = {f"{name}.py": "CODE" for name in sys.stdlib_module_names}
    for name, text in {**PLANTED, **modules}.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        code = f"import os\nos.close(os.open({str(ran)!r}, os.O_CREAT, 0o600))\n"
        path.write_text(code if text == "CODE" else text.replace("PLACE", str(ran)))
        path.chmod(0o755)
    place.chmod(0o777)
    run = fleet.run("multicart.keys.rotate", "-e", "multicart_rotate_confirm=true", cwd=place)
    assert not ran.exists(), run
    assert run.green and fleet.rotations == 1, run
    assert store.value() == fleet.live and fleet.stale == ["store"], run  # which has no file


@as_root
@pytest.mark.parametrize("kind", ["link", *in_full("dangling link", "pipe", "directory", "hard link")])
def test_what_is_planted_in_the_directory_of_reports_is_not_written_through(fleet: Fleet, kind: str) -> None:
    """All names that a report, or its draft, may get in the next minute are taken."""
    fleet.add_many(2)
    reports = fleet.folder / "reports"
    reports.mkdir()
    reports.chmod(0o1777)
    secret = fleet.folder / "secret"
    secret.write_text("somebody's")
    (reports / "latest.html").symlink_to(secret)
    for name in ("rotation.html", "rotation.json"):
        planted = reports / name
        if kind == "link":
            planted.symlink_to(secret)
        elif kind == "dangling link":
            planted.symlink_to(fleet.folder / "made")
        elif kind == "pipe":
            os.mkfifo(planted)
        elif kind == "directory":
            planted.mkdir()
        else:
            os.link(secret, planted)
        os.chown(planted, USER, USER, follow_symlinks=False)
    run = fleet.rotate("-e", f"multicart_report_dir={reports}")
    assert run.green and fleet.rotations == 1, run
    assert secret.read_text() == "somebody's" and not (fleet.folder / "made").exists()
    written = sorted(path.suffix for path in reports.glob("rotation-*") if path.is_file())
    assert written == [".html", ".json"], run


@pytest.mark.parametrize("kind", ["link", *in_full("pipe", "directory")])
def test_a_lock_that_is_no_file_is_not_opened_through(fleet: Fleet, kind: str) -> None:
    """Were it possible to plant one, as in a home directory that others may write to."""
    fleet.add_many(2)
    assert fleet.rotate().green
    (lock,) = (fleet.folder / "home" / ".ansible" / "multicart.keys").glob("*.lock")
    secret = fleet.folder / "secret"
    secret.write_text("somebody's")
    lock.unlink()
    if kind == "link":
        lock.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    run = fleet.rotate()
    assert run.reason != "internal_error", run
    assert secret.read_text() == "somebody's"
    assert fleet.rotations == (1 if not run.green else 2) and fleet.stale == [], run
    if kind != "pipe":
        assert (run.green, run.reason) == (False, "run_cache_unusable"), run


def test_a_lock_tells_others_nothing(fleet: Fleet) -> None:
    fleet.add_many(2)
    assert fleet.rotate().green
    folder = fleet.folder / "home" / ".ansible" / "multicart.keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (lock,) = folder.iterdir()
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert fleet.live not in lock.read_text()
