# Every verb sets itself up: a fresh machine needs Python 3.11 or newer, make and the package registries.
# PYTHON=/path/to/python picks another interpreter; ARGS="..." goes to the command behind a verb.

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check fix docs cover bench crash lock clean

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
WORKERS := -n auto --maxprocesses 4
CODE := src tests bench crash examples docs
UV := 0.13.8

help: ## this list
	@echo "make VERB, where VERB is one of:"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

# The environment -----------------------------------------------------------------------------

.venv/.made:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv .venv && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "Outcrop needs Python 3.11 or newer with its venv module; none among: $(PYTHONS)." >&2; \
	echo "Install one (on Debian and Ubuntu: python3 and python3-venv), or say make PYTHON=/path/to/python." >&2; \
	exit 1

.venv/.core: .venv/.made requirements/core.lock pyproject.toml
	@echo "installing Outcrop and what it runs on"
	@$(PIP) install --require-hashes -r requirements/core.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# dev.lock holds all of core.lock at the same versions, so one installation serves both.
.venv/.dev: .venv/.made requirements/core.lock requirements/dev.lock pyproject.toml
	@echo "installing Outcrop and what its tests need"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch .venv/.core $@

setup: .venv/.core ## make .venv, with the command .venv/bin/outcrop

# Running -------------------------------------------------------------------------------------

demo: .venv/.core ## a real agent answers three questions, streamed with its steps
	@$(BIN)/python examples/inventory/demo.py $(ARGS)

serve: .venv/.core ## the server on http://127.0.0.1:8700, until interrupted
	@$(BIN)/outcrop serve $(ARGS)

# ARGS that both programs know: --quick, --smoke, --page, --data-dir, --out.
bench: .venv/.dev ## what a turn costs beside floors without an engine, then what many turns need
	@$(BIN)/python bench/run.py $(ARGS)
	@$(BIN)/python bench/scale.py $(ARGS)

crash: .venv/.dev ## kills servers and databases at every point; nothing may be lost or done twice
	@$(BIN)/python crash/run.py $(ARGS)

# Building ------------------------------------------------------------------------------------

test: .venv/.dev ## the whole test suite
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

cover: .venv/.dev ## the test suite with branch coverage
	@mkdir -p .cache/coverage
	@$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term-missing:skip-covered $(ARGS)

check: .venv/.dev ## lint, format, types, import contract, spelling
	@$(BIN)/ruff check --quiet $(wildcard $(CODE))
	@$(BIN)/ruff format --quiet --check $(wildcard $(CODE)) || { echo "make fix formats them" >&2; \
	  $(BIN)/ruff format --check $(wildcard $(CODE)); exit 1; }
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/codespell $(wildcard $(CODE) *.md Makefile)
	@echo "check: all good"

fix: .venv/.dev ## mend what can be mended by itself: lint and format
	@$(BIN)/ruff check --quiet --fix-only $(wildcard $(CODE))
	@$(BIN)/ruff format $(wildcard $(CODE))

docs: .venv/.dev ## write the generated pages
	@$(BIN)/python docs/generate.py --write

lock: .venv/.made ## write the locks anew from pyproject.toml; ARGS=--upgrade raises versions
	@test -x .cache/lock/bin/uv || { .venv/bin/python -m venv .cache/lock && \
	  .cache/lock/bin/python -m pip --disable-pip-version-check --quiet install uv==$(UV); }
	@.cache/lock/bin/uv pip compile $(LOCKED) --group build --group dev -o requirements/dev.lock $(ARGS) pyproject.toml
	@.cache/lock/bin/uv pip compile $(LOCKED) --group build -c requirements/dev.lock -o requirements/core.lock pyproject.toml
LOCKED := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

clean: ## remove the environment and caches; data in .outcrop stays
	@rm -rf .venv .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov dist build
