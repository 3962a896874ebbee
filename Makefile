# make demo: train a small ladder of models and write its report.  make test: the tests.  Both set up .venv first.

PYTHON ?= python3
CONSTRAINTS ?= constraints/cpu.txt
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: cluster demo demo-transfer test test-slow test-endurance test-simulations coverage lint format bench bench-eval bench-fit bench-gpu clean

demo: $(VENV)/installed
	$(BIN)/ladder run demo
	$(BIN)/ladder report demo

# After `make demo`: three of its sizes at their largest budgets, fine-tuned on SST-2 beside the same sizes from scratch
# and drawn in its report. With 1,500 phrases in place of 4,500 no size learns anything. DATA=DIR takes DIR/SST-2 in place
# of a download.
demo-transfer: $(VENV)/installed
	$(if $(DATA),,$(BIN)/ladder fetch --tasks sst2)
	$(BIN)/ladder finetune demo --largest --sizes 2x32,3x64h2,3x96h3 --tasks sst2 --seeds 2 --train-examples 4500 --concurrent-runs 2 $(if $(DATA),--data $(DATA))
	$(BIN)/ladder report demo

# A process on each of up to eight cores; a file's tests stay together.
TEST := $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not gpu and not network and not slow and not endurance and not simulation"

test: $(VENV)/installed-dev
	$(TEST) --durations=10

# The share of the lines that the tests run; to count them takes a fifth longer.
coverage: $(VENV)/installed-dev
	$(TEST) --cov --cov-report=term --cov-fail-under=85

# Ten lost nodes, a head that dies, a cluster that grows from nothing, a minute without object storage, twenty compiled
# shapes, the demo with three seeds: another half an hour.
test-endurance: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m endurance --durations=10

# The suite has a small version of each; these take about an hour of one core and show the figures in docs/log.md.
test-simulations: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m simulation -s --durations=10

# One process: beside another some of these fail.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "slow and not endurance and not gpu and not network" --durations=10

# ruff comes first: A005 catches a stray platform/__init__.py, with which Python itself no longer starts.
lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On a bare machine with torch, without the environment: nothing is installed and Ray is not needed.
bench-gpu:
	$(PYTHON) bench/gpu.py

# Some five minutes, on lambada and wikitext2 in ./storage: `ladder fetch lambada wikitext2`, or DATA=DIR with copies.
bench-eval: $(VENV)/installed-dev
	$(if $(DATA),$(BIN)/ladder fetch lambada wikitext2 --from $(DATA))
	$(BIN)/python bench/evaluation.py

bench-fit: $(VENV)/installed-dev
	$(BIN)/python bench/fits.py

bench: $(VENV)/installed-dev
	$(BIN)/python bench/training.py

# What the nodes of a cluster install (docs/cluster.md): cluster.yaml mounts it.
cluster: $(VENV)/installed
	bash platform/cluster/pack.sh $(BIN)/python

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "ladder wants Python 3.11 to 3.13, $(PYTHON) is `$(PYTHON) --version 2>&1`: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/pip install --quiet --progress-bar off -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --progress-bar off -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@
