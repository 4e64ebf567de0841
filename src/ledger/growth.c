/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/growth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/table.h"
#include "ledger/allocate.h"

#define ROWS_INITIAL 64

struct row {
	uint64_t stack, bytes;
	uint64_t count;
	float first_seconds, last_seconds;
	uint32_t class;
	uint32_t next; /* with the same hash; 0: none, else its index + 1 */
	uint32_t bins[GROWTH_BINS];
};

struct growth {
	struct table by_hash; /* of stack and class → the first row's index */
	struct row *rows;
	size_t n_rows, rows_capacity;
	double bin_seconds;
	struct growth_totals totals;
};

int growth_new(struct growth **ret)
{
	struct growth *growth = ledger_allocate(1, sizeof(*growth));

	if (!growth)
		return -ENOMEM;
	growth->by_hash = table_init(GROWTH_ROWS_MAX);
	growth->bin_seconds = GROWTH_BIN_SECONDS;
	*ret = growth;
	return 0;
}

void growth_free(struct growth *growth)
{
	if (!growth)
		return;
	table_done(&growth->by_hash);
	free(growth->rows);
	free(growth);
}

/* --- rows --- */

static bool make_room(struct growth *growth)
{
	size_t capacity = growth->rows_capacity ? growth->rows_capacity * 2 : ROWS_INITIAL;
	struct row *rows;

	if (growth->n_rows < growth->rows_capacity)
		return true;
	rows = ledger_allocate(capacity, sizeof(*rows));
	if (!rows)
		return false;
	if (growth->n_rows)
		memcpy(rows, growth->rows, growth->n_rows * sizeof(*rows));
	free(growth->rows);
	growth->rows = rows;
	growth->rows_capacity = capacity;
	return true;
}

/* The last place is kept for "other". NULL: no room. */
static struct row *add_row(struct growth *growth, uint64_t hash, uint64_t stack, unsigned class)
{
	size_t max = stack == GROWTH_OTHER ? GROWTH_ROWS_MAX : GROWTH_ROWS_MAX - 1;
	struct row *row;
	uint64_t first;

	if (growth->n_rows >= max || !make_room(growth))
		return NULL;
	row = &growth->rows[growth->n_rows];
	*row = (struct row){.stack = stack, .class = class};
	if (table_get(&growth->by_hash, hash, &first) == 0)
		row->next = (uint32_t)first + 1;
	if (table_put(&growth->by_hash, hash, growth->n_rows) < 0)
		return NULL;
	growth->n_rows++;
	return row;
}

static struct row *row_of(struct growth *growth, uint64_t stack, unsigned class)
{
	uint64_t hash = hash_u64(stack ^ hash_u64(class + 1));
	uint64_t at;

	if (table_get(&growth->by_hash, hash, &at) == 0)
		for (at++; at; at = growth->rows[at - 1].next)
			if (growth->rows[at - 1].stack == stack &&
			    growth->rows[at - 1].class == class)
				return &growth->rows[at - 1];
	return add_row(growth, hash, stack, class);
}

/* --- bins --- */

static void widen(struct growth *growth)
{
	for (size_t i = 0; i < growth->n_rows; i++) {
		uint32_t *bins = growth->rows[i].bins;

		for (size_t k = 0; k < GROWTH_BINS / 2; k++)
			bins[k] = bins[2 * k] + bins[2 * k + 1];
		memset(bins + GROWTH_BINS / 2, 0, GROWTH_BINS / 2 * sizeof(*bins));
	}
	growth->bin_seconds *= 2;
}

static size_t bin_of(struct growth *growth, double time_seconds)
{
	if (!(time_seconds > 0))
		return 0;
	while (time_seconds < 1e12 && time_seconds >= GROWTH_BINS * growth->bin_seconds)
		widen(growth);
	time_seconds /= growth->bin_seconds;
	return time_seconds < GROWTH_BINS ? (size_t)time_seconds : GROWTH_BINS - 1;
}

static void count_total(struct growth *growth, unsigned class, uint64_t bytes)
{
	if (class == GROWTH_BREAK) {
		growth->totals.break_bytes += bytes;
	} else {
		growth->totals.pools++;
		growth->totals.pool_bytes += bytes;
	}
}

void growth_note(struct growth *growth, uint64_t stack, unsigned class, uint64_t bytes,
		 double time_seconds)
{
	struct row *row;

	if (class > GROWTH_BREAK)
		class = GROWTH_CLASS_UNKNOWN;
	count_total(growth, class, bytes);
	row = row_of(growth, stack, class);
	if (!row) {
		growth->totals.merged++;
		/* One row for pools of all classes and the break: it stands for no line. */
		row = row_of(growth, GROWTH_OTHER, GROWTH_CLASS_UNKNOWN);
	}
	if (!row)
		return;
	if (!row->count)
		row->first_seconds = (float)time_seconds;
	row->last_seconds = (float)time_seconds;
	row->count++;
	row->bytes += bytes;
	row->bins[bin_of(growth, time_seconds)]++;
}

/* --- sums --- */

static int compare_rows(const void *a, const void *b)
{
	const struct growth_row *x = a, *y = b;

	if (x->stack != y->stack)
		return x->stack < y->stack ? -1 : 1;
	return x->class < y->class ? -1 : x->class > y->class;
}

/* A bin belongs to the slice in which its middle lies; the last one ends now. */
static void slice_bins(const struct growth *growth, const struct row *row, double time_seconds,
		       struct growth_row *ret)
{
	for (size_t i = 0; i < GROWTH_BINS; i++) {
		double starts = (double)i * growth->bin_seconds,
		       ends = starts + growth->bin_seconds;
		double middle = (starts + (ends < time_seconds ? ends : time_seconds)) / 2;
		double slice = time_seconds > 0 ? middle / time_seconds * GROWTH_SLICES : 0;

		if (row->bins[i])
			ret->counts[slice < GROWTH_SLICES ? (size_t)slice : GROWTH_SLICES - 1] +=
				row->bins[i];
	}
}

int growth_rows(const struct growth *growth, double time_seconds, struct growth_row **ret,
		size_t *ret_n)
{
	struct growth_row *rows = ledger_allocate(growth->n_rows + 1, sizeof(*rows));

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < growth->n_rows; i++) {
		const struct row *row = &growth->rows[i];

		rows[i] = (struct growth_row){
			.stack = row->stack,
			.class = row->class,
			.count = row->count,
			.bytes = row->bytes,
			.first_seconds = (double)row->first_seconds,
			.last_seconds = (double)row->last_seconds,
		};
		slice_bins(growth, row, time_seconds, &rows[i]);
	}
	qsort(rows, growth->n_rows, sizeof(*rows), compare_rows);
	*ret = rows;
	*ret_n = growth->n_rows;
	return 0;
}

void growth_totals(const struct growth *growth, struct growth_totals *ret)
{
	*ret = growth->totals;
}
