# make run | test | test-slow | bench | clean      (needs python3 >= 3.11 with venv)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt

# One short plan makes numba compile the kernels and keep them on disk, so that no later plan waits for that.
COMPILE = @echo "compiling kernels (once)"; \
	$(BIN)/pathloom plan examples/gcp12-llama-500m.yaml --time 1 --out $(VENV)/first-plan >/dev/null 2>&1 || true

.PHONY: run test test-slow bench clean distclean

# Plan the example: a table on the terminal, plan.json, page, picture and trace in gcp12-llama-500m-plan/.
run: $(VENV)/.installed
	$(BIN)/pathloom plan examples/gcp12-llama-500m.yaml

# Fast tests; tests/test_quality.py among them runs ruff, mypy and import-linter.
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Everything, the tests marked slow too.
test-slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or not slow"

# make bench lists the benchmarks, make bench NAME=... ARGS="..." runs one.
bench: $(VENV)/.installed-bench
	$(BIN)/pathloom bench $(NAME) $(ARGS)

clean:
	rm -rf build dist out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# Stamps: a second make does nothing here unless the requirements have changed.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	$(COMPILE)
	@touch $@

# PyTorch first, at the pinned version: whatever asks for "torch" after that is content with it.
$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) -e '.[test]'
	$(COMPILE)
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(PIP) -e '.[bench]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
