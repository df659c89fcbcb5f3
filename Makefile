# Two commands on a fresh machine: `make demo` and `make test`. Both set up what they need below $(VENV) and say what they install.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/street
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint slow bench deb clean

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.hil  ## A street of 30 homes for one day, with and without envelopes; leaves a report in $(OUT)
	@$(BIN)/commonwatt-hil broker --install
	$(BIN)/commonwatt-hil run street --out $(OUT)

test: $(VENV)/.dev lint  ## Linters, types, architecture, and the default tests
	@$(BIN)/commonwatt-hil broker --install
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.dev  ## The long simulations and large random searches
	@$(BIN)/commonwatt-hil broker --install
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

bench: $(VENV)/.dev  ## Every measured number of the README, as one table
	@$(BIN)/commonwatt-hil broker --install
	$(BIN)/commonwatt-hil bench

deb: $(BIN)/python  ## Debian packages of the edge and the coordinator, in dist
	$(BIN)/python deploy/build_deb.py edge
	$(BIN)/python deploy/build_deb.py coordinator

clean:  ## Remove the virtual environment and everything that was made
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The virtual environment, and the two sets of packages in it. They are made again when pyproject.toml changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Commonwatt needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Give another one: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && echo "Installing the Debian package python3-venv ..." && apt-get update -qq && apt-get install -y -qq python3-venv; } \
	  || { echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 2; }
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.hil: pyproject.toml | $(BIN)/python
	@echo "Installing Commonwatt and the packages of its bench into $(VENV) (about 400 MB, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[hil]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing Commonwatt with the packages of its tests into $(VENV) (about 800 MB, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.hil
