#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: multicart_report
author: multicart.keys contributors (@multicart)
short_description: Write the report of a rotation (internal)
version_added: 1.0.0
description:
  - Internal to the role P(multicart.keys.multicart_report#role), which says what is in the files.
  - Runs in the controller's process, on the controller, without a connection, and looks at the results that the other
    roles registered on the hosts; also those of hosts that failed or cannot be reached.
  - Keys are shown by mask and fingerprint only.
  - It never fails. What kept it from writing is said in RV(msg).
  - Writes nothing in check mode, nor when the run found everything in order and changed nothing.
  - Never reports a change, because what it writes is a record of the run, as a log is, and no state that anybody
    manages. A second run with nothing to rotate changes nothing and writes nothing.
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
    description: Each run that did something gets files of its own; a run that changed nothing gets none.
options:
  dest:
    description:
      - The directory for the reports, on the controller; it is made if it does not exist. A relative one begins in the
        current directory.
      - Without it, or if it is empty, no report is written.
    type: path
"""

EXAMPLES = r"""
- name: Write down what the run did
  multicart.keys.multicart_report:
    dest: reports
  run_once: true
"""

RETURN = r"""
msg:
  description: What there is to say, a line each.
  returned: always
  type: list
  elements: str
json_path:
  description: The report for programs.
  returned: when it was written
  type: str
  sample: /home/ops/multicart-reports/rotation-20260620T030001.482Z.json
html_path:
  description: The report for people.
  returned: when it was written
  type: str
  sample: /home/ops/multicart-reports/rotation-20260620T030001.482Z.html
"""
