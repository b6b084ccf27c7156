# Everything a fresh machine needs: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# two workers with a thread each: torch's threads and workers would fight for the processors
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: help setup demo test test-all attack lint format docs benchmarks peers clean
help:           ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/' | column -t -s:

setup: $(STAMP) ## virtual environment with pinned dependencies
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## train a small network, quantize it five ways, compare (under 2 minutes)
	$(BIN)/subbyte demo --force

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint      ## lint and the quick tests (under 6 minutes on 2 cores)
	$(PYTEST) -m "not slow"

attack: $(STAMP) ## 100,000 mutations of files; kill, stop and starve every command at every step (hours)
	SUBBYTE_ATTACK=100000 $(PYTEST) tests/attack
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack --bugs

test-all: lint $(VENV)/.cluster ## every test, the slow ones too
	$(PYTEST)
$(VENV)/.cluster: $(STAMP)  # Ray, MLflow and OpenVINO are large, and few need them or notebooks
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray,mlflow,openvino,notebooks]'
	@touch $@

PAGES := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md CITATION.cff LICENSE docs examples benchmarks
docs: $(VENV)/.site  ## rebuild the generated pages, run their examples, build the site in build/site
	$(BIN)/python docs/generate.py
	$(BIN)/python -m pytest tests/test_docs.py
	rm -rf build/pages && mkdir -p build/pages && cp -R $(PAGES) build/pages
	$(BIN)/zensical build --clean --strict
$(VENV)/.site: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

# make peers ONLY=brevitas WIDTH=W4 MODELS=resnet20
WORD = $(if $(2),--$(1) $(2))
peers: $(STAMP) ## subbyte beside other tools, each in an environment of its own (hours; resumes)
	PYTHONPATH=src OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers --table docs/comparison.md \
		$(call WORD,only,$(ONLY)) $(call WORD,width,$(WIDTH)) $(call WORD,ends,$(ENDS)) $(call WORD,models,$(MODELS))

clean:          ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
