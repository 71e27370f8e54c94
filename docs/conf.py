# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How Sphinx makes the site; `make docs` puts the pages together."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
import variables  # noqa: E402  # beside this file

project = "multicart.keys"
author = "multicart.keys contributors"
copyright = "2026, multicart.keys contributors"  # pylint: disable=redefined-builtin  # the name is Sphinx's
extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
html_theme = "sphinx_ansible_theme"
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
antsibull_ext_color_scheme = "default-autodark"
pygments_style = "ansible"
root_doc = "index"
nitpicky = True
# Nothing is fetched from the site of Ansible: `make docs` works offline, and references to there are plain text.
intersphinx_mapping: dict[str, tuple[str, None]] = {}
nitpick_ignore = [
    ("std:ref", label) for label in ("action_plugins", "ansible_configuration_settings", "common_return_values")
]


def setup(app: Sphinx) -> None:
    """Put the tables of variables onto the pages."""
    app.connect("source-read", _fill)


def _fill(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = variables.fill(source[0])
