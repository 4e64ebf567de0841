/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Censuses of invented arenas: good ones, and all that a running or a hostile target may show. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "cpython/pymalloc.h"
#include "failing_memory.h"
#include "invented.h"

#define ARRAY_AT 0x10000000ull
#define ARENA_AT 0x7f0000100000ull
#define POOL 16384u
#define POOLS 8 /* that the arena's memory holds here; it says that it has 64 */
#define N_OBJECTS 16

struct arena_object {
	uint64_t address, pool_address;
	uint32_t nfreepools, ntotalpools;
	uint64_t freepools, nextarena, prevarena;
};

struct pool_header {
	uint64_t count, freeblock, nextpool, prevpool;
	uint32_t arenaindex, szidx, nextoffset, maxnextoffset;
};

struct heap {
	struct arena_object objects[N_OBJECTS];
	uint8_t *arena; /* POOLS pools */
	struct invented invented;
	struct memory *memory;
	const struct layout *layout;
	struct interpreter_arenas state;
};

static void heap_start(struct heap *heap)
{
	*heap = (struct heap){
		.arena = calloc(POOLS, POOL),
		.layout = layout_find(11, 2),
		.state = { .arenas = ARRAY_AT, .maxarenas = N_OBJECTS },
	};
	assert_non_null(heap->arena);
	heap->objects[3] = (struct arena_object){
		.address = ARENA_AT,
		.pool_address = ARENA_AT,
		.nfreepools = 64,
		.ntotalpools = 64,
	};
	invented_add(&heap->invented, ARRAY_AT, heap->objects, sizeof(heap->objects));
	invented_add(&heap->invented, ARENA_AT, heap->arena, POOLS * POOL);
	assert_int_equal(invented_memory_new(&heap->invented, &heap->memory), 0);
}

static void heap_stop(struct heap *heap)
{
	memory_free(heap->memory);
	free(heap->arena);
}

static uint64_t block_address(unsigned pool, unsigned szidx, unsigned block)
{
	return ARENA_AT + pool * POOL + 48 + block * 16 * (szidx + 1);
}

static struct pool_header *pool_at(struct heap *heap, unsigned pool)
{
	return (struct pool_header *)(heap->arena + pool * POOL);
}

static uint64_t *word_at(struct heap *heap, uint64_t address)
{
	return (uint64_t *)(heap->arena + (address - ARENA_AT));
}

/* Carves a pool, and blocks of it; all of them are live. */
static void pool_carve(struct heap *heap, unsigned pool, unsigned szidx, unsigned n_carved)
{
	unsigned size = 16 * (szidx + 1);

	*pool_at(heap, pool) = (struct pool_header){
		.count = n_carved,
		.szidx = szidx,
		.nextoffset = 48 + n_carved * size,
		.maxnextoffset = POOL - size,
	};
	if (heap->objects[3].pool_address < ARENA_AT + (pool + 1) * POOL) {
		heap->objects[3].pool_address = ARENA_AT + (pool + 1) * POOL;
		heap->objects[3].nfreepools--;
	}
}

static void block_free(struct heap *heap, unsigned pool, unsigned block)
{
	struct pool_header *header = pool_at(heap, pool);
	uint64_t address = block_address(pool, header->szidx, block);

	*word_at(heap, address) = header->freeblock;
	header->freeblock = address;
	header->count--;
}

static struct census *heap_census(struct heap *heap)
{
	struct census *census = NULL;

	assert_int_equal(
		census_take_in(heap->memory, heap->layout, &heap->state, 1, false, &census, NULL),
		0);
	return census;
}

static enum census_answer answer(const struct census *census, uint64_t address)
{
	return census_block(census, address, NULL, NULL);
}

static void live_and_dead_blocks_are_told_by_the_free_list(void **state)
{
	struct heap heap;
	struct census *census;
	uint64_t start, size;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	block_free(&heap, 0, 7);
	block_free(&heap, 0, 99);
	block_free(&heap, 0, 0);
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->live_blocks, 97);
	assert_int_equal(census_totals(census)->live_bytes, 97 * 64);
	assert_int_equal(census_totals(census)->class_blocks[3], 97);
	for (unsigned i = 0; i < 100; i++) {
		bool dead = i == 0 || i == 7 || i == 99;
		uint64_t address = block_address(0, 3, i);

		assert_int_equal(answer(census, address), dead ? CENSUS_DEAD : CENSUS_LIVE);
		assert_int_equal(census_block(census, address + 63, &start, &size),
				 dead ? CENSUS_DEAD : CENSUS_LIVE);
		assert_int_equal(start, address);
		assert_int_equal(size, 64);
	}
	/* The first block that was never carved, the header, a pool that is not carved. */
	assert_int_equal(census_block(census, block_address(0, 3, 100), &start, &size),
			 CENSUS_DEAD);
	assert_int_equal(size, 0);
	assert_int_equal(answer(census, ARENA_AT + 47), CENSUS_DEAD);
	assert_int_equal(answer(census, ARENA_AT + POOL), CENSUS_DEAD);
	assert_int_equal(answer(census, ARENA_AT + (1 << 20) - 1), CENSUS_DEAD);
	assert_int_equal(answer(census, ARENA_AT + (1 << 20)), CENSUS_OUTSIDE);
	assert_int_equal(answer(census, ARENA_AT - 1), CENSUS_OUTSIDE);
	assert_int_equal(answer(census, 0), CENSUS_OUTSIDE);
	census_free(census);
	heap_stop(&heap);
}

static void a_free_pool_holds_nothing_whatever_its_header_was(void **state)
{
	struct heap heap;
	struct census *census;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	pool_at(&heap, 0)->count = 0;
	pool_at(&heap, 0)->szidx = 0xffff; /* DUMMY_SIZE_IDX */
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->pools, 0);
	assert_int_equal(answer(census, block_address(0, 3, 5)), CENSUS_DEAD);
	census_free(census);
	heap_stop(&heap);
}

/* A pool that contradicts itself is counted by its header, and says nothing of its blocks. */
static void assert_torn(struct heap *heap, uint64_t live_blocks)
{
	struct census *census = heap_census(heap);
	uint64_t start, size;

	assert_int_equal(census_totals(census)->pools_torn, 1);
	assert_int_equal(census_totals(census)->live_blocks, live_blocks);
	assert_int_equal(census_block(census, block_address(0, 3, 5) + 8, &start, &size),
			 CENSUS_UNREAD);
	assert_int_equal(start, block_address(0, 3, 5));
	assert_int_equal(size, 64);
	census_free(census);
}

static void a_free_list_that_contradicts_its_pool_is_torn(void **state)
{
	struct heap heap;
	uint64_t links[] = {
		block_address(0, 3, 8),	    /* a loop */
		block_address(0, 3, 9) + 8, /* not a block's start */
		block_address(0, 3, 100),   /* behind the last carved one */
		block_address(1, 3, 8),	    /* in another pool */
		ARENA_AT + 40,		    /* in the header */
		16,
		UINT64_MAX,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		heap_start(&heap);
		pool_carve(&heap, 0, 3, 100);
		block_free(&heap, 0, 7);
		block_free(&heap, 0, 8);
		*word_at(&heap, block_address(0, 3, 7)) = links[i];
		assert_torn(&heap, 98);
		heap_stop(&heap);
	}
}

static void a_count_that_the_free_list_does_not_bear_out_is_torn(void **state)
{
	struct heap heap;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	block_free(&heap, 0, 7);
	pool_at(&heap, 0)->count = 98;
	assert_torn(&heap, 98);
	heap_stop(&heap);
}

static void settle_later(struct invented *invented, uint64_t address)
{
	struct heap *heap = (struct heap *)((char *)invented - offsetof(struct heap, invented));

	(void)address;
	if (invented->n_reads == 4)
		pool_at(heap, 0)->count = 99;
}

static void a_pool_that_settles_meanwhile_is_not_torn(void **state)
{
	struct heap heap;
	struct census *census;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	block_free(&heap, 0, 7);
	pool_at(&heap, 0)->count = 98;
	heap.invented.before = settle_later;
	census = heap_census(&heap);
	assert_true(heap.invented.n_reads >= 4);
	assert_int_equal(census_totals(census)->pools_torn, 0);
	assert_int_equal(census_totals(census)->live_blocks, 99);
	assert_int_equal(answer(census, block_address(0, 3, 7)), CENSUS_DEAD);
	census_free(census);
	heap_stop(&heap);
}

static void headers_that_make_no_sense_are_unread(void **state)
{
	static const struct pool_header nonsense[] = {
		{ .count = 5, .szidx = 64, .nextoffset = 48 + 5 * 16 },
		{ .count = 5, .szidx = 3, .nextoffset = 48 + 5 * 64 + 16 },
		{ .count = 5, .szidx = 3, .nextoffset = 48 },
		{ .count = 5, .szidx = 3, .nextoffset = 48 + 4 * 64 },
		{ .count = 5, .szidx = 3, .nextoffset = 48 + 300 * 64 },
		{ .count = UINT32_MAX, .szidx = 3, .nextoffset = 48 + 200 * 64 },
	};
	struct heap heap;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		struct census *census;

		heap_start(&heap);
		pool_carve(&heap, 0, 3, 100);
		*pool_at(&heap, 0) = nonsense[i];
		census = heap_census(&heap);
		assert_int_equal(census_totals(census)->pools_unread, 1);
		assert_int_equal(census_totals(census)->live_blocks, 0);
		assert_int_equal(answer(census, block_address(0, 3, 5)), CENSUS_UNREAD);
		census_free(census);
		heap_stop(&heap);
	}
}

static void pages_that_are_absent_cost_their_pool_only(void **state)
{
	struct heap heap;
	struct census *census;
	uint64_t start, size;

	(void)state;
	heap_start(&heap);
	for (unsigned i = 0; i < 4; i++) {
		pool_carve(&heap, i, 3, 100);
		block_free(&heap, i, 50);
	}
	heap.invented.n = 1; /* all but a page of pool 1, and but pool 2 */
	invented_add(&heap.invented, ARENA_AT, heap.arena, POOL + 4096);
	invented_add(&heap.invented, ARENA_AT + 3 * POOL, heap.arena + 3 * POOL, POOL);
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->pools, 4);
	assert_int_equal(census_totals(census)->pools_unread, 2);
	assert_int_equal(census_totals(census)->live_blocks, 3 * 99);
	assert_int_equal(answer(census, block_address(0, 3, 5)), CENSUS_LIVE);
	assert_int_equal(census_block(census, block_address(1, 3, 5), &start, &size),
			 CENSUS_UNREAD);
	assert_int_equal(size, 64);
	assert_int_equal(census_block(census, block_address(2, 3, 5), &start, &size),
			 CENSUS_UNREAD);
	assert_int_equal(size, 0);
	assert_int_equal(answer(census, block_address(3, 3, 50)), CENSUS_DEAD);
	census_free(census);
	heap_stop(&heap);
}

static void pages_behind_the_last_link_need_not_be_there(void **state)
{
	struct heap heap;
	struct census *census;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 31, 8); /* the last block crosses into the second page */
	block_free(&heap, 0, 7);
	heap.invented.n = 1;
	invented_add(&heap.invented, ARENA_AT, heap.arena, 4096);
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->pools_unread, 0);
	assert_int_equal(answer(census, block_address(0, 31, 7)), CENSUS_DEAD);
	assert_int_equal(answer(census, block_address(0, 31, 6)), CENSUS_LIVE);
	census_free(census);
	heap_stop(&heap);
}

static void an_arena_between_pool_boundaries_loses_one_pool(void **state)
{
	struct heap heap;
	struct census *census;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	heap.objects[3].address = ARENA_AT - 4096;
	heap.objects[3].ntotalpools = 63;
	heap.objects[3].nfreepools = 62;
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->arena_bytes, 1 << 20);
	assert_true(census_in_arena(census, ARENA_AT - 4096));
	assert_false(census_in_arena(census, ARENA_AT - 4096 + (1 << 20)));
	assert_int_equal(answer(census, ARENA_AT - 1), CENSUS_DEAD);
	assert_int_equal(answer(census, block_address(0, 3, 0)), CENSUS_LIVE);
	census_free(census);
	heap_stop(&heap);
}

static void arenas_on_huge_pages_are_as_large_as_they_say(void **state)
{
	struct heap heap;
	struct census *census;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	heap.objects[3].ntotalpools = 128;
	census = heap_census(&heap);
	assert_int_equal(census_totals(census)->arena_bytes, 2 << 20);
	census_free(census);
	heap_stop(&heap);
}

static void an_array_that_makes_no_sense_is_to_be_read_again(void **state)
{
	static const struct arena_object nonsense[] = {
		{ .address = 0xdeadbeefdeadbeef, .pool_address = 1, .ntotalpools = 64 },
		{ .address = ARENA_AT, .pool_address = ARENA_AT, .ntotalpools = 0 },
		{ .address = ARENA_AT, .pool_address = ARENA_AT + 8, .ntotalpools = 64 },
		{ .address = ARENA_AT, .pool_address = ARENA_AT - POOL, .ntotalpools = 64 },
		{ .address = ARENA_AT, .pool_address = ARENA_AT + 65 * POOL, .ntotalpools = 64 },
		{ .address = ARENA_AT, .pool_address = ARENA_AT, .ntotalpools = 1 << 30 },
		{ .address = ARENA_AT,
		  .pool_address = ARENA_AT,
		  .nfreepools = 65,
		  .ntotalpools = 64 },
		{ .address = ARENA_AT + POOL, .pool_address = ARENA_AT + POOL, .ntotalpools = 64 },
	};
	struct heap heap;
	struct census *census = NULL;
	struct fault fault;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
		heap_start(&heap);
		heap.objects[9] = nonsense[i];
		assert_int_equal(census_take_in(heap.memory, heap.layout, &heap.state, 1, false,
						&census, &fault),
				 -EAGAIN);
		assert_int_equal(fault.reason, REASON_CONTRADICTION);
		assert_null(census);
		heap_stop(&heap);
	}
}

static int count_visits(uint64_t address, uint64_t size_bytes, void *context)
{
	(void)address;
	(void)size_bytes;
	return --*(int *)context == 0 ? 4711 : 0;
}

static void visits_end_when_they_are_told(void **state)
{
	struct heap heap;
	struct census *census;
	int left = 50, many = 1000;

	(void)state;
	heap_start(&heap);
	pool_carve(&heap, 0, 3, 100);
	pool_carve(&heap, 1, 31, 10);
	census = heap_census(&heap);
	assert_int_equal(census_live_visit(census, count_visits, &left), 4711);
	assert_int_equal(census_live_visit(census, count_visits, &many), 0);
	assert_int_equal(many, 1000 - 110);
	left = 1;
	assert_int_equal(census_arenas_visit(census, count_visits, &left), 4711);
	census_free(census);
	heap_stop(&heap);
}

/* Whatever fails, no live block is called dead and no dead one live. */
static bool census_is_honest(const struct census *census)
{
	for (unsigned pool = 0; pool < 4; pool++) {
		for (unsigned i = 0; i < 100; i++) {
			enum census_answer found = answer(census, block_address(pool, 3, i));
			enum census_answer truth = i == 50 ? CENSUS_DEAD : CENSUS_LIVE;

			if (found != CENSUS_UNREAD && found != truth)
				return false;
		}
	}
	return true;
}

static void any_read_may_fail_without_a_lie(void **state)
{
	struct heap heap;
	struct memory *memory;
	unsigned failed = 0;

	(void)state;
	heap_start(&heap);
	for (unsigned i = 0; i < 4; i++) {
		pool_carve(&heap, i, 3, 100);
		block_free(&heap, i, 50);
	}
	for (unsigned long n = 1;; n++) {
		struct failing_memory failing = { .inner = heap.memory, .fail_at = n };
		struct census *census = NULL;
		int error;

		assert_int_equal(failing_memory_new(&failing, &memory), 0);
		error = census_take_in(memory, heap.layout, &heap.state, 1, false, &census, NULL);
		if (error == 0)
			assert_true(census_is_honest(census));
		else
			assert_null(census);
		failed += failing_visited(&failing);
		memory_free(memory);
		census_free(census);
		if (!failing_visited(&failing))
			break;
	}
	assert_true(failed >= 9); /* the array, four headers, four pools */
	heap_stop(&heap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(live_and_dead_blocks_are_told_by_the_free_list),
		cmocka_unit_test(a_free_pool_holds_nothing_whatever_its_header_was),
		cmocka_unit_test(a_free_list_that_contradicts_its_pool_is_torn),
		cmocka_unit_test(a_count_that_the_free_list_does_not_bear_out_is_torn),
		cmocka_unit_test(a_pool_that_settles_meanwhile_is_not_torn),
		cmocka_unit_test(headers_that_make_no_sense_are_unread),
		cmocka_unit_test(pages_that_are_absent_cost_their_pool_only),
		cmocka_unit_test(pages_behind_the_last_link_need_not_be_there),
		cmocka_unit_test(an_arena_between_pool_boundaries_loses_one_pool),
		cmocka_unit_test(arenas_on_huge_pages_are_as_large_as_they_say),
		cmocka_unit_test(an_array_that_makes_no_sense_is_to_be_read_again),
		cmocka_unit_test(visits_end_when_they_are_told),
		cmocka_unit_test(any_read_may_fail_without_a_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
