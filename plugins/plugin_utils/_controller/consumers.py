# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The hosts of a play as members of an act: what each leaves for it beforehand, and the sessions that are made of that.

A task of each host leaves an entry in the run's own store, since Ansible resolves connections and variables there; a
host without an entry was skipped.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import refuse_facts
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.links import link_to
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import HOST, RunStore
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import Member
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec, spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import File, Problem

# Before ansible-core 2.19 the lookup would convert what looks like data; since then naming that option is deprecated.
_KEEP_TEXT: dict[str, Any] = {} if internals.IS_CORE_2_19 else {"convert_data": False}


def read_spec(action: ActionBase, variables: Mapping[str, Any]) -> HostSpec:
    """Return what a host is to hold, by its variables.

    A path on that host may come from its facts; a template, which is a file of the control node, may not.

    :raises MulticartError: ``invalid_option``, ``facts_refused``.
    """
    spec = spec_of(variables, internals.template_with(action._templar, variables))
    templates = [file.template for file in spec.files]
    if any(templates):
        own = internals.without_facts(variables)
        try:
            trusted = [file.template for file in spec_of(own, internals.template_with(action._templar, own)).files]
        except Exception:  # pylint: disable=broad-except  # whatever is undefined without facts
            trusted = []
        if sorted(map(str, trusted)) != sorted(map(str, templates)):
            raise MulticartError(Reason.FACTS_REFUSED, "The template of a file depends on its facts.")
    return spec


def join(action: ActionBase, store: RunStore, name: str, variables: Mapping[str, Any]) -> None:
    """Leave an entry for the act: what the host is to hold and how it is reached, or why it cannot take part."""
    entry: dict[str, Any] = {"spec": None, "settings": None, "problem": None}
    try:
        refuse_facts(variables)
        spec = read_spec(action, variables)
        entry["spec"] = spec.to_json()
        if spec.files:
            entry["settings"] = internals.settings_of(action, variables, action._templar.template)
    except MulticartError as error:
        entry["problem"] = [error.reason.value, f"{error.what} {error.advice}".rstrip(".")]
    except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
        found = unexpected(error)
        entry["problem"] = [found.reason.value, found.what.rstrip(".")]
    store.put(HOST, name, entry)


def take_members(
    action: ActionBase, store: RunStore, names: Iterable[str], variables: Mapping[str, Any], most_held: int
) -> tuple[list[Member], list[str]]:
    """Return the members of an act, and the names of the hosts that were skipped.

    Hosts that have files of other accounts alone are no members.

    :param most_held: how many hosts may be armed; the others are served at the release.
    """
    members: list[Member] = []
    skipped: list[str] = []
    gate = threading.Semaphore(internals.forks())
    for name in names:
        entry = store.take(HOST, name)
        if entry is None:
            skipped.append(name)
            continue
        member = _member(action, name, entry, variables, gate, len(members) < most_held)
        if member is not None:
            members.append(member)
    return members, skipped


def _member(
    action: ActionBase,
    name: str,
    entry: Mapping[str, Any],
    variables: Mapping[str, Any],
    gate: threading.Semaphore,
    may_hold: bool,
) -> Member | None:
    if entry["problem"]:
        return Member(name, failure=Problem(*entry["problem"]))
    spec = HostSpec.from_json(entry["spec"])
    if not spec.files:
        no_files = Problem("no_files", "it has no files of this account: set multicart_deploy_files")
        return None if spec.others else Member(name, failure=no_files)
    own = internals.variables_of(action, variables, name) if any(file.template for file in spec.files) else {}
    return member_of(action, name, spec, entry["settings"], own, gate=gate, may_hold=may_hold)


def member_of(
    action: ActionBase,
    name: str,
    spec: HostSpec,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    own_connection: bool = False,
    gate: threading.Semaphore | None = None,
    may_hold: bool = True,
) -> Member:
    """Return a host as a member of an act, with a session that has not begun yet.

    :param own_connection: the action's own connection is that to the host.
    """
    try:
        there = action if own_connection else internals.connected(action, settings)
    except AnsibleError as error:
        reason, text, _reached = internals.explain(error)
        return Member(name, spec, failure=Problem(reason, text))
    link = link_to(there, settings)
    if not may_hold and link.holds and link.with_terminal is not None:
        link = link.with_terminal
    session = Session(name, link, gate or threading.Semaphore(1))
    return Member(name, spec, session, render=_renderer(action, spec, variables))


def _renderer(
    action: ActionBase, spec: HostSpec, variables: Mapping[str, Any]
) -> Callable[[ApiKey], list[str | None]] | None:
    if not any(file.template for file in spec.files):
        return None
    return lambda key: [file.template and _render(action, file.template, key, variables) for file in spec.files]


def _render(action: ActionBase, source: str, key: ApiKey, variables: Mapping[str, Any]) -> str:
    """Render the user's template as P(ansible.builtin.template#lookup) does; no file is left anywhere.

    :raises MulticartError: ``invalid_option``.
    """
    folders = [*action._task.get_search_path(), variables.get("inventory_dir"), os.getcwd()]
    scope = {**variables, "ansible_search_path": [folder for folder in folders if folder]}
    templar = action._templar.copy_with_new_env(available_variables=scope)
    lookup = lookup_loader.get("ansible.builtin.template", loader=action._loader, templar=templar)
    try:
        return str(
            lookup.run([source], variables=scope, template_vars={"multicart_key": key.reveal()}, **_KEEP_TEXT)[0]
        )
    except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
        # The text of a templating error may quote values; the name of an undefined variable is safe.
        name = re.search(r"'([A-Za-z_][A-Za-z0-9_]*)' is undefined", str(error))
        cause = f"{name[1]} is undefined" if name else type(error).__name__
        raise MulticartError(
            Reason.INVALID_OPTION,
            f"The template {source} cannot be rendered ({cause}).",
            "It is looked for beside the playbook and the inventory, and may be an absolute path.",
        ) from None


def shown_diff(files: Iterable[File], live: ApiKey | None) -> list[dict[str, str]]:
    """Return which key replaces which in each file, in the form that Ansible shows; no key is in it.

    :param live: the key that the files are to hold; None: one that nobody knows yet.
    """
    new = "(the new key)" if live is None else f"{live.masked} (fingerprint {live.fingerprint})"
    return [
        {
            "before_header": file.path,
            "after_header": file.path,
            "before": "".join(f"{file.variable or 'key'}=(fingerprint {held})\n" for held in file.held),
            "after": f"{file.variable or 'key'}={new}\n",
        }
        for file in files
        if live is None or set(file.held) != {live.fingerprint}
    ]
