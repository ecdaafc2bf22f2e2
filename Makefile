# Two commands do everything on a fresh machine:  make example   and   make test
# Options: PYTHON=python3.12     interpreter that makes .venv
#          TORCH_INDEX=<url>     index of the torch build, e.g. https://download.pytorch.org/whl/cpu
#          DATA=<folder>         example on CMS Open Data, with results in results-htautau
#          RESULTS=<folder>      another folder of results
#          CLIENT=tcp://…        an existing Dask scheduler instead of a local cluster
#          JOBS=2                processes that run the tests
#          TESTS=tests/…         some of the tests
PYTHON ?= python3
VENV := .venv
PINS := constraints.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(PINS)
RESULTS ?= $(if $(DATA),results-htautau,results)
EVENTS ?= example_data
JOBS ?= 2

.PHONY: help env example test test-facility unit check map benchmark clean
help:
	@sed -n 's/^# //p' Makefile | head -8
	@echo "targets: example test test-facility check map benchmark clean"

env: $(READY)

$(READY): pyproject.toml $(PINS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(PIP) --editable ".[bench]"
	touch $@

example: $(READY)
	$(BIN)/python -m example_analysis all $(if $(DATA),--data "$(DATA)") $(if $(CLIENT),--client "$(CLIENT)") \
		--events "$(EVENTS)" --out "$(RESULTS)"

test: check unit

# the tests with coffea and dask of the analysis facilities' images, in an environment of their own
test-facility:
	$(MAKE) VENV=.venv-facility PINS=constraints-facility.txt unit

# one thread for each of the processes: on few cores more of them only wait for each other
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

# what the hooks of pre-commit check, and the imports; the last line is about white space in a clone
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/rumdl check .
	$(BIN)/repo-review --show err .
	$(BIN)/zizmor --quiet --offline .github
	if git rev-parse --verify --quiet HEAD >/dev/null; then git diff --check $$(git hash-object -t tree /dev/null); fi

# rooms and arrows of ARCHITECTURE.md, from the imports
map: $(READY)
	$(BIN)/python tests/made_house.py

benchmark: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-only --override-ini addopts=

clean:
	rm -rf $(VENV) .venv-facility .nox results results-htautau "$(RESULTS)" "$(EVENTS)"
