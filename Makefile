# SIAS: two rooms on one machine. `make lab` and `make test` are the two commands; the rest is parts of them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Which environment, Debian and PostgreSQL: make lab SIAS_INVENTORY=lab-full, make lab DEBIAN=13, … POSTGRESQL=15
SIAS_INVENTORY ?= lab
DEBIAN ?=
POSTGRESQL ?=
export SIAS_INVENTORY

SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
VENV := var/venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/var/tools:$(PATH)

# What a bare Debian 12 lacks. For the application's tests: PostgreSQL and slapd, of which they start private servers
# themselves, Pango and a font (PDF), Chromium (end to end); it opens the page of monitoring/consoles in its test, too.
PACKAGES := python3 python3-venv openssh-client iproute2 nftables debian-archive-keyring \
  lxc vagrant vagrant-lxc mmdebstrap apt-cacher-ng postgresql slapd ldap-utils \
  libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core chromium chromium-driver

define say
@printf '\033[1m== %s\033[0m\n' "$(1)"
endef

.PHONY: help
help: ## list every target in one line each
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: lab
lab: tools ## build two rooms and a witness, deploy everything, load data, say where to go (DEBIAN=13 for Debian 13)
	@$(SUDO) env PATH="$(PATH)" $(BIN)/sias lab up $(if $(DEBIAN),--debian $(DEBIAN)) $(if $(POSTGRESQL),--postgresql $(POSTGRESQL))

.PHONY: test
test: lint test-app test-platform ## everything: lint, unit and application tests, the lab, testinfra, the quick drills

.PHONY: tools
tools: var/.packages $(VENV)/.installed ## install what this machine lacks: Debian packages and a locked environment

.PHONY: lint
lint: tools var/tools/promtool ## ruff, mypy, yamllint, ansible-lint (production), djlint, promtool
	$(call say,lint)
	@ruff check . && ruff format --check .
	@mypy
	@yamllint --strict .
	@cd app && djlint src --check --lint --quiet
	@promtool check rules --lint=all $$(ls monitoring/alerts/*.yml | grep -v _test.yml) >/dev/null
	@promtool test rules monitoring/alerts/*_test.yml
	@ansible-lint --offline -q

.PHONY: test-fast
test-fast: tools ## the tests that need no lab: seconds
	@pytest tests/consistency tests/unit tests/templates

.PHONY: test-app
test-app: tools ## the application's own tests, against a real PostgreSQL
	$(call say,the application's tests)
	@$(MAKE) -C app test PYTHON=python3

.PHONY: app
app: tools ## the application alone: http://localhost:8000, imaginary persons, an account per profile (PERSONS=20000)
	@$(MAKE) -C app run PYTHON=python3

.PHONY: test-platform
test-platform: tools var/tools/promtool ## the repository, the units, the templates, then the lab: testinfra and drills
	$(call say,the platform's tests)
	@$(SUDO) env PATH="$(PATH)" pytest

.PHONY: test-drills
test-drills: tools ## the long drills: every fault of the catalogue once, and the checkers against a platform made unsafe
	$(call say,the long drills)
	@$(SUDO) env PATH="$(PATH)" pytest tests/drills -m long

.PHONY: test-changes
test-changes: tools ## whole releases, Debian upgrades and PostgreSQL migrations, under load, there and back (two hours and more)
	$(call say,the changes)
	@$(SUDO) env PATH="$(PATH)" pytest tests/changes -m changes

.PHONY: destroy
destroy: tools ## remove the lab's machines (packages and boxes stay cached)
	@$(SUDO) env PATH="$(PATH)" $(BIN)/sias lab destroy --yes

.PHONY: format
format: tools ## put Python and templates in the house's format
	@ruff check --fix-only . ; ruff format . ; cd app && djlint src --reformat --quiet

.PHONY: lock
lock: tools ## pin anew what pyproject.toml asks for (hashes, no registry's name)
	@$(BIN)/pip install --quiet pip-tools==7.6.2
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --strip-extras --allow-unsafe --extra dev --output-file requirements.lock pyproject.toml

# apt and dpkg answer with a status; a machine that has everything is asked nothing of the network.
var/.packages: Makefile
	$(call say,packages of this machine)
	@mkdir -p var
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing: $$missing"; \
	  $(SUDO) install -d /etc/postgresql-common/createcluster.d; \
	  [ -e /usr/bin/pg_ctlcluster ] || echo 'create_main_cluster = false' \
	    | $(SUDO) tee /etc/postgresql-common/createcluster.d/sias.conf >/dev/null; \
	  [ -e /usr/sbin/slapd ] || { $(SUDO) install -d /etc/ldap; $(SUDO) touch /etc/ldap/noslapd; }; \
	  $(SUDO) apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing >var/packages.log 2>&1 \
	    || { tail -n 20 var/packages.log; exit 1; }; \
	fi
	@touch $@

# The stamp comes last: an interrupted installation is never taken for a whole one.
$(VENV)/.installed: requirements.lock pyproject.toml | var/.packages
	$(call say,Python environment)
	@rm -f $@
	@[ -x $(BIN)/python ] || python3 -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --no-compile --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# promtool alone, without the server that Debian's package would start.
var/tools/promtool: | var/.packages
	@mkdir -p var/tools/package && chmod 755 var/tools/package
	@cd var/tools/package && rm -rf ./* && apt-get download -qq prometheus 2>/dev/null && dpkg-deb -x prometheus_*.deb . && cp usr/bin/promtool ..
	@rm -rf var/tools/package && touch $@
