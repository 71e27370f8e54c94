# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which stores a host has, by its variables: what is refused, where values come from, and which wave it is in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import AnsibleVaultError
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import (
    READERS,
    HostSpec,
    may_have_stores,
    spec_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import protocol
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import Conflict, ControlNode, Found, Store
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.stored_key import StoredKey

from tests.conftest import COLLECTIONS_PATH

STORES = "multicart_deploy_stores"
GCP = {"type": "gcp_secret_manager", "project": "x", "name": "x"}
VERBS = ("inspect", "write", "note")
AZURE = {"type": "azure_keyvault", "vault_url": "https://x.vault.azure.net", "name": "x"}
VAULT = {"type": "vault_kv2", "url": "https://vault.example/", "path": "shop", "token": "token-canary"}


def spec(control: ControlNode | None = None, **variables: Any) -> HostSpec:
    return spec_of(variables, lambda value: value, control or ControlNode())


def stores(*entries: Any, control: ControlNode | None = None, **variables: Any) -> HostSpec:
    return spec(control, **{STORES: list(entries), **variables})


def refused(*entries: Any, control: ControlNode | None = None, **variables: Any) -> str:
    with pytest.raises(MulticartError) as caught:
        stores(*entries, control=control, **variables)
    assert caught.value.reason is Reason.INVALID_OPTION
    assert "canary" not in str(caught.value)
    return str(caught.value)


def test_a_store_stands_where_a_file_stands() -> None:
    found = stores(VAULT)
    (store,) = found.files
    assert found.has_stores and found.wave == 0
    assert (store.path, store.variable, store.template) == (
        "vault_kv2 secret/shop MULTICART_API_KEY at https://vault.example",
        None,
        None,
    )
    assert "canary" not in repr(store)
    assert HostSpec.from_json(json.loads(json.dumps(found.to_json()))) == found
    (entry,) = found.request()["files"]
    assert entry["options"]["token"] == "token-canary"


def test_stores_of_other_accounts_are_left_alone() -> None:
    found = stores({**VAULT, "account": "other"})
    assert (found.files, found.others) == ([], True)
    both = stores(VAULT, {**VAULT, "account": "other"}, multicart_account="other")
    assert len(both.files) == 1 and both.others


@pytest.mark.parametrize(("account", "number"), [(None, 1), ("shop", 1), ("erp", 0)])
def test_a_store_without_an_account_has_that_of_its_host(account: str | None, number: int) -> None:
    entries = [VAULT, {**VAULT, "path": "another", "account": "default"}]
    found = stores(*entries, multicart_deploy_account="shop", multicart_account=account)
    assert (len(found.files), found.others) == (number, True)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("text", "must be a mapping"),
        ({}, "needs type: one of ansible_vault, aws_secretsmanager"),
        ({"type": "protocol"}, "needs type: one of"),
        ({"type": "../x"}, "needs type: one of"),
        ({**VAULT, "tokne": 1}, "unknown field 'tokne'"),
        ({**VAULT, "ca-path": 1}, "unknown field 'ca-path'"),
        ({**VAULT, "kv2": 1}, "unknown field 'kv2'"),
        ({**VAULT, "path": 7}, "needs path: a text"),
        ({**VAULT, "path": "a\nb"}, "needs path: one line"),
        ({**VAULT, "create": "yes"}, "needs create: true or false"),
        ({**VAULT, "auth": "ldap"}, "needs auth: token or approle or kubernetes"),
        ({**VAULT, "auth": "approle"}, "needs role_id with auth: approle"),
        ({**VAULT, "token": None}, "needs token with auth: token"),
        ({**VAULT, "url": "vault.example"}, "needs url: an https:// URL"),
        ({**VAULT, "url": "http://vault.example"}, "http:// is accepted for a loopback"),
        ({**VAULT, "url": "https://u:canary@vault.example"}, "without user"),
        (
            {**VAULT, "url": "https://[fe80::1%25eth0]"},
            "needs url: a URL with a host name, or an address without a zone",
        ),
        ({**VAULT, "ca_path": "/nowhere/ca.pem"}, "/nowhere/ca.pem does not exist"),
        ({**VAULT, "ca_path": "ca.pem"}, "needs ca_path: ca.pem does not exist"),
        ({"type": "ansible_vault", "path": "vars/prod.yml"}, "needs path: vars/prod.yml does not exist"),
        ({"type": "command", "label": "x", "inspect": "true"}, "needs inspect: a list of texts"),
        ({"type": "command", "label": "x", "inspect": []}, "needs inspect"),
        ({"type": "ansible_vault", "path": __file__, "variable": "a-b"}, "needs variable"),
        ({"type": "ansible_vault", "path": __file__, "remote": "origin"}, "needs remote and branch"),
        ({"type": "ansible_vault", "path": __file__, "remote": "--x", "branch": "main"}, "needs remote: a name"),
        ({"type": "ansible_vault", "path": __file__, "passwords": ["x"]}, "unknown field 'passwords'"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_number_and_field(entry: Any, said: str) -> None:
    text = refused(VAULT, entry)
    assert text.startswith(f"{STORES}, entry 2: it ") and said in text


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**VAULT, "MULTICART_API_KEY=acme.canary": 1}, "unknown field '(not shown)'"),
        ({**VAULT, "ghp_canary" + "0" * 30: 1}, "unknown field '(not shown)'"),
        ({**VAULT, "ghp_canarycanarycanarycanarycanarycanary": 1}, "unknown field '(not shown)'"),
        ({**VAULT, "173axcs.canaryaaaaaaaaaaaaaaaaaaaaaaaaa": 1}, "unknown field '(not shown)'"),
        ({**VAULT, "canaryc0ffee": 1}, "unknown field '(not shown)'"),
        ({**VAULT, "c0ffee5ca9a7deadbeef00canary0123": 1}, "unknown field '(not shown)'"),
        ({**VAULT, "ca_path": "hvs.canary"}, "needs ca_path: that file does not exist"),
        ({**VAULT, "ca_path": "canary/ca+nary.pem"}, "needs ca_path: that file does not exist"),
        ({"type": "ansible_vault", "path": "173axcs.canary0123456789"}, "needs path: that file does not exist"),
        ({"type": "sops", "path": __file__, "age_key_file": "AGE-SECRET-KEY-canary"}, "needs age_key_file: that file"),
        ({**GCP, "credentials_path": '{"private_key": "canary"}'}, "needs credentials_path: that file"),
        ({"type": "command", "label": "x", **dict.fromkeys(VERBS, ["op://canary"])}, "needs inspect: that file"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(entry: Any, said: str) -> None:
    assert said in refused(entry)


def test_the_same_store_twice_is_refused() -> None:
    assert "once more" in refused(VAULT, {**VAULT, "token": "another"})


@pytest.mark.parametrize("odd", ["\u200b", "\u2013", "\u00e9", "\x7f", " "])
def test_a_token_that_no_header_can_carry_is_refused(odd: str) -> None:
    assert "needs token: printable ASCII" in refused({**VAULT, "token": f"can{odd}ary-canary"})


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"type": "etcd", "url": "https://etcd.example", "key": "x", "username": "us"}, "password"),
        ({**VAULT, "auth": "approle", "role_id": "x"}, "secret_id"),
        ({**AZURE, "tenant_id": "x", "client_id": "x"}, "client_secret"),
        ({"type": "aws_ssm", "name": "x", "access_key_id": "x"}, "secret_access_key"),
    ],
)
@pytest.mark.parametrize("odd", ["\u200b", "\u00e9", " "])
def test_a_secret_that_goes_into_no_header_may_have_any_letters(entry: dict[str, Any], field: str, odd: str) -> None:
    (store,) = stores({**entry, field: f"a{odd}b"}).files
    assert store.options[field] == f"a{odd}b"


class Vaulted(Sequence[str]):
    """What ``!vault`` is on ansible-core 2.16: no text, but decrypted as one."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __str__(self) -> str:
        if self._text is None:
            raise AnsibleVaultError("Attempting to decrypt but no vault secrets found, of canary")
        return self._text

    def __len__(self) -> int:
        return len(str(self))

    def __getitem__(self, at: Any) -> Any:
        return str(self)[at]


def test_a_vaulted_field_of_an_entry_is_decrypted() -> None:
    (store,) = stores({**VAULT, "token": Vaulted("token-canary")}).files
    assert store.options["token"] == "token-canary" and isinstance(store.options["token"], str)
    words = ["run", Vaulted("canary")]
    (store,) = stores({"type": "command", "label": Vaulted("x"), **dict.fromkeys(VERBS, words)}).files
    assert (store.path, store.options["inspect"]) == ("command x", ["run", "canary"])
    text = refused(VAULT, {**VAULT, "token": Vaulted(None)})
    assert text.startswith(f"{STORES}, entry 2, token: it cannot be decrypted: the password of its Ansible Vault")
    assert "--vault-id" in text


@pytest.mark.parametrize("name", ["multicart_deploy_services", "multicart_deploy_commands"])
def test_a_store_has_nothing_to_restart_on_a_host(name: str) -> None:
    assert name in refused(VAULT, **{name: ["x"]})


def test_a_host_has_files_or_stores() -> None:
    assert "make the store a host of its own" in refused(VAULT, multicart_deploy_files=[{"path": "/a"}])


# --- the environment --------------------------------------------------------------------------------

FROM_THERE = ControlNode({"VAULT_ADDR": "https://env.example", "VAULT_TOKEN": "env-canary"})


def test_what_an_entry_lacks_comes_from_the_environment() -> None:
    (store,) = stores({"type": "vault_kv2", "path": "shop"}, control=FROM_THERE).files
    assert (store.options["url"], store.options["token"]) == ("https://env.example", "env-canary")


def test_a_certificate_of_the_environment_goes_only_where_the_environment_says() -> None:
    names = ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY")
    control = ControlNode({**FROM_THERE.environment, **dict.fromkeys(names, __file__)})
    entry = {"type": "vault_kv2", "path": "shop"}
    (store,) = stores(entry, control=control).files
    assert (store.options["client_cert"], store.options["client_key"]) == (__file__, __file__)
    for place in ({"url": "https://other.example"}, {"validate_certs": False}, {"ca_path": __file__}):
        (store,) = stores({**entry, "token": "own", **place}, control=control).files
        assert (store.options["client_cert"], store.options["client_key"]) == (None, None)


def test_a_credential_of_the_environment_goes_to_no_other_place() -> None:
    entry = {"type": "vault_kv2", "path": "shop", "url": "https://attacker.example"}
    assert "token comes from the environment" in refused(entry, control=FROM_THERE)
    (store,) = stores({**entry, "token": "own"}, control=FROM_THERE).files
    assert store.options["token"] == "own"


def test_a_credential_of_the_environment_is_sent_under_no_other_trust() -> None:
    entry = {"type": "vault_kv2", "path": "shop", "validate_certs": False}
    assert "token comes from the environment" in refused(entry, control=FROM_THERE)


def test_an_empty_value_is_unset() -> None:
    (store,) = stores({"type": "vault_kv2", "path": "shop", "url": "", "token": ""}, control=FROM_THERE).files
    assert store.options["url"] == "https://env.example"


def test_relative_paths_are_found_beside_playbook_and_inventory(tmp_path: Path) -> None:
    (tmp_path / "tool").touch()
    words = ["./tool", "x"]
    entry = {"type": "command", "label": "x", "inspect": words, "write": words, "note": ["true"]}
    (store,) = stores(entry, control=ControlNode(folders=["/nowhere", str(tmp_path)])).files
    assert store.options["inspect"] == [str(tmp_path / "tool"), "x"]
    assert store.options["note"] == ["true"]


# --- waves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "wave"),
    [
        ({"multicart_deploy_files": [{"path": "/a"}], "multicart_deploy_services": ["x"]}, 0),
        ({"multicart_deploy_files": [{"path": "/a"}], "multicart_deploy_wave": 1}, 1),
        ({"multicart_deploy_services": ["x"]}, 1),
        ({"multicart_deploy_commands": ["x"]}, 1),
        ({"multicart_deploy_services": ["x"], "multicart_deploy_wave": "0"}, 0),
        ({STORES: [VAULT]}, 0),
    ],
)
def test_stores_and_hosts_with_files_come_first(variables: dict[str, Any], wave: int) -> None:
    found = spec(None, **variables)
    assert found.wave == wave
    assert found.wave_timeout == 10


def test_a_store_of_a_later_wave_is_refused() -> None:
    assert "multicart_deploy_wave: it is 1 for a store" in refused(VAULT, multicart_deploy_wave=1)
    assert stores(VAULT, multicart_deploy_wave=0).wave == 0


@pytest.mark.parametrize(
    ("entries", "may"),
    [
        (None, False),
        ([], False),
        ("{{ stores_of_shop }}", True),
        ([VAULT], True),
        ([{**VAULT, "account": "other"}], False),
        ([{**VAULT, "account": "other"}, VAULT], True),
        ([{**VAULT, "token": "{{ undefined }}"}], True),
        (["no mapping"], True),
        ([{**VAULT, "account": "{{ undefined }}"}], True),
    ],
)
def test_whether_a_host_that_does_not_speak_for_itself_may_have_stores(entries: Any, may: bool) -> None:
    def template(value: Any) -> Any:
        if "undefined" in str(value):
            raise ValueError(value)
        return value

    assert may_have_stores({STORES: entries}, template, "default") is may
    assert not may_have_stores({}, template, "default")


def test_services_alone_are_a_consumer() -> None:
    assert spec(None, multicart_deploy_services=["x"]).files == [READERS]
    assert spec(None).files == []
    others = [{"path": "/a", "account": "other"}]
    assert spec(None, multicart_deploy_services=["x"], multicart_deploy_files=others).files == []


@pytest.mark.parametrize("wave", [2, -1, "x", 0.5, [1]])
def test_a_wrong_wave_is_refused(wave: Any) -> None:
    with pytest.raises(MulticartError, match="multicart_deploy_wave: it must be 0 or 1"):
        spec(None, multicart_deploy_wave=wave)


def test_no_library_is_loaded_before_a_store_is_opened() -> None:
    program = (
        "import sys; sys.path[:] = {path!r}; from {module} import TYPES, fields_of; list(map(fields_of, TYPES)); "
        "print(*{{'ansible', *{libraries!r}}} & set(sys.modules))"
    )
    libraries = ["azure", "boto3", "botocore", "consul", "etcd3gw", "google", "hvac", "kubernetes", "nacl", "yaml"]
    path = [str(COLLECTIONS_PATH), *sys.path]
    script = program.format(path=path, module=protocol.__name__, libraries=libraries)
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout == "\n"


def test_a_missing_library_is_named_with_its_command() -> None:
    with pytest.raises(protocol.StoreError, match="-m pip install no-such-package") as caught:
        protocol.library("no_such_module", "no-such-package")
    assert caught.value.reason == "store_library_missing"


class Crowded(Store):
    """A store that so many others change before it can be changed."""

    def __init__(self, others: int) -> None:
        super().__init__({})
        self.others = others

    def inspect(self) -> Found:
        return Found("0123456789abcdef")

    def write(self, key: ApiKey, found: Found) -> Found:
        self.others -= 1
        if self.others >= 0:
            raise Conflict
        return Found(key.fingerprint)

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        return Found(found.fingerprint, record)


def test_the_variables_of_one_file_may_be_many_stores() -> None:
    """Each is changed while the others are: of so many, one is the last."""
    stored = StoredKey({"type": "ansible_vault", "path": "vault.yml", "options": {}})
    stored._store = Crowded(others=15)
    stored.begin({"key": "173axcs.new", "account": None, "check_mode": False}, None)
    stored.inspect()
    stored.write()
    assert stored.holds == [ApiKey("173axcs.new").fingerprint]


def test_what_repeats_a_credential_is_withheld_and_the_rest_of_the_text_is_not() -> None:
    options = {"token": "hvs.CANARYcanary", "secret_id": None, "url": "https://vault.example.com"}
    stored = StoredKey({"type": "vault_kv2", "path": "vault_kv2 secret/shop", "options": options})
    error = protocol.StoreError("store_failed", "it said hvs.CANARYcan")
    assert stored.explain(error) == "vault_kv2 secret/shop: (withheld, as it repeated a secret)"
    error = protocol.StoreError("store_failed", "https://vault.example.com does not accept the credentials")
    assert stored.explain(error) == f"vault_kv2 secret/shop: {error}"
