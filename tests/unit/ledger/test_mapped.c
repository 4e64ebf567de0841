/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "records.h"

#include <errno.h>

#define A 101
#define B 202
#define PAGE 4096ull
#define BASE 0x7f0000000000ull

static uint64_t mapped(const struct ledger *ledger)
{
	assert_true(ledger_check(ledger));
	return totals_of(ledger).mapped_bytes / PAGE;
}

static void parts_of_a_mapping_are_unmapped(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);
	struct ledger_block block;

	(void)state;
	map_memory(ledger, BASE, 10 * PAGE, A);
	unmap_memory(ledger, BASE + 4 * PAGE, 2 * PAGE); /* a hole */
	assert_int_equal(mapped(ledger), 8);
	assert_int_equal(stack_of(ledger, A).outstanding_blocks, 2);
	assert_int_equal(stack_of(ledger, A).total_bytes, 10 * PAGE);
	assert_int_equal(ledger_find(ledger, BASE + 5 * PAGE, &block), -ENOENT);
	assert_int_equal(ledger_find(ledger, BASE + 7 * PAGE, &block), 0);
	assert_int_equal(block.address, BASE + 6 * PAGE);
	assert_int_equal(block.domain, LEDGER_MAPPED);
	unmap_memory(ledger, BASE, PAGE + 1); /* the head: sizes are rounded up to pages */
	assert_int_equal(mapped(ledger), 6);
	unmap_memory(ledger, BASE + 9 * PAGE, 5 * PAGE); /* the tail and beyond */
	assert_int_equal(mapped(ledger), 5);
	unmap_memory(ledger, 0, BASE + 100 * PAGE);
	assert_int_equal(mapped(ledger), 0);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	ledger_free(ledger);
}

static void a_mapping_over_others_takes_their_place(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, BASE, 4 * PAGE, A);
	map_memory(ledger, BASE + 6 * PAGE, 4 * PAGE, A);
	map_memory(ledger, BASE + 2 * PAGE, 6 * PAGE, B);
	assert_int_equal(mapped(ledger), 10);
	assert_int_equal(bytes_of(ledger, A), 4 * PAGE);
	assert_int_equal(bytes_of(ledger, B), 6 * PAGE);
	ledger_free(ledger);
}

static void reserved_address_space_and_stacks_are_not_memory(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	take_mapping(ledger, WIRE_MMAP,
		     (struct wire_mapping){.address = BASE, .size = 64 << 20, .stack = A});
	take_mapping(ledger, WIRE_MMAP,
		     (struct wire_mapping){.address = BASE + (1ull << 30),
					   .size = 8 << 20,
					   .stack = A,
					   .protection = PROTECTION_READ_WRITE,
					   .map_flags = 0x20000 | MAP_PRIVATE_ANONYMOUS});
	assert_int_equal(mapped(ledger), 0);
	ledger_free(ledger);
}

static void memory_that_malloc_mapped_is_counted_once(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, BASE, 257 * PAGE, A);
	give_chunk(ledger, BASE + 16, 256 * PAGE, A);
	assert_int_equal(bytes_of(ledger, A), 256 * PAGE);
	assert_int_equal(mapped(ledger), 0);
	/* realloc of it: mremap, then the chunk at its new place. */
	take_mapping(ledger, WIRE_MREMAP,
		     (struct wire_mapping){.old_address = BASE,
					   .old_size = 257 * PAGE,
					   .address = BASE + (1ull << 30),
					   .size = 513 * PAGE,
					   .stack = B});
	realloc_chunk(ledger, BASE + 16, BASE + (1ull << 30) + 16, 512 * PAGE, B);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 512 * PAGE);
	assert_int_equal(mapped(ledger), 0);
	free_chunk(ledger, BASE + (1ull << 30) + 16);
	unmap_memory(ledger, BASE + (1ull << 30), 513 * PAGE);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	ledger_free(ledger);
}

static void an_aligned_chunk_is_not_counted_twice_either(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, BASE, 100 * PAGE, A);
	give_chunk(ledger, BASE + 16 * PAGE, 80 * PAGE, A);
	assert_int_equal(bytes_of(ledger, A), 80 * PAGE);
	/* But a small chunk far inside a mapping says nothing of it: another allocator's. */
	map_memory(ledger, BASE + (1ull << 30), 100 * PAGE, B);
	give_chunk(ledger, BASE + (1ull << 30) + 50 * PAGE + 16, 1000, A);
	assert_int_equal(bytes_of(ledger, B), 100 * PAGE);
	assert_int_equal(mapped(ledger), 100);
	ledger_free(ledger);
}

static void mremap_moves_and_charges_who_makes_it_grow(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);
	struct wire_mapping record = {.old_address = BASE,
				      .old_size = 4 * PAGE,
				      .address = BASE,
				      .size = 2 * PAGE,
				      .stack = B};

	(void)state;
	map_memory(ledger, BASE, 4 * PAGE, A);
	take_mapping(ledger, WIRE_MREMAP, record); /* shrinks: stays A's */
	assert_int_equal(bytes_of(ledger, A), 2 * PAGE);
	record.old_size = 2 * PAGE;
	record.address = BASE + 64 * PAGE;
	record.size = 8 * PAGE;
	take_mapping(ledger, WIRE_MREMAP, record);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 8 * PAGE);
	assert_int_equal(mapped(ledger), 8);
	ledger_free(ledger);
}

static void a_pool_in_a_mapping_tells_an_arena(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, BASE, 256 * PAGE, A);
	map_memory(ledger, BASE + 256 * PAGE, 8 * PAGE, A);
	take_alloc(ledger, WIRE_ALLOC, 0, BASE + 4 * PAGE + 48, 64, B); /* of a pool from before */
	assert_int_equal(mapped(ledger), 264);
	take_alloc(ledger, WIRE_ALLOC, WIRE_FRESH_POOL, BASE + 8 * PAGE + 48, 64, B);
	assert_int_equal(mapped(ledger), 8);
	assert_int_equal(bytes_of(ledger, A), 8 * PAGE);
	assert_int_equal(bytes_of(ledger, B), 128);
	ledger_free(ledger);
}

static void an_arena_is_forgotten(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, BASE, 512 * PAGE, A);
	ledger_forget_mapping(ledger, BASE, 256 * PAGE);
	ledger_forget_mapping(ledger, BASE + (1ull << 40), 256 * PAGE);
	assert_int_equal(mapped(ledger), 256);
	ledger_free(ledger);
}

static void the_break_is_a_statistic(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	take_mapping(ledger, WIRE_BRK,
		     (struct wire_mapping){.address = 0x20000, .old_address = 0x10000});
	take_mapping(ledger, WIRE_BRK,
		     (struct wire_mapping){.address = 0x18000, .old_address = 0x20000});
	take_mapping(ledger, WIRE_BRK, (struct wire_mapping){.address = 0x18000});
	assert_int_equal(totals_of(ledger).break_grown_bytes, 0x10000);
	assert_int_equal(totals_of(ledger).break_shrunk_bytes, 0x8000);
	assert_int_equal(totals_of(ledger).outstanding_bytes, 0);
	ledger_free(ledger);
}

static void absurd_ranges_do_no_harm(void **state)
{
	struct ledger *ledger = new_ledger(0, 0);

	(void)state;
	map_memory(ledger, UINT64_MAX - 100, UINT64_MAX, A);
	unmap_memory(ledger, 4096, UINT64_MAX);
	map_memory(ledger, BASE, 0, A);
	map_memory(ledger, 0, 4096, A);
	unmap_memory(ledger, BASE, 0);
	ledger_forget_mapping(ledger, UINT64_MAX, UINT64_MAX);
	assert_true(ledger_check(ledger));
	ledger_free(ledger);
}

/* A page for a page: who has it, against random mapping and unmapping. */
static void random_ranges_agree_with_a_map_of_pages(void **state)
{
	enum { PAGES = 200, STACKS = 5 };
	struct ledger *ledger = new_ledger(0, 0);
	uint64_t seed = 20260721;
	uint8_t owner[PAGES] = {0};

	(void)state;
	for (int round = 0; round < 20000; round++) {
		uint64_t first = random_next(&seed) % PAGES;
		uint64_t n = 1 + random_next(&seed) % 20;
		uint8_t stack = (uint8_t)(random_next(&seed) % STACKS);
		uint64_t sums[STACKS] = {0};

		if (first + n > PAGES)
			n = PAGES - first;
		memset(&owner[first], stack, n);
		if (stack)
			map_memory(ledger, BASE + first * PAGE, n * PAGE, stack);
		else
			unmap_memory(ledger, BASE + first * PAGE, n * PAGE);
		for (int i = 0; i < PAGES; i++)
			sums[owner[i]] += PAGE;
		for (uint64_t i = 1; i < STACKS; i++)
			assert_int_equal(bytes_of(ledger, i), sums[i]);
		assert_true(ledger_check(ledger));
	}
	ledger_free(ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_of_a_mapping_are_unmapped),
		cmocka_unit_test(a_mapping_over_others_takes_their_place),
		cmocka_unit_test(reserved_address_space_and_stacks_are_not_memory),
		cmocka_unit_test(memory_that_malloc_mapped_is_counted_once),
		cmocka_unit_test(an_aligned_chunk_is_not_counted_twice_either),
		cmocka_unit_test(mremap_moves_and_charges_who_makes_it_grow),
		cmocka_unit_test(an_arena_is_forgotten),
		cmocka_unit_test(a_pool_in_a_mapping_tells_an_arena),
		cmocka_unit_test(the_break_is_a_statistic),
		cmocka_unit_test(absurd_ranges_do_no_harm),
		cmocka_unit_test(random_ranges_agree_with_a_map_of_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
