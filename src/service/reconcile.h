/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The ledger held against the heap.  One round:
 *
 *	sequence s0   everything up to here is in the ledger
 *	census        the pools are read, while the target runs on
 *	drain         records up to the census' end are taken; the addresses
 *	              given back meanwhile are remembered
 *	compare       held, given out before s0, dead in the pools: its free was
 *	              missed, drop it.  Live in the pools, free when the session
 *	              began, neither held nor given back meanwhile: its birth was
 *	              missed, which lowers the coverage
 *	objects       reference counts (parked on a free list?), types, and the
 *	              raw buffers that go with their owners
 *	elders        in the last round, raw buffers that are left: whose of the
 *	              objects from before the session they are
 */
#ifndef PYLEAKD_SERVICE_RECONCILE_H
#define PYLEAKD_SERVICE_RECONCILE_H

#include <stdbool.h>
#include <stdint.h>

#include "cpython/objects.h"
#include "cpython/pymalloc.h"
#include "ledger/ledger.h"

/* Objects looked at in one round; the rest waits for the next one. */
#define RECONCILE_LOOKS_MAX (1u << 18)
/* Objects from before the session that are asked for their raw buffers, in the last round. */
#define RECONCILE_ELDERS_MAX (1u << 20)
/* Heaps that are read whole for that, in the last round. */
#define RECONCILE_ELDERS_HEAP_BYTES_MAX (1ull << 29)
/* Chunks of the C library that an object from a free list may lie in. */
#define RECONCILE_CHUNK_BYTES_MAX 4096
/* Addresses given back during one census that are remembered. */
#define RECONCILE_FREED_MAX (1u << 22)

struct reconcile;

struct reconcile_books {
	uint64_t pool_live_blocks, pool_live_bytes; /* what the pools' headers count */
	uint64_t arenas, arena_bytes;
	uint64_t pools_unread, pools_torn;
	uint64_t born_live_blocks; /* live now, free when the session began */
	uint64_t born_held_blocks; /* of these, in the ledger */
	uint64_t held_checked_blocks; /* in the ledger, older than the census, in readable pools */
	uint64_t held_live_blocks; /* of these, live in the pools */
	uint64_t looked_objects, unreadable_objects;
	/*
	 * Since the baseline: blocks seen given out less those seen given back, and the
	 * change of what the pools count. Equal where nothing was missed and the target
	 * stood still at both censuses.
	 */
	int64_t seen_net_blocks, pools_net_blocks;
	uint64_t seen_allocations;
	double coverage_ratio; /* born_held / born_live; 1: nothing was born; NAN: no pools */
};

struct reconcile_source {
	const struct interpreter *interpreter;
	struct type_cache *types;
	struct ledger *ledger;
	/* Takes every record written until now; 0 or -errno. NULL: nothing arrives. */
	int (*drain)(void *context);
	void *context;
};

/* The baseline is taken here: what is live now is not the session's. */
int reconcile_new(const struct reconcile_source *source, struct reconcile **ret,
		  struct fault *reterr_fault);
void reconcile_free(struct reconcile *reconcile);

/* To be called with every address given back (frees, and realloc's old address). */
void reconcile_note_free(struct reconcile *reconcile, uint64_t address);
/* To be called for every block of a pool that is given out, and given back. */
void reconcile_note_pool(struct reconcile *reconcile, bool given_out);

/*
 * The target's heap is being torn down, or is gone: what is read of it from
 * here on, and what was read since the last drain, does not count.
 */
void reconcile_freeze(struct reconcile *reconcile);

/*
 * complete: look at every object now, as at the end of a session.
 * -ECANCELED: the heap is being torn down; the last round's books stand.
 */
int reconcile_run(struct reconcile *reconcile, bool complete, struct reconcile_books *ret,
		  struct fault *reterr_fault);
/* The last round's census; NULL before the first. */
const struct census *reconcile_census(const struct reconcile *reconcile);

#endif
