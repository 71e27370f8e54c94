# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate for loopback, and the authority that vouches for it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

_NAMES = ("127.0.0.1", "::1", "localhost", "api.example")


def server_context(state_dir: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the server's TLS context and the path of ``ca.pem``.

    Both are made once for a state directory: a restarted server is the same server to all that trusted it.
    """
    ca_path, server_path = state_dir / "ca.pem", state_dir / "server.pem"
    if not (ca_path.exists() and server_path.exists()):
        authority = trustme.CA()
        certificate = authority.issue_cert(*_NAMES)
        server_path.touch(mode=0o600)
        certificate.private_key_and_cert_chain_pem.write_to_path(server_path)
        authority.cert_pem.write_to_path(ca_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_path)
    return context, ca_path
