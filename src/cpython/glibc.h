/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * glibc's malloc from outside: which of its chunks are in use, and what its
 * arenas hold, while the target runs.
 *
 *	chunk     prev_size | size,flags | what malloc() gave out …  | next chunk's size,flags
 *	                                 word 1: the cache's key       PREV_INUSE: this one's state
 *	main_arena   … top, last_remainder, bins[254], binmap, next, …, system_mem
 *
 * Its variables have no symbols in a stripped library.  main_arena is found by
 * its empty bins, each of which points at itself, and confirmed by the ring of
 * arenas, which closes at it, and by its top chunk, which ends at a page; mp_
 * by the heap's start that it holds (glibc 2.26 to 2.43, malloc/malloc.c).
 *
 * What its chunks don't tell: a chunk that was freed between two free ones
 * leaves its header behind in what became of the three; it looks in use until
 * somebody writes over it.  Whoever compares size and first words meets it
 * seldom.
 */
#ifndef PYLEAKD_CPYTHON_GLIBC_H
#define PYLEAKD_CPYTHON_GLIBC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "cpython/memory.h"
#include "target/image.h"

struct glibc;

/*
 * image: the C library's, or the static executable's; only needed now. memory
 * stays the caller's.  -ENOENT NOT_FOUND: another allocator, or a glibc that is
 * laid out in another way. -EAGAIN: nothing was allocated yet.
 */
int glibc_new(struct memory *memory, const struct image *image, uint64_t bias, struct glibc **ret,
	      struct fault *reterr_fault);
void glibc_free(struct glibc *glibc);

/* Reads arenas, their tops and fastbins anew; what is asked below is of the last round. */
int glibc_begin_look(struct glibc *glibc, struct fault *reterr_fault);

enum glibc_state {
	GLIBC_UNKNOWN, /* unread, or in a list that was too long to be walked */
	GLIBC_IN_USE,
	GLIBC_FREE,	/* in a bin, in a thread's cache, part of a top, or its pages are gone */
	GLIBC_NO_CHUNK, /* what stands before it is no chunk's header */
};

#define GLIBC_WORDS 3 /* the smallest chunk's usable bytes */

struct glibc_chunk {
	uint64_t address;	     /* in: as malloc() gave it out */
	uint64_t usable_bytes;	     /* out, if IN_USE */
	uint64_t words[GLIBC_WORDS]; /* out, if IN_USE: its first ones */
	uint8_t state;		     /* out: enum glibc_state */
	bool mapped;		     /* out, if IN_USE: a mapping of its own */
};
/* Does an address lie in the main heap, or in the newest one of another arena? */
bool glibc_covers(const struct glibc *glibc, uint64_t address);

/* Many at once, in few reads. -ENOMEM, and then all UNKNOWN. */
int glibc_chunks_look(struct glibc *glibc, struct glibc_chunk *chunks, size_t n);

/*
 * As mallinfo2() has it: what threads keep in their caches counts as in use.
 * Of one moment only as far as a running target lets it be.
 */
struct glibc_totals {
	uint64_t arenas;
	uint64_t system_bytes; /* all arenas took from the system */
	uint64_t free_bytes;   /* in fastbins, bins and tops */
	uint64_t top_bytes;    /* of these, in tops: what trimming can give back */
	uint64_t in_use_bytes; /* the rest */
	uint64_t mapped_bytes; /* in chunks with mappings of their own; not in system_bytes */
	bool free_complete;    /* all bins were walked: else free_bytes is a lower bound */
	bool has_mapped;
};
/* At most max_steps chunks of bins are read. */
int glibc_totals(struct glibc *glibc, size_t max_steps, struct glibc_totals *ret,
		 struct fault *reterr_fault);

#endif
