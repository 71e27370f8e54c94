# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to programs: what they may print is checked before the rotation, and shown at no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    NO_CONTROL_NODE,
    Store,
    StoreError,
    open_store,
    resolve,
)

from tests.stores.talk import NEW

FOUND: dict[str, Any] = {"fingerprint": None, "record": None, "writable": True}


def printing(said: Any, folder: Path) -> Store:
    """Return a store whose programs print this; ``write`` keeps the version that it is given."""
    (folder / "said").write_text(json.dumps(said))
    words = {"inspect": ["cat", str(folder / "said")], "note": ["echo", "{}"]}
    words["write"] = ["sh", "-c", f'printf %s "$MULTICART_STORE_VERSION" >{folder}/version && echo {{}}']
    return open_store("command", resolve("command", {"label": "x", **words}, NO_CONTROL_NODE))


@pytest.mark.parametrize("version", [7, "7", "", "v 1.2 + é", "x" * 256])
def test_a_version_comes_back_at_the_write(tmp_path: Path, version: Any) -> None:
    store = printing({**FOUND, "version": version}, tmp_path)
    store.write(ApiKey(NEW), store.inspect())
    assert (tmp_path / "version").read_text() == str(version)


@pytest.mark.parametrize("version", ["a\0b", "\ud800", "a\nb", "x" * 257, ["7"], 0.5])
def test_a_version_that_no_environment_can_hold_is_refused_at_the_inspection(tmp_path: Path, version: Any) -> None:
    """It was accepted, and failed after the rotation."""
    with pytest.raises(StoreError, match="its inspect does not print version") as caught:
        printing({**FOUND, "version": version}, tmp_path).inspect()
    assert caught.value.reason == "store_malformed"


def test_nothing_that_a_program_prints_is_shown(tmp_path: Path) -> None:
    said = {**FOUND, "writable": False, "reason": "invalid token canary", "canary": "canary"}
    with pytest.raises(StoreError) as caught:
        printing(said, tmp_path).inspect()
    assert caught.value.reason == "store_not_writable" and "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "canary",
        {},
        {**FOUND, "fingerprint": "canary"},
        {**FOUND, "writable": "canary"},
        {**FOUND, "version": {"canary": 1}},
    ],
)
def test_what_has_another_form_is_malformed(tmp_path: Path, said: Any) -> None:
    with pytest.raises(StoreError) as caught:
        printing(said, tmp_path).inspect()
    assert caught.value.reason == "store_malformed" and "canary" not in str(caught.value)
