#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_consumer
author: multicart.keys contributors (@multicart)
short_description: Do one phase of a rotation on one host (internal)
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
  - multicart.keys.attributes.posix
attributes:
  diff_mode:
    support: partial
    description: Shows which key replaces which, by fingerprint. Not owner, group and mode, nor content of a template.
options:
  phase:
    description:
      - V(look) changes nothing. It tells what each file holds and whether it can be written, and which of O(services)
        and O(commands) the host lacks.
      - V(rehearse) looks at the files once more, in the way that V(write) will take, to see that it works there and to
        foresee how long the write will take.
      - V(open) opens each file's record for the rotation of the key O(retire).
      - V(write) writes the live key, and opens the record first where that changes a file. Then it restarts O(services)
        and runs O(commands), unless whoever reads the files uses that key already.
      - V(health) runs O(commands) until they succeed.
      - V(close) closes the record of each file that holds the key O(fingerprint).
      - V(confirm) runs on the control node only, and tells whether the key O(fingerprint) is still the live one in a
        read that began after O(clock).
    type: str
    required: true
    choices: [look, rehearse, open, write, health, close, confirm]
  retire:
    description: With O(phase=open), fingerprint of the key that is to be retired.
    type: str
  replaced:
    description:
      - In check mode with O(phase=write), whether the key would have been replaced by now; set by the action plugin.
    type: bool
    default: false
  fingerprint:
    description: Fingerprint of the key that is taken for live; set by the action plugin but for O(phase=confirm).
    type: str
  account:
    description:
      - Tells the account of the live key from any other; set by the action plugin.
      - A file that was given the key of another account before is refused.
    type: str
  clock:
    description: With O(phase=confirm), the control node's monotonic clock after the last write.
    type: float
  required:
    description: With O(phase=confirm), whether it is a failure if another key is live.
    type: bool
    default: false
  state_dir:
    description: Directory on the host for the records, instead of beside the files.
    type: path
  services:
    description: The services, from the role's variables; set by the action plugin.
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
    description: The commands, each as a list of words, from the role's variables; set by the action plugin.
    type: list
    elements: list
    default: []
  environment:
    description: Environment variables that services and commands do not inherit; set by the action plugin.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that each service or command may take, from the role's variables; set by the action plugin.
    type: float
    default: 300
  retries:
    description: With O(phase=health), how often a command that failed is tried again; set by the action plugin.
    type: int
    default: 0
  delay:
    description: With O(phase=health), seconds between two tries; set by the action plugin.
    type: float
    default: 1
  files:
    description: The files, from the role's variables; set by the action plugin.
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
      status:
        description: Its owner, group and mode, as numbers, when it was looked at; set by the action plugin.
        type: list
        elements: int
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
    description: The live key; set by the action plugin.
    type: str
  since:
    description: Since when the live key is known; set by the action plugin.
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
    held:
      description: Fingerprints of the keys in it before the task.
      type: list
      elements: str
    holds:
      description: Fingerprints of the keys in it.
      type: list
      elements: str
    unknown:
      description: Whether it may hold a key that cannot be told.
      type: bool
    status:
      description: Its owner, group and mode, as numbers, when the task began; null if there was no file.
      type: list
      elements: int
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
only_keys:
  description: Whether a write would change nothing but keys, as every file is there with the wanted attributes.
  returned: with O(phase=look)
  type: bool
in_short:
  description: Whether the short way was taken, without Ansible's module library. If so, the write takes it, too.
  returned: with O(phase=rehearse) and O(phase=write)
  type: bool
times:
  description:
    - When it came so far, by the control node's clock, UTC, ISO 8601.
    - C(ready) after V(look) and V(open), C(written) and C(restarted) after V(write), C(healthy) after V(health).
  returned: when there was a connection
  type: dict
pace:
  description:
    - When it began and ended, C(began) and C(ended), by the control node's monotonic clock, in seconds.
    - The CPU time that the control node spent on it, C(cpu), in seconds.
  returned: with O(phase=rehearse)
  type: dict
other_account:
  description: Whether the host has files of other accounts than the one that this run is about.
  returned: when it has none of this account
  type: bool
current:
  description: Whether the key O(fingerprint) is still the live one.
  returned: with O(phase=confirm)
  type: bool
key_prefix:
  description: The public part of the live key, before the first dot.
  returned: with O(phase=write) and O(phase=confirm)
  type: str
key_masked:
  description: The live key with its secret part masked.
  returned: with O(phase=write) and O(phase=confirm)
  type: str
key_fingerprint:
  description: The first 16 hexadecimal digits of the live key's SHA-256.
  returned: with O(phase=write) and O(phase=confirm)
  type: str
clock:
  description: When the task ended, by the control node's monotonic clock, in seconds.
  returned: when there was a connection
  type: float
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import Attributes
from ansible_collections.multicart.keys.plugins.module_utils._phases import argument_spec, carry_out


def main() -> None:
    """Do one phase."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    defect = None
    try:
        result = carry_out(
            module.params, module.check_mode, lambda content, wanted: Attributes(module, content, wanted)
        )
    except Exception as error:  # its text could hold anything
        defect = "Unexpected {0}; please report it.".format(type(error).__name__)
    if defect:  # not inside of except, where core would show the exception as well
        module.fail_json(msg=defect, reason="internal_error")
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
