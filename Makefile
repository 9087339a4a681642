# Each target makes .venv and installs what it needs; nothing else has to be set up.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Large pages for large buffers: a third more tokens a second on CPUs (docs/log.md).
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
export TF_CPP_MIN_LOG_LEVEL := 3

.PHONY: quickstart test lint docs bench bench-score bench-generate bench-vocab bench-data bench-compile bench-published clean

quickstart: $(VENV)/.installed
	LRL=$(BIN)/lrl scripts/quickstart.sh

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

# The site, to be opened as build/docs/index.html; docs/troubleshooting.md says what the source says.
docs: $(VENV)/.docs
	$(BIN)/python -m scripts.site.troubleshooting --check
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs build/docs

bench: $(VENV)/.dev
	$(BIN)/python scripts/benchmarks/train_step.py $(ARGS)

# Bits per byte and choices, beside transformers.
bench-score: $(VENV)/.dev
	$(BIN)/python scripts/benchmarks/score.py $(ARGS)

bench-generate: $(VENV)/.dev
	$(BIN)/python scripts/benchmarks/generate.py $(ARGS)

bench-vocab: $(VENV)/.dev
	$(BIN)/python scripts/benchmarks/vocab.py

# MaxText wants a Python of its own, and 3.12; without one it is named as not installed. Both sides
# compile with the libtpu of constraints-fit.txt, whatever newer one MaxText would bring.
MAXTEXT := $(VENV)-maxtext
PEER := "maxtext[tpu]==0.2.5" $(shell grep '^libtpu==' constraints-fit.txt)
bench-data: $(VENV)/.dev
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt datasets grain
	-test -x $(MAXTEXT)/bin/python || python3.12 -m venv $(MAXTEXT)
	-$(MAXTEXT)/bin/python -m pip install --progress-bar on $(PEER) tensorflow \
		tensorflow-datasets importlib_resources
	$(BIN)/python scripts/benchmarks/data.py --maxtext $(MAXTEXT)/bin/python $(ARGS)

# Hours on two cores: ARGS="--only llama2-7b" for one of the five.
bench-compile: $(VENV)/.dev
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -c constraints-fit.txt -e ".[fit]"
	test -x $(MAXTEXT)/bin/python || python3.12 -m venv $(MAXTEXT)
	-$(MAXTEXT)/bin/python -m pip install --progress-bar on $(PEER)
	$(BIN)/python scripts/benchmarks/compile.py --maxtext $(MAXTEXT)/bin/python $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e ".[dev,parity]"
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e ".[docs]"
	touch $@

# The published runs behind the bands of `lrl fit`, compiled again; an hour on two cores.
bench-published: $(VENV)/.dev
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -c constraints-fit.txt -e ".[fit]"
	$(BIN)/python scripts/benchmarks/published.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-maxtext runs build dist *.egg-info
