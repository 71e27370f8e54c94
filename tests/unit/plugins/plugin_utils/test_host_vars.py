# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One consumer from its variables: which files are merged, left to other accounts or refused; what is run there."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._phases import FIELDS
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import (
    READERS,
    TRY,
    FileSpec,
    HostSpec,
    Steps,
    account_of,
    is_of_others,
    may_have_stores,
    spec_of,
)
from hypothesis import given
from hypothesis import strategies as st

FILES = "multicart_deploy_files"
MORE = "multicart_deploy_files__web"
ENV = {"path": "/etc/app/env"}


NO_STEPS = Steps([], [], [], timeout=300.0, retries=10, delay=1.0)


def spec(variables: dict[str, Any]) -> HostSpec:
    return spec_of(variables, lambda value: value)


def found(*entries: Any, **variables: Any) -> HostSpec:
    """Return what a host is to hold, with these entries in the plain list."""
    return spec({FILES: list(entries), **variables})


def refusal(*entries: Any, **variables: Any) -> str:
    with pytest.raises(MulticartError) as caught:
        found(*entries, **variables)
    assert caught.value.reason is Reason.INVALID_OPTION
    assert caught.value.advice == "Nothing was changed on this host."
    return caught.value.what


def test_what_is_omitted_has_its_default() -> None:
    variables = {
        "multicart_account": "{{ omit }}",
        "multicart_deploy_account": "{{ omit }}",
        "multicart_deploy_timeout": "{{ omit }}",
        "multicart_deploy_wave_timeout": "{{ omit }}",
        "multicart_deploy_services": "{{ omit }}",
        MORE: "{{ omit }}",
        FILES: [ENV],
    }
    host = spec_of(variables, lambda raw: None if raw == "{{ omit }}" else raw)
    assert host == found(ENV)


def test_what_a_survey_leaves_empty_has_its_default() -> None:
    names = ("timeout", "health_retries", "health_delay", "wave", "wave_timeout", "services", "commands", "state_dir")
    assert found(ENV, **{f"multicart_deploy_{name}": "" for name in names}, multicart_account="") == found(ENV)


# --- merging --------------------------------------------------------------------------------------


def test_a_host_without_lists_has_no_files() -> None:
    assert spec({}) == found() == HostSpec([], NO_STEPS, others=False, state_dir=None)


def test_every_list_of_a_host_counts() -> None:
    variables = {MORE: [{"path": "/b"}], FILES + "__db": [{"path": "/c"}], FILES: [{"path": "/a"}]}
    foreign = {"my_" + FILES: [{"path": "/no"}], "__" + FILES: [{"path": "/no"}], "multicart_files": []}
    assert [file.path for file in spec({**variables, **foreign}).files] == [
        "/a",
        "/c",
        "/b",
    ]  # by the name of the list, not by the order of groups


def test_lists_without_the_plain_one_count_too() -> None:
    assert [file.path for file in spec({MORE: [ENV]}).files] == [ENV["path"]]


def test_lists_and_account_are_templated() -> None:
    values = {"{{ files }}": [{**ENV, "account": "shop"}], "{{ account }}": "shop"}
    host = spec_of({FILES: "{{ files }}", "multicart_account": "{{ account }}"}, lambda raw: values.get(raw, raw))
    assert [file.path for file in host.files] == [ENV["path"]]


def test_an_entry_with_a_path_alone_is_an_environment_file() -> None:
    assert found(ENV).files == [FileSpec("/etc/app/env", "MULTICART_API_KEY", template=None)]


def test_every_field_of_an_entry_is_taken_over() -> None:
    entry = {"path": "/a", "owner": "app", "group": 33, "mode": "0640", "unsafe_writes": True}
    (file,) = found({**entry, "variable": "KEY"}).files
    assert file == FileSpec("/a", "KEY", None, "app", "33", "0640", True)
    (file,) = found({**entry, "template": "app.j2"}).files
    assert file == FileSpec("/a", None, "app.j2", "app", "33", "0640", True)


def test_the_host_is_told_everything_but_the_template() -> None:
    entry = found({"path": "/a", "template": "app.j2", "mode": "0600"}).files[0].entry()
    assert entry == {
        "path": "/a",
        "variable": None,
        "owner": None,
        "group": None,
        "mode": "0600",
        "unsafe_writes": False,
        "format": "env",
    }


def test_a_file_that_is_nothing_but_the_key_has_no_variable() -> None:
    host = found({"path": "/run/secrets/key", "format": "key"})
    assert host.names == [("/run/secrets/key", None)]
    assert host.files[0].entry()["format"] == "key"
    assert HostSpec.from_json(host.to_json()) == host


def test_two_variables_of_one_file_are_two_entries() -> None:
    host = found({**ENV, "variable": "A"}, {**ENV, "variable": "B"})
    assert host.names == [(ENV["path"], "A"), (ENV["path"], "B")]


# --- accounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "paths", "others"),
    [(None, ["/a", "/b"], True), ("default", ["/a", "/b"], True), ("shop", ["/c"], True), ("nobody", [], True)],
)
def test_files_of_other_accounts_are_left_alone(account: str | None, paths: list[str], others: bool) -> None:
    entries = [{"path": "/a"}, {"path": "/b", "account": "default"}, {"path": "/c", "account": "shop"}]
    host = found(*entries, multicart_account=account)
    assert ([file.path for file in host.files], host.others) == (paths, others)
    foreign = [[entry["path"], "MULTICART_API_KEY"] for entry in entries if entry["path"] not in paths]
    assert host.foreign == host.request()["foreign"] == foreign
    assert HostSpec.from_json(host.to_json()) == host


def test_a_host_with_files_of_one_account_has_no_others() -> None:
    assert not found({**ENV, "account": "shop"}, multicart_account="shop").others


def test_one_path_may_belong_to_two_accounts_under_two_variables() -> None:
    host = found({**ENV, "variable": "A"}, {**ENV, "variable": "B", "account": "shop", "mode": "0600"})
    assert [file.variable for file in host.files] == ["A"]
    assert host.others


RESTARTS: list[dict[str, Any]] = [
    {"multicart_deploy_services": ["shop"]},
    {"multicart_deploy_commands": ["restart-shop"], "multicart_deploy_health_checks": ["check-shop"]},
    {"multicart_deploy_services": ["shop"], FILES: [], "multicart_deploy_stores": [], "multicart_deploy_wave": 0},
]


@pytest.mark.parametrize("steps", RESTARTS)
@pytest.mark.parametrize(
    ("own", "account"),
    [(None, None), (None, "default"), ("", ""), ("default", None), ("shop", "shop"), (7, "7"), ("erp", "shop")],
)
def test_a_host_without_a_file_is_a_consumer_of_its_account_alone(
    steps: dict[str, Any], own: Any, account: str | None
) -> None:
    host = spec({**steps, "multicart_deploy_account": own, "multicart_account": account})
    mine = own != "erp"
    assert (host.files, host.others) == ([READERS] if mine else [], not mine)
    assert host.wave == (1 if mine and "multicart_deploy_wave" not in steps else 0)


@pytest.mark.parametrize("steps", RESTARTS)
def test_a_host_without_a_label_is_no_consumer_of_another_account(steps: dict[str, Any]) -> None:
    host = spec({**steps, "multicart_account": "shop"})
    assert (host.files, host.others) == ([], True)


@pytest.mark.parametrize("more", [{}, {"multicart_deploy_health_checks": ["check-shop"]}])
def test_a_host_with_a_label_and_nothing_else_is_missed_in_its_account_alone(more: dict[str, Any]) -> None:
    assert not spec({"multicart_deploy_account": "shop", "multicart_account": "shop", **more}).others
    assert spec({"multicart_deploy_account": "shop", **more}).others
    assert not spec({"multicart_account": "shop", **more}).others  # it may have been forgotten in any of them


@pytest.mark.parametrize(("account", "paths"), [("shop", ["/a", "/c"]), (None, ["/b"]), ("erp", [])])
def test_entries_without_an_account_have_that_of_their_host(account: str | None, paths: list[str]) -> None:
    entries = [{"path": "/a"}, {"path": "/b", "account": "default"}, {"path": "/c", "account": "shop"}]
    host = found(*entries, multicart_deploy_account="shop", multicart_account=account)
    assert ([file.path for file in host.files], host.others) == (paths, True)


def test_the_account_of_a_host_is_templated() -> None:
    variables = {"multicart_deploy_services": ["shop"], "multicart_deploy_account": "{{ a }}", "multicart_account": "b"}
    assert spec_of(variables, lambda raw: "b" if raw == "{{ a }}" else raw).files == [READERS]


def test_an_entry_of_another_account_is_checked_all_the_same() -> None:
    assert f"{FILES}, entry 1" in refusal({"path": "relative", "account": "shop"})


def test_an_account_that_looks_like_a_number_is_the_same_account() -> None:
    assert found({**ENV, "account": 7}, multicart_account=7).files


# --- duplicates and contradictions ----------------------------------------------------------------


def test_the_same_entry_in_two_lists_is_one_file() -> None:
    assert len(found(ENV, {**ENV, "variable": "MULTICART_API_KEY"}, **{MORE: [ENV]}).files) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ENV, {**ENV, "mode": "0640"}),
        ({**ENV, "owner": "a"}, {**ENV, "owner": "b"}),
        (ENV, {**ENV, "unsafe_writes": True}),
        ({**ENV, "template": "a.j2"}, {**ENV, "template": "b.j2"}),
        ({**ENV, "template": "a.j2"}, {**ENV, "format": "key"}),
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


def test_a_file_that_is_nothing_but_the_key_and_an_environment_file_at_one_path_are_refused() -> None:
    assert "both as format key and as an environment file" in refusal(ENV, {**ENV, "format": "key"})


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("/etc/app/env", "must be a mapping with at least path"),
        (None, "must be a mapping"),
        ({}, "needs path"),
        ({"path": "/a", "format": "yaml"}, "needs format: env, or key"),
        ({"path": "/a", "format": ["key"]}, "needs format: env, or key"),
        ({"path": "/a", "format": "key", "variable": "KEY"}, "has a variable although its format is key"),
        ({"path": "/a", "format": "key", "template": "a.j2"}, "has both template and format"),
        ({"path": None}, "needs path"),
        ({"path": 7}, "needs path"),
        ({"path": ""}, "needs path"),
        ({"path": "app/env"}, "needs path: the absolute path of a file"),
        ({"path": "~/env"}, "needs path"),
        ({"path": "/etc/app/"}, "needs path"),
        ({"path": "/etc/\0app"}, "needs path"),
        ({**ENV, "name": "x"}, "has the unknown field 'name'; known are path, variable, template"),
        ({**ENV, "MULTICART_API_KEY=acme.secret": 1}, "has the unknown field '(not shown)'"),
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
    assert refusal(**{source: entries}) == f"{source}: it must be a list of files, such as [{{path: /etc/myapp/env}}]."


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("multicart_deploy_service", "write multicart_deploy_services"),
        (FILES + "_shop", f"write {FILES}"),
        ("multicart_deploy_result", "remove it"),
    ],
)
def test_a_misspelt_variable_is_refused_because_it_would_have_no_effect(name: str, remedy: str) -> None:
    told = refusal(ENV, **{name: ["shop"]})
    assert told == f"{name}: it is not a variable of this collection: {remedy}, or give it another prefix."


@pytest.mark.parametrize("mode", ["0640", "640", "02750", "u=rw,g=r", "u+x", "a=r,u+w", "+X", "g=u-w", "u=,g=", None])
def test_a_mode_in_quotes_is_handed_on_as_it_is(mode: str | None) -> None:
    assert found({**ENV, "mode": mode}).files[0].mode == mode


@pytest.mark.parametrize(
    "mode", ["rw-r-----", "0999", 0.5, "64", "064000", "u", "u=z", "u+x,", ",u+x", "u+x g+x", "0640\n"]
)
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
        ("multicart_deploy_health_checks", [["curl", "url"]]),
        ("multicart_deploy_services", [7]),
        ("multicart_deploy_services", [{"name": ["myapp"]}]),
        ("multicart_deploy_state_dir", ["/state"]),
        ("multicart_deploy_state_dir", True),
        ("multicart_deploy_timeout", 0),
        ("multicart_deploy_timeout", "inf"),
        ("multicart_deploy_timeout", 1_000_000),
        ("multicart_deploy_timeout", "nan"),
        ("multicart_deploy_health_retries", "often"),
        ("multicart_deploy_health_retries", -1),
        ("multicart_deploy_health_delay", None),
        ("multicart_deploy_health_delay", "nan"),
    ],
)
def test_a_step_that_could_not_be_run_is_refused_by_name(variable: str, value: object) -> None:
    with pytest.raises(MulticartError, match=variable) as refused:
        spec({FILES: [ENV], variable: value})
    assert refused.value.reason is Reason.INVALID_OPTION


@pytest.mark.parametrize("name", ["app@*", "app-[ab]", "app?", "app.target", "app.socket", "app@1.timer", "app.slice"])
def test_what_stands_for_several_services_is_refused(name: str) -> None:
    """systemd restarts all of them, and shows the state of the last one, or of none."""
    told = refusal(ENV, multicart_deploy_services=["app@1", {"name": name}])
    assert told.startswith("multicart_deploy_services, entry 2: ") and "multicart_deploy_commands" in told
    assert found(ENV, multicart_deploy_services=["app.target.service", "app@a.b"]).steps.services


@pytest.mark.parametrize("name", ["multicart_deploy_commands", "multicart_deploy_health_checks"])
@pytest.mark.parametrize(
    "line",
    ["curl u | grep ok", "a && b", "a || b", "a; b", "a ; b", "a > f", "a 2>/dev/null", "a 2>&1", "a < f", "a &"],
)
def test_what_only_a_shell_understands_is_refused_before_the_key_is_replaced(name: str, line: str) -> None:
    told = refusal(ENV, **{name: ["true", line]})
    assert told.startswith(f"{name}, entry 2: it is not run through a shell") and "sh -c" in told


@pytest.mark.parametrize(
    "line",
    [
        "sh -c 'a | b > f'",
        "grep '|' f",
        'ps --x="a | b"',
        "curl u?a=1&b=2",
        "find . -exec x {} \\;",
        "find . -exec sh -c 'x ; y' {} \\;",
        "awk '$1 > 2'",
        "x <a>",
    ],
)
def test_what_is_quoted_is_no_matter_of_a_shell(line: str) -> None:
    steps = found(ENV, multicart_deploy_commands=[line]).steps
    assert steps.commands == [shlex.split(line)]


def test_steps_are_brought_into_one_form() -> None:
    wanted = {
        "multicart_deploy_services": ["myapp", {"name": "proxy", "state": "reloaded"}],
        "multicart_deploy_commands": ["sh -c 'echo \"a b\"'"],
        "multicart_deploy_health_checks": ["curl url"],
        "multicart_deploy_timeout": "2.5",
        "multicart_deploy_health_retries": "3",
        "multicart_deploy_health_delay": 0.5,
    }
    services = [{"name": "myapp", "state": "restarted"}, {"name": "proxy", "state": "reloaded"}]
    assert spec(wanted).steps == Steps(
        services, [["sh", "-c", 'echo "a b"']], [["curl", "url"]], timeout=2.5, retries=3, delay=0.5
    )
    assert spec({}).steps == NO_STEPS


# --- what becomes of it -----------------------------------------------------------------------------

EVERYTHING = {
    FILES: [ENV, {"path": "/b", "template": "b.j2", "mode": "0600"}, {"path": "/c", "account": "other"}],
    "multicart_deploy_state_dir": "/state",
    "multicart_deploy_services": ["app"],
    "multicart_deploy_commands": ["reload it"],
    "multicart_deploy_health_checks": ["check one", "check two"],
    "multicart_deploy_timeout": 100,
    "multicart_deploy_health_retries": 3,
    "multicart_deploy_ignore_processes": ["legacy-*.service"],
    "multicart_deploy_health_delay": 2,
}


@pytest.mark.parametrize("variables", [{}, EVERYTHING])
def test_it_goes_through_the_store_of_the_run_unchanged(variables: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(spec(variables).to_json()))
    assert HostSpec.from_json(kept) == spec(variables)


def test_a_request_holds_all_that_the_host_needs_and_no_template() -> None:
    request = spec(EVERYTHING).request()
    assert [entry["path"] for entry in request["files"]] == [ENV["path"], "/b"]
    assert "b.j2" not in json.dumps(request)
    assert {name: value for name, value in request.items() if name != "files"} == {
        "foreign": [["/c", "MULTICART_API_KEY"]],
        "state_dir": "/state",
        "environment": ["MULTICART_API_KEY"],
        "services": [{"name": "app", "state": "restarted"}],
        "commands": [["reload", "it"]],
        "health": [["check", "one"], ["check", "two"]],
        "timeout": 100.0,
        "retries": 3,
        "delay": 2.0,
        "ignore_processes": ["legacy-*.service"],
    }
    assert set(request) <= set(FIELDS)


@pytest.mark.parametrize("state_dir", [None, ""])
def test_without_a_directory_for_records_they_are_beside_the_files(state_dir: Any) -> None:
    assert spec({"multicart_deploy_state_dir": state_dir}).state_dir is None


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ({}, 0),
        ({"services": ["a", "b"], "commands": ["c"]}, 300),  # each restart in its own limit
        ({"health_checks": ["one"]}, 100 + 3 * 2 + 3 * TRY),
        ({"health_checks": ["one", "two"], "commands": ["c"]}, 100 + 2 * (100 + 3 * 2 + 3 * TRY)),
        ({"health_checks": ["one"], "timeout": 5}, 5 + 3 * 2 + 3 * 5),  # a try takes no longer than its limit
    ],
)
def test_a_host_may_take_as_long_as_its_steps_may(steps: dict[str, Any], seconds: float) -> None:
    """And old processes may take as long to end as health checks may be tried again."""
    seconds += 3 * 2
    variables = {"timeout": 100, "health_retries": 3, "health_delay": 2, **steps}
    assert spec({f"multicart_deploy_{name}": value for name, value in variables.items()}).longest_deploy == seconds


@pytest.mark.parametrize(
    ("variables", "account"),
    [({}, "default"), ({"multicart_account": ""}, "default"), ({"multicart_account": "shop"}, "shop")],
)
def test_the_account_has_a_default(variables: dict[str, Any], account: str) -> None:
    assert account_of(variables, lambda raw: raw) == account


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*EVERYTHING, "path", "name"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*EVERYTHING, MORE, "multicart_account", "multicart_deploy_account"]), ANYTHING))
def test_whatever_a_variable_holds_is_used_or_refused_by_name(variables: dict[str, Any]) -> None:
    try:
        host = spec(variables)
    except MulticartError as refused:
        assert refused.reason is Reason.INVALID_OPTION
        assert any(name in refused.what for name in variables)
    else:
        assert HostSpec.from_json(json.loads(json.dumps(host.to_json()))) == host


@pytest.mark.parametrize(
    ("stores", "may"),
    [
        (None, False),
        ([], False),
        ("[]", False),
        ("", False),
        ([{"type": "command"}], True),
        ("[{'type': 'command'}]", True),
        ([{"type": "command", "account": "other"}], False),
        ("[{'type': 'command', 'account': 'other'}]", False),
        ("{{ broken", True),
        (7, True),
    ],
)
def test_whether_a_host_that_does_not_speak_for_itself_may_have_a_store(stores: Any, may: bool) -> None:
    def template(raw: Any) -> Any:
        return ast.literal_eval(raw) if isinstance(raw, str) and raw[:1] in ("[", "{") else raw

    variables = {} if stores is None else {"multicart_deploy_stores": stores}
    assert may_have_stores(variables, template, "default") is may


@pytest.mark.parametrize(
    ("variables", "of_others"),
    [
        ({"multicart_deploy_files": [{"path": "/a"}]}, False),
        ({"multicart_deploy_files": [{"path": "/a", "account": "shop"}]}, True),
        ({"multicart_deploy_files": [{"path": "/a", "account": "shop"}, {"path": "/b"}]}, False),
        ({"multicart_deploy_files__shop": [{"path": "/a"}], "multicart_deploy_account": "shop"}, True),
        ({"multicart_deploy_stores": [{"type": "command", "account": "shop"}]}, True),
        ({"multicart_deploy_stores": [{"type": "command"}]}, False),
        ({"multicart_deploy_services": ["shop"], "multicart_deploy_account": "shop"}, True),
        ({"multicart_deploy_services": ["shop"]}, False),
        ({"multicart_deploy_services": ["shop"], "multicart_deploy_stores": "{{ [] }}"}, False),
        ({"multicart_deploy_stores": "{{ broken"}, False),
        # Its own task says what is wrong with it.
        ({}, False),
        ({"multicart_deploy_files": [{"path": "/a", "account": "shop"}, {"path": "b"}]}, False),
    ],
)
def test_whether_all_that_a_host_has_is_of_other_accounts(variables: dict[str, Any], of_others: bool) -> None:
    def template(raw: Any) -> Any:
        return _broken(raw) if raw == "{{ broken" else [] if raw == "{{ [] }}" else raw

    assert is_of_others(variables, template) is of_others
    assert is_of_others({**variables, "multicart_account": "{{ broken"}, _broken) is False


def _broken(raw: Any) -> Any:
    raise ValueError(raw)
