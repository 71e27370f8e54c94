# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.demo.picture``: the picture of a report in the documentation, from the report that make demo kept.

It needs chromium, and Pillow, which nothing else here does: python -m pip install pillow.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .stage import KEPT

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst" / "report.png"
_WIDTH = 1000
_TALLEST = 4000
_COLOURS = 48
_WITHOUT_THE_REST = "<style>section:has(#timeline) ~ *, footer { display: none }</style>"


def main() -> int:
    """Make the picture and say where it is."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    report = KEPT / "report.html"
    if chromium is None or not report.exists():
        print("chromium is missing, or there is no report: run make demo first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page, taken = Path(folder) / "report.html", Path(folder) / "report.png"
        page.write_text(report.read_text(encoding="utf-8") + _WITHOUT_THE_REST, encoding="utf-8")
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--blink-settings=preferredColorScheme=1", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={_WIDTH},{_TALLEST}", f"--screenshot={taken}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        image = importlib.import_module("PIL.Image").open(taken).convert("RGB")
        # The page ends before the window does: what follows its last line has the colour of its lower edge.
        edge = importlib.import_module("PIL.Image").new("RGB", image.size, image.getpixel((0, _TALLEST - 1)))
        bottom = importlib.import_module("PIL.ImageChops").difference(image, edge).getbbox()[3]
        cropped = image.crop((0, 0, _WIDTH, min(bottom + 24, _TALLEST)))
        cropped.quantize(_COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}, {PICTURE.stat().st_size // 1024} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
