/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Fuzzes the census of pymalloc's pools, and the types of what they hold.
 * Input: the layout's row, the number of arena objects, these objects, then
 * records of RECORD_BYTES: the first bytes of a pool each, given to the pools in
 * turn; the rest of a pool is zero.  A word in a record whose top byte is
 * RELATIVE means an address in its own pool.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpython/census.h"
#include "cpython/types.h"

#define ARRAY_AT 0x10000ull
#define ARENAS_MAX_HERE 4
#define POOLS_MAX_HERE 0x7f /* an arena's pools, so that a run stays short */
#define RECORD_BYTES 256
#define RELATIVE 0xaa

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heap {
	const struct layout *layout;
	uint8_t array[ARENAS_MAX_HERE * 64];
	size_t array_bytes;
	const uint8_t *records;
	size_t n_records;
};

static void check(int condition)
{
	if (!condition)
		abort();
}

static uint8_t record_byte(const struct heap *heap, uint64_t address)
{
	uint64_t pool = address & ~(uint64_t)(heap->layout->pool_size_bytes - 1), word;
	uint64_t offset = address - pool;
	const uint8_t *record;

	if (offset >= RECORD_BYTES || !heap->n_records)
		return 0;
	record = heap->records +
		 pool / heap->layout->pool_size_bytes % heap->n_records * RECORD_BYTES;
	memcpy(&word, record + offset / 8 * 8, sizeof(word));
	if (word >> 56 == RELATIVE)
		word = pool + (word & 0xffff);
	return (uint8_t)(word >> offset % 8 * 8);
}

static int heap_read(void *context, uint64_t address, void *buffer, size_t size,
		     struct fault *reterr_fault)
{
	struct heap *heap = context;
	uint64_t offset = address - ARRAY_AT;

	if (offset <= heap->array_bytes && size <= heap->array_bytes - offset) {
		memcpy(buffer, heap->array + offset, size);
		return 0;
	}
	if (address % 7 == 0) /* some reads fail */
		return fault_set(reterr_fault, -14, REASON_NOT_MAPPED, address, NULL);
	memset(buffer, 0, size);
	for (size_t i = 0; i < size && i < RECORD_BYTES; i++)
		((uint8_t *)buffer)[i] = record_byte(heap, address + i);
	return 0;
}

struct visit {
	const struct census *census;
	uint64_t blocks, bytes, last;
};

static int check_live(uint64_t address, uint64_t size_bytes, void *context)
{
	struct visit *visit = context;
	uint64_t start = 0, size = 0;

	check(address > visit->last);
	visit->last = address;
	check(census_in_arena(visit->census, address));
	check(census_block(visit->census, address + size_bytes - 1, &start, &size) == CENSUS_LIVE);
	check(start == address && size == size_bytes);
	visit->blocks++;
	visit->bytes += size_bytes;
	return 0;
}

static int check_arena(uint64_t address, uint64_t size_bytes, void *context)
{
	struct visit *visit = context;

	check(address >= visit->last && size_bytes);
	visit->last = address + size_bytes;
	check(census_in_arena(visit->census, address));
	check(census_in_arena(visit->census, address + size_bytes - 1));
	for (uint64_t at = 0; at < size_bytes; at += size_bytes / 61 + 1)
		check(census_block(visit->census, address + at, NULL, NULL) != CENSUS_OUTSIDE);
	return 0;
}

static uint64_t not_known(const struct census *census)
{
	uint64_t n = 0;

	for (size_t i = 0; i < census->n_pools; i++)
		if (census->pools[i].state != POOL_FULL && census->pools[i].state != POOL_MAPPED)
			n += census->pools[i].n_live;
	return n;
}

static void check_census(const struct census *census)
{
	const struct census_totals *totals = census_totals(census);
	struct visit live = { .census = census }, arenas = { .census = census };
	uint64_t blocks = 0, bytes = 0;

	census_live_visit(census, check_live, &live);
	census_arenas_visit(census, check_arena, &arenas);
	for (size_t i = 0; i < PYMALLOC_CLASSES_MAX; i++) {
		blocks += totals->class_blocks[i];
		bytes += totals->class_blocks[i] * 16 * (i + 1);
	}
	check(blocks == totals->live_blocks && bytes == totals->live_bytes);
	check(live.blocks + not_known(census) == totals->live_blocks);
	check(totals->pools_torn + totals->pools_unread <= totals->pools);
	check(totals->live_bytes <= totals->arena_bytes);
}

static void check_types(struct memory *memory, const struct layout *layout,
			const struct census *census)
{
	struct type_cache *types;
	struct type_count *counts;
	uint64_t objects = 0;
	size_t n;

	check(type_cache_new_in(memory, layout, 0, 64, &types) == 0);
	if (heap_types(types, census, &counts, &n, NULL) == 0) {
		for (size_t i = 0; i < n; i++)
			objects += counts[i].objects;
		check(objects == census_totals(census)->live_blocks);
		free(counts);
	}
	type_cache_free(types);
}

/* Fewer pools than an arena may say it has. */
static void tame_array(struct heap *heap)
{
	uint32_t offset = heap->layout->arena_ntotalpools, n;

	for (size_t at = 0; at + heap->layout->arena_size <= heap->array_bytes;
	     at += heap->layout->arena_size) {
		memcpy(&n, heap->array + at + offset, sizeof(n));
		n &= POOLS_MAX_HERE;
		memcpy(heap->array + at + offset, &n, sizeof(n));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct memory_source source = { .read = heap_read };
	struct heap heap = { 0 };
	struct interpreter_arenas state = { .arenas = ARRAY_AT };
	const struct layout *rows;
	struct memory *memory;
	struct census *census;
	size_t n_rows = layout_rows(&rows);

	if (size < 2)
		return 0;
	heap.layout = &rows[data[0] % n_rows];
	state.maxarenas = data[1] % (ARENAS_MAX_HERE + 1);
	heap.array_bytes = (size_t)state.maxarenas * heap.layout->arena_size;
	if (heap.array_bytes > sizeof(heap.array) || size - 2 < heap.array_bytes)
		return 0;
	memcpy(heap.array, data + 2, heap.array_bytes);
	tame_array(&heap);
	heap.records = data + 2 + heap.array_bytes;
	heap.n_records = (size - 2 - heap.array_bytes) / RECORD_BYTES;
	check(memory_new(&source, &heap, &memory) == 0);
	if (census_take_in(memory, heap.layout, &state, 1, false, &census, NULL) == 0) {
		check_census(census);
		check_types(memory, heap.layout, census);
		census_free(census);
	}
	memory_free(memory);
	return 0;
}
