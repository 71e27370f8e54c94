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
  - Takes the files and the connection options from the role's variables, and the live key from the API or the run
    cache. No key is ever in the task's arguments or result.
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
      - V(join) stores the files of this host, and how it is reached, for M(multicart.keys.multicart_fleet)
        and M(multicart.keys.multicart_fleet_info). It does not connect to the host.
      - V(deploy) deploys the live key to this host, restarts what uses it, and checks its health.
      - V(deploy_later) does the same for hosts of a later wave, which read the key from a store, and V(deploy) for all
        others; each skips the others' hosts.
      - V(result) shows the result of this host. It fails if the host is not up to date, if the rotation as a whole
        failed, or if this run has no result for the host.
    type: str
    required: true
    choices: [join, deploy, deploy_later, result]
"""

EXAMPLES = r"""
- name: Deploy the live key
  multicart.keys.multicart_host:
    phase: deploy
"""

RETURN = r"""
msg:
  description: The state of the host, in a sentence.
  returned: always, except with O(phase=join)
  type: str
  sample: It is up to date; its health checks passed.
state:
  description:
    - The state of the host.
    - One of V(up_to_date), V(restart_due), V(process_out_of_date), V(out_of_date), V(missing), V(unreadable),
      V(unreachable); V(unknown) if the key was, or may have been, replaced, and the new one could not be read; null if
      all its files are of other accounts.
  returned: with O(phase=deploy), O(phase=deploy_later) and O(phase=result)
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
