# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Types shared by the client and the rotation; no HTTP, no Ansible."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError


@dataclass(frozen=True)
class Account:
    """An account as the API tells it.

    :ivar id: the API's id of the account.
    :ivar key: its live key.
    :ivar fields: its other fields, cleaned, safe to show.
    """

    id: str
    key: ApiKey
    fields: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """Return a field that is a text; None: it is missing, or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None


class Verdict(enum.Enum):
    """What the API made of one request to rotate."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # it rejected the credential
    REFUSED = "refused"  # a definite no for another cause
    UNCLEAR = "unclear"  # no usable answer: accepted or not
    NOT_SENT = "not_sent"  # the request cannot have reached it


@dataclass(frozen=True)
class RotationAnswer:
    """The verdict on one request to rotate, with the error to report for all but ``ACCEPTED``."""

    verdict: Verdict
    error: MulticartError | None = None


class Api(Protocol):
    """What the rotation needs of the API."""

    def read(self) -> Account:
        """Read the account with a credential that outlives its key.

        :raises MulticartError: why it could not be read.
        """

    def rotate(self, key: ApiKey) -> RotationAnswer:
        """Ask once for a rotation, authenticated by the key that is to be replaced."""

    def accepts(self, key: ApiKey) -> bool:
        """Tell whether the API accepts this key.

        :raises MulticartError: when that could not be learnt.
        """


@dataclass(frozen=True)
class Trial:
    """One credential, tried by reading the account with it.

    :ivar name: ``session_token``, ``email and password`` or ``api_key``.
    :ivar account: the id of the account that it read; None: it did not.
    :ivar key: that account's live key.
    :ivar error: why it did not; None: it did.
    :ivar mark: tells the account from any other, as the records of hosts do.
    """

    name: str
    account: str | None = None
    key: ApiKey | None = None
    error: MulticartError | None = None
    mark: str | None = None

    @property
    def outlives_rotation(self) -> bool:
        """Whether it can read the key that replaces the live one."""
        return self.key is not None and self.name != "api_key"
