# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README's failure guide and the closed lists in the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils import _services as steps
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import Reason

ROOT = Path(__file__).resolve().parents[3]


def guide() -> list[list[str]]:
    """The names in the first column of every row of the guide's tables."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## When it fails")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([a-z_]+)`", cell) for cell in rows]


def names() -> list[str]:
    """All names but the two column headings."""
    return [name for row in guide() for name in row if name not in ("reason", "outcome")]


def test_the_guide_has_every_reason_and_outcome_once() -> None:
    on_hosts = {
        *host_file.REASONS,
        *steps.REASONS,
        *(error.reason for error in (env_file.NotText, env_file.BadName, env_file.Ambiguous, record.OtherAccount)),
    }
    known = {*(str(reason.value) for reason in Reason), *(str(outcome.value) for outcome in Outcome), *on_hosts}
    assert sorted(names()) == sorted(known | {"attributes_refused"})


def test_every_reason_that_the_code_gives_is_in_the_closed_lists() -> None:
    given = set()
    for source in (ROOT / "plugins").rglob("*.py"):
        given |= set(re.findall(r'reason="([a-z_]+)"', source.read_text(encoding="utf-8")))
    assert given <= set(names())
    assert "internal_error" in given
