/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which of the sites that grow are lines of one leak. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "ledger/findings.h"
#include "service/sampling_estimates.h"
#include "service/sampling_private.h"

_Static_assert(SAMPLED_SLICES <= FINDING_SLICES_MAX, "slices");

/* A line among those of findings.h, and the site that it is. */
struct candidate {
	uint32_t site;
	double bytes;
};

static bool is_told(const struct judgement *judgement)
{
	return judgement->verdict == VERDICT_LEAK || judgement->verdict == VERDICT_GROWING;
}

static int by_bytes(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes > y->bytes ? -1 : 1;
	return x->site < y->site ? -1 : x->site > y->site;
}

/* Of two lines that keep about as much, the one that needed more memory for it. */
#define NEEDER_BONUS 0.1

static double bytes_of(const struct site_estimate *site)
{
	double bytes = site->bytes.value;
	double needed = (double)(site->growth.pool_bytes + site->growth.break_bytes);

	return bytes + NEEDER_BONUS * (needed < bytes ? needed : bytes);
}

/* Those that grow, the largest first; of more than findings.h takes, the smallest stand alone. */
static size_t choose(const struct site_estimate *sites, const struct judgement *judgements,
		     size_t n_sites, struct candidate *ret)
{
	size_t n = 0;

	for (size_t i = 0; i < n_sites; i++)
		if (sites[i].bytes.value >= 1 && is_told(&judgements[i]))
			ret[n++] = (struct candidate){ (uint32_t)i, bytes_of(&sites[i]) };
	qsort(ret, n, sizeof(*ret), by_bytes);
	return n < FINDING_LINES_MAX ? n : FINDING_LINES_MAX;
}

/* Where most of its survivors were seen. */
static uint32_t vantage_of(const struct site_estimate *site)
{
	uint32_t vantage = 0;

	for (uint32_t i = 1; i < SITE_VANTAGES; i++)
		if (site->seen[i] > site->seen[vantage])
			vantage = i;
	return vantage;
}

static void to_line(const struct site_estimate *site, const struct candidate *candidate,
		    struct finding_line *ret)
{
	*ret = (struct finding_line){
		.stack = candidate->site,
		.bytes = candidate->bytes,
		.vantage = vantage_of(site),
	};
	/* The few of windows, before the site was always on, would only blur the others. */
	for (unsigned i = 0; i < SAMPLED_SLICES; i++)
		ret->counts[i] = ret->vantage ? site->counts[i] : site->always_on[i];
}

/*
 * Sites come on one after the other, in the first seconds: lines are compared
 * from when all of them were, if that is in the session's first half.
 */
static void cut_beginnings(struct finding_line *lines, size_t n)
{
	unsigned common = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned first = 0;

		while (first < SAMPLED_SLICES && !lines[i].counts[first])
			first++;
		if (!lines[i].vantage && first < SAMPLED_SLICES / 2 && first + 1 > common)
			common = first + 1;
	}
	for (size_t i = 0; i < n; i++)
		for (unsigned slice = 0; slice < common && !lines[i].vantage; slice++)
			lines[i].counts[slice] = 0;
}

/* A leak must not stand beneath what only grows: the head is of the surest. */
static void settle_heads(const struct candidate *candidates, const struct judgement *judgements,
			 struct finding_place *places, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t head = places[i].head;

		if (judgements[candidates[i].site].verdict <=
		    judgements[candidates[head].site].verdict)
			continue;
		for (size_t k = 0; k < n; k++)
			if (places[k].finding == places[i].finding)
				places[k].head = (uint32_t)i;
	}
}

int sampling_findings(const struct site_estimate *sites, const struct judgement *judgements,
		      size_t n_sites, struct site_finding *ret)
{
	_cleanup_free_ struct candidate *candidates = calloc(n_sites + 1, sizeof(*candidates));
	_cleanup_free_ struct finding_line *lines = NULL;
	_cleanup_free_ struct finding_place *places = NULL;
	_cleanup_free_ uint32_t *sizes = NULL;
	size_t n;
	int r;

	if (!candidates)
		return -ENOMEM;
	n = choose(sites, judgements, n_sites, candidates);
	lines = calloc(n + 1, sizeof(*lines));
	places = calloc(n + 1, sizeof(*places));
	sizes = calloc(n + 1, sizeof(*sizes));
	if (!lines || !places || !sizes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		to_line(&sites[candidates[i].site], &candidates[i], &lines[i]);
	cut_beginnings(lines, n);
	r = findings_group(lines, n, SAMPLED_SLICES, NULL, 0, places);
	if (r < 0)
		return r;
	settle_heads(candidates, judgements, places, n);
	for (size_t i = 0; i < n; i++)
		sizes[places[i].finding]++;
	for (size_t i = 0; i < n; i++)
		if (sizes[places[i].finding] > 1)
			ret[candidates[i].site] = (struct site_finding){
				.number = places[i].finding + 1,
				.head = places[i].head == i,
			};
	return 0;
}
