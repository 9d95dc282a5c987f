PYTHON ?= python3
PORT ?= 8000
HOST ?= 127.0.0.1
BIN = .venv/bin
DATA ?= ../shared/data
# Where torch and torchvision come from; empty: pip's own index, whose builds for x86_64 bring CUDA along.
TORCH_INDEX ?= $(shell cat .venv/torch-index 2>/dev/null)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_HOME = var/demo
# The demo has servers and files of its own, whatever the environment names for a real installation.
DEMO = env -u AISLE_PRODUCTION -u DATABASE_URL -u REDIS_URL -u AWS_STORAGE_BUCKET_NAME -u EMAIL_URL -u ALERT_WEBHOOK_URL AISLE_HOME=$(DEMO_HOME)
INSTALL_FAILED = echo "The packages could not be installed: the reason is above. Where a package has to be built, it needs a compiler (Debian: build-essential)."

.DEFAULT_GOAL := help
.PHONY: help install install-dev run demo screenshots test test-slow check format starter docs bench soak

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: .venv/installed  ## Set up the virtual environment in .venv

install-dev: .venv/installed-dev

run: .venv/installed  ## Set up and start everything, print where to click (PORT=8000, TORCH_INDEX=URL)
	@exec $(BIN)/python manage.py start --host $(HOST) --port $(PORT)

demo: .venv/installed  ## Start a second installation, filled with made-up shops and two weeks of data (PORT=8000)
	@$(DEMO) $(BIN)/python manage.py fill_demo
	@exec $(DEMO) $(BIN)/python manage.py start --host $(HOST) --port $(PORT)

screenshots: .venv/installed-dev  ## Take the README's pictures on the demo; needs Chromium
	$(DEMO) $(BIN)/python -m docs.screenshots

test: .venv/installed-dev  ## Run the tests over real servers, real models and a real browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/installed-dev  ## Run the tests of whole runs, which take minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

check: .venv/installed-dev  ## Lint, types, import contracts, migrations, deployment check, docs, manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check_production
	$(BIN)/python manage.py write_docs --check
	$(BIN)/python deploy/check.py

format: .venv/installed-dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/installed-dev  ## Write the generated docs: settings and the OpenAPI document
	$(BIN)/python manage.py write_docs

starter: .venv/installed  ## Train the starter models from product data (DATA=folder)
	AISLE_HOME=var/starter $(BIN)/python manage.py train_starter $(DATA)

bench: .venv/installed-dev  ## Measure serving speed on this machine
	$(BIN)/python -m benchmarks.serving

soak: .venv/installed-dev  ## Half an hour of load while workers are killed and servers restart
	$(BIN)/python -m benchmarks.soak

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Aisle needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "This Python can't make virtual environments. On Debian or Ubuntu: apt install python3-venv. Then try again."; exit 1; }

# PyTorch comes first and alone: pip would otherwise prefer the build on its own index. A build such as 2.14.1+cpu
# satisfies the pin torch==2.14.1, so the second step keeps it, and so do later ones: the address is written down.
.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing Aisle's packages into .venv: some minutes and some GB the first time."
	@if [ -n "$(TORCH_INDEX)" ]; then \
		$(PIP_INSTALL) --no-deps --index-url "$(TORCH_INDEX)" torch torchvision || { $(INSTALL_FAILED); exit 1; }; \
		echo "$(TORCH_INDEX)" > .venv/torch-index; \
	fi
	$(PIP_INSTALL) --editable . || { $(INSTALL_FAILED); exit 1; }
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP_INSTALL) --editable '.[dev]' || { $(INSTALL_FAILED); exit 1; }
	@touch $@
