# Each target makes its own environment in $(VENV) when there is none, installs what it needs, and runs.
# Running again is quick; after a change of pyproject.toml the package is installed anew.
#   make demo PYTHON=python3.12    another Python for a new environment
#   make test ARGS="-k mask"       more arguments for the command

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

RUN = $(VENV)/bin/python
# Several processes would compile the same kernels at once.
WARMUP = $(RUN) -m runtime.cli warmup
PYTEST = $(RUN) -m pytest -n auto --maxprocesses 4 $(ARGS)

.PHONY: help docs demo demo-seeds cifar test test-long test-frameworks avx2 nojit cudasim ptx lint types bench-smoke clean FORCE
.NOTPARALLEL:

help:
	@echo "make demo         train, freeze and run a net on handwritten digits (3 minutes; results in build/demo)"
	@echo "make demo-seeds   the same training with seeds 0, 1 and 2 (longer)"
	@echo "make cifar        train on CIFAR-10, in the folder DATA, or go on with that (hours; results in docs/cifar10.md)"
	@echo "make test         the tests (5 minutes)"
	@echo "make test-long    the tests left out of make test"
	@echo "make test-frameworks  the tests beside PyTorch, JAX, Keras, TensorFlow and onnxruntime, which it installs"
	@echo "make avx2         the kernels' tests again, compiled for a machine with AVX2"
	@echo "make nojit        the runtime's tests again, with nothing compiled"
	@echo "make cudasim      the GPU kernels' tests, in numba's simulator (2 minutes)"
	@echo "make ptx          the GPU kernels compiled for three architectures (needs no GPU; installs compilers)"
	@echo "make lint         ruff: style and format"
	@echo "make types        mypy"
	@echo "make bench-smoke  the benchmarks at toy size"
	@echo "make docs         the documentation as a web site, in build/docs"
	@echo "make clean        remove the environment and everything built"

demo: $(VENV)/.with-demo,plots
	$(RUN) -m benchmarks.demo $(ARGS)

demo-seeds: $(VENV)/.with-demo,plots
	$(RUN) -m benchmarks.demo --seeds 0 1 2 $(ARGS)

DATA ?= cifar-10-batches-bin

cifar: $(VENV)/.with-plots
	$(RUN) -m benchmarks.cifar $(DATA) $(ARGS)

test: $(VENV)/.with-test
	$(WARMUP)
	$(PYTEST)

test-long: $(VENV)/.with-test
	HYPOTHESIS_PROFILE=long $(PYTEST) -m long

test-frameworks: $(VENV)/.with-test
	$(RUN) -m pip install --disable-pip-version-check torch==2.13.0 jax keras tensorflow-cpu onnxscript onnxruntime
	$(PYTEST) tests/check tests/runtime/test_onnx_nets.py tests/runtime/test_torch_nets.py \
	  tests/cuda/test_benchmark.py -m "long or not long"

# The kernels of an AVX2 machine, on whatever machine this is.
avx2: export NUMBA_CPU_NAME = haswell
avx2: export NUMBA_CPU_FEATURES = +avx2,+fma,+avx,+sse4.2
avx2: $(VENV)/.with-test
	$(WARMUP)
	$(PYTEST) $(addprefix tests/runtime/test_,$(addsuffix .py,kernels vector model sharing nan spec guards \
	  pack pooled patches pixels winograd select places borders survivors))

nojit: $(VENV)/.with-test
	NUMBA_DISABLE_JIT=1 $(PYTEST) tests/runtime tests/test_contract.py

# A simulator is chosen when numba is imported: a process of its own. numba-cuda has its own, which ptx runs.
cudasim: $(VENV)/.with-test
	NUMBA_ENABLE_CUDASIM=1 $(PYTEST) tests/cuda

ptx: $(VENV)/.with-test,cuda
	$(PYTEST) tests/cuda/test_ptx.py -m "long or not long"
	NUMBA_ENABLE_CUDASIM=1 $(PYTEST) $(addprefix tests/cuda/test_,$(addsuffix .py,gate commands graphs))

lint: $(VENV)/.with-dev
	$(RUN) -m ruff check . $(ARGS)
	$(RUN) -m ruff format --check .

types: $(VENV)/.with-dev
	$(RUN) -m mypy $(ARGS)

bench-smoke: $(VENV)/.with-onnx,plots
	$(WARMUP)
	$(RUN) -m benchmarks.smoke $(ARGS)

# The pages of the API are made anew: one of a module that is gone would be a warning.
docs: $(VENV)/.with-docs
	rm -rf docs/api
	$(RUN) -m sphinx --fail-on-warning --keep-going --quiet --jobs auto docs build/docs $(ARGS)
	@echo "build/docs/index.html"

clean:
	rm -rf $(VENV) $(VENV).unfinished build dist docs/api

# $(VENV).unfinished is there while an environment is made or changed. Found at the start, it tells that a run was cut
# short: what it left is then made anew, since neither venv nor pip can be trusted to mend it.
$(VENV)/.made: $(if $(wildcard $(VENV).unfinished),FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON): expected Python 3.11 or newer, got `$(PYTHON) --version 2>&1 || echo none`." \
	  "Install one, or name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@if [ -e $(VENV) ] && [ ! -e $(VENV).unfinished ]; then \
	  echo "$(VENV): expected an environment made here, got another." \
	  "Move it away, or name another place: make $(MAKECMDGOALS) VENV=.venv-make" >&2; exit 1; fi
	@touch $(VENV).unfinished
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@
	@rm $(VENV).unfinished

# The part after `with-` is the list of extras.
$(VENV)/.with-%: $(VENV)/.made pyproject.toml
	@touch $(VENV).unfinished
	$(RUN) -m pip install --disable-pip-version-check --editable '.[$*]'
	@touch $@
	@rm $(VENV).unfinished
