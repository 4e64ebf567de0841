# pyleakd: `make help` lists what can be made.
# BUILD may be set to build elsewhere; everything that is made lies below it.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= gcc
CLANG ?= clang
BPFTOOL ?= bpftool
SANITIZE ?=
VERSION := 0.1.0

MAKEFLAGS += --no-builtin-rules
ROOMS := service report judge ledger capture probes cpython target base

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu17 $(CFLAGS) $(WARN) -fno-strict-aliasing -D_GNU_SOURCE \
	-DPYLEAKD_VERSION='"$(VERSION)"' -Iinclude -Isrc -I$(BUILD)/gen $(SANITIZE)
LIBS := -lbpf -lelf -ldw -lz -lZydis -lZycore -lsystemd -ljansson -lcap -lm

# --- rooms: a static library each -------------------------------------------------------------
room_sources = $(sort $(wildcard src/$(1)/*.c))
room_objects = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(call room_sources,$(1)))
MAIN := $(BUILD)/obj/service/main.o
ARCHIVES := $(foreach room,$(ROOMS),$(BUILD)/lib/$(room).a)

## all: the program, at $(BUILD)/pyleakd
.PHONY: all
all: $(BUILD)/pyleakd

$(BUILD)/pyleakd: $(MAIN) $(ARCHIVES)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(MAIN) $(ARCHIVES) $(LIBS)

define room_rule
$(BUILD)/lib/$(1).a: $(filter-out $(MAIN),$(call room_objects,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach room,$(ROOMS),$(eval $(call room_rule,$(room))))

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

## plandump: prints a probe plan ($(BUILD)/plandump MINOR FILE)
.PHONY: plandump
plandump: $(BUILD)/plandump

$(BUILD)/plandump: tools/plandump.c $(foreach room,probes target base,$(BUILD)/lib/$(room).a)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(LIBS)

# --- BPF --------------------------------------------------------------------------------------
BPF_SOURCES := $(wildcard bpf/*.bpf.c)
SKELETONS := $(patsubst bpf/%.bpf.c,$(BUILD)/gen/%.skel.h,$(BPF_SOURCES))

$(BUILD)/gen/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(BPFTOOL) gen skeleton $< name $(subst -,_,$*)_bpf > $@.tmp && mv $@.tmp $@

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h vmlinux/*.h) include/pyleakd/wire.h
	@mkdir -p $(@D)
	$(CLANG) -target bpf -D__TARGET_ARCH_x86 -mcpu=v3 -O2 -g -Wall -Werror -Iinclude -Ivmlinux -Ibpf -c -o $@ $<

$(call room_objects,capture): $(SKELETONS)

# --- unit tests: tests/unit/ROOM/test_*.c, a cmocka program each ------------------------------
UNIT_SOURCES := $(sort $(wildcard tests/unit/*/test_*.c))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SOURCES))
unit_of = $(filter $(BUILD)/unit/$(1)/%,$(UNIT_TESTS))

# A room's tests link that room and those below it.
below = $(shell echo "$(ROOMS)" | tr ' ' '\n' | sed -n '/^$(1)$$/,$$p')
define unit_rule
$(call unit_of,$(1)): $(BUILD)/unit/$(1)/%: tests/unit/$(1)/%.c $(wildcard tests/unit/$(1)/*.h) $(foreach room,$(call below,$(1)),$(BUILD)/lib/$(room).a)
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) -Wno-missing-prototypes -Itests -MMD -MP -o $$@ $$< $(foreach room,$(call below,$(1)),$(BUILD)/lib/$(room).a) -lcmocka $$(LIBS)
.PHONY: check-unit-$(1)
check-unit-$(1): $(call unit_of,$(1))
	@set -e; for test in $$^; do $$$$test; done
endef
$(foreach room,$(ROOMS),$(eval $(call unit_rule,$(room))))

## check-unit: the units, without root and kernel
.PHONY: check-unit
check-unit: $(UNIT_TESTS)
	@set -e; for test in $^; do $$test; done

-include $(shell find $(BUILD)/obj $(BUILD)/unit -name '*.d' 2>/dev/null)

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST) | sort

## clean: removes what was made
.PHONY: clean
clean:
	rm -rf $(BUILD)

# --- CPython's layouts ------------------------------------------------------------------------
## layouts: regenerates src/cpython/*.inc from CPython's headers (downloads Debian's)
.PHONY: layouts
layouts:
	tools/layouts/fetch-headers $(BUILD)/headers
	tools/layouts/generate src/cpython $$(tools/layouts/find-headers $(BUILD)/headers)
