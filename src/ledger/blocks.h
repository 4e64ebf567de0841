/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Address → block: open addressing with linear probing, Robin Hood order and
 * backward-shift deletion, so that there are no tombstones and a miss ends
 * early.  Invariant: between an entry's home slot and its place no slot is
 * empty, and entries stand in the order of their hashes (cyclically).
 *
 *	home      3     3     4     6
 *	slot  ┌ 3:A ┬ 4:B ┬ 5:C ┬ 6:D ┬ 7:— ┐     remove A: B and C move back by one,
 *	      └─────┴─────┴─────┴─────┴─────┘     D stays, it is at home
 *
 * A slot is the hash's share of the capacity (Lemire, "Fast random integer
 * generation in an interval", 2019), so capacities need not be powers of two
 * and growing copies in order.  48 bytes a slot, at most 3/4 of them in use.
 *
 * Inserting and removing move entries: pointers to entries are valid until then.
 */
#ifndef PYLEAKD_LEDGER_BLOCKS_H
#define PYLEAKD_LEDGER_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entry {
	uint64_t address; /* 0: the slot is empty */
	uint64_t type;
	uint64_t owner; /* raw buffer: the object that it belongs to */
	uint64_t allocated : 48; /* sequence number; 0: before the attach, an elder */
	uint64_t size_high : 16;
	uint64_t created : 48; /* of the creation in it, or, with an owner, of the owner's */
	uint64_t object_step : 8; /* 1 + (object - address) / 8; 0: no object */
	uint64_t domain : 3; /* enum ledger_domain */
	uint64_t pool : 1;
	uint64_t parked : 1;
	uint64_t startless : 1; /* address is the object's, the block's start is not known */
	uint64_t repeated : 1; /* was given out while still held */
	uint64_t unused : 1;
	uint32_t size_low;
	uint32_t stack; /* index into the stacks */
};
_Static_assert(sizeof(struct entry) == 48, "a block costs 48 bytes");

#define ENTRY_SIZE_MAX ((1ull << 48) - 1)
#define ENTRY_OBJECT_REACH 2032 /* the farthest object that object_step can say */

static inline uint64_t entry_size(const struct entry *entry)
{
	return (uint64_t)entry->size_high << 32 | entry->size_low;
}

/* Beyond ENTRY_SIZE_MAX (more than a process can address) the size is cut to that. */
static inline void entry_set_size(struct entry *entry, uint64_t size)
{
	if (size > ENTRY_SIZE_MAX)
		size = ENTRY_SIZE_MAX;
	entry->size_high = size >> 32;
	entry->size_low = (uint32_t)size;
}

static inline uint64_t entry_object(const struct entry *entry)
{
	return entry->object_step ? entry->address + 8 * (entry->object_step - 1ull) : 0;
}

static inline void entry_set_object(struct entry *entry, uint64_t object)
{
	entry->object_step = object ? 1 + (object - entry->address) / 8 : 0;
}

struct blocks {
	struct entry *slots;
	size_t capacity, count;
};

void blocks_done(struct blocks *table);

/* NULL: not held. */
struct entry *blocks_find(const struct blocks *table, uint64_t address);
/* A zeroed entry with that address, which must not be held yet; NULL: no memory. */
struct entry *blocks_insert(struct blocks *table, uint64_t address);
void blocks_remove(struct blocks *table, struct entry *entry);

#endif
