# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is used of ansible-core without being documented is there, by name, and does what it is used for."""

from __future__ import annotations

import inspect
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ansible.template
import pytest
from ansible import constants, context
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.playbook.play import Play
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible.plugins.become import BecomeBase
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.connection.ssh import Connection as Ssh
from ansible.plugins.loader import become_loader, connection_loader, init_plugin_loader, shell_loader
from ansible.plugins.shell import ShellBase
from ansible.release import __version__
from ansible.template import Templar
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._controller import consumers, internals
from ansible_collections.multicart.keys.plugins.plugin_utils._controller.links import link_to
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import spec_of
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.session import Session

# --- names and parameters -------------------------------------------------------------------------

USED: list[tuple[Any, str, list[str]]] = [
    (Ssh, "_send_initial_data", ["self", "fh", "in_data", "ssh_process"]),
    (ActionBase, "_low_level_execute_command", ["self", "cmd", "in_data="]),
    (ActionBase, "_make_tmp_path", ["self"]),
    (ActionBase, "_transfer_data", ["self", "remote_path", "data"]),
    (ActionBase, "_fixup_perms2", ["self", "remote_paths"]),
    (ActionBase, "_remove_tmp_path", ["self", "tmp_path", "force="]),
    (ActionBase, "_compute_environment_string", ["self"]),
    (ActionBase, "_is_pipelining_enabled", ["self", "module_style"]),
    (
        ActionBase,
        "__init__",
        ["self", "task", "connection", "play_context", "loader", "templar", "shared_loader_obj"],
    ),
    (ConnectionBase, "set_become_plugin", ["self", "plugin"]),
    (ConnectionBase, "set_option", ["self", "option", "value"]),
    (ConnectionBase, "get_option_and_origin", ["self", "option", "hostvars="]),
    (ShellBase, "join_path", ["self", "*args"]),
    (VariableManager, "get_vars", ["self", "play=", "host=", "task=", "include_hostvars="]),
    (InventoryManager, "get_hosts", ["self", "pattern=", "ignore_limits=", "ignore_restrictions="]),
    (InventoryManager, "get_host", ["self", "hostname"]),
    (HostVars, "raw_get", ["self", "host_name"]),
    (HostVars, "__init__", ["self", "inventory", "variable_manager", "loader"]),
    (Task, "get_play", ["self"]),
    (Templar, "copy_with_new_env", ["self", "available_variables="]),
    (Templar, "template", ["self", "variable"]),
    (type(constants.config), "get_config_value", ["self", "config", "variables="]),
    (type(constants.config), "get_config_value_and_origin", ["self", "config"]),
]


@pytest.mark.parametrize(("owner", "name", "wanted"), USED, ids=lambda value: str(getattr(value, "__name__", value)))
def test_it_is_called_as_it_is_defined(owner: Any, name: str, wanted: list[str]) -> None:
    function = getattr(owner, name, None)
    assert function is not None, f"ansible-core has no {owner.__name__}.{name} any more"
    found = inspect.signature(function).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in found.values())
    positional = [each for each in wanted if not each.endswith("=") and not each.startswith("*")]
    by_name = [each[:-1] for each in wanted if each.endswith("=")]
    told = f"{owner.__name__}.{name}{inspect.signature(function)} of ansible-core is not what is called here"
    assert list(found)[: len(positional)] == positional, told
    assert takes_all or set(by_name) <= set(found), told
    named = {*positional, *by_name}
    required = [each.name for each in found.values() if each.default is each.empty and each.name not in named]
    assert not [each for each in required if found[each].kind is found[each].POSITIONAL_OR_KEYWORD], told


def test_the_ssh_plugin_hands_its_open_pipes_to_the_method_that_is_replaced() -> None:
    source = Path(inspect.getfile(Ssh)).read_text(encoding="utf-8").split("def _bare_run(")[1]
    assert source.count("self._send_initial_data(stdin, in_data, p)") == 2, "the plugin sends its input otherwise now"
    assert re.search(r"stdin = p\.stdin\b", source) and "p.stdout" in source and "p.stderr" in source


def test_hostvars_know_inventory_and_variables() -> None:
    source = inspect.getsource(HostVars.__init__)
    for name in ("_inventory", "_variable_manager"):
        assert f"self.{name} = {name[1:]}" in source, f"HostVars.{name} is gone"


@pytest.mark.parametrize("name", internals._CONTEXT)
def test_a_play_context_has_what_connections_take_from_it(name: str) -> None:
    assert hasattr(PlayContext, name) or hasattr(PlayContext(), name), f"PlayContext.{name} is gone"


@pytest.mark.parametrize("base", [ConnectionBase, BecomeBase, ShellBase])
def test_plugins_keep_their_options_where_they_are_read(base: Any) -> None:
    assert "_options" in inspect.getsource(base.__mro__[1]) + inspect.getsource(base), (
        f"{base.__name__}._options is gone"
    )


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (connection_loader, "ssh"),
        (connection_loader, "local"),
        (become_loader, "sudo"),
        (shell_loader, "sh"),
    ],
)
def test_a_loader_tells_the_name_and_path_of_what_it_loads(loader: Any, name: str) -> None:
    arguments = [PlayContext(), None] if loader is connection_loader else []
    plugin = loader.get(name, *arguments)
    assert plugin._load_name in (name, f"ansible.builtin.{name}")
    assert Path(plugin._original_path).name == f"{name}.py"


def test_a_loader_returns_none_for_what_it_does_not_know() -> None:
    assert connection_loader.get("no.such.connection", PlayContext(), None) is None
    assert become_loader.get("no.such.become") is None


def test_which_generation_of_ansible_core_this_is_follows_its_version() -> None:
    major, minor = map(int, __version__.split(".")[:2])
    assert internals.IS_CORE_2_19 is ((major, minor) >= (2, 19))


# --- a play ---------------------------------------------------------------------------------------

INVENTORY = """
all:
  vars: {everywhere: inventory, broken: "{{ nowhere }}"}
  children:
    web:
      hosts:
        web1: {own: one, ansible_connection: ssh, ansible_user: deploy, ansible_port: 2222}
        web2: {own: two, ansible_connection: local}
    db:
      hosts: {db1: {}}
"""
RUN = """#!/bin/sh
# Stands for ssh: runs the remote command, which is its last word, and notes how it was called.
printf '%s\\n' "$@" > "$(dirname "$0")/called"
for last; do :; done
exec sh -c "$last"
"""


class Plain(ActionBase):
    """An action as those of this collection are."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        raise NotImplementedError


class World:
    """A play with one task, as core hands it to an action."""

    def __init__(self, folder: Path, **play: Any) -> None:
        self.folder = folder
        inventory = folder / "inventory.yml"
        inventory.write_text(INVENTORY)
        self.ssh = folder / "ssh"
        self.ssh.write_text(RUN)
        self.ssh.chmod(0o755)
        self.loader = DataLoader()
        self.inventory = InventoryManager(self.loader, sources=[str(inventory)])
        self.manager = VariableManager(self.loader, self.inventory)
        HostVars(self.inventory, self.manager, self.loader)  # which tells the manager of itself
        task = {"name": "a task", "ping": {"data": "secret"}, "vars": {"of_task": "task"}}
        source = {"hosts": "web", "gather_facts": False, "tasks": [task], "vars": {"of_play": "play"}, **play}
        self.play = Play().load(source, variable_manager=self.manager, loader=self.loader)
        (self.task,) = (
            task
            for block in self.play.compile()
            for task in block.block
            if isinstance(task, Task) and task.get_name() == "a task"
        )

    def variables(self, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.manager.get_vars(
            play=self.play, host=self.inventory.get_host(host), task=self.task
        )
        return found

    def action(self, host: str, connection: str = "ssh", become: str | None = None, **more: Any) -> ActionBase:
        """Return an action with a connection, made as core's executor makes it."""
        variables = {**self.variables(host), "ansible_ssh_executable": str(self.ssh), **more}
        templar = Templar(loader=self.loader, variables=variables)
        play_context = PlayContext(self.play, {})
        made = connection_loader.get(connection, play_context, None, task_uuid=self.task._uuid)
        keys = {"remote_user": "deploy", "become": bool(become)}
        made.set_options(task_keys=keys, var_options=variables)
        if become:
            plugin = become_loader.get(become)
            plugin.set_options(task_keys=keys, var_options=variables)
            made.set_become_plugin(plugin)
            play_context.set_become_plugin(plugin)
            play_context.become, play_context.become_user = True, "root"
        made._shell.set_options(var_options={"ansible_remote_tmp": str(self.folder / "remote"), **more})
        return Plain(self.task, made, play_context, self.loader, templar, None)


@pytest.fixture(name="world")
def fixture_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    options = {
        "forks": 7,
        "verbosity": 0,
        "step": False,
        "connection": "ssh",
        "timeout": 10,
        "become": False,
        "tags": ("all",),
    }
    options.update(dict.fromkeys(("remote_user", "private_key_file", "become_user", "become_method", "subset")))
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(options))
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return World(tmp_path)


# --- tasks, variables, inventory ------------------------------------------------------------------


def test_the_arguments_of_a_task_are_taken_out_of_it_and_stay_taken(world: World) -> None:
    assert internals.take_arguments(world.action("web1")) == {"data": "secret"}
    assert "secret" not in json.dumps(world.task.args)
    assert internals.take_arguments(world.action("web1")) == {"data": "secret"}  # as for until, another action
    assert "secret" not in json.dumps(world.task.dump_attrs()["args"])


def test_another_host_has_the_variables_of_inventory_play_and_task(world: World) -> None:
    own = world.variables("web1")
    found = internals.variables_of(world.action("web1"), own, "web2")
    names = ("inventory_hostname", "own", "everywhere", "of_play", "of_task", "ansible_connection")
    assert [str(found[name]) for name in names] == ["web2", "two", "inventory", "play", "task", "local"]


def test_the_inventory_is_asked_whatever_the_run_is_limited_to(world: World) -> None:
    variables = world.variables("web1")
    world.inventory.subset("web2")
    world.inventory.restrict_to_hosts([world.inventory.get_host("web2")])
    for pattern, names in (
        ("web", ["web1", "web2"]),
        (["web", "db"], ["web1", "web2", "db1"]),
        ("web:!web1", ["web2"]),
        ("nobody", []),
    ):
        assert internals.hosts_matching(variables, pattern) == names


def test_a_variable_of_the_inventory_is_told_from_the_plays_and_not_templated(world: World) -> None:
    variables = world.variables("web1")
    assert internals.inventory_variable(variables, "web2", "own") == "two"
    assert internals.inventory_variable(variables, "web2", "broken") == "{{ nowhere }}"
    assert internals.inventory_variable(variables, "web2", "of_play") is None


def test_what_is_templated_sees_these_variables_and_no_others(world: World) -> None:
    template = internals.template_with(world.action("web1")._templar, {"x": "seen"})
    trusted = getattr(ansible.template, "trust_as_template", str)
    assert template(trusted("{{ x }} {{ own | default('not seen') }}")) == "seen not seen"
    assert template({"a": [trusted("{{ x }}")]}) == {"a": ["seen"]}


@pytest.mark.parametrize(
    "name", ["multicart_deploy_stores", "multicart_deploy_files__shop", "multicart_deploy_services"]
)
@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("{{ nope }}/env", "cannot be templated (nope is undefined); define nope, or correct the expression"),
        ("{{ chain }}/env", "cannot be templated (nope is undefined); define nope, or correct the expression"),
        ("{{ known[secret] }}", "cannot be templated (AnsibleUndefinedVariable); correct the expression"),
        ("{{ undef(hint=secret) }}", "cannot be templated (AnsibleUndefinedVariable); correct the expression"),
        ("{{ secret", "cannot be templated ("),
    ],
)
def test_a_variable_of_a_host_that_cannot_be_templated_is_named_by_its_entry_and_without_a_value(
    world: World, name: str, expression: str, problem: str
) -> None:
    trusted = getattr(ansible.template, "trust_as_template", str)
    variables: dict[str, Any] = {"secret": "canary", "known": {"a": 1}, "chain": trusted("{{ nope }}")}
    variables[name] = [{"path": "/a"}, {"path": trusted(expression)}]
    with pytest.raises(MulticartError) as refused:
        spec_of(variables, internals.template_with(world.action("web1")._templar, variables))
    assert refused.value.reason is Reason.INVALID_OPTION
    assert refused.value.what.startswith(f"{name}, entry 2: it {problem}")
    assert "canary" not in str(refused.value)


def test_any_other_variable_of_a_host_that_cannot_be_templated_is_named(world: World) -> None:
    undefined = getattr(ansible.template, "trust_as_template", str)("{{ nope }}")
    for name in ("account", "deploy_files", "deploy_state_dir", "deploy_wave", "deploy_timeout", "deploy_commands"):
        variables = {f"multicart_{name}": undefined}
        with pytest.raises(MulticartError, match=rf"^multicart_{name}: it cannot be templated \(nope is undefined\)"):
            spec_of(variables, internals.template_with(world.action("web1")._templar, variables))


def rendered(world: World, content: bytes) -> list[str | None]:
    """Return what comes of a template of the user's with this content."""
    source = world.folder / "app.conf.j2"
    source.write_bytes(content)
    spec = spec_of({"multicart_deploy_files": [{"path": "/a", "template": str(source)}]}, lambda value: value)
    templates = consumers._Templates(world.action("web1"), spec, world.variables("web1"))
    return templates.render(ApiKey("acme.canary"))


def test_a_template_that_is_not_utf_8_is_refused(world: World) -> None:
    """Core keeps such bytes, in a form that cannot be sent to the host."""
    assert rendered(world, b"key={{ multicart_key }} \xc3\xa4") == ["key=acme.canary \xe4"]
    with pytest.raises(
        MulticartError, match=r"The template \S+app.conf.j2, or what it takes in, is not UTF-8"
    ) as refused:
        rendered(world, b"name=\xff {{ multicart_key }}")
    assert refused.value.reason is Reason.INVALID_OPTION and "canary" not in str(refused.value)


def test_the_pattern_of_the_play_is_as_it_was_written(tmp_path: Path, world: World) -> None:
    assert internals.play_pattern(world.action("web1")) in ("web", ["web"])
    several = World(tmp_path, hosts=["web", "db"])
    assert internals.play_pattern(several.action("web1")) == ["web", "db"]


def test_the_command_line_tells_forks_and_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (internals.forks(), internals.is_stepping()) == (7, False)
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(step=True))
    assert (internals.forks(), internals.is_stepping()) == (constants.DEFAULT_FORKS, True)


@pytest.mark.parametrize(
    ("name", "parsed"), [("default", False), ("json", True), ("ansible.posix.jsonl", True), ("my.own.notjson", False)]
)
def test_a_callback_that_prints_json_is_known(monkeypatch: pytest.MonkeyPatch, name: str, parsed: bool) -> None:
    monkeypatch.setattr(constants, "DEFAULT_STDOUT_CALLBACK", name)
    assert internals.prints_data() == parsed


def test_the_vault_passwords_of_the_run_are_known(world: World) -> None:
    action = world.action("web1")
    assert internals.vault_passwords(action) == []
    world.loader.set_vault_secrets([("prod", VaultSecret(b"one-canary")), ("default", VaultSecret(b"\xfftwo"))])
    assert internals.vault_passwords(action) == [["prod", "one-canary"], ["default", "\udcfftwo"]]


def test_strategies_and_connections_of_mitogen_are_known(tmp_path: Path, world: World) -> None:
    assert not internals.uses_mitogen(world.action("web1"))
    assert internals.uses_mitogen(World(tmp_path, strategy="mitogen_linear").action("web1"))
    action = world.action("web1")
    action._connection = type("Connection", (), {"__module__": "ansible_mitogen.connection"})()
    assert internals.uses_mitogen(action) and internals.can_send_input(action)


FACTS = {
    "ansible_facts": {"hostname": "evil", "multicart_deploy_files": "x", "ansible_env": {"A": "1"}, "own": "fact"},
    "ansible_hostname": "evil",
    "ansible_multicart_deploy_files": "x",
    "multicart_deploy_files": "x",
    "ansible_env": {"A": "1"},
    "own": "inventory",
    "ansible_local": {"preferences": 1},
    "kept": 1,
}


def test_variables_that_facts_have_put_there_are_left_out() -> None:
    assert internals.without_facts(FACTS) == {"own": "inventory", "kept": 1}
    assert internals.seen_facts(FACTS) == ["hostname", "multicart_deploy_files", "ansible_env", "own"]
    for none in ({}, {"ansible_facts": None}, {"ansible_facts": {}}):
        assert (internals.without_facts(none), internals.seen_facts(none)) == ({}, [])


def test_core_puts_facts_where_they_are_looked_for(world: World) -> None:
    world.manager.set_host_facts("web1", {"ansible_hostname": "evil", "multicart_api_url": "https://evil.example"})
    variables = world.variables("web1")
    assert "multicart_api_url" in internals.seen_facts(variables)
    own = internals.without_facts(variables)
    evil = [name for name, value in own.items() if name != "hostvars" and "evil" in str(value)]
    assert evil == []
    assert str(own["own"]) == "one"


@pytest.mark.parametrize("value", ["{{ nowhere }}", "{{ indirect }}"])
def test_what_is_undefined_is_an_error_whatever_is_configured(world: World, value: str) -> None:
    trusted = getattr(ansible.template, "trust_as_template", str)
    templar = Templar(loader=world.loader)
    templar._fail_on_undefined_errors = False  # as error_on_undefined_vars=false has it before core 2.19
    own = internals.templar_with(templar, {"indirect": trusted("{{ nowhere }}")})
    assert own._fail_on_undefined_errors
    with pytest.raises(AnsibleError, match="nowhere"):
        own.template([trusted(value)])


def test_what_is_omitted_is_unset(world: World) -> None:
    trusted = getattr(ansible.template, "trust_as_template", str)
    variables = world.variables("web1")
    omitted = trusted("{{ nowhere | default(omit) }}")
    template = internals.template_with(Templar(loader=world.loader), variables)
    assert template(omitted) is None
    entry = {"path": "/a", "account": omitted, "list": [omitted, "b"], "deep": [{"c": omitted}]}
    assert template([entry]) == [{"path": "/a", "list": ["b"], "deep": [{}]}]


def test_the_text_for_what_is_omitted_is_taken_out_of_what_core_has_templated() -> None:
    """That is what core before 2.19 makes of it."""
    value = {"path": "/a", "account": "token", "list": ["token", "b"], "deep": [{"c": "token"}], "number": 1}
    kept = {"path": "/a", "list": ["b"], "deep": [{}], "number": 1}
    assert internals.without_omitted(value, {"omit": "token"}) == kept
    assert internals.without_omitted("token", {"omit": "token"}) is None
    assert internals.without_omitted(value, {}) == value


@pytest.mark.parametrize(
    ("facts", "behaviour"),
    [
        ({"domain": "evil", "ansible_domain": "example.com"}, "replace"),  # of which ansible_facts has one
        # which core changes on its way, and which is not equal to its copy
        ({"domain": {"name": "evil", "number": float("nan"), "_ansible_name": 1}}, "replace"),
        ({"domain": {"name": "evil"}}, "merge"),
    ],
)
def test_no_fact_hides_among_the_variables(
    world: World, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], behaviour: str
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_HASH_BEHAVIOUR", behaviour)
    world.inventory.get_host("web1").set_variable("domain", {"of": "inventory"})
    world.manager.set_host_facts("web1", facts)
    variables = world.variables("web1")
    own = internals.without_facts(variables)
    assert "evil" in str(variables["domain"])
    assert "domain" not in own and "domain" not in own["hostvars"].raw_get("web1")


def test_a_variable_that_is_called_as_a_fact_without_its_prefix_stays(world: World) -> None:
    world.inventory.get_host("web1").set_variable("domain", "example.com")
    world.manager.set_host_facts("web1", {"ansible_domain": "example.com"})
    own = internals.without_facts(world.variables("web1"))
    assert (own["domain"], own.get("ansible_domain")) == ("example.com", None)
    assert own["hostvars"].raw_get("web1")["domain"] == "example.com"


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "env", "expected"),
    [
        ({}, None, True),
        ({"ansible_pipelining": False}, None, False),
        ({"ansible_ssh_pipelining": False}, None, False),
        ({"ansible_pipelining": True}, None, True),
        ({}, "False", False),
    ],
)
def test_pipelining_is_preferred_unless_the_user_has_said_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], env: str | None, expected: bool
) -> None:
    if env is not None:
        monkeypatch.setenv("ANSIBLE_PIPELINING", env)
    for name, value in more.items():
        world.inventory.get_host("web1").set_variable(name, value)
    action = world.action("web1")
    internals.prefer_pipelining(action, world.variables("web1"))
    assert action._connection.get_option("pipelining") is expected
    assert internals.can_send_input(action) is expected


def test_settings_are_plain_json_and_make_the_same_connection_again(world: World) -> None:
    action = world.action("web1", become="sudo", ansible_become_password="secret")
    settings = json.loads(json.dumps(internals.settings_of(action, world.variables("web1"))))
    assert settings["connection"] in ("ssh", "ansible.builtin.ssh")
    assert settings["become"]["name"] in ("sudo", "ansible.builtin.sudo")
    there = internals.connected(world.action("web2", "local"), settings)
    assert there.__class__ is Plain and there._task is world.task
    connection = there._connection
    assert internals.is_ssh_of_core(connection) and connection is not action._connection
    for name in ("remote_user", "port", "ssh_executable", "pipelining"):
        assert connection.get_option(name) == action._connection.get_option(name)
    assert (connection.get_option("port"), connection.get_option("remote_user")) == (2222, "deploy")
    assert connection.become.get_option("become_pass") == "secret"
    assert connection._shell.get_option("remote_tmp") == str(world.folder / "remote")
    assert there._play_context.become is True and there._play_context is not action._play_context


@pytest.mark.parametrize("what", ["connection", "become"])
def test_a_plugin_that_is_not_there_is_told_by_name(world: World, what: str) -> None:
    action = world.action("web1", become="sudo")
    settings = internals.settings_of(action, world.variables("web1"))
    if what == "connection":
        settings["connection"] = "no.such.plugin"
    else:
        settings["become"]["name"] = "no.such.plugin"
    with pytest.raises(AnsibleError, match=f"{what} plugin no.such.plugin was not found"):
        internals.connected(action, settings)


@pytest.mark.parametrize(
    ("said", "python"),
    [
        ("/opt/python", "/opt/python"),
        ("python3 -I", "python3 -I"),
        ("auto", None),
        ("auto_silent", None),
        ("auto_legacy", None),
        ("", None),
        (None, None),
    ],
)
def test_the_python_of_a_host_is_the_one_that_is_named(world: World, said: str | None, python: str | None) -> None:
    variables = {**world.variables("web1"), **({} if said is None else {"ansible_python_interpreter": said})}
    settings = internals.settings_of(world.action("web1"), variables)
    assert settings["python"] == python
    assert settings["fallbacks"] and not any("python2" in name for name in settings["fallbacks"])
    assert any("python3" in name for name in settings["fallbacks"])


def test_the_environment_of_the_task_is_that_of_the_program(world: World) -> None:
    world.task.environment = [{"HTTP_PROXY": "http://a b"}]
    settings = internals.settings_of(world.action("web1"), world.variables("web1"))
    assert settings["environment"] == "HTTP_PROXY='http://a b'"


def test_only_the_ssh_plugin_of_core_is_held_open(world: World, tmp_path: Path) -> None:
    assert internals.is_ssh_of_core(world.action("web1")._connection)
    assert not internals.is_ssh_of_core(world.action("web2", "local")._connection)
    another = world.action("web1")._connection
    another._original_path = str(tmp_path / "ssh.py")
    assert not internals.is_ssh_of_core(another)
    del another._original_path
    assert not internals.is_ssh_of_core(type("Connection", (), {})())


# --- what is run over them ------------------------------------------------------------------------


def test_a_command_gets_its_input_and_gives_its_output(world: World) -> None:
    action = world.action("web1")
    internals.prefer_pipelining(action, world.variables("web1"))
    code, output, complaints = internals.execute(action, "cat; echo no >&2; exit 3", b"some input")
    assert (code, output.strip()) == (3, b"some input")
    assert b"no" in complaints
    called = (world.folder / "called").read_text().splitlines()
    assert "-tt" not in called and "Port=2222" in called


def test_a_file_is_run_from_a_private_directory_and_removed(world: World) -> None:
    seen: list[Path] = []
    action = world.action("web2", "local")

    def command_for(path: str) -> str:
        seen.append(Path(path))
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
        return f"sh {path}"

    code, output, _complaints = internals.execute_file(action, b"echo it is run; exit 4", command_for)
    assert (code, output.strip()) == (4, b"it is run")
    assert not seen[0].parent.exists() and str(seen[0]).startswith(str(world.folder / "remote"))
    assert action._connection._shell.tmpdir is None


def test_a_file_is_removed_though_its_command_fails(world: World) -> None:
    seen: list[Path] = []

    def command_for(path: str) -> str:
        seen.append(Path(path))
        raise ValueError

    with pytest.raises(ValueError):
        internals.execute_file(world.action("web2", "local"), b"", command_for)
    assert not seen[0].parent.exists()


@pytest.fixture(name="talked")
def fixture_talked() -> list[bytes]:
    return []


def leads(talked: list[bytes]) -> Callable[[Any, Any], None]:
    """Return a conversation: write, read the answer, write again."""

    def talk(to_program: Any, process: Any) -> None:
        os.set_blocking(process.stdout.fileno(), True)
        for word in (b"one\n", b"two\n"):
            to_program.write(word)
            to_program.flush()
            talked.append(process.stdout.readline())
        assert process.poll() is None
        to_program.close()

    return talk


def test_a_conversation_is_held_with_a_program_over_the_ssh_plugin(world: World, talked: list[bytes]) -> None:
    action = world.action("web1")
    internals.prefer_pipelining(action, world.variables("web1"))
    internals.hold(action._connection, leads(talked))
    code, _output, _complaints = internals.execute(action, 'while read l; do echo "got $l"; done; exit 5', b"held")
    assert (talked, code) == ([b"got one\n", b"got two\n"], 5)


def test_a_conversation_that_breaks_is_not_begun_anew(world: World) -> None:
    """The plugin tries a connection that was lost again, with all its input; here the key would be in it."""
    begun: list[int] = []
    world.inventory.get_host("web1").set_variable("ansible_ssh_retries", 2)
    action = world.action("web1")
    internals.prefer_pipelining(action, world.variables("web1"))
    assert action._connection.get_option("reconnection_retries") == 2
    world.ssh.write_text("#!/bin/sh\nread line\nexit 255\n")

    def talk(to_program: Any, process: Any) -> None:
        begun.append(1)
        to_program.write(b"a line\n")
        to_program.flush()
        process.wait()

    internals.hold(action._connection, talk)
    with pytest.raises(AnsibleConnectionFailure):
        internals.execute(action, "true", b"held")
    assert begun == [1]


def test_a_whole_session_goes_over_the_ssh_plugin_of_core(world: World) -> None:
    """Armed, over the true connection plugin; only ssh itself is replaced."""
    variables = world.variables("web1")
    action = world.action("web1")
    settings = internals.settings_of(action, variables)
    link = link_to(internals.connected(action, settings), settings)
    assert link.holds
    session = Session("web1", link, threading.Semaphore(1))
    env = world.folder / "env"
    env.write_text("KEY=acme.old\n")
    file = {**dict.fromkeys(("owner", "group", "mode", "digest", "content")), "path": str(env), "variable": "KEY"}
    fields = {"files": [{**file, "unsafe_writes": False}]}
    for phase in ("inspect", "ping"):
        reply = session.ask(phase, 20.0, **fields)
        assert reply.wait(25) and reply.error is None
    assert "old" in env.read_text()
    reply = session.ask("deploy", 20.0, key="acme.new", since="2026-01-01T00:00:00Z", **fields)
    assert reply.wait(25) and reply.error is None and reply.said["changed"]
    session.end()
    assert session.join(10) and session.over is None
    assert env.read_text() == "KEY=acme.new\n"
    assert "acme" not in (world.folder / "called").read_text()


@pytest.mark.parametrize(
    ("connection", "more", "holds", "way"),
    [
        ("ssh", {}, True, "_Held"),
        ("ssh", {"ansible_pipelining": False}, False, "_Copied"),
        ("local", {}, False, "_Sent"),
    ],
)
def test_each_connection_has_its_best_way(
    world: World, connection: str, more: dict[str, Any], holds: bool, way: str
) -> None:
    for name, value in more.items():
        world.inventory.get_host("web1").set_variable(name, value)
    action = world.action("web1", connection)
    settings = internals.settings_of(action, world.variables("web1"))
    link = link_to(action, settings)
    assert (link.holds, type(link).__name__) == (holds, way)
    if holds:
        unheld = link_to(action, settings, may_hold=False)
        assert (unheld.holds, type(unheld).__name__) == (False, "_Sent")
    if way != "_Copied":
        assert type(link.with_terminal).__name__ == "_Copied"


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "reason", "text", "reached"),
    [
        (AnsibleConnectionFailure("ssh: No route to host canary"), "unreachable", "(No route to host)", False),
        (AnsibleConnectionFailure("canary"), "unreachable", "it is unreachable", False),
        (
            AnsibleError("Timeout (12s) waiting for privilege escalation prompt: canary"),
            "become_failed",
            "in time",
            True,
        ),
        (
            AnsibleConnectionFailure("Timeout (12s) waiting for privilege escalation prompt: "),
            *("become_failed", "in time", True),
        ),
        (AnsibleError("Incorrect sudo password"), "become_failed", "incorrect become password", True),
        (AnsibleError("Missing su password"), "become_failed", "missing become password", True),
        (AnsibleError("canary"), "connection_failed", "AnsibleError", True),
        (AnsibleError("you must install the sshpass program canary"), "connection_failed", "lacks", True),
        (AnsibleError("canary Host Key checking is enabled"), "connection_failed", "connect to it once", True),
        (AnsibleError("Unable to execute ssh command line on a controller: canary"), "connection_failed", "ssh", True),
        (AnsibleError("Cannot write to ControlPath canary"), "connection_failed", "cannot be written", True),
    ],
)
def test_an_error_of_a_connection_is_told_without_what_it_quotes(
    error: AnsibleError, reason: str, text: str, reached: bool
) -> None:
    found = internals.explain(error)
    assert (found[0], found[2]) == (reason, reached)
    assert text in found[1] and "canary" not in found[1]


@pytest.mark.parametrize("word", ["Incorrect", "Missing"])
def test_the_texts_that_are_looked_for_are_those_of_the_ssh_plugin(word: str) -> None:
    source = inspect.getsource(inspect.getmodule(Ssh) or Ssh)
    assert re.search(rf"{word} %s password", source) or f"{word} {{" in source, (
        f"the plugin does not say {word} any more"
    )
    assert "waiting for privilege escalation prompt" in source
    assert [said for said in internals._CAUSES if said not in source] == []


@pytest.fixture(autouse=True, scope="module")
def _collections() -> Iterator[None]:
    """Let core find its own plugins, as it does in a run."""
    init_plugin_loader([])
    yield
    _AnsibleCollectionFinder._remove()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ANSIBLE_PIPELINING", "ANSIBLE_SSH_PIPELINING", "ANSIBLE_PYTHON_INTERPRETER"):
        monkeypatch.delenv(name, raising=False)
    yield
