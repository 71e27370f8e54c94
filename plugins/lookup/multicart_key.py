# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: multicart_key
author: multicart.keys contributors (@multicart)
short_description: Read the API key of a MultiCartAPI account
version_added: 1.0.0
description:
  - Returns the live API key of the account, or its prefix, mask or fingerprint.
  - Never rotates, so it is safe in check mode. If it has to log in, the API opens a session.
  - The API is read at most once per account in a run of Ansible, whatever the number of hosts, tasks and forks, unless
    O(cache=false). After M(multicart.keys.multicart_key_rotate) it returns the new key without another read.
  - Runs on the control node, as every lookup does, and reads the environment variables there. It ignores
    C(module_defaults).
  - Returns no key that the API rejects, as an outdated read would be; for up to 30 seconds it is read again.
extends_documentation_fragment:
  - multicart.keys.connection
  - multicart.keys.connection.plugins
options:
  _terms:
    description:
      - What to return, one value per term. Without a term, V(api_key).
    type: list
    elements: str
    choices: [api_key, key_prefix, key_masked, key_fingerprint]
  cache:
    description:
      - V(false) reads the API even if this run has read the key before.
    type: bool
    default: true
seealso:
  - module: multicart.keys.multicart_key_info
"""

EXAMPLES = r"""
- name: Write the key into the environment file of the application
  multicart.keys.multicart_env_file:
    path: /etc/myapp/env
    value: "{{ lookup('multicart.keys.multicart_key') }}"

- name: Show which key is live
  ansible.builtin.debug:
    msg: "{{ lookup('multicart.keys.multicart_key', 'key_masked', 'key_fingerprint') }}"
"""

RETURN = r"""
_raw:
  description:
    - The key, or the fields that the terms name.
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import live
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import options_of
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import this_run
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._options import LOOKUP

_FIELDS = ("api_key", "key_prefix", "key_masked", "key_fingerprint")


class LookupModule(LookupBase):
    """The lookup P(multicart.keys.multicart_key#lookup)."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        try:
            fields = [_field(term) for term in terms] or ["api_key"]
            options = options_of(LOOKUP, kwargs, variables or {}, self._templar)
            newer_than = 0.0 if options.given["cache"] else time.monotonic()
            key = live(options.connection, this_run(), newer_than).key
        except MulticartError as error:
            failure = error
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            failure = unexpected(error)
        else:
            values = {**key.describe(), "api_key": key.reveal()}
            return [values[field] for field in fields]
        # Outside the except blocks: ansible-core prints the whole chain of exceptions.
        raise AnsibleLookupError(f"multicart_key ({failure.reason.value}): {failure}")


def _field(term: Any) -> str:
    if term not in _FIELDS:
        raise MulticartError(
            Reason.INVALID_OPTION, f"Unknown term. A term is one of {', '.join(_FIELDS)}.", "No term means api_key."
        )
    return str(term)
