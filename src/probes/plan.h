/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A probe plan: which instructions of a file to put a breakpoint on, and how
 * each one's pointer is found.  It belongs to a file (build ID) and holds no
 * absolute address; what depends on the process is elsewhere.  Pure: made of
 * an image and nothing else.
 *
 * Sites are emulated instructions only (see FACTS of docs/architecture.md);
 * those for which none was found are counted in the plan's statistics.
 */
#ifndef PYLEAKD_PROBES_PLAN_H
#define PYLEAKD_PROBES_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "pyleakd/wire.h"
#include "target/image.h"

#define PLAN_SITES_MAX 8192
#define PLAN_SITE_BYTES 16
#define PLAN_RETURN_SLOT_MAX 64 /* words */

struct plan_site {
	uint64_t vaddr;
	uint64_t offset; /* in the file, as the kernel wants it */
	int16_t displacement;
	uint8_t kind;			/* enum wire_site_kind */
	uint8_t reg;			/* 0-15 */
	uint8_t value;			/* enum wire_value */
	uint8_t condition;		/* 0-15, or WIRE_CONDITION_ALWAYS */
	uint8_t length;			/* of the instruction, bytes */
	uint8_t bytes[PLAN_SITE_BYTES]; /* the instruction, to be compared before attaching */
	/* SITE_NATIVE_ALLOC, SITE_REALLOC_RETURN: 1 + words from rsp to the return address; 0: not
	 * known. */
	uint8_t return_slot;
	uint8_t size_register; /* SITE_FRESH: 1 + the register with the size class's index; 0: not
				  known */
	bool emulated;	       /* the kernel emulates it: cheap, leaves no trace */
	const char *function;  /* static name of what it is part of, for messages; may be NULL */
};

struct plan_statistics {
	uint32_t instructions; /* decoded */
	uint32_t undecodable;  /* places that did not decode */
	uint32_t unresolved;   /* matched, but the pointer could not be named */
	uint32_t not_emulated; /* sites that had to be left single-stepped (not planned unless
				  asked) */
	uint32_t dead;	       /* instructions that nothing reaches (BOLT's old text): left out */
	uint32_t pruned;       /* sites that were found in such code all the same */
	uint32_t left_out;     /* destructions that did not fit PLAN_SITES_MAX */
	uint32_t by_kind[SITE_KINDS];
};

struct plan {
	uint8_t build_id[IMAGE_BUILD_ID_MAX];
	uint32_t build_id_size;
	uint64_t file_size;
	size_t n_sites;
	struct plan_site *sites; /* ascending by vaddr */
	struct plan_statistics statistics;
};

void plan_free(struct plan *plan);

/*
 * The sites of an interpreter: pymalloc's allocate, free and fresh-pool paths,
 * creations, and (with destructions) deallocations, wherever they were inlined;
 * with callers, the checks behind calls of constructors (callers.h).
 * minor: 8 for CPython 3.8 … 15.  -ENOENT, REASON_NO_PLAN: none was found.
 */
enum plan_callers {
	PLAN_CALLERS_NONE,
	PLAN_CALLERS_CORE, /* the core, and only in a build that inlines nothing */
	PLAN_CALLERS_ALL,
};
struct plan_python_options {
	unsigned minor;
	bool destructions;
	enum plan_callers callers;
};
int plan_make_python(const struct image *image, const struct plan_python_options *options,
		     struct plan **ret, struct fault *reterr_fault);

/*
 * The sites of a C library (or an allocator preloaded in its place): free and
 * realloc at their entries, and for malloc, calloc, realloc, reallocarray,
 * memalign, aligned_alloc, posix_memalign the conditional jumps that lead to
 * their returns, with the register that holds the result.
 */
int plan_make_native(const struct image *image, struct plan **ret, struct fault *reterr_fault);

/*
 * Cache: a file per build under a directory of the caller's (created 0700).
 * Loading checks version, size, checksum and every field's bounds: a cache is
 * foreign bytes too. -ENOENT: not cached (or unusable, which is no error).
 */
int plan_load(const char *directory, const char *flavour, const struct image *image,
	      struct plan **ret);
int plan_store(const char *directory, const char *flavour, const struct plan *plan);

#endif
