/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * How a census lies in memory; for those who take it and those who ask it.
 *
 *	arenas   [ 0x7f10… 1 MiB | 0x7f23… 1 MiB | … ]   by address, disjoint
 *	              |  first_pool, n_pools: those carved so far, side by side
 *	pools    [ . . . . . . . | . . . . ]             state, class, counters
 *	              |  words: of partly filled pools only
 *	bits     [ 1 1 0 1 … ]                           a bit a carved block: live
 *
 * So a census of a heap of full pools costs 24 bytes a pool, and an address
 * finds its block by one binary search over the arenas.
 */
#ifndef PYLEAKD_CPYTHON_CENSUS_H
#define PYLEAKD_CPYTHON_CENSUS_H

#include "cpython/pymalloc.h"

#define POOL_HEADER_BYTES 48 /* POOL_OVERHEAD: Objects/obmalloc.c, 3.8-3.15 */
#define POOL_ALIGNMENT 16    /* ALIGNMENT on 64-bit machines, since 3.8 (bpo-27987) */

enum pool_state {
	POOL_UNREAD,	  /* not even its header */
	POOL_EMPTY,	  /* no block is handed out: on its arena's free list */
	POOL_FULL,	  /* every block is */
	POOL_COUNTED,	  /* by its header only */
	POOL_MAPPED,	  /* bits tell which blocks are live */
	POOL_TORN,	  /* count and free list disagree; counted by its header */
	POOL_PARTLY_READ, /* the header, but not the blocks */
};

struct census_pool {
	uint64_t address;
	uint32_t words;	   /* MAPPED: index of its first word in bits */
	uint16_t n_carved; /* blocks that were ever handed out */
	uint16_t n_live;
	uint8_t size_class;
	uint8_t state; /* enum pool_state */
};

struct census_arena {
	uint64_t address;
	uint64_t size_bytes;
	uint64_t pools_address; /* of the first pool: aligned */
	uint32_t first_pool, n_pools;
};

struct census {
	struct census_totals totals;
	struct census_arena *arenas;
	size_t n_arenas;
	struct census_pool *pools;
	size_t n_pools;
	uint64_t *bits;
	size_t n_words, max_words;
	uint32_t pool_size;
};

static inline uint32_t class_bytes(unsigned size_class)
{
	return (size_class + 1) * POOL_ALIGNMENT;
}

static inline bool census_bit(const struct census *census, const struct census_pool *pool,
			      uint32_t block)
{
	return census->bits[pool->words + block / 64] >> (block % 64) & 1;
}

/* The arenas alone, no pool read yet; errors as those of census_take(). */
int census_arenas(const struct interpreter *interpreter, struct census **ret,
		  struct fault *reterr_fault);
int census_arenas_in(struct memory *memory, const struct layout *layout,
		     const struct interpreter_arenas *states, size_t n_states, struct census **ret,
		     struct fault *reterr_fault);

/* Index of the pool that contains this address; UINT32_MAX: none. */
uint32_t census_pool_index(const struct census *census, uint64_t address);

/*
 * Reads pools that are marked (n_pools bits): the headers of some and, of those, the
 * blocks of some (NULL: of none).  What was known of them is replaced; the
 * totals don't count them. -ENOMEM.
 */
int census_read_marked(struct census *census, struct memory *memory, const struct layout *layout,
		       const uint64_t *headers, const uint64_t *blocks);

/* Reads what the pools' states tell; without_blocks: their headers only. -ENOMEM. */
int census_read_pools(struct census *census, struct memory *memory, const struct layout *layout,
		      bool without_blocks);

#endif
