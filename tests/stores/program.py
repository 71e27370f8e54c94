# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program as a user would write it for a store of the type ``command``: a JSON file, by inspect, write and note."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

place, verb = Path(sys.argv[1]), sys.argv[2]
kept = json.loads(place.read_text())


def save(content):
    draft = place.with_suffix(".new")
    draft.write_text(json.dumps(content))
    draft.replace(place)


seen = place.with_suffix(".seen")
with seen.open("a") as log:
    log.write(repr((sys.argv, dict(os.environ))) + "\n")
if verb == "write" and "fault_at_write" in kept:
    kept["fault"] = kept.pop("fault_at_write")
    save(kept)
if verb == "write" and "meets_at_write" in kept:  # as many others as there are to be
    folder, number = kept.pop("meets_at_write")
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < number:
        time.sleep(0.02)
if kept["fault"] == "down":
    sys.exit("canary on standard error")
if kept["fault"] == "hang":
    time.sleep(60)
if kept["fault"] == "malformed":
    print("[]")
    sys.exit()
if verb == "inspect":
    key = kept["key"]
    print(
        json.dumps(
            {
                "fingerprint": key and hashlib.sha256(key.encode()).hexdigest()[:16],
                "record": kept["record"],
                "writable": kept["fault"] != "read_only",
                "reason": "canary of what it says",
                "version": "7",
            }
        )
    )
elif verb == "write":
    kept["key"] = kept["key"] if kept["fault"] == "forgets" else sys.stdin.read()
    save(kept)
    time.sleep(60 * kept.get("hang_after_the_write", 0))
    print("{}")
else:
    while kept.get("hold_at_note") and not place.with_suffix(".go").exists():
        time.sleep(0.05)
    kept["record"] = json.load(sys.stdin)
    save(kept)
    print("{}")
