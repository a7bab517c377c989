# `make demo`: make a data set from real images and train on it. `make test`: the fast tests. `make test-all`: every
# test. `make lint`: linter, formatter, type checker. `make docs`: the documentation as a site. `make notebook`: the
# outputs of the notebook. `make gpu-bundle`: what a machine with a GPU and no network needs to measure.
# `make release`: sdist and wheels in dist/, installed and tried in clean environments (docs/releasing.md).
# Each sets up .venv first where it is missing or older than the files that it is made from.

PYTHON ?= python3
BIN := .venv/bin
DEMO := inrs/demo
SOURCES := inr_factory/generation/fitting/fused.c inr_factory/learning/transforms/neuron_ops.c inr_factory/learning/alignment/linear_assignment.c inr_factory/learning/models/set_attention.c inr_factory/learning/models/norm_pools.c

.PHONY: demo test test-system test-all lint docs notebook gpu-bundle release clean

demo: .venv/compiled
	$(BIN)/inr-factory fit digits --views 2 --backend ray --out $(DEMO)
	$(BIN)/inr-factory verify $(DEMO) --render
	$(BIN)/inr-factory show $(DEMO)
	$(BIN)/inr-factory train $(DEMO) --out runs/demo

test: .venv/compiled
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/system

# Tests that start processes, Ray, compilers or browsers.
test-system: .venv/compiled
	$(BIN)/python -m pytest tests/system

test-all: test test-system

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Executes the notebook again, with its outputs.
notebook: .venv/compiled
	$(BIN)/jupyter-execute --inplace --NotebookClient.record_timing=False examples/fit_mix_look.ipynb
	rm -r examples/inrs/mine examples/runs/mine && rmdir examples/inrs examples/runs

# The images of Fashion-MNIST come from $INR_FACTORY_DATA, else from data/ or ../shared/datasets.
gpu-bundle: .venv/compiled
	$(BIN)/python pipelines/studies/gpu_bundle.py

# Dependencies come from the registry: about 5 GB for each Python and end of the ranges, one after the other.
release: .venv/installed
	$(BIN)/python pipelines/release/build_release.py

clean:
	rm -rf .venv site $(DEMO) runs/demo gpu-bundle

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; try: make PYTHON=python3.12'"
	@echo "Setting up .venv with everything that INR Factory can use: about two minutes, more on a slow line"
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# The C code is compiled by an install (hatch_build.py).
.venv/compiled: $(SOURCES) hatch_build.py | .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
