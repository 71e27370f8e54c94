# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Mitogen is, if it is beside the ansible-core under test."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.integration.harness import ANSIBLE_BIN

_ASK = "import ansible_mitogen; print(ansible_mitogen.__path__[0])"


@functools.cache
def strategy_plugins() -> Path | None:
    """Return what ANSIBLE_STRATEGY_PLUGINS has to be for its strategies; None: it is not installed."""
    asked = subprocess.run([ANSIBLE_BIN / "python", "-c", _ASK], capture_output=True, text=True, check=False)
    return Path(asked.stdout.strip()) / "plugins" / "strategy" if asked.returncode == 0 else None
