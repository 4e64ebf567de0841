/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A hash table from 64-bit keys to 64-bit values: open addressing, linear
 * probing, deletion by shifting back (no tombstones), so that a table that
 * lives for days does not decay.
 *
 *	cells  [ - ][k 7 -> 1][k 9 -> 2][ - ]     at most 7 of 8 are taken
 *
 * It doubles as it fills, up to a number of entries that is set at init; what
 * does not fit is refused, and the caller counts it.  Keys may be any number,
 * 0 included: a bit beside each cell says whether it is taken.
 */
#ifndef PYLEAKD_BASE_TABLE_H
#define PYLEAKD_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_cell {
	uint64_t key;
	uint64_t value;
};

struct table {
	struct table_cell *cells;
	uint8_t *taken; /* a byte a cell */
	size_t n_cells; /* 0, or a power of two */
	size_t n; /* entries */
	size_t max; /* entries */
};

static inline struct table table_init(size_t max)
{
	return (struct table){ .max = max };
}

void table_done(struct table *table);

/* The same on the heap. */
int table_new(size_t max, struct table **ret);
void table_free(struct table *table);

/* The value's place, valid until the next put or remove; NULL: not there. */
uint64_t *table_find(const struct table *table, uint64_t key);

/* ret may be NULL. */
int table_get(const struct table *table, uint64_t key, uint64_t *ret); /* 0 or -ENOENT */
bool table_has(const struct table *table, uint64_t key);

/*
 * Sets key to value, replacing what was there.  -ENOSPC: it is new and the
 * table holds its maximum; -ENOMEM.
 */
int table_put(struct table *table, uint64_t key, uint64_t value);

/* Removes key; true and *ret_value (may be NULL) when it was there. */
bool table_remove(struct table *table, uint64_t key, uint64_t *ret_value);

/* Keeps the memory. */
void table_clear(struct table *table);

/*
 * All entries in no order: start with *iterator = 0; false at the end.  The
 * table must not change meanwhile, but values may.
 */
bool table_next(const struct table *table, size_t *iterator, struct table_cell **ret);

static inline size_t table_size(const struct table *table)
{
	return table->n;
}

/* Bytes that it holds. */
size_t table_memory_bytes(const struct table *table);

#define _cleanup_table_ __attribute__((cleanup(table_done)))

#endif
