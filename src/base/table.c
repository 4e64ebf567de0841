/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "base/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"

#define FIRST_CELLS 16

void table_done(struct table *table)
{
	free(table->cells);
	free(table->taken);
	*table = (struct table){.max = table->max};
}

int table_new(size_t max, struct table **ret)
{
	struct table *table = malloc(sizeof(*table));

	if (!table)
		return -ENOMEM;
	*table = table_init(max);
	*ret = table;
	return 0;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	table_done(table);
	free(table);
}

static size_t home_of(const struct table *table, uint64_t key)
{
	return hash_u64(key) & (table->n_cells - 1);
}

static size_t after(const struct table *table, size_t cell)
{
	return (cell + 1) & (table->n_cells - 1);
}

/* The key's cell, or the empty one where it belongs; there is always an empty one. */
static size_t find_cell(const struct table *table, uint64_t key)
{
	size_t cell = home_of(table, key);

	while (table->taken[cell] && table->cells[cell].key != key)
		cell = after(table, cell);
	return cell;
}

uint64_t *table_find(const struct table *table, uint64_t key)
{
	size_t cell;

	if (table->n == 0)
		return NULL;
	cell = find_cell(table, key);
	return table->taken[cell] ? &table->cells[cell].value : NULL;
}

int table_get(const struct table *table, uint64_t key, uint64_t *ret)
{
	const uint64_t *value = table_find(table, key);

	if (!value)
		return -ENOENT;
	if (ret)
		*ret = *value;
	return 0;
}

bool table_has(const struct table *table, uint64_t key)
{
	return table_find(table, key) != NULL;
}

static void place(struct table *table, uint64_t key, uint64_t value)
{
	size_t cell = find_cell(table, key);

	table->cells[cell] = (struct table_cell){key, value};
	table->taken[cell] = 1;
}

static int grow(struct table *table)
{
	struct table larger = {.n_cells = table->n_cells ? table->n_cells * 2 : FIRST_CELLS,
			       .n = table->n,
			       .max = table->max};
	struct table_cell *cell;
	size_t iterator = 0;

	if (larger.n_cells > SIZE_MAX / sizeof(*larger.cells))
		return -ENOMEM;
	larger.cells = malloc(larger.n_cells * sizeof(*larger.cells));
	larger.taken = calloc(larger.n_cells, 1);
	if (!larger.cells || !larger.taken) {
		table_done(&larger);
		return -ENOMEM;
	}
	while (table_next(table, &iterator, &cell))
		place(&larger, cell->key, cell->value);
	table_done(table);
	*table = larger;
	return 0;
}

int table_put(struct table *table, uint64_t key, uint64_t value)
{
	uint64_t *present = table_find(table, key);
	int r;

	if (present) {
		*present = value;
		return 0;
	}
	if (table->n >= table->max)
		return -ENOSPC;
	if (table->n + 1 > table->n_cells - table->n_cells / 8) {
		r = grow(table);
		if (r < 0)
			return r;
	}
	place(table, key, value);
	table->n++;
	return 0;
}

/*
 * Closes the gap: an entry further on moves into it unless its home lies
 * cyclically behind the gap (Knuth, TAOCP 6.4, algorithm R).
 */
static void close_gap(struct table *table, size_t gap)
{
	size_t mask = table->n_cells - 1;

	for (size_t cell = after(table, gap); table->taken[cell]; cell = after(table, cell)) {
		size_t home = home_of(table, table->cells[cell].key);

		if (((cell - home) & mask) >= ((cell - gap) & mask)) {
			table->cells[gap] = table->cells[cell];
			gap = cell;
		}
	}
	table->taken[gap] = 0;
}

bool table_remove(struct table *table, uint64_t key, uint64_t *ret_value)
{
	size_t cell;

	if (table->n == 0)
		return false;
	cell = find_cell(table, key);
	if (!table->taken[cell])
		return false;
	if (ret_value)
		*ret_value = table->cells[cell].value;
	close_gap(table, cell);
	table->n--;
	return true;
}

void table_clear(struct table *table)
{
	if (table->taken)
		memset(table->taken, 0, table->n_cells);
	table->n = 0;
}

bool table_next(const struct table *table, size_t *iterator, struct table_cell **ret)
{
	while (*iterator < table->n_cells) {
		size_t cell = (*iterator)++;

		if (table->taken[cell]) {
			*ret = &table->cells[cell];
			return true;
		}
	}
	return false;
}

size_t table_memory_bytes(const struct table *table)
{
	return table->n_cells * (sizeof(*table->cells) + sizeof(*table->taken));
}
