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

.PHONY: help setup demo test lint types pytest bench clean

help:
	@echo "make demo    set everything up, run the main job, print a board and write it as a page"
	@echo "make test    set everything up, then lint, types and tests"
	@echo "make setup   the environment only (.venv)"
	@echo "make lint | types | pytest PYTEST_ARGS='-k clock' | bench | clean"

setup: $(VENV)/.stamp-packages
	@$(BIN)/python -c 'import importlib.util as u; u.find_spec("ffcv") or print("FFCV: absent, everything runs on the torch loader (see build/ffcv.log; to try again: rm $<; make setup)")'

demo: setup
	@echo "== demo: timetrial study demo"
	@$(BIN)/timetrial study demo

test: setup browser lint types pytest

.PHONY: browser
browser:
	@$(PYTHON) .ci/system_packages.py browser

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
	@$(BIN)/python -m pytest tests/benchmarks -m slow $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.stamp-venv:
	@test -n "$(PYTHON)" || { echo "python: none of version 3.11 or later found; install one (Debian: apt-get install python3) or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) .ci/system_packages.py build
	@echo "== environment: $(VENV), $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv pyproject.toml .ci/choose_torch.py
	@arguments=$$($(BIN)/python .ci/choose_torch.py) && $(BIN)/python -m pip install --quiet $$arguments
	@touch $@

# One resolve with FFCV in it; where FFCV cannot be built, one without.
$(VENV)/.stamp-packages: $(VENV)/.stamp-torch pyproject.toml
	@mkdir -p build
	@echo "== packages: timetrial with FFCV and the development tools (about 1.5 GB beside torch, a few minutes)"
	@$(BIN)/python -m pip install --quiet --editable '.[ffcv,dev]' >build/ffcv.log 2>&1 || { \
	  echo "FFCV: cannot be built here: $$(grep -E -i 'error|not find' build/ffcv.log | head -n 1)"; \
	  $(BIN)/python -m pip install --quiet --editable '.[dev]'; }
	@touch $@
