# Two commands do everything on a fresh Debian with Python: `make demo` and `make test`.
PY := .venv/bin/python
CODE := hcp schemas streams agents controllers sinks simulators backtest gateway replay tests bench
SPEED ?= 1200
DEMO_ARGS ?=
# Tests wait more than they work; each worker has services of its own, about 1 GiB. 0 runs them in one process.
WORKERS ?= 3

.PHONY: help setup demo test test-recorded check format schemas bench compiled lock clean

help: ## Show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv exactly what the lock files say
	@scripts/bootstrap

demo: setup ## Install and start everything, replay a recorded week, show it live; Ctrl-C ends it
	@.venv/bin/hcp demo --speed $(SPEED) $(DEMO_ARGS)

test: setup ## The whole suite against real Kafka, TimescaleDB and Redis
	$(PY) -m pytest -m "not recorded" -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

test-recorded: setup ## Tests on recorded market data, found by HCP_DATA_DIR
	$(PY) -m pytest -m recorded $(PYTEST_ARGS)

check: setup ## Format, lint, types, import contracts
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/ruff check $(CODE)
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup ## Let the formatter and the safe fixes have their way
	.venv/bin/ruff format $(CODE)
	.venv/bin/ruff check --fix $(CODE)

schemas: setup ## Write schemas/avro anew from hcp.model
	$(PY) -c "from pathlib import Path; from hcp.codecs.derive import write; write(Path('schemas/avro'))"

bench: setup ## Every benchmark, one after the other; record what they print in docs/benchmarks.md
	@for each in bench/bench_*.py; do echo "== $$each"; $(PY) $$each || exit 1; done

compiled: setup ## A copy in .hcp/compiled whose backtests run compiled to C (docs/backtest.md), and its tests; needs gcc
	$(PY) scripts/compile.py
	cd .hcp/compiled && $(CURDIR)/$(PY) -m pytest -q tests/unit/backtest tests/unit/streams tests/property -m "not recorded" \
	  --deselect tests/unit/streams/test_outlook.py::test_the_record_names_what_it_is_for $(PYTEST_ARGS) # asks for __slots__

lock: ## Resolve the dependencies anew into requirements.lock
	.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --extra stack --extra mongo --group dev \
	  --generate-hashes --no-header --no-annotate --quiet -o requirements.lock

clean: ## Remove the virtual environment and all local state (stacks included)
	rm -rf .venv .hcp .pytest_cache .ruff_cache .mypy_cache
