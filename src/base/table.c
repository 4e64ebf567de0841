/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/table.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hash.h"

#define SLOTS_FIRST 64

struct slot {
	uint64_t key, value;
	bool used;
};

struct table {
	struct slot *slots;
	size_t n_slots; /* a power of two, or 0 */
	size_t n_entries, max_entries;
};

int table_new(size_t max_entries, struct table **ret)
{
	struct table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->max_entries = max_entries;
	*ret = table;
	return 0;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	free(table->slots);
	free(table);
}

/* The slot that holds the key, or the free one where it would go. n_slots > 0. */
static size_t find_slot(const struct table *table, uint64_t key)
{
	size_t mask = table->n_slots - 1;
	size_t at = hash_u64(key) & mask;

	while (table->slots[at].used && table->slots[at].key != key)
		at = (at + 1) & mask;
	return at;
}

static int table_grow(struct table *table)
{
	struct table grown = *table;

	grown.n_slots = table->n_slots ? table->n_slots * 2 : SLOTS_FIRST;
	grown.slots = calloc(grown.n_slots, sizeof(*grown.slots));
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < table->n_slots; i++)
		if (table->slots[i].used)
			grown.slots[find_slot(&grown, table->slots[i].key)] = table->slots[i];
	free(table->slots);
	*table = grown;
	return 0;
}

int table_put(struct table *table, uint64_t key, uint64_t value)
{
	size_t at;
	int r;

	if (table->n_slots) {
		at = find_slot(table, key);
		if (table->slots[at].used) {
			table->slots[at].value = value;
			return 0;
		}
	}
	if (table->n_entries >= table->max_entries)
		return -ENOSPC;
	if ((table->n_entries + 1) * 4 > table->n_slots * 3) {
		r = table_grow(table);
		if (r < 0)
			return r;
	}
	table->slots[find_slot(table, key)] = (struct slot){ key, value, true };
	table->n_entries++;
	return 0;
}

int table_get(const struct table *table, uint64_t key, uint64_t *ret)
{
	size_t at;

	if (!table->n_slots)
		return -ENOENT;
	at = find_slot(table, key);
	if (!table->slots[at].used)
		return -ENOENT;
	if (ret)
		*ret = table->slots[at].value;
	return 0;
}

bool table_has(const struct table *table, uint64_t key)
{
	return table_get(table, key, NULL) == 0;
}

/* Moves up what follows a hole, as far as each entry's home allows. */
static void close_hole(struct table *table, size_t hole)
{
	size_t mask = table->n_slots - 1;

	for (size_t at = (hole + 1) & mask; table->slots[at].used; at = (at + 1) & mask) {
		size_t home = hash_u64(table->slots[at].key) & mask;

		if (((at - home) & mask) < ((at - hole) & mask))
			continue;
		table->slots[hole] = table->slots[at];
		hole = at;
	}
	table->slots[hole].used = false;
}

bool table_remove(struct table *table, uint64_t key)
{
	size_t at;

	if (!table->n_slots)
		return false;
	at = find_slot(table, key);
	if (!table->slots[at].used)
		return false;
	close_hole(table, at);
	table->n_entries--;
	return true;
}

size_t table_size(const struct table *table)
{
	return table->n_entries;
}

int table_visit(const struct table *table,
		int (*visit)(uint64_t key, uint64_t value, void *context), void *context)
{
	int r;

	for (size_t i = 0; i < table->n_slots; i++) {
		if (!table->slots[i].used)
			continue;
		r = visit(table->slots[i].key, table->slots[i].value, context);
		if (r != 0)
			return r;
	}
	return 0;
}
