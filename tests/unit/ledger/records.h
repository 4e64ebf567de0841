/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Ring records as the kernel side writes them, field by field. */
#ifndef PYLEAKD_TESTS_UNIT_LEDGER_RECORDS_H
#define PYLEAKD_TESTS_UNIT_LEDGER_RECORDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ledger/ledger.h"

#define FLAG_FROM_INTERPRETER WIRE_FROM_INTERPRETER
#define MAP_PRIVATE_ANONYMOUS 0x22
#define PROTECTION_READ_WRITE 3

static inline void take_alloc(struct ledger *ledger, int kind, int flags, uint64_t address,
			      uint64_t size, uint64_t stack)
{
	const struct wire_alloc record = {.header = {.kind = (__u8)kind, .flags = (__u8)flags},
					  .address = address,
					  .stack = stack,
					  .size = size};

	ledger_consume(ledger, &record.header);
}

static inline void give_block(struct ledger *ledger, uint64_t address, uint64_t size,
			      uint64_t stack)
{
	take_alloc(ledger, WIRE_ALLOC, 0, address, size, stack);
}

static inline void give_chunk(struct ledger *ledger, uint64_t address, uint64_t size,
			      uint64_t stack)
{
	take_alloc(ledger, WIRE_NATIVE_ALLOC, 0, address, size, stack);
}

static inline void give_raw(struct ledger *ledger, uint64_t address, uint64_t size, uint64_t stack)
{
	take_alloc(ledger, WIRE_NATIVE_ALLOC, WIRE_FROM_INTERPRETER, address, size, stack);
}

static inline void take_free(struct ledger *ledger, int kind, uint64_t address)
{
	const struct wire_free record = {.header = {.kind = (__u8)kind}, .address = address};

	ledger_consume(ledger, &record.header);
}

static inline void free_block(struct ledger *ledger, uint64_t address)
{
	take_free(ledger, WIRE_FREE, address);
}

static inline void free_chunk(struct ledger *ledger, uint64_t address)
{
	take_free(ledger, WIRE_NATIVE_FREE, address);
}

static inline void create_object(struct ledger *ledger, uint64_t address, uint64_t type,
				 uint64_t stack)
{
	const struct wire_create record = {
		.header = {.kind = WIRE_CREATE}, .address = address, .stack = stack, .type = type};

	ledger_consume(ledger, &record.header);
}

static inline void realloc_chunk(struct ledger *ledger, uint64_t old_address, uint64_t address,
				 uint64_t size, uint64_t stack)
{
	const struct wire_realloc record = {.header = {.kind = WIRE_NATIVE_REALLOC},
					    .old_address = old_address,
					    .address = address,
					    .stack = stack,
					    .size = size};

	ledger_consume(ledger, &record.header);
}

static inline void take_mapping(struct ledger *ledger, int kind, struct wire_mapping record)
{
	record.header.kind = (__u8)kind;
	ledger_consume(ledger, &record.header);
}

static inline void map_memory(struct ledger *ledger, uint64_t address, uint64_t size,
			      uint64_t stack)
{
	take_mapping(ledger, WIRE_MMAP,
		     (struct wire_mapping){.address = address,
					   .size = size,
					   .stack = stack,
					   .protection = PROTECTION_READ_WRITE,
					   .map_flags = MAP_PRIVATE_ANONYMOUS});
}

static inline void unmap_memory(struct ledger *ledger, uint64_t address, uint64_t size)
{
	take_mapping(ledger, WIRE_MUNMAP, (struct wire_mapping){.address = address, .size = size});
}

/* What the stack has; zeros where it never had anything. */
static inline struct ledger_stack stack_of(const struct ledger *ledger, uint64_t id)
{
	struct ledger_stack *stacks = NULL;
	struct ledger_stack found = {.stack = id};
	size_t n = 0;

	assert_int_equal(ledger_stacks(ledger, &stacks, &n), 0);
	for (size_t i = 0; i < n; i++) {
		if (stacks[i].stack == id)
			found = stacks[i];
	}
	free(stacks);
	return found;
}

static inline uint64_t bytes_of(const struct ledger *ledger, uint64_t id)
{
	return stack_of(ledger, id).outstanding_bytes;
}

static inline struct ledger_totals totals_of(const struct ledger *ledger)
{
	struct ledger_totals totals;

	ledger_totals(ledger, &totals);
	return totals;
}

static inline struct ledger *new_ledger(size_t max_blocks, size_t max_stacks)
{
	const struct ledger_limits limits = {.max_blocks = max_blocks, .max_stacks = max_stacks};
	struct ledger *ledger = NULL;

	assert_int_equal(ledger_new(&limits, &ledger), 0);
	return ledger;
}

/* A fixed-seed generator (xorshift64*; Vigna, 2016), so that a failure repeats. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

#endif
