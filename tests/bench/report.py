# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench found, as a table, and as claims that hold or not."""

from __future__ import annotations

from typing import Any

from tests.bench.contenders import BY_HAND, OURS
from tests.demo.screen import Screen

FLOOR = "one ping (the floor)"


def claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what must hold, and whether it does; what was not measured is left out."""
    said: list[tuple[str, bool]] = []
    hosts, fleet = list(found["hosts"].items())[-1]
    last = {by: way["last"] for by, way in fleet["ways"].items()}
    if {BY_HAND, OURS} <= last.keys():
        times = last[BY_HAND] / last[OURS]
        said.append((f"{hosts} hosts: {times:.0f} times shorter than by hand (at least 100)", times >= 100))
    if OURS in last and "floor" in fleet:
        ratio = last[OURS] / fleet["floor"]["last"]
        said.append((f"{hosts} hosts: {ratio:.3f} times a ping of the fleet (at most 0.1)", ratio <= 0.1))
    if OURS in last:
        text = f"{hosts} hosts: the last file {last[OURS]:.2f} s after the API's acceptance (at most 0.5)"
        said.append((text, last[OURS] <= 0.5))
    if "alone" in found:
        alone = found["alone"]
        seconds, ratio, memory = alone["last"], alone["last"] / alone["floor"], alone["memory_per_host"]
        where = f"{alone['hosts']} hosts, the control node alone"
        said.append((f"{where}: {seconds:.2f} s (at most 2)", seconds <= 2))
        said.append((f"{where}: {ratio:.3f} times a ping of the fleet (at most 0.1)", ratio <= 0.1))
        said.append((f"{where}: {memory:.1f} MiB a host more than a ping (at most 10)", memory <= 10))
    fleets = list(found["hosts"].values())
    sent = {
        count for each in fleets for by, way in each["ways"].items() if by.startswith(OURS) for count in way["requests"]
    }
    sent |= {found["alone"]["requests"]} if "alone" in found else set()
    if sent:
        said.append((f"requests of each rotation, whatever the size of the fleet: {sorted(sent)}", len(sent) == 1))
    if len(fleets) > 1 and all(OURS in each["ways"] for each in (fleets[0], fleets[-1])):
        grew, growth = _growth(found)
        text = f"{grew:.1f} times the hosts: an outage {growth:.1f} times as long (no more than that, but for noise)"
        said.append((text, growth <= 1.25 * grew))
    agree = [way["consumers_agree"] for each in fleets for way in each["ways"].values()]
    if agree:
        said.append(("consumers were refused as long as their files lacked the new key", all(agree)))
    return [{"claim": text, "holds": holds} for text, holds in said]


def _growth(found: dict[str, Any]) -> tuple[float, float]:
    """Return how much more hosts the largest fleet has than the smallest, and how much longer its outage is."""
    (few, small), *_between, (many, large) = found["hosts"].items()
    return many / few, large["ways"][OURS]["last"] / small["ways"][OURS]["last"]


def show(found: dict[str, Any]) -> None:
    """Print tables and claims."""
    screen = Screen()
    for hosts, fleet in found["hosts"].items():
        screen.heading(
            f"{hosts} hosts, {found['forks']} forks, {found['cores']} cores, ansible-core {found['ansible']}"
        )
        rows = [_row(by, way, hosts, fleet) for by, way in fleet["ways"].items()]
        if "floor" in fleet:
            rows.append((FLOOR, f"{fleet['floor']['last']:.2f}", *[""] * 4, "1.00", *[""] * 5))
        head = ("seconds to the new key", "last host", "restarted", "median", "spread", "by hand / it", "it / floor")
        screen.table((*head, "requests", "CPU s a host", "peak MiB", "MiB in all", "whole run"), rows)
    if "alone" in found:
        screen.heading(f"The control node alone: {found['alone']['hosts']} hosts behind a stub of ssh")
        screen.say(*_alone(found["alone"]))
    if "costs" in found:
        screen.heading("One call")
        screen.table(("", "ms"), [(name, f"{seconds * 1000:.1f}") for name, seconds in found["costs"].items()])
    screen.heading("What must hold")
    for claim in found["claims"]:
        screen.say(f"  {'ok   ' if claim['holds'] else 'FALSE'}  {claim['claim']}")


def _row(by: str, way: dict[str, Any], hosts: int, fleet: dict[str, Any]) -> tuple[str, ...]:
    by_hand, least = fleet["ways"].get(BY_HAND), fleet.get("floor")
    return (
        by,
        f"{way['last']:.2f}",
        f"{way['restarted']:.2f}" if way["restarted"] else "",
        f"{way['median']:.2f}",
        f"{min(way['all_last']):.2f}-{max(way['all_last']):.2f}",
        f"{by_hand['last'] / way['last']:.1f}" if by_hand else "",
        f"{way['last'] / least['last']:.2f}" if least else "",
        ", ".join(map(str, way["requests"])),
        f"{way['cpu'] / hosts:.3f}",
        f"{way['peak']:.0f}" if way["peak"] else "",
        f"{way['memory']:.0f}" if way["memory"] else "",
        f"{way['run']:.1f}",
    )


def _alone(alone: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"outage {alone['last']:.2f} s, the first host after {alone['first']:.2f} s; floor {alone['floor']:.1f} s",
        f"whole run: {alone['cpu_per_host']:.3f} s of processor, {alone['memory_per_host']:.1f} MiB more than a ping "
        f"for each host, {alone['peak']:.0f} MiB at the peak of one process; "
        f"floor: {alone['floor_cpu_per_host']:.3f} s, {alone['floor_peak']:.0f} MiB",
    )
