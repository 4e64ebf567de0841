/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/sampled.h"

#include <math.h>

#include "judge/growth.h"

/*
 * Of the living, the share that was made in the older half; NAN: there are none.  draws: each slice
 * that has any counts as much.
 */
static double older_ratio(const struct sampled_evidence *evidence, bool draws)
{
	double until = evidence->until > 0 ? evidence->until : SAMPLED_SLICES;
	double middle = (evidence->since + until) / 2, older = 0, all = 0;

	for (unsigned i = 0; i < SAMPLED_SLICES; i++) {
		double count = draws ? evidence->counts[i] > 0 : evidence->counts[i];

		all += count;
		older += fmin(fmax(middle - i, 0), 1) * count;
	}
	return all > 0 ? older / all : NAN;
}

static bool survivors_last(const struct sampled_evidence *evidence)
{
	double of_all = older_ratio(evidence, false), of_draws = older_ratio(evidence, true);

	if (evidence->draws < SAMPLED_DRAWS_LEAK)
		return of_draws > 0 && of_draws < 1;
	/* One that weighs much may outweigh all others. */
	return (of_all >= SAMPLED_OLDER_MIN && of_all <= SAMPLED_OLDER_MAX) ||
	       (of_draws >= SAMPLED_OLDER_MIN && of_draws <= SAMPLED_OLDER_MAX);
}

/* A part of the growth that one would look for. */
static bool has_a_share(const struct sampled_evidence *evidence)
{
	double whole = evidence->whole.growth_bytes_per_second;

	return !(evidence->growth_bytes_per_second < SAMPLED_SHARE_MIN * whole);
}

/* Objects of its type are elsewhere, or nowhere. */
static bool is_of_others(const struct sampled_evidence *evidence)
{
	return evidence->objects < SAMPLED_OF_FIRST_MIN * evidence->objects_of_first ||
	       evidence->objects > SAMPLED_OVER_GAINED * evidence->objects_gained;
}

/* Each draw would have been empty as likely as not. */
static double draws_confidence(unsigned draws)
{
	return 1 - exp2(-(double)draws);
}

static enum verdict verdict_of(const struct sampled_evidence *evidence)
{
	enum verdict whole = evidence->whole.verdict, own = evidence->own.verdict;

	if (whole == VERDICT_WARMING || whole == VERDICT_STABLE)
		return whole;
	/* Its series tells, where it is exact; one object that grows is met once. */
	if (evidence->exact)
		return own < whole ? own : whole;
	if (!survivors_last(evidence) || !has_a_share(evidence) || evidence->growth_high <= 0 ||
	    evidence->draws < SAMPLED_DRAWS_GROWING || is_of_others(evidence))
		return VERDICT_STABLE;
	if (evidence->outstanding_bytes < GROWING_BYTES_MIN)
		return VERDICT_STABLE;
	if (whole == VERDICT_GROWING || evidence->draws < SAMPLED_DRAWS_LEAK ||
	    evidence->outstanding_bytes < LEAK_BYTES_MIN)
		return VERDICT_GROWING;
	return VERDICT_LEAK;
}

static enum verdict verdict_in_time(const struct sampled_evidence *evidence)
{
	enum verdict verdict = verdict_of(evidence);

	return verdict == VERDICT_LEAK && evidence->seconds < SAMPLED_LEAK_SECONDS ?
		       VERDICT_GROWING :
		       verdict;
}

void sampled_judge(const struct sampled_evidence *evidence, struct judgement *ret)
{
	*ret = (struct judgement){
		.verdict = verdict_in_time(evidence),
		.growth_bytes_per_second = evidence->growth_bytes_per_second,
		.growth_low = evidence->growth_low,
		.growth_high = evidence->growth_high,
		.points = evidence->own.points,
		.confidence_ratio = evidence->own.confidence_ratio,
	};
	if (ret->verdict == VERDICT_GROWING || ret->verdict == VERDICT_LEAK)
		ret->confidence_ratio = fmin(evidence->whole.confidence_ratio,
					     draws_confidence(evidence->draws));
}
