# make demo: set up, then the whole line on the bundled model. make test: set up, then all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/segdeploy

.PHONY: demo bench test check format lint types floors test-gpu cpp-headers cpp-check clean

demo: $(VENV)/default  ## export, calibrate, quantize, compile and measure the demo model
	$(RUN) export demo
	$(RUN) build-engine demo --int8 --target onnxruntime
	$(RUN) bench demo --dataset demo --precision fp32,int8 --json artifacts/demo/report.json --report artifacts/demo/report.md
	@echo "The report is artifacts/demo/report.md, its pictures are beside it."

bench: $(VENV)/default $(VENV)/report  ## the whole zoo in ten minutes on two cores; what is cut: docs/benchmark.md
	$(RUN) bench --suite quick --json artifacts/bench/quick.json --html artifacts/bench/quick.html --lock artifacts/bench/quick.lock.json
	@echo "The report is artifacts/bench/quick.html."

test: lint types floors  ## what CI runs: lint, types, floors and every test
	-test -d $(VENV)/cpp-headers/usr || $(MAKE) cpp-headers  # without them the tests of cpp/ are skipped
	$(BIN)/pytest -n auto --dist loadgroup

check: lint types floors  ## the same without the slow tests, while you work
	$(BIN)/pytest -n auto --dist loadgroup -m "not slow"

format: $(VENV)/dev
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
lint: $(VENV)/dev
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
types: $(VENV)/dev
	$(BIN)/mypy
floors: $(VENV)/dev
	$(BIN)/lint-imports
test-gpu: $(VENV)/dev  ## a skip for want of a GPU is a failure here
	SEGDEPLOY_REQUIRE=gpu,trt $(BIN)/pytest

cpp-headers:  ## what cpp/ is built with, from Debian's packages; needs no root
	cpp/ci/headers.sh $(VENV)/cpp-headers
cpp-check:  ## sanitizers, the fuzzers, clang-format and clang-tidy on cpp/; needs clang
	cpp/ci/check.sh $(VENV)/cpp-headers/usr/include

# One stamp per extra, made again when the requirements change.
$(VENV)/%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) artifacts
