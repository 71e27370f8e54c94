# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of file in real runs, one on each host: refused before anything is rotated, or right with its template."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ansible_collections.multicart.keys.tests.readers.other_forms import FOREIGN, NAME, with_live
from ansible_collections.multicart.keys.tests.readers.page import READ, TEMPLATES, render
from ansible_collections.multicart.keys.tests.readers.programs import PROGRAMS
from ansible_collections.multicart.keys.tests.readers.real_readers import NotHere

from tests.integration.harness import Fleet, note

KINDS = (
    *("systemd drop-in", "supervisor", "uwsgi", "php-fpm", "nginx header", "Apache", "compose, list"),
    *("Kubernetes Secret, stringData", "JSON", "TOML", "YAML", "properties", "fish", "wp-config", "crontab"),
    *("key file", "curlrc", "another variable of an environment file", "NAME: value"),
)
MODULES = """
- multicart.keys.multicart_env_file: &file
    path: "{{ multicart_deploy_files[0].path }}"
    value: "{{ lookup('multicart.keys.multicart_key') }}"
  check_mode: true
  ignore_errors: true
- multicart.keys.multicart_env_file: *file
  ignore_errors: true
- multicart.keys.multicart_env_file_info:
    path: "{{ multicart_deploy_files[0].path }}"
"""


def spread(fleet: Fleet, entries: list[dict[str, str]]) -> list[Path]:
    """Make hosts, some files on each; return the path of each file."""
    paths = []
    for start in range(0, len(entries), 5):
        host, files = fleet.add(f"web{start}", None, multicart_deploy_files=[]), entries[start : start + 5]
        paths += [host.folder / f"file{number}.env" for number in range(len(files))]
        host.variables["multicart_deploy_files"] = [
            {**entry, "path": str(path)} for entry, path in zip(files, paths[start:], strict=True)
        ]
    return paths


def test_t1_nothing_is_rotated_while_a_file_holds_the_key_in_another_form(fleet: Fleet) -> None:
    """In check mode, by the roles, in audit, by the doctor and by the modules."""
    good = fleet.add("good")
    told = []
    for path, kind in zip(spread(fleet, [{}] * len(KINDS)), KINDS, strict=True):
        text, line = FOREIGN[kind]
        path.write_text(with_live(text, fleet.live))
        told.append(f"{path}: line {line}: ")
    before = fleet.snapshot()
    runs = [fleet.rotate("--check"), fleet.rotate(), fleet.audit(), fleet.deploy()]
    assert [run.green for run in runs] == [False] * len(runs)
    assert [run.reason for run in runs] == ["not_ready", "not_ready", "not_up_to_date", "other_form"], runs
    doctor = fleet.run("multicart.keys.doctor")
    said = [*(run.message for run in runs), "\n".join(doctor.of("multicart_fleet_info")[-1]["msg"])]
    for run, text in zip([*runs, doctor], said, strict=True):
        missing = [line for line in told if line not in text]
        assert not missing, f"{missing}: {run}"
    run = fleet.play(MODULES, hosts="all:!good")
    changes, inspections = run.of("multicart_env_file"), run.of("multicart_env_file_info")
    assert len(changes) == 2 * len(inspections) == 2 * (len(fleet.hosts) - 1), run
    assert {task["reason"] for task in (*changes, *inspections)} == {"other_form"}
    for task in changes:  # the other module does not know the key
        assert any(line in task["msg"] for line in told), run
    good.record_path().unlink()  # by the deployment
    after = fleet.snapshot()
    assert (after.keys(), fleet.rotations) == (before.keys(), 0)
    assert {path for path in after if after[path] != before[path]} <= {str(good.folder)}


def test_t1_with_a_template_every_kind_is_rotated_and_read_by_its_program(fleet: Fleet) -> None:
    sources = [fleet.folder / f"template{number}" for number in range(len(TEMPLATES))]
    entries = [{"template": str(source)} for source in sources]
    *files, alone, crontab = spread(fleet, [*entries, {"format": "key"}, {}])
    for source, file, (title, template) in zip(sources, files, TEMPLATES.items(), strict=True):
        source.write_text(template)
        file.write_text(render(title, fleet.live))
    alone.write_text(f"{fleet.live}\n")
    crontab.write_text(render("crontab", fleet.live))
    run = fleet.rotate()
    assert (run.green, fleet.rotations, fleet.stale) == (True, 1, []), run
    assert alone.read_text() == f"{fleet.live}\n"
    assert crontab.read_text() == render("crontab", fleet.live)
    for title, file in zip(TEMPLATES, files, strict=True):
        assert file.read_text() == render(title, fleet.live)
        with suppress(NotHere):  # tests/unit/docs names what is missing
            assert READ[title](file.read_text()) == fleet.live
            assert title not in PROGRAMS or PROGRAMS[title](file) == fleet.live


KEEP_A_KEY = {
    f"{NAME}={{{{ their_key }}}}\n": "does not contain the variable multicart_key",
    f"{NAME}={{{{ multicart_key }}}}\nAGAIN={{{{ their_key }}}}\n": "has the key from somewhere else",
    f"{NAME}={{{{ multicart_key }}}}\nAGAIN={{{{ their_key | b64encode }}}}\n": "has the key from somewhere else",
    f"# {{{{ lookup('pipe', 'date +%N') }}}}\n{NAME}=acme.of-before\n": "does not contain the variable multicart_key",
}


def test_t2_a_template_that_would_keep_a_key_is_refused(fleet: Fleet) -> None:
    for number, text in enumerate(KEEP_A_KEY):
        source = fleet.folder / f"template{number}"
        source.write_text(text)
        files = [{"path": "{{ home }}/app.env", "template": str(source)}]
        host = fleet.add(f"web{number}", None, multicart_deploy_files=files)
        kept = host.folder / "kept"
        kept.write_text(fleet.live)
        host.variables["their_key"] = f"{{{{ lookup('ansible.builtin.file', '{kept}') }}}}"
    for run in (fleet.rotate(), fleet.audit(), fleet.deploy()):
        assert not run.green, run
        for number, what in enumerate(KEEP_A_KEY.values()):
            assert f"The template {fleet.folder}/template{number} {what}" in run.output, run
    assert fleet.rotations == 0
    assert not [host.env for host in fleet.hosts.values() if host.env.exists()]


def test_a_template_that_was_changed_is_deployed_though_the_key_is_the_same(fleet: Fleet) -> None:
    source = fleet.folder / "template"
    source.write_text(f"{NAME}={{{{ multicart_key }}}}\n")
    files = [{"path": "{{ home }}/app.env", "template": str(source)}]
    host = fleet.add("web1", None, multicart_deploy_files=files, multicart_deploy_commands=[note("restarted")])
    assert fleet.deploy().green
    source.write_text(f"PORT=1\n{NAME}={{{{ multicart_key }}}}\n")
    for expected in (True, False):
        run = fleet.deploy()
        assert (run.green, run.changed["web1"], len(host.log)) == (True, expected, 2), run
        assert host.env.read_text() == f"PORT=1\n{NAME}={fleet.live}\n"
    assert fleet.audit().green


def test_t2_a_former_key_elsewhere_is_told_and_refuses_nothing(fleet: Fleet) -> None:
    former = fleet.live
    fleet.sandbox.rotate_behind(fleet.email)
    host = fleet.add("web1", f"SMTP=x\nTOKEN={former}\n# {former}\n{NAME}={{key}}\n")
    told = f"{host.env}: line 2: what looks like a former key ("
    run = fleet.rotate()
    assert (run.green, run.output.count(told)) == (True, 1), run
    assert host.env.read_text() == f"SMTP=x\nTOKEN={former}\n# {former}\n{NAME}={fleet.live}\n"
    deploy = fleet.deploy()
    assert (deploy.green, deploy.output.count(told)) == (True, 1), deploy
    host.variables["multicart_deploy_files"] = [{"path": str(host.env)}]
    run = fleet.play(MODULES)
    assert run.green, run
    for task in (*run.of("multicart_env_file"), *run.of("multicart_env_file_info")):
        assert told in "".join(task["warnings"]), run
