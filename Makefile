# Two commands matter: `make demo` and `make test`. Both make their own `.venv` first, once.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# Debian's own build first: it was optimised with profiles, and runs the router some 10 % faster than a plain one.
PYTHON ?= $(shell /usr/bin/python3.11 -c 'import ensurepip, venv' 2>/dev/null && echo /usr/bin/python3.11 \
	|| command -v python3.11 || command -v python3)
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed
NODE_TESTS := tests/e2e/node

.PHONY: help venv demo test lint types unit node-deps bench bench-deps profile bench-peers guard drills limits crash ledger loadtest soak lasting capacity audit sbom lock clean

help: ## this text
	@echo "usage: make TARGET [ARGS='...']"
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1: \2/p' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with everything that the lock file names, checked by hash

$(STAMP): requirements-dev.lock pyproject.toml
	@echo "making .venv: about a minute"
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@"$(PYTHON)" -c 'import ensurepip, venv' || { echo "python3-venv is needed: apt-get install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	touch $(STAMP)

demo: $(STAMP) ## a region slows, throttles, dies and recovers: ten minutes in one; ARGS=--once tells it in 12 s and ends
	@exec $(BIN)/inference-router demo $(ARGS)

test: lint types unit ## everything: style, types, tests (some 20 minutes on 2 cores)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy

unit: $(STAMP) node-deps ## pytest on two processes, then what judges times alone; ARGS goes to pytest: with ARGS all in one run
ifeq ($(ARGS),)
	$(BIN)/python -m pytest -n 2 -m 'not timed'
	$(BIN)/python -m pytest -m timed
else
	$(BIN)/python -m pytest -n 2 $(ARGS)
endif

node-deps: ## the Node SDK for its tests, where there is a Node
	@if command -v npm >/dev/null && [ -f $(NODE_TESTS)/package-lock.json ] \
		&& [ ! $(NODE_TESTS)/node_modules/.installed -nt $(NODE_TESTS)/package-lock.json ]; then
		npm ci --prefix $(NODE_TESTS) --no-audit --no-fund --ignore-scripts
		touch $(NODE_TESTS)/node_modules/.installed
	fi

bench-deps: ## nginx and wrk from Debian, when missing
	@scripts/bench-deps.sh

bench: $(STAMP) bench-deps ## measure the router beside nginx; ARGS='--quick', '--modes json-1k,stream-50', '--help'
	@exec $(BIN)/python -m loadtests.bench $(ARGS)

guard: $(STAMP) ## hold what a request costs against the baseline; ARGS=--update writes it anew, '--help'
	@exec $(BIN)/python -m loadtests.guard $(ARGS)

bench-peers: $(STAMP) bench-deps ## install the gateways that `make bench` can also be measured against, under .bench/
	@scripts/bench-peers.sh

profile: $(STAMP) bench-deps ## what each µs of a request is spent on; ARGS='--streams', '--help'
	@exec $(BIN)/python -m loadtests.profile $(ARGS)

drills: $(STAMP) ## break emulated clouds under load and measure; ARGS='--quick', '--only outage,quota', '--help'
	@exec $(BIN)/python -m loadtests.drills $(ARGS)

loadtest: $(STAMP) ## load emulated clouds as users do, for three minutes; ARGS='--only outage', '--users 80', '--help'
	@exec $(BIN)/python -m loadtests.locust run $(ARGS)

limits: $(STAMP) ## four workers, ten keys at three times their limits: no window above the bound; ARGS='--help'
	@exec $(BIN)/python -m loadtests.limits $(ARGS)

crash: $(STAMP) ## kill -9 at random moments under load: is each answered request in the ledger once? ARGS='--times 200'
	@exec $(BIN)/python -m loadtests.crash $(ARGS)

ledger: $(STAMP) ## how fast entries are stored, and reports over ten million of them; half an hour. ARGS='--help'
	@exec $(BIN)/python -m loadtests.ledger $(ARGS)

soak: $(STAMP) ## load for long: memory, open files and event-loop lag must not grow; ARGS='--minutes 30'
	@exec $(BIN)/python -m loadtests.locust soak $(ARGS)

lasting: $(STAMP) ## what must hold for years, in minutes: ARGS='kills', 'reloads', 'upgrades', 'slow_loris', 'fuzz', 'soak', '--help'
	@exec $(BIN)/python -m loadtests.lasting $(ARGS)

capacity: $(STAMP) ## how many routers for so much load, from what was measured; ARGS='--streams 1000000'
	@exec $(BIN)/python -m loadtests.capacity $(ARGS)

audit: $(STAMP) ## known vulnerabilities of what the lock files name
	@exec $(BIN)/python -m scripts.audit $(ARGS)

sbom: $(STAMP) ## what the router consists of, as CycloneDX JSON; ARGS=--licences
	@exec $(BIN)/python -m scripts.sbom $(ARGS)

lock: $(STAMP) ## write both lock files anew from pyproject.toml
	@scripts/lock.sh

clean: ## remove .venv and everything else that was made here
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(NODE_TESTS)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
