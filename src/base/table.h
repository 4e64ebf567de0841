/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A hash table from 64-bit keys to 64-bit values: open addressing, linear
 * probing, backward-shift deletion, at most 3/4 full.
 *
 *	slots  [ - ][ 7→a ][ 3→b ][ - ]   home of 7 and of 3 is slot 1
 *	del 7  [ - ][ 3→b ][  -  ][ - ]   what follows moves up: no tombstones
 */
#ifndef PYLEAKD_BASE_TABLE_H
#define PYLEAKD_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table;

/* max_entries: further puts are refused with -ENOSPC. Memory grows with what is in it. */
int table_new(size_t max_entries, struct table **ret);
void table_free(struct table *table);

/* Adds or replaces. -ENOSPC: full; -ENOMEM. */
int table_put(struct table *table, uint64_t key, uint64_t value);
/* 0, or -ENOENT. ret may be NULL. */
int table_get(const struct table *table, uint64_t key, uint64_t *ret);
bool table_has(const struct table *table, uint64_t key);
/* Whether it was there. */
bool table_remove(struct table *table, uint64_t key);
size_t table_size(const struct table *table);
/* In no order, until visit returns non-zero, which is then returned. It may not change the table. */
int table_visit(const struct table *table,
		int (*visit)(uint64_t key, uint64_t value, void *context), void *context);

#endif
