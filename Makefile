# Everything runs from .venv, which is rebuilt when pyproject.toml or constraints.txt change.
PYTHON    ?= python3
# Test processes beside each other, each of one thread.
WORKERS   ?= auto
# Extra arguments for pip, such as an index with CPU builds of torch.
PIP_FLAGS ?=

BIN       := .venv/bin
STAMP     := .venv/.installed
DOCS      := .venv/.installed-docs
PIP       := $(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench docs clean distclean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(STAMP)  ## install, then compare optimizers on handwritten digits; the report goes to thalweg-out/
	$(BIN)/thalweg compare

test: export OMP_NUM_THREADS ?= 1
test: export MPLBACKEND ?= Agg
test: $(STAMP)  ## lint, format, types, tests and doctests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --summarize-errors
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-slow: export OMP_NUM_THREADS ?= 1
test-slow: export MPLBACKEND ?= Agg
test-slow: $(STAMP)  ## the slow tests alone
	$(BIN)/python -m pytest -m slow

bench: $(STAMP)  ## run every script of benchmarks/
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
	    echo "== $$script"; $(BIN)/python $$script; \
	done

docs: $(DOCS)  ## build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## remove caches and build output; keep .venv and thalweg-out/
	rm -rf build dist docs/_build .pytest_cache .ruff_cache .hypothesis
	find src tests docs -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf .venv

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing thalweg and its tools into .venv (a few minutes the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) -c constraints.txt -e ".[dev]"
	@touch $@
	@echo "Installed: $$($(BIN)/python -V), torch $$($(BIN)/python -c 'import torch; print(torch.__version__)')."

$(DOCS): $(STAMP)
	@echo "Installing the documentation tools into .venv ..."
	@$(PIP) -c constraints.txt -e ".[docs]"
	@touch $@
