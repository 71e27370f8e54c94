# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench found, as a table, and as claims that hold or not."""

from __future__ import annotations

from typing import Any

from tests.bench.contenders import BY_HAND, MITOGEN, OURS
from tests.demo.screen import Screen

FLOOR = "one ping (the floor)"


def claims(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what must hold, and whether it does; what was not measured is left out."""
    said: list[tuple[str, bool]] = []
    hosts, fleet = list(found["hosts"].items())[-1]
    last = {by: way["last"] for by, way in fleet["ways"].items()}
    if {BY_HAND, OURS} <= last.keys():
        times = last[BY_HAND] / last[OURS]
        said.append((f"{hosts} hosts: {times:.1f} times shorter than by hand (at least 5)", times >= 5))
    if OURS in last and "floor" in fleet:
        ratio = last[OURS] / fleet["floor"]["last"]
        said.append((f"{hosts} hosts: {ratio:.2f} times the floor (at most 1)", ratio <= 1))
    if OURS in last:
        foretold = fleet["ways"][OURS]["foretold"]
        text = (
            f"{hosts} hosts: {foretold:.1f} s were foretold, and {last[OURS]:.1f} s it was (at most twice either way)"
        )
        said.append((text, 0.5 <= last[OURS] / foretold <= 2))
    if MITOGEN in last and "floor" in fleet:
        ratio = fleet["floor"]["last"] / last[MITOGEN]
        said.append((f"{hosts} hosts: with Mitogen {ratio:.1f} times below the floor (at least 2)", ratio >= 2))
    if "alone" in found:
        ratio = found["alone"]["last"] / found["alone"]["floor"]
        said.append(
            (
                f"{found['alone']['hosts']} hosts, the controller alone: {ratio:.2f} times the floor (at most 1.3)",
                ratio <= 1.3,
            )
        )
    fleets = list(found["hosts"].values())
    sent = {
        count for each in fleets for by, way in each["ways"].items() if by.startswith(OURS) for count in way["requests"]
    }
    sent |= {found["alone"]["requests"]} if "alone" in found else set()
    if sent:
        said.append((f"requests of each rotation, whatever the size of the fleet: {sorted(sent)}", len(sent) == 1))
    if len(fleets) > 1 and all(OURS in each["ways"] for each in (fleets[0], fleets[-1])):
        grew, growth = _growth(found)
        text = f"{grew:.1f} times the hosts: a window {growth:.1f} times as long (no more than that, but for noise)"
        said.append((text, growth <= 1.25 * grew))
    agree = [way["consumers_agree"] for each in fleets for way in each["ways"].values()]
    if agree:
        said.append(("consumers were refused as long as their files lacked the new key", all(agree)))
    return [{"claim": text, "holds": holds} for text, holds in said]


def _growth(found: dict[str, Any]) -> tuple[float, float]:
    """Return how much more hosts the largest fleet has than the smallest, and how much longer its window is."""
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
            rows.append((FLOOR, f"{fleet['floor']['last']:.2f}", "", "", "", "1.00", "", "", "", ""))
        head = ("seconds to the new key", "last host", "median", "spread", "by hand / it", "it / floor")
        screen.table((*head, "requests", "CPU s a host", "peak MiB", "whole run"), rows)
    if "alone" in found:
        screen.heading(f"The controller alone: {found['alone']['hosts']} hosts behind a stub of ssh")
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
        f"{way['median']:.2f}",
        f"{min(way['all_last']):.2f}-{max(way['all_last']):.2f}",
        f"{by_hand['last'] / way['last']:.1f}" if by_hand else "",
        f"{way['last'] / least['last']:.2f}" if least else "",
        ", ".join(map(str, way["requests"])),
        f"{way['cpu'] / hosts:.3f}",
        f"{way['peak']:.0f}" if way["peak"] else "",
        f"{way['run']:.1f}",
    )


def _alone(alone: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"window {alone['last']:.1f} s, the first host after {alone['first']:.2f} s; floor {alone['floor']:.1f} s",
        f"whole run: {alone['cpu_per_host']:.3f} s of processor a host, {alone['peak']:.0f} MiB at the peak; "
        f"floor: {alone['floor_cpu_per_host']:.3f} s, {alone['floor_peak']:.0f} MiB",
    )
