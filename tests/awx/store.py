# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of the stand-in, and what is checked when one is saved."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import rules
from .resources import REQUIRED, RESOURCES, ROLES, UNIFIED
from .rules import Refused

ENCRYPTED = "$encrypted$"
Object = dict[str, Any]
ZONES = ("Europe/Berlin", "Europe/Paris", "UTC")
_EDGES = ("success_nodes", "failure_nodes", "always_nodes")
_PROMPTS = {"limit": "limit", "job_tags": "tags", "skip_tags": "skip_tags", "job_type": "job_type"}


class Forbidden(Exception):
    """AWX would answer with HTTP 403."""


class Store:
    """All objects; ids are unique over all kinds.

    :ivar repositories: what a project finds under its ``scm_url``: a directory.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[int, Object]] = {path: {} for path in RESOURCES}
        self.surveys: dict[int, Object] = {}
        self.associations: dict[tuple[int, str], list[int]] = {}
        self.repositories: dict[str, Path] = {}
        self._ids = itertools.count(1)

    def saved(self) -> dict[str, Any]:
        """Return a copy of all there is, for :meth:`load`."""
        return copy.deepcopy({name: value for name, value in vars(self).items() if name != "_ids"})

    def load(self, saved: Mapping[str, Any]) -> None:
        vars(self).update(copy.deepcopy(dict(saved)))
        self._ids = itertools.count(1 + max(key for table in self.objects.values() for key in table))

    # --- reading ----------------------------------------------------------------------------------

    def select(self, path: str, **fields: Any) -> list[Object]:
        """Return the objects with these fields."""
        return [one for one in self.table(path).values() if all(one.get(key) == fields[key] for key in fields)]

    def one(self, path: str, **fields: Any) -> Object:
        (found,) = self.select(path, **fields)
        return found

    def table(self, path: str) -> dict[int, Object]:
        if path == "unified_job_templates":
            return {key: one for kind in UNIFIED for key, one in self.objects[kind].items()}
        return self.objects[path]

    def secret_inputs(self, credential: Object) -> set[str]:
        kind = self.objects["credential_types"][credential["credential_type"]]
        return {field["id"] for field in kind["inputs"].get("fields", []) if field.get("secret")}

    def children(self, node: int) -> Iterator[int]:
        for name in _EDGES:
            yield from self.associations.get((node, name), [])

    def role(self, template: int, name: str) -> Object:
        """Return a role of a template."""
        return self.one("roles", content_object=template, role_field=f"{name}_role")

    def nodes(self, workflow: int) -> list[Object]:
        return self.select("workflow_job_template_nodes", workflow_job_template=workflow)

    def starts(self, workflow: int) -> set[str]:
        """Return the nodes that start a template without an approval before them, whatever the jobs come to.

        A node without a template starts nothing, and what follows on its failure starts.
        """
        nodes = {one["id"]: one for one in self.nodes(workflow)}
        followers = {child for key in nodes for child in self.children(key)}
        found, todo = set[int](), [key for key in nodes if key not in followers]
        while todo:
            key = todo.pop()
            template = nodes[key]["unified_job_template"]
            if key in found or template in self.objects["workflow_approval_templates"]:
                continue
            found.add(key)
            kinds = _EDGES if template else ("failure_nodes", "always_nodes")
            todo += [child for kind in kinds for child in self.associations.get((key, kind), [])]
        return {nodes[key]["identifier"] for key in found if nodes[key]["unified_job_template"]}

    # --- writing ----------------------------------------------------------------------------------

    def add(self, path: str, **given: Any) -> Object:
        """Make an object, or refuse to."""
        resource = RESOURCES[path]
        for name, default in resource.fields.items():
            if default is REQUIRED and given.get(name) in (None, ""):
                raise Refused(f"{name}: required")
        defaults = {name: None if value is REQUIRED else value for name, value in resource.fields.items()}
        made = self._checked(path, json.loads(json.dumps(defaults)), given)
        made["id"] = next(self._ids)
        self.objects[path][made["id"]] = made
        if path == "projects":
            self.sync(made)
        for name in ROLES.get(path, ()):
            self.add("roles", role_field=name, content_object=made["id"])
        return made

    def change(self, path: str, key: int, **given: Any) -> Object:
        """Change fields of an object, or refuse to."""
        self.objects[path][key] = {**self._checked(path, self.objects[path][key], given), "id": key}
        if path == "projects":
            self.sync(self.objects[path][key])
        return self.objects[path][key]

    def remove(self, path: str, key: int) -> None:
        """Remove an object, and what cannot be without it; what only points to it, points to nothing then."""
        del self.objects[path][key]
        for ids in self.associations.values():
            if key in ids:
                ids.remove(key)
        for other, resource in RESOURCES.items():
            for name, linked in resource.links.items():
                if path == linked or linked == "unified_job_templates" and path in UNIFIED:
                    for one in [one for one in self.objects[other].values() if one[name] == key]:
                        if name in ("workflow_job_template", "target_credential") or other in ("schedules", "roles"):
                            self.remove(other, one["id"])
                        else:
                            one[name] = None

    def _checked(self, path: str, before: Object, given: Mapping[str, Any]) -> Object:
        resource = RESOURCES[path]
        after = dict(before)
        for name, value in given.items():
            if name in resource.ignored:
                continue
            if name not in resource.fields:
                raise Refused(f"{name}: unknown field")
            default = resource.fields[name]
            if isinstance(default, (bool, int, str, dict)) and type(value) is not type(default):
                raise Refused(f"{name}: must be of the type {type(default).__name__}")
            if name in resource.links and value is not None and value not in self.table(resource.links[name]):
                raise Refused(f"{name}: there is no such object")
            after[name] = value
        if path == "job_templates":
            after["organization"] = self.objects["projects"][after["project"]]["organization"]
        same = self.select(path, **{name: after[name] for name in resource.unique}) if resource.unique else []
        if any(one["id"] != before.get("id") for one in same):
            raise Refused(f"there is one with the same {', '.join(resource.unique)}")
        check = getattr(self, f"_check_{path}", None)
        if check:
            check(before, after)
        return after

    def _check_credential_types(self, before: Object, after: Object) -> None:
        used = "id" in before and self.select("credentials", credential_type=before["id"])
        if used and before["inputs"] != after["inputs"]:
            raise Forbidden("the inputs of a type that is in use cannot be changed")
        if after["kind"] != "external":  # one of AWX's own
            rules.check_credential_type(after["kind"], after["inputs"], after["injectors"])

    def _check_credentials(self, before: Object, after: Object) -> None:
        kind = self.objects["credential_types"][after["credential_type"]]
        known = {field["id"] for field in kind["inputs"].get("fields", [])}
        if unknown := set(after["inputs"]) - known:
            raise Refused(f"inputs: unknown: {', '.join(sorted(unknown))}")
        kept = {}
        for name, value in after["inputs"].items():
            if value == ENCRYPTED and name in self.secret_inputs(after):
                if "id" not in before:
                    raise Refused(f"inputs: {ENCRYPTED} cannot be the first value of {name}")
                kept[name] = before["inputs"][name]  # a KeyError in AWX, too
        after["inputs"] = {**after["inputs"], **kept}

    def _check_credential_input_sources(self, before: Object, after: Object) -> None:
        target = self.objects["credentials"][after["target_credential"]]
        fields = self.objects["credential_types"][target["credential_type"]]["inputs"].get("fields", [])
        if after["input_field_name"] not in {field["id"] for field in fields}:
            raise Refused("input_field_name: must be a field of the target credential")
        source = self.objects["credentials"][after["source_credential"]]
        if self.objects["credential_types"][source["credential_type"]]["kind"] != "external":
            raise Refused("source_credential: Source must be an external credential")

    def _check_job_templates(self, before: Object, after: Object) -> None:
        if after["playbook"] not in self.objects["projects"][after["project"]]["playbook_files"]:
            raise Refused("playbook: Playbook not found for project.")
        if after["ask_scm_branch_on_launch"]:
            raise Refused("ask_scm_branch_on_launch: Project does not allow overriding branch.")
        if after["extra_vars"]:
            json.loads(after["extra_vars"])

    def _check_workflow_job_template_nodes(self, before: Object, after: Object) -> None:
        self._check_answers(after, complete=False)  # the workflow may give the rest

    def _check_schedules(self, before: Object, after: Object) -> None:
        rules.check_rrule(after["rrule"])
        rules.check_zone(after["rrule"], ZONES)
        self._check_answers(after, complete=True)

    def _check_answers(self, after: Object, *, complete: bool) -> None:
        template = self.table("unified_job_templates").get(after["unified_job_template"])
        if template is None:
            return
        survey = self.surveys.get(template["id"], {}) if template.get("survey_enabled") else {}
        for complaint in rules.refused_answers(survey, after["extra_data"], complete=complete):
            raise Refused(f"extra_data: {complaint}")
        for name, asked in _PROMPTS.items():
            if after[name] is not None and not template.get(f"ask_{asked}_on_launch"):
                raise Refused(f"{name}: the template does not ask for it")

    def sync(self, project: Object) -> None:
        """Begin an update of a project: it is over when it has been asked for twice."""
        source = self.repositories.get(project["scm_url"])
        project["playbook_files"] = rules.playbooks_of(source) if source else []
        project["status"] = "running"
        project["asked"] = 0

    def ask(self, project: Object) -> str:
        """Return the status of the update under way."""
        project["asked"] += 1
        if project["status"] == "running" and project["asked"] > 1:
            there = project["scm_url"] in self.repositories or not project["scm_type"]
            project["status"] = "successful" if there else "failed"
        return str(project["status"])

    # --- below an object --------------------------------------------------------------------------

    def set_survey(self, key: int, survey: Object) -> None:
        rules.check_survey(survey)
        self.surveys[key] = survey

    def associate(self, path: str, key: int, name: str, other: int, *, remove: bool = False) -> None:
        """Add an object to a list below another one, or take it away."""
        ids = self.associations.setdefault((key, name), [])
        if remove:
            ids.remove(other)
            return
        if other not in self.objects[RESOURCES[path].associations[name]]:
            raise Refused("id: there is no such object")
        if other in ids:
            return
        if name == "credentials":
            kinds = {self.objects["credentials"][one]["credential_type"] for one in ids}
            if self.objects["credentials"][other]["credential_type"] in kinds:
                raise Refused("Cannot assign multiple credentials of one type.")
        elif name in _EDGES:
            self._check_edge(key, other)
        ids.append(other)

    def _check_edge(self, parent: int, child: int) -> None:
        nodes = self.objects["workflow_job_template_nodes"]
        if nodes[parent]["workflow_job_template"] != nodes[child]["workflow_job_template"]:
            raise Refused("the nodes are of different workflows")
        if child in self.children(parent):
            raise Refused("Relationship not allowed.")
        reached, todo = {child}, [child]
        while todo:
            for one in self.children(todo.pop()):
                if one not in reached:
                    reached.add(one)
                    todo.append(one)
        if parent in reached:
            raise Refused("Cycle detected.")

    def set_approval(self, node: Object, **given: Any) -> Object:
        """Make the node wait for an approval."""
        made = self.add("workflow_approval_templates", **given)
        node["unified_job_template"] = made["id"]
        return made
