/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Threads' caches and fastbins: chunks in them look in use.  Those of caches
 * carry a key in their second word: one number of the process since glibc 2.34,
 * the cache's address up to 2.33.  It is learned from the main thread's cache,
 * which lies in the main heap.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/glibc_private.h"

#define PIECE_BYTES (256u << 10)
#define LEARN_BYTES_MAX (32u << 20) /* of the heap, where a cache is looked for */
#define SMALL_BINS 64		    /* of a cache: bin i is of chunks of 16 * (i + 2) bytes */
#define WITNESSES_MAX 16
#define FAST_STEPS_MAX 65536 /* chunks of fastbins of one round */

/* tcache_perthread_struct: its chunk, and where in it the lists' heads are. */
static const struct {
	uint32_t chunk_bytes, entries_offset;
} shapes[] = {
	{0x290, 64 * 2}, /* 2.30 to 2.41: counts of 16 bits */
	{0x300, 76 * 2}, /* 2.42 on: and 12 bins of larger chunks */
	{0x250, 64},	 /* 2.26 to 2.29: counts of 8 bits */
};

struct witness {
	uint64_t size, link, key; /* words before and in a cached chunk */
	uint64_t address;	  /* of what was given out */
};

static bool in_main_heap(const struct glibc *glibc, uint64_t address)
{
	return address >= glibc->main_start && address < glibc->arenas[0].top;
}

/* The cached chunks that the lists' heads name: false where one is not of its list's size. */
static bool witnesses_read(struct glibc *glibc, const uint8_t *entries, struct witness *ret,
			   size_t *ret_n)
{
	size_t n = 0;

	for (unsigned i = 0; i < SMALL_BINS && n < WITNESSES_MAX; i++) {
		uint64_t address, words[3];

		memcpy(&address, entries + i * 8, sizeof(address));
		if (!address)
			continue;
		if (address % CHUNK_ALIGN || !in_main_heap(glibc, address) ||
		    memory_read(glibc->memory, address - 8, words, sizeof(words), NULL) < 0 ||
		    chunk_bytes(words[0]) != (i + 2) * 16u)
			return false;
		ret[n++] = (struct witness){words[0], words[1], words[2], address};
	}
	*ret_n = n;
	return true;
}

/* The word that most of them have for a key; 0: none has the majority. */
static uint64_t majority_key(const struct witness *witnesses, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t same = 0;

		for (size_t k = 0; k < n; k++)
			same += witnesses[k].key == witnesses[i].key;
		if (2 * same > n)
			return witnesses[i].key;
	}
	return 0;
}

static bool link_plausible(const struct glibc *glibc, uint64_t link)
{
	return !link || (link % CHUNK_ALIGN == 0 && in_main_heap(glibc, link));
}

static bool learn_from(struct glibc *glibc, uint64_t cache, const uint8_t *entries,
		       uint64_t cache_bytes)
{
	struct witness witnesses[WITNESSES_MAX];
	size_t n = 0, n_hidden = 0;
	uint64_t key;

	if (!witnesses_read(glibc, entries, witnesses, &n) || n == 0)
		return false;
	key = majority_key(witnesses, n);
	if (!key)
		return false;
	for (size_t i = 0; i < n; i++)
		n_hidden += !link_plausible(glibc, witnesses[i].link) &&
			    link_plausible(glibc, witnesses[i].link ^ witnesses[i].address >> 12);
	glibc->links_hidden = 2 * n_hidden > n;
	glibc->links_known = true;
	glibc->key_is_cache = key == cache;
	glibc->key = key == cache ? 0 : key;
	glibc->cache_bytes = cache_bytes;
	return true;
}

/* Looks at the whole chunks of a piece; *at: where the first one begins, then the first behind. */
static bool learn_from_piece(struct glibc *glibc, uint64_t start, const uint8_t *bytes, size_t n,
			     uint64_t *at)
{
	while (*at + CHUNK_HEAD_BYTES <= n) {
		uint64_t word, size;

		memcpy(&word, bytes + *at + 8, sizeof(word));
		size = chunk_bytes(word);
		if (size < CHUNK_MIN_BYTES || size % CHUNK_ALIGN) {
			*at = 0;
			return false;
		}
		for (size_t i = 0; i < ARRAY_SIZE(shapes) && *at + size <= n; i++)
			if (glibc_is_cache_size(shapes[i].chunk_bytes, size) &&
			    learn_from(glibc, start + *at + CHUNK_HEAD_BYTES,
				       bytes + *at + CHUNK_HEAD_BYTES + shapes[i].entries_offset,
				       shapes[i].chunk_bytes))
				return true;
		if (*at + size > n && size <= n)
			return false; /* whole in the next piece */
		*at += size;
	}
	return false;
}

/*
 * Up to 2.41 the cache is made by a thread's first allocation, since by its
 * first free, so that it may lie anywhere: chunk by chunk from the heap's start.
 */
void glibc_learn_cache(struct glibc *glibc)
{
	uint64_t top = glibc->arenas[0].top, start = glibc->main_start;
	_cleanup_free_ uint8_t *bytes = malloc(PIECE_BYTES);

	if (!bytes || !start)
		return;
	start = (start + CHUNK_ALIGN - 1) & ~(uint64_t)(CHUNK_ALIGN - 1);
	while (start < top && start - glibc->main_start < LEARN_BYTES_MAX) {
		size_t n = top - start < PIECE_BYTES ? (size_t)(top - start) : PIECE_BYTES;
		uint64_t at = 0;

		if (memory_read(glibc->memory, start, bytes, n, NULL) < 0 ||
		    learn_from_piece(glibc, start, bytes, n, &at) || at == 0)
			return;
		start += at;
	}
}

/* Whether links are mixed with their places, where no cache told: by what fastbins hold. */
static void learn_links(struct glibc *glibc)
{
	unsigned plain = 0, hidden = 0;

	for (size_t i = 0; i < glibc->n_arenas; i++)
		for (unsigned k = 0; k < N_FASTBINS; k++) {
			uint64_t place = glibc->arenas[i].fastbins[k] + CHUNK_HEAD_BYTES, link;

			if (place == CHUNK_HEAD_BYTES ||
			    memory_read_u64(glibc->memory, place, &link, NULL) < 0)
				continue;
			plain +=
				link == 0 || (link % CHUNK_ALIGN == 0 && (link ^ place) >> 32 == 0);
			link ^= place >> 12;
			hidden +=
				link == 0 || (link % CHUNK_ALIGN == 0 && (link ^ place) >> 32 == 0);
		}
	if (plain == hidden)
		return;
	glibc->links_hidden = hidden > plain;
	glibc->links_known = true;
}

static void walk_fastbin(struct glibc *glibc, uint64_t chunk, unsigned bin, unsigned *steps)
{
	uint64_t want = (bin + 2) * 16u;

	while (chunk) {
		uint64_t words[3]; /* prev_size, size, link */

		if (chunk % CHUNK_ALIGN || ++*steps > FAST_STEPS_MAX ||
		    memory_read(glibc->memory, chunk, words, sizeof(words), NULL) < 0 ||
		    chunk_bytes(words[1]) != want || table_has(&glibc->fast, chunk) ||
		    table_put(&glibc->fast, chunk, want) < 0) {
			glibc->fastbins_unwalked |= 1u << bin;
			return;
		}
		chunk = link_decode(glibc, chunk + CHUNK_HEAD_BYTES, words[2]);
	}
}

void glibc_walk_fastbins(struct glibc *glibc)
{
	unsigned steps = 0;

	if (glibc->fastbins_walked)
		return;
	glibc->fastbins_walked = true;
	table_clear(&glibc->fast);
	if (!glibc->links_known)
		learn_links(glibc);
	for (size_t i = 0; i < glibc->n_arenas && glibc->has_fastbins; i++)
		for (unsigned k = 0; k < N_FASTBINS; k++)
			walk_fastbin(glibc, glibc->arenas[i].fastbins[k], k, &steps);
}
