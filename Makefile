# Everything a user or a contributor runs. `make demo` and `make test` need only Python >= 3.10, g++
# and make: each makes the virtual environment .venv if it is not there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# What a rebuild of the native module depends on.
NATIVE := CMakeLists.txt setup.py pyproject.toml constraints.txt $(shell find csrc -type f)
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help demo test test-all bench report lint format sanitize clean

help:
	@echo "make demo      train, sample, measure; pictures and a report in demo/"
	@echo "make test      the test suite (make test-all adds the tests that take minutes)"
	@echo "make bench     all benchmarks of this machine, into benchmarks/results/"
	@echo "make report    tables of README and docs/ from benchmarks/results/"
	@echo "make lint      linters and type checker      make format     formatters"
	@echo "make sanitize  op tests on an ASan + UBSan build of the native code"

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

test: $(VENV)/.dev-installed
	$(PYTEST) -m "not slow" tests
	$(PYTEST) --doctest-modules genfast

test-all: $(VENV)/.dev-installed
	$(PYTEST) tests
	$(PYTEST) --doctest-modules genfast

bench: $(VENV)/.dev-installed
	$(BIN)/genfast bench --json benchmarks/results/cpu.json --plot docs/benchmarks.png

report: $(VENV)/.dev-installed
	$(BIN)/python -m genfast.benchmarks.report
	$(BIN)/python tests/contract.py

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc -name '*.h' -o -name '*.cpp')
	$(BIN)/python tests/contract.py --check
	$(BIN)/python -m genfast.benchmarks.report --check

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(shell find csrc -name '*.h' -o -name '*.cpp')

# A copy of the package with a sanitised module; the tests find it first on the path. Compilation by
# torch.compile and forks are left out: neither works under ASan, and neither reaches other native code.
SANITIZED := build/sanitize
sanitize: $(VENV)/.dev-installed
	$(BIN)/cmake -S . -B $(SANITIZED) -G Ninja -DGENFAST_SANITIZE=address,undefined \
	  -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DPython_EXECUTABLE=$(abspath $(BIN))/python \
	  -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) > /dev/null
	$(BIN)/cmake --build $(SANITIZED)
	rm -rf $(SANITIZED)/site && mkdir -p $(SANITIZED)/site && cp -r genfast $(SANITIZED)/site/
	rm -f $(SANITIZED)/site/genfast/_C*.so && cp $(SANITIZED)/_C*.so $(SANITIZED)/site/genfast/
	export LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(abspath $(SANITIZED))/site; \
	(cd $(SANITIZED) && $(abspath $(BIN))/python -c \
	  "from genfast import _C; assert _C.build_info()['sanitize'], 'not the sanitised module'") && \
	$(BIN)/pytest -q -p no:cacheprovider -m "not slow" -k "not compile and not fork and not export" \
	  tests/test_ops.py tests/test_gated.py

clean:
	rm -rf build dist demo $(VENV) *.egg-info genfast/_C*.so
