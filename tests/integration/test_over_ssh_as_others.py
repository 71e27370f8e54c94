# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections over a real sshd, by real users who become others: armed where that is possible, else served, or refused.

Each rotation has a second host, root's, which is armed whatever the first one is like.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.awx.collection import COLLECTIONS
from tests.integration import accounts
from tests.integration.accounts import Accounts, User
from tests.integration.harness import ANSIBLE_BIN, Fleet, Host, Run
from tests.integration.sshd import SSHD, Sshd

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="sshd is missing: apt-get install openssh-server"),
    pytest.mark.skipif(accounts.REASON is not None, reason=f"no users can be made here: {accounts.REASON}"),
]
PYTHON = "/usr/bin/python3"  # which every user may run
HAS_DOAS = (
    shutil.which("doas") and (COLLECTIONS / "ansible_collections/community/general/plugins/become/doas.py").exists()
)
needs_setfacl = pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is missing: apt-get install acl")
needs_doas = pytest.mark.skipif(
    not HAS_DOAS, reason="doas is missing: apt-get install doas, python -m tests.awx.collection"
)


class Remote:
    """Two hosts behind sshd: ``web1``, on which the tests log in as a user of their own, and ``web2``."""

    def __init__(self, fleet: Fleet, made: Accounts, sshd: Sshd) -> None:
        self.fleet = fleet
        self.made = made
        self.sshd = sshd
        fleet.variables.update(sshd.variables, ansible_python_interpreter=PYTHON)
        # Python's own caches are of no interest to what is searched for secrets.
        paths = [os.environ["ANSIBLE_COLLECTIONS_PATH"], str(COLLECTIONS)]
        fleet.env["ANSIBLE_COLLECTIONS_PATH"] = ":".join(paths)
        self.web1 = fleet.add("web1")
        self.web1.variables["multicart_deploy_commands"] = ["sh -c 'id -un >> {{ home }}/log'"]
        fleet.add("web2")

    def log_in(self, shell: str = "/bin/sh", **variables: Any) -> User:
        """Let ``web1`` be reached as a new user, with these variables."""
        user = self.made.add(shell)
        self.web1.variables.update(ansible_user=user.name, **variables)
        return user

    def become(self, method: str, user: str = "root", password: str | None = None) -> None:
        self.web1.variables.update(ansible_become=True, ansible_become_method=method, ansible_become_user=user)
        if password is not None:
            self.web1.variables["ansible_become_password"] = password

    def give(self, user: User) -> None:
        """Let the files of ``web1`` be a user's own."""
        for path in (self.web1.folder, *self.web1.folder.iterdir()):
            shutil.chown(path, user.name, user.name)

    def rotate(self, *arguments: str, armed: int, as_user: str = "root", **how: Any) -> Run:
        """Rotate, and hold the run to everything that it is for."""
        run = self.fleet.rotate("-vvv", *arguments, **how)
        assert run.green, run
        assert (run.armed, self.fleet.rotations, self.fleet.stale) == (armed, 1, []), run
        assert self.web1.log == [as_user], run
        assert self.web1.env.owner() == self.web1.record_path().owner() == as_user
        assert str(self.web1.variables.get("ansible_become_password")) not in run.output
        assert not _kept_programs(self.web1), "the program is still there"
        return run

    def refused(self, *words: str, **how: Any) -> Run:
        """Try to rotate, and hold the run to a reason with these words, before anything is rotated."""
        before = self.fleet.snapshot()
        run = self.fleet.rotate(**how)
        assert (run.green, run.reason, self.fleet.rotations) == (False, "not_ready", 0), run
        [told] = [task["msg"] for task in run.failures if task.host == "web1"]
        assert all(word in told for word in words), told
        assert "web2: " not in run.message
        assert self.fleet.snapshot() == before
        return run


def _kept_programs(host: Host) -> list[Path]:
    homes = [Path("~root").expanduser(), Path("/home")]
    user = host.variables.get("ansible_user")
    return [path for home in homes for path in home.glob(f"{user or ''}/.ansible/tmp/*/multicart.keys.py")]


@pytest.fixture
def remote(open_fleet: Fleet) -> Iterator[Remote]:
    with Accounts() as made, Sshd() as sshd:
        yield Remote(open_fleet, made, sshd)


# --- becoming another user ------------------------------------------------------------------------


@pytest.mark.parametrize("with_password", [False, True], ids=["without", "with-password"])
def test_sudo(remote: Remote, with_password: bool) -> None:
    user = remote.log_in()
    remote.made.sudo(user, "ALL=(ALL) ALL" if with_password else "ALL=(ALL) NOPASSWD: ALL")
    remote.become("sudo", password=user.password if with_password else None)
    remote.rotate(armed=2)


@pytest.mark.parametrize("with_password", [False, True], ids=["without", "with-password"])
def test_sudo_to_somebody_who_is_not_root(remote: Remote, with_password: bool) -> None:
    user, other = remote.log_in(), remote.made.add()
    remote.made.sudo(user, f"ALL=({other.name}) {'' if with_password else 'NOPASSWD:'} ALL")
    remote.become("sudo", other.name, user.password if with_password else None)
    remote.give(other)
    remote.rotate(armed=2, as_user=other.name)


@pytest.mark.parametrize("with_password", [False, True], ids=["without", "with-password"])
def test_o3_where_sudo_insists_on_a_terminal_the_program_is_copied(remote: Remote, with_password: bool) -> None:
    user = remote.log_in()
    rule = "ALL=(ALL) ALL" if with_password else "ALL=(ALL) NOPASSWD: ALL"
    remote.made.sudo(user, rule, "requiretty")
    remote.become("sudo", password=user.password if with_password else None)
    remote.rotate(armed=1)
    assert remote.fleet.deploy().green


def test_sudo_that_lectures_and_has_a_prompt_of_its_own(remote: Remote) -> None:
    user = remote.log_in()
    remote.made.sudo(user, "ALL=(ALL) ALL", 'lecture=always, passprompt="Say it, %p: "')
    remote.become("sudo", password=user.password)
    remote.rotate(armed=2)


@pytest.mark.parametrize("password", [None, "not-the-password"], ids=["missing", "wrong"])
def test_sudo_without_the_right_password_is_refused(remote: Remote, password: str | None) -> None:
    user = remote.log_in()
    remote.made.sudo(user, "ALL=(ALL) ALL")
    remote.become("sudo", password=password)
    remote.refused("password")


@pytest.mark.parametrize("password", [None, "not-the-password"], ids=["missing", "wrong"])
def test_sudo_on_a_terminal_without_the_right_password_is_refused(remote: Remote, password: str | None) -> None:
    user = remote.log_in()
    remote.made.sudo(user, "ALL=(ALL) ALL", "requiretty")
    remote.become("sudo", password=password)
    remote.refused("password")


def test_who_may_not_use_sudo_at_all_is_refused(remote: Remote) -> None:
    user = remote.log_in()
    remote.become("sudo", password=user.password)
    remote.refused("may not become another one there")


@needs_setfacl
def test_su(remote: Remote) -> None:
    remote.log_in()
    other = remote.made.add()
    remote.become("su", other.name, other.password)
    remote.give(other)
    remote.rotate(armed=1, as_user=other.name)


@needs_setfacl
@pytest.mark.parametrize(
    "password", [pytest.param(None, marks=pytest.mark.full), "not-the-password"], ids=["missing", "wrong"]
)
def test_su_without_the_right_password_is_refused(remote: Remote, password: str | None) -> None:
    remote.log_in()
    other = remote.made.add()
    remote.become("su", other.name, password)
    remote.give(other)
    remote.refused("password")


@needs_doas
@pytest.mark.parametrize("with_password", [False, True], ids=["without", "with-password"])
def test_doas(remote: Remote, with_password: bool) -> None:
    user = remote.log_in()
    remote.made.doas(user, "" if with_password else "nopass")
    remote.become("community.general.doas", password=user.password if with_password else None)
    # The plugin itself refuses to have the program's input sent.
    remote.rotate(armed=1)


@needs_doas
def test_doas_that_may_have_the_input_sent(remote: Remote) -> None:
    user = remote.log_in()
    remote.made.doas(user, "nopass")
    remote.become("community.general.doas")
    remote.web1.variables["ansible_doas_allow_pipelining"] = True
    remote.rotate(armed=2)


@needs_doas
@pytest.mark.parametrize("password", [None, "not-the-password"], ids=["missing", "wrong"])
def test_doas_without_the_right_password_is_refused(remote: Remote, password: str | None) -> None:
    user = remote.log_in()
    remote.made.doas(user)
    remote.become("community.general.doas", password=password)
    remote.refused("become")


@needs_doas
def test_who_may_not_use_doas_at_all_is_refused(remote: Remote) -> None:
    remote.log_in()
    remote.made.doas(remote.made.add(), "nopass")
    remote.become("community.general.doas")
    remote.refused("may not become another one there")


# --- how it is connected ----------------------------------------------------------------------------


def as_owner(remote: Remote, shell: str = "/bin/sh", **variables: Any) -> User:
    """Log in as the owner of the files, who becomes nobody else."""
    user = remote.log_in(shell, **variables)
    remote.give(user)
    return user


@pytest.mark.parametrize(
    "arguments", ["-o ControlMaster=no -o ControlPath=none", "-C"], ids=["no-master", "no-persist"]
)
def test_without_connections_that_are_kept(remote: Remote, arguments: str) -> None:
    user = as_owner(remote, ansible_ssh_args=arguments)
    remote.rotate(armed=2, as_user=user.name)


@pytest.mark.parametrize(
    ("env", "variables", "transfer"),
    [
        pytest.param({}, {"ansible_pipelining": False}, "smart", marks=pytest.mark.full),
        ({}, {"ansible_ssh_pipelining": False}, "scp"),
        pytest.param({"ANSIBLE_PIPELINING": "0"}, {"ansible_pipelining": False}, "piped", marks=pytest.mark.full),
        ({"ANSIBLE_KEEP_REMOTE_FILES": "1"}, {}, "sftp"),
    ],
    ids=["off", "off-for-ssh", "off-everywhere", "files-kept"],
)
def test_without_pipelining_it_is_copied(
    remote: Remote, env: Mapping[str, str], variables: Mapping[str, Any], transfer: str
) -> None:
    user = as_owner(remote, ansible_ssh_transfer_method=transfer, **variables)
    remote.rotate(armed=0 if env else 1, as_user=user.name, env=env)


@pytest.mark.parametrize("become", [False, True], ids=["owner", "sudo"])
def test_paramiko(remote: Remote, become: bool) -> None:
    asked = subprocess.run([ANSIBLE_BIN / "python", "-c", "import paramiko"], capture_output=True, check=False)
    if asked.returncode != 0:
        pytest.skip("paramiko is missing beside this ansible-core: pip install paramiko")
    key = remote.sshd.identity
    how = {"ansible_connection": "paramiko", "ansible_host": "127.0.0.1", "ansible_private_key_file": str(key)}
    checks = {"ansible_paramiko_host_key_checking": False, "ansible_paramiko_record_host_keys": False}
    user = remote.log_in(**how, **checks)
    if become:
        remote.made.sudo(user, "ALL=(ALL) ALL")
        remote.become("sudo", password=user.password)
    else:
        remote.give(user)
    remote.rotate(armed=1, as_user="root" if become else user.name)


def test_the_environment_of_a_play_is_that_of_the_commands(remote: Remote) -> None:
    user = as_owner(remote, multicart_deploy_commands=["sh -c 'printenv MC_SHOP >> {{ home }}/log'"])
    head = """
    environment:
      MC_SHOP: it's $HOME "here"
    roles: [multicart.keys.multicart_rotate]
    """
    run = remote.fleet.play("[]", "-e", "multicart_rotate_confirm=true", head=head)
    assert run.green, run
    assert (run.armed, remote.fleet.stale) == (2, [])
    assert (remote.web1.folder / "log").read_text() == 'it\'s $HOME "here"\n'
    assert remote.web1.env.owner() == user.name


def shells() -> list[Any]:
    posix = COLLECTIONS / "ansible_collections/ansible/posix/plugins/shell"
    found = [("/bin/bash", {"ansible_shell_executable": "/bin/bash"}), ("/bin/dash", {})]
    for path, kind in (("/usr/bin/tcsh", "csh"), ("/usr/bin/fish", "fish")):
        found += [(path, {}), (path, {"ansible_shell_type": f"ansible.posix.{kind}", "ansible_shell_executable": path})]
    return [
        pytest.param(
            path,
            variables,
            id=f"{Path(path).name}{'-as-such' if variables else ''}",
            marks=pytest.mark.skipif(
                not Path(path).exists() or not posix.exists(),
                reason=f"{path} is missing, or its plugin: apt-get install",
            ),
        )
        for path, variables in found
    ]


@pytest.mark.parametrize(("shell", "variables"), shells())
def test_another_shell(remote: Remote, shell: str, variables: Mapping[str, Any]) -> None:
    user = as_owner(remote, shell, **variables)
    remote.rotate(armed=2, as_user=user.name)


@pytest.mark.parametrize(("shell", "variables"), shells())
def test_another_shell_and_sudo_with_a_password(remote: Remote, shell: str, variables: Mapping[str, Any]) -> None:
    user = remote.log_in(shell, **variables)
    remote.made.sudo(user, "ALL=(ALL) ALL")
    remote.become("sudo", password=user.password)
    remote.rotate(armed=2)


# --- what cannot be connected to --------------------------------------------------------------------


def forget_host_key(remote: Remote) -> None:
    common = remote.fleet.variables["ansible_ssh_common_args"]
    known = f"UserKnownHostsFile={remote.sshd.known_hosts}"
    remote.web1.variables["ansible_ssh_common_args"] = common.replace(known, "UserKnownHostsFile=/dev/null")


def lock_out(remote: Remote) -> None:
    remote.web1.variables["ansible_user"] = "no-such-user"


def close_port(remote: Remote) -> None:
    common = remote.fleet.variables["ansible_ssh_common_args"]
    port = f"Port={remote.fleet.variables['ansible_port']}"
    remote.web1.variables.update(ansible_ssh_common_args=common.replace(port, "Port=1"), ansible_port=1)


def lose_python(remote: Remote) -> None:
    as_owner(remote, ansible_python_interpreter="/no/such/python")


def take_old_python(remote: Remote) -> None:
    old = remote.web1.folder / "python2"
    old.write_text('#!/bin/sh\necho "SyntaxError: invalid syntax" >&2\nexit 1\n')
    old.chmod(0o755)
    as_owner(remote, ansible_python_interpreter=str(old))


REFUSED: dict[str, tuple[Callable[[Remote], object], list[str]]] = {
    "host_key_unknown": (forget_host_key, ["unreachable", "Host key verification failed"]),
    "key_not_accepted": (lock_out, ["unreachable", "Permission denied"]),
    "nobody_listens": (close_port, ["unreachable", "Connection refused"]),
    "no_python": (lose_python, ["it has no Python 3.6 or later", "ansible_python_interpreter"]),
    "python_too_old": (take_old_python, ["its Python gave no answer"]),
    "files_of_somebody_else": (Remote.log_in, ["app.env"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_clear_reason_before_anything_is_rotated(remote: Remote, case: str) -> None:
    prepare, words = REFUSED[case]
    prepare(remote)
    remote.refused(*words)


@pytest.mark.parametrize("name", ["web0", "web3"], ids=["first", "last"])
def test_a_host_whose_connection_plugin_is_not_there_is_refused_by_ansible_itself(fleet: Fleet, name: str) -> None:
    fleet.add_many(2)
    fleet.add(name, ansible_connection="no.such.plugin")
    before = fleet.snapshot()
    run = fleet.rotate()
    assert (run.green, fleet.rotations) == (False, 0), run
    assert "no.such.plugin" in run.message
    assert (run.reason, name in run.message) in ((None, False), ("not_prepared", True)), run
    assert fleet.snapshot() == before
