# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge of the lookup: fields by name, one error without a chain, and no foreign text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleLookupError
from ansible_collections.multicart.keys.plugins.lookup import multicart_key
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._api.operations import Live
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason
from ansible_collections.multicart.keys.plugins.plugin_utils._options import Connection

KEY = ApiKey("173axcs.newnewnewnew")
FIELDS = yaml.safe_load(multicart_key.DOCUMENTATION)["options"]["_terms"]["choices"]


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.delenv("MULTICART_SESSION_TOKEN", raising=False)
    templar = SimpleNamespace(copy_with_new_env=lambda **dummy: SimpleNamespace(template=lambda value: value))
    return multicart_key.LookupModule(loader=None, templar=templar)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer with the key, and note which operation was asked."""
    operations: list[str] = []

    def live(connection: Connection, cache: Any, newer_than: float) -> Live:
        operations.append("live" if newer_than == 0 else "newer live")
        return Live(KEY)

    monkeypatch.setattr(multicart_key, "live", live)
    return operations


def test_no_term_is_the_key(lookup: Any, asked: list[str]) -> None:
    assert lookup.run([], {}) == [KEY.reveal()]
    assert asked == ["live"]


def test_terms_choose_fields_in_their_order(lookup: Any, asked: list[str]) -> None:
    values = lookup.run(FIELDS, {})
    assert values == [KEY.reveal(), KEY.prefix, KEY.masked, KEY.fingerprint]
    assert lookup.run(["key_fingerprint", "key_fingerprint"], {}) == [KEY.fingerprint] * 2
    assert asked == ["live"] * 2


@pytest.mark.parametrize("cache", [False, "no"])
def test_without_the_cache_it_reads_afresh(lookup: Any, asked: list[str], cache: Any) -> None:
    lookup.run([], {}, cache=cache)
    assert asked == ["newer live"]


@pytest.mark.parametrize("term", ["api-key", "canary", "", None, 7, ["api_key"], {"canary": 1}])
def test_another_term_is_refused_and_not_repeated(lookup: Any, asked: list[str], term: Any) -> None:
    with pytest.raises(AnsibleLookupError, match="invalid_option") as caught:
        lookup.run([term], {})
    assert "canary" not in str(caught.value)
    assert asked == []


def test_an_unknown_option_is_refused(lookup: Any, asked: list[str]) -> None:
    with pytest.raises(AnsibleLookupError, match="Did you mean session_token"):
        lookup.run([], {}, sesion_token="canary")
    assert asked == []


@pytest.mark.parametrize("error", [MulticartError(Reason.REFUSED, "No."), RuntimeError("canary")])
def test_an_error_has_no_chain_and_no_foreign_text(
    lookup: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_args: Any) -> None:
        raise error

    monkeypatch.setattr(multicart_key, "live", broken)
    with pytest.raises(AnsibleLookupError) as caught:
        lookup.run([], {})
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert "canary" not in str(caught.value)
    reason = error.reason if isinstance(error, MulticartError) else Reason.INTERNAL_ERROR
    assert f"multicart_key ({reason.value}): " in str(caught.value)


def test_without_a_credential_it_says_which_options_to_set(lookup: Any) -> None:
    with pytest.raises(AnsibleLookupError, match=r"no_credentials.*MULTICART_SESSION_TOKEN"):
        lookup.run([], {})
    with pytest.raises(AnsibleLookupError, match="no_credentials"):
        lookup.run([], None)
