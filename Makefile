# Every target sets up what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run test lint coverage bench lock

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

setup: $(STAMP) ## virtual environment with the hash-locked dependencies

run: setup ## everything on this machine, with demo data: prints `ready` when it is
	@exec $(BIN)/turnout up --demo

WORKERS ?= 3
test: setup ## the whole test suite, on real PostgreSQL and Valkey, in WORKERS=3 processes with servers of their own
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

coverage: setup ## every branch of tracker/domain, by unit and property tests alone
	$(BIN)/python -m pytest -q tests/unit tests/property --ignore-glob="*platforms*" --cov=tracker.domain --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

lint: setup ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

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
