# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any number of hostile environment files, written as the module writes them, held against the real readers.

A promise that was broken is reported with the smallest file that breaks it:
``make fuzz ARGS='--cases 100000'`` is the long run; the tests make short ones.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.tests.readers.cases import NAME, NEW
from ansible_collections.multicart.keys.tests.readers.many import MANY, one_by_one
from ansible_collections.multicart.keys.tests.readers.other_forms import FOREIGN, ORDINARY
from ansible_collections.multicart.keys.tests.readers.other_forms import KEY as WHOLE_KEY
from ansible_collections.multicart.keys.tests.readers.other_forms import NAME as WHOLE_NAME
from ansible_collections.multicart.keys.tests.readers.practice import PRACTICE
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere, Variables
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ReadMany = Callable[[Sequence[bytes]], list[Variables]]

PROBE = "PROBE"
OLD = "p.old"
_BATCH = 500
_ROUND = 2000
_VALUE = NEW.decode()

# What means something to at least one reader; random bytes would hardly ever do.
_WORDS = [
    *(
        b"A",
        b"KEY",
        b"XKEY",
        b"KEY_2",
        b"key",
        b"KEY.X",
        b"export ",
        b"export\t",
        b"=",
        b"=",
        b" = ",
        b"+=",
        b" =",
        b"= ",
    ),
    *(b"p.old", b"changeme", b"x y", b"it's", b'{"a": "b"}', b"<key>", b"$KEY", b"${KEY}", b"$(", b"${", b"$", b"\\"),
    *(b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\\\n", b"\\\r\n", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\t", b" ", b" "),
    *(
        b"'",
        b'"',
        b"`",
        b"'",
        b'"',
        b"#",
        b" #",
        b";",
        b"&",
        b"|",
        b"(",
        b")",
        b"{",
        b"}",
        b"[",
        b"]",
        b"!",
        b"*",
        b"~",
    ),
    *(b"<", b">", b"<<E\n", b"\nE\n", b"<<<", b"&&", b"||", b",", b":", b"-", b"/", b"%", b"@", b"?", b"^"),
    *(
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe9",
        b"\xc3\xa9",
        b"\xc2\xa0",
        b"\xe2\x80\xa8",
        b"\xe2\x80\x8b",
        b"\xc2\x85",
    ),
    *(b"set -a\n", b"unset KEY\n", b"if ", b"then ", b"fi\n", b"declare -x ", b"readonly ", b"KEY=p.old\n", b"A=1\n"),
    *(b"[Service]\n", b"\nEnvironment=", b"- ", b"\nKEY: p.old\n", b'"KEY": "p.old"', b"env[KEY] = ", b"set -x KEY a"),
    *(b"?key=p.old", b"https://p.old@h\n", b"define('KEY', 'p.old');", b"<<cd", b"<<E", b"set +a\n", b"\n \n"),
    *(b"a" * 300, b"'" * 3, b"\\" * 3, b"\nKEY='p.old'\n", b'\nexport KEY="p.old" # ours\n', b"#KEY=p.old\n"),
]
_EMPTY = [b""]
_LINE = [
    # one table for each part of a line; most choices are what people write
    _EMPTY * 16 + [b" ", b"\t", b"  ", b"\xc2\xa0"],
    _EMPTY * 12 + [b"export "] * 4 + [b"export\t", b"export  ", b"exportx ", b"set ", b"declare -x ", b"Environment="],
    [b"KEY"] * 18
    + [b"A", b"A", b"B", b"XKEY", b"KEYX", b"KEY_2", b"MY_KEY", b"key", b"A.B", b"2", b"", b"# KEY", b"#KEY"],
    _EMPTY * 12 + [b" ", b"\t"],
    [b"="] * 28 + [b"+=", b":", b"==", b""],
    _EMPTY * 12 + [b" ", b"\t", b"  "],
    _EMPTY * 8 + [b"'", b'"'] * 4 + [b"`", b"$'"],
    [b"p.old"] * 30
    + [b"", b"changeme", b"a b", b"<key>", b"it's", b'say "x"', b"$A", b"${A}", b"\\n", b"x\\", b"a#b", b"a #b", b"{}"]
    + [b"caf\xe9", b"caf\xc3\xa9", b"p.old\\", b"'p.old'", b"a;b", b"a&b", b"a`b", b"two\nlines", b"two\nKEY=p.old\nx"]
    + [b"x" * 5000, b"\xe2\x80\x8bp.old", b"p.old\x0b", b"[1,2]", b"(a)", b"$(A)", b"*", b"~", b"a=b", b"%s", b"!x"],
    _EMPTY * 20
    + [b";", b" # p.old", b"<<cd"]
    + [b" # ours", b" # it's", b"# ours", b"\t#it's", b' # "', b" ; ours", b" // x", b" #\\"],
    _EMPTY * 12 + [b" ", b"\t"],
]
_OTHER_LINES = [
    *(b"", b" ", b"# p.old", b"[Service]", b"SMTP=p.old", b"KEY: p.old", b'"KEY": "x"', b"env[KEY] = x", b"A= "),
    *(b"URL=https://h/?key=p.old", b"U=https://p.old@h", b"setenv KEY p.old", b"set +a", b"KEY_FILE=/k", b"export KEY"),
    # most files are still environment files
    *(b"", b"# it's", b"#KEY=p.old", b"; x", b"# \\", b"set -a", b"A", b"unset A", b"A=1", b"A='", b"'") * 5,
    b"[x]",
]
_WHOLE = [
    text.replace(WHOLE_NAME, NAME).replace(WHOLE_KEY, OLD).encode()
    for text in (*(text for text, _line in FOREIGN.values()), *ORDINARY.values(), *PRACTICE.values())
]
_ENDS = [[b"\n"], [b"\n"], [b"\n"], [b"\r\n"], [b"\n", b"\r\n", b"\r"]]
_WIDTH = len(_LINE) + 2


def _pieces(code: bytes) -> bytes:
    """Spell out words, one for each byte."""
    return b"".join(_WORDS[number % len(_WORDS)] for number in code)


def _lines(code: bytes) -> bytes:
    """Spell out lines of the kind that people write, each with an odd one among its parts now and then."""
    style, *rest = code
    ends, data = _ENDS[style % len(_ENDS)], b"\xef\xbb\xbf" if style % 13 == 0 else b""
    for start in range(0, len(rest) - _WIDTH, _WIDTH):
        kind, *chosen, end = rest[start : start + _WIDTH]
        parts = [table[number % len(table)] for table, number in zip(_LINE, chosen, strict=True)]
        if kind % 12:
            parts.insert(8, parts[6][-1:])  # close the quotes
        data += b"".join(parts) if kind % 7 else _OTHER_LINES[chosen[0] % len(_OTHER_LINES)]
        data += ends[end % len(ends)]
    return data if style % 4 else data.rstrip(b"\r\n")


def _spoilt(code: bytes) -> bytes:
    """Spell out such lines, with something put in at some place."""
    data = _lines(code[2:])
    at = code[0] * len(data) // 256
    return data[:at] + _WORDS[code[1] % len(_WORDS)] + data[at:]


def _whole(code: bytes) -> bytes:
    """Spell out a file as somebody has it, with a line put in, and maybe something else."""
    lines = _WHOLE[code[0] % len(_WHOLE)].split(b"\n")
    lines.insert(code[1] * len(lines) // 256, _lines(code[4 : 7 + _WIDTH]).rstrip(b"\n"))
    data = b"\n".join(lines)
    at = code[2] * len(data) // 256
    return data[:at] + _WORDS[code[3] % len(_WORDS)] + data[at:] if code[3] % 3 == 0 else data


def _spell(code: bytes) -> bytes:
    kind, lines, *rest = code
    form = (_lines, _lines, _spoilt, _spoilt, _whole, _pieces, bytes)[kind % 7]
    if form is _whole:
        return _whole(bytes(rest))
    start = b"A=1\n" if kind % 5 else b""  # without any such line, none is added
    return start + form(bytes(rest[: 5 + _WIDTH * (1 + lines % 4) if form in (_lines, _spoilt) else lines % 30]))


# One draw for a whole file: what takes long is drawing, not spelling out.
FILES = st.binary(min_size=60, max_size=60).map(_spell)


def draw(count: int, number: int) -> list[bytes]:
    """Return that many different files; the same for the same number."""
    found: dict[bytes, None] = {}

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(FILES)
    def collect(data: bytes) -> None:
        found[data] = None

    collect()
    return list(found)


@dataclass(frozen=True)
class Change:
    """A file, what became of it, and the values of the variable that were plain before."""

    before: bytes
    after: bytes
    old: frozenset[str]
    value: str | None


def changes(data: bytes) -> Iterator[Change]:
    """Write the new key into the file, and remove it from it, if neither is refused."""
    try:
        old = frozenset(item.value.decode("latin-1") for item in env_file.assignments(data, NAME))
    except env_file.EnvFileError:
        return
    for value in (_VALUE, None):
        try:
            after = _changed(data, value)
        except env_file.EnvFileError:
            continue
        again = env_file.with_value(after, NAME, NEW) if value else env_file.without(after, NAME)
        assert again == after, "a second run changes something"
        assert not (OLD in old and _left(after)), f"the old key is left: {data!r} became {after!r}"
        if after != data:
            yield Change(data, after, old, value)


def _changed(data: bytes, value: str | None) -> bytes:
    return other_form.without_key(data, NAME) if value is None else other_form.with_key(data, NAME, ApiKey(value))


def _left(data: bytes) -> bool:
    """Tell whether the old key, whole, stands on a line that may be no comment."""
    lines = [line.partition(b" #")[0].partition(b"\t#")[0] for line in data.split(b"\n")]
    lines = [line for line in lines if not re.match(rb"(\xef\xbb\xbf)?[ \t]*(#|;|//)", line)]
    return any(re.search(rb"p\.old", line) for line in lines)


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


_SEES_ITSELF = re.compile(rb"\$.*KEY|\$[$!_]", re.DOTALL)
"""A file whose other values hold this one's, or a process number."""

_EXCUSED: dict[str, Callable[[Change], object]] = {
    # It knows no lines like the one that is added.
    "fish": lambda change: not change.old,
    # It takes this for a command, and a word that begins with = for the name of one, whose absence ends the whole file.
    # And a semicolon alone for nothing at all, where others end with an error.
    "zsh": lambda change: (
        re.search(rb"KEY[ \t]+=[\"'`]?" + re.escape(NEW), change.after)
        or re.search(rb"^[ \t]*;", change.before, re.MULTILINE)
    ),
    # It reads nothing of a file that exports what it does not assign.
    "ruby-dotenv": lambda change: (
        change.value is None and re.search(rb"^[ \t]*export[ \t].*KEY", change.after, re.MULTILINE)
    ),
    # It reads nothing of a file with a name alone on a line, or with something behind quotes, unless that is the end.
    "godotenv": lambda change: re.search(rb"(?:^|\n)[^=:\n]+\Z|['\"][^'\"\n]+\Z", change.before),
    # They read another value behind what opens a quotation and never closes it, where the file ends with blanks.
    **dict.fromkeys(("node 22", "node 24"), lambda change: re.search(_OPEN_TO_THE_END, change.before)),
    # They read a character that is none as one, one that is white space to Unicode alone as a blank, and a name with a
    # colon as assigned once something follows.
    **dict.fromkeys(
        ("dotenv of npm", "dotenv-expand of npm"),
        lambda change: (
            not _is_utf8(change.before) or re.search(rb"[\x80-\xff][ \t]*(?:export\s+)?KEY|:\Z", change.before)
        ),
    ),
}
"""What a reader does to files that nobody means for it."""

_OPEN_TO_THE_END = rb"=[ \t]*([\"'`])(?:(?!\1)[^\n])*[ \t]\s*\Z"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def complaints(read: ReadMany, asked: Sequence[Change]) -> Iterator[tuple[Change, str]]:
    """Tell which promises the reader finds broken."""
    if read is MANY["docker"]:
        asked = [change for change in asked if not _misread_by_docker(change.before)]
    files = list(dict.fromkeys(data for change in asked for data in (change.before, change.after)))
    seen = dict(zip(files, read(files), strict=True))
    unsure = []
    # What zsh takes for a pattern or a command that is not there ends the whole file; it may get further now.
    whole = (
        [PROBE in probe for probe in read([probed(change.before) for change in asked])] if read is MANY["zsh"] else None
    )
    for number, change in enumerate(asked):
        if whole is not None and not whole[number]:
            continue
        if read is MANY["ruby-dotenv"] and _misread_by_docker(change.before):
            continue
        if any(read is MANY[name] and excuse(change) for name, excuse in _EXCUSED.items()):
            continue
        was, now = seen[change.before], seen[change.after]
        right = now.get(NAME) == change.value
        if was.get(NAME) in change.old and re.fullmatch(r"[A-Za-z0-9.]+", was[NAME]) and not right:
            yield change, "what was read right is not read right afterwards"
        if was.get(NAME) == now.get(NAME) == OLD:
            yield change, "the old key is still read"
        others = {name: value for name, value in was.items() if name != NAME and _is_name(name)}
        if not _SEES_ITSELF.search(change.before) and others != {name: now.get(name) for name in others}:
            yield change, "another variable reads differently"
        if not right or set(now) - set(was) - {NAME}:
            unsure.append(change)
    # A reader that never got to the end of the file may miss a line that is added there, and may get further now.
    probes = read([probed(change.before) for change in unsure])
    for change, probe in zip(unsure, probes, strict=True):
        now = seen[change.after]
        if PROBE in probe and not change.old and now.get(NAME) != change.value:
            yield change, "a reader that reads the whole file does not read the new line"
        # Node.js takes the next line for the value of a name with blanks alone behind it.
        taken = {name for name in now if f"{name}=" in probe.get(NAME, "")}
        if PROBE in probe and {name for name in now if _is_name(name)} - set(probe) - taken - {NAME}:
            yield change, "another variable appears"


def _misread_by_docker(data: bytes) -> bool:
    """Tell whether docker reads nothing of the file, or takes the text in a value of several lines for the variable.

    The model of docker, which says so, is held against the real one by ``test_readers.py``.
    """
    view = env_file._views(data)["docker"]
    lines = {item.line for item in view.readings if item.name == NAME}
    return view.broken or not lines <= {item.line for item in env_file.assignments(data, NAME)}


def probed(data: bytes) -> bytes:
    """Return the file with one more variable at its end."""
    return data + (b"" if not data or data.endswith(b"\n") else b"\n") + PROBE.encode() + b"=x\n"


def smallest(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return the file without every part that it fails without, too."""
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def broken(read: ReadMany, waiting: Sequence[Change]) -> list[tuple[str, bytes, bytes]]:
    """Return every kind of broken promise, with the smallest file for each and what became of it."""
    found: dict[str, Change] = {}
    for start in range(0, len(waiting), _BATCH):
        for change, what in complaints(read, waiting[start : start + _BATCH]):
            found.setdefault(what, change)
    result = []
    for what, change in found.items():

        def fails(data: bytes, what: str = what) -> bool:
            return any(what == other for _change, other in complaints(read, list(changes(data))))

        small = smallest(change.before, fails)
        result += [(what, small, item.after) for item, other in complaints(read, list(changes(small))) if other == what]
    return result


def timed(name: str, waiting: Sequence[Change]) -> tuple[float, list[tuple[str, bytes, bytes]]]:
    """Return what :func:`broken` finds of a reader, and how long that takes."""
    start = time.monotonic()
    found = broken(MANY[name], waiting)
    return time.monotonic() - start, found


def _is_here(name: str) -> bool:
    """Tell whether a reader is on this machine, and say why if it is not."""
    try:
        one_by_one(name, [b""])
    except NotHere as why:
        print(f"Without {name}: {why}", flush=True)
        return False
    return True


def main() -> int:
    """Make a long run and report it; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=MANY, default=list(MANY))
    arguments = parser.parse_args()
    readers = list(filter(_is_here, arguments.readers))
    logging.getLogger("dotenv").setLevel(logging.CRITICAL)  # it tells of every line that it cannot read
    spent: Counter[str] = Counter()
    for number in range(arguments.seed, arguments.seed + -(-arguments.cases // _ROUND)):
        files = draw(min(_ROUND, arguments.cases), number)
        waiting = [change for data in files for change in changes(data)]
        spent.update(files=len(files), changed=len({change.before for change in waiting}), changes=len(waiting))
        with ThreadPoolExecutor() as pool:
            found = pool.map(timed, readers, [waiting] * len(readers))
            for name, (seconds, promises) in zip(readers, found, strict=True):
                for what, before, after in promises:
                    print(f"{name}: {what}: {before!r} became {after!r}", flush=True)
                    spent["broken promises"] += 1
                spent[f"seconds of {name}"] += round(seconds)
        print(f"seed {number}: {dict(spent)}", flush=True)
    return 1 if spent["broken promises"] else 0


if __name__ == "__main__":
    sys.exit(main())
