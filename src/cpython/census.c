/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What a census answers. */
#include "cpython/census.h"

#include <errno.h>
#include <stdlib.h>

void census_free(struct census *census)
{
	if (!census)
		return;
	free(census->arenas);
	free(census->pools);
	free(census->bits);
	free(census);
}

const struct census_totals *census_totals(const struct census *census)
{
	return &census->totals;
}

static const struct census_arena *arena_of(const struct census *census, uint64_t address)
{
	size_t low = 0, high = census->n_arenas;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct census_arena *arena = &census->arenas[middle];

		if (address < arena->address)
			high = middle;
		else if (address - arena->address >= arena->size_bytes)
			low = middle + 1;
		else
			return arena;
	}
	return NULL;
}

bool census_in_arena(const struct census *census, uint64_t address)
{
	return arena_of(census, address) != NULL;
}

/* NULL: in no pool that was carved so far. */
static const struct census_pool *pool_of(const struct census *census,
					 const struct census_arena *arena, uint64_t address)
{
	uint64_t index;

	if (address < arena->pools_address)
		return NULL;
	index = (address - arena->pools_address) / census->pool_size;
	return index < arena->n_pools ? &census->pools[arena->first_pool + index] : NULL;
}

uint32_t census_pool_index(const struct census *census, uint64_t address)
{
	const struct census_arena *arena = arena_of(census, address);
	const struct census_pool *pool = arena ? pool_of(census, arena, address) : NULL;

	return pool ? (uint32_t)(pool - census->pools) : UINT32_MAX;
}

static enum census_answer block_answer(const struct census *census, const struct census_pool *pool,
				       uint32_t block)
{
	switch ((enum pool_state)pool->state) {
	case POOL_FULL:
		return CENSUS_LIVE;
	case POOL_MAPPED:
		return census_bit(census, pool, block) ? CENSUS_LIVE : CENSUS_DEAD;
	case POOL_EMPTY:
		return CENSUS_DEAD;
	default:
		return CENSUS_UNREAD;
	}
}

enum census_answer census_block(const struct census *census, uint64_t address, uint64_t *ret_start,
				uint64_t *ret_size_bytes)
{
	const struct census_arena *arena = arena_of(census, address);
	const struct census_pool *pool = arena ? pool_of(census, arena, address) : NULL;
	uint64_t start = 0, size = 0;
	enum census_answer answer = arena ? CENSUS_DEAD : CENSUS_OUTSIDE;

	if (pool && pool->state == POOL_UNREAD) {
		answer = CENSUS_UNREAD;
	} else if (pool && address - pool->address >= POOL_HEADER_BYTES) {
		uint32_t bytes = class_bytes(pool->size_class);
		uint32_t block = (uint32_t)(address - pool->address - POOL_HEADER_BYTES) / bytes;

		if (block < pool->n_carved) {
			answer = block_answer(census, pool, block);
			start = pool->address + POOL_HEADER_BYTES + (uint64_t)block * bytes;
			size = bytes;
		}
	}
	if (ret_start)
		*ret_start = start;
	if (ret_size_bytes)
		*ret_size_bytes = size;
	return answer;
}

static int pool_live_visit(const struct census *census, const struct census_pool *pool,
			   int (*visit)(uint64_t address, uint64_t size_bytes, void *context),
			   void *context)
{
	uint32_t bytes = class_bytes(pool->size_class);
	uint64_t address = pool->address + POOL_HEADER_BYTES;
	int result = 0;

	for (uint32_t i = 0; i < pool->n_carved && !result; i++, address += bytes)
		if (block_answer(census, pool, i) == CENSUS_LIVE)
			result = visit(address, bytes, context);
	return result;
}

int census_live_visit(const struct census *census,
		      int (*visit)(uint64_t address, uint64_t size_bytes, void *context),
		      void *context)
{
	int result = 0;

	for (size_t i = 0; i < census->n_pools && !result; i++)
		result = pool_live_visit(census, &census->pools[i], visit, context);
	return result;
}

int census_pool_addresses(const struct census *census, uint64_t **ret, size_t *ret_n)
{
	uint64_t *addresses = calloc(census->n_pools + 1, sizeof(*addresses));

	if (!addresses)
		return -ENOMEM;
	for (size_t i = 0; i < census->n_pools; i++)
		addresses[i] = census->pools[i].address;
	*ret = addresses;
	*ret_n = census->n_pools;
	return 0;
}

int census_arenas_visit(const struct census *census,
			int (*visit)(uint64_t address, uint64_t size_bytes, void *context),
			void *context)
{
	int result = 0;

	for (size_t i = 0; i < census->n_arenas && !result; i++)
		result = visit(census->arenas[i].address, census->arenas[i].size_bytes, context);
	return result;
}
