/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Of what types the outstanding blocks of each site are. */
#ifndef PYLEAKD_SERVICE_TYPE_SUMS_H
#define PYLEAKD_SERVICE_TYPE_SUMS_H

#include <stddef.h>
#include <stdint.h>

#include "cpython/objects.h"
#include "ledger/ledger.h"
#include "service/stacks.h"

#define TYPE_SUMS_MAX (1u << 20) /* pairs of site and type */

struct type_sum {
	uint32_t site;
	const char *name; /* the type cache's, or static */
	uint64_t objects, bytes;
};

/* Ascending by site, then most bytes first; the caller's, to free(). */
int type_sums(const struct ledger *ledger, const struct stacks *stacks, struct type_cache *types,
	      struct type_sum **ret, size_t *ret_n);

#endif
