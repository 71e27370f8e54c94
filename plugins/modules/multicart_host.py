#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_host
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Do what the roles do on each host"
version_added: 1.0.0
description:
  - B(Internal) to the roles P(multicart.keys.multicart_deploy#role) and P(multicart.keys.multicart_rotate#role); use
    M(multicart.keys.multicart_env_file) in playbooks of your own.
  - Takes the files and the connection options from the role's variables and the live key from the run cache; no key is
    ever in the task's arguments or result.
  - Keeps a record without secrets beside each file, or in the directory C(multicart_deploy_state_dir).
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
      - V(join) leaves what this host is to hold, and how it is reached, for the task that rotates the key for all
        hosts. It does not connect to the host.
      - V(deploy) brings the live key to this host, restarts what uses it, and checks its health.
      - V(result) shows how this host has ended, and fails if it failed, or if there was no rotation of this run for it.
    type: str
    required: true
    choices: [join, deploy, result]
"""

EXAMPLES = r"""
- name: Deploy the live key
  multicart.keys.multicart_host:
    phase: deploy
"""

RETURN = r"""
msg:
  description: How the host stands, in a sentence.
  returned: always, but for O(phase=join)
  type: str
  sample: "Holds the live key 173axcs.\u2022\u2022\u2022\u2022 5e884898da280471; its health checks passed."
state:
  description:
    - How the host stands against the live key.
    - One of V(up_to_date), V(restart_due), V(out_of_date), V(missing), V(unreadable), V(unreachable); null if it has no
      files of this account.
  returned: with O(phase=deploy) and O(phase=result)
  type: str
  sample: up_to_date
diff:
  description: Which key replaces which in each file, by fingerprint.
  returned: with C(--diff), if something changes
  type: list
  elements: dict
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
  sample: restart_failed
"""
