# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What needs an environment of its own: other ansible-cores, other Pythons, and tools with conflicting requirements.

The targets of the Makefile call these sessions. A session whose Python is missing is named as skipped at the end, and
fails where ``CI`` is set, unless it is a part of ``make test``. Python 3.12 is the one that every supported
ansible-core runs on. Everything is installed in the versions of tests/requirements/locked, except by ``make newest``.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nox

LOCKED = not os.environ.get("MULTICART_NEWEST")  # as make newest sets it

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.envdir = ".cache/nox" if LOCKED else ".cache/newest/nox"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False

ROOT = Path(__file__).parent
CACHE = ROOT / ".cache"
VERSION = re.findall(r"^version: (.+)$", (ROOT / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)[0]
TARBALL = CACHE / "dist" / f"multicart-keys-{VERSION}.tar.gz"

# ansible-core, and the oldest and newest Python that it runs on; `make lock` reads this.
CORES = {
    "2.16": ("3.10", "3.12"),
    "2.17": ("3.10", "3.12"),
    "2.18": ("3.11", "3.13"),
    "2.19": ("3.11", "3.13"),
    "2.20": ("3.12", "3.14"),
    "2.21": ("3.12", "3.14"),
}
OLDEST, NEWEST = "2.16", "2.21"
# ansible-core, and the Pythons of managed hosts that the file modules are tried on with it.
TARGETS = {OLDEST: ("3.6", "3.7", "3.8"), NEWEST: ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")}
ON_TARGETS = ("tests/integration/test_env_file_tasks.py", "tests/integration/test_roles.py")

# pyenv's own shims run only the interpreters that are chosen; these are all that are installed.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
os.environ["PATH"] = os.pathsep.join([*(str(path) for path in sorted(_PYENV.glob("3.*/bin"))), os.environ["PATH"]])
# Else virtualenv would bring newer pips than its own after a while.
os.environ["VIRTUALENV_NO_PERIODIC_UPDATE"] = "1"
# Ansible prefers this over what a session says.
os.environ.pop("MULTICART_TEST_ANSIBLE", None)


def install(session: nox.Session, requirements: str, *more: str, lock: str = "main") -> None:
    """Install what a file of tests/requirements names, in the versions of a lock."""
    constraint = ("-c", f"tests/requirements/locked/{lock}.txt") if LOCKED else ()
    session.install("--quiet", *more, "-r", f"tests/requirements/{requirements}.txt", *constraint)


def prepare(session: nox.Session, core: str) -> None:
    """Install an ansible-core and what the tests run on."""
    install(session, "test", f"ansible-core~={core}.0", lock=f"core-{core}")
    session.run("python", "-m", "tests.awx.collection")


def pytest(session: nox.Session, *arguments: str, **env: str) -> None:
    common = ("-o", "cache_dir=.cache/pytest", "-n", os.environ.get("JOBS", "2"))
    session.run("python", "-m", "pytest", *common, *arguments, env=env)


@nox.session
@nox.parametrize(
    "python,core", [nox.param(python, core, tags=[core]) for core, pythons in CORES.items() for python in pythons]
)
def matrix(session: nox.Session, core: str) -> None:
    """Unit and integration tests on every supported ansible-core; arguments replace the folders."""
    prepare(session, core)
    pytest(session, *(session.posargs or ("tests/unit", "tests/integration")))


@nox.session(python="3.12")
@nox.parametrize("core", [nox.param(core, tags=[core]) for core in TARGETS])
def targets(session: nox.Session, core: str) -> None:
    """The modules that run on managed hosts, run by every Python that these may have."""
    prepare(session, core)
    missing = []
    for version in TARGETS[core]:
        interpreter = shutil.which(f"python{version}")
        if interpreter:
            pytest(session, *(session.posargs or ON_TARGETS), MULTICART_TEST_TARGET_PYTHON=interpreter)
        else:
            missing.append(f"Python {version}")
    if missing:
        (session.error if os.environ.get("CI") else session.skip)(f"All but {', '.join(missing)}, which is missing")


@nox.session(python="3.12")
@nox.parametrize("core", [OLDEST, NEWEST])
def ansible_test(session: nox.Session, core: str) -> None:
    """What ``ansible-test`` does with the collection: sanity, units, integration; arguments choose."""
    prepare(session, core)
    session.chdir(checkout(session))
    home = ansible_test_home()
    for command in session.posargs or ("sanity", "units", "integration"):
        # Sanity runs its checks for every supported Python; the tests themselves need one of the controller.
        python = () if command == "sanity" else ("--python", str(session.python))
        session.run("ansible-test", command, *python, "--local", "--requirements", env={"HOME": str(home)})


def checkout(session: nox.Session) -> Path:
    """Return a copy of what is, or is about to be, in the repository, in the place that ansible-test wants."""
    tree = CACHE / "tree" / "ansible_collections" / "multicart" / "keys"
    shutil.rmtree(tree, ignore_errors=True)
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    for name in str(session.run(*listed, silent=True, external=True)).splitlines():
        if (ROOT / name).exists():  # it may have been removed since the last commit
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    session.run("git", "-C", str(tree), "init", "--quiet", external=True)
    session.run("git", "-C", str(tree), "add", "--all", external=True)
    return tree


def ansible_test_home() -> Path:
    """Return a home for ansible-test, with a stand-in for the bootstrap of pip that it would download."""
    home = CACHE / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in ("20.3.4", "21.3.1", "23.1.2", "24.2", "25.2"):  # of any Python, of any core
        shutil.copy(ROOT / "tests" / "tools" / "get_pip.py", cache / f"get_pip_{version.replace('.', '_')}.py")
    # A pip that is configured to reach packages in another way does so there, too.
    own, there = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "pip", home / ".config" / "pip"
    if own.is_dir() and not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(own)
    return home


@nox.session
def galaxy(session: nox.Session) -> None:
    """The import into Galaxy: what it warns about is refused too."""
    install(session, "galaxy", lock="galaxy")
    home = Path(session.create_tmp()).resolve()
    session.chdir(home)
    # So that ansible-lint, which it runs on the roles and playbooks, finds the playbooks that others import.
    (home / ".ansible").mkdir(exist_ok=True)
    (home / ".ansible" / "collections").unlink(missing_ok=True)
    (home / ".ansible" / "collections").symlink_to(CACHE / "collections")
    output = session.run("python", "-m", "galaxy_importer.main", str(TARBALL), env={"HOME": str(home)}, silent=True)
    findings = [line for line in str(output).splitlines() if line.startswith(("WARNING", "ERROR"))]
    if findings:
        session.error("\n".join(findings))


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site of HTML, in .cache/docs/html."""
    install(session, "docs")
    pages, html = CACHE / "docs" / "pages", CACHE / "docs" / "html"
    for folder in (pages, html):
        shutil.rmtree(folder, ignore_errors=True)
    pages.mkdir(parents=True)
    path = {"ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections")}
    collection = ("--use-current", "--squash-hierarchy", "--dest-dir", str(pages), "multicart.keys")
    session.run("antsibull-docs", "collection", *collection, env=path)
    for picture in (ROOT / "docs" / "docsite" / "rst").iterdir():
        if picture.suffix in (".png", ".svg"):
            shutil.copy(picture, pages / "docsite")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-c", "docs", str(pages), str(html))
    print(f"{html}/index.html")


@nox.session(python="3.12")
def molecule(session: nox.Session) -> None:
    """The molecule scenario, against the stand-in."""
    install(session, "molecule")
    env = {"ANSIBLE_COLLECTIONS_PATH": str(CACHE / "collections"), "HOME": str(Path(session.create_tmp()).resolve())}
    session.chdir("extensions")
    session.run("molecule", "test", "--all", env=env)
