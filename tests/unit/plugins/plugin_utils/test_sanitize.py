# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text from the API and from hosts: nothing of a secret passes, in whatever usual form, and nothing unprintable."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.multicart.keys.plugins.plugin_utils._api.sanitize import (
    MAX_TEXT,
    clean_fields,
    clean_text,
    withhold,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "reversed": lambda secret: secret[::-1],
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 behind one byte": lambda secret: base64.b64encode(b":" + secret.encode()).decode(),
    "base64 behind two bytes": lambda secret: base64.b64encode(b"a:" + secret.encode()).decode(),
    "base64 for URLs": lambda secret: base64.urlsafe_b64encode(secret.encode()).decode(),
    "base64 before a byte": lambda secret: base64.b64encode(secret.encode() + b":").decode(),
    "URL-encoded": lambda secret: quote(secret, safe=""),
    "url-encoded": lambda secret: quote(secret, safe="").lower(),
    "JSON-escaped": lambda secret: json.dumps(secret)[1:-1],
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "upper case": str.upper,
    "lower case": str.lower,
    "a piece": lambda secret: secret[(len(secret) - 8) // 2 :][:8],
    "the first piece": lambda secret: secret[:8],
    "the last piece": lambda secret: secret[-8:],
}
_ASCII = string.ascii_letters + string.digits + string.punctuation
_SECRETS = st.one_of(
    st.text(_ASCII, min_size=8, max_size=60),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=50).map(lambda text: f"173axcs.{text}"),
    # The harmless words around it are in Latin letters, so that only the secret can be the cause.
    st.text(_ASCII + "\u00e4\u00f6\u20ac\u0416 ", min_size=8, max_size=30).map(lambda text: f"\u00df1{text}2"),
)
_AROUND = st.sampled_from(["", " ", "!", "Invalid key ", "\n", "\u2022"])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=_SECRETS, before=_AROUND, after=_AROUND)
def test_every_usual_form_of_a_secret_is_withheld(form: str, secret: str, before: str, after: str) -> None:
    assert clean_text(before + FORMS[form](secret) + after, [secret]) is None
    assert clean_text(before + FORMS[form](secret) + after, ["another-secret", secret]) is None


@pytest.mark.parametrize("form", ["raw", "reversed", "base64", "URL-encoded", "JSON-escaped", "hex"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=st.text(_ASCII, min_size=1, max_size=7))
def test_short_secrets_are_withheld_too(form: str, secret: str) -> None:
    assert clean_text(FORMS[form](secret), [secret]) is None


@pytest.mark.parametrize("between", [" ", "\n", "\u200b", "\u00ad", "\x1b", "\0"])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=st.text(_ASCII, min_size=8, max_size=60))
def test_a_secret_split_by_blanks_or_what_cannot_be_seen_is_withheld(between: str, secret: str) -> None:
    assert clean_text(between.join(f"no {secret}!"), [secret]) is None


def test_a_secret_behind_the_cut_is_withheld_and_not_only_cut_off() -> None:
    assert clean_text("x" * 1000 + "secret-secret", ["secret-secret"]) is None


@pytest.mark.parametrize("secret", ["p\udce4ssw\udcf6rd", "\ud800\udc00 pass", "\udcff" * 9])
def test_a_password_that_is_no_utf8_is_a_secret_like_any_other(secret: str) -> None:
    assert clean_text(f"Invalid password {secret}", [secret]) is None
    assert clean_text("Invalid password!", [secret]) == "Invalid password!"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=400))
def test_what_passes_is_printable_short_and_on_one_line(text: str) -> None:
    cleaned = clean_text(text, ["no-such-secret"])
    assert cleaned is not None
    assert len(cleaned) <= MAX_TEXT
    assert all(" " <= character <= "~" for character in cleaned)


def test_harmless_text_passes_as_it_is() -> None:
    assert clean_text("Invalid email or password!", ["rehearsal", "173axcs.AbCd"]) == "Invalid email or password!"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(secret=_SECRETS, form=st.sampled_from(sorted(FORMS)))
def test_no_field_of_an_account_holds_a_secret(secret: str, form: str) -> None:
    hidden = FORMS[form](secret)
    fields = clean_fields({"timezone": hidden, "name": "Demo", "id": 7, hidden: "a field's name"}, [secret])
    assert fields.get("timezone") is None
    assert hidden not in fields
    assert {name: fields[name] for name in ("name", "id")} == {"name": "Demo", "id": 7}


@pytest.mark.parametrize("value", [12345678, -12345678, 9912345678, 12345678.5])
def test_no_number_of_an_account_holds_a_secret(value: float) -> None:
    assert clean_fields({"phone": value}, ["12345678"]) == {"phone": None}


def test_a_field_whose_name_holds_a_secret_is_left_out() -> None:
    token = "deadbeef" * 5
    assert clean_fields({token: True, f"x{token[:20]}": 1}, [token]) == {}


@pytest.mark.parametrize(
    "name", ["api_key", "session_token", "client_secret", "password", "credentials", "passwd_hash"]
)
def test_fields_that_look_like_credentials_are_left_out(name: str) -> None:
    assert clean_fields({name: "x"}, []) == {}


@pytest.mark.parametrize("name", ["", "A", "with space", "x" * 42, "x\n", "__class__", "1a", "\u00e4"])
def test_fields_with_unusual_names_are_left_out(name: str) -> None:
    assert clean_fields({name: "x"}, []) == {}


def test_scalars_stay_as_they_are_and_structures_are_left_out() -> None:
    fields = {"a": True, "b": None, "c": 7, "d": 1.5, "e": "text", "f": ["x"], "g": {"x": 1}}
    assert clean_fields(fields, ["secret-secret"]) == {"a": True, "b": None, "c": 7, "d": 1.5, "e": "text"}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_a_host_says_repeats_no_key_in_any_form(form: Callable[[str], str]) -> None:
    secret = "173axcs.Qm7Zp2Lr9XvT4bKd8WsN"
    said = {"problems": [{"reason": "unhealthy", "text": f"it said {form(secret)} to me"}], "changed": True}
    withheld = withhold(said, {secret})
    assert withheld["problems"][0]["text"].startswith("(withheld")
    assert (withheld["problems"][0]["reason"], withheld["changed"]) == ("unhealthy", True)
    assert withhold(said, {"another.WhollyDifferent"}) == said


@pytest.mark.parametrize("depth", [1, 20, 21, 900])
def test_an_answer_is_walked_through_however_deep_it_is(depth: int) -> None:
    said: Any = "a text with acme.secret-secret in it"
    for _level in range(depth):
        said = [said]
    shown = repr(withhold(said, {"acme.secret-secret"}))
    assert "secret-secret" not in shown
    assert ("withheld" in shown) == (depth <= 20)
