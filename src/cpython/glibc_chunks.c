/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which chunks are in use.  Their heads are read first, all of a batch in one
 * call, then what these point at: the next chunk's head, the one before where
 * it is free, and what may be a thread's cache.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/glibc_private.h"

#define CHUNK_BATCH 256
#define CHUNK_BYTES_MAX (1ull << 46)
#define CACHED_BYTES_MAX                                                                           \
	(1040 + 16) /* of a chunk, by default; 2.42's larger ones need a tunable                   \
		     */
#define FAST_BYTES_MAX ((N_FASTBINS + 1) * 16)

struct head {
	uint64_t prev_size, size;
	uint64_t words[GLIBC_WORDS];
};

/* What is read second of a chunk. */
enum { SECOND_NEXT, SECOND_PREVIOUS, SECOND_CACHE, SECONDS };

struct chunk_batch {
	struct glibc_chunk *chunks[CHUNK_BATCH];
	struct head heads[CHUNK_BATCH];
	uint64_t seconds[CHUNK_BATCH][SECONDS];
	struct memory_piece pieces[CHUNK_BATCH * SECONDS];
	int errors[CHUNK_BATCH][SECONDS];
	size_t n;
};

/* A page that malloc has written a head to is only gone if the chunk is. */
static bool head_is_gone(struct glibc *glibc, uint64_t address)
{
	struct fault fault = {0};
	struct head head;

	return memory_read(glibc->memory, address - CHUNK_HEAD_BYTES, &head, sizeof(head),
			   &fault) == -EFAULT &&
	       fault.reason == REASON_NOT_MAPPED;
}

static bool is_in_heap_of(const struct glibc_arena *arena, uint64_t address)
{
	return ((address ^ arena->top) & ~(HEAP_MAX_BYTES - 1)) == 0;
}

/* Behind the top of the heap that it lies in. */
static bool is_behind_top(const struct glibc *glibc, uint64_t chunk)
{
	const struct glibc_arena *main = &glibc->arenas[0];

	if (chunk >= main->top && chunk - main->top < main->top_bytes)
		return true;
	for (size_t i = 1; i < glibc->n_arenas; i++)
		if (is_in_heap_of(&glibc->arenas[i], chunk) && chunk >= glibc->arenas[i].top)
			return true;
	return false;
}

bool glibc_covers(const struct glibc *glibc, uint64_t address)
{
	const struct glibc_arena *main = &glibc->arenas[0];

	if (glibc->main_start && address >= glibc->main_start &&
	    address < main->top + main->top_bytes)
		return true;
	for (size_t i = 1; i < glibc->n_arenas; i++)
		if (is_in_heap_of(&glibc->arenas[i], address))
			return true;
	return false;
}

/*
 * mmap_chunk(): the mapping begins prev_size before the chunk, and ends with it;
 * in 2.43 the size leaves out the head of a chunk that does not follow.
 */
static uint8_t judge_mapped(struct glibc_chunk *chunk, const struct head *head)
{
	uint64_t at = chunk->address - CHUNK_HEAD_BYTES, size = chunk_bytes(head->size);
	uint64_t beyond = (head->prev_size + size) % GLIBC_PAGE_BYTES;

	if (head->prev_size > at || (at - head->prev_size) % GLIBC_PAGE_BYTES ||
	    (beyond && beyond != GLIBC_PAGE_BYTES - CHUNK_HEAD_BYTES) ||
	    head->size & CHUNK_NON_MAIN)
		return GLIBC_NO_CHUNK;
	chunk->mapped = true;
	chunk->usable_bytes = size - (beyond ? sizeof(uint64_t) : CHUNK_HEAD_BYTES);
	return GLIBC_IN_USE;
}

/* By the head alone: IN_USE until more is known. */
static uint8_t judge_head(struct glibc *glibc, struct glibc_chunk *chunk, const struct head *head)
{
	uint64_t size = chunk_bytes(head->size);

	if (size < CHUNK_MIN_BYTES || size % CHUNK_ALIGN || size > CHUNK_BYTES_MAX)
		return GLIBC_NO_CHUNK;
	if (head->size & CHUNK_MAPPED)
		return judge_mapped(chunk, head);
	if (is_behind_top(glibc, chunk->address - CHUNK_HEAD_BYTES))
		return GLIBC_FREE;
	if (glibc->has_cache && glibc->key && head->words[1] == glibc->key)
		return GLIBC_FREE;
	chunk->usable_bytes = size - sizeof(uint64_t);
	return GLIBC_IN_USE;
}

static void read_heads(struct glibc *glibc, struct chunk_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++)
		batch->pieces[i] = (struct memory_piece){
			.address = batch->chunks[i]->address - CHUNK_HEAD_BYTES,
			.buffer = &batch->heads[i],
			.size = sizeof(batch->heads[i]),
		};
	memory_read_pieces(glibc->memory, batch->pieces, batch->n);
	for (size_t i = 0; i < batch->n; i++) {
		struct glibc_chunk *chunk = batch->chunks[i];
		int error = batch->pieces[i].error;

		if (chunk->address % CHUNK_ALIGN || chunk->address < CHUNK_HEAD_BYTES)
			chunk->state = GLIBC_NO_CHUNK;
		else if (!error)
			chunk->state = judge_head(glibc, chunk, &batch->heads[i]);
		else if (error == -EFAULT && head_is_gone(glibc, chunk->address))
			chunk->state = GLIBC_FREE;
	}
}

/* Where the second reads of a chunk go; 0: none. */
static uint64_t second_address(const struct glibc *glibc, const struct glibc_chunk *chunk,
			       const struct head *head, unsigned second)
{
	uint64_t at = chunk->address - CHUNK_HEAD_BYTES, word = head->words[1];

	switch (second) {
	case SECOND_NEXT:
		return at + chunk_bytes(head->size) + 8;
	case SECOND_PREVIOUS:
		return head->size & CHUNK_PREV_IN_USE ? 0 : at - head->prev_size + 8;
	default:
		return glibc->key_is_cache && word && word % CHUNK_ALIGN == 0 ? word - 8 : 0;
	}
}

static void read_seconds(struct glibc *glibc, struct chunk_batch *batch)
{
	uint16_t places[CHUNK_BATCH * SECONDS];
	size_t n = 0;

	for (size_t i = 0; i < batch->n; i++) {
		const struct glibc_chunk *chunk = batch->chunks[i];

		for (unsigned k = 0; k < SECONDS; k++) {
			uint64_t address = 0;

			batch->seconds[i][k] = 0;
			batch->errors[i][k] = 0;
			if (chunk->state == GLIBC_IN_USE && !chunk->mapped)
				address = second_address(glibc, chunk, &batch->heads[i], k);
			if (!address)
				continue;
			places[n] = (uint16_t)(i * SECONDS + k);
			batch->pieces[n++] = (struct memory_piece){
				.address = address,
				.buffer = &batch->seconds[i][k],
				.size = sizeof(uint64_t),
			};
		}
	}
	memory_read_pieces(glibc->memory, batch->pieces, n);
	for (size_t i = 0; i < n; i++)
		batch->errors[places[i] / SECONDS][places[i] % SECONDS] = batch->pieces[i].error;
}

/* A freed chunk of fastbins looks in use; which are in them has to be known. */
static uint8_t judge_fast(struct glibc *glibc, const struct glibc_chunk *chunk, uint64_t size)
{
	if (!glibc->has_fastbins || size > FAST_BYTES_MAX)
		return GLIBC_IN_USE;
	glibc_walk_fastbins(glibc);
	if (table_has(&glibc->fast, chunk->address - CHUNK_HEAD_BYTES))
		return GLIBC_FREE;
	return glibc->fastbins_unwalked >> (size / 16 - 2) & 1 ? GLIBC_UNKNOWN : GLIBC_IN_USE;
}

static uint8_t judge_seconds(struct glibc *glibc, const struct glibc_chunk *chunk,
			     const struct head *head, const uint64_t *seconds, const int *errors)
{
	uint64_t size = chunk_bytes(head->size), next = seconds[SECOND_NEXT];

	if (errors[SECOND_NEXT])
		return GLIBC_UNKNOWN;
	if (chunk_bytes(next) == 0 || next & 8 || chunk_bytes(next) > CHUNK_BYTES_MAX)
		return GLIBC_NO_CHUNK;
	if (!(next & CHUNK_PREV_IN_USE))
		return GLIBC_FREE;
	/* The free chunk before has grown over this one. */
	if (!(head->size & CHUNK_PREV_IN_USE)) {
		if (errors[SECOND_PREVIOUS])
			return GLIBC_UNKNOWN;
		if (chunk_bytes(seconds[SECOND_PREVIOUS]) != head->prev_size)
			return GLIBC_FREE;
	}
	if (glibc->key_is_cache && !errors[SECOND_CACHE] && seconds[SECOND_CACHE] &&
	    glibc_is_cache_size(glibc->cache_bytes, chunk_bytes(seconds[SECOND_CACHE])))
		return GLIBC_FREE;
	if (glibc->has_cache && !glibc->key && !glibc->key_is_cache && size <= CACHED_BYTES_MAX)
		return GLIBC_UNKNOWN;
	return judge_fast(glibc, chunk, size);
}

/*
 * What another allocator gave out may look like a chunk: one is in the main heap
 * in one piece, or in a heap whose first word names an arena.
 */
static bool is_of_an_arena(struct glibc *glibc, uint64_t address)
{
	uint64_t arena;

	if (glibc_covers(glibc, address))
		return true;
	if (memory_read_u64(glibc->memory, address & ~(HEAP_MAX_BYTES - 1), &arena, NULL) < 0)
		return false;
	for (size_t i = 1; i < glibc->n_arenas; i++)
		if (glibc->arenas[i].address == arena)
			return true;
	return false;
}

static void judge_batch(struct glibc *glibc, struct chunk_batch *batch)
{
	read_heads(glibc, batch);
	read_seconds(glibc, batch);
	for (size_t i = 0; i < batch->n; i++) {
		struct glibc_chunk *chunk = batch->chunks[i];

		if (chunk->state != GLIBC_IN_USE)
			continue;
		memcpy(chunk->words, batch->heads[i].words, sizeof(chunk->words));
		if (!chunk->mapped)
			chunk->state = judge_seconds(glibc, chunk, &batch->heads[i],
						     batch->seconds[i], batch->errors[i]);
		if (!chunk->mapped && chunk->state == GLIBC_IN_USE &&
		    !is_of_an_arena(glibc, chunk->address))
			chunk->state = GLIBC_UNKNOWN;
	}
	batch->n = 0;
}

/* Those whose state is one of these bits. */
static void look_pass(struct glibc *glibc, struct chunk_batch *batch, struct glibc_chunk *chunks,
		      size_t n, unsigned states)
{
	for (size_t i = 0; i < n; i++) {
		if (!(states >> chunks[i].state & 1))
			continue;
		chunks[i].state = GLIBC_UNKNOWN;
		chunks[i].mapped = false;
		chunks[i].usable_bytes = 0;
		batch->chunks[batch->n++] = &chunks[i];
		if (batch->n == CHUNK_BATCH)
			judge_batch(glibc, batch);
	}
	judge_batch(glibc, batch);
}

/* What is not in use is looked at once more: its neighbours may have changed between two reads. */
int glibc_chunks_look(struct glibc *glibc, struct glibc_chunk *chunks, size_t n)
{
	_cleanup_free_ struct chunk_batch *batch = malloc(sizeof(*batch));

	for (size_t i = 0; i < n; i++)
		chunks[i].state = GLIBC_UNKNOWN;
	if (!batch)
		return -ENOMEM;
	batch->n = 0;
	look_pass(glibc, batch, chunks, n, 1 << GLIBC_UNKNOWN);
	look_pass(glibc, batch, chunks, n, 1 << GLIBC_FREE | 1 << GLIBC_NO_CHUNK);
	return 0;
}
