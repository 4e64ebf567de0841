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
 * Conservation, checked after every batch in debug builds: for each stack and
 * in total, given out − freed − moved away + moved here = outstanding.
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
	size_t max_stacks; /* 0: LEDGER_STACKS_DEFAULT; beyond, the smallest are merged as "other" */
};
#define LEDGER_BLOCKS_DEFAULT (8u << 20)
#define LEDGER_STACKS_DEFAULT (64u << 10)

enum ledger_domain {
	LEDGER_OBJECT, /* an object was created in it */
	LEDGER_MEM, /* a pymalloc block, or the interpreter's large one, without an object of its own */
	LEDGER_RAW, /* the interpreter's PyMem_Raw*, from the C library */
	LEDGER_NATIVE, /* the C library, called by others */
	LEDGER_MAPPED, /* mmap, and the heap's break */
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
	bool pool; /* in a pymalloc pool (size class), else from the C library or mapped */
	bool parked; /* on a free list of the interpreter: nobody's */
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

/* The block that contains this address (not only begins at it): 0, or -ENOENT. */
int ledger_find(const struct ledger *ledger, uint64_t address, struct ledger_block *ret);
/* Each outstanding block, in no order, until visit returns non-zero. It may not change the ledger. */
int ledger_blocks_visit(const struct ledger *ledger,
			int (*visit)(const struct ledger_block *block, void *context),
			void *context);

/* Reconciliation with the heap; all are no-ops where the address is not held. */
/* The heap says it is dead, and has been since before sequence: dropped, counted as FREE_MISSED. */
bool ledger_drop_dead(struct ledger *ledger, uint64_t address, uint64_t sequence);
/* Parked on a free list, or (parked false) no longer. */
void ledger_set_parked(struct ledger *ledger, uint64_t address, bool parked);
/*
 * The raw block belongs to the object: it takes the object's type, and, where
 * it is older than the object's last creation, its stack as well.
 */
void ledger_adopt(struct ledger *ledger, uint64_t raw_address, uint64_t object_address);
/* A mapping is one of pymalloc's arenas (their blocks are counted, so it is not). */
void ledger_forget_mapping(struct ledger *ledger, uint64_t address, uint64_t size);

struct ledger_stack {
	uint64_t stack; /* 0: no Python frame; UINT64_MAX: "other", merged */
	uint64_t outstanding_bytes; /* parked blocks left out */
	uint64_t outstanding_blocks;
	uint64_t domain_bytes[LEDGER_DOMAINS];
	uint64_t total_bytes; /* ever given out to it */
	uint64_t total_blocks;
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
	uint64_t allocations, frees, creations, moves;
	uint64_t frees_of_unknown; /* blocks from before the attach */
	uint64_t creations_of_unknown;
	uint64_t losses[400]; /* by enum reason */
};
void ledger_totals(const struct ledger *ledger, struct ledger_totals *ret);

#endif
