#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_consumer
author: multicart.keys contributors (@multicart)
short_description: Look at, prepare, write, prove and close all that uses the key on one host
version_added: 1.0.0
description:
  - Internal to the roles P(multicart.keys.multicart_deploy#role) and P(multicart.keys.multicart_rotate#role); use
    M(multicart.keys.multicart_env_file) in playbooks of your own.
  - Does one phase for a whole host in one round trip, so that a host costs one task while the key is dead.
  - Takes the files and the connection from the role's variables and the live key from the run cache; no key is ever in
    the task's arguments or result.
  - Keeps a record without secrets beside each file, or in O(state_dir).
extends_documentation_fragment:
  - multicart.keys.attributes
options:
  phase:
    description:
      - V(look) changes nothing. It tells what each file holds and whether it can be written, and which of O(services)
        and O(commands) the host lacks.
      - V(open) opens each file's record for the rotation of the key O(retire).
      - V(write) writes the live key, and opens the record first where that changes a file. Then it restarts O(services)
        and runs O(commands), unless whoever reads the files uses that key already.
      - V(health) runs O(commands) until they succeed.
      - V(close) closes the record of each file that holds the key O(fingerprint).
      - V(confirm) runs in the controller only, and tells whether the key O(fingerprint) is still the live one in a read
        that began after O(clock).
    type: str
    required: true
    choices: [look, open, write, health, close, confirm]
  retire:
    description: With O(phase=open), fingerprint of the key that is to be retired.
    type: str
  replaced:
    description: In check mode with O(phase=write), whether the key would have been replaced by now; set by the action.
    type: bool
    default: false
  fingerprint:
    description: Fingerprint of the key that is taken for live; set by the action but for O(phase=confirm).
    type: str
  clock:
    description: With O(phase=confirm), the controller's monotonic clock after the last write.
    type: float
  required:
    description: With O(phase=confirm), whether it is a failure if another key is live.
    type: bool
    default: false
  state_dir:
    description: Directory on the host for the records, instead of beside the files.
    type: path
  services:
    description: The services, from the role's variables; set by the action.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The service.
        type: str
        required: true
      state:
        description: What is done to it. A service that cannot be reloaded is restarted, where systemd knows that.
        type: str
        choices: [restarted, reloaded]
        default: restarted
  commands:
    description: The commands, each as a list of words, from the role's variables; set by the action.
    type: list
    elements: list
    default: []
  environment:
    description: Environment variables that services and commands do not inherit; set by the action.
    type: list
    elements: str
    default: []
  retries:
    description: With O(phase=health), how often a command that failed is tried again; set by the action.
    type: int
    default: 0
  delay:
    description: With O(phase=health), seconds between two tries; set by the action.
    type: float
    default: 1
  files:
    description: The files, from the role's variables; set by the action.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      variable:
        description: The variable that holds the key; unset for a template.
        type: str
      content:
        description: The whole content, for a template.
        type: str
      digest:
        description: What the digest of a template's content would be with the live key.
        type: str
      owner:
        description: Owner of the file.
        type: str
      group:
        description: Group of the file.
        type: str
      mode:
        description: Mode of the file.
        type: raw
      unsafe_writes:
        description: Whether to write in place where the file cannot be replaced.
        type: bool
        default: false
  value:
    description: The live key; set by the action.
    type: str
  since:
    description: Since when the live key is known; set by the action.
    type: str
"""

EXAMPLES = r"""
- name: Look at the files
  multicart.keys.multicart_consumer:
    phase: look
  register: seen
"""

RETURN = r"""
files:
  description: What each file holds after the task.
  returned: when there was a connection
  type: list
  elements: dict
  contains:
    path:
      description: The file.
      type: str
    variable:
      description: The variable; null for a template.
      type: str
    holds:
      description: Fingerprints of the keys in it.
      type: list
      elements: str
    unknown:
      description: Whether it may hold a key that cannot be told.
      type: bool
    why_not:
      description: Why it cannot be written; null if it can.
      type: str
    record:
      description: Its record; null if it has none.
      type: dict
restart_due:
  description: Whether whoever reads the files may still run with another key.
  returned: with O(phase=write)
  type: bool
lacking:
  description: Which services and commands the host does not have, each as a sentence.
  returned: with O(phase=look)
  type: list
  elements: str
times:
  description:
    - When it came so far, by the controller's clock, UTC, ISO 8601.
    - C(ready) after V(look) and V(open), C(written) and C(restarted) after V(write), C(healthy) after V(health).
  returned: when there was a connection
  type: dict
pace:
  description:
    - How long it took, by the controller's monotonic clock, in seconds, to foresee what the next phase will take.
    - C(began), C(connected), C(ended), and C(cpu), what the controller computed for it after it was connected.
  returned: with O(phase=look)
  type: dict
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
"""

import os
import time
from typing import Any, Dict, List, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multicart.keys.plugins.module_utils import steps
from ansible_collections.multicart.keys.plugins.module_utils.api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.module_utils.consumer import KeyFile
from ansible_collections.multicart.keys.plugins.module_utils.env_file import EnvFileError
from ansible_collections.multicart.keys.plugins.module_utils.file_attributes import Attributes, UnknownName
from ansible_collections.multicart.keys.plugins.module_utils.host_file import HostFileError

Problems = List[Tuple[str, str]]
"""Reasons, each with its sentence."""


def argument_spec() -> Dict[str, Any]:
    """Return the module's arguments."""
    return dict(
        phase=dict(type="str", required=True, choices=["look", "open", "write", "health", "close", "confirm"]),
        retire=dict(type="str"),
        replaced=dict(type="bool", default=False),
        fingerprint=dict(type="str"),
        clock=dict(type="float"),
        required=dict(type="bool", default=False),
        state_dir=dict(type="path"),
        value=dict(type="str", no_log=True),
        since=dict(type="str"),
        services=dict(
            type="list",
            elements="dict",
            default=[],
            options=dict(
                name=dict(type="str", required=True),
                state=dict(type="str", choices=["restarted", "reloaded"], default="restarted"),
            ),
        ),
        commands=dict(type="list", elements="list", default=[]),
        environment=dict(type="list", elements="str", default=[]),
        retries=dict(type="int", default=0),
        delay=dict(type="float", default=1),
        files=dict(
            type="list",
            elements="dict",
            default=[],
            options=dict(
                path=dict(type="path", required=True),
                variable=dict(type="str"),
                content=dict(type="str", no_log=True),
                digest=dict(type="str"),
                owner=dict(type="str"),
                group=dict(type="str"),
                mode=dict(type="raw"),
                unsafe_writes=dict(type="bool", default=False),
            ),
        ),
    )


ATTEMPTS = 5
"""How often a file is looked at again that another run changed at the same moment."""


def do_phase(module: AnsibleModule, entry: Dict[str, Any], attempts: int = ATTEMPTS) -> Tuple[KeyFile, Problems]:
    """Do the phase for one file; return how it stands then, and what was wrong."""
    file = KeyFile(entry, module.params["state_dir"], module.params["fingerprint"], module.check_mode)
    try:
        act(module, file, entry)
    except HostFileError as error:
        if error.reason == "changed_meanwhile" and attempts > 1:
            return do_phase(module, entry, attempts - 1)
        return file, [(error.reason, file.explain(error))]
    except (EnvFileError, UnknownName) as error:
        return file, [(error.reason, file.explain(error))]
    except NotAKey as error:
        return file, [("malformed_key", file.explain(error))]
    return file, []


def act(module: AnsibleModule, file: KeyFile, entry: Dict[str, Any]) -> None:
    """Do the phase for one file as it was found."""
    phase = module.params["phase"]
    if phase == "open":
        file.open(module.params["retire"])
    elif phase == "write" and module.params["replaced"]:
        file.predict_replaced()
    elif phase == "write":
        key, since = ApiKey(module.params["value"]), module.params["since"]
        file.write(key, since, lambda content: Attributes(module, content, entry))
    elif phase == "close":
        file.close()


def do_files(module: AnsibleModule) -> Dict[str, Any]:
    """Do the phase for all files; one that fails does not keep the others from theirs."""
    done = [do_phase(module, entry) for entry in module.params["files"]]
    files = [file for file, _problems in done]
    problems = [problem for _file, found in done for problem in found]
    result = {
        "changed": any(file.changed for file in files),
        "files": [file.describe() for file in files],
    }  # type: Dict[str, Any]
    if module.params["phase"] == "write":
        result["restart_due"] = module.params["replaced"] or any(file.restart_due for file in files)
    if problems:
        result.update(failed=True, msg="; ".join(text for _reason, text in problems), reason=problems[0][0])
    return result


CREDENTIALS = ("MULTICART_SESSION_TOKEN", "MULTICART_EMAIL", "MULTICART_PASSWORD", "MULTICART_API_KEY")
"""What the controller has in its environment, and with it every consumer that is the controller itself."""


def forget_environment(variables: List[str]) -> None:
    """Keep credentials, and the key of before, from what is started: many readers prefer them to their file."""
    for name in CREDENTIALS + tuple(variables):
        os.environ.pop(name, None)


def do_steps(module: AnsibleModule, result: Dict[str, Any]) -> None:
    """Do the phase for services and commands, and add to the result what came of it.

    ``moments`` are this host's monotonic clock, in seconds.
    """
    params = module.params
    forget_environment(params["environment"])

    def run(command: steps.Command) -> Tuple[int, str]:
        code, printed, _errors = module.run_command(command, handle_exceptions=False)
        return code, printed

    try:
        if params["phase"] == "look":
            result["lacking"] = steps.lacking(params["services"], params["commands"], run)
        elif params["phase"] == "write" and not result.get("failed"):
            result["moments"] = {"written": time.monotonic()}
            if result["restart_due"] and steps.restart(params["services"], params["commands"], run):
                result["moments"]["restarted"] = time.monotonic()
                result["changed"] = True
        elif params["phase"] == "health":
            steps.prove_health(params["commands"], params["retries"], params["delay"], run)
            result["moments"] = {"healthy": time.monotonic()}
    except steps.StepFailed as error:
        result.update(failed=True, msg=str(error), reason=error.reason)


def main() -> None:
    """Do one phase."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    defect = None
    try:
        result = do_files(module)
        if not module.check_mode or module.params["phase"] == "look":
            do_steps(module, result)
    except Exception as error:  # its text could hold anything
        defect = "Unexpected {0}; please report it.".format(type(error).__name__)
    if defect:  # not inside of except, where core would show the exception as well
        module.fail_json(msg=defect, reason="internal_error")
    if "moments" in result:
        now = time.monotonic()
        result["ago"] = {name: now - moment for name, moment in result.pop("moments").items()}
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
