# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next safe command: it names what it may, and harms no shell."""

from __future__ import annotations

import shlex

import pytest
from ansible.cli.playbook import PlaybookCLI
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.next_command import MANY, again, deploy, rotate
from hypothesis import given
from hypothesis import strategies as st

AGAIN = " (with the same -i and -e options)"
RETIRE = "0123456789abcdef"


def command(advice: str) -> str:
    """Return the command of an advice, without what is said of it."""
    assert advice.endswith(AGAIN)
    return advice[: -len(AGAIN)]


def test_the_hosts_are_named_where_they_are_few() -> None:
    assert command(deploy(["web1", "web-2.example.com"])) == (
        "ansible-playbook multicart.keys.deploy --limit web1,web-2.example.com"
    )
    assert command(deploy()) == "ansible-playbook multicart.keys.deploy"
    few = [f"web{number}" for number in range(MANY - 1)]
    assert ",".join(few) in deploy(few)


@pytest.mark.parametrize(
    "hosts",
    [
        [f"web{number}" for number in range(MANY)],
        *(["web1", name] for name in ("!all", "a,b", "a:b", "@file", "~x", "-x", "web*", "web[1]", "", "a b", "a\n")),
    ],
)
def test_many_hosts_and_names_that_are_patterns_are_not_named(hosts: list[str]) -> None:
    assert command(deploy(hosts)) == "ansible-playbook multicart.keys.deploy"


def test_a_command_that_names_the_key_to_retire_rotates_no_other() -> None:
    assert command(rotate(RETIRE)) == f"{command(rotate())} -e multicart_rotate_retire={RETIRE}"


@given(st.lists(st.text(min_size=1, max_size=6), max_size=4))
def test_whatever_hosts_are_called_no_shell_sees_more_than_words(hosts: list[str]) -> None:
    words = shlex.split(command(deploy(hosts)))
    assert shlex.join(words) == command(deploy(hosts))
    assert words[:2] == ["ansible-playbook", "multicart.keys.deploy"]
    assert words[2:] in ([], ["--limit", ",".join(hosts)])


@pytest.mark.parametrize("advice", [deploy(["web1"]), rotate(), rotate(RETIRE)])
def test_ansible_understands_the_command(advice: str) -> None:
    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    name, *arguments = shlex.split(command(advice))
    options = cli.parser.parse_args(arguments)
    assert name == "ansible-playbook"
    assert options.args == ["multicart.keys.deploy" if "deploy" in advice else "multicart.keys.rotate"]


def test_a_rotation_is_confirmed_and_one_that_is_repeated_names_its_key() -> None:
    assert "-e multicart_rotate_confirm=true" in rotate()
    assert again(RETIRE) == f"the same command again, and -e multicart_rotate_retire={RETIRE}"
    assert again(None) == "the same command again"
