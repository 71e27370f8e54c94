# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of one consumer: what is merged, what is left to other accounts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import (
    FileSpec,
    HostFiles,
    Steps,
    files_of,
    steps_of,
)

FILES = "multicart_deploy_files"
MORE = "multicart_deploy_files__web"
ENV = {"path": "/etc/app/env"}


def found(*entries: Any, **variables: Any) -> HostFiles:
    """Return the host's files, with these entries in the plain list."""
    return files_of({FILES: list(entries), **variables}, lambda value: value)


def refusal(*entries: Any, **variables: Any) -> str:
    with pytest.raises(MulticartError) as caught:
        found(*entries, **variables)
    assert caught.value.reason is Reason.INVALID_OPTION
    assert caught.value.advice == "Nothing was changed on this host."
    return caught.value.what


# --- merging --------------------------------------------------------------------------------------


def test_a_host_without_lists_has_no_files() -> None:
    assert files_of({}, lambda value: value) == HostFiles([], others=False)
    assert found() == HostFiles([], others=False)


def test_every_list_of_a_host_counts() -> None:
    variables = {MORE: [{"path": "/b"}], FILES + "__db": [{"path": "/c"}], FILES: [{"path": "/a"}]}
    foreign = {FILES + "_old": [{"path": "/no"}], "my_" + FILES: [{"path": "/no"}], "__" + FILES: [{"path": "/no"}]}
    own = files_of({**variables, **foreign}, lambda value: value).own
    assert [spec.path for spec in own] == ["/a", "/c", "/b"]  # by the name of the list, not by the order of groups


def test_lists_without_the_plain_one_count_too() -> None:
    assert [spec.path for spec in files_of({MORE: [ENV]}, lambda value: value).own] == [ENV["path"]]


def test_lists_and_account_are_templated() -> None:
    values = {"{{ files }}": [{**ENV, "account": "shop"}], "{{ account }}": "shop"}
    host = files_of({FILES: "{{ files }}", "multicart_deploy_account": "{{ account }}"}, values.get)
    assert [spec.path for spec in host.own] == [ENV["path"]]


def test_an_entry_with_a_path_alone_is_an_environment_file() -> None:
    assert found(ENV).own == [FileSpec("/etc/app/env", "MULTICART_API_KEY", template=None)]


def test_every_field_of_an_entry_is_taken_over() -> None:
    entry = {"path": "/a", "owner": "app", "group": 33, "mode": "0640", "unsafe_writes": True}
    spec = found({**entry, "variable": "KEY"}).own[0]
    assert spec == FileSpec("/a", "KEY", None, "app", "33", "0640", True)
    spec = found({**entry, "template": "app.j2"}).own[0]
    assert spec == FileSpec("/a", None, "app.j2", "app", "33", "0640", True)


def test_the_host_is_told_everything_but_the_template() -> None:
    arguments = found({"path": "/a", "template": "app.j2", "mode": "0600"}).own[0].arguments()
    assert arguments == {
        "path": "/a",
        "variable": None,
        "owner": None,
        "group": None,
        "mode": "0600",
        "unsafe_writes": False,
    }


def test_two_variables_of_one_file_are_two_entries() -> None:
    specs = found({**ENV, "variable": "A"}, {**ENV, "variable": "B"}).own
    assert [(spec.path, spec.variable) for spec in specs] == [(ENV["path"], "A"), (ENV["path"], "B")]


# --- accounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "paths", "others"),
    [(None, ["/a", "/b"], True), ("default", ["/a", "/b"], True), ("shop", ["/c"], True), ("nobody", [], True)],
)
def test_files_of_other_accounts_are_left_alone(account: str | None, paths: list[str], others: bool) -> None:
    entries = [{"path": "/a"}, {"path": "/b", "account": "default"}, {"path": "/c", "account": "shop"}]
    host = found(*entries, multicart_deploy_account=account)
    assert ([spec.path for spec in host.own], host.others) == (paths, others)


def test_a_host_with_files_of_one_account_has_no_others() -> None:
    assert not found({**ENV, "account": "shop"}, multicart_deploy_account="shop").others


def test_one_path_may_belong_to_two_accounts_under_two_variables() -> None:
    host = found({**ENV, "variable": "A"}, {**ENV, "variable": "B", "account": "shop", "mode": "0600"})
    assert [spec.variable for spec in host.own] == ["A"]
    assert host.others


def test_an_entry_of_another_account_is_checked_all_the_same() -> None:
    assert f"{FILES}, entry 1" in refusal({"path": "relative", "account": "shop"})


def test_an_account_that_looks_like_a_number_is_the_same_account() -> None:
    assert found({**ENV, "account": 7}, multicart_deploy_account=7).own


# --- duplicates and contradictions ----------------------------------------------------------------


def test_the_same_entry_in_two_lists_is_one_file() -> None:
    assert len(found(ENV, {**ENV, "variable": "MULTICART_API_KEY"}, **{MORE: [ENV]}).own) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ENV, {**ENV, "mode": "0640"}),
        ({**ENV, "owner": "a"}, {**ENV, "owner": "b"}),
        (ENV, {**ENV, "unsafe_writes": True}),
        ({**ENV, "template": "a.j2"}, {**ENV, "template": "b.j2"}),
    ],
)
def test_entries_that_contradict_each_other_are_refused(first: dict[str, Any], second: dict[str, Any]) -> None:
    told = refusal(first, **{MORE: [{"path": "/other"}, second]})
    assert told == f"{MORE}, entry 2: it contradicts another entry for {ENV['path']}."


@pytest.mark.parametrize(("field", "value"), [("mode", "0640"), ("owner", "app"), ("group", "app")])
def test_two_variables_of_one_file_cannot_want_different_attributes(field: str, value: str) -> None:
    assert ENV["path"] in refusal({**ENV, "variable": "A"}, {**ENV, "variable": "B", field: value})


TEMPLATE_AND_ENV = [
    ({**ENV, "template": "app.j2"}, ENV),
    (ENV, {**ENV, "template": "app.j2"}),
    pytest.param(
        {"path": "/etc//app/env", "template": "app.j2"},
        ENV,
    ),
]


@pytest.mark.parametrize(("first", "second"), TEMPLATE_AND_ENV)
def test_a_template_and_an_environment_file_at_one_path_are_refused(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    told = refusal(first, **{MORE: [second]})
    assert FILES in told
    assert ENV["path"] in told
    assert "both as a template and as an environment file" in told


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("/etc/app/env", "must be a mapping with at least path"),
        (None, "must be a mapping"),
        ({}, "needs path"),
        ({"path": None}, "needs path"),
        ({"path": 7}, "needs path"),
        ({"path": ""}, "needs path"),
        ({"path": "app/env"}, "needs path: the absolute path of a file"),
        ({"path": "~/env"}, "needs path"),
        ({"path": "/etc/app/"}, "needs path"),
        ({"path": "/etc/\0app"}, "needs path"),
        ({**ENV, "name": "x"}, "has the unknown field 'name'; known are path, variable, template"),
        ({**ENV, "template": "a.j2", "variable": "KEY"}, "has both template and variable"),
        ({**ENV, "variable": "KEY=x"}, "needs variable"),
        ({**ENV, "variable": "KEY="}, "needs variable"),
        ({**ENV, "variable": "MY-KEY"}, "needs variable"),
        ({**ENV, "variable": "1KEY"}, "needs variable"),
        ({**ENV, "variable": "KEY\n"}, "needs variable"),
        ({**ENV, "variable": 7}, "needs variable"),
        ({**ENV, "mode": 0o640}, "needs mode in quotes, such as '0640'"),
        ({**ENV, "mode": 640}, "needs mode in quotes"),
        ({**ENV, "unsafe_writes": "no"}, "needs unsafe_writes: true or false"),
        ({**ENV, "unsafe_writes": None}, "needs unsafe_writes"),
    ],
)
@pytest.mark.parametrize("source", [FILES, MORE])
def test_a_wrong_entry_is_named_with_its_list_and_the_remedy(source: str, entry: Any, problem: str) -> None:
    told = refusal(**{source: [{"path": "/good"}, entry]})
    assert told.startswith(f"{source}, entry 2: it {problem}")


@pytest.mark.parametrize("source", [FILES, MORE])
@pytest.mark.parametrize("entries", [ENV, "/etc/app/env", None, 7])
def test_what_is_no_list_is_named(source: str, entries: Any) -> None:
    assert refusal(**{source: entries}) == f"{source}: it must be a list of files."


@pytest.mark.parametrize("mode", ["0640", "u=rw,g=r", None])
def test_a_mode_in_quotes_is_handed_on_as_it_is(mode: str | None) -> None:
    assert found({**ENV, "mode": mode}).own[0].mode == mode


@pytest.mark.parametrize("mode", ["rw-r-----", "0999", 0.5])
def test_a_mode_that_is_none_is_refused(mode: Any) -> None:
    assert "mode" in refusal({**ENV, "mode": mode})


@pytest.mark.parametrize("mode", [True, False])
def test_true_and_false_are_no_modes(mode: Any) -> None:
    assert "mode" in refusal({**ENV, "mode": mode})


# --- what is run after a write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("multicart_deploy_services", "myapp"),
        ("multicart_deploy_services", [{"state": "restarted"}]),
        ("multicart_deploy_services", [{"name": "myapp", "state": "stopped"}]),
        ("multicart_deploy_services", [{"name": "myapp", "enabled": True}]),
        ("multicart_deploy_services", ["--force"]),
        ("multicart_deploy_commands", {"cmd": "true"}),
        ("multicart_deploy_commands", ["true", " "]),
        ("multicart_deploy_commands", ["sh -c 'true"]),
        ("multicart_deploy_health", [["curl", "url"]]),
        ("multicart_deploy_timeout", 0),
        ("multicart_deploy_timeout", "nan"),
        ("multicart_deploy_health_retries", "often"),
        ("multicart_deploy_health_retries", -1),
        ("multicart_deploy_health_delay", None),
        ("multicart_deploy_health_delay", "nan"),
    ],
)
def test_a_step_that_could_not_be_run_is_refused_by_name(variable: str, value: object) -> None:
    with pytest.raises(MulticartError, match=variable) as refused:
        steps_of({variable: value}, lambda raw: raw)
    assert refused.value.reason is Reason.INVALID_OPTION


def test_steps_are_brought_into_one_form() -> None:
    given = {
        "multicart_deploy_services": ["myapp", {"name": "proxy", "state": "reloaded"}],
        "multicart_deploy_commands": ["sh -c 'echo \"a b\"'"],
        "multicart_deploy_health": ["curl url"],
        "multicart_deploy_timeout": "2.5",
        "multicart_deploy_health_retries": "3",
        "multicart_deploy_health_delay": 0.5,
    }
    services = [{"name": "myapp", "state": "restarted"}, {"name": "proxy", "state": "reloaded"}]
    assert steps_of(given, lambda raw: raw) == Steps(
        services, [["sh", "-c", 'echo "a b"']], [["curl", "url"]], timeout=2.5, retries=3, delay=0.5
    )
    assert steps_of({}, lambda raw: raw) == Steps([], [], [], timeout=300, retries=10, delay=1.0)
