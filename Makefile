# `make` lints and tests. `make run RATIO=5` runs the experiment. Only python3 (3.11 to 3.13) is needed beforehand.

RATIO ?= 5
# More parameters for `make run`, e.g. PARAMS="-P data=/data/cryoppp -P seed=3"
PARAMS ?=
# Further options of pytest, e.g. PYTEST="-k split"
PYTEST ?=
# Tests wait for disks, servers and time limits for half of their time, so there is a worker more than cores. A worker
# costs up to 1.5 GB; more than five wait for each other's disk.
WORKERS ?= -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 5 --dist loadfile

# Tests that note a figure of a fault.
FAULTS := tests/faults $(addprefix tests/,$(addsuffix .py,e2e/test_rolled_back_stores e2e/test_file_storage e2e/test_peers_without_end \
  e2e/test_moved_project unit/data/test_store_faults unit/analysis/test_comparison))

export MLFLOW_TRACKING_URI ?= sqlite:///mlflow.db
export MLFLOW_EXPERIMENT_NAME ?= cryossl
export MLFLOW_DISABLE_TELEMETRY = true
BIN := $(CURDIR)/.venv/bin

.DEFAULT_GOAL := check
.PHONY: check lint test slow faults slurm bench run quick venv docs help

check: lint test ## lint + test (the default)

venv: ## make or mend .venv from requirements.lock
	@scripts/make-venv

run: venv ## run the experiment: make run RATIO=10 PARAMS="-P seed=3", or a demonstration: PARAMS="-P quick=true"
	PATH="$(BIN):$$PATH" $(BIN)/mlflow run . --env-manager local -P ratio=$(RATIO) $(PARAMS)

quick: venv ## a demonstration on the embedded data, about two minutes on two cores
	PATH="$(BIN):$$PATH" $(BIN)/cryossl run --quick $(PARAMS)

lint: venv ## ruff, import contracts, mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

test: venv ## the test suite, without what takes minutes
	$(BIN)/python -m pytest -m "not slow" $(WORKERS) $(PYTEST)

slow: venv ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST)

faults: venv ## every fault at length: hours, and the figures of docs/reliability.md in benchmarks/results/faults.md
	$(BIN)/python -m pytest $(FAULTS) --faults long --figures benchmarks/results -o timeout=0 $(PYTEST)

slurm: venv ## sweeps on a real Slurm of one node, at length: its jobs preempted, cancelled, over their time, the node set down
	$(BIN)/python -m pytest tests/e2e/test_slurm.py tests/e2e/test_slurm_losses.py tests/e2e/test_tuning_slurm.py --faults long --figures benchmarks/results -o timeout=0 $(PYTEST)

bench: venv ## the benchmarks: a table, and JSON in benchmarks/results
	$(BIN)/python -m benchmarks

docs: venv ## the pages as a site in site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
