# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Change one variable of an environment file and nothing else: bytes in, bytes out, no I/O.

There is no such thing as *the* format of an environment file. Shells, systemd, Docker, python-dotenv and Node.js
each read the same bytes by rules of their own, and nobody tells us which of them will. So this module does not
guess a dialect. It reads the file as every reader does (by the ``_read_as_*`` functions, each a small
model of one real parser, held against the real ones by ``test_readers.py``), changes the value where they agree
that there is one, reads it again, and gives the result out only if every reader that could read the variable now
reads the new value and every other variable reads as before. Otherwise it raises `Ambiguous` and changes nothing.

Imported by modules that run on managed hosts: Python 3.6 syntax, standard library only.
"""

import re
from bisect import bisect_left
from collections import namedtuple
from functools import lru_cache

from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey

Assignment = namedtuple("Assignment", "start end value line")
"""One active assignment: byte offsets of the value (between the quotes, if any), the value itself, the line."""

_Reading = namedtuple("_Reading", "name line last_line raw value")
"""What one reader saw: a variable (or, with no name, anything else that must stay as it is) and its raw text.

`line` and `last_line` are where the value starts and ends. `value` is the unquoted value if it is a plain one.
"""

_View = namedtuple("_View", "readings broken")
"""Everything one reader saw; `broken` if it gave up, so that nothing is known about what follows."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORD = re.compile(r"[A-Za-z0-9_]+")


class EnvFileError(ValueError):
    """The content cannot be worked with; `reason` says why in one word. The message names lines, never content."""

    reason = "not_text"


class NotText(EnvFileError):
    """The content is no text of bytes: it holds NUL bytes or starts like UTF-16."""


class BadName(EnvFileError):
    """No reader would take this for the name of a variable."""

    reason = "invalid_option"


class Ambiguous(EnvFileError):
    """The readers disagree about the variable in a way that no single change can satisfy."""

    reason = "ambiguous"

    def __init__(self, line, why):
        super().__init__("line {0}: {1}".format(line, why))
        self.line = line


def assignments(data, name):
    """Return every active `Assignment` of the variable in the content, in order.

    Active is what at least one reader takes for an assignment; not a comment, not a line of a quoted value.

    :raises EnvFileError: `NotText`, `BadName`, or `Ambiguous` when readers disagree.
    """
    return _active(_views(data), data, name)


def with_value(data, name, value):
    """Return the content with every active assignment of the variable changed to the value.

    Without any, a plain ``NAME=value`` line is added. The value is of characters that need no quotes in any
    dialect (an API key's).

    :raises EnvFileError: as for `assignments`, or when the change would not read right.
    """
    before = _views(data)
    found = _active(before, data, name)
    changed = data
    moved = {}  # where each line is afterwards
    for assignment in reversed(found):
        comment, line = _line_with(data, assignment, name, value)
        start, end = _bounds_of_line(data, assignment.start)
        changed = changed[:start] + line + changed[end:]
        moved = {was: now + comment for was, now in moved.items()}
        moved[assignment.line] = assignment.line + comment
    if not found:
        end = _end_of_content(data)
        start = data[:end] if not end or data[:end].endswith(b"\n") else data[:end] + b"\n"
        if data[end:].strip() and _SHELL_CONTINUED.search(start):
            raise Ambiguous(start.count(b"\n"), "a shell takes a line that is added behind this one for a part of it")
        # Never CR LF: a shell would read CR as a part of it.
        changed = start + name.encode("ascii") + b"=" + value + b"\n" + data[end:]
        moved = {0: start.count(b"\n") + 1}
    if changed != data:
        _verify(before, _views(changed), name, value.decode("ascii"), moved)
    return changed


_TRAILER = re.compile(rb"[ \t\r]*(?:set[ \t]+\+(?:a|o[ \t]+allexport)[ \t\r]*)?\Z")


def _end_of_content(data):
    """Return where a line can be added: before blank lines at the end, which not all readers get across.

    Also before ``set +a``, after which a shell exports nothing.
    """
    lines = data.split(b"\n")
    kept = len(lines)
    while kept and _TRAILER.match(lines[kept - 1]):
        kept -= 1
    return min(len(data), sum(len(line) + 1 for line in lines[:kept]))


def _bounds_of_line(data, at):
    end = data.find(b"\n", at)
    return data.rfind(b"\n", 0, at) + 1, len(data) if end < 0 else end


def _line_with(data, assignment, name, value):
    """Return the assignment's line with the value, and how many lines were put before it.

    A value that is no key is one to fill in: of blanks and a comment beside it some readers would make a part of the
    key, so that they go, and the comment to a line of its own.
    """
    start, end = _bounds_of_line(data, assignment.start)
    line, held = data[start:end], (assignment.start - start, assignment.end - start)
    if key_in(assignment) is not None:
        return 0, line[: held[0]] + value + line[held[1] :]
    match = _own_form(name).match(line.decode("latin-1"))
    blanks, tail = match.span("blanks"), match.span("tail")
    changed = line[: blanks[0]] + line[blanks[1] : held[0]] + value + line[held[1] : tail[0]]
    comment, ending = line[slice(*tail)].strip(b" \t"), line[tail[1] :]
    if not comment:
        return 0, changed + ending
    # Here never CR LF: the comment kept the CR from being read as a part of the value.
    return 1, comment + ending + b"\n" + changed


def without(data, name):
    """Return the content without the lines that assign the variable.

    :raises EnvFileError: as for `with_value`.
    """
    before = _views(data)
    found = _active(before, data, name)
    lines = data.split(b"\n")
    for assignment in reversed(found):
        if _SHELL_CONTINUED.search(b"\n".join(lines[: assignment.line - 1])):
            raise Ambiguous(assignment.line, "a shell takes this line for the end of the command before it")
        del lines[assignment.line - 1]
    changed = b"\n".join(lines)
    if changed != data:
        _verify(before, _views(changed), name, None, {item.line: 0 for item in found})
    return changed


def require_name(name):
    """Raise `BadName` unless every reader would take this for the name of a variable."""
    if not _NAME.match(name):
        raise BadName("variable must be a name of letters, digits and underscores that starts with no digit")


def key_in(assignment):
    """Return the `ApiKey` that is assigned, or ``None``: a value of another shape (``changeme``) is no key."""
    try:
        return ApiKey(assignment.value.decode("ascii"))
    except (NotAKey, UnicodeDecodeError):
        return None


# What the readers agree on


def _active(views, data, name):
    """Return the assignments that the readers see, provided that they mean the same lines."""
    require_name(name)
    form = _own_form(name)
    declared = re.compile(
        r"(?:readonly|declare|typeset|local)[ \t][^\n]*(?<![A-Za-z0-9_$])%s(?![A-Za-z0-9_])" % re.escape(name)
    )
    lines = data.decode("latin-1").split("\n")
    composed = re.compile(r"(?![A-Za-z_][A-Za-z0-9_]*\+?=)[^ \t\n]*\$\{?%s(?![A-Za-z0-9_])" % re.escape(name))
    for item in views["a shell"].readings:
        if item.name is None and composed.match(item.raw):
            raise Ambiguous(item.line, "a shell would take the value for a part of a command's name; remove that line")
        if item.name is None and declared.match(item.raw) and not form.match(lines[item.line - 1]):
            raise Ambiguous(
                item.line, "a shell may refuse to assign a variable that is declared here; remove that line"
            )
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    found = []
    for number in sorted(_lines_seen(views, name)):
        match = form.match(lines[number - 1])
        if not match:
            raise Ambiguous(
                number,
                "the variable is not assigned one plain value on a line of its own, so that it cannot be replaced "
                "safely; write it as {0}=VALUE, or use a template if this is no environment file".format(name),
            )
        held = next(group for group in ("single", "double", "backtick", "bare") if match.group(group) is not None)
        start, end = (starts[number - 1] + offset for offset in match.span(held))
        found.append(Assignment(start, end, data[start:end], number))
    return found


_EXPORTING = r"(?:export|(?:declare|typeset)[ \t]+-x)"


def _own_form(name):
    """Return the pattern of a line whose value can be replaced without touching anything else.

    Nothing that a reader composes a value from (``$``, a backslash) is replaced: who wrote it keeps the value
    somewhere else. Between backticks, which Node.js takes for quotes, a shell would run a command.
    """
    return re.compile(
        r"""(?:\xef\xbb\xbf)?[ \t]*(?:%s[ \t]+)?%s[ \t]*=
        (?P<blanks>(?:[ \t]*(?=[^ \t\r\#]))?)
        (?:
            '(?P<single>[^'"`\\$\r]*)'
          | "(?P<double>[^'"`\\$\r]*)"
          | `(?P<backtick>(?:[A-Za-z0-9][A-Za-z0-9._~+/=-]*)?)`
          | (?P<bare>(?![^ \t]*<<)(?:[^ \t\r\v\f'"`\\$()\#;](?:[^ \t\r\v\f'"`\\$()]*[^ \t\r\v\f'"`\\$();])?)?)
        )
        (?:[ \t]*;)?(?P<tail>[ \t]+\#[^\r]*|[ \t]*)\r?\Z"""
        % (_EXPORTING, re.escape(name)),
        re.VERBOSE,
    )


def _lines_seen(views, name):
    """Return the lines on which the variable is assigned, where the readers mean the same ones."""
    inside = {}  # the line that each line is a part of, for some reader
    for reader, view in views.items():
        for item in view.readings:
            inside.update((line, (item.line, reader)) for line in range(item.line + 1, item.last_line + 1))
    seen = set()
    for reader, view in views.items():
        for item in view.readings:
            if item.name == name and item.line not in inside:
                seen.add(item.line)
            elif item.name == name and reader != "docker":  # which knows no values of several lines: it misreads all
                line, other = inside[item.line]
                raise Ambiguous(
                    line,
                    "{0} reads on from here to line {1}, which others take for an assignment of the variable; close or "
                    "remove the quote or bracket that is open at the end of this line, or remove the backslash or the "
                    "blanks there".format(other, item.line),
                )
    return seen


def _verify(before, after, name, value, moved):
    """Raise `Ambiguous` unless changing, adding or removing the lines did what was meant for every reader of the file.

    :param moved: the new number of each line that was changed; of one that was added, under 0.
    """
    lines = set(moved)
    seen = _lines_seen(after, name)
    suspect = moved[0] if 0 in moved else min(lines)
    added = value is not None and not _lines_seen(before, name)
    if value is None and seen:
        raise Ambiguous(min(seen), "the variable would still be assigned here after its lines were removed")
    if added and suspect not in seen:
        raise Ambiguous(suspect, "no reader reads a line that is added here; repair what is before it")
    for reader in before:
        old, new = before[reader], after[reader]
        freed = _freed(old, name, moved) if value is not None else ()
        others, others_after = _others(old, name, lines), _others(new, name, seen, freed)
        if old.broken:  # a reader that could not get past some point may get further now, and read more
            known = {each for each, _raw in others}
            more = others_after[len(others) :]
            others_after[len(others) :] = [
                item for item in more if known.intersection([item[0]] if item[0] else _WORD.findall(item[1]))
            ]
        if others != others_after:
            raise Ambiguous(suspect, "{0} would then read something else of the file differently".format(reader))
        if value is None:
            continue
        mine = {item.line: item for item in new.readings if item.name == name and item.line in seen}
        if any(value not in item.raw for item in mine.values()):
            raise Ambiguous(suspect, "{0} would still read another value".format(reader))
        own = [item for item in old.readings if item.name == name]
        must_read = [(item.line, moved[item.line]) for item in own if item.value is not None and item.line in moved]
        if own and own[-1].value is not None and mine:  # the last one counts
            must_read += [(was, now) for was, now in moved.items() if now == max(mine)]
        if added and not old.broken:
            must_read.append((suspect, suspect))
        for was, now in must_read:
            if now not in mine or mine[now].value != value:
                raise Ambiguous(was, "{0} would not read the new value".format(reader))


def _freed(old, name, moved):
    """Return the new numbers of lines that were taken for the whole value of the variable, as behind ``NAME= ``."""
    own = [item for item in old.readings if item.name == name and item.line in moved and "\n" not in item.raw]
    return {moved[item.line] + more for item in own for more in range(1, item.last_line - item.line + 1)}


def _others(view, name, lines, without=()):
    """Return what must not change: all but the variable itself and names that no program can ask for.

    On the variable's own lines a shell may see a command with its name, as in ``NAME = value``.
    """
    own_command = re.compile(r"(?:\xef\xbb\xbf)?(?:%s[ \t]+)?%s(?![A-Za-z0-9_])" % (_EXPORTING, re.escape(name)))
    return [
        (item.name, item.raw)
        for item in view.readings
        if item.line not in without
        and (
            not (item.line in lines and own_command.match(item.raw))
            if item.name is None
            else item.name != name and _NAME.match(item.name)
        )
    ]


# What each reader sees


@lru_cache(maxsize=8)  # a file is read several times, and once more while the key is revoked already
def _views(data):
    """Return what every reader sees in the content."""
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise NotText("the content is not plain text (NUL bytes or UTF-16)")
    text = data.decode("latin-1")  # one character for each byte
    return {
        "docker": _read_as_docker(data),
        "systemd": _read_as_systemd(text, continued_comments=False),
        "systemd before 254": _read_as_systemd(text, continued_comments=True),
        "python-dotenv": _read_as_dotenv(data),
        "node": _read_as_node(text, older=False),
        "node 20": _read_as_node(text, older=True),
        "a shell": _read_as_shell(text),
    }


class _Readings(list):
    """The readings of one text, which know their line numbers."""

    def __init__(self, text):
        super().__init__()
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def line(self, offset):
        return bisect_left(self._ends, offset) + 1

    def add(self, name, start, end, quotes="", begin=None):
        """Note the raw text between the offsets, which reads as what is between those quotes, if it is plain.

        `begin` is an offset in the line that it belongs to, if the text does not begin there.
        """
        raw = self._text[start:end]
        plain = re.match(r"""(['"`]?)([A-Za-z0-9._~+/=-]*)\1\Z""", raw)
        value = plain.group(2) if plain and plain.group(1) in quotes else None
        self.append(_Reading(name, self.line(start if begin is None else begin), self.line(end), raw, value))


def _utf8(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _read_as_docker(data):
    """``docker --env-file``: line by line, everything after the ``=`` is the value, and one bad line spoils all."""
    text = _utf8(data)
    readings = _Readings(text or "")
    if text is None:
        return _View([], True)
    for line in re.finditer(r"[^\n]+", text):
        offset = line.start() + (1 if line.start() == 0 and text.startswith("\ufeff") else 0)
        content = text[offset : line.end()]
        if content.endswith("\r"):
            content = content[:-1]
        end = offset + len(content)
        content = content.lstrip()
        if not content or content.startswith("#"):
            continue
        name, equal, value = content.partition("=")
        if not name or re.search(r"[ \t]", name):
            return _View([], True)
        if equal:
            readings.add(name, end - len(value), end)
    return _View(readings, False)


_SYSTEMD_KEY = re.compile(r"[^\n\r][^=\n\r]*")
_SYSTEMD_COMMENT = {
    True: re.compile(r"(?:[^\\\n\r]|\\[\s\S]?)*"),  # a backslash continues the comment, too
    False: re.compile(r"[^\n\r]*"),
}
_SYSTEMD_VALUE = re.compile(
    r"""(?: [ \t] | '[^']*(?:'|\Z) | "(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z) )*  # blanks and quoted pieces, then
    (?: [^\\\n\r] | \\[\s\S] | \\\Z )*                                      # the rest, where quotes mean nothing""",
    re.VERBOSE,
)


def _read_as_systemd(text, continued_comments):
    """``EnvironmentFile=``: no ``export``, no comments after a value, backslashes continue lines."""
    readings = _Readings(text)
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r":
            at += 1
        elif text[at] in "#;":
            end = _SYSTEMD_COMMENT[continued_comments].match(text, at).end()
            if "\n" in text[at:end]:
                readings.add(None, at, end)
            at = end
        else:
            key = _SYSTEMD_KEY.match(text, at)
            at = key.end()
            if text.startswith("=", at):
                end = _SYSTEMD_VALUE.match(text, at + 1).end()
                pair = text[key.start() : end]
                if _utf8(pair.encode("latin-1")) is None:
                    return _View([], True)
                value = text[at + 1 : end]
                start = at + 1 + len(value) - len(value.lstrip(" \t"))
                readings.add(key.group().rstrip(" \t"), start, max(start, at + 1 + len(value.rstrip(" \t"))), "'\"")
                at = end
    return _View(readings, False)


_DOTENV_NAME = re.compile(r"(?:'(?P<quoted>[^']+)'|(?P<plain>[^'=\#\s][^=\#\s]*))[^\S\r\n]*")
_DOTENV_VALUE = re.compile(
    r"""=[^\S\r\n]*
    (?P<value> '(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" | [^\s'"](?:[^\S\r\n]*[^\s\#]|\S)* | (?=[\r\n]|\Z) )
    (?P<complete> [^\S\r\n]*(?:\#[^\r\n]*)?(?=[\r\n]|\Z) )?""",
    re.VERBOSE | re.DOTALL,
)
_DOTENV_EXPORT = re.compile(r"(?:export[^\S\r\n]+)?")
_DOTENV_REST = re.compile(r"[^\r\n]*")


def _read_as_dotenv(data):
    """python-dotenv: quoted values may span lines, CR ends a line, what is not understood is skipped."""
    text = _utf8(data)
    if text is None:
        return _View([], True)
    readings = _Readings(text)
    at = 1 if text.startswith("\ufeff") else 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        at = _DOTENV_EXPORT.match(text, at).end()
        name = _DOTENV_NAME.match(text, at)
        value = _DOTENV_VALUE.match(text, name.end()) if name else None
        if value and value.group("complete") is not None:
            readings.add(name.group("quoted") or name.group("plain"), *value.span("value"), quotes="'\"")
        at = _DOTENV_REST.match(text, (value or name).end() if name else at).end()
    return _View(readings, False)


def _read_as_node(text, older):
    """``node --env-file``: quoted values (backticks, too) may span lines, nothing is ever escaped, CR is dropped.

    Node 20 strips spaces only, and there a line without ``=`` becomes a part of the next name.
    """
    text = text.replace("\r", "")
    readings = _Readings(text)
    blanks = " " if older else " \t\n"
    at = len(text) - len(text.lstrip(blanks))
    while at < len(text):
        newline = _end_of_line(text, at)
        equal = text.find("=", at)
        if text[at] in "\n#" or not (older or at <= equal < newline):
            at = newline + 1
            continue
        name = text[at:equal].strip(blanks)
        if equal < 0:
            return _View(readings, True)
        if not name:  # each version of Node.js makes something else of what follows
            raise Ambiguous(readings.line(at), "there is no name before the =; remove this line or make it a comment")
        if name.startswith("export "):
            name = name[len("export ") :] if older else name[len("export ") :].strip(blanks)
        at = equal + 1
        if not text.startswith("\n", at):
            while at < len(text) and text[at] in blanks:  # newer: a blank, and the next line is the value
                at += 1
        quoted = at < len(text) and text[at] in "'\"`"
        closing = text.find(text[at], at + 1) if quoted else -1
        if closing > 0:
            end = closing + 1
            readings.add(name, at, end, "'\"`", begin=equal)
        else:
            end = _end_of_line(text, at)
            if not quoted or end < len(text):  # without a newline to end it, an open quote is dropped
                readings.add(name, at, at + len(text[at:end].partition("#")[0].rstrip(blanks)), begin=equal)
        at = _end_of_line(text, end)
    return _View(readings, False)


_SHELL_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[[^\]]*\])?\+?=")
_SHELL_CONTINUED = re.compile(rb"[|&][ \t]*(?:#[^\n]*)?(?:\n[ \t]*(?:#[^\n]*)?)*\Z")
_SHELL_BACKTICKS = re.compile(r"`(?:[^`\\]|\\[\s\S])*`")
_SHELL_REDIRECTION = re.compile(r"[<>]+[&|]?")
_SHELL_NO_TARGET = re.compile(r"[ \t]*(?:[\n;&|)]|\Z)|[ \t]+#")
_SHELL_PLAIN = re.compile(r"""[^ \t\n'"`\\$;&|()<>]+""")
_SHELL_LEADING = ("then", "do", "else", "elif", "if", "while", "until", "{", "!", "time", "command", "builtin")
_SHELL_DECLARING = ("export", "declare", "typeset", "readonly", "local")


def _read_as_shell(text):
    """bash and dash: words, quotes, comments and command separators; commands are kept apart, not understood."""
    readings = _Readings(text)
    words = []  # offsets of the words of this command
    previous = "\n"  # what begins what was read last
    at = 0
    try:
        while at < len(text):
            start = at
            if text[at] in " \t":
                at += 1
            elif text.startswith("\\\n", at):
                at += 2
            elif text[at] == "#":
                at = _end_of_line(text, at)
            elif previous == "\n" and text[at] == ";" and not text.startswith(";;", at):
                return _View(readings, True)  # a syntax error
            elif text[at] in "\n;&|()":
                _add_command(readings, text, words)
                words = []
                at += 1
            elif text.startswith("<<", at) and not text.startswith("<<<", at):
                _refuse_here_document(readings, text, words, at)
                return _View(readings, True)
            elif text[at] in "<>":
                end = _SHELL_REDIRECTION.match(text, at).end()
                if _SHELL_NO_TARGET.match(text, end):
                    return _View(readings, True)  # a syntax error
                words.append((at, end))
                at = end
            else:
                end = _end_of_word(text, at)
                words.append((at, end))
                at = end
            if text[start] not in " \t":
                previous = text[start]
    except (_Unterminated, RecursionError):
        return _View(readings, True)
    _add_command(readings, text, words)
    return _View(readings, False)


def _refuse_here_document(readings, text, words, at):
    """Raise `Ambiguous`, except for a value with ``<<`` in it, where a shell takes all that follows for a document."""
    delimiter = text[at + 2 : _end_of_line(text, at)].strip(" \t")
    in_value = words and words[-1][1] == at and _SHELL_ASSIGNMENT.match(text, words[-1][0])
    if not in_value or not re.match(r"[A-Za-z0-9._~+/=-]+\Z", delimiter):
        raise Ambiguous(readings.line(at), "a shell takes << for a here-document; put a value with << in single quotes")
    if re.search(r"^\t*%s$" % re.escape(delimiter), text[_end_of_line(text, at) :], re.MULTILINE):
        raise Ambiguous(readings.line(at), "a shell takes << for a here-document; put the value in single quotes")
    _add_command(readings, text, words)


def _add_command(readings, text, words):
    """Note the variables that a command assigns, and the rest of it as something that must stay."""
    words = _without_redirections(text, words)
    spelled = [text[start:end].replace("\\\n", "") for start, end in words]
    while spelled and spelled[0] in _SHELL_LEADING:
        words, spelled = words[1:], spelled[1:]
    names = [_SHELL_ASSIGNMENT.match(word) for word in spelled]
    rest = [index for index, name in enumerate(names) if not name]
    command = _unquoted(spelled[rest[0]]) if rest else ""
    declares = command in _SHELL_DECLARING or "$" in command or "`" in command  # the last two: nobody knows
    if rest and not declares:  # assignments before a command last only as long as it does
        readings.add(None, words[0][0], words[-1][1])
        return
    if command in _SHELL_DECLARING:
        for index in rest[1:]:
            if re.search(r"[$`]", spelled[index].partition("=")[0]):
                line = readings.line(words[index][0])
                raise Ambiguous(line, "only a shell could tell what is assigned here; write it as NAME=VALUE")
    if rest and not (len(rest) == 1 and spelled[rest[0]] == "export" and len(words) > 1):
        readings.add(None, words[rest[0]][0], words[rest[-1]][1])
    for (start, end), word, name in zip(words, spelled, names):
        quoted = name or _SHELL_ASSIGNMENT.match(_unquoted(word))
        if name and word == text[start:end]:
            readings.add(name.group(1), start + name.end(), end, "'\"")
        elif quoted:
            readings.add(quoted.group(1), start, end)


def _without_redirections(text, words):
    """Return the words of a command that are no redirections: without any other, its assignments last."""
    kept, at = [], 0
    while at < len(words):
        start, end = words[at]
        if text[start] in "<>":
            at += 2  # and what it leads to
            continue
        of_descriptor = at + 1 < len(words) and words[at + 1][0] == end and text[end] in "<>"
        if not (of_descriptor and text[start:end].isdigit()):
            kept.append(words[at])
        at += 1
    return kept


def _unquoted(word):
    return re.sub(r"""['"\\]""", "", word)


class _Unterminated(Exception):
    """A quote or bracket is never closed: the shell gives up here."""


def _end_of_line(text, at):
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _end_of_word(text, at):
    """Return the offset after the shell word that starts here."""
    start = at
    while at < len(text) and text[at] not in " \t\n;&|<>)":
        if text[at] == "(":
            if not (at > start and text[at - 1] == "="):
                break
            at = _end_of_group(text, at + 1, ")")  # an array
        else:
            plain = _SHELL_PLAIN.match(text, at)
            at = plain.end() if plain else _end_of_piece(text, at)
    return at


def _end_of_piece(text, at):
    """Return the offset after the quoted piece, expansion or escaped character that starts here."""
    if text[at] == "\\":
        return min(at + 2, len(text))
    if text[at] == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise _Unterminated()
        return end + 1
    if text[at] == "`":  # its end is found before anything in it is understood, quotes included
        command = _SHELL_BACKTICKS.match(text, at)
        if not command:
            raise _Unterminated()
        return command.end()
    if text[at] == '"':
        return _end_of_group(text, at + 1, text[at])
    for opening, closing in (("$(", ")"), ("${", "}")):
        if text.startswith(opening, at):
            return _end_of_group(text, at + 2, closing)
    return at + 1


def _end_of_group(text, at, closing):
    """Return the offset after the closing character, past everything nested."""
    while at < len(text):
        if text[at] == closing:
            return at + 1
        if text[at] == "(" and closing == ")":
            at = _end_of_group(text, at + 1, closing)
        elif text[at] == "'" and closing == '"':
            at += 1
        else:
            at = _end_of_piece(text, at)
    raise _Unterminated()
