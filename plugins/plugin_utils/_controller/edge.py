# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the key plugins meet Ansible: options from tasks and variables, the cache of this run, results to show."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Mapping
from typing import Any

import ansible.template
from ansible import constants
from ansible_collections.multicart.keys.plugins.plugin_utils._api.run_cache import RunCache
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Option, Options, resolve


def options_of(
    known: Iterable[Option], given: Mapping[str, Any], variables: Mapping[str, Any], templar: Any
) -> Options:
    """Resolve the options of a task or lookup against its variables and the controller's environment.

    :raises MulticartError: for whatever is wrong with them.
    """
    return resolve(known, given, variables, templar.template, os.environ)


def this_run() -> RunCache:
    """Return the cache of this run of Ansible."""
    return RunCache(constants.DEFAULT_LOCAL_TMP, bytes(multiprocessing.current_process().authkey))


IS_CORE_2_19 = hasattr(ansible.template, "trust_as_template")
"""Whether this is ansible-core 2.19 or later."""


def failure(error: MulticartError) -> dict[str, Any]:
    """Return the part of a failed result that says why."""
    return {"failed": True, "msg": str(error), "reason": error.reason.value}
