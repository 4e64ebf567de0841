/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The part of a round that lies in no pool: chunks of the C library, if it is glibc. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/liveness_private.h"

struct outside {
	struct glibc_chunk *chunks;
	struct liveness_look **looks; /* of each chunk */
	size_t n;
};

static void outside_done(struct outside *outside)
{
	free(outside->chunks);
	free(outside->looks);
}

static int outside_init(struct outside *outside, size_t max)
{
	outside->chunks = calloc(max + 1, sizeof(*outside->chunks));
	outside->looks = calloc(max + 1, sizeof(*outside->looks));
	outside->n = 0;
	return outside->chunks && outside->looks ? 0 : -ENOMEM;
}

static void outside_add(struct outside *outside, struct liveness_look *look, uint64_t address)
{
	outside->looks[outside->n] = look;
	outside->chunks[outside->n++].address = address;
}

static bool is_outside(const struct liveness *liveness, uint64_t address)
{
	return !census_in_arena(liveness->census, address);
}

/* Where the object's block begins, by its type. False: that is not known. */
static bool block_of_object(struct liveness *liveness, const struct liveness_look *look,
			    uint64_t *ret)
{
	const struct type_info *type;

	if (!look->type || type_cache_look(liveness->types, look->type, &type, NULL) < 0)
		return false;
	*ret = look->address - type->object_offset - liveness->types->debug_bytes;
	return true;
}

/* What no allocator vouches for is unknown, unless it is certainly another one. */
static void doubt(struct liveness_look *look)
{
	if (look->answer != LIVENESS_REUSED)
		look->answer = LIVENESS_UNKNOWN;
}

static void gather(struct liveness *liveness, struct liveness_look *looks, size_t n,
		   struct outside *outside)
{
	for (size_t i = 0; i < n; i++) {
		struct liveness_look *look = &looks[i];
		uint64_t block = look->address;

		if (!is_outside(liveness, look->address) || look->answer == LIVENESS_REUSED)
			continue;
		if (!liveness->glibc_ready ||
		    (look->kind == LIVENESS_OBJECT && !block_of_object(liveness, look, &block)))
			doubt(look);
		else
			outside_add(outside, look, block);
	}
}

/* A raw block is judged by its chunk's words alone. */
static void judge_raw(struct liveness_look *look, const struct glibc_chunk *chunk)
{
	struct bytes words = {(const uint8_t *)chunk->words, sizeof(chunk->words)};

	if (look->size_bytes && look->size_bytes != chunk->usable_bytes)
		look->answer = LIVENESS_REUSED;
	else
		liveness_judge_block(look, words);
}

/* It is no chunk, or none any more; one of another allocator may never have been one. */
static enum liveness_answer judge_no_chunk(const struct liveness *liveness,
					   const struct liveness_look *look)
{
	if (look->size_bytes) /* it was one */
		return LIVENESS_REUSED;
	return glibc_covers(liveness->glibc, look->address) ? LIVENESS_DEAD : LIVENESS_UNKNOWN;
}

static void judge(const struct liveness *liveness, struct liveness_look *look,
		  const struct glibc_chunk *chunk)
{
	look->block = 0;
	switch ((enum glibc_state)chunk->state) {
	case GLIBC_UNKNOWN:
		doubt(look);
		return;
	case GLIBC_FREE:
		look->answer = LIVENESS_DEAD;
		return;
	case GLIBC_NO_CHUNK:
		look->answer = judge_no_chunk(liveness, look);
		return;
	case GLIBC_IN_USE:
		break;
	}
	if (look->kind != LIVENESS_OBJECT)
		judge_raw(look, chunk);
	else if (look->size_bytes && look->size_bytes != chunk->usable_bytes)
		look->answer = LIVENESS_REUSED;
	if (look->answer != LIVENESS_LIVE && look->answer != LIVENESS_CHANGED &&
	    look->answer != LIVENESS_ZOMBIE)
		return;
	look->block = chunk->address;
	look->size_bytes = chunk->usable_bytes;
	look->size_class = LIVENESS_NO_CLASS;
}

int liveness_look_outside(struct liveness *liveness, struct liveness_look *looks, size_t n)
{
	__attribute__((cleanup(outside_done))) struct outside outside = {0};
	size_t n_outside = 0;
	int error;

	for (size_t i = 0; i < n; i++)
		n_outside += is_outside(liveness, looks[i].address);
	if (!n_outside)
		return 0;
	error = outside_init(&outside, n_outside);
	if (error < 0)
		return error;
	gather(liveness, looks, n, &outside);
	if (outside.n)
		error = glibc_chunks_look(liveness->glibc, outside.chunks, outside.n);
	for (size_t i = 0; i < outside.n && !error; i++)
		judge(liveness, outside.looks[i], &outside.chunks[i]);
	return error;
}

int liveness_size_outside(struct liveness *liveness, struct liveness_look *const *looks, size_t n)
{
	__attribute__((cleanup(outside_done))) struct outside outside = {0};
	size_t n_outside = 0, at = 0;
	int error;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < looks[i]->n_buffers; k++)
			n_outside += is_outside(liveness, looks[i]->buffers[k]);
	if (!n_outside || !liveness->glibc_ready)
		return 0;
	error = outside_init(&outside, n_outside);
	if (error < 0)
		return error;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < looks[i]->n_buffers; k++)
			if (is_outside(liveness, looks[i]->buffers[k]))
				outside_add(&outside, looks[i], looks[i]->buffers[k]);
	error = glibc_chunks_look(liveness->glibc, outside.chunks, outside.n);
	for (size_t i = 0; i < n && !error; i++)
		for (size_t k = 0; k < looks[i]->n_buffers; k++)
			if (is_outside(liveness, looks[i]->buffers[k])) {
				const struct glibc_chunk *chunk = &outside.chunks[at++];

				if (chunk->state == GLIBC_IN_USE)
					looks[i]->buffer_sizes[k] = chunk->usable_bytes;
			}
	return error;
}
