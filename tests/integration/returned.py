# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of the collection return, held against what their documentation says that they return."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

COLLECTION = "multicart.keys."
MODULES = Path(__file__).resolve().parents[2] / "plugins" / "modules"
# What Ansible documents for every module, or adds to a result by itself; of a module that has a file, its attributes.
COMMON = {"changed", "failed", "msg", "diff", "warnings", "deprecations", "exception", "invocation", "attempts"}
COMMON |= {"skipped", "skip_reason", "retries", "item", "failed_when_result", "failed_when_suppressed_exception"}
COMMON |= {"censored", "unreachable", "module_stdout", "module_stderr", "rc", "results", "false_condition"}
OF_FILES = {"gid", "group", "mode", "owner", "size", "state", "uid", "secontext"}
OF_ARGUMENTS = re.compile(r"\A(Task failed: Finalization of task args|The field 'args' has an invalid value)")
"""What Ansible says, newer and older ones, when it cannot even make the arguments; the module has not run."""
TYPES: dict[str, tuple[type[Any], ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "int": (int,),
    "list": (list,),
    "raw": (object,),
    "str": (str,),
}


@functools.cache
def documented(module: str) -> dict[str, dict[str, Any]]:
    """Return the RETURN of a module."""
    text = (MODULES / f"{module}.py").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text.partition('\nRETURN = r"""')[2].partition('"""')[0])
    return found


def undocumented(module: str, result: Mapping[str, Any], status: str = "ok") -> list[str]:
    """Return what a result has, or lacks, in contradiction to the documentation of its module.

    :param status: how the task ended, as the callback of the harness names it.
    """
    return list(_contradictions(documented(module), result, status, module.startswith("multicart_env_file")))


def _contradictions(
    known: dict[str, dict[str, Any]], result: Mapping[str, Any], status: str, of_file: bool
) -> Iterator[str]:
    if "timedout" in result or OF_ARGUMENTS.search(str(result.get("msg"))):  # a result of Ansible's own
        return
    for name, value in result.items():
        if name.startswith("_ansible") or (name not in known and name in COMMON | (OF_FILES if of_file else set())):
            continue
        if name not in known:
            yield f"{name} is not documented"
        elif value is not None and not isinstance(value, TYPES[known[name]["type"]]):
            yield f"{name} is no {known[name]['type']}"
    if "censored" in result or "results" in result:  # by no_log; of a loop
        return
    for name, about in known.items():
        if name not in result and status == "ok" and about["returned"] in ("always", "success"):
            yield f"{name} is missing"
    # Ansible's own failures have none: of arguments, of a connection plugin that is not there.
    of_ansible = "exception" in result or "invocation" in result
    if status in ("failed", "ignored") and "reason" in known and not result.get("reason") and not of_ansible:
        yield "reason is missing"
