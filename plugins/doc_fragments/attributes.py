# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of this collection support, said once."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes; a module names the fragments that are true of it."""

    # A module that changes something, and can say beforehand what.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Reads and checks as a normal run does, changes nothing, and predicts exactly whether something would
      change.
  diff_mode:
    support: full
    description: Shows what changes or would change, with every key masked.
  idempotent:
    support: full
    description: When run twice in a row with the same arguments, the second run reports no change.
"""

    # A module that changes nothing.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Changes nothing, in check mode or not.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  idempotent:
    support: full
    description: Changes nothing.
"""

    # A module that works on the managed node.
    POSIX = r"""
options: {}
attributes:
  platform:
    support: full
    description: Managed nodes that it can run on, with Python 3.6 or later. Tested on Linux only.
    platforms: posix
"""

    # A module that talks to the API, with the connection options.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    support: full
    description: Takes the connection options from C(module_defaults) of C(group/multicart.keys.multicart).
    membership:
      - multicart.keys.multicart
"""
