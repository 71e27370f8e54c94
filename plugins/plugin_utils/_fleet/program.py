# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The program of a host session, as it is sent to a host: the modules of the host's side, and how Python starts them.

Ansible packs and starts its module library for each module, which costs a host about 200 ms of processor time, where
the work itself takes 5. This program needs none of it. It holds no secret: a key comes to it later, as a request.
"""

from __future__ import annotations

import base64
import re
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.multicart.keys.plugins import module_utils

PARTS = (
    *("_api_key", "_env_file", "_other_form", "_host_file", "_record", "_services", "_processes", "_file_attributes"),
    *("_key_file", "_phases"),
)
"""In the order in which they import each other; a test holds it against their imports."""

_PACKAGE = module_utils.__name__

_LOADER = """
import sys, types

def load(package, sources):
    names = package.split(".")
    for number in range(len(names)):
        name = ".".join(names[:number + 1])
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    for name, source in sources:
        module = types.ModuleType(package + "." + name)
        sys.modules[module.__name__] = module
        exec(compile(source, name + ".py", "exec"), module.__dict__)
        setattr(sys.modules[package], name, module)
    return module
"""

CLEAN_PATH = 'import sys; sys.path = [p for p in sys.path if p not in ("", ".")]; '
"""How a program of ``python -c`` begins: what lies in the directory where Python happens to start is no library."""

_FROM_INPUT = f"{CLEAN_PATH}import zlib; f = sys.stdin.buffer; exec(zlib.decompress(f.read(int(f.readline()))))"

_FROM_FILE = """{clean}import base64, io, os, zlib
try: os.unlink(__file__)
except OSError: pass
f = io.BytesIO(base64.b64decode("{requests}"))
exec(zlib.decompress(base64.b64decode("{program}")))
"""

FALLBACKS = ("/usr/bin/python3", "/usr/libexec/platform-python", "python3")
"""Where a host's Python is looked for besides, if no interpreter is named: Ansible's own list comes after these."""

NO_PYTHON = 127
"""Exit status of `command` where no interpreter was found."""


_DOCSTRING = re.compile(r'^( *)"""(.*?)"""$', re.MULTILINE | re.DOTALL)


def _source_of(name: str) -> str:
    """Return what a host needs of a module: a quarter of all would be docstrings. Each line keeps its number."""
    source = (Path(module_utils.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    return _DOCSTRING.sub(lambda found: found[1] + '""' + "\n" * found[2].count("\n"), source)


def _compressed() -> bytes:
    sources = [(name, _source_of(name)) for name in PARTS]
    code = f"{_LOADER}\nphases = load({_PACKAGE!r}, {sources!r})\nphases.serve(f, sys.stdout.buffer)\n"
    return zlib.compress(code.encode(), 9)


# When it is imported: in Ansible's first process, so that no worker has to do it again.
_PROGRAM = _compressed()

HEADER = b"%d\n%s" % (len(_PROGRAM), _PROGRAM)
"""What `command` reads from its standard input before the first request."""


def command(interpreter: str | None, fallbacks: Sequence[str], environment: str = "", path: str | None = None) -> str:
    """Return the shell command that starts the program, or a `script` that was copied to the host.

    :param interpreter: Python, as the user named it; None: the first of the fallbacks that the host has.
    :param fallbacks: names or paths.
    :param environment: assignments of environment variables, quoted for the shell.
    :param path: of the script.
    """
    arguments = f"-c {shlex.quote(_FROM_INPUT)}" if path is None else shlex.quote(path)
    if interpreter is not None:  # a word, or several, as in Ansible itself
        return f"{environment} {interpreter} {arguments}".strip()
    names = " ".join(shlex.quote(name) for name in dict.fromkeys([*FALLBACKS, *fallbacks]))
    start = f'exec env {environment} "$p" {arguments}'
    return f'for p in {names}; do command -v "$p" >/dev/null 2>&1 && {start}; done; exit {NO_PYTHON}'


def script(requests: bytes) -> bytes:
    """Return a whole script with its requests in it, for a host to which nothing can be sent but files."""
    return _FROM_FILE.format(
        clean=CLEAN_PATH,
        requests=base64.b64encode(requests).decode(),
        program=base64.b64encode(_PROGRAM).decode(),
    ).encode()
