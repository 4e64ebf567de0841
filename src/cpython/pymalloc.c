/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Takes a census: the arenas of all allocator states, then their pools
 * (pools.c).  The array of arenas moves when it grows: one that does not make
 * sense, or that is another one afterwards, is read again.
 */
#include "cpython/pymalloc.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "cpython/census.h"

#define ARENA_BATCH 1024     /* struct arena_object of one read */
#define ARENA_OBJECT_MAX 128 /* sizeof(struct arena_object) is 48 */
/* 256 KiB of 4 KiB up to 3.9, 1 MiB of 16 KiB since; 2 MiB huge pages, and 1 GiB ones, in 3.15. */
#define ARENA_POOLS_MAX 65536
#define ADDRESS_MAX (1ull << 56)
#define CENSUS_TRIES 5
#define CENSUS_POOLS_MAX UINT32_MAX

DEFINE_CLEANUP(struct census *, census_free)

struct arena_object {
	uint64_t address, pool_address;
	uint32_t nfreepools, ntotalpools;
};

static bool arena_object_parse(const struct layout *layout, struct bytes object,
			       struct arena_object *ret)
{
	return bytes_read(object, layout->arena_address, &ret->address, sizeof(ret->address)) &&
	       bytes_read(object, layout->arena_pool_address, &ret->pool_address,
			  sizeof(ret->pool_address)) &&
	       bytes_read(object, layout->arena_nfreepools, &ret->nfreepools,
			  sizeof(ret->nfreepools)) &&
	       bytes_read(object, layout->arena_ntotalpools, &ret->ntotalpools,
			  sizeof(ret->ntotalpools));
}

/*
 * Where an arena's pools lie, or false: nonsense.  An arena that does not begin
 * at a pool's boundary loses one pool to alignment (new_arena of
 * Objects/obmalloc.c), so the number of pools tells its size.
 */
static bool arena_of_object(const struct arena_object *object, uint32_t pool_size,
			    struct census_arena *ret)
{
	uint64_t first = (object->address + pool_size - 1) & ~(uint64_t)(pool_size - 1);
	uint64_t carved = object->pool_address - first;
	uint32_t n_pools = object->ntotalpools + (first != object->address);

	if (object->address >= ADDRESS_MAX || object->ntotalpools == 0 ||
	    object->ntotalpools > ARENA_POOLS_MAX || object->nfreepools > object->ntotalpools)
		return false;
	if (carved % pool_size || carved / pool_size > object->ntotalpools)
		return false;
	*ret = (struct census_arena){
		.address = object->address,
		.size_bytes = (uint64_t)n_pools * pool_size,
		.pools_address = first,
		.n_pools = (uint32_t)(carved / pool_size),
	};
	return true;
}

static int census_add_arena(struct census *census, const struct census_arena *arena)
{
	struct census_arena *arenas;
	size_t n = census->n_arenas;

	if (n >= PYMALLOC_ARENAS_MAX)
		return -EAGAIN;
	if ((n & (n - 1)) == 0) { /* full: grown by doubling */
		arenas = reallocarray(census->arenas, n ? 2 * n : 1, sizeof(*arenas));
		if (!arenas)
			return -ENOMEM;
		census->arenas = arenas;
	}
	census->arenas[census->n_arenas++] = *arena;
	return 0;
}

static int census_add_objects(struct census *census, const struct layout *layout,
			      struct bytes objects, uint64_t address, struct fault *reterr_fault)
{
	int error = 0;

	for (size_t at = 0; at < objects.size && !error; at += layout->arena_size) {
		struct bytes one = {objects.data + at, layout->arena_size};
		struct arena_object object;
		struct census_arena arena;

		if (!arena_object_parse(layout, one, &object))
			return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, address,
					 "arena_object");
		if (object.address == 0)
			continue;
		if (!arena_of_object(&object, census->pool_size, &arena))
			return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION, address + at,
					 "arena_object");
		error = census_add_arena(census, &arena);
	}
	return error ? fault_set(reterr_fault, error, REASON_TOO_LARGE, address, "arenas") : 0;
}

static int census_read_state(struct census *census, struct memory *memory,
			     const struct layout *layout, const struct interpreter_arenas *state,
			     struct fault *reterr_fault)
{
	_cleanup_free_ uint8_t *buffer = NULL;
	int error = 0;

	if (layout->arena_size == 0 || layout->arena_size > ARENA_OBJECT_MAX ||
	    state->maxarenas > PYMALLOC_ARENAS_MAX)
		return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION, state->arenas,
				 "maxarenas");
	buffer = malloc((size_t)ARENA_BATCH * layout->arena_size);
	if (!buffer)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, state->arenas, NULL);
	for (uint32_t i = 0; i < state->maxarenas && !error; i += ARENA_BATCH) {
		uint32_t n =
			state->maxarenas - i < ARENA_BATCH ? state->maxarenas - i : ARENA_BATCH;
		uint64_t address = state->arenas + (uint64_t)i * layout->arena_size;
		struct bytes objects = {buffer, (size_t)n * layout->arena_size};

		error = memory_read(memory, address, buffer, objects.size, reterr_fault);
		if (!error)
			error = census_add_objects(census, layout, objects, address, reterr_fault);
	}
	return error;
}

static int arena_compare(const void *a, const void *b)
{
	const struct census_arena *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Orders the arenas and gives each its pools. -EAGAIN: two of them overlap. */
static int census_lay_out(struct census *census, struct fault *reterr_fault)
{
	uint64_t n_pools = 0, end = 0;

	if (census->n_arenas)
		qsort(census->arenas, census->n_arenas, sizeof(*census->arenas), arena_compare);
	for (size_t i = 0; i < census->n_arenas; i++) {
		struct census_arena *arena = &census->arenas[i];

		if (arena->address < end || n_pools + arena->n_pools > CENSUS_POOLS_MAX)
			return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION,
					 arena->address, "arenas");
		end = arena->address + arena->size_bytes;
		arena->first_pool = (uint32_t)n_pools;
		n_pools += arena->n_pools;
		census->totals.arenas++;
		census->totals.arena_bytes += arena->size_bytes;
	}
	census->pools = calloc(n_pools + 1, sizeof(*census->pools));
	if (!census->pools)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, NULL);
	census->n_pools = n_pools;
	for (size_t i = 0; i < census->n_arenas; i++) {
		const struct census_arena *arena = &census->arenas[i];

		for (uint32_t k = 0; k < arena->n_pools; k++)
			census->pools[arena->first_pool + k].address =
				arena->pools_address + (uint64_t)k * census->pool_size;
	}
	return 0;
}

int census_arenas_in(struct memory *memory, const struct layout *layout,
		     const struct interpreter_arenas *states, size_t n_states, struct census **ret,
		     struct fault *reterr_fault)
{
	CLEANUP(census_free) struct census *census = calloc(1, sizeof(*census));
	uint32_t pool_size = layout->pool_size_bytes;
	int error = 0;

	if (!census)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, NULL);
	if (pool_size <= POOL_HEADER_BYTES || (pool_size & (pool_size - 1)))
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, 0, "pool_size");
	census->pool_size = pool_size;
	for (size_t i = 0; i < n_states && !error; i++)
		error = census_read_state(census, memory, layout, &states[i], reterr_fault);
	if (!error)
		error = census_lay_out(census, reterr_fault);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(census);
	return 0;
}

int census_take_in(struct memory *memory, const struct layout *layout,
		   const struct interpreter_arenas *states, size_t n_states, bool without_blocks,
		   struct census **ret, struct fault *reterr_fault)
{
	CLEANUP(census_free) struct census *census = NULL;
	int error = census_arenas_in(memory, layout, states, n_states, &census, reterr_fault);

	if (error < 0)
		return error;
	error = census_read_pools(census, memory, layout, without_blocks);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_READ_FAILED, 0, "pools");
	*ret = TAKE_PTR(census);
	return 0;
}

/* Whether the arrays are where they were: what was read of them is then theirs. */
static bool states_unmoved(const struct interpreter *interpreter,
			   const struct interpreter_arenas *states, size_t n_states)
{
	_cleanup_free_ struct interpreter_arenas *now = NULL;
	size_t n;

	if (interpreter_arenas(interpreter, &now, &n, NULL) < 0 || n != n_states)
		return false;
	for (size_t i = 0; i < n; i++)
		if (now[i].arenas != states[i].arenas || now[i].maxarenas != states[i].maxarenas)
			return false;
	return true;
}

/* What census_take() reads of the pools. */
enum pools_wanted { POOLS_NONE, POOLS_HEADERS, POOLS_WHOLE };

static int census_try(const struct interpreter *interpreter, enum pools_wanted wanted,
		      struct census **ret, struct fault *reterr_fault)
{
	CLEANUP(census_free) struct census *census = NULL;
	_cleanup_free_ struct interpreter_arenas *states = NULL;
	struct memory *memory = interpreter_memory(interpreter);
	const struct layout *layout = interpreter_layout(interpreter);
	size_t n;
	int error = interpreter_arenas(interpreter, &states, &n, reterr_fault);

	if (error < 0)
		return error;
	if (wanted == POOLS_NONE)
		error = census_arenas_in(memory, layout, states, n, &census, reterr_fault);
	else
		error = census_take_in(memory, layout, states, n, wanted == POOLS_HEADERS, &census,
				       reterr_fault);
	if (error < 0)
		return error;
	if (!states_unmoved(interpreter, states, n))
		return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION, 0, "arenas");
	*ret = TAKE_PTR(census);
	return 0;
}

static int census_tries(const struct interpreter *interpreter, enum pools_wanted wanted,
			struct census **ret, struct fault *reterr_fault)
{
	int error = -EAGAIN;

	for (unsigned i = 0; i < CENSUS_TRIES && error == -EAGAIN; i++)
		error = census_try(interpreter, wanted, ret, reterr_fault);
	return error;
}

int census_take(const struct interpreter *interpreter, bool without_blocks, struct census **ret,
		struct fault *reterr_fault)
{
	return census_tries(interpreter, without_blocks ? POOLS_HEADERS : POOLS_WHOLE, ret,
			    reterr_fault);
}

int census_arenas(const struct interpreter *interpreter, struct census **ret,
		  struct fault *reterr_fault)
{
	return census_tries(interpreter, POOLS_NONE, ret, reterr_fault);
}

int census_take_share(const struct interpreter *interpreter, unsigned shift, struct census **ret,
		      struct fault *reterr_fault)
{
	CLEANUP(census_free) struct census *census = NULL;
	_cleanup_free_ uint64_t *marks = NULL;
	int error = census_arenas(interpreter, &census, reterr_fault);

	if (error < 0)
		return error;
	marks = calloc(census->n_pools / 64 + 1, sizeof(*marks));
	if (!marks)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, NULL);
	for (size_t i = 0; i < census->n_pools; i++)
		if ((hash_u64(census->pools[i].address) & ((1ull << shift % 64) - 1)) == 0)
			marks[i / 64] |= 1ull << (i % 64);
	error = census_read_marked(census, interpreter_memory(interpreter),
				   interpreter_layout(interpreter), marks, marks);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_READ_FAILED, 0, "pools");
	*ret = TAKE_PTR(census);
	return 0;
}
