# Copyright (c) 2026, multicart.keys contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Every target sets up what it needs in .venv. Another interpreter: make PYTHON=python3.12 demo, after make clean.

PYTHON ?= python3
# More than there are cores: many tests wait for what hangs.
JOBS ?= 3
SMOKE := tests/integration/test_env_file_tasks.py tests/integration/test_roles.py tests/integration/test_ways_to_a_host.py
# Handed to pytest, or to the demo: make unit ARGS='-k rotation', make demo ARGS=--stay
ARGS ?=

# The only ansible-core of make matrix; unset, all.
CORE ?=

# Set by make newest, which takes the newest releases in place of the locked ones, in environments of its own.
MULTICART_NEWEST ?=

VENV := $(if $(MULTICART_NEWEST),.cache/newest/venv,.venv)
BIN := $(VENV)/bin
LOCK := tests/requirements/locked/main.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# For what pip builds something with, too: older ones go by the first, newer ones by the second.
LOCKED := $(if $(MULTICART_NEWEST),,PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK))
READERS := .cache/readers/.made
COLLECTIONS := .cache/collections
LINK := $(COLLECTIONS)/ansible_collections/multicart/keys
VERSION := $(shell sed -n 's/^version: *//p' galaxy.yml)
TARBALL := .cache/dist/multicart-keys-$(VERSION).tar.gz

# Caches of the tools stay out of the tarball.
export RUFF_CACHE_DIR := $(CURDIR)/.cache/ruff
export MYPY_CACHE_DIR := $(CURDIR)/.cache/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
export JOBS
# A mirror may answer slowly, or with an error once.
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60
# For tools that look for Ansible's own on the PATH.
WITH_BIN := PATH="$(CURDIR)/$(BIN):$$PATH"
NOX := $(BIN)/nox --report .cache/nox.json -s
# What make test runs besides, where there is a Python 3.12; where there is none, nox names what it skipped.
MAY_LACK := --no-error-on-missing-interpreters
PYTEST := $(BIN)/python -m pytest -o cache_dir=.cache/pytest -n $(JOBS) --dist worksteal

# Ansible insists on UTF-8, which bare containers do not set.
ifneq ($(filter C POSIX,$(LC_ALL)),)
export LC_ALL := C.UTF-8
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo sandbox test newest unit integration stores faults hosts leaks fuzz mutants bench full lint \
  lint-basic yamllint reuse \
  sanity sanity-newest ansible-test smoke matrix molecule docs build lock release clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo build ## watch a key being rotated on a small fleet, against a stand-in for the API
	@$(BIN)/python -m tests.demo --collection $(TARBALL) $(ARGS)

sandbox: $(VENV)/.demo ## run the stand-in for the API, to rehearse a rotation on test hosts of your own
	@$(BIN)/python -m tests.sandbox --state .cache/sandbox --banner $(ARGS)

test: $(VENV)/.test $(READERS) ## linters, sanity, the documentation and all tests but the slow ones
	$(MAKE) -j2 --output-sync=target lint sanity-newest docs
	: The hosts are made of what is unpacked meanwhile.
	$(BIN)/python -m tests.hosts.trees >/dev/null 2>&1 & $(PYTEST) tests/unit tests/integration tests/stores tests/faults tests/leaks \
	  tests/hosts
	$(MAKE) smoke

newest: export MULTICART_NEWEST := 1
newest: ## test and demo, with the newest releases of everything in place of the locked ones
	rm -rf .cache/newest
	$(MAKE) test
	$(MAKE) demo </dev/null

unit: $(VENV)/.test $(READERS) ## unit tests
	$(PYTEST) tests/unit $(ARGS)

integration: $(VENV)/.test ## integration tests, with real ansible-playbook runs
	$(PYTEST) tests/integration $(ARGS)

faults: $(VENV)/.test ## rotations under faults: over real HTTP, raced, and killed at any point
	$(PYTEST) tests/faults $(ARGS)

stores: $(VENV)/.test ## every type of store, against real servers and stand-ins
	$(PYTEST) tests/stores $(ARGS)

hosts: $(VENV)/.test ## rotations over hosts with systemd, OpenRC and runit, made of Debian's packages; takes root
	$(PYTEST) tests/hosts $(ARGS)

leaks: $(VENV)/.test ## search for secrets wherever one could come out, on the oldest, a middle and the newest ansible-core
	$(BIN)/python -m tests.leaks --jobs $(JOBS) $(ARGS)

fuzz: $(VENV)/.test $(READERS) | $(LINK) ## hostile environment files against the programs that read them: make fuzz ARGS='--cases 1000'
	PYTHONPATH=$(COLLECTIONS) $(BIN)/python -m tests.readers.fuzz $(ARGS)

mutants: $(VENV)/.mutants ## change the code in every small way; which changes does no unit test notice? make mutants ARGS=plan
	$(BIN)/python -m tests.tools.mutants $(ARGS)

bench: $(VENV)/.bench | $(LINK) ## measure the outage beside other ways, over a real sshd; leave the machine idle meanwhile
	@$(BIN)/python -m tests.bench --output .cache/bench $(ARGS)

full: export MULTICART_FULL := 1
full: sanity test matrix ansible-test molecule leaks fuzz ## test with the slow tests, matrix, ansible-test, molecule, leaks and fuzz

lint-basic: $(VENV)/.lint | $(LINK) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(COLLECTIONS) && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml \
	  -p ansible_collections.multicart.keys.plugins
	$(BIN)/mypy -p tests.sandbox -p tests.demo -p tests.awx -p tests.tools

yamllint: $(VENV)/.tools
	$(BIN)/yamllint --strict .

reuse: $(VENV)/.tools
	$(BIN)/reuse lint --lines

lint: lint-basic yamllint reuse build ## every linter, and the import into Galaxy
	$(WITH_BIN) antsibull-changelog lint
	cd $(LINK) && $(WITH_BIN) antsibull-docs lint-collection-docs --plugin-docs --check-extra-docs-refs \
	  --validate-collection-refs all --disallow-unknown-collection-refs .
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(WITH_BIN) ANSIBLE_COLLECTIONS_PATH="$(CURDIR)/$(COLLECTIONS):$(CURDIR)/.cache/awx" ansible-lint --offline -q
	$(NOX) galaxy

sanity-newest: $(VENV)/.tools
	$(NOX) "ansible_test(core='2.21')" $(MAY_LACK) -- sanity

sanity: $(VENV)/.tools ## ansible-test sanity, with the rules of the oldest and the newest ansible-core
	$(NOX) ansible_test $(MAY_LACK) -- sanity

ansible-test: $(VENV)/.tools ## ansible-test units and integration, likewise
	$(NOX) ansible_test -- units integration

smoke: $(VENV)/.tools | $(LINK) ## a few integration tests on the oldest and the newest ansible-core
	$(NOX) "matrix(python='3.12', core='2.16')" "matrix(python='3.12', core='2.21')" $(MAY_LACK) -- $(SMOKE)

matrix: $(VENV)/.tools | $(LINK) ## tests on every ansible-core, and modules on every Python of managed nodes: make matrix CORE=2.17
	$(NOX) matrix targets $(if $(CORE),--tags $(CORE))

molecule: $(VENV)/.tools | $(LINK) ## the molecule scenario, against the stand-in
	$(NOX) molecule

docs: $(VENV)/.tools | $(LINK) ## the documentation as a site, in .cache/docs/html
	$(NOX) docs

build: $(VENV)/.demo ## build the collection's tarball into .cache/dist
	@$(BIN)/python -m tests.tools.tarball . .cache/dist

# The uv that writes the locks is in none: what cannot be installed from a lock must not keep it from being replaced.
lock: $(VENV)/.made ## lock the newest versions of everything that work together
	@$(PIP) --upgrade uv
	@$(BIN)/python -m tests.tools.lock

release: $(VENV)/.tools ## write the changelog and build the tarball of a release: make release VERSION=1.2.3
	@$(BIN)/python -m tests.tools.release $(VERSION)

clean: ## remove .venv and .cache
	rm -rf $(VENV) .cache

# One environment, and each stamp stands on the one before it, so that make -j never runs two pips at once.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "$(PYTHON) is missing or older than Python 3.10; name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment; Debian and Ubuntu have that in python3-venv." >&2; exit 1; }
	@touch $@

$(VENV)/.demo: tests/requirements/demo.txt tests/sandbox/requirements.txt $(LOCK) | $(VENV)/.made
$(VENV)/.test: tests/requirements/test.txt tests/requirements/awx.txt tests/awx/collection.py $(VENV)/.demo
$(VENV)/.readers: tests/requirements/readers.txt $(VENV)/.test
$(VENV)/.lint: tests/requirements/lint.txt $(VENV)/.readers
$(VENV)/.tools: tests/requirements/tools.txt $(VENV)/.lint
$(VENV)/.bench: tests/requirements/bench.txt $(VENV)/.lint
$(VENV)/.mutants: tests/requirements/mutants.txt $(VENV)/.test
$(VENV)/.demo $(VENV)/.readers $(VENV)/.lint $(VENV)/.tools $(VENV)/.bench $(VENV)/.mutants:
	@echo "Installing $< ..."
	@$(LOCKED) $(PIP) --requirement $<
	@touch $@

# awx.awx is on Galaxy, but in a package of PyPI, too.
$(VENV)/.test:
	@echo "Installing $< ..."
	@$(LOCKED) $(PIP) --requirement $<
	@$(BIN)/python -m tests.awx.collection
	@touch $@

# Where npm does not get at them, the tests that need one skip and name it.
$(READERS): tests/readers/npm/package-lock.json $(VENV)/.readers
	@echo "Installing Node.js 20, 22 and 24, and dotenv of npm ..."
	@mkdir -p $(@D) && cp tests/readers/npm/*.json $(@D)
	@$(BIN)/npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null && touch $@ || \
	  echo "Going on without what is on npm." >&2

# The collection under its real name, for the tools that work on this checkout; relative, so that it can be moved.
$(LINK):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@
