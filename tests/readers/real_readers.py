# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the programs that really read environment files what they read.

``READERS`` maps a name to a function from a file's bytes to the variables that this program would see. Each
function raises `NotHere` when the program is not on this machine, so that a test can skip and say why.
"""

from __future__ import annotations

import ctypes
import functools
import http.server
import importlib
import io
import json
import os
import resource
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Variables = dict[str, str]

NODES = (20, 22, 24)
OF_NPM = Path(__file__).resolve().parents[2] / ".cache" / "readers" / "node_modules"
"""What the Makefile installs of ``npm/package.json``."""
NOBODY = 65534
_OF_SHELLS = ("PATH", "PWD", "OLDPWD", "SHLVL", "_", "HOME", "LOGNAME")


class NotHere(Exception):
    """The program is not installed on this machine."""


def program(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name)
    if path is None:
        raise NotHere(f"{name} is not installed")
    return path


def of_npm(name: str, path: str = "") -> str:
    """Return the path of something in a package of npm."""
    if not (OF_NPM / name).is_dir():
        raise NotHere(f"{name} of npm is not installed")
    return str(OF_NPM / name / path)


@contextmanager
def folder_of(*files: bytes) -> Iterator[str]:
    """Write the files, named by their numbers, where no other file is but theirs.

    The folder above is a private one, too: a script can make a path out of its own name and a few characters more.
    """
    with tempfile.TemporaryDirectory(prefix="env-") as above:
        folder = Path(above, "files")
        folder.mkdir()
        for index, data in enumerate(files):
            (folder / str(index)).write_bytes(data)
        os.chmod(above, 0o755)
        yield str(folder)


@contextmanager
def _file(data: bytes) -> Iterator[str]:
    with folder_of(data) as folder:
        yield f"{folder}/0"


def _harmless() -> None:
    """Whatever a generated script says, it can hurt nobody: no privilege, no large files, not for long."""
    if not os.geteuid():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def run(*command: str, is_harmless: bool = False, **environment: str) -> bytes:
    """Run a reader where it can do no harm, and return what it prints.

    :param is_harmless: it runs nothing that a file says, and may itself be where only this user reaches it.
    """
    return subprocess.run(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=None if is_harmless else _harmless,
        timeout=300,
        check=False,
    ).stdout


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _shell(name: str, data: bytes) -> Variables:
    # An empty PATH: whatever a generated file says, no program runs. env -0 shows values of several lines intact.
    with _file(data) as path:
        out = run(program(name), "-c", f'PATH=; set -a; . "{path}" >/dev/null 2>&1; exec /usr/bin/env -0')
    return shell_variables(out)


def shell_variables(out: bytes) -> Variables:
    """Return what ``env -0`` printed, without what every shell sets by itself."""
    pairs = (_text(item).partition("=") for item in out.split(b"\0") if item)
    return {key: value for key, _equal, value in pairs if key not in _OF_SHELLS}


def bash(data: bytes) -> Variables:
    """Source the file in bash with every assignment exported."""
    return _shell("bash", data)


def dash(data: bytes) -> Variables:
    """Source the file in dash with every assignment exported."""
    return _shell("dash", data)


def node_of(version: int) -> str:
    """Return the path of a version of Node.js."""
    return of_npm(f"node-{version}", "bin/node")


def node(version: int, data: bytes) -> Variables:
    """Start Node.js with ``--env-file``."""
    with _file(data) as path:
        show = "process.stdout.write(JSON.stringify(process.env))"
        out = run(node_of(version), f"--env-file={path}", "-e", show, is_harmless=True)
        result: Variables = json.loads(out or b"{}")
    return result


def dotenv(data: bytes) -> Variables:
    """Read the file with python-dotenv."""
    try:
        library = importlib.import_module("dotenv")
    except ImportError:
        raise NotHere("python-dotenv is not installed") from None
    try:
        # What open() does to line endings is a part of what users of the library get.
        stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        return {key: value for key, value in library.dotenv_values(stream=stream).items() if value is not None}
    except UnicodeDecodeError:
        return {}


@functools.cache
def _libsystemd() -> ctypes.CDLL:
    root = Path(os.environ.get("MULTICART_SYSTEMD_ROOT", "/"))  # another version, unpacked somewhere
    for path in sorted(
        path
        for folder in ("lib/systemd", "lib64/systemd", "lib/*/systemd")
        for path in root.glob(f"usr/{folder}/libsystemd-shared-*.so")
    ):
        library = ctypes.CDLL(str(path))
        if hasattr(library, "load_env_file"):
            library.log_set_max_level(0)  # emergencies only; it tells of every line that it cannot read
            return library
    raise NotHere("systemd's shared library is not installed")


def systemd(data: bytes) -> Variables:
    """Call the function that systemd itself reads ``EnvironmentFile=`` with; no running systemd is needed."""
    return systemd_many([data])[0]


def systemd_many(files: Sequence[bytes]) -> list[Variables]:
    """Read many files likewise."""
    with folder_of(*files) as folder:
        return [_loaded(f"{folder}/{index}".encode()) for index in range(len(files))]


def _loaded(path: bytes) -> Variables:
    library = _libsystemd()
    fopen = ctypes.CDLL(None).fopen
    fopen.restype = ctypes.c_void_p
    library.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p))]
    found = ctypes.POINTER(ctypes.c_char_p)()
    stream = fopen(path, b"r")
    failed = library.load_env_file(stream, path, ctypes.byref(found))
    ctypes.CDLL(None).fclose(ctypes.c_void_p(stream))
    variables: Variables = {}
    position = 0
    while failed == 0 and found and found[position]:
        key, _equal, value = _text(found[position]).partition("=")
        if key.isidentifier() and key.isascii():  # systemd drops what is no name of a variable
            variables[key] = value
        position += 1
    return variables


class _Daemon(http.server.BaseHTTPRequestHandler):
    """As much of a Docker daemon as ``docker create`` needs to hand over the environment it has read."""

    protocol_version = "HTTP/1.1"
    environment: list[str] | None = None

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.40")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    def do_HEAD(self) -> None:
        """Answer the client's first call."""
        self._answer(200, b"")

    def do_GET(self) -> None:
        """Answer it likewise."""
        self._answer(200, b"")

    def do_POST(self) -> None:
        """Take the request to create a container."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _Daemon.environment = body["Env"] or []
        self._answer(201, b'{"Id": "0", "Warnings": []}')


@functools.cache
def _daemon_port() -> int:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Daemon)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def docker(data: bytes) -> Variables:
    """Run the real ``docker create --env-file`` against a stand-in daemon and return what it sends."""
    return docker_many([data])[0]


def docker_many(files: Sequence[bytes]) -> list[Variables]:
    """Read many files in one run, with a file that only marks a place before each; a bad one spoils a whole run."""
    if not files:
        return []
    _Daemon.environment = None
    mark = f"MARK_{secrets.token_hex(8)}"
    with folder_of(*files, mark.encode() + b"=\n") as folder:
        paths = [f"{folder}/{number}" for index in range(len(files)) for number in (len(files), index)]
        options = [word for path in paths for word in ("--env-file", path)]
        host = f"tcp://127.0.0.1:{_daemon_port()}"
        run(program("docker"), "create", *options, "image", DOCKER_HOST=host, HOME="/nonexistent")
    if _Daemon.environment is None:
        half = len(files) // 2
        return docker_many(files[:half]) + docker_many(files[half:]) if half else [{}]
    found: list[Variables] = []
    for item in _Daemon.environment:
        key, _equal, value = item.partition("=")
        if key == mark:
            found.append({})
        else:
            found[-1][key] = value
    return found


READERS: dict[str, Callable[[bytes], Variables]] = {
    "bash": bash,
    "dash": dash,
    "systemd": systemd,
    "docker": docker,
    "python-dotenv": dotenv,
    **{f"node {version}": functools.partial(node, version) for version in NODES},
}
