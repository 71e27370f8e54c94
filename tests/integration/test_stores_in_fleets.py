# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stores as consumers of a fleet: rotated, deployed, audited and refused like hosts, before those that read them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import ANSIBLE_BIN, Fleet, commands, fingerprint, note
from tests.integration.hostile import tell_facts
from tests.rows import every_other
from tests.sandbox.shapes import Account
from tests.stores.backends import Backend, OpenBao, Programs, VaultedFile
from tests.waiting import eventually

CONFIRMED = ("-e", "multicart_rotate_confirm=true")


@pytest.fixture
def add_store(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Return what adds a consumer with a store that holds the live key."""
    made: list[Backend] = []

    def add(maker: type[Backend], name: str = "store", **variables: Any) -> Backend:
        backend = maker(tmp_path_factory.mktemp(name))  # type: ignore[call-arg]
        made.append(backend)
        backend.put(fleet.live)
        stores = [{"type": backend.kind, **backend.entry}]
        fleet.add(name, None, multicart_deploy_files=[], multicart_deploy_stores=stores, **variables)
        return backend

    yield add
    for backend in made:
        backend.stop()


@pytest.fixture
def vault(add_store: Callable[..., Any]) -> Any:
    asked = subprocess.run([ANSIBLE_BIN / "python", "-c", "import hvac"], capture_output=True, check=False)
    if asked.returncode != 0:
        pytest.skip("hvac is missing beside this ansible-core: pip install hvac")
    return add_store(OpenBao, "vault")


def reads_from(vault: OpenBao) -> list[str]:
    """Return the command with which a host starts again and takes its key from the store."""
    program = (
        "import json, sys, urllib.request as r; url, token, into = sys.argv[1:]; "
        "q = r.Request(url, headers={'X-Vault-Token': token}); "
        "open(into, 'w').write(json.load(r.urlopen(q))['data']['data']['MULTICART_API_KEY'])"
    )
    url = f"{vault.entry['url']}/v1/secret/data/myapp"
    return [f"""{sys.executable} -c "{program}" {url} {vault.secrets[0]} {{{{ home }}}}/started-with"""]


def test_t21_a_host_that_reads_its_key_from_a_store_starts_with_the_new_one(fleet: Fleet, vault: OpenBao) -> None:
    web1 = fleet.add("web1")
    reader = fleet.add("a-reader", None, multicart_deploy_files=[], multicart_deploy_commands=reads_from(vault))
    old = fleet.live
    run = fleet.rotate()
    assert run.green and fleet.rotations == 1, run
    assert vault.value() == fleet.live != old
    assert (reader.folder / "started-with").read_text() == fleet.live
    assert fleet.live in web1.env.read_text()
    again = fleet.deploy()
    assert again.green and not any(again.changed.values()), again
    assert fleet.audit().green


def test_t21_a_deployment_serves_the_store_first(fleet: Fleet, vault: OpenBao) -> None:
    vault.put("acme.of-before")
    reader = fleet.add("a-reader", None, multicart_deploy_files=[], multicart_deploy_commands=reads_from(vault))
    run = fleet.deploy()
    assert run.green, run
    assert (reader.folder / "started-with").read_text() == vault.value() == fleet.live


def test_t21_drift_in_a_store_makes_the_audit_red_and_a_deployment_mends_it(
    fleet: Fleet, add_store: Callable[..., Any]
) -> None:
    store = add_store(Programs)
    fleet.add("web1")
    assert fleet.deploy().green
    assert fleet.audit().green
    store.put("acme.somebody-elses")
    audit = fleet.audit()
    assert not audit.green and audit.own["store"].result["reason"] == "not_up_to_date", audit
    assert not fleet.audit("--check").green
    assert fleet.deploy().green
    assert store.value() == fleet.live
    assert fleet.audit().green and fleet.rotations == 0


@pytest.mark.parametrize("fault", sorted(Programs.faults))
def test_a_store_that_is_not_ready_keeps_everything_from_being_rotated(
    fleet: Fleet, add_store: Callable[..., Any], fault: str
) -> None:
    fleet.add("web1")
    store = add_store(Programs)
    store.break_by(fault)
    run = fleet.rotate()
    assert run.reason == "not_ready" and "store: command place" in run.message, run
    assert fleet.rotations == 0 and fleet.stale == ["store"]
    store.mend()
    assert fleet.rotate().green and store.value() == fleet.live


def test_a_store_that_fails_at_the_write_is_red_alone_and_running_again_finishes(
    fleet: Fleet, add_store: Callable[..., Any]
) -> None:
    fleet.add("web1")
    fleet.add("web2")
    store = add_store(Programs)
    fail_at_write(store, "down")
    run = fleet.rotate()
    assert fleet.rotations == 1
    assert [task.host for task in run.failures] == ["store"], run
    assert run.own["store"].result["reason"] == "store_failed", run
    assert fleet.stale == ["store"]
    store.mend()
    again = fleet.deploy()
    assert again.green and fleet.rotations == 1, again
    assert store.value() == fleet.live


@pytest.mark.full  # it waits for the 30 s that a write may take
def test_a_store_that_hangs_costs_the_others_nothing_and_those_that_read_it_their_wave_timeout(
    fleet: Fleet, add_store: Callable[..., Any]
) -> None:
    fleet.add("web1", multicart_report_dir=str(fleet.folder / "reports"))
    fleet.add("reader", None, multicart_deploy_files=[], multicart_deploy_commands=["true"])
    fleet.variables.update(multicart_report_dir=str(fleet.folder / "reports"), multicart_deploy_wave_timeout=2)
    store = add_store(Programs, multicart_deploy_timeout=1)
    fail_at_write(store, "hang")
    run = fleet.rotate()
    assert fleet.rotations == 1
    assert {task.host for task in run.failures} == {"store", "reader"}, run
    assert run.own["store"].result["reason"] == "timed_out", run
    assert run.own["reader"].result["reason"] == "stores_behind", run
    (report,) = (fleet.folder / "reports").glob("*.json")
    hosts = {host["name"]: host for host in json.loads(report.read_text())["hosts"]}
    released = {name: moment(hosts[name], "released") for name in ("web1", "reader")}
    assert 2 <= released["reader"] - released["web1"] < 5
    assert moment(hosts["web1"], "written") - released["web1"] < 2
    store.mend()
    assert fleet.deploy().green and fleet.rotations == 1


def test_t21_a_reader_is_not_done_before_its_store_is(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    """It is restarted with what the store has, and once more when that has the key."""
    store = add_store(Programs)
    reader = fleet.add("reader", None, multicart_deploy_files=[], multicart_deploy_commands=[note("started")])
    fleet.add("web1")
    assert fleet.deploy().green and reader.log == ["started"]
    fail_at_write(store, "down")
    run = fleet.rotate()
    assert {task.host for task in run.failures} == {"store", "reader"}, run
    assert run.own["reader"].result["reason"] == "stores_behind", run
    assert reader.log == ["started"] * 2
    assert {task.host for task in fleet.audit().failures} == {"store", "reader"}
    alone = fleet.deploy("--limit", "reader")
    assert alone.own["reader"].result["reason"] == "stores_behind", alone
    store.mend()
    run = fleet.deploy()
    assert run.green and store.value() == fleet.live and reader.log == ["started"] * 4, run
    assert fleet.audit().green and fleet.deploy("--limit", "reader").green
    assert fleet.audit("--limit", "reader").green, "its store is no part of that"
    assert reader.log == ["started"] * 4


@pytest.mark.parametrize("account", every_other(["shop", "default"]))
def test_t21_a_reader_is_a_consumer_of_its_own_account_alone(
    fleet: Fleet, add_store: Callable[..., Any], new_account: Callable[[], Account], account: str
) -> None:
    """It once took part in the rotations of every account, and kept all but the first from being rotated."""
    other, labelled = new_account(), {"multicart_deploy_account": "shop"}
    add_store(Programs)
    add_store(Programs, "store-shop", **labelled).put(other["api_key"])
    # Here these hosts have one home, and each its own record all the same.
    steps = {"multicart_deploy_commands": [note("started")], "multicart_deploy_state_dir": "{{ home }}"}
    readers = {
        "default": fleet.add("reader", None, multicart_deploy_files=[], **steps),
        "shop": fleet.add("reader-shop", None, multicart_deploy_files=[], **steps, **labelled),
    }
    emails = {"default": fleet.email, "shop": other["email"]}
    for name in sorted(readers, key=lambda name: name == account):  # so that each has its record in time
        token = fleet.sandbox.token(emails[name])
        run = fleet.rotate("-e", f"multicart_account={name}", env={"MULTICART_SESSION_TOKEN": token})
        assert run.green and readers[name].log == ["started"], run
    assert [fleet.sandbox.rotations(email) for email in emails.values()] == [1, 1]
    assert [reader.log for reader in readers.values()] == [["started"]] * 2


ROLE = "- import_role: {name: multicart.keys.multicart_deploy}"


def test_a_reader_is_not_done_before_stores_that_are_no_part_of_the_run(
    fleet: Fleet, add_store: Callable[..., Any]
) -> None:
    """Also in a play of the user's own; consumers without a store may be left out."""
    add_store(Programs, "store-a")
    left_out = add_store(Programs, "store-b")
    left_out.put("acme.of-before")
    reader = fleet.add("reader", None, multicart_deploy_files=[], multicart_deploy_commands=[note("started")])
    fleet.add("web1")
    for run in (fleet.deploy("--limit", "store-a,reader"), fleet.play(ROLE, hosts="store-a:reader")):
        assert {task.host: task["reason"] for task in run.failures} == {"reader": "stores_behind"}, run
    assert left_out.value() != fleet.live and reader.log == ["started"] * 2
    run = fleet.deploy("--limit", "store-a,store-b,reader")
    assert run.green and left_out.value() == fleet.live and reader.log == ["started"] * 3, run


@pytest.mark.full
@pytest.mark.parametrize("head", ["serial: 1\norder: sorted", "serial: 1\norder: reverse_sorted", "strategy: free"])
def test_a_reader_is_not_done_before_stores_whose_turn_comes_later(
    fleet: Fleet, add_store: Callable[..., Any], head: str
) -> None:
    """In batches or without an order: either it was restarted after all stores, or it is red and due."""
    stores = [add_store(Programs, name) for name in ("a-store", "z-store")]
    for store in stores:
        store.put("acme.of-before")
    reader = fleet.add("reader", None, multicart_deploy_files=[], multicart_deploy_commands=[note("started")])
    run = fleet.play(ROLE, head=head)
    assert {task.host: task["reason"] for task in run.failures} in ({}, {"reader": "stores_behind"}), run
    assert not run.green or all(store.value() == fleet.live for store in stores), run
    assert not run.green or head == "strategy: free"
    again = fleet.deploy()
    assert again.green and [store.value() for store in stores] == [fleet.live] * 2, again
    assert len(reader.log) == 1 + (not run.green)


def fail_at_write(store: Backend, fault: str) -> None:
    tell(store, fault_at_write=fault)


def tell(store: Backend, **what: Any) -> None:
    """Tell the program of a store what to do otherwise."""
    place = Path(store.entry["write"][2])
    place.write_text(json.dumps({**json.loads(place.read_text()), **what}))


def moment(host: dict[str, Any], event: str) -> float:
    return datetime.fromisoformat(host["times"][event].replace("Z", "+00:00")).timestamp()


def test_check_mode_and_diff_tell_what_would_be_of_a_store(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    fleet.add("web1")
    store = add_store(Programs)
    run = fleet.rotate("--check", "--diff")
    assert run.green and run.own["store"].result["changed"], run
    assert store.value() == fleet.live and fleet.rotations == 0
    store.put("acme.somebody-elses")
    run = fleet.deploy("--check", "--diff")
    assert run.green and f"(fingerprint {fingerprint('acme.somebody-elses')})" in run.output, run
    assert store.value() == "acme.somebody-elses"


def test_a_limit_that_leaves_a_store_out_is_refused(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    fleet.add("web1")
    add_store(Programs)
    run = fleet.rotate("--limit", "web1")
    assert run.reason == "left_out" and "store" in run.message, run
    assert fleet.rotations == 0


def test_the_doctor_names_stores(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    fleet.add("web1")
    store = add_store(Programs)
    store.break_by("down")
    run = fleet.run("multicart.keys.doctor")
    assert "command place: its inspect failed (exit status 1)" in run.output, run


@pytest.mark.parametrize("given", [True, False], ids=["with-its-password", "without"])
def test_a_file_of_ansible_vault_is_opened_by_the_passwords_of_the_run(
    fleet: Fleet, add_store: Callable[..., Any], given: bool
) -> None:
    fleet.add("web1")
    store = add_store(VaultedFile)
    password = fleet.folder / "password"
    password.write_text(store.secrets[0])
    scratch = fleet.folder / "scratch"
    scratch.mkdir()
    with_password = ["--vault-id", f"prod@{password}"] if given else []
    run = fleet.rotate(*with_password, env={"ANSIBLE_LOCAL_TEMP": str(scratch)})
    assert [*scratch.iterdir()] == []
    if given:
        assert run.green and store.value() == fleet.live and fleet.rotations == 1, run
    else:
        assert run.reason == "not_ready" and "there is no vault password" in run.message, run
        assert fleet.rotations == 0
    assert store.secrets[0] not in run.output


def test_several_stores_of_one_consumer_each_have_the_key(
    fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = [Programs(tmp_path_factory.mktemp(f"place{number}")) for number in range(3)]
    entries = [{"type": "command", **place.entry, "label": f"place {number}"} for number, place in enumerate(places)]
    for place in places:
        place.put(fleet.live)
    fleet.add("stores", None, multicart_deploy_files=[], multicart_deploy_stores=entries)
    assert fleet.rotate().green
    assert [place.value() for place in places] == [fleet.live] * 3


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no_type": ({"label": "x"}, "needs type: one of"),
    "unknown_field": ({"type": "vault_kv2", "path": "x", "tokne": "y"}, "unknown field 'tokne'"),
    "no_path": ({"type": "vault_kv2", "url": "https://vault.example"}, "needs path"),
    "http": ({"type": "vault_kv2", "url": "http://vault.example", "path": "x", "token": "y"}, "an https:// URL"),
    "userinfo": ({"type": "vault_kv2", "url": "https://u:p@vault.example", "path": "x", "token": "y"}, "without user"),
    "unbound": ({"type": "vault_kv2", "url": "https://vault.example", "path": "x"}, "comes from the environment"),
    "no_program": (
        {"type": "command", "label": "x", "inspect": ["./gone"], "write": ["./gone"], "note": ["./gone"]},
        "./gone does not exist",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_named_before_anything_is_rotated(fleet: Fleet, case: str) -> None:
    entry, said = WRONG[case]
    fleet.add("web1")
    fleet.add("store", None, multicart_deploy_files=[], multicart_deploy_stores=[entry])
    fleet.env["VAULT_TOKEN"] = "token-canary"
    run = fleet.rotate()
    assert run.reason == "not_ready" and "multicart_deploy_stores, entry 1" in run.message, run
    assert said in run.message, run
    assert "token-canary" not in run.output and fleet.rotations == 0


def test_a_host_has_files_or_stores(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    add_store(Programs)
    fleet.hosts["store"].variables["multicart_deploy_files"] = [{"path": "/etc/app.env"}]
    run = fleet.rotate()
    assert "make the store a host of its own" in run.message and fleet.rotations == 0, run


def test_services_without_a_file_are_refused_where_there_is_no_store(fleet: Fleet) -> None:
    fleet.add("web1")
    fleet.add("web2", None, multicart_deploy_files=[], multicart_deploy_commands=["true"])
    run = fleet.rotate()
    assert run.reason == "not_ready" and "web2: it has no files of this account" in run.message, run


def test_facts_set_no_store_and_nothing_in_one(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    """What a store is, runs on the control node: a host must not choose it."""
    fleet.add("web1")
    add_store(Programs)
    touch = ["touch", str(fleet.folder / "ran")]
    variables = fleet.hosts["store"].variables
    variables["multicart_deploy_stores"][0]["inspect"] = "{{ wanted }}"
    variables["wanted"] = list(variables["multicart_deploy_stores"][0]["write"][:-1]) + ["inspect"]
    told = tell_facts(fleet, {"wanted": touch}, "store")
    tasks = f"{told}\n- import_role: {{name: multicart.keys.multicart_rotate}}"
    run = fleet.play(tasks, *CONFIRMED)
    assert run.own["store"].result["reason"] == "facts_refused", run
    assert fleet.rotations == 0 and not (fleet.folder / "ran").exists(), run


def test_twenty_stores_are_written_at_the_same_time(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    """Each of them waits for all the others, which one after the other would never be there."""
    stores = [add_store(Programs, f"store{number:02}") for number in range(20)]
    met = fleet.folder / "met"
    met.mkdir()
    for store in stores:
        tell(store, meets_at_write=[str(met), len(stores)])
    run = fleet.rotate()
    assert run.green and {store.value() for store in stores} == {fleet.live}, run
    assert len(list(met.iterdir())) == len(stores)


def test_a_store_ends_when_the_run_is_killed(fleet: Fleet, add_store: Callable[..., Any]) -> None:
    store = add_store(Programs)
    assert fleet.deploy().green
    place = store.entry["write"][2]
    assert eventually(lambda: not any(place in command for command in commands()))
