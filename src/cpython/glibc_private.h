/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside glibc*.c. Offsets are of malloc/malloc.c and malloc/arena.c, glibc 2.26 to 2.43. */
#ifndef PYLEAKD_CPYTHON_GLIBC_PRIVATE_H
#define PYLEAKD_CPYTHON_GLIBC_PRIVATE_H

#include "base/table.h"
#include "cpython/glibc.h"

#define CHUNK_ALIGN 16
#define CHUNK_MIN_BYTES 32
#define CHUNK_HEAD_BYTES 16 /* prev_size, size: what was given out lies behind */
#define CHUNK_PREV_IN_USE 1ull
#define CHUNK_MAPPED 2ull
#define CHUNK_NON_MAIN 4ull
#define CHUNK_FLAGS 7ull
#define GLIBC_PAGE_BYTES 4096

#define N_BINS 127 /* 1 is the unsorted one; pairs of pointers */
#define BIN_BYTES 16
/* From the first bin on. */
#define BINS_TOP (-16)
#define BINS_NEXT (N_BINS * BIN_BYTES + 16) /* behind binmap */
#define BINS_SYSTEM (BINS_NEXT + 24)	    /* next_free, attached_threads */
#define BINS_MAX_SYSTEM (BINS_SYSTEM + 8)
#define BINS_END (BINS_MAX_SYSTEM + 8)
#define N_FASTBINS 10
#define FASTBINS_OFFSET 16 /* mutex, flags, have_fastchunks (2.27 on; before: 8) */
#define TOP_WITH_FASTBINS (FASTBINS_OFFSET + N_FASTBINS * 8)

/* heap_info: of arenas other than the main one. */
#define HEAP_MAX_BYTES (64ull << 20) /* 2 * DEFAULT_MMAP_THRESHOLD_MAX, and their alignment */

#define GLIBC_ARENAS_MAX 4096

struct glibc_arena {
	uint64_t address;
	uint64_t top, top_bytes;
	uint64_t system_bytes;
	uint64_t fastbins[N_FASTBINS];
	uint64_t bins[2 * N_BINS];
};

struct glibc {
	struct memory *memory;
	uint64_t main_arena;
	uint32_t bins_offset;	  /* in an arena */
	uint64_t sbrk_base_place; /* in mp_; 0: not found */
	bool has_fastbins;

	/* How threads' caches mark their chunks. */
	bool has_cache;	      /* false: switched off */
	uint64_t key;	      /* 2.34 on: one of the process; 0: not known so far */
	bool key_is_cache;    /* up to 2.33: the address of the thread's cache */
	uint64_t cache_bytes; /* of a cache's own chunk */
	bool links_known;
	bool links_hidden; /* 2.32 on: links are mixed with their places */

	/* Of the round. */
	struct glibc_arena *arenas; /* the main one first */
	size_t n_arenas, max_arenas;
	uint64_t main_start;	    /* of the main heap, if it is in one piece */
	uint32_t fastbins_unwalked; /* a bit each, of any arena */
	bool fastbins_walked;
	struct table fast; /* chunks in fastbins → bytes */
};

static inline uint64_t chunk_bytes(uint64_t size_word)
{
	return size_word & ~CHUNK_FLAGS;
}

/* A remainder that is too small for a chunk stays with the one before. */
static inline bool glibc_is_cache_size(uint64_t cache_bytes, uint64_t size)
{
	return size == cache_bytes || size == cache_bytes + CHUNK_ALIGN;
}

static inline uint64_t link_decode(const struct glibc *glibc, uint64_t place, uint64_t word)
{
	return glibc->links_hidden ? word ^ place >> 12 : word;
}

/* Finds out how threads' caches mark their chunks, from the main heap's first chunks. */
void glibc_learn_cache(struct glibc *glibc);

/* All chunks of fastbins, into glibc->fast; what could not be walked is marked. */
void glibc_walk_fastbins(struct glibc *glibc);

#endif
