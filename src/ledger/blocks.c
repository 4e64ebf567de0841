/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "ledger/allocate.h"

#define BLOCKS_CAPACITY_FIRST 1024
/* Where no memory is left to grow, the table is filled up to this share before it refuses. */
#define BLOCKS_CRAMMED_PERCENT 95
#define BLOCKS_FULL_PERCENT 75

/* Blocks are 16-aligned: the low bits say nothing.  Finaliser of MurmurHash3 (Appleby, 2011). */
static uint64_t address_hash(uint64_t address)
{
	uint64_t hash = address >> 4;

	hash *= 0xff51afd7ed558ccdull;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ull;
	return hash;
}

static size_t slot_home(const struct blocks *table, uint64_t address)
{
	return (size_t)((unsigned __int128)address_hash(address) * table->capacity >> 64);
}

static size_t slot_next(const struct blocks *table, size_t slot)
{
	return slot + 1 == table->capacity ? 0 : slot + 1;
}

/* How far the entry in this slot is from its home. */
static size_t slot_distance(const struct blocks *table, size_t slot)
{
	size_t home = slot_home(table, table->slots[slot].address);

	return slot >= home ? slot - home : slot + table->capacity - home;
}

/*
 * The slot of this address, or the one where it would go: the first that is
 * empty or whose entry is nearer to its home.  Ends: 1/20 of the slots is empty.
 */
static size_t slot_search(const struct blocks *table, uint64_t address)
{
	size_t slot = slot_home(table, address);

	for (size_t distance = 0;; distance++) {
		uint64_t held = table->slots[slot].address;

		if (!held || held == address || slot_distance(table, slot) < distance)
			return slot;
		slot = slot_next(table, slot);
	}
}

struct entry *blocks_find(const struct blocks *table, uint64_t address)
{
	struct entry *entry;

	if (!table->count || !address)
		return NULL;
	entry = &table->slots[slot_search(table, address)];
	return entry->address == address ? entry : NULL;
}

/* Makes room at the slot: it and all up to the next empty one move on by one. */
static struct entry *slot_open(struct blocks *table, size_t slot)
{
	size_t end = slot;

	while (table->slots[end].address)
		end = slot_next(table, end);
	while (end != slot) {
		size_t before = end ? end - 1 : table->capacity - 1;

		table->slots[end] = table->slots[before];
		end = before;
	}
	memset(&table->slots[slot], 0, sizeof(table->slots[slot]));
	return &table->slots[slot];
}

static bool blocks_grow(struct blocks *table)
{
	struct blocks grown = {.count = table->count};

	grown.capacity =
		table->capacity ? table->capacity + table->capacity / 2 : BLOCKS_CAPACITY_FIRST;
	grown.slots = ledger_allocate(grown.capacity, sizeof(*grown.slots));
	if (!grown.slots)
		return false;
	for (size_t i = 0; i < table->capacity; i++) {
		const struct entry *entry = &table->slots[i];

		if (entry->address)
			*slot_open(&grown, slot_search(&grown, entry->address)) = *entry;
	}
	free(table->slots);
	*table = grown;
	return true;
}

static bool blocks_has_room(const struct blocks *table, unsigned int percent)
{
	return table->count + 1 <= table->capacity / 100 * percent;
}

struct entry *blocks_insert(struct blocks *table, uint64_t address)
{
	struct entry *entry;

	if (!blocks_has_room(table, BLOCKS_FULL_PERCENT) && !blocks_grow(table) &&
	    !blocks_has_room(table, BLOCKS_CRAMMED_PERCENT))
		return NULL;
	entry = slot_open(table, slot_search(table, address));
	entry->address = address;
	table->count++;
	return entry;
}

void blocks_remove(struct blocks *table, struct entry *entry)
{
	size_t slot = (size_t)(entry - table->slots);
	size_t next = slot_next(table, slot);

	while (table->slots[next].address && slot_distance(table, next)) {
		table->slots[slot] = table->slots[next];
		slot = next;
		next = slot_next(table, next);
	}
	memset(&table->slots[slot], 0, sizeof(table->slots[slot]));
	table->count--;
}

void blocks_done(struct blocks *table)
{
	free(table->slots);
	*table = (struct blocks){0};
}
