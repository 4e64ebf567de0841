/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/reconcile.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"

DEFINE_CLEANUP(struct census *, census_free)
DEFINE_CLEANUP(struct reconcile *, reconcile_free)

struct reconcile {
	struct reconcile_source source;
	struct census *baseline;
	struct census *last; /* NULL before the first round */
	struct table *freed; /* addresses given back while a census is taken; NULL outside */
	bool freed_overflow;
	bool frozen;
	uint64_t round;
	uint64_t allocations, frees; /* of pool blocks, since the baseline */
};

/* What the ledger held when the round began. */
struct look {
	struct object_look object;
	uint64_t created; /* the object's life that was looked at */
};

struct collection {
	struct reconcile *reconcile;
	uint64_t sequence; /* the round's s0 */
	struct reconcile_books *books;
	uint64_t *dead;
	size_t n_dead, max_dead;
	struct look *looks;
	size_t n_looks, max_looks;
	uint64_t parts, part; /* of all objects, which share is looked at */
};

int reconcile_new(const struct reconcile_source *source, struct reconcile **ret,
		  struct fault *reterr_fault)
{
	CLEANUP(reconcile_free) struct reconcile *reconcile = calloc(1, sizeof(*reconcile));
	int r;

	if (!reconcile)
		return -ENOMEM;
	reconcile->source = *source;
	r = census_take(source->interpreter, false, &reconcile->baseline, reterr_fault);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(reconcile);
	return 0;
}

void reconcile_free(struct reconcile *reconcile)
{
	if (!reconcile)
		return;
	census_free(reconcile->baseline);
	census_free(reconcile->last);
	table_free(reconcile->freed);
	free(reconcile);
}

void reconcile_note_free(struct reconcile *reconcile, uint64_t address)
{
	if (reconcile->freed && table_put(reconcile->freed, address, 1) < 0)
		reconcile->freed_overflow = true;
}

const struct census *reconcile_census(const struct reconcile *reconcile)
{
	return reconcile->last;
}

void reconcile_note_pool(struct reconcile *reconcile, bool given_out)
{
	if (given_out)
		reconcile->allocations++;
	else
		reconcile->frees++;
}

void reconcile_freeze(struct reconcile *reconcile)
{
	reconcile->frozen = true;
}

static int drain(struct reconcile *reconcile)
{
	if (!reconcile->source.drain)
		return 0;
	return reconcile->source.drain(reconcile->source.context);
}

/* Was the interpreter still whole when this is asked? What was read before is then too. */
static int check_whole(const struct reconcile *reconcile, struct fault *reterr_fault)
{
	bool finalizing;
	int r;

	r = interpreter_is_finalizing(reconcile->source.interpreter, &finalizing, reterr_fault);
	if (r == -ENOENT)
		return 0;
	return r == 0 && finalizing ? -ECANCELED : r;
}

/* The pools as they are now, and the records up to then. */
static int take_census(struct reconcile *reconcile, struct census **ret,
		       struct fault *reterr_fault)
{
	CLEANUP(census_free) struct census *census = NULL;
	int r;

	r = table_new(RECONCILE_FREED_MAX, &reconcile->freed);
	if (r < 0)
		return r;
	reconcile->freed_overflow = false;
	r = census_take(reconcile->source.interpreter, false, &census, reterr_fault);
	if (r < 0)
		return r;
	r = check_whole(reconcile, reterr_fault);
	if (r < 0)
		return r;
	r = drain(reconcile);
	if (r < 0)
		return r;
	if (reconcile->frozen)
		return -ECANCELED;
	*ret = TAKE_PTR(census);
	return 0;
}

static int remember_dead(struct collection *collection, uint64_t address)
{
	uint64_t *dead;
	size_t max_dead;

	if (collection->n_dead == collection->max_dead) {
		max_dead = collection->max_dead ? collection->max_dead * 2 : 1024;
		dead = reallocarray(collection->dead, max_dead, sizeof(*dead));
		if (!dead)
			return -ENOMEM;
		collection->dead = dead;
		collection->max_dead = max_dead;
	}
	collection->dead[collection->n_dead++] = address;
	return 0;
}

/* Held, given out before the census: what do the pools say? */
static int check_held(const struct ledger_block *block, void *context)
{
	struct collection *collection = context;
	struct reconcile_books *books = collection->books;

	if (!block->pool || block->allocated > collection->sequence ||
	    block->created > collection->sequence)
		return 0;
	/* Of an elder it is only presumed to be in a pool until the pools say so. */
	if (block->elder && !block->size_bytes &&
	    census_block(collection->reconcile->last, block->address, NULL, NULL) ==
		    CENSUS_OUTSIDE)
		return 0;
	switch (census_block(collection->reconcile->last, block->address, NULL, NULL)) {
	case CENSUS_LIVE:
		books->held_checked_blocks++;
		books->held_live_blocks++;
		return 0;
	case CENSUS_DEAD:
	case CENSUS_OUTSIDE:
		books->held_checked_blocks++;
		return remember_dead(collection, block->address);
	case CENSUS_UNREAD:
		break;
	}
	return 0;
}

static int drop_dead(struct collection *collection)
{
	struct ledger *ledger = collection->reconcile->source.ledger;
	int r;

	r = ledger_blocks_visit(ledger, check_held, collection);
	if (r < 0)
		return r;
	for (size_t i = 0; i < collection->n_dead; i++)
		ledger_drop_dead(ledger, collection->dead[i], collection->sequence);
	return 0;
}

/* Live in the pools: was it born in the session, and do we hold it? */
static int check_live(uint64_t address, uint64_t size_bytes, void *context)
{
	struct collection *collection = context;
	struct reconcile *reconcile = collection->reconcile;
	struct ledger_block block;
	enum census_answer before;

	(void)size_bytes;
	before = census_block(reconcile->baseline, address, NULL, NULL);
	if (before == CENSUS_LIVE || before == CENSUS_UNREAD)
		return 0;
	if (table_has(reconcile->freed, address))
		return 0;
	collection->books->born_live_blocks++;
	if (ledger_find(reconcile->source.ledger, address, &block) == 0)
		collection->books->born_held_blocks++;
	return 0;
}

static int forget_arena(uint64_t address, uint64_t size_bytes, void *context)
{
	ledger_forget_mapping(context, address, size_bytes);
	return 0;
}

static bool is_looked_at(const struct collection *collection, const struct ledger_block *block)
{
	if (!block->object)
		return false;
	return collection->parts <= 1 ||
	       hash_u64(block->object) % collection->parts == collection->part;
}

static int count_object(const struct ledger_block *block, void *context)
{
	*(uint64_t *)context += block->object != 0;
	return 0;
}

static int collect_look(const struct ledger_block *block, void *context)
{
	struct collection *collection = context;

	if (!is_looked_at(collection, block))
		return 0;
	if (collection->n_looks == collection->max_looks)
		return 1; /* the rest waits */
	collection->looks[collection->n_looks++] = (struct look){
		.object = { .object = block->object, .type = block->type },
		.created = block->created,
	};
	return 0;
}

#define CHUNK_ALIGN 16
#define CHUNK_MIN_BYTES 32
#define CHUNK_PREV_IN_USE 1ull
#define CHUNK_MAPPED 2ull
#define CHUNK_FLAGS 7ull

/*
 * What glibc's chunk before this address holds (malloc/malloc.c, mchunk_size):
 * free lists keep small objects, none of which has a mapping of its own.  The
 * next chunk confirms it: it says that this one is in use.
 */
static bool read_chunk(const struct reconcile *reconcile, uint64_t address, uint64_t *ret_bytes)
{
	struct memory *memory = interpreter_memory(reconcile->source.interpreter);
	uint64_t word, next, size;

	if (memory_read_u64(memory, address - sizeof(word), &word, NULL) < 0)
		return false;
	size = word & ~CHUNK_FLAGS;
	if (address % CHUNK_ALIGN || size % CHUNK_ALIGN || size < CHUNK_MIN_BYTES ||
	    size > RECONCILE_CHUNK_BYTES_MAX || word & CHUNK_MAPPED ||
	    memory_read_u64(memory, address - sizeof(word) + size, &next, NULL) < 0 ||
	    !(next & CHUNK_PREV_IN_USE))
		return false;
	*ret_bytes = size - sizeof(word);
	return true;
}

static void learn_chunk(struct reconcile *reconcile, const struct ledger_block *block)
{
	uint64_t offset, bytes;

	if (type_cache_object_offset(reconcile->source.types, block->type, &offset, NULL) == 0 &&
	    read_chunk(reconcile, block->object - offset, &bytes))
		ledger_set_chunk(reconcile->source.ledger, block->object, block->object - offset,
				 bytes);
}

/*
 * A block older than the session: the creation told of the object, its type and
 * the pools, or the chunk, tell of the block.
 */
static void learn_extent(struct reconcile *reconcile, const struct ledger_block *block)
{
	uint64_t start, size_bytes;

	if (block->size_bytes)
		return;
	switch (census_block(reconcile->last, block->object, &start, &size_bytes)) {
	case CENSUS_LIVE:
		ledger_set_block(reconcile->source.ledger, block->object, start, size_bytes);
		break;
	case CENSUS_OUTSIDE:
		learn_chunk(reconcile, block);
		break;
	case CENSUS_DEAD:
	case CENSUS_UNREAD:
		break;
	}
}

static void apply_look(struct reconcile *reconcile, const struct look *look,
		       struct reconcile_books *books)
{
	struct ledger *ledger = reconcile->source.ledger;
	const struct object_look *object = &look->object;
	struct ledger_block block;

	books->looked_objects++;
	if (object->error < 0)
		books->unreadable_objects++;
	/* Gone, or another object by now: what was seen is of the past. */
	if (ledger_find(ledger, object->object, &block) < 0 || block.object != object->object ||
	    block.created != look->created)
		return;
	learn_extent(reconcile, &block);
	if (object->error < 0)
		return;
	ledger_set_parked(ledger, block.address, object->state == OBJECT_PARKED);
	if (object->state == OBJECT_PARKED)
		return;
	for (size_t i = 0; i < object->n_buffers; i++)
		ledger_adopt(ledger, object->buffers[i], object->object);
}

static int look_at_part(struct collection *collection)
{
	struct reconcile *reconcile = collection->reconcile;
	_cleanup_free_ struct object_look *objects = NULL;
	int r;

	collection->n_looks = 0;
	r = ledger_blocks_visit(reconcile->source.ledger, collect_look, collection);
	if (r < 0)
		return r;
	if (collection->n_looks == 0)
		return 0;
	objects = calloc(collection->n_looks, sizeof(*objects));
	if (!objects)
		return -ENOMEM;
	for (size_t i = 0; i < collection->n_looks; i++)
		objects[i] = collection->looks[i].object;
	objects_look(reconcile->source.types, objects, collection->n_looks);
	r = drain(reconcile);
	if (r < 0)
		return r;
	if (reconcile->frozen) /* some may have been freed before they were looked at */
		return 0;
	for (size_t i = 0; i < collection->n_looks; i++) {
		collection->looks[i].object = objects[i];
		apply_look(reconcile, &collection->looks[i], collection->books);
	}
	return 0;
}

static int look_at_objects(struct collection *collection, bool complete)
{
	struct reconcile *reconcile = collection->reconcile;
	uint64_t n_objects = 0;
	int r;

	ledger_blocks_visit(reconcile->source.ledger, count_object, &n_objects);
	collection->parts = n_objects / RECONCILE_LOOKS_MAX + 1;
	collection->max_looks = RECONCILE_LOOKS_MAX + RECONCILE_LOOKS_MAX / 8;
	collection->looks = calloc(collection->max_looks, sizeof(*collection->looks));
	if (!collection->looks)
		return -ENOMEM;
	for (uint64_t i = 0; i < (complete ? collection->parts : 1); i++) {
		collection->part = reconcile->round++ % collection->parts;
		r = look_at_part(collection);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_ownerless(const struct ledger_block *block)
{
	return !block->object && !block->owner && !block->type &&
	       (block->domain == LEDGER_MEM || block->domain == LEDGER_RAW);
}

static int find_ownerless(const struct ledger_block *block, void *context)
{
	(void)context;
	return is_ownerless(block);
}

struct elders {
	struct reconcile *reconcile;
	struct object_look *looks;
	size_t n, max;
};

static int remember_elder(void *context, uint64_t object, uint64_t type)
{
	struct elders *elders = context;
	struct object_look *looks;
	struct ledger_block block;

	if (ledger_find(elders->reconcile->source.ledger, object, &block) == 0)
		return 0; /* looked at already */
	if (elders->n == RECONCILE_ELDERS_MAX)
		return 1;
	if (elders->n == elders->max) {
		elders->max = elders->max ? elders->max * 2 : 1024;
		looks = reallocarray(elders->looks, elders->max, sizeof(*looks));
		if (!looks)
			return -ENOMEM;
		elders->looks = looks;
	}
	elders->looks[elders->n++] = (struct object_look){ .object = object, .type = type };
	return 0;
}

/* A buffer that grew for an object from before the session is told by that object's type. */
static void name_buffers(struct reconcile *reconcile, const struct object_look *look)
{
	struct ledger *ledger = reconcile->source.ledger;
	struct ledger_block block;

	if (look->error < 0 || look->state == OBJECT_PARKED)
		return;
	for (size_t i = 0; i < look->n_buffers; i++)
		if (ledger_find(ledger, look->buffers[i], &block) == 0 && is_ownerless(&block))
			ledger_set_raw_type(ledger, look->buffers[i], look->type);
}

static int look_at_elders(struct reconcile *reconcile)
{
	struct elders elders = { .reconcile = reconcile };
	int r;

	if (census_totals(reconcile->last)->arena_bytes > RECONCILE_ELDERS_HEAP_BYTES_MAX ||
	    !ledger_blocks_visit(reconcile->source.ledger, find_ownerless, NULL))
		return 0;
	r = heap_owners_visit(reconcile->source.types, reconcile->last, remember_elder, &elders);
	if (r >= 0) {
		objects_look(reconcile->source.types, elders.looks, elders.n);
		r = drain(reconcile);
	}
	for (size_t i = 0; i < elders.n && r >= 0 && !reconcile->frozen; i++)
		name_buffers(reconcile, &elders.looks[i]);
	free(elders.looks);
	return r < 0 ? r : 0;
}

static void fill_books(const struct reconcile *reconcile, struct reconcile_books *books)
{
	const struct census_totals *totals = census_totals(reconcile->last);
	const struct census_totals *before = census_totals(reconcile->baseline);

	books->pool_live_blocks = totals->live_blocks;
	books->pool_live_bytes = totals->live_bytes;
	books->arenas = totals->arenas;
	books->arena_bytes = totals->arena_bytes;
	books->pools_unread = totals->pools_unread;
	books->pools_torn = totals->pools_torn;
	books->pools_net_blocks = (int64_t)(totals->live_blocks - before->live_blocks);
	/* Nothing was born, nothing was missed; without pools there are no books to tell. */
	books->coverage_ratio = totals->arenas ? 1 : NAN;
	if (books->born_live_blocks)
		books->coverage_ratio =
			(double)books->born_held_blocks / (double)books->born_live_blocks;
}

static int run_round(struct collection *collection, bool complete, struct fault *reterr_fault)
{
	struct reconcile *reconcile = collection->reconcile;
	struct census *census = NULL;
	int r;

	collection->sequence = ledger_sequence(reconcile->source.ledger);
	r = take_census(reconcile, &census, reterr_fault);
	if (r < 0)
		return r;
	census_free(reconcile->last);
	reconcile->last = census;
	collection->books->seen_allocations = reconcile->allocations;
	collection->books->seen_net_blocks =
		(int64_t)(reconcile->allocations - reconcile->frees);
	r = drop_dead(collection);
	if (r < 0)
		return r;
	if (!reconcile->freed_overflow)
		census_live_visit(census, check_live, collection);
	census_arenas_visit(census, forget_arena, reconcile->source.ledger);
	r = look_at_objects(collection, complete);
	return r < 0 || !complete ? r : look_at_elders(reconcile);
}

int reconcile_run(struct reconcile *reconcile, bool complete, struct reconcile_books *ret,
		  struct fault *reterr_fault)
{
	struct reconcile_books books = { 0 };
	struct collection collection = { .reconcile = reconcile, .books = &books };
	int r;

	r = drain(reconcile);
	if (r >= 0 && reconcile->frozen)
		r = -ECANCELED;
	if (r >= 0)
		r = run_round(&collection, complete, reterr_fault);
	free(collection.dead);
	free(collection.looks);
	table_free(reconcile->freed);
	reconcile->freed = NULL;
	if (r < 0)
		return r;
	fill_books(reconcile, &books);
	*ret = books;
	return 0;
}
