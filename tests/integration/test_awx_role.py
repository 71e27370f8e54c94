# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of AWX: made, kept, left alone and put right, by real runs of awx.yml against a stand-in of its API."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.awx.app import Awx
from tests.awx.collection import COLLECTIONS
from tests.integration.harness import Fleet, Run
from tests.unit.docs import rst

pytestmark = pytest.mark.skipif(
    not COLLECTIONS.exists(), reason="awx.awx is missing: python -m tests.awx.collection gets it from PyPI"
)
ROLE = Path(__file__).resolve().parents[2] / "roles" / "multicart_awx"
PROJECT = ROLE / "files" / "project"


def example(word: str) -> str:
    """Return the one example of the page about AWX that has this word in it."""
    (found,) = (code for _line, language, code in rst.codes(rst.read("awx")) if language == "yaml" and word in code)
    return found


WANTED: dict[str, Any] = yaml.safe_load(example("multicart_awx_organization:"))
REPOSITORY = WANTED["multicart_awx_scm_url"]


@pytest.fixture
def awx() -> Iterator[Awx]:
    """An AWX with an organization and an inventory that has the group of the consumers."""
    with Awx() as awx:
        owner = awx.store.add("organizations", name="Default")["id"]
        inventory = awx.store.add("inventories", name="Production", organization=owner)["id"]
        awx.store.add("groups", name="multicart_consumers", inventory=inventory)
        kind = awx.store.add("credential_types", name="Machine", kind="cloud", inputs={}, injectors={})["id"]
        awx.store.add("credentials", name="ssh", organization=owner, credential_type=kind)
        # Names need not be unique: these must not be mistaken for those of the role.
        awx.store.add("credentials", name="MultiCartAPI", organization=owner, credential_type=kind)
        awx.store.repositories[REPOSITORY] = PROJECT
        yield awx


def keep(fleet: Fleet, awx: Awx, *arguments: str, env: dict[str, str] | None = None, **variables: Any) -> Run:
    """Run awx.yml with the variables of the documentation, a session token and these; one that is None is left out."""
    given = {
        **WANTED,
        "multicart_awx_session_token": "{{ lookup('ansible.builtin.env', 'MULTICART_SESSION_TOKEN') }}",
        **{f"multicart_awx_{name}": value for name, value in variables.items()},
    }
    given = {name: value for name, value in given.items() if value is not None}
    return run(fleet, awx, "multicart.keys.awx", "-e", json.dumps(given), *arguments, env=env)


def run(fleet: Fleet, awx: Awx, playbook: str, *arguments: str, env: dict[str, str] | None = None) -> Run:
    known = {
        "CONTROLLER_HOST": awx.url,
        "CONTROLLER_OAUTH_TOKEN": awx.token,
        "RECORDER_ARGUMENTS": "1",  # a secret in them fails the test
        "MULTICART_EMAIL": fleet.email,
        "MULTICART_PASSWORD": fleet.account["password"],
        "ANSIBLE_COLLECTIONS_PATH": f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{COLLECTIONS}",
    }
    done = fleet.run(playbook, *arguments, env={**known, **(env or {})})
    assert awx.token not in done.output, "the token of AWX was printed"
    return done


def changed(done: Run) -> list[str]:
    """Return the names of the tasks that changed something."""
    return [task.task for task in done.tasks if task.get("changed")]


def template(awx: Awx, name: str) -> dict[str, Any]:
    return awx.store.one("job_templates", name=f"MultiCartAPI {name}")


def credentials(awx: Awx, name: str) -> list[str]:
    """Return the names of the credentials of a template."""
    ids = awx.store.associations[(template(awx, name)["id"], "credentials")]
    return [awx.store.objects["credentials"][one]["name"] for one in ids]


def questions(awx: Awx, key: int) -> dict[str, bool]:
    """Return the variables of a survey, and whether they must be given."""
    return {question["variable"]: question["required"] for question in awx.store.surveys[key]["spec"]}


def links(awx: Awx) -> set[tuple[str, str, str]]:
    """Return the links of the workflow, each as node, kind and node."""
    names = {one["id"]: one["identifier"] for one in awx.store.select("workflow_job_template_nodes")}
    found = {key: ids for key, ids in awx.store.associations.items() if key[0] in names}
    return {(names[node], kind, names[one]) for (node, kind), ids in found.items() for one in ids}


# --- the whole ------------------------------------------------------------------------------------


WORKFLOW = {
    ("audit", "always_nodes", "approve"),
    ("approve", "success_nodes", "rotate"),
    ("rotate", "success_nodes", "final-audit"),
    ("rotate", "failure_nodes", "deploy"),
    ("deploy", "always_nodes", "rotate-again"),
    ("rotate-again", "success_nodes", "final-audit"),
}


def test_everything_is_made_and_what_drifted_is_put_right(fleet: Fleet, awx: Awx) -> None:
    first = keep(fleet, awx, "-vvv")
    assert first.green, first

    kind = awx.store.one("credential_types", name="MultiCartAPI")
    assert kind["injectors"]["env"]["MULTICART_PASSWORD"] == "{{ password }}"
    made = awx.store.one("credentials", name="MultiCartAPI", credential_type=kind["id"])
    secrets = {"session_token": fleet.env["MULTICART_SESSION_TOKEN"], "password": fleet.account["password"]}
    assert made["inputs"] == {"email": fleet.email, **secrets}

    for name in ("audit", "doctor", "deploy", "rotate", "rotate when due"):
        one = template(awx, name)
        assert sorted(credentials(awx, name)) == ["MultiCartAPI", "ssh"]
        assert (one["job_slice_count"], one["allow_simultaneous"], one["limit"]) == (1, False, "")
        asked = {field for field, value in one.items() if field.startswith("ask_") and value}
        assert asked <= {"ask_limit_on_launch", "ask_job_type_on_launch"}
        assert one["playbook"] in {f"{word}.yml" for word in name.split()}
    rotate, due = template(awx, "rotate"), template(awx, "rotate when due")
    assert questions(awx, rotate["id"]) == {"multicart_rotate_retire": True, "multicart_rotate_confirm": True}
    assert json.loads(due["extra_vars"]) == {"multicart_rotate_confirm": True, "multicart_rotate_max_age": "30d"}
    assert not due["survey_enabled"] and rotate["survey_enabled"]

    workflow = awx.store.one("workflow_job_templates")
    assert questions(awx, workflow["id"]) == {"multicart_rotate_retire": True}
    assert links(awx) == WORKFLOW
    assert {one["name"]: one["rrule"] for one in awx.store.select("schedules")} == {
        "MultiCartAPI rotate when due": WANTED["multicart_awx_rotate_rrule"],
        "MultiCartAPI audit": WANTED["multicart_awx_audit_rrule"],
    }

    wrong = {"job_slice_count": 5, "allow_simultaneous": True, "ask_limit_on_launch": True, "limit": "web1"}
    awx.store.change("job_templates", rotate["id"], **wrong, survey_enabled=False, extra_vars='{"x": 1}')
    awx.store.associations[(rotate["id"], "credentials")].clear()
    awx.store.surveys[rotate["id"]]["spec"].pop()
    unwanted = awx.store.one("schedules", unified_job_template=due["id"])
    awx.store.add("schedules", name="Theirs", unified_job_template=due["id"], rrule=unwanted["rrule"])
    awx.requests.clear()
    more = {"rotate_rrule": "", "schedules_enabled": OMITTED}
    again = keep(fleet, awx, "-e", "multicart_awx_update_secrets=false", **more)
    assert again.green, again
    assert changed(again) == [
        "multicart.keys.multicart_awx : Remove the schedules that are no longer wanted",
        "multicart.keys.multicart_awx : Create or update the job templates",
    ], again
    assert sorted(one["name"] for one in awx.store.select("schedules")) == ["MultiCartAPI audit", "Theirs"]
    assert template(awx, "rotate") == {**rotate, "extra_vars": "{}"}
    assert sorted(credentials(awx, "rotate")) == ["MultiCartAPI", "ssh"]
    assert len(questions(awx, rotate["id"])) == 2
    written = {request.path.split("/")[1] for request in awx.writes}
    assert written == {str(rotate["id"]), str(unwanted["id"])}, awx.writes
    assert "kept its secrets" in again.output


@pytest.mark.full
def test_a_second_run_sends_nothing_and_check_mode_knows_it(fleet: Fleet, awx: Awx) -> None:
    assert keep(fleet, awx).green
    awx.requests.clear()
    for again in (
        keep(fleet, awx),
        keep(fleet, awx, "--check"),
        keep(fleet, awx, session_token=None, email=None, password=None, scm_url=None),
    ):
        assert again.green and not changed(again), again
        assert awx.writes == []


@pytest.mark.full
def test_a_workflow_that_was_left_half_made_is_finished(fleet: Fleet, awx: Awx) -> None:
    assert keep(fleet, awx).green
    whole = links(awx)
    gone = awx.store.one("workflow_job_template_nodes", identifier="final-audit")["id"]
    del awx.store.objects["workflow_job_template_nodes"][gone]
    for ids in awx.store.associations.values():
        if gone in ids:
            ids.remove(gone)
    awx.requests.clear()
    check = keep(fleet, awx, "--check")
    assert check.green and changed(check) and not awx.writes, check
    real = keep(fleet, awx)
    assert real.green and links(awx) == whole, real


# --- the credential -------------------------------------------------------------------------------


@pytest.mark.full
def test_secrets_are_sent_to_an_existing_credential_when_asked_for(fleet: Fleet, awx: Awx) -> None:
    assert keep(fleet, awx).green
    (made,) = (one for one in awx.store.select("credentials", name="MultiCartAPI") if one["inputs"])
    made["inputs"]["password"] = "the-former-one"
    sent = keep(fleet, awx, update_secrets=True, session_token=None)
    assert sent.green and "multicart.keys.multicart_awx : Create or update the credential" in changed(sent), sent
    (made,) = (one for one in awx.store.select("credentials", name="MultiCartAPI") if one["inputs"])
    assert made["inputs"] == {"email": fleet.email, "password": fleet.account["password"]}


def test_the_secrets_are_in_no_file_on_the_way(fleet: Fleet, awx: Awx) -> None:
    awx.forbidden.add(("POST", "job_templates"))  # what comes before is all that matters
    done = keep(fleet, awx, "-vvv", env={"ANSIBLE_PIPELINING": "0"})
    assert not done.green and "You don't have permission to POST to /api/v2/job_templates/" in done.output, done
    by_task = dict(re.findall(r"^TASK \[.*? : (.*?)\](.*?)(?=^TASK|^PLAY RECAP)", done.output, re.M | re.S))
    assert "PUT /" in by_task["Create or update the project"], done
    assert (
        "EXEC" in by_task["Create or update the credential"]
        and "PUT /" not in by_task["Create or update the credential"]
    ), done


HOLDER = {
    "kind": "cloud",
    "inputs": {
        "fields": [
            {"id": "shop", "label": "Shop", "type": "string"},
            {"id": "pin", "label": "PIN", "type": "string", "secret": True},
            {"id": "api_key", "label": "Key", "type": "string", "secret": True},
        ]
    },
    "injectors": {},
}
ROTATE = """
- hosts: localhost
  gather_facts: false
  tasks:
    - multicart.keys.multicart_key_rotate:
"""


def renew(fleet: Fleet, awx: Awx, *arguments: str) -> Run:
    """Rotate, and then do as the documentation says."""
    (fleet.folder / "renew.yml").write_text(ROTATE + example("tasks_from: credential.yml"))
    return run(fleet, awx, "renew.yml", *arguments)


def test_the_live_key_is_put_into_a_credential_and_nothing_else_is_lost(fleet: Fleet, awx: Awx) -> None:
    kind = awx.store.add("credential_types", name="Shop", **HOLDER)["id"]
    inputs = {"shop": "north", "pin": "4711", "api_key": fleet.live}
    key = awx.store.add("credentials", name="shop", credential_type=kind, inputs=inputs)["id"]
    done = renew(fleet, awx)
    assert done.green and fleet.rotations == 1, done
    assert awx.store.objects["credentials"][key]["inputs"] == {**inputs, "api_key": fleet.live}
    assert inputs["api_key"] != fleet.live
    (sent,) = awx.writes
    assert sent.body["inputs"] == {"shop": "north", "pin": "$encrypted$", "api_key": fleet.live}


@pytest.mark.full
@pytest.mark.parametrize("by", [renew, keep])
def test_why_a_credential_was_not_written_is_told_without_what_it_holds(fleet: Fleet, awx: Awx, by: Any) -> None:
    kind = awx.store.add("credential_types", name="Shop", **HOLDER)["id"]
    key = awx.store.add("credentials", name="shop", credential_type=kind, inputs={"api_key": fleet.live})["id"]
    awx.forbidden |= {("PATCH", f"credentials/{key}"), ("POST", "credentials")}
    done = by(fleet, awx)
    assert not done.green and "You don't have permission to" in done.message, done


@pytest.mark.full
def test_a_credential_that_is_not_found_is_no_success(fleet: Fleet, awx: Awx) -> None:
    done = renew(fleet, awx, "-e", "multicart_awx_credential=nowhere")
    assert not done.green and "There are 0 credentials nowhere" in done.message, done
    assert awx.writes == []


# --- refusals -------------------------------------------------------------------------------------


def test_a_wrong_token_is_told(fleet: Fleet, awx: Awx) -> None:
    done = keep(fleet, awx, env={"CONTROLLER_OAUTH_TOKEN": "wrong"})
    assert not done.green
    assert "Invalid authentication credentials" in done.message, done


def test_an_inventory_without_the_group_is_told(fleet: Fleet, awx: Awx) -> None:
    done = keep(fleet, awx, group="web")
    assert not done.green
    assert "has no group web, and nothing was changed" in done.message, done
    assert awx.writes == []


def test_without_the_collection_the_remedy_is_told(fleet: Fleet, awx: Awx) -> None:
    done = keep(fleet, awx, env={"ANSIBLE_COLLECTIONS_PATH": os.environ["ANSIBLE_COLLECTIONS_PATH"]})
    assert not done.green
    assert "ansible-galaxy collection install 'awx.awx:>=24.0.0'" in done.message, done
    assert awx.requests == []


OMITTED = "{{ nothing | default(omit) }}"
LISTS = ("instance_groups", "labels", "notify_approval", "notify_failure", "notify_success", "other_credentials")
SOURCES: dict[str, Any] = {
    "pasword": {"credential": "Vault"},
    "password": "Vault",
    "email": {"metadata": {}},
    "api_key": {"credential": ""},
    "api_url": {"credential": "Vault", "credentials": "Vault"},
    "session_token": {"credential": "Vault", "metadata": "ops"},
}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rotate_rule": "DTSTART:20260101T040000Z"}, "Similar ones are multicart_awx_rotate_rrule. Correct"),
    ({"notify_failures": [], "becom": True}, "has no variable multicart_awx_becom, multicart_awx_notify_failures, and"),
    ({"xyz": ""}, "changed. Correct the name"),
    (
        dict.fromkeys(LISTS, "a"),
        "; ".join(f"multicart_awx_{name} must be a list, such as [one, two]" for name in LISTS),
    ),
    ({"labels": None, "extra_vars": "multicart_api_url=x"}, "[one, two]; multicart_awx_extra_vars must be a mapping"),
    (
        {"become": "t", "schedules_enabled": "y"},
        "become must be true or false; multicart_awx_schedules_enabled must be",
    ),
    ({"access": {"execute": {"teams": "Operations"}}}, "multicart_awx_access must have lists"),
    ({"access": {"execute": "teams=Operations"}}, "multicart_awx_access must have lists"),
    ({"secret_sources": "password=Vault"}, "multicart_awx_secret_sources must be a mapping"),
    ({"secret_sources": SOURCES}, "api_key, credentials, email, password, pasword, session_token is wrong"),
    *(({"max_age": age}, "multicart_awx_max_age must be text") for age in ("30 days", 30, "30d\n")),
    ({"extra_vars": {"multicart_rotate_max_age": "90d"}}, "must not hold any of multicart_rotate_confirm"),
    ({"extra_vars": {"multicart_api_url": "https://elsewhere.example.com"}}, "must not hold any of multicart_api_url"),
]
ONE = """
- block:
    - ansible.builtin.include_role: {{name: multicart.keys.multicart_awx}}
      vars: {variables}
  rescue:
    - name: Told
      ansible.builtin.debug: {{msg: "{{{{ ansible_failed_result.msg }}}}"}}
"""


def test_what_is_given_in_a_wrong_form_is_told_before_anything_is_asked_of_awx(fleet: Fleet, awx: Awx) -> None:
    tasks = [
        ONE.format(variables=json.dumps({f"multicart_awx_{name}": value for name, value in variables.items()}))
        for variables, _words in WRONG
    ]
    right = {"include_role": {"name": "multicart.keys.multicart_awx"}}
    right["vars"] = {
        "multicart_awx_configuration_file": str(fleet.folder / "controller.yml"),
        "multicart_awx_secret_sources": {"password": {"credential": "Vault", "metadata": None}},
    }
    given = {**WANTED, **dict.fromkeys(("multicart_awx_become", "multicart_awx_schedules_enabled"), OMITTED)}
    steps = [*yaml.safe_load("".join(tasks)), right, right]  # what a run has set is no variable that it does not know
    play = [{"hosts": "localhost", "gather_facts": False, "vars": given, "tasks": steps}]
    (fleet.folder / "wrong.yml").write_text(yaml.safe_dump(play))
    done = run(fleet, awx, "wrong.yml")
    assert done.green and awx.requests == [], done
    told = [" ".join(task["msg"].split()) for task in done.tasks if task.task == "Told"]
    assert len(told) == len(WRONG), done
    written = (fleet.folder / "controller.yml").read_text()
    assert "\ncontroller_schedules:" in written and "\n    enabled:" not in written and "metadata: {}" in written
    for (_variables, words), message in zip(WRONG, told, strict=True):
        assert words in message and "nothing was changed" in message, message


@pytest.mark.full
def test_a_token_that_may_not_make_the_type_is_told(fleet: Fleet, awx: Awx) -> None:
    awx.forbidden.add(("POST", "credential_types"))
    done = keep(fleet, awx)
    assert not done.green
    assert "You don't have permission to POST to /api/v2/credential_types/" in done.message, done


@pytest.mark.full
def test_a_repository_without_the_playbooks_is_told(fleet: Fleet, awx: Awx) -> None:
    awx.store.repositories[REPOSITORY] = PROJECT / "collections"
    done = keep(fleet, awx)
    assert not done.green
    assert "has no audit.yml, deploy.yml, doctor.yml, rotate.yml" in done.message, done
    assert {request.path for request in awx.writes} == {"projects"}


@pytest.mark.full
def test_a_second_account_has_objects_of_its_own(fleet: Fleet, awx: Awx) -> None:
    assert keep(fleet, awx).green
    awx.store.add("groups", name="shops", inventory=awx.store.one("inventories")["id"])
    given = {"extra_vars": {"multicart_account": "shop"}, "deploy_slices": 3, "forks": 50, "become": True}
    second = keep(fleet, awx, name="Shop", group="shops", **given)
    assert second.green, second
    assert len(awx.store.select("job_templates")) == 10
    assert len(awx.store.select("schedules")) == 4  # those of the first name go on
    deploy, rotate = (awx.store.one("job_templates", name=f"Shop {name}") for name in ("deploy", "rotate"))
    assert (deploy["job_slice_count"], rotate["job_slice_count"]) == (3, 1)
    for one in (deploy, rotate):
        assert (one["forks"], one["become_enabled"]) == (50, True)
        assert json.loads(one["extra_vars"]) == {"multicart_account": "shop", "multicart_hosts": "shops"}
