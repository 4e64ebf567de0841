/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Why a read of foreign memory or of a file failed: the last argument,
 * reterr_fault, of whatever does such reads.  Filled on failure only; may be
 * NULL where the caller does not care.
 */
#ifndef PYLEAKD_BASE_FAULT_H
#define PYLEAKD_BASE_FAULT_H

#include <stdint.h>

#include "base/reasons.h"

struct fault {
	enum reason reason;
	uint64_t where; /* address in the target, or offset in the file */
	const char *field; /* static string: which field or structure, or NULL */
};

/* What a fault holds before anything failed: 0 would be a reason of its own. */
#define FAULT_NONE ((struct fault){ .reason = REASON_NONE })

/* Fills *reterr_fault (NULL: nothing to fill) and returns error, to be used in a return. */
static inline int fault_set(struct fault *reterr_fault, int error, enum reason reason,
			    uint64_t where, const char *field)
{
	if (reterr_fault)
		*reterr_fault = (struct fault){ .reason = reason, .where = where, .field = field };
	return error;
}

#endif
