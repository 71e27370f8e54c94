# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The code and the roles speak of the same results."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._controller import registered

ROOT = Path(__file__).resolve().parents[3]


def test_every_result_that_the_code_reads_is_registered_by_a_task() -> None:
    tasks = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
    names = re.findall(r"^ *register: (\w+)$", "\n".join(path.read_text(encoding="utf-8") for path in tasks), re.M)
    read = {value for name, value in vars(registered).items() if name.isupper()}
    assert read and read <= set(names)
