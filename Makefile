# Two commands on a fresh machine with git, make and Python 3.11 or later: `make demo` and `make test`.
# Everything lands in .venv/ and build/; nothing is done twice. TORCH=any takes torch's default build instead of a CPU one.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
TORCH ?= auto
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

export TORCH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PKG_CONFIG_PATH := $(CURDIR)/.ci/opencv-shim:$(PKG_CONFIG_PATH)

.PHONY: help setup demo test browser lint types pytest bench clean

help:
	@echo "make demo    set everything up, run the main job, print a board and write it as a page"
	@echo "make test    set everything up, then lint, types and tests"
	@echo "make setup   the environment only (.venv)"
	@echo "make lint | types | pytest PYTEST_ARGS='-k clock' | bench | clean"

setup: $(VENV)/.stamp-packages $(VENV)/.stamp-ffcv

demo: setup
	@echo "== demo: timetrial study demo"
	@$(BIN)/timetrial study demo

test: setup browser lint types pytest

browser:
	@$(PYTHON) .ci/system_packages.py browser || true

lint: setup
	@echo "== lint: ruff check"
	@$(BIN)/ruff check --quiet .

types: setup
	@echo "== types: mypy, through a link so that the clone may have any name"
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/timetrial
	@cd build/mypy && $(CURDIR)/$(BIN)/mypy --config-file ../../pyproject.toml

pytest: setup
	@echo "== tests: pytest"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: setup
	@$(BIN)/python tests/benchmarks/report.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "python: none of version 3.11 or later found; install one (Debian: apt-get install python3) or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) .ci/system_packages.py venv
	@echo "== environment: $(VENV), $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv pyproject.toml .ci/choose_torch.py
	@arguments=$$($(BIN)/python .ci/choose_torch.py) && $(BIN)/python -m pip install --quiet $$arguments
	@touch $@

$(VENV)/.stamp-packages: $(VENV)/.stamp-torch pyproject.toml
	@echo "== packages: timetrial and its development tools (about 1.5 GB beside torch, a few minutes)"
	@$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[dev]'
	@touch $@

# Tried at every call until it succeeds, and never in the way: without FFCV everything runs on the torch loader.
$(VENV)/.stamp-ffcv: $(VENV)/.stamp-packages
	@mkdir -p build
	@if $(PYTHON) .ci/system_packages.py ffcv; then \
	  echo "== FFCV: building it"; \
	  if $(BIN)/python -m pip install --quiet --use-pep517 --editable '.[ffcv]' >build/ffcv.log 2>&1 && $(BIN)/python -W ignore -c 'import ffcv' 2>>build/ffcv.log; \
	  then touch $@; \
	  else echo "FFCV: going on without it, everything runs on the torch loader; why: $$(grep -i error build/ffcv.log | tail -n 1)"; fi; fi
