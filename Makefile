# One-word commands. Each does its own set-up: python3 (3.11 or newer), make and a C compiler are
# enough. Environments are .venv (the default python3) and .venv-VERSION.
#
#   ARGS="..."     more arguments for the program that runs:  make test ARGS="-k lease"
#   ON="3.13t"     the interpreters to test or measure:       make test ON="3.11 3.14", ON=all
#   PYTHON=...     the default interpreter, instead of python3

PYTHON ?= python3
ARGS   ?=
ON     ?=

VENV   := .venv/bin
READY   = @$(PYTHON) tools/venvs.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-rest build slow debug stress tsan bench bench-grpc bench-rpc \
  record-instructions hosts hosts-quick mutants coverage docs lint wheel verify clean python

help:
	@echo "make demo     real servers under load, pooled and not, in one table"
	@echo "make test     tests of every part, on this interpreter: some three minutes"
	@echo "make test-all the suite on every interpreter found, real servers included"
	@echo "make slow     make test, with random delays in every thread but the test's"
	@echo "make build    the compiled module, in place"
	@echo "make debug    the suite on the debug build: all invariants after each operation"
	@echo "make stress   random operations under a conservation check, at length"
	@echo "make tsan     the C harness and the extension under ThreadSanitizer"
	@echo "make bench    all measurements, with what each must reach"
	@echo "make bench-grpc  what sharing gRPC channels must reach, beside bare grpcio"
	@echo "make bench-rpc  pooled XML-RPC and JSON-RPC beside what people use today"
	@echo "make record-instructions  what the hot paths take, as the tests compare it"
	@echo "make hosts    tests of the libraries whose pools ours replace, with ours in place"
	@echo "make mutants  copies of Python modules with one mistake each: a test must find each"
	@echo "make coverage which lines of the Python layers the fast tests run"
	@echo "make docs     the documentation as a site, in build/site; links are checked"
	@echo "make lint     style and types"
	@echo "make wheel    sdist and wheel, in dist/"
	@echo "make verify   all of that, all tests, every interpreter known: the long run"
	@echo "make clean    remove builds and environments"

demo: python
	$(READY) demo
	@$(VENV)/fastpool demo $(ARGS)

TESTS = @$(PYTHON) tools/run_tests.py

test: python
	$(TESTS) --on "$(ON)" $(ARGS)

test-all: python
	$(TESTS) --tier full --on "$(or $(ON),all)" $(ARGS)

# What test-all has and test has not.
test-rest: python
	$(TESTS) --tier rest --on "$(or $(ON),all)" $(ARGS)

slow: python
	$(TESTS) --slow --on "$(ON)" $(ARGS)

build: python
	$(READY) test

debug: python
	$(TESTS) --tier all --debug --on "$(ON)" $(ARGS)

stress: python
	@FASTPOOL_STRESS_OPS=$${FASTPOOL_STRESS_OPS:-1000000} \
	  $(PYTHON) tools/run_tests.py --tier all --on "$(ON)" tests/stress $(ARGS)

tsan: python
	@$(PYTHON) tools/run_tsan.py $(ARGS)

bench: python
	@$(PYTHON) tools/run_bench.py --on "$(ON)" $(ARGS)

bench-grpc: python
	$(READY) grpc-test
	@$(VENV)/python -m bench.grpc $(ARGS)

bench-rpc: python
	$(READY) rpc-test
	@$(VENV)/python -m bench.rpc $(ARGS)

record-instructions: python
	$(READY) test
	@$(VENV)/python -m bench.instructions --record

hosts: python
	$(READY) test peers drivers
	@$(VENV)/python tools/hosts.py $(ARGS)

# What a push runs: three minutes at most, of hosts that `make test` has installed if it could.
hosts-quick: python
	$(READY) test
	@$(VENV)/python tools/hosts.py --quick $(ARGS)

mutants: python
	$(READY) test mutants
	@$(VENV)/python tools/mutants.py $(ARGS)

# The Python layers alone, and no gate. The compiled core is measured by its trace build.
coverage: python
	$(READY) test loops coverage
	@$(VENV)/python -m pytest -q -n 2 --cov=fastpool --cov-report=term:skip-covered \
	  --ignore=tests/contract/interrupts tests/contract $(ARGS)

docs: python
	$(READY) docs
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --quiet $(ARGS)
	@$(VENV)/python tools/site/check.py build/site
	@echo "to read it: $(PYTHON) -m http.server --directory build/site"

lint: python
	$(READY) lint
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/pyright

wheel: python
	$(READY) test
	$(VENV)/python -m build

# Here a test of the fast tier that has become costly fails.
verify: ON = all
verify: lint wheel
	$(TESTS) --tier all --fail-costly --on "$(ON)" $(ARGS)
	$(MAKE) debug stress ON="$(ON)"
	$(MAKE) slow tsan demo bench bench-grpc bench-rpc hosts mutants

clean:
	rm -rf build dist .venv .venv-* src/*.egg-info src/fastpool/*.so
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .benchmarks
	find bench docs examples src tests tools -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) not found: install Python 3.11 or newer, or say PYTHON=path" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$($(PYTHON) -V) is too old: fastpool needs 3.11 or newer; say PYTHON=path" >&2; exit 1; }
