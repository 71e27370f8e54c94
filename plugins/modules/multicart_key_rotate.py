#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_key_rotate
author: multicart.keys contributors (@multicart)
short_description: Rotate the API key of a MultiCartAPI account
version_added: 1.0.0
description:
  - Replaces the account's API key and reads the new one back. The old key stops working immediately, so every program
    that uses it fails until it has the new one; the playbook C(multicart.keys.rotate) prepares and updates them.
  - The request is authenticated by the key that it replaces, so the API itself rejects a repeat. If a response is
    lost, the module reads the key back and, if it is unchanged, sends the same request once more.
  - An API key alone is refused before any request, because it cannot read the key that replaces it; in an emergency,
    M(multicart.keys.multicart_key_revoke) needs no more.
  - Rotates an account at most once in a run, whatever C(serial), C(strategy), loops, C(until) or a missing C(run_once)
    do. Nothing is kept between runs, so another run rotates again unless O(retire) names the key to retire.
  - Sends at most five requests when nothing fails, and one more to log in.
  - Runs on the control node, inside Ansible's own process, whatever host the task targets. Ansible's time limit for
    tasks does not end it, because a request that was sent may be carried out all the same.
extends_documentation_fragment:
  - multicart.keys.connection
  - multicart.keys.attributes
  - multicart.keys.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - Reads and decides as in a normal run, but does not rotate. The lookup still returns the old key, so a later
        M(multicart.keys.multicart_env_file) is not reported as changed.
  diff_mode:
    support: full
    details:
      - Shows masks and fingerprints.
  idempotent:
    support: partial
    details:
      - Idempotent with O(retire), and within one run.
options:
  retire:
    description:
      - Fingerprint of the key to retire. Rotates only while that is the live key; otherwise
        RV(outcome=already_rotated).
      - The task is then idempotent, also across runs.
    type: str
  settle_timeout:
    description:
      - Seconds to wait for the new key to become readable and the old one to be rejected.
    type: float
    default: 30.0
  verify:
    description:
      - Whether to verify, by one request each, that the new key works and the old one is rejected.
    type: bool
    default: true
  reveal:
    description:
      - Whether to return the new key in RV(api_key).
      - The displayed result is then censored; the registered variable still contains the key.
      - Before ansible-core 2.19, refused in a loop unless the task has C(no_log=true), because callbacks would see the
        items.
    type: bool
    default: false
seealso:
  - module: multicart.keys.multicart_key_info
  - module: multicart.keys.multicart_key_revoke
  - plugin: multicart.keys.multicart_key
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Retire one known key; repeating this never rotates a newer one
  multicart.keys.multicart_key_rotate:
    retire: 77aa0c9be2d43f1c
  register: rotation

- name: Write the new key
  multicart.keys.multicart_env_file:
    path: /etc/myapp/env
    value: "{{ lookup('multicart.keys.multicart_key') }}"
"""

RETURN = r"""
outcome:
  description:
    - V(rotated) means that the key was replaced. The old key no longer works, even if a later step failed, unless
      the failure says that it is still valid.
    - V(already_rotated) means that the key had already been replaced, by this run or by somebody else.
    - V(would_rotate) means that the key would be replaced, in check mode.
    - V(unchanged) means that the task failed and the old key is still live.
    - V(unknown) means that the task failed and it is unknown whether the key changed.
  returned: always
  type: str
  sample: rotated
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
  sample: unreachable
verified:
  description: Whether the live key was verified to work, and the old one, if it is known, to be rejected.
  returned: when the options were valid
  type: bool
old_key_rejected:
  description: Whether the API rejected the old key; null if that was not tried.
  returned: when the options were valid
  type: bool
rotated_at:
  description: When this run sent the request that replaced the key, UTC; the old key stopped working right after.
  returned: when the options were valid
  type: str
  sample: "2026-06-20T03:00:00.123Z"
key_prefix:
  description: The public half of the live key.
  returned: when the live key is known
  type: str
  sample: 173axcs
key_masked:
  description: The live key as the dashboard shows it.
  returned: when the live key is known
  type: str
  sample: 173axcs.••••••••••••••••
key_fingerprint:
  description: The first 16 hexadecimal digits of the live key's SHA-256.
  returned: when the live key is known
  type: str
  sample: 3f1c0a9be2d47788
previous_key_prefix:
  description: The public half of the key that was to be retired.
  returned: when it is known
  type: str
  sample: 173axcs
previous_key_masked:
  description: The key that was to be retired, as the dashboard showed it.
  returned: when it is known
  type: str
  sample: 173axcs.••••••••••••••••
previous_key_fingerprint:
  description: The first 16 hexadecimal digits of the SHA-256 of the key that was to be retired.
  returned: when it is known
  type: str
  sample: 77aa0c9be2d43f1c
api_key:
  description: The live key itself.
  returned: with O(reveal=true), when it is known
  type: str
"""
