/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Fuzzes looks at objects, raw blocks and glibc's chunks on hostile memory.
 * Input: the layout's row, flags, one arena object, then the memory: it repeats
 * itself all over the address space.  A word whose top byte is RELATIVE means
 * an address in the arena, or in main_arena where the next byte is odd.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/glibc_private.h"
#include "cpython/liveness_private.h"

#define ARRAY_AT 0x10000ull
#define ARENA_AT 0x40000000ull
#define MAIN_ARENA 0x20000000ull
#define POOLS_MAX_HERE 0x1f
#define LOOKS 64
#define CHUNKS 64
#define STEPS_MAX 500
#define RELATIVE 0xaa

enum { FLAG_GLIBC = 1, FLAG_FASTBINS = 2, FLAG_KEY = 4, FLAG_KEY_IS_CACHE = 8, FLAG_HIDDEN = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct space {
	uint8_t array[64];
	size_t array_bytes;
	const uint8_t *bytes;
	size_t n_words;
	unsigned n_reads;
};

static void check(int condition)
{
	if (!condition)
		abort();
}

static uint64_t space_word(const struct space *space, uint64_t address)
{
	uint64_t word;

	memcpy(&word, space->bytes + address / 8 % space->n_words * 8, sizeof(word));
	if (word >> 56 == RELATIVE)
		word = (word >> 48 & 1 ? MAIN_ARENA : ARENA_AT) + (word & 0xfffff);
	return word;
}

static int space_read(void *context, uint64_t address, void *buffer, size_t size,
		      struct fault *reterr_fault)
{
	struct space *space = context;
	uint64_t offset = address - ARRAY_AT;

	if (offset <= space->array_bytes && size <= space->array_bytes - offset) {
		memcpy(buffer, space->array + offset, size);
		return 0;
	}
	if (++space->n_reads % 29 == 0) /* some reads fail */
		return fault_set(reterr_fault, space->n_reads % 2 ? -14 : -61, REASON_NOT_MAPPED,
				 address, NULL);
	for (size_t i = 0; i < size; i++) {
		uint64_t word = space_word(space, address + i);

		((uint8_t *)buffer)[i] = (uint8_t)(word >> (address + i) % 8 * 8);
	}
	return 0;
}

static struct glibc *invent_glibc(struct memory *memory, uint8_t flags)
{
	struct glibc *glibc = calloc(1, sizeof(*glibc));

	check(glibc != NULL);
	glibc->memory = memory;
	glibc->fast = table_init(1u << 20);
	glibc->main_arena = MAIN_ARENA;
	glibc->has_fastbins = flags & FLAG_FASTBINS;
	glibc->bins_offset = glibc->has_fastbins ? 112 : 32;
	glibc->has_cache = true;
	glibc->key = flags & FLAG_KEY ? 0x123456789abcdef0 : 0;
	glibc->key_is_cache = flags & FLAG_KEY_IS_CACHE;
	glibc->links_hidden = flags & FLAG_HIDDEN;
	glibc->cache_bytes = 0x290;
	return glibc;
}

static void check_glibc(struct glibc *glibc)
{
	struct glibc_chunk chunks[CHUNKS] = { 0 };
	struct glibc_totals totals;

	if (glibc_begin_look(glibc, NULL) < 0)
		return;
	for (size_t i = 0; i < CHUNKS; i++)
		chunks[i].address = ARENA_AT + i * 16;
	check(glibc_chunks_look(glibc, chunks, CHUNKS) == 0);
	for (size_t i = 0; i < CHUNKS; i++)
		check(chunks[i].state <= GLIBC_NO_CHUNK &&
		      (chunks[i].state != GLIBC_IN_USE || chunks[i].usable_bytes));
	if (glibc_totals(glibc, STEPS_MAX, &totals, NULL) == 0)
		check(totals.free_bytes <= totals.system_bytes);
}

static void check_look(const struct liveness_look *look)
{
	check(look->answer <= LIVENESS_UNKNOWN && look->n_buffers <= OBJECT_BUFFERS_MAX);
	if (look->answer == LIVENESS_LIVE || look->answer == LIVENESS_CHANGED)
		check(look->has_fingerprint);
	if (look->block && look->size_class != LIVENESS_NO_CLASS)
		check(look->address >= look->block &&
		      look->address < look->block + look->size_bytes);
}

static void check_looks(struct memory *memory, const struct layout *layout, struct glibc *glibc)
{
	struct interpreter_arenas state = { .arenas = ARRAY_AT, .maxarenas = 1 };
	struct liveness_look looks[LOOKS] = { 0 };
	struct liveness *liveness;
	struct type_cache *types;

	check(type_cache_new_in(memory, layout, 0, 64, &types) == 0);
	check(liveness_new_in(memory, layout, &state, 1, types, &liveness) == 0);
	liveness_set_glibc(liveness, glibc);
	for (size_t i = 0; i < LOOKS; i++)
		looks[i] = (struct liveness_look){
			.address = ARENA_AT + POOL_HEADER_BYTES + i * 16 * (i % 3 ? 1 : 700),
			.kind = (uint8_t)(i % 3),
		};
	for (unsigned i = 0; i < 2; i++)
		if (liveness_look(liveness, looks, LOOKS, NULL) == 0)
			for (size_t k = 0; k < LOOKS; k++)
				check_look(&looks[k]);
	liveness_free(liveness);
	type_cache_free(types);
}

/* The arena lies where looks are, with few pools. */
static void tame_arena(struct space *space, const struct layout *layout)
{
	uint64_t address = ARENA_AT;
	uint32_t n;

	memcpy(space->array + layout->arena_address, &address, sizeof(address));
	memcpy(&n, space->array + layout->arena_ntotalpools, sizeof(n));
	n &= POOLS_MAX_HERE;
	memcpy(space->array + layout->arena_ntotalpools, &n, sizeof(n));
	address += (uint64_t)n / 2 * layout->pool_size_bytes;
	memcpy(space->array + layout->arena_pool_address, &address, sizeof(address));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct memory_source source = { .read = space_read };
	const struct layout *rows, *layout;
	struct space space = { 0 };
	struct memory *memory;
	struct glibc *glibc = NULL;
	size_t n_rows = layout_rows(&rows);

	if (size < 2 + sizeof(space.array) + 8)
		return 0;
	layout = &rows[data[0] % n_rows];
	memcpy(space.array, data + 2, sizeof(space.array));
	space.array_bytes = layout->arena_size;
	check(space.array_bytes <= sizeof(space.array));
	tame_arena(&space, layout);
	space.bytes = data + 2 + sizeof(space.array);
	space.n_words = (size - 2 - sizeof(space.array)) / 8;
	check(memory_new(&source, &space, &memory) == 0);
	if (data[1] & FLAG_GLIBC) {
		glibc = invent_glibc(memory, data[1]);
		check_glibc(glibc);
	}
	check_looks(memory, layout, glibc);
	glibc_free(glibc);
	memory_free(memory);
	return 0;
}
