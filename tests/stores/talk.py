# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to stores as the act does: over a session with the process in which they run."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.store_link import StoreLink
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import ControlNode, label_of, resolve

from tests.waiting import PATIENCE

OLD, NEW, OTHER = "acme.OLDcanary", "acme.NEWcanary", "acme.OTHERcanary"
SINCE = "2026-11-26T03:00:00Z"


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class Talk:
    """A session with one store."""

    def __init__(
        self,
        kind: str,
        entry: Mapping[str, Any],
        control: ControlNode,
        account: str | None = None,
        scratch: str | None = None,
    ) -> None:
        options = resolve(kind, entry, control)
        self.label = label_of(kind, options)
        self.session = Session("store", StoreLink(scratch), threading.Semaphore(1))
        self.file = {"type": kind, "path": self.label, "options": options}
        self._account = account

    def ask(
        self, phase: str, limit: float = PATIENCE, inspected: list[str] | None = None, **fields: Any
    ) -> dict[str, Any]:
        """Return the answer to a request."""
        reply = self.session.ask(phase, limit, **self.request(inspected, **fields))
        assert reply.wait(limit + 5), "no answer came in time"
        assert reply.error is None, reply.error.problem
        said = reply.said
        assert isinstance(said, dict)
        return {**said, "moments": reply.moments}

    def request(self, inspected: list[str] | None = None, **fields: Any) -> dict[str, Any]:
        """Return the fields of a request."""
        files = [{**self.file, "inspected": inspected}]
        return {"files": files, "account": self._account, "check_mode": False, "retires": None, "seen": None, **fields}

    def inspect(self, live: str = OLD, **fields: Any) -> dict[str, Any]:
        """Return how the store is."""
        said = self.ask("inspect", live=fingerprint(live), **fields)
        (file,) = said["files"]
        return dict(file)

    def prepare(self, retire: str = OLD) -> list[dict[str, str]]:
        return list(self.ask("prepare", retire=fingerprint(retire))["problems"])

    def deploy(self, key: str = NEW, retires: str | None = None, **fields: Any) -> dict[str, Any]:
        retired = retires and {"key": fingerprint(retires), "accepted": True}
        return self.ask("deploy", key=key, live=fingerprint(key), since=SINCE, retires=retired or None, **fields)

    def close(self, live: str = NEW) -> dict[str, Any]:
        return self.ask("close", live=fingerprint(live))

    def conclude(self, live: str = NEW) -> dict[str, Any]:
        return self.ask("conclude", live=fingerprint(live))

    def rotate(self) -> dict[str, Any]:
        """Go through a whole rotation; return how the store is then."""
        assert self.inspect()["problem"] is None
        assert self.prepare() == []
        said = self.deploy(retires=OLD)
        assert said["problems"] == [] and "written" in said["moments"], said
        assert self.close()["problems"] == []
        assert self.conclude()["problems"] == []
        return self.inspect(NEW)

    def end(self) -> None:
        self.session.end()
        assert self.session.join(PATIENCE), "the process of the store is still there"
