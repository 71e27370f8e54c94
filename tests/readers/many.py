# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the real readers about many files at once, one process for all of them; ``real_readers`` asks about one.

``MANY`` maps a reader's name to a function from the files to what the reader sees in each.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from ansible_collections.multicart.keys.tests.readers.real_readers import (
    NODES,
    OF_NPM,
    READERS,
    NotHere,
    Variables,
    docker_many,
    dotenv,
    folder_of,
    node_of,
    of_npm,
    program,
    run,
    shell_variables,
    systemd_many,
)

# With a trap bash does not run the last command of a file in its own stead, as it does in a subshell otherwise.
_SHELL = """
count=0
while [ "$count" -lt "$2" ]; do
    ( trap : EXIT; PATH=; set -a; . "$1/$count" >/dev/null 2>&1; exec /usr/bin/env -0 )
    printf '%s\\0' "$3"
    count=$((count + 1))
done
"""

_NODE = """
const read = (file) => {
    Object.keys(process.env).forEach((name) => delete process.env[name]);
    try { process.loadEnvFile(file) } catch { return {} }
    return { ...process.env };
};
const [folder, count] = process.argv.slice(1);
process.stdout.write(JSON.stringify(Array.from({ length: count }, (_, index) => read(`${folder}/${index}`))));
"""


# It knows no subshells, and takes no assignments that are not commands.
_FISH = """
count=0
while [ "$count" -lt "$2" ]; do
    "$4" --no-config -c 'set -gx PATH; source $argv[1] >/dev/null 2>&1; exec /usr/bin/env -0' "$1/$count"
    printf '%s\\0' "$3"
    count=$((count + 1))
done
"""

_DOTENV = """
const fs = require('fs');
const [library, expansion, folder, count] = process.argv.slice(1);
const read = (file) => {
    const parsed = require(library).parse(fs.readFileSync(file, 'utf8'));
    try { return expansion ? require(expansion).expand({ parsed, processEnv: {} }).parsed : parsed } catch { return {} }
};
process.stdout.write(JSON.stringify(Array.from({ length: count }, (_, index) => read(`${folder}/${index}`))));
"""

_RUBY = """
require "json"
require "dotenv"
def read(path)
  Dotenv::Environment.new(path, true).to_h
rescue StandardError, Dotenv::FormatError
  {}
end
text = ->(value) { value.to_s.dup.force_encoding("utf-8").scrub }
found = ARGV[1].to_i.times.map do |number|
  read("#{ARGV[0]}/#{number}").to_h { |name, value| [text.(name), text.(value)] }
end
print JSON.generate(found)
"""

_PHP = """
require "/usr/share/php/Dotenv/autoload.php";
function read(string $path) {
    try {
        return (object) array_filter(Dotenv\\Dotenv::parse(file_get_contents($path)), "is_string");
    } catch (Throwable) {
        return (object) [];
    }
}
$found = array_map(fn ($number) => read("$argv[1]/$number"), $argv[2] ? range(0, $argv[2] - 1) : []);
echo json_encode($found, JSON_INVALID_UTF8_SUBSTITUTE);
"""


def _shell(name: str, files: Sequence[bytes], script: str = _SHELL, *more: str) -> list[Variables]:
    mark, (shell, *options) = secrets.token_hex(16), name.split()
    with folder_of(*files) as folder:
        out = run(program(shell), *options, "-c", script, shell, folder, str(len(files)), mark, *more)
    *parts, rest = out.split(mark.encode() + b"\0")
    assert (len(parts), rest) == (len(files), b""), f"{name} did not get through: {len(parts)} of {len(files)}"
    return [shell_variables(part) for part in parts]


def _fish(files: Sequence[bytes]) -> list[Variables]:
    return _shell("dash", files, _FISH, program("fish"))


def _printed(files: Sequence[bytes], *command: str, is_harmless: bool = True) -> list[Variables]:
    """Return what a program that gets a folder and the number of the files in it prints of them as JSON."""
    with folder_of(*files) as folder:
        printed = run(*command, folder, str(len(files)), is_harmless=is_harmless, PATH="/nonexistent")
    found: list[Variables] = json.loads(printed)
    return found


def _node(version: int, files: Sequence[bytes]) -> list[Variables]:
    return _printed(files, node_of(version), "-e", _NODE)


def _dotenv_of_npm(expansion: str, files: Sequence[bytes]) -> list[Variables]:
    expanding = of_npm(expansion) if expansion else ""
    return _printed(files, node_of(NODES[-1]), "-e", _DOTENV, of_npm("dotenv"), expanding)


def _ruby(files: Sequence[bytes]) -> list[Variables]:
    if not any(Path("/usr/share/rubygems-integration").glob("*/specifications/dotenv-*.gemspec")):
        raise NotHere("ruby-dotenv is not installed")
    # It runs commands that a file holds.
    return _printed(files, program("ruby"), "-e", _RUBY, is_harmless=False)


def _php(files: Sequence[bytes]) -> list[Variables]:
    if not Path("/usr/share/php/Dotenv/autoload.php").exists():
        raise NotHere("php-vlucas-phpdotenv is not installed")
    return _printed(files, program("php"), "-r", _PHP, "--")


def _each(read: Callable[[bytes], Variables], files: Sequence[bytes]) -> list[Variables]:
    return [read(data) for data in files]


@cache
def _godotenv_program() -> str:
    """Return the path of a small program that uses the library, built now."""
    packages = Path("/usr/share/gocode")
    if not (packages / "src/github.com/joho/godotenv").is_dir():
        raise NotHere("golang-github-joho-godotenv-dev is not installed")
    made, source = OF_NPM.with_name("godotenv"), Path(__file__).with_name("godotenv.go")
    environment = {"GO111MODULE": "off", "GOPATH": str(packages), "GOCACHE": str(made.with_name("go"))}
    command = [program("go"), "build", "-o", str(made), str(source)]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    return str(made)


def _godotenv(files: Sequence[bytes]) -> list[Variables]:
    return _printed(files, _godotenv_program())


MANY: dict[str, Callable[[Sequence[bytes]], list[Variables]]] = {
    "bash": partial(_shell, "bash"),
    "dash": partial(_shell, "dash"),
    "busybox ash": partial(_shell, "busybox ash"),
    "mksh": partial(_shell, "mksh"),
    "zsh": partial(_shell, "zsh -f"),
    "fish": _fish,
    "systemd": systemd_many,
    "docker": docker_many,
    "python-dotenv": partial(_each, dotenv),
    **{f"node {version}": partial(_node, version) for version in NODES},
    "dotenv of npm": partial(_dotenv_of_npm, ""),
    "dotenv-expand of npm": partial(_dotenv_of_npm, "dotenv-expand"),
    "godotenv": _godotenv,
    "ruby-dotenv": _ruby,
    "phpdotenv": _php,
}


def one_by_one(name: str, files: Sequence[bytes]) -> list[Variables]:
    """Ask a reader about each file in a process of its own.

    :raises NotHere: it is not on this machine.
    """
    read = READERS.get(name) or (lambda data: MANY[name]([data])[0])
    return [read(data) for data in files]
