# make demo and make test do everything, set-up included; make setup is the step they share.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A folder of wheels that pip is told of (PIP_FIND_LINKS) is shown to uv too; elsewhere this is empty.
UV = UV_FIND_LINKS="$(PIP_FIND_LINKS)" VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q -c constraints.txt --override overrides.txt

.PHONY: setup demo test lint

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt overrides.txt
	@echo "Setting up $(VENV) (once; about 2 GB on disk)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q "uv>=0.13,<0.14"
	@$(UV) torch -e ".[dev]"
	@touch $@

demo: setup
	@$(BIN)/regard demo --out demo

test: setup
	@$(BIN)/python -m pytest

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
