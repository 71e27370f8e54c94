# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One sandbox for each process of pytest, and an account and a fleet of its own for each test."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Fleet
from tests.integration.listener import Listener
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox"), accounts=[new_login()]) as sandbox:
        yield sandbox


def new_login() -> tuple[str, str]:
    """Return an address and a password nobody has yet; random, so that a leak differs from a word."""
    return f"{secrets.token_hex(4)}@example.com", secrets.token_hex(12)


@pytest.fixture
def new_account(sandbox: Sandbox) -> Callable[[], Account]:
    """Makes accounts that are old enough for a key of any age."""
    return lambda: sandbox.add_account(*new_login(), created_at="2024-01-01T00:00:00Z")


@pytest.fixture
def fleet(sandbox: Sandbox, tmp_path: Path, new_account: Callable[[], Account]) -> Iterator[Fleet]:
    """An account, and no consumers yet."""
    yield Fleet(sandbox, tmp_path, new_account())
    sandbox.clear()


@pytest.fixture
def open_fleet(sandbox: Sandbox, new_account: Callable[[], Account]) -> Iterator[Fleet]:
    """A fleet in a folder through which every user of this machine may go; pytest's own become private again."""
    folder = Path(tempfile.mkdtemp(prefix="mc-fleet-"))
    folder.chmod(0o711)
    yield Fleet(sandbox, folder, new_account())
    sandbox.clear()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()
