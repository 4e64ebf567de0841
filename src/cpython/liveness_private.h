/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside liveness*.c: a round's state, and the judgement of one object by its bytes. */
#ifndef PYLEAKD_CPYTHON_LIVENESS_PRIVATE_H
#define PYLEAKD_CPYTHON_LIVENESS_PRIVATE_H

#include "base/bytes.h"
#include "cpython/census.h"
#include "cpython/glibc.h"
#include "cpython/liveness.h"
#include "cpython/types.h"

#define OBJECT_BEFORE_BYTES 48 /* read before an object: collector's head and managed words */
#define OBJECT_HEAD_BYTES 512  /* and from it on, as far as its block reaches */

struct liveness {
	const struct interpreter *interpreter; /* NULL: states are fixed */
	const struct interpreter_arenas *states;
	size_t n_states;
	struct memory *memory;
	const struct layout *layout;
	struct type_cache *types;
	struct glibc *glibc; /* NULL: another C library, or none known */

	/* Of the round. */
	struct census *census;
	uint64_t *headers, *blocks; /* pools to read, and to read whole: a bit each */
	size_t n_words;		    /* of each */
	bool glibc_ready;	    /* its arenas could be read */
};

/* Without an interpreter: of allocator states that don't move. */
int liveness_new_in(struct memory *memory, const struct layout *layout,
		    const struct interpreter_arenas *states, size_t n_states,
		    struct type_cache *types, struct liveness **ret);

/* Bytes around an object: whole starts where its block does, or at most OBJECT_BEFORE_BYTES ahead.
 */
struct object_bytes {
	struct bytes before; /* ends where the object begins */
	struct bytes object;
};

/*
 * Judges an object by its bytes; fills answer, and if it lives type, fingerprint
 * and has_fingerprint.  offset: of the object in its block, or -1: not known.
 * *ret_owns: may have raw buffers.
 */
void liveness_judge_object(struct liveness *liveness, struct liveness_look *look,
			   const struct object_bytes *bytes, int64_t offset, bool *ret_owns);
/* The same of a raw block whose first words these are. */
void liveness_judge_block(struct liveness_look *look, struct bytes block);

/* Looks at what lies in no arena; objects have been judged by their bytes before. -ENOMEM. */
int liveness_look_outside(struct liveness *liveness, struct liveness_look *looks, size_t n);
/* Sizes of the looks' buffers that lie in no arena. -ENOMEM. */
int liveness_size_outside(struct liveness *liveness, struct liveness_look *const *looks, size_t n);

#endif
