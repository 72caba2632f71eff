# Every recipe works on a fresh clone with Python 3.11+, git and make: it makes .venv with what it needs first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEMO_STAMP := .venv/.installed-demo
AUDIT_STAMP := .venv/.installed-audit
HTTP := .venv/http
HTTP_STAMP := $(HTTP)/.installed
SITE := .venv/site
SITE_STAMP := $(SITE)/.installed
PEERS := dbos hamilton langgraph prefect pydantic_graph
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

.PHONY: demo test sweep mutate check fix bench bench-guard peers performance docs site page check-page check-image lock audit clean

demo: $(DEMO_STAMP)
	$(BIN)/firmplan demo

# Two processes for each core (`tests/conftest.py`). Whoever runs a part by hand needs no more than `pytest PATH`.
# The processes of tests and those that they start, hundreds, share the bytecode of what they import, whatever the environment says of writing it.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP) $(HTTP_STAMP)
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

# Counts of calls, which are the same on every machine, beside the committed ones; UPDATE=1 commits to those of today.
bench-guard: $(STAMP)
	$(BIN)/python benchmarks/bench_calls.py $(if $(UPDATE),--update)

# firmplan beside its peers, each in an environment of its own; the figures go into docs/PERFORMANCE.md.
peers: $(PEERS:%=.venv/peers/%/.installed)
	$(BIN)/python benchmarks/compare_peers.py --json benchmarks/peers/figures.json
	$(BIN)/python benchmarks/report.py

# The tables and the plot of docs/PERFORMANCE.md, measured anew; takes a quarter of an hour, and wants a quiet machine.
performance: $(STAMP)
	$(BIN)/python benchmarks/bench_steps.py --large --json benchmarks/figures.json; status=$$?; $(BIN)/python benchmarks/report.py; exit $$status

docs: $(STAMP)
	$(BIN)/python scripts/docs.py
	$(BIN)/python scripts/planning.py

# The documentation as a site, into build/site/html: every link, anchor and page of the navigation is checked.
site: $(SITE_STAMP)
	$(BIN)/python scripts/build_site.py

# The web page, from its sources in service/web. What it builds is committed: who installs firmplan needs no Node.
page: $(STAMP)
	scripts/page

check-page: $(STAMP)
	scripts/page check

# The build of deploy/Dockerfile without a container: it installs packages, so it is no part of the tests, which talk to this machine alone.
check-image: $(STAMP)
	$(BIN)/pytest -q tests/deploy/build_image.py

# What resolves today, on every platform, with the hashes of all files: every fresh clone gets the same, byte by byte.
lock:
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	.venv/lock/bin/pip install -q uv
	.venv/lock/bin/python scripts/lock.py write

# Hashes, versions and licences of what is installed; known vulnerabilities, where a source of advisories is reachable.
audit: $(AUDIT_STAMP)
	$(BIN)/python scripts/audit.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache

# One environment for all recipes: editable, so that a change needs no new install. The demo needs no tools of
# development, and stops at the smaller set (with the server, which its last lines suggest). Nothing is installed that is
# not in the lock with its hash, what builds firmplan included. The lock is complete, so pip is told to resolve nothing (--no-deps): before 23.3 it
# would take `pyjwt[crypto]`, which one package needs, for something other than the `pyjwt` of the lock, and want the newest that the index has.
define install
	@test -x $(BIN)/pip || scripts/venv $(PYTHON)
	@echo "installing into .venv; the first time takes about a minute"
	@$(BIN)/python scripts/lock.py select $(1) > .venv/selected.txt
	$(PIP) install --no-deps --require-hashes -r .venv/selected.txt
	$(PIP) install --no-deps --no-build-isolation -e .
endef

$(STAMP): pyproject.toml requirements.lock
	$(call install,dev)
	@touch $(STAMP) $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml requirements.lock
	$(call install,server)
	@touch $(DEMO_STAMP)

# The programs that test the HTTP API from outside want older versions of packages that firmplan uses.
$(HTTP_STAMP): requirements-http.lock | $(STAMP)
	$(BIN)/python -m venv --without-pip --clear $(HTTP)
	$(PIP) --python $(HTTP)/bin/python install --no-deps --require-hashes -r requirements-http.lock
	@touch $(HTTP_STAMP)

# What builds the site is nobody else's affair: an environment and a lock of its own.
$(SITE_STAMP): requirements-site.lock | $(STAMP)
	$(BIN)/python -m venv --without-pip --clear $(SITE)
	$(PIP) --python $(SITE)/bin/python install --no-deps --require-hashes -r requirements-site.lock
	@touch $@

# What a peer needs is nobody else's affair: one environment and one lock each.
.venv/peers/%/.installed: benchmarks/peers/%.lock | $(STAMP)
	$(BIN)/python -m venv --without-pip --clear .venv/peers/$*
	$(PIP) --python .venv/peers/$*/bin/python install --no-deps --require-hashes -r $<
	@touch $@

$(AUDIT_STAMP): pyproject.toml requirements.lock
	$(call install,dev audit)
	@touch $(STAMP) $(DEMO_STAMP) $(AUDIT_STAMP)
