/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the arenas hold: all bins are walked side by side, a step of each in one read. */
#include <errno.h>

#include "base/cleanup.h"
#include "cpython/glibc_private.h"

#define CURSORS_MAX 1024    /* bins of one walk */
#define FREE_CHUNK_BYTES 24 /* prev_size, size, fd */

struct cursor {
	uint64_t bin; /* where its list ends: the bin, taken for a chunk */
	uint64_t chunk;
	uint64_t words[3];
};

struct walk {
	struct glibc *glibc;
	struct cursor cursors[CURSORS_MAX];
	struct memory_piece pieces[CURSORS_MAX];
	size_t n;
	size_t steps, max_steps;
	uint64_t free_bytes;
	bool complete;
};

/* A step in each list: what ended goes. */
static void walk_step(struct walk *walk)
{
	size_t n = 0;

	for (size_t i = 0; i < walk->n; i++)
		walk->pieces[i] = (struct memory_piece){
			.address = walk->cursors[i].chunk,
			.buffer = walk->cursors[i].words,
			.size = FREE_CHUNK_BYTES,
		};
	memory_read_pieces(walk->glibc->memory, walk->pieces, walk->n);
	for (size_t i = 0; i < walk->n; i++) {
		struct cursor cursor = walk->cursors[i];
		uint64_t size = chunk_bytes(cursor.words[1]);

		if (walk->pieces[i].error || size < CHUNK_MIN_BYTES || size % CHUNK_ALIGN ||
		    cursor.words[2] % 8) {
			walk->complete = false; /* it changed under the reader */
			continue;
		}
		walk->free_bytes += size;
		cursor.chunk = cursor.words[2];
		if (cursor.chunk != cursor.bin)
			walk->cursors[n++] = cursor;
	}
	walk->steps += walk->n;
	walk->n = n;
}

static void walk_all(struct walk *walk)
{
	while (walk->n && walk->steps < walk->max_steps)
		walk_step(walk);
	if (walk->n)
		walk->complete = false;
	walk->n = 0;
}

static void walk_arena(struct walk *walk, const struct glibc_arena *arena)
{
	uint64_t bins = arena->address + walk->glibc->bins_offset;

	for (unsigned i = 0; i < N_BINS; i++) {
		uint64_t bin = bins + i * BIN_BYTES - BIN_BYTES, chunk = arena->bins[2 * i];

		if (chunk == bin)
			continue;
		walk->cursors[walk->n++] = (struct cursor){.bin = bin, .chunk = chunk};
		if (walk->n == CURSORS_MAX)
			walk_all(walk);
	}
}

static uint64_t fast_bytes(struct glibc *glibc)
{
	uint64_t bytes = 0;
	struct table_cell *cell;
	size_t iterator = 0;

	glibc_walk_fastbins(glibc);
	while (table_next(&glibc->fast, &iterator, &cell))
		bytes += cell->value;
	return bytes;
}

int glibc_totals(struct glibc *glibc, size_t max_steps, struct glibc_totals *ret,
		 struct fault *reterr_fault)
{
	_cleanup_free_ struct walk *walk = malloc(sizeof(*walk));
	struct glibc_totals totals = {.arenas = glibc->n_arenas};

	if (!walk)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, NULL);
	walk->glibc = glibc;
	walk->n = walk->steps = 0;
	walk->max_steps = max_steps;
	walk->free_bytes = 0;
	walk->complete = true;
	for (size_t i = 0; i < glibc->n_arenas; i++) {
		totals.system_bytes += glibc->arenas[i].system_bytes;
		totals.top_bytes += glibc->arenas[i].top_bytes;
		walk_arena(walk, &glibc->arenas[i]);
	}
	walk_all(walk);
	totals.free_bytes = walk->free_bytes + totals.top_bytes + fast_bytes(glibc);
	totals.free_complete = walk->complete && !glibc->fastbins_unwalked;
	if (totals.free_bytes > totals.system_bytes)
		return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION, glibc->main_arena,
				 "bins");
	totals.in_use_bytes = totals.system_bytes - totals.free_bytes;
	if (glibc->sbrk_base_place)
		totals.has_mapped = memory_read_u64(glibc->memory, glibc->sbrk_base_place - 16,
						    &totals.mapped_bytes, NULL) == 0;
	*ret = totals;
	return 0;
}
