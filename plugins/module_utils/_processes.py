# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Which processes of a host hold a key in their environment, and what would restart them.

What counts is what a process holds, not what a file holds. The scan finds faults and never shows health: a program
that loads a file by itself, or overwrites its environment, is not seen. Only fingerprints leave the host.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import fnmatch
import os
import re
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey

SERVICE, USER_SERVICE, SESSION = "service", "user_service", "session"
CONTAINER, SCHEDULED, NOWHERE = "container", "scheduled", "nowhere"
"""What a process belongs to: a unit of systemd, one of a user's own systemd, somebody's login, a container, a timer or
cron, or nothing that would restart it."""

WORDS = {
    SERVICE: "unit {0}",
    USER_SERVICE: "user unit {0}",
    SESSION: "a login",
    CONTAINER: "a container",
    SCHEDULED: "a timer or cron job",
    NOWHERE: "no service",
}
"""How a place is called, with the name of its unit if it has one."""

MOST_HITS = 100
"""Processes that are named; there may be more of them."""

Hit = Dict[str, Any]
"""``key`` (fingerprint), ``pid``, ``command`` (its short name), ``place`` (see `SERVICE`), ``unit`` (or None)."""

_CONTAINER = re.compile(
    r"(^|/)((docker|libpod|cri-containerd|crio)-[^/]*\.scope|(docker|lxc|kubepods)/|kubepods[^/]*\.slice|machine\.slice/)"
)
_FIRST_NAMESPACE = "pid:[4026531836]"
"""That of the machine itself; Linux has had this number for it since 3.8."""
_KERNEL_THREAD = 0x00200000
_UNIT = re.compile(r"([^/]+\.service)(?=/|$)")
_SESSIONS = ("sshd", "sshd-session", "login", "tmux: server", "screen", "SCREEN")
_CRON = ("cron", "crond", "anacron", "atd", "cron.service", "crond.service", "anacron.service", "atd.service")


def scan(keys: Iterable[str], ignored: Iterable[str] = (), root: str = "/proc") -> Tuple[List[Hit], bool]:
    """Return the processes that hold any of these keys, and whether there are some that could not be read.

    Left out are this process, those that have started it, and all others of the run or login that it belongs to.

    :param keys: fingerprints.
    :param ignored: patterns of units or command names.
    """
    wanted, patterns = set(keys), list(ignored)
    if not wanted:
        return [], False
    names = [name for name in os.listdir(root) if name.isdigit()]
    found, hidden = [], _hides_some(root, names)  # type: List[Tuple[int, str]], bool
    known = {}  # type: Dict[bytes, Optional[str]]
    for name in names:
        held = _keys_of(os.path.join(root, name, "environ"), known)
        hidden = hidden or (held is None and _is_program(os.path.join(root, name, "stat")))
        found += [(int(name), key) for key in sorted(wanted.intersection(held or ()))]
    if not found:
        return [], hidden
    processes = _Processes(root)
    hits = [_hit(processes, pid, key) for pid, key in found if not processes.is_own(pid)]
    kept = [hit for hit in hits if not any(_matches(hit, pattern) for pattern in patterns)]
    return kept[:MOST_HITS], hidden


def _keys_of(path: str, known: Dict[bytes, Optional[str]]) -> Optional[Set[str]]:
    """Return the fingerprints of all values shaped like a key; None: the process may not be read.

    :param known: what each value was found to be before; most processes share most of them.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except PermissionError:
        return None
    except OSError:
        return set()  # it has ended
    found = set()
    for entry in content.split(b"\0"):
        value = entry.partition(b"=")[2]
        if b"." not in value:
            continue
        if value not in known:
            known[value] = _fingerprint_of(value)
        key = known[value]
        if key is not None:
            found.add(key)
    return found


def _fingerprint_of(value: bytes) -> Optional[str]:
    try:
        return ApiKey(value.decode("ascii")).fingerprint
    except (NotAKey, UnicodeDecodeError):
        return None


def _hides_some(root: str, names: List[str]) -> bool:
    """Tell whether processes are not even listed: with ``hidepid=`` those of others, in a PID namespace all outside."""
    return "1" not in names or _namespace(root, "self") != _FIRST_NAMESPACE


def _is_program(path: str) -> bool:
    """Tell by its status whether a process that cannot be read is neither a thread of the kernel nor a zombie."""
    try:
        with open(path, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0] != b"Z" and not int(fields[6]) & _KERNEL_THREAD
    except PermissionError:
        return True
    except (OSError, IndexError):
        return False  # it has ended


class _Processes:
    """The processes of a host, by number; each is inspected once it is asked for."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._known = {}  # type: Dict[int, Tuple[str, int, bool]]
        self._line = [os.getpid()] + self.ancestors(os.getpid())
        runs = [pid for pid in self._line if self._is_ansible(pid)]
        logins = [pid for pid in self._line if self.name(pid) in _SESSIONS]
        self._top = runs[-1] if runs else logins[0] if logins else os.getpid()

    def text(self, pid: int, name: str) -> str:
        """Return a file of a process; empty if it has ended."""
        try:
            with open(os.path.join(self.root, str(pid), name), "rb") as file:
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def name(self, pid: int) -> str:
        """Return the short name of a process's program."""
        return self._look_at(pid)[0]

    def has_terminal(self, pid: int) -> bool:
        return self._look_at(pid)[2]

    def ancestors(self, pid: int) -> List[int]:
        """Return the parent of a process, its parent, and so on."""
        found = []  # type: List[int]
        while len(found) < 1000:
            pid = self._look_at(pid)[1]
            if pid <= 0:
                break
            found.append(pid)
        return found

    def is_own(self, pid: int) -> bool:
        """Tell whether a process has started this one, or is of the same run of Ansible or the same login."""
        return pid in self._line or self._top in self.ancestors(pid)

    def _look_at(self, pid: int) -> Tuple[str, int, bool]:
        if pid not in self._known:
            command, _bracket, rest = self.text(pid, "stat").rpartition(")")
            fields = rest.split()
            whole = len(fields) > 4
            parent, terminal = (int(fields[1]), fields[4] not in ("0", "-1")) if whole else (0, False)
            self._known[pid] = command.partition("(")[2], parent, terminal
        return self._known[pid]

    def _is_ansible(self, pid: int) -> bool:
        words = self.text(pid, "cmdline").split("\0")[:3]  # an interpreter and an option of it may come before
        return any(os.path.basename(word).startswith("ansible") for word in words)


def _hit(processes: _Processes, pid: int, key: str) -> Hit:
    place, unit = _place_of(processes, pid)
    return {"key": key, "pid": pid, "command": processes.name(pid)[:64], "place": place, "unit": unit}


def _place_of(processes: _Processes, pid: int) -> Tuple[str, Optional[str]]:
    groups = [line.split(":", 2)[2] for line in processes.text(pid, "cgroup").splitlines() if line.count(":") >= 2]
    # The innermost unit; a user's own manager is one itself.
    units = [unit for group in groups for unit in _UNIT.findall(group) if not unit.startswith("user@")]
    # What could be taken for a file of the kernel, as memory.service, has an underscore before its name there.
    units = [unit[1:] if unit.startswith("_") else unit for unit in units]
    if _is_elsewhere(processes, pid) or any(_CONTAINER.search(group) for group in groups):
        return CONTAINER, None
    commands = [processes.name(each) for each in processes.ancestors(pid)]
    if any(name in _CRON for name in commands + units):
        return SCHEDULED, None
    if any("/session-" in group for group in groups) or processes.has_terminal(pid):
        return SESSION, None
    if units:
        return USER_SERVICE if any("/user@" in group for group in groups) else SERVICE, units[-1]
    if any(name in _SESSIONS for name in commands):
        return SESSION, None
    return NOWHERE, None


def _is_elsewhere(processes: _Processes, pid: int) -> bool:
    """Tell whether a process is in another PID namespace than this one: a container."""
    there, here = _namespace(processes.root, str(pid)), _namespace(processes.root, "self")
    return None not in (there, here) and there != here


def _namespace(root: str, pid: str) -> Optional[str]:
    try:
        return os.readlink(os.path.join(root, pid, "ns", "pid"))
    except OSError:
        return None


def _matches(hit: Hit, pattern: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for name in (hit["unit"] or "", hit["command"]) if name)
