# Everything a newcomer needs: `make demo`, then `make test`. Only Python (3.10 to 3.12) and make are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than two cores: much of what tests of services do is to wait for what they have started or killed.
WORKERS ?= 3
# A token file that some other program left behind must not change how a local cluster behaves.
export RAY_AUTH_MODE ?= disabled

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (one to three minutes the first time)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: install
install: $(VENV)/installed ## make the environment in .venv

.PHONY: demo
demo: $(VENV)/installed ## from generated data to live predictions on port 8000, until Ctrl-C
	@exec $(BIN)/rayscore demo

.PHONY: serve
serve: $(VENV)/installed ## serve the champion on port 8000
	@exec $(BIN)/serve run ray_app:graph

.PHONY: test
test: $(VENV)/installed ## every test: unit, conformance, end to end
	$(BIN)/pytest -n $(WORKERS) --durations=10

.PHONY: lint
lint: $(VENV)/installed ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: clean
clean: ## remove the environment, caches and run-time files (var/)
	rm -rf $(VENV) var build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
