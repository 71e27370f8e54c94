# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real places for a key, one for each type, and what can go wrong with each."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import requests
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import NO_CONTROL_NODE, ControlNode

from tests.ports import OwnPort


class Backend(ABC):
    """A place that holds the key.

    :cvar faults: what `break_by` knows, and the reason that the store tells then.
    :cvar at_write: those of them that can also come between the inspection and the write.
    :cvar readable: what it holds can be read; else only what its record says is known.
    :cvar secrets: its credentials.
    """

    kind: ClassVar[str]
    faults: ClassVar[Mapping[str, set[str]]]
    at_write: ClassVar[set[str]]
    readable: ClassVar[bool] = True
    secrets: tuple[str, ...] = ()
    control: ControlNode = NO_CONTROL_NODE

    @property
    @abstractmethod
    def entry(self) -> dict[str, Any]:
        """The entry of ``multicart_deploy_stores``, without its type."""

    @abstractmethod
    def put(self, key: str | None) -> None:
        """Let it hold a key, as somebody else would; None: none."""

    @abstractmethod
    def value(self) -> str | None:
        """Return what it holds."""

    @abstractmethod
    def rest(self) -> Any:
        """Return all else that it holds, but the record."""

    @abstractmethod
    def change_rest(self) -> None:
        """Change something else in it, as somebody else would."""

    @abstractmethod
    def break_by(self, fault: str) -> None:
        """Break it."""

    @abstractmethod
    def mend(self) -> None:
        """Undo what was broken."""

    def stop(self) -> None:  # noqa: B027  # most have started nothing
        """End what was started for it."""


class OpenBao(Backend):
    """A real OpenBao server."""

    kind = "vault_kv2"
    faults: ClassVar = {
        "down": {"store_unreachable"},
        "sealed": {"store_unreachable"},
        "unauthorised": {"store_refused"},
        "read_only": {"store_refused"},
        "missing": {"store_missing"},
        "deleted": {"store_missing"},
        "malformed": {"store_malformed"},
    }
    at_write: ClassVar = {"sealed", "unauthorised"}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = OwnPort()
        self._url = f"http://127.0.0.1:{self._port.number}"
        self._another: ThreadingHTTPServer | None = None
        self._sealed = False
        self._root = "root-canary"
        self._path = "myapp"
        self._process: subprocess.Popen[bytes] | None = None
        self._start()
        self._mended()

    @property
    def entry(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._another.server_port}" if self._another else self._url
        return {"url": url, "path": self._path, "token": self.secrets[0]}

    def put(self, key: str | None) -> None:
        kept = {name: value for name, value in self._data().items() if name != "MULTICART_API_KEY"}
        self._ask("POST", "secret/data/myapp", {"data": {**kept, **({"MULTICART_API_KEY": key} if key else {})}})

    def value(self) -> str | None:
        value = self._data().get("MULTICART_API_KEY")
        return None if value is None else str(value)

    def rest(self) -> Any:
        metadata = self._ask("GET", "secret/metadata/myapp")["data"]
        custom = {name: value for name, value in (metadata["custom_metadata"] or {}).items() if "multicart" not in name}
        data = {name: value for name, value in self._data().items() if name != "MULTICART_API_KEY"}
        return data, custom, metadata["max_versions"], metadata["delete_version_after"]

    def change_rest(self) -> None:
        self._ask("POST", "secret/data/myapp", {"data": {**self._data(), "other": "theirs"}})

    def break_by(self, fault: str) -> None:
        if fault == "down":
            self._stop_server()
        elif fault == "sealed":
            self._ask("PUT", "sys/seal")
            self._sealed = True
        elif fault == "unauthorised":
            self._ask("POST", "auth/token/revoke", {"token": self.secrets[0]})
        elif fault == "read_only":
            self._policy("read")
        elif fault == "missing":
            self._path = "nowhere"
        elif fault == "deleted":
            self._ask("DELETE", "secret/data/myapp")
        elif fault == "malformed":
            self._another = another()

    def mend(self) -> None:
        if self._another is not None:
            self._another.shutdown()
            self._another = None
        if self._process is None:
            self._start()
        if self._sealed:
            unseal = re.search(r"Unseal Key: (\S+)", (self._folder / "bao.log").read_text())
            assert unseal is not None
            self._ask("PUT", "sys/unseal", {"key": unseal[1]})
            self._sealed = False
        self._mended()

    def stop(self) -> None:
        self._stop_server()
        self._port.let_go()
        if self._another is not None:
            self._another.shutdown()

    def _stop_server(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        program = Path(sys.executable).with_name("bao")
        self._process = subprocess.Popen(
            [
                program,
                "server",
                "-dev",
                f"-dev-root-token-id={self._root}",
                f"-dev-listen-address=127.0.0.1:{self._port.number}",
            ],
            stdout=(self._folder / "bao.log").open("wb"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(self._folder)},
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(f"{self._url}/v1/sys/health", timeout=2).ok:
                    return
            time.sleep(0.05)
        raise AssertionError("OpenBao does not start")

    def _mended(self) -> None:
        self._path = "myapp"
        self._policy("create", "read", "update")
        self.secrets = (self.new_token(),)
        ours = {"custom_metadata": {"owner": "us"}, "max_versions": 7, "cas_required": False}
        self._ask("POST", "secret/metadata/myapp", ours)
        if not self._data():
            self._ask("POST", "secret/data/myapp", {"data": {"other": "ours", "count": 3}})

    def new_token(self) -> str:
        """Return one more token that may do the same."""
        made = self._ask("POST", "auth/token/create", {"policies": ["ours"], "no_parent": True})
        return str(made["auth"]["client_token"])

    def allow(self, *rights: str) -> None:
        """Let its token do this."""
        self._policy(*rights)

    def add_approle(self) -> tuple[str, str]:
        """Return the id of a role that may do the same, and a secret id."""
        if "approle/" not in self._ask("GET", "sys/auth")["data"]:
            self._ask("POST", "sys/auth/approle", {"type": "approle"})
        self._ask("POST", "auth/approle/role/ours", {"token_policies": ["ours"]})
        role = self._ask("GET", "auth/approle/role/ours/role-id")["data"]["role_id"]
        return role, self._ask("POST", "auth/approle/role/ours/secret-id")["data"]["secret_id"]

    def demand_compare_and_set(self) -> None:
        self._ask("POST", "secret/metadata/myapp", {"cas_required": True})

    def _policy(self, *rights: str) -> None:
        listed = json.dumps(rights)
        rules = "\n".join(f'path "secret/{part}/*" {{ capabilities = {listed} }}' for part in ("data", "metadata"))
        self._ask("PUT", "sys/policies/acl/ours", {"policy": rules})

    def _data(self) -> dict[str, Any]:
        answer = self._ask("GET", "secret/data/myapp")
        return dict(((answer or {}).get("data") or {}).get("data") or {})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Vault-Token": self._root}
        answer = requests.request(method, f"{self._url}/v1/{path}", json=body, headers=headers, timeout=10)
        return answer.json() if answer.text else None


class _Another(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": []}')

    do_POST = do_GET  # noqa: N815  # http.server wants it

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


def another() -> ThreadingHTTPServer:
    """Start something else that answers in place of a store; its ``shutdown`` ends it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Another)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


VAULT_PASSWORD = "vault-password-canary"


class VaultedFile(Backend):
    """A file that ansible-vault has encrypted as a whole."""

    kind = "ansible_vault"
    faults: ClassVar = {
        "unauthorised": {"store_refused"},
        "missing": {"invalid_option"},
        "malformed": {"store_malformed"},
        "read_only": {"store_not_writable"},
    }
    at_write: ClassVar = {"read_only"}
    secrets = (VAULT_PASSWORD,)

    def __init__(self, folder: Path) -> None:
        self._file = folder / "vars" / "vault.yml"
        self._file.parent.mkdir()
        self._text = "# ours\nfirst: 1\nmulticart_api_key: changeme\nlast: [a, 'b']  # kept\n"
        self._password = VAULT_PASSWORD
        self.write_text(self._text)

    @property
    def control(self) -> ControlNode:  # type: ignore[override]
        return ControlNode(vault_passwords=[["default", "another"], ["default", self._password]])

    @property
    def entry(self) -> dict[str, Any]:
        return {"path": str(self._file)}

    def put(self, key: str | None) -> None:
        lines = [f"multicart_api_key: {key or 'changeme'}" if self._is_ours(line) else line for line in self._lines()]
        self.write_text("\n".join(lines) + "\n")

    def value(self) -> str | None:
        (value,) = [line.split(": ")[1] for line in self._lines() if self._is_ours(line)]
        return None if value == "changeme" else value

    def rest(self) -> Any:
        status = self._file.stat()
        kept = [line for line in self._lines() if not self._is_ours(line)]
        return kept, stat.S_IMODE(status.st_mode), self.read_bytes().split(b"\n")[0]

    def change_rest(self) -> None:
        self.write_text(self.read_text() + "theirs: 1\n")

    def break_by(self, fault: str) -> None:
        if fault == "unauthorised":
            self._password = "wrong"
        elif fault == "missing":
            self._file.unlink()
        elif fault == "malformed":
            self.write_text("- a list\n")
        elif fault == "read_only":
            done = subprocess.run(["chattr", "+i", self._file.parent, self._file], check=False)
            if done.returncode != 0:
                pytest.skip("the file system of the tests knows no chattr +i")

    def mend(self) -> None:
        subprocess.run(["chattr", "-i", self._file.parent, self._file], check=False, stderr=subprocess.DEVNULL)
        self._password = VAULT_PASSWORD
        if not self._file.exists() or self.read_text().startswith("-"):
            self.write_text(self._text)

    def stop(self) -> None:
        self.mend()

    def read_bytes(self) -> bytes:
        return self._file.read_bytes()

    def write_bytes(self, content: bytes) -> None:
        self._file.write_bytes(content)
        self._file.chmod(0o640)

    def read_text(self) -> str:
        return VaultLib([("prod", VaultSecret(VAULT_PASSWORD.encode()))]).decrypt(self.read_bytes()).decode()

    def write_text(self, text: str) -> None:
        secret = VaultSecret(VAULT_PASSWORD.encode())
        self.write_bytes(VaultLib([("prod", secret)]).encrypt(text, secret, vault_id="prod"))

    def _lines(self) -> list[str]:
        return self.read_text().splitlines()

    @staticmethod
    def _is_ours(line: str) -> bool:
        return line.startswith("multicart_api_key:")


class VaultedFileInGit(VaultedFile):
    """The same, in a git repository with a remote."""

    faults: ClassVar = {
        "unauthorised": {"store_refused"},
        "missing": {"store_missing"},
        "malformed": {"store_malformed"},
        "down": {"store_unreachable"},
        "hook": {"store_refused"},
    }
    at_write: ClassVar = {"down", "hook"}

    def __init__(self, folder: Path) -> None:
        self._remote, self._theirs, ours = folder / "remote.git", folder / "theirs", folder / "ours"
        git("init", "--quiet", "--bare", "--initial-branch=main", self._remote)
        for clone in (self._theirs, ours):
            git("clone", "--quiet", self._remote, clone)
        super().__init__(self._theirs)
        git("push", "--quiet", "origin", "HEAD:main", cwd=self._theirs)
        git("pull", "--quiet", "origin", "main", cwd=ours)
        self._ours = ours
        self._file = self._theirs / "vars" / "vault.yml"

    @property
    def entry(self) -> dict[str, Any]:
        return {"path": str(self._ours / "vars" / "vault.yml"), "remote": "origin", "branch": "main"}

    def rest(self) -> Any:
        lines, _mode, header = super().rest()
        return lines, header

    def break_by(self, fault: str) -> None:
        if fault == "down":
            self._remote.rename(self._remote.with_name("gone"))
        elif fault == "hook":
            hook = self._remote / "hooks" / "pre-receive"
            hook.write_text("#!/bin/sh\nexit 1\n")
            hook.chmod(0o755)
        elif fault == "missing":
            git("rm", "--quiet", "vars/vault.yml", cwd=self._theirs)
            git("commit", "--quiet", "-m", "theirs", cwd=self._theirs)
            git("push", "--quiet", "origin", "HEAD:main", cwd=self._theirs)
        else:
            super().break_by(fault)

    def mend(self) -> None:
        gone = self._remote.with_name("gone")
        if gone.exists():
            gone.rename(self._remote)
        (self._remote / "hooks" / "pre-receive").unlink(missing_ok=True)
        self._password = VAULT_PASSWORD
        if b"vault.yml" not in git("ls-tree", "-r", "main", cwd=self._remote) or self.read_text().startswith("-"):
            (self._theirs / "vars").mkdir(exist_ok=True)
            self.write_text(self._text)

    def read_bytes(self) -> bytes:
        return git("cat-file", "blob", "main:vars/vault.yml", cwd=self._remote)

    def write_bytes(self, content: bytes) -> None:
        git("fetch", "--quiet", "origin", cwd=self._theirs)
        if git("ls-remote", "origin", "main", cwd=self._theirs):
            git("reset", "--quiet", "--hard", "origin/main", cwd=self._theirs)
        super().write_bytes(content)
        git("add", ".", cwd=self._theirs)
        git("commit", "--quiet", "-m", "theirs", cwd=self._theirs)
        git("push", "--quiet", "origin", "HEAD:main", cwd=self._theirs)


def git(*words: str | Path, cwd: Path | None = None) -> bytes:
    names = {f"GIT_{role}_{what}": "them@x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True, env={**os.environ, **names})
    return done.stdout


class Programs(Backend):
    """A store behind three programs, as a user would write them."""

    kind = "command"
    faults: ClassVar = {
        "down": {"store_failed"},
        "read_only": {"store_not_writable"},
        "malformed": {"store_malformed"},
        "missing": {"store_failed"},
    }
    at_write: ClassVar = {"down"}

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._place = folder / "place.json"
        self._program = folder / "store"
        shutil.copy(Path(__file__).with_name("program.py"), self._program)
        self._program.chmod(0o755)
        self._save({"key": None, "record": None, "other": 1, "fault": None})

    @property
    def entry(self) -> dict[str, Any]:
        words = [sys.executable, str(self._program), str(self._place)]
        return {"label": "place", **{verb: [*words, verb] for verb in ("inspect", "write", "note")}}

    def put(self, key: str | None) -> None:
        self._save({**self._load(), "key": key})

    def value(self) -> str | None:
        return self._load()["key"]

    def rest(self) -> Any:
        return self._load()["other"]

    def change_rest(self) -> None:
        self._save({**self._load(), "other": 2})

    def break_by(self, fault: str) -> None:
        if fault == "missing":
            self._program.rename(self._program.with_name("gone"))
        self._save({**self._load(), "fault": fault})

    def mend(self) -> None:
        gone = self._program.with_name("gone")
        if gone.exists():
            gone.rename(self._program)
        self._save({**self._load(), "fault": None})

    def hang_after_the_write(self) -> None:
        self._save({**self._load(), "hang_after_the_write": True})

    def _load(self) -> dict[str, Any]:
        return dict(json.loads(self._place.read_text()))

    def _save(self, content: Mapping[str, Any]) -> None:
        self._place.write_text(json.dumps(content))


def example(name: str) -> str:
    """Return a script out of the documentation, by the name that its usage has."""
    page = (Path(__file__).parents[2] / "docs" / "docsite" / "rst" / "store_command.rst").read_text(encoding="utf-8")
    blocks = re.findall(r"\.\. code-block:: sh\n\n((?:   .*\n|\n)+)", page)
    (found,) = [textwrap.dedent(block) for block in blocks if f"Usage: {name} " in block]
    return found


class FileOnAShare(Backend):
    """The example of the documentation for a file."""

    kind = "command"
    faults: ClassVar = {"missing": {"store_not_writable", "store_failed"}}
    at_write: ClassVar = {"missing"}

    def __init__(self, folder: Path) -> None:
        self._file = folder / "share" / "key"
        self._file.parent.mkdir()
        self._script = folder / "share-store"
        self._script.write_text(example("share-store"))
        self._script.chmod(0o755)
        (folder / "share" / "another").write_text("ours")

    @property
    def entry(self) -> dict[str, Any]:
        verbs = {verb: [str(self._script), str(self._file), verb] for verb in ("inspect", "write", "note")}
        return {"label": "share", **verbs}

    def put(self, key: str | None) -> None:
        self._file.write_text(key or "")

    def value(self) -> str | None:
        return self._file.read_text().strip() or None

    def rest(self) -> Any:
        return (self._file.parent / "another").read_text()

    def change_rest(self) -> None:
        (self._file.parent / "another").write_text("theirs")

    def break_by(self, fault: str) -> None:
        self._file.parent.rename(self._file.parent.with_name("gone"))

    def mend(self) -> None:
        self._file.parent.with_name("gone").rename(self._file.parent)


class PassEntry(FileOnAShare):
    """The example of the documentation for pass; the real one, with a key of GnuPG that has no passphrase."""

    faults: ClassVar = {"missing": {"store_failed"}, "locked": {"store_failed"}}
    at_write: ClassVar = {"missing", "locked"}

    def __init__(self, folder: Path) -> None:
        if not shutil.which("pass"):
            pytest.skip("pass is missing: apt-get install pass")
        home = Path(tempfile.mkdtemp(prefix="mc-pass-"))  # the socket of the agent needs a short path
        self._environment = {**os.environ, "GNUPGHOME": str(home), "PASSWORD_STORE_DIR": str(home / "store")}
        os.environ.update(GNUPGHOME=str(home), PASSWORD_STORE_DIR=str(home / "store"))
        self._home = home
        self._run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "us@example.com")
        self._run("pass", "init", "us@example.com")
        self._script = folder / "pass-store"
        self._script.write_text(example("pass-store"))
        self._script.chmod(0o755)
        self._insert("", "a second line")

    @property
    def entry(self) -> dict[str, Any]:
        verbs = {verb: [str(self._script), "shop", verb] for verb in ("inspect", "write", "note")}
        return {"label": "pass", **verbs}

    def put(self, key: str | None) -> None:
        self._insert(key or "", self.rest())

    def value(self) -> str | None:
        return self._run("pass", "show", "shop").split("\n")[0] or None

    def rest(self) -> Any:
        return self._run("pass", "show", "shop").rstrip("\n").split("\n", 1)[1]

    def change_rest(self) -> None:
        self._insert(self.value() or "", "theirs")

    def break_by(self, fault: str) -> None:
        """Take away the entries, or the key of GnuPG that decrypts them."""
        self._broken = self._home / ("store" if fault == "missing" else "private-keys-v1.d")
        self._broken.rename(self._home / "gone")
        self._forget_keys()

    def mend(self) -> None:
        (self._home / "gone").rename(self._broken)

    def stop(self) -> None:
        self._forget_keys()
        shutil.rmtree(self._home, ignore_errors=True)
        for name in ("GNUPGHOME", "PASSWORD_STORE_DIR"):
            os.environ.pop(name, None)

    def _forget_keys(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self._environment, check=False)

    def _insert(self, key: str, rest: str) -> None:
        self._run("pass", "insert", "--force", "--multiline", "shop", data=f"{key}\n{rest}\n")

    def _run(self, *words: str, data: str = "") -> str:
        done = subprocess.run(words, input=data, capture_output=True, check=True, text=True, env=self._environment)
        return done.stdout


class WebHook(FileOnAShare):
    """The example of the documentation for a web hook, before a server that keeps a key."""

    faults: ClassVar = {"down": {"store_failed"}, "unauthorised": {"store_failed"}}
    at_write: ClassVar = {"down", "unauthorised"}
    secrets = ("hook-token-canary",)

    def __init__(self, folder: Path) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
        self._server.kept = {"key": None, "record": None, "other": "ours", "fault": None}  # type: ignore[attr-defined]
        Thread(target=self._server.serve_forever, daemon=True).start()
        self._script, self._token = folder / "hook-store", folder / "token"
        self._script.write_text(example("hook-store"))
        self._script.chmod(0o755)
        self._token.write_text(f'header = "Authorization: Bearer {self.secrets[0]}"\n')

    @property
    def _kept(self) -> dict[str, Any]:
        return self._server.kept  # type: ignore[attr-defined,no-any-return]

    @property
    def entry(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._server.server_port}/shop"
        verbs = {verb: [str(self._script), url, str(self._token), verb] for verb in ("inspect", "write", "note")}
        return {"label": "hook", **verbs}

    def put(self, key: str | None) -> None:
        self._kept["key"] = key

    def value(self) -> str | None:
        value = self._kept["key"]
        return None if value is None else str(value)

    def rest(self) -> Any:
        return self._kept["other"]

    def change_rest(self) -> None:
        self._kept["other"] = "theirs"

    def break_by(self, fault: str) -> None:
        self._kept["fault"] = fault

    def mend(self) -> None:
        self._kept["fault"] = None

    def stop(self) -> None:
        self._server.shutdown()


class _Hook(BaseHTTPRequestHandler):
    """Keeps a key and a record."""

    def do_GET(self) -> None:
        kept = self._kept()
        key = kept["key"]
        fingerprint = key and hashlib.sha256(key.encode()).hexdigest()[:16]
        self._answer({"fingerprint": fingerprint, "record": kept["record"], "writable": True})

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        kept = self._kept()
        if kept["fault"] is None:
            kept.update({"key": body} if self.path.endswith("/key") else {"record": json.loads(body)})
        self._answer({})

    def _kept(self) -> dict[str, Any]:
        return self.server.kept  # type: ignore[attr-defined,no-any-return]

    def _answer(self, said: Any) -> None:
        right = self.headers["Authorization"] == f"Bearer {WebHook.secrets[0]}"
        self.send_response({"down": 503, "unauthorised": 401}.get(self._kept()["fault"], 200 if right else 401))
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *_words: Any) -> None:
        """Say nothing."""


BACKENDS: dict[str, type[Any]] = {
    "vault_kv2": OpenBao,
    "ansible_vault": VaultedFile,
    "ansible_vault_in_git": VaultedFileInGit,
    "command": Programs,
    "command_share": FileOnAShare,
    "command_pass": PassEntry,
    "command_hook": WebHook,
}
