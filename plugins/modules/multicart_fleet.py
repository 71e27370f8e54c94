#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_fleet
author: multicart.keys contributors (@multicart)
short_description: Decide about the whole fleet from what every consumer holds (internal)
version_added: 1.0.0
description:
  - Internal to this collection's roles and playbooks.
  - Runs on the control node and looks at the results that M(multicart.keys.multicart_consumer) registered on the
    hosts. It changes nothing.
  - The consumers are the hosts that the variable C(multicart_hosts) names, C(--limit) disregarded, or where that is
    not set the hosts of the play.
extends_documentation_fragment:
  - multicart.keys.attributes.info
  - multicart.keys.connection
options:
  phase:
    description:
      - V(check) validates the request before any host is contacted.
      - V(plan) decides whether to rotate, and which key to retire.
      - V(interlock) lets a rotation pass only if every consumer is ready for it.
      - V(judge) reports how the run ended; it fails unless every consumer holds the live key and is healthy.
      - V(audit) reports how every consumer stands; it fails on drift.
      - V(diagnose) tries every credential at hand and reports what works and the next safe command; it does not fail.
    type: str
    required: true
    choices: [check, plan, interlock, judge, audit, diagnose]
  need_all:
    description: Whether a C(--limit) that leaves consumers out is refused.
    type: bool
    default: false
  confirm:
    description: Whether the operator confirmed the rotation; null where none is needed.
    type: bool
  expect_hosts:
    description: How many consumers there must be at least.
    type: int
    default: 1
  retire:
    description: Fingerprint of the key to retire.
    type: str
  max_age:
    description: Rotate only a key that is older, such as V(30d).
    type: str
  force:
    description: Rotate although the fleet is behind.
    type: bool
    default: false
  budget:
    description: Seconds that the outage may be expected to last.
    type: float
"""

EXAMPLES = r"""
- name: Report how every consumer stands
  multicart.keys.multicart_fleet:
    phase: audit
  run_once: true
"""

RETURN = r"""
msg:
  description: What there is to say, a line each; one sentence on failure.
  returned: always
  type: raw
step:
  description: With O(phase=plan), what the run will do; V(rotate), V(deploy) or V(catch_up).
  returned: success
  type: str
retire:
  description: With O(phase=plan) and O(phase=interlock), fingerprint of the key to retire.
  returned: when there is one
  type: str
live:
  description: Fingerprint of the live key.
  returned: with O(phase=plan), O(phase=audit), O(phase=diagnose), and outside of check mode with O(phase=judge)
  type: str
expected_outage:
  description: With O(phase=plan), how long the last consumer will probably wait for the new key, in seconds.
  returned: success
  type: float
next:
  description: The next safe command.
  returned: with O(phase=diagnose)
  type: str
credentials:
  description: Whether each credential at hand works, by its name.
  returned: with O(phase=diagnose)
  type: dict
consumers:
  description: How each consumer stands, by host name.
  returned: with O(phase=judge), O(phase=audit) and O(phase=diagnose)
  type: dict
reason:
  description: Why it failed, from a closed list.
  returned: failure
  type: str
"""
