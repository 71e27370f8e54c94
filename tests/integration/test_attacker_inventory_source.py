# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An attacker who writes to an inventory source, such as the tags of machines in a cloud.

They choose the names of hosts and groups, and variables of hosts, with Jinja in them: Ansible evaluates these on the
control node, so that who may write variables there may run anything. A variable of the play's first host is one of
the run, as for every task that runs once. The harm is bounded for names, and for credentials of the environment.

What must not happen: a name is evaluated as a template, obeyed by a browser, taken for an option of ssh, or leads a
file of the control node elsewhere; two names that look alike share what is known of one; a variable sends a credential
of the environment to another server, makes a run rotate twice, or adds a host to those whom the run is about.

Others of these attacks: variables with wrong values in test_wrong_input.py and test_host_vars.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Fleet, Run
from tests.integration.test_seams import refused

NAMES = {
    "markup": "<script>alert(1)</script>",
    "attribute": 'web" onload="alert(1)',
    "escapes": "web\x1b[31m\x1b]0;title\x07",
    "template": "{{ lookup('ansible.builtin.pipe', 'touch ' + playbook_dir + '/ran') }}",
    "statement": "{% for x in range(9) %}web{% endfor %}",
    "parent": "..",
    "path": "../../../../tmp/multicart-name",
    "option": "-oProxyCommand=touch ran",
    "long": "w" * 250,
    "spaces": "web 1  2",
    "looks alike": "wеb1",  # with a Cyrillic letter
    "separator": "web\u2028line",
    "quote": "web'1\"",
    "dollar": "$(touch ran)`touch ran`",
}


def most_in_full(cases: Iterable[str], *always: str) -> list[Any]:
    """Return the cases as parameters; only a few of them are for every run."""
    return [case if case in always else pytest.param(case, marks=pytest.mark.full) for case in cases]


@pytest.mark.parametrize("case", most_in_full(NAMES, "markup", "template", "option"))
def test_a_host_may_have_any_name(fleet: Fleet, case: str) -> None:
    """It is served as any other is, or refused; nothing of it is obeyed by anybody."""
    name = NAMES[case]
    fleet.variables["home"] = "{{ folder }}"
    fleet.variables["multicart_report_dir"] = "{{ playbook_dir }}/reports"
    for number, each in enumerate((name, "web1", "web2")):
        folder = fleet.folder / "hosts" / f"h{number}"
        host = fleet.add(f"h{number}", folder=str(folder))
        fleet.hosts[each] = fleet.hosts.pop(f"h{number}")
        host.name = each
    text = "- hosts: multicart_consumers\n  gather_facts: false\n  roles: [multicart.keys.multicart_rotate]"
    run = fleet.playbook(text, "-e", "multicart_rotate_confirm=true")
    assert run.reason != "internal_error", run
    assert not list(fleet.folder.rglob("ran")) and not Path("/tmp/multicart-name").exists()
    assert "\x1b" not in _ours(run), run
    assert fleet.rotations <= 1, run
    if fleet.rotations:
        assert fleet.stale in ([], [name]), run
    assert not run.green or not run.tasks or (fleet.rotations, fleet.stale) == (1, []), run
    for page in fleet.folder.rglob("*.html"):
        shown = page.read_text()
        assert "<script>alert" not in shown and 'onload="alert' not in shown and "\x1b" not in shown
    for report in (fleet.folder / "reports").rglob("*.json"):
        assert json.loads(report.read_text())


def _ours(run: Run) -> str:
    """Return what the collection has shown: its progress, and its results."""
    lines = [line for line in run.output.splitlines() if line.startswith("  ") and "=>" not in line]
    return "\n".join([*lines, run.message])


ELSEWHERE = "http://127.0.0.1:9/api/v1"
VARIABLES: dict[str, tuple[dict[str, Any], str | None]] = {
    # variables of one host: what becomes of a rotation; None: they change nothing of it
    "url": ({"multicart_api_url": ELSEWHERE}, None),
    "token": ({"multicart_session_token": "an0therT0kenOfSomebodyElse"}, None),
    "certificates": ({"multicart_validate_certs": False}, None),
    "confirmation": ({"multicart_rotate_force": True, "multicart_rotate_max_age": "0s"}, None),
    "retire": ({"multicart_rotate_retire": "0" * 16}, None),
    "hosts": ({"multicart_hosts": "all"}, "hosts_differ"),
    "account": ({"multicart_account": "other"}, None),
}


@pytest.mark.parametrize("first", [True, pytest.param(False, marks=pytest.mark.full)], ids=["first host", "last host"])
@pytest.mark.parametrize("case", most_in_full(VARIABLES, "url", "hosts"))
def test_variables_of_one_host_are_not_the_runs(fleet: Fleet, case: str, first: bool) -> None:
    variables, reason = VARIABLES[case]
    evil, good = ("a", "b") if first else ("b", "a")
    fleet.add(evil, **variables)
    fleet.add(good)
    run = fleet.rotate()
    assert run.reason != "internal_error", run
    if reason is not None:
        refused(fleet, run, reason)
    elif run.green:
        assert (fleet.rotations, fleet.stale) == (1, []), run
    else:  # what differs between the hosts of one run is refused before anything is changed
        refused(fleet, run)


def test_a_group_that_an_inventory_source_makes_is_not_consumed_unasked(fleet: Fleet) -> None:
    """A host that is put into the group is a consumer; one that only says so by a variable is none."""
    fleet.add("web1")
    fleet.add("db1", multicart_hosts="multicart_consumers")
    fleet.groups["multicart_consumers"] = ["web1"]
    before = fleet.hosts["db1"].env.read_text()
    run = fleet.rotate()
    assert run.green and fleet.rotations == 1, run
    assert fleet.hosts["db1"].env.read_text() == before
