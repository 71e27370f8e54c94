# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows for the roles and playbooks: a fleet, its service, and its hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.harness import Host, Run, note
from tests.leaks.scenario import Act, Scenario
from tests.leaks.scenarios_tasks import VARIABLES, read, rotate
from tests.leaks.watched import Watched

TEMPLATE = '{"key": "{{ multicart_key }}"}\n'
OPEN = {
    "multicart_deploy_files": [{"path": "{{ home }}/app.env"}, {"path": "{{ home }}/app.json", "template": "app.j2"}]
}
# What a careless consumer does: its commands print the key, plain and in other forms, and then they fail.
CARELESS = "sh -c 'cat {{ home }}/app.env; { base64 -w0; rev; } < {{ home }}/app.env >&2; exit 3'"
Prepare = Callable[[Watched], Any]


def add(
    fleet: Watched, content: str | None = "{key}", template: str = TEMPLATE, name: str = "web1", **variables: Any
) -> Host:
    """Add a consumer with an environment file and a template of the user's own."""
    (fleet.folder / "app.j2").write_text(template)
    host = fleet.add(name, content, **{**OPEN, **variables})
    if content == "{key}":
        (host.folder / "app.json").write_text(TEMPLATE.replace("{{ multicart_key }}", fleet.live))
    return host


def rotates(prepare: Prepare = add, *arguments: str) -> Act:
    def act(fleet: Watched) -> Run:
        prepare(fleet)
        return fleet.rotate(*arguments)

    return act


def deploys(prepare: Prepare = add, *arguments: str) -> Act:
    def act(fleet: Watched) -> Run:
        prepare(fleet)
        return fleet.deploy(*arguments)

    return act


def provisions(prepare: Prepare) -> Act:
    """The role in a play of the user's own."""

    def act(fleet: Watched) -> Run:
        prepare(fleet)
        return fleet.play("[]", head="roles: [multicart.keys.multicart_deploy]")

    return act


def runs(playbook: str, prepare: Prepare = add) -> Act:
    def act(fleet: Watched) -> Run:
        prepare(fleet)
        return fleet.run(f"multicart.keys.{playbook}")

    return act


def spoilt(what: str) -> Act:
    """Something fails in a way that nobody expects, with secrets in the error's text."""

    def act(fleet: Watched) -> Run:
        add(fleet)
        fleet.env["LEAKS_SPOIL"] = what
        return fleet.rotate()

    return act


def both_roles(fleet: Watched) -> Run:
    add(fleet)
    head = "roles: [multicart.keys.multicart_rotate, multicart.keys.multicart_deploy]"
    return fleet.play("[]", "-e", "multicart_rotate_confirm=true", head=head)


def with_steps(**steps: Any) -> Prepare:
    return lambda fleet: add(fleet, "{key}", **steps)


def stale(fleet: Watched) -> None:
    """A host that holds a key that somebody else retired."""
    add(fleet)
    fleet.sandbox.rotate_behind(fleet.email)


def quoted(fleet: Watched) -> None:
    """A file whose readers would disagree about the key in it, and another host that holds the live key."""
    add(fleet, "MULTICART_API_KEY='{key}\nMULTICART_API_KEY=\"$X{key}\n")
    add(fleet, name="web2")


def binary(fleet: Watched) -> None:
    add(fleet, "MULTICART_API_KEY={key}\0\n")


def folder(fleet: Watched) -> None:
    add(fleet, None)
    fleet.hosts["web1"].env.mkdir()


def no_folder(fleet: Watched) -> None:
    add(fleet, None, multicart_deploy_files=[{"path": "{{ home }}/gone/app.env"}])


def gone(fleet: Watched) -> None:
    add(fleet)
    fleet.add_unreachable()


def no_python(fleet: Watched) -> None:
    add(fleet, ansible_python_interpreter="/nonexistent/python3")


def template(text: str) -> Prepare:
    return lambda fleet: add(fleet, None, template=text)


def full_disk(fleet: Watched) -> None:
    """A file system with no room left for another file."""
    host = add(fleet, None)
    fleet.mount(host.folder, "nr_inodes=2,size=8k")
    host.env.write_text(f"MULTICART_API_KEY=changeme\n{'#' * 4000}\n")


def killed_before(fleet: Watched) -> None:
    """What a run left that was killed after the rotation, on two hosts that confirm each other."""
    for name in ("web1", "web2"):
        add(fleet, name=name).edit_record(open=True, retire=fleet.live_fingerprint)
    fleet.sandbox.rotate_behind(fleet.email)


def key_for_fingerprint(fleet: Watched) -> None:
    add(fleet, multicart_rotate_retire=fleet.live)


def key_for_setting(name: str) -> Prepare:
    def prepare(fleet: Watched) -> None:
        add(fleet, **{name: fleet.live})

    return prepare


def key_in_files(fleet: Watched) -> None:
    add(fleet, "MULTICART_API_KEY={key}", multicart_deploy_files=[{"path": "{{ home }}/app.env", "value": fleet.live}])


FLEET = {
    # --- it goes well
    "rotate.yml": Scenario(rotates(with_steps(multicart_deploy_commands=[note("done")])), has="both", quick=True),
    "rotate.yml-by-login": Scenario(rotates(), has="login"),
    "rotate.yml-catches-up": Scenario(rotates(stale), "caught_up"),
    "rotate.yml-finishes": Scenario(rotates(killed_before)),
    "deploy.yml": Scenario(deploys(stale), quick=True),
    "deploy.yml-by-key": Scenario(deploys(lambda fleet: add(fleet, "changeme")), has="key"),
    "deploy-role": Scenario(provisions(lambda fleet: add(fleet, None)), quick=True),
    "both-roles": Scenario(both_roles),
    "audit.yml": Scenario(runs("audit")),
    "audit.yml-drift": Scenario(runs("audit", stale), "not_up_to_date", quick=True),
    "doctor.yml": Scenario(runs("doctor", stale), has="both", quick=True),
    # --- the API fails
    "rotate.yml-echo": Scenario(rotates(), "refused", (rotate("echo_secret"),), quick=True),
    "rotate.yml-read-echo": Scenario(rotates(), "refused", (read("echo_secret"),)),
    "rotate.yml-lost": Scenario(rotates(), None, (rotate("answer_lost_after_commit", 1),)),
    "rotate.yml-redirect": Scenario(
        rotates(), "redirect_refused", (read("redirect", to="https://{token}@127.0.0.1:1/{key}"),)
    ),
    "rotate.yml-malformed-key": Scenario(rotates(), "malformed_key", (read("key_malformed", value="{key}$(id)"),)),
    "rotate.yml-new-key-malformed": Scenario(
        rotates(), "new_key_unreadable", (read("key_malformed", value="{key}$(id)", after=2),)
    ),
    "rotate.yml-token-dies": Scenario(rotates(), "new_key_unreadable", settings={"tokens_die_with_rotation": True}),
    "deploy.yml-echo": Scenario(deploys(), "refused", (read("echo_secret"),)),
    "deploy.yml-html": Scenario(deploys(), "not_an_envelope", (read("html"),)),
    "doctor.yml-echo": Scenario(
        runs("doctor"), None, (read("echo_secret"), {"on": "login", "fault": "echo_secret", "times": -1}), has="both"
    ),
    "doctor.yml-malformed-key": Scenario(runs("doctor"), None, (read("key_newline"),)),
    # --- the hosts fail
    "careless-command": Scenario(
        rotates(with_steps(multicart_deploy_commands=[CARELESS])), "not_up_to_date", quick=True
    ),
    "careless-health": Scenario(
        deploys(with_steps(multicart_deploy_health_checks=[CARELESS])), "unhealthy", quick=True
    ),
    "careless-health-that-works": Scenario(
        rotates(with_steps(multicart_deploy_health_checks=[CARELESS.replace("exit 3", "exit 0")]))
    ),
    "ambiguous-file": Scenario(rotates(quoted), "not_ready", quick=True),
    "binary-file": Scenario(provisions(binary), "not_text"),
    "folder-for-a-file": Scenario(provisions(folder), "path_is_directory"),
    "no-folder": Scenario(rotates(no_folder), "not_up_to_date"),
    "full-disk": Scenario(provisions(full_disk), "no_space"),
    "unreachable-host": Scenario(deploys(gone), ""),
    "no-python": Scenario(deploys(no_python), "python_missing"),
    "template-undefined": Scenario(provisions(template("{{ multicart_key }} {{ nothing_of_it }}")), "invalid_option"),
    "template-that-quotes-the-key": Scenario(
        provisions(template("{{ {}[multicart_key].x }} {{ multicart_key | from_json }}")), "invalid_option", quick=True
    ),
    "template-that-raises-the-key": Scenario(provisions(template("{{ undef(hint=multicart_key) }}")), "invalid_option"),
    "template-that-raises-the-key-in-a-rotation": Scenario(
        rotates(lambda fleet: add(fleet, template="{{ undef(hint=multicart_key) }}")), "not_up_to_date"
    ),
    "template-of-bad-syntax": Scenario(provisions(template("{{ multicart_key ")), "invalid_option"),
    # --- the collection has a defect
    "request-raises": Scenario(spoilt("request ValueError"), "not_up_to_date", quick=True),
    "answer-raises": Scenario(spoilt("answer RecursionError"), "not_up_to_date"),
    "rotation-raises": Scenario(spoilt("rotation ValueError"), "internal_error"),
    "release-raises": Scenario(spoilt("release ValueError"), "internal_error", quick=True),
    "verification-raises": Scenario(spoilt("verification ValueError"), "internal_error", quick=True),
    # --- the user errs
    "key-for-a-fingerprint": Scenario(rotates(key_for_fingerprint), "invalid_option", shown=VARIABLES, quick=True),
    "key-for-a-time": Scenario(rotates(key_for_setting("multicart_timeout")), "invalid_option", shown=VARIABLES),
    "key-for-an-age": Scenario(rotates(key_for_setting("multicart_rotate_max_age")), "invalid_option", shown=VARIABLES),
    "key-for-the-hours": Scenario(
        rotates(key_for_setting("multicart_rotate_allowed_hours")), "invalid_option", shown=VARIABLES
    ),
    "key-for-the-metrics": Scenario(
        rotates(key_for_setting("multicart_report_metrics")), "invalid_option", shown=VARIABLES
    ),
    "key-for-an-account": Scenario(rotates(key_for_setting("multicart_account")), "no_consumers", shown=VARIABLES),
    "key-in-the-list-of-files": Scenario(provisions(key_in_files), "", shown=VARIABLES),  # core's check of arguments
}
