# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lets something of the collection fail in a way that nobody expects, with secrets in the error's text.

A callback, since these are made before Ansible forks the worker in which the act runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import AccountOfRun
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Act

DOCUMENTATION = r"""
name: spoil
type: aggregate
short_description: Let something fail in a way that nobody expects
description: LEAKS_SPOIL says what; without it nothing is spoilt.
"""

_KINDS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "AnsibleError": AnsibleError,
    "RecursionError": RecursionError,
}


def _after(
    owner: Any, name: str, kind: type[Exception], when: Callable[..., bool] = lambda *given, **more: True
) -> None:
    """Let a function fail when it has done its work, with all that it was given and returns in the error's text."""
    real = getattr(owner, name)

    def failing(*given: Any, **more: Any) -> Any:
        answer = real(*given, **more)
        if when(*given, **more):
            raise kind(f"{[_shown(one) for one in given]} {more} {_shown(answer)}")
        return answer

    setattr(owner, name, failing)


def _shown(thing: Any) -> str:
    keys = [thing, getattr(thing, "live", None), getattr(thing, "previous", None)]
    return " ".join([repr(vars(thing)) if hasattr(thing, "request") else repr(thing), *_revealed(keys)])


def _revealed(keys: list[Any]) -> list[str]:
    return [key.reveal() for key in keys if hasattr(key, "reveal")]


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core ships no types
    """The callback."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "spoil"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        what, _dot, kind = os.environ.get("LEAKS_SPOIL", "").partition(" ")
        error = _KINDS.get(kind, ValueError)
        if what == "request":
            _after(session, "_line", error, lambda request: request["phase"] == "deploy")
        elif what == "exchange":
            _after(session, "_exchange", error, lambda _pipes, data, _reader: b'"deploy"' in data)
        elif what == "answer":
            _after(session.Session, "_answer", error, lambda _session, reply, _reader: "key" in reply.request)
        elif what == "rotation":
            _after(AccountOfRun, "rotate", error)
        elif what == "verification":
            _after(AccountOfRun, "verify", error)
        elif what == "release":
            _after(Act, "_release", error)
