/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * str objects of the target: where their code points lie, and their text as
 * UTF-8.  All representations since PEP 393: compact ASCII, compact, and
 * instances of subclasses, whose data is a buffer of its own (up to 3.11 some
 * plain strings too).
 */
#ifndef PYLEAKD_CPYTHON_UNICODE_H
#define PYLEAKD_CPYTHON_UNICODE_H

#include <stdbool.h>

#include "cpython/layout.h"
#include "cpython/memory.h"

struct unicode {
	uint64_t address;
	uint64_t type;	 /* ob_type, for the caller to judge */
	uint64_t length; /* code points */
	uint64_t data;	 /* address of the first one */
	unsigned kind;	 /* bytes of each: 1, 2, 4 */
	bool compact, ascii;
};

/*
 * -EBADMSG MALFORMED: not a string, a dead one, or one that never became "ready"
 * (up to 3.11; names always are).
 */
int unicode_look(struct memory *memory, const struct layout *layout, uint64_t address,
		 struct unicode *ret, struct fault *reterr_fault);

/*
 * The text, the caller's to free(); cut after the last whole character that
 * fits max_bytes with its NUL.  What UTF-8 or C strings cannot hold (lone
 * surrogates, NUL) becomes U+FFFD.
 */
int unicode_text(struct memory *memory, const struct unicode *unicode, size_t max_bytes, char **ret,
		 struct fault *reterr_fault);

#endif
