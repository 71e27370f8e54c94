# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular to Azure, Google Cloud, Consul, etcd and AWX: credentials and their places, and what they keep."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import trustme
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    NO_CONTROL_NODE,
    Conflict,
    ControlNode,
    InvalidEntry,
    Store,
    StoreError,
    open_store,
    resolve,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.stores.http_api import Answer, Request
from tests.stores.other_apis import AwxApi, AwxCredential, AzureSecret, ConsulApi, ConsulKey, Etcd, GcpApi, GcpSecret
from tests.stores.talk import NEW, OLD, OTHER, fingerprint
from tests.waiting import PATIENCE

Made = Callable[[type[Any]], Any]
RECORD = {"held": fingerprint(OLD)}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    backends: list[Any] = []

    def make(kind: type[Any]) -> Any:
        backends.append(kind(tmp_path))
        backends[-1].put(OLD)
        return backends[-1]

    yield make
    for each in backends:
        each.stop()


def opened(backend: Any, control: ControlNode = NO_CONTROL_NODE, **fields: Any) -> Store:
    entry = {name: value for name, value in {**backend.entry, **fields}.items() if value is not None}
    return open_store(backend.kind, resolve(backend.kind, entry, control))


def refused(backend: Any, **fields: Any) -> tuple[str, str]:
    with pytest.raises(StoreError) as caught:
        opened(backend, **fields).inspect()
    return caught.value.reason, str(caught.value)


# --- credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "environment"),
    [
        ("consul_kv", "url", {"CONSUL_HTTP_TOKEN": "canary"}),
        ("etcd", "url", {"ETCDCTL_PASSWORD": "canary"}),
        ("awx_credential", "url", {"CONTROLLER_OAUTH_TOKEN": "canary"}),
        ("azure_keyvault", "vault_url", {"AZURE_CLIENT_SECRET": "canary"}),
        ("azure_keyvault", "authority", {"AZURE_CLIENT_SECRET": "canary", "AZURE_KEYVAULT_URL": "https://vault"}),
        ("gcp_secret_manager", "endpoint", {"GOOGLE_OAUTH_ACCESS_TOKEN": "canary"}),
        ("gcp_secret_manager", "endpoint", {"GOOGLE_APPLICATION_CREDENTIALS": __file__}),
    ],
)
def test_a_credential_of_the_environment_goes_nowhere_else(kind: str, name: str, environment: dict[str, str]) -> None:
    entry = {
        "consul_kv": {"key": "x"},
        "etcd": {"key": "x", "username": "us"},
        "awx_credential": {"name": "x"},
        "azure_keyvault": {"name": "x", "tenant_id": "x", "client_id": "x"},
        "gcp_secret_manager": {"project": "x", "name": "x"},
    }[kind]
    with pytest.raises(InvalidEntry, match="goes only") as caught:
        resolve(kind, {**entry, name: "https://elsewhere.example.com"}, ControlNode(environment))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", ["authority", "ca_path"])
def test_the_token_of_a_workload_goes_nowhere_else(name: str) -> None:
    """The library takes it from the environment by itself, and posted it to the authority of the entry."""
    entry = {"vault_url": "https://x.vault.azure.net", "name": "x", "auth": "workload_identity"}
    environment = ControlNode({"AZURE_AUTHORITY_HOST": "login.example.com"})
    assert resolve("azure_keyvault", entry, environment)["authority"] == "https://login.example.com"
    more = {"authority": "https://elsewhere.example.com", "ca_path": __file__}
    remedy = {
        "authority": "leave out authority",
        "ca_path": "add the CA to the certificates of the control node's system",
    }
    with pytest.raises(InvalidEntry, match=f"has {name} with auth: workload_identity, .*{remedy[name]}$"):
        resolve("azure_keyvault", {**entry, name: more[name]}, environment)
    own = {"auth": "client_secret", "tenant_id": "x", "client_id": "x", "client_secret": "x", name: more[name]}
    assert resolve("azure_keyvault", {**entry, **own}, environment)[name] == more[name]


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("gcp_secret_manager", {"project": "x", "name": "x", "location": "elsewhere.example.com\\"}),
        ("gcp_secret_manager", {"project": "x", "name": "x", "location": "elsewhere.example.com"}),
        ("gcp_secret_manager", {"project": "x", "name": "x", "location": "x\n"}),
        ("consul_kv", {"url": "https://elsewhere.example.com\\.example.com", "key": "x"}),
        ("consul_kv", {"url": "https://[::1]elsewhere.example.com", "key": "x"}),
        ("consul_kv", {"url": "http://consul.example.com", "key": "x"}),
        ("consul_kv", {"url": "https://consul.example.com/path", "key": "x"}),
        ("etcd", {"url": "https://etcd.example.com", "key": "x", "username": "us"}),
        ("etcd", {"url": "https://etcd.example.com", "key": "x", "client_cert": __file__}),
        ("awx_credential", {"url": "https://awx.example.com", "name": "x", "token": "x", "api_path": "/api/v2?x"}),
        ("azure_keyvault", {"vault_url": "http://127.0.0.1:1", "name": "x", "auth": "cli"}),
        ("azure_keyvault", {"vault_url": "https://vault.example.com", "name": "x", "tenant_id": "x"}),
        ("gcp_secret_manager", {"project": "x/y", "name": "x"}),
        ("gcp_secret_manager", {"project": "x", "name": "x", "endpoint": "https://elsewhere.example.com"}),
    ],
)
def test_what_does_not_go_together_is_refused(kind: str, entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidEntry, match="needs "):
        resolve(kind, entry, NO_CONTROL_NODE)


@pytest.mark.parametrize("kind", [ConsulKey, AwxCredential, GcpSecret, AzureSecret])
def test_only_the_credentials_of_the_entry_are_sent(
    made: Made, kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login us password netrc-canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("CONSUL_HTTP_TOKEN", "CONSUL_HTTP_ADDR", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "environment-canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    backend = made(kind)
    store = opened(backend)
    store.write(ApiKey(NEW), store.inspect())
    assert backend.value() == NEW
    assert "canary\n" not in repr([request.headers for request in backend.api.requests])
    credentials = {request.headers.get("Authorization", "") for request in backend.api.requests}
    assert not [each for each in credentials if each.startswith("Basic")]


@pytest.mark.parametrize("kind", [ConsulKey, AzureSecret])
def test_the_right_to_write_is_proven_also_where_the_record_stays_as_it_is(made: Made, kind: type[Any]) -> None:
    backend = made(kind)
    store = opened(backend)
    store.inspect()
    before = repr(backend.api.kept)
    store.verify_right()
    assert repr(backend.api.kept) == before
    backend.break_by("read_only")
    with pytest.raises(StoreError) as caught:
        store.verify_right()
    assert caught.value.reason == "store_refused"


# --- Azure ----------------------------------------------------------------------------------------


def test_a_vault_is_not_given_a_token_for_another_place(made: Made) -> None:
    backend = made(AzureSecret)
    challenge = f'Bearer authorization="{backend.api.url}/tenant-1", resource="https://elsewhere.example.com"'
    answer = backend.api.answer
    backend.api.answer = lambda request: (
        Answer(401, None, {"WWW-Authenticate": challenge}) if "secrets" in request.path else answer(request)
    )
    assert refused(backend)[0] in ("store_refused", "store_malformed")
    assert "Authorization" not in repr([request.headers for request in backend.api.requests])


def test_a_certificate_of_nobody_is_refused(made: Made, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    reason, text = refused(made(AzureSecret), ca_path=str(tmp_path / "another.pem"))
    assert (reason, "ca_path" in text) == ("store_unreachable", True)


def test_a_secret_with_too_many_tags_or_of_a_certificate_is_refused(made: Made) -> None:
    backend = made(AzureSecret)
    kept = backend.api.kept[backend.name]
    kept["tags"] = {str(number): "theirs" for number in range(15)}
    store = opened(backend)
    with pytest.raises(StoreError, match="16 tags"):
        store.note(RECORD, store.inspect())
    kept["managed"] = True
    assert refused(backend)[0] == "store_not_writable"


def test_a_version_that_somebody_else_has_made_is_not_replaced_unseen(made: Made) -> None:
    for kind in (AzureSecret, GcpSecret, ConsulKey, AwxCredential):
        backend = made(kind)
        store = opened(backend)
        found = store.inspect()
        backend.put(OTHER)
        with pytest.raises(Conflict):
            store.write(ApiKey(NEW), found)
        assert backend.value() == OTHER


# --- Google Cloud ---------------------------------------------------------------------------------


def test_a_service_account_gets_its_token(made: Made, tmp_path: Path) -> None:
    backend = made(GcpSecret)
    answer = backend.api.answer

    def give_token(request: Request) -> Answer:
        if request.path != "/token":
            return answer(request)
        assert parse_qs(request.body)["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        return Answer(200, {"access_token": GcpApi.token, "expires_in": 3600, "token_type": "Bearer"})

    backend.api.answer = give_token
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"type": "service_account", "client_email": "us@example.com", "private_key": key.decode()}
    (tmp_path / "account.json").write_text(json.dumps({**account, "token_uri": f"{backend.api.url}/token"}))
    how = {"access_token": None, "credentials_path": str(tmp_path / "account.json")}
    assert opened(backend, **how).inspect().fingerprint == fingerprint(OLD)
    (tmp_path / "account.json").write_text("{}")
    assert refused(backend, **how)[0] == "store_refused"


def test_a_secret_without_a_version_gets_one_and_annotations_of_others_are_kept(made: Made) -> None:
    backend = made(GcpSecret)
    backend.api.kept[backend.name]["versions"].clear()
    store = opened(backend)
    found = store.inspect()
    backend.change_rest()
    with pytest.raises(Conflict):  # by its etag
        store.note(RECORD, found)
    store.note(RECORD, store.write(ApiKey(NEW), store.inspect()))
    assert (backend.value(), backend.rest()) == (NEW, ({"owner": "us", "theirs": "1"}, {"app": "shop"}))


def test_a_regional_secret_is_at_the_place_of_its_region() -> None:
    entry = {"project": "shop", "name": "key", "location": "europe-west3", "access_token": "x"}
    options = resolve("gcp_secret_manager", entry, NO_CONTROL_NODE)
    assert options["endpoint"] == "https://secretmanager.europe-west3.rep.googleapis.com"


# --- Consul and etcd ------------------------------------------------------------------------------


def test_a_missing_key_of_consul_is_created_on_request_only(made: Made) -> None:
    backend = made(ConsulKey)
    del backend.api.kept[backend.name]
    assert refused(backend)[0] == "store_missing"
    store = opened(backend, create=True)
    found = store.inspect()
    store.verify_right()
    assert backend.name not in backend.api.kept
    store.write(ApiKey(NEW), found)
    assert backend.value() == NEW


def test_proving_a_right_in_consul_changes_nothing(made: Made) -> None:
    backend = made(ConsulKey)
    before = dict(backend.api.kept[backend.name])
    opened(backend).verify_right()
    assert backend.api.kept[backend.name] == before
    assert [request.method for request in backend.api.changes] == ["PUT"]
    assert {request.headers["X-Consul-Token"] for request in backend.api.requests} == {ConsulApi.token}


@pytest.mark.full
def test_a_missing_key_of_etcd_is_created_on_request_only_and_keys_may_be_locked_away(made: Made) -> None:
    if not shutil.which("etcd"):
        pytest.skip("etcd is missing: apt-get install etcd-server")
    backend = made(Etcd)
    assert refused(backend, key="shop/nowhere")[0] == "store_missing"
    store = opened(backend, key="shop/nowhere", create=True)
    found = store.inspect()
    store.write(ApiKey(NEW), found)
    with pytest.raises(Conflict):
        store.write(ApiKey(OTHER), found)
    reason, text = refused(backend, key="elsewhere")
    assert (reason, "elsewhere.multicart" in text) == ("store_refused", True)
    backend.allow("READ", backend.entry["key"])
    backend.allow("READWRITE", f"{backend.entry['key']}.multicart")
    assert refused(backend)[0] == "store_refused"
    reason, text = refused(backend, username=None, password=None)
    assert (reason, "username" in text) == ("store_refused", True)


@pytest.mark.full
def test_etcd_with_certificates_for_both_sides(made: Made) -> None:
    if not shutil.which("etcd"):
        pytest.skip("etcd is missing: apt-get install etcd-server")
    backend = made(Etcd)
    fields = backend.demand_certificates()
    store = opened(backend, **fields)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # until it has a leader
        with suppress(StoreError):
            found = store.inspect()
            break
    assert store.write(ApiKey(NEW), found).fingerprint == store.inspect().fingerprint == fingerprint(NEW)
    reason, text = refused(backend, **{**fields, "ca_path": None})
    assert (reason, "ca_path" in text) == ("store_unreachable", True)
    assert refused(backend, url=fields["url"], ca_path=fields["ca_path"])[0] == "store_unreachable"


@pytest.mark.parametrize("code", ["canary", True, 17, -1, 3.5, ["canary"], None])
def test_of_etcd_only_a_number_that_grpc_knows_is_repeated(code: Any) -> None:
    api = ConsulApi()
    api.answer = lambda _request: Answer(400, {"error": "canary", "code": code})
    try:
        entry = {"url": api.url, "key": "x", "username": "us", "password": "canary"}
        store = open_store("etcd", resolve("etcd", entry, NO_CONTROL_NODE))
        with pytest.raises(StoreError) as caught:
            store.inspect()
        assert (caught.value.reason, "canary" in str(caught.value)) == ("store_malformed", False)
        api.answer = lambda _request: Answer(400, {"code": 5})
        with pytest.raises(StoreError, match="gRPC status 5"):
            store.inspect()
    finally:
        api.stop()


# --- AWX ------------------------------------------------------------------------------------------


def test_a_field_that_everybody_can_read_or_that_is_not_there_is_refused(made: Made) -> None:
    backend = made(AwxCredential)
    assert refused(backend, field="email")[0] == "store_not_writable"
    assert refused(backend, field="another")[0] == "store_missing"
    backend.api.kept[backend.name]["managed"] = True
    assert refused(backend)[0] == "store_not_writable"


def test_a_name_must_be_that_of_one_credential(made: Made) -> None:
    backend = made(AwxCredential)
    backend.api.kept["another"] = {**backend.api.kept[backend.name], "id": 6, "organization": "Another"}
    assert opened(backend).inspect().fingerprint is None
    reason, text = refused(backend, organization=None)
    assert (reason, "2 such credentials" in text) == ("store_missing", True)
    assert "0 such credentials" in refused(backend, credential_type="Another")[1]


def test_a_credential_that_was_changed_since_is_not_known(made: Made) -> None:
    backend = made(AwxCredential)
    store = opened(backend)
    store.note(RECORD, store.inspect())
    assert opened(backend).inspect().fingerprint == fingerprint(OLD)
    backend.api.change(backend.name, 16)
    found = opened(backend).inspect()
    assert (found.fingerprint, found.record["held"]) == (None, None)


def test_the_description_of_a_credential_is_kept_and_holds_one_record(made: Made) -> None:
    backend = made(AwxCredential)
    for description in ("", "Ours.\nTwo lines [with brackets]"):
        backend.api.change(backend.name, 1, description=description)
        store = opened(backend)
        store.note(RECORD, store.note(RECORD, store.inspect()))
        kept = backend.api.kept[backend.name]["description"]
        assert kept.startswith(description) and kept.count("[multicart.keys ") == 1
        assert AwxApi.placeholder not in repr(backend.api.kept)


def test_no_error_repeats_what_a_server_says(made: Made) -> None:
    """Also not by a chained error."""
    for kind in (AzureSecret, GcpSecret, ConsulKey, AwxCredential):
        backend = made(kind)
        backend.api.break_by("echo", backend.befalls)
        with pytest.raises(StoreError) as caught:
            opened(backend).inspect()
        assert "canary" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.full
@pytest.mark.parametrize("module", ["azure.keyvault.secrets", "azure.identity", "google.cloud.secretmanager_v1"])
def test_a_library_that_is_missing_is_named(made: Made, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = made(AzureSecret if "azure" in module else GcpSecret)
    monkeypatch.setitem(sys.modules, module, None)
    reason, text = refused(backend)
    assert (reason, "-m pip install" in text) == ("store_library_missing", True)


@pytest.mark.full
@pytest.mark.parametrize("auth", ["managed_identity", "workload_identity", "cli"])
def test_where_there_is_no_such_identity(made: Made, auth: str, tmp_path: Path) -> None:
    """In a process without the environment of this one, and without a program az."""
    backend = made(AzureSecret)
    entry = {**backend.entry, "auth": auth, "client_secret": None}
    options = resolve("azure_keyvault", entry, ControlNode())
    script = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import ansible.utils.collection_loader._collection_finder as finder\n"
        "from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import StoreError, open_store\n"
        f"try:\n    open_store('azure_keyvault', {options!r}).inspect()\n"
        "except StoreError as error:\n    print(error.reason)\n"
    )
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() in ("store_refused", "store_failed", "store_unreachable"), done.stderr
