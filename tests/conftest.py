# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes this checkout importable: the tests as ``tests``, and the collection under its real name.

Tests that are too long for every run are marked ``full``; MULTICART_FULL=1 runs them too, and lets Hypothesis try other
examples each time. Every run tries the same, so that it is no accident whether it passes; and on a busy machine any
example may take long.

What has processes, machines or servers of its own may fail once for a reason that is not the collection's. It gets a
second try, except with MULTICART_FULL, and a failure that it does not repeat is shown whole. Unit tests get none, nor
does the search for secrets: one that came out once has come out.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ONE_TRY = {ROOT / "tests" / "unit", ROOT / "tests" / "leaks"}


def _collections_path() -> Path:
    """Return a directory in which ``ansible_collections/multicart/keys`` is this checkout."""
    if ROOT.parts[-3:] == ("ansible_collections", "multicart", "keys"):
        return ROOT.parents[2]
    collections = ROOT / ".cache" / "collections"
    link = collections / "ansible_collections" / "multicart" / "keys"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.resolve() == ROOT):
        # Made under another name and moved into place, since every pytest-xdist worker does this at once.
        draft = link.with_name(f".keys-{os.getpid()}")
        draft.symlink_to(ROOT)
        draft.replace(link)
    return collections


FULL = os.environ.get("MULTICART_FULL", "") not in ("", "0")
COLLECTIONS_PATH = _collections_path()
for folder in (str(ROOT), str(COLLECTIONS_PATH)):
    if folder not in sys.path:
        sys.path.insert(0, folder)
# A job in the background ignores Ctrl-C, and so would all that it starts: tests send it on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup: this goes on, and what it starts can be told to end
    signal.signal(signal.SIGHUP, lambda *_given: None)
# For the ansible-playbook processes that tests start.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS_PATH)


with suppress(ImportError):  # not everything that is tested needs it
    from hypothesis import HealthCheck, settings

    slow = [HealthCheck.too_slow]
    settings.register_profile("ours", deadline=None, suppress_health_check=slow, derandomize=not FULL, print_blob=True)
    settings.load_profile("ours")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: too long for every run; MULTICART_FULL=1 runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if FULL:
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="long: make full"))
        if ONE_TRY.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.flaky(reruns=1))  # of pytest-rerunfailures


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("=", f"FAILED AT THE FIRST TRY: {report.nodeid}", yellow=True)
        terminalreporter.write_line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.write_sep("-", title)
            terminalreporter.write_line(text)
