# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds the models of the readers, and what is promised with their help, against the real programs."""

import re
from collections.abc import Callable
from functools import cache
from typing import Optional

import pytest
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.tests.readers.cases import CHANGED, FILES, NAME, NEW, REFUSED
from ansible_collections.multicart.keys.tests.readers.many import MANY
from ansible_collections.multicart.keys.tests.readers.real_readers import READERS, NotHere, Variables
from hypothesis import given, settings
from hypothesis import strategies as st

MODELS = {"systemd": "systemd before 254", "docker": "docker", "node 20": "node 20", "node 24": "node"}
"""Readers whose model says exactly what they read; systemd and Node.js of other versions have models of their own."""


@cache
def reader(name: str) -> Callable[[bytes], Variables]:
    """Return the real reader, or skip the test if its program is not here."""
    try:
        READERS[name](b"")
    except NotHere as why:
        pytest.skip(str(why))
    return cache(READERS[name])  # a process for each file is what makes these tests slow


def is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None


def written(data: bytes) -> Optional[bytes]:
    """Return the file with the new key; None: it is refused."""
    try:
        return env_file.with_value(data, NAME, NEW)
    except env_file.EnvFileError:
        return None


def check_promise(read: Callable[[bytes], Variables], data: bytes) -> None:
    """What was read right is read right afterwards, and everything else as before."""
    changed = written(data)
    if changed is None:
        return
    old = {item.value.decode("latin-1") for item in env_file.assignments(data, NAME)}
    before, after = read(data), read(changed)
    if before.get(NAME) in old and re.fullmatch(r"[A-Za-z0-9.]+", before[NAME]):
        assert after[NAME] == NEW.decode()
    uses_it = re.compile(rf"\$\{{?{NAME}".encode())
    if not uses_it.search(data):
        others = {name: value for name, value in before.items() if name != NAME and is_name(name)}
        assert others == {name: value for name, value in after.items() if name in others}


def check_model(name: str, read: Callable[[bytes], Variables], data: bytes) -> None:
    """The model sees the variables that the program sees, and the same value wherever that is a plain one."""
    try:
        view = env_file._views(data)[MODELS[name]]
    except env_file.EnvFileError:
        return
    if name.startswith("node") and view.broken:  # what it makes of a line without a name is nobody's guess
        return
    real = {key: value for key, value in read(data).items() if is_name(key)}
    model = {item.name: item.value for item in view.readings if item.name and is_name(item.name)}
    assert set(model) == set(real)
    assert {key: real[key] for key, value in model.items() if value is not None} == {
        key: value for key, value in model.items() if value is not None
    }


@pytest.mark.parametrize("name", READERS)
def test_every_case_is_read_right(name: str) -> None:
    reader(name)
    files = [before for before, _rest in (*CHANGED.values(), *REFUSED.values())]
    changed = [data for data in map(written, files) if data is not None]
    # A process for each is what makes these tests slow; that it says the same, test_readers_fuzz.py has.
    read = dict(zip([*files, *changed], MANY[name]([*files, *changed]), strict=True)).__getitem__
    for data in files:
        check_promise(read, data)
        if name in MODELS:
            check_model(name, read, data)


@pytest.mark.parametrize("name", READERS)
def test_a_new_line_is_read_by_all(name: str) -> None:
    assert reader(name)(env_file.with_value(b"A=1\n", NAME, NEW)) == {"A": "1", NAME: NEW.decode()}


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=15, deadline=None)
@given(data=FILES)
def test_any_file_is_read_right(name: str, data: bytes) -> None:
    read = reader(name)
    check_promise(read, data)
    if name in MODELS:
        check_model(name, read, data)


@settings(max_examples=200, deadline=None)
@given(data=FILES | st.binary(max_size=40))
@pytest.mark.parametrize("name", ["systemd", "python-dotenv"])
def test_readers_that_need_no_process_agree_more_often(name: str, data: bytes) -> None:
    check_promise(reader(name), data)
    if name in MODELS:
        check_model(name, reader(name), data)
