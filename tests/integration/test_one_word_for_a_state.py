# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A state of a consumer has the same name wherever it is reported."""

from __future__ import annotations

from pathlib import Path

from tests.integration.harness import Fleet


def test_o7_a_restart_that_is_due_is_called_so_by_deploy_audit_and_rotate(fleet: Fleet, tmp_path: Path) -> None:
    fleet.add("web1", "acme.of-before", multicart_deploy_commands=[f"test -e {tmp_path}/works"])
    told = {"deploy": fleet.deploy(), "audit": fleet.audit(), "rotate": fleet.rotate()}
    states = {name: run.own["web1"].result["state"] for name, run in told.items()}
    assert states == dict.fromkeys(told, "restart_due")
    assert all("restart due" in run.output.lower() and "stale" not in run.output for run in told.values())
    assert fleet.rotations == 0
