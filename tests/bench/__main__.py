# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make bench``: for how long consumers are locked out, by hand, by this collection, and at the very least.

All is measured in one run on one machine, so that ratios mean something; absolute figures are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible

from tests.bench.alone import control_node_alone, small_costs
from tests.bench.contenders import floor, ways
from tests.bench.report import FLOOR, claims, show
from tests.bench.stage import Outage, stage_of


def main() -> int:
    """Measure, show and write down; 1 if something that is claimed does not hold."""
    options = _options()
    if os.getloadavg()[0] > 0.7:
        _say(f"This machine is busy (load {os.getloadavg()[0]:.1f}): expect noise.")
    with tempfile.TemporaryDirectory(prefix="multicart-bench-") as name:
        folder = Path(name)
        found = {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "ansible": ansible.__version__,
            "python": platform.python_version(),
            "forks": options.forks,
            "rounds": options.rounds,
            "hosts": {hosts: fleet_of(hosts, options, folder) for hosts in sorted(options.hosts)},
        }
        if options.alone:
            _say(f"{options.alone} hosts behind a stub of ssh …")
            found["alone"] = control_node_alone(folder, options.alone, options.forks)
        _say("small costs …")
        found["costs"] = small_costs(folder)
    found["claims"] = claims(found)
    from tests.bench.picture import draw  # noqa: PLC0415  # only now: it would count as memory of what was measured

    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.output / "bench.svg")
    draw(found, options.output / "bench.png")
    show(found)
    print(f"\nWritten: bench.json, bench.svg and bench.png in {options.output}")
    return 0 if all(claim["holds"] for claim in found["claims"]) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[20, 60], help="sizes of the fleet")
    parser.add_argument("--forks", type=int, default=20, help="hosts served at a time")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is done; medians are shown")
    parser.add_argument("--ways", nargs="+", choices=[*ways(), FLOOR], help="only these")
    parser.add_argument("--alone", type=int, default=1000, help="hosts for the controller alone; 0: leave it out")
    parser.add_argument("--output", type=Path, default=Path(".cache/bench"), help="where the results go")
    return parser.parse_args()


def fleet_of(hosts: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all ways on a fleet of one size, one after another in each round, each from closed connections."""
    wanted = options.ways or [*ways(), FLOOR]
    outages: dict[str, list[Outage]] = {}
    floors: list[dict[str, float]] = []
    with stage_of(hosts, folder) as (stage, sshd):
        for number in range(1, options.rounds + 1):
            for name in wanted:
                _say(f"{hosts} hosts, round {number}: {name} …")
                sshd.hang_up()
                if name == FLOOR:
                    floors.append(floor(stage, options.forks)[0])
                else:
                    outages.setdefault(name, []).append(ways()[name](stage, sshd, options.forks))
    found: dict[str, Any] = {"ways": {by: _summary(each) for by, each in outages.items()}}
    if floors:
        last = [max(answered.values()) for answered in floors]
        found["floor"] = {"last": statistics.median(last), "timeline": sorted(floors[_middle(last)].values())}
    return found


def _summary(outages: list[Outage]) -> dict[str, Any]:
    """Return the figures of one way, in seconds and MiB, as medians over the rounds."""

    def median(of: Callable[[Outage], float]) -> float:
        return float(statistics.median(of(outage) for outage in outages))

    shown = outages[_middle([outage.last for outage in outages])]
    return {
        "last": median(lambda outage: outage.last),
        "median": median(lambda outage: outage.median),
        "all_last": [outage.last for outage in outages],
        "restarted": max(shown.restarted.values(), default=None),
        "requests": sorted({outage.requests for outage in outages}),
        "cpu": median(lambda outage: outage.ran.cpu),
        "peak": median(lambda outage: outage.ran.peak),
        "memory": median(lambda outage: outage.ran.memory),
        "run": median(lambda outage: outage.ran.seconds),
        "timeline": sorted(shown.written.values()),
        "refused": {name: [seconds, shown.written[name]] for name, seconds in shown.refused.items()},
        "consumers_agree": all(outage.consumers_agree for outage in outages),
    }


def _middle(values: list[float]) -> int:
    """Return the index of the (lower) median."""
    return values.index(statistics.median_low(values))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
