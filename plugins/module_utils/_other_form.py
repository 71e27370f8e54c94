# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Finds the key, or the name of its variable, where a file holds them in a form that is not changed: bytes in, no I/O.

That no reader of environment files sees the variable does not mean that the file lacks the key: it may be a systemd
drop-in, YAML, a file that is nothing but the key. A line that is added there changes nothing, or breaks the file.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import hashlib
import re
from collections import namedtuple

from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils._api_key import FINGERPRINT_LENGTH, ApiKey, NotAKey

KnownKey = namedtuple("KnownKey", "prefix length fingerprint")
"""What a key can be found by, although it is not known itself."""

_WAYS_OUT = (
    "use a template of the whole file, name another variable, or set format to key if the file is nothing but the key"
)
_SAYS_WHERE = "the value says where the key is kept, or is encrypted"
_KEPT_ELSEWHERE = "list that place instead of this file, or remove the value if the key itself is to stand here"
_NAMED = "the name of the variable stands here, in a form that is not changed"
_COLON = rb"(?m)^(?:\xef\xbb\xbf)?[ \t]*(?:export[ \t]+)?%s[ \t]*:"


class OtherForm(env_file.EnvFileError):
    """The file holds the key, or the variable's name, in a form that is not changed. The message names lines only."""

    reason = "other_form"

    def __init__(self, line, why, ways_out=_WAYS_OUT):
        super().__init__("line {0}: {1}; {2}".format(line, why, ways_out))
        self.line = line


def known_key(key):
    """Return what an `ApiKey` can be found by."""
    return KnownKey(key.prefix, len(key.reveal()), key.fingerprint)


def held(data, name):
    """Return line and key of each place that is changed; ``None`` for a value that is no key.

    :param name: of the variable; ``None``: the file is nothing but the key.
    :raises EnvFileError: `OtherForm`, or as `env_file.assignments` does.
    """
    if name is None:
        return [(1, key_alone(data))] if data else []
    return [(item.line, env_file.key_in(item)) for item in env_file.assignments(data, name)]


def with_key(data, name, key, known=(), beside=()):
    """Return the content with another key in all these places, or in a new one.

    :param known: the `KnownKey` of each key that may not stand anywhere else, besides this one and the variable's own.
    :param beside: the names of all variables of this file that are changed likewise.
    :raises EnvFileError: as `refuse` and `env_file.with_value` do.
    """
    value = key.reveal().encode("ascii")
    if name is None:
        key_alone(data)
        return value + data[len(_without_break(data)) :]  # a line break at its end stays, and none is added
    refuse(data, name, [known_key(key)] + list(known), beside)
    return env_file.with_value(data, name, value)


def without_key(data, name):
    """Return the content without the lines that assign the variable.

    :raises EnvFileError: as `refuse` and `env_file.without` do.
    """
    _refuse_left(*_elsewhere(data, name), name)
    return env_file.without(data, name)


def refuse(data, name, known, beside=()):
    """Raise `OtherForm` if the file does not hold the key as an environment file holds a variable, or not only so."""
    rest, keys = _elsewhere(data, name, known, beside)
    _refuse_left(rest, keys, name)
    assigned = env_file.assignments(data, name)
    for item in assigned:
        _refuse_lost(item, known)
    if not assigned:
        _refuse_to_add(rest, name)


def former(data, name, known=(), beside=()):
    """Return a text for each of the first few places where what looks like a former key stands, and is not changed."""
    rest, keys = _elsewhere(data, name, known, beside) if name else (b"", [])
    said = "line {0}: what looks like a former key ({1}) stands here, and is not changed"
    others = [(at, key) for at, end, key, is_known in keys if not is_known and not rest[end : end + 1].isalnum()]
    return [said.format(_line(rest, at), key) for at, key in others[:8]]


def _elsewhere(data, name, known=(), beside=()):
    """Return the content with blanks in place of what is changed or is a comment, and the keys in it, however embedded.

    A key is all that has prefix and length of a known one: start, end, fingerprint, and whether that is known.
    """
    rest = bytearray(_without_comments(data))
    known = [known_key(key) for _line, key in held(data, name) if key] + list(known)
    for each in {name}.union(beside):
        for item in env_file.assignments(data, each):
            rest[item.start : item.end] = b"\0" * (item.end - item.start)
    fingerprints, keys = {key.fingerprint for key in known}, []
    for start, end in _places(rest, known):
        fingerprint = hashlib.sha256(rest[start:end]).hexdigest()[:FINGERPRINT_LENGTH]
        keys.append((start, end, fingerprint, fingerprint in fingerprints))
    return bytes(rest), keys


def _places(data, known):
    """Yield start and end of all that has prefix and length of a known key."""
    for prefix, length in sorted({(key.prefix, key.length) for key in known}):
        shape = rb"(?=%s\.[A-Za-z0-9._~+/=-]{%d})" % (re.escape(prefix.encode("ascii")), length - len(prefix) - 1)
        for found in re.finditer(shape, data):
            yield found.start(), found.start() + length


_ELSEWHERE = re.compile(
    rb"""@?[A-Za-z][A-Za-z0-9+._-]*(?::\S|[\[(]\S)  # op://, vault:, base64:, arn:aws:, ENC[
       | \{[a-z]+\}\S                                # {cipher}
       | (?:~|\.{1,2})?/\S                           # a path""",
    re.VERBOSE,
)


def _refuse_lost(item, known):
    """Raise `OtherForm` if an assigned value is no key and yet no placeholder: its reader would be left without it."""
    value = item.value.strip()
    if env_file.key_in(item._replace(value=value)) is not None:
        return
    if any(_places(value, known)):
        raise OtherForm(item.line, "the value is more than a key, and would not be kept")
    if _ELSEWHERE.match(value):
        raise OtherForm(item.line, _SAYS_WHERE, _KEPT_ELSEWHERE)


def _refuse_left(rest, keys, name):
    for start, _end, _fingerprint, is_known in keys:
        if is_known:
            raise OtherForm(_line(rest, start), "the key also stands here, in a form that is not changed")
    # Some readers take that for an assignment, too, beside others of the variable.
    colon = re.search(_COLON % name.encode("ascii"), rest)
    if colon:
        raise OtherForm(_line(rest, colon.start()), _NAMED)


def _line(data, at):
    return data.count(b"\n", 0, at) + 1


# A file that is nothing but the key


def key_alone(data):
    """Return the `ApiKey` that the file consists of; ``None``: it is empty, or one word in place of a key.

    Empty lines behind it are what a write in place leaves that was killed; the next write takes them away.

    :raises OtherForm: there is more in it, which would be lost.
    """
    text = _without_break(data)
    if text.endswith(b"\n"):
        text = text.rstrip(b"\r\n")
    assigned = re.match(rb"[A-Za-z_][A-Za-z0-9_]*=", text)  # of which a key might begin, too, but none does
    try:
        if not assigned:
            return ApiKey(text.decode("ascii"))
    except (NotAKey, UnicodeDecodeError):
        pass
    if not assigned and _ELSEWHERE.match(text) and not re.search(rb"\s", text):
        raise OtherForm(1, _SAYS_WHERE, _KEPT_ELSEWHERE)
    if assigned or re.search(rb"[\s:\"'{}<>\0]", text):
        more = next((number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()), 1)
        raise OtherForm(more, "the file is more than a key and one line break, although its format is key")
    return None


def _without_break(data):
    return re.sub(rb"\r?\n\Z", b"", data)


# What is read as no comment


_COMMENT_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[ \t]*(?:#|;|//)")
_BEFORE_COMMENT = re.compile(
    rb"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^ \t"]|[ \t]+(?!\#|[ \t]))*
    (?:"(?:'[^'\n]*'|[^ \t]|[ \t]+(?!\#|[ \t]))*)?""",  # where one is not closed, none after it is
    re.VERBOSE,
)


def _without_comments(data):
    """Return the content with blanks in place of its comments, so that offsets stay."""
    return b"\n".join(_uncommented(line) for line in data.split(b"\n"))


def _uncommented(line):
    end = 0 if _COMMENT_LINE.match(line) else _BEFORE_COMMENT.match(line).end()
    return line[:end] + b" " * (len(line) - end)


# Where a line would have to be added


_ASSIGNMENT = re.compile(
    rb"(?:\xef\xbb\xbf)?[ \t]*(?:export[ \t]+[A-Za-z_]"
    rb"|(?:(?:declare|typeset|readonly|local)[ \t]+(?:-[A-Za-z]+[ \t]+)*)?[A-Za-z_][A-Za-z0-9_.-]*[ \t]*\+?=)"
)
_SECTION = re.compile(rb"(?:\xef\xbb\xbf)?\[\[?[^\s\[\]][^\[\]]*\]\]?[ \t\r]*\Z")
_SCHEDULE = re.compile(rb"[ \t]*(?:@[a-z]+|[0-9*][0-9*/,-]*(?:[ \t]+[0-9A-Za-z*/,-]+){4})[ \t]+[^ \t=]")
_COLON_ALONE = re.compile(rb"(?:\xef\xbb\xbf)?[ \t]*(?:export[ \t]+)?[A-Za-z0-9_.-]+:[ \t\r]*\Z")


def _refuse_to_add(rest, name):
    """Raise `OtherForm` unless a line that assigns the variable may be added to this content without its comments."""
    named = _named_in_other_form(name.encode("ascii"))
    content = [(number, line) for number, line in enumerate(rest.split(b"\n"), 1) if line.strip()]
    for number, line in content:
        if named.search(line):
            raise OtherForm(number, _NAMED)
    for number, line in content:
        # Of a colon alone at the end, some readers take the line that is added for the value.
        is_open = number == content[-1][0] and _COLON_ALONE.match(line)
        if _SECTION.match(line) or _SCHEDULE.match(line) or is_open:
            raise OtherForm(number, "a line such as this is in no environment file, so that none can be added")
    if content and not any(_ASSIGNMENT.match(line) for _number, line in content):
        raise OtherForm(content[0][0], "neither this line nor any other reads as an assignment, so that none is added")


def _named_in_other_form(name):
    """Return the pattern of what another format may assign the variable by; a reference (``$``) is no value."""
    return re.compile(
        rb"""(?:
            (?<![A-Za-z0-9_$?&%%])(?<!\$\{)%(name)s=                        # Environment=NAME=, - NAME=, -e NAME=
          | (?:^|(?<!\$)[{,])[ \t]*(?:-[ \t]+|export[ \t]+)?%(name)s[ \t]*:  # NAME:
          | (["'])%(name)s\1[ \t]*(?:=>?|:)                                 # "NAME":
          | \[[ \t]*["']?%(name)s["']?[ \t]*\][ \t]*=>?                     # env[NAME] =
          | define[ \t]*\([ \t]*["']%(name)s["'][ \t]*,                     # define('NAME',
          | ^[ \t]*(?i:setenv|set|[a-z]+_param)(?:[ \t]+-[A-Za-z-]+)*[ \t]+["']?%(name)s["']?[ \t](?=[ \t]*[^ \t=;])
        )(?![ \t]*["']?\$)"""
        % {b"name": name},
        re.VERBOSE,
    )
