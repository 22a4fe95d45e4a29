# Every target works on a machine that has Python >= 3.11 and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FRAMEWORKS := .venv-frameworks

.PHONY: demo test test-frameworks test-slow test-versions compose-test lint format install components clean screenshots

demo: install  ## Train a small CNN under the controller and draw what happened.
	$(BIN)/dcao demo

test: install components  ## The whole fast suite, against real components.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-frameworks: $(FRAMEWORKS)/.installed  ## JAX, Lightning, Accelerate and the loggers, in an environment of their own.
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR) $(FRAMEWORKS)/bin/pytest tests/frameworks

test-slow: install components  ## The proofs that take minutes.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

test-versions: install  ## Every command, and a worker under a controller, with the lowest and the newest versions allowed.
	$(BIN)/python scripts/versions.py lowest newest

compose-test:  ## The stack for real: up, killed, scaled, a Swarm. Starts a Docker engine where none answers.
	sh tests/deploy/compose/run.sh

screenshots: install components  ## The pictures of docs/images, from real training runs.
	$(BIN)/python -m scripts.screenshots

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/.installed

# One stamp: the environment is made anew when the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt scripts/install.sh
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install.sh
	touch $@

$(FRAMEWORKS)/.installed: pyproject.toml constraints.txt constraints-frameworks.txt scripts/frameworks.sh
	PYTHON=$(PYTHON) VENV=$(FRAMEWORKS) scripts/frameworks.sh
	touch $@

components:  ## redis-server, Prometheus, a browser, real images: whatever the tests talk to.
	scripts/components.sh

clean:
	rm -rf $(VENV) $(FRAMEWORKS) .dcao out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
