/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The ledger's stacks added up by site. */
#ifndef PYLEAKD_SERVICE_SITE_SUMS_H
#define PYLEAKD_SERVICE_SITE_SUMS_H

#include <stdint.h>

#include "ledger/ledger.h"
#include "service/stacks.h"

struct site_sum {
	uint32_t site; /* index in stacks */
	uint64_t outstanding_bytes, outstanding_blocks;
	uint64_t domain_bytes[LEDGER_DOMAINS];
};

/* One for each site that ever held something; the caller's, to free(). */
int site_sums(const struct ledger *ledger, const struct stacks *stacks, struct site_sum **ret,
	      size_t *ret_n);

#endif
