# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Ansible community package requires of a collection, and nothing else here tests; see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.multicart.keys.plugins.doc_fragments.attributes import ModuleDocFragment

from tests.tools import lock

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"
UTILS = [path for kind in ("module_utils", "plugin_utils") for path in sorted((PLUGINS / kind).rglob("*.py"))]
# Of Ansible, and plugin_utils.
FOLDERS = {"action", "doc_fragments", "lookup", "module_utils", "modules", "plugin_utils", "test"}
# What finds other files by its own path: they are below plugins, too.
READ_BESIDE_THEM = {"page.py", "program.py", "store_link.py"}
CORES = list(lock.cores())


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


CI, RELEASE = load(".github/workflows/ci.yml"), load(".github/workflows/release.yml")


@pytest.mark.parametrize("path", UTILS, ids=lambda path: path.name)
def test_utils_are_private_and_say_so(path: Path) -> None:
    assert any(part.startswith("_") for part in path.relative_to(PLUGINS).parts)
    assert "\n# Private to this collection: it may change without notice.\n" in path.read_text(encoding="utf-8")


def test_there_are_only_folders_that_ansible_knows() -> None:
    assert {path.name for path in PLUGINS.iterdir() if path.name != "__pycache__"} <= FOLDERS


def test_the_oldest_ansible_core_is_the_same_everywhere() -> None:
    assert load("meta/runtime.yml")["requires_ansible"] == f">={CORES[0]}.0"
    for role in (ROOT / "roles").iterdir():
        assert load(f"roles/{role.name}/meta/main.yml")["galaxy_info"]["min_ansible_version"] == CORES[0]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"ansible-core (\d\.\d+) to (\d\.\d+)", readme) == [(CORES[0], CORES[-1])]


def test_ci_runs_on_every_ansible_core_between_the_oldest_and_the_newest() -> None:
    numbers = [int(core.partition(".")[2]) for core in CORES]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert CI["jobs"]["matrix"]["strategy"]["matrix"]["core"] == CORES


def test_ci_runs_for_every_pull_request_and_weekly() -> None:
    assert {"pull_request", "schedule"} <= set(CI["on"])
    not_always = {name for name, job in CI["jobs"].items() if "if" in job}
    assert not_always == {"weekly"}  # longer searches by the same tests


def test_the_tests_that_ci_chooses_exist() -> None:
    chosen = re.findall(r"test_\w+", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    there = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert chosen and set(chosen) <= there


def test_sanity_runs_on_the_commit_that_is_released() -> None:
    steps = [str(step.get("run")) for step in RELEASE["jobs"]["tarball"]["steps"]]
    (checked,) = (number for number, run in enumerate(steps) if re.search(r"\bmake\b.*\bsanity\b", run))
    (released,) = (number for number, run in enumerate(steps) if "gh release create" in run)
    assert checked < released


def test_no_sanity_test_is_ignored() -> None:
    assert not list((ROOT / "tests" / "sanity").glob("ignore*"))


def test_no_module_both_changes_something_and_queries() -> None:
    for path in sorted((PLUGINS / "modules").glob("*.py")):
        texts = {
            ast.unparse(each.targets[0]): ast.literal_eval(each.value)
            for each in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
        }
        assert {"DOCUMENTATION", "EXAMPLES", "RETURN"} <= set(texts)
        about = yaml.safe_load(texts["DOCUMENTATION"])
        only_reads = "multicart.keys.attributes.info" in about["extends_documentation_fragment"]
        assert only_reads == path.stem.endswith("_info")
        values = {value for option in (about["options"] or {}).values() for value in option.get("choices", ())}
        assert not values & {"get", "info", "list", "query"}


def test_which_pythons_of_managed_nodes_are_not_supported_is_said() -> None:
    assert (
        "with Python 3.6 or later" in yaml.safe_load(ModuleDocFragment.POSIX)["attributes"]["platform"]["description"]
    )
    for path in sorted((PLUGINS / "modules").glob("*.py")):
        on_control_node = "on the control node" in (text := path.read_text(encoding="utf-8")).partition("EXAMPLES")[0]
        assert on_control_node or "  - multicart.keys.attributes.posix\n" in text, path.name


def test_nothing_outside_of_what_ansible_keeps_is_read() -> None:
    installed = [path for name in ("plugins", "roles", "playbooks") for path in (ROOT / name).rglob("*.*")]
    code = {path: path.read_text(encoding="utf-8") for path in installed if path.suffix in (".py", ".yml", ".j2")}
    assert not [
        path for path, text in code.items() if re.search(r"playbook_dir|\.\./\.\./|multicart\.keys\.tests", text)
    ]
    finders = {path.name for path, text in code.items() if re.search(r"__file__|getsource", text)}
    assert finders <= READ_BESIDE_THEM


def test_what_the_readme_must_say() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "https://docs.ansible.com/ansible/latest/community/code_of_conduct.html" in readme
    assert "https://semver.org" in readme
