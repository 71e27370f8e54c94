#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_fleet
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Rotate the key of all hosts of a play, or inspect them"
version_added: 1.0.0
description:
  - B(Internal) to this collection's roles and playbooks.
  - Runs once for all hosts of the play, on the control node, and connects to every host from there. The strategies
    C(free) and C(host_pinned) refuse it, and it refuses whatever would make it less than one task for the whole play.
  - The hosts take part by M(multicart.keys.multicart_host) with O(multicart.keys.multicart_host#module:phase=join)
    before; that module shows the result of each host afterwards. This task does not fail itself for what a host did.
  - Options are taken from the variables of the role P(multicart.keys.multicart_rotate#role), never from facts.
extends_documentation_fragment:
  - multicart.keys.attributes
attributes:
  diff_mode:
    support: none
    description: Each host's own task shows its differences.
options:
  phase:
    description:
      - V(validate) checks that there are consumers, and that some of them take part in this run.
      - V(rotate) decides whether to rotate, rotates, and brings the new key to every host.
      - V(audit) inspects every host and changes nothing.
      - V(diagnose) inspects every host, tries every credential, and names the next safe command; it changes nothing.
    type: str
    required: true
    choices: [validate, rotate, audit, diagnose]
"""

EXAMPLES = r"""
- name: Inspect all consumers
  multicart.keys.multicart_fleet:
    phase: audit
"""

RETURN = r"""
msg:
  description: What there is to say, a sentence each; one sentence on failure.
  returned: always
  type: raw
reason:
  description:
    - Why the run failed as a whole, from a closed list; null if it did not.
    - With O(phase=validate), and where nothing was begun, why this task failed.
  returned: with O(phase=rotate) and O(phase=audit); failure
  type: str
  sample: not_ready
step:
  description:
    - What the run did. V(rotate); V(finish), the rotation of an earlier run; V(retired), the key to retire was not the
      live one; V(catch_up), consumers were out of date; V(not_due), the key is not old enough; V(done), this run had
      rotated already.
  returned: with O(phase=rotate)
  type: str
  sample: rotate
outcome:
  description:
    - What became of the key, as RV(multicart.keys.multicart_key_rotate#module:outcome) says; null without a request.
  returned: with O(phase=rotate)
  type: str
  sample: rotated
live:
  description: Fingerprint of the live key.
  returned: with O(phase=rotate), O(phase=audit) and O(phase=diagnose), if it could be read
  type: str
  sample: 5e884898da280471
retired:
  description: Fingerprint of the key that was retired, by this run or before.
  returned: with O(phase=rotate), if there is one
  type: str
  sample: 9f86d081884c7d65
consumers:
  description: How each consumer stands, by host name.
  returned: with O(phase=rotate), O(phase=audit) and O(phase=diagnose)
  type: dict
  sample:
    web1: up to date
credentials:
  description: Whether each credential works, by its name.
  returned: with O(phase=diagnose)
  type: dict
next:
  description: The next safe command.
  returned: with O(phase=diagnose)
  type: str
"""
