# Everything happens in .venv, made on first use. `make PYTHON=python3.12 test` chooses another Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NETWORK := $(foreach part,sampler transformer build cost rectify,tests/subjects/stn/nn/test_nn_$(part).py) tests/subjects/stn/test_averaging.py

.PHONY: quickstart test test-lowest test-slow test-faults test-ray test-jax format check types benchmarks clean

quickstart: $(VENV)/.installed
	$(BIN)/stn-bench run quickstart

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory check types VENV=$(VENV)
	$(BIN)/pytest

# The same tests at the lowest versions that pyproject.toml allows; old libraries warn of what newer ones below them drop.
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/pytest -W ignore::DeprecationWarning --ignore tests/runner/test_runner.py

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

# Kills, stops and fills up on purpose; FAULTS=1 for all the turns in docs/reliability.md, which take over an hour.
FAULTS ?= 0.1
test-faults: $(VENV)/.installed-dev
	STN_BENCH_FAULTS=$(FAULTS) $(BIN)/pytest -m faults -n0

# On a Ray cluster of two nodes of this machine.
test-ray: $(VENV)/.installed-ray
	$(BIN)/pytest -m slow -n0 tests/runner/test_cluster.py

test-jax: $(VENV)/.installed-jax
	KERAS_BACKEND=jax $(BIN)/pytest $(NETWORK)

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

benchmarks: $(VENV)/.installed-bench
	for script in verdicts judge records same data sampler train_step recipe_step harness workers memory claims cell; do $(BIN)/python benchmarks/$$script.py; done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-jax: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet -e ".[dev,jax]"
	touch $@

$(VENV)/.installed-ray: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet -e ".[dev,ray]"
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet -e ".[dev,bench]"
	touch $@

.venv-lowest/.installed: pyproject.toml requirements/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	.venv-lowest/bin/python -m pip install --quiet -e ".[dev]" -c requirements/lowest.txt
	touch $@

clean:
	rm -rf .venv .venv-lowest build dist .mypy_cache .pytest_cache .ruff_cache
