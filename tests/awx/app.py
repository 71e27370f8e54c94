# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API over HTTP, in a thread of the test's own process."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

from .resources import RESOURCES, ROLES, UNIFIED
from .rules import Refused, refused_answers
from .store import ENCRYPTED, ZONES, Forbidden, Object, Store

_API = "/api/v2"
_PLATFORM = "/api/controller/v2"  # where Red Hat's platform has it
_LOOKUPS: dict[str, Callable[[str, str], bool]] = {
    "__contains": lambda value, wanted: wanted in value,
    "__startswith": lambda value, wanted: value.startswith(wanted),
    "__in": lambda value, wanted: value in wanted.split(","),
}
_PAGE = 2  # AWX has 25; here every list that matters has several pages


@dataclass(frozen=True)
class Request:
    """What was sent."""

    method: str
    path: str
    body: Any


@dataclass(frozen=True)
class User:
    """Whose token it is.

    :ivar superuser: otherwise, one who manages the organizations, or only launches what is there.
    :ivar admin: of all organizations.
    :ivar scope: of the token: one with ``read`` changes nothing, whatever the user may do.
    """

    superuser: bool = True
    admin: bool = True
    scope: str = "write"

    def may(self, method: str, path: str) -> bool:
        if method == "GET":
            return True
        return self.scope == "write" and self.admin and (self.superuser or not path.startswith("credential_types"))


class _Silent(WSGIRequestHandler):
    """Says nothing about the requests, which are recorded."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class Awx:
    """A running stand-in; to be used in a ``with`` statement.

    :ivar token: one of a superuser.
    :ivar users: the users by their tokens.
    :ivar left: after how many requests that change something it breaks down, if it does.
    :ivar watch: is called after every request that may have changed something.
    :ivar launched: what was launched: the id of the template, and what of the request counted.
    :ivar forbidden: pairs of method and path below /api/v2/ for which this user lacks the permission.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.token = secrets.token_hex(15)
        self.users = {self.token: User()}
        self.left: int | None = None
        self.watch: Callable[[], None] = lambda: None
        self.launched: list[tuple[int, dict[str, Any]]] = []
        self.requests: list[Request] = []
        self.forbidden: set[tuple[str, str]] = set()
        self._server = make_server("127.0.0.1", 0, self._app(), threaded=True, request_handler=_Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def writes(self) -> list[Request]:
        """The requests that were meant to change something."""
        return [one for one in self.requests if one.method != "GET"]

    def __enter__(self) -> Awx:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # --- HTTP -------------------------------------------------------------------------------------

    def _app(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.wsgi_app = _both_prefixes(app.wsgi_app)  # type: ignore[method-assign]
        app.before_request(self._admit)
        app.after_request(self._sign)
        for kind, status in ((Refused, 400), (Forbidden, 403)):
            app.register_error_handler(kind, lambda error, status=status: ({"detail": str(error)}, status))
        rule = app.add_url_rule
        rule(f"{_API}/me/", view_func=self._me)
        rule(f"{_API}/schedules/zoneinfo/", view_func=lambda: {"zones": ZONES, "links": {}})
        rule(f"{_API}/project_updates/<int:key>/", view_func=self._update)
        rule(f"{_API}/projects/<int:key>/playbooks/", view_func=self._playbooks)
        rule(f"{_API}/projects/<int:key>/update/", view_func=self._sync, methods=["POST"])
        rule(f"{_API}/<path>/", view_func=self._list, methods=["GET"])
        rule(f"{_API}/<path>/", view_func=self._create, methods=["POST"])
        rule(f"{_API}/<path>/<int:key>/", view_func=self._object, methods=["GET", "PATCH", "DELETE"])
        rule(f"{_API}/<path>/<int:key>/survey_spec/", view_func=self._survey, methods=["GET", "POST"])
        rule(f"{_API}/<path>/<int:key>/create_approval_template/", view_func=self._approval, methods=["POST"])
        rule(f"{_API}/<path>/<int:key>/launch/", view_func=self._launch, methods=["POST"])
        rule(f"{_API}/<path>/<int:key>/<name>/", view_func=self._association, methods=["GET", "POST"])
        return app

    def _admit(self) -> tuple[Any, int] | None:
        below = request.path.removeprefix(_API).strip("/")
        self.requests.append(Request(request.method, below, request.get_json(silent=True)))
        user = self._user()
        if user is None:
            return {"detail": "Authentication credentials were not provided."}, 401
        if (request.method, below) in self.forbidden or not user.may(request.method, below):
            return {"detail": "You do not have permission to perform this action."}, 403
        if request.method != "GET" and re.fullmatch(r"roles(/\d+)?", below):
            abort(405)
        if request.method != "GET" and self.left is not None:
            if self.left == 0:
                return {"detail": "A server error has occurred."}, 502
            self.left -= 1
        return None

    def _sign(self, response: Response) -> Response:
        response.headers["X-API-Product-Name"] = "AWX"
        response.headers["X-API-Product-Version"] = "24.6.1"
        if request.method != "GET":
            self.watch()
        if request.environ.get("platform") and response.is_json:
            response.set_data(response.get_data().replace(f'"{_API}/'.encode(), f'"{_PLATFORM}/'.encode()))
        return response

    def _user(self) -> User | None:
        return self.users.get(request.headers.get("Authorization", "").removeprefix("Bearer "))

    def _me(self) -> Response:
        user = self._user()
        assert user
        shown = {"id": 1, "username": "somebody", "is_superuser": user.superuser}
        return jsonify({"count": 1, "next": None, "previous": None, "results": [shown]})

    def _list(self, path: str) -> Response:
        table = self._table(path)
        return self._page([one for one in table.values() if self._matches(path, one)])

    def _create(self, path: str) -> tuple[Response, int]:
        return jsonify(self._shown(self.store.add(path, **_body()))), 201

    def _object(self, path: str, key: int) -> Response:
        if key not in self._table(path):
            abort(404)
        if request.method == "DELETE":
            self.store.remove(path, key)
            return Response(status=204)
        found = self.store.change(path, key, **_body()) if request.method == "PATCH" else self._table(path)[key]
        return jsonify(self._shown(found))

    def _survey(self, path: str, key: int) -> Response:
        if request.method == "POST":
            self.store.set_survey(key, _body())
            return jsonify({})
        return jsonify(self.store.surveys.get(key, {}))

    def _approval(self, path: str, key: int) -> tuple[Response, int]:
        return jsonify(self._shown(self.store.set_approval(self.store.objects[path][key], **_body()))), 201

    def _association(self, path: str, key: int, name: str) -> Response:
        if name not in RESOURCES[path].associations:
            abort(404)
        if request.method == "POST":
            body = _body()
            self.store.associate(path, key, name, body["id"], remove=body.get("disassociate", False))
            return Response(status=204)
        table = self.store.objects[RESOURCES[path].associations[name]]
        return self._page([table[one] for one in self.store.associations.get((key, name), [])])

    def _update(self, key: int) -> Response:
        status = self.store.ask(self.store.objects["projects"][key])
        done = "2026-01-01T00:00:00Z" if status != "running" else None
        url = f"{_API}/project_updates/{key}/"
        shown = {"id": key, "url": url, "status": status, "failed": status == "failed", "finished": done}
        return jsonify({**shown, "started": None, "elapsed": 1, "scm_revision": ""})

    def _sync(self, key: int) -> tuple[Response, int]:
        self.store.sync(self.store.objects["projects"][key])
        return self._update(key), 202

    def _playbooks(self, key: int) -> Response:
        return jsonify(self.store.objects["projects"][key]["playbook_files"])

    def _launch(self, path: str, key: int) -> tuple[Response, int]:
        """Launch it with what the template asks for; the rest is dropped without a refusal, and named."""
        template, given = self.store.objects[path][key], _body()
        survey = self.store.surveys.get(key, {}) if template["survey_enabled"] else {}
        answers = given.pop("extra_vars", {})
        asked = {question["variable"] for question in survey.get("spec", [])}
        counted = {name: value for name, value in answers.items() if name in asked}
        for complaint in refused_answers(survey, counted, complete=True):
            raise Refused(complaint)
        ignored = {name: value for name, value in given.items() if not template.get(f"ask_{name}_on_launch")}
        if rest := {name: value for name, value in answers.items() if name not in asked}:
            ignored["extra_vars"] = rest
        kept = {name: value for name, value in given.items() if name not in ignored}
        self.launched.append((key, {**kept, "extra_vars": counted}))
        return jsonify({"job": len(self.launched), "ignored_fields": ignored}), 201

    # --- representation ---------------------------------------------------------------------------

    def _table(self, path: str) -> dict[int, Object]:
        if path not in RESOURCES and path != "unified_job_templates":
            abort(404)
        return self.store.table(path)

    def _matches(self, path: str, one: Object) -> bool:
        wanted = {name: value for name, value in request.args.items() if name != "page"}
        either = {name.removeprefix("or__"): value for name, value in wanted.items() if name.startswith("or__")}
        every = {name: value for name, value in wanted.items() if not name.startswith("or__")}
        return all(self._is(path, one, name, value) for name, value in every.items()) and (
            not either or any(self._is(path, one, name, value) for name, value in either.items())
        )

    def _value(self, path: str, one: Object, name: str) -> str:
        """Return a field, or ``link__field`` of what it points to, as a query has it."""
        field, _separator, beyond = name.partition("__")
        associations = RESOURCES[path].associations if path in RESOURCES else {}
        if field not in one and field not in associations and field not in ("organization", "description", "name"):
            raise Refused(f"{name}: no such field to look for")
        if field in associations:
            return ",".join(str(key) for key in self.store.associations.get((one["id"], field), []))
        if beyond:
            return str(self.store.table(RESOURCES[path].links[field]).get(one[field], {}).get(beyond))
        return str(one.get(field))

    def _is(self, path: str, one: Object, name: str, wanted: str) -> bool:
        for lookup, fits in _LOOKUPS.items():
            if name.endswith(lookup):
                return fits(self._value(path, one, name.removesuffix(lookup)), wanted)
        return self._value(path, one, name) == wanted

    def _page(self, found: list[Object]) -> Response:
        number = int(request.args.get("page", "1"))
        query = urlencode({**request.args, "page": number + 1})
        following = f"{request.path}?{query}" if len(found) > number * _PAGE else None
        shown = [self._shown(one) for one in found[(number - 1) * _PAGE : number * _PAGE]]
        return jsonify({"count": len(found), "next": following, "previous": None, "results": shown})

    def _shown(self, one: Object) -> Object:
        path = next(path for path, table in self.store.objects.items() if one["id"] in table)
        url = f"{_API}/{path}/{one['id']}/"
        related = {name: f"{url}{name}/" for name in RESOURCES[path].associations}
        shown = {**one, "type": RESOURCES[path].kind, "url": url, "related": related, "summary_fields": {}}
        if path == "organizations":
            user = self._user()
            shown["summary_fields"] = {"user_capabilities": {"edit": bool(user and user.admin)}}
        if path in ROLES:
            roles = self.store.select("roles", content_object=one["id"])
            named = {role["role_field"]: {"id": role["id"], "name": role["role_field"]} for role in roles}
            shown["summary_fields"] = {"object_roles": named}
        if path == "workflow_job_template_nodes":
            shown.update({name: self.store.associations.get((one["id"], name), []) for name in related})
        if path in ("job_templates", "workflow_job_templates"):
            related["survey_spec"] = f"{url}survey_spec/"
        if path == "projects":
            shown["scm_revision"] = ""
            related["update"] = f"{url}update/"
            if one["status"] == "running":
                shown["summary_fields"] = {"current_update": {"id": one["id"]}}
        if path == "credentials":
            hidden = self.store.secret_inputs(one)
            shown["inputs"] = {name: ENCRYPTED if name in hidden else value for name, value in one["inputs"].items()}
        if one.get("unified_job_template"):
            key = one["unified_job_template"]
            kind = next(kind for kind in UNIFIED if key in self.store.objects[kind])
            related["unified_job_template"] = f"{_API}/{kind}/{key}/"
        return shown


def _both_prefixes(app: Any) -> Any:
    """Serve the API below the prefix of the platform, too."""

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith(_PLATFORM):
            environ.update(PATH_INFO=_API + environ["PATH_INFO"].removeprefix(_PLATFORM), platform=True)
        return app(environ, start_response)

    return serve


def _body() -> dict[str, Any]:
    body = request.get_json()
    if not isinstance(body, Mapping):
        raise Refused("the body must be an object")
    return dict(body)
