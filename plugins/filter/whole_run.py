# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: whole_run
author: multicart.keys contributors (@multicart)
short_description: Refuse a run that skips part of the playbook (internal)
version_added: 1.0.0
description:
  - Returns its input, unless C(--start-at-task), C(--skip-tags always) or C(--skip-tags tagged) makes Ansible skip
    tasks of a playbook that is safe only as a whole. In that case it fails, before any task has run.
  - For the C(hosts) line of this collection's playbooks. Their tasks all have the tag C(always), so C(--tags) skips
    none.
options:
  _input:
    description: Any value, such as a host pattern.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Make every consumer ready
  hosts: "{{ multicart_hosts | multicart.keys.whole_run }}"
"""

RETURN = r"""
_value:
  description: The input.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible import context
from ansible.errors import AnsibleFilterError


def whole_run(value: Any) -> Any:
    """Return the value, or refuse a run that would start half way or skip everything."""
    if context.CLIARGS.get("start_at_task"):
        raise AnsibleFilterError(
            "This playbook cannot start half way; nothing was changed. Drop --start-at-task: running the whole again "
            "is how an interrupted run is finished."
        )
    skipped = {"always", "tagged"}.intersection(context.CLIARGS.get("skip_tags") or ())
    if skipped:
        raise AnsibleFilterError(
            f"This playbook is safe only as a whole; nothing was changed. Drop --skip-tags {skipped.pop()}."
        )
    return value


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[Any], Any]]:
        """Return the filters by name."""
        return {"whole_run": whole_run}
