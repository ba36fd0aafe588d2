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

# One test process per core, with one thread each. Bytecode is kept even if the shell says otherwise: many tests start
# Python, and each would compile torch again, which takes seconds.
test: export PYTHONDONTWRITEBYTECODE =
test: export OMP_NUM_THREADS = 1
test: setup
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --durations=10

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
