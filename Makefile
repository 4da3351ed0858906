# Two commands do everything a newcomer needs; both set up what they miss and work again without a network.
PYTHON := .venv/bin/python
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: demo test test-full check bench setup-run setup-dev

demo: setup-run            ## the main job on embedded defaults: seven exams from report to index, five indexed
	@.venv/bin/poterne demo

test: setup-dev check      ## lint, types, import contracts, then the whole suite (at most 20 minutes on two cores)
	@$(PYTHON) -m pytest -n 2 -m "not full and not bench"

test-full: setup-dev check ## the same tests with large counts, then the planted defects of tests/mutants
	@$(PYTHON) -m pytest -m "not bench" --timeout 1800
	@$(PYTHON) -m tests.mutants

check: setup-dev           ## ruff, strict typing, import contracts
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet . && .venv/bin/mypy && .venv/bin/lint-imports

bench: setup-dev           ## measurements, printed with a named rival in the same run
	@$(PYTHON) -m pytest -m bench -s --timeout 1800 tests/benchmarks

setup-run:
	@.ci/setup run

setup-dev:
	@.ci/setup dev
