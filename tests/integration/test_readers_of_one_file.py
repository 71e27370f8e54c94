# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several programs that read one file: each gets its restart, once."""

from __future__ import annotations

import json

from tests.integration.harness import Fleet, note


def test_t16_two_roles_that_share_a_file_restart_their_own_programs_once_each(fleet: Fleet) -> None:
    host = fleet.add("web1", content="# no key yet\nA=1\n")
    role = "- ansible.builtin.include_role: {{name: multicart.keys.multicart_deploy}}\n  vars: {{{vars}}}\n"

    def commands(word: str) -> str:
        return role.format(vars=f"multicart_deploy_commands: [{json.dumps(note(word))}]")

    both = commands("first") + commands("second")
    assert fleet.play(both).green
    assert sorted(host.log) == ["first", "second"]
    assert fleet.play(both).green
    assert sorted(host.log) == ["first", "second"]
    # A new reader runs with whatever it was started with: nobody knows.
    assert fleet.play(both + commands("third")).green
    assert sorted(host.log) == ["first", "second", "third"]
    fleet.sandbox.rotate_behind(fleet.email)
    for _run in (1, 2):
        assert fleet.play(both + commands("third")).green
        assert sorted(host.log) == sorted(["first", "second", "third"] * 2)


def test_t16_two_hosts_that_share_a_file_restart_their_own_programs_once_each(fleet: Fleet) -> None:
    shared = fleet.folder / "hosts" / "shared"
    shared.mkdir(parents=True)
    (shared / "app.env").write_text("A=1\n")
    for name in ("web1", "web2"):
        host = fleet.add(name, content=None, multicart_deploy_files=[{"path": str(shared / "app.env")}])
        host.variables["multicart_deploy_commands"] = [note(name)]
    role = "- ansible.builtin.include_role: {name: multicart.keys.multicart_deploy}"
    for _run in (1, 2):
        run = fleet.play(role, head="serial: 1")
        assert run.green, run
        assert {name: host.log for name, host in fleet.hosts.items()} == {"web1": ["web1"], "web2": ["web2"]}
    fleet.sandbox.rotate_behind(fleet.email)
    for _run in (1, 2):
        assert fleet.play(role, head="serial: 1").green
        assert {name: host.log for name, host in fleet.hosts.items()} == {"web1": ["web1"] * 2, "web2": ["web2"] * 2}
