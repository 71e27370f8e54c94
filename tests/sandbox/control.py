# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control interface: what a test or a rehearsal tells the sandbox and asks it; see README.md."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request

from . import accounts, journal, settings
from .rules import Rules
from .shapes import API_PATH, CONTROL_PATH
from .store import Store


def _object() -> dict[str, Any]:
    """Return the request's body, which must be a JSON object."""
    found = request.get_json(force=True)
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")
    return found


def install(app: Flask, store: Store, rules: Rules) -> None:
    """Put the control interface in front of the API."""
    control = Blueprint("control", __name__, url_prefix=CONTROL_PATH)

    @control.errorhandler(ValueError)
    @control.errorhandler(LookupError)
    @control.errorhandler(TypeError)
    def refuse(error: Exception) -> tuple[Response, int]:
        return jsonify({"error": str(error)}), 400

    @control.get("/accounts")
    def list_accounts() -> Response:
        with store.transaction() as db:
            return jsonify(accounts.everything(db))

    @control.post("/accounts")
    def make_account() -> Response:
        with store.transaction() as db:
            number = accounts.make(db, **_object())
            return jsonify(next(one for one in accounts.everything(db) if one["id"] == number))

    @control.get("/settings")
    def show_settings() -> Response:
        email = request.args.get("account")
        with store.transaction() as db:
            return jsonify(settings.effective(db, accounts.id_of(db, email) if email else None))

    @control.post("/settings")
    def change_settings() -> Response:
        values = _object()
        email = values.pop("account", None)
        with store.transaction() as db:
            number = None if email is None else accounts.id_of(db, email)
            settings.change(db, values, number)
            return jsonify(settings.effective(db, number))

    @control.get("/faults")
    def list_faults() -> Response:
        return jsonify(rules.remaining())

    @control.post("/faults")
    def add_faults() -> Response:
        given = request.get_json(force=True)
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise ValueError("the body must be a JSON list of objects")
        rules.add(given)
        return jsonify(rules.remaining())

    @control.delete("/faults")
    def clear_faults() -> Response:
        rules.clear()
        return jsonify([])

    @control.get("/journal")
    def list_journal() -> Response:
        with store.transaction() as db:
            return jsonify(journal.entries(db, int(request.args.get("after", "0"))))

    @control.delete("/journal")
    def clear_journal() -> Response:
        with store.transaction() as db:
            journal.clear(db)
        return jsonify([])

    @control.post("/sessions")
    def open_session() -> Response:
        with store.transaction() as db:
            return jsonify({"token": accounts.open_session(db, accounts.id_of(db, _object()["email"]))})

    @control.delete("/sessions")
    def expire_sessions() -> Response:
        email = request.args.get("email")
        with store.transaction() as db:
            account = accounts.id_of(db, email) if email else None
            return jsonify({"expired": accounts.expire_sessions(db, account)})

    @control.post("/rotate")
    def rotate_behind() -> Response:
        with store.transaction() as db:
            number = accounts.id_of(db, _object()["email"])
            accounts.rotate(db, number, behind=True)
            return jsonify(next(one for one in accounts.everything(db) if one["id"] == number))

    @control.route("/", defaults={"_path": ""}, methods=["GET", "POST", "DELETE"])
    @control.route("/<path:_path>", methods=["GET", "POST", "DELETE"])
    def nothing_here(_path: str) -> tuple[Response, int]:
        return jsonify({"error": f"no such control path; the service itself is below {API_PATH}"}), 404

    app.register_blueprint(control)
