# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The most telling jobs on the oldest ansible-core that is supported, and on the newest that there is.

Each gets an environment of its own in .cache, made when first needed. The runner stays the one of the tests.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.awx import test_attacker_awx_launcher as launch
from tests.integration.awx import test_awx_jobs as jobs
from tests.integration.awx import test_awx_slices as slices
from tests.integration.awx.job import Awx
from tests.integration.harness import Fleet

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "ansible"
CORES = {
    "ansible-core==2.16.*": ("3.10", "3.11", "3.12"),
    "ansible-core>=2.21": ("3.14", "3.13", "3.12"),
}
"""And the Pythons on which it runs, best first."""
SCENARIOS: dict[str, Callable[[Fleet, Awx], None]] = {
    "rotation": jobs.test_a_rotation_and_its_relaunch,
    "deployment": jobs.test_an_audit_is_red_until_a_deployment_has_run,
    "check": jobs.test_a_check_changes_nothing,
    "cancelled": lambda fleet, awx: jobs.test_a_cancelled_job_is_finished_by_a_relaunch(
        fleet, awx, jobs.carried_out, True
    ),
    "outlived": jobs.test_what_outlives_a_killed_job_does_no_harm_to_its_relaunch,
    "no-template": launch.test_an_answer_is_no_template,
    "deployment-in-slices": slices.test_slices_of_a_deployment_follow_a_rotation_that_happens_meanwhile,
    "provisioning-in-slices": lambda fleet, awx: slices.test_slices_of_a_provisioning_playbook_that_rotates(
        fleet, awx, True
    ),
}


def find_python(versions: tuple[str, ...]) -> str:
    """Return the best Python on the path; what is found may be a shim that only says that there is none."""
    for version in versions:
        path = shutil.which(f"python{version}")
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    pytest.skip(f"none of these Pythons is here: {', '.join(versions)}")


def install(core: str) -> Path:
    """Return the folder with the commands of an ansible-core."""
    version = re.sub("[^0-9.]", "", core).strip(".")
    folder = CACHE / version
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "made"
        if not made.exists():
            subprocess.run([find_python(CORES[core]), "-m", "venv", "--clear", folder], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, core, "requests"], check=True)
            made.touch()
    return folder / "bin"


@pytest.mark.full
@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=name) for name, scenario in SCENARIOS.items()])
@pytest.mark.parametrize("core", CORES)
def test_on_the_oldest_and_the_newest(
    fleet: Fleet, awx: Awx, core: str, scenario: Callable[[Fleet, Awx], None]
) -> None:
    awx.ansible = install(core)
    scenario(fleet, awx)
