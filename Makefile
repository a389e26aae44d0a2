PYTHON ?= python3
BIN := .venv/bin
export PYTHON
# Where Python keeps no compiled modules, each of the hundreds of processes that tests start compiles them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo dev quick test lint types definitions bench pins clean

help: ## Show these lines
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: ## Build .venv from the pinned requirements
	@bash scripts/install.sh runtime

install-dev: ## The same, with what the checks and tests need
	@bash scripts/install.sh dev

demo: install ## Run the whole system for a minute on synthetic patients
	$(BIN)/pulselake demo $(ARGS)

dev: install ## Start hub, generator, Dagster and its web page
	$(BIN)/pulselake dev $(ARGS)

quick: lint types ## Check style and types, and run the tests that need no service, process or run of Dagster
	$(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m "not (service or slow or crash)" $(ARGS)

test: lint types definitions ## Check and test everything, as CI does
	@bash scripts/test.sh $(ARGS)

lint: install-dev ## Check style and purity
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev ## Check types
	$(BIN)/mypy

definitions: install ## Load every Dagster definition
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && touch "$$home/dagster.yaml" && \
	DAGSTER_HOME="$$home" DAGSTER_DISABLE_TELEMETRY=yes $(BIN)/dagster definitions validate -w workspace.yaml

bench: install ## Run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

pins: ## Resolve requirements*.in into requirements*.txt again
	@bash scripts/pins.sh

clean: ## Remove .venv, caches and build leftovers; data stays
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build pulselake.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
