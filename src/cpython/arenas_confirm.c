/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Whether an array of arena objects, and the pools that they lead to, hold
 * together as Objects/obmalloc.c keeps them.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "cpython/arenas_private.h"

#define ARENAS_LOOKED_AT 256
#define POOLS_LOOKED_AT 16 /* in use; at least one of them must hold together */
#define POOL_BYTES_MAX 16384

struct arena {
	uint64_t address, pool_address; /* pool_address: first byte never carved off */
	uint32_t nfreepools, ntotalpools;
};

static struct arena arena_parse(const struct layout *layout, const uint8_t *object)
{
	struct arena arena;

	memcpy(&arena.address, object + layout->arena_address, sizeof(arena.address));
	memcpy(&arena.pool_address, object + layout->arena_pool_address,
	       sizeof(arena.pool_address));
	memcpy(&arena.nfreepools, object + layout->arena_nfreepools, sizeof(arena.nfreepools));
	memcpy(&arena.ntotalpools, object + layout->arena_ntotalpools, sizeof(arena.ntotalpools));
	return arena;
}

/*
 * Pools in an arena: all that fit, one less where it is not aligned.  3.15 may
 * have arenas of twice the size (--with-pymalloc-hugepages): the count says so.
 */
static int arena_judge(struct layout *layout, const struct arena *arena, uint64_t where,
		       struct fault *reterr_fault)
{
	uint64_t pool = layout->pool_size_bytes;
	uint64_t fit = layout->arena_size_bytes / pool;

	if (arena->ntotalpools == fit * 2 || arena->ntotalpools == fit * 2 - 1) {
		layout->arena_size_bytes *= 2;
		fit *= 2;
	}
	if (arena->ntotalpools != fit && arena->ntotalpools != fit - 1)
		return contradiction(where, "arena_ntotalpools", reterr_fault);
	if (arena->nfreepools > arena->ntotalpools)
		return contradiction(where, "arena_nfreepools", reterr_fault);
	if (arena->pool_address % pool || arena->pool_address < arena->address ||
	    arena->pool_address - arena->address > layout->arena_size_bytes)
		return contradiction(where, "arena_pool_address", reterr_fault);
	return 0;
}

/* Blocks on the pool's free list; -EPROTO where it leaves the pool or does not end. */
static int free_list_length(struct bytes pool, uint64_t address, uint64_t block,
			    uint32_t block_size, uint32_t *ret)
{
	uint32_t n = 0;

	while (block) {
		if (block - address < POOL_HEADER_BYTES || n > pool.size / block_size ||
		    !bytes_read(pool, block - address, &block, sizeof(block)))
			return -EPROTO;
		n++;
	}
	*ret = n;
	return 0;
}

enum pool_answer { POOL_UNUSED, POOL_GOOD, POOL_BAD };

static enum pool_answer pool_judge(const struct layout *layout, struct bytes pool,
				   uint64_t address, uint32_t arena_index)
{
	uint32_t count = 0, szidx = 0, nextoffset = 0, arenaindex = 0, free_blocks, block_size;
	uint64_t freeblock = 0;

	bytes_read(pool, layout->pool_count, &count, sizeof(count));
	bytes_read(pool, layout->pool_szidx, &szidx, sizeof(szidx));
	bytes_read(pool, layout->pool_nextoffset, &nextoffset, sizeof(nextoffset));
	bytes_read(pool, layout->pool_arenaindex, &arenaindex, sizeof(arenaindex));
	bytes_read(pool, layout->pool_freeblock, &freeblock, sizeof(freeblock));
	if (!count)
		return POOL_UNUSED;
	block_size = (szidx + 1) * POOL_ALIGNMENT;
	if (szidx >= SMALL_REQUEST_MAX_BYTES / POOL_ALIGNMENT || arenaindex != arena_index ||
	    nextoffset > pool.size + block_size || nextoffset < POOL_HEADER_BYTES ||
	    free_list_length(pool, address, freeblock, block_size, &free_blocks))
		return POOL_BAD;
	return (nextoffset - POOL_HEADER_BYTES) / block_size == count + free_blocks ? POOL_GOOD
										    : POOL_BAD;
}

/* Counts the answers of an arena's pools, until enough were looked at. */
static void pools_judge(const struct interpreter *interpreter, const struct arena *arena,
			uint32_t arena_index, size_t *n_good, size_t *n_bad)
{
	const struct layout *layout = &interpreter->layout;
	uint64_t size = layout->pool_size_bytes;
	uint64_t pool = (arena->address + size - 1) / size * size;
	uint8_t bytes[POOL_BYTES_MAX];

	for (; pool < arena->pool_address && *n_good + *n_bad < POOLS_LOOKED_AT; pool += size) {
		if (memory_read(interpreter->memory, pool, bytes, size, NULL))
			continue; /* swapped out */
		switch (pool_judge(layout, (struct bytes){ bytes, size }, pool, arena_index)) {
		case POOL_GOOD:
			(*n_good)++;
			break;
		case POOL_BAD:
			(*n_bad)++;
			break;
		case POOL_UNUSED:
			break;
		}
	}
}

int arenas_confirm(struct interpreter *interpreter, const struct interpreter_arenas *arenas,
		   size_t *ret_n_used, struct fault *reterr_fault)
{
	struct layout *layout = &interpreter->layout;
	uint32_t n = arenas->maxarenas < ARENAS_LOOKED_AT ? arenas->maxarenas : ARENAS_LOOKED_AT;
	size_t n_used = 0, n_good = 0, n_bad = 0;
	uint8_t objects[ARENAS_LOOKED_AT * ARENA_OBJECT_BYTES];
	int error = memory_read(interpreter->memory, arenas->arenas, objects,
				n * ARENA_OBJECT_BYTES, reterr_fault);

	if (error == -EFAULT)
		return contradiction(arenas->arenas, "arenas", reterr_fault);
	for (uint32_t i = 0; !error && i < n; i++) {
		struct arena arena = arena_parse(layout, objects + i * ARENA_OBJECT_BYTES);

		if (!arena.address)
			continue;
		error = arena_judge(layout, &arena, arenas->arenas + i * ARENA_OBJECT_BYTES,
				    reterr_fault);
		if (!error)
			pools_judge(interpreter, &arena, i, &n_good, &n_bad);
		n_used++;
	}
	if (!error && n_bad && !n_good)
		error = contradiction(arenas->arenas, "pool_count", reterr_fault);
	if (!error)
		*ret_n_used = n_used;
	return error;
}
