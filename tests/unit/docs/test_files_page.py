# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about formats: what each template renders is read right, and each file is refused without its template."""

from __future__ import annotations

import configparser
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import spec_of
from ansible_collections.multicart.keys.tests.readers.other_forms import NAME

PAGE = Path(__file__).resolve().parents[3] / "docs/docsite/rst/files.rst"
# With every character that a key may have besides letters and digits, and what YAML would read as a number.
KEY = ApiKey("1e5.a~_+/=-.b")


def blocks(language: str) -> dict[str, list[str]]:
    """Return the code of each section of the page."""
    parts = re.split(r"^(.+)\n-{3,}\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        codes = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text, re.MULTILINE)
        found[title] = [textwrap.dedent(code).strip("\n") + "\n" for code in codes]
    return {title: codes for title, codes in found.items() if codes}


TEMPLATES = {title: codes[0] for title, codes in blocks("jinja").items()}


def render(title: str, key: ApiKey = KEY) -> str:
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    return environment.from_string(TEMPLATES[title]).render(multicart_key=key.reveal())


def ini(section: str, option: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        parser = configparser.RawConfigParser(delimiters=("=",), inline_comment_prefixes=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        return parser.get(section, option)

    return read


def toml(text: str) -> Any:
    return pytest.importorskip("tomllib").loads(text)["multicart"]["api_key"]


def supervisor(text: str) -> str:
    words = dict(word.split("=", 1) for word in ini("program:shop", "environment")(text).split(","))
    return words[NAME].strip('"')


def matching(pattern: str) -> Callable[[str], str]:
    """Return a reader of lines; what quotes mean to the shells among the programs, shlex knows."""

    def read(text: str) -> str:
        (found,) = re.findall(pattern, text, re.MULTILINE)
        (word,) = shlex.split(found)
        return word

    return read


READ: dict[str, Callable[[str], Any]] = {
    "systemd drop-in": lambda text: ini("Service", "Environment")(text).partition(f"{NAME}=")[2],
    "Supervisor": supervisor,
    "uWSGI": lambda text: ini("uwsgi", "env")(text).partition(f"{NAME}=")[2],
    "PHP-FPM": lambda text: ini("www", f"env[{NAME}]")(text).strip('"'),
    "nginx": matching(r"^proxy_set_header x-api-key (.*);$"),
    "Apache": matching(rf"^SetEnv {NAME} (.*)$"),
    "Compose": lambda text: yaml.safe_load(text)["services"]["shop"]["environment"][NAME],
    "Kubernetes manifest": lambda text: yaml.safe_load(text)["stringData"][NAME],
    "JSON": lambda text: json.loads(text)["multicart"]["api_key"],
    "TOML": toml,
    "YAML": lambda text: yaml.safe_load(text)["multicart"]["api_key"],
    "Java properties": matching(r"^multicart\.api-key=(.*)$"),
    "fish": matching(rf"^set -gx {NAME} (.*)$"),
    "csh": matching(rf"^setenv {NAME} (.*)$"),
    "wp-config.php": matching(rf"^define\( '{NAME}', (.*) \);$"),
    "crontab": matching(rf"^{NAME}=(.*)$"),
    "curl": lambda text: matching(r"^header = (.*)$")(text).partition("x-api-key: ")[2],
}


def test_every_template_of_the_page_is_tried() -> None:
    assert set(TEMPLATES) == set(READ)


@pytest.mark.parametrize("title", READ)
def test_what_a_template_renders_is_read_right(title: str) -> None:
    assert READ[title](render(title)) == KEY.reveal()


_KEPT = ("PATH", "LD_LIBRARY_PATH")  # programs may be unpacked somewhere
PROGRAMS = {
    "fish": ("fish", "--no-config", "-c", "source $argv[1]; env", "{}"),
    "csh": ("csh", "-f", "-c", "source {}; env"),
    "Environment file": ("sh", "-c", "set -a; . {}; env"),
    "wp-config.php": ("php", "-r", f"require '{{}}'; echo '{NAME}=', constant('{NAME}');"),
    "nginx": ("nginx", "-T", "-e", "stderr", "-p", "{}.d", "-c", "{}.conf"),
    "PHP-FPM": ("php-fpm", "-tt", "-R", "-y", "{}.fpm"),
}


@pytest.mark.parametrize("title", PROGRAMS)
def test_the_real_program_reads_what_a_template_renders(title: str, tmp_path: Path) -> None:
    program, *arguments = PROGRAMS[title]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "file"
    file.write_text(render(title) if title in TEMPLATES else f"{NAME}={KEY.reveal()}\n")
    (tmp_path / "file.d").mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {file}.d/{kind};" for kind in kinds)
    location = f"server {{ location / {{ include {file}; }} }}"
    file.with_name("file.conf").write_text(
        f"events {{}}\npid {file}.pid;\nhttp {{ access_log off; {temporary} {location} }}\n"
    )
    pool = f"{file.read_text()}listen = {file}.socket\npm = static\npm.max_children = 1\n"
    file.with_name("file.fpm").write_text(f"[global]\nerror_log = {file}.log\n{pool}")
    done = subprocess.run(
        [program, *(each.replace("{}", str(file)) for each in arguments)],
        env={"HOME": str(tmp_path), **{name: os.environ[name] for name in _KEPT if name in os.environ}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    shown = {
        "nginx": f'proxy_set_header x-api-key "{KEY.reveal()}";',
        "PHP-FPM": f"NOTICE: \tenv[{NAME}] = {KEY.reveal()}",
    }.get(title, f"{NAME}={KEY.reveal()}")
    assert any(line.endswith(shown) for line in done.stdout.splitlines())


def test_curl_sends_what_a_template_renders(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    seen = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["x-api-key"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    file = tmp_path / "file"
    file.write_text(render("curl"))
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        subprocess.run(["curl", "--noproxy", "*", "--max-time", "10", "--config", str(file), url], check=True)
        thread.join()
    assert seen == [KEY.reveal()]


@pytest.mark.parametrize("title", [title for title in READ if title != "crontab"])
def test_such_a_file_is_refused_without_its_template(title: str) -> None:
    with pytest.raises(other_form.OtherForm):
        other_form.refuse(render(title).encode(), NAME, [other_form.known_key(KEY)])


def test_a_crontab_with_the_variable_above_its_lines_is_changed_in_place() -> None:
    new = ApiKey("p.new")
    other_form.refuse(render("crontab").encode(), NAME, [other_form.known_key(KEY)])
    assert env_file.with_value(render("crontab").encode(), NAME, b"p.new") == render("crontab", new).encode()


def test_the_variables_of_the_page_are_understood() -> None:
    shown = [yaml.safe_load(code) for codes in blocks("yaml").values() for code in codes]
    assert len(shown) >= 6
    for variables in shown:
        spec = spec_of(variables, lambda value: value)
        assert spec.files or spec.steps.commands
