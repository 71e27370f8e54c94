# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.sandbox``: run the sandbox in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

from . import accounts
from .app import make_app
from .parent import die_with
from .shapes import API_PATH, CONTROL_PATH, DEFAULT_ACCOUNT
from .store import Store
from .tls import server_context
from .wire import Server

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _loopback(text: str) -> str:
    if text not in _LOOPBACK:
        raise argparse.ArgumentTypeError(
            f"{text!r} is refused: whoever reaches the sandbox reads every key in it, so it listens on "
            f"loopback only ({', '.join(_LOOPBACK)})"
        )
    return text


def _account(text: str) -> tuple[str, str]:
    email, colon, password = text.partition(":")
    if not (email and colon and password):
        # The text is not repeated: half of it may be a password.
        raise argparse.ArgumentTypeError("must be EMAIL:PASSWORD")
    return email, password


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox", description="A stand-in for MultiCartAPI.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, picks a free one")
    parser.add_argument("--tls", action="store_true", help="serve HTTPS; writes DIR/ca.pem")
    parser.add_argument(
        "--account",
        type=_account,
        action="append",
        metavar="EMAIL:PASSWORD",
        help=f"an account to have; repeatable (default for an empty state: {':'.join(DEFAULT_ACCOUNT)})",
    )
    parser.add_argument("--banner", action="store_true", help="say on stderr how to use it")
    # For the handle: whatever stands in argv, a password too, is shown by ps, where tests look for leaks.
    parser.add_argument("--accounts-from-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    parser.add_argument("--pdeathsig", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _banner(url: str, email: str, password: str, ca_path: Path | None) -> str:
    exports = {"MULTICART_API_URL": url, "MULTICART_EMAIL": email, "MULTICART_PASSWORD": password}
    if ca_path:
        exports["MULTICART_CA_PATH"] = str(ca_path)
    lines = ["A stand-in for MultiCartAPI is running. In another terminal:", ""]
    lines += [f"  export {name}='{value}'" for name, value in exports.items()]
    trust = f"--cacert '{ca_path}' " if ca_path else ""
    lines += [
        "  ansible-playbook -i inventory.yml multicart.keys.doctor",
        "",
        f"Its accounts, keys included: curl -sS {trust}{url.removesuffix(API_PATH)}{CONTROL_PATH}/accounts",
        "Only for test hosts: a rehearsal writes this stand-in's key into their files and restarts their services.",
        "Ctrl-C ends it; the same --state brings everything back.",
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal comes."""
    options = _arguments(argv)
    if options.parent:
        die_with(options.parent, at_once=options.pdeathsig)
    if options.accounts_from_stdin:
        options.account = [tuple(pair) for pair in json.load(sys.stdin)]
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store(options.state)
    with store.transaction() as db:
        wanted = options.account or ([] if accounts.count(db) else [DEFAULT_ACCOUNT])
        for email, password in wanted:
            accounts.make(db, email, password)
        first = accounts.everything(db)[0]

    tls, ca_path = server_context(options.state) if options.tls else (None, None)
    server = Server(options.host, options.port, make_app(store), tls)
    host = f"[{options.host}]" if ":" in options.host else options.host
    base = f"{'https' if tls else 'http'}://{host}:{server.port}"
    ready = {
        "url": base + API_PATH,
        "control": base + CONTROL_PATH,
        "pid": os.getpid(),
        "ca_path": str(ca_path.resolve()) if ca_path else None,
    }
    print(json.dumps(ready), flush=True)
    if options.banner:
        banner = _banner(base + API_PATH, first["email"], first["password"], ca_path)
        print(banner, file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
