# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for the API of Kubernetes: Secrets, workloads and reviews of rights, by its public reference.

What is refused: another resourceVersion than the present one (409), a name that is taken (409), a change of the data of
an immutable Secret (422), and what the user may not do (403).
"""

from __future__ import annotations

import base64
import copy
import json
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tests.stores.backends import Backend
from tests.stores.http_api import Answer, HttpApi, Request

TOKEN = "kube-token-canary"
_SECRETS = re.compile(r"/api/v1/namespaces/([^/]+)/secrets(?:/([^/]+))?\Z")
_WORKLOADS = re.compile(r"/apis/apps/v1/namespaces/([^/]+)/(deployment|statefulset|daemonset)s/([^/]+)\Z")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_MERGES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
RESTARTED = "kubectl.kubernetes.io/restartedAt"


class KubernetesApi(HttpApi):
    """A cluster.

    :ivar secrets: by namespace and name.
    :ivar workloads: by kind and name.
    :ivar refused: tells what the user may not do, by verb, resource and name.
    :ivar stuck: the workloads, by name, whose new pods never become available.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.workloads: dict[tuple[str, str], dict[str, Any]] = {}
        self.refused: Callable[[str, str, str | None], bool] = lambda verb, resource, name: False
        self.stuck: set[str] = set()
        self.reviews: list[Mapping[str, Any]] = []
        self._version = 100
        super().__init__(context)

    # --- for tests --------------------------------------------------------------------------------

    def put_secret(self, namespace: str, name: str, data: Mapping[str, str], **more: Any) -> dict[str, Any]:
        """Create or replace a Secret, its data given as plain text."""
        metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded, **more}
        self.secrets[namespace, name] = secret
        self._touch(secret)
        return secret

    def change_secret(self, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        """Change a Secret as somebody else would."""
        with self._lock:
            secret = self.secrets[namespace, name]
            _merge(secret, patch)
            self._touch(secret)

    def value(self, namespace: str, name: str, key: str) -> str | None:
        value = (self.secrets[namespace, name].get("data") or {}).get(key)
        return None if value is None else base64.b64decode(value).decode()

    def put_workload(self, kind: str, name: str, replicas: int = 2, **spec: Any) -> dict[str, Any]:
        """Create a workload whose pods are all available."""
        whole: dict[str, Any] = {
            "metadata": {"name": name, "generation": 1},
            "spec": {"template": {"metadata": {"labels": {"app": name}}}, **spec},
        }
        if kind != "daemonset":
            whole["spec"].setdefault("replicas", replicas)
        self.workloads[kind, name] = whole
        self._settle(kind, whole, replicas, replicas)
        return whole

    def restarts(self, kind: str, name: str) -> str | None:
        """Return when it was restarted last, as kubectl notes it."""
        annotations = self.workloads[kind, name]["spec"]["template"]["metadata"].get("annotations") or {}
        restarted = annotations.get(RESTARTED)
        return None if restarted is None else str(restarted)

    def kubeconfig(self, **user: Any) -> dict[str, Any]:
        """Return a kubeconfig for it."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "elsewhere",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": user or {"token": TOKEN}}],
            "contexts": [
                {"name": "elsewhere", "context": {"cluster": "nowhere", "user": "u"}},
                {"name": "shop", "context": {"cluster": "c", "user": "u"}},
            ],
        }

    # --- HTTP -------------------------------------------------------------------------------------

    def is_change(self, request: Request) -> bool:
        return request.is_change and request.path != _REVIEWS

    def failure(self, status: int, message: str) -> Answer:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
        return Answer(status, {**body, "message": f"{message} status-canary"})

    def answer(self, request: Request) -> Answer:
        if self._scheme == "http" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.failure(401, "Unauthorized")
        if request.path == _REVIEWS and request.method == "POST":
            return self._review(request)
        if found := _SECRETS.match(request.path):
            return self._secret(request, *found.groups())
        if found := _WORKLOADS.match(request.path):
            return self._workload(request, *found.groups())
        return self.failure(404, "not found")

    def _review(self, request: Request) -> Answer:
        asked = request.body["spec"]["resourceAttributes"]
        self.reviews.append(asked)
        allowed = not self.refused(asked["verb"], asked["resource"], asked.get("name"))
        return Answer(201, {**request.body, "status": {"allowed": allowed}})

    def _secret(self, request: Request, namespace: str, name: str | None) -> Answer:
        verb = {"GET": "get", "PATCH": "patch", "POST": "create", "PUT": "update"}[request.method]
        if self.refused(verb, "secrets", name):
            return self.failure(403, "forbidden")
        if request.method == "POST":
            name = request.body["metadata"]["name"]
            if (namespace, name) in self.secrets:
                return self.failure(409, "already exists")
            secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **request.body}
            secret["metadata"] = {**request.body["metadata"], "namespace": namespace}
            self.secrets[namespace, name] = secret
            self._touch(secret)
            return Answer(201, secret)
        known = self.secrets.get((namespace, str(name)))
        if known is None:
            return self.failure(404, "not found")
        return Answer(200, known) if request.method == "GET" else self._patch_secret(request, known)

    def _patch_secret(self, request: Request, known: dict[str, Any]) -> Answer:
        if request.method != "PATCH" or request.headers.get("Content-Type") not in _MERGES:
            return self.failure(415, "unsupported media type")
        wanted = (request.body.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != known["metadata"]["resourceVersion"]:
            return self.failure(409, "the object has been modified")
        changed = copy.deepcopy(known)
        _merge(changed, request.body)
        if known.get("immutable") and changed.get("data") != known.get("data"):
            return self.failure(422, "field is immutable when `immutable` is set")
        if changed != known:
            self._touch(changed)
        known.clear()
        known.update(changed)
        return Answer(200, known)

    def _workload(self, request: Request, _namespace: str, kind: str, name: str) -> Answer:
        if self.refused({"GET": "get", "PATCH": "patch"}[request.method], f"{kind}s", name):
            return self.failure(403, "forbidden")
        known = self.workloads.get((kind, name))
        if known is None:
            return self.failure(404, "not found")
        if request.method == "PATCH":
            before = copy.deepcopy(known["spec"])
            _merge(known, request.body)
            if known["spec"] != before:
                known["metadata"]["generation"] += 1
        else:
            self._go_on(kind, name, known)
        return Answer(200, known)

    def _go_on(self, kind: str, name: str, known: dict[str, Any]) -> None:
        """Let a rollout get on: the controller sees it, one pod after the other is new, then all are available."""
        status, generation = known["status"], known["metadata"]["generation"]
        wanted = known["spec"].get("replicas", 2)
        if known.get("next") is None:
            known["next"] = 0 if status["observedGeneration"] < generation else wanted
            return
        if status["observedGeneration"] < generation:
            status["observedGeneration"] = generation
            known["next"] = 0
        elif known["next"] < wanted:
            known["next"] += 1
        ready = 0 if name in self.stuck else known["next"]
        self._settle(kind, known, known["next"], ready)
        if name in self.stuck and kind == "deployment" and known["next"] == wanted:
            known["status"]["conditions"] = [
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
            ]

    @staticmethod
    def _settle(kind: str, known: dict[str, Any], updated: int, ready: int) -> None:
        wanted = known["spec"].get("replicas", 2)
        observed = known.get("status", {}).get("observedGeneration", known["metadata"]["generation"])
        if kind == "daemonset":
            counts = {"desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": ready}
        else:
            revision = "new" if updated >= wanted else "old"
            counts = {
                "replicas": wanted,
                "updatedReplicas": updated,
                "availableReplicas": ready,
                "readyReplicas": ready,
            }
            counts |= {"currentRevision": revision, "updateRevision": "new"} if kind == "statefulset" else {}  # type: ignore[dict-item]
        # Kubernetes leaves out what is zero.
        known["status"] = {"observedGeneration": observed, **{name: value for name, value in counts.items() if value}}

    def _touch(self, thing: dict[str, Any]) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """Merge as RFC 7386 does."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


class KubernetesSecret(Backend):
    """A Secret with siblings, labels and annotations of others."""

    kind = "kubernetes_secret"
    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
    }
    at_write: ClassVar = {"down", "unauthorised"}
    secrets = (TOKEN,)
    _place = ("shop", "myapp")

    def __init__(self, folder: Path) -> None:
        self.api = KubernetesApi()
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text(yaml.safe_dump(self.api.kubeconfig()))
        metadata = {"labels": {"app": "myapp"}, "annotations": {"owner": "us"}}
        self.api.put_secret(*self._place, {"OTHER": "ours"}, metadata=metadata)
        self._gone: dict[str, Any] | None = None

    @property
    def entry(self) -> dict[str, Any]:
        place = {"namespace": self._place[0], "name": self._place[1]}
        return {"kubeconfig": str(self._kubeconfig), "context": "shop", **place}

    def put(self, key: str | None) -> None:
        encoded = key if key is None else base64.b64encode(key.encode()).decode()
        self.api.change_secret(*self._place, {"data": {"MULTICART_API_KEY": encoded}})

    def value(self) -> str | None:
        return self.api.value(*self._place, "MULTICART_API_KEY")

    def rest(self) -> Any:
        secret = copy.deepcopy(self.api.secrets[self._place])
        del secret["metadata"]["resourceVersion"]
        secret["data"].pop("MULTICART_API_KEY", None)
        annotations = secret["metadata"]["annotations"]
        for name in [name for name in annotations if name.startswith("multicart.keys/")]:
            del annotations[name]
        return secret

    def change_rest(self) -> None:
        self.api.change_secret(*self._place, {"data": {"THEIRS": "dGhlaXJz"}, "metadata": {"labels": {"theirs": "1"}}})

    def break_by(self, fault: str) -> None:
        if fault == "read_only":
            self.api.refused = lambda verb, _resource, _name: verb != "get"
        elif fault == "missing":
            self._gone = self.api.secrets.pop(self._place)
        else:
            self.api.break_by(fault)

    def mend(self) -> None:
        self.api.mend()
        self.api.refused = lambda _verb, _resource, _name: False
        if self._gone is not None:
            self.api.secrets[self._place], self._gone = self._gone, None

    def stop(self) -> None:
        self.api.stop()

    def record(self) -> Any:
        annotations = self.api.secrets[self._place]["metadata"]["annotations"]
        return json.loads(annotations["multicart.keys/record.MULTICART_API_KEY"])
