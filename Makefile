# Everything a user or a contributor runs. `make demo` and `make test` need only Python >= 3.10, g++
# and make: each makes the virtual environment .venv if it is not there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# What a rebuild of the native module depends on.
NATIVE := CMakeLists.txt setup.py pyproject.toml constraints.txt $(shell find csrc -type f)
CSOURCES := $(shell find csrc packaging benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu')
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help demo test test-all test-wheel bench report lint format
.PHONY: sanitize emulated sanitize-emulated tsan check-cuda wheel wheel-matrix gpu clean

help:
	@echo "make demo      train, sample, measure; pictures and a report in demo/"
	@echo "make test      the test suite (make test-all adds the tests that take minutes)"
	@echo "make bench     all benchmarks of this machine, into benchmarks/results/"
	@echo "make report    tables and plots of README and docs/ from benchmarks/results/"
	@echo "make lint      linters and type checker      make format     formatters"
	@echo "make sanitize  op tests on an ASan + UBSan build of the native code"
	@echo "make emulated  builds the CUDA kernels for the CPU and tests the emulation itself"
	@echo "make sanitize-emulated  the emulated CUDA kernels under ASan + UBSan;  make tsan  under TSan"
	@echo "make check-cuda  compiles the CUDA kernels: no warnings, no spills (needs no GPU)"
	@echo "make wheel     the wheel for this Python in dist/, with CUDA code where a toolkit can be had"
	@echo "make wheel-matrix  its op tests under the oldest and the newest torch (downloads gigabytes)"
	@echo "make gpu       on a machine with a GPU: build, test, sanitise, benchmark, under ten minutes"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian, apt install python3-venv"; exit 1; }

# The package is installed in place (editable): tests and demo run the tree as it is.
$(VENV)/.demo-installed: $(NATIVE) | $(BIN)/python
	$(INSTALL) -e ".[train,bench]"
	touch $@

$(VENV)/.dev-installed: $(NATIVE) | $(BIN)/python
	$(INSTALL) -e ".[train,bench,dev]"
	touch $@

demo: $(VENV)/.demo-installed
	$(BIN)/genfast demo --out demo

# Two processes; threads that wait let the other process have the core.
test: $(VENV)/.dev-installed
	OMP_WAIT_POLICY=passive $(PYTEST) -n 2 -m "not slow" tests
	$(PYTEST) --doctest-modules genfast

test-all: $(VENV)/.dev-installed
	$(PYTEST) tests
	$(PYTEST) --doctest-modules genfast

bench: $(VENV)/.dev-installed
	$(BIN)/genfast bench --json benchmarks/results/cpu.json

report: $(VENV)/.dev-installed
	$(BIN)/python -m genfast.benchmarks.report
	$(BIN)/python tests/contract.py
	$(BIN)/python tests/training_tables.py

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(CSOURCES)
	$(BIN)/python tests/contract.py --check
	$(BIN)/python -m genfast.benchmarks.report --check

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CSOURCES)

# ---- Sanitizers ----
# The tests of native code are found by what they import (a regular expression): those of a new op too.
# test_native.py is about how the module that is shipped is linked.
importing = $(shell grep -lE '^(from|import) ($(1))\b' tests/test_*.py)
NATIVE_TESTS := $(filter-out %_cuda.py %_emulated.py tests/test_emulation.py tests/test_native.py, $(sort \
  $(call importing,opspec|specs|genfast[.](ops|sampling)|genfast import .*(ops|_C))))
EMULATED_TESTS := $(call importing,emulated|test_pixel_sampler_emulated)
# $(call sanitised,FOLDER,SANITIZERS): a copy of the package with a module built with them in FOLDER/site.
define sanitised
	$(BIN)/cmake -S . -B $(1) -G Ninja -DGENFAST_SANITIZE=$(2) \
	  -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DPython_EXECUTABLE=$(abspath $(BIN))/python \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) > /dev/null
	$(BIN)/cmake --build $(1) --target _C
	rm -rf $(1)/site && mkdir -p $(1)/site && cp -r genfast $(1)/site/
	rm -f $(1)/site/genfast/_C*.so && cp $(1)/_C*.so $(1)/site/genfast/
endef
sanitised_first = (cd build && $(1) $(abspath $(BIN))/python -c \
  "from genfast import _C; assert _C.build_info()['sanitize'], 'not the sanitised module'")

# Compilation by torch.compile and forks are left out: neither works under ASan, and neither reaches other
# native code. Nor do second derivatives, which are plain PyTorch; some are held to so few roundings that
# another level of optimisation shows. Emulated kernels have a target of their own.
ADDRESS := address,undefined
sanitize: $(VENV)/.dev-installed
	$(call sanitised,build/sanitize,$(ADDRESS))
	export LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(abspath build/sanitize/site); $(call sanitised_first) && \
	$(BIN)/pytest -q -n 2 -p no:cacheprovider -m "not slow" \
	  -k "not compile and not fork and not export and not emulat and not second_derivatives" $(NATIVE_TESTS)

# ---- The CUDA kernels on the CPU (csrc/emulation) ----
EMULATION_CMAKE = $(BIN)/cmake -S . -G Ninja -DGENFAST_EMULATION=ON -DGENFAST_CUDA=off \
  -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DPython_EXECUTABLE=$(abspath $(BIN))/python \
  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir)

emulated: $(VENV)/.dev-installed
	$(EMULATION_CMAKE) -B build/emulated > /dev/null
	$(BIN)/cmake --build build/emulated --target genfast_emulated
	$(PYTEST) tests/test_emulation.py tests/test_emulation_faults.py

# The preloaded runtimes are the compiler's; fibers need detect_stack_use_after_return=0. The plain module
# has its own operator delete (libstdc++ is linked statically) and frees pybind11's records of the sanitised
# one, with which it shares them: alloc_dealloc_mismatch=0.
SANITIZED_EMULATION := build/sanitize-emulated
sanitize-emulated: $(VENV)/.dev-installed
	$(EMULATION_CMAKE) -B $(SANITIZED_EMULATION) -DGENFAST_SANITIZE=$(ADDRESS) > /dev/null
	$(BIN)/cmake --build $(SANITIZED_EMULATION) --target genfast_emulated
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:alloc_dealloc_mismatch=0 \
	GENFAST_EMULATED_MODULE=$$(ls $(abspath $(SANITIZED_EMULATION))/genfast_emulated*.so) \
	$(BIN)/pytest -q -n 2 -p no:cacheprovider -m "not slow" -k "not opcheck and not fullgraph" \
	  $(EMULATED_TESTS)

# The emulated kernels' own workloads, then what threads of the CPU do together: tests named after threads.
# setarch -R: older ThreadSanitizers cannot start where addresses are highly randomised.
tsan: $(VENV)/.dev-installed
	$(EMULATION_CMAKE) -B build/emulated > /dev/null
	$(BIN)/cmake --build build/emulated --target emulation_tsan
	for order in forward reverse random; do \
	  setarch -R build/emulated/emulation_tsan right $$order 1 || exit 1; \
	done
	$(PYTEST) -k "thread_sanitizer or tsan" tests/test_emulation.py tests/test_emulation_faults.py
	$(PYTEST) tests/test_teams.py
	$(call sanitised,build/tsan,thread)
	export LD_PRELOAD="$$(g++ -print-file-name=libtsan.so)" OMP_NUM_THREADS=1 \
	  TSAN_OPTIONS=suppressions=$(abspath csrc/common/tests/tsan_suppressions.txt) \
	  PYTHONPATH=$(abspath build/tsan/site); $(call sanitised_first,setarch -R) && \
	setarch -R $(BIN)/pytest -q -p no:cacheprovider -m "not slow" -k "thread and not fork" $(NATIVE_TESTS)

check-cuda: $(VENV)/.dev-installed
	$(BIN)/python packaging/check_cuda.py

# ---- Wheels, and machines with a GPU ----
# Needs pip, g++ and binutils only: the build is isolated, and auditwheel is fetched into build/wheel/.
# GENFAST_CUDA=off|on (default: on where a toolkit is found), GENFAST_CUDA_ARCHS="80;90a;100;120".
wheel: | $(BIN)/python
	$(BIN)/python packaging/wheel.py

# TORCH="2.4.1 newest" unless told otherwise.
wheel-matrix: wheel
	$(BIN)/python packaging/try_wheel.py $(if $(TORCH),--torch $(TORCH))

# Runs with the environment's own torch, which must be built for CUDA: PYTHON, not the .venv, so that a
# machine without a network can run it. GPU_OUT=folder leaves summary, results and gpu.tar.gz there.
# DRY_RUN=1, on a machine without a GPU: builds everything (needs nvcc), collects the tests, runs nothing.
gpu:
	$(PYTHON) packaging/gpu.py $(if $(GPU_OUT),--out $(GPU_OUT)) $(if $(DRY_RUN),--dry-run --seconds 1800)

# The slow test that installs the wheel of dist/ into an empty environment.
test-wheel: $(VENV)/.dev-installed
	$(PYTEST) tests/test_wheel.py

clean:
	rm -rf build dist demo $(VENV) *.egg-info genfast/_C*.so
