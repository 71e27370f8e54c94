#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_env_file
short_description: Set the API key in an environment file
version_added: 1.0.0
description:
  - Sets one variable of an environment file to a MultiCartAPI key. Nothing else in the file changes.
  - Order, comments, C(export), quotes, comments after the value, line endings, a byte order mark, undecodable bytes,
    owner, mode, ACL, SELinux label and symbolic links stay as they are.
  - Every active assignment of the variable is changed, so none is out of date.
  - The file is read as bash, dash, systemd (C(EnvironmentFile=)), C(docker --env-file), python-dotenv and
    C(node --env-file) read it. The change is made only if each of them that could read the variable
    reads the new key afterwards, and every other variable as before. Otherwise the module fails with the reason
    V(ambiguous), names the line and changes nothing.
  - The module also fails, with the reason V(other_form), if the key stands anywhere else in the file, if the value is
    more than a key, names another place or is encrypted, or if the file has no line to change and is not an
    environment file (a systemd drop-in, YAML, JSON and so on). See R(the formats of
    files,ansible_collections.multicart.keys.docsite.files). What looks like a former key elsewhere in the file is left
    alone, with a warning.
  - The file is replaced atomically. There is no backup, because it would contain the old key.
  - Enables pipelining unless you set it yourself, so that no module file with the key is written on the host. The
    become method C(su) and C(ANSIBLE_KEEP_REMOTE_FILES) make pipelining impossible.
notes:
  - Hosts whose sudo requires a terminal (C(requiretty)) cannot use pipelining. Set C(ansible_pipelining=false) for
    them.
  - A program reads its environment when it starts. Restart the services that use the file, as the role
    P(multicart.keys.multicart_deploy#role) does.
author:
  - multicart.keys contributors (@multicart)
extends_documentation_fragment:
  - ansible.builtin.files
  - multicart.keys.attributes
  - multicart.keys.attributes.posix
options:
  path:
    description:
      - Absolute path of the environment file.
      - A symbolic link is followed and stays a link.
    type: path
    required: true
  format:
    description:
      - V(env) is an environment file.
      - V(key) is a file that contains nothing but the key and at most one line break. It cannot be O(state=absent).
    type: str
    choices: [env, key]
    default: env
  variable:
    description:
      - Name of the variable that contains the key.
      - Not used if O(format=key).
    type: str
    default: MULTICART_API_KEY
  value:
    description:
      - The API key.
      - Required if O(state=present).
      - A value that does not have the format of a key is refused with the reason V(malformed_key).
    type: str
  state:
    description:
      - V(present) sets every active assignment of the variable to the key, or adds one.
      - V(absent) removes the lines that assign the variable.
    type: str
    choices: [present, absent]
    default: present
  create:
    description:
      - Whether to create a file that does not exist.
      - Its directory must exist.
    type: bool
    default: true
  mode:
    description:
      - The permissions of the file, for example V('0640') or V(u=rw,g=r).
      - If unset, a new file gets V('0600') and an existing one keeps its permissions.
  unsafe_writes:
    description:
      - Whether to write in place if the file cannot be replaced by a new one, because it is itself a mount point (as in
        a container), has several hard links, or is in a directory that is not writable.
      - Such a write is not atomic, so a program that reads the file at that moment may read part of it.
seealso:
  - module: multicart.keys.multicart_env_file_info
"""

EXAMPLES = r"""
- name: Write the live key to the shop's environment file
  multicart.keys.multicart_env_file:
    path: /etc/shop/shop.env
    value: "{{ lookup('multicart.keys.multicart_key') }}"
    owner: root
    group: shop
    mode: "0640"
  notify: Restart the shop

- name: Change a file that is mounted into a container
  multicart.keys.multicart_env_file:
    path: /srv/worker/.env
    variable: WORKER_API_KEY
    value: "{{ lookup('multicart.keys.multicart_key') }}"
    create: false
    unsafe_writes: true

- name: Remove the key from a host that no longer needs it
  multicart.keys.multicart_env_file:
    path: /etc/shop/shop.env
    state: absent
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
key_prefix:
  description: The public half of the key that the file contains now.
  returned: success and O(state=present)
  type: str
  sample: 173axcs
key_masked:
  description: That key as the dashboard shows it.
  returned: success and O(state=present)
  type: str
  sample: "173axcs.\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022"
key_fingerprint:
  description: The first 16 hexadecimal digits of that key's SHA-256.
  returned: success and O(state=present)
  type: str
  sample: 5e884898da280471
previous_key_prefix:
  description: The public half of the key that the file contained before, which may be the same.
  returned: success, if it contained one
  type: str
  sample: 173axcs
previous_key_masked:
  description: That key as the dashboard shows it.
  returned: success, if it contained one
  type: str
  sample: "173axcs.\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022\u2022"
previous_key_fingerprint:
  description: The first 16 hexadecimal digits of that key's SHA-256.
  returned: success, if it contained one
  type: str
  sample: 9f86d081884c7d65
reason:
  description:
    - Why it failed, as a machine-readable code.
    - One of V(malformed_key), V(invalid_option), V(not_text), V(ambiguous), V(other_form), V(attributes_refused),
      V(internal_error), V(not_absolute), V(path_is_directory), V(no_such_directory), V(no_such_file),
      V(dangling_link), V(not_regular), V(too_large), V(unreadable), V(not_writable), V(owner_kept),
      V(attributes_kept), V(read_only_file_system), V(immutable), V(mount_point), V(hard_linked), V(name_taken),
      V(name_too_long), V(no_space), V(changed_meanwhile), V(busy) and V(io_error).
  returned: failure
  type: str
  sample: mount_point
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _host_file as host_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import Attributes, UnknownName, ids_of


def line_in(variable, key):
    """Return the variable's line as the diff may show it."""
    shown = "{0} (fingerprint {1})".format(key.masked, key.fingerprint) if key else "(not an API key)"
    return "{0}={1}\n".format(variable, shown)


def run(module):
    """Bring the file to the wanted state and return the result."""
    params = module.params
    path, variable, unsafe_writes = params["path"], params["variable"], params["unsafe_writes"]
    key = ApiKey(params["value"]) if params["state"] == "present" else None
    env_file.require_name(variable)
    named = None if params["format"] == "key" else variable
    if key is None and named is None:
        raise env_file.BadName("state absent is for format env; remove the file with ansible.builtin.file")
    ids = ids_of(params)
    content = host_file.read(path)
    data = content.data or b""
    if key and content.data is None and not params["create"]:
        raise host_file.HostFileError("no_such_file", path)
    found = [held for _line, held in other_form.held(data, named)]
    wanted = other_form.with_key(data, named, key) if key else other_form.without_key(data, named)
    for note in other_form.former(data, named, [other_form.known_key(key)]) if key else []:
        module.warn("path {0}: {1}".format(path, note))
    changed = wanted != data
    attributes = Attributes(module, content, params)
    if changed and module.check_mode:
        host_file.check(content, wanted, unsafe_writes, ids)
    elif changed:
        host_file.replace(content, wanted, unsafe_writes, attributes.prepare, ids)
    elif not module.check_mode:
        host_file.sweep(content)
    if changed or content.data is not None:
        changed = attributes.finish() or changed

    result = dict(changed=changed, path=path, variable=variable)
    previous = found[-1] if found else None
    result.update(key.describe() if key else {})
    result.update(previous.describe("previous_") if previous else {})
    shown = dict(
        before_header=path,
        after_header=path,
        before="".join(line_in(variable, held) for held in found),
        after=line_in(variable, key) * max(len(found), 1) if key else "",
    )
    result["diff"] = [shown] + ([attributes.diff] if attributes.diff else [])
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", required=True),
            format=dict(type="str", choices=["env", "key"], default="env"),
            variable=dict(type="str", default="MULTICART_API_KEY"),
            value=dict(type="str", no_log=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            create=dict(type="bool", default=True),
        ),
        required_if=[("state", "present", ("value",))],
        add_file_common_args=True,
        supports_check_mode=True,
    )
    failure = {}
    try:
        result = run(module)
    except NotAKey as error:
        failure = dict(msg="value cannot be used: {0}; give the API key itself".format(error), reason="malformed_key")
    except (UnknownName, host_file.HostFileError, env_file.BadName) as error:
        failure = dict(msg=str(error), reason=error.reason)
    except env_file.EnvFileError as error:
        failure = dict(msg="path {0}: {1}".format(module.params["path"], error), reason=error.reason)
    except Exception as error:  # its text might hold the key; nothing of it may be shown
        failure = dict(msg="unexpected {0}; please report it".format(type(error).__name__), reason="internal_error")
    if failure:  # not inside of except, where core would show the exception as well
        module.fail_json(**failure)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
