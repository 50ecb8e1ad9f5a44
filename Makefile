# Two commands do everything on a machine with Python (3.11 or newer) and make:
#   make demo    installs brainalign into .venv, runs the demo, and says where the report is
#   make test    installs what the tests need as well, checks the code and runs all tests

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# A folder or address that is asked before the archives, in the layout <mirror>/<dataset>/<path>.
ifneq ($(wildcard ../shared/datasets),)
export BRAINALIGN_MIRROR ?= $(abspath ../shared/datasets)
endif

.PHONY: help demo test check clean

help:
	@sed -n 's/^#   //p' Makefile

# The constraints pin tested versions; where a CPU build of that torch is at hand, pip takes it.
$(BIN)/activate:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/activate
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/activate
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/demo.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/brainalign run demo --out results/demo --overwrite

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) results
