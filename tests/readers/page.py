# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The templates of the documentation's page about formats of files, and what each kind's parser reads in one."""

from __future__ import annotations

import configparser
import importlib
import json
import re
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible_collections.multicart.keys.tests.readers.other_forms import NAME
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere

PAGE = Path(__file__).resolve().parents[2] / "docs/docsite/rst/files.rst"


def blocks(language: str) -> dict[str, list[str]]:
    """Return the code of each section of the page."""
    parts = re.split(r"^(.+)\n-{3,}\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        codes = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
        found[title] = [textwrap.dedent(code).strip("\n") + "\n" for code in codes]
    return {title: codes for title, codes in found.items() if codes}


TEMPLATES = {title: codes[0] for title, codes in blocks("jinja").items()}


def render(title: str, key: str) -> str:
    """Return the file that a template makes of a key."""
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    return environment.from_string(TEMPLATES[title]).render(multicart_key=key)


def _ini(section: str, option: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        parser = configparser.RawConfigParser(delimiters=("=",), inline_comment_prefixes=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        return parser.get(section, option)

    return read


def _toml(text: str) -> Any:
    try:
        return importlib.import_module("tomllib").loads(text)["multicart"]["api_key"]
    except ImportError:
        raise NotHere("tomllib comes with Python 3.11") from None


def _supervisor(text: str) -> str:
    words = dict(word.split("=", 1) for word in _ini("program:shop", "environment")(text).split(","))
    return words[NAME].strip('"')


def _matching(pattern: str) -> Callable[[str], str]:
    """Return a reader of lines; what quotes mean to the shells among the programs, shlex knows."""

    def read(text: str) -> str:
        (found,) = re.findall(pattern, text, re.MULTILINE)
        (word,) = shlex.split(found)
        return word

    return read


READ: dict[str, Callable[[str], Any]] = {
    "systemd drop-in": lambda text: _ini("Service", "Environment")(text).partition(f"{NAME}=")[2],
    "Supervisor": _supervisor,
    "uWSGI": lambda text: _ini("uwsgi", "env")(text).partition(f"{NAME}=")[2],
    "PHP-FPM": lambda text: _ini("www", f"env[{NAME}]")(text).strip('"'),
    "nginx": _matching(r"^proxy_set_header x-api-key (.*);$"),
    "Apache": _matching(rf"^SetEnv {NAME} (.*)$"),
    "Compose": lambda text: yaml.safe_load(text)["services"]["shop"]["environment"][NAME],
    "Kubernetes manifest": lambda text: yaml.safe_load(text)["stringData"][NAME],
    "JSON": lambda text: json.loads(text)["multicart"]["api_key"],
    "TOML": _toml,
    "YAML": lambda text: yaml.safe_load(text)["multicart"]["api_key"],
    "Java properties": _matching(r"^multicart\.api-key=(.*)$"),
    "fish": _matching(rf"^set -gx {NAME} (.*)$"),
    "csh": _matching(rf"^setenv {NAME} (.*)$"),
    "wp-config.php": _matching(rf"^define\( '{NAME}', (.*) \);$"),
    "crontab": _matching(rf"^{NAME}=(.*)$"),
    "curl": lambda text: _matching(r"^header = (.*)$")(text).partition("x-api-key: ")[2],
}
"""The key that each kind of file holds, by the title of its section; raises `NotHere` where nothing can read it."""
