#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_report
author: multicart.keys contributors (@multicart)
short_description: "[INTERNAL] Write the report of a rotation"
version_added: 1.0.0
description:
  - B(Internal) to the role P(multicart.keys.multicart_report#role), which documents the files and the variable that
    names their directory.
  - Runs once on the control node, inside Ansible's own process, without a connection, and reports the result of the
    rotation of this run.
  - Keys are shown by mask and fingerprint only.
  - It never fails. If it could not write, RV(msg) says why.
  - Writes nothing in check mode, nor when the run found everything in order and changed nothing.
  - Never reports a change, because a report is a log of the run and not managed state. A second run with nothing to
    rotate writes nothing.
extends_documentation_fragment:
  - multicart.keys.attributes
attributes:
  check_mode:
    description: Writes nothing.
  diff_mode:
    support: none
    description: Shows no differences.
  idempotent:
    support: partial
    description: Each run that did something gets its own files; a run that changed nothing gets none.
options: {}
"""

EXAMPLES = r"""
- name: Write the report
  multicart.keys.multicart_report:
"""

RETURN = r"""
msg:
  description: Messages, one per line.
  returned: always
  type: list
  elements: str
json_path:
  description: The report for programs. The README of the role describes each of its fields.
  returned: when it was written
  type: str
  sample: /home/ops/multicart-reports/rotation-20260620T030001.482Z.json
html_path:
  description: The report for people.
  returned: when it was written
  type: str
  sample: /home/ops/multicart-reports/rotation-20260620T030001.482Z.html
"""
