/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reads the pools of a census: headers first, all of them in a few calls; then
 * the blocks of those that are neither full nor empty, whole pools in batches,
 * walking their free lists in the copies.  A pool's copy is judged by the
 * header that was read with it.
 *
 * Only what pymalloc has written is read: a pool's pages beyond its last carved
 * block may never have been touched, and would count as absent.
 */
#include "cpython/census.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define POOL_BATCH 512 /* pools of one call */
#define POOL_TRIES 3   /* looks at a pool that changes under the reader */
#define POOL_SIZE_MAX (64u << 10)
#define LINK_BYTES 8 /* of a free block, to the next one */

struct pool_header {
	uint32_t count;	    /* live blocks */
	uint64_t freeblock; /* head of the free list */
	uint32_t size_class;
	uint32_t nextoffset; /* behind the last carved block */
};

static bool header_parse(const struct layout *layout, struct bytes head, struct pool_header *ret)
{
	return bytes_read(head, layout->pool_count, &ret->count, sizeof(ret->count)) &&
	       bytes_read(head, layout->pool_freeblock, &ret->freeblock, sizeof(ret->freeblock)) &&
	       bytes_read(head, layout->pool_szidx, &ret->size_class, sizeof(ret->size_class)) &&
	       bytes_read(head, layout->pool_nextoffset, &ret->nextoffset, sizeof(ret->nextoffset));
}

/* Whether the header of a pool that holds live blocks makes sense. */
static bool header_plausible(const struct pool_header *header, uint32_t pool_size)
{
	uint32_t size;

	if (header->size_class >= PYMALLOC_CLASSES_MAX)
		return false;
	size = class_bytes(header->size_class);
	return header->nextoffset >= POOL_HEADER_BYTES + size && header->nextoffset <= pool_size &&
	       (header->nextoffset - POOL_HEADER_BYTES) % size == 0 &&
	       header->count <= (header->nextoffset - POOL_HEADER_BYTES) / size;
}

/* Takes what a header alone tells. */
static void pool_set_header(struct census_pool *pool, const struct pool_header *header,
			    uint32_t pool_size)
{
	uint32_t size;

	*pool = (struct census_pool){.address = pool->address, .state = POOL_EMPTY};
	if (header->count == 0)
		return;
	pool->state = POOL_UNREAD;
	if (!header_plausible(header, pool_size))
		return;
	size = class_bytes(header->size_class);
	pool->size_class = (uint8_t)header->size_class;
	pool->n_carved = (uint16_t)((header->nextoffset - POOL_HEADER_BYTES) / size);
	pool->n_live = (uint16_t)header->count;
	pool->state =
		pool->n_live == pool->n_carved && !header->freeblock ? POOL_FULL : POOL_COUNTED;
}

/* How much of a pool has surely been written: up to the link in its last carved block. */
static size_t pool_written_bytes(const struct census_pool *pool)
{
	return POOL_HEADER_BYTES + (size_t)(pool->n_carved - 1) * class_bytes(pool->size_class) +
	       LINK_BYTES;
}

static int words_reserve(struct census *census, size_t n)
{
	size_t max = census->max_words ? census->max_words * 2 : 1024;
	uint64_t *bits;

	if (census->n_words + n <= census->max_words)
		return 0;
	if (census->n_words + n > UINT32_MAX)
		return -ENOMEM;
	while (max < census->n_words + n)
		max *= 2;
	bits = reallocarray(census->bits, max, sizeof(*bits));
	if (!bits)
		return -ENOMEM;
	census->bits = bits;
	census->max_words = max;
	return 0;
}

/* Clears the bits of the free list's blocks; false: it leaves the pool, or comes to no end. */
static bool free_list_walk(const struct census_pool *pool, uint64_t *bits, uint64_t freeblock,
			   struct bytes copy, uint32_t *ret_n)
{
	uint32_t size = class_bytes(pool->size_class), n = 0;

	while (freeblock) {
		uint64_t offset = freeblock - pool->address - POOL_HEADER_BYTES;
		uint64_t block = offset / size;

		if (offset % size || block >= pool->n_carved ||
		    !(bits[block / 64] >> block % 64 & 1))
			return false;
		bits[block / 64] &= ~(1ull << block % 64);
		n++;
		if (!bytes_read(copy, POOL_HEADER_BYTES + offset, &freeblock, sizeof(freeblock)))
			return false;
	}
	*ret_n = n;
	return true;
}

/* Maps a COUNTED pool from its copy; TORN where count and free list disagree. -ENOMEM. */
static int pool_map(struct census *census, struct census_pool *pool, uint64_t freeblock,
		    struct bytes copy)
{
	size_t n_words = (pool->n_carved + 63u) / 64;
	uint64_t *bits;
	uint32_t n_free;

	if (words_reserve(census, n_words) < 0)
		return -ENOMEM;
	bits = census->bits + census->n_words;
	memset(bits, 0xff, n_words * sizeof(*bits));
	if (pool->n_carved % 64)
		bits[n_words - 1] = (1ull << pool->n_carved % 64) - 1;
	if (!free_list_walk(pool, bits, freeblock, copy, &n_free) ||
	    pool->n_live + n_free != pool->n_carved) {
		pool->state = POOL_TORN;
		return 0;
	}
	pool->state = POOL_MAPPED;
	pool->words = (uint32_t)census->n_words;
	census->n_words += n_words;
	return 0;
}

/* Judges a pool by its copy, header included. It is left COUNTED where more has to be read. */
static int pool_take(struct census *census, const struct layout *layout, struct census_pool *pool,
		     struct bytes copy)
{
	struct pool_header header;

	if (!header_parse(layout, copy, &header))
		return 0;
	pool_set_header(pool, &header, census->pool_size);
	if (pool->state != POOL_COUNTED || copy.size < pool_written_bytes(pool))
		return 0;
	return pool_map(census, pool, header.freeblock, copy);
}

struct pool_batch {
	struct memory_piece pieces[POOL_BATCH];
	struct census_pool *pools[POOL_BATCH];
	uint8_t *buffer; /* max times stride bytes */
	size_t stride, n, max;
};

/* For at most n_pools of stride bytes each. */
static int batch_init(struct pool_batch *batch, size_t stride, size_t n_pools)
{
	batch->stride = stride;
	batch->n = 0;
	batch->max = n_pools < POOL_BATCH ? n_pools + 1 : POOL_BATCH;
	batch->buffer = malloc(batch->max * stride);
	return batch->buffer ? 0 : -ENOMEM;
}

static void batch_done(struct pool_batch *batch)
{
	free(batch->buffer);
}

static void batch_add(struct pool_batch *batch, struct census_pool *pool, size_t size)
{
	batch->pieces[batch->n] = (struct memory_piece){
		.address = pool->address,
		.buffer = batch->buffer + batch->n * batch->stride,
		.size = size,
	};
	batch->pools[batch->n++] = pool;
}

static struct bytes batch_copy(const struct pool_batch *batch, size_t i)
{
	return (struct bytes){batch->pieces[i].buffer, batch->pieces[i].size};
}

static void batch_read_headers(struct census *census, struct memory *memory,
			       const struct layout *layout, struct pool_batch *batch)
{
	struct pool_header header;

	memory_read_pieces(memory, batch->pieces, batch->n);
	for (size_t i = 0; i < batch->n; i++)
		if (!batch->pieces[i].error && header_parse(layout, batch_copy(batch, i), &header))
			pool_set_header(batch->pools[i], &header, census->pool_size);
	batch->n = 0;
}

/* marks: a bit a pool; NULL: all. */
static bool is_marked(const uint64_t *marks, size_t i)
{
	return !marks || (marks[i / 64] >> i % 64 & 1);
}

static int read_headers(struct census *census, struct memory *memory, const struct layout *layout,
			const uint64_t *marks)
{
	__attribute__((cleanup(batch_done))) struct pool_batch batch;
	int error = batch_init(&batch, POOL_HEADER_BYTES, census->n_pools);

	if (error < 0)
		return error;
	for (size_t i = 0; i < census->n_pools; i++) {
		if (!is_marked(marks, i))
			continue;
		census->pools[i].state = POOL_UNREAD;
		batch_add(&batch, &census->pools[i], POOL_HEADER_BYTES);
		if (batch.n == batch.max)
			batch_read_headers(census, memory, layout, &batch);
	}
	batch_read_headers(census, memory, layout, &batch);
	return 0;
}

static int batch_read_blocks(struct census *census, struct memory *memory,
			     const struct layout *layout, struct pool_batch *batch)
{
	int error = 0;

	memory_read_pieces(memory, batch->pieces, batch->n);
	for (size_t i = 0; i < batch->n && !error; i++) {
		if (batch->pieces[i].error)
			batch->pools[i]->state = POOL_PARTLY_READ;
		else
			error = pool_take(census, layout, batch->pools[i], batch_copy(batch, i));
	}
	batch->n = 0;
	return error;
}

static bool pool_wants_blocks(const struct census_pool *pool)
{
	return pool->state == POOL_COUNTED || pool->state == POOL_TORN;
}

/* One look at all pools whose blocks are not known yet. */
static int read_blocks(struct census *census, struct memory *memory, const struct layout *layout,
		       const uint64_t *marks, struct pool_batch *batch)
{
	int error = 0;

	for (size_t i = 0; i < census->n_pools && !error; i++) {
		struct census_pool *pool = &census->pools[i];

		if (!is_marked(marks, i) || !pool_wants_blocks(pool))
			continue;
		batch_add(batch, pool, pool_written_bytes(pool));
		if (batch->n == batch->max)
			error = batch_read_blocks(census, memory, layout, batch);
	}
	return error ? error : batch_read_blocks(census, memory, layout, batch);
}

static size_t count_wanting(const struct census *census, const uint64_t *marks)
{
	size_t n = 0;

	for (size_t i = 0; i < census->n_pools; i++)
		n += is_marked(marks, i) && pool_wants_blocks(&census->pools[i]);
	return n;
}

static int read_all_blocks(struct census *census, struct memory *memory,
			   const struct layout *layout, const uint64_t *marks)
{
	__attribute__((cleanup(batch_done))) struct pool_batch batch = {.n = 0};
	int error = batch_init(&batch, census->pool_size, count_wanting(census, marks));

	for (unsigned i = 0; i < POOL_TRIES && !error; i++)
		error = read_blocks(census, memory, layout, marks, &batch);
	return error;
}

int census_read_marked(struct census *census, struct memory *memory, const struct layout *layout,
		       const uint64_t *headers, const uint64_t *blocks)
{
	int error;

	if (census->pool_size > POOL_SIZE_MAX)
		return -EBADMSG;
	error = read_headers(census, memory, layout, headers);
	if (!error && blocks)
		error = read_all_blocks(census, memory, layout, blocks);
	return error;
}

static void count_pool(struct census_totals *totals, struct census_pool *pool, bool without_blocks)
{
	if (pool->state == POOL_EMPTY)
		return;
	/* It grew, or changed its class, at each look. */
	if (pool->state == POOL_COUNTED && !without_blocks)
		pool->state = POOL_TORN;
	totals->pools++;
	totals->pools_torn += pool->state == POOL_TORN;
	totals->pools_unread += pool->state == POOL_UNREAD || pool->state == POOL_PARTLY_READ;
	totals->live_blocks += pool->n_live;
	totals->live_bytes += (uint64_t)pool->n_live * class_bytes(pool->size_class);
	totals->class_blocks[pool->size_class] += pool->n_live;
}

int census_read_pools(struct census *census, struct memory *memory, const struct layout *layout,
		      bool without_blocks)
{
	int error;

	if (census->pool_size > POOL_SIZE_MAX)
		return -EBADMSG;
	error = read_headers(census, memory, layout, NULL);
	if (!error && !without_blocks)
		error = read_all_blocks(census, memory, layout, NULL);
	for (size_t i = 0; i < census->n_pools && !error; i++)
		count_pool(&census->totals, &census->pools[i], without_blocks);
	return error;
}
