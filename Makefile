# The front door. The build itself is CMakeLists.txt; its presets are in CMakePresets.json.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup build demo test-setup test test-servers bench asan tsan soak mutants fuzz lint format install deb deb-test clean

# Node.js from Debian trusts a list of its own: the machine's counts as well.
export NODE_EXTRA_CA_CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
MOONPOOL := build/moonpool
C_FILES = $(shell find include src spec \( -name '*.c' -o -name '*.h' \) | sort)

# $(call configure,preset,build dir), unless that has been done; $(call reconfigure,…) in any case. CMake's own words are
# for a configuration that fails.
reconfigure = mkdir -p $(2); cmake --preset $(1) >$(2)/configure.log 2>&1 || { cat $(2)/configure.log; exit 1; }
configure = if [ ! -f $(2)/Makefile ] && [ ! -f $(2)/build.ninja ]; then \
  echo "configure $(2) (log: $(2)/configure.log)"; $(call reconfigure,$(1),$(2)); fi

# $(call compile,build dir,cmake's further arguments): a short line for each step
steps = sed -u -E 's,Building C object .*\.dir/(__/)*(.*)\.o$$,cc \2,; s,Linking C (executable|static library) ,link ,'
compile = cmake --build $(1) -j $(JOBS) $(2) 2>&1 | $(steps)

# $(call ctest,build dir): the tests, with as many open files as the system allows; then how the tests that failed are run
# again, and ctest's summary once more as the last line.
define ctest
ulimit -S -n $$(ulimit -H -n) 2>/dev/null || true; status=0; \
ctest --test-dir $(1) --output-on-failure --no-tests=error -j2 2>&1 | tee $(1)/test.log || status=$$?; \
if [ $$status -ne 0 ]; then echo "the whole output is in $(1)/test.log"; sed -n '/^run again:/,/^$$/p' $(1)/test.log; fi; \
grep -h 'tests passed' $(1)/test.log | tail -n 1; exit $$status
endef

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing Debian packages (nothing to do when all are there)
	@.ci/setup

build: compiled ## build/moonpool
	@echo "build/moonpool is ready. Next: make demo (one deal, shown), make test, build/moonpool help"

.PHONY: compiled
compiled:
	@$(call configure,dev,build)
	@$(call compile,build)

demo: setup compiled ## create one deal on a private PostgreSQL and show it
	@$(MOONPOOL) migrate up
	@$(MOONPOOL) run scripts/tools/demo.lua

# What specs take from npm; fetched once, as the lock pins it.
build/npm/node_modules: spec/support/npm/package.json spec/support/npm/package-lock.json
	@mkdir -p build/npm && cp $^ build/npm
	@npm ci --prefix build/npm --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error
	@touch $@

test-setup: setup
	@.ci/setup test

# Configured once more: clang, for the fuzz target, may be new.
test: test-setup build/npm/node_modules ## all specs and C unit tests
	@$(call reconfigure,dev,build)
	@$(call compile,build)
	@if command -v clang >/dev/null; then $(call compile,build,--target fuzz_targets); fi
	@$(call ctest,build)

# The same specs with other servers: one after another, each about as long as `make test`.
SERVERS ?= 14 16 17 18
test-servers: test-setup build/npm/node_modules compiled ## the suite against PostgreSQL 14, 16, 17 and 18 (from npm)
	@spec/support/servers/run $(SERVERS) $(SPECS)

bench: setup compiled ## the deal workload beside pgbench and PL/pgSQL
	@$(MOONPOOL) bench

# Those that use threads: the watchdog, cancels, PostgreSQL's parser, the reading of scripts/. Specs that raise thousands of errors
# are not among them: ThreadSanitizer's own stack does not follow Lua's long jumps.
TSAN_SPECS = spec/unit/task_spec.lua spec/unit/task_end_spec.lua spec/fault/early_cancel_spec.lua spec/attack/sql_text_spec.lua spec/integration/reload_spec.lua \
  spec/integration/workers_spec.lua
tsan: test-setup ## the specs that use threads under ThreadSanitizer
	@$(call configure,tsan,build/tsan)
	@$(call compile,build/tsan,--target moonpool preload flow_threads_test)
	@TSAN_OPTIONS=halt_on_error=1 build/tsan/spec/flow_threads_test
	@for spec in $(TSAN_SPECS); do echo "$$spec"; TSAN_OPTIONS=halt_on_error=1 build/tsan/moonpool spec $$spec || exit 1; done

asan: test-setup build/npm/node_modules ## the same tests under AddressSanitizer and UBSan
	@$(call configure,asan,build/asan)
	@$(call compile,build/asan)
	@export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1; $(call ctest,build/asan)

soak: setup compiled ## the long forms of the fault tests (a quarter of an hour)
	@build/spec/sim_test --seeds 1000000
	@$(MOONPOOL) spec -p _soak spec/soak
	@lua5.4 spec/structure/mutate.lua

mutants: setup compiled ## mistakes built in on purpose: each must be caught
	@lua5.4 spec/structure/mutate.lua

fuzz: setup ## what reads texts from outside, 10 million runs each (needs clang)
	@.ci/setup lint
	@$(call reconfigure,dev,build)
	@cmake --build build --target fuzz

lint: ## clang-format, clang-tidy, luacheck
	@.ci/setup lint
	@$(call reconfigure,dev,build)
	clang-format --dry-run -Werror $(C_FILES)
	luacheck --quiet lua scripts spec
	run-clang-tidy -quiet -j $(JOBS) -p build -extra-arg=-include$(CURDIR)/.ci/analyze.h '^$(CURDIR)/(src|spec)/'

format: ## rewrite the C files in the project's style
	@.ci/setup lint
	clang-format -i $(C_FILES)

# What is installed is a build of its own: optimised, hardened, without tests.
.PHONY: released
released:
	@.ci/setup package
	@$(call reconfigure,release,build/release)
	@$(call compile,build/release,--target moonpool)

PREFIX ?= /usr/local
install: setup released ## program, man pages, completion, systemd unit, into PREFIX (/usr/local) below DESTDIR
	@DESTDIR=$(DESTDIR) cmake --install build/release --prefix $(PREFIX)

deb: setup released ## a Debian package in build/release, looked at by lintian
	@rm -f build/release/*.deb
	@cd build/release && cpack >cpack.log 2>&1 || { cat cpack.log; exit 1; }
	@lintian --fail-on error --suppress-tags bad-distribution-in-changes-file build/release/*.deb
	@ls build/release/*.deb

deb-test: deb ## install, start, reload, upgrade and remove the package in a Debian 12 under systemd (needs root)
	@command -v debootstrap >/dev/null || .ci/setup root
	@src/install/debian/test build/release/*.deb

clean: ## remove build/
	rm -rf build
