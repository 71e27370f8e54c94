# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the programs that the other kinds of files are for which key they read there.

``PROGRAMS`` maps the title of a section of the documentation's page to a function from the file to the key that its
program uses. Each raises `NotHere` when the program is not on this machine, so that a test can skip and say why.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ansible_collections.multicart.keys.tests.ports import OwnPort
from ansible_collections.multicart.keys.tests.readers.other_forms import NAME
from ansible_collections.multicart.keys.tests.readers.real_readers import NOBODY, NotHere, run

_KEPT = ("PATH", "LD_LIBRARY_PATH")  # programs may be unpacked somewhere
_SECONDS = 30
# Those that were installed beside this interpreter, those of the system, and those of its administrator.
_WHERE = ":".join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/systemd"))


def _program(*names: str) -> str:
    """Return the path of the first of these programs that is here."""
    for name in names:
        found = shutil.which(name, path=_WHERE)
        if found:
            return found
    raise NotHere(f"{names[0]} is not installed")


def _environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), **{name: os.environ[name] for name in _KEPT if name in os.environ}}


def _run(folder: Path, *command: str, check: bool = True, **more: str) -> str:
    """Run a program without any environment of ours, and return all that it says."""
    done = subprocess.run(
        command,
        env={**_environment(folder), **more},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_SECONDS,
        text=True,
        check=check,
    )
    return done.stdout


def _assigned(text: str) -> str:
    """Return the value of the variable in what ``env`` printed."""
    return re.findall(rf"^{NAME}=(.*)$", text, re.MULTILINE)[-1]


def _beside(file: Path, name: str, text: str = "") -> Path:
    folder = file.with_name(f"{file.name}.d")
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@contextmanager
def _upstream() -> Iterator[tuple[int, list[str]]]:
    """Serve requests, and note the ``x-api-key`` that they come with."""
    seen: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["x-api-key"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port, seen
        server.shutdown()
        thread.join()


@contextmanager
def _server(folder: Path, port: int, *command: str) -> Iterator[http.client.HTTPResponse]:
    """Start a server in the foreground, ask it for its first page, and end it."""
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=_environment(folder), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
            with suppress(ConnectionError):
                connection.request("GET", "/")
                yield connection.getresponse()
                connection.close()
                return
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    finally:
        process.terminate()
        process.wait()


def nginx(file: Path) -> str:
    """Let nginx pass a request on."""
    binary = _program("nginx")
    config = _beside(file, "nginx.conf")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {config.parent}/{kind};" for kind in kinds)
    with OwnPort() as port, _upstream() as (upstream, seen):
        location = f"location / {{ include {file}; proxy_pass http://127.0.0.1:{upstream}; }}"
        config.write_text(
            f"daemon off; master_process off; pid {config.parent}/pid;\nevents {{}}\n"
            f"http {{ access_log off; {folders} server {{ listen 127.0.0.1:{port.number}; {location} }} }}\n"
        )
        with _server(config.parent, port.number, binary, "-e", "stderr", "-p", str(config.parent), "-c", str(config)):
            return seen[-1]


def apache(file: Path) -> str:
    """Let Apache show its environment in a header."""
    binary = _program("apache2", "httpd")
    modules = Path("/usr/lib/apache2/modules")
    names = ("mpm_event", "authz_core", "env", "headers")
    if not all((modules / f"mod_{name}.so").exists() for name in names):
        raise NotHere(f"the modules of Apache are not in {modules}")
    config = _beside(file, "apache.conf")
    loaded = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
    place = config.parent
    with OwnPort() as port:
        config.write_text(
            f"ServerRoot {place}\nServerName localhost\nPidFile {place}/pid\nListen 127.0.0.1:{port.number}\n"
            f"{loaded}\nErrorLog /dev/stderr\nUser nobody\nGroup nogroup\nDefaultRuntimeDir {place}\n"
            f'Include {file}\nHeader always set X-Seen "%{{{NAME}}}e"\n'
        )
        with _server(place, port.number, binary, "-X", "-f", str(config)) as answer:
            return str(answer.getheader("x-seen"))


def php_fpm(file: Path) -> str:
    """Let PHP-FPM show what it has read."""
    binary = _program("php-fpm", *(f"php-fpm8.{minor}" for minor in range(9)))
    pool = f"{file.read_text()}listen = {file}.socket\npm = static\npm.max_children = 1\n"
    config = _beside(file, "fpm.conf", f"[global]\nerror_log = {file}.log\n{pool}")
    said = _run(config.parent, binary, "-tt", "-R", "-y", str(config))
    return re.findall(rf"env\[{NAME}\] = (.*)$", said, re.MULTILINE)[0]


def supervisor(file: Path) -> str:
    """Let supervisord start ``env`` in place of the program."""
    binary = _program("supervisord")
    shown = _beside(file, "shown")
    program = file.read_text().replace("/usr/bin/shop", "/usr/bin/env")
    config = _beside(
        file,
        "supervisord.conf",
        f"[supervisord]\nnodaemon=true\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={shown}.pid\n"
        f"{program}stdout_logfile={shown}\nstartsecs=0\nautorestart=false\n",
    )
    process = subprocess.Popen(
        [binary, "-c", str(config)],
        env=_environment(config.parent),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + _SECONDS
        while f"{NAME}=" not in shown.read_text():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
    finally:
        process.terminate()
        process.communicate()
    return _assigned(shown.read_text())


def uwsgi(file: Path) -> str:
    """Let uWSGI run ``env`` as soon as it has read its configuration."""
    binary = _program("uwsgi", "uwsgi-core")
    shown = _beside(file, "shown")
    text = file.read_text().replace("module = shop", "need-app = true")
    config = _beside(file, "uwsgi.ini", f"{text}exec-asap = /usr/bin/env > {shown}\n")
    _run(config.parent, binary, "--ini", str(config), check=False)  # it ends, because it has no application
    return _assigned(shown.read_text())


def systemd(file: Path) -> str:
    """Let systemd show the unit that the drop-in is of, as a manager of nobody in particular."""
    binary = _program("systemd")
    with tempfile.TemporaryDirectory(prefix="units-") as folder:
        units = Path(folder)
        (units / "shop.service.d").mkdir()
        (units / "shop.service").write_text("[Service]\nExecStart=/usr/bin/env\n")
        (units / "shop.service.d" / "key.conf").write_bytes(file.read_bytes())
        if not os.geteuid():
            os.chown(units, NOBODY, NOBODY)
        where = {"SYSTEMD_UNIT_PATH": f"{units}:", "XDG_RUNTIME_DIR": str(units), "HOME": str(units)}
        said = run(binary, "--test", "--user", "--unit=shop.service", **where).decode()
    return str(re.findall(rf"Environment: {NAME}=(.*)$", said, re.MULTILINE)[0])


def compose(file: Path) -> str:
    """Let Compose show what it has read."""
    try:
        command = [_program("docker-compose")]
    except NotHere:
        command = [_program("docker"), "compose"]
        if "Docker Compose" not in _run(file.parent, *command, "version", check=False):
            raise NotHere("docker compose is not installed") from None
    said = _run(file.parent, *command, "--file", str(file), "config")
    return re.findall(rf"{NAME}: *[\"']?(.*?)[\"']?$", said, re.MULTILINE)[0]


def kubernetes(file: Path) -> str:
    """Let kubectl show the manifest as JSON, without any cluster."""
    said = _run(file.parent, _program("kubectl"), "label", "--local", f"--filename={file}", "a=b", "--output=json")
    return str(json.loads(said)["stringData"][NAME])


def node_json(file: Path) -> str:
    """Let Node.js read the file as JSON."""
    code = f"console.log(JSON.parse(require('fs').readFileSync('{file}')).multicart.api_key)"
    return _run(file.parent, _program("node"), "-e", code).rstrip("\n")


def fish(file: Path) -> str:
    """Source the file in fish."""
    return _assigned(_run(file.parent, _program("fish"), "--no-config", "-c", "source $argv[1]; env", str(file)))


def csh(file: Path) -> str:
    """Source the file in csh."""
    return _assigned(_run(file.parent, _program("csh", "tcsh"), "-f", "-c", f"source {file}; env"))


def php(file: Path) -> str:
    """Load the file in PHP."""
    return _run(file.parent, _program("php"), "-r", f"require '{file}'; echo constant('{NAME}');")


def curl(file: Path) -> str:
    """Let curl send a request."""
    with _upstream() as (port, seen):
        url = f"http://127.0.0.1:{port}/"
        _run(file.parent, _program("curl"), "--noproxy", "*", "--max-time", "10", "--config", str(file), url)
    return seen[-1]


PROGRAMS: dict[str, Callable[[Path], str]] = {
    "systemd drop-in": systemd,
    "Supervisor": supervisor,
    "uWSGI": uwsgi,
    "PHP-FPM": php_fpm,
    "nginx": nginx,
    "Apache": apache,
    "Compose": compose,
    "Kubernetes manifest": kubernetes,
    "JSON": node_json,
    "fish": fish,
    "csh": csh,
    "wp-config.php": php,
    "curl": curl,
}
