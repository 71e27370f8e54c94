# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The resolver: where a value comes from, what is refused, and that no error repeats a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import ADVICE, MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import (
    CONNECTION,
    DEFAULT_URL,
    FLEET,
    HOST,
    INFO,
    LONGEST_TIMEOUT,
    LOOKUP,
    MONITORING,
    REVOKE,
    ROTATE,
    Connection,
    Kind,
    Option,
    Options,
    invalid,
    resolve,
    templated,
    values_of_run,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEY = "173axcs.aaaaBBBBccccDDDD"
SECRETS = ("session_token", "email", "password", "api_key")

# Three values for each shared option, as raw as they come; none of them is the default.
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "api_url": ("https://task.example/api", "https://variable.example/api", "https://environment.example/api"),
    "session_token": ("task-token", "variable-token", "environment-token"),
    "email": ("task@example.com", "variable@example.com", "environment@example.com"),
    "password": ("task password", "variable password", "environment password"),
    "api_key": ("173axcs.task", "173axcs.variable", "173axcs.environment"),
    "validate_certs": (False, "no", "0"),
    "ca_path": ("/task.pem", "/variable.pem", "/environment.pem"),
    "timeout": (1, "2.5", "3"),
}
READ = {"validate_certs": (False, False, False), "timeout": (1.0, 2.5, 3.0)}


def find(
    task: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    known: tuple[Option, ...] = ROTATE,
    template: Any = lambda value: value,
) -> Options:
    return resolve(known, task or {}, variables or {}, template, environ or {})


def connect(*args: Any, **kwargs: Any) -> Connection:
    return find(*args, **kwargs).connection


def failing(*args: Any, **kwargs: Any) -> MulticartError:
    with pytest.raises(MulticartError) as caught:
        find(*args, **kwargs)
    return caught.value


def value_of(connection: Connection, name: str) -> Any:
    if name in ("email", "password"):
        return connection.login and getattr(connection.login, name)
    value = getattr(connection, name)
    return value.reveal() if name == "api_key" and value else value


def with_partner(name: str, place: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Add the other half of a login, which is refused alone."""
    partner = {"email": "password", "password": "email"}.get(name)
    if partner is None:
        return dict(place)
    full = prefix + partner
    return {**place, full.upper() if prefix.isupper() else full: "the other half"}


# --- where a value comes from ---------------------------------------------------------------------


@pytest.mark.parametrize("option", CONNECTION, ids=lambda option: option.name)
@pytest.mark.parametrize("level", [0, 1, 2], ids=["task", "variable", "environment"])
def test_task_goes_before_variable_before_environment(option: Option, level: int) -> None:
    values, read = VALUES[option.name], READ.get(option.name, VALUES[option.name])
    task = {option.name: values[0]} if level == 0 else {}
    variables = {f"multicart_{option.name}": values[1]} if level <= 1 else {}
    environ = {f"MULTICART_{option.name.upper()}": values[2]}
    connection = connect(with_partner(option.name, task), variables, environ)
    assert value_of(connection, option.name) == read[level]


@pytest.mark.parametrize("option", CONNECTION, ids=lambda option: option.name)
@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_is_unset_at_every_level(option: Option, empty: Any) -> None:
    values, read = VALUES[option.name], READ.get(option.name, VALUES[option.name])
    variable, environment = option.variable, option.environment
    partner = with_partner(option.name, {})
    assert value_of(connect({option.name: empty, **partner}, {variable: values[1]}), option.name) == read[1]
    # A variable may turn out empty only when it is templated.
    for variables, template in (
        ({variable: empty}, lambda value: value),
        ({variable: "{{ undefined | default('') }}"}, lambda _value: empty),
    ):
        connection = connect(partner, variables, {environment: values[2]}, template=template)
        assert value_of(connection, option.name) == read[2]
    nothing = connect({option.name: empty}, {variable: empty}, {environment: ""})
    assert value_of(nothing, option.name) == getattr(Connection(), option.name, None)


@pytest.mark.parametrize("option", CONNECTION, ids=lambda option: option.name)
def test_variables_are_templated_and_nothing_else_is(option: Option) -> None:
    seen: list[Any] = []

    def template(value: Any) -> Any:
        seen.append(value)
        return VALUES[option.name][1]

    variables = {option.variable: "{{ expression }}"}
    connection = connect(with_partner(option.name, {}), variables, {}, template=template)
    assert seen == ["{{ expression }}"]
    assert value_of(connection, option.name) == READ.get(option.name, VALUES[option.name])[1]
    seen.clear()
    connect(with_partner(option.name, {option.name: VALUES[option.name][0]}), variables, template=template)
    connect(
        {}, {}, with_partner(option.name, {option.environment: VALUES[option.name][2]}, "MULTICART_"), template=template
    )
    assert seen == []


@pytest.mark.parametrize("literal", ["{{ 7 * 7 }}", "{% raw %}", "{# a #}", "}}{{", "a{{b"])
def test_braces_in_the_environment_survive(literal: str) -> None:
    environ = {"MULTICART_EMAIL": "a@b.c", "MULTICART_PASSWORD": literal}
    connection = connect(environ=environ, template=lambda value: f"templated {value}")
    assert connection.login and connection.login.password == literal
    token = literal.replace(" ", "")
    assert connect(environ={"MULTICART_SESSION_TOKEN": token}).session_token == token


def test_options_that_are_not_shared_come_from_the_task_only() -> None:
    own = [option for option in ROTATE if not option.shared]
    variables = {option.variable: "true" for option in own}
    environ = {option.environment: "true" for option in own}
    assert find({}, variables, environ).given == find().given
    assert find().given == {option.name: option.default for option in own}


def test_the_defaults_are_the_connections_own() -> None:
    assert connect() == Connection(api_url=DEFAULT_URL)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, "true", "True", "YES", "on", "1", 1])
def test_words_for_true(value: Any) -> None:
    assert find({"reveal": value}).given["reveal"] is True


@pytest.mark.parametrize("value", [False, "false", "No", "OFF", "0", 0])
def test_words_for_false(value: Any) -> None:
    assert connect({"validate_certs": value}).validate_certs is False


@pytest.mark.parametrize("value", ["2", 2, "ture", "y", "disabled", "none", 0.5, "-1"])
@pytest.mark.parametrize("name", [option.name for option in ROTATE if option.kind is Kind.BOOL])
def test_anything_else_is_no_bool(name: str, value: Any) -> None:
    error = failing({name: value})
    assert error.reason is Reason.INVALID_OPTION
    assert name in str(error)


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_bool_is_the_default(value: Any) -> None:
    assert find({"verify": value}).given["verify"] is True
    assert connect({"validate_certs": value}).validate_certs is True


@pytest.mark.parametrize("value", [0, "0", -1, "soon", "10 s", "nan", "inf", "1e9", True, False, "0x10"])
@pytest.mark.parametrize("name", ["timeout", "settle_timeout"])
def test_seconds_are_a_number_above_zero_and_bounded(name: str, value: Any) -> None:
    error = failing({name: value})
    assert error.reason is Reason.INVALID_OPTION
    assert name in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "multicartapi.com/api/v1",
        "//multicartapi.com/api/v1",
        "ftp://multicartapi.com/api/v1",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https:///api/v1",
        "https://user@multicartapi.com/",
        "https://user:pass@multicartapi.com/",
        "https://@multicartapi.com/",
        "https://multicartapi.com@evil.example/",
        "https://multicartapi.com/api/v1?debug=1",
        "https://multicartapi.com/api/v1?",
        "https://multicartapi.com/api/v1#top",
        "https://multicartapi.com/api/v1#",
        "https://multicartapi.com/api/v1\n",
        "https://multicartapi.com/\r\nX-Evil: 1",
        "https://multicartapi.com/a b",
        " https://multicartapi.com/",
        "https://multicartapi.com/\x00",
        "https://multicartapi.com\\@evil.example/",
        "https://evil.example\\.multicartapi.com/",
        "https://multicartapi.com:99999/",
        "https://multicartapi.com:http/",
        "https://multicartapi.com:-1/",
        "https://[::1/",
        "https://[::1]evil.example/",
        "https://[v1.fe80]evil/",
        "https://m\u00fclticart.example/",
        "https://multicartapi\uff0ecom/",
    ],
)
def test_a_bad_url_is_refused(url: str) -> None:
    error = failing({"api_url": url})
    assert error.reason is Reason.INVALID_OPTION
    assert "api_url" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://multicartapi.com/api/v1",
        "http://localhost.evil.example/",
        "http://127.0.0.1.evil.example/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://10.0.0.1/",
        "http://localhost./",
        "http://localhost6.example/",
        "http://2130706433.example/",
    ],
)
def test_http_to_another_host_is_insecure(url: str) -> None:
    assert failing({"api_url": url}).reason is Reason.INSECURE_URL


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/api/v1",
        "http://127.255.255.254/",
        "http://[::1]:8000/api/v1",
        "http://localhost/",
        "http://LOCALHOST:8000",
        "HTTP://127.0.0.1",
        "https://multicartapi.com:8443/api",
        "https://[2001:db8::1]:8443/api",
        "https://10.0.0.1/",
        "https://a.example/X",
    ],
)
def test_a_good_url_is_kept_but_for_its_trailing_slash(url: str) -> None:
    assert connect({"api_url": url}).api_url == url.rstrip("/")
    assert connect({"api_url": url + "/"}).api_url == url.rstrip("/")


_URL_PARTS = st.sampled_from(
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "evil.example",
        "@",
        "\\",
        "/",
        "?",
        "#",
        ":",
        ":80",
        "%2f",
        "%40",
        ".",
        "[",
        "]",
    ]
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_URL_PARTS, min_size=1, max_size=5).map("".join), st.sampled_from(["http", "https"]))
def test_the_host_that_was_checked_is_the_host_that_is_called(rest: str, scheme: str) -> None:
    try:
        url = connect({"api_url": f"{scheme}://{rest}"}).api_url
    except MulticartError:
        return
    called = urllib3.util.parse_url(url + "/users/login")
    host = (called.host or "").strip("[]")
    assert host == urlsplit(url).hostname
    assert called.auth is None and called.query is None and called.fragment is None
    if scheme == "http":
        assert host in ("127.0.0.1", "localhost", "::1")


@pytest.mark.parametrize("half", ["email", "password"])
def test_half_a_login_is_refused_and_names_the_other_half(half: str) -> None:
    for place in ({"task": {half: "x"}}, {"variables": {f"multicart_{half}": "x"}}):
        error = failing(**place)
        missing = {"email": "password", "password": "email"}[half]
        assert error.reason is Reason.INVALID_OPTION
        assert f"option {missing} is missing" in str(error)


@pytest.mark.parametrize(
    "value", ["nodot", ".secret", "prefix.", "a.b c", "a.b\n", "a.$(id)", "~a.b", "a.b'", "a." + "b" * 600]
)
def test_a_malformed_api_key_is_refused_by_name_and_place_only(value: str) -> None:
    error = failing(environ={"MULTICART_API_KEY": value})
    assert error.reason is Reason.MALFORMED_KEY
    assert "MULTICART_API_KEY" in str(error)
    assert value not in str(error)


@pytest.mark.parametrize("value", ["to ken", "token\n", "t\u00f6ken", "token\x7f", "\u2022"])
def test_a_session_token_that_no_header_can_hold_is_refused(value: str) -> None:
    assert failing({"session_token": value}).reason is Reason.INVALID_OPTION


@pytest.mark.parametrize("value", ["3F1C0A9BE2D47788", "3f1c", "3f1c0a9be2d477880", "g" * 16, "3f1c0a9be2d47788\n"])
def test_a_fingerprint_has_sixteen_lower_case_hexadecimal_digits(value: str) -> None:
    assert failing({"retire": value}).reason is Reason.INVALID_OPTION
    assert find({"retire": "3f1c0a9be2d47788"}).given["retire"] == "3f1c0a9be2d47788"


@pytest.mark.parametrize("known", [FLEET, HOST], ids=["fleet", "host"])
@pytest.mark.parametrize("value", ["adit", "", None, "Rotate", True, ["join"], {}])
def test_a_phase_is_one_of_the_choices_and_required(known: tuple[Option, ...], value: Any) -> None:
    """S9."""
    error = failing({"phase": value}, known=known)
    assert error.reason is Reason.INVALID_OPTION
    assert "option phase must be one of" in str(error)


@pytest.mark.parametrize("value", ["Keep", "yes", True, 1, ["keep"]])
def test_what_to_do_with_a_key_of_unknown_age_is_one_of_the_choices(value: Any) -> None:
    error = failing({"phase": "rotate"}, {"multicart_rotate_unknown_age": value}, known=FLEET)
    assert error.reason is Reason.INVALID_OPTION
    assert "variable multicart_rotate_unknown_age must be one of keep, rotate" in str(error)
    for empty in ("", None):  # an answer that a survey leaves empty
        found = find({"phase": "rotate"}, {"multicart_rotate_unknown_age": empty}, known=FLEET)
        assert found.given["unknown_age"] == "keep"


@pytest.mark.parametrize("option", ROTATE, ids=lambda option: option.name)
@pytest.mark.parametrize("value", [["a"], {"a": "b"}, ("a",), {"a"}, [], {}])
def test_lists_and_mappings_are_refused(option: Option, value: Any) -> None:
    error = failing({option.name: value})
    assert error.reason is Reason.INVALID_OPTION
    assert option.name in str(error)


@pytest.mark.parametrize(
    ("name", "hint"), [("sesion_token", "session_token"), ("validate_cert", "validate_certs"), ("rebeal", "reveal")]
)
def test_an_unknown_option_is_refused_with_a_hint(name: str, hint: str) -> None:
    error = failing({name: "x"}, known=INFO)
    assert error.reason is Reason.INVALID_OPTION
    assert f"Did you mean {hint}?" in str(error)


def test_an_option_of_another_plugin_is_unknown_here() -> None:
    assert failing({"cache": True}, known=INFO).reason is Reason.INVALID_OPTION
    assert failing({"reveal": True}, known=LOOKUP).reason is Reason.INVALID_OPTION
    assert failing({"settle_timeout": 5}, known=INFO).reason is Reason.INVALID_OPTION


NOTHING_CHANGED = "Nothing was changed; correct it and run again."
FIND_URL = f"The default is {DEFAULT_URL}."
AN_AGE = "must be an age: a whole number followed by s, m, h, d or w, such as 30d."
MAX_AGE = "multicart_rotate_max_age"


@pytest.mark.parametrize(
    "row",
    [
        (FLEET, {}, {}, {}, "The option phase must be one of rotate.", NOTHING_CHANGED),
        (REVOKE, {}, {}, {}, "The option retire is required.", NOTHING_CHANGED),
        (
            REVOKE,
            {"retire": "no"},
            {},
            {},
            "The option retire must be a fingerprint: 16 lower-case hexadecimal digits.",
            NOTHING_CHANGED,
        ),
        (
            FLEET,
            {"phase": "rotate"},
            {"multicart_rotate_uncovered": "no"},
            {},
            "The variable multicart_rotate_uncovered must be one of refuse, warn.",
            NOTHING_CHANGED,
        ),
        *(
            (FLEET, {"phase": "rotate"}, {name: raw}, {}, f"The variable {name} {must}", NOTHING_CHANGED)
            for name, raw, must in [
                ("multicart_rotate_min_hosts", "1.5", "must be a whole number."),
                ("multicart_rotate_min_hosts", True, "must be a whole number."),
                ("multicart_rotate_min_hosts", [1], "must be a single value, not a list or a mapping."),
                ("multicart_rotate_force", "si", "must be true or false."),
                (MAX_AGE, "30 days", AN_AGE),
                (MAX_AGE, "30D", AN_AGE),
                (MAX_AGE, 30, "must be text: put it in quotes; in a template, end it with | string."),
            ]
        ),
        (
            MONITORING,
            {},
            {"multicart_report_hooks": "ls"},
            {},
            "The variable multicart_report_hooks must be a list.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {},
            {"multicart_timeout": 0},
            {},
            "The option timeout (from the variable multicart_timeout) must be a number of seconds above 0 and up to "
            "3600.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {},
            {"multicart_validate_certs": "si"},
            {},
            "The option validate_certs (from the variable multicart_validate_certs) must be true or false.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {},
            {"multicart_email": ["a"]},
            {},
            "The option email (from the variable multicart_email) must be a single value, not a list or a mapping.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {},
            {"multicart_password": 12},
            {},
            "The option password (from the variable multicart_password) must be text: put it in quotes; in a "
            "template, end it with | string.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {},
            {},
            {"MULTICART_SESSION_TOKEN": "a b"},
            "The option session_token (from the environment variable MULTICART_SESSION_TOKEN) must be printable ASCII "
            "without white space.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {"email": "a@b.c"},
            {},
            {},
            "The option password is missing: a login needs both, and only email is set.",
            "Set password too, or neither of them.",
        ),
        (
            ROTATE,
            {},
            {"multicart_password": "canary"},
            {},
            "The option email is missing: a login needs both, and only password (from the variable multicart_password) "
            "is set.",
            "Set multicart_email too, or neither of them.",
        ),
        (
            ROTATE,
            {},
            {},
            {"MULTICART_EMAIL": "a@b.c"},
            "The option password is missing: a login needs both, and only email (from the environment variable "
            "MULTICART_EMAIL) is set.",
            "Set MULTICART_PASSWORD too, or neither of them.",
        ),
        *(
            (ROTATE, {"api_url": url}, {}, {}, f"The option api_url {must}", FIND_URL)
            for url, must in [
                ("ftp://a.example", "must be an absolute http:// or https:// URL."),
                ("https://me@a.example", "must not hold a user name or password."),
                ("https://:word@a.example", "must not hold a user name or password."),
                ("https://a.example/?b", "must not hold a query or fragment."),
                ("https://a\\b.example", "must name a host in the usual form."),
            ]
        ),
        (ROTATE, {"api_url": "http://a.example"}, {}, {}, "The option api_url would send credentials unencrypted.", ""),
        (
            ROTATE,
            {},
            {},
            {"MULTICART_API_URL": "http://a.example"},
            "The option api_url (from the environment variable MULTICART_API_URL) would send credentials unencrypted.",
            "",
        ),
        (
            FLEET,
            {"phase": "rotate"},
            {"multicart_rotate_max_agee": "30d"},
            {},
            "multicart_rotate_max_agee is not a variable of this collection: write multicart_rotate_max_age, or "
            "give it another prefix.",
            NOTHING_CHANGED,
        ),
        (
            (*HOST, *MONITORING),
            {"phase": "join"},
            {"multicart_report_dri": "x"},
            {},
            "multicart_report_dri is not a variable of this collection: write multicart_report_dir, or give it "
            "another prefix.",
            NOTHING_CHANGED,
        ),
        (ROTATE, {"retier": 1}, {}, {}, "Unknown option retier. Did you mean retire?", ""),
        (
            (LOOKUP[-1], *REVOKE[-2:]),
            {"xyz": 1},
            {},
            {},
            "Unknown option xyz. Known options: cache, retire, settle_timeout.",
            "",
        ),
        (
            ROTATE,
            {"api_key": "nokey"},
            {},
            {},
            "The option api_key is wrong: it is not shaped like an API key: PREFIX.SECRET, letters, digits and . _ ~ + "
            "/ = - only, at most 512 characters.",
            NOTHING_CHANGED,
        ),
        (
            ROTATE,
            {"api_url": "https://a.example"},
            {},
            {"MULTICART_SESSION_TOKEN": "t"},
            "The credential session_token comes from the environment, but api_url does not.",
            "",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_name_the_place_and_the_remedy(row: tuple[Any, ...]) -> None:
    """Each row: the options, the task, its variables, the environment, and what is said of them."""
    known, *places, what, advice = row
    error = failing(*places, known)
    assert (error.what, error.advice) == (what, advice or ADVICE[error.reason])


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("36h", timedelta(hours=36)),
        ("30d", timedelta(days=30)),
        ("12w", timedelta(weeks=12)),
    ],
)
def test_an_age_is_a_number_and_a_unit(text: str, age: timedelta) -> None:
    given = find({"phase": "rotate"}, {MAX_AGE: text, "multicart_rotate_min_hosts": "12"}, known=FLEET).given
    assert (given["max_age"], given["min_hosts"]) == (age, 12)


def test_the_longest_timeout_is_allowed_and_hooks_are_a_list() -> None:
    assert connect({"timeout": LONGEST_TIMEOUT}).timeout == LONGEST_TIMEOUT
    assert find({}, {"multicart_report_hooks": [1]}, known=MONITORING).given["hooks"] == [1]


class NoVaultSecretsError(Exception):
    """As Ansible's own of some releases: nothing but its name tells."""


@pytest.mark.parametrize(
    "error",
    [NoVaultSecretsError("canary"), ValueError("Attempting to decrypt but no Vault secrets found")],
)
@pytest.mark.parametrize("around", [None, "cause", "context"])
def test_a_value_that_cannot_be_decrypted_is_called_that(error: Exception, around: str | None) -> None:
    outer = RuntimeError("canary")
    if around is not None:
        setattr(outer, f"__{around}__", error)

    def template(_raw: Any) -> Any:
        raise outer if around is not None else error

    found = failing({}, {"multicart_password": "x"}, template=template)
    assert found.what == (
        "The variable multicart_password cannot be decrypted: the password of its Ansible Vault is missing or wrong."
    )
    assert found.advice == "Nothing was changed; give it with --vault-id, --vault-password-file or --ask-vault-pass."


def test_a_variable_of_a_role_is_templated_and_refused_by_its_name() -> None:
    assert templated("app", "x", lambda raw: f"<{raw}>") == "<x>"
    with pytest.raises(MulticartError) as caught:
        templated("app", "x", lambda raw: raw.canary)
    assert caught.value.what == "The variable app cannot be templated (AttributeError)."
    assert caught.value.advice == "Nothing was changed; correct the expression."
    error = invalid(FLEET, "allowed_hours", "is wrong")
    assert error.what == "The variable multicart_rotate_allowed_hours is wrong."


def test_a_text_of_another_type_is_its_plain_text_and_only_that() -> None:
    class Lazy:
        def __str__(self) -> str:
            return "https://lazy.example"

    assert connect({"api_url": Lazy()}).api_url == "https://lazy.example"
    broken = failing({"api_url": type("Broken", (), {"__str__": lambda self: self.canary})()})
    assert broken.what == "The option api_url cannot be templated (AttributeError)."


def test_an_error_says_where_a_value_came_from() -> None:
    assert "multicart_timeout" in str(failing(variables={"multicart_timeout": "soon"}))
    assert "MULTICART_TIMEOUT" in str(failing(environ={"MULTICART_TIMEOUT": "soon"}))
    assert "multicart_timeout" not in str(failing({"timeout": "soon"})).lower()


@pytest.mark.parametrize("name", ["multicart.keys.multicart_key", "multicart_key"])
@pytest.mark.parametrize("option", [option for option in CONNECTION if option.shared], ids=lambda option: option.name)
def test_a_variable_that_the_lookup_reads_cannot_be_set_by_it(option: Option, name: str) -> None:
    def template(value: Any) -> Any:
        raise RecursionError

    error = failing(variables={option.variable: f"{{{{ lookup('{name}') }}}}"}, known=LOOKUP, template=template)
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == f"The variable {option.variable} is read by the lookup multicart_key, and cannot be set by it."
    assert error.advice == "Nothing was changed; give the variable in which you keep the key another name."


def test_what_hosts_ask_of_a_rotation_is_compared_by_what_it_means() -> None:
    def asked(**variables: Any) -> dict[str, str]:
        return values_of_run(variables, lambda raw: raw.replace("{{ mine }}", "1") if isinstance(raw, str) else raw)

    unset = asked()
    assert set(unset) == {option.role_variable for option in FLEET if option.role_variable}
    assert (
        asked(multicart_rotate_max_age="", multicart_rotate_uncovered="refuse", multicart_rotate_min_hosts=1) == unset
    )
    assert asked(multicart_rotate_min_hosts="2") == asked(multicart_rotate_min_hosts=2) != unset
    assert asked(multicart_rotate_max_age="{{ mine }}d") == asked(multicart_rotate_max_age="1d") != unset
    assert asked(multicart_rotate_max_age="soon") != asked(multicart_rotate_max_age="1d")
    assert asked(multicart_report_dir="/reports") == unset


def test_a_variable_that_cannot_be_looked_at_yet_is_left_to_the_template() -> None:
    class Sealed:
        @property
        def __class__(self) -> type:
            raise RuntimeError("no vault secret yet")

    connection = connect(variables={"multicart_api_key": Sealed()}, template=lambda _raw: KEY)
    assert value_of(connection, "api_key") == KEY


@pytest.mark.parametrize(
    ("name", "told", "remedy"),
    [
        ("multicart_rotate_max_agee", "multicart_rotate_max_agee", "write multicart_rotate_max_age"),
        ("multicart_rotate_", "multicart_rotate_", "remove it"),
        ("multicart_rotate_" + "\x1b" + 90 * "9", "multicart_rotate_ " + 62 * "9", "remove it"),
    ],
)
def test_a_variable_that_is_named_after_a_role_and_is_none_of_its_is_refused(name: str, told: str, remedy: str) -> None:
    error = failing(variables={name: "30d"}, known=FLEET)
    assert error.reason is Reason.INVALID_OPTION
    assert error.what == f"{told} is not a variable of this collection: {remedy}, or give it another prefix."
    assert error.advice == "Nothing was changed; correct it and run again."


@pytest.mark.parametrize("source", ["secrets['multicart_key']", "lookup('env', 'multicart_key')"])
def test_a_variable_may_be_set_by_something_else_that_has_the_name_of_the_lookup(source: str) -> None:
    connection = connect(variables={"multicart_api_key": f"{{{{ {source} }}}}"}, template=lambda _raw: KEY)
    assert value_of(connection, "api_key") == KEY


def test_a_variable_that_cannot_be_templated_is_named_without_its_text() -> None:
    def template(value: Any) -> Any:
        raise ValueError(f"no such thing: {value}")

    error = failing(variables={"multicart_password": "{{ canary }}", "multicart_email": "a@b.c"}, template=template)
    assert error.reason is Reason.INVALID_OPTION
    assert "canary" not in str(error)
    assert "multicart_" in str(error) and "ValueError" in str(error)
    assert error.__cause__ is None and error.__suppress_context__


@pytest.mark.parametrize("name", ["shop_token", "_ShopToken2"])
def test_an_undefined_variable_is_named(name: str) -> None:
    def template(value: Any) -> Any:
        raise ValueError(f"'{name}' is undefined. {{{{ canary }}}}: '{name}' is undefined")

    error = failing(variables={"multicart_session_token": "{{ canary }}"}, template=template)
    assert str(error) == (
        f"The variable multicart_session_token cannot be templated ({name} is undefined). "
        f"Nothing was changed; define {name}, or correct the expression."
    )


# --- no error repeats a value ---------------------------------------------------------------------

_CANARY = "cAnArYsEcReT"
_WRAPPED = st.builds(
    lambda before, after: before + _CANARY + after,
    st.text(max_size=4),
    st.sampled_from(["", " ", "\n", "{{", "://x", ".y", "@z", "\x00", "?", "#", ":1"]),
)
_ANYTHING = st.one_of(_WRAPPED, _WRAPPED.map(lambda text: [text]), _WRAPPED.map(lambda text: {text: text}))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from([option.name for option in ROTATE]), _ANYTHING, max_size=4),
    st.dictionaries(st.sampled_from([option.variable for option in CONNECTION]), _ANYTHING, max_size=3),
    st.dictionaries(st.sampled_from([option.environment for option in CONNECTION]), _WRAPPED, max_size=3),
)
def test_no_error_text_ever_holds_a_value(
    task: dict[str, Any], variables: dict[str, Any], environ: dict[str, str]
) -> None:
    try:
        options = find(task, variables, environ)
    except MulticartError as error:
        assert _CANARY not in f"{error} {error!r} {error.what} {error.advice}"
    else:
        assert options.connection.api_url == DEFAULT_URL


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(_WRAPPED, _WRAPPED, min_size=1, max_size=2))
def test_an_unknown_option_is_shown_only_if_it_looks_like_a_name(task: dict[str, str]) -> None:
    error = failing(task)
    shown = re.search(r"Unknown option (.*?)\.", str(error), re.DOTALL)
    assert shown and re.fullmatch(r"[A-Za-z_][A-Za-z_-]{0,28}[0-9]{0,2}|\(not shown\)", shown[1])
    assert _CANARY not in str(error).replace(shown[1], "", 1)


def test_what_is_printed_of_options_holds_no_secret() -> None:
    connection = connect({"session_token": "canary1", "email": "a@b.c", "password": "canary2", "api_key": "a.canary3"})
    shown = f"{connection!r} {connection} {connection.login!r} {connection.api_key!r}"
    assert "canary" not in shown
    assert repr(connection.login) == "<Login>"
    assert set(connection.secrets) == {"canary1", "canary2", "a.canary3"}


# --- a credential from the environment stays where the environment says ---------------------------

_CREDENTIALS: dict[str, dict[str, str]] = {
    "session_token": {"session_token": "token"},
    "login": {"email": "a@b.c", "password": "p"},
    "api_key": {"api_key": KEY},
}
_TARGETS = {"api_url": "https://elsewhere.example", "validate_certs": "false", "ca_path": "/tmp/evil.pem"}


def _place(values: Mapping[str, str], source: str) -> dict[str, dict[str, str]]:
    return {
        "task": {"task": dict(values)},
        "variable": {"variables": {f"multicart_{name}": value for name, value in values.items()}},
        "environment": {"environ": {f"MULTICART_{name.upper()}": value for name, value in values.items()}},
    }[source]


def _merged(*places: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    merged: dict[str, dict[str, str]] = {}
    for place in places:
        for name, values in place.items():
            merged.setdefault(name, {}).update(values)
    return merged


@pytest.mark.parametrize("credential", _CREDENTIALS)
@pytest.mark.parametrize("credential_from", ["task", "variable", "environment"])
@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("target_from", ["task", "variable", "environment", "default"])
def test_a_credential_of_the_environment_goes_only_where_the_environment_says(
    credential: str, credential_from: str, target: str, target_from: str
) -> None:
    places = [_place(_CREDENTIALS[credential], credential_from)]
    if target_from != "default":
        places.append(_place({target: _TARGETS[target]}, target_from))
    asked = _merged(*places)
    if credential_from == "environment" and target_from in ("task", "variable"):
        assert failing(**asked).reason is Reason.URL_NOT_BOUND
    else:
        assert connect(**asked)


@pytest.mark.parametrize("half", ["email", "password"])
def test_half_a_login_of_the_environment_is_bound_too(half: str) -> None:
    other = {"email": "password", "password": "email"}[half]
    asked = {
        "task": {other: "x", "api_url": "https://elsewhere.example"},
        "environ": {f"MULTICART_{half.upper()}": "y"},
    }
    assert failing(**asked).reason is Reason.URL_NOT_BOUND


def test_an_empty_target_of_a_launch_time_variable_takes_nothing_away() -> None:
    connection = connect(
        variables={"multicart_api_url": "", "multicart_ca_path": ""},
        environ={"MULTICART_SESSION_TOKEN": "t", "MULTICART_API_URL": "https://bound.example"},
    )
    assert (connection.api_url, connection.session_token) == ("https://bound.example", "t")


@pytest.mark.parametrize("token_from", ["task", "variable", "environment"])
@pytest.mark.parametrize("login_from", ["task", "variable", "environment"])
def test_a_login_helps_a_token_only_if_both_came_from_the_same_place(token_from: str, login_from: str) -> None:
    asked = _merged(_place(_CREDENTIALS["session_token"], token_from), _place(_CREDENTIALS["login"], login_from))
    connection = connect(**asked)
    assert connection.session_token == "token"
    assert (connection.login is not None) == (token_from == login_from)


def test_an_unused_login_of_the_environment_does_not_bind_the_url() -> None:
    asked = _merged(
        _place({**_CREDENTIALS["session_token"], "api_url": "https://mine.example"}, "task"),
        _place(_CREDENTIALS["login"], "environment"),
    )
    connection = connect(**asked)
    assert connection.login is None
    assert "p" not in connection.secrets


def test_a_login_in_two_halves_from_different_places_is_a_login() -> None:
    connection = connect(variables={"multicart_email": "a@b.c"}, environ={"MULTICART_PASSWORD": "p"})
    assert connection.login and connection.login.email == "a@b.c"


@pytest.mark.parametrize("name", SECRETS)
def test_only_a_token_or_a_login_can_read_back(name: str) -> None:
    connection = connect(with_partner(name, {name: VALUES[name][0]}))
    assert connection.can_read_back == (name != "api_key")
