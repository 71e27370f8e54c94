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
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.bench.alone import controller_alone, small_costs
from tests.bench.contenders import Way, by_hand, floor, mitogen_plugins, ours, raw_ssh
from tests.bench.stage import PAUSE, Outage, stage_of


def main() -> int:
    """Measure, show and write down."""
    options = _options()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.7:
        print(f"This machine is busy (load {os.getloadavg()[0]:.1f}): expect noise.", file=sys.stderr)
    found: dict[str, Any] = {"hosts": {}, "cores": os.cpu_count(), "forks": options.forks}
    with tempfile.TemporaryDirectory(prefix="multicart-bench-") as name:
        folder = Path(name)
        for hosts in options.hosts:
            found["hosts"][hosts] = fleet_of(hosts, options.forks, options.rounds, folder)
        found["costs"] = small_costs(folder)
        if options.alone:
            found["alone"] = controller_alone(folder, options.alone, options.forks)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, options.output / "bench.svg")
    show(found)
    print(f"\nWritten: {options.output}/bench.json and bench.svg")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[20, 60], help="sizes of the fleet")
    parser.add_argument("--forks", type=int, default=20, help="hosts served at a time")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is done; medians are shown")
    parser.add_argument("--alone", type=int, default=1000, help="hosts for the controller alone; 0: leave it out")
    parser.add_argument("--output", type=Path, default=Path(".cache/bench"), help="where the results go")
    return parser.parse_args()


def fleet_of(hosts: int, forks: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Measure all ways on a fleet of one size, one after another in each round."""
    ways: list[Way] = [by_hand, ours("linear"), ours("free"), raw_ssh]
    if mitogen_plugins():
        ways.insert(3, ours("mitogen_linear"))
    outages: dict[str, list[Outage]] = {}
    floors: list[dict[str, float]] = []
    with stage_of(hosts, folder) as (stage, sshd):
        for _round in range(rounds):
            for way in ways:
                print(f"{hosts} hosts: {getattr(way, '__name__', '')} …", file=sys.stderr)
                sshd.hang_up()
                outage = way(stage, sshd, forks)
                check_consumers(outage)
                outages.setdefault(outage.by, []).append(outage)
            sshd.hang_up()
            floors.append(floor(stage, forks)[0])
    return {
        "ways": {by: summary(each) for by, each in outages.items()},
        "floor": {
            "last": statistics.median(max(answered.values()) for answered in floors),
            "timeline": sorted(floors[-1].values()),
        },
    }


def check_consumers(outage: Outage) -> None:
    """The consumers' own view and the files' must agree, but for the pauses between two calls."""
    for name, refused in outage.refused.items():
        seen = outage.written[name]
        assert seen - 4 * PAUSE < refused < seen + 10 * PAUSE or seen < 2 * PAUSE, (
            f"{outage.by}: {name} was refused for {refused:.2f} s, but had the new key after {seen:.2f} s"
        )


def summary(outages: list[Outage]) -> dict[str, Any]:
    """Return the figures of one way, in seconds and MiB, as medians over the rounds."""

    def median(of: Any) -> float:
        return float(statistics.median(of(outage) for outage in outages))

    return {
        "last": median(lambda outage: outage.last),
        "median": median(lambda outage: outage.median),
        "requests": outages[-1].requests,
        "cpu": median(lambda outage: outage.ran.cpu),
        "peak": median(lambda outage: outage.ran.peak),
        "run": median(lambda outage: outage.ran.seconds),
        "timeline": sorted(outages[-1].written.values()),
        "refused": asdict(outages[-1])["refused"],
    }


def show(found: dict[str, Any]) -> None:
    """Print the table and the ratios."""
    for hosts, fleet in found["hosts"].items():
        print(f"\n{hosts} hosts, {found['forks']} forks, {found['cores']} cores: seconds until hosts had the new key")
        print(f"  {'':<34}{'last':>8}{'median':>8}{'requests':>10}{'CPU':>8}{'MiB':>7}{'whole run':>11}")
        for by, way in fleet["ways"].items():
            print(
                f"  {by:<34}{way['last']:8.1f}{way['median']:8.1f}{way['requests']:10}"
                f"{way['cpu']:8.1f}{way['peak']:7.0f}{way['run']:11.1f}"
            )
        print(f"  {'one ping (the floor)':<34}{fleet['floor']['last']:8.1f}")
        hand, least = fleet["ways"]["by hand"]["last"], fleet["floor"]["last"]
        for by, way in fleet["ways"].items():
            if by != "by hand":
                print(f"  {by}: {hand / way['last']:.1f} times shorter than by hand, {way['last'] / least:.2f} × floor")
    costs = {name: f"{seconds * 1000:.1f} ms" for name, seconds in found["costs"].items()}
    print("\nA call each: " + ", ".join(f"{name} {cost}" for name, cost in costs.items()))
    if "alone" in found:
        alone = found["alone"]
        print(
            f"The controller alone, {alone['hosts']} hosts: window {alone['window']:.1f} s, of which "
            f"{alone['before_the_first_task']:.1f} s before the first task; floor {alone['floor']:.1f} s; "
            f"{alone['cpu_per_host'] * 1000:.0f} ms CPU a host and whole run, "
            f"{alone['peak_memory']:.0f} MiB at the peak (floor: {alone['floor_peak_memory']:.0f})"
        )


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw how many hosts had the new key after how long."""
    fleets = found["hosts"]
    figure = Figure(figsize=(7 * len(fleets), 5), layout="tight")
    axes = figure.subplots(1, len(fleets), squeeze=False)
    for axis, (hosts, fleet) in zip(axes[0], fleets.items(), strict=True):
        lines = {by: way["timeline"] for by, way in fleet["ways"].items()} | {"one ping": fleet["floor"]["timeline"]}
        for by, timeline in lines.items():
            axis.step([0, *timeline], range(len(timeline) + 1), where="post", label=by, ls=":" if "ping" in by else "-")
        axis.set(title=f"{hosts} hosts", xlabel="seconds after the old key died", ylabel="hosts with the new key")
        axis.set_xscale("symlog", linthresh=1)
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
