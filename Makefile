# Every recipe works on a fresh clone with Python 3.11+, git and make: it makes .venv with what it needs first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-demo
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

.PHONY: demo test sweep mutate check fix bench docs lock clean

demo: $(DEMO_STAMP)
	$(BIN)/firmplan demo

# One process a core. Whoever runs a part by hand needs no more than `pytest PATH`.
test: $(STAMP)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

# The laws with all their seeds and examples, of which the tests try a sample: takes an hour or more.
sweep: $(STAMP)
	$(BIN)/python scripts/sweep.py

# Small changes of the machine, the evaluator and the stores, each of which a test has to notice: takes hours; see docs/TESTING.md.
mutate: $(STAMP)
	$(BIN)/python scripts/mutate.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/typecheck
	$(BIN)/lint-imports --no-cache

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	failed=0; for script in benchmarks/bench_*.py; do $(BIN)/python $$script || failed=1; done; exit $$failed

docs: $(STAMP)
	$(BIN)/python scripts/docs.py

# What resolves today, kept so that every fresh clone gets the same.
lock:
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install -q ".[dev]"
	.venv/lock/bin/pip freeze --exclude firmplan > requirements.lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# One environment for all recipes: editable, so that a change needs no new install. The demo needs no tools of
# development, and stops at the smaller set (with the server, which its last lines suggest).
$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/pip || scripts/venv $(PYTHON)
	@echo "installing into .venv; the first time takes about a minute"
	$(PIP) install -c requirements.lock -e ".[dev]"
	@touch $(STAMP) $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/pip || scripts/venv $(PYTHON)
	@echo "installing into .venv; the first time takes about a minute"
	$(PIP) install -c requirements.lock -e ".[server]"
	@touch $(DEMO_STAMP)
