# warmfork: `make demo` shows it, `make test` tests it, `make help` lists the rest.
#
# Everything lives in the checkout: .venv has warmfork installed as a user would install it, build/ and build-asan/ are for
# development. Stamp files say what has been done for which input, so that nothing is done twice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
tools_path := PATH="$(CURDIR)/$(BIN):$$PATH"
MESON := $(tools_path) $(BIN)/meson
NINJA := $(tools_path) $(BIN)/ninja
PYTEST_ARGS ?= -n auto --dist loadscope

sources := $(shell find src include boot python share docs/man tools/build_backend.py meson.build meson.options pyproject.toml -type f \
	-not -name '*.pyc' 2>/dev/null)
c_files = $(shell find src include tests bench -name '*.[ch]')

.PHONY: all install build asan demo test unit system bench bench-pool programs soak format check clean help
.DEFAULT_GOAL := all

all: install ## set up .venv, build, and install warmfork into it

# The interpreter and what must be there before anything else.
$(VENV)/.made: tools/system_packages.sh
	@sh tools/system_packages.sh "$(PYTHON)"
	@[ -x $(PY) ] || { echo "make: creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@touch $@

# A fresh Debian's pip is too old to know our pyproject's licence field, hence the upgrade.
$(VENV)/.tools: tools/requirements.txt $(VENV)/.made
	@echo "make: installing the development tools of $< into $(VENV)"
	@$(PY) -m pip install -qq --disable-pip-version-check --upgrade pip
	@$(PY) -m pip install -qq --disable-pip-version-check -r $<
	@touch $@

# No build isolation: the tools are in .venv already, and the build folder can be kept between builds.
$(VENV)/.installed: $(sources) $(VENV)/.tools
	@echo "make: building warmfork and installing it into $(VENV)"
	@mkdir -p build
	@$(tools_path) $(PY) -m pip install -qq --disable-pip-version-check --no-deps \
		--no-build-isolation --force-reinstall -Cbuild-dir=build/wheel .
	@touch $@

install: $(VENV)/.installed

build/dev/build.ninja: $(VENV)/.tools
	@$(MESON) setup $(if $(wildcard $@),--reconfigure,) build/dev -Dwerror=true
	@touch $@

build: build/dev/build.ninja ## development build in build/dev, warnings are errors
	@$(NINJA) -C build/dev --quiet

build-asan/build.ninja: $(VENV)/.tools
	@$(MESON) setup $(if $(wildcard $@),--reconfigure,) build-asan -Dwerror=true -Db_sanitize=address,undefined \
		-Db_lundef=false -Doptimization=1 -Ddefault_library=static
	@touch $@

asan: build-asan/build.ninja ## the same with AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan
	@$(NINJA) -C build-asan --quiet

demo: install ## the main job on real input, cold and warm, side by side
	@$(PY) tools/demo.py

unit: build asan ## C tests and the replay of the fuzz corpora, plain and sanitized
	@$(MESON) test -C build/dev --no-rebuild --print-errorlogs
	@$(MESON) test -C build-asan --no-rebuild --print-errorlogs

system: install ## the real binaries, on every CPython >= 3.10 of this machine
	@sh tools/test_limits.sh
	@status=0; for part in system parity python programs audit pool; do \
		$(PY) -m pytest $(PYTEST_ARGS) tests/$$part || status=1; done; exit $$status

test: unit system ## all tests

bench: install ## measure, write bench/results, draw the picture and fill the README's table
	@$(PY) bench/run.py
	@$(PY) bench/terminal.py
	@$(PY) tools/readme_table.py
	@$(PY) bench/audit.py

bench-pool: install ## the pool against its peers: measure, draw the picture, fill the tables
	@$(PY) -m pip install -qq --disable-pip-version-check -r bench/pool_peers.txt
	@$(PY) bench/pool.py
	@$(PY) tools/pool_table.py

programs: install ## real programs cold and warm, compared byte for byte and timed; picture and tables
	@status=0; $(PY) bench/programs.py || status=$$?; $(PY) tools/programs_table.py && exit $$status

soak: install ## many runs, looking for leaks; the auditor and all libraries (GBs), every observation, CPython's own test suite (hours)
	@$(PY) tools/soak.py
	@$(PY) tools/pool_soak.py
	@WARMFORK_AUDIT_FULL=1 WARMFORK_AUDIT_TORCH=1 $(PY) -m pytest -n 2 tests/audit/test_libraries.py tests/audit/test_integrations.py
	@$(PY) bench/programs.py --no-times --output .cache/programs/soak.jsonl
	@$(PY) tools/parity_table.py
	@$(PY) tools/cpython_parity.py --again
	@$(PY) tools/cpython_parity.py --report

format: $(VENV)/.tools ## format the C and Python sources
	@$(BIN)/clang-format -i $(c_files)
	@$(BIN)/ruff check --quiet --fix-only .

check: $(VENV)/.tools ## formatting, layers, lint, types
	@$(BIN)/clang-format --dry-run -Werror $(c_files)
	@$(PY) tools/check_layers.py
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(PY) tools/parity_table.py --check
	@$(PY) tools/cpython_parity.py --report --check
	@$(if $(wildcard bench/results/*.jsonl),$(PY) tools/readme_table.py --check,:)
	@$(if $(wildcard bench/results/programs/*.jsonl),$(PY) tools/programs_table.py --check,:)
	@$(if $(wildcard bench/results/pools/*.jsonl),$(PY) tools/pool_table.py --check,:)
	@echo "check: passed"

clean: ## remove what make made
	rm -rf $(VENV) build build-asan

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12
