/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What is outstanding, by stack.  Pure: no system call, no clock, no log; time
 * and everything that was read of the target are arguments.
 *
 *	pid 7, three records          block 0x7f10 (64 bytes)   stacks
 *	ALLOC  0x7f10 64 stack A      → charged to A            A 64 B, 1 block
 *	CREATE 0x7f20    stack A      object in it: type dict   (the same)
 *	CREATE 0x7f20    stack B      from the free list: moves A 0, B 64 B
 *	FREE   0x7f10                 gone                      B 0
 *
 * Conservation, ledger_check(): for each stack and in total,
 * given out − freed − moved away + moved here − parked = outstanding.
 *
 * A creation in a block that is not held: the block is older than the attach
 * and came from a free list.  It is held from now on (it may leak), for the
 * creating stack, as an elder whose start and size are not known: 0 bytes, 1
 * block, its address the object's, until ledger_set_block tells.
 *
 * Order.  One ring shared by all CPUs gives its records a total order, that of
 * their reservations.  free's record is reserved before the block is given
 * back and malloc's before its caller has it, so the records of one block are
 * in order.  What is not atomic is realloc: another thread may be given the old
 * chunk, and its record be reserved, before realloc's own; that is recognised.
 * Of rings that deliver out of order is borne: a creation up to
 * LEDGER_SWAPPED_RECORDS before its block's ALLOC (joined); a free before its
 * ALLOC (counted in frees_of_unknown; the ghost stays until it is dropped by
 * ledger_drop_dead); an ALLOC before the free of the block's earlier life (as
 * an ALLOC_REPEATED, then a missing block).  In each case conservation holds.
 */
#ifndef PYLEAKD_LEDGER_LEDGER_H
#define PYLEAKD_LEDGER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/reasons.h"
#include "pyleakd/wire.h"

struct ledger;

struct ledger_limits {
	size_t max_blocks; /* outstanding at once; 0: LEDGER_BLOCKS_DEFAULT */
	size_t max_stacks; /* 0: LEDGER_STACKS_DEFAULT; the smallest are merged as "other" */
};
#define LEDGER_BLOCKS_DEFAULT (8u << 20)
#define LEDGER_STACKS_DEFAULT (64u << 10)

#define LEDGER_SWAPPED_RECORDS 32 /* how far a creation may be ahead of its block's ALLOC */
#define LEDGER_CREATE_REACH 64 /* from a block's start to the object in it, at most */
#define LEDGER_FIND_REACH 576 /* from a block's start to what ledger_find finds in it, at most */

enum ledger_domain {
	LEDGER_OBJECT, /* an object was created in it */
	LEDGER_MEM, /* pymalloc's, or a large one of the interpreter's; no object of its own */
	LEDGER_RAW, /* the interpreter's PyMem_Raw*, from the C library */
	LEDGER_NATIVE, /* the C library, called by others */
	LEDGER_MAPPED, /* mmap */
	LEDGER_DOMAINS
};

struct ledger_block {
	uint64_t address;
	uint64_t size_bytes;
	uint64_t stack; /* whom it is charged to */
	uint64_t allocated; /* sequence number of the record that gave it out */
	uint64_t created; /* of the last creation in it; 0: none */
	uint64_t object; /* address of the object in it; 0: none */
	uint64_t type; /* ob_type of the object at its creation; 0: none or unknown */
	uint64_t owner; /* raw buffer: address of the object it belongs to; 0: not known */
	enum ledger_domain domain;
	bool pool; /* in a pymalloc pool (size class; presumed while an elder's start is unknown),
		    * else from the C library or mapped */
	bool parked; /* on a free list of the interpreter: nobody's */
	bool elder; /* older than the attach, held since something was created in it */
};

int ledger_new(const struct ledger_limits *limits, struct ledger **ret);
void ledger_free(struct ledger *ledger);

/*
 * Takes one validated record (WIRE_STACK and process records are ignored).
 * Never fails: what can't be kept is counted (ledger_losses).
 */
void ledger_consume(struct ledger *ledger, const struct wire_header *record);
/* Sequence number of the last record taken; the first one is 1. */
uint64_t ledger_sequence(const struct ledger *ledger);

/*
 * The block that contains this address, not only begins at it: 0, or -ENOENT.
 * Exact for blocks in pools and for mappings; in a larger block from the C
 * library, up to LEDGER_FIND_REACH bytes from its start.
 */
int ledger_find(const struct ledger *ledger, uint64_t address, struct ledger_block *ret);
/* Each outstanding block, in no order, until visit (which changes nothing) returns non-zero. */
int ledger_blocks_visit(const struct ledger *ledger,
			int (*visit)(const struct ledger_block *block, void *context),
			void *context);

/*
 * Reconciliation with the heap; all are no-ops where the address is not held.
 * An address is a block's start, or that of the object in it.  What was seen of
 * the heap must be of the block's present life: compare allocated and created
 * with the sequence number from before the look.
 */
/*
 * The heap says it is dead, and has been since before sequence: dropped,
 * counted as FREE_MISSED; true.  Kept where it was given out since.
 */
bool ledger_drop_dead(struct ledger *ledger, uint64_t address, uint64_t sequence);
/* Parked on a free list, or (parked false) no longer. A creation in it ends that by itself. */
void ledger_set_parked(struct ledger *ledger, uint64_t address, bool parked);
/*
 * The raw block (given by any address in it) belongs to the object: it takes
 * the object's type, and, where it is older than the object's last creation,
 * its stack as well.  A raw block of the interpreter's becomes LEDGER_MEM.
 * Ends with the next creation in the object's block, or the object's end.
 * No-op for a block that has an object of its own.
 */
void ledger_adopt(struct ledger *ledger, uint64_t raw_address, uint64_t object_address);
/*
 * The raw block (given by any address in it) belongs to an object of this type
 * that is older than the attach and not held itself: it takes the type, and
 * stays with whoever made it grow.  No-op for a block that has a type.
 */
void ledger_set_raw_type(struct ledger *ledger, uint64_t raw_address, uint64_t type);
/* Where the elder with this object begins, and how much it takes of its pool. */
void ledger_set_block(struct ledger *ledger, uint64_t object_address, uint64_t start,
		      uint64_t size_bytes);
/* The same of one that lies in no pool but in a chunk of the C library's. */
void ledger_set_chunk(struct ledger *ledger, uint64_t object_address, uint64_t start,
		      uint64_t size_bytes);
/* A mapping is one of pymalloc's arenas (their blocks are counted, so it is not). */
void ledger_forget_mapping(struct ledger *ledger, uint64_t address, uint64_t size);

struct ledger_stack {
	uint64_t stack; /* 0: no Python frame; UINT64_MAX: "other", merged */
	uint64_t outstanding_bytes; /* parked blocks left out */
	uint64_t outstanding_blocks;
	uint64_t domain_bytes[LEDGER_DOMAINS];
	uint64_t total_bytes; /* ever given out to it; moves are not in it */
	uint64_t total_blocks; /* a mapping that was cut in two counts once more */
	uint64_t first_sequence, last_sequence; /* of blocks given out to it */
};
/* All stacks that ever held something. The array is the caller's, to free(). */
int ledger_stacks(const struct ledger *ledger, struct ledger_stack **ret, size_t *ret_n);

struct ledger_totals {
	uint64_t outstanding_bytes, outstanding_blocks; /* parked ones left out */
	uint64_t pool_bytes, pool_blocks; /* of these, in pymalloc's pools */
	uint64_t native_bytes, native_blocks; /* of these, from the C library */
	uint64_t mapped_bytes;
	uint64_t parked_bytes, parked_blocks;
	uint64_t elder_bytes, elder_blocks; /* older than the attach, parked ones included */
	uint64_t allocations, frees, creations, moves;
	uint64_t frees_of_unknown; /* blocks from before the attach */
	uint64_t creations_of_unknown;
	uint64_t break_grown_bytes, break_shrunk_bytes; /* ever; its chunks are counted */
	uint64_t merged_stacks; /* into "other" */
	uint64_t losses[400]; /* by enum reason */
};
void ledger_totals(const struct ledger *ledger, struct ledger_totals *ret);

/* Whether the sums are those of the blocks, and conservation holds. Walks everything. */
bool ledger_check(const struct ledger *ledger);

#endif
