# `make demo` and `make test` do all on a fresh machine with Python 3.11-3.13, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test processes; whole files go to each. Every one of them may start a Ray cluster of two cores.
TEST_PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

.PHONY: help demo test test-all test-slow soak bench check docs docs-check clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/installed ## photos to a promoted model, in a few minutes of two cores
	$(BIN)/lacuna demo

test: $(VENV)/dev ## tests for the inner loop, some two minutes
	$(PYTEST) -m "not thorough and not slow and not soak"

test-all: $(VENV)/dev ## all tests that take seconds
	$(PYTEST) -m "not slow and not soak"

test-slow: $(VENV)/dev ## the tests that take minutes: kills, real services, several processes
	$(PYTEST) -m "slow and not soak" --durations 30

soak: export LACUNA_SOAK_KILLS = 50
soak: export LACUNA_SOAK_DAMAGES = 10000
soak: export LACUNA_SOAK_WORLDS = 2000
soak: export LACUNA_SOAK_CHECKPOINT_DAMAGES = 1000
soak: export LACUNA_SOAK_TRAINING_KILLS = 20
soak: $(VENV)/dev ## the same laws over large numbers of kills and damages; interrupted, it goes on
	$(BIN)/python -m pytest -p tests.soaking -m "slow or not slow" tests/laws tests/journey
	$(BIN)/python -m pytest -p tests.soaking -m soak

bench: export MALLOC_MMAP_THRESHOLD_ = 4000000000
bench: export MALLOC_TRIM_THRESHOLD_ = 4000000000
bench: $(VENV)/dev ## speed and memory beside the peers, on the photos under LACUNA_DATA
	$(BIN)/lacuna probe
	$(BIN)/python -m tests.benchmarks.one_photo
	$(BIN)/python -m tests.benchmarks.builds
	$(BIN)/python -m tests.benchmarks.masks
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.stream
	$(BIN)/python -m tests.benchmarks.loading
	$(BIN)/python -m tests.benchmarks.memory_of_changes
	$(BIN)/python -m tests.benchmarks.scale
	$(BIN)/python -m tests.benchmarks.training
	$(BIN)/python -m tests.benchmarks.metrics

check: $(VENV)/dev ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/docs ## the pages as a site in build/site, with the reference from its docstrings
	$(BIN)/python -m tests.api_page
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-check: $(VENV)/dev ## links, words and examples of the pages, and every command on them
	$(BIN)/python -m pytest -m "slow or not slow" tests/test_pages.py tests/journey/test_pages.py

clean: ## removes the virtual environment and every demo
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .soak

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing pinned packages into $(VENV) (about a minute)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

$(VENV)/docs: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	@touch $@
