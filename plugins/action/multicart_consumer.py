# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One phase for all files of one host; the documentation is with the module of the same name."""

from __future__ import annotations

import os
import re
import resource
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.module_utils._record import digest_of
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live, live
from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome, iso_time, utc_now
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import direct_exec as express
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.edge import (
    IS_CORE_2_19,
    failure,
    options_of,
    this_run,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.pipelining import prefer_pipelining
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.registered import (
    CLOSED,
    REHEARSED,
    ROTATION,
    SEEN,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, unexpected
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import (
    STATE_DIR,
    FileSpec,
    Steps,
    files_of,
    steps_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.plan import stuck_at
from ansible_collections.multicart.keys.plugins.plugin_utils._options import CONNECTION, Connection

# Before ansible-core 2.19 the lookup would convert what looks like data; since then naming that option is deprecated.
_KEEP_TEXT: dict[str, Any] = {} if IS_CORE_2_19 else {"convert_data": False}


class ActionModule(ActionBase):
    """The action of M(multicart.keys.multicart_consumer)."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        variables = task_vars or {}
        try:
            connection = options_of(CONNECTION, {}, variables, self._templar).connection
            if self._task.args.get("phase") == "confirm":
                return {**result, **self._confirm(connection)}
            return {**result, **self._on_host(connection, variables)}
        except AnsibleError:
            raise  # an unreachable host, for example; its text is Ansible's own
        except MulticartError as error:
            return {**result, **failure(error)}
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            return {**result, **failure(unexpected(error))}

    def _confirm(self, connection: Connection) -> dict[str, Any]:
        key = live(connection, this_run(), newer_than=float(self._task.args["clock"])).key
        current = key.fingerprint == self._task.args["fingerprint"]
        if not current and self._task.args.get("required"):
            raise MulticartError(Reason.KEY_KEEPS_CHANGING, "The key was replaced again while it was brought here.")
        return {"current": current, **key.describe()}

    def _on_host(self, connection: Connection, variables: dict[str, Any]) -> dict[str, Any]:
        phase = self._task.args.get("phase")
        # Read here, as a "when" or a template in the task would cost every host more than all of this does.
        rotation = (variables.get(ROTATION) or {}) if phase == "write" else {}
        if _has_nothing_to_do(phase, variables, rotation):
            return {"skipped": True}
        host_files = files_of(variables, self._templar.template)
        steps = steps_of(variables, self._templar.template)
        files = host_files.own
        if not files:
            # Nothing to do there, so that it need not even be reachable.
            return {"files": [], "other_account": host_files.others, "restart_due": False}
        replaced = rotation.get("outcome") == Outcome.WOULD_ROTATE.value
        known = None if replaced or not _needs_key(phase, files) else self._live(connection, phase)
        arguments = {**self._task.args, **_step_arguments(phase, steps), "replaced": replaced}
        arguments["environment"] = [spec.variable for spec in files if spec.variable]
        if phase != "health":
            arguments.update(self._file_arguments(phase, files, known, variables))
        prefer_pipelining(self, variables)
        result = self._execute(phase, arguments, variables)
        if phase == "write" and known is not None:
            result.update(known.key.describe())
        if phase == "write" and self._task.diff:
            result["diff"] = _diff(result, replaced)
        return result

    def _file_arguments(
        self, phase: str, files: list[FileSpec], known: Live | None, variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the host's module has to know of its files, with the live key only where that is written."""
        arguments: dict[str, Any] = {"files": [spec.arguments() for spec in files]}
        state_dir = self._templar.template(variables.get(STATE_DIR))
        if state_dir:
            arguments["state_dir"] = state_dir
        if known is None:
            return arguments
        arguments.update(account=known.account, fingerprint=known.key.fingerprint)
        if phase == "write":
            arguments.update(value=known.key.reveal(), since=known.rotated_at or utc_now())
        for spec, argument in zip(files, arguments["files"], strict=True):
            if spec.template:
                content = self._render(spec.template, known.key, variables)
                argument["digest"] = digest_of(content.encode())
                if phase == "write":
                    argument["content"] = content
        return arguments

    def _execute(self, phase: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        began, computed = time.monotonic(), _computed()
        in_short = self._execute_in_short(phase, arguments, variables)
        result = in_short or self._execute_module("multicart.keys.multicart_consumer", arguments, task_vars=variables)
        ended, now = time.monotonic(), datetime.now(timezone.utc)
        if phase in ("rehearse", "write"):
            result["in_short"] = in_short is not None
        if phase == "rehearse":
            pace = {"began": began, "ended": ended, "cpu": _computed() - computed}
            result["pace"] = {name: round(value, 3) for name, value in pace.items()}
        # How long ago is the host's to say, but not when: its clock may be wrong.
        ago = result.pop("ago", {"ready": 0} if phase in ("look", "open") else {})
        result["times"] = {name: iso_time(now - timedelta(seconds=seconds)) for name, seconds in ago.items()}
        return {**result, "clock": ended}

    def _execute_in_short(
        self, phase: str, arguments: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Do a phase in the short way, if it is one that can be done so; else None."""
        shown = {"rehearse": (SEEN, "only_keys"), "write": (REHEARSED, "in_short")}
        registered, fact = shown.get(phase, ("", ""))
        if not (variables.get(registered) or {}).get(fact) or (phase == "write" and self._task.check_mode):
            return None
        python = express.interpreter(variables, self._templar.template)
        if not python:
            return None
        found = {(file["path"], file["variable"]): file["status"] for file in variables[SEEN]["files"]}
        for file in arguments["files"]:
            file["status"] = found.get((file["path"], file["variable"]))
        return express.execute(self, python, arguments)

    def _live(self, connection: Connection, phase: str) -> Live | None:
        looks = phase in ("look", "rehearse")
        try:
            return live(connection, this_run(), ask_again=not looks)
        except MulticartError:
            if not looks:
                raise
            return None  # what the files hold can be told all the same, from the records

    def _render(self, source: str, live: ApiKey, variables: dict[str, Any]) -> str:
        """Render the user's template as P(ansible.builtin.template#lookup) does; no file is left anywhere."""
        folders = [*self._task.get_search_path(), variables.get("inventory_dir"), os.getcwd()]
        scope = {**variables, "ansible_search_path": [folder for folder in folders if folder]}
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        try:
            key = {"multicart_key": live.reveal()}
            return str(lookup.run([source], variables=scope, template_vars=key, **_KEEP_TEXT)[0])
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            # The text of a templating error may quote values; the name of an undefined variable is safe.
            name = re.search(r"'([A-Za-z_][A-Za-z0-9_]*)' is undefined", str(error))
            cause = f"{name[1]} is undefined" if name else type(error).__name__
            raise MulticartError(
                Reason.INVALID_OPTION,
                f"The template {source} cannot be rendered ({cause}).",
                "It is looked for beside the playbook and the inventory, and may be an absolute path.",
            ) from None


def _has_nothing_to_do(phase: str | None, variables: dict[str, Any], rotation: dict[str, Any]) -> bool:
    """Tell whether this host is passed over, because of what was registered before.

    :raises MulticartError: ``not_current``: a step failed, so that its record may not be closed.
    """
    stuck = stuck_at({**variables, CLOSED: None}) if phase == "close" else None
    if stuck:
        raise MulticartError(Reason.NOT_CURRENT, f"The record stays open: {stuck}.")
    if phase == "rehearse" and "files" not in (variables.get(SEEN) or {}):
        return True  # what could not be looked at is not ready
    # A rotation that could not learn the live key has nothing to deploy.
    return bool(rotation.get("failed")) and "key_fingerprint" not in rotation


def _needs_key(phase: str | None, files: list[FileSpec]) -> bool:
    return phase in ("look", "write", "close") or (phase != "health" and any(spec.template for spec in files))


def _diff(result: dict[str, Any], replaced: bool) -> list[dict[str, str]]:
    """Return which key replaces which in each file, in the form that Ansible shows; no key is in it.

    :param replaced: whether another key would be there by now, in check mode, that nobody can know.
    """
    live = "(the new key)" if replaced else f"{result.get('key_masked')} (fingerprint {result.get('key_fingerprint')})"
    return [
        {
            "before_header": file["path"],
            "after_header": file["path"],
            "before": "".join(f"{file['variable'] or 'key'}=(fingerprint {held})\n" for held in file["held"]),
            "after": f"{file['variable'] or 'key'}={live}\n",
        }
        for file in result.get("files", [])
        if replaced or set(file["held"]) != set(file["holds"])
    ]


def _step_arguments(phase: str | None, steps: Steps) -> dict[str, Any]:
    if phase == "look":
        return {"services": steps.services, "commands": steps.commands + steps.health, "timeout": steps.timeout}
    if phase == "write":
        return {"services": steps.services, "commands": steps.commands, "timeout": steps.timeout}
    if phase == "health":
        return {"commands": steps.health, "timeout": steps.timeout, "retries": steps.retries, "delay": steps.delay}
    return {}


def _computed() -> float:
    """Return the CPU seconds of this worker, which is a process of its own for each task, and of its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
