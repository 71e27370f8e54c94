# -*- coding: utf-8 -*-
# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One phase for all that uses the key on one host: its files, and the steps that make their readers use it.

Imported by what runs on managed hosts: Python 3.6 syntax, standard library only.
"""

import os
import time
from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.multicart.keys.plugins.module_utils import _services as steps
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey, NotAKey
from ansible_collections.multicart.keys.plugins.module_utils._env_file import EnvFileError
from ansible_collections.multicart.keys.plugins.module_utils._file_attributes import UnknownName
from ansible_collections.multicart.keys.plugins.module_utils._host_file import HostFileError
from ansible_collections.multicart.keys.plugins.module_utils._key_file import KeyFile
from ansible_collections.multicart.keys.plugins.module_utils._record import OtherAccount

Params = Dict[str, Any]
"""The options of a phase, all of them, as `argument_spec` declares them."""
AttributesFor = Callable[[Any, Dict[str, Any]], Any]
"""Returns what gives a file, as `host_file.read` gave it, the attributes that an entry of ``files`` wants."""
Problems = List[Tuple[str, str]]
"""Reasons, each with its sentence."""

ATTEMPTS = 5
"""How often a file is looked at again that another run changed at the same moment."""

CREDENTIALS = ("MULTICART_SESSION_TOKEN", "MULTICART_EMAIL", "MULTICART_PASSWORD", "MULTICART_API_KEY")
"""What the controller has in its environment, and with it every consumer that is the controller itself."""


def argument_spec() -> Dict[str, Any]:
    """Return the options of a phase, as Ansible's modules declare them."""
    return dict(
        phase=dict(
            type="str", required=True, choices=["look", "rehearse", "open", "write", "health", "close", "confirm"]
        ),
        retire=dict(type="str"),
        replaced=dict(type="bool", default=False),
        fingerprint=dict(type="str"),
        account=dict(type="str"),
        clock=dict(type="float"),
        required=dict(type="bool", default=False),
        state_dir=dict(type="path"),
        value=dict(type="str", no_log=True),
        since=dict(type="str"),
        services=dict(
            type="list",
            elements="dict",
            default=[],
            options=dict(
                name=dict(type="str", required=True),
                state=dict(type="str", choices=["restarted", "reloaded"], default="restarted"),
            ),
        ),
        commands=dict(type="list", elements="list", default=[]),
        environment=dict(type="list", elements="str", default=[]),
        timeout=dict(type="float", default=300),
        retries=dict(type="int", default=0),
        delay=dict(type="float", default=1),
        files=dict(
            type="list",
            elements="dict",
            default=[],
            options=dict(
                path=dict(type="path", required=True),
                variable=dict(type="str"),
                content=dict(type="str", no_log=True),
                digest=dict(type="str"),
                status=dict(type="list", elements="int"),
                owner=dict(type="str"),
                group=dict(type="str"),
                mode=dict(type="raw"),
                unsafe_writes=dict(type="bool", default=False),
            ),
        ),
    )


def with_defaults(spec: Dict[str, Any], given: Dict[str, Any]) -> Dict[str, Any]:
    """Return all options, those that are not given with their defaults, as Ansible's modules see them."""
    whole = {name: given.get(name, option.get("default")) for name, option in spec.items()}
    for name, option in spec.items():
        if "options" in option:
            whole[name] = [with_defaults(option["options"], each) for each in whole[name]]
        elif option["type"] == "path" and whole[name]:
            whole[name] = os.path.expanduser(os.path.expandvars(whole[name]))
    return whole


def carry_out(params: Params, check_mode: bool, attributes_for: AttributesFor) -> Dict[str, Any]:
    """Do the phase and return the module's result, with ``failed`` among it if something was wrong."""
    result = _do_files(params, check_mode, attributes_for)
    if not check_mode or params["phase"] == "look":
        _do_steps(params, result)
    if "moments" in result:
        now = time.monotonic()
        result["ago"] = {name: now - moment for name, moment in result.pop("moments").items()}
    return result


def _do_files(params: Params, check_mode: bool, attributes_for: AttributesFor) -> Dict[str, Any]:
    """Do the phase for all files; one that fails does not keep the others from theirs."""
    done = [_do_file(params, check_mode, attributes_for, entry) for entry in params["files"]]
    files = [file for file, _problems in done]
    problems = [problem for _file, found in done for problem in found]
    result = {
        "changed": any(file.changed for file in files),
        "files": [file.describe() for file in files],
    }  # type: Dict[str, Any]
    if params["phase"] == "look":
        result["only_keys"] = all(file.only_key for file in files)
    if params["phase"] == "write":
        result["restart_due"] = params["replaced"] or any(file.restart_due for file in files)
    if problems:
        result.update(failed=True, msg="; ".join(text for _reason, text in problems), reason=problems[0][0])
    return result


def _do_file(
    params: Params, check_mode: bool, attributes_for: AttributesFor, entry: Dict[str, Any], attempts: int = ATTEMPTS
) -> Tuple[KeyFile, Problems]:
    """Do the phase for one file; return how it stands then, and what was wrong."""
    file = KeyFile(entry, params["state_dir"], params["fingerprint"], check_mode, params["account"])
    try:
        _act(params, file, attributes_for)
    except HostFileError as error:
        if error.reason == "changed_meanwhile" and attempts > 1:
            return _do_file(params, check_mode, attributes_for, entry, attempts - 1)
        return file, [(error.reason, file.explain(error))]
    except (EnvFileError, UnknownName, OtherAccount) as error:
        return file, [(error.reason, file.explain(error))]
    except NotAKey as error:
        return file, [("malformed_key", file.explain(error))]
    return file, []


def _act(params: Params, file: KeyFile, attributes_for: AttributesFor) -> None:
    """Do the phase for one file as it was found."""
    phase = params["phase"]
    if phase == "look":
        file.look_at_attributes(attributes_for)
    elif phase == "open":
        file.open(params["retire"])
    elif phase == "write" and params["replaced"]:
        file.predict_replaced()
    elif phase == "write":
        file.write(ApiKey(params["value"]), params["since"], attributes_for)
    elif phase == "close":
        file.close()


def _do_steps(params: Params, result: Dict[str, Any]) -> None:
    """Do the phase for services and commands, and add to the result what came of it.

    ``moments`` are this host's monotonic clock, in seconds.
    """
    _forget_environment(params["environment"])
    run = steps.runner(params["timeout"])
    try:
        if params["phase"] == "look":
            result["lacking"] = steps.lacking(params["services"], params["commands"], run)
        elif params["phase"] == "write" and not result.get("failed"):
            result["moments"] = {"written": time.monotonic()}
            if result["restart_due"] and steps.restart(params["services"], params["commands"], run):
                result["moments"]["restarted"] = time.monotonic()
                result["changed"] = True
        elif params["phase"] == "health":
            steps.prove_health(params["commands"], params["retries"], params["delay"], run)
            result["moments"] = {"healthy": time.monotonic()}
    except steps.StepFailed as error:
        result.update(failed=True, msg=str(error), reason=error.reason)


def _forget_environment(variables: List[str]) -> None:
    """Keep credentials, and the key of before, from what is started: many readers prefer them to their file."""
    for name in CREDENTIALS + tuple(variables):
        os.environ.pop(name, None)
