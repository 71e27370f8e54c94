# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""A Secret of Kubernetes: one key of its data; the record is an annotation. A rollout restarts what reads it."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.multicart.keys.plugins.module_utils import _record as records
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._options import is_loopback
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    LONGEST,
    Conflict,
    Field,
    Found,
    InvalidEntry,
    Store,
    StoreError,
    fingerprint_of,
    library,
    parsed,
    text_of,
)
from ansible_collections.multicart.keys.plugins.plugin_utils._times import iso_now

FIELDS = {
    "kubeconfig": Field(path=True),
    "context": Field(),
    "in_cluster": Field(bool, default=False),
    "namespace": Field(required=True),
    "name": Field(required=True),
    "data_key": Field(default="MULTICART_API_KEY"),
    "create": Field(bool, default=False),
    "restart": Field(list),
}

KINDS = {"deployment": "deployment", "statefulset": "stateful_set", "daemonset": "daemon_set"}
"""What can be restarted, and how the library spells it."""

POLLING = 1.0
"""Seconds between two reads of a rollout."""

RECONCILERS = ("argocd", "external-secrets", "helm-controller", "kustomize-controller")
"""Parts of the names of field managers that put back, sooner or later, what they have once set."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_DATA_KEY = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9._-]{1,253}\Z")
_ANNOTATION = re.compile(r"[A-Za-z0-9._-]{0,55}[A-Za-z0-9]\Z")
_RESTARTED = "kubectl.kubernetes.io/restartedAt"


def label(options: Mapping[str, Any]) -> str:
    where = f" in {options['context']}" if options["context"] else ""
    return f"{options['namespace']}/{options['name']} {options['data_key']}{where}"


def check(options: dict[str, Any]) -> None:
    if options["in_cluster"] and (options["kubeconfig"] or options["context"]):
        raise InvalidEntry("needs in_cluster, or kubeconfig and context, but not both")
    for name in ("namespace", "name"):
        if not _NAME.match(options[name]):
            raise InvalidEntry(f"needs {name}: a Kubernetes name, in lower case")
    if not _DATA_KEY.match(options["data_key"]):
        raise InvalidEntry("needs data_key: letters, digits, and . _ -")
    for each in options["restart"] or ():
        kind, _separator, name = each.partition("/")
        if kind not in KINDS or not _NAME.match(name):
            raise InvalidEntry(f"needs restart: a list of {', '.join(f'{kind}/NAME' for kind in KINDS)}")


class Secret(Store):
    """One key of a Secret's data."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        client = library("kubernetes.client", "kubernetes")
        self._errors = (client.ApiException, library("urllib3.exceptions", "urllib3").HTTPError)
        api = client.ApiClient(self._configuration(client))
        self._core, self._apps = client.CoreV1Api(api), client.AppsV1Api(api)
        self._reviews = client.AuthorizationV1Api(api)
        self._namespace, self._name = options["namespace"], options["name"]
        name: str = options["data_key"]
        if not _ANNOTATION.match(name):
            name = records.digest_of(name.encode())
        self._annotation = f"multicart.keys/record.{name}"
        self._workloads = [tuple(each.split("/", 1)) for each in options["restart"] or ()]

    def inspect(self) -> Found:
        secret = self._ask(self._core.read_namespaced_secret, self._name, self._namespace, absent=True)
        if secret is None and not self.options["create"]:
            raise StoreError(
                "store_missing",
                f"there is no Secret {self._name} in the namespace {self._namespace}: create it, or set create: true "
                f"in the entry",
            )
        if secret is None:
            self._check_right("create", "secrets", None)
        self._check_right("patch", "secrets", self._name)
        for kind, name in self._workloads:
            self._check_right("patch", f"{kind}s", name, "apps")
            _check_restarts(kind, name, self._workload("read", kind, name))
        return self._found(secret)

    def write(self, key: ApiKey, found: Found) -> Found:
        value = base64.b64encode(key.reveal().encode()).decode()
        return self._changed({"resourceVersion": found.version}, {"data": {self.options["data_key"]: value}})

    def note(self, record: Mapping[str, Any], found: Found) -> Found:
        """Write the annotation, which is nobody else's, so that no version of the Secret matters to it."""
        text = text_of(record)
        metadata = {"annotations": {self._annotation: text}}
        if found.version is None:
            return self._changed({**metadata, "name": self._name}, {"type": "Opaque"})
        noted = self._changed(metadata, {})
        if noted.fingerprint == found.fingerprint:
            return noted
        # Somebody has changed the key itself meanwhile: the next write shall find that out.
        return Found(found.fingerprint, noted.record, found.version)

    def restart(self) -> bool:
        """Restart what reads it by a rollout, and wait until all of that is done."""
        now = iso_now()
        for kind, name in self._workloads:
            self._workload(
                "patch", kind, name, {"spec": {"template": {"metadata": {"annotations": {_RESTARTED: now}}}}}
            )
        for kind, name in self._workloads:
            while not _is_rolled_out(kind, name, self._workload("read", kind, name)):
                time.sleep(POLLING)
        return bool(self._workloads)

    # --- what it is made of -----------------------------------------------------------------------

    def _configuration(self, client: Any) -> Any:
        """Return the address of the cluster and the credentials for it, as kubectl or a pod would use them."""
        config = library("kubernetes.config", "kubernetes")
        settings, options = client.Configuration(), self.options
        try:
            if options["in_cluster"]:
                config.load_incluster_config(client_configuration=settings)
            else:
                _keep_in_memory(config.kube_config)
                config.load_kube_config(options["kubeconfig"], options["context"], client_configuration=settings)
            host = urlsplit(settings.host)
            plain = host.scheme != "https" and not is_loopback(host.hostname or "")
        except Exception:  # pylint: disable=broad-except  # whatever the programs do that a kubeconfig names
            what = "there is no service account of a pod" if options["in_cluster"] else "its kubeconfig cannot be used"
            raise StoreError("store_failed", f"{what}: check kubeconfig, context and in_cluster") from None
        if plain:
            raise StoreError("store_failed", "its kubeconfig names a server without https://: nothing is sent there")
        # The library would follow a redirect, and send the key along; and it would send again what was perhaps done.
        settings.retries = library("urllib3", "urllib3").Retry(0, raise_on_redirect=False)
        return settings

    def _check_right(self, verb: str, resource: str, name: str | None, group: str = "") -> None:
        asked = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource}
        if name is not None:
            asked["name"] = name
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        said = self._ask(self._reviews.create_self_subject_access_review, review)
        if not isinstance(said.get("status"), dict) or not isinstance(said["status"].get("allowed"), bool):
            raise _malformed()
        if not said["status"]["allowed"]:
            what = f"{resource}/{name}" if name else resource
            raise StoreError(
                "store_refused",
                f"its credentials may not {verb} {what} in {self._namespace}: give them a role that may",
            )

    def _changed(self, metadata: Mapping[str, Any], rest: Mapping[str, Any]) -> Found:
        """Merge something into the Secret, or create it; return what it holds then.

        :raises Conflict: it is not as ``metadata`` says, or is there already.
        """
        body = {"metadata": metadata, **rest}
        if "name" in metadata:
            return self._found(self._ask(self._core.create_namespaced_secret, self._namespace, body))
        return self._found(self._ask(self._core.patch_namespaced_secret, self._name, self._namespace, body))

    def _found(self, secret: Any) -> Found:
        """Return what a Secret holds.

        :raises StoreError: also if it cannot be changed, or would not stay so.
        """
        if secret is None:
            return Found()
        try:
            metadata, data = secret["metadata"], secret.get("data") or {}
            version, annotations = metadata["resourceVersion"], metadata.get("annotations") or {}
            value, noted = data.get(self.options["data_key"]), annotations.get(self._annotation)
            others = self._owners(metadata)
        except (KeyError, TypeError, AttributeError):
            raise _malformed() from None
        if secret.get("immutable"):
            raise StoreError("store_not_writable", "it is immutable: create it again, without immutable: true")
        if others:
            raise StoreError(
                "store_not_writable",
                f"{others} would set it back: give the key to what that takes it from, or take it away from that",
            )
        return Found(fingerprint_of(_decoded(value)), parsed(noted), version)

    def _owners(self, metadata: Mapping[str, Any]) -> str | None:
        """Return what would undo a change; None: nothing that is known."""
        if any(owner.get("controller") for owner in metadata.get("ownerReferences") or ()):
            return "the controller that owns it (see its ownerReferences)"
        for entry in metadata.get("managedFields") or ():
            fields = (entry.get("fieldsV1") or {}).get("f:data") or {}
            if f"f:{self.options['data_key']}" in fields:
                for name in RECONCILERS:
                    if name in entry.get("manager", ""):
                        return f"{name}, which has set it (see its managedFields),"
        return None

    def _workload(self, verb: str, kind: str, name: str, *body: Any) -> Any:
        asked = getattr(self._apps, f"{verb}_namespaced_{KINDS[kind]}")
        return self._ask(asked, name, self._namespace, *body, what=f"{kind}/{name}")

    def _ask(self, call: Callable[..., Any], *arguments: Any, absent: bool = False, what: str = "the Secret") -> Any:
        """Return an answer as it is in JSON; what it says of an error is not repeated.

        :param absent: there may be nothing of that name; the answer is None then.
        """
        refused, broken = self._errors
        try:
            answer = call(*arguments, _preload_content=False, _request_timeout=ANSWERING)
            content = answer.read(LONGEST + 1)
            said = json.loads(content) if len(content) <= LONGEST else None
        except refused as error:
            if absent and error.status == 404:
                return None
            raise _failure(error.status, what) from None
        except broken as error:
            raise StoreError("store_unreachable", f"its cluster cannot be reached ({type(error).__name__})") from None
        except (ValueError, RecursionError):
            raise _malformed() from None
        if not isinstance(said, dict):
            raise _malformed()
        return said


def _keep_in_memory(kube_config: Any) -> None:
    """Let the keys of clients in a kubeconfig not be written to files, where the library would leave them."""

    def kept(content: str | bytes, *_where: Any, **_how: Any) -> str:
        descriptor = os.memfd_create("kubeconfig")
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        return f"/proc/self/fd/{descriptor}"

    if hasattr(os, "memfd_create"):
        kube_config._create_temp_file_with_content = kept  # pylint: disable=protected-access


def _failure(status: Any, what: str) -> StoreError | Conflict:
    if status == 0:
        return StoreError("store_unreachable", "the certificate of its cluster is not valid for it: check kubeconfig")
    if status in (401, 403):
        return StoreError("store_refused", f"its credentials are not accepted, or may not read or change {what}")
    if status == 404:
        return StoreError("store_missing", f"{what} is not there: check namespace and name")
    if status == 409:
        return Conflict()
    if status in (502, 503, 504):
        return StoreError("store_unreachable", f"its cluster gives no answer now (HTTP {status}): run again later")
    if status == 429:
        return StoreError("store_failed", "its cluster limits the rate of requests: run again later")
    if 300 <= status < 400:
        return StoreError("store_failed", "its cluster answers with a redirect, which is not followed: correct its URL")
    return StoreError("store_failed", f"its cluster refuses the request for {what} (HTTP {status})")


def _malformed() -> StoreError:
    return StoreError("store_malformed", "what its cluster answers has another form than that of Kubernetes")


def _decoded(value: Any) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode() if isinstance(value, str) else None
    except ValueError:
        return None


# --- workloads ------------------------------------------------------------------------------------


def _check_restarts(kind: str, name: str, workload: Any) -> None:
    """Refuse what would not be rolled out, as kubectl does."""
    try:
        spec = workload["spec"]
        strategy = spec.get("updateStrategy") or {}
        partition = (strategy.get("rollingUpdate") or {}).get("partition")
    except (KeyError, TypeError, AttributeError):
        raise _malformed() from None
    if spec.get("paused"):
        raise StoreError("store_not_writable", f"{kind}/{name} is paused: run kubectl rollout resume {kind}/{name}")
    if strategy.get("type") == "OnDelete" or partition:
        raise StoreError(
            "store_not_writable",
            f"{kind}/{name} does not restart all of its pods by itself (OnDelete, or a partition): leave it out of "
            f"restart, and restart it yourself",
        )


def _is_rolled_out(kind: str, name: str, workload: Any) -> bool:
    """Tell whether all of its pods are new and available, as kubectl rollout status does.

    :raises StoreError: ``restart_failed``: they will not be.
    """
    try:
        spec, status = workload["spec"], workload.get("status") or {}
        if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
            return False
        if kind == "daemonset":
            wanted = status.get("desiredNumberScheduled", 0)
            return bool(status.get("updatedNumberScheduled", 0) >= wanted <= status.get("numberAvailable", 0))
        wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
        if kind == "statefulset":
            current = status.get("currentRevision") == status.get("updateRevision")
            return bool(current and status.get("readyReplicas", 0) >= wanted)
        if any(each.get("reason") == "ProgressDeadlineExceeded" for each in status.get("conditions") or ()):
            raise StoreError(
                "restart_failed",
                f"{kind}/{name} has not become available with the key: check kubectl rollout status {kind}/{name}",
            )
        return bool(updated >= wanted and status.get("replicas", 0) <= updated <= status.get("availableReplicas", 0))
    except (KeyError, TypeError, AttributeError):
        raise _malformed() from None


opened = Secret
