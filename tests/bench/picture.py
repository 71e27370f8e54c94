# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench found, as a picture. In a module of its own, as a process that has loaded matplotlib is large, and
Linux counts that size for the peak memory of what it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tests.bench.contenders import OURS
from tests.bench.report import FLOOR


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw how many hosts had the new key after how long."""
    pictures = {f"{hosts} hosts": _lines(fleet) for hosts, fleet in found["hosts"].items()}
    if "alone" in found:
        alone = found["alone"]
        lines = {OURS: alone["timeline"], FLOOR: alone["floor_timeline"]}
        pictures[f"the control node alone, {alone['hosts']} hosts"] = lines
    figure = Figure(figsize=(7 * len(pictures), 5), layout="constrained")
    axes = figure.subplots(1, len(pictures), squeeze=False)[0]
    styles = {
        by: f"C{number}" for number, by in enumerate(dict.fromkeys(by for each in pictures.values() for by in each))
    }
    for axis, (title, lines) in zip(axes, pictures.items(), strict=True):
        for by, timeline in lines.items():
            line = ":" if by == FLOOR else "-"
            axis.step([0, *timeline], range(len(timeline) + 1), where="post", label=by, color=styles[by], ls=line)
        axis.set(title=title, xlabel="seconds after the old key was revoked", ylabel="hosts with the new key")
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
        axis.xaxis.set_major_formatter("{x:g}")
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    figure.suptitle(f"{found['forks']} forks, {found['cores']} cores, ansible-core {found['ansible']}")
    figure.savefig(path, dpi=100)


def _lines(fleet: dict[str, Any]) -> dict[str, list[float]]:
    lines = {by: way["timeline"] for by, way in fleet["ways"].items()}
    return {**lines, FLOOR: fleet["floor"]["timeline"]} if "floor" in fleet else lines
