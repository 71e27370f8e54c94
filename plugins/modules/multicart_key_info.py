#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_key_info
author: multicart.keys contributors (@multicart)
short_description: Read the account and its API key, masked by default
version_added: 1.0.0
description:
  - Reads a MultiCartAPI account with a session token, a login or its API key.
  - Returns the key's public prefix, mask and fingerprint; the key itself only with O(reveal=true).
  - Runs on the control node, inside Ansible's own process, whatever host the task targets, so no credential is sent to
    a managed node and no connection is needed.
  - The key is the one that the API returns. Right after a rotation that may be outdated, so write what the
    lookup P(multicart.keys.multicart_key#lookup) returns, which is verified.
extends_documentation_fragment:
  - multicart.keys.connection
  - multicart.keys.attributes.info
  - multicart.keys.attributes.action_group
options:
  reveal:
    description:
      - Whether to return the key itself in RV(api_key).
      - The displayed result is then censored; the registered variable still contains the key.
      - Before ansible-core 2.19, refused in a loop unless the task has C(no_log=true), because callbacks would see the
        items.
    type: bool
    default: false
seealso:
  - module: multicart.keys.multicart_key_rotate
  - plugin: multicart.keys.multicart_key
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Read the account with the credentials from the environment
  multicart.keys.multicart_key_info:
  register: account

- name: Show which key is live
  ansible.builtin.debug:
    msg: "{{ account.key_masked }} {{ account.key_fingerprint }}"
"""

RETURN = r"""
key_prefix:
  description: The public half of the key, before the dot.
  returned: success
  type: str
  sample: 173axcs
key_masked:
  description: The key as the dashboard shows it.
  returned: success
  type: str
  sample: 173axcs.••••••••••••••••
key_fingerprint:
  description: The first 16 hexadecimal digits of the key's SHA-256.
  returned: success
  type: str
  sample: 3f1c0a9be2d47788
api_key:
  description: The key itself.
  returned: with O(reveal=true)
  type: str
account:
  description: The account's other fields, if they are scalar and do not look like a credential.
  returned: success
  type: dict
  sample:
    id: 7
    user: 42
    timezone: Australia/Brisbane
    created_at: "2025-01-15T09:00:00Z"
    updated_at: "2026-06-01T12:00:00Z"
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
  sample: credentials_rejected
"""
