/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Finds glibc's malloc in a process, and reads its arenas. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/glibc_private.h"

#define PF_WRITE 2
#define DATA_BYTES_MAX (16u << 20)
#define SELF_BINS_MIN 4	   /* empty bins that prove main_arena */
#define MAIN_BEFORE_MAX 24 /* words of an arena before its bins */
#define ARENA_BYTES_MAX (MAIN_BEFORE_MAX * 8 + BINS_END)
#define TCACHE_BINS_MAX 256
#define SYSTEM_BYTES_MAX (1ull << 47)

DEFINE_CLEANUP(struct glibc *, glibc_free)

/* A copy of the writable data of the library. */
struct data {
	uint64_t *words;
	size_t n;
	uint64_t address;
};

static void data_done(struct data *data)
{
	free(data->words);
}

void glibc_free(struct glibc *glibc)
{
	if (!glibc)
		return;
	free(glibc->arenas);
	table_done(&glibc->fast);
	free(glibc);
}

/* Only what the file has of it: both structures are initialized. */
static int data_read(struct memory *memory, const struct image_segment *segment, uint64_t bias,
		     struct data *ret)
{
	uint64_t start = (segment->vaddr + bias + 7) & ~7ull;
	uint64_t end = segment->vaddr + bias + segment->file_size;
	size_t size = (size_t)(end - start) & ~7ull;

	if (end < start || size > DATA_BYTES_MAX || size < BINS_END)
		return -ENOENT;
	ret->words = malloc(size);
	if (!ret->words)
		return -ENOMEM;
	ret->address = start;
	ret->n = size / 8;
	return memory_read(memory, start, ret->words, size, NULL);
}

static uint64_t data_word(const struct data *data, uint64_t address)
{
	uint64_t i = (address - data->address) / 8;

	return address >= data->address && i < data->n ? data->words[i] : 0;
}

/* An empty bin's two pointers point two words before themselves: malloc_init_state(). */
static bool bin_is_empty(const struct data *data, uint64_t address)
{
	uint64_t self = address - BIN_BYTES;

	return data_word(data, address) == self && data_word(data, address + 8) == self;
}

static bool bins_plausible(const struct data *data, uint64_t bins)
{
	uint64_t top = data_word(data, bins + BINS_TOP), next = data_word(data, bins + BINS_NEXT);
	uint64_t system = data_word(data, bins + BINS_SYSTEM);
	unsigned n_empty = 0;

	for (unsigned i = 0; i < N_BINS; i++)
		n_empty += bin_is_empty(data, bins + i * BIN_BYTES);
	return n_empty >= SELF_BINS_MIN && top && top % CHUNK_ALIGN == 0 && next && next % 8 == 0 &&
	       system && system < SYSTEM_BYTES_MAX &&
	       system <= data_word(data, bins + BINS_MAX_SYSTEM);
}

/* Does the ring of arenas that goes on at next come to this one? */
static bool ring_closes(struct memory *memory, uint64_t arena, uint64_t next, uint64_t next_offset)
{
	for (unsigned i = 0; i < GLIBC_ARENAS_MAX; i++) {
		if (next == arena)
			return true;
		if (!next || next % 8 || memory_read_u64(memory, next + next_offset, &next, NULL))
			return false;
	}
	return false;
}

/* Where the arena begins that has these bins: the ring of arenas names it. */
static int find_arena_start(struct glibc *glibc, const struct data *data, uint64_t bins)
{
	uint64_t next = data_word(data, bins + BINS_NEXT);

	for (unsigned i = 2; i <= MAIN_BEFORE_MAX; i++) {
		uint64_t start = bins - i * 8;

		if (!ring_closes(glibc->memory, start, next, bins + BINS_NEXT - start))
			continue;
		glibc->main_arena = start;
		glibc->bins_offset = i * 8;
		glibc->has_fastbins = bins + BINS_TOP - start == TOP_WITH_FASTBINS;
		return 0;
	}
	return -ENOENT;
}

/*
 * Where the main heap begins, if it is in one piece: at a page's start, unless
 * somebody had called sbrk() before (the loader does so for GLIBC_TUNABLES).
 */
static int main_heap_start(struct glibc *glibc, uint64_t top, uint64_t system, uint64_t *ret)
{
	uint64_t size;

	if (memory_read_u64(glibc->memory, top + 8, &size, NULL) < 0)
		return -EFAULT;
	*ret = top + chunk_bytes(size) - system;
	return *ret > top ? -ENOENT : 0;
}

static int find_main_arena(struct glibc *glibc, const struct data *data)
{
	uint64_t end = data->address + data->n * 8;

	for (uint64_t at = data->address; at + 16 <= end; at += 8) {
		if (!bin_is_empty(data, at))
			continue;
		/* The first ones may be taken. */
		for (unsigned i = 0; i < N_BINS; i++) {
			uint64_t bins = at - i * BIN_BYTES;

			if (bins_plausible(data, bins) && !find_arena_start(glibc, data, bins))
				return 0;
		}
	}
	return -ENOENT;
}

/* mp_ holds the heap's start, behind two sums of mapped bytes and before the caches' bounds. */
static void find_parameters(struct glibc *glibc, const struct data *data)
{
	uint64_t bins = glibc->main_arena + glibc->bins_offset, start;

	glibc->has_cache = true;
	if (main_heap_start(glibc, data_word(data, bins + BINS_TOP),
			    data_word(data, bins + BINS_SYSTEM), &start) < 0)
		return;
	for (size_t i = 2; i + 3 < data->n; i++) {
		const uint64_t *word = &data->words[i];

		if (word[0] != start || word[1] > TCACHE_BINS_MAX || word[-2] > word[-1] ||
		    word[-2] % GLIBC_PAGE_BYTES || word[-1] % GLIBC_PAGE_BYTES)
			continue;
		glibc->sbrk_base_place = data->address + i * 8;
		glibc->has_cache = word[1] != 0 && word[3] != 0; /* bins, chunks in each */
		return;
	}
}

/* A heap that was never used has a main arena without top. */
static int glibc_find(struct glibc *glibc, const struct image *image, uint64_t bias)
{
	const struct image_segment *segments;
	size_t n = image_segments(image, &segments);
	int error = -ENOENT;

	for (size_t i = 0; i < n && error == -ENOENT; i++) {
		__attribute__((cleanup(data_done))) struct data data = {0};

		if (!(segments[i].flags & PF_WRITE))
			continue;
		error = data_read(glibc->memory, &segments[i], bias, &data);
		if (!error)
			error = find_main_arena(glibc, &data);
		if (!error)
			find_parameters(glibc, &data);
	}
	return error;
}

int glibc_new(struct memory *memory, const struct image *image, uint64_t bias, struct glibc **ret,
	      struct fault *reterr_fault)
{
	CLEANUP(glibc_free) struct glibc *glibc = calloc(1, sizeof(*glibc));
	int error;

	if (!glibc)
		return -ENOMEM;
	glibc->memory = memory;
	glibc->fast = table_init(1u << 20);
	error = glibc_find(glibc, image, bias);
	if (error < 0)
		return fault_set(reterr_fault, error, REASON_NOT_FOUND, 0, "main_arena");
	error = glibc_begin_look(glibc, reterr_fault);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(glibc);
	return 0;
}

static uint64_t word_at(const uint8_t *bytes, uint64_t offset)
{
	uint64_t word;

	memcpy(&word, bytes + offset, sizeof(word));
	return word;
}

/* *ret_next: the following arena's address. */
static int arena_read(struct glibc *glibc, uint64_t address, struct glibc_arena *ret,
		      uint64_t *ret_next, struct fault *reterr_fault)
{
	uint8_t bytes[ARENA_BYTES_MAX];
	uint64_t bins = glibc->bins_offset;
	int error = memory_read(glibc->memory, address, bytes, bins + BINS_END, reterr_fault);

	if (error < 0)
		return error;
	*ret = (struct glibc_arena){
		.address = address,
		.top = word_at(bytes, bins + BINS_TOP),
		.system_bytes = word_at(bytes, bins + BINS_SYSTEM),
	};
	memcpy(ret->bins, bytes + bins, sizeof(ret->bins));
	if (glibc->has_fastbins)
		memcpy(ret->fastbins, bytes + FASTBINS_OFFSET, sizeof(ret->fastbins));
	*ret_next = word_at(bytes, bins + BINS_NEXT);
	if (!ret->top || ret->top % CHUNK_ALIGN)
		return fault_set(reterr_fault, -EAGAIN, REASON_CONTRADICTION, address, "top");
	error = memory_read_u64(glibc->memory, ret->top + 8, &ret->top_bytes, reterr_fault);
	ret->top_bytes = chunk_bytes(ret->top_bytes);
	return error;
}

static int arenas_reserve(struct glibc *glibc)
{
	size_t max = glibc->max_arenas ? 2 * glibc->max_arenas : 4;
	struct glibc_arena *arenas;

	if (glibc->n_arenas < glibc->max_arenas)
		return 0;
	arenas = reallocarray(glibc->arenas, max, sizeof(*arenas));
	if (!arenas)
		return -ENOMEM;
	glibc->arenas = arenas;
	glibc->max_arenas = max;
	return 0;
}

int glibc_begin_look(struct glibc *glibc, struct fault *reterr_fault)
{
	uint64_t next = glibc->main_arena;
	unsigned n_read = 0;
	int error = 0;

	glibc->n_arenas = 0;
	glibc->main_start = 0;
	glibc->fastbins_walked = false;
	glibc->fastbins_unwalked = 0;
	do {
		if (n_read++ == GLIBC_ARENAS_MAX)
			return fault_set(reterr_fault, -EAGAIN, REASON_TOO_LARGE, next, "arenas");
		error = arenas_reserve(glibc);
		if (error < 0)
			return fault_set(reterr_fault, error, REASON_READ_FAILED, next, NULL);
		error = arena_read(glibc, next, &glibc->arenas[glibc->n_arenas], &next,
				   reterr_fault);
		if (error == -EAGAIN && glibc->n_arenas) /* of a thread that just begins */
			continue;
		if (error < 0)
			return error;
		glibc->n_arenas++;
	} while (next != glibc->main_arena);
	if (main_heap_start(glibc, glibc->arenas[0].top, glibc->arenas[0].system_bytes,
			    &glibc->main_start) < 0)
		glibc->main_start = 0;
	if (glibc->has_cache && !glibc->key && !glibc->key_is_cache)
		glibc_learn_cache(glibc);
	return 0;
}
