# Two commands do everything on a machine with Python 3.11 and make: `make demo` and `make test`.

PYTHON ?= python3.11
VENV ?= .venv
# PyPI's Linux wheel of torch is the multi-gigabyte CUDA build; this index has the CPU one. Any index, or empty.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu
TORCH_VERSION ?= 2.13.0
BIN := $(VENV)/bin
# Each has servers of its own, and a model.
TEST_PROCESSES ?= 2
# Meta's own package needs torchvision, which fits one torch only; so `make parity` has an environment of its own.
PARITY := $(VENV)-parity
PARITY_TORCH_VERSION ?= 2.14.1
PARITY_TORCHVISION_VERSION ?= 0.29.1

.PHONY: help demo serve test soak fuzz bench parity openapi mutate image lock lint format clean
help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(VENV)/.local  ## an image and its prompts through the whole event path, with a picture to look at
	@$(BIN)/sam3 demo

serve: $(VENV)/.local  ## the same, but it stays up and prints commands to try
	@$(BIN)/sam3 demo --keep

test: $(VENV)/.test  ## lint, types, import floors and all tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

soak: $(VENV)/.local  ## 2,000 images through a service that is killed on the way, in a cloud that loses calls (5 minutes)
	@$(BIN)/sam3 soak

# FUZZ_CASES for each of the operations that read a body; the others have few inputs.
fuzz: $(VENV)/.test  ## ten thousand requests made from the OpenAPI document: no server error, no undocumented answer
	FUZZ_CASES=$${FUZZ_CASES:-5000} $(BIN)/python -m pytest tests/cloud/test_fuzz.py --timeout=0

bench: $(VENV)/.local  ## this service beside the one it grew from; writes docs/benchmarks (8 GB of disk, 20 minutes)
	@$(BIN)/sam3 bench --out docs/benchmarks

parity: $(PARITY)/.ready  ## the default engine against Meta's own package, with the same weights
	@$(PARITY)/bin/python -m tools.parity

openapi: $(VENV)/.local  ## write docs/openapi.json anew
	@$(BIN)/sam3 openapi --out docs/openapi.json

mutate: $(VENV)/.test  ## faults put into the Terraform configuration, one at a time, and what finds them (half an hour)
	@$(BIN)/python -m tests.deploy.mutate

image: $(VENV)/.local  ## the container image, for a CPU, and a check of what a deployment relies on (docker)
	docker build --build-arg TORCH_INDEX_URL="$(TORCH_INDEX_URL)" --build-arg TORCH_VERSION="$(TORCH_VERSION)" \
		--tag sam3-service .
	@$(BIN)/sam3 image check sam3-service

lock:  ## requirements/*.txt anew: the packages of the image, with their hashes
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check uv
	tools/lock.sh $(VENV)-lock/bin/uv

lint: $(VENV)/.test  ## ruff, mypy in strict mode, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environments and what demo and bench wrote
	rm -rf $(VENV) $(PARITY) $(VENV)-lock demo-out .bench

$(VENV)/.torch:
	@echo "setting up $(VENV): torch $(TORCH_VERSION) (CPU) first, then the rest"
	@$(PYTHON) -m venv $(VENV)
	@TORCH_INDEX_URL="$(TORCH_INDEX_URL)" TORCH_VERSION="$(TORCH_VERSION)" tools/install_torch.sh $(BIN)/pip
	@touch $@

$(PARITY)/.ready: pyproject.toml
	@echo "setting up $(PARITY): torch $(PARITY_TORCH_VERSION) with torchvision (CPU) first, then the rest"
	@$(PYTHON) -m venv $(PARITY)
	@TORCH_INDEX_URL="$(TORCH_INDEX_URL)" TORCH_VERSION="$(PARITY_TORCH_VERSION)" \
		tools/install_torch.sh $(PARITY)/bin/pip torchvision==$(PARITY_TORCHVISION_VERSION)
	@$(PARITY)/bin/pip install --quiet --disable-pip-version-check -e '.[official]'
	@touch $@

$(VENV)/.local: $(VENV)/.torch pyproject.toml
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[local]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.local
