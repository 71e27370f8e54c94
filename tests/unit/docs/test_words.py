# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One word for one thing: no text of the collection uses one that `WORDS` replaces, and tasks begin with a verb.

Read are all pages and YAML; of Python comments, docstrings and other strings; of the tests their docstrings.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


class Word(NamedTuple):
    """A word, or a turn of phrase.

    :ivar pattern: by which it is found; a space is any white space, a line break too.
    :ivar instead: what is written instead.
    :ivar but_not: what is something else, as a pattern of the word and what is around it.
    """

    pattern: str
    instead: str
    but_not: str = r"(?!)"


WORDS = [
    # Things and what is done with them.
    Word(
        r"the service",
        "the API, the stand-in, or which service",
        r"restart the service|the service (manager|account|principal|was|could|\{)",
    ),
    Word(r"look(s|ed|ing)? (at|again|whether|who|into|through)|(two|each|a) looks?", "inspect, check, read"),
    Word(r"prov(e|es|ed|en|ing)|proofs?", "verify, check, show"),
    Word(r"judg(e|es|ed|ing|ement)", "verify, verdict"),
    Word(r"markers?", "open record"),
    Word(r"windows?", "outage", r"(browser|maintenance|terminal) windows?"),
    Word(r"dead", "rejected, revoked"),
    Word(r"stale", "out of date"),
    Word(r"interlocks?", "check"),
    Word(r"rehears(e|es|ed|ing) the writes?", "check that it can be written"),
    Word(r"fore(tell|tells|told|see|sees|seen)", "predict, estimate, expect"),
    Word(r"(the|a) short(er)? way|shortcuts?", "direct execution"),
    Word(r"lets? in", "accepts"),
    Word(r"bring(s|ing)? (the|a) ((live|new|newer|current) )?key", "deploy the key"),
    Word(r"writ(e|es|ing|ten) down what", "write the report"),
    Word(r"what (was|is) asked( for)?", "the request"),
    # Turns of phrase that no page about Ansible has.
    Word(r"who(m|so)?ever", "anyone who, the user who"),
    Word(r"what of it", "what of them, which of its"),
    Word(r"(is|are|be|been|was|were) told", "is reported, is shown"),
    Word(r"as far as", "if, up to where"),
    Word(r"at hand", "this, there"),
    Word(r"anew", "again"),
    Word(r"but for", "except"),
    Word(r"for want of", "without"),
    Word(r"(made|make|makes) sure of", "ensured"),
    Word(r"(with|through) the eyes of", "as ... reads it"),
]
VERBS = {
    *(
        "Audit",
        "Check",
        "Collect",
        "Create",
        "Deploy",
        "Diagnose",
        "Enable",
        "Find",
        "Grant",
        "Inspect",
        "Read",
        "Remove",
    ),
    *("Report", "Rotate", "Set", "Validate", "Write"),
}
"""With one of these the names of all tasks and plays begin."""

PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "galaxy.yml", "Makefile")
    ),
    *(
        ROOT / name
        for name in ("noxfile.py", "changelogs/changelog.yaml", "tests/README.md", "tests/sandbox/README.md")
    ),
    *sorted(ROOT.glob(".github/workflows/*.yml")),
    *sorted(ROOT.glob("extensions/**/*.md")),
    *(path for path in sorted(ROOT.glob("docs/**/*.*")) if path.suffix != ".png"),
    *(
        path
        for folder in ("meta", "plugins", "roles", "playbooks")
        for path in sorted((ROOT / folder).rglob("*.*"))
        if path.suffix in (".md", ".yml", ".py", ".j2", ".txt")
    ),
]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what people read of a file, each piece with the number of its first line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from strings(text)
        yield from comments(text)
    elif path.suffix == ".svg":
        for match in re.finditer(r">([^<]+)<", re.sub(r"<(style|defs)>.*?</\1>", "", text, flags=re.DOTALL)):
            yield 1, match[1]
    else:
        yield 1, text


def docstrings(code: str) -> Iterator[tuple[int, str]]:
    """Yield the texts that stand alone: what modules, classes, functions and names are."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def strings(code: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def comments(code: str) -> Iterator[tuple[int, str]]:
    """Yield the comments; those of lines that follow each other are one."""
    first, last, block = 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] == last + 1:
                block += "\n" + token.string
            else:
                yield first, block
                first, block = token.start[0], token.string
            last = token.start[0]
    yield first, block


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(" ", r"[\s#]+"), re.IGNORECASE)


FINDERS = [(_compiled(rf"\b(?:{word.pattern})\b"), _compiled(word.but_not), word.instead) for word in WORDS]


def found(text: str) -> Iterator[tuple[int, str]]:
    """Yield the words of a text that are replaced, each with its place."""
    for finder, but_not, instead in FINDERS:
        for match in finder.finditer(text):
            if not but_not.search(text, max(match.start() - 20, 0), match.end() + 20):
                yield match.start(), f"{match[0]!r}: {instead}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_word_is_used_that_another_replaces(path: Path) -> None:
    wrong = [
        f"line {line + text.count(chr(10), 0, at)}: {what}" for line, text in texts(path) for at, what in found(text)
    ]
    assert not wrong


def test_no_docstring_of_the_tests_has_one() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    texts_of = ((path, text) for path in paths for _line, text in docstrings(path.read_text(encoding="utf-8")))
    assert not [f"{path.relative_to(ROOT)}: {what}" for path, text in texts_of for _at, what in found(text)]


def named(data: Any) -> Iterator[str]:
    """Yield the names of plays, blocks and tasks."""
    for each in data if isinstance(data, list) else []:
        if isinstance(each, dict):
            if "name" in each:
                yield each["name"]
            for value in each.values():
                yield from named(value)


@pytest.mark.parametrize(
    "path",
    [*sorted(ROOT.glob("roles/*/tasks/*.yml")), *sorted(ROOT.glob("playbooks/*.yml"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_names_of_tasks_begin_with_a_plain_verb(path: Path) -> None:
    names = list(named(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert names
    assert not [name for name in names if name.split()[0].strip(",") not in VERBS]


@pytest.mark.parametrize(
    "text", ["Whoever\n  reads it", "# as far\n# as", "the service answers", "is told", "a stale key"]
)
def test_a_replaced_word_is_found(text: str) -> None:
    assert len(list(found(text))) == 1


@pytest.mark.parametrize("text", ["restart the service", "the service manager", "a browser window", "it looks for it"])
def test_another_meaning_is_not(text: str) -> None:
    assert not list(found(text))
