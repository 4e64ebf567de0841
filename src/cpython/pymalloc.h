/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A census of pymalloc's pools: which blocks are live, by the pools' own
 * counters and free lists.  Taken from outside while the target runs; pools
 * that changed under the reader (count and free list disagree) are read again
 * and, if they still disagree, kept by their header alone and counted as torn.
 */
#ifndef PYLEAKD_CPYTHON_PYMALLOC_H
#define PYLEAKD_CPYTHON_PYMALLOC_H

#include "cpython/interpreter.h"

#define PYMALLOC_CLASSES_MAX 64
#define PYMALLOC_ARENAS_MAX (1u << 20)

struct census;

enum census_answer {
	CENSUS_DEAD, /* in an arena, not handed out */
	CENSUS_LIVE,
	CENSUS_OUTSIDE, /* no pool there */
	CENSUS_UNREAD,	/* in a pool that could not be read whole, or was torn */
};

struct census_totals {
	uint64_t arenas;
	uint64_t pools; /* that hold a live block, or whose header could not be read */
	uint64_t pools_torn, pools_unread;
	/* By the headers' counters, torn pools included. */
	uint64_t live_blocks, live_bytes;
	uint64_t arena_bytes;			     /* taken from the system */
	uint64_t class_blocks[PYMALLOC_CLASSES_MAX]; /* class n: blocks of 16 * (n + 1) bytes */
};

/*
 * All pools of all interpreters. Headers only (without_blocks): counters, and
 * liveness of full and of empty pools only.  -EAGAIN CONTRADICTION: the arenas
 * moved each time that they were read.
 */
int census_take(const struct interpreter *interpreter, bool without_blocks, struct census **ret,
		struct fault *reterr_fault);
/* The same of given allocator states, without an interpreter; -EAGAIN at the first disagreement. */
int census_take_in(struct memory *memory, const struct layout *layout,
		   const struct interpreter_arenas *states, size_t n_states, bool without_blocks,
		   struct census **ret, struct fault *reterr_fault);
/*
 * The same of one pool in 2^shift, whole, and of no other: which ones their addresses decide, so
 * that they are the same ones each time.  The totals have the arenas only.
 */
int census_take_share(const struct interpreter *interpreter, unsigned shift, struct census **ret,
		      struct fault *reterr_fault);
void census_free(struct census *census);
const struct census_totals *census_totals(const struct census *census);

/*
 * The block that contains this address; ret_start and ret_size may be NULL, and
 * are 0 where no block was ever carved.
 */
enum census_answer census_block(const struct census *census, uint64_t address, uint64_t *ret_start,
				uint64_t *ret_size_bytes);
/* Each live block, pool by pool, in order of addresses. */
int census_live_visit(const struct census *census,
		      int (*visit)(uint64_t address, uint64_t size_bytes, void *context),
		      void *context);
/* Whether an address lies in one of the arenas; for telling their mappings from others. */
bool census_in_arena(const struct census *census, uint64_t address);
/* Of all pools ever carved, empty ones too; the caller's, to free(). -ENOMEM. */
int census_pool_addresses(const struct census *census, uint64_t **ret, size_t *ret_n);
int census_arenas_visit(const struct census *census,
			int (*visit)(uint64_t address, uint64_t size_bytes, void *context),
			void *context);

#endif
