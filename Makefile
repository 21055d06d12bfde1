# Everything that CI runs is `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/cdc: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $(BIN)/cdc

.PHONY: install
install: $(BIN)/cdc ## virtual environment with everything in it

.PHONY: check
check: install ## lint, types and the tests that need no server (under a minute)
	$(BIN)/ruff check cdc tests
	$(BIN)/ruff format --check cdc tests
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit tests/property -m "not database and not stack"

.PHONY: test
test: check ## everything that CI runs, on a real stack that it starts and stops itself
	$(BIN)/pytest tests/conformance tests/stack tests/faults tests/bench

.PHONY: faults
faults: install ## the fault tests alone: parts killed, frozen, cut off; bad input
	$(BIN)/pytest tests/faults

.PHONY: bench
bench: install ## the whole benchmark beside the JDBC sink and the databases' limits (40 minutes)
	$(BIN)/python -m tests.bench.postgres
	$(BIN)/python -m tests.bench.mariadb
	$(BIN)/python -m tests.bench.sources
	$(BIN)/python -m tests.bench

.PHONY: bench-quick
bench-quick: install ## its main workload, in under five minutes; the last line is JSON
	$(BIN)/python -m tests.bench --quick

.PHONY: demo
demo: install ## one command from nothing to a live, checked synchronization
	$(BIN)/cdc demo run

.PHONY: format
format: install ## format and fix what can be fixed
	$(BIN)/ruff check --fix cdc tests
	$(BIN)/ruff format cdc tests

.PHONY: clean
clean: ## stop the demo stack and remove what the project made here
	-$(BIN)/cdc stack reset --execute
	rm -rf .stack .cdc $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
