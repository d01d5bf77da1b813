# Everything runs from one virtual environment. `make` alone says what there is.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Packages are installed uncompiled; without their bytecode every process would spend half a minute on imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-aerospike test-faults test-soak pytest story lint types bench protos train-tiny constraints clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install everything into it; a second time it returns at once

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): 2.8 GB, mostly PyTorch and Dagster; three to five minutes, once"
	$(BIN)/python -m pip install --no-compile --disable-pip-version-check --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY) ## Tell the whole story on this machine, then end (six or seven minutes; again: seconds, all is reused)
	@$(BIN)/python -m deploy.local.demo

dev: $(READY) ## Dagster UI, daemon, MLflow and the service on the state that the demo left; Ctrl-C stops them
	@$(BIN)/python -m deploy.local.dev

test: lint types pytest ## Lint, import contracts, types and tests

pytest: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-aerospike: $(READY) ## The store's tests on the server in AEROSPIKE_HOSTS; AEROSPIKE_ASD, its program, for faults
	AEROSPIKE_HOSTS=$${AEROSPIKE_HOSTS:-127.0.0.1:3000} $(BIN)/python -m pytest -n $(JOBS) --dist loadfile \
	  tests/store tests/deploy/test_aerospike_configs.py

test-faults: $(READY) ## Kill workers and servers under the store (some eight minutes); AEROSPIKE_ASD as above
	$(BIN)/python -m pytest -m faults tests/faults

test-soak: $(READY) ## The service in long runs: champions changed, processes killed, memory watched (some ten minutes)
	$(BIN)/python -m pytest -m soak tests/soak

story: $(READY) ## The demo as a test: told from nothing, checked, told again (some eight minutes)
	$(BIN)/python -m pytest -m story tests/deploy/test_demo.py

lint: $(READY) ## Ruff and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: $(READY) ## Types, by ty
	$(BIN)/ty check --python $(VENV)

bench: $(READY) ## Measure what the README reports; takes a while, wants a quiet machine
	$(BIN)/python -m tests.benchmarks

protos: $(READY) ## Write the Python of the gRPC interface again from its protos
	$(BIN)/python -m videogen.protos.generate

train-tiny: $(READY) ## Train videogen-tiny again from its seeds; resumes where it stopped
	$(BIN)/python -m training

constraints: $(READY) ## Write the versions installed now into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e '^videogen' -e ' @ ' | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove the demo's state and every cache; .venv and var/training stay
	rm -rf $(addprefix var/,artifacts artifacts-cache dagster demo devices logs media mlartifacts mlflow.db* store videos)
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
