# seal-env: `make` lists the targets. Everything is installed into .venv, at the first use.

# The Python that makes .venv; 3.11 or newer.
PYTHON ?= python3
# More arguments for pip, such as an index that has the CPU build of torch.
PIP_ARGS ?=
# A training run's seed and folder, and more arguments for `seal-env train`.
SEED ?= 0
OUT ?= runs/main$(if $(filter-out 0,$(SEED)),-seed$(SEED))
ARGS ?=
# Processes that the tests run in; each computes with one thread. 0 runs them in pytest's own.
WORKERS ?= 2

# Compiled tests are kept, so that the next run begins some 8 s sooner.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
INSTALLED := .venv/.installed
DOCS_INSTALLED := .venv/.docs-installed
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt
WITH_WORKERS := -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help train test test-fast lint format docs clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
	@echo "Variables: PYTHON=$(PYTHON) SEED=$(SEED) OUT=$(OUT) ARGS='$(ARGS)' WORKERS=$(WORKERS) PIP_ARGS='$(PIP_ARGS)'"

train: $(INSTALLED) ## Train the embedded model into runs/main, or go on with a run that was stopped
	$(BIN)/seal-env train --seed $(SEED) --out $(OUT) --resume $(ARGS)

test: $(INSTALLED) ## Run all tests
	$(BIN)/python -m pytest -q $(WITH_WORKERS) $(ARGS)

test-fast: $(INSTALLED) ## Run the tests that are not marked as slow, in less than a minute
	$(BIN)/python -m pytest -q $(WITH_WORKERS) -m "not slow" $(ARGS)

lint: $(INSTALLED) ## Check style, formatting, spelling and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	@mkdir -p build/mypy && ln -sfn ../../agents build/mypy/seal_agents
	$(BIN)/mypy

format: $(INSTALLED) ## Mend style and formatting, as far as ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_INSTALLED) ## Build the pages of docs/ into docs/_build; a warning is an error
	$(BIN)/sphinx-build -q -E -W --keep-going -b html docs docs/_build
	@echo "wrote docs/_build/index.html"

clean: ## Remove .venv, caches and build leftovers; runs/ stays
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build
	find . -path ./runs -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "seal-env needs Python 3.11 or newer, and '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>/dev/null || echo 'not there'): name one, as in make PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e '.[test]'
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(INSTALL) -e '.[docs]'
	@touch $@
