# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.
"""JSON over HTTP, for the types of stores that are a web service's API and have no library of their own for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.multicart.keys.plugins.plugin_utils._stores.protocol import (
    ANSWERING,
    Conflict,
    StoreError,
    failure_of,
    library,
    parsed,
    session_to,
    unreachable,
)


class RestApi:
    """An API.

    :param name: of the API.
    :param options: of the store: ``api_url``, ``ca_path`` and ``token``.
    :param headers: of each request.
    :param refused: what its token needs.
    :param missing: what there is not where it answers that there is nothing.
    :ivar headers: of the last answer.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], headers: Mapping[str, str], refused: str, missing: str
    ) -> None:
        self._errors = (
            library("requests", "requests").RequestException,
            library("urllib3", "requests").exceptions.HTTPError,
        )
        self._session = session_to(options["api_url"], options)
        self._session.headers.update({"Authorization": f"Bearer {options['token']}", **headers})
        self._url, self._name, self._refused, self._missing = options["api_url"], name, refused, missing
        self.headers: Mapping[str, str] = {}

    def ask(self, method: str, path: str, body: Any = None, absent: bool = False) -> Any:
        """Return an answer, empty where there is none; what it says of an error is not repeated.

        :param absent: there may be nothing of that name; the answer is None then.
        """
        try:
            with self._session.request(
                method, self._url + path, json=body, timeout=ANSWERING, allow_redirects=False
            ) as response:
                status, self.headers, content = response.status_code, response.headers, response.content
        except self._errors as error:
            raise unreachable(error) from None
        if status == 404 and absent:
            return None
        if not 200 <= status < 300:
            raise self._failure(status)
        if status == 204 or not content:
            return {}
        said = parsed(content)
        if not isinstance(said, dict):
            raise self.malformed()
        return said

    def malformed(self) -> StoreError:
        """Return what is wrong with an answer of another form."""
        return StoreError(
            "store_malformed", f"what it answers has another form than that of {self._name}: check its URL"
        )

    def _failure(self, status: int) -> StoreError | Conflict:
        limited = "Retry-After" in self.headers or self.headers.get("X-RateLimit-Remaining") == "0"
        if status == 429 or (status == 403 and limited):
            return StoreError("store_failed", f"{self._name} limits the rate of requests of its token: run again later")
        if status == 401:
            return StoreError("store_refused", "its token is not accepted: it has expired, or was revoked")
        if status == 403:
            return StoreError("store_refused", f"its token may not do this: {self._refused}")
        if status == 404:
            return StoreError("store_missing", self._missing)
        if 300 <= status < 400:
            return StoreError(
                "store_failed",
                "it answers with a redirect, which is not followed: check its URL, or whether what it is asked for "
                "was renamed",
            )
        return failure_of(status)
