#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_env_file_info
short_description: Report which API key an environment file holds and whether it can be changed
version_added: 1.0.0
description:
  - Returns the fingerprint and the public prefix of every active assignment of a variable, and never a key.
  - Reports whether M(multicart.keys.multicart_env_file) could write the file, and if not why, without changing
    anything.
  - An unreadable or unwritable file does not fail the task; see RV(reason) and RV(why).
author:
  - multicart.keys contributors (@multicart)
extends_documentation_fragment:
  - multicart.keys.attributes.info
  - multicart.keys.attributes.posix
options:
  path:
    description: Absolute path of the environment file.
    type: path
    required: true
  format:
    description: As O(multicart.keys.multicart_env_file#module:format).
    type: str
    choices: [env, key]
    default: env
  variable:
    description: Name of the variable that holds the key. Not used if O(format=key).
    type: str
    default: MULTICART_API_KEY
  unsafe_writes:
    description: Whether O(multicart.keys.multicart_env_file#module:unsafe_writes) will be set for the write.
    type: bool
    default: false
  state_dir:
    description:
      - Directory in which the role P(multicart.keys.multicart_deploy#role) keeps its records, if not beside the files.
    type: path
seealso:
  - module: multicart.keys.multicart_env_file
"""

EXAMPLES = r"""
- name: Inspect the shop's environment file
  multicart.keys.multicart_env_file_info:
    path: /etc/shop/shop.env
  register: shop

- name: Stop if it could not be brought up to date
  ansible.builtin.assert:
    that: shop.writable
    fail_msg: "{{ shop.why | default('') }}"
"""

RETURN = r"""
path:
  description: The path as it was given.
  returned: success
  type: str
  sample: /etc/shop/shop.env
variable:
  description: Name of the variable.
  returned: success
  type: str
  sample: MULTICART_API_KEY
exists:
  description: Whether there is a file.
  returned: success
  type: bool
  sample: true
writable:
  description: Whether a key could be written to it.
  returned: success
  type: bool
  sample: true
reason:
  description:
    - Why it is not writable, as a machine-readable code, as in RV(multicart.keys.multicart_env_file#module:reason).
    - On failure, why the task failed; V(invalid_option) or V(internal_error).
  returned: success, if RV(writable) is false; failure
  type: str
  sample: mount_point
why:
  description: Why it is not writable, in a sentence that says what to do.
  returned: success, if RV(writable) is false
  type: str
  sample: path /etc/shop/shop.env is on a read-only file system; mount it writable, or correct path
assignments:
  description: Every active assignment of the variable, in the order of the file.
  returned: success
  type: list
  elements: dict
  contains:
    line:
      description: Number of the line.
      type: int
      sample: 3
    is_key:
      description: Whether the value is shaped like a key. If not, the next three are null.
      type: bool
      sample: true
    key_prefix:
      description: The public half of the key.
      type: str
      sample: 173axcs
    key_masked:
      description: The key as the dashboard shows it.
      type: str
      sample: "173axcs.\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022"
    key_fingerprint:
      description: The first 16 hexadecimal digits of the key's SHA-256.
      type: str
      sample: 5e884898da280471
key_prefix:
  description: The public half of the key that is in effect, which is the last one.
  returned: success, if the last assignment is of a key
  type: str
  sample: 173axcs
key_masked:
  description: That key as the dashboard shows it.
  returned: success, if the last assignment is of a key
  type: str
  sample: "173axcs.\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022"
key_fingerprint:
  description: The first 16 hexadecimal digits of that key's SHA-256.
  returned: success, if the last assignment is of a key
  type: str
  sample: 5e884898da280471
record:
  description:
    - What the record beside the file says; null if there is none.
  returned: success
  type: dict
  contains:
    open:
      description: Whether a rotation or deployment is under way, or was interrupted there.
      type: bool
      sample: false
    retire:
      description: Fingerprint of the key that the last rotation retires; null if there was none.
      type: str
      sample: 5e884898da280471
    held:
      description: Fingerprint of the key that was last written.
      type: str
      sample: 9f86d081884c7d65
    since:
      description: The time since which that key is known, UTC.
      type: str
      sample: "2026-06-20T03:00:00.123Z"
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils import _record as record
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._key_file import LONGEST_KEY


def describe(line, key):
    """Return what may be shown of one assignment."""
    shown = key.describe() if key else dict.fromkeys(ApiKey("a.a").describe())
    return dict(shown, line=line, is_key=key is not None)


def record_at(path):
    """Return the record at a path, without what only the roles need; ``None`` if there is none."""
    kept = record.parse(host_file.read(path).data or b"")
    if kept is None:
        return None
    retire = kept["rotation"]["retire"] if kept["rotation"] else None
    return dict(open=kept["open"], retire=retire, held=kept["held"], since=kept["since"])


def run(module):
    """Inspect the file and return the result."""
    params = module.params
    path, variable = params["path"], params["variable"]
    env_file.require_name(variable)
    named = None if params["format"] == "key" else variable
    result = dict(path=path, variable=variable, exists=os.path.lexists(path), writable=False, assignments=[])
    result["record"] = None
    try:
        result["record"] = record_at(record.path_of(path, named, params["state_dir"]))
        content = host_file.read(path)
        data = content.data or b""
        found = other_form.held(data, named)
        result["assignments"] = [describe(*item) for item in found]
        key = found[-1][1] if found else None
        result.update(key.describe() if key else {})
        for note in other_form.former(data, named):
            module.warn("path {0}: {1}".format(path, note))
        host_file.check(content, other_form.with_key(data, named, LONGEST_KEY), params["unsafe_writes"])
        result["writable"] = True
    except host_file.HostFileError as error:
        result.update(reason=error.reason, why=str(error))
    except env_file.EnvFileError as error:
        result.update(reason=error.reason, why="path {0}: {1}".format(path, error))
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", required=True),
            format=dict(type="str", choices=["env", "key"], default="env"),
            variable=dict(type="str", default="MULTICART_API_KEY"),
            unsafe_writes=dict(type="bool", default=False),
            state_dir=dict(type="path"),
        ),
        supports_check_mode=True,
    )
    failure = {}
    try:
        result = run(module)
    except env_file.BadName as error:
        failure = dict(msg=str(error), reason=error.reason)
    except Exception as error:  # its text might hold content of the file; nothing of it may be shown
        failure = dict(msg="unexpected {0}; please report it".format(type(error).__name__), reason="internal_error")
    if failure:  # not inside of except, where core would show the exception as well
        module.fail_json(**failure)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
