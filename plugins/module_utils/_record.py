# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The record beside a file that holds a key: which rotation is pending, what is held and since when. Never a secret.

A record is believed of its own host alone: the owner of the directory may write one. Both sides use this module: a host
reads and writes its records by it, and the control node checks by it what a host says of them.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import glob
import hashlib
import json
import os
import re
from contextlib import suppress
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence

from ansible_collections.multicart.keys.plugins.module_utils._api_key import is_fingerprint

FORMAT = 1
"""Of the record; another number is another collection's, and the record counts as none."""

RETIRED_KEPT = 8
"""How many retired keys a record lists, the newest last."""

READERS_KEPT = 1024
"""How many sets of services and commands a record lists: of one file on a network share each host has its own."""

SERVICES_KEPT = 100
"""How many services that ran a record lists of one set of readers."""

ANY = "any"
"""In ``readers``: all that read the file. It held the key already when it was first inspected."""

MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
"""Where a machine has its identity: machine-id(5)."""

REJECTED, STILL_VALID, UNSEEN = "rejected", "still_valid", "unseen"
"""What was seen of a retired key: the API rejected it, or accepted it all the same, or nobody could try it."""

Running = Callable[[], List[str]]
"""Returns the services that run now."""

Record = Dict[str, Any]
"""The fields of a record:

``account``: a digest that tells the account of the key from any other.
``open``: something is under way.
``rotation``: ``retire``, the fingerprint of the key that a rotation retires, and ``concluded``, whether that rotation's
verdict was given; None: no rotation has been here.
``held``, ``since``: the key that the file was given, by its fingerprint, and since when it is known (UTC, ISO 8601).
``digest``: of the content with that key.
``readers``: which key each set of services and commands of a machine was last restarted with.
``retired``: the last keys that were retired or replaced: ``key``; ``seen``, see `REJECTED`, and ``at``, when that was;
``accepted``, whether the API accepted its replacement and it was read back.
``updated_at``: that of the account before and after the last rotation.
``running``: the services that ran when each set of them opened the record; None: that is not known.
"""

NONE = {
    "format": FORMAT,
    "account": None,
    "open": False,
    "rotation": None,
    "held": None,
    "since": None,
    "digest": None,
    "readers": {},
    "retired": [],
    "updated_at": None,
    "running": None,
}  # type: Record
"""The record of a file of which nothing is known."""

_WHOLE, _OF_VARIABLE = ".multicart-template.json", ".multicart.json"
_MACHINE = 16
"""How much of the name of a set of readers tells the machine, where there is one; half of it whatever its node name."""
_READERS = re.compile(r"(?:any|(?:[0-9a-f]{16}){1,2})\Z")
_PER_USER = re.compile(r"(?:^|\s)(?:--user\b|~)|\$")
"""In a word of a command: what is another thing for another user."""
_MACHINE_ID = re.compile(rb"(?!0+\Z)[0-9a-fA-F]{32}\Z")
_TIME = re.compile(r"[0-9T:.+Z-]{1,40}\Z")


class OtherAccount(Exception):
    """The file holds the key of another account than this run is about."""

    reason = "other_account"


class RejectedBefore(Exception):
    """The key is an old one: the API was seen to reject it, and a newer one was written here."""

    reason = "rejected_before"


def path_of(path: str, variable: Optional[str], state_dir: Optional[str]) -> str:
    """Return where the record of a file, and of one variable in it, is kept: beside it, whatever links lead there.

    Beside the file it is hidden, so that what includes all files of a directory leaves it out.
    """
    # In a directory for records, a link may be what stays the same, such as one to the newest release.
    named = os.path.realpath(path) if state_dir is None else path
    folder, name = os.path.split(named)
    entry = name + _WHOLE if variable is None else "{0}.{1}{2}".format(name, variable, _OF_VARIABLE)
    if state_dir is None:
        return os.path.join(folder, "." + entry)
    return os.path.join(state_dir, "{0}.{1}".format(digest_of(named.encode("utf-8", "surrogateescape")), entry))


def former_paths(path: str, variable: Optional[str], state_dir: Optional[str]) -> List[str]:
    """Return where the record may still be: of the file's other forms, or beside it, if there is a directory by now."""
    found = []
    for place in (state_dir, None) if state_dir else (None,):
        whole = path_of(path, None, place)
        stem = whole[: -len(_WHOLE)]
        of_variables = sorted(glob.glob("{0}.*{1}".format(glob.escape(stem), _OF_VARIABLE)))
        # A name of a variable has no dots: with one more, it is the record of another file.
        of_variables = [each for each in of_variables if "." not in each[len(stem) + 1 : -len(_OF_VARIABLE)]]
        found += [path_of(path, variable, place)] + ([whole] if variable else of_variables)
    return found[1:]


def digest_of(content: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a content, to tell whether it was changed since."""
    return hashlib.sha256(content).hexdigest()[:16]


def parse(content: bytes) -> Optional[Record]:
    """Return the record, or None if it is not one: a record that is cut short or foreign is never trusted."""
    try:
        return checked(json.loads(content.decode("utf-8")))
    except (ValueError, RecursionError):
        return None


def checked(raw: Any) -> Optional[Record]:
    """Return a record of exactly the known fields, or None if anything in it has another form."""
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or isinstance(raw["format"], (bool, float)):
        return None
    found = {name: raw.get(name, default) for name, default in NONE.items()}
    right = (
        isinstance(found["open"], bool)
        and _all(is_fingerprint, found["account"], found["held"], found["digest"])
        and _all(_is_time, found["since"])
        and (found["rotation"] is None or _is_rotation(found["rotation"]))
        and _is_of_readers(found["readers"], is_fingerprint)
        and isinstance(found["retired"], list)
        and len(found["retired"]) <= RETIRED_KEPT
        and all(_is_retired(entry) for entry in found["retired"])
        and (found["updated_at"] is None or _is_pair(found["updated_at"]))
        and (found["running"] is None or _is_of_readers(found["running"], _is_names))
    )
    return found if right else None


def serialize(record: Record) -> bytes:
    """Return the content of a record's file."""
    return (json.dumps(record, sort_keys=True) + "\n").encode("utf-8")


def known_of(record: Optional[Record], holds: Sequence[str]) -> Record:
    """Return what is known of a file: of one without a record, that its readers use the one key that it holds.

    Should nothing come of what begins with that, no restart is due.
    """
    return record or (adopted(NONE, holds[0]) if len(set(holds)) == 1 else NONE)


def opened(
    record: Optional[Record],
    retire: str,
    running: Optional[Running] = None,
    account: Optional[str] = None,
    readers: str = ANY,
) -> Record:
    """Return the record with the rotation of a key under way; what it knew stays.

    :param running: returns the services that run now; a record that these readers opened already knows which did.
        Unless it was opened for the same key: that is live, so nothing was restarted in place of it since then.
    """
    known = record or NONE
    if known["rotation"] and known["rotation"]["retire"] == retire and readers in (known["running"] or {}):
        others = {name: ran for name, ran in known["running"].items() if name != readers}
        known = dict(known, running=others)
    begun = _begun(known, readers, running)
    return dict(begun, rotation={"retire": retire, "concluded": False}, account=account or begun["account"])


def _begun(record: Record, readers: str, running: Optional[Running]) -> Record:
    known = (record["running"] or {}) if record["open"] else {}
    if running is not None and readers not in known:
        known = _newest(known, readers, running()[:SERVICES_KEPT])
    return dict(record, open=True, running=known)


def _newest(known: Dict[str, Any], readers: str, value: Any) -> Dict[str, Any]:
    """Return what is known of sets of readers with one more of them, and of not too many others."""
    others = [name for name in known if name != readers][-(READERS_KEPT - 1) :]
    return dict({name: known[name] for name in others}, **{readers: value})


def rewritten(record: Record, readers: str, running: Optional[Running] = None) -> Record:
    """Return the record of a file that is about to get another content: what its readers run with is no longer known.

    These readers are restarted with it, which is not noted before all went well; should the former content come back
    meanwhile, they need another restart.
    """
    known = {name: key for name, key in record["readers"].items() if name not in (ANY, readers)}
    return dict(_begun(record, readers, running), readers=known)


def wrote(record: Record, held: str, digest: Optional[str], since: str, account: Optional[str] = None) -> Record:
    """Return the record of a file that holds this key now; a key that it held already keeps its date."""
    known = record["since"] if record["held"] == held else None
    return dict(record, held=held, digest=digest, since=known or since, account=account or record["account"])


def replaced(record: Record, found: Iterable[str], held: str, retires: Optional[Dict[str, Any]] = None) -> Record:
    """Return the record of a file in which a key replaces those that were found: they are retired by that.

    An account has one key. A process that keeps another one is found by that, in every later run.

    :param retires: what is known of the key that a rotation retired: ``key``, ``accepted``.
    """
    kept = record
    for key in (record["held"], *found):
        if key not in (None, held):
            kept = retired(kept, key, UNSEEN, None, accepted=False)
    return retired(kept, retires["key"], UNSEEN, None, retires["accepted"]) if retires else kept


def adopted(record: Record, held: str) -> Record:
    """Return the record of a file that held the key when it was first inspected: its readers use it already."""
    return dict(record, readers={ANY: held})


def restarted(record: Record, readers: str, held: str) -> Record:
    """Return the record after a set of readers was restarted with a key.

    Those that have another one are forgotten: their restart is due in any case, unless their machine is gone.
    """
    others = {name: key for name, key in record["readers"].items() if key == held}
    return dict(record, readers=_newest(others, readers, held))


def closed(record: Record, readers: str = ANY, held: Optional[str] = None, services: Iterable[str] = ()) -> Record:
    """Return the record with nothing under way; what ran of other readers is known until they were restarted, too.

    :param held: the key that these readers were restarted with; None: no restart was due.
    :param services: those of these readers: nothing is left to do for them, whichever set of this machine noted them.
    """
    kept = record if held is None else restarted(record, readers, held)
    done, others = set(services), {}
    for name, ran in (kept["running"] or {}).items():
        is_here = name[:_MACHINE] == readers[:_MACHINE]
        left = [service for service in ran if not (is_here and service in done)]
        if name != readers and (left or not ran):
            others[name] = left
    return dict(kept, open=False, running=others or None)


def to_be_running(record: Record, readers: str) -> List[str]:
    """Return the services that ran on this machine when anything began that is not finished there.

    By whatever set of readers it was noted: what a restart that failed has stopped was not stopped on purpose.
    """
    return [service for ran in _noted(record, readers).values() for service in ran]


def _noted(record: Record, readers: str) -> Dict[str, List[str]]:
    """Return what ran by set of readers, of the machine of these: a new node name makes it no other one.

    But one that the record knows by this name is a clone of what has another name.
    """
    noted = record["running"] or {}
    known = any(name[:_MACHINE] == readers[:_MACHINE] for name in (*record["readers"], *noted))
    length = _MACHINE if known else _MACHINE // 2
    return {name: ran for name, ran in noted.items() if name[:length] == readers[:length]}


def retired(record: Record, key: str, seen: str, at: Optional[str], accepted: bool) -> Record:
    """Return the record with what is known of a retired key: what was seen of it before is not forgotten."""
    before = next((entry for entry in record["retired"] if entry["key"] == key), None)
    if before is not None:
        accepted = accepted or before["accepted"]
        if seen == UNSEEN:
            seen, at = before["seen"], before["at"]
    entry = {"key": key, "seen": seen, "at": at, "accepted": accepted}
    others = [other for other in record["retired"] if other["key"] != key]
    return dict(record, retired=(others + [entry])[-RETIRED_KEPT:])


def concluded(record: Record, seen: Optional[Dict[str, Any]] = None) -> Record:
    """Return the record with the verdict of its rotation given.

    :param seen: of the key that it retired: ``key``, ``seen``, ``at``, ``accepted`` and ``updated_at``, as in a record.
    """
    rotation = record["rotation"]
    kept = dict(record, rotation=rotation and dict(rotation, concluded=True))
    if not seen:
        return kept
    kept = retired(kept, seen["key"], seen["seen"], seen["at"], seen["accepted"])
    return dict(kept, updated_at=seen["updated_at"] or kept["updated_at"])


def is_of_other(record: Optional[Record], account: Optional[str]) -> bool:
    """Tell whether the file holds the key of another account than this."""
    known = record["account"] if record else None
    return bool(account and known and known != account)


def refuse_rejected(record: Optional[Record], key: str, place: str) -> None:
    """Refuse a key that this record lists as rejected: no key comes back, so what says that it is live is behind.

    :param place: of the record, in words.
    """
    known = record or NONE
    if known["held"] != key and any((entry["key"], entry["seen"]) == (key, REJECTED) for entry in known["retired"]):
        raise RejectedBefore(
            "it does not get the key {0}: the API has rejected it before, so its current answer is out of date; "
            "run again in a few minutes; or, if that key is live all the same, remove {1} first".format(key, place)
        )


def restart_due(record: Optional[Record], held: str, readers: str) -> bool:
    """Tell whether a set of readers may still run with another key than the one that the file holds.

    :param held: fingerprint of the key in the file.
    :param readers: the set, by `readers_of`.
    """
    return record is not None and held not in (record["readers"].get(readers), record["readers"].get(ANY))


def only_a_start_is_due(record: Record, held: str, readers: str, commands: bool) -> bool:
    """Tell whether all that was begun with a key is done, so that readers of which nothing is known need but a start.

    :param commands: among them are commands, which may restart what runs elsewhere, and is not new where this machine
        is: then these very ones were run, by a machine of another name.
    """
    noted = (record["running"] or {}).items()
    # Nothing of these commands was stopped, where a container that was to run them is no more.
    unfinished = any(ran or not commands or name[_MACHINE:] != readers[_MACHINE:] for name, ran in noted)
    if record["open"] or unfinished or readers in record["readers"]:
        return False
    done = [name for name, key in record["readers"].items() if key == held]
    return any(not commands or name[_MACHINE:] == readers[_MACHINE:] for name in done)


def readers_of(services: Any, commands: Any, machine: str = "", user: Optional[int] = None) -> str:
    """Return a name for a set of services and commands; those that are the same have the same name.

    :param machine: where they run, see `this_machine`, with which the name begins: hosts that share a file mostly have
        the same. Empty: anywhere, as where there is nothing to restart.
    :param user: who runs the commands: where they name what each user has, such as ``systemctl --user``, those of
        another are others.
    """
    machine = machine if services or commands else ""
    user = user if any(_PER_USER.search(word) for command in commands for word in command) else None
    return machine + digest_of(json.dumps([user, services, commands], sort_keys=True).encode("utf-8"))


def this_machine() -> str:
    """Return a name for this machine, whatever the inventory calls it; clones differ in their node names."""
    found = b""
    for path in MACHINE_IDS:
        with suppress(OSError), open(path, "rb") as file:
            content = file.read(100).strip()
            if not found and _MACHINE_ID.match(content):  # an image that was never booted has none, or "uninitialized"
                found = content.lower()
    node = os.uname().nodename.encode("utf-8", "surrogateescape")
    return digest_of(found or node)[: _MACHINE // 2] + digest_of(node)[: _MACHINE // 2]


def started_at() -> Optional[float]:
    """Return when the first process of this machine, or container, was started, by its clock; None: not known."""
    try:
        with open("/proc/1/stat", "rb") as stat, open("/proc/stat", "rb") as kernel:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
            booted = next(int(line.split()[1]) for line in kernel if line.startswith(b"btime "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
    return booted + ticks / float(os.sysconf("SC_CLK_TCK"))


def _all(test: Any, *values: Any) -> bool:
    return all(value is None or test(value) for value in values)


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and _TIME.match(value) is not None


def _is_rotation(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"retire", "concluded"}
        and is_fingerprint(value["retire"])
        and isinstance(value["concluded"], bool)
    )


def _is_of_readers(value: Any, is_right: Callable[[Any], bool]) -> bool:
    """Tell whether there is something right for each set of readers."""
    return (
        isinstance(value, dict)
        and len(value) <= READERS_KEPT
        and all(_READERS.match(name) and is_right(each) for name, each in value.items())
    )


def _is_retired(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"key", "seen", "at", "accepted"}
        and is_fingerprint(value["key"])
        and value["seen"] in (REJECTED, STILL_VALID, UNSEEN)
        and _all(_is_time, value["at"])
        and isinstance(value["accepted"], bool)
    )


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= SERVICES_KEPT
        and all(isinstance(name, str) and 0 < len(name) <= 256 for name in value)
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _all(_is_time, *value)
