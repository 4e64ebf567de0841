/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sums of each stack, and id → index, so that a block needs four bytes for
 * its stack.  Index 0 is "other", into which the smallest are merged when the
 * table is full.
 *
 *	given − freed + here − away = outstanding + parked   (bytes, and blocks)
 */
#ifndef PYLEAKD_LEDGER_STACKS_H
#define PYLEAKD_LEDGER_STACKS_H

#include "ledger/ledger.h"

#define STACK_OTHER_ID UINT64_MAX
#define STACK_OTHER 0u

struct amount {
	uint64_t bytes, blocks;
};

struct stack {
	uint64_t id;
	struct amount outstanding, parked;
	struct amount given, freed; /* ever */
	struct amount here, away; /* moved, ever */
	uint64_t first_sequence, last_sequence;
	uint64_t domain_bytes[LEDGER_DOMAINS]; /* of the outstanding ones */
};

struct stacks {
	struct stack *items;
	uint32_t count, capacity, max;
	uint32_t *slots; /* 1 + index; 0: empty */
	uint32_t n_slots; /* a power of two */
};

/* -ENOMEM. max: without "other". */
int stacks_init(struct stacks *stacks, size_t max);
void stacks_done(struct stacks *stacks);

/* 0, -ENOSPC: max reached, merge first; -ENOMEM. */
int stacks_intern(struct stacks *stacks, uint64_t id, uint32_t *ret);
/*
 * Merges the smallest quarter (outstanding and parked bytes) into "other" and
 * closes the gaps.  ret_map[old index] is the new index, to free(). -ENOMEM.
 */
int stacks_merge_smallest(struct stacks *stacks, uint32_t **ret_map);

#endif
