/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What made the heap larger than it ever was, by stack: pools at addresses that
 * were never pools, and new maxima of the break.  Each is a fact, not a sample.
 * Pure: time is an argument.
 *
 *	         bins of 0.25 s, 32 of them; then of 0.5 s …
 *	stack A, class 3   [ 1 0 2 1 1 … ]   16 KiB each   steady: it may be a leak
 *	stack B, class 3   [ 9 0 0 0 0 … ]                 a peak at the start
 *	stack A, break     [ 0 1 0 1 0 … ]   132 KiB each
 *
 * They answer who needed more, not who keeps it: where one line fills and
 * empties pools of a class, it takes the new ones although another line keeps
 * the old ones.  So they are a second witness, and the only one where nothing
 * that is sampled survives.
 *
 * When time runs out of bins, two become one for all rows: at any time at least
 * half of the bins are in use, however long the session is.
 */
#ifndef PYLEAKD_LEDGER_GROWTH_H
#define PYLEAKD_LEDGER_GROWTH_H

#include <stddef.h>
#include <stdint.h>

#define GROWTH_ROWS_MAX 4096 /* of 160 bytes; what comes for further ones is merged as "other" */
#define GROWTH_BINS 32
#define GROWTH_BIN_SECONDS 0.25 /* at the start */
#define GROWTH_SLICES 16
#define GROWTH_OTHER UINT64_MAX /* as ledger_stack.stack */

/* A row's class: one of the pools' size classes, or one of these. */
#define GROWTH_CLASS_UNKNOWN 63
#define GROWTH_BREAK 64

struct growth;

int growth_new(struct growth **ret); /* -ENOMEM */
void growth_free(struct growth *growth);

/* class: of the pool's blocks, or GROWTH_BREAK; bytes: the pool's, or what the break gained. */
void growth_note(struct growth *growth, uint64_t stack, unsigned class, uint64_t bytes,
		 double time_seconds);

struct growth_row {
	uint64_t stack;
	unsigned class;
	uint64_t count, bytes;
	double first_seconds, last_seconds;
	uint32_t counts[GROWTH_SLICES]; /* [0, time) in equal slices, oldest first */
};

/* All rows, in the order of stack and class; the caller's, to free(). -ENOMEM. */
int growth_rows(const struct growth *growth, double time_seconds, struct growth_row **ret,
		size_t *ret_n);

struct growth_totals {
	uint64_t pools, pool_bytes, break_bytes;
	uint64_t merged; /* notes that went to "other" */
};
void growth_totals(const struct growth *growth, struct growth_totals *ret);

#endif
