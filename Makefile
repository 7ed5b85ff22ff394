# Everything a fresh machine needs: `make demo`, then `make test`; CI runs `make test-slow`, too.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
BIN := $(VENV)/bin

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow lint docs install install-dev clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[cluster,train,dev]'
	touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

# The main job on a small simulated shoot: raw files in, aligned pairs, crops and a page out.
demo: install
	$(BIN)/defocus-ds simulate $(DEMO)/shoot --scenes 3 --size 1488x992 --seed 1
	$(BIN)/defocus-ds scan $(DEMO)/shoot
	$(BIN)/defocus-ds build $(DEMO)/shoot -o $(DEMO)/dataset
	$(BIN)/defocus-ds crop $(DEMO)/dataset --level low
	$(BIN)/defocus-ds verify $(DEMO)/dataset
	$(BIN)/defocus-ds report $(DEMO)/dataset

test: lint
	$(BIN)/python -m pytest -rs -n auto --dist worksteal --durations=25 -m 'not slow'

# Populations, full-size frames, stored results of training: as long again as all the others.
test-slow: install-dev
	$(BIN)/python -m pytest -rs -n auto --dist worksteal --durations=25 -m slow

lint: install-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The documentation as pages, in site/.
docs: install-dev
	$(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf site $(DEMO) $(VENV) .mypy_cache .pytest_cache .ruff_cache
