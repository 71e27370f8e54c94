# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of Kubernetes: what only this type has, its real client library in front of a stand-in for the API."""

from __future__ import annotations

import base64
import re
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._stores import kubernetes_secret
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    NO_CONTROL_NODE,
    Conflict,
    InvalidEntry,
    Store,
    StoreError,
    label_of,
    open_store,
    resolve,
)

from tests.ports import OwnPort
from tests.stores.kubernetes_api import TOKEN, KubernetesApi
from tests.stores.talk import NEW, OLD, OTHER, Talk, fingerprint

KEY = "MULTICART_API_KEY"
RECORD = {"format": 1, "held": fingerprint(OLD)}


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    made = KubernetesApi()
    made.put_secret("shop", "myapp", {KEY: OLD, "OTHER": "ours"}, metadata={"annotations": {"owner": "us"}})
    yield made
    made.stop()


class Opener:
    """Opens stores of a cluster, by entries with these fields."""

    def __init__(self, api: KubernetesApi, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.write(api.kubeconfig())

    def write(self, kubeconfig: Any) -> None:
        self.kubeconfig.write_text(yaml.safe_dump(kubeconfig))

    def entry(self, **fields: Any) -> dict[str, Any]:
        whole = {"kubeconfig": str(self.kubeconfig), "context": "shop", "namespace": "shop", "name": "myapp", **fields}
        return {name: value for name, value in whole.items() if value is not None}

    def __call__(self, **fields: Any) -> Store:
        return open_store("kubernetes_secret", resolve("kubernetes_secret", self.entry(**fields), NO_CONTROL_NODE))


@pytest.fixture
def opened(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    monkeypatch.setattr(kubernetes_secret, "POLLING", 0.0)
    return Opener(api, tmp_path)


def refused(store: Store) -> StoreError:
    with pytest.raises(StoreError) as caught:
        store.inspect()
    return caught.value


# --- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"in_cluster": True}, "in_cluster"),
        ({"namespace": ".."}, "namespace"),
        ({"name": "../../secrets"}, "name"),
        ({"name": "MyApp"}, "name"),
        ({"data_key": ".."}, "data_key"),
        ({"data_key": "a/b"}, "data_key"),
        ({"restart": ["pod/web"]}, "restart"),
        ({"restart": ["deployment"]}, "restart"),
        ({"restart": ["deployment/../x"]}, "restart"),
        ({"namespace": None}, "namespace"),
    ],
)
def test_what_an_entry_cannot_say(opened: Opener, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidEntry, match=f"needs {named}"):
        opened(**fields)


def test_it_is_called_by_what_tells_it_from_others(opened: Opener) -> None:
    options = resolve("kubernetes_secret", opened.entry(), NO_CONTROL_NODE)
    assert label_of("kubernetes_secret", options) == "kubernetes_secret shop/myapp MULTICART_API_KEY in shop"


# --- errors ---------------------------------------------------------------------------------------

FAULTS = {
    "down": "store_unreachable",
    "unavailable": "store_unreachable",
    "unauthorised": "store_refused",
    "forbidden": "store_refused",
    "malformed": "store_malformed",
    "html": "store_malformed",
    "redirect": "store_failed",
    "echo": "store_failed",
    "limited": "store_failed",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_error_has_its_reason_and_repeats_nothing(api: KubernetesApi, opened: Opener, fault: str) -> None:
    store = opened()
    found = store.inspect()
    api.break_by(fault)
    for act in (store.inspect, lambda: store.write(ApiKey(NEW), found), lambda: store.note(RECORD, found)):
        with pytest.raises(StoreError) as caught:
            act()
        assert caught.value.reason == FAULTS[fault]
        assert not re.search(r"canary|https?://\d|\.$", str(caught.value)), caught.value
    assert len(api.requests) == 5, "something was sent more than once"
    assert api.elsewhere == []
    assert api.value("shop", "myapp", KEY) == OLD


def test_no_server_at_all(api: KubernetesApi, opened: Opener) -> None:
    kubeconfig = api.kubeconfig()
    with OwnPort() as port:
        kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port.number}"
        opened.write(kubeconfig)
        assert refused(opened()).reason == "store_unreachable"


def test_a_server_that_hangs_is_given_up(api: KubernetesApi, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_secret, "ANSWERING", 1)
    api.break_by("hang")
    assert refused(opened()).reason == "store_unreachable"
    assert len(api.requests) == 1


def test_a_secret_that_is_none(api: KubernetesApi, opened: Opener) -> None:
    api.secrets["shop", "myapp"] = {"kind": "Secret", "metadata": [], "data": {}}
    assert refused(opened()).reason == "store_malformed"


@pytest.mark.parametrize("name", ["kubernetes.client", "urllib3.exceptions"])
def test_a_library_that_is_missing_is_named(opened: Opener, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError, match=f"{re.escape(sys.executable)} -m pip install ") as caught:
        opened()
    assert caught.value.reason == "store_library_missing"


# --- what it holds --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["changeme", "", f"{OLD}\n", "\u00e9"])
def test_a_value_that_is_no_key_counts_as_missing(api: KubernetesApi, opened: Opener, value: str) -> None:
    api.put_secret("shop", "myapp", {KEY: value})
    assert opened().inspect().fingerprint is None


def test_a_value_that_is_no_base64_counts_as_missing(api: KubernetesApi, opened: Opener) -> None:
    api.change_secret("shop", "myapp", {"data": {KEY: "%%%"}})
    assert opened().inspect().fingerprint is None


def test_a_secret_without_any_data(api: KubernetesApi, opened: Opener) -> None:
    api.change_secret("shop", "myapp", {"data": None, "metadata": {"annotations": None}})
    store = opened()
    store.write(ApiKey(NEW), store.note(RECORD, store.inspect()))
    assert api.value("shop", "myapp", KEY) == NEW
    assert store.inspect().record == RECORD


@pytest.mark.parametrize("data_key", ["a", ".env", "_", "k" * 200, "tls.key", "ends_"])
def test_every_name_of_a_data_key_has_a_name_for_its_record(api: KubernetesApi, opened: Opener, data_key: str) -> None:
    store = opened(data_key=data_key)
    store.note(RECORD, store.inspect())
    annotations = api.secrets["shop", "myapp"]["metadata"]["annotations"]
    (name,) = [name for name in annotations if name != "owner"]
    prefix, _separator, rest = name.partition("/")
    assert prefix == "multicart.keys"
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", rest), "not what Kubernetes takes"
    assert opened(data_key=data_key).inspect().record == RECORD


def test_two_keys_of_one_secret_get_along(api: KubernetesApi, opened: Opener) -> None:
    first, second = opened(), opened(data_key="SECOND")
    found, others = first.inspect(), second.inspect()
    found = first.note(RECORD, found)
    others = second.note({**RECORD, "held": None}, others)
    with pytest.raises(Conflict):
        first.write(ApiKey(NEW), found)
    second.write(ApiKey(OTHER), others)
    first.write(ApiKey(NEW), first.inspect())
    values = [api.value("shop", "myapp", name) for name in (KEY, "SECOND", "OTHER")]
    assert values == [NEW, OTHER, "ours"]
    assert (first.inspect().record, second.inspect().record) == (RECORD, {**RECORD, "held": None})


# --- conflicts ------------------------------------------------------------------------------------


def test_a_write_changes_only_what_was_inspected(api: KubernetesApi, opened: Opener) -> None:
    store = opened()
    found = store.inspect()
    api.meanwhile = lambda: api.change_secret("shop", "myapp", {"data": {"THEIRS": "eA=="}})
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), found)
    assert (api.value("shop", "myapp", KEY), api.value("shop", "myapp", "THEIRS")) == (OLD, "x")


def test_a_note_does_not_hide_that_the_key_was_changed(api: KubernetesApi, opened: Opener) -> None:
    store = opened()
    found = store.inspect()
    api.put_secret("shop", "myapp", {KEY: OTHER})
    with pytest.raises(Conflict):
        store.write(ApiKey(NEW), store.note(RECORD, found))
    assert api.value("shop", "myapp", KEY) == OTHER


def test_a_note_is_about_the_key_alone(api: KubernetesApi, opened: Opener) -> None:
    store = opened()
    found = store.inspect()
    api.change_secret("shop", "myapp", {"data": {"THEIRS": "eA=="}})
    store.write(ApiKey(NEW), store.note(RECORD, found))
    assert (api.value("shop", "myapp", KEY), api.value("shop", "myapp", "THEIRS")) == (NEW, "x")


# --- what is refused ------------------------------------------------------------------------------


def test_a_secret_that_is_not_there_is_created_only_if_the_entry_says_so(api: KubernetesApi, opened: Opener) -> None:
    del api.secrets["shop", "myapp"]
    error = refused(opened())
    assert error.reason == "store_missing" and "create: true" in str(error)
    store = opened(create=True)
    found = store.note(RECORD, store.inspect())
    store.write(ApiKey(NEW), found)
    secret = api.secrets["shop", "myapp"]
    assert (secret["type"], list(secret["data"]), store.inspect().record) == ("Opaque", [KEY], RECORD)
    assert {review["verb"] for review in api.reviews} == {"create", "patch"}


def test_two_that_create_the_same_secret(api: KubernetesApi, opened: Opener) -> None:
    del api.secrets["shop", "myapp"]
    store = opened(create=True)
    found = store.inspect()
    api.put_secret("shop", "myapp", {"THEIRS": "x"})
    with pytest.raises(Conflict):
        store.note(RECORD, found)
    assert list(api.secrets["shop", "myapp"]["data"]) == ["THEIRS"]


@pytest.mark.parametrize(
    "manager", ["argocd-controller", "kustomize-controller", "externalsecrets.external-secrets.io/x"]
)
def test_what_another_controller_has_set_is_refused(api: KubernetesApi, opened: Opener, manager: str) -> None:
    fields: dict[str, Any] = {"f:data": {".": {}, f"f:{KEY}": {}}}
    api.secrets["shop", "myapp"]["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:data": {"f:OTHER": {}}}},
        {"manager": manager, "operation": "Apply", "fieldsV1": fields},
    ]
    error = refused(opened())
    assert error.reason == "store_not_writable" and "would set it back" in str(error)
    api.secrets["shop", "myapp"]["metadata"]["managedFields"][1]["fieldsV1"] = {"f:data": {"f:OTHER": {}}}
    assert opened().inspect().fingerprint == fingerprint(OLD), "of others' keys it must not mind"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"immutable": True}, "it is immutable"),
        (
            {"metadata": {"ownerReferences": [{"kind": "SealedSecret", "controller": True}]}},
            "the controller that owns it",
        ),
    ],
)
def test_what_cannot_be_changed_for_good_is_refused(
    api: KubernetesApi, opened: Opener, change: dict[str, Any], said: str
) -> None:
    api.change_secret("shop", "myapp", change)
    error = refused(opened())
    assert error.reason == "store_not_writable" and said in str(error)


def test_owners_that_control_nothing_are_no_matter(api: KubernetesApi, opened: Opener) -> None:
    owners = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]
    api.secrets["shop", "myapp"]["metadata"]["ownerReferences"] = owners
    assert opened().inspect().fingerprint == fingerprint(OLD)


def test_rights_are_asked_for_and_named(api: KubernetesApi, opened: Opener) -> None:
    api.put_workload("deployment", "web")
    store = opened(restart=["deployment/web"])
    store.inspect()
    assert api.reviews == [
        {"namespace": "shop", "verb": "patch", "group": "", "resource": "secrets", "name": "myapp"},
        {"namespace": "shop", "verb": "patch", "group": "apps", "resource": "deployments", "name": "web"},
    ]
    assert api.changes == []
    api.refused = lambda verb, resource, _name: (verb, resource) == ("patch", "deployments")
    error = refused(store)
    assert error.reason == "store_refused" and "may not patch deployments/web in shop" in str(error)


# --- restarts -------------------------------------------------------------------------------------

EACH = ["deployment/web", "statefulset/db", "daemonset/agent"]


@pytest.fixture
def workloads(api: KubernetesApi) -> None:
    for each in EACH:
        kind, name = each.split("/")
        api.put_workload(kind, name)


@pytest.mark.usefixtures("workloads")
def test_what_reads_it_is_rolled_out_to_the_end(api: KubernetesApi, opened: Opener) -> None:
    store = opened(restart=EACH)
    store.inspect()
    assert store.restart() is True
    for each in EACH:
        workload = api.workloads[tuple(each.split("/"))]  # type: ignore[index]
        assert api.restarts(*each.split("/")) is not None
        status = workload["status"]
        assert status["observedGeneration"] == workload["metadata"]["generation"] == 2
        assert status.get("availableReplicas", status.get("numberAvailable")) == 2
    times = {api.restarts(*each.split("/")) for each in EACH}
    store.restart()
    assert times.isdisjoint({api.restarts(*each.split("/")) for each in EACH}), "the second was no restart"


def test_nothing_is_restarted_unless_the_entry_says_so(opened: Opener) -> None:
    assert opened().restart() is False


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        ("deployment", {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, True),
        ("deployment", {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ("deployment", {"replicas": 4, "updatedReplicas": 3, "availableReplicas": 4}, False),  # an old one is left
        ("deployment", {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}, False),
        ("deployment", {}, False),
        ("statefulset", {"currentRevision": "b", "updateRevision": "b", "readyReplicas": 3}, True),
        ("statefulset", {"currentRevision": "a", "updateRevision": "b", "readyReplicas": 3}, False),
        ("statefulset", {"currentRevision": "b", "updateRevision": "b", "readyReplicas": 2}, False),
        ("daemonset", {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}, True),
        ("daemonset", {"desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 3}, False),
        ("daemonset", {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}, False),
        ("daemonset", {}, True),  # no node wants it
    ],
)
def test_when_a_rollout_is_done(kind: str, status: dict[str, Any], done: bool) -> None:
    spec = {} if kind == "daemonset" else {"replicas": 3}
    for observed in (4, 5):
        workload = {"metadata": {"generation": 5}, "spec": spec, "status": {"observedGeneration": observed, **status}}
        assert kubernetes_secret._is_rolled_out(kind, "x", workload) is (done and observed == 5)


@pytest.mark.usefixtures("workloads")
def test_a_rollout_that_fails_is_named(api: KubernetesApi, opened: Opener) -> None:
    api.stuck.add("web")
    store = opened(restart=["deployment/web"])
    with pytest.raises(StoreError, match="deployment/web has not become available") as caught:
        store.restart()
    assert caught.value.reason == "restart_failed"


@pytest.mark.parametrize(
    ("each", "spec", "reason"),
    [
        ("deployment/web", {"paused": True}, "store_not_writable"),
        ("statefulset/db", {"updateStrategy": {"type": "OnDelete"}}, "store_not_writable"),
        ("statefulset/db", {"updateStrategy": {"type": "x", "rollingUpdate": {"partition": 1}}}, "store_not_writable"),
        ("daemonset/agent", {"updateStrategy": {"type": "OnDelete"}}, "store_not_writable"),
        ("deployment/gone", None, "store_missing"),
    ],
)
@pytest.mark.usefixtures("workloads")
def test_what_would_not_be_rolled_out_is_refused(
    api: KubernetesApi, opened: Opener, each: str, spec: Any, reason: str
) -> None:
    if spec is not None:
        kind, name = each.split("/")
        api.put_workload(kind, name, **spec)
    error = refused(opened(restart=[each]))
    assert error.reason == reason and each in str(error)


def test_a_workload_without_pods_is_rolled_out_at_once(api: KubernetesApi, opened: Opener) -> None:
    api.put_workload("deployment", "web", replicas=0)
    assert opened(restart=["deployment/web"]).restart() is True


@pytest.mark.usefixtures("workloads")
def test_a_restart_that_failed_is_made_up_for_by_running_again(api: KubernetesApi, opened: Opener) -> None:
    api.stuck.add("web")
    entry = opened.entry(restart=["deployment/web"])
    talk = Talk("kubernetes_secret", entry, NO_CONTROL_NODE)
    talk.inspect()
    talk.prepare()
    (problem,) = talk.deploy(retires=OLD)["problems"]
    assert problem["reason"] == "restart_failed"
    assert talk.inspect(NEW)["restart_due"] is True
    talk.end()
    api.stuck.clear()
    api.put_workload("deployment", "web")
    talk = Talk("kubernetes_secret", entry, NO_CONTROL_NODE)
    assert talk.inspect(NEW)["restart_due"] is True
    said = talk.deploy(retires=OLD)
    assert said["problems"] == [] and "restarted" in said["moments"]
    talk.close()
    assert talk.inspect(NEW)["restart_due"] is False
    assert "restarted" not in talk.deploy()["moments"]
    talk.end()


# --- credentials ----------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[KubernetesApi]:
    """A cluster that knows its clients by their certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    made = KubernetesApi(context)
    made.put_secret("shop", "myapp", {KEY: OLD})
    yield made
    made.stop()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_keys_in_a_kubeconfig_stay_out_of_files(
    secure: KubernetesApi, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = authority.issue_cert("client@example")
    chain = b"".join(pem.bytes() for pem in client.cert_chain_pems)
    user = {"client-certificate-data": encoded(chain), "client-key-data": encoded(client.private_key_pem.bytes())}
    kubeconfig = secure.kubeconfig(**user)
    kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = encoded(authority.cert_pem.bytes())
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    opened = Opener(secure, tmp_path)
    opened.write(kubeconfig)
    store = opened()
    store.write(ApiKey(NEW), store.inspect())
    assert secure.value("shop", "myapp", KEY) == NEW
    assert list(temporary.iterdir()) == []


def test_a_cluster_with_another_certificate(secure: KubernetesApi, tmp_path: Path) -> None:
    kubeconfig = secure.kubeconfig()
    kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = encoded(trustme.CA().cert_pem.bytes())
    opened = Opener(secure, tmp_path)
    opened.write(kubeconfig)
    error = refused(opened())
    assert error.reason == "store_unreachable"
    assert secure.requests == []


def test_the_service_account_of_a_pod(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.config import incluster_config  # noqa: PLC0415  # slow

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    api = KubernetesApi(context)
    api.put_secret("shop", "myapp", {KEY: OLD})
    (tmp_path / "token").write_text(TOKEN)
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    entry = {"in_cluster": True, "namespace": "shop", "name": "myapp"}
    options = resolve("kubernetes_secret", entry, NO_CONTROL_NODE)
    with pytest.raises(StoreError, match="no service account"):
        open_store("kubernetes_secret", options)
    host, port = api.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    assert open_store("kubernetes_secret", options).inspect().fingerprint == fingerprint(OLD)
    assert api.requests[0].headers["Authorization"].lower() == f"bearer {TOKEN}"
    api.stop()


def test_a_program_that_a_kubeconfig_names_gets_the_token(api: KubernetesApi, opened: Opener, tmp_path: Path) -> None:
    program = tmp_path / "token"
    kind = '"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1"'
    program.write_text(f"""#!/bin/sh\necho noise >&2\necho '{{{kind}, "status": {{"token": "{TOKEN}"}}}}'\n""")
    program.chmod(0o755)
    opened.write(api.kubeconfig(exec={"apiVersion": "client.authentication.k8s.io/v1", "command": str(program)}))
    assert opened().inspect().fingerprint == fingerprint(OLD)


def test_without_a_field_for_it_the_kubeconfigs_are_those_of_the_environment(
    api: KubernetesApi, opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": []})
    )
    monkeypatch.setenv("KUBECONFIG", f"{other}:{opened.kubeconfig}")
    talk = Talk("kubernetes_secret", opened.entry(kubeconfig=None), NO_CONTROL_NODE)
    assert talk.inspect()["holds"] == [fingerprint(OLD)]
    talk.end()


@pytest.mark.parametrize("broken", ["context", "program", "empty", "list", "plain"])
def test_a_kubeconfig_that_cannot_be_used(api: KubernetesApi, opened: Opener, broken: str) -> None:
    kubeconfig: Any = api.kubeconfig()
    if broken == "context":
        kubeconfig["contexts"].pop()
    elif broken == "program":
        kubeconfig = api.kubeconfig(
            exec={"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/program"}
        )
    elif broken == "plain":
        kubeconfig["clusters"][0]["cluster"]["server"] = "http://kubernetes.example:8080"
    else:
        kubeconfig = {} if broken == "empty" else ["kube-token-canary"]
    opened.write(kubeconfig)
    with pytest.raises(StoreError) as caught:
        opened().inspect()  # without its token, the request is refused
    assert caught.value.reason in ("store_failed", "store_refused")
    assert "canary" not in str(caught.value)
    assert api.changes == []
