# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker who is root on one managed host of a fleet.

They may answer to each question whatever they like, and that in any form: floods, endless output, what a terminal
obeys, facts of every name, files that nobody asked about, records that say what they like; and never answer at all.

What must not happen: another host hears, gets or is refused anything for it; a fact or an answer sets an option, a
path, a URL or a template; a file or a secret of the control node, or a key that this host is not to have, reaches them;
the run waits for ever, or fills the memory; what a terminal or Jinja obeys is shown as it came; the host's own failure
is called a defect of the collection; the run is green for a host that is not.

Others of these attacks: what a record may say in test_plan.py, and hosts that hang or answer late in
tests/faults/test_hung_hosts.py and test_session.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Fleet, Host, Run
from tests.integration.hostile import make_hostile, tell_facts
from tests.integration.listener import Listener
from tests.integration.test_seams import CONFIRMED, hold, refused
from tests.rows import every_other, mostly, spread

# --- T18: answers that are malformed ----------------------------------------------------------------

MALFORMED: dict[str, dict[str, Any]] = {
    "files_is_a_number": {"with": {"files": 5}},
    "file_is_empty": {"with": {"files": [{}]}},
    "holds_is_nested": {"with": {"files": [{"holds": [[]]}]}},
    "no_object": {"text": "[]"},
    "null": {"text": "null"},
    "no_json": {"text": "{"},
    "number_too_large": {"text": '{"files": 1e999}'},
    "not_a_number": {"text": '{"files": NaN, "at": NaN}'},
    "deep": {"text": "[" * 100_000},
    "deep_objects": {"text": '{"a":' * 900 + "1" + "}" * 900},
    "too_many_files": {"with": {"files": [{}] * 5000}},
    "too_many_problems": {"with": {"problems": [{"reason": "x", "text": "x"}] * 5000}},
    "problem_without_reason": {"with": {"problems": [{"text": "x"}]}},
    "reason_is_markup": {"with": {"problems": [{"reason": "<b>\x1b[31m", "text": "x"}]}},
    "lacking_is_an_object": {"with": {"lacking": [{}]}},
    "changed_is_a_text": {"with": {"changed": "yes"}},
    "record_of_another_form": {"with": {"files": [{"record": {"format": 1, "open": "yes"}}]}},
    "time_is_a_text": {"with": {"at": "now"}},
    "surrogates": {"text": '{"files": [{"holds": ["\\ud800"]}]}'},
    "endless": {"text": "x" * 6_000_000},
}
# What some of these say in a form that is allowed; it is believed of that host alone.
ALLOWED = {"file_is_empty", "time_is_a_text"}


CAME_LATE = ["files_is_a_number", "holds_is_nested", "no_json", "deep_objects"]
LATER = ["prepare", "deploy", "close", "conclude"]


@pytest.mark.parametrize("case", every_other(MALFORMED))
def test_t18_a_malformed_answer_makes_that_host_red_and_no_other(fleet: Fleet, case: str) -> None:
    fleet.add_many(3)
    liar = fleet.hosts["web2"]
    make_hostile(fleet, liar, {"inspect": MALFORMED[case]})
    audit = fleet.audit()
    assert audit.reason != "internal_error", audit
    told = {name: words for name, words in audit.states.items() if name != "web2"}
    assert told == {"web1": "up to date", "web3": "up to date"}, audit
    assert case in ALLOWED or [task.host for task in audit.failures] == ["web2"], audit
    run = fleet.rotate()
    assert run.reason != "internal_error", run
    if case in ALLOWED:
        assert {"web1", "web3"}.isdisjoint(fleet.stale), run
        return
    refused(fleet, run)
    assert "web2" in run.message and "\x1b" not in run.output


@pytest.mark.parametrize(
    ("case", "phase", "over"),
    mostly(
        CAME_LATE,
        LATER,
        ["ssh", "local"],
        but=lambda case, phase, over: (
            CAME_LATE.index(case) == LATER.index(phase) and (over == "ssh") == (phase in ("prepare", "close"))
        ),
    ),
)
def test_t18_whenever_it_comes(fleet: Fleet, phase: str, case: str, over: str) -> None:
    fleet.add("web1")
    liar = fleet.add("web2", **(fleet.over_ssh() if over == "ssh" else {}))
    make_hostile(fleet, liar, {phase: MALFORMED[case]})
    run = fleet.rotate()
    hold(fleet, run)
    assert not run.green, run
    assert fleet.rotations == int(phase != "prepare")
    assert run.own["web1"]["state"] == "up_to_date" and "web1" not in fleet.stale, run
    assert run.own["web2"].status == "failed", run


@pytest.mark.parametrize("case", ["files_is_a_number", "holds_is_nested", "no_json", "null"])
def test_t18_in_a_deployment(fleet: Fleet, case: str) -> None:
    for name in ("web1", "web2"):
        fleet.add(name, "changeme")
    for phase in ("inspect", "deploy", "close"):
        make_hostile(fleet, fleet.hosts["web1"], {phase: MALFORMED[case]})
        run = fleet.deploy()
        assert [task.host for task in run.failures] == ["web1"], run
        assert run.reason != "internal_error", run
    assert "web2" not in fleet.stale


# --- X1, X2: what a host says ------------------------------------------------------------------------


def loot(host: Host) -> Path:
    return host.folder / "loot"


def names_of_ours(fleet: Fleet, evil: Host, listener: Listener) -> dict[str, Any]:
    """Return facts that set everything that a variable of this collection can set."""
    return {
        "multicart_deploy_files__x": [{"path": str(loot(evil)), "template": "/proc/self/environ"}],
        "multicart_deploy_files": [{"path": str(loot(evil)), "template": str(fleet.folder / "hosts" / "secret")}],
        "multicart_deploy_commands": [f"touch {fleet.folder}/ran"],
        "multicart_api_url": listener.url,
        "multicart_rotate_force": True,
        "multicart_rotate_confirm": True,
        "multicart_rotate_retire": "0" * 16,
        "multicart_report_dir": str(fleet.folder / "written"),
        "multicart_hosts": "all",
        "multicart_account": "other",
    }


WAYS = ["answer", "setup", "module", "cache", "gathered_before"]


def said_by(fleet: Fleet, evil: Host, facts: Mapping[str, Any], way: str) -> tuple[str, str, dict[str, str]]:
    """Let a host say facts in one of the ways there are.

    :return: head and tasks of a play in which it does, and its environment.
    """
    tasks, head, env = "", "", {}
    if way == "answer":
        said = {"ansible_facts": facts, "add_host": {"host_name": "web9"}, "_ansible_facts_gathered": True, **facts}
        phases = ("inspect", "prepare", "deploy", "close", "conclude")
        make_hostile(fleet, evil, {phase: {"with": said} for phase in phases})
    elif way == "setup":
        make_hostile(fleet, evil, {"module": {"ansible_facts": facts, "changed": False}})
        # Without the environment: these hosts have the control node's, with the token in it.
        head = "gather_facts: true\ngather_subset: ['!all', '!min', platform]"
    elif way == "module":
        tasks = tell_facts(fleet, facts, evil.name)
    else:
        folder = fleet.folder / "hosts" / "facts"
        env = {"ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder)}
        filled = fleet.play(tell_facts(fleet, facts, evil.name), env=env, revealed=True)
        assert filled.green, filled
        if way == "gathered_before":
            head = "gather_facts: true\ngather_subset: ['!all', '!min', platform]"
            env["ANSIBLE_GATHERING"] = "smart"
    return head, tasks, env


def run_all(fleet: Fleet, head: str, tasks: str, env: dict[str, str], *arguments: str) -> list[Run]:
    """Run each role, and the playbooks, on hosts of which one lies."""
    runs = []
    for role in ("rotate", "deploy"):
        roles = f"- import_role: {{name: multicart.keys.multicart_{role}}}"
        runs.append(fleet.play(f"{tasks}\n{roles}", *CONFIRMED, *arguments, head=head, env=env))
    if env:  # what is in a cache is there for every playbook
        runs += [
            fleet.run(f"multicart.keys.{name}", *CONFIRMED, *arguments, env=env)
            for name in ("rotate", "deploy", "audit", "doctor")
        ]
    assert all(run.tasks for run in runs), "a play did not start"
    return runs


@pytest.mark.parametrize(
    ("credentials", "way", "place"),
    mostly(
        ["environment", "variables"],
        WAYS,
        ["first-host", "last-host"],
        but=lambda credentials, way, place: (
            (credentials, place) == ("environment", "first-host")
            or (credentials, place, way) == ("variables", "last-host", "module")
        ),
    ),
)
def test_x1_x2_facts_set_no_option_no_path_and_no_url(
    fleet: Fleet, listener: Listener, way: str, place: str, credentials: str
) -> None:
    (fleet.folder / "hosts").mkdir()
    (fleet.folder / "hosts" / "secret").write_text("a file of the control node")
    evil = fleet.add("evil" if place == "first-host" else "zealot")
    fleet.add("good")
    if credentials == "variables":
        fleet.variables["multicart_session_token"] = (
            "{{ lookup('ansible.builtin.env', 'SHOP_TOKEN') }}"  # bound to no URL, as one in the environment is
        )
        fleet.env["SHOP_TOKEN"] = fleet.env.pop("MULTICART_SESSION_TOKEN")
    facts = names_of_ours(fleet, evil, listener)
    runs = run_all(fleet, *said_by(fleet, evil, facts, way))
    for run in runs:
        assert run.reason != "internal_error", run
    assert listener.heard == []
    assert not loot(evil).exists(), "a file of the control node has arrived on a host"
    assert not (fleet.folder / "ran").exists() and not (fleet.folder / "written").exists()
    if way != "answer":  # there they are facts, and those of that host alone are refused
        assert fleet.rotations == 0, runs[0]
        assert runs[0].reason in ("not_ready", "not_prepared"), runs[0]
        assert "Its facts set multicart_" in runs[0].message, runs[0]
        assert "good" not in {task.host for task in runs[1].failures}, runs[1]
        assert evil.name in {task.host for task in runs[1].failures}, runs[1]
    else:
        assert all(run.green for run in runs) and (fleet.rotations, fleet.stale) == (1, []), runs[0]


SHADOWED: dict[str, dict[str, Any]] = {
    # what the inventory says, and which of its own variables a fact shadows there
    "url": {"multicart_api_url": "{{ api_base }}"},
    "url_by_hostvars": {"multicart_api_url": "{{ hostvars[inventory_hostname].api_base }}"},
    "url_by_hostvars_of_another": {"multicart_api_url": "{{ hostvars['zealot'].api_base }}"},
    "url_by_vars": {"multicart_api_url": "{{ vars.api_base }}"},
    "url_by_lookup": {"multicart_api_url": "{{ lookup('ansible.builtin.vars', 'api_base') }}"},
    "url_by_facts": {"multicart_api_url": "{{ ansible_facts.api_base | default(api_base) }}"},
}


@pytest.mark.parametrize(
    ("place", "case", "way"),
    mostly(
        ["liar-last", "liar-first"],
        SHADOWED,
        ["setup", "module", "cache"],
        but=lambda place, case, way: (
            (way == "module" and place == "liar-first")
            or (place, case, way) == ("liar-first", "url_by_hostvars_of_another", "cache")
            or (place, case, way) == ("liar-last", "url", "module")
        ),
    ),
)
def test_x2_a_fact_that_shadows_what_the_url_refers_to_sends_no_credential_elsewhere(
    fleet: Fleet, listener: Listener, way: str, case: str, place: str
) -> None:
    for name in ["good", "zealot"] if place == "liar-last" else ["aaa", "zealot"]:
        fleet.add(name)
    evil = fleet.hosts["zealot" if place == "liar-last" else "aaa"]
    fleet.variables.update(api_base=fleet.env.pop("MULTICART_API_URL"), **SHADOWED[case])
    fleet.variables["multicart_session_token"] = "{{ lookup('ansible.builtin.env', 'SHOP_TOKEN') }}"
    fleet.env["SHOP_TOKEN"] = fleet.env.pop("MULTICART_SESSION_TOKEN")
    runs = run_all(fleet, *said_by(fleet, evil, {"api_base": listener.url}, way))
    assert listener.heard == [], "a credential was sent elsewhere"
    for run in runs:
        assert run.reason != "internal_error", run
    asked = sum("multicart_rotate_confirm" in run.command and run.outcome == "rotated" for run in runs)
    # With a cache, the playbook is run besides the role.
    assert fleet.rotations == asked <= (2 if way == "cache" else 1)


@pytest.mark.parametrize(("way", "case"), spread(["setup", "module", "cache"], ["variable", "hostvars", "whole"]))
def test_x1_a_fact_that_shadows_what_a_template_refers_to_brings_no_file_to_its_host(
    fleet: Fleet, way: str, case: str
) -> None:
    good = fleet.folder / "good"
    good.mkdir()
    (good / "app.j2").write_text("KEY={{ multicart_key }}\n")
    secret = fleet.folder / "hosts" / "secret"
    evil = fleet.add("evil")
    fleet.add("good")
    secret.mkdir()
    (secret / "app.j2").write_text("a file of the control node {{ multicart_key }}\n")
    template = {
        "variable": "{{ templates }}/app.j2",
        "hostvars": "{{ hostvars['evil'].templates }}/app.j2",
        "whole": "{{ templates }}",
    }[case]
    fleet.variables["templates"] = str(good / "app.j2" if case == "whole" else good)
    for host in fleet.hosts.values():
        host.variables["multicart_deploy_files"] = [{"path": "{{ home }}/loot", "template": template}]
    facts = {"templates": str(secret / "app.j2" if case == "whole" else secret)}
    runs = run_all(fleet, *said_by(fleet, evil, facts, way))
    for host in fleet.hosts.values():
        text = loot(host).read_text() if loot(host).exists() else ""
        assert "control node" not in text, f"{host.name} got a file that a host has chosen: {runs}"
    for run in runs:
        assert run.reason != "internal_error", run


def test_x1_a_host_cannot_speak_for_another(fleet: Fleet) -> None:
    """Its record is believed of it alone, however it looks; see T14."""
    fleet.add_many(3)
    old, live = "0" * 16, fleet.live_fingerprint
    record = {
        "format": 1,
        "account": None,
        "open": True,
        "rotation": {"retire": old, "concluded": False},
        "held": live,
        "since": "1970-01-01T00:00:00Z",
        "digest": None,
        "readers": {"any": live},
        "retired": [{"key": live, "seen": "rejected", "at": None, "accepted": True}],
        "updated_at": ["2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"],
    }
    file = {"path": "/etc/shadow", "variable": "web1", "held": [], "holds": [live], "record": record}
    make_hostile(fleet, fleet.hosts["web2"], {"inspect": {"with": {"files": [file]}}})
    for arguments in ((), ("-e", "multicart_rotate_max_age=30d")):
        before = fleet.rotations
        run = fleet.rotate(*arguments)
        assert run.reason != "internal_error" and "/etc/shadow" not in run.output, run
        assert "web1" not in fleet.stale and "web3" not in fleet.stale, run
        # A rotation that was asked for takes place; one that is due by age does not because one host says so.
        assert fleet.rotations - before == (0 if arguments else 1), run


def test_x2_the_report_of_a_run_goes_where_the_control_node_says(fleet: Fleet, listener: Listener) -> None:
    """A host that is the first of the play decides nothing, whatever its inventory and its facts have in common."""
    evil = fleet.add("a")
    fleet.add("b")
    facts = {"reports": str(fleet.folder / "elsewhere")}
    fleet.variables["multicart_report_dir"] = "{{ reports }}"
    fleet.variables["reports"] = str(fleet.folder / "here")
    head, tasks, env = said_by(fleet, evil, facts, "module")
    run = fleet.play(
        f"{tasks}\n- import_role: {{name: multicart.keys.multicart_rotate}}", *CONFIRMED, head=head, env=env
    )
    assert not (fleet.folder / "elsewhere").exists(), run
    hold(fleet, run)
