# Everything a developer does, one target each. Needs GNU make, git and Python 3.11 or newer with venv.
#
#   PYTHON=python3.12    the Python that .venv is made with (only when .venv is made)
#   ARGS="..."           passed on to the command of demo, test, faults, book, bench
#   TORCH_BACKEND=cpu    torch without CUDA: a far smaller download (uv's --torch-backend: cpu, cu126, auto, ...)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
TORCH_BACKEND ?=

.PHONY: help .venv demo test faults measure book export readme docs bench clean clean-venv

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z_.-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; sed -n '3,5s/^#//p' $(firstword $(MAKEFILE_LIST))

.venv: $(STAMP) ## Set up the development environment (done by itself where a target needs it)

# Made again only when what it depends on changes. An environment cut off half-way has no working pip and is replaced.
$(STAMP): settings.ini setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); fetal_seg needs Python 3.11 or newer. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || echo "Note: fetal_seg is tested with Python 3.11 to 3.13; this is $$($(PYTHON) -V 2>&1)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making $(VENV) with $$($(PYTHON) -V)"; \
	  $(PYTHON) -m venv --clear $(VENV) || { echo "No environment without venv and ensurepip (on Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }; }
	@echo "Installing the packages of constraints.txt (the first time: some minutes, a few GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -c constraints.txt -b constraints.txt \
	  $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) -e '.[dev]'
	@touch $@

demo: $(STAMP) ## The whole job on simulated pictures, into demo/ (ARGS="--raw DIR" for real ones)
	@$(BIN)/fetal_seg_demo --out demo $(ARGS)

test: $(STAMP) ## Every check; the last line says N passed, M failed (ARGS="--help" for parts of it)
	@$(BIN)/python tools/check.py $(ARGS)

faults: $(STAMP) ## Hostile inputs, all of them: a table of what became of each (ARGS="--group c")
	@$(BIN)/python tests/faults/corpus.py $(ARGS)

measure: $(STAMP) ## How long cells, functions and lines are, beside fastai's
	@$(BIN)/python tools/measure.py $(ARGS)

book: $(STAMP) ## Run the notebooks and store their outputs (ARGS="nbs/00_data.ipynb" for one)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/book.py $(ARGS)

export: $(STAMP) ## Write the library from the notebooks, and clean the notebooks
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean
	@$(BIN)/python tools/stubs.py

readme: $(STAMP) ## Write README.md from nbs/index.ipynb
	@$(BIN)/python tools/readme.py

docs: $(STAMP) ## Write the site into _docs/ (needs Quarto; without it the pages are prepared in _proc/)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/docs.py

bench: $(STAMP) ## Run the benchmarks, tools/bench*.py
	@set -e; ls tools/bench*.py >/dev/null 2>&1 || { echo "No benchmark here yet: tools/ has no bench*.py" >&2; exit 1; }; \
	for f in tools/bench*.py; do echo "== $$f"; $(BIN)/python $$f $(ARGS); done

clean: ## Remove what make wrote: demo/, _docs/, _proc/, build/, dist/, caches (not .venv, not runs/)
	rm -rf demo _docs _proc build dist .pytest_cache nbs/nbdev.yml nbs/sidebar.yml
	find fetal_seg tests tools nbs -name __pycache__ -o -name .ipynb_checkpoints | xargs -r rm -rf

clean-venv: ## Remove the development environment
	rm -rf $(VENV)
