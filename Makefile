# Each target sets up .venv by itself; it needs Python 3.11 or newer with pip, and make.
PYTHON ?= python3
VENV := .venv
# Libraries to compare with; TensorFlow Addons needs a Python 3.11 of its own where $(PYTHON) is newer.
PEERS ?= torch flax addons
ADDONS_PYTHON ?= $(PYTHON)
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: help demo test test-runtimes test-gpu-delegate test-addons test-torch \
	test-applications lint bench bench-quick bench-lite clean
# Two installations at a time would overwrite each other's files.
.NOTPARALLEL:

help:
	@echo 'make demo   trains, saves and exports a network on handwritten digits (2 minutes, and some to install)'
	@echo 'make test   runs the tests'
	@echo 'make test-runtimes  runs the exported files in OpenVINO, onnxruntime and TensorFlow in C'
	@echo 'make test-gpu-delegate  runs LiteRT files on a GPU accelerator, by a driver for CPUs'
	@echo 'make test-addons  lets the real TensorFlow Addons write models, and loads them (some minutes)'
	@echo 'make test-torch  tests weights of the real PyTorch and Flax in our layers, and Keras on PyTorch (2 minutes)'
	@echo 'make test-applications  tries the verbs on five networks of keras.applications (3 minutes)'
	@echo 'make lint   checks style and types'
	@echo 'make bench  measures speed beside other libraries, into benchmarks/results (half an hour)'
	@echo 'make bench-quick  prints the speed beside Keras (3 minutes)'
	@echo 'make bench-lite  prints latency and accuracy of exported files (1 minute)'
	@echo 'make clean  deletes .venv and everything that the others write'

demo: $(VENV)/installed-demo
	@echo '==> Running examples/01_train_save_export.py'
	$(VENV)/bin/python examples/01_train_save_export.py

test: $(VENV)/installed-test
	@echo '==> Running the tests'
	$(VENV)/bin/python -m pytest -q -n 2 --dist worksteal

# Not part of `make test`: no other target needs what it installs.
test-runtimes: $(VENV)/installed-test $(VENV)/installed-runtimes
	@echo '==> Running the exported files in other runtimes'
	$(VENV)/bin/python -m pytest -q -n 2 tests/runtimes

test-gpu-delegate: $(VENV)/installed-test build/vulkan/fetched
	@echo '==> Running LiteRT files on the GPU accelerator'
	$(VENV)/bin/python -m pytest -q tests/gpu

test-addons: $(VENV)/installed-test .venv-addons/installed
	@echo '==> Letting TensorFlow Addons write its models'
	rm -rf build/addons
	.venv-addons/bin/python -W ignore tests/addons/make_files.py build/addons
	@echo '==> Loading them without it'
	ADDONS_FILES=build/addons $(VENV)/bin/python -m pytest -q -n 2 tests/addons/check_files.py

test-torch: $(VENV)/installed-test .venv-torch/installed .venv-flax/installed
	@echo '==> Testing weights of the real PyTorch and Flax in our layers, and Keras on PyTorch'
	TORCH_PYTHON=.venv-torch/bin/python FLAX_PYTHON=.venv-flax/bin/python \
		$(VENV)/bin/python -m pytest -q tests/torch

test-applications: $(VENV)/installed-test
	@echo '==> Trying the verbs on whole networks'
	$(VENV)/bin/python -m pytest -q tests/surgery/check_applications.py

lint: $(VENV)/installed-lint
	@echo '==> Checking style and types'
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench-quick: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks --quick

bench-lite: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks.lite

bench: $(VENV)/installed-bench $(PEERS:%=.venv-%/installed)
	@echo '==> Measuring; what is measured before an interruption is kept'
	$(VENV)/bin/python -m benchmarks $(PEERS:%=--library=%)

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info saved_models/demo
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written when everything before it has succeeded, so what failed is done again.
$(VENV)/created:
	@echo '==> Creating $(VENV)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed-%: pyproject.toml $(VENV)/created
	@echo '==> Installing keras_norm[$*] (the first time, some minutes)'
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-input --editable '.[$*]'
	@touch $@

# A Vulkan driver that computes on the CPU: a GPU that every Debian and Ubuntu has.
build/vulkan/fetched: tests/gpu/fetch_vulkan.sh
	@echo '==> Unpacking a Vulkan driver into $(@D); nothing is installed'
	bash $< $(@D)
	@touch $@

# Other libraries do not share .venv: each brings its own versions of the same packages.
.venv-%/installed: benchmarks/peers/%.txt
	@echo '==> Installing $* to compare with (some minutes)'
	$(if $(filter addons,$*),$(ADDONS_PYTHON),$(PYTHON)) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --disable-pip-version-check --no-input -r $<
	@touch $@
