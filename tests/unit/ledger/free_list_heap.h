/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A simulated heap of blocks of one size with a free list, last in, first out:
 * the block that was given back last is the next one to be taken.
 */
#ifndef PYLEAKD_TESTS_UNIT_LEDGER_FREE_LIST_HEAP_H
#define PYLEAKD_TESTS_UNIT_LEDGER_FREE_LIST_HEAP_H

#include "looks.h"

#define CHURN 1 /* stacks */
#define LEAK 2
#define BYTES 64
#define BLOCKS_MAX 200000
#define FREE_MAX 2000
#define HEAP_START 0x100000
/* Iterations of 1 ms, each of the same progress. */
#define STRATUM 200
#define WINDOW 20
#define STRATA 400

static struct heap {
	bool live[BLOCKS_MAX];
	uint32_t free_list[FREE_MAX];
	size_t n_free, n_blocks;
	size_t leaked;
	double time;
	uint32_t window; /* that is open */
	uint64_t in_window;
	uint64_t draws;
	struct samples *samples;
} heap;

static inline void heap_start(void)
{
	memset(&heap, 0, sizeof(heap));
	assert_int_equal(samples_new(NULL, &heap.samples), 0);
}

static inline double uniform(void)
{
	return uniform_of(&heap.draws);
}

static inline uint64_t address_of(uint32_t block)
{
	return HEAP_START + BYTES * (uint64_t)block;
}

static inline uint32_t heap_take(void)
{
	uint32_t block = heap.n_free ? heap.free_list[--heap.n_free] : (uint32_t)heap.n_blocks++;

	assert_true(heap.n_blocks <= BLOCKS_MAX);
	heap.live[block] = true;
	return block;
}

static inline void heap_give_back(uint32_t block)
{
	assert_true(heap.n_free < FREE_MAX);
	heap.live[block] = false;
	heap.free_list[heap.n_free++] = block;
}

static inline bool heap_is_live(const void *context, uint64_t address)
{
	(void)context;
	return heap.live[(address - HEAP_START) / BYTES];
}

/* All objects look alike: the fingerprint does not help. */
static inline void heap_look(uint64_t type)
{
	look_at_all(heap.samples, heap.time, LIVE_BLOCK(type, BYTES), heap_is_live, NULL);
}

/* What the lines are charged with, as shares of what has leaked; ends the heap. */
static inline void heap_end(double (*bytes_of)(uint64_t stack), double *ret_churn, double *ret_leak)
{
	*ret_churn = bytes_of(CHURN) / ((double)heap.leaked * BYTES);
	*ret_leak = bytes_of(LEAK) / ((double)heap.leaked * BYTES);
	print_message("of %zu leaked: charged to the churn %.3f, to the leak %.3f\n", heap.leaked,
		      *ret_churn, *ret_leak);
	samples_free(heap.samples);
}

#endif
