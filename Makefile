# Every target is documented by its ## comment; `make help` prints them. CI calls the same targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help up receiver test chaos fuzz guards check format docs site bench newcomer compose-test kubernetes-test lock clean

help: ## Print this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp per lock file: installing again costs nothing until the lock changes.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "onthedot needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "This Python cannot make virtual environments (on Debian and Ubuntu: install python3-venv)."; exit 1; }

$(VENV)/local.stamp: $(BIN)/python locks/local.txt
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/local.txt
	@touch $@

# The renderer of Helm charts says that it needs Python 3.12; it runs on 3.11.
$(VENV)/dev.stamp: $(BIN)/python locks/dev.txt locks/chart.txt
	@echo "Installing the development tools into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --ignore-requires-python -r locks/chart.txt
	@touch $(VENV)/local.stamp $@

up: $(VENV)/local.stamp ## Run everything on this machine: Postgres, Redis, a handler, two executors (PORT, EXECUTORS, DATA_DIR, DATABASE_URL, REDIS_URL)
	@exec $(BIN)/python -m local_stack

receiver: $(VENV)/local.stamp ## A receiver that prints each webhook, its lateness, and whether the signature holds (RECEIVER_PORT)
	@exec $(BIN)/python -m local_stack.receiver

test: $(VENV)/dev.stamp ## Run the tests on a real Postgres and Redis (TEST_DATABASE_URL, TEST_REDIS_URL, or Docker, or embedded)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

chaos: $(VENV)/dev.stamp ## Break everything under load, alone and combined; a line per scenario, ten minutes at most (ARGS='-k Redis')
	$(BIN)/python -m pytest -m chaos tests/chaos -n 2 --dist worksteal --session-timeout 450 $(ARGS)

fuzz: $(VENV)/dev.stamp ## Send a handler whatever its published document allows, and what it does not, for ten minutes
	$(BIN)/python -m pytest -m fuzz tests/acceptance/test_schema_fuzz.py $(ARGS)

guards: $(VENV)/dev.stamp ## Take out each guard of the code and see a test go red, half an hour (ARGS='rescue.sql gate.py')
	$(BIN)/python -m tests.guards $(ARGS)

check: $(VENV)/dev.stamp ## Format, lint, types, layers: what CI asks before the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp ## Make again what is made from the code: .env.example, docs/openapi.json, the reference, deploy/kubernetes, half the client
	$(BIN)/python -m shared.settings > .env.example
	$(BIN)/python -m handler_service.app > docs/openapi.json
	$(BIN)/python -m tests.deploy
	$(BIN)/python -m documentation
	$(BIN)/python client/make_synchronous.py
	PYTHONPATH=client $(BIN)/python -m onthedot.cli.reference > docs/reference/cli.md

site: $(VENV)/dev.stamp ## Build the documentation into build/site; what is broken refuses
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/dev.stamp ## Measure create/s, fire/s and lateness, each beside a floor from the same run
	$(BIN)/python -m benchmarks

newcomer: ## Walk a newcomer's path in a fresh clone and time it: clone, make up, the first webhook
	@$(PYTHON) -m benchmarks.newcomer

compose-test: $(VENV)/dev.stamp ## docker compose up, then break and scale it under load, ten minutes: needs a Docker engine
	$(BIN)/python -m pytest -m compose tests/compose $(ARGS)

kubernetes-test: $(VENV)/dev.stamp ## The manifests on a node of Kubernetes 1.20 to 1.23: needs root, a Docker engine, the programs (KUBERNETES_BIN)
	$(BIN)/python -m pytest -m kubernetes tests/kubernetes $(ARGS)

lock: $(VENV)/dev.stamp ## Resolve the dependencies again, with hashes and without any index address
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --upgrade --extra otel pyproject.toml -o locks/server.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header -c locks/server.txt --extra local pyproject.toml -o locks/local.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --allow-unsafe -c locks/local.txt -c locks/server.txt --extra dev pyproject.toml -o locks/dev.txt
	echo "helm-sdkpy>=0.1.32" | $(BIN)/uv pip compile --quiet --no-deps --python-version 3.12 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade - -o locks/chart.txt

clean: ## Remove what make made, the data included
	rm -rf $(VENV) .data build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
