# Needs Python 3.11 or later and make; everything else is installed into .venv, at the versions that pyproject.toml pins.
# With a C compiler the hot modules are compiled as well, which takes a minute or two once; without one nothing is missing but speed.
#   make run      a cluster of three nodes on this machine (Ctrl-C stops it)
#   make test     the tests                         make check   format, lint, types, import law, tests
#   make bench    load on a running cluster         make clean   remove what was built; data stays
#   make sim      2,000 simulated clusters          make sim-quick   100 short ones
#   make trials   faults on real processes          make reliability the page of what was measured
#   make compile  the hot modules to machine code (run, bench and test do it); QUORATE_PURE=1 runs the sources all the same

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Workers of the test run. The integration tests start whole clusters, so more workers than cores only disturb them.
JOBS   ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$n" -gt 4 ] && echo 4 || echo "$$n")
ARGS   ?=
DIGEST := src/quorate/compiled.digest
SOURCES := $(addprefix src/,$(shell cat src/quorate/compiled_modules.txt)) src/quorate/compiled_modules.txt
SOURCE_TESTS := tests/unit tests/property tests/conformance tests/simulation tests/regressions tests/integration/test_client.py tests/integration/test_peer_refusals.py tests/integration/test_peer_newcomers.py
# Of `make sim`: how many seeds, how long each is in virtual seconds, and the first of them (left out: a fresh one).
SEEDS   ?= 2000
SECONDS ?= 120
FIRST   ?=

.DEFAULT_GOAL := help
.PHONY: help setup compile run test test-compiled test-sources check static format bench sim sim-quick trials reliability clean

help:
	@sed -n '3,8s/^# *//p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: '$(PYTHON)' is not installed. Install Python 3.11 or later, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Quorate needs Python 3.11 or later, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "make: '$(PYTHON)' cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# The digest is written last: a build that was cut short leaves no modules that would be used.
compile: $(DIGEST)

$(DIGEST): $(STAMP) setup.py $(SOURCES)
	@rm -f $@; find src -name '*.so' -delete; mkdir -p build; echo "compiling the hot modules, for a minute or two (log: build/compile.log)"; \
	if QUORATE_COMPILE=1 $(BIN)/python setup.py -q build_ext --inplace >build/compile.log 2>&1; then \
	  $(BIN)/python -c "from quorate import _compiled; _compiled.note_sources()"; \
	else \
	  find src -name '*.so' -delete; \
	  echo "not compiled, so all runs as plain Python, only slower; it needs a C compiler and Python's headers" \
	    "(on Debian and Ubuntu: apt install gcc python3-dev). See build/compile.log" >&2; \
	fi

run: compile
	exec $(BIN)/quorate up $(ARGS)

# Everything upon the compiled modules, if there are any; then, upon the sources, all that needs no processes of its own
# or could not be done to compiled modules. All tests of one file run in one worker, so that what a file shares (a
# cluster) is started once.
test: test-compiled test-sources

test-compiled: compile
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(ARGS)

test-sources: $(STAMP)
	@test ! -e $(DIGEST) || QUORATE_PURE=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(or $(ARGS),$(SOURCE_TESTS))

static: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_import_law.py tests/unit/test_style.py

check: static test

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Needs a running cluster: `make run` in another terminal.
bench: compile
	$(BIN)/quorate bench $(ARGS)

# Half an hour on two cores. `make sim FIRST=1 ARGS='--faults wipe,power'` chooses; build/sim.json tells what came of it.
sim: compile
	$(BIN)/quorate sim $(if $(FIRST),--seed $(FIRST)) --runs $(SEEDS) --seconds $(SECONDS) --report build/sim.json $(ARGS)

sim-quick: compile
	$(BIN)/quorate sim $(if $(FIRST),--seed $(FIRST)) --runs 100 --seconds 30 --report build/sim-quick.json $(ARGS)

# Faults on five real processes, a few minutes; some need root, and say so. The figures go to docs/reliability.
trials: compile
	for trial in kill pause restart network disk-full clock; do \
	  $(BIN)/python -m quorate.trials $$trial --json build/trial-$$trial.json $(ARGS) || exit 1; done

reliability: $(STAMP)
	$(BIN)/python -m quorate.trials.reliability

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src -name '*.so' -delete; rm -f $(DIGEST)
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
