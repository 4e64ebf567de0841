# SPDX-License-Identifier: MIT OR GPL-2.0
# pyleakd: `make help` lists what can be made.
# BUILD may be set to build elsewhere; everything that is made lies below it.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
BPFTOOL ?= $(or $(shell command -v bpftool 2>/dev/null),/usr/sbin/bpftool)
PYTHON ?= /usr/bin/python3
PYTEST ?= $(PYTHON) -m pytest -p no:cacheprovider -rs
SANITIZE ?=
FUZZ_SECONDS ?= 60
JOBS ?= $(shell nproc)
VERSION := 0.1.0

# A line for each step; V=1 shows the commands.
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $@;)

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
export PYTHONDONTWRITEBYTECODE := 1

ROOMS := service report judge ledger capture probes cpython target base

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 $(CFLAGS) $(WARN) -fno-strict-aliasing -D_GNU_SOURCE \
	-DPYLEAKD_VERSION='"$(VERSION)"' -Iinclude -Isrc -I$(BUILD)/gen $(SANITIZE)
LIBS := -lbpf -lelf -ldw -lz -lZydis -lZycore -lsystemd -ljansson -lmicrohttpd -lm

# --- rooms: a static library each -------------------------------------------------------------
room_sources = $(sort $(wildcard src/$(1)/*.c))
room_objects = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(call room_sources,$(1)))
MAIN := $(BUILD)/obj/service/main.o
ARCHIVES := $(foreach room,$(ROOMS),$(BUILD)/lib/$(room).a)

## all: the program, at $(BUILD)/pyleakd
.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/pyleakd

$(BUILD)/pyleakd: $(MAIN) $(ARCHIVES)
	$(call say,LINK)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(MAIN) $(ARCHIVES) $(LIBS)

define room_rule
$(BUILD)/lib/$(1).a: $(filter-out $(MAIN),$(call room_objects,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR)ar rcs $$@ $$^
endef
$(foreach room,$(ROOMS),$(eval $(call room_rule,$(room))))

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# --- BPF --------------------------------------------------------------------------------------
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
SKELETONS := $(patsubst bpf/%.bpf.c,$(BUILD)/gen/%.skel.h,$(BPF_SOURCES))
BPF_OBJECTS := $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(BPF_SOURCES))

.SECONDARY: $(BPF_OBJECTS)

$(BUILD)/gen/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(call say,SKEL)$(BPFTOOL) gen skeleton $< name $(subst -,_,$*)_bpf > $@.tmp && mv $@.tmp $@

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h vmlinux/*.h) $(wildcard include/pyleakd/*.h)
	@mkdir -p $(@D)
	$(call say,BPF)$(CLANG) -target bpf -D__TARGET_ARCH_x86 -mcpu=v3 -O2 -g -Wall -Werror -Iinclude -Ivmlinux -Ibpf -c -o $@ $<

$(call room_objects,capture): $(SKELETONS)

# --- unit tests: tests/unit/ROOM/test_*.c, a cmocka program each ------------------------------
UNIT_SOURCES := $(sort $(wildcard tests/unit/*/test_*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SOURCES))
unit_of = $(filter $(BUILD)/unit/$(1)/%,$(UNIT_TESTS))

# A room's tests link that room and those below it.
below = $(shell echo "$(ROOMS)" | tr ' ' '\n' | sed -n '/^$(1)$$/,$$p')
define unit_rule
$(call unit_of,$(1)): $(BUILD)/unit/$(1)/%: tests/unit/$(1)/%.c $(wildcard tests/unit/$(1)/*.h) $(foreach room,$(call below,$(1)),$(BUILD)/lib/$(room).a) | $(SKELETONS)
	@mkdir -p $$(@D)
	$$(call say,UNIT)$$(CC) $$(ALL_CFLAGS) -Wno-missing-prototypes -Itests -MMD -MP -o $$@ $$< $(foreach room,$(call below,$(1)),$(BUILD)/lib/$(room).a) -lcmocka $$(LIBS)
.PHONY: check-unit-$(1)
check-unit-$(1): $(call unit_of,$(1))
	@tools/run-tests.sh $$^
endef
$(foreach room,$(ROOMS),$(eval $(call unit_rule,$(room))))

.PHONY: unit-programs
unit-programs: $(UNIT_TESTS)

## check-unit: the units, without root and kernel
.PHONY: check-unit
check-unit: $(UNIT_TESTS)
	@tools/run-tests.sh $^

-include $(shell find $(BUILD)/obj $(BUILD)/unit $(BUILD)/fuzzer -name '*.d' 2>/dev/null)

# --- benchmarks and tools in C: a program each ------------------------------------------------
BENCHES := $(patsubst bench/%.c,$(BUILD)/bench/%,$(sort $(wildcard bench/*.c)))
TOOLS := $(patsubst tools/%.c,$(BUILD)/tools/%,$(sort $(wildcard tools/*.c)))

$(BENCHES): $(BUILD)/bench/%: bench/%.c $(ARCHIVES)
	@mkdir -p $(@D)
	$(call say,BENCH)$(CC) $(ALL_CFLAGS) -o $@ $< $(ARCHIVES) $(LIBS)

# What is in tools/ looks at files and processes: it needs the rooms from probes down.
TOOL_ARCHIVES := $(foreach room,$(call below,probes),$(BUILD)/lib/$(room).a)
$(TOOLS): $(BUILD)/tools/%: tools/%.c $(TOOL_ARCHIVES)
	@mkdir -p $(@D)
	$(call say,TOOL)$(CC) $(ALL_CFLAGS) -o $@ $< $(TOOL_ARCHIVES) $(LIBS)

.PHONY: tools
tools: $(TOOLS)

## bench: what a hit, an event and a session cost, side by side (as root)
.PHONY: bench
bench: all $(BENCHES)
	bench/run.sh $(BUILD)

## bench-sampled: the sampled mode's price, answers and truth (as root; bench-deps before; some hours)
.PHONY: bench-sampled
bench-sampled: all $(BUILD)/bench/capture
	bench/run.sh $(BUILD) sampled

# --- fuzzers: tests/fuzz/fuzz_NAME.c, seeds in tests/fuzz/seeds/NAME/ -------------------------
# Built apart by clang, everything with its coverage and sanitizers: make in make, because the
# rooms' objects are others.
FUZZ_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# gcc builds the product; these are clang's alone, about inline destructors and joined strings.
CLANG_WARN := -Wno-unused-function -Wno-string-concatenation
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzzer/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

$(FUZZERS): $(BUILD)/fuzzer/%: tests/fuzz/%.c $(wildcard tests/fuzz/*.h) $(ARCHIVES)
	@mkdir -p $(@D)
	$(call say,FUZZ)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -Wno-missing-prototypes -Itests -MMD -MP -o $@ $< $(ARCHIVES) $(LIBS)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZERS)

## fuzz: each fuzzer for FUZZ_SECONDS (60)
.PHONY: fuzz
fuzz:
	+$(MAKE) --no-print-directory -j$(JOBS) BUILD=$(BUILD)/fuzz CC=$(CLANG) \
		CFLAGS="-O1 -g" WARN="$(WARN) $(CLANG_WARN)" \
		SANITIZE="$(FUZZ_SANITIZE) -fsanitize=fuzzer-no-link" fuzz-programs
	tools/fuzz.sh $(BUILD)/fuzz $(FUZZ_SECONDS)

.PHONY: fuzz-short
fuzz-short:
	+$(MAKE) --no-print-directory FUZZ_SECONDS=5 fuzz

## asan: the program and the units under ASan and UBSan, in $(BUILD)/asan
ASAN := BUILD=$(BUILD)/asan CFLAGS="-O1 -g" \
	SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
# Sanitized, an interpreter costs minutes: the oldest layout, the stock one and a late one stand for all.
ASAN_INTERPRETERS ?= stock-3.11|debian-3.9|debian-3.14
.PHONY: asan
asan:
	+$(MAKE) --no-print-directory -j$(JOBS) $(ASAN) all unit-programs
	+ONLY='$(ASAN_INTERPRETERS)' $(MAKE) --no-print-directory -j1 $(ASAN) check-unit

# --- tests on real processes, and on the tree -------------------------------------------------
pytest_in = PYLEAKD=$(abspath $(BUILD)/pyleakd) BUILD=$(BUILD) $(PYTEST) $(1)

## check-system: real interpreters, real leaks, the real kernel (as root)
# Most of it is waiting for sessions to end: two halves side by side, told one after the other.
.PHONY: check-system check-system-continuous check-system-others
check-system: all
	+$(MAKE) --no-print-directory -k -j2 --output-sync=target \
		check-system-continuous check-system-others

CONTINUOUS_TESTS = $(sort $(wildcard $(addprefix tests/system/test_, \
	sampled*.py daemon*.py cli*.py live_view*.py)))
check-system-continuous:
	$(call pytest_in,-q $(CONTINUOUS_TESTS))

check-system-others:
	$(call pytest_in,-q tests/system $(addprefix --ignore=,$(CONTINUOUS_TESTS)))

## lint: the rules of the house that a machine can check
.PHONY: lint
lint: $(ARCHIVES)
	tools/lint.py --objects $(BUILD)/obj

.PHONY: check-tools
check-tools:
	$(PYTEST) -q tools

## check: everything: set-up, build, units, lint, sanitizers, fuzzers shortly, system (as root)
.PHONY: check
check: deps
	+$(MAKE) --no-print-directory -j$(JOBS) all unit-programs
	+$(MAKE) --no-print-directory interpreters
	+$(MAKE) --no-print-directory -k -j1 lint check-tools fuzz-short asan check-unit check-system

## check-fast: what needs neither root nor the kernel nor the network
.PHONY: check-fast
check-fast:
	+$(MAKE) --no-print-directory -j$(JOBS) all unit-programs
	+$(MAKE) --no-print-directory -k -j1 lint check-tools check-unit

## demo: a leaky service on the stock interpreter, and pyleakd beside it for half a minute (as root)
.PHONY: demo
demo: deps
	+$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/demo.sh $(BUILD)/pyleakd

## deps: installs what the build and the tests need, on Debian 12 (as root)
.PHONY: deps
deps:
	@tools/deps.sh

## bench-deps: installs what the sampled mode's benchmarks run: Flask, gunicorn, wrk, pandas (as root)
.PHONY: bench-deps
bench-deps:
	@tools/deps.sh --bench

## interpreters: unpacks Debian's other Pythons below build/interpreters (as root)
.PHONY: interpreters
interpreters:
	@tools/interpreters.sh fetch

# No part of check: an hour for both. `BOLTED=1 make check-system` has them among the others.
## bolted: builds Pythons by clang (ThinLTO, PGO) and BOLT, below build/interpreters-bolted (as root)
BOLTED_VERSIONS ?= 3.11 3.13
.PHONY: bolted
bolted:
	@tools/bolted.sh $(BOLTED_VERSIONS)

# No part of check: it boots kernels in software, some minutes each. KERNEL_SERIES="6.1" chooses.
## check-kernels: the program on Debian's 5.10, 6.1, 6.12 and 7.2 under qemu (as root)
KERNEL_SERIES ?=
.PHONY: check-kernels
check-kernels: all
	tests/kernels/run.sh $(BUILD)/pyleakd $(KERNEL_SERIES)

# --- for whoever works on it ------------------------------------------------------------------
C_FILES := $(sort $(wildcard src/*/*.[ch] include/*/*.h bpf/*.[ch] bench/*.c tools/*.c \
	tests/unit/*/*.[ch] tests/fuzz/*.[ch]))

## format: clang-format over the tree
.PHONY: format
format:
	clang-format -i $(C_FILES)

.PHONY: format-check
format-check:
	clang-format --dry-run -Werror $(C_FILES)

## tidy: clang-tidy over the rooms (not among the dependencies: install clang-tidy)
.PHONY: tidy
tidy: compdb
	clang-tidy -p . --quiet $(filter src/%.c,$(C_FILES))

## compdb: compile_commands.json, for editors and clang-tidy
.PHONY: compdb
compdb: $(SKELETONS)
	@$(MAKE) --no-print-directory -Bn V=1 all unit-programs CC=$(CC) | tools/compdb.py > compile_commands.json

SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system

# A configuration that is there already stays.
## install: the program, manual and unit below $(DESTDIR)$(PREFIX), the configuration in /etc
.PHONY: install
install: all
	install -D -m 755 $(BUILD)/pyleakd $(DESTDIR)$(PREFIX)/bin/pyleakd
	@for page in $(wildcard man/*.[1-8]); do \
		install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
	done
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@PREFIX@|$(PREFIX)|g' deploy/pyleakd.service > $(DESTDIR)$(UNITDIR)/pyleakd.service
	test -e $(DESTDIR)$(SYSCONFDIR)/pyleakd.conf || \
		install -D -m 644 deploy/pyleakd.conf $(DESTDIR)$(SYSCONFDIR)/pyleakd.conf

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST)) | sort | \
		awk -F ': ' '{ name = $$1; sub(/^[^:]*: /, ""); printf "%-14s %s\n", name, $$0 }'

## clean: removes what was made
.PHONY: clean
clean:
	rm -rf $(BUILD) compile_commands.json

## layouts: regenerates src/cpython/*.inc from CPython's headers (Debian's are downloaded)
.PHONY: layouts
layouts:
	tools/layouts/fetch-headers $(BUILD)/headers
	tools/layouts/generate src/cpython $$(tools/layouts/find-headers $(BUILD)/headers)
