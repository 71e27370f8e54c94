#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_fleet_info
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Inspect all hosts of a play"
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
  - Nothing is changed at a consumer or at the API. With O(phase=audit), the metrics, the hooks and the system log that
    the role P(multicart.keys.multicart_report#role) is set up for get the result.
extends_documentation_fragment:
  - multicart.keys.attributes.info
options:
  phase:
    description:
      - V(validate) checks that there are consumers, and that some of them take part in this run.
      - V(validate_deployment) also checks that one of these has a file of this account, which an audit and a rotation
        find out themselves, and report.
      - V(audit) inspects every host.
      - V(diagnose) inspects every host, tries every credential, and names the next safe command.
    type: str
    required: true
    choices: [validate, validate_deployment, audit, diagnose]
"""

EXAMPLES = r"""
- name: Collect the settings of each host
  multicart.keys.multicart_host:
    phase: join

- name: Inspect all consumers
  multicart.keys.multicart_fleet_info:
    phase: audit

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
  returned: with O(phase=audit); failure
  type: str
  sample: not_ready
live:
  description: Fingerprint of the live key.
  returned: with O(phase=audit) and O(phase=diagnose), if it could be read
  type: str
  sample: 5e884898da280471
consumers:
  description: The state of each consumer, and why, by host name.
  returned: with O(phase=audit) and O(phase=diagnose)
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
