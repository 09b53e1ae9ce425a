PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo paper test test-slow test-gpu lint docs bench bench-gpu clean

setup: $(STAMP)

# Installs again when the requirements have changed.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev,docs]'
	touch $@

demo: setup
	$(BIN)/rankward -m experiment=figure1

# Tries the statements and draws the figures of the paper: about eleven minutes. QUICK=1: a minute and a half.
paper: setup
	$(BIN)/rankward paper $(if $(QUICK),--quick)

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The kernel of the GPU is compiled and simulated without a GPU; ptxas reports its register spills.
GPU := $(VENV)/.ready-gpu
$(GPU): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[gpu]' nvidia-cuda-nvcc
	touch $@

# The tests of SLURM run last and alone: its one node takes all cores.
test-slow: $(GPU)
	$(BIN)/python -m pytest -m slow -n 2 --dist worksteal --ignore tests/sweeps/test_slurm.py
	$(BIN)/python -m pytest -m slow tests/sweeps/test_slurm.py

# These need an NVIDIA GPU.
test-gpu: $(GPU)
	$(BIN)/python -m pytest -m gpu

bench-gpu: $(GPU)
	$(BIN)/python -m benchmarks.gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m sphinx -W --keep-going -b html -q docs docs/_build
	@echo docs/_build/index.html

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.factorizations
	$(BIN)/python -m benchmarks.tensors
	$(BIN)/python -m benchmarks.indexed
	$(BIN)/python -m benchmarks.sweeps
	$(BIN)/python -m benchmarks.flow

clean:
	rm -rf $(VENV) docs/_build docs/api .pytest_cache .mypy_cache .ruff_cache
