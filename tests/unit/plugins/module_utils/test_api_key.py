# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be shown of a key: the prefix, a mask and a fingerprint, whatever the key looks like."""

import copy
import hashlib
import pickle
import string
from collections.abc import Callable

import pytest
from ansible_collections.multicart.keys.plugins.module_utils._api_key import MASK, ApiKey, NotAKey, is_fingerprint
from hypothesis import given
from hypothesis import strategies as st

PREFIXES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_~+/=-]{0,30}", fullmatch=True)
HALVES = st.text(string.ascii_letters + string.digits + "._~+/=-", min_size=1, max_size=200)


@given(prefix=PREFIXES, secret=HALVES)
def test_nothing_but_the_prefix_is_shown_however_the_key_is_printed(prefix: str, secret: str) -> None:
    key = ApiKey(f"{prefix}.{secret}")
    shown = f"{prefix}.{MASK}"
    assert {str(key), f"{key}", "%s" % key, format(key), key.masked} == {shown}  # noqa: UP031  # one way to print it
    assert repr(key) == repr([key])[1:-1] == f"<ApiKey {key.fingerprint}>"
    assert key.describe() == {"key_prefix": prefix, "key_masked": shown, "key_fingerprint": key.fingerprint}
    assert set(key.describe("previous_").values()) == set(key.describe().values())


@given(secrets=st.lists(HALVES, min_size=2, max_size=2, unique=True))
def test_the_mask_tells_neither_the_secret_nor_its_length(secrets: list[str]) -> None:
    one, other = (ApiKey(f"173axcs.{secret}") for secret in secrets)
    assert one.masked == other.masked
    assert one.fingerprint != other.fingerprint


@given(prefix=PREFIXES, secret=HALVES)
def test_the_fingerprint_is_what_sha256sum_tells(prefix: str, secret: str) -> None:
    key = ApiKey(f"{prefix}.{secret}")
    assert key.fingerprint == hashlib.sha256(f"{prefix}.{secret}".encode()).hexdigest()[:16]
    assert is_fingerprint(key.fingerprint)


@given(text=st.text(max_size=600).filter(lambda text: len(text) >= 8))
def test_what_is_no_key_is_not_repeated(text: str) -> None:
    try:
        ApiKey(text)
    except NotAKey as error:
        assert text not in str(error)


@pytest.mark.parametrize("character", [*"\"'`$\\#;&|<>(){}[]*?!%^@:, \t\r\n\v\f\0\x7f", "é", "\u2028", "\u200b"])
def test_what_means_something_to_a_reader_is_in_no_key(character: str) -> None:
    for text in (f"173axcs.abcd{character}efgh", f"173{character}axcs.abcdefgh", f"173axcs.abcdefgh{character}"):
        with pytest.raises(NotAKey):
            ApiKey(text)
    ApiKey("173axcs.abcdefgh")


@pytest.mark.parametrize("of", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])
def test_a_copy_is_masked_as_well(of: Callable[[ApiKey], object]) -> None:
    key = ApiKey("173axcs.xYzxYzxYzxYz")
    assert str(of(key)) == key.masked
