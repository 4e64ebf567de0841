/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the samples say of each site (docs/estimator.md). */
#ifndef PYLEAKD_SERVICE_SAMPLING_ESTIMATES_H
#define PYLEAKD_SERVICE_SAMPLING_ESTIMATES_H

#include "judge/estimate.h"
#include "judge/sampled.h"
#include "ledger/samples.h"
#include "service/session_private.h"

/* What a site needed that made the heap larger (ledger/growth.h). */
struct site_growth {
	uint64_t pools, pool_bytes, breaks, break_bytes;
	unsigned counts[SAMPLED_SLICES];
	double bytes; /* of the estimate, what these tell: its share of what no sample explains */
	double high;
	double break_bytes_told; /* of that, outside of the pools */
};

#define SITE_VANTAGES (1 + SAMPLES_STREAMS)

struct site_estimate {
	struct estimate_interval bytes; /* outstanding, everything */
	double objects;
	double raw_bytes; /* of samples, before calibration */
	/* Of bytes, uncalibrated: outside of pymalloc's pools; what objects own, there or not. */
	double chunk_bytes, buffer_bytes;
	double mapped_bytes; /* of bytes; exact */
	unsigned counts[SAMPLED_SLICES]; /* samples, by when they were made */
	unsigned always_on[SAMPLED_SLICES]; /* of these, of no window */
	double made[SAMPLED_SLICES]; /* the same with their weights */
	double since, until; /* seconds: in between there could be samples of it */
	uint32_t windows; /* that have anything of it */
	uint64_t survivors; /* samples that live, as many as there are */
	uint64_t seen[SITE_VANTAGES]; /* of these, all the time; in windows of each stream */
	struct site_growth growth;
};

/* Parts of the session that have any of the counts. */
static inline unsigned site_slices(const unsigned *counts)
{
	unsigned slices = 0;

	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		slices += counts[i] > 0;
	return slices;
}

/* Of what was seen of the site, the part that the census leaves to it. */
static inline double site_calibrated_ratio(const struct site_estimate *site)
{
	double sampled = site->bytes.value - site->mapped_bytes - site->growth.bytes;

	return site->raw_bytes > 0 && sampled > 0 ? sampled / site->raw_bytes : 1;
}

/* One row a site, as session->stacks counts them; the caller's, to free(). */
int sampling_estimates(const struct session *session, double time_seconds,
		       struct site_estimate **ret, size_t *ret_n);

/*
 * The same of objects that were torn down and whose memory was never given back:
 * reference count 0, on no free list. Not among those above.
 */
int sampling_zombies(const struct session *session, double time_seconds,
		     struct site_estimate **ret, size_t *ret_n);

/* A leak is a set of lines: those of one have one number; 0: it stands alone. */
struct site_finding {
	uint32_t number;
	bool head;
};
/* ret: n_sites of them, zeroed. sampling_findings.c. */
int sampling_findings(const struct site_estimate *sites, const struct judgement *judgements,
		      size_t n_sites, struct site_finding *ret);

/* Objects and bytes of a type at a site. */
struct site_type {
	uint32_t site;
	uint64_t type; /* 0: what is no object */
	double objects, bytes;
};
/* Ascending by site; the caller's, to free(). */
int sampling_types(const struct session *session, double time_seconds, bool zombies,
		   struct site_type **ret, size_t *ret_n);

/* Sites and their types, as above. */
struct sampled_rows {
	const struct site_estimate *sites;
	const struct site_type *types;
	size_t n_sites, n_types;
	bool zombies;
	double time_seconds;
};
/* ret: one a site, zeroed. 0, or -ENOMEM. sampling_verdicts.c. */
int sampling_verdicts(const struct session *session, const struct sampled_rows *rows,
		      struct judgement *ret);
/* Of a series that was told to the judgement; warming: of none. */
struct judgement sampling_judgement(const struct session *session, uint64_t key);

#endif
