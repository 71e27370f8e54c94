# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sandbox of the integration tests, and a fleet that is watched."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import sandbox
from tests.leaks.watched import Style, Watched
from tests.sandbox.handle import Sandbox

__all__ = ["sandbox"]

MakeWatched = Callable[[Style], Watched]


def new_password() -> str:
    """Return a password that every way of quoting and encoding changes, yet leaves pieces of."""
    return f"{secrets.token_urlsafe(9)}\"\\'&<{secrets.token_urlsafe(9)}%+/$é;{secrets.token_urlsafe(9)}"


@pytest.fixture
def watched(sandbox: Sandbox, tmp_path: Path) -> Iterator[MakeWatched]:
    made = []

    def make(style: Style) -> Watched:
        account = sandbox.add_account(f"{secrets.token_hex(4)}@example.com", new_password())
        made.append(Watched(sandbox, tmp_path, account, style=style))
        return made[-1]

    yield make
    sandbox.clear()
    for one in made:
        one.close()
