# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The resources of the API: their fields, what these point to, and what can be associated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

REQUIRED: Final = object()
"""Instead of a default: the field must be given."""


@dataclass(frozen=True)
class Resource:
    """One kind of object.

    :ivar kind: what the API calls its type.
    :ivar fields: what may be sent, with the default; its type is that of the field, and None says that any may be.
    :ivar links: fields that hold the id of an object of another resource.
    :ivar ignored: what the modules send although it cannot be set.
    :ivar associations: lists of other objects below it, with their resource.
    :ivar unique: fields that together no two objects share.
    """

    kind: str
    fields: Mapping[str, Any]
    links: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    associations: Mapping[str, str] = field(default_factory=dict)
    unique: tuple[str, ...] = ("name",)


_NAMED = {"name": REQUIRED, "description": ""}
_PROMPTS: dict[str, Any] = {"extra_data": {}, "limit": None, "job_tags": None, "skip_tags": None, "job_type": None}
_ASK_COMMON = ("inventory", "labels", "limit", "scm_branch", "skip_tags", "tags", "variables")
_ASK_JOB = (
    "credential",
    "diff_mode",
    "execution_environment",
    "forks",
    "instance_groups",
    "job_slice_count",
    "job_type",
    "timeout",
    "verbosity",
)


def _ask(*names: str) -> dict[str, bool]:
    return {f"ask_{name}_on_launch": False for name in names}


_ORGANIZATION = {"organization": "organizations"}
_NODES = "workflow_job_template_nodes"
_NOTIFIED = {
    f"notification_templates_{event}": "notification_templates"
    for event in ("started", "success", "error", "approvals")
}
_IN_ORGANIZATION = ("name", "organization")

RESOURCES: dict[str, Resource] = {
    "organizations": Resource("organization", _NAMED),
    # Two organizations may each have an inventory of the same name, and two inventories a group.
    "inventories": Resource("inventory", {**_NAMED, "organization": REQUIRED}, _ORGANIZATION, unique=_IN_ORGANIZATION),
    "groups": Resource(
        "group", {**_NAMED, "inventory": REQUIRED}, {"inventory": "inventories"}, unique=("name", "inventory")
    ),
    "teams": Resource("team", {**_NAMED, "organization": REQUIRED}, _ORGANIZATION, unique=_IN_ORGANIZATION),
    "users": Resource("user", {"username": REQUIRED}, unique=("username",)),
    # Of a template: AWX makes them with it, and only who has them can be changed.
    "roles": Resource(
        "role",
        {"role_field": REQUIRED, "content_object": REQUIRED},
        {"content_object": "unified_job_templates"},
        associations={"users": "users", "teams": "teams"},
        unique=("role_field", "content_object"),
    ),
    "labels": Resource("label", {"name": REQUIRED, "organization": REQUIRED}, _ORGANIZATION, unique=_IN_ORGANIZATION),
    "instance_groups": Resource("instance_group", {"name": REQUIRED}),
    "notification_templates": Resource(
        "notification_template", {**_NAMED, "organization": REQUIRED}, _ORGANIZATION, unique=_IN_ORGANIZATION
    ),
    "execution_environments": Resource("execution_environment", {**_NAMED, "image": REQUIRED}),
    "credential_types": Resource(
        "credential_type",
        {**_NAMED, "kind": REQUIRED, "inputs": {}, "injectors": {}},
        ignored=frozenset({"managed"}),
    ),
    "credentials": Resource(
        "credential",
        {**_NAMED, "organization": None, "credential_type": REQUIRED, "inputs": {}},
        {**_ORGANIZATION, "credential_type": "credential_types"},
        unique=("name", "organization", "credential_type"),
    ),
    # The link of a field to an external secret store: AWX asks it when a job starts, whatever the credential stores.
    "credential_input_sources": Resource(
        "credential_input_source",
        {
            "description": "",
            "input_field_name": REQUIRED,
            "metadata": {},
            "source_credential": REQUIRED,
            "target_credential": REQUIRED,
        },
        {"source_credential": "credentials", "target_credential": "credentials"},
        unique=("target_credential", "input_field_name"),
    ),
    "projects": Resource(
        "project",
        {
            **_NAMED,
            "organization": REQUIRED,
            "scm_type": "",
            "scm_url": "",
            "scm_branch": "",
            "credential": None,
        },
        {**_ORGANIZATION, "credential": "credentials"},
        unique=_IN_ORGANIZATION,
    ),
    "job_templates": Resource(
        "job_template",
        {
            **_NAMED,
            "inventory": REQUIRED,
            "project": REQUIRED,
            "playbook": REQUIRED,
            "execution_environment": None,
            "extra_vars": "",
            "survey_enabled": False,
            "forks": 0,
            "become_enabled": False,
            "job_slice_count": 1,
            "allow_simultaneous": False,
            "job_type": "run",
            "limit": "",
            "job_tags": "",
            "skip_tags": "",
            "start_at_task": "",
            "diff_mode": False,
            "use_fact_cache": False,
            "timeout": 0,
            "verbosity": 0,
            **_ask(*_ASK_COMMON, *_ASK_JOB),
        },
        {"inventory": "inventories", "project": "projects", "execution_environment": "execution_environments"},
        ignored=frozenset({"organization"}),  # it is the project's
        associations={
            "credentials": "credentials",
            "labels": "labels",
            "instance_groups": "instance_groups",
            **_NOTIFIED,
        },
        unique=_IN_ORGANIZATION,
    ),
    "workflow_job_templates": Resource(
        "workflow_job_template",
        {
            **_NAMED,
            "organization": None,
            "extra_vars": "",
            "survey_enabled": False,
            "allow_simultaneous": False,
            "limit": None,
            **_ask(*_ASK_COMMON),
        },
        _ORGANIZATION,
        associations={"labels": "labels", **_NOTIFIED},
        unique=_IN_ORGANIZATION,
    ),
    _NODES: Resource(
        "workflow_job_template_node",
        {"identifier": REQUIRED, "workflow_job_template": REQUIRED, "unified_job_template": None, **_PROMPTS},
        {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates"},
        ignored=frozenset({"type"}),
        associations={"success_nodes": _NODES, "failure_nodes": _NODES, "always_nodes": _NODES},
        unique=("identifier", "workflow_job_template"),
    ),
    "workflow_approval_templates": Resource("workflow_approval_template", {**_NAMED, "timeout": 0}, unique=()),
    "schedules": Resource(
        "schedule",
        {**_NAMED, "unified_job_template": REQUIRED, "rrule": REQUIRED, "enabled": True, **_PROMPTS},
        {"unified_job_template": "unified_job_templates"},
        unique=("name", "unified_job_template"),
    ),
}
ROLES = {
    "job_templates": ("admin_role", "execute_role", "read_role"),
    "workflow_job_templates": ("admin_role", "execute_role", "read_role", "approval_role"),
}
UNIFIED = ("projects", "job_templates", "workflow_job_templates", "workflow_approval_templates")
"""What can be run, and is found together as ``unified_job_templates``."""
