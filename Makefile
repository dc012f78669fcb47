# Each target does its own set-up from nothing but Python 3.11+; a second call starts at once.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint docs release clean

demo: .venv/installed
	$(BIN)/certes demo --out certes-demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Warnings are errors; "mkdocs 2" is a wish of the theme's makers to be heard, and no warning.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wheel, source and a bill of materials (CycloneDX) of what they are tested with, which
# constraints.txt pins.
release: .venv/installed-dev
	$(PIP) -e .[release]
	$(BIN)/python -m build --outdir dist .
	$(BIN)/cyclonedx-py environment .venv --output-file dist/certes.cdx.json

clean:
	rm -rf .venv certes-demo site dist

# torch goes in first and by its exact pin, so that no other package's wish can choose the build.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "certes needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11")'
	@echo "Setting up .venv (a few minutes, once)"
	$(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e .[dev,web,batch,docs]
	$(PIP) --no-deps azula
	@touch $@
