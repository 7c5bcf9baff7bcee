# The project's verbs. `make run` is all a user needs; CI runs `make test`.

PYTHON ?= python3
BIN := .venv/bin
# npm as set-up finds it: the one it had to put into .venv, else the system's
NPM = PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix web --silent

.DEFAULT_GOAL := help
.PHONY: help setup run dev test check static format lock doctor clean

# $(call phase,NAME,COMMAND): run it, say how long it took, stop at a failure
phase = @echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): $$(( $$(date +%s) - start )) s"

help:
	@echo "make run      set up what is missing, then serve http://127.0.0.1:8000"
	@echo "make setup    .venv, weights and UI, each only if its inputs changed"
	@echo "make dev      serve with reload, and the UI's development server"
	@echo "make check    format, lint, types, import layers, unit tests, the UI's tests"
	@echo "make test     the same, and contract, integration, end-to-end, browser and load tests"
	@echo "make format   put the sources into shape"
	@echo "make lock     renew constraints.txt"
	@echo "make doctor   which engine serves each stage, and why"
	@echo "make clean    remove what set-up made in this folder (weights and data stay)"

setup:
	@$(PYTHON) scripts/setup.py

run: setup
	@$(BIN)/python run_server.py $(ARGS)

dev:
	@$(PYTHON) scripts/setup.py --dev --only venv web weights
	@$(BIN)/python run_dev.py $(ARGS)

test:
	@$(PYTHON) scripts/setup.py --dev
	@$(MAKE) --no-print-directory static
	@echo "== pytest"
	@$(BIN)/pytest -n 2 --dist loadfile tests

check:
	@$(PYTHON) scripts/setup.py --dev --only venv web
	@$(MAKE) --no-print-directory static
	@echo "== unit tests"
	@$(BIN)/pytest tests/unit

static:
	$(call phase,format,$(BIN)/ruff format --check --quiet .)
	$(call phase,lint,$(BIN)/ruff check --quiet .)
	$(call phase,types,$(BIN)/mypy --explicit-package-bases src tests scripts run_server.py run_dev.py)
	$(call phase,generated files,$(BIN)/python scripts/wire_types.py --check && $(BIN)/python scripts/docs.py --check)
	$(call phase,import layers,$(BIN)/lint-imports --no-logo)
	$(call phase,UI lint and types,$(NPM) run lint)
	$(call phase,UI unit tests,$(NPM) test)

format:
	@$(PYTHON) scripts/setup.py --dev --only venv
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lock:
	@$(PYTHON) scripts/lock.py $(ARGS)

doctor: setup
	@$(BIN)/avatar doctor

clean:
	rm -rf .venv web/node_modules web/dist tests/js/node_modules src/avatar/server/ui
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
