# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real etcd, and stand-ins for Consul, Azure Key Vault, Google Cloud Secret Manager and AWX.

The stand-ins are by the public references of those APIs, and what asks them is the real client.
"""

from __future__ import annotations

import base64
import copy
import shutil
import socket
import ssl
import subprocess
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
import requests
import trustme

from tests.ports import OwnPort
from tests.stores.backends import Backend, another
from tests.stores.http_api import Answer, HttpApi, Request


class Etcd(Backend):
    """A real etcd with users; the key has a lease."""

    kind = "etcd"
    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
    }
    at_write: ClassVar = {"down", "read_only"}
    secrets = ("etcd-password-canary",)
    _key = "shop/MULTICART_API_KEY"

    def __init__(self, folder: Path) -> None:
        if not shutil.which("etcd"):
            pytest.skip("etcd is missing: apt-get install etcd-server")
        self._folder = folder
        self._ports = [OwnPort(), OwnPort()]
        self._url = f"http://127.0.0.1:{self._ports[0].number}"
        self._process: subprocess.Popen[bytes] | None = None
        self._another: ThreadingHTTPServer | None = None
        self._missing = False
        self._token: str | None = None
        self._start()
        self._lease = self._ask("lease/grant", TTL=3600)["ID"]
        self._put("shop/other", "ours")
        self._ask("auth/user/add", name="root", password="root-canary")
        self._ask("auth/role/add", name="root")
        self._ask("auth/user/grant", user="root", role="root")
        self._ask("auth/role/add", name="ours")
        self._ask("auth/user/add", name="us", password=self.secrets[0])
        self._ask("auth/user/grant", user="us", role="ours")
        self._grant("READWRITE")
        self._ask("auth/enable")
        self._has_users = True

    @property
    def entry(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._another.server_port}" if self._another else self._url
        key = "shop/nowhere" if self._missing else self._key
        return {"url": url, "key": key, "username": "us", "password": self.secrets[0]}

    def put(self, key: str | None) -> None:
        self._put(self._key, key or "changeme", lease=self._lease)

    def value(self) -> str | None:
        value = self._get(self._key)["value"]
        return None if value == _encoded("changeme") else base64.b64decode(value).decode()

    def rest(self) -> Any:
        return self._get("shop/other")["value"], self._get(self._key)["lease"]

    def change_rest(self) -> None:
        self._put("shop/other", "theirs")

    def break_by(self, fault: str) -> None:
        if fault == "down":
            self._stop_server()
        elif fault == "unauthorised":
            self._ask("auth/user/changepw", name="us", password="another")
        elif fault == "read_only":
            self._grant("READ")
        elif fault == "missing":
            self._missing = True
        elif fault == "malformed":
            self._another = another()

    def mend(self) -> None:
        if self._another is not None:
            self._another.shutdown()
            self._another = None
        if self._process is None:
            self._start()
        self._missing = False
        self._ask("auth/user/changepw", name="us", password=self.secrets[0])
        self._grant("READWRITE")

    def stop(self) -> None:
        self._stop_server()
        for port in self._ports:
            port.let_go()
        if self._another is not None:
            self._another.shutdown()

    def demand_certificates(self) -> dict[str, str]:
        """Speak TLS alone, with clients that have a certificate; return the fields that an entry needs then."""
        authority = trustme.CA()
        server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("us@example.com")
        paths = {name: str(self._folder / f"{name}.pem") for name in ("ca_path", "client_cert", "client_key")}
        authority.cert_pem.write_to_path(paths["ca_path"])
        client.private_key_pem.write_to_path(paths["client_key"])
        client.cert_chain_pems[0].write_to_path(paths["client_cert"])
        server.private_key_and_cert_chain_pem.write_to_path(self._folder / "server.pem")
        self._stop_server()
        place = {"cert-file": self._folder / "server.pem", "key-file": self._folder / "server.pem"}
        self._start(**place, **{"trusted-ca-file": paths["ca_path"], "client-cert-auth": "true"})
        return {**paths, "url": self._url.replace("http:", "https:")}

    def allow(self, right: str, key: str) -> None:
        """Let its user do this with one key, and nothing else."""
        if not self._only:
            everything = {"key": _encoded("shop/"), "range_end": _encoded("shop0")}
            self._ask("auth/role/revoke", role="ours", **everything)
        self._only = True
        self._ask("auth/role/grant", name="ours", perm={"permType": right, "key": _encoded(key)})

    _has_users = _only = False

    def _start(self, **more: Any) -> None:
        ours, peers = (f"http://127.0.0.1:{port.number}" for port in self._ports)
        ours = ours.replace("http:", "https:") if more else ours
        words = {
            "data-dir": self._folder / "etcd",
            "listen-client-urls": ours,
            "advertise-client-urls": ours,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"default={peers}",
            "bcrypt-cost": 4,
            "heartbeat-interval": 10,
            "election-timeout": 100,
            **more,
        }
        self._process = subprocess.Popen(
            ["etcd", *(f"--{name}={value}" for name, value in words.items())],
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "etcd.log").open("ab"),
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(requests.RequestException, OSError):
                if more:
                    socket.create_connection(("127.0.0.1", self._ports[0].number), 2).close()
                    return
                if requests.get(f"{self._url}/health", timeout=2).json().get("health") == "true":
                    return
            time.sleep(0.05)
        raise AssertionError("etcd does not start")

    def _stop_server(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _grant(self, right: str) -> None:
        permission = {"permType": right, "key": _encoded("shop/"), "range_end": _encoded("shop0")}
        self._ask("auth/role/grant", name="ours", perm=permission)

    def _put(self, key: str, value: str, **more: Any) -> None:
        self._ask("kv/put", key=_encoded(key), value=_encoded(value), **more)

    def _get(self, key: str) -> dict[str, Any]:
        (found,) = self._ask("kv/range", key=_encoded(key))["kvs"]
        return dict(found)

    def _ask(self, path: str, **body: Any) -> Any:
        headers = {}
        if self._has_users:
            body_of_login = {"name": "root", "password": "root-canary"}
            login = requests.post(f"{self._url}/v3/auth/authenticate", json=body_of_login, timeout=10)
            headers = {"Authorization": login.json()["token"]}
        answer = requests.post(f"{self._url}/v3/{path}", json=body, headers=headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class _Api(HttpApi):
    """A stand-in whose user may lack a right.

    :ivar refused: tells what the user may not do.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.refused: Callable[[Request], bool] = lambda _request: False
        super().__init__(context)

    def failure(self, status: int, message: str) -> Answer:
        return Answer(status, {"error": {"code": status, "message": f"{message} status-canary"}})


class _Behind(Backend):
    """A store behind a stand-in."""

    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
        "redirect": {"store_failed"},
        "echo": {"store_failed"},
    }
    at_write: ClassVar = {"down", "unauthorised", "echo"}
    api: _Api

    @abstractmethod
    def things(self) -> dict[str, Any]:
        """Return what the stand-in keeps, by name."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return the name of what holds the key."""

    _gone: Any = None

    def break_by(self, fault: str) -> None:
        if fault == "read_only":
            self.api.refused = lambda request: request.method in ("PUT", "PATCH")
        elif fault == "missing":
            self._gone = self.things().pop(self.name)
        else:
            self.api.break_by(fault, self.befalls)

    @staticmethod
    def befalls(_request: Request) -> bool:
        """Tell which requests a fault befalls."""
        return True

    def mend(self) -> None:
        self.api.mend()
        self.api.refused = lambda _request: False
        if self._gone is not None:
            self.things()[self.name], self._gone = self._gone, None

    def stop(self) -> None:
        self.api.stop()
        assert self.api.elsewhere == [], "a redirect was followed"


# --- Consul ---------------------------------------------------------------------------------------


class ConsulApi(_Api):
    """An agent of Consul; putting what is there already changes no index, as in the real one."""

    token = "consul-token-canary"

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self._index = 100
        super().__init__()

    def answer(self, request: Request) -> Answer:
        if request.headers.get("X-Consul-Token") != self.token or self.refused(request):
            return Answer(403, b"Permission denied status-canary")
        key = request.path.removeprefix("/v1/kv/")
        known = self.kept.get(key)
        if request.method == "GET":
            found = known and {**known, "Value": base64.b64encode(known["Value"]).decode() or None, "Key": key}
            return Answer(200 if found else 404, [found] if found else b"", {"X-Consul-Index": str(self._index)})
        index = known["ModifyIndex"] if known else 0
        if "cas" in request.query and int(request.query["cas"]) != index:
            return Answer(200, False)
        if request.method == "DELETE":
            self.kept.pop(key, None)
        else:
            self.put(key, request.content, int(request.query.get("flags", 0)))
        return Answer(200, True)

    def put(self, key: str, content: bytes, flags: int = 0) -> None:
        known = self.kept.get(key, {"ModifyIndex": 0})
        if (known.get("Value"), known.get("Flags")) != (content, flags):
            self._index += 1
            self.kept[key] = {"Value": content, "Flags": flags, "LockIndex": 0, "ModifyIndex": self._index}


class ConsulKey(_Behind):
    """A key beside another one, with flags."""

    kind = "consul_kv"
    name = "shop/MULTICART_API_KEY"
    secrets = (ConsulApi.token,)
    # The library takes a redirect for an answer.
    faults: ClassVar = {**_Behind.faults, "redirect": {"store_malformed"}}

    def __init__(self, _folder: Path) -> None:
        self.api: ConsulApi = ConsulApi()
        self.api.put("shop/other", b"ours")

    @property
    def entry(self) -> dict[str, Any]:
        return {"url": self.api.url, "key": self.name, "token": ConsulApi.token}

    def things(self) -> dict[str, Any]:
        return self.api.kept

    def put(self, key: str | None) -> None:
        self.api.put(self.name, (key or "").encode(), 7)

    def value(self) -> str | None:
        return self.api.kept.get(self.name, {"Value": b""})["Value"].decode() or None

    def rest(self) -> Any:
        return self.api.kept[self.name]["Flags"], self.api.kept["shop/other"]["Value"]

    def change_rest(self) -> None:
        self.api.put("shop/other", b"theirs")


# --- Azure ----------------------------------------------------------------------------------------


class AzureApi(_Api):
    """A vault, and what gives tokens for it."""

    tenant, client, secret, token = "tenant-1", "client-1", "azure-secret-canary", "azure-token-canary"

    def __init__(self, context: ssl.SSLContext) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self._versions = 0
        super().__init__(context)

    def answer(self, request: Request) -> Answer:
        if request.path.endswith("/.well-known/openid-configuration"):
            base = f"{self.url}/{self.tenant}"
            ends = {"token_endpoint": "oauth2/v2.0/token", "authorization_endpoint": "oauth2/v2.0/authorize"}
            return Answer(200, {"issuer": f"{base}/v2.0", **{name: f"{base}/{end}" for name, end in ends.items()}})
        if request.path == f"/{self.tenant}/oauth2/v2.0/token":
            return self._give_token(parse_qs(request.body))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            # The resource must be a part of the vault's own name.
            where = f'authorization="{self.url}/{self.tenant}", resource="{self.url.replace("127.", "")}"'
            return Answer(401, None, {"WWW-Authenticate": f"Bearer {where}"})
        if self.refused(request):
            return self.failure(403, "Forbidden")
        _empty, _secrets, name, *_version = request.path.split("/")
        if request.method == "PUT":
            self.put(name, **{each: request.body.get(each) for each in ("value", "tags", "contentType", "attributes")})
        known = self.kept.get(name)
        if known is None:
            return self.failure(404, "SecretNotFound")
        if request.method == "PATCH":
            tags = request.body.get("tags", known["tags"])
            if len(tags) > 15 or any(len(value) > 256 for value in tags.values()):
                return self.failure(400, "BadParameter")
            known["tags"] = tags
        return Answer(200, {**known, "id": f"{self.url}/secrets/{name}/{known['version']}"})

    def put(self, name: str, **what: Any) -> None:
        self._versions += 1
        attributes = {"enabled": True, "recoveryLevel": "Recoverable", **(what.pop("attributes", None) or {})}
        self.kept[name] = {**what, "attributes": attributes, "version": f"{self._versions:032x}"}

    def _give_token(self, asked: dict[str, list[str]]) -> Answer:
        if asked["client_secret"] != [self.secret]:
            return Answer(401, {"error": "invalid_client", "error_description": f"{asked} status-canary"})
        return Answer(200, {"access_token": self.token, "token_type": "Bearer", "expires_in": 3600})


class AzureSecret(_Behind):
    """A secret with tags of others, a type and a date, over TLS."""

    kind = "azure_keyvault"
    name = "multicart-api-key"
    secrets = (AzureApi.secret, AzureApi.token)

    def __init__(self, folder: Path) -> None:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self._ca_path = folder / "ca.pem"
        authority.cert_pem.write_to_path(self._ca_path)
        self.api: AzureApi = AzureApi(context)
        dates = {"exp": 1900000000, "nbf": 1700000000}
        self.api.put(self.name, value="changeme", tags={"owner": "us"}, contentType="text/plain", attributes=dates)

    @property
    def entry(self) -> dict[str, Any]:
        where = {"vault_url": self.api.url, "authority": self.api.url, "ca_path": str(self._ca_path)}
        return {**where, "name": self.name, "tenant_id": "tenant-1", "client_id": "client-1", "client_secret": self._as}

    _as = AzureApi.secret

    def things(self) -> dict[str, Any]:
        return self.api.kept

    def put(self, key: str | None) -> None:
        self.api.put(self.name, **{**self.api.kept[self.name], "value": key or "changeme"})

    def value(self) -> str | None:
        value = self.api.kept[self.name]["value"]
        return None if value == "changeme" else str(value)

    def rest(self) -> Any:
        kept = copy.deepcopy(self.api.kept[self.name])
        kept["tags"] = {name: value for name, value in kept["tags"].items() if "multicart" not in name}
        return {each: kept[each] for each in ("tags", "contentType", "attributes")}

    def change_rest(self) -> None:
        self.api.kept[self.name]["tags"]["theirs"] = "1"

    @staticmethod
    def befalls(request: Request) -> bool:
        return request.path.startswith("/secrets/")

    def break_by(self, fault: str) -> None:
        if fault == "unauthorised":
            self.api.token, self._as = "another", "another"
        else:
            super().break_by(fault)

    def mend(self) -> None:
        self.api.token, self._as = AzureApi.token, AzureApi.secret
        super().mend()


# --- Google Cloud ---------------------------------------------------------------------------------


class GcpApi(_Api):
    """Secrets with versions, of one project."""

    token = "gcp-token-canary"

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self._etags = 0
        super().__init__()

    def failure(self, status: int, message: str) -> Answer:
        return Answer(status, {"error": {"code": status, "message": f"{message} status-canary", "status": message}})

    def answer(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.failure(401, "UNAUTHENTICATED")
        path, _separator, verb = request.path.removeprefix("/v1/").partition(":")
        name, _separator, version = path.partition("/versions/")
        known = self.kept.get(name)
        if known is None:
            return self.failure(404, "NOT_FOUND")
        if verb == "testIamPermissions":
            asked = request.body["permissions"]
            may = [each for each in asked if not self.refused(request) or each.endswith(("get", "access"))]
            return Answer(200, {"permissions": may})
        if self.refused(request):
            return self.failure(403, "PERMISSION_DENIED")
        if verb == "access":
            return self._access(name, known, version)
        if verb == "addVersion":
            known["versions"].append(base64.b64decode(request.body["payload"]["data"]))
            return Answer(200, {"name": f"{name}/versions/{len(known['versions'])}"})
        if request.method == "PATCH":
            if request.body.get("etag", known["etag"]) != known["etag"]:
                return self.failure(400, "FAILED_PRECONDITION")
            assert request.query["updateMask"] == "annotations"
            self.annotate(name, request.body["annotations"])
        return Answer(200, {"name": name, **{each: known[each] for each in ("etag", "annotations", "labels")}})

    def annotate(self, name: str, annotations: dict[str, str]) -> None:
        self._etags += 1
        self.kept[name].update(annotations=annotations, etag=f'"{self._etags}"')

    def _access(self, name: str, known: dict[str, Any], version: str) -> Answer:
        assert version == "latest"
        if not known["versions"]:
            return self.failure(404, "NOT_FOUND")
        if known["versions"][-1] is None:
            return self.failure(400, "FAILED_PRECONDITION")
        data = base64.b64encode(known["versions"][-1]).decode()
        return Answer(200, {"name": f"{name}/versions/{len(known['versions'])}", "payload": {"data": data}})


class GcpSecret(_Behind):
    """A secret with labels and an annotation of others."""

    kind = "gcp_secret_manager"
    name = "projects/shop/secrets/multicart"
    secrets = (GcpApi.token,)
    # The library takes a redirect for an answer.
    faults: ClassVar = {**_Behind.faults, "redirect": {"store_malformed"}}

    def __init__(self, _folder: Path) -> None:
        self.api: GcpApi = GcpApi()
        self.api.kept[self.name] = {"versions": [], "labels": {"app": "shop"}}
        self.api.annotate(self.name, {"owner": "us"})

    @property
    def entry(self) -> dict[str, Any]:
        return {"endpoint": self.api.url, "project": "shop", "name": "multicart", "access_token": GcpApi.token}

    def things(self) -> dict[str, Any]:
        return self.api.kept

    def put(self, key: str | None) -> None:
        self.api.kept[self.name]["versions"].append(None if key is None else key.encode())

    def value(self) -> str | None:
        value = self.api.kept[self.name]["versions"][-1]
        return None if value is None else str(value.decode())

    def rest(self) -> Any:
        kept = self.api.kept[self.name]
        annotations = {name: value for name, value in kept["annotations"].items() if "multicart" not in name}
        return annotations, dict(kept["labels"])

    def change_rest(self) -> None:
        self.api.annotate(self.name, {**self.api.kept[self.name]["annotations"], "theirs": "1"})

    def break_by(self, fault: str) -> None:
        if fault == "read_only":
            self.api.refused = lambda request: request.method != "GET"
        else:
            super().break_by(fault)


# --- AWX ------------------------------------------------------------------------------------------


class AwxApi(_Api):
    """Credentials; a secret input is shown as a placeholder, which keeps it when it comes back.

    :ivar sources: by credential, what its fields are linked to.
    """

    token = "awx-token-canary"
    placeholder = "$encrypted$"

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.sources: list[dict[str, Any]] = []
        self.fields = [{"id": "api_key", "secret": True}, {"id": "password", "secret": True}, {"id": "email"}]
        self._now = datetime(2026, 11, 26, 3, tzinfo=timezone.utc)
        super().__init__()

    def answer(self, request: Request) -> Answer:
        said = self._route(request)
        return Answer(said.status, said.body, {"Date": format_datetime(self._now, usegmt=True)})

    def _route(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.failure(401, "Authentication credentials were not provided")
        kind, *rest = request.path.removeprefix("/api/v2/").strip("/").split("/")
        if kind == "credential_types":
            return Answer(200, {"id": 9, "inputs": {"fields": self.fields}})
        if not rest:
            asked = {"name": "name", "organization__name": "organization", "credential_type__name": "type"}
            found = [
                self._shown(one)
                for one in self.kept.values()
                if all(one[asked[name]] == value for name, value in request.query.items())
            ]
            return Answer(200, {"count": len(found), "results": found})
        known = next((one for one in self.kept.values() if str(one["id"]) == rest[0]), None)
        if known is None:
            return self.failure(404, "Not found")
        if rest[1:] == ["input_sources"]:
            return Answer(200, {"count": len(self.sources), "results": self.sources})
        if request.method == "PATCH":
            if self.refused(request):
                return self.failure(403, "You do not have permission to perform this action")
            inputs = request.body.get("inputs", known["inputs"])
            kept = {name: known["inputs"][name] if text == self.placeholder else text for name, text in inputs.items()}
            self.change(known["name"], 1, **{**request.body, "inputs": kept})
        return Answer(200, self._shown(known))

    def change(self, name: str, seconds: int, **what: Any) -> None:
        """Change a credential after some time."""
        self._now += timedelta(seconds=seconds)
        self.kept[name].update(what, modified=self._now.strftime("%Y-%m-%dT%H:%M:%S.123456Z"))

    def _shown(self, known: dict[str, Any]) -> dict[str, Any]:
        secret = {field["id"] for field in self.fields if field.get("secret")}
        inputs = {name: self.placeholder if name in secret else value for name, value in known["inputs"].items()}
        edit = not self.refused(Request("PATCH", "", {}, {}, None))
        return {**known, "inputs": inputs, "summary_fields": {"user_capabilities": {"edit": edit}}}


class AwxCredential(_Behind):
    """A credential with other inputs and a description."""

    kind = "awx_credential"
    readable = False
    name = "MultiCartAPI"
    secrets = (AwxApi.token,)
    faults: ClassVar = {**_Behind.faults, "linked": {"store_not_writable"}}

    def __init__(self, _folder: Path) -> None:
        self.api: AwxApi = AwxApi()
        shown = {"name": self.name, "organization": "Shop", "type": "MultiCartAPI", "credential_type": 9, "id": 5}
        inputs = {"email": "us@example.com", "password": "ours"}
        self.api.kept[self.name] = {**shown, "description": "Ours.", "inputs": inputs, "managed": False}
        self.api.change(self.name, 1)

    @property
    def entry(self) -> dict[str, Any]:
        return {"url": self.api.url, "token": AwxApi.token, "name": self.name, "organization": "Shop"}

    def things(self) -> dict[str, Any]:
        return self.api.kept

    def put(self, key: str | None) -> None:
        inputs = {name: value for name, value in self.api.kept[self.name]["inputs"].items() if name != "api_key"}
        self.api.change(self.name, 60, inputs={**inputs, **({"api_key": key} if key else {})})

    def value(self) -> str | None:
        value = self.api.kept.get(self.name, {"inputs": {}})["inputs"].get("api_key")
        return None if value is None else str(value)

    def rest(self) -> Any:
        kept = self.api.kept[self.name]
        inputs = {name: value for name, value in kept["inputs"].items() if name != "api_key"}
        return inputs, kept["description"].partition("\n[multicart.keys ")[0]

    def change_rest(self) -> None:
        inputs = self.api.kept[self.name]["inputs"]
        self.api.change(self.name, 1, inputs={**inputs, "password": "theirs"})

    def break_by(self, fault: str) -> None:
        if fault == "linked":
            self.api.sources = [{"input_field_name": "api_key", "source_credential": 7}]
        else:
            super().break_by(fault)

    def mend(self) -> None:
        self.api.sources = []
        super().mend()


BACKENDS: dict[str, type[Any]] = {
    "awx_credential": AwxCredential,
    "azure_keyvault": AzureSecret,
    "consul_kv": ConsulKey,
    "etcd": Etcd,
    "gcp_secret_manager": GcpSecret,
}
