# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page about formats: what each template renders is read right, and each file is refused without its template."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.module_utils import _env_file as env_file
from ansible_collections.multicart.keys.plugins.module_utils import _other_form as other_form
from ansible_collections.multicart.keys.plugins.module_utils._api_key import ApiKey
from ansible_collections.multicart.keys.plugins.plugin_utils._fleet.host_vars import spec_of
from ansible_collections.multicart.keys.tests.readers.other_forms import NAME
from ansible_collections.multicart.keys.tests.readers.page import READ, TEMPLATES, blocks, render
from ansible_collections.multicart.keys.tests.readers.programs import PROGRAMS
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere

# With every character that a key may have besides letters and digits, and what YAML would read as a number.
KEY = ApiKey("1e5.a~_+/=-.b")


def test_every_template_of_the_page_is_tried() -> None:
    assert set(TEMPLATES) == set(READ)


@pytest.mark.parametrize("title", READ)
def test_what_a_template_renders_is_read_right(title: str) -> None:
    try:
        assert READ[title](render(title, KEY.reveal())) == KEY.reveal()
    except NotHere as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("title", PROGRAMS)
def test_the_real_program_reads_what_a_template_renders(title: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(render(title, KEY.reveal()))
    try:
        assert PROGRAMS[title](file) == KEY.reveal()
    except NotHere as why:
        pytest.skip(str(why))


@pytest.mark.parametrize("title", [title for title in READ if title != "crontab"])
def test_such_a_file_is_refused_without_its_template(title: str) -> None:
    with pytest.raises(other_form.OtherForm):
        other_form.refuse(render(title, KEY.reveal()).encode(), NAME, [other_form.known_key(KEY)])


def test_a_crontab_with_the_variable_above_its_lines_is_changed_in_place() -> None:
    before, after = (render("crontab", key).encode() for key in (KEY.reveal(), "p.new"))
    other_form.refuse(before, NAME, [other_form.known_key(KEY)])
    assert env_file.with_value(before, NAME, b"p.new") == after


def test_the_variables_of_the_page_are_understood() -> None:
    shown = [yaml.safe_load(code) for codes in blocks("yaml").values() for code in codes]
    assert len(shown) >= 6
    for variables in shown:
        spec = spec_of(variables, lambda value: value)
        assert spec.files or spec.steps.commands or spec.steps.services
