# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make bench`` works; what it measures depends on the machine, and no test decides on it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.sshd import SSHD

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server"),
    pytest.mark.skipif(
        importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing: make .venv/.bench"
    ),
]


def test_it_measures_every_way_on_every_host(tmp_path: Path) -> None:
    options = ["--hosts", "2", "--alone", "3", "--forks", "2", "--output", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr  # 1: a ratio does not hold
    found = json.loads((tmp_path / "bench.json").read_text())
    ways = found["hosts"]["2"]["ways"]
    assert {"by hand", "multicart.keys", "ssh alone"} <= ways.keys()
    assert all(len(way["timeline"]) == 2 and way["consumers_agree"] for way in ways.values()), ways
    assert len(found["alone"]["timeline"]) == 3
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "bench.svg").read_text()
