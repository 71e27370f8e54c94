# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No key is sent to a host before the API has accepted the rotation, neither the new one nor the old one.

All that comes to the hosts' Python is written down: its arguments, its input, and the script that was copied there.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sshd import SSHD
from tests.leaks.conftest import MakeWatched
from tests.leaks.scenarios_fleet import add
from tests.leaks.watched import ARMED, MINIMAL, PLAIN, Style, Watched

# The input is not held up: what is armed is waiting for it.
_SPY = """#!/bin/sh
spied=$(mktemp {folder}/XXXXXX)
printf '%s\\n' "$@" > "$spied"
if [ -f "$1" ]; then cat "$1" >> "$spied"; fi
tee -a "$spied" | {python} "$@"
"""
WAYS = {"armed": ARMED, "served": PLAIN, "copied": MINIMAL}


@pytest.fixture
def spied() -> Iterator[Path]:
    """A folder that no test searches."""
    folder = Path(tempfile.mkdtemp(prefix="spied-"))
    yield folder
    shutil.rmtree(folder)


def spy_on(fleet: Watched, spied: Path) -> None:
    python = fleet.folder / "spying-python"
    real = str(fleet.variables["ansible_python_interpreter"])
    python.write_text(_SPY.format(folder=spied, python=shlex.quote(real)))
    python.chmod(0o755)
    fleet.variables["ansible_python_interpreter"] = str(python)
    add(fleet)  # an environment file and a template
    add(fleet, name="web2")


def keys_in(fleet: Watched, spied: Path) -> set[str]:
    """Return of which keys, tokens and passwords something has come to the hosts' Python so far."""
    texts = [path.read_bytes() for path in spied.iterdir()]
    assert any(len(text) > 1000 for text in texts), "nothing was written down"
    return {what.partition(",")[0] for text in texts for what in fleet.canaries().found_in(text)}


@pytest.mark.parametrize("style", WAYS.values(), ids=WAYS.keys())
def test_no_host_is_sent_a_key_before_the_api_has_accepted_the_rotation(
    style: Style, watched: MakeWatched, spied: Path
) -> None:
    if style.ssh and SSHD is None:
        pytest.skip("sshd is missing: apt-get install openssh-server")
    fleet = watched(style)
    spy_on(fleet, spied)
    seen: list[set[str]] = []
    with fleet.once_rotated(lambda: seen.append(keys_in(fleet, spied))):
        run = fleet.rotate()
    assert run.green, run
    assert run.armed == (2 if style.ssh else 0), run
    assert seen == [set()]
    # The spy sees a key when there is one; and the old one was sent to nobody.
    assert keys_in(fleet, spied) == {"the live key"}


@pytest.mark.parametrize("style", WAYS.values(), ids=WAYS.keys())
def test_no_host_is_sent_a_key_when_the_rotation_is_refused(style: Style, watched: MakeWatched, spied: Path) -> None:
    if style.ssh and SSHD is None:
        pytest.skip("sshd is missing: apt-get install openssh-server")
    fleet = watched(style)
    spy_on(fleet, spied)
    fleet.fault("rotate", "refused")
    run = fleet.rotate()
    assert (run.green, run.reason, fleet.rotations) == (False, "refused", 0), run
    assert keys_in(fleet, spied) == set()
