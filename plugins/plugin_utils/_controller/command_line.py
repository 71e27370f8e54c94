# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How this run was started, as far as it may be repeated: what `rerun` makes a command of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible import constants, context
from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.splitter import parse_kv
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import next_command as rerun


def invocation(variables: Mapping[str, Any], templar: Any, loader: Any) -> rerun.Invocation:
    """Return how Ansible was started.

    :param variables: those of the task.
    :param templar: what templates them.
    :param loader: Ansible's reader of YAML.
    """

    def parse(text: str) -> Mapping[str, Any]:
        """Read one ``-e`` option as Ansible does."""
        return dict(loader.load(text) if text[:1] in ("{", "[") else parse_kv(text))

    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    defaults = {name: _plain(cli.parser.get_default(name)) for name in rerun.OPTIONS}
    defaults["inventory"] = _plain(constants.DEFAULT_HOST_LIST)
    extra = rerun.names_of(context.CLIARGS.get("extra_vars") or (), parse)
    told = [name for name in rerun.REPEATABLE if name in extra]
    return rerun.Invocation(
        options={name: _plain(context.CLIARGS.get(name)) for name in rerun.OPTIONS},
        defaults=defaults,
        variables={name: _word(templar.template(variables.get(name))) for name in told},
        extra=extra,
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _word(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
