/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the matchers find: instructions, and how the pointer is named there.
 *
 * One instruction is usually found on several paths.  A name is good only if
 * it is the pointer's on all of them, so the registers are intersected.
 */
#ifndef PYLEAKD_PROBES_MATCH_H
#define PYLEAKD_PROBES_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyleakd/wire.h"

#include "probes/decode.h"
#include "probes/symbolic.h"
#include "target/image.h"

#define MATCHES_MAX 65536 /* of one image, sites that are not planned in the end included */

struct match {
	uint32_t at;	    /* index of the instruction */
	uint8_t kind;	    /* enum wire_site_kind */
	uint8_t value;	    /* enum wire_value */
	uint8_t condition;  /* or WIRE_CONDITION_ALWAYS */
	uint16_t registers; /* each of these holds the pointer, on all paths seen */
	bool named;	    /* without a register: name is right on all paths seen */
	struct state_name name;
	uint8_t size_register;	/* fresh pools: as in struct plan_site */
	const char *function;	/* callers: what is called, static; others: NULL */
	bool pool_named;	/* frees, last resort: pool is right on all paths seen */
	struct state_name pool; /* where the pool's freeblock, just set to the block, is read */
};

struct matches {
	struct match *items;
	size_t n, capacity;
	uint32_t *slots; /* a hash table: 1 + index into items, 0 empty */
	size_t n_slots;
	int error; /* the first one, so that visitors needn't carry it */
};

void matches_done(struct matches *matches);
/* The match of this kind at this instruction; NULL. */
struct match *matches_find(const struct matches *matches, size_t at, unsigned kind);
/* Adds what was seen on one path: meets an earlier one of the same kind and place, or is new. */
void matches_add(struct matches *matches, const struct match *match);

/* pymalloc_alloc and pymalloc_free, wherever they were inlined. */
int match_pymalloc(struct code *code, struct matches *matches);

/* allocate_from_new_pool, by emulated jumps alone; *ret_unresolved: ways in that could not be
 * named. */
int match_fresh_pools(struct code *code, struct matches *matches, uint32_t *ret_unresolved);

struct tracing_flag;

/*
 * The tracing check of _Py_NewReference, and with destructions _Py_Dealloc's
 * (3.13 and later).  -ENOENT: the flag was not found.
 */
int match_creations(struct code *code, const struct image *image, bool destructions,
		    struct matches *matches);

/* The same of a flag that is known. */
int match_creations_of(struct code *code, const struct tracing_flag *flag, bool destructions,
		       struct matches *matches);

#endif
