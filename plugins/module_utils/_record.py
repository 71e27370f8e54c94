# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record beside a file that holds a key: what is under way, what was written and since when. Never a secret.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import hashlib
import json
import os
from typing import Any, Dict, Optional

Record = Dict[str, Any]
"""``open``, ``begun``, ``restart`` (bools), ``retire``, ``held`` (fingerprints or None), ``since`` (UTC, ISO 8601),
``digest``, and ``account``, a digest that tells the account of the key held from any other.

``restart`` says that the file was changed and its readers have not been restarted since.
"""

NONE = dict(
    dict.fromkeys(("open", "begun", "restart"), False),
    **dict.fromkeys(("retire", "held", "since", "digest", "account")),
)  # type: Record
"""The record of a file of which nothing is known."""


class OtherAccount(Exception):
    """The file holds the key of another account than this run is about."""

    reason = "other_account"


def path_of(path: str, variable: Optional[str], state_dir: Optional[str]) -> str:
    """Return where the record of a file, and of one variable in it, is kept.

    Beside the file it is hidden, so that nothing which includes a whole directory takes it for a part.
    """
    folder, name = os.path.split(path)
    entry = "{0}.multicart-template".format(name) if variable is None else "{0}.{1}.multicart".format(name, variable)
    if state_dir is None:
        return os.path.join(folder, ".{0}.json".format(entry))
    return os.path.join(state_dir, "{0}.{1}.json".format(digest_of(path.encode("utf-8", "surrogateescape")), entry))


def digest_of(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a content, to tell whether it was changed since."""
    return hashlib.sha256(content).hexdigest()[:16]


def parse(content: bytes) -> Optional[Record]:
    """Return the record, or None if it is not one: a record that is cut short or foreign is never trusted."""
    try:
        raw = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("open"), bool):
        return None
    found = {name: raw.get(name, default) for name, default in NONE.items()}
    bools, texts = (
        (found["open"], found["begun"], found["restart"]),
        [found[name] for name in ("retire", "held", "since", "digest", "account")],
    )
    if not all(isinstance(value, bool) for value in bools):
        return None
    if any(value is not None and not (isinstance(value, str) and len(value) <= 64) for value in texts):
        return None
    return found


def serialize(record: Record) -> bytes:
    """Return the content of a record's file."""
    return (json.dumps(record, sort_keys=True) + "\n").encode("utf-8")


def opened(record: Optional[Record], retire: Optional[str], restart: bool = False, begun: bool = False) -> Record:
    """Return the record with something under way; what it knew stays.

    :param restart: the file is about to change, so that its readers must be restarted.
    :param begun: it is a rotation that was begun, and not just a write that replaces a key.
    """
    return dict(record or NONE, open=True, retire=retire, restart=restart, begun=begun)


def wrote(record: Record, held: str, digest: str, since: str, account: Optional[str] = None) -> Record:
    """Return the still open record of a file that holds this key now; a key that it held already keeps its date."""
    known = record.get("since") if record.get("held") == held else None
    return dict(record, held=held, digest=digest, since=known or since, account=account or record.get("account"))


def closed(record: Record) -> Record:
    """Return the record with nothing under way."""
    return dict(record, open=False, restart=False, begun=False)


def restart_due(record: Optional[Record], held: str) -> bool:
    """Tell whether whoever reads the file may still run with another key than the one it holds.

    A record that is open for the very key that the file holds waits for a rotation, if it does not say otherwise.
    """
    return record is not None and record["open"] and (record["restart"] or record["retire"] != held)
