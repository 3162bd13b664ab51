# sigmgr: everything a newcomer or a build machine runs. Start with `make` alone.

.DEFAULT_GOAL := help
.PHONY: help demo test slow mutants matrix bench lint pins clean
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
PINNED := install --require-hashes --requirement
# For every platform, each pin with the hashes of all files of its release, and no index named.
PINS := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--fork-strategy fewest --no-strip-extras --no-emit-index-url \
	--custom-compile-command "make pins (after a change in pyproject.toml), make pins \
	UPGRADE=1 (the newest of all)" $(if $(UPGRADE),--upgrade)
CHECKED := $(wildcard sigmgr tests benchmarks alembic clients)

help:  ## this list
	@echo "sigmgr keeps every user of a Tencent IM / TRTC application signed in."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name what; do \
		printf '%-14s %s\n' "$$name" "$$what"; done
	@echo
	@echo "Each builds $(VENV) when it needs to: Python >= 3.11 with venv is enough, no root."
	@echo "PYTHON=/path/to/python3 picks another Python."

demo: $(VENV)/.runtime  ## the whole service on embedded parts at http://127.0.0.1:8080; DEMO_SECONDS=n stops it
	@$(BIN)/sigmgr demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: lint  ## checks, then all tests but the slow ones; PYTEST_ARGS="-k name" picks
	@echo "== tests"
	@$(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)

slow: $(VENV)/.dev  ## soak, load and many-process scenarios
	@echo "== slow tests"
	@$(BIN)/python -m pytest -q -m slow $(PYTEST_ARGS)

mutants: $(VENV)/.dev  ## 600 small faults, each of which a test has to notice; MUTANTS_ARGS=--help says more
	@$(BIN)/python -m tests.mutants $(MUTANTS_ARGS)

matrix: $(BIN)/python  ## demo and test in a chroot of Debian 13 and of sid, not root; SUITES=trixie picks
	@.ci/matrix $(SUITES)

bench: $(VENV)/.dev  ## the budgets, each as a ratio measured here; BENCH_ARGS=--help says more
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(VENV)/.dev  ## style, types and who may import whom
	@echo "== ruff"
	@$(BIN)/python -m ruff check --quiet $(CHECKED)
	@$(BIN)/python -m ruff format --quiet --check $(CHECKED)
	@echo "== mypy"
	@$(BIN)/python -m mypy --no-error-summary
	@$(BIN)/python -m mypy --no-error-summary tests/servers.py tests/mutants
	@echo "== import contracts"
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

pins: $(VENV)/.dev  ## requirements/ follow pyproject.toml; UPGRADE=1 takes the newest of all
	@echo "== pins"
	@$(PINS) --output-file requirements/runtime.txt --group build pyproject.toml
	@$(PINS) --output-file requirements/dev.txt --group dev --constraints requirements/runtime.txt \
		$$(sed -n 's/^\([a-z0-9-]*\)[=[].*/--no-emit-package \1/p' requirements/runtime.txt)

clean:  ## remove what make built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .mutants dist
	find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make the venv follow the pins: .runtime is all that the demo needs, .dev adds the rest.

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "== $(VENV): what sigmgr runs on"
	@$(PIP) $(PINNED) requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt
	@echo "== $(VENV): what tests and checks add"
	@$(PIP) $(PINNED) requirements/dev.txt --requirement requirements/runtime.txt
	@touch $@

$(BIN)/python:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found=$$python; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
		echo "== $(VENV): new, with $$("$$python" --version)"; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$found" ]; then \
		echo "$$found is here, but without venv; Debian, Ubuntu: apt-get install python3-venv"; \
	else \
		echo "sigmgr needs Python >= 3.11 and found none. Install one (Debian 12, Ubuntu 24.04 and"; \
		echo "later: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python3"; \
	fi >&2; exit 1
