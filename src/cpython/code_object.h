/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* One code object of the target, read whole; the cache of them is code.h. */
#ifndef PYLEAKD_CPYTHON_CODE_OBJECT_H
#define PYLEAKD_CPYTHON_CODE_OBJECT_H

#include "base/table.h"
#include "cpython/code.h"

/* Reads code objects; what it found out about types is kept, so that it is asked once. */
struct code_reader {
	struct memory *memory;
	const struct layout *layout;
	uint64_t code_type;	 /* 0 until known */
	struct table type_flags; /* type → tp_flags, of the types of names and tables */
};
void code_reader_init(struct code_reader *reader, struct memory *memory,
		      const struct layout *layout, uint64_t code_type);
void code_reader_done(struct code_reader *reader);

/* The words that tell a code object from another one at its address. */
struct code_fingerprint {
	uint64_t name, qualname, filename, table, code; /* addresses; code: up to 3.10 */
	uint64_t code_units;				/* 3.11+: length of the code in it */
	uint32_t first_line;
	/*
	 * Addresses of strings are used again like those of code objects, often
	 * together: copies of one template differ in their name's text only.
	 */
	uint64_t shown; /* address of the name that is shown: qualname, or name */
	uint64_t shown_length, shown_hash; /* of its text */
};
bool code_fingerprint_equal(const struct code_fingerprint *a, const struct code_fingerprint *b);

/*
 * expected: the one that was there before, or NULL; with it, a code object that
 * did not change takes one system call.  -EBADMSG MALFORMED: what lies there is
 * no code object, or a dead one.
 */
int code_read_fingerprint(struct code_reader *reader, uint64_t address,
			  const struct code_fingerprint *expected, struct code_fingerprint *ret,
			  struct fault *reterr_fault);

struct code_object {
	char *function, *file;
	uint8_t *table;
	size_t table_bytes;
	uint64_t code_bytes;
};
void code_object_done(struct code_object *object);
/* All that the fingerprint's words lead to; ret is the caller's, code_object_done() it. */
int code_read(struct code_reader *reader, const struct code_fingerprint *fingerprint,
	      struct code_object *ret, struct fault *reterr_fault);

#endif
