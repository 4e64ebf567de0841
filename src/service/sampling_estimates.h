/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the samples say of each site (docs/estimator.md). */
#ifndef PYLEAKD_SERVICE_SAMPLING_ESTIMATES_H
#define PYLEAKD_SERVICE_SAMPLING_ESTIMATES_H

#include "judge/estimate.h"
#include "judge/sampled.h"
#include "service/session_private.h"

/* What a site needed that made the heap larger (ledger/growth.h). */
struct site_growth {
	uint64_t pools, pool_bytes, breaks, break_bytes;
	unsigned counts[SAMPLED_SLICES];
	double bytes; /* of the estimate, what these tell: its share of what no sample explains */
	double break_bytes_told; /* of that, outside of the pools */
};

struct site_estimate {
	struct estimate_interval bytes; /* outstanding, everything */
	double objects;
	double raw_bytes; /* of samples, before calibration */
	/* Of bytes, before calibration: outside of pymalloc's pools; what objects own, there or not. */
	double chunk_bytes, buffer_bytes;
	double mapped_bytes; /* of bytes; exact */
	unsigned counts[SAMPLED_SLICES];
	uint32_t windows; /* that have anything of it */
	uint64_t survivors; /* samples that live, as many as there are */
	/* Of the survivors, most are seen: 0 all the time, else 1 + the stream of the windows. */
	uint32_t vantage;
	struct site_growth growth;
};

/* One row a site, as session->stacks counts them; the caller's, to free(). */
int sampling_estimates(const struct session *session, double time_seconds,
		       struct site_estimate **ret, size_t *ret_n);

/* Objects and bytes of a type at a site. */
struct site_type {
	uint32_t site;
	uint64_t type; /* 0: what is no object */
	double objects, bytes;
};
/* Ascending by site; the caller's, to free(). */
int sampling_types(const struct session *session, double time_seconds, struct site_type **ret,
		   size_t *ret_n);

#endif
