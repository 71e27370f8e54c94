# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""The hosts of a play as those of an act: what each leaves for it beforehand, and the sessions that are made of that.

A task of each host leaves an entry in the run's own store, since Ansible resolves connections and variables there; a
host without an entry was skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import withhold
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.actions import (
    ControllerAction,
    failure,
    refuse_facts,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.links import link_to
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.run_store import HOST
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.worker import most_held
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.act import ActResult, HostResult
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host import Host
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import HostSpec, spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import Step
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Session
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.state import UNKNOWN, File, Problem
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.store_link import StoreLink
from ansible_collections.multicart.keys.plugins.plugin_utils._options import undefined_in, values_of_run
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import ControlNode

SKIPPED = "it was skipped, or failed, before this task"

STAND_IN = ApiKey("multicart-stand-in.for-a-key-that-nobody-knows-yet")
"""Shows what a template makes of the key, and what it has from elsewhere."""

# Before ansible-core 2.19 the lookup would convert what looks like data; since then naming that option is deprecated.
_KEEP_TEXT: dict[str, Any] = {} if internals.IS_CORE_2_19 else {"convert_data": False}


def read_spec(action: ControllerAction) -> HostSpec:
    """Return what the host of a task is to hold, by its variables.

    A path on that host may come from its facts; a template or a store, which are the control node's, may not.

    :raises MulticartError: ``invalid_option``, ``facts_refused``.
    """
    variables = action.variables
    control = ControlNode(os.environ, _folders(action, variables), internals.vault_passwords(action))
    spec = spec_of(variables, action.template_with(variables), control)
    if spec.has_stores or spec.has_templates:
        own = internals.without_facts(variables)
        try:
            trusted = _of_control_node(spec_of(own, action.template_with(own), control))
        except Exception:  # pylint: disable=broad-except  # whatever is undefined without facts
            trusted = []
        if trusted != _of_control_node(spec):
            what = "A store" if spec.has_stores else "The template of a file"
            raise MulticartError(Reason.FACTS_REFUSED, f"{what} depends on its facts.")
    return spec


def _of_control_node(spec: HostSpec) -> list[str]:
    """Return which of its fields name files, programs and URLs of the control node."""
    return sorted(str(each.template or getattr(each, "options", "")) for each in spec.files)


def _folders(action: ActionBase, variables: Mapping[str, Any]) -> list[str]:
    """Return the directories in which relative paths of the control node are looked for."""
    folders = [*action._task.get_search_path(), variables.get("inventory_dir"), os.getcwd()]
    return [str(folder) for folder in folders if folder]


def join(action: ControllerAction, name: str) -> None:
    """Leave an entry for the act: what the host is to hold and how it is reached, or why it cannot take part."""
    entry: dict[str, Any] = {"spec": None, "settings": None, "problem": None}
    entry["of_run"] = values_of_run(action.variables, action.template_with(action.variables))
    try:
        refuse_facts(action.variables)
        spec = read_spec(action)
        entry["spec"] = spec.to_json()
        if spec.files and not spec.has_stores:
            entry["settings"] = internals.settings_of(action, action.variables)
    except MulticartError as error:
        entry["problem"] = [error.reason.value, str(error)]
    except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
        entry["problem"] = [Reason.INTERNAL_ERROR.value, str(unexpected(error))]
    action.store.put(HOST, name, entry)


def _differing(of_hosts: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
    """Return the variables of the whole run that are not the same for all, each with two hosts that differ."""
    first = next(iter(of_hosts), "")
    found: dict[str, tuple[str, str]] = {}
    for host, values in of_hosts.items():
        for name in (name for name in values if values[name] != of_hosts[first][name]):
            found.setdefault(name, (first, host))
    return found


class Taken(NamedTuple):
    """The hosts of an act, without those that have files of other accounts alone.

    :ivar skipped: the names of those that were skipped, or failed before.
    :ivar differing: the variables of the whole run that are not the same for all, each with two hosts that differ.
    """

    hosts: list[Host]
    skipped: list[str]
    differing: dict[str, tuple[str, str]]


def take_hosts(action: ControllerAction, names: Sequence[str], whole: bool) -> Taken:
    """Return the hosts of an act.

    :param whole: all consumers are among them.
    """
    hosts: list[Host] = []
    skipped: list[str] = []
    of_run: dict[str, dict[str, str]] = {}
    store, gate, most = action.store, threading.Semaphore(internals.forks()), most_held()
    for name in names:
        entry = store.take(HOST, name)
        if entry is None:
            skipped.append(name)
            hosts.append(Host(name, failure=Problem("skipped", SKIPPED)))
            continue
        host = _host(action, name, entry)
        if host is None:
            continue
        hosts.append(host)
        of_run[name] = entry["of_run"]
        if host.spec is not None and host.spec.has_stores:
            host.session = _session_of_stores(name)
        elif host.spec is not None:
            _connect(action, host, entry["settings"], gate, may_hold=len(hosts) <= most)
    return Taken(checked_for_stores(hosts) if whole else hosts, skipped, _differing(of_run))


def checked_for_stores(hosts: Sequence[Host]) -> list[Host]:
    """Refuse services without a file in a fleet without stores: these have the key from nowhere."""
    known = all(host.spec is not None or host.failure == _no_files() for host in hosts)
    if not known or any(host.has_stores for host in hosts):
        return list(hosts)
    forgotten = _no_files(", or multicart_deploy_account to that of its services and commands")
    return [Host(host.name, failure=forgotten) if host.has_readers_alone else host for host in hosts]


def _no_files(more: str = "") -> Problem:
    return Problem(Reason.NO_FILES.value, f"it has no files of this account: set multicart_deploy_files{more}")


def _session_of_stores(name: str) -> Session:
    return Session(name, StoreLink(constants.DEFAULT_LOCAL_TMP), threading.Semaphore(1))


def _host(action: ControllerAction, name: str, entry: Mapping[str, Any]) -> Host | None:
    if entry["problem"]:
        return Host(name, failure=Problem(*entry["problem"]))
    spec = HostSpec.from_json(entry["spec"])
    if not spec.files:
        return None if spec.others else Host(name, failure=_no_files())
    if not spec.has_templates:
        return Host(name, spec)
    variables = internals.variables_of(action, action.variables, name)
    return Host(name, spec, templates=_Templates(action, spec, variables))


def _connect(
    action: ActionBase, host: Host, settings: Mapping[str, Any], gate: threading.Semaphore, may_hold: bool
) -> None:
    try:
        there = internals.connected(action, settings)
    except AnsibleError as error:
        reason, text, _reached = internals.explain(error)
        host.failure = Problem(reason, text)
    else:
        host.session = Session(host.name, link_to(there, settings, may_hold), gate)


def own_host(action: ControllerAction, name: str, spec: HostSpec) -> Host:
    """Return the host to which the action itself is connected, as that of an act."""
    if spec.has_stores:
        return Host(name, spec, _session_of_stores(name))
    session = Session(name, link_to(action, internals.settings_of(action, action.variables)), threading.Semaphore(1))
    templates = _Templates(action, spec, action.variables) if spec.has_templates else None
    return Host(name, spec, session, templates=templates)


class _Templates:
    """The templates of a host, with its variables; see :class:`Templates`."""

    def __init__(self, action: ActionBase, spec: HostSpec, variables: Mapping[str, Any]) -> None:
        self._sources = [file.template for file in spec.files]
        self._rendered = partial(_render, action, variables)
        self._refused: MulticartError | None = None

    def render(self, key: ApiKey) -> list[str | None]:
        if self._refused is not None:
            raise self._refused
        return [source and self._rendered(source, key) for source in self._sources]

    def check(self, key: ApiKey) -> None:
        try:
            for source in filter(None, self._sources):
                self._refuse_another_key(source, key)
        except MulticartError as error:
            self._refused = error
            raise

    def _refuse_another_key(self, source: str, key: ApiKey) -> None:
        secret = key.reveal().partition(".")[2]
        content, with_stand_in = self._rendered(source, key), self._rendered(source, STAND_IN)
        # In no usual form, such as a digest, the key shows by what another one changes, if nothing else changes it.
        is_in = withhold(content, [secret]) != content or with_stand_in == self._rendered(source, STAND_IN)
        if content == with_stand_in or not is_in:
            what = f"The template {source} does not contain the variable multicart_key."
        elif withhold(with_stand_in, [secret]) != with_stand_in:
            what = f"The template {source} has the key from somewhere else than the variable multicart_key, too."
        else:
            return
        advice = "A rotation would leave an old key in the file. Nothing was changed; write {{ multicart_key }} there."
        raise MulticartError(Reason.INVALID_OPTION, what, advice)


def _render(action: ActionBase, variables: Mapping[str, Any], source: str, key: ApiKey) -> str:
    """Render the user's template as P(ansible.builtin.template#lookup) does; no file is left anywhere.

    :raises MulticartError: ``invalid_option``.
    """
    scope = {**variables, "ansible_search_path": _folders(action, variables)}
    templar = internals.templar_with(action._templar, scope)
    lookup = lookup_loader.get("ansible.builtin.template", loader=action._loader, templar=templar)
    try:
        content = str(
            lookup.run([source], variables=scope, template_vars={"multicart_key": key.reveal()}, **_KEEP_TEXT)[0]
        )
    except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
        name = undefined_in(error)
        cause = f"{name} is undefined" if name else type(error).__name__
        raise MulticartError(
            Reason.INVALID_OPTION,
            f"The template {source} cannot be rendered ({cause}).",
            "It is looked for beside the playbook and the inventory, and may be an absolute path.",
        ) from None
    try:
        content.encode()  # core keeps other bytes as surrogates
    except UnicodeEncodeError:
        what = f"The template {source}, or what it takes in, is not UTF-8."
        raise MulticartError(Reason.INVALID_OPTION, what, "Save it as UTF-8.") from None
    return content


def shown(result: ActResult, host: HostResult, error: MulticartError | None, diff: bool = True) -> dict[str, Any]:
    """Return the result of a host's own task.

    :param error: why the whole failed, where this host is to tell.
    """
    state = UNKNOWN if result.is_live_lost else host.standing.state.value
    told: dict[str, Any] = {"changed": host.changed, "state": state, "msg": host.message}
    if diff and host.changed and result.live is not None:
        new_key = result.check_mode and result.plan is not None and result.plan.step is Step.ROTATE
        told["diff"] = _diff(host.files, None if new_key else result.live.key)
    if host.reason or (not host.up_to_date and error is None):
        told.update(failed=True, reason=host.reason or Reason.NOT_UP_TO_DATE.value)
    elif error is not None:
        told.update(failure(error))
    return told


def _diff(files: Iterable[File], live: ApiKey | None) -> list[dict[str, str]]:
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
