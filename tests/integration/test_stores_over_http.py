# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stores behind the APIs of Kubernetes and GitHub as consumers of a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Fleet
from tests.stores.backends import Backend
from tests.stores.github_api import GitHubSecret
from tests.stores.kubernetes_api import KubernetesSecret


@pytest.fixture
def stores(fleet: Fleet, tmp_path: Path) -> Iterator[dict[str, Backend]]:
    made: dict[str, Backend] = {"k8s-shop": KubernetesSecret(tmp_path), "gh-shop": GitHubSecret(tmp_path)}
    for name, backend in made.items():
        backend.put(fleet.live)
        entry = {"type": backend.kind, **backend.entry}
        fleet.add(name, None, multicart_deploy_files=[], multicart_deploy_stores=[entry])
    yield made
    for backend in made.values():
        backend.stop()


def test_what_can_be_read_and_what_cannot_get_the_key_and_keep_it(fleet: Fleet, stores: dict[str, Backend]) -> None:
    kubernetes, github = stores["k8s-shop"], stores["gh-shop"]
    assert isinstance(kubernetes, KubernetesSecret)
    kubernetes.api.put_workload("deployment", "web")
    fleet.hosts["k8s-shop"].variables["multicart_deploy_stores"][0]["restart"] = ["deployment/web"]
    fleet.add("web1")
    audit = fleet.audit()  # nobody knows what is in a secret of GitHub
    assert [task.host for task in audit.failures] == ["gh-shop"], audit
    assert fleet.deploy().green
    run = fleet.rotate()
    assert run.green and fleet.rotations == 1, run
    assert {backend.value() for backend in stores.values()} == {fleet.live}
    assert kubernetes.api.restarts("deployment", "web") is not None

    github.put("acme.somebody-elses")
    audit = fleet.audit()
    assert [task.host for task in audit.failures] == ["gh-shop"], audit
    assert fleet.deploy().green and github.value() == fleet.live
    assert fleet.rotations == 1


def test_a_token_that_may_write_no_secrets_keeps_everything_from_being_rotated(
    fleet: Fleet, stores: dict[str, Backend]
) -> None:
    assert fleet.deploy().green
    stores["gh-shop"].break_by("read_only")
    run = fleet.rotate()
    assert run.reason == "not_ready" and "gh-shop: github_secret acme/shop" in run.message, run
    assert fleet.rotations == 0
    assert {backend.value() for backend in stores.values()} == {fleet.live}
