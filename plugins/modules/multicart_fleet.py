#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_fleet
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Rotate the key of all hosts of a play"
version_added: 1.0.0
description:
  - B(Internal) to this collection's roles and playbooks.
  - Runs once for all hosts of the play, on the control node, and connects to every host from there. The strategies
    C(free) and C(host_pinned) refuse it. It refuses C(serial), loops, C(until), C(delegate_to), C(--step), handlers and
    the strategies of Mitogen.
  - A host takes part if M(multicart.keys.multicart_host) with O(multicart.keys.multicart_host#module:phase=join) has
    run there before. Afterwards, O(multicart.keys.multicart_host#module:phase=result) shows the result of each host.
    This task does not fail for what a host did.
  - Takes its options from the variables of the roles P(multicart.keys.multicart_rotate#role) and
    P(multicart.keys.multicart_report#role), never from facts.
extends_documentation_fragment:
  - multicart.keys.attributes
attributes:
  diff_mode:
    support: none
    description: Each host's own task shows its differences.
options:
  phase:
    description:
      - V(rotate) inspects every host, decides whether to rotate, rotates, and deploys the new key to every host.
    type: str
    required: true
    choices: [rotate]
"""

EXAMPLES = r"""
- name: Collect the settings of each host
  multicart.keys.multicart_host:
    phase: join

- name: Rotate the key
  multicart.keys.multicart_fleet:
    phase: rotate

- name: Check the result of each host
  multicart.keys.multicart_host:
    phase: result
"""

RETURN = r"""
msg:
  description: The results, a list of sentences; on failure, a single text.
  returned: always
  type: raw
reason:
  description:
    - Why the run failed as a whole, from a closed list; null if it did not.
    - If this task failed, why.
  returned: always
  type: str
  sample: not_ready
step:
  description:
    - What was decided; null if nothing was.
    - V(rotate) means a new rotation.
    - V(finish) means that a pending rotation is finished.
    - V(retired) means that the key to retire is not the live one.
    - V(catch_up) means that consumers are brought up to date, without a rotation.
    - V(not_due) means that the key is not old enough.
    - V(outside_hours) means that it is, but that rotations are not allowed at this hour.
    - V(done) means that this run, or another one for which it had to wait, has rotated already.
  returned: success
  type: str
  sample: rotate
outcome:
  description:
    - What happened to the key, as in RV(multicart.keys.multicart_key_rotate#module:outcome); null if no rotation was
      requested.
  returned: success
  type: str
  sample: rotated
live:
  description: Fingerprint of the live key.
  returned: success, if it could be read
  type: str
  sample: 5e884898da280471
retired:
  description: Fingerprint of the key that was retired, by this run or before.
  returned: success, if there is one
  type: str
  sample: 9f86d081884c7d65
consumers:
  description: The state of each consumer, and why, by host name.
  returned: success
  type: dict
  sample:
    web1: up to date
"""
