# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that answer what they like: a Python that changes what a session's program, or a module, really answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from tests.integration.harness import Fleet, Host

# Between the connection and the real program: each answer is changed as the file beside this one says for its phase.
_PROGRAM = """#!{python}
import json, subprocess, sys, threading

with open({lies!r}) as file:
    lies = json.load(file)
if sys.argv[1:2] != ["-c"] or "zlib" not in sys.argv[2]:  # a module of Ansible's
    if "module" in lies:
        sys.stdin.buffer.read() if len(sys.argv) == 1 else None
        print(json.dumps(lies["module"]))
        sys.exit()
    sys.exit(subprocess.run([{python!r}, *sys.argv[1:]]).returncode)
real = subprocess.Popen([{python!r}, *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
size = sys.stdin.buffer.readline()
real.stdin.write(size + sys.stdin.buffer.read(int(size)))
phases = {{}}

def relay():
    for line in sys.stdin.buffer:
        request = json.loads(line)
        phases[request["tag"]] = request["phase"]
        real.stdin.write(line)
        real.stdin.flush()
    real.stdin.close()

threading.Thread(target=relay, daemon=True).start()
for line in real.stdout:
    tag, _space, text = line.decode().partition(" ")
    said = json.loads(text)
    lie = lies.get(phases.get(tag)) if "event" not in said else None
    if lie is not None:
        text = lie["text"] if "text" in lie else json.dumps(dict(said, **lie["with"])) if "with" in lie else text
        text = text.rstrip() + chr(10)
    sys.stdout.write(tag + " " + text)
    sys.stdout.flush()
"""


def make_hostile(fleet: Fleet, host: Host, lies: Mapping[str, Any]) -> None:
    """Let a host lie.

    :param lies: by phase of a session, ``{"with": fields}`` that are put over the real answer, or ``{"text": text}``
        instead of it; for ``module``, what every module of Ansible's answers.
    """
    folder = fleet.folder / f"hostile-{host.name}"
    folder.mkdir(exist_ok=True)
    (folder / "lies.json").write_text(json.dumps(lies))
    python = folder / "python"
    python.write_text(_PROGRAM.format(python=sys.executable, lies=str(folder / "lies.json")))
    python.chmod(0o755)
    host.variables["ansible_python_interpreter"] = str(python)


FACTS = """
import json, sys
from ansible.module_utils.basic import AnsibleModule

def main():
    module = AnsibleModule({"facts": {"type": "dict"}})
    module.exit_json(ansible_facts=module.params["facts"])

main()
"""
"""A module that returns facts, as many modules do."""


def tell_facts(fleet: Fleet, facts: Mapping[str, Any], host: str = "{{ inventory_hostname }}") -> str:
    """Return a task in which a host returns facts.

    :param host: the one that does.
    """
    path = fleet.folder / "library" / "tell_facts.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(FACTS)
    told = json.dumps({"facts": facts})
    return f"- tell_facts: {told}\n  when: inventory_hostname == '{host}'"
