/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Inside of the native plan: what its files share.
 *
 *	native.c        which functions, in which order; image -> plan
 *	native_body.c   the instructions that control can reach in one of them
 *	native_line.c   straight lines to a return, and what they return
 *	native_sites.c  which jumps of a body become sites
 *
 * All but native.c works on decoded code and entries alone, so that tests can
 * do without an ELF file.
 */
#ifndef PYLEAKD_PROBES_NATIVE_PRIVATE_H
#define PYLEAKD_PROBES_NATIVE_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "probes/decode.h"
#include "probes/plan.h"
#include "probes/symbolic.h"
#include "target/image.h"

#define NATIVE_SITES_MAX 512
#define NATIVE_BODY_MAX 8192 /* instructions of one function with what it jumps to */
#define NATIVE_COVERED_MAX 32
#define NATIVE_LATE_MAX 32
#define NATIVE_LINE_JUMPS_MAX 8
#define NATIVE_LINE_STEPS 96

/* In this order: what jumps to an earlier one, as realloc(NULL, n) to malloc, is covered by it. */
enum native_function {
	NATIVE_FREE,
	NATIVE_MALLOC,
	NATIVE_CALLOC,
	NATIVE_MEMALIGN,
	NATIVE_ALIGNED_ALLOC,
	NATIVE_VALLOC,
	NATIVE_PVALLOC,
	NATIVE_REALLOC,
	NATIVE_REALLOCARRAY,
	NATIVE_POSIX_MEMALIGN,
	NATIVE_FUNCTIONS
};

enum native_result {
	RESULT_NOTHING,
	RESULT_RETURNED, /* in rax */
	RESULT_STORED,	 /* through the first argument; rax is 0 where it was */
};

struct native_role {
	const char *name;
	uint8_t kind; /* enum wire_site_kind, of its returns */
	enum native_result result;
};

extern const struct native_role native_roles[NATIVE_FUNCTIONS];

/* Where the functions begin, as indices into the code; CODE_NONE: there is none of that name. */
struct native_entries {
	size_t at[NATIVE_FUNCTIONS];
	/* All functions of the image, ascending; what runs into one from above never returned. */
	const struct image_range *functions;
	size_t n_functions;
	/* Targets outside of the code (PLT entries) of the functions above; may be NULL. */
	size_t (*resolve)(uint64_t vaddr, void *context);
	void *context;
};

struct native_site {
	uint32_t at; /* index of the instruction */
	struct plan_site
		site; /* kind, reg, value, displacement, condition, return_slot, function */
};

struct native_sites {
	size_t n;
	uint32_t unresolved; /* returns of a block for which there is no site */
	struct native_site items[NATIVE_SITES_MAX];
};

/* The function at hand: every instruction that control can reach, without its callees. */
struct native_body {
	size_t n;
	bool cut; /* longer than NATIVE_BODY_MAX */
	bool calls_covered;
	uint32_t at[NATIVE_BODY_MAX];
};

struct native {
	struct code *code; /* not owned, like the others */
	struct symbols *symbols;
	const struct native_entries *entries;
	struct native_sites *sites;
	/* Entries whose returns have sites: what calls or jumps to them needs none of its own. */
	size_t covered[NATIVE_COVERED_MAX];
	size_t n_covered;
	uint8_t *seen; /* a bit an instruction: it is in the body */
	struct native_body body;
	/* Direct jumps that take the place of the conditional ones before them. */
	uint32_t late[NATIVE_LATE_MAX];
	size_t n_late;
};

/* Where a straight line ends, and with what. */
struct native_line {
	bool returns; /* it reached a ret, or a tail call that returns its first argument */
	bool cut;     /* longer than NATIVE_LINE_STEPS */
	bool calls;
	bool stack_escaped;		       /* a callee was given an address of the stack */
	uint32_t jumps[NATIVE_LINE_JUMPS_MAX]; /* direct jumps that it passes, the last ones */
	size_t n_jumps;
	expr given; /* what the last callee with sites returned; EXPR_NONE: there was none */
	struct state state; /* before the ret */
};

/* Finds the sites of free and realloc's entries and of all returns. -ENOENT: no malloc or no free.
 */
int native_match(struct code *code, const struct native_entries *entries, struct native_sites *ret);

bool native_is_covered(const struct native *native, size_t index);
void native_cover(struct native *native, size_t index);
bool native_is_function_start(const struct native *native, size_t index);
/* What comes behind an instruction in memory, in the same function; CODE_NONE. */
size_t native_next(const struct native *native, size_t index);
/* Direct branches: where to, through a PLT too; CODE_NONE. */
size_t native_target(const struct native *native, size_t index);

void native_body_collect(struct native *native, size_t entry);

/*
 * Executes from index to the return; a conditional jump, or control that goes
 * where it can't be followed, ends the line without one.
 */
int native_line_run(struct native *native, size_t index, struct native_line *ret);
/*
 * What is returned on the line that begins at index, by the registers there.
 * 1: it is named in ret; 0: the line returns nothing, or what has a site
 * elsewhere; -ENOENT: it can't be named.
 */
int native_line_match(struct native *native, enum native_function function, size_t index,
		      struct native_line *line, struct plan_site *ret);

/* -E2BIG: more than NATIVE_SITES_MAX. */
int native_site_add(struct native *native, size_t index, const struct plan_site *site);
int native_match_entry(struct native *native, enum native_function function, uint8_t kind);
/* The sites of the body's returns. */
int native_match_body(struct native *native, enum native_function function);

#endif
