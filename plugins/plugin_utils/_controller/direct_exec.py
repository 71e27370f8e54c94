# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short way to a host: the phase's own code through the open connection into Python, and nothing else.

Of the time that Ansible takes for a module, most goes into packing, sending and starting its module library: on the
host alone about 200 ms of processor, where the work itself takes 5. While the old key is dead, every consumer waits for
that. So the write does without it, where nothing but keys changes and a rehearsal has shown that it works. Whatever is
not as expected is left to Ansible's own way, which finds what was done and goes on.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.multicart.keys.plugins import module_utils

_display = Display()

_RESULT = ("changed", "files", "restart_due", "ago", "failed", "msg", "reason")
"""What a host may say. Ansible trusts an action's result in much more: C(add_host) would change other hosts."""

_PACKAGE = module_utils.__name__
_PARTS = ("_api_key", "_env_file", "_host_file", "_record", "_services", "_file_attributes", "_key_file", "_phases")
"""In the order in which they import each other; a test holds it against their imports."""

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

# Before anything else is imported: what lies in the directory where Python happens to start is no library of its.
_RUN = '''
import sys
sys.path = [path for path in sys.path if path not in ("", ".")]
import base64, json, zlib
exec(zlib.decompress(base64.b64decode("""
%s""")))
given = json.loads(base64.b64decode("""
%s""").decode())
params = phases.with_defaults(phases.argument_spec(), given)
print(json.dumps(phases.carry_out(params, False, AsTheyAre)))
'''


def _packed() -> bytes:
    """Return the code that is the same for all hosts."""
    folder = Path(module_utils.__path__[0])
    sources = [(name, (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _PARTS]
    code = f"{_LOADER}\npackage = {_PACKAGE!r}\nphases = load(package, {sources!r})\n"
    code += f"from {_PACKAGE}._file_attributes import AsTheyAre\n"
    return base64.encodebytes(zlib.compress(code.encode(), 9))


# When it is imported: in Ansible's first process, so that no worker has to do it again.
_PACKED = _packed().decode()


def program(options: Mapping[str, Any]) -> bytes:
    """Return the program that does a phase and prints its result as one line of JSON.

    :param options: those of the module ``multicart_consumer``.
    """
    return (_RUN % (_PACKED, base64.encodebytes(json.dumps(options).encode()).decode())).encode()


def interpreter(variables: Mapping[str, Any], template: Any) -> str | None:
    """Return the Python of the host that Ansible uses, if that is known."""
    told = template(constants.config.get_config_value("INTERPRETER_PYTHON", variables=variables))
    if told and not str(told).startswith("auto"):
        return str(told)
    found = (variables.get("ansible_facts") or {}).get("discovered_interpreter_python")
    return str(found) if found else None


def execute(action: ActionBase, python: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Do a phase on the host; None: it could not be done in this way, or it is not known whether it was.

    :raises AnsibleConnectionFailure: the host cannot be reached.
    """
    # Mitogen's connections have none, and a short way of their own.
    if not action._connection.has_pipelining or not action._is_pipelining_enabled("new"):
        return None
    environment = action._compute_environment_string()
    command = action._connection._shell.build_module_command(environment, f"#!{python}", "").strip()
    answer = action._low_level_execute_command(command, in_data=program(options))
    lines = [line for line in answer["stdout_lines"] if line.startswith("{")]
    result: Any = None
    if answer["rc"] == 0 and lines:
        with suppress(ValueError):
            result = json.loads(lines[-1])
    if not isinstance(result, dict) or "files" not in result:
        _display.vv(f"The short way ended with exit code {answer['rc']} and no result; Ansible's own way follows.")
        return None
    return {name: result[name] for name in _RESULT if name in result}
