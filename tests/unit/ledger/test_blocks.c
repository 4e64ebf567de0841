/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "records.h"

#include <errno.h>

#define A 101
#define B 202
#define DICT 0xd1c7
#define LIST 0x1157

#define TEST(name)                                                                                 \
	static void name##_body(struct ledger *ledger);                                            \
	static void name(void **state)                                                             \
	{                                                                                          \
		struct ledger *ledger = new_ledger(0, 0);                                          \
                                                                                                   \
		(void)state;                                                                       \
		name##_body(ledger);                                                               \
		assert_true(ledger_check(ledger));                                                 \
		ledger_free(ledger);                                                               \
	}                                                                                          \
	static void name##_body(struct ledger *ledger)

TEST(a_block_is_charged_to_its_stack_until_it_is_freed)
{
	struct ledger_block block;

	give_block(ledger, 0x7f10, 64, A);
	assert_int_equal(bytes_of(ledger, A), 64);
	assert_int_equal(ledger_find(ledger, 0x7f10, &block), 0);
	assert_int_equal(block.domain, LEDGER_MEM);
	assert_true(block.pool);
	free_block(ledger, 0x7f10);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(stack_of(ledger, A).total_bytes, 64);
	assert_int_equal(ledger_find(ledger, 0x7f10, &block), -ENOENT);
}

TEST(the_drawing_in_the_header_is_true)
{
	give_block(ledger, 0x7f10, 64, A);
	create_object(ledger, 0x7f20, DICT, A);
	assert_int_equal(bytes_of(ledger, A), 64);
	create_object(ledger, 0x7f20, DICT, B);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 64);
	assert_int_equal(stack_of(ledger, B).domain_bytes[LEDGER_OBJECT], 64);
	free_block(ledger, 0x7f10);
	assert_int_equal(bytes_of(ledger, B), 0);
}

TEST(an_object_is_found_behind_each_header)
{
	static const uint64_t headers[] = {0, 16, 32, 48};

	for (size_t i = 0; i < 4; i++) {
		uint64_t start = 0x10000 * (i + 1);
		struct ledger_block block;

		give_block(ledger, start, 96, A);
		create_object(ledger, start + headers[i], DICT, B);
		assert_int_equal(ledger_find(ledger, start + 95, &block), 0);
		assert_int_equal(block.address, start);
		assert_int_equal(block.object, start + headers[i]);
		assert_int_equal(block.type, DICT);
		assert_int_equal(block.domain, LEDGER_OBJECT);
	}
	assert_int_equal(totals_of(ledger).creations_of_unknown, 0);
}

TEST(an_object_is_not_put_into_the_block_that_ends_before_it)
{
	struct ledger_block block;

	give_block(ledger, 0x1000, 16, A);
	give_block(ledger, 0x1020, 32, A);
	create_object(ledger, 0x1010, DICT, B);
	assert_int_equal(totals_of(ledger).creations_of_unknown, 1);
	assert_int_equal(ledger_find(ledger, 0x1000, &block), 0);
	assert_int_equal(block.object, 0);
	create_object(ledger, 0x1030, DICT, B);
	assert_int_equal(ledger_find(ledger, 0x1020, &block), 0);
	assert_int_equal(block.object, 0x1030);
}

TEST(a_block_is_found_by_any_address_in_it_and_by_none_behind_it)
{
	struct ledger_block block;

	give_block(ledger, 0x4000, 512, A);
	assert_int_equal(ledger_find(ledger, 0x4000 + 511, &block), 0);
	assert_int_equal(block.address, 0x4000);
	assert_int_equal(ledger_find(ledger, 0x4000 + 512, &block), -ENOENT);
	assert_int_equal(ledger_find(ledger, 0x3fff, &block), -ENOENT);
	give_chunk(ledger, 0x8010, 24, A);
	assert_int_equal(ledger_find(ledger, 0x8010 + 23, &block), 0);
	assert_int_equal(ledger_find(ledger, 0x8010 + 24, &block), -ENOENT);
}

TEST(leaked_dicts_among_churn_go_to_the_leaking_stack)
{
	/* The churn allocates and frees 9 of 10; what it parked on the free list is taken to leak.
	 */
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t start = 0x100000 + i * 64;

		give_block(ledger, start, 64, A);
		create_object(ledger, start + 16, DICT, A);
		if (i % 10)
			free_block(ledger, start);
		else
			create_object(ledger, start + 16, DICT, B);
	}
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 100 * 64);
	assert_int_equal(totals_of(ledger).moves, 100);
}

TEST(a_parked_block_is_nobodys_until_something_is_created_in_it)
{
	struct ledger_block block;

	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, A);
	ledger_set_parked(ledger, 0x1000, true);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(totals_of(ledger).parked_bytes, 64);
	assert_int_equal(totals_of(ledger).pool_blocks, 0);
	create_object(ledger, 0x1010, DICT, B);
	assert_int_equal(bytes_of(ledger, B), 64);
	assert_int_equal(totals_of(ledger).parked_bytes, 0);
	assert_int_equal(ledger_find(ledger, 0x1000, &block), 0);
	assert_false(block.parked);
	/* By the object's address too, and back again. */
	ledger_set_parked(ledger, 0x1010, true);
	assert_int_equal(totals_of(ledger).parked_blocks, 1);
	ledger_set_parked(ledger, 0x1010, false);
	assert_int_equal(bytes_of(ledger, B), 64);
	ledger_set_parked(ledger, 0x1010, true);
	free_block(ledger, 0x1000);
	assert_int_equal(totals_of(ledger).parked_blocks, 0);
	ledger_set_parked(ledger, 0x9999, true);
	assert_int_equal(totals_of(ledger).parked_blocks, 0);
}

TEST(an_object_in_a_block_from_before_the_attach_is_held_for_its_creator)
{
	struct ledger_block block;

	create_object(ledger, 0x1010, DICT, B);
	assert_int_equal(stack_of(ledger, B).outstanding_blocks, 1);
	assert_int_equal(bytes_of(ledger, B), 0);
	assert_int_equal(ledger_find(ledger, 0x1010, &block), 0);
	assert_int_equal(block.address, 0x1010);
	assert_true(block.elder);
	ledger_set_block(ledger, 0x1010, 0x1000, 64);
	assert_int_equal(bytes_of(ledger, B), 64);
	assert_int_equal(stack_of(ledger, B).outstanding_blocks, 1);
	assert_int_equal(totals_of(ledger).elder_blocks, 1);
	assert_int_equal(totals_of(ledger).elder_bytes, 64);
	assert_int_equal(ledger_find(ledger, 0x1008, &block), 0);
	assert_int_equal(block.object, 0x1010);
	assert_int_equal(block.allocated, 0);
	create_object(ledger, 0x1010, LIST, A);
	assert_int_equal(bytes_of(ledger, A), 64);
	assert_int_equal(bytes_of(ledger, B), 0);
	free_block(ledger, 0x1000);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(totals_of(ledger).elder_blocks, 0);
	assert_int_equal(totals_of(ledger).frees_of_unknown, 0);
}

TEST(an_elder_moves_when_it_is_created_anew)
{
	create_object(ledger, 0x1010, DICT, A);
	create_object(ledger, 0x1010, DICT, B);
	assert_int_equal(stack_of(ledger, A).outstanding_blocks, 0);
	assert_int_equal(stack_of(ledger, B).outstanding_blocks, 1);
	assert_int_equal(totals_of(ledger).creations_of_unknown, 1);
}

TEST(an_elder_goes_with_the_free_of_any_start_that_may_be_its_own)
{
	for (uint64_t back = 0; back <= 64; back += 16) {
		create_object(ledger, 0x1050, DICT, A);
		free_block(ledger, 0x1050 - back);
		assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	}
	assert_int_equal(totals_of(ledger).frees_of_unknown, 0);
	create_object(ledger, 0x1050, DICT, A);
	free_block(ledger, 0x1060);
	free_block(ledger, 0x1050 - 80);
	assert_int_equal(totals_of(ledger).frees_of_unknown, 2);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
}

TEST(the_free_of_an_elders_neighbour_leaves_it_where_its_types_header_is_known)
{
	/* A float is known to begin its block; so the block before is not the elder's. */
	give_block(ledger, 0x9000, 32, A);
	create_object(ledger, 0x9000, 0xf10a7, A);
	create_object(ledger, 0x1020, 0xf10a7, B);
	free_block(ledger, 0x1000);
	assert_int_equal(totals_of(ledger).frees_of_unknown, 1);
	assert_int_equal(stack_of(ledger, B).outstanding_blocks, 1);
	free_block(ledger, 0x1020);
	assert_int_equal(stack_of(ledger, B).outstanding_blocks, 0);
}

TEST(a_block_that_is_given_out_over_an_elder_of_long_ago_ends_it)
{
	create_object(ledger, 0x1010, DICT, A);
	for (int i = 0; i < 40; i++) {
		give_block(ledger, 0x9000, 32, B);
		free_block(ledger, 0x9000);
	}
	give_block(ledger, 0x1000, 64, B);
	assert_int_equal(stack_of(ledger, A).outstanding_blocks, 0);
	assert_int_equal(bytes_of(ledger, B), 64);
	assert_int_equal(totals_of(ledger).losses[REASON_ALLOC_REPEATED], 1);
}

TEST(a_creation_that_comes_just_before_its_block_is_joined_with_it)
{
	struct ledger_block block;

	create_object(ledger, 0x1010, DICT, A);
	give_block(ledger, 0x1000, 64, B);
	assert_int_equal(ledger_find(ledger, 0x1000, &block), 0);
	assert_int_equal(block.object, 0x1010);
	assert_int_equal(block.stack, A);
	assert_int_equal(bytes_of(ledger, A), 64);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
}

TEST(an_elder_in_a_chunk_is_none_of_the_pools)
{
	create_object(ledger, 0x1010, DICT, A);
	ledger_set_chunk(ledger, 0x1010, 0x1000, 72);
	assert_int_equal(bytes_of(ledger, A), 72);
	assert_int_equal(totals_of(ledger).pool_bytes, 0);
	assert_int_equal(totals_of(ledger).native_bytes, 72);
	assert_true(ledger_check(ledger));
	free_chunk(ledger, 0x1000);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
}

TEST(nonsense_about_an_elders_block_is_refused)
{
	create_object(ledger, 0x1010, DICT, A);
	ledger_set_block(ledger, 0x1010, 0x1020, 64); /* begins behind it */
	ledger_set_block(ledger, 0x1010, 0x1000, 16); /* ends before it */
	ledger_set_block(ledger, 0x1010, 0, 1 << 20);
	ledger_set_block(ledger, 0x5000, 0x5000, 64); /* not held */
	assert_int_equal(totals_of(ledger).outstanding_bytes, 0);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
}

TEST(what_the_heap_calls_dead_is_dropped_unless_it_was_given_out_since)
{
	uint64_t sequence;

	give_block(ledger, 0x1000, 64, A);
	sequence = ledger_sequence(ledger);
	create_object(ledger, 0x1010, DICT, A);
	assert_false(ledger_drop_dead(ledger, 0x1000, sequence));
	assert_true(ledger_drop_dead(ledger, 0x1000, ledger_sequence(ledger)));
	assert_false(ledger_drop_dead(ledger, 0x1000, ledger_sequence(ledger)));
	assert_int_equal(totals_of(ledger).losses[REASON_FREE_MISSED], 1);
	create_object(ledger, 0x2010, DICT, A); /* an elder, by its object */
	assert_true(ledger_drop_dead(ledger, 0x2010, ledger_sequence(ledger)));
	sequence = ledger_sequence(ledger);
	give_block(ledger, 0x3000, 64, A); /* another life than the one that was seen dead */
	assert_false(ledger_drop_dead(ledger, 0x3000, sequence));
	free_block(ledger, 0x3000);
	map_memory(ledger, 0x100000, 8192, A);
	assert_true(ledger_drop_dead(ledger, 0x100000, ledger_sequence(ledger)));
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
}

TEST(a_buffer_older_than_its_owner_goes_with_it_and_a_younger_one_stays)
{
	struct ledger_block block;

	give_block(ledger, 0x5000, 240, A); /* keys, from a free list later */
	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, B);
	give_block(ledger, 0x6000, 480, A); /* grown by A */
	ledger_adopt(ledger, 0x5000, 0x1010);
	ledger_adopt(ledger, 0x6000, 0x1010);
	assert_int_equal(bytes_of(ledger, B), 64 + 240);
	assert_int_equal(bytes_of(ledger, A), 480);
	assert_int_equal(ledger_find(ledger, 0x6000, &block), 0);
	assert_int_equal(block.type, DICT);
	assert_int_equal(block.owner, 0x1010);
	assert_int_equal(block.created, 0);
	assert_int_equal(block.object, 0);
}

TEST(a_buffer_is_adopted_by_a_pointer_into_it)
{
	struct ledger_block block;

	give_block(ledger, 0x5000, 96, A);
	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, B);
	ledger_adopt(ledger, 0x5008, 0x1010); /* an instance's values have a prefix before them */
	assert_int_equal(bytes_of(ledger, B), 64 + 96);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.owner, 0x1010);
}

TEST(a_buffer_that_grew_for_an_elder_takes_its_type_and_stays_where_it_is)
{
	struct ledger_block block;

	give_block(ledger, 0x5000, 480, A);
	ledger_set_raw_type(ledger, 0x5008, LIST);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.type, LIST);
	assert_int_equal(block.owner, 0);
	assert_int_equal(block.stack, A);
	assert_int_equal(bytes_of(ledger, A), 480);
	/* What has a type keeps it; what is not held is nothing. */
	ledger_set_raw_type(ledger, 0x5000, DICT);
	ledger_set_raw_type(ledger, 0x9000, DICT);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.type, LIST);
	/* The next one at the address is another one. */
	free_block(ledger, 0x5000);
	give_block(ledger, 0x5000, 480, B);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.type, 0);
	assert_true(ledger_check(ledger));
}

TEST(an_object_keeps_its_own_type_whatever_an_elder_owns)
{
	struct ledger_block block;

	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, B);
	ledger_set_raw_type(ledger, 0x1000, LIST);
	assert_int_equal(ledger_find(ledger, 0x1000, &block), 0);
	assert_int_equal(block.type, DICT);
}

TEST(an_adoption_ends_when_the_owner_is_created_anew)
{
	struct ledger_block block;

	give_block(ledger, 0x5000, 240, A);
	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, A);
	ledger_adopt(ledger, 0x5000, 0x1010);
	create_object(ledger, 0x1010, LIST, B);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.owner, 0);
	assert_int_equal(block.type, 0);
	ledger_adopt(ledger, 0x5000, 0x1010);
	assert_int_equal(bytes_of(ledger, B), 64 + 240);
	free_block(ledger, 0x1000);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.owner, 0);
}

TEST(an_adopted_buffer_in_which_an_object_is_created_is_that_objects)
{
	struct ledger_block block;

	give_block(ledger, 0x5000, 64, A);
	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x1010, DICT, B);
	ledger_adopt(ledger, 0x5000, 0x1010);
	create_object(ledger, 0x5010, LIST, A);
	assert_int_equal(ledger_find(ledger, 0x5000, &block), 0);
	assert_int_equal(block.owner, 0);
	assert_int_equal(block.type, LIST);
	assert_int_equal(bytes_of(ledger, A), 64);
	ledger_adopt(ledger, 0x5000, 0x1010); /* it has an object: refused */
	assert_int_equal(bytes_of(ledger, A), 64);
}

TEST(a_large_block_of_the_interpreter_is_raw_then_mem_or_object)
{
	struct ledger_block block;

	give_raw(ledger, 0x20010, 4008, A);
	give_raw(ledger, 0x30010, 4008, A);
	give_chunk(ledger, 0x40010, 4008, A);
	create_object(ledger, 0x20020, LIST, A);
	ledger_adopt(ledger, 0x30010, 0x20020);
	assert_int_equal(ledger_find(ledger, 0x20010, &block), 0);
	assert_int_equal(block.domain, LEDGER_OBJECT);
	assert_false(block.pool);
	assert_int_equal(ledger_find(ledger, 0x30010, &block), 0);
	assert_int_equal(block.domain, LEDGER_MEM);
	assert_int_equal(ledger_find(ledger, 0x40010, &block), 0);
	assert_int_equal(block.domain, LEDGER_NATIVE);
	assert_int_equal(totals_of(ledger).native_bytes, 3 * 4008);
}

TEST(realloc_charges_who_makes_it_grow)
{
	give_chunk(ledger, 0x1010, 1000, A);
	realloc_chunk(ledger, 0x1010, 0x1010, 2000, B);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 2000);
	realloc_chunk(ledger, 0x1010, 0x1010, 1500, A);
	assert_int_equal(bytes_of(ledger, B), 1500);
	realloc_chunk(ledger, 0x1010, 0x9010, 3000, A);
	assert_int_equal(bytes_of(ledger, A), 3000);
	assert_int_equal(bytes_of(ledger, B), 0);
	realloc_chunk(ledger, 0x9010, 0xa010, 2500, B); /* moved, but not grown */
	assert_int_equal(bytes_of(ledger, A), 2500);
	realloc_chunk(ledger, 0xa010, 0, 0, A);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	assert_int_equal(totals_of(ledger).losses[REASON_ALLOC_REPEATED], 0);
}

TEST(realloc_that_called_malloc_is_one_allocation)
{
	give_chunk(ledger, 0x1010, 1000, A);
	realloc_chunk(ledger, 0, 0x1010, 1000, A);
	assert_int_equal(bytes_of(ledger, A), 1000);
	assert_int_equal(totals_of(ledger).allocations, 1);
	/* And of another arena's chunk: malloc, copy, and the old one is gone without a record. */
	give_chunk(ledger, 0x9010, 2000, A);
	realloc_chunk(ledger, 0x1010, 0x9010, 2000, A);
	assert_int_equal(bytes_of(ledger, A), 2000);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
	assert_int_equal(totals_of(ledger).losses[REASON_ALLOC_REPEATED], 0);
}

TEST(a_chunk_that_another_thread_got_while_realloc_returned_stays_its)
{
	give_chunk(ledger, 0x1010, 1000, A);
	give_chunk(ledger, 0x1010, 500,
		   B); /* realloc has given it back, its record is yet to come */
	realloc_chunk(ledger, 0x1010, 0x9010, 3000, A);
	assert_int_equal(bytes_of(ledger, A), 3000);
	assert_int_equal(bytes_of(ledger, B), 500);
	free_chunk(ledger, 0x1010);
	assert_int_equal(bytes_of(ledger, B), 0);
}

TEST(a_large_object_that_is_reallocated_keeps_its_type)
{
	struct ledger_block block;

	give_raw(ledger, 0x1010, 1000, A);
	create_object(ledger, 0x1020, LIST, A);
	realloc_chunk(ledger, 0x1010, 0x9010, 3000, B);
	assert_int_equal(ledger_find(ledger, 0x9010, &block), 0);
	assert_int_equal(block.object, 0x9020);
	assert_int_equal(block.type, LIST);
	assert_int_equal(block.domain, LEDGER_OBJECT);
	assert_int_equal(block.stack, B);
}

TEST(a_block_given_out_twice_is_counted_and_held_once)
{
	give_block(ledger, 0x1000, 64, A);
	give_block(ledger, 0x1000, 32, B);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(bytes_of(ledger, B), 32);
	assert_int_equal(totals_of(ledger).losses[REASON_ALLOC_REPEATED], 1);
	free_block(ledger, 0x1000);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
}

TEST(frees_of_unknown_blocks_are_counted)
{
	free_block(ledger, 0x1000);
	free_chunk(ledger, 0x2000);
	realloc_chunk(ledger, 0x3000, 0x4000, 100, A);
	assert_int_equal(totals_of(ledger).frees_of_unknown, 3);
	assert_int_equal(totals_of(ledger).frees, 3);
	assert_int_equal(bytes_of(ledger, A), 100);
}

TEST(null_is_no_block)
{
	give_block(ledger, 0, 64, A);
	create_object(ledger, 0, DICT, A);
	free_chunk(ledger, 0);
	realloc_chunk(ledger, 0, 0, 0, A);
	ledger_adopt(ledger, 0, 0);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	assert_int_equal(totals_of(ledger).frees, 0);
}

TEST(records_that_are_not_the_ledgers_are_not_taken)
{
	static const struct wire_stack stack = {.header = {.kind = WIRE_STACK}};
	static const struct wire_process process = {.header = {.kind = WIRE_FORK}};
	static const struct wire_header unknown = {.kind = 200};

	ledger_consume(ledger, &stack.header);
	ledger_consume(ledger, &process.header);
	ledger_consume(ledger, &unknown);
	assert_int_equal(ledger_sequence(ledger), 0);
	give_block(ledger, 0x1000, 64, A);
	assert_int_equal(ledger_sequence(ledger), 1);
	take_free(ledger, WIRE_DESTROY, 0x1000);
	assert_int_equal(bytes_of(ledger, A), 64);
}

TEST(a_size_that_could_not_be_read_counts_as_a_block_of_no_bytes)
{
	struct ledger_block block;

	take_alloc(ledger, WIRE_ALLOC, WIRE_SIZE_UNKNOWN, 0x1000, 999, A);
	assert_int_equal(bytes_of(ledger, A), 0);
	assert_int_equal(stack_of(ledger, A).outstanding_blocks, 1);
	create_object(ledger, 0x1010, DICT, B);
	assert_int_equal(ledger_find(ledger, 0x1000, &block), 0);
	assert_int_equal(block.object, 0x1010);
}

TEST(sizes_beyond_four_gigabytes_are_whole)
{
	give_chunk(ledger, 0x7f0000000010, 5ull << 32, A);
	assert_int_equal(bytes_of(ledger, A), 5ull << 32);
	free_chunk(ledger, 0x7f0000000010);
	assert_int_equal(bytes_of(ledger, A), 0);
}

static int count_and_stop(const struct ledger_block *block, void *context)
{
	int *left = context;

	assert_true(block->address != 0);
	return --*left == 0 ? 7 : 0;
}

TEST(a_visit_sees_all_and_ends_when_it_is_told)
{
	int left = 4;

	give_block(ledger, 0x1000, 64, A);
	create_object(ledger, 0x3010, DICT, A);
	map_memory(ledger, 0x100000, 4096, A);
	assert_int_equal(ledger_blocks_visit(ledger, count_and_stop, &left), 0);
	assert_int_equal(left, 1);
	left = 2;
	assert_int_equal(ledger_blocks_visit(ledger, count_and_stop, &left), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_is_charged_to_its_stack_until_it_is_freed),
		cmocka_unit_test(the_drawing_in_the_header_is_true),
		cmocka_unit_test(an_object_is_found_behind_each_header),
		cmocka_unit_test(an_object_is_not_put_into_the_block_that_ends_before_it),
		cmocka_unit_test(a_block_is_found_by_any_address_in_it_and_by_none_behind_it),
		cmocka_unit_test(leaked_dicts_among_churn_go_to_the_leaking_stack),
		cmocka_unit_test(a_parked_block_is_nobodys_until_something_is_created_in_it),
		cmocka_unit_test(
			an_object_in_a_block_from_before_the_attach_is_held_for_its_creator),
		cmocka_unit_test(an_elder_moves_when_it_is_created_anew),
		cmocka_unit_test(an_elder_goes_with_the_free_of_any_start_that_may_be_its_own),
		cmocka_unit_test(
			the_free_of_an_elders_neighbour_leaves_it_where_its_types_header_is_known),
		cmocka_unit_test(a_block_that_is_given_out_over_an_elder_of_long_ago_ends_it),
		cmocka_unit_test(a_creation_that_comes_just_before_its_block_is_joined_with_it),
		cmocka_unit_test(an_elder_in_a_chunk_is_none_of_the_pools),
		cmocka_unit_test(nonsense_about_an_elders_block_is_refused),
		cmocka_unit_test(what_the_heap_calls_dead_is_dropped_unless_it_was_given_out_since),
		cmocka_unit_test(
			a_buffer_older_than_its_owner_goes_with_it_and_a_younger_one_stays),
		cmocka_unit_test(a_buffer_is_adopted_by_a_pointer_into_it),
		cmocka_unit_test(
			a_buffer_that_grew_for_an_elder_takes_its_type_and_stays_where_it_is),
		cmocka_unit_test(an_object_keeps_its_own_type_whatever_an_elder_owns),
		cmocka_unit_test(an_adoption_ends_when_the_owner_is_created_anew),
		cmocka_unit_test(an_adopted_buffer_in_which_an_object_is_created_is_that_objects),
		cmocka_unit_test(a_large_block_of_the_interpreter_is_raw_then_mem_or_object),
		cmocka_unit_test(realloc_charges_who_makes_it_grow),
		cmocka_unit_test(realloc_that_called_malloc_is_one_allocation),
		cmocka_unit_test(a_chunk_that_another_thread_got_while_realloc_returned_stays_its),
		cmocka_unit_test(a_large_object_that_is_reallocated_keeps_its_type),
		cmocka_unit_test(a_block_given_out_twice_is_counted_and_held_once),
		cmocka_unit_test(frees_of_unknown_blocks_are_counted),
		cmocka_unit_test(null_is_no_block),
		cmocka_unit_test(records_that_are_not_the_ledgers_are_not_taken),
		cmocka_unit_test(a_size_that_could_not_be_read_counts_as_a_block_of_no_bytes),
		cmocka_unit_test(sizes_beyond_four_gigabytes_are_whole),
		cmocka_unit_test(a_visit_sees_all_and_ends_when_it_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
