# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Every use of ansible-core that it does not document, each with the reason why there is no other way.

A test holds what is used here against the ansible-core that runs it, and says by name what has changed.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ansible.errors
import ansible.plugins.connection
import ansible.template
from ansible import constants, context
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader, connection_loader, shell_loader
from ansible.vars.clean import strip_internal_keys
from ansible.vars.hostvars import HostVars

IS_CORE_2_19 = hasattr(ansible.template, "trust_as_template")
"""Whether this is ansible-core 2.19 or later."""

_CONTEXT = (
    "connection",
    "remote_addr",
    "port",
    "remote_user",
    "password",
    "timeout",
    "connection_user",
    "private_key_file",
    "pipelining",
    "executable",
    "become",
    "become_method",
    "become_user",
    "become_pass",
    "become_exe",
    "become_flags",
    "prompt",
)
"""The attributes of a play context that connections, also those of other collections, take values from."""

_OMITTED = getattr(ansible.errors, "AnsibleValueOmittedError", ())
"""What core 2.19 and later raises where a whole value is omitted."""

# No attribute that Ansible knows of, so that it stays in this process.
_TAKEN = "_multicart_arguments"


# --- tasks, variables, inventory ------------------------------------------------------------------


class _Withheld(dict[str, Any]):
    """Arguments that nobody shows as a whole, as core does with those of each module where ``ANSIBLE_DEBUG`` is set."""

    def __repr__(self) -> str:
        return "(withheld)"


def take_arguments(action: ActionBase) -> dict[str, Any]:
    """Return the task's arguments, and leave none of their values in the task.

    Callback plugins are given a task as it was carried out, templated arguments and all, and ansible-runner writes
    them into the events of a job; ``no_log`` options of a module make no difference to that.
    """
    task = action._task
    if not hasattr(task, _TAKEN):  # for ``until``, each attempt is another action, but the task stays the same
        setattr(task, _TAKEN, _Withheld(task.args))
        task.args = dict.fromkeys(task.args, "(withheld)")
    taken: dict[str, Any] = getattr(task, _TAKEN)
    return taken


def variables_of(action: ActionBase, variables: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return all variables of another host, as a task of this play has them there.

    ``hostvars`` lacks the variables of play, roles and tasks, and as a whole fails for one that is undefined.
    """
    hostvars = variables["hostvars"]
    found: dict[str, Any] = hostvars._variable_manager.get_vars(
        play=action._task.get_play(), host=hostvars._inventory.get_host(host), task=action._task
    )
    return found


def templar_with(templar: Any, variables: Mapping[str, Any]) -> Any:
    """Return a templar with these variables, and with no others, for which what is undefined is an error.

    With ``error_on_undefined_vars=false``, core before 2.19 would leave the text of an expression as its value.
    """
    own = templar.copy_with_new_env(available_variables=variables)
    own._fail_on_undefined_errors = True
    return own


def template_with(templar: Any, variables: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that templates a value with these variables alone, and returns None for an omitted one."""
    own = templar_with(templar, variables)

    def template(value: Any) -> Any:
        try:
            return without_omitted(own.template(value), variables)
        except _OMITTED:
            return None

    return template


def without_omitted(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a templated value without omitted parts; core before 2.19 leaves a text in place of each."""

    def is_omitted(part: Any) -> bool:
        return isinstance(part, str) and part == variables.get("omit")

    if isinstance(value, dict):
        return {name: without_omitted(each, variables) for name, each in value.items() if not is_omitted(each)}
    if isinstance(value, list):
        return [without_omitted(each, variables) for each in value if not is_omitted(each)]
    return None if is_omitted(value) else value


def without_facts(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables without those that facts have put there, under whatever name: a host chose their values."""
    hostvars = variables.get("hostvars")
    if not isinstance(hostvars, HostVars):
        return _without(variables, {})
    kept = _without(variables, _facts_of(hostvars, str(variables.get("inventory_hostname"))))
    return {**kept, "hostvars": _hostvars_without_facts(hostvars)}


def _without(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables without those that facts have set.

    :param facts: by the names of these variables; empty: they are known by the names that they have among themselves.
    """
    if not facts:
        known = variables.get("ansible_facts") or {}
        facts = {name: known[fact] for fact in known for name in (str(fact), f"ansible_{fact}")}
    kept = dict(variables)
    for name, fact in facts.items():
        if name in kept and _may_be(kept[name], fact):
            del kept[name]
    for name in ("ansible_facts", "ansible_local", "vars"):  # the last one holds all others once more
        kept.pop(name, None)
    return kept


def _may_be(value: Any, fact: Any) -> bool:
    """Tell whether the value of a variable may be that of a fact."""
    if constants.DEFAULT_HASH_BEHAVIOUR == "merge" and isinstance(value, Mapping):
        return True
    # Core has removed internal names from the variable; and not every value is equal to itself.
    return bool(value == fact) or repr(value) == repr(strip_internal_keys([copy.deepcopy(fact)])[0])


def _facts_of(hostvars: Any, host: str) -> Mapping[str, Any]:
    """Return the facts of a host as it gave them; empty: it has none.

    ``ansible_facts`` has them without their prefix: one of the user's own variables may have such a name and the same
    value, and of two facts that differ in the prefix alone, one is missing there.
    """
    try:
        return hostvars._variable_manager._fact_cache.get(host) or {}
    except KeyError:
        return {}


def _hostvars_without_facts(hostvars: Any) -> Any:
    """Return ``hostvars`` without the facts of any host; it stays of the very type that templates know."""

    def raw_get(host: str) -> Any:
        found = hostvars.raw_get(host)
        return _without(found, _facts_of(hostvars, host)) if isinstance(found, Mapping) else found

    own = object.__new__(type(hostvars))
    vars(own).update(vars(hostvars), raw_get=raw_get)
    return own


def inventory_variable(variables: Mapping[str, Any], host: str, name: str) -> Any:
    """Return a variable that the inventory has for a host, not templated; None: it has none.

    Raw, because one that cannot be templated must not fail what has nothing to do with it.
    """
    return variables["hostvars"].raw_get(host).get(name)


def hosts_matching(variables: Mapping[str, Any], pattern: Any) -> list[str]:
    """Return the names of all hosts of the inventory that a pattern matches, whatever ``--limit`` says.

    The documented lookup does not know lists, and would read commas and colons in one text as it likes.
    """
    inventory = variables["hostvars"]._inventory
    found = inventory.get_hosts(pattern, ignore_limits=True, ignore_restrictions=True)
    return [host.get_name() for host in found]


def play_pattern(action: ActionBase) -> Any:
    """Return the ``hosts`` of the play, a text or a list."""
    return action._task.get_play().hosts


def seen_facts(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the facts of a host; core puts them among the variables, before those of the play."""
    return [str(name) for name in (variables.get("ansible_facts") or {})]


def vault_passwords(action: ActionBase) -> list[list[str]]:
    """Return name and text of each vault password that this run of Ansible was given."""
    known = getattr(getattr(action._loader, "_vault", None), "secrets", None) or []
    return [[str(name), secret.bytes.decode("utf-8", "surrogateescape")] for name, secret in known]


def forks() -> int:
    """Return how many hosts Ansible serves at a time."""
    return int(context.CLIARGS.get("forks") or constants.DEFAULT_FORKS)


def prints_data() -> bool:
    """Tell whether the standard output is JSON, by the callback plugin that prints it, which a program reads."""
    return str(constants.DEFAULT_STDOUT_CALLBACK).rpartition(".")[2] in ("json", "jsonl")


def is_stepping() -> bool:
    """Tell whether ``--step`` lets the user skip any task."""
    return bool(context.CLIARGS.get("step"))


def uses_mitogen(action: ActionBase) -> bool:
    """Tell whether Mitogen's strategies run this play: their connections cannot be made by hand."""
    strategy = str(action._task.get_play().strategy or "")
    return "mitogen" in strategy or _is_of_mitogen(action._connection)


def _is_of_mitogen(connection: Any) -> bool:
    return any(kind.__module__.startswith("ansible_mitogen.") for kind in type(connection).__mro__)


# --- connections ----------------------------------------------------------------------------------


def prefer_pipelining(action: ActionBase, variables: Mapping[str, Any]) -> None:
    """Switch pipelining on for this task, unless the user has set it, to whatever value.

    Without it, what is run on a managed host is written into a file there first. Where it cannot work (become method
    ``su``, a connection plugin without it, ``ANSIBLE_KEEP_REMOTE_FILES``) that goes on, in a private directory that is
    removed afterwards.
    """
    connection = action._connection
    own = None if hasattr(connection, "_origins") else _set_by_the_user(action, variables)
    try:
        _value, origin = connection.get_option_and_origin("pipelining", hostvars=own)
    except KeyError:  # a plugin without an option of that name goes by the play's context
        _value, origin = constants.config.get_config_value_and_origin("ANSIBLE_PIPELINING")
        if origin == "default" and "ansible_pipelining" not in (own or variables):
            action._play_context.pipelining = True
            connection._play_context.pipelining = True
        return
    if origin == "default":
        connection.set_option("pipelining", True)


def _set_by_the_user(action: ActionBase, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the variables as they were before core 2.16 to 2.18 put its own ``ansible_pipelining`` among them.

    Those cores forget where an option came from, so that it has to be worked out again.
    """
    task, hostvars = action._task, variables["hostvars"]
    host = hostvars._inventory.get_host(task.delegate_to or variables["inventory_hostname"])
    found: Mapping[str, Any] = hostvars._variable_manager.get_vars(
        play=task.get_play(), host=host, task=task, include_hostvars=False
    )
    return found


def settings_of(action: ActionBase, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the connection that Ansible has made for this task consists of, as JSON; it may hold passwords.

    Ansible alone knows how a connection's options follow from keywords, variables, command line and configuration.
    """
    prefer_pipelining(action, variables)
    connection = action._connection
    become = connection.become
    return {
        "connection": _name_of(connection),
        "options": _plain(connection._options),
        "shell": {
            "name": _name_of(connection._shell),
            "options": _plain(connection._shell._options),
            "executable": str(getattr(connection._shell, "executable", None) or ""),
        },
        "become": become and {"name": _name_of(become), "options": _plain(become._options)},
        "context": _plain({name: getattr(action._play_context, name, None) for name in _CONTEXT}),
        **_python_of(action, variables),
    }


def _name_of(plugin: Any) -> str:
    """Return the name by which a plugin can be loaded again; one from a collection has another ``_load_name``."""
    return str(getattr(plugin, "ansible_name", None) or plugin._load_name)


def _python_of(action: ActionBase, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return how Python is found on the host, and the environment in which the task wants it to run."""
    template = action._templar.template
    said = template(constants.config.get_config_value("INTERPRETER_PYTHON", variables=variables))
    listed = constants.config.get_config_value("INTERPRETER_PYTHON_FALLBACK", variables=variables)
    known = [str(name) for name in template(listed) or () if "2" not in str(name).rpartition("python")[2][:1]]
    named = None if not said or str(said).startswith("auto") else str(said)
    return {"python": named, "fallbacks": known, "environment": action._compute_environment_string().strip()}


def _plain(value: Any) -> Any:
    """Return options as plain JSON: core's own text types carry tags, or a vault's cipher text until they are read."""
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(each) for each in value]
    return str(value)


def connected(action: ActionBase, settings: Mapping[str, Any]) -> ActionBase:
    """Return an action like this one with a connection to another host, which is made but not used yet.

    It is made as core's own executor does, which plugins cannot call.

    :param settings: what `settings_of` returned on that host.
    :raises AnsibleError: there is no such plugin.
    """
    play_context = copy.copy(action._play_context)
    for name, value in settings["context"].items():
        setattr(play_context, name, value)
    parent = {"task_uuid": action._task._uuid, "ansible_playbook_pid": str(os.getppid())}
    connection = connection_loader.get(settings["connection"], play_context, None, **parent)
    if connection is None:
        raise AnsibleError(f"the connection plugin {settings['connection']} was not found")
    _set_options(connection, settings["options"])
    connection._shell = shell_loader.get(settings["shell"]["name"])
    _set_options(connection._shell, settings["shell"]["options"])
    if settings["shell"]["executable"]:  # what becomes another user needs it
        connection._shell.executable = settings["shell"]["executable"]
    if settings["become"]:
        become = become_loader.get(settings["become"]["name"])
        if become is None:
            raise AnsibleError(f"the become plugin {settings['become']['name']} was not found")
        _set_options(become, settings["become"]["options"])
        connection.set_become_plugin(become)
    return type(action)(
        action._task, connection, play_context, action._loader, action._templar, action._shared_loader_obj
    )


def _set_options(plugin: Any, options: Mapping[str, Any]) -> None:
    # Its values went through core's configuration once already.
    plugin._options = dict(options)
    plugin._origins = dict.fromkeys(options, "Direct")


def is_ssh_of_core(connection: Any) -> bool:
    """Tell whether a connection is exactly ``ansible.builtin.ssh``, whose inner workings are known here."""
    folder = Path(ansible.plugins.connection.__path__[0])
    return Path(getattr(connection, "_original_path", "") or "/").resolve() == (folder / "ssh.py").resolve()


def can_send_input(action: ActionBase) -> bool:
    """Tell whether a program's input can be sent over the connection: what core calls pipelining."""
    connection = action._connection
    if _is_of_mitogen(connection):  # it has another name for it, and lets nobody ask
        return True
    return bool(connection.has_pipelining and action._is_pipelining_enabled("new"))


def hold(connection: Any, talk: Callable[[Any, Any], None]) -> None:
    """Let ``talk`` lead the conversation with the next program that is started over a connection of core's ssh.

    The plugin calls this method with the program's open input when it has become the user it is to be, and goes on when
    it returns; no documented way keeps the input open.
    """

    def lead(fh: Any, in_data: bytes, ssh_process: Any) -> None:
        talk(fh, ssh_process)

    connection._send_initial_data = lead
    connection.set_option("reconnection_retries", 0)  # a conversation cannot be begun again


def execute(action: ActionBase, command: str, in_data: bytes | None) -> tuple[int, bytes, bytes]:
    """Run a shell command on the host, as the user that the task becomes; return its exit status and its output.

    What core itself runs modules with: it knows about become, shells and executables.

    :raises AnsibleConnectionFailure: the host cannot be reached.
    :raises AnsibleError: becoming another user failed.
    """
    if _is_of_mitogen(action._connection):
        action._connection._action = action  # it would look for one on the stack, in vain in a thread of ours
    answer = action._low_level_execute_command(command, in_data=in_data)
    return answer["rc"], answer["stdout"].encode("utf-8", "replace"), answer["stderr"].encode("utf-8", "replace")


def execute_file(action: ActionBase, content: bytes, command_for: Callable[[str], str]) -> tuple[int, bytes, bytes]:
    """Run a script that is copied to the host first, into Ansible's private directory there, and removed afterwards.

    :param command_for: returns the shell command for the script's path.
    :raises AnsibleError: as `execute`.
    """
    folder = action._make_tmp_path()
    try:
        path = action._connection._shell.join_path(folder, "multicart.keys.py")
        action._transfer_data(path, content)
        action._fixup_perms2((folder, path))
        return execute(action, command_for(path), None)
    finally:
        action._remove_tmp_path(folder, force=True)
        action._connection._shell.tmpdir = None


_KNOWN_COMPLAINTS = (
    "Permission denied",
    "Connection refused",
    "Connection timed out",
    "Connection closed",
    "Connection reset",
    "Could not resolve hostname",
    "Name or service not known",
    "Host key verification failed",
    "No route to host",
    "Network is unreachable",
    "command not found",  # Mitogen cannot connect without a Python
)


_CAUSES = {
    "sshpass program": "the control node lacks the program sshpass, which Ansible needs for a password of SSH",
    "Host Key checking is enabled": "its host key is not known yet: connect to it once with ssh",
    "ssh command line on a controller": "the control node lacks the program ssh",
    "Cannot write to ControlPath": "the directory for control paths cannot be written on the control node",
}
"""What core's ssh plugin says of itself, and not of a host."""


def explain(error: AnsibleError, complaints: bytes = b"") -> tuple[str, str, bool]:
    """Return reason and sentence for an error of a connection, and whether the host was reached.

    Its text quotes what the host, or ssh, has printed; only what is known is repeated.

    :param complaints: what they have printed besides.
    """
    text = str(error) + complaints.decode("utf-8", "replace")
    if "privilege escalation prompt" in text:
        return "become_failed", "it did not ask for, or did not accept, the become password in time", True
    for word in ("Incorrect", "Missing"):
        if f"{word} " in text and " password" in text and not isinstance(error, AnsibleConnectionFailure):
            return "become_failed", f"{word.lower()} become password", True
    if "permissions on the temporary files" in text:
        why = "a file for the user that it becomes cannot be put there: install acl (setfacl), or become root"
        return "become_failed", why, True
    if isinstance(error, AnsibleConnectionFailure):
        known = next((complaint for complaint in _KNOWN_COMPLAINTS if complaint in text), None)
        return "unreachable", f"it is unreachable ({known})" if known else "it is unreachable", False
    unknown = f"its connection failed ({type(error).__name__}); ansible -m ping shows why"
    return "connection_failed", next((cause for said, cause in _CAUSES.items() if said in text), unknown), True
