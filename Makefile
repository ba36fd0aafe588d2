# make demo, make test and make lint run make setup first if necessary. CONTRIBUTING.md explains the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# If PIP_FIND_LINKS names a folder of wheels for pip, uv uses it too. Otherwise the variable is empty.
UV = UV_FIND_LINKS="$(PIP_FIND_LINKS)" VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q -c constraints.txt --override overrides.txt

.PHONY: setup demo test slow lint

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt overrides.txt
	@echo "Installing all packages in $(VENV) (only once; about 2.5 GB on disk)"
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
	@$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 8 --dist worksteal --durations=10

# Soaks, kill loops and load, one after another: they use several processes themselves.
slow: export PYTHONDONTWRITEBYTECODE =
slow: export OMP_NUM_THREADS = 1
slow: setup
	@$(BIN)/python -m pytest -m slow --durations=10

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
