# xframe: `make` lists what there is. Each target sets up .venv first, unless nothing changed since.

PYTHON ?= python3
VENV   := .venv
STAMP  := $(VENV)/.complete
RUN    := $(VENV)/bin/python -m
# Where the tests are: elsewhere, they test the xframe that is installed.
TREE   ?= .
PYTEST := cd "$(TREE)" && "$(abspath $(VENV))/bin/python" -m pytest
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) pip --quiet --quiet install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup compare test test-slow fuzz fuzz-long lint types docs dist test-wheel test-oldest audit bench clean

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
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## set up .venv with the versions of constraints.txt; PYTHON=python3.12 chooses the Python
	@:

compare: $(STAMP) ## the main job: prove one model in detail, then the whole grid of configurations
	@$(VENV)/bin/xframe compare
	@$(VENV)/bin/xframe compare --suite

test: $(STAMP) ## run the tests
	@$(PYTEST) --numprocesses auto --maxprocesses 4 -m "not slow"

test-slow: $(STAMP) ## run the longer tests
	@$(PYTEST) --numprocesses auto --maxprocesses 4 -m slow || [ $$? -eq 5 ] # 5: there are none

# Seconds of `make fuzz`.
FUZZ ?= 120

fuzz: $(STAMP) ## damage model files by their fields for FUZZ=120 seconds, and look how each is taken
	@cd "$(TREE)" && "$(abspath $(VENV))/bin/python" scripts/fuzz_files.py --seconds $(FUZZ) --does inspect,verify,convert

fuzz-long: $(STAMP) ## the same for hours: 10,000 files a format to inspect, 2,000 to verify and to convert
	@cd "$(TREE)" && "$(abspath $(VENV))/bin/python" scripts/fuzz_files.py 10000 --does inspect
	@cd "$(TREE)" && "$(abspath $(VENV))/bin/python" scripts/fuzz_files.py 2000 --does verify,convert

lint: $(STAMP) ## look for mistakes and unformatted code (ruff)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: $(STAMP) ## check the types (mypy)
	@$(RUN) mypy

docs: $(STAMP) ## build the documentation into site/, with warnings as errors
	@NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

dist: $(STAMP) ## build the wheel and the source distribution into dist/
	@rm -rf build dist *.egg-info # a list of files there is taken over
	@$(RUN) build --no-isolation --quiet .

test-wheel: dist ## test the wheel: what is in it, and each extra in an empty environment
	@$(VENV)/bin/python scripts/test_wheel.py

test-oldest: dist ## test the wheel on the oldest versions, constraints-oldest.txt; TESTS=tests for every test
	@$(VENV)/bin/python scripts/test_wheel.py --oldest $(TESTS)

audit: $(STAMP) ## look up the known vulnerabilities of what constraints.txt names (pip-audit; needs its advisories)
	@$(VENV)/bin/python scripts/audit.py

bench: $(STAMP) ## run every benchmark in scripts/, one after the other
	@set -e; for script in scripts/bench_*.py; do \
		[ -e "$$script" ] || { echo "There are no benchmarks: no scripts/bench_*.py." >&2; exit 1; }; \
		echo "== $$script"; $(VENV)/bin/python "$$script"; done

clean: ## remove .venv and everything else that can be made again
	@rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
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
