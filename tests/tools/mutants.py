# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``mutants.py [NAME ...]``: change the code in every small way, and tell which changes no unit test notices.

Works with mutmut, on a copy of the collection under its real name in ``.cache/mutants``: one for each file that is
mutated, with the tests that cover it, on the Python of mutmut alone. Fails if a change survives that ``survivors.yml``
does not explain, or fewer than `ENOUGH` of all are noticed where that is promised; and if an explanation has become
needless.

``mutants.py --again [NAME ...]`` takes what survived before once more, with the tests as they are now.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "mutants"
HERE = "ansible_collections/multicart/keys"
EXPLAINED = ROOT / "tests" / "tools" / "survivors.yml"
ENOUGH = 0.95
"""The part of all mutants that must be noticed; what is left over is explained one by one."""

CONFIG = """\
[mutmut]
source_paths = {here}/plugins
only_mutate = {here}/plugins/{source}
also_copy = {here}/tests
pytest_add_cli_args_test_selection =
{tests}
pytest_add_cli_args =
    -pno:cacheprovider
    -pno:xdist
    -knot on_the_pythons_of_managed_hosts
timeout_multiplier = 4
timeout_constant = 5
track_dependencies = false
use_git_change_detection = false
"""


class Mutated(NamedTuple):
    """A file that is mutated, and what must notice that: tests below ``tests/unit/plugins``.

    ``hosts``: most of these have hosts, which are functions of the tests' own process as long as that will do. What
    survives then meets all tests, with hosts that are processes.
    """

    source: str
    tests: tuple[str, ...]
    hosts: bool = False


MUTATED = {
    "rotation": Mutated("plugin_utils/_api/rotation.py", ("plugin_utils/test_rotation.py",)),
    "plan": Mutated("plugin_utils/_fleet/plan.py", ("plugin_utils/test_plan.py",)),
    "act": Mutated("plugin_utils/_fleet/act.py", ("plugin_utils/test_act.py",), hosts=True),
    "revocation": Mutated("plugin_utils/_api/revocation.py", ("plugin_utils/test_revocation.py",)),
    "run_cache": Mutated(
        "plugin_utils/_api/run_cache.py", ("plugin_utils/test_run_cache.py", "plugin_utils/test_operations.py")
    ),
    "host_file": Mutated("module_utils/_host_file.py", ("module_utils/test_host_file.py",)),
    "client": Mutated("plugin_utils/_api/client.py", ("plugin_utils/test_client.py",)),
    "options": Mutated("plugin_utils/_options.py", ("plugin_utils/test_options.py",)),
}
"""By the name that the command line and ``survivors.yml`` use."""

PROMISED = ("rotation", "plan", "act")
"""Those of which `ENOUGH` must be noticed."""


class Survivor(NamedTuple):
    """A change that no test notices: in which function, and the lines before and after."""

    function: str
    before: str
    after: str


def main(arguments: list[str]) -> int:
    again = "--again" in arguments
    names = [name for name in arguments if name != "--again"] or list(MUTATED)
    wrong = [line for name in names for line in run(name, again)]
    print(*wrong, sep="\n")
    return 1 if wrong else 0


def run(name: str, again: bool) -> list[str]:
    """Mutate one file; return what is wrong with what came of it, a line each."""
    copy(name, keep=again)
    command = ("run", "--max-children", os.environ.get("JOBS", "1"))
    mutmut(name, *command)  # which takes all that is new or was changed
    if again:
        mutmut(name, *command, *survivors_of(name))
    if MUTATED[name].hosts:
        (WORK / name / "mutants" / "mutmut-stats.json").unlink()  # other tests meet them now
        mutmut(name, *command, *survivors_of(name), processes=True)
    found = results(name)
    left = [mutant for mutant, how in found.items() if is_survivor(how)]
    noticed = 1 - len(left) / max(len(found), 1)
    print(f"{name}: {len(found)} mutants, {len(found) - len(left)} noticed ({noticed:.1%}).", flush=True)
    told = explained().get(name, [])
    survivors = {mutant: survivor(mutmut(name, "show", mutant)) for mutant in left}
    wrong = [
        f"{name}: nobody notices {mutant.rpartition('.')[2]} ({found[mutant]}):\n- {each.before}\n+ {each.after}"
        for mutant, each in survivors.items()
        if each not in told
    ]
    wrong += [f"{name}: needlessly explained: {each}" for each in told if each not in survivors.values()]
    if name in PROMISED and noticed < ENOUGH:
        wrong.append(f"{name}: only {noticed:.1%} are noticed, not {ENOUGH:.0%}.")
    return wrong if found else [f"{name}: there is no mutant."]


def copy(name: str, keep: bool) -> None:
    """Copy the collection to where mutmut works on it; what it knows from before is kept only on request."""
    workspace, mutated = WORK / name, MUTATED[name]
    if not keep:
        shutil.rmtree(workspace, ignore_errors=True)
    for folder in ("plugins", "tests"):
        # The times tell mutmut what has changed.
        shutil.copytree(
            ROOT / folder, workspace / HERE / folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    tests = "\n".join(f"    {HERE}/tests/unit/plugins/{test}" for test in mutated.tests)
    (workspace / "setup.cfg").write_text(CONFIG.format(here=HERE, source=mutated.source, tests=tests), encoding="utf-8")


def mutmut(name: str, *arguments: str, processes: bool = False) -> str:
    """Run mutmut and return what it prints.

    :param processes: hosts are processes.
    """
    command = [str(Path(sys.executable).with_name("mutmut")), *arguments]
    in_process = "" if processes else "1"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MULTICART_TEST_IN_PROCESS": in_process}
    done = subprocess.run(command, cwd=WORK / name, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"mutmut has failed on {name}: {done.stdout[-5000:]}{done.stderr[-5000:]}")
    return done.stdout


def results(name: str) -> dict[str, str]:
    """Return how each mutant ended."""
    said = re.findall(r"^ +(\S+): (.+)$", mutmut(name, "results", "--all", "true"), re.MULTILINE)
    return dict(said)


def survivors_of(name: str) -> list[str]:
    """Return the mutants that no test has noticed yet, and one more where there is none: mutmut takes none as all."""
    found = results(name)
    return [mutant for mutant, how in found.items() if is_survivor(how)] or list(found)[:1]


def is_survivor(how: str) -> bool:
    """Tell whether no test has noticed it; one that hangs is noticed."""
    return how not in ("killed", "timeout")


def survivor(shown: str) -> Survivor:
    """Read what ``mutmut show`` says of a mutant."""
    title, lines = shown.splitlines()[0], shown.splitlines()[1:]
    function = re.sub(r".*\.x[_ǁ](.*)__mutmut_.*", r"\1", title).replace("ǁ", ".")
    changed = [line for line in lines if line[:1] in "-+" and line[:3] not in ("---", "+++")]
    before, after = (" ".join(line[1:].strip() for line in changed if line.startswith(sign)) for sign in ("-", "+"))
    return Survivor(function, before, after)


def explained() -> dict[str, list[Survivor]]:
    """Return the survivors that are explained, by file."""
    entries = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8")) or {}
    for listed in entries.values():
        if not all(each["why"].strip() for each in listed):
            raise ValueError(f"{EXPLAINED} explains nothing")
    return {
        name: [Survivor(each["in"], each["before"], each["after"]) for each in listed]
        for name, listed in entries.items()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
