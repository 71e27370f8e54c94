#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_key_revoke
author: multicart.keys contributors (@multicart)
short_description: Revoke the API key of a MultiCartAPI account without reading the new one
version_added: 1.0.0
description:
  - For an emergency in which there is nothing but the key itself; with a session token or a login,
    M(multicart.keys.multicart_key_rotate) also reads the new key back, and the playbook C(multicart.keys.rotate)
    deploys it.
  - The API replaces the key, and every program that uses it fails until it has the new one, which the dashboard shows.
  - With O(api_key) alone, it succeeds only if the API accepts the request and then rejects the key. A key that is
    rejected without that may be revoked already, or the API may accept nothing from this control node; RV(outcome) is
    V(unknown) then.
  - With a session token or a login, the key that is live is read first. If it is another one, there is nothing to
    revoke, and RV(outcome) is V(already_rotated). If O(api_key) is the key to revoke, it is read only if the API
    rejects that or gives no usable answer, so that it can be revoked also where the token or the login fails.
  - Revokes at most one key of an account in a run.
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
      - Reads as in a normal run, if there is anything to read with, and revokes nothing.
  diff_mode:
    support: full
    details:
      - Shows masks and fingerprints.
  idempotent:
    support: partial
    details:
      - With O(api_key) alone, only within one run, because a revoked key can do nothing.
options:
  retire:
    description:
      - Fingerprint of the key to revoke. If O(api_key) is the only credential, it must be that key.
    type: str
    required: true
  settle_timeout:
    description:
      - Seconds to wait for the API to reject the key.
    type: float
    default: 30.0
seealso:
  - module: multicart.keys.multicart_key_rotate
"""

EXAMPLES = r"""
- name: Revoke a leaked key, which may be all that the environment has (MULTICART_API_KEY)
  multicart.keys.multicart_key_revoke:
    retire: 77aa0c9be2d43f1c
"""

RETURN = r"""
outcome:
  description:
    - V(rotated) means that the key was revoked; a new one has replaced it. If the response was lost, somebody else may
      have done that at the same time, or before a read that was outdated, or, with O(api_key), before.
    - V(already_rotated) means that it had already been replaced, by this run or by somebody else.
    - V(would_rotate) means that it would be revoked, in check mode.
    - V(unchanged) means that the task failed and nothing was revoked.
    - V(unknown) means that the task failed and it is unknown whether the key is revoked.
  returned: always
  type: str
  sample: rotated
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
  sample: credentials_rejected
verified:
  description: Whether the API accepted the request, or another key, and then rejected the key to revoke.
  returned: when the options were valid
  type: bool
old_key_rejected:
  description: Whether the API rejected the key after it was replaced; null if that was not tried.
  returned: when the options were valid
  type: bool
rotated_at:
  description: When this run sent the request that replaced the key, UTC.
  returned: when the options were valid
  type: str
  sample: "2026-06-20T03:00:00.123Z"
key_prefix:
  description: The public half of the live key.
  returned: when it is known
  type: str
  sample: 173axcs
key_masked:
  description: The live key as the dashboard shows it.
  returned: when it is known
  type: str
  sample: 173axcs.••••••••••••••••
key_fingerprint:
  description: The first 16 hexadecimal digits of the live key's SHA-256.
  returned: when it is known
  type: str
  sample: 3f1c0a9be2d47788
previous_key_prefix:
  description: The public half of the key to revoke.
  returned: when it is known
  type: str
  sample: 173axcs
previous_key_masked:
  description: The key to revoke, as the dashboard showed it.
  returned: when it is known
  type: str
  sample: 173axcs.••••••••••••••••
previous_key_fingerprint:
  description: The first 16 hexadecimal digits of the SHA-256 of the key to revoke.
  returned: when it is known
  type: str
  sample: 77aa0c9be2d43f1c
"""
