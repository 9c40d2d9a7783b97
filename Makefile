# xframe: `make` lists what there is. Each target sets up .venv first, unless nothing changed since.

PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.complete
RUN    := $(VENV)/bin/python -m
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) pip --quiet --quiet install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup compare test test-slow lint types bench clean

define CHECK_PYTHON
import sys
mend = "for example: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)"
found = "%s is Python %d.%d" % ((sys.argv[1],) + sys.version_info[:2])
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit("%s, but xframe and TensorFlow need Python 3.10 to 3.13; name one, %s" % (found, mend))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("%s without venv; install it (Debian, Ubuntu: python3-venv), or name another, %s" % (found, mend))
endef
export CHECK_PYTHON

help: ## list the targets (what make alone does)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## set up .venv with the versions of constraints.txt; PYTHON=python3.12 chooses the Python
	@:

compare: $(STAMP) ## the main job: prove one model in detail, then the whole grid of configurations
	@$(VENV)/bin/xframe compare
	@$(VENV)/bin/xframe compare --suite

test: $(STAMP) ## run the tests
	@$(RUN) pytest --numprocesses auto --maxprocesses 4 -m "not slow"

test-slow: $(STAMP) ## run the longer tests
	@$(RUN) pytest -m slow || [ $$? -eq 5 ] # 5: there are none

lint: $(STAMP) ## look for mistakes and unformatted code (ruff)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: $(STAMP) ## check the types (mypy)
	@$(RUN) mypy

bench: $(STAMP) ## run every benchmark in scripts/, one after the other
	@set -e; for script in scripts/bench_*.py; do \
		[ -e "$$script" ] || { echo "There are no benchmarks: no scripts/bench_*.py." >&2; exit 1; }; \
		echo "== $$script"; $(VENV)/bin/python "$$script"; done

clean: ## remove .venv and everything else that can be made again
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find xframe tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp is written last: a set-up that was interrupted has none, and the next one starts afresh.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON); xframe and TensorFlow need Python 3.10 to" \
		"3.13; name one, for example: make PYTHON=python3.12 $(or $(MAKECMDGOALS),setup)" >&2; exit 1; }
	@"$(PYTHON)" -c "$$CHECK_PYTHON" "$(PYTHON)"
	@echo "Setting up $(VENV) ..." >&2
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
