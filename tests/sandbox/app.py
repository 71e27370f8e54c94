# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The web application: the API and, beside it, the control interface."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from . import api, control
from .rules import Rules
from .store import Store


def make_app(store: Store) -> Flask:
    """Return the application over a state directory's database."""
    app = Flask(__name__, static_folder=None)
    # Paths are taken as they are sent: a doubled slash is a wrong path, not one to be redirected.
    app.url_map.merge_slashes = False
    assert isinstance(app.json, DefaultJSONProvider)
    app.json.sort_keys = False
    rules = Rules()
    control.install(app, store, rules)
    api.install(app, store, rules)
    return app
