# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults A1 to A12 that were found on AWX's real API, and their kinds: each test is named after its fault."""

from __future__ import annotations

import fcntl
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, cast

import pytest
import requests
import yaml

from tests.awx.app import Awx, User
from tests.awx.picture import picture
from tests.awx.rules import refused_answers
from tests.awx.store import Store
from tests.integration.harness import Fleet, Run
from tests.integration.test_awx_role import (
    COLLECTIONS,
    HOLDER,
    PROJECT,
    REPOSITORY,
    ROLE,
    WANTED,
    WORKFLOW,
    awx,
    changed,
    keep,
    links,
    renew,
    template,
)
from tests.unit.docs import rst

__all__ = ["awx"]  # a fixture
pytestmark = pytest.mark.skipif(
    not COLLECTIONS.exists(), reason="awx.awx is missing: python -m tests.awx.collection gets it from PyPI"
)
TYPE = yaml.safe_load((ROLE / "files" / "credential_type.yml").read_text(encoding="utf-8"))
NO_CREDENTIAL = {"session_token": None, "email": None, "password": None}
NAMES = ("audit", "doctor", "deploy", "rotate", "rotate when due")
RETIRE = "multicart_rotate_retire"
MARK = "[multicart.keys MultiCartAPI/{}]"
ACCESS = {
    "execute": {"teams": ["Operations"], "users": ["ann"]},
    "approve": {"users": ["bob"]},
    "read": {"users": ["bob"]},
}


@dataclass
class Past:
    """What a run has left, and what it was like."""

    store: dict[str, Any]
    changed: list[str]
    violations: list[str]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Past]) -> Past:
    """Return what only the first of all workers runs."""
    folder = factory.getbasetemp()
    # A worker has a folder of its own in that of the run; without workers, what is above it is of all runs.
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / f"awx-{name}"
    with open(f"{path}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
        return cast("Past", pickle.loads(path.read_bytes()))


def watched(awx: Awx) -> list[str]:
    """Collect, from now on, every moment in which the workflow could be launched past its approval, or unfinished."""
    found: list[str] = []

    def look() -> None:
        for workflow in awx.store.select("workflow_job_templates", name="MultiCartAPI rotation"):
            nodes = awx.store.nodes(workflow["id"])
            survey = awx.store.surveys.get(workflow["id"], {})
            whole = len(nodes) > 5 and all(one["unified_job_template"] for one in nodes)
            last = awx.requests[-1:]
            if started := awx.store.starts(workflow["id"]) & {"rotate", "rotate-again", "deploy", "final-audit"}:
                found.append(f"{started} could start after {last}")
            if nodes and not whole and not list(refused_answers(survey, {RETIRE: "a" * 16}, complete=True)):
                found.append(f"half a workflow could be launched after {last}")

    awx.watch = look
    return found


@pytest.fixture
def first(fleet: Fleet, awx: Awx, tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A first run; another organization has the same names, and a workflow has the name of a template."""

    def make() -> Past:
        other = awx.store.add("organizations", name="Other")["id"]
        kind = awx.store.one("credential_types", name="Machine")["id"]
        awx.store.add("inventories", name="Production", organization=other)
        awx.store.add("credentials", name="ssh", organization=other, credential_type=kind)
        awx.store.add("workflow_job_templates", name="MultiCartAPI audit", organization=1)
        awx.store.add("execution_environments", name="keys", image="quay.io/keys")
        for owner in (1, other):
            awx.store.add("teams", name="Operations", organization=owner)
        for name in ("ann", "bob", "eve"):
            awx.store.add("users", username=name)
        violations = watched(awx)
        done = keep(fleet, awx, audit_rrule=None, scm_branch="main", execution_environment="keys", access=ACCESS)
        assert done.green, done
        return Past(awx.store.saved(), changed(done), violations)

    return once(tmp_path_factory, "first", make)


@pytest.fixture
def stocked(awx: Awx, first: Past) -> Awx:
    """The AWX that the first run has set up."""
    awx.store.load(first.store)
    awx.requests.clear()
    awx.watch = lambda: None
    return awx


@pytest.fixture
def second(fleet: Fleet, stocked: Awx, tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A second run, after an administrator's changes by hand, and with fewer variables."""

    def make() -> Past:
        store = stocked.store
        for before, kind in (("final-audit", "success_nodes"), ("rotate", "failure_nodes"), ("audit", "always_nodes")):
            made = foreign(stocked, f"report-{before}", unified_job_template=template(stocked, "doctor")["id"])
            store.associate("workflow_job_template_nodes", node(stocked, before), kind, made["id"])
        store.one("schedules")["enabled"] = False
        store.change("job_templates", template(stocked, "audit")["id"], timeout=600, verbosity=2)
        label = store.add("labels", name="production", organization=1)["id"]
        store.associate("job_templates", template(stocked, "audit")["id"], "labels", label)
        ours(stocked)["inputs"].update(password="the-former-one", email="former@example.com")
        give(stocked, "execute", "eve")
        give(stocked, "approval", "ann")
        violations = watched(stocked)
        done = keep(fleet, stocked, audit_rrule=None, access={"approve": {"users": ["ann", "bob"]}})
        assert done.green, done
        return Past(store.saved(), changed(done), violations)

    return once(tmp_path_factory, "second", make)


def refused(done: Run, awx: Awx, *words: str) -> None:
    """Make sure that the run was refused in the role's own words, and changed nothing."""
    assert not done.green, done
    text = " ".join(done.message.split())
    assert "othing was changed" in text, text
    for word in words:
        assert word in text, text
    assert awx.writes == []


def foreign(awx: Awx, identifier: str, **fields: Any) -> dict[str, Any]:
    """Let an administrator add a node to the workflow."""
    workflow = awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")
    return awx.store.add(
        "workflow_job_template_nodes", identifier=identifier, workflow_job_template=workflow["id"], **fields
    )


def node(awx: Awx, identifier: str) -> int:
    return int(awx.store.one("workflow_job_template_nodes", identifier=identifier)["id"])


def give(awx: Awx, name: str, user: str) -> None:
    """Let an administrator give a role of the workflow."""
    role = awx.store.role(awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"], name)
    awx.store.associate("roles", role["id"], "users", awx.store.one("users", username=user)["id"])


def who(awx: Awx) -> dict[str, set[str]]:
    """Return who has the roles that this role gives."""
    workflow = awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"]
    found = {}
    for name, key in {"execute": workflow, "approval": workflow, "read": template(awx, "audit")["id"]}.items():
        role = awx.store.role(key, name)["id"]
        users = [awx.store.objects["users"][one] for one in awx.store.associations.get((role, "users"), [])]
        teams = [awx.store.objects["teams"][one] for one in awx.store.associations.get((role, "teams"), [])]
        found[name] = {user["username"] for user in users} | {
            f"{one['name']} of {one['organization']}" for one in teams
        }
    return found


def ours(awx: Awx) -> dict[str, Any]:
    (found,) = (one for one in awx.store.select("credentials", name="MultiCartAPI") if one["inputs"])
    return found


# --- A1 to A12 ------------------------------------------------------------------------------------


def test_a1_what_an_administrator_adds_to_the_workflow_stays(awx: Awx, second: Past) -> None:
    awx.store.load(second.store)
    added = {
        ("final-audit", "success_nodes", "report-final-audit"),
        ("rotate", "failure_nodes", "report-rotate"),
        ("audit", "always_nodes", "report-audit"),
    }
    assert added < links(awx)
    assert awx.store.starts(awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"]) == {
        "audit",
        "report-audit",
    }


def test_a1_a_node_that_would_start_the_rotation_without_the_approval_is_refused(fleet: Fleet, stocked: Awx) -> None:
    made = foreign(stocked, "at-once", unified_job_template=template(stocked, "doctor")["id"])
    stocked.store.associate("workflow_job_template_nodes", made["id"], "success_nodes", node(stocked, "deploy"))
    refused(keep(fleet, stocked, audit_rrule=None), stocked, "at-once", "past the approval")


def link(awx: Awx, credential: int, field: str) -> None:
    """Let an administrator link a field of a credential to an external secret store."""
    kind = awx.store.add("credential_types", name="Vault", kind="external", inputs={}, injectors={})["id"]
    store = awx.store.add("credentials", name="vault", organization=1, credential_type=kind)["id"]
    awx.store.add(
        "credential_input_sources", target_credential=credential, source_credential=store, input_field_name=field
    )


def test_a2_a_field_that_comes_from_a_secret_store_is_not_set(fleet: Fleet, stocked: Awx) -> None:
    link(stocked, ours(stocked)["id"], "password")
    done = keep(fleet, stocked, update_secrets=True, audit_rrule=None)
    refused(done, stocked, "takes password from an external secret store")


def test_a2_a_key_that_comes_from_a_secret_store_is_not_put_into_awx(fleet: Fleet, awx: Awx) -> None:
    kind = awx.store.add("credential_types", name="Shop", **HOLDER)["id"]
    key = awx.store.add("credentials", name="shop", credential_type=kind, inputs={"shop": "north"})["id"]
    link(awx, key, "api_key")
    refused(renew(fleet, awx), awx, "takes api_key from an external secret store")


def test_a3_a_stored_password_is_only_replaced_on_request(awx: Awx, second: Past) -> None:
    awx.store.load(second.store)
    assert ours(awx)["inputs"]["password"] == "the-former-one"
    assert ours(awx)["inputs"]["email"] != "former@example.com"


def test_a4_a_schedule_that_was_disabled_stays_so(awx: Awx, second: Past) -> None:
    awx.store.load(second.store)
    assert awx.store.one("schedules")["enabled"] is False


def test_a5_the_workflow_is_made_although_another_one_has_the_name_of_a_template(awx: Awx, first: Past) -> None:
    awx.store.load(first.store)
    assert links(awx) == WORKFLOW
    for one in awx.store.select("workflow_job_template_nodes"):
        assert one["unified_job_template"] in {
            *awx.store.objects["job_templates"],
            *awx.store.objects["workflow_approval_templates"],
        }


def test_a5_at_no_request_can_half_a_workflow_be_launched(first: Past, second: Past) -> None:
    assert first.violations == second.violations == []


def test_a5_a_schedule_that_could_start_the_wrong_template_is_refused(fleet: Fleet, awx: Awx) -> None:
    awx.store.add("workflow_job_templates", name="MultiCartAPI audit", organization=1)
    refused(keep(fleet, awx), awx, "has a workflow job template of the name MultiCartAPI audit, too")


def test_a6_what_is_no_longer_wanted_comes_off(awx: Awx, first: Past, second: Past) -> None:
    awx.store.load(first.store)
    assert template(awx, "audit")["execution_environment"] and awx.store.one("projects")["scm_branch"] == "main"
    awx.store.load(second.store)
    assert {template(awx, name)["execution_environment"] for name in NAMES} == {None}
    assert awx.store.one("projects")["scm_branch"] == ""


def test_a6_why_it_did_not_come_off_is_told(fleet: Fleet, stocked: Awx) -> None:
    key = template(stocked, "audit")["id"]
    stocked.forbidden.add(("PATCH", f"job_templates/{key}"))
    env = {"CONTROLLER_HOST": f"{stocked.url}/"}
    done = keep(fleet, stocked, audit_rrule=None, scm_branch="main", access=ACCESS, env=env)
    assert not done.green
    told = " ".join(done.failures[-1]["msg"].split())
    where = f"status 403 of {stocked.url}/api/v2/job_templates/{key}/"
    assert f"execution_environment of MultiCartAPI audit ({where}). Correct" in told, done


ADDRESSES = {
    "awx.example.com": "https://awx.example.com",
    "awx.example.com:8443/": "https://awx.example.com:8443",
    "http://[::1]:80/awx/": "http://[::1]:80",
    "https://awx.example.com": "https://awx.example.com",
    "": "https://",
}
READ = f"""
- hosts: localhost
  gather_facts: false
  vars_files: ["{ROLE}/vars/main.yml"]
  tasks:
    - ansible.builtin.debug: {{msg: ["{{{{ __multicart_awx_address }}}}", "{{{{ __multicart_awx_verify }}}}"]}}
      vars: {{__multicart_awx_host: "{{{{ item }}}}"}}
      loop: {list(ADDRESSES)}
"""


@pytest.mark.parametrize(("env", "verify"), [({}, True), ({"TOWER_VERIFY_SSL": "No"}, False)])
def test_a6_the_address_is_the_one_of_awx_awx(fleet: Fleet, env: dict[str, str], verify: bool) -> None:
    done = fleet.playbook(READ, env=env)
    assert done.green, done
    (task,) = (task for task in done.tasks if "results" in task.result)
    assert [one["msg"] for one in task["results"]] == [[address, verify] for address in ADDRESSES.values()]


@pytest.mark.parametrize("part", ["inputs", pytest.param("injectors", marks=pytest.mark.full)])
def test_a7_a_credential_type_that_gives_the_jobs_nothing_is_refused(fleet: Fleet, awx: Awx, part: str) -> None:
    awx.store.add("credential_types", **{**TYPE, "injectors": {}, **({part: {}} if part == "inputs" else {})})
    refused(keep(fleet, awx), awx, "The credential type MultiCartAPI has other inputs or injectors")


def test_a8_names_are_looked_up_in_the_organization(awx: Awx, first: Past) -> None:
    awx.store.load(first.store)
    for name in NAMES:
        one = template(awx, name)
        assert awx.store.objects["inventories"][one["inventory"]]["organization"] == 1
        for key in awx.store.associations[(one["id"], "credentials")]:
            assert awx.store.objects["credentials"][key]["organization"] == 1


def test_a9_all_that_is_not_there_is_told_at_once_before_anything_is_made(fleet: Fleet, awx: Awx) -> None:
    done = keep(
        fleet, awx, inventory="Stock", other_credentials=["ssh", "sudo"], notify_failure=["mail"], access=ACCESS
    )
    refused(
        done,
        awx,
        "no inventory Stock in the organization Default",
        "no credential sudo",
        "no notification template mail",
        "no team Operations in the organization Default",
        "no user bob that",
    )


@pytest.mark.parametrize(
    ("variables", "user", "words"),
    [
        ({"organization": "Nobody"}, User(), "no organization Nobody that this token may see"),
        pytest.param(
            {"inventory": None, "configuration_file": ""},  # an empty one is unset
            User(),
            "Give multicart_awx_inventory",
            marks=pytest.mark.full,
        ),
        ({"scm_url": "git.example.com"}, User(), "multicart_awx_scm_url is not the address"),
        ({"scm_url": "https://a-token@git.example.com/keys.git"}, User(), "must not contain a user, a password or"),
        pytest.param(
            {"scm_url": None}, User(), "no project MultiCartAPI in the organization Default", marks=pytest.mark.full
        ),
        (NO_CREDENTIAL, User(), "no credential MultiCartAPI of the type MultiCartAPI"),
        ({"audit_rrule": "DTSTART;TZID=Mars/Olympus:20260101T040000 RRULE:FREQ=DAILY;INTERVAL=1"}, User(), "time zone"),
        pytest.param({}, User(superuser=False), "Only a superuser can make one", marks=pytest.mark.full),
        ({}, User(superuser=False, admin=False), "is no administrator of the organization Default"),
    ],
)
def test_a9_what_awx_would_refuse_is_told_before_anything_is_made(
    fleet: Fleet, awx: Awx, variables: dict[str, Any], user: User, words: str
) -> None:
    awx.users[awx.token] = user
    refused(keep(fleet, awx, **variables), awx, words)


@pytest.mark.full
def test_a9_a_token_that_only_reads_is_told_and_changes_nothing(fleet: Fleet, awx: Awx) -> None:
    awx.users[awx.token] = User(scope="read")
    done = keep(fleet, awx)
    assert not done.green and "scope Write" in done.message and "nothing was changed" in done.message, done
    assert not awx.store.select("projects")


@pytest.mark.full
def test_a9_a_repository_that_awx_cannot_get_leaves_only_the_project_and_is_tried_again(fleet: Fleet, awx: Awx) -> None:
    del awx.store.repositories[REPOSITORY]
    done = keep(fleet, awx)
    assert not done.green and "AWX could not get the project MultiCartAPI" in done.message, done
    assert {request.path for request in awx.writes} == {"projects"}
    awx.store.repositories[REPOSITORY] = PROJECT
    done = keep(fleet, awx)
    assert done.green and links(awx) == WORKFLOW, done


def test_a10_what_somebody_else_made_is_not_rewritten(fleet: Fleet, stocked: Awx) -> None:
    template(stocked, "deploy")["description"] = "Deploys something else"
    done = keep(fleet, stocked, "-e", "multicart_awx_adopt=false", audit_rrule=None)  # a text
    refused(done, stocked, "did not make MultiCartAPI deploy", "multicart_awx_adopt")


@pytest.mark.full
def test_a10_it_is_taken_over_when_asked_for_and_a_renamed_one_is_found(fleet: Fleet, stocked: Awx) -> None:
    deploy, audit = template(stocked, "deploy"), template(stocked, "audit")
    deploy["description"] = "Deploys something else"
    audit["name"] = "Our audit"
    done = keep(fleet, stocked, audit_rrule=None, adopt=True)
    assert done.green and MARK.format("deploy") in template(stocked, "deploy")["description"], done
    assert (template(stocked, "deploy")["id"], template(stocked, "audit")["id"]) == (deploy["id"], audit["id"])
    assert len(stocked.store.select("job_templates")) == 5


def test_a11_the_first_check_tells_every_object(fleet: Fleet, awx: Awx) -> None:
    awx.store.add("users", username="ann")
    kind = awx.store.add("credential_types", name="Vault", kind="external", inputs={}, injectors={})["id"]
    awx.store.add("credentials", name="vault", organization=1, credential_type=kind)
    given = {"access": {"execute": {"users": ["ann"]}}, "secret_sources": {"password": {"credential": "vault"}}}
    done = keep(fleet, awx, "--check", labels=["keys"], password=None, **given)
    assert done.green and changed(done) and awx.writes == [], done
    assert [task.result for task in done.tasks if task.task.endswith("Create or update the labels")][-1]["changed"]
    wanted = [
        "credential type MultiCartAPI",
        "credential MultiCartAPI",
        "project MultiCartAPI",
        *(f"job template MultiCartAPI {name}" for name in NAMES),
        "workflow job template MultiCartAPI rotation",
        *(f"workflow node {name}" for name in ("audit", "approve", "rotate", "deploy", "rotate-again", "final-audit")),
        "schedule MultiCartAPI rotate when due",
        "schedule MultiCartAPI audit",
        "link of password",
        "role execute of user ann",
    ]
    assert sorted(re.findall('"msg": "Would make the (.*)"', done.output)) == sorted(wanted)


def test_a12_a_limit_that_is_not_asked_for_is_dropped_and_the_documentation_says_so(stocked: Awx) -> None:
    rotate = template(stocked, "rotate")
    sent = {"limit": "web1", "extra_vars": {RETIRE: "a" * 16, "multicart_rotate_confirm": "yes"}}
    answer = requests.post(
        f"{stocked.url}/api/v2/job_templates/{rotate['id']}/launch/",
        json=sent,
        headers={"Authorization": f"Bearer {stocked.token}"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()["ignored_fields"]) == (201, {"limit": "web1"})
    ((_key, kept),) = stocked.launched
    assert "limit" not in kept
    assert "AWX ignores it, and the job runs on all hosts" in " ".join(rst.read("awx").split())


# --- what else must hold --------------------------------------------------------------------------


def test_what_the_role_does_not_set_stays_and_only_what_differs_changes(awx: Awx, second: Past) -> None:
    awx.store.load(second.store)
    audit = template(awx, "audit")
    assert (audit["timeout"], audit["verbosity"]) == (600, 2)
    assert len(awx.store.associations[(audit["id"], "labels")]) == 1
    assert [name.split(" : ")[1] for name in second.changed] == [
        "Create or update the project",
        "Create or update the credential",
        "Remove the roles that are no longer wanted",
        "Create or update the job templates",
        "Remove what is no longer wanted",
        "Create or update the workflow",
    ]


def test_roles_come_and_go_and_those_that_an_administrator_gave_stay(awx: Awx, first: Past, second: Past) -> None:
    awx.store.load(first.store)
    assert who(awx) == {"execute": {"ann", "Operations of 1"}, "approval": {"bob"}, "read": {"bob"}}
    awx.store.load(second.store)
    assert who(awx) == {"execute": {"eve"}, "approval": {"ann", "bob"}, "read": set()}
    bob = awx.store.one("users", username="bob")["id"]
    workflow = awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")
    assert workflow["description"].endswith(f"{MARK.format('rotation')} [gave approve to user {bob}]")


@pytest.mark.full
def test_nothing_changes_whatever_an_administrator_has_changed_that_is_not_the_roles(
    fleet: Fleet, stocked: Awx
) -> None:
    store = stocked.store
    audit = template(stocked, "audit")["id"]
    store.change("job_templates", audit, timeout=600, verbosity=2)
    store.associate("job_templates", audit, "labels", store.add("labels", name="ours", organization=1)["id"])
    store.associate("job_templates", audit, "instance_groups", store.add("instance_groups", name="dmz")["id"])
    mail = store.add("notification_templates", name="mail", organization=1)["id"]
    workflow = store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"]
    store.associate("workflow_job_templates", workflow, "notification_templates_approvals", mail)
    store.one("schedules")["enabled"] = False
    made = foreign(stocked, "report", unified_job_template=template(stocked, "doctor")["id"])
    store.associate("workflow_job_template_nodes", node(stocked, "final-audit"), "always_nodes", made["id"])
    give(stocked, "execute", "eve")
    before = who(stocked)
    given = {"execution_environment": "keys", "scm_branch": "main", "audit_rrule": None}
    given["email"] = ours(stocked)["inputs"]["email"]
    for access in (ACCESS, None):
        done = keep(fleet, stocked, **given, access=access)
        assert done.green and not changed(done) and stocked.writes == [], (done, stocked.writes)
    done = keep(fleet, stocked, **given, access={})
    assert done.green and who(stocked) == {**dict.fromkeys(before, set()), "execute": {"eve"}}, done
    assert "gave" not in store.one("workflow_job_templates", name="MultiCartAPI rotation")["description"]


MANY: dict[str, Any] = {
    "labels": ["keys"],
    "notify_failure": ["mail"],
    "notify_approval": ["mail"],
    "access": ACCESS,
    "session_token": None,
    "email": "ops@example.com",
    "password": "one-for-all-tests",
}
REQUESTS = 60  # that a first run with these sends to change something
CORE = int(metadata.version("ansible-core").split(".")[1])


@pytest.fixture
def states(fleet: Fleet, awx: Awx, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each request of a first run has left, from nothing on."""
    awx.store.add("notification_templates", name="mail", organization=1)
    awx.store.add("teams", name="Operations", organization=1)
    for name in ("ann", "bob"):
        awx.store.add("users", username=name)

    def make() -> Past:
        found = [awx.store.saved()]
        awx.watch = lambda: found.append(awx.store.saved())
        done = keep(fleet, awx, **MANY)
        assert done.green and len(found) == REQUESTS + 1, (len(found), done)
        return Past({"states": found}, [], [])

    return list(once(tmp_path_factory, "states", make).store["states"])


@pytest.mark.full
@pytest.mark.parametrize("left", range(REQUESTS))
def test_a_run_that_broke_off_at_any_request_is_finished_by_the_next_one(
    fleet: Fleet, awx: Awx, states: list[dict[str, Any]], left: int
) -> None:
    if left % 4 != CORE % 4:
        pytest.skip("another ansible-core has this one: make matrix runs them all")
    awx.store.load(states[left])
    violations = watched(awx)
    awx.watch()
    done = keep(fleet, awx, **MANY)
    assert done.green and links(awx) == WORKFLOW and violations == [], (done, violations)
    last = Store()
    last.load(states[-1])
    assert picture(awx.store) == picture(last)


@pytest.mark.full
def test_red_hats_platform_has_its_own_prefix(fleet: Fleet, stocked: Awx) -> None:
    ours(stocked)["inputs"].update(email="former@example.com")
    prefix = {"CONTROLLER_OPTIONAL_API_URLPATTERN_PREFIX": "/api/controller/"}
    done = keep(fleet, stocked, audit_rrule=None, scm_branch="main", access={}, env=prefix)
    assert done.green, done
    assert {template(stocked, name)["execution_environment"] for name in NAMES} == {None}
    assert ours(stocked)["inputs"]["email"] == fleet.email
    assert not any(who(stocked).values())


@pytest.mark.full
def test_a_node_that_somebody_deleted_is_made_again_and_nothing_starts_meanwhile(fleet: Fleet, stocked: Awx) -> None:
    awx = stocked
    awx.store.remove("workflow_job_template_nodes", node(awx, "approve"))
    workflow = awx.store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"]
    assert "rotate" in awx.store.starts(workflow)  # what the administrator has left
    closed: list[bool] = []

    def look() -> None:
        past = awx.store.starts(workflow) & {"rotate", "deploy", "rotate-again"}
        survey = awx.store.surveys[workflow]
        if any(request.path.endswith(f"{workflow}/survey_spec") for request in awx.writes):
            closed.append(not past or bool(list(refused_answers(survey, {RETIRE: "a" * 16}, complete=True))))

    awx.watch = look
    done = keep(fleet, awx, audit_rrule=None)
    assert done.green and links(awx) == WORKFLOW, done
    assert closed and all(closed), awx.writes


@pytest.mark.full
def test_what_an_administrator_sets_comes_and_goes(fleet: Fleet, stocked: Awx) -> None:
    awx, store = stocked, stocked.store
    for name in ("mail", "chat"):
        store.add("notification_templates", name=name, organization=1)
        store.add("notification_templates", name=name, organization=store.one("organizations", name="Other")["id"])
    store.add("instance_groups", name="dmz")
    kind = store.add("credential_types", name="Vault", kind="external", inputs={}, injectors={})["id"]
    vault = store.add("credentials", name="vault", organization=1, credential_type=kind)["id"]
    given: dict[str, Any] = {
        "audit_rrule": None,
        "notify_failure": ["mail", "chat"],
        "notify_success": ["chat"],
        "notify_approval": ["mail"],
        "labels": ["keys"],
        "timeout": 3600,
        "verbosity": 1,
        "instance_groups": ["dmz"],
        "schedules_enabled": False,
        "password": None,
        "secret_sources": {"password": {"credential": "vault", "metadata": {"secret_path": "ops/multicart"}}},
    }
    done = keep(fleet, awx, **given)
    assert done.green, done
    audit = template(awx, "audit")
    assert (audit["timeout"], audit["verbosity"]) == (3600, 1)
    workflow = store.one("workflow_job_templates", name="MultiCartAPI rotation")["id"]

    def names(key: int, kind: str) -> list[str]:
        table = {key: one for table in store.objects.values() for key, one in table.items()}
        return sorted(table[one]["name"] for one in store.associations.get((key, kind), []))

    assert names(audit["id"], "notification_templates_error") == ["chat", "mail"]
    assert names(audit["id"], "notification_templates_success") == ["chat"]
    assert (names(audit["id"], "labels"), names(audit["id"], "instance_groups")) == (["keys"], ["dmz"])
    assert names(workflow, "notification_templates_approvals") == ["mail"]
    mail = store.one("notification_templates", name="mail", organization=1)["id"]
    assert store.associations[(workflow, "notification_templates_approvals")] == [mail]
    assert store.one("schedules")["enabled"] is False
    link = store.one("credential_input_sources")
    assert (link["source_credential"], link["metadata"]) == (vault, {"secret_path": "ops/multicart"})
    assert "password" not in ours(awx)["inputs"]
    awx.requests.clear()
    again = keep(fleet, awx, **given)
    assert again.green and not changed(again) and awx.writes == [], (again, awx.writes)
    off = {"notify_failure": [], "labels": [], "timeout": 0, "secret_sources": None, "schedules_enabled": True}
    done = keep(fleet, awx, **{**given, **off}, update_secrets=True)
    assert done.green and not store.select("credential_input_sources"), done
    assert (names(audit["id"], "notification_templates_error"), names(audit["id"], "labels")) == ([], [])
    assert names(audit["id"], "notification_templates_success") == ["chat"]
    assert (template(awx, "audit")["timeout"], store.one("schedules")["enabled"]) == (0, True)


def schedules(awx: Awx) -> list[str]:
    """Return what there is of schedules, each by its name and its template."""
    names = {key: one["name"] for key, one in awx.store.objects["job_templates"].items()}
    return sorted(f"{one['name']} of {names[one['unified_job_template']]}" for one in awx.store.select("schedules"))


def others_schedules(awx: Awx) -> list[str]:
    """Add schedules that are none of this role's, and one that an administrator has renamed; return what is to stay."""
    rule = {"rrule": WANTED["multicart_awx_rotate_rrule"]}
    (made,) = awx.store.select("schedules")
    made.update(name="Nightly", description=f"Do not touch! {made['description']}", enabled=False)
    due, audit = (template(awx, name)["id"] for name in ("rotate when due", "audit"))
    marks = ("", "[multicart.keys MultiCartAPI shop/rotate when due]", "[multicart.keys MultiCartAPI/rotate]")
    for number, mark in enumerate(marks):
        awx.store.add("schedules", name=f"Theirs {number}", description=mark, unified_job_template=due, **rule)
    same_name = "MultiCartAPI rotate when due"
    awx.store.add("schedules", name=same_name, description="Made by hand", unified_job_template=audit, **rule)
    awx.store.add("schedules", name=same_name, description="Made by hand", unified_job_template=due, **rule)
    return [one for one in schedules(awx) if not one.startswith("Nightly")]


@pytest.mark.full
def test_a_schedule_whose_rule_is_given_and_empty_is_removed_and_no_other(fleet: Fleet, stocked: Awx) -> None:
    """It once stayed, and went on rotating."""
    left = others_schedules(stocked)
    stocked.requests.clear()
    same = {"audit_rrule": None, "scm_branch": "main", "execution_environment": "keys", "access": ACCESS}
    done = keep(fleet, stocked, rotate_rrule="", **same)
    assert done.green and schedules(stocked) == left, done
    assert changed(done) == ["multicart.keys.multicart_awx : Remove the schedules that are no longer wanted"], done
    assert [request.method for request in stocked.writes] == ["DELETE"]


@pytest.mark.full
def test_schedules_come_and_go_with_their_rules(fleet: Fleet, stocked: Awx) -> None:
    both = ["MultiCartAPI audit of MultiCartAPI audit", "MultiCartAPI rotate when due of MultiCartAPI rotate when due"]
    awx = stocked
    awx.store.remove("workflow_job_templates", awx.store.one("workflow_job_templates", name="MultiCartAPI audit")["id"])
    assert keep(fleet, awx).green and schedules(awx) == both
    for unset in (None, "{{ none }}"):  # either is no rule that was given
        awx.requests.clear()
        done = keep(fleet, awx, rotate_rrule=unset, audit_rrule=None)
        assert done.green and awx.writes == [] and schedules(awx) == both, done
    check = keep(fleet, awx, "--check", rotate_rrule="", audit_rrule="")
    assert check.green and awx.writes == [] and schedules(awx) == both, check
    assert changed(check) == ["multicart.keys.multicart_awx : Remove the schedules that are no longer wanted"], check
    done = keep(fleet, awx, rotate_rrule="{{ '' }}", audit_rrule=WANTED["multicart_awx_rotate_rrule"])
    assert done.green and schedules(awx) == both[:1], done
    assert awx.store.one("schedules")["rrule"] == WANTED["multicart_awx_rotate_rrule"]
    assert keep(fleet, awx, rotate_rrule="", audit_rrule="").green and schedules(awx) == []
    awx.requests.clear()
    again = keep(fleet, awx, rotate_rrule="", audit_rrule="")
    assert again.green and not changed(again) and awx.writes == [], again


@pytest.mark.full
def test_absent_removes_what_the_role_made_and_nothing_else(fleet: Fleet, stocked: Awx) -> None:
    awx, store = stocked, stocked.store
    project = store.one("projects")["id"]
    given = {"name": "Theirs", "inventory": store.one("inventories", organization=1)["id"], "project": project}
    store.add("job_templates", **given, playbook="audit.yml")
    template(awx, "doctor")["description"] = "Made by somebody else"
    before = {path: set(table) for path, table in store.objects.items()}
    done = keep(fleet, awx, state="absent", inventory=None)
    assert done.green, done
    assert "MultiCartAPI: other templates use it" in done.output
    assert "MultiCartAPI doctor: this role did not make it" in done.output
    left = {path: set(table) for path, table in store.objects.items()}
    assert {one["name"] for one in store.select("job_templates")} == {"Theirs", "MultiCartAPI doctor"}
    assert {one["name"] for one in store.select("workflow_job_templates")} == {"MultiCartAPI audit"}
    assert project in left["projects"] and not left["schedules"] and not left["workflow_job_template_nodes"]
    assert {one["name"] for one in store.select("credential_types")} == {"Machine"}
    assert not [one for one in store.select("credentials") if one["inputs"]]
    for path in ("organizations", "inventories", "groups", "execution_environments"):
        assert left[path] == before[path]
