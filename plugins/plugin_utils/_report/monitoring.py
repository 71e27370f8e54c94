# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change without notice.

"""Metrics for Prometheus, the user's own programs, and the system log of the control node.

The request is checked before anything is changed. What fails afterwards is a warning, and never the result of the
run.
"""

from __future__ import annotations

import json
import os
import secrets
import syslog
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ansible_collections.multicart.keys.plugins.plugin_utils._api.rotation import Outcome
from ansible_collections.multicart.keys.plugins.plugin_utils._errors import MulticartError, Reason, clean
from ansible_collections.multicart.keys.plugins.plugin_utils._locks import hold
from ansible_collections.multicart.keys.plugins.plugin_utils._options import MONITORING, Options, invalid
from ansible_collections.multicart.keys.plugins.plugin_utils._report.data import Report
from ansible_collections.multicart.keys.plugins.plugin_utils._report.hooks import HookFailed, NotAHook, hooks_of
from ansible_collections.multicart.keys.plugins.plugin_utils._report.metrics import ForeignMetrics, merged

WAITING = 5.0
"""Seconds to wait for another run that writes metrics into the same directory."""

LOGGING = 5.0
"""Seconds in which the log of the system must take a line: one that is stuck would be waited for without end."""

LARGEST = 4 * 1024 * 1024
"""Bytes that a file of metrics may have."""

LOG_SOCKETS = ("/dev/log", "/var/run/syslog")
"""Where the log of a system listens; one of them."""


class Monitoring:
    """Metrics, hooks and the system log of one run.

    :param warn: shows a warning.
    :raises MulticartError: ``invalid_option``, ``prometheus_client_missing``.
    """

    def __init__(self, options: Options, warn: Callable[[str], object]) -> None:
        given = options.given
        self._warn = warn
        self._logged: bool = given["syslog"]
        self._metrics = Path(os.path.abspath(os.path.expanduser(given["metrics"]))) if given["metrics"] else None
        if self._metrics is not None and self._metrics.suffix != ".prom":
            raise invalid(MONITORING, "metrics", "must end in .prom, or node_exporter does not read the file")
        if self._metrics is not None and find_spec("prometheus_client") is None:
            raise MulticartError(
                Reason.PROMETHEUS_CLIENT_MISSING, "multicart_report_metrics needs the Python library prometheus_client."
            )
        try:
            self._hooks = hooks_of(given["hooks"], options.connection.secrets)
        except NotAHook as error:
            raise invalid(MONITORING, "hooks", str(error)) from None

    @property
    def tells_of_deployments(self) -> bool:
        """Whether there is anything to do for a run that cannot rotate."""
        return self._metrics is not None or bool(self._hooks)

    def tell(self, report: Report) -> None:
        """Tell of a run that has ended."""
        told = json.dumps(report.to_json()).encode()
        if self._logged and report.outcome in (Outcome.ROTATED.value, Outcome.UNKNOWN.value):
            self._try("The rotation was not logged", lambda: self._log(report))
        if self._metrics is not None and report.whole:
            path = self._metrics
            self._try(f"The metrics were not written to {path}", lambda: self._write_metrics(path, report))
        for hook in self._hooks:
            if hook.events & set(report.events):
                failed = f"A hook failed, {clean(hook.name)} of multicart_report_hooks"
                self._try(failed, partial(hook.run, told))

    def _try(self, failed: str, act: Callable[[], None]) -> None:
        try:
            act()
        except HookFailed as error:
            self._warn(f"{failed}: {error}.")
        except ForeignMetrics:
            self._warn(f"{failed}: it holds other things than metrics of this collection. Name another file.")
        except TimeoutError:
            self._warn(f"{failed}: other runs keep its directory locked.")
        except OSError as error:
            self._warn(f"{failed}: {error.strerror or type(error).__name__}.")
        except Exception as error:  # pylint: disable=broad-except  # its text could hold anything
            self._warn(f"{failed}: {type(error).__name__}.")

    def _write_metrics(self, path: Path, report: Report) -> None:
        with _alone_in(path.parent):
            try:
                # A pipe of that name would be waited for.
                with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
                    before = file.read(LARGEST + 1) or b""
            except FileNotFoundError:
                before = b""
            if len(before) > LARGEST:
                raise ForeignMetrics
            # Anybody may read them: node_exporter is another user.
            write_all({path: merged(report, before)}, mode=0o644)

    def _log(self, report: Report) -> None:
        level = syslog.LOG_NOTICE if report.reason is None else syslog.LOG_WARNING
        logging = threading.Thread(target=_to_syslog, args=(level, log_record(report)), daemon=True)
        logging.start()
        logging.join(LOGGING)
        if logging.is_alive():
            self._warn(f"The rotation was not logged: the system log took nothing for {LOGGING:g} s.")
        elif not any(map(os.path.exists, LOG_SOCKETS)):
            self._warn(f"The rotation was not logged: no system log listens here ({' or '.join(LOG_SOCKETS)}).")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs from writing metrics in a directory.

    :raises TimeoutError: they do.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        hold(lock, WAITING)
        yield
    finally:
        os.close(lock)


def _to_syslog(level: int, line: str) -> None:
    syslog.openlog("multicart.keys", syslog.LOG_PID, syslog.LOG_AUTH)
    syslog.syslog(level, line)
    syslog.closelog()


def log_record(report: Report) -> str:
    """Return the line that the log of the system gets of a rotation."""
    told = {
        "account": report.account,
        "outcome": report.outcome,
        "reason": report.reason,
        "old_key": report.old_key and report.old_key.fingerprint,
        "new_key": report.new_key and report.new_key.fingerprint,
        "consumers": len(report.lines),
        "unfinished": len(report.unfinished),
    }
    return clean(" ".join(f"{name}={json.dumps(value)}" for name, value in told.items()))


def write_all(contents: Mapping[Path, bytes], mode: int | None = None) -> None:
    """Write all files or none; each appears at once and whole, or not at all.

    :param mode: of the files; None: as the user's umask says.
    """
    drafts = {path.with_name(f".{path.name}.{secrets.token_hex(8)}"): path for path in contents}
    written: list[Path] = []
    try:
        for draft, path in drafts.items():
            with draft.open("xb") as file:
                written.append(draft)
                file.write(contents[path])
                if mode is not None:
                    # Not by the path: the owner of the directory could put a link to another file there.
                    os.fchmod(file.fileno(), mode)
        for draft, path in drafts.items():
            draft.replace(path)
            written[written.index(draft)] = path
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
