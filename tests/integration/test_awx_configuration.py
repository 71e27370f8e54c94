# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file for infra.aap_configuration: the same objects as the role makes, without any secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.awx.app import Awx
from tests.awx.picture import picture
from tests.awx.resources import RESOURCES
from tests.integration.harness import Fleet, Run
from tests.integration.test_awx_faults import ACCESS, Past, first, ours
from tests.integration.test_awx_role import COLLECTIONS, awx, keep, run

__all__ = ["awx", "first"]  # fixtures
pytestmark = pytest.mark.skipif(
    not COLLECTIONS.exists(), reason="awx.awx is missing: python -m tests.awx.collection gets it from PyPI"
)
GIVEN: dict[str, Any] = {"execution_environment": "keys", "scm_branch": "main", "audit_rrule": None, "access": ACCESS}
# What infra.aap_configuration 3.0.0 does with the variables, in the order of its role dispatch: each object goes to the
# module of awx.awx, and the links of a workflow come after all of its nodes.
APPLY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - awx.awx.label: {name: "{{ item.name }}", organization: "{{ item.organization }}"}
      loop: "{{ controller_labels | default([]) }}"
    - awx.awx.credential_type:
        name: "{{ item.name }}"
        description: "{{ item.description }}"
        kind: "{{ item.kind }}"
        inputs: "{{ item.inputs }}"
        injectors: "{{ item.injectors | regex_replace('{  {', '{_~~remove~~_{') | regex_replace('_~~remove~~_', '') }}"
      loop: "{{ controller_credential_types }}"
    - awx.awx.credential:
      args: "{{ item }}"
      no_log: true
      loop: "{{ controller_credentials }}"
    - awx.awx.credential_input_source:
      args: "{{ item }}"
      loop: "{{ controller_credential_input_sources | default([]) }}"
    - awx.awx.project:
      args: "{{ item }}"
      loop: "{{ controller_projects }}"
    - awx.awx.job_template:
      args: "{{ item }}"
      loop: "{{ controller_templates }}"
    - awx.awx.workflow_job_template:
      args: "{{ item | dict2items | rejectattr('key', 'equalto', 'simplified_workflow_nodes') | items2dict }}"
      loop: "{{ controller_workflows }}"
    - awx.awx.workflow_job_template_node:
        identifier: "{{ item.1.identifier }}"
        workflow_job_template: "{{ item.0.name }}"
        organization: "{{ item.0.organization }}"
        unified_job_template: "{{ item.1.unified_job_template | default(omit) }}"
        lookup_organization: "{{ item.1.lookup_organization | default(omit) }}"
        extra_data: "{{ item.1.extra_data | default(omit) }}"
        approval_node: "{{ item.1.approval_node | default(omit) }}"
      loop: "{{ controller_workflows | subelements('simplified_workflow_nodes') }}"
    - awx.awx.workflow_job_template_node:
        identifier: "{{ item.1.identifier }}"
        workflow_job_template: "{{ item.0.name }}"
        organization: "{{ item.0.organization }}"
        success_nodes: "{{ item.1.success_nodes }}"
        failure_nodes: "{{ item.1.failure_nodes }}"
        always_nodes: "{{ item.1.always_nodes }}"
      loop: "{{ controller_workflows | subelements('simplified_workflow_nodes') }}"
    - awx.awx.schedule:
      args: "{{ item }}"
      loop: "{{ controller_schedules }}"
    - awx.awx.role:
      args: "{{ item }}"
      loop: "{{ controller_roles | default([]) }}"
"""


@pytest.fixture
def bare(awx: Awx) -> dict[str, Any]:
    """What is in AWX before the role has run; to be asked for before it runs."""
    return awx.store.saved()


def written(fleet: Fleet, awx: Awx, *arguments: str, **variables: Any) -> tuple[Run, Path]:
    """Have the file written."""
    path = fleet.folder / "controller.yml"
    return keep(fleet, awx, *arguments, configuration_file=str(path), **variables), path


def test_the_file_has_no_secret_and_every_setting_of_the_templates(fleet: Fleet, awx: Awx, first: Past) -> None:
    awx.store.load(first.store)
    awx.requests.clear()
    done, path = written(fleet, awx, "--diff", **GIVEN, max_age="")  # as if it were not given
    assert done.green and awx.requests == [], done
    text = path.read_text(encoding="utf-8")
    for secret in (fleet.account["password"], fleet.env["MULTICART_SESSION_TOKEN"]):
        assert secret not in text
    objects = yaml.safe_load(text)
    assert objects["controller_credentials"][0]["inputs"] == {
        "session_token": "{{ multicart_awx_session_token }}",
        "email": fleet.email,
        "password": "{{ multicart_awx_password }}",
    }
    for variable, kind in (
        ("controller_templates", "job_templates"),
        ("controller_workflows", "workflow_job_templates"),
    ):
        fields = RESOURCES[kind].fields
        for one in objects[variable]:
            kept = awx.store.one(kind, name=one["name"])
            kept["extra_vars"] = json.loads(kept["extra_vars"] or "{}")
            kept["description"] = kept["description"].partition(" [gave ")[0]
            plain = {name for name in fields if name not in RESOURCES[kind].links}
            assert {**{name: kept[name] for name in plain}, "extra_vars": kept["extra_vars"]} == {
                **{name: kept[name] for name in plain - set(one)},
                **{name: one[name] for name in plain & set(one)},
                "extra_vars": one.get("extra_vars", {}),
            }
            assert one.get("survey_spec") == awx.store.surveys.get(kept["id"])


def test_a_host_can_be_left_out_of_another_group(fleet: Fleet, awx: Awx) -> None:
    hosts = {"multicart_hosts": "shops:!web2.example.com"}
    done, path = written(fleet, awx, group="shops", extra_vars=hosts)
    assert done.green, done
    for one in yaml.safe_load(path.read_text(encoding="utf-8"))["controller_templates"]:
        assert hosts.items() <= one["extra_vars"].items()


@pytest.mark.full
def test_a_schedule_whose_rule_is_empty_is_absent_in_the_file(fleet: Fleet, awx: Awx, first: Past) -> None:
    awx.store.load(first.store)
    due, audit = (awx.store.one("job_templates", name=f"MultiCartAPI {name}") for name in ("rotate when due", "audit"))
    awx.store.remove("workflow_job_templates", awx.store.one("workflow_job_templates", name="MultiCartAPI audit")["id"])
    (made,) = awx.store.select("schedules")
    theirs = {"name": made["name"], "unified_job_template": audit["id"], "rrule": made["rrule"]}
    kept = awx.store.add("schedules", **theirs)
    done, path = written(fleet, awx, **{**GIVEN, "rotate_rrule": ""})
    assert done.green, done
    (one,) = yaml.safe_load(path.read_text(encoding="utf-8"))["controller_schedules"]
    assert (one["name"], one["state"], "rrule" in one) == (made["name"], "absent", False)
    apply = yaml.safe_load(APPLY)
    apply[0]["tasks"] = [task for task in apply[0]["tasks"] if "awx.awx.schedule" in task]
    (fleet.folder / "apply.yml").write_text(yaml.safe_dump(apply))
    assert made["unified_job_template"] == due["id"]
    for _run in range(2):
        done = run(fleet, awx, "apply.yml", "-e", f"@{path}")
        assert done.green and awx.store.select("schedules") == [kept], done
    nothing, path = written(fleet, awx, **{**GIVEN, "rotate_rrule": None})
    assert nothing.green and "controller_schedules" not in path.read_text(encoding="utf-8"), nothing


@pytest.mark.full
def test_a_text_does_not_become_a_template_that_is_run_when_the_file_is_applied(fleet: Fleet, awx: Awx) -> None:
    labels = "{multicart_awx_labels: [keys, !unsafe \"{{ lookup('pipe', 'id') }}\"]}"
    done, path = written(fleet, awx, "-e", labels)
    assert not done.green and "multicart_awx_labels must not contain the signs" in done.message, done
    assert not path.exists() and awx.requests == []
    done, path = written(fleet, awx, "-e", '{multicart_awx_password: !unsafe "{{ secret"}')
    assert done.green and "{{ secret" not in path.read_text(encoding="utf-8"), done


@pytest.mark.full
def test_what_is_made_of_the_file_is_what_the_role_makes(
    fleet: Fleet, awx: Awx, bare: dict[str, Any], first: Past
) -> None:
    """Except for what has the name of something else: the file has names, and only the role looks for ids."""
    awx.store.load(bare)
    twin = awx.store.one("credentials", name="MultiCartAPI")["id"]
    awx.store.remove("credentials", twin)
    awx.store.add("execution_environments", name="keys", image="quay.io/keys")
    awx.store.add("teams", name="Operations", organization=1)
    for name in ("ann", "bob", "eve"):
        awx.store.add("users", username=name)
    fresh = awx.store.saved()
    awx.store.load(first.store)
    inputs = ours(awx)["inputs"]
    awx.store.remove("credentials", twin)
    awx.store.remove("workflow_job_templates", awx.store.one("workflow_job_templates", name="MultiCartAPI audit")["id"])
    other = awx.store.one("organizations", name="Other")["id"]
    for path in ("inventories", "credentials", "teams"):
        awx.store.remove(path, awx.store.one(path, organization=other)["id"])
    awx.store.remove("organizations", other)
    wanted = picture(awx.store)

    awx.store.load(fresh)
    done, path = written(fleet, awx, **GIVEN, email=inputs["email"])
    assert done.green, done
    (fleet.folder / "apply.yml").write_text(APPLY)
    secrets = {f"multicart_awx_{name}": inputs[name] for name in ("password", "session_token")}
    done = run(fleet, awx, "apply.yml", "-e", f"@{path}", "-e", json.dumps(secrets))
    assert done.green, done
    assert picture(awx.store) == wanted
