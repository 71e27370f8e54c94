# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One account that everything uses at once: services of every shape, a container, and stores, with what reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.hosts.fleet import KEY_FILE, RealFleet, health_of
from tests.hosts.oracle import API, Uses, only_wrong, wrong_in, wrong_on, wrong_with
from tests.hosts.stage import Stage
from tests.integration.harness import Run, fingerprint
from tests.sandbox.handle import Sandbox
from tests.sandbox.shapes import Account
from tests.stores.backends import VAULT_PASSWORD, Backend, OpenBao

DROP_IN = "/etc/systemd/system/app-dropin.service.d/key.conf"
"""A file of the user's own template."""
ENV_LINE = "MULTICART_API_KEY={key}\n"
IMAGE = "mkdir -p /tmp/image && cd /tmp/image && mkdir usr etc proc sys dev run tmp && " + (
    "ln -s usr/bin bin && ln -s usr/lib lib && ln -s usr/lib64 lib64 && tar -c . | podman import - app 2>&1"
)
"""Makes an image of folders without files; those are the host's own."""
# Process 1 of a container heeds no other signal, and is waited for ten seconds.
RUN_CONTAINER = f"podman run --replace --detach --stop-signal=KILL --name c1 --env-file {KEY_FILE} app " + (
    "/usr/bin/python3 /usr/local/lib/app.py serve c1"
)
SERVICES = ("app", "app-notify", "app-once", "app-file", "app-credential", "app@one", "app-dropin", "app-socket")
USER = "runuser -u plain -- env XDG_RUNTIME_DIR=/run/user/$(id -u plain) systemctl --user"
USER_FILE = "/home/plain/app.env"
STORE = "store-"


class Whole(RealFleet):
    """The fleet, and what each consumer of it uses.

    :ivar uses: of each host.
    :ivar stores: by the name of their consumer.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, account: Account, stage: Stage, suite: str) -> None:
        super().__init__(sandbox, folder, account, stage)
        self.suite = suite
        self.uses: dict[str, Uses] = {}
        self.stores: dict[str, Backend] = {}
        self._first_steps: list[Callable[[], object]] = []
        self._varied: dict[str, dict[str, Any]] = {}

    # --- what is in it ----------------------------------------------------------------------------

    def add_services(self, name: str = "web") -> None:
        """Add a host on which systemd starts the app in all its ways."""
        template = self.folder / "key.conf.j2"
        template.write_text("[Service]\nEnvironment=MULTICART_API_KEY={{ multicart_key }}\n")
        files = {KEY_FILE: ENV_LINE, "/etc/app/one.env": ENV_LINE}
        host = self.boot(
            name,
            self.suite,
            services=(*SERVICES[:-1], "app-socket.socket"),
            files={**files, DROP_IN: "[Service]\nEnvironment=MULTICART_API_KEY={key}\n"},
            multicart_deploy_files=[
                *({"path": path} for path in files),
                {"path": DROP_IN, "template": str(template), "mode": "0600"},
            ],
            multicart_deploy_services=[
                {"name": each, "state": "reloaded" if each == "app-file" else "restarted"} for each in SERVICES
            ],
            multicart_deploy_health_checks=[health_of(each) for each in SERVICES if each != "app-once"],
        )
        serve = [each for each in SERVICES if each != "app-once"]
        self.uses[name] = Uses(serve, ("app-file", "app-credential"), ("app-once",), (*files, DROP_IN))
        self._first_steps.append(lambda: host.run(health_of("app-socket")))

    def add_other_inits(self) -> None:
        for kind in ("openrc", "runit"):
            self.boot(kind, kind)
            self.uses[kind] = Uses(["app"], files=[KEY_FILE])

    def add_container(self, name: str = "box") -> None:
        host = self.boot(
            name,
            services=(),
            multicart_deploy_commands=[RUN_CONTAINER],
            multicart_deploy_health_checks=[health_of("c1")],
        )
        self.uses[name] = Uses(["c1"], files=[KEY_FILE])
        self._first_steps.append(lambda: host.run(f"{IMAGE} && {RUN_CONTAINER}"))

    def add_user_unit(self, name: str = "user") -> None:
        host = self.boot(
            name,
            self.suite,
            services=(),
            files={USER_FILE: ENV_LINE},
            ansible_become_user="plain",
            multicart_deploy_commands=["systemctl --user restart app-user"],
            multicart_deploy_health_checks=[health_of("app-user")],
        )
        self.uses[name] = Uses(["app-user"], files=[USER_FILE])
        # As loginctl enable-linger, which newer ones refuse to a process outside the host's own control groups.
        lingers = "mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/plain"
        lingers += " && systemctl start user@$(id -u plain)"
        starts = f"chown plain:plain {USER_FILE} && {lingers} && {USER} enable --now app-user 2>&1"
        self._first_steps.append(lambda: host.run(starts))

    def add_store(self, name: str, store: Backend) -> None:
        """Add a store with the live key."""
        store.put(self.live)
        self.stores[STORE + name] = store
        self.add(STORE + name, None, multicart_deploy_files=[], multicart_deploy_timeout=20)

    def add_reader(self, vault: OpenBao, name: str = "reader") -> None:
        """Add a host that takes its key from a store when it starts."""
        port = self.stage.door(urlsplit(vault.entry["url"]).port or 0)
        bridge = f"http://{self.stage.gateway}:{port}"
        place = json.dumps({"url": f"{bridge}/v1/secret/data/myapp", "token": vault.new_token()})
        self.boot(
            name,
            self.suite,
            services=("app-reader",),
            files={"/etc/app/store.json": place},
            multicart_deploy_files=[],
        )
        self.uses[name] = Uses(["app-reader"])

    def keep_passwords(self, folder: Path) -> None:
        """Give the runs what opens the stores that are files."""
        password = folder / "password"
        password.write_text(VAULT_PASSWORD)
        self.env["ANSIBLE_VAULT_IDENTITY_LIST"] = f"prod@{password}"
        self.env |= {name: os.environ[name] for name in ("GNUPGHOME", "PASSWORD_STORE_DIR") if name in os.environ}

    @property
    def inventory(self) -> Path:
        for name, store in self.stores.items():
            self.hosts[name].variables["multicart_deploy_stores"] = [{"type": store.kind, **store.entry}]
        return super().inventory

    def wait(self) -> None:
        super().wait()
        while self._first_steps:
            self._first_steps.pop(0)()

    def close(self) -> None:
        super().close()
        for store in self.stores.values():
            store.stop()

    # --- what is so -------------------------------------------------------------------------------

    def wrong(self) -> dict[str, list[str]]:
        """Return what is wrong with each consumer, and with the API, found out without the collection."""
        live, former = self.live, self.account["former_keys"]
        on_hosts = {name: wrong_on(host, self.uses[name], live, former) for name, host in self.real.items()}
        in_stores = {name: wrong_in(store, live) for name, store in self.stores.items()}
        return only_wrong({**on_hosts, **in_stores, API: wrong_with(self.sandbox, live, former)})

    def finish(self, run: Run, *arguments: str) -> Run:
        """Run once more for the key that a red run has retired, or was to retire."""
        assert run.whole is not None
        retire = run.whole["retired"] or fingerprint(self.live)
        return self.rotate("-e", f"multicart_rotate_retire={retire}", *arguments)

    def sh(self, name: str, command: str) -> str:
        return self.real[name].run(command)

    def vary(self, name: str, **variables: Any) -> None:
        """Set variables of a consumer; None: back to what they were."""
        self._varied.setdefault(name, {})
        for variable, value in variables.items():
            self._varied[name].setdefault(variable, self.hosts[name].variables.get(variable))
            self.hosts[name].variables[variable] = value

    def restore(self, name: str) -> None:
        """Set the variables of a consumer as they were."""
        for variable, value in self._varied.pop(name, {}).items():
            if value is None:
                del self.hosts[name].variables[variable]
            else:
                self.hosts[name].variables[variable] = value
