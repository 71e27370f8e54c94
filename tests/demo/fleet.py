# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo's consumers: what each one's file looks like, and its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .consumer import key_in
from .outage import Outage, outage_in

KEY = b"{{ multicart_key }}"
"""Where the key goes, in the shapes below as in the template."""
MASK = "•" * 16
FILES = Path(__file__).with_name("files")
TEMPLATE = FILES / "templates" / "billing.json.j2"


@dataclass(frozen=True)
class Shape:
    """The file of one consumer before anything happens; the inventory names the same files."""

    consumer: str
    file: str
    remark: str
    content: bytes
    variable: str = "MULTICART_API_KEY"


SHAPES = (
    Shape("shop-web", ".env", "plain", b"PORT=8080\nMULTICART_API_KEY=" + KEY + b"\nLOG_LEVEL=info\n"),
    Shape("shop-worker", "worker.env", "for a shell", b"export MULTICART_API_KEY=" + KEY + b'\nexport QUEUES="a b"\n'),
    Shape("price-sync", "sync.env", "quoted, remark", b"MULTICART_API_KEY='" + KEY + b"'  # ask Kim first\nEVERY=60\n"),
    Shape("stock-import", "stock.env", "Windows", b'SITE=North\r\nMULTICART_API_KEY="' + KEY + b'"\r\nRETRIES=3\r\n'),
    Shape(
        "label-printer",
        "printer.env",
        "no last newline",
        b"# SHOP_KEY=paste-it-here\nSHOP_KEY=" + KEY,
        variable="SHOP_KEY",
    ),
    Shape("billing", "billing.json", "from a template", TEMPLATE.read_bytes(), variable="multicart_api_key"),
)


class Consumer:
    """One consumer: a directory with its file, its log and a process."""

    def __init__(self, shape: Shape, home: Path, service: str) -> None:
        self.shape = shape
        self.name = shape.consumer
        self.file = home / shape.file
        self._home = home
        self._service = service

    def prepare(self, key: str) -> None:
        """Make its directory, with the key in its file."""
        self._home.mkdir(parents=True)
        self.file.touch(mode=0o600)
        self.file.write_bytes(self._content(key))
        settings = {
            "name": self.name,
            "file": self.shape.file,
            "variable": self.shape.variable,
            "service": self._service,
            "guardian": os.getpid(),
        }
        (self._home / "consumer.json").write_text(json.dumps(settings, indent=2) + "\n")

    def do(self, command: str) -> bool:
        """Run ``consumer.py`` with restart, stop or health, and tell whether that succeeded."""
        script = Path(__file__).with_name("consumer.py")
        arguments = [sys.executable, str(script), command, str(self._home)]
        return subprocess.run(arguments, check=False, stdout=subprocess.DEVNULL).returncode == 0

    def key(self) -> str:
        """Return the key in its file, read as the program reads it; nothing when that is impossible."""
        try:
            return key_in(self.file, self.shape.variable)
        except ValueError:
            return ""

    def holds(self, key: str) -> bool:
        """Tell whether this is the key in its file."""
        return self.key() == key

    def masked_line(self, key: str) -> str:
        """Return the line that holds the key, with the key masked and a carriage return made visible."""
        for line in self.file.read_bytes().decode().split("\n"):
            if key in line:
                return line.strip(" ").replace(key, masked(key)).replace("\r", "\\r")
        return "(not this key)"

    def differs_only_in(self, key: str) -> bool:
        """Tell whether every byte of its file but the key is as it was prepared."""
        return self.file.read_bytes() == self._content(key)

    def outage(self) -> Outage:
        """Return what it has noticed up to now."""
        return outage_in((self._home / "calls.log").read_text().splitlines())

    def _content(self, key: str) -> bytes:
        return self.shape.content.replace(KEY, key.encode())


def masked(key: str) -> str:
    """Return a key as it may be shown: its public prefix and a mask."""
    return f"{key.partition('.')[0]}.{MASK}"
