/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside this room: what an interpreter is made of, and the parts that confirm it. */
#ifndef PYLEAKD_CPYTHON_INTERPRETER_PRIVATE_H
#define PYLEAKD_CPYTHON_INTERPRETER_PRIVATE_H

#include "base/cleanup.h"
#include "cpython/debug_offsets.h"
#include "cpython/interpreter.h"

#define POOL_HEADER_BYTES 48 /* sizeof(struct pool_header), Objects/obmalloc.c, 3.8-3.15 */
#define POOL_ALIGNMENT 16
#define SMALL_REQUEST_MAX_BYTES 512 /* SMALL_REQUEST_THRESHOLD */

struct interpreter {
	struct memory *memory;
	const struct image *image; /* NULL: restored from a recording */
	uint64_t bias;
	struct interpreter_version version;
	struct layout layout; /* the row, overlaid by the target's debug offsets */
	uint64_t runtime; /* address of _PyRuntime */
	uint64_t code_type; /* of PyCode_Type, where there is no image; 0: not known */
	uint64_t arenas_variable, maxarenas_variable; /* up to 3.11; 0: not found */
	enum interpreter_allocator allocator;
	bool has_jit;
};

/* Reads through the layout: an absent field fails with -EOPNOTSUPP and its name. */
int interpreter_read_u64(const struct interpreter *interpreter, uint64_t structure,
			 uint32_t offset, const char *field, uint64_t *ret,
			 struct fault *reterr_fault);
int interpreter_read_u32(const struct interpreter *interpreter, uint64_t structure,
			 uint32_t offset, const char *field, uint32_t *ret,
			 struct fault *reterr_fault);
#define READ_FIELD(interpreter, structure, field, ret, reterr_fault)                             \
	interpreter_read_u64(interpreter, structure, (interpreter)->layout.field, #field, ret,   \
			     reterr_fault)
#define READ_FIELD_U32(interpreter, structure, field, ret, reterr_fault)                         \
	interpreter_read_u32(interpreter, structure, (interpreter)->layout.field, #field, ret,   \
			     reterr_fault)

/* -EPROTO, naming the field. */
int contradiction(uint64_t where, const char *field, struct fault *reterr_fault);

/*
 * Addresses of the interpreters, main one last as CPython lists them.
 * The array is the caller's. -EAGAIN: none yet.
 */
int interpreters_read(const struct interpreter *interpreter, uint64_t **ret, size_t *ret_n,
		      struct fault *reterr_fault);

/*
 * Holds the interpreter's layout against the target, by all of the following.
 * Fills in what is found on the way: allocator, arenas.
 */
int interpreter_confirm(struct interpreter *interpreter, const pid_t *native_ids,
			size_t n_native_ids, struct fault *reterr_fault);

/* Each compares what the target says with the layout. */
int confirm_types(const struct interpreter *interpreter, struct fault *reterr_fault);
int confirm_code(const struct interpreter *interpreter, struct fault *reterr_fault);
int confirm_threads(const struct interpreter *interpreter, const pid_t *native_ids,
		    size_t n_native_ids, struct fault *reterr_fault);
int confirm_frames(const struct interpreter *interpreter, struct fault *reterr_fault);
/*
 * Is there no thread yet, or has the only one run nothing so far?  Then the
 * loader may still be at work, and pymalloc may not have made an arena.
 */
bool interpreter_is_starting(const struct interpreter *interpreter);

/*
 * Finds pymalloc's arenas and confirms them. After allocator_detect(): where
 * pymalloc is not in use, there may be none.
 */
int arenas_locate(struct interpreter *interpreter, struct fault *reterr_fault);

/* Which allocator the object domain's table leads to. */
int allocator_detect(const struct interpreter *interpreter, enum interpreter_allocator *ret,
		     struct fault *reterr_fault);

/* Whether the image has the JIT compiler in it. */
bool jit_built(const struct image *image);

DEFINE_CLEANUP(struct interpreter *, interpreter_free)

#endif
