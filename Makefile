# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Without files of bytecode, each of the many processes that tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test lint coverage bench lock

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib tracker redirector workers migrations
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

setup: $(STAMP) ## virtual environment with the hash-locked dependencies

run: setup ## everything on this machine, with demo data: prints `ready` when it is
	@exec $(BIN)/turnout up --demo

WORKERS ?= 4
PYTEST := $(BIN)/python -m pytest --dist worksteal
# `coverage` has run all of tests/unit and tests/property but what is about platforms.
OTHERS = $(filter-out tests/unit/ tests/property/ tests/data/ %__pycache__/,$(wildcard tests/*/)) $(wildcard tests/test_*.py tests/*/*platforms*.py)

test: coverage ## the whole test suite, on real PostgreSQL and Valkey, in WORKERS=4 processes with servers of their own
	$(PYTEST) -n $(WORKERS) $(OTHERS)

coverage: setup ## every branch of tracker/domain, by unit and property tests alone: the first part of `make test`
	$(PYTEST) -q -n 2 tests/unit tests/property --ignore-glob="*platforms*" --cov=tracker.domain --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

lint: setup ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache & imports=$$!; $(BIN)/mypy && wait $$imports

bench: setup ## redirects a second (needs wrk; PEER=nginx.conf compares with nginx + Lua)
	$(BIN)/python loadtests/redirects.py $(if $(PEER),--peer $(PEER))

.PHONY: chaos
MINUTES ?= 30
SEED ?= 1
chaos: setup ## break everything for MINUTES=30 with SEED=1, in parts and under `turnout up`; the reports go to loadtests/results
	@status=0; \
	$(BIN)/python -m loadtests.chaos --faults none --seconds 60 --seed $(SEED) || status=1; \
	$(BIN)/python -m loadtests.chaos --up --seconds $$(( $(MINUTES) * 6 )) --seed $(SEED) || status=1; \
	$(BIN)/python -m loadtests.chaos --seconds $$(( $(MINUTES) * 54 )) --seed $(SEED) || status=1; \
	exit $$status

lock: ## renew requirements.lock (needs uv)
	uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 --output-file requirements.lock
