# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command that finishes a run: complete where it can be, harmless in a shell, and without a secret."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.splitter import parse_kv
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet import next_command as rerun
from hypothesis import given, settings
from hypothesis import strategies as st

CANARY = "Zq8vTn3kWx"


def started(*arguments: str, **variables: str) -> rerun.Invocation:
    """Return how Ansible understands a command line."""
    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    found = vars(cli.parser.parse_args(arguments))
    defaults = {name: cli.parser.get_default(name) for name in rerun.OPTIONS}
    extra = rerun.names_of(found["extra_vars"] or (), parse_kv)
    return rerun.Invocation({name: found[name] for name in rerun.OPTIONS}, defaults, variables, extra)


def test_the_hosts_are_named_and_the_options_that_matter_repeated() -> None:
    how = started(
        *("multicart.keys.rotate", "-i", "a b.yml", "-i", "more/", "-b", "--become-user", "root", "-f", "30", "-J"),
        *("--vault-id", "ops@prompt", "--private-key", "/k", "-e", "multicart_hosts=web:!web7", "-e", "@/file.yml"),
        *("-e", "multicart_rotate_confirm=true", "-e", f"multicart_password={CANARY}"),
        *("--ssh-common-args", f"-o ProxyCommand='sshpass -p {CANARY}'"),
        multicart_hosts="web:!web7",
        multicart_rotate_confirm="true",
    )
    again = rerun.deploy(how, ["web1", "web2"])
    assert shlex.split(again.command) == [
        *("ansible-playbook", "-i", "a b.yml", "-i", "more/", "multicart.keys.deploy", "--private-key", "/k"),
        *("--forks", "30", "--become", "--become-user", "root", "--vault-id", "ops@prompt", "--ask-vault-password"),
        *("--limit", "web1,web2", "-e", "multicart_hosts=web:!web7", "-e", "@/file.yml"),
    ]
    assert list(again.give_again) == ["-e multicart_password=…", "--ssh-common-args"]
    assert CANARY not in str(again)


def test_the_same_again_keeps_what_was_asked_of_the_rotation() -> None:
    how = started(
        *("site.yml", "-l", "web", "-e", "multicart_rotate_confirm=true multicart_rotate_max_age=30d"),
        multicart_rotate_confirm="true",
        multicart_rotate_max_age="30d",
    )
    assert shlex.split(rerun.again(how).command) == [
        *("ansible-playbook", "site.yml", "--limit", "web"),
        *("-e", "multicart_rotate_confirm=true", "-e", "multicart_rotate_max_age=30d"),
    ]


def test_many_hosts_and_names_that_are_patterns_are_not_listed() -> None:
    how = started("x.yml")
    for hosts in (
        [f"web{number}" for number in range(rerun.MANY)],
        ["web1", "!all"],
        ["a,b"],
        ["@file"],
        ["~x"],
        ["-x"],
    ):
        assert rerun.deploy(how, hosts).command == "ansible-playbook multicart.keys.deploy"


def test_a_variable_that_is_not_shaped_as_it_should_be_is_not_repeated() -> None:
    how = started("x.yml", "-e", "multicart_deploy_account=x", multicart_deploy_account="a b\nc")
    assert rerun.deploy(how, []).command == "ansible-playbook multicart.keys.deploy"
    assert list(rerun.deploy(how, []).give_again) == ["-e multicart_deploy_account=…"]


def test_what_is_given_again_is_taken_as_given() -> None:
    """Every option that is repeated is one that ansible-playbook has, and means the same."""
    how = started("x.yml", "-i", "inv", "-u", "me", "-c", "ssh", "-T", "9", "-K", "-k", "--become-method", "su")
    parsed = started(*shlex.split(rerun.again(how).command)[1:])
    assert parsed.options == how.options


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(min_size=1), max_size=4), st.text(), st.lists(st.text(), max_size=3))
def test_whatever_was_given_no_shell_sees_more_than_words(names: list[str], limit: str, extra: list[str]) -> None:
    how: dict[str, Any] = {"args": (limit,), "subset": limit, "inventory": tuple(names), "become": True}
    invocation = rerun.Invocation(how, extra=rerun.names_of(extra, parse_kv))
    for found in (rerun.deploy(invocation, names), rerun.again(invocation)):
        assert shlex.split(found.command)[0] == "ansible-playbook"
        assert shlex.join(shlex.split(found.command)) == found.command


@settings(deadline=None, max_examples=30)
@given(st.text(), st.text(alphabet="\"'{}[]=,: \\\n", max_size=6))
def test_of_extra_variables_only_names_are_told(before: str, noise: str) -> None:
    for text in (
        f"name={CANARY}{noise}",
        f"{noise}name='{CANARY} {before}",
        f"{{{noise}: {CANARY}",
        f"{CANARY} {noise}",
    ):
        told = rerun.names_of([text], parse_kv)
        assert CANARY not in "".join(told)
