/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A round of looks: pools first, then what lies in the blocks that are
 * allocated, then the buffers of what lives.  The pools are read before the
 * objects, so an object that dies between the two shows pymalloc's link, or 0,
 * in place of its count: what looks dead in an allocated block is looked at
 * once more.
 */
#include "cpython/liveness.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/liveness_private.h"

#define LOOK_BATCH 512 /* objects of one call */
#define LOOK_BYTES (OBJECT_BEFORE_BYTES + OBJECT_HEAD_BYTES)
#define RAW_BYTES (LIVENESS_WORDS * sizeof(uint64_t))

DEFINE_CLEANUP(struct census *, census_free)
DEFINE_CLEANUP(struct liveness *, liveness_free)

struct look_batch {
	struct memory_piece pieces[LOOK_BATCH];
	struct liveness_look *looks[LOOK_BATCH];
	uint64_t blocks[LOOK_BATCH]; /* where each one's begins; 0: not known */
	size_t n;
	uint8_t buffer[LOOK_BATCH][LOOK_BYTES];
};

/* Looks by number, and objects_look()'s part of them. */
struct owners {
	struct liveness_look **looks;
	size_t n;
};

static void owners_done(struct owners *owners)
{
	free(owners->looks);
}

int liveness_new_in(struct memory *memory, const struct layout *layout,
		    const struct interpreter_arenas *states, size_t n_states,
		    struct type_cache *types, struct liveness **ret)
{
	struct liveness *liveness = calloc(1, sizeof(*liveness));

	if (!liveness)
		return -ENOMEM;
	liveness->states = states;
	liveness->n_states = n_states;
	liveness->memory = memory;
	liveness->layout = layout;
	liveness->types = types;
	*ret = liveness;
	return 0;
}

int liveness_new(const struct interpreter *interpreter, struct type_cache *types,
		 struct liveness **ret)
{
	int error = liveness_new_in(interpreter_memory(interpreter),
				    interpreter_layout(interpreter), NULL, 0, types, ret);

	if (!error)
		(*ret)->interpreter = interpreter;
	return error;
}

void liveness_set_glibc(struct liveness *liveness, struct glibc *glibc)
{
	liveness->glibc = glibc;
}

static void round_end(struct liveness *liveness)
{
	census_free(liveness->census);
	free(liveness->headers);
	liveness->census = NULL;
	liveness->headers = NULL;
}

void liveness_free(struct liveness *liveness)
{
	if (!liveness)
		return;
	round_end(liveness);
	free(liveness);
}

static int round_begin(struct liveness *liveness, struct fault *reterr_fault)
{
	int error;

	if (liveness->interpreter)
		error = census_arenas(liveness->interpreter, &liveness->census, reterr_fault);
	else
		error = census_arenas_in(liveness->memory, liveness->layout, liveness->states,
					 liveness->n_states, &liveness->census, reterr_fault);
	if (error < 0)
		return error;
	liveness->n_words = liveness->census->n_pools / 64 + 1;
	liveness->headers = calloc(2 * liveness->n_words, sizeof(uint64_t));
	liveness->blocks = liveness->headers + liveness->n_words;
	if (!liveness->headers)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, NULL);
	type_cache_begin_look(liveness->types);
	liveness->glibc_ready = liveness->glibc && glibc_begin_look(liveness->glibc, NULL) == 0;
	return 0;
}

static void mark(struct liveness *liveness, uint64_t address, bool whole)
{
	uint32_t pool = census_pool_index(liveness->census, address);
	uint64_t bit = 1ull << pool % 64;

	if (pool == UINT32_MAX)
		return;
	liveness->headers[pool / 64] |= bit;
	if (whole)
		liveness->blocks[pool / 64] |= bit;
}

static int read_marked(struct liveness *liveness)
{
	int error = census_read_marked(liveness->census, liveness->memory, liveness->layout,
				       liveness->headers, liveness->blocks);

	memset(liveness->headers, 0, 2 * liveness->n_words * sizeof(uint64_t));
	return error;
}

/* Asks for what is judged of a look: around the object, within its block; or a block's start. */
static void batch_add(struct look_batch *batch, struct liveness_look *look, uint64_t block,
		      uint64_t block_size)
{
	uint64_t from = look->address, to = look->address + OBJECT_HEAD_BYTES;

	if (look->kind != LIVENESS_OBJECT)
		to = look->address + RAW_BYTES;
	else if (block)
		from = look->address - block > OBJECT_BEFORE_BYTES
			       ? look->address - OBJECT_BEFORE_BYTES
			       : block;
	if (block && to > block + block_size)
		to = block + block_size;
	batch->pieces[batch->n] = (struct memory_piece){
		.address = from,
		.buffer = batch->buffer[batch->n],
		.size = to - from,
	};
	batch->looks[batch->n] = look;
	batch->blocks[batch->n++] = block;
}

static void judge_piece(struct liveness *liveness, struct look_batch *batch, size_t i,
			struct owners *owners)
{
	struct liveness_look *look = batch->looks[i];
	struct bytes all = {batch->pieces[i].buffer, batch->pieces[i].size};
	size_t before = look->address - batch->pieces[i].address;
	struct object_bytes bytes = {
		.before = {all.data, before},
		.object = {all.data + before, all.size - before},
	};
	bool owns = false;

	if (batch->pieces[i].error)
		return;
	if (look->kind != LIVENESS_OBJECT)
		liveness_judge_block(look, all);
	else
		liveness_judge_object(
			liveness, look, &bytes,
			batch->blocks[i] ? (int64_t)(look->address - batch->blocks[i]) : -1, &owns);
	if (owns)
		owners->looks[owners->n++] = look;
}

static void batch_judge(struct liveness *liveness, struct look_batch *batch, struct owners *owners)
{
	memory_read_pieces(liveness->memory, batch->pieces, batch->n);
	for (size_t i = 0; i < batch->n; i++)
		judge_piece(liveness, batch, i, owners);
	batch->n = 0;
}

static bool answer_has_block(const struct liveness_look *look)
{
	return look->answer == LIVENESS_LIVE || look->answer == LIVENESS_CHANGED ||
	       look->answer == LIVENESS_ZOMBIE;
}

/*
 * A freed block's first word is a link, and a dead object's count is 0: an object
 * that was looked at before and has its count, type and fingerprint still needs
 * no free list.  (A first look does: what realloc() moved leaves its count behind.)
 */
static bool needs_free_list(const struct liveness_look *look)
{
	return look->kind != LIVENESS_OBJECT || !look->has_fingerprint;
}

/* What the pools say of a look; asks for its bytes where the block is allocated. */
static void look_at_block(struct liveness *liveness, struct look_batch *batch,
			  struct liveness_look *look, bool relook)
{
	uint64_t start, size;
	enum census_answer answer = census_block(liveness->census, look->address, &start, &size);

	if (answer == CENSUS_OUTSIDE && look->kind == LIVENESS_OBJECT)
		batch_add(batch, look, 0, 0); /* of a chunk: its type has to be known */
	if (answer == CENSUS_OUTSIDE)
		return;
	if (answer == CENSUS_DEAD) {
		look->answer = LIVENESS_DEAD;
		return;
	}
	if (answer == CENSUS_UNREAD && (!start || relook || needs_free_list(look)))
		return;
	if ((look->size_bytes && look->size_bytes != size) ||
	    (look->kind != LIVENESS_OBJECT && look->address != start)) {
		look->answer = LIVENESS_REUSED;
		return;
	}
	batch_add(batch, look, start, size);
}

/* Of those in pools that could be judged. */
static void take_block(struct liveness *liveness, struct liveness_look *look)
{
	uint64_t start, size;

	look->block = 0;
	if (!answer_has_block(look))
		return;
	census_block(liveness->census, look->address, &start, &size);
	if (!start)
		return;
	look->block = start;
	look->size_bytes = size;
	look->size_class = (uint8_t)(size / POOL_ALIGNMENT - 1);
}

/* By address: neighbours share pages, and what the kernel is asked of them. */
static int compare_looks(const void *a, const void *b)
{
	const struct liveness_look *const *x = a, *const *y = b;

	return ((*x)->address > (*y)->address) - ((*x)->address < (*y)->address);
}

static void first_pass(struct liveness *liveness, struct look_batch *batch,
		       struct liveness_look *const *looks, size_t n, struct owners *owners)
{
	for (size_t i = 0; i < n; i++) {
		look_at_block(liveness, batch, looks[i], false);
		if (batch->n == LOOK_BATCH)
			batch_judge(liveness, batch, owners);
	}
	batch_judge(liveness, batch, owners);
}

static bool looks_dead(const struct liveness_look *look)
{
	return look->answer == LIVENESS_ZOMBIE || look->answer == LIVENESS_PARKED;
}

/* What lies dead in an allocated block: is it still allocated? */
static int second_pass(struct liveness *liveness, struct look_batch *batch,
		       struct liveness_look *const *looks, size_t n, struct owners *owners)
{
	size_t n_again = 0;
	int error;

	for (size_t i = 0; i < n; i++) {
		if (looks_dead(looks[i])) {
			mark(liveness, looks[i]->address, true);
			n_again++;
		}
	}
	error = n_again ? read_marked(liveness) : 0;
	for (size_t i = 0; i < n && n_again && !error; i++) {
		if (!looks_dead(looks[i]))
			continue;
		looks[i]->answer = LIVENESS_UNKNOWN;
		look_at_block(liveness, batch, looks[i], true);
		if (batch->n == LOOK_BATCH)
			batch_judge(liveness, batch, owners);
	}
	batch_judge(liveness, batch, owners);
	return error;
}

static int look_passes(struct liveness *liveness, struct look_batch *batch,
		       struct liveness_look *looks, size_t n, struct owners *owners)
{
	_cleanup_free_ struct liveness_look **sorted = malloc((n + 1) * sizeof(*sorted));
	int error;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		sorted[i] = &looks[i];
		mark(liveness, looks[i].address, needs_free_list(&looks[i]));
	}
	qsort(sorted, n, sizeof(*sorted), compare_looks);
	error = read_marked(liveness);
	if (error)
		return error;
	first_pass(liveness, batch, sorted, n, owners);
	return second_pass(liveness, batch, sorted, n, owners);
}

/* The buffers of those that live and may have any. */
static int look_at_buffers(struct liveness *liveness, const struct owners *owners)
{
	struct object_look found[LOOK_BATCH];

	for (size_t at = 0; at < owners->n; at += LOOK_BATCH) {
		size_t n = owners->n - at < LOOK_BATCH ? owners->n - at : LOOK_BATCH;

		for (size_t i = 0; i < n; i++)
			found[i] = (struct object_look){
				.object = owners->looks[at + i]->address,
				.type = owners->looks[at + i]->type,
			};
		objects_look(liveness->types, found, n);
		for (size_t i = 0; i < n; i++) {
			struct liveness_look *look = owners->looks[at + i];

			if (!answer_has_block(look))
				continue;
			look->buffers_unread = found[i].error || found[i].state != OBJECT_ALIVE ||
					       found[i].type != look->type;
			if (look->buffers_unread)
				continue;
			look->n_buffers = (uint8_t)found[i].n_buffers;
			for (size_t k = 0; k < look->n_buffers; k++)
				look->buffer_sizes[k] = 0;
			for (size_t k = 0; k < look->n_buffers; k++)
				mark(liveness, look->buffers[k] = found[i].buffers[k], false);
		}
	}
	return read_marked(liveness);
}

static void size_buffers(struct liveness *liveness, const struct owners *owners)
{
	for (size_t i = 0; i < owners->n; i++)
		for (size_t k = 0; k < owners->looks[i]->n_buffers; k++)
			census_block(liveness->census, owners->looks[i]->buffers[k], NULL,
				     &owners->looks[i]->buffer_sizes[k]);
}

static int round_look(struct liveness *liveness, struct liveness_look *looks, size_t n)
{
	__attribute__((cleanup(owners_done))) struct owners owners = {
		.looks = malloc((n + 1) * sizeof(*owners.looks)),
	};
	_cleanup_free_ struct look_batch *batch = malloc(sizeof(*batch));
	int error;

	if (!owners.looks || !batch)
		return -ENOMEM;
	batch->n = 0;
	error = look_passes(liveness, batch, looks, n, &owners);
	for (size_t i = 0; i < n && !error; i++)
		take_block(liveness, &looks[i]);
	if (!error)
		error = liveness_look_outside(liveness, looks, n);
	if (!error)
		error = look_at_buffers(liveness, &owners);
	if (error)
		return error;
	size_buffers(liveness, &owners);
	return liveness_size_outside(liveness, owners.looks, owners.n);
}

int liveness_look(struct liveness *liveness, struct liveness_look *looks, size_t n,
		  struct fault *reterr_fault)
{
	int error;

	for (size_t i = 0; i < n; i++) {
		looks[i].answer = LIVENESS_UNKNOWN;
		looks[i].block = 0;
		looks[i].n_buffers = 0;
		looks[i].buffers_unread = false;
		looks[i].size_class = LIVENESS_NO_CLASS;
	}
	error = round_begin(liveness, reterr_fault);
	if (!error) {
		error = round_look(liveness, looks, n);
		if (error)
			fault_set(reterr_fault, error, REASON_READ_FAILED, 0, "pools");
	}
	round_end(liveness);
	return error;
}
