# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of variables on the pages: made of the argument specifications, so that none is missing or out of date.

Where a table belongs, a page has a comment, which shows nothing where nothing replaces it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from antsibull_docs_parser import dom, parser, rst

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "multicart.keys"
COMMENT = re.compile(r"^\.\. make docs puts the variables of (\w+) here$", re.MULTILINE)


def fill(page: str) -> str:
    """Return a page with the tables in place of its comments."""
    return COMMENT.sub(lambda found: table(list(of_role(found[1]))), page)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 14 52", ""]
    for row in rows:
        lines += [f"   {'  ' if at else '* '}- {cell}".rstrip() for at, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def of_role(role: str) -> Iterator[tuple[str, str, str]]:
    """Give a row for each variable of a role; one that several entry points have is the first one's."""
    path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    seen: set[str] = set()
    yield "variable", "default", "meaning"
    for entry, spec in entries.items():
        for name, option in _flat(spec["options"]):
            if name not in seen:
                seen.add(name)
                meaning = _text(option, dom.PluginIdentifier(f"{COLLECTION}.{role}", "role"), entry)
                only = "" if entry == "main" else f"Of the entry point ``{entry}`` only. "
                yield f":ansopt:`{COLLECTION}.{role}#role:{entry}:{name}`", _default(option), only + meaning


def _flat(options: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Give each option, and after it those that it consists of, by their paths."""
    for name, option in options.items():
        yield above + name, option
        within = "[]." if option["type"] == "list" else "."
        yield from _flat(option.get("options", {}), f"{above}{name}{within}")


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    default = option.get("default")
    if default is None:
        return ""
    return f"``{default if isinstance(default, str) else json.dumps(default)}``"


def _text(option: dict[str, Any], plugin: dom.PluginIdentifier, entry: str) -> str:
    """Return the description of an option in one paragraph, and the values that it may have."""
    texts = option["description"] if isinstance(option["description"], list) else [option["description"]]
    if option.get("choices"):
        texts = [*texts, f"One of {', '.join(f'V({choice})' for choice in option['choices'])}."]
    context = parser.Context(current_plugin=plugin, role_entrypoint=entry)
    return rst.to_rst(parser.parse(texts, context, errors="exception"), par_sep=" ")
